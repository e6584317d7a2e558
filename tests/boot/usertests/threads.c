/* SPDX-License-Identifier: MIT
 *
 * Threads: making, starting, stopping, upcalls for exceptions, events and timers, and
 * that no register is lost or leaks on any of these ways. */
#include "tests.h"

static volatile uint32_t flag, counter;

static void set_flag(void *value) { flag = (uint32_t)(uint64_t)value; }

static void test_task(void)
{
    struct exo_task t;
    EXPECT(exo_task_make(&t, exo.start.cpu), 0);
    for (uint32_t i = 1; i < 5; i++) {
        EXPECT(exo_task_start(&t, set_flag, (void *)(uint64_t)i), 0);
        exo_task_join(&t);
        EXPECT(flag, i);
        while (exo_thread_info(t.sel) != EXO_T_STOPPED)
            exo_yield();
    }
    EXPECT(exo_page()->list[1].va, exo.start.cpu);
    EXPECT(exo_page()->list[0].va, t.frame);
    EXPECT(exo_task_destroy(&t), 0);
}

static void test_task_other_cpu(void)
{
    NEED_CPUS(2);
    struct exo_task t;
    EXPECT(exo_task_make(&t, 1), 0);
    for (uint32_t i = 1; i < 20; i++) {
        EXPECT(exo_task_start(&t, set_flag, (void *)(uint64_t)i), 0);
        exo_task_join(&t);
        EXPECT(flag, i);
        while (exo_thread_info(t.sel) != EXO_T_STOPPED)
            exo_yield();
    }
    EXPECT(exo_task_destroy(&t), 0);
}

static void test_thread_errors(void)
{
    uint64_t f = frames(3), a = (uint64_t)exo_sel_alloc(), self = exo.start.sel_thread;
    EXPECT(exo_thread_make(a, EXO_SELF, MEM, f, exo.start.cpus), -EXO_E_ARG);
    EXPECT(exo_thread_make(a, EXO_SELF, MEM, UINT64_MAX, 0), -EXO_E_RANGE);
    EXPECT(exo_thread_make(a, EXO_SELF, MEM, exo.start.memory_base + exo.start.memory_count - 1, 0),
           -EXO_E_RANGE);
    EXPECT(exo_thread_make(self, EXO_SELF, MEM, f, 0), -EXO_E_FULL);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, f, EXO_R), 1);
    EXPECT(exo_thread_make(a, EXO_SELF, MEM, f, 0), -EXO_E_BUSY);
    EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, 1), 1);
    EXPECT(exo_thread_make(a, EXO_SELF, MEM, f, exo.start.cpu), 0);
    EXPECT(EXO_FW_TYPE(exo.words[f]), EXO_FT_THREAD);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, f, EXO_R) < 0, 1);
    EXPECT(exo_thread_start(a, 1ul << 63, 0, 0), -EXO_E_VA);
    EXPECT(exo_thread_start(a, EXO_VA_END, 0, 0), -EXO_E_VA);
    EXPECT(exo_thread_start(a, 0x400000, 1ul << 47, 0), -EXO_E_VA);
    EXPECT(exo_thread_start(self, 0x400000, 0, 0), -EXO_E_STATE);
    EXPECT(exo_thread_read(self), -EXO_E_STATE);
    EXPECT(exo_thread_read(a), EXO_T_STOPPED);
    exo_page()->regs.rip = 1ul << 47;
    EXPECT(exo_thread_write(a), -EXO_E_VA);
    exo_page()->regs.rip = 0x400000;
    exo_page()->regs.gs_base = 0x8000000000000000;
    EXPECT(exo_thread_write(a), -EXO_E_VA);
    exo_page()->regs.gs_base = 0;
    exo_page()->regs.rflags = UINT64_MAX;
    EXPECT(exo_thread_write(a), 0);
    EXPECT(exo_thread_read(a), EXO_T_STOPPED);
    EXPECT(exo_page()->regs.rflags & 0x7000, 0); /* no IOPL, no NT */
    EXPECT(exo_thread_set(a, 99, 0, 0), -EXO_E_ARG);
    EXPECT(exo_thread_set(a, EXO_SET_SLICE, EXO_SLOT_US, 0), -EXO_E_ARG);
    EXPECT(exo_thread_set(a, EXO_SET_UPCALL, 1ul << 47, 0) < 0, 1);
    EXPECT(exo_thread_set(a, EXO_SET_FAULT, exo.start.nsel, 0) < 0, 1);
    EXPECT(exo_drop((uint32_t)a), 0);
    EXPECT(EXO_FW_TYPE(exo.words[f]), EXO_FT_PLAIN);
    exo_sel_free((uint32_t)a);
    give_back(f, 3);
}

static void count(void *unused)
{
    (void)unused;
    for (;;)
        counter++;
}

static void test_thread_stop(void)
{
    struct exo_task t;
    EXPECT(exo_task_make(&t, exo.start.cpu), 0);
    counter = 0;
    EXPECT(exo_task_start(&t, count, NULL), 0);
    sleep_us(5000);
    EXPECT(exo_thread_stop(t.sel), 0);
    uint32_t seen = counter;
    CHECK(seen);
    sleep_us(3000);
    EXPECT(counter, seen);
    EXPECT(exo_thread_read(t.sel), EXO_T_STOPPED);
    CHECK(exo_page()->regs.rip >= 0x400000);
    EXPECT(exo_thread_start(t.sel, 0, 0, 0), 0); /* goes on where it was */
    sleep_us(5000);
    CHECK(counter != seen);
    EXPECT(exo_task_destroy(&t), 0);
}

static void test_exceptions(void)
{
    uint64_t f = frames(1), va = TEST_VA;
    static const struct {
        uint8_t code[8];
        int vector;
    } cases[] = {
        {{0x0f, 0x0b}, 6}, /* ud2 */
        {{0xcc}, 3}, /* int3 */
        {{0xf4}, 13}, /* hlt */
        {{0xfa}, 13}, /* cli */
        {{0x31, 0xc9, 0xf7, 0xf1}, 0}, /* xor ecx, ecx; div ecx */
        {{0xe4, 0x80}, 13}, /* in al, 0x80 */
        {{0x0f, 0x20, 0xc0}, 13}, /* mov rax, cr0 */
        {{0x0f, 0x01, 0xd9}, 6}, /* vmmcall: or a #GP */
        {{0xcd, 0x0e}, 13}, /* int 14 */
        {{0xcd, 0xe0}, 13}, /* int 0xe0: a vector of the kernel */
        {{0x0f, 0x32}, 13}, /* rdmsr */
        {{0x48, 0x0f, 0x07}, 13}, /* sysretq */
        {{0xcf}, -1}, /* iret with rubbish: some exception */
    };
    EXPECT(exo_page_bind(EXO_SELF, va, 1, MEM, f, EXO_R | EXO_W), 1);
    for (unsigned i = 0; i < EXO_COUNT(cases); i++) {
        EXPECT(exo_page_protect(EXO_SELF, va, 1, EXO_R | EXO_W), 1);
        memset((void *)va, 0xc3, EXO_PAGE);
        memcpy((void *)va, cases[i].code, 8);
        EXPECT(exo_page_protect(EXO_SELF, va, 1, EXO_R | EXO_X), 1);
        int got = probe_run(va);
        if (cases[i].vector >= 0 && got != 1 + cases[i].vector &&
            !(cases[i].vector == 6 && got == 14))
            test_fail(__FILE__, __LINE__, "vector of case", got * 100 + (int)i);
        CHECK(got > 0);
    }
    EXPECT(exo_page_unbind(EXO_SELF, va, 1), 1);
    EXPECT(probe_read(0x8000000000000000, NULL), 14); /* not canonical: #GP */
    EXPECT(probe_run(1ul << 47), 14);
    EXPECT(probe_read(0xffff800000000000, NULL), 15);
    EXPECT(probe_error & 1, probe_error & 1);
    EXPECT(probe_write(0xffff878000000000, 0), 15);
    give_back(f, 1);
}

/* All registers, the red zone and the flags survive an exception that is resumed. */
static bool skip_ud2(struct exo_frame *frame, struct exo_saved *saved)
{
    (void)saved;
    frame->rip += 2;
    __asm__ volatile("xorl %%ecx, %%ecx\n xorl %%r8d, %%r8d\n xorl %%r10d, %%r10d" ::
                         : "rcx", "r8", "r10");
    return frame->vector == 6;
}

extern uint64_t registers_ud2(void);
__asm__(".pushsection .text\n"
        "registers_ud2:\n"
        " push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        " mov $1, %eax\n mov $2, %ebx\n mov $4, %ecx\n mov $8, %edx\n mov $16, %esi\n"
        " mov $32, %edi\n mov $64, %ebp\n mov $128, %r8d\n mov $256, %r9d\n mov $512, %r10d\n"
        " mov $1024, %r11d\n mov $2048, %r12d\n mov $4096, %r13d\n mov $8192, %r14d\n"
        " mov $16384, %r15d\n movq $32768, -128(%rsp)\n stc\n"
        " ud2\n"
        " adc %rbx, %rax\n add %rcx, %rax\n add %rdx, %rax\n add %rsi, %rax\n add %rdi, %rax\n"
        " add %rbp, %rax\n add %r8, %rax\n add %r9, %rax\n add %r10, %rax\n add %r11, %rax\n"
        " add %r12, %rax\n add %r13, %rax\n add %r14, %rax\n add %r15, %rax\n"
        " add -128(%rsp), %rax\n"
        " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n"
        ".popsection\n");

static void test_registers(void)
{
    bool (*before)(struct exo_frame *, struct exo_saved *) = exo_handlers.exception;
    exo_handlers.exception = skip_ud2;
    uint64_t sum = registers_ud2();
    exo_handlers.exception = before;
    EXPECT(sum, 65536); /* 65535 and the carry */
}

/* The vector registers and the FS base of two tasks do not mix. */
static volatile uint32_t fpu_bad;
static void fpu_task(void *argument)
{
    uint64_t mine = (uint64_t)argument, seen;
    for (int i = 0; i < 200; i++) {
        __asm__ volatile("movq %1, %%xmm5\n call exo_fpu_pause\n movq %%xmm5, %0"
                         : "=r"(seen)
                         : "r"(mine + (uint64_t)i)
                         : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory");
        if (seen != mine + (uint64_t)i || exo_this()->argument != argument) fpu_bad++;
    }
}

__attribute__((used)) void exo_fpu_pause(void) { exo_yield(); }

static void test_fpu(void)
{
    static struct exo_task t[4];
    fpu_bad = 0;
    for (unsigned i = 0; i < 4; i++)
        EXPECT(exo_task_make(&t[i], exo.start.cpu), 0);
    for (unsigned i = 0; i < 4; i++)
        EXPECT(exo_task_start(&t[i], fpu_task, (void *)((i + 1ul) << 40)), 0);
    for (unsigned i = 0; i < 4; i++)
        exo_task_join(&t[i]);
    EXPECT(fpu_bad, 0);
    for (unsigned i = 0; i < 4; i++)
        EXPECT(exo_task_destroy(&t[i]), 0);
}

static volatile uint64_t taken;
static void take_events(uint64_t events) { taken |= events; }

static void test_event_upcall(void)
{
    long e = exo_event_new(exo.start.sel_thread, 6);
    exo_handlers.events = take_events;
    taken = 0;
    exo_events_mask(2);
    EXPECT(exo_event_signal((uint64_t)e), 0);
    EXPECT(exo_null(), 0);
    EXPECT(taken, 2);
    EXPECT(exo_page()->events, 4);
    exo_events_mask(0);
    EXPECT(exo_event_wait(4, 0), 4);
    exo_handlers.events = NULL;
    EXPECT(exo_drop((uint32_t)e), 0);
}

/* One signal that ends a wait and is to be taken as an upcall too does both. */
static uint64_t both_event;
static volatile uint32_t both_seen;
static void signal_both(void *unused)
{
    (void)unused;
    exo_event_signal(both_event);
    while (!both_seen) /* its end would be one more event */
        exo_yield();
}

static void test_event_both(void)
{
    static struct exo_task t;
    both_event = (uint64_t)exo_event_new(exo.start.sel_thread, 6);
    for (unsigned cpu = 0; cpu < exo.start.cpus; cpu++) {
        EXPECT(exo_task_make(&t, cpu), 0);
        taken = both_seen = 0;
        exo_handlers.events = take_events;
        exo_events_mask(2);
        EXPECT(exo_task_start(&t, signal_both, NULL), 0);
        long got = exo_event_wait(4, exo_in_us(KID_TIME));
        for (uint64_t end = exo_in_us(20000); !taken && exo_tsc() < end;)
            exo_null();
        exo_events_mask(0);
        exo_handlers.events = NULL;
        both_seen = 1;
        exo_task_join(&t);
        EXPECT(exo_task_destroy(&t), 0);
        EXPECT(got, 4);
        EXPECT(taken, 2);
    }
    EXPECT(exo_drop((uint32_t)both_event), 0);
}

static void test_event_deadline(void)
{
    uint64_t start = exo_tsc();
    EXPECT(exo_event_wait(1, exo_in_us(3000)), 0);
    CHECK(exo_tsc() - start >= exo_us(3000));
    EXPECT(exo_event_wait(1, 1), 0); /* long past */
    EXPECT(exo_upcall_done(), -EXO_E_STATE);
}

/* A timer that is taken back does not come; again when the machine stood still until it came. */
static void timer_cancelled(void)
{
    uint64_t due = 0;
    for (int tries = 0; tries < 10; tries++) {
        due = exo_in_us(2000);
        EXPECT(exo_timer_set(due, 8), 0);
        EXPECT(exo_timer_set(0, 0), 0);
        if (exo_tsc() < due) break;
        exo_event_wait(8, 1);
    }
    EXPECT(exo_event_wait(8, due + exo_us(2000)), 0);
}

static void test_timer(void)
{
    EXPECT(exo_timer_set(exo_in_us(1000), EXO_EVENT_REVOKE), -EXO_E_ARG);
    uint64_t start = exo_tsc();
    EXPECT(exo_timer_set(exo_in_us(2000), 8), 0);
    EXPECT(exo_event_wait(8, 0), 8);
    CHECK(exo_tsc() - start >= exo_us(2000));
    CHECK(exo_tsc() - start < exo_us(500000));
    timer_cancelled();
    exo_handlers.events = take_events; /* and as an interrupt of ordinary code */
    taken = 0;
    exo_events_mask(16);
    EXPECT(exo_timer_set(exo_in_us(1000), 16), 0);
    uint64_t end = exo_in_us(1000000);
    while (!taken && exo_tsc() < end)
        continue;
    exo_events_mask(0);
    exo_handlers.events = NULL;
    EXPECT(taken, 16);
}

static volatile uint32_t order[64], order_at;
static void yielder(void *argument)
{
    for (int i = 0; i < 8; i++) {
        order[order_at++ % 64] = (uint32_t)(uint64_t)argument;
        exo_yield();
    }
}

static void test_yield(void)
{
    struct exo_task a, b;
    order_at = 0;
    EXPECT(exo_task_make(&a, exo.start.cpu), 0);
    EXPECT(exo_task_make(&b, exo.start.cpu), 0);
    EXPECT(exo_task_start(&a, yielder, (void *)1), 0);
    EXPECT(exo_task_start(&b, yielder, (void *)2), 0);
    exo_task_join(&a);
    exo_task_join(&b);
    uint32_t changes = 0;
    EXPECT(order_at, 16);
    for (unsigned i = 1; i < 16; i++)
        changes += order[i] != order[i - 1];
    CHECK(changes >= 4); /* neither ran through */
    while (exo_thread_info(a.sel) == EXO_T_READY) /* it told of its end before it stopped */
        exo_yield();
    EXPECT(exo_yield_to(a.sel), -EXO_E_STATE);
    EXPECT(exo_yield_to(0) == 0 || exo_yield_to(0) < 0, 1);
    EXPECT(exo_task_destroy(&a), 0);
    EXPECT(exo_task_destroy(&b), 0);
}

static void test_fault_event(void)
{
    static struct kid k;
    EXPECT(kid_make(&k, "ud2", exo.start.cpu), 0);
    EXPECT(kid_start(&k), 0);
    EXPECT(kid_wait(&k, KID_TIME), -1006);
    EXPECT(kid_end(&k), 0);
    EXPECT(kid_make(&k, "exit7", exo.start.cpu), 0);
    EXPECT(kid_start(&k), 0);
    EXPECT(kid_wait(&k, KID_TIME), 7);
    EXPECT(kid_end(&k), 0);
    EXPECT(kid_make(&k, "fault_in_handler", exo.start.cpu), 0);
    EXPECT(kid_start(&k), 0);
    EXPECT(kid_wait(&k, KID_TIME), -1014);
    EXPECT(exo_page()->regs.addr, 0x1230);
    EXPECT(kid_end(&k), 0);
}

long kid_exit7(void) { return 7; }
long kid_ud2(void)
{
    exo_thread_set(0, EXO_SET_UPCALL, 0, 0);
    __asm__ volatile("ud2");
    return 0;
}
static bool bad_handler(struct exo_frame *frame, struct exo_saved *saved)
{
    (void)saved;
    frame->rip = *(volatile uint64_t *)0x1230;
    return true;
}
long kid_fault_in_handler(void)
{
    exo_handlers.exception = bad_handler;
    __asm__ volatile("ud2");
    return 0;
}

const struct test thread_tests[] = {
    {"task", test_task},
    {"task_other_cpu", test_task_other_cpu},
    {"thread_errors", test_thread_errors},
    {"thread_stop", test_thread_stop},
    {"exceptions", test_exceptions},
    {"registers", test_registers},
    {"fpu", test_fpu},
    {"event_upcall", test_event_upcall},
    {"event_both", test_event_both},
    {"event_deadline", test_event_deadline},
    {"timer", test_timer},
    {"yield", test_yield},
    {"fault_event", test_fault_event},
    {NULL, NULL},
};
