/* SPDX-License-Identifier: MIT
 *
 * Virtual machines on the host: core's own functions, with the test in the place of guest,
 * monitor and machine layer. A line a test: PASS or FAIL.
 */
#include "../../kernel/core/thread.h"
#include "../../kernel/core/vm.h"
#include "exo_calls.h"

long sys_env_make(uint64_t dst, uint64_t sel, uint64_t frame, uint64_t tables, uint64_t flags);
long sys_thread_make(uint64_t dst, uint64_t env, uint64_t sel, uint64_t frame, uint64_t cpu);
long sys_gate_make(uint64_t dst, uint64_t thread, uint64_t entry, uint64_t badge);
long sys_event_make(uint64_t dst, uint64_t thread, uint64_t bits);
long sys_cap_derive(uint64_t src, uint64_t dst, uint64_t rights, uint64_t base, uint64_t count);
long sys_cap_delete(uint64_t ref);
long sys_cap_revoke(uint64_t ref, uint64_t keep, uint64_t deadline);
long sys_thread_set(uint64_t sel, uint64_t what, uint64_t a, uint64_t b);
long sys_thread_read(uint64_t sel);
long sys_thread_write(uint64_t sel);
long sys_pt_make(uint64_t env, uint64_t va, uint64_t level, uint64_t sel, uint64_t frame);
long sys_page_bind(uint64_t env, uint64_t va, uint64_t n, uint64_t sel, uint64_t frame,
                   uint64_t rights);
long sys_page_unbind(uint64_t env, uint64_t va, uint64_t n);
long sys_page_protect(uint64_t env, uint64_t va, uint64_t n, uint64_t rights);
long sys_port_pass(uint64_t env, uint64_t sel);
long sys_port_unpass(uint64_t env, uint64_t sel);
void sys_reply_wait(struct thread *t);
void sys_thread_start(struct thread *t);
void sys_thread_stop(struct thread *t);

enum { VM = 20, VCPU, EVENT, SPARE }; /* selectors of the monitor's */
enum { RAM = 3, GATE, PORTS, PART }; /* of the machine's env */
#define ENV_FRAME HOST_FREE
#define VCPU_FRAME 64
#define GUEST_FRAME 80
#define ENTRY 0x1000
#define BADGE 7

static unsigned failures;
static bool good;

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            printf("  %s:%d: %s\n", __FILE__, __LINE__, #cond);                                    \
            good = false;                                                                          \
        }                                                                                          \
    } while (0)

static struct thread *monitor(void) { return &threads[host_thread]; }
static struct thread *guest(void) { return &threads[VCPU_FRAME]; }
static struct exo_vcpu_page *page(void) { return vcpu_page(guest()); }
static bool in_guest(void) { return this_cpu()->cur == VCPU_FRAME; }

/* What exit_prepare does. */
static void go(void)
{
    for (unsigned i = 0; i < 8; i++) {
        sched_settle();
        if (!in_guest() || vm_enter_check(guest())) break;
    }
    CHECK(core_invariants() == 0);
}

static void leaf_done(void)
{
    if (this_cpu()->pend_count != 0) core_commit();
    CHECK(core_invariants() == 0);
}

static void reply(uint64_t set, uint64_t get)
{
    monitor()->regs.rdi = 0;
    monitor()->regs.rsi = set;
    monitor()->regs.rdx = get;
    sys_reply_wait(monitor());
    go();
}

static void leave(uint32_t reason, uint64_t a, uint64_t b)
{
    CHECK(in_guest());
    host_exit = (struct exo_vm_exit){.reason = reason, .detail = {a, b, 3}};
    vm_exit(guest());
    go();
}

/* The monitor was called for this. */
static bool told(uint32_t reason, uint64_t a)
{
    const struct kregs *r = &monitor()->regs;
    return this_cpu()->cur == host_thread && guest()->state == EXO_T_CALLING && r->rip == ENTRY &&
           r->rdi == BADGE && r->rsi == reason && r->r8 == a && r->rax == 0;
}

static bool refused(unsigned group, uint64_t field)
{
    return told(EXO_VX_REFUSED, group) && monitor()->regs.r9 == field;
}

static void start(void)
{
    monitor()->regs.rdi = VCPU;
    monitor()->regs.rsi = 0;
    sys_thread_start(monitor());
    CHECK(monitor()->regs.rax == 0);
    sched_settle();
}

static void begin(bool vmx)
{
    host_boot(512, 2, true);
    vm_caps.kind = vmx ? EXO_VM_VMX : EXO_VM_SVM;
    vm_caps.ept = vmx;
    this_cpu()->cur = host_thread;
    monitor()->state = EXO_T_READY;
    sched_wake(monitor());
    this_cpu()->slot_end = host_now + 1000000;
    CHECK(sys_env_make(VM, HOST_RAM, ENV_FRAME, 1, EXO_ENV_VM) == 0);
    CHECK(sys_cap_derive(HOST_RAM, EXO_REF(VM, RAM), 15, VCPU_FRAME, 64) == 0);
    CHECK(sys_thread_make(VCPU, VM, RAM, VCPU_FRAME, 0) == 0);
    CHECK(sys_gate_make(EXO_REF(VM, GATE), 0, ENTRY, BADGE) == 0);
    CHECK(sys_event_make(EVENT, VCPU, ~EXO_EVENT_KERNEL) == 0);
    CHECK(sys_thread_set(VCPU, EXO_SET_FAULT, GATE, 0) == 0);
    leaf_done();
}

/* The monitor has been told before the guest's first instruction. */
static void begin_forced(bool vmx)
{
    begin(vmx);
    page()->events = page()->event_mask = 1;
    start();
    reply(0, 0);
    CHECK(told(EXO_VX_FORCED, 1));
    CHECK(page()->events == 0);
}

/* ---- objects ------------------------------------------------------------------------------ */

static void test_objects(void)
{
    for (int vmx = 0; vmx < 2; vmx++) {
        begin(vmx);
        CHECK(EXO_FW_TYPE(words[VCPU_FRAME + 2]) == EXO_FT_VCPU);
        CHECK(EXO_FW_TYPE(words[VCPU_FRAME + 3]) == EXO_FT_VM);
        CHECK(EXO_FW_TYPE(words[ENV_FRAME + 8]) == EXO_FT_VM && words[ENV_FRAME + 9] == 0);
        CHECK(((envs[ENV_FRAME].flags & ENV_EPT) != 0) == vmx);
        CHECK(sys_thread_make(SPARE, VM, RAM, 64 + 64 - 3, 0) == -EXO_E_RANGE);
        CHECK(sys_thread_make(SPARE, VM, RAM, VCPU_FRAME + 1, 0) == -EXO_E_BUSY);
        CHECK(sys_env_make(SPARE, HOST_RAM, 512 - 8, 1, EXO_ENV_VM) == -EXO_E_RANGE);
        CHECK(sys_env_make(SPARE, HOST_RAM, ENV_FRAME - 8 + 20, 1, EXO_ENV_VM) == 0);
        CHECK(sys_env_make(SPARE + 1, HOST_RAM, ENV_FRAME, 1, 2) == -EXO_E_ARG);
        leaf_done();
        CHECK(sys_cap_delete(SPARE) == -EXO_E_AGAIN);
        for (int i = 0; i < 8; i++) {
            leaf_done();
            sys_cap_delete(SPARE);
        }
        leaf_done();
        CHECK(words[ENV_FRAME + 12 + 8] == 0);
    }
    vm_caps.kind = EXO_VM_NONE;
    CHECK(sys_env_make(SPARE, HOST_RAM, ENV_FRAME + 12, 1, EXO_ENV_VM) == -EXO_E_NOVM);
}

static void test_not_a_thread(void)
{
    begin(false);
    CHECK(sys_thread_set(VCPU, EXO_SET_UPCALL, 0x1000, 0x2000) == -EXO_E_TYPE);
    CHECK(sys_thread_set(0, EXO_SET_VMASK, 1, 1) == -EXO_E_TYPE);
    CHECK(sys_thread_set(0, EXO_SET_VHYPER, 1, 1) == -EXO_E_TYPE);
    CHECK(sys_thread_set(VCPU, EXO_SET_VMASK, EXO_VX_COUNT, 1) == -EXO_E_ARG);
    CHECK(sys_thread_set(VCPU, EXO_SET_VMASK, 1, EXO_VG_ALL + 1) == -EXO_E_ARG);
    CHECK(sys_thread_set(VCPU, EXO_SET_VPASS, EXO_VP_ALL + 1, 0) == -EXO_E_ARG);
    CHECK(sys_thread_set(VCPU, EXO_SET_VHYPER, 60, 5) == -EXO_E_ARG);
    CHECK(sys_thread_set(VCPU, EXO_SET_VPASS, EXO_VP_PAT, 0) == 0 && host_passed == EXO_VP_PAT);
    CHECK(sys_thread_set(VCPU, EXO_SET_VHYPER + 1, 0, 0) == -EXO_E_ARG);
    CHECK(sys_thread_read(VCPU) == -EXO_E_TYPE);
    CHECK(sys_thread_write(VCPU) == -EXO_E_TYPE);
    CHECK(sys_gate_make(SPARE, VCPU, 0x1000, 0) == -EXO_E_TYPE);
    monitor()->regs.rdi = VCPU;
    monitor()->regs.rsi = 0x1000;
    monitor()->regs.rdx = 0x2000;
    sys_thread_start(monitor());
    CHECK((long)monitor()->regs.rax == -EXO_E_TYPE && guest()->state == EXO_T_STOPPED);
}

/* ---- the protocol ----------------------------------------------------------------------------- */

static void test_exit_reply(void)
{
    begin_forced(false);
    CHECK(sys_thread_set(VCPU, EXO_SET_VMASK, EXO_VX_CPUID, EXO_VG_A | EXO_VG_RIP) == 0);
    CHECK(guest()->regs.rip == 0xfff0 && guest()->regs.rflags == 2);
    reply(0, 0);
    CHECK(in_guest() && monitor()->state == EXO_T_WAIT);
    guest()->regs.rax = 1;
    guest()->regs.r12 = 12;
    leave(EXO_VX_CPUID, 5, 6);
    CHECK(told(EXO_VX_CPUID, 5) && monitor()->regs.r9 == 6 && monitor()->regs.r10 == 3);
    CHECK(monitor()->regs.rdx == (EXO_VG_A | EXO_VG_RIP) && monitor()->regs.r12 == 12);
    CHECK(page()->a.rax == 1 && page()->rip.rip == 0xfff0);
    page()->a.rbx = 0x756e6547;
    page()->rip.rip += 2;
    page()->rip.rflags = ~0ull;
    reply(EXO_VG_A | EXO_VG_RIP, 0);
    CHECK(in_guest() && guest()->regs.rbx == 0x756e6547 && guest()->regs.rip == 0xfff2);
    CHECK(guest()->regs.rflags == 0x3f7fd7);
}

static void test_more(void)
{
    begin_forced(true);
    guest()->regs.r15 = 15;
    reply(0, EXO_VG_ALL);
    CHECK(told(EXO_VX_MORE, 1) && monitor()->regs.rdx == EXO_VG_ALL);
    CHECK(page()->b.r15 == 15 && page()->cr.cr0 == 0x60000010 && page()->cr.xcr0 == 1);
    CHECK(page()->segs.seg[EXO_CS].attributes == 0x9b && page()->dr.dr7 == 0x400);
    page()->b.r15 = 16;
    page()->tsc_offset = 99;
    page()->msr.lstar = 0xffffffff81000000;
    page()->fpu[100] = 5;
    reply(EXO_VG_ALL, EXO_VG_B | EXO_VG_MSR | EXO_VG_FPU | EXO_VG_TIME);
    CHECK(told(EXO_VX_MORE, 1) && page()->b.r15 == 16 && page()->fpu[100] == 5);
    CHECK(guest()->fpu[100] == 5 && guest()->regs.r15 == 16);
    CHECK(page()->msr.lstar == 0xffffffff81000000 && page()->tsc_offset == 99);
    reply(1ull << 40, 0);
    CHECK(refused(40, 0));
    reply(0, 1ull << 11);
    CHECK(refused(11, 0));
    reply(0, 0);
    CHECK(in_guest());
}

/* Sets one 64-bit or smaller value in the page, tries to set the group, puts it back. */
static void try(uint32_t group, void *at, size_t size, uint64_t value, int field)
{
    uint64_t old = 0;
    memcpy(&old, at, size);
    memcpy(at, &value, size);
    reply(1u << group, EXO_VG_A);
    if (field == VM_FINE)
        CHECK(told(EXO_VX_MORE, monitor()->regs.r8));
    else
        CHECK(refused(group, (uint64_t)field));
    if (!good) printf("  group %u, value %lx, field %d\n", group, value, field);
    memcpy(at, &old, size);
}
#define TRY(group, member, value, field)                                                           \
    try(group, &page()->member, sizeof page()->member, value, field)

static void test_refused_cr(void)
{
    begin_forced(false);
    reply(0, EXO_VG_ALL);
    TRY(4, cr.cr0, 0x80000010, 0); /* PG without PE */
    TRY(4, cr.cr0, 0x20000010, 0); /* NW without CD */
    TRY(4, cr.cr0, 0x100000010, 0);
    TRY(4, cr.cr0, 0x11, VM_FINE);
    TRY(4, cr.cr3, 1ull << 52, 2);
    TRY(4, cr.cr3, 0xfff, VM_FINE);
    TRY(4, cr.cr4, 0x2000, 3); /* VMXE */
    TRY(4, cr.cr4, 1 << 17, 3); /* PCIDE outside long mode */
    TRY(4, cr.efer, 0x400, 4); /* LMA alone */
    TRY(4, cr.efer, 0x1000, 4); /* SVME */
    TRY(4, cr.xcr0, 0, 5);
    TRY(4, cr.xcr0, 5, 5);
    TRY(4, cr.xcr0, 0x27, 5);
    TRY(4, cr.xcr0, 0x207, 5);
    TRY(4, cr.xcr0, 0xe7, VM_FINE);
    page()->cr.cr0 = 0x80000011;
    page()->cr.efer = 0x500;
    TRY(4, cr.cr2, 0, 3); /* long mode without PAE */
    TRY(4, cr.cr4, 0x20020, VM_FINE);
    page()->cr.cr4 = 0x20;
    TRY(4, cr.efer, 0x100, 4); /* LME and PG without LMA */
    TRY(5, pdpte[2], 3, VM_FINE + 3);
    TRY(5, pdpte[2], 2, VM_FINE);
    TRY(6, dr.dr6, 1ull << 32, 4);
    TRY(6, dr.dr7, 1ull << 32, 5);
    TRY(6, dr.dr7, 0x2400, 5);
}

static void test_refused_segs(void)
{
    begin_forced(false);
    reply(0, EXO_VG_ALL);
    TRY(8, segs.seg[EXO_ES].attributes, 0, VM_FINE);
    TRY(8, segs.seg[EXO_ES].attributes, 0x1093, EXO_ES);
    TRY(8, segs.seg[EXO_CS].attributes, 0, EXO_CS);
    TRY(8, segs.seg[EXO_CS].attributes, 0x69b, EXO_CS); /* L and D */
    TRY(8, segs.seg[EXO_CS].attributes, 0x29b, VM_FINE);
    TRY(8, segs.seg[EXO_CS].attributes, 0x93, VM_FINE);
    TRY(8, segs.seg[EXO_SS].attributes, 0x9b, EXO_SS);
    TRY(8, segs.seg[EXO_DS].attributes, 0x99, EXO_DS); /* execute-only */
    TRY(8, segs.seg[EXO_DS].base, 1ull << 32, EXO_DS);
    TRY(8, segs.seg[EXO_FS].base, 1ull << 32, VM_FINE);
    TRY(8, segs.seg[EXO_GS].base, 1ull << 47, EXO_GS);
    TRY(8, segs.seg[EXO_DS].limit, 0x100000, EXO_DS); /* without G */
    TRY(8, segs.seg[EXO_DS].attributes, 0x893, VM_FINE);
    TRY(8, segs.seg[EXO_LDTR].attributes, 0x8b, EXO_LDTR);
    TRY(8, segs.seg[EXO_TR].attributes, 0x89, EXO_TR); /* not busy */
    TRY(8, segs.seg[EXO_TR].attributes, 0, EXO_TR);
    TRY(8, segs.seg[EXO_TR].selector, 4, EXO_TR);
    TRY(8, segs.gdtr.limit, 0x10000, EXO_SEGS);
    TRY(8, segs.idtr.base, 1ull << 63, EXO_SEGS + 1);
}

static void test_refused_rest(void)
{
    begin_forced(false);
    reply(0, EXO_VG_ALL);
    TRY(2, rip.rip, 1ull << 47, 0);
    TRY(2, rip.shadow, 1, 3);
    TRY(9, msr.lstar, 1ull << 47, 1);
    TRY(9, msr.cstar, 1ull << 47, 2);
    TRY(9, msr.fmask, 1ull << 32, 3);
    TRY(9, msr.kernel_gs, 1ull << 47, 4);
    TRY(9, msr.sysenter_cs, 1ull << 32, 5);
    TRY(9, msr.sysenter_eip, 1ull << 47, 7);
    TRY(9, msr.pat, 0x0207040600070406, 8);
    TRY(9, msr.pat, 0x0807040600070406, 8);
    TRY(9, msr.star, ~0ull, VM_FINE);
    TRY(10, fpu[512], 0x8, 0); /* a component that the guest has not */
    TRY(10, fpu[512], 0x7, VM_FINE);
    TRY(10, fpu[527], 0x80, 1); /* compacted */
    TRY(10, fpu[575], 1, 7);
    TRY(10, fpu[26], 1, 8); /* MXCSR */
}

static void test_refused_events(void)
{
    begin_forced(false);
    reply(0, EXO_VG_ALL);
    TRY(3, inject.event, 0x80000020, 0); /* IF is clear */
    guest()->regs.rflags |= 0x200;
    TRY(3, inject.event, 0x80000020, VM_FINE);
    TRY(3, inject.event, 0x80000820, 0); /* error code of an interrupt */
    TRY(3, inject.event, 0x80000203, 0);
    TRY(3, inject.event, 0x80000202, VM_FINE);
    TRY(3, inject.event, 0x80000302, 0);
    TRY(3, inject.event, 0x8000031f, 0);
    TRY(3, inject.event, 0x8000030d, VM_FINE); /* real mode: no error code */
    TRY(3, inject.event, 0x80000b0d, 0);
    TRY(3, inject.event, 0x80000420, 2);
    TRY(3, inject.event, 0x80000120, 0);
    TRY(3, inject.event, 0x80001020, 0);
    TRY(3, inject.window, 4, 3);
    page()->cr.cr0 = 0x11;
    reply(EXO_VG_CR, EXO_VG_A);
    TRY(3, inject.event, 0x8000030d, 0);
    TRY(3, inject.event, 0x80000b0d, VM_FINE);
    page()->inject.event = 0x80000b0d;
    TRY(3, inject.error, 0x8000, 1);
    vcpu_of(guest())->nmi_blocked = 1;
    TRY(3, inject.event, 0x80000202, 0);
    vcpu_of(guest())->shadow = 1;
    vcpu_of(guest())->shadow_rip = guest()->regs.rip;
    TRY(3, inject.event, 0x80000020, 0);
    page()->inject = (struct exo_vm_inject){0x80000403, 0, 1, 0};
    reply(EXO_VG_INJECT, 0);
    CHECK(in_guest() && vcpu_of(guest())->inject.event == 0x80000403);
}

/* A group refused: those before it are loaded, it and those after it are not. */
static void test_refused_order(void)
{
    begin_forced(false);
    reply(0, EXO_VG_ALL);
    page()->a.rax = 1;
    page()->cr.cr0 = 0x80000000;
    page()->dr.dr0 = 2;
    reply(EXO_VG_A | EXO_VG_CR | EXO_VG_DR, EXO_VG_DR | EXO_VG_CR);
    CHECK(refused(4, 0) && guest()->regs.rax == 1);
    reply(0, EXO_VG_DR | EXO_VG_CR);
    CHECK(page()->dr.dr0 == 0 && page()->cr.cr0 == 0x60000010);
}

static void test_pae(void)
{
    begin_forced(true);
    reply(0, EXO_VG_ALL);
    page()->cr.cr0 = 0x80000011;
    page()->cr.cr4 = 0x20;
    reply(EXO_VG_CR, 0);
    CHECK(refused(5, ~0ull));
    reply(EXO_VG_CR | EXO_VG_PDPTE, 0);
    CHECK(in_guest());
}

static void test_invalid(void)
{
    begin_forced(false);
    reply(0, EXO_VG_ALL);
    reply(0, 0);
    leave(EXO_VX_INVALID, 1, 0);
    CHECK(told(EXO_VX_INVALID, 1));
    reply(0, 0);
    CHECK(refused(0, ~0ull));
    reply(EXO_VG_A | EXO_VG_B | EXO_VG_RIP, 0);
    CHECK(refused(4, ~0ull));
    monitor()->regs.rdi = VCPU;
    sys_thread_stop(monitor());
    start();
    reply(0, 0);
    CHECK(refused(4, ~0ull));
    reply(EXO_VG_ALL, 0);
    CHECK(in_guest());
}

/* ---- events and windows ------------------------------------------------------------------------ */

/* Somebody raises an event of the virtual CPU, which is in guest mode meanwhile. */
static void raise(uint64_t bits)
{
    event_raise(VCPU_FRAME, bits);
    go();
}

static void test_forced(void)
{
    begin_forced(false);
    page()->event_mask = 6;
    reply(0, 0);
    raise(8);
    CHECK(in_guest() && page()->events == 8);
    raise(2);
    CHECK(told(EXO_VX_FORCED, 2) && page()->events == 8);
    raise(4); /* while the monitor has it: it stays pending */
    CHECK(this_cpu()->cur == host_thread && page()->events == 12);
    reply(0, 0);
    CHECK(told(EXO_VX_FORCED, 4));
    host_cpu = 1;
    host_ipis = 0;
    event_raise(VCPU_FRAME, 2);
    CHECK(host_ipis == 1);
    host_cpu = 0;
    requests_serve();
    reply(0, 0);
    CHECK(told(EXO_VX_FORCED, 2));
}

static void test_window(void)
{
    begin_forced(false);
    reply(0, EXO_VG_ALL);
    page()->inject.window = EXO_WINDOW_INTERRUPT;
    reply(EXO_VG_INJECT, 0);
    CHECK(in_guest() && vcpu_of(guest())->window == EXO_WINDOW_INTERRUPT);
    guest()->regs.rflags |= 0x200;
    leave(EXO_VX_WINDOW, 0, 0);
    CHECK(told(EXO_VX_WINDOW, 0) && vcpu_of(guest())->window == 0);
    reply(EXO_VG_INJECT, 0); /* it is open: told without entering */
    CHECK(told(EXO_VX_WINDOW, 0));
    page()->inject = (struct exo_vm_inject){0x80000020, 0, 0, EXO_WINDOW_INTERRUPT};
    reply(EXO_VG_INJECT, 0);
    CHECK(in_guest() && vcpu_of(guest())->window == EXO_WINDOW_INTERRUPT);
    vcpu_of(guest())->inject.event = 0;
    guest()->regs.rflags = 2;
    raise(EXO_EVENT_NMI_WINDOW);
    CHECK(told(EXO_VX_NMI_WINDOW, 0) && (page()->events & EXO_EVENT_NMI_WINDOW) == 0);
    vcpu_of(guest())->nmi_blocked = 1;
    reply(0, 0);
    raise(EXO_EVENT_NMI_WINDOW);
    CHECK(in_guest() && vcpu_of(guest())->window == 3);
    leave(EXO_VX_NMI_WINDOW, 0, 0);
    CHECK((page()->events & EXO_EVENT_NMI_WINDOW) == 0 && vcpu_of(guest())->window == 1);
}

static void test_no_gate(void)
{
    begin_forced(false);
    CHECK(sys_event_make(EXO_REF(VM, PORTS), 0, 4) == 0);
    CHECK(sys_thread_set(VCPU, EXO_SET_FAULT, PORTS, 0) == 0);
    reply(0, 0);
    CHECK(in_guest());
    leave(EXO_VX_HLT, 0, 0);
    CHECK(guest()->state == EXO_T_FAULTED && upcalls[monitor()->upcall].events == 4);
    CHECK(this_cpu()->cur == 0);
}

static void test_busy_monitor(void)
{
    begin_forced(false);
    CHECK(sys_thread_make(SPARE, VM, RAM, VCPU_FRAME + 4, 0) == 0);
    CHECK(sys_thread_set(SPARE, EXO_SET_FAULT, GATE, 0) == 0);
    struct thread *other = &threads[VCPU_FRAME + 4];
    vcpu_page(other)->events = vcpu_page(other)->event_mask = 1;
    monitor()->regs.rdi = SPARE;
    monitor()->regs.rsi = 0;
    sys_thread_start(monitor());
    this_cpu()->cur = other->self;
    CHECK(!vm_enter_check(other));
    CHECK(other->state == EXO_T_QUEUED && monitor()->queue_head == other->self);
    this_cpu()->cur = host_thread;
    reply(0, 0);
    CHECK(other->state == EXO_T_CALLING && guest()->state == EXO_T_READY);
    CHECK(monitor()->regs.rsi == EXO_VX_FORCED);
}

static void test_hypercall(void)
{
    begin_forced(false);
    CHECK(sys_event_make(EXO_REF(VM, PORTS), 0, 4) == 0);
    CHECK(sys_thread_set(VCPU, EXO_SET_VHYPER, GATE, 2) == 0);
    reply(0, 0);
    guest()->regs.rax = EXO_CALL_event_signal;
    guest()->regs.rdi = PORTS;
    leave(EXO_VX_HYPERCALL, 0, 0);
    CHECK(in_guest() && guest()->regs.rax == 0 && upcalls[monitor()->upcall].events == 4);
    CHECK(guest()->regs.rip == 0xfff3);
    guest()->regs.rax = EXO_CALL_call;
    guest()->regs.rdi = GATE;
    guest()->regs.rsi = 77;
    leave(EXO_VX_HYPERCALL, 0, 0);
    CHECK(told(77, 0) && monitor()->regs.rdx == 0);
    monitor()->regs.r12 = 12;
    reply(78, 79);
    CHECK(in_guest() && guest()->regs.rsi == 78 && guest()->regs.rdx == 79);
    guest()->regs.rax = EXO_CALL_call;
    guest()->regs.rdi = PORTS + 1;
    leave(EXO_VX_HYPERCALL, 0, 0);
    CHECK(told(EXO_VX_HYPERCALL, 0));
}

/* ---- memory and ports ------------------------------------------------------------------------------ */

static void test_formats(void)
{
    static const unsigned rights[] = {1, 3, 5, 7};
    for (uint32_t format = 0; format <= ENV_EPT; format += ENV_EPT)
        for (uint32_t i = 0; i < 4 * 3 * EXO_SEL_MAX; i++) {
            unsigned level = 1 + i / EXO_SEL_MAX / 4;
            uint32_t sel = i % EXO_SEL_MAX;
            frame_t f = (sel * 2654435761u) >> 9 << 9;
            uint64_t cache = (sel & 1) != 0 ? CACHE_UC : CACHE_WB;
            uint64_t e = pte_leaf(format, f, rights[i & 3], sel, level, cache);
            CHECK(pte_sel(format, e) == sel && pte_rights(format, e) == rights[i & 3]);
            CHECK(pte_frame(e) == f && (e & PTE_P) != 0 && ((e & PTE_PS) != 0) == (level > 1));
            uint64_t t = pte_table(format, f, sel);
            CHECK(pte_sel(format, t) == sel && pte_frame(t) == f && (t & PTE_PS) == 0);
            if (format == 0) continue;
            CHECK((e >> 3 & 7) == (cache == CACHE_UC ? 0 : 6) && (e >> 6 & 1) == 1);
            CHECK((e & (PTE_EPT_A | PTE_EPT_D)) == 0 && (t & 0x3ff) == 7);
        }
}

static void test_memory(void)
{
    for (int vmx = 0; vmx < 2; vmx++) {
        begin(vmx);
        for (uint64_t level = 3; level >= 1; level--)
            CHECK(sys_pt_make(VM, 0, level, RAM, GUEST_FRAME + level) == 0);
        CHECK(sys_page_bind(VM, 0x1000, 2, RAM, GUEST_FRAME + 8, EXO_R) == 2);
        leaf_done();
        CHECK(sys_page_protect(VM, 0x1000, 1, 0) == -EXO_E_ARG);
        CHECK(sys_page_protect(VM, 0x1000, 2, EXO_R | EXO_W | EXO_X) == 2);
        CHECK(this_cpu()->pend_count == 1 && this_cpu()->pend[0].entry == 0);
        leaf_done();
        uint64_t upper = 0xffff880000000000;
        CHECK(sys_page_bind(VM, upper, 1, RAM, GUEST_FRAME + 8, EXO_R) == -EXO_E_VA);
        CHECK(sys_pt_make(VM, upper, 3, RAM, GUEST_FRAME + 9) == -EXO_E_VA);
        CHECK(sys_page_unbind(VM, upper, 1) == -EXO_E_VA);
        CHECK(sys_page_unbind(VM, 0x1000, 2) == 2);
        leaf_done();
        CHECK(words[GUEST_FRAME + 8] == 0);
    }
}

static bool passes(unsigned port)
{
    const struct table *t = &tables[ENV_FRAME + 3 + 1 + (port >> 15)];
    return (t->e[port >> 6 & 511] >> (port & 63) & 1) == 0;
}

static void test_ports(void)
{
    begin(false);
    CHECK(sys_cap_derive(HOST_PORTS, EXO_REF(VM, PORTS), 15, 0x7ff0, 0x120) == 0);
    CHECK(sys_cap_derive(EXO_REF(VM, PORTS), EXO_REF(VM, PART), 15, 0x8000, 2) == 0);
    CHECK(sys_port_pass(0, HOST_PORTS) == -EXO_E_TYPE);
    CHECK(sys_port_pass(VM, RAM) == -EXO_E_KIND);
    CHECK(sys_port_unpass(VM, PART) == -EXO_E_NONE);
    CHECK(sys_port_pass(VM, PART) == 0);
    leaf_done();
    CHECK(!passes(0x7fff) && passes(0x8000) && passes(0x8001) && !passes(0x8002));
    CHECK(sys_port_pass(VM, PART) == -EXO_E_BOUND);
    CHECK(sys_port_pass(VM, PORTS) == -EXO_E_BOUND);
    CHECK(sys_cap_delete(EXO_REF(VM, PART)) == -EXO_E_BUSY);
    CHECK(sys_port_unpass(VM, PART) == 0 && !passes(0x8000));
    CHECK(core_invariants() == 0);
    CHECK(sys_port_unpass(VM, PART) == -EXO_E_NONE);
    CHECK(sys_port_pass(VM, PART) == -EXO_E_BOUND); /* the round is not over */
    leaf_done();
    CHECK(sys_port_pass(VM, PORTS) == 0 && passes(0x7ff0) && passes(0x810f) && !passes(0x8110));
    CHECK(!passes(0x7fef));
    leaf_done();
    long r = -EXO_E_AGAIN;
    for (int i = 0; i < 8 && r == -EXO_E_AGAIN; i++) {
        r = sys_cap_revoke(HOST_PORTS, 0, 0);
        leaf_done();
    }
    CHECK(r == 0 && !passes(0x8000));
}

static void part_pass(void) { CHECK(sys_port_pass(VM, PART) == 0); }

static void page_one(void)
{
    CHECK(sys_page_bind(VM, 0x1000, 1, PART, GUEST_FRAME + 8, EXO_R) == 1);
}

/* Another CPU binds through a capability while it is deleted. */
static void test_delete_race(void)
{
    begin(false);
    for (uint64_t level = 3; level >= 1; level--)
        CHECK(sys_pt_make(VM, 0, level, RAM, GUEST_FRAME + level) == 0);
    for (int ports = 0; ports < 2; ports++) {
        CHECK(sys_cap_derive(ports ? HOST_PORTS : HOST_RAM, EXO_REF(VM, PART), 15, GUEST_FRAME + 8,
                             2) == 0);
        host_meanwhile = ports ? part_pass : page_one;
        CHECK(sys_cap_delete(EXO_REF(VM, PART)) == -EXO_E_AGAIN);
        leaf_done();
        CHECK(sys_cap_delete(EXO_REF(VM, PART)) == -EXO_E_BUSY);
        if (ports != 0)
            CHECK(sys_port_unpass(VM, PART) == 0);
        else
            CHECK(sys_page_unbind(VM, 0x1000, 1) == 1);
        leaf_done();
        CHECK(sys_cap_delete(EXO_REF(VM, PART)) == 0);
    }
}

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    {"made and destroyed", test_objects},
    {"what a virtual CPU is not", test_not_a_thread},
    {"exit and reply", test_exit_reply},
    {"more registers", test_more},
    {"refused: control registers", test_refused_cr},
    {"refused: segments", test_refused_segs},
    {"refused: MSRs, FPU, rip", test_refused_rest},
    {"refused: events", test_refused_events},
    {"refused: in order", test_refused_order},
    {"page-directory pointers", test_pae},
    {"invalid state", test_invalid},
    {"forced exits", test_forced},
    {"windows", test_window},
    {"no gate", test_no_gate},
    {"busy monitor", test_busy_monitor},
    {"hypercalls", test_hypercall},
    {"page-table formats", test_formats},
    {"guest memory", test_memory},
    {"passed ports", test_ports},
    {"deleted while another CPU binds", test_delete_race},
};

int main(void)
{
    for (unsigned i = 0; i < sizeof tests / sizeof *tests; i++) {
        good = true;
        host_cpu = 0;
        tests[i].run();
        failures += !good;
        printf("%s vm: %s\n", good ? "PASS" : "FAIL", tests[i].name);
    }
    return failures != 0;
}
