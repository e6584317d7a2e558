/* SPDX-License-Identifier: MIT
 *
 * Guests run, exit for what they should, and share their CPU. */
#include "monitor.h"

GUEST(halt);
GUEST(triple);
GUEST(spin);
GUEST(exits);
GUEST(count);
GUEST(hyper);

static struct guest g;

static void test_reset(void)
{
    EXPECT(guest_make_on(&g, 0, &halt, exo.start.cpu, exo.start.sel_thread), 0);
    EXPECT(exo_vcpu_mask(&g.cpu, EXO_VX_NESTED, EXO_VG_RIP | EXO_VG_CR | EXO_VG_SEG), 0);
    EXPECT(exo_thread_start(g.cpu.thread, 0, 0, 0), 0);
    EXPECT(guest_run(&g, 0, 0), EXO_VX_NESTED);
    EXPECT(g.w.detail[0], 0xfffffff0);
    CHECK((g.w.detail[1] & EXO_NX_FETCH) != 0 && (g.w.detail[1] & EXO_NX_BOUND) == 0);
    CHECK(g.w.filled == (EXO_VG_RIP | EXO_VG_CR | EXO_VG_SEG));
    CHECK(g.page->rip.rip == 0xfff0 && g.page->rip.rflags == 2);
    CHECK(g.page->segs.seg[EXO_CS].base == 0xffff0000 && (g.page->cr.cr0 & 0x80000001) == 0);
    EXPECT(guest_end(&g), 0);
}

static void test_halt(void)
{
    EXPECT(guest_make(&g, 0, &halt, false), 0);
    EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_HLT);
    EXPECT(g.page->rip.rip, GUEST_CODE);
    guest_skip(&g, 1);
    EXPECT(guest_run(&g, EXO_VG_RIP, 0), EXO_VX_HLT);
    EXPECT(g.page->a.rax & 0xffff, 0x1234);
    EXPECT(guest_end(&g), 0);
}

static void test_triple(void)
{
    EXPECT(guest_make(&g, 0, &triple, false), 0);
    EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_SHUTDOWN);
    EXPECT(guest_end(&g), 0);
}

static volatile uint64_t native_count;
static volatile uint32_t native_stop;

static void native_loop(void *argument)
{
    (void)argument;
    while (!native_stop)
        native_count++;
}

/* A guest that never lets go, interrupts off, beside a native thread: both advance, and the
 * monitor is woken in time. */
static void test_spin(void)
{
    static struct exo_task task;
    NEED_INTERRUPTS();
    native_stop = 0;
    native_count = 0;
    EXPECT(exo_task_make(&task, exo.start.cpu), 0);
    EXPECT(exo_task_start(&task, native_loop, NULL), 0);
    EXPECT(guest_make(&g, 0, &spin, false), 0);
    uint64_t begin = exo_tsc();
    EXPECT(guest_run_for(&g, GROUPS_START, 0, 30000), TIMED_OUT);
    CHECK(exo_tsc() - begin < exo_us(500000));
    CHECK(*guest_word(&g, GUEST_DATA) > 1000);
    CHECK(native_count > 1000);
    EXPECT(guest_end(&g), 0);
    native_stop = 1;
    exo_task_join(&task);
    EXPECT(exo_task_destroy(&task), 0);
}

/* What each instruction of the guest `exits` exits for; the length where the CPU does not
 * tell it. */
static const struct {
    uint32_t reason, length;
    uint64_t detail, mask; /* of detail 0 */
} expected[] = {
    {EXO_VX_CPUID, 2, 0, 0},
    {EXO_VX_HLT, 1, 0, 0},
    {EXO_VX_PIO, 2, 0x20, ~0ul},
    {EXO_VX_PIO, 1, 0x55, ~0ul},
    {EXO_VX_PIO, 2, 0x55, ~0ul},
    {EXO_VX_MSR_READ, 2, 0xc0000103, ~0ul},
    {EXO_VX_MSR_WRITE, 2, 0xc0000103, ~0ul},
    {EXO_VX_CR, 3, 4 | EXO_CRX_WRITE, 0x1f},
    {EXO_VX_CR, 4, 8, 0x1f},
    {EXO_VX_CR, 4, 8 | EXO_CRX_WRITE, 0x1f},
    {EXO_VX_CR, 3, 0 | EXO_CRX_WRITE, 0x1f},
    {EXO_VX_DR, 3, 0, 0x1f},
    {EXO_VX_DR, 3, 7 | EXO_CRX_WRITE, 0x1f},
    {EXO_VX_INSTR, 2, EXO_IX_INVD, 0}, /* QEMU 7.2 takes it for WBINVD */
    {EXO_VX_INSTR, 2, EXO_IX_WBINVD, ~0ul},
    {EXO_VX_INSTR, 2, EXO_IX_RDPMC, ~0ul},
    {EXO_VX_INSTR, 3, EXO_IX_MONITOR, ~0ul},
    {EXO_VX_INSTR, 3, EXO_IX_MWAIT, ~0ul},
    {EXO_VX_NESTED, 8, GUEST_FAR, ~0ul},
    {EXO_VX_NESTED, 8, GUEST_FAR, ~0ul},
};
static const uint32_t pio[] = {4 | EXO_PIO_IN, 1, 1 | EXO_PIO_STRING | EXO_PIO_REP};

static void test_exits(void)
{
    unsigned ios = 0;
    EXPECT(guest_make(&g, 0, &exits, true), 0);
    g.page->a.rcx = 0xc0000103; /* TSC_AUX */
    g.page->a.rdx = 0x55;
    g.page->a.rax = 0x200620; /* SMAP is no guest's: VT-x lets other bits be changed */
    g.page->b.rsi = GUEST_DATA;
    g.page->a.rbx = 0xe0000031; /* CD, NW */
    uint64_t set = GROUPS_START;
    for (unsigned i = 0; i < EXO_COUNT(expected); i++) {
        long reason = guest_run(&g, set, 0);
        if (reason != expected[i].reason ||
            (g.w.detail[0] & expected[i].mask) != (expected[i].detail & expected[i].mask)) {
            exo_printf("exit %u: reason %ld, details %lx %lx, rip %lx\n", i, reason, g.w.detail[0],
                       g.w.detail[1], g.page->rip.rip);
            EXPECT(reason, expected[i].reason);
            EXPECT(g.w.detail[0], expected[i].detail);
        }
        if (reason == EXO_VX_PIO) EXPECT(g.w.detail[1], pio[ios++]);
        CHECK(g.page->exit.length == 0 || reason == EXO_VX_NESTED ||
              g.page->exit.length == expected[i].length);
        if (reason == EXO_VX_NESTED) g.page->exit.length = 0;
        guest_skip(&g, expected[i].length);
        g.page->a.rcx = 0; /* for MONITOR: no hints, an address */
        g.page->a.rax = GUEST_DATA;
        set = reason == EXO_VX_INSTR ? EXO_VG_RIP | EXO_VG_A : EXO_VG_RIP;
    }
    EXPECT(g.w.detail[1] & (EXO_NX_READ | EXO_NX_WRITE), EXO_NX_WRITE);
    EXPECT(guest_end(&g), 0);
}

/* An exit that nobody is told of stops it, as any thread. */
static void test_no_gate(void)
{
    EXPECT(guest_make(&g, 0, &halt, false), 0);
    EXPECT(exo_thread_set(g.cpu.thread, EXO_SET_FAULT, 0, 0), 0);
    EXPECT(guest_run_for(&g, GROUPS_START, 0, 10000), TIMED_OUT);
    EXPECT(exo_thread_info(g.cpu.thread), EXO_T_FAULTED);
    uint32_t mute = g.vm.sel_free; /* the gate without the right to call it */
    EXPECT(exo_cap_derive(EXO_REF(g.vm.env, g.cpu.gate), EXO_REF(g.vm.env, mute), 0, 0, 1), 0);
    EXPECT(exo_thread_set(g.cpu.thread, EXO_SET_FAULT, mute, 0), 0);
    EXPECT(exo_thread_start(g.cpu.thread, 0, 0, 0), 0);
    EXPECT(guest_run_for(&g, 0, 0, 10000), TIMED_OUT);
    EXPECT(exo_thread_info(g.cpu.thread), EXO_T_FAULTED);
    EXPECT(exo_thread_set(g.cpu.thread, EXO_SET_FAULT, g.cpu.gate, 0), 0);
    EXPECT(exo_thread_start(g.cpu.thread, 0, 0, 0), 0);
    EXPECT(guest_run(&g, 0, 0), EXO_VX_HLT);
    EXPECT(guest_end(&g), 0);
}

/* Stopped in the middle, it goes on where it was. */
static void test_stop(void)
{
    EXPECT(guest_make(&g, 0, &count, true), 0);
    EXPECT(guest_run_for(&g, GROUPS_START, 0, 5000), TIMED_OUT);
    EXPECT(exo_thread_stop(g.cpu.thread), 0);
    uint64_t before = *guest_word(&g, GUEST_DATA);
    CHECK(before > 0);
    exo_event_wait(EV_TIME, exo_in_us(5000));
    EXPECT(*guest_word(&g, GUEST_DATA), before);
    EXPECT(exo_thread_start(g.cpu.thread, 0, 0, 0), 0);
    exo_event_wait(EV_TIME, exo_in_us(5000));
    CHECK(*guest_word(&g, GUEST_DATA) > before);
    EXPECT(guest_end(&g), 0);
}

/* Its memory, its env, everything goes while it runs. */
static void test_destroy(void)
{
    for (unsigned i = 0; i < 4; i++) {
        EXPECT(guest_make(&g, 0, &count, true), 0);
        EXPECT(guest_run_for(&g, GROUPS_START, 0, 3000), TIMED_OUT);
        EXPECT(i % 2 == 0 ? guest_raze(&g) : guest_end(&g), 0);
    }
}

/* An event that the guest may signal without its monitor. */
static void test_hypercall(void)
{
    long event = exo_event_new(exo.start.sel_thread, 1);
    CHECK(event > 0);
    EXPECT(guest_make(&g, 0, &hyper, true), 0);
    if (exo.info->vm == EXO_VM_VMX) g.memory[GUEST_CODE + 2] = 0xc1;
    EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_HYPERCALL);
    long sel = exo_vm_give(&g.vm, (uint32_t)event, EXO_EVENT_SIGNAL, UINT64_MAX, 1);
    CHECK(sel > 0);
    EXPECT(exo_thread_set(g.cpu.thread, EXO_SET_VHYPER, (uint64_t)sel, 1), 0);
    g.page->a.rax = EXO_CALL_event_signal;
    g.page->b.rdi = (uint64_t)sel;
    EXPECT(guest_run(&g, GROUPS_GENERAL, 0), EXO_VX_HLT);
    EXPECT(g.page->a.rax, 0);
    EXPECT(exo_page()->events & 1, 1);
    g.page->rip.rip = GUEST_CODE;
    g.page->a.rax = EXO_CALL_event_signal;
    g.page->b.rdi = EXO_VM_MEMORY; /* not in the range */
    EXPECT(guest_run(&g, GROUPS_GENERAL, 0), EXO_VX_HYPERCALL);
    EXPECT(guest_end(&g), 0);
    EXPECT(exo_drop((uint32_t)event), 0);
}

const struct test run_tests_list[] = {
    {"a virtual CPU starts as after reset", test_reset},
    {"a guest in real mode halts", test_halt},
    {"a triple fault is a shutdown", test_triple},
    {"a spinning guest beside a native thread", test_spin},
    {"what exits, and with what", test_exits},
    {"no gate: a virtual CPU stops", test_no_gate},
    {"stopped, a guest goes on later", test_stop},
    {"destroyed while it runs", test_destroy},
    {"a hypercall signals an event", test_hypercall},
    {NULL, NULL},
};
