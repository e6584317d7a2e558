/* SPDX-License-Identifier: MIT
 *
 * Fault gates: the faults that a thread cannot take itself are calls to the gate that its
 * env named. Its parent, on the same CPU, repairs them and replies; or does not. */
#include "tests.h"

#define RW (EXO_R | EXO_W)
#define PF 14
#define PAGES 8
#define BADGE 77
#define EV_LATE 0x40ul

/* ---- the kids ----------------------------------------------------------------------- */

/* Stores 1 at va with numbers in all registers; returns their sum: 32767. */
extern uint64_t faults_store(uint64_t va);
__asm__(".pushsection .text\n"
        "faults_store:\n"
        " push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        " mov $1, %eax\n mov $2, %ebx\n mov $4, %ecx\n mov $8, %edx\n mov $16, %esi\n"
        " mov $64, %ebp\n mov $128, %r8d\n mov $256, %r9d\n mov $512, %r10d\n"
        " mov $1024, %r11d\n mov $2048, %r12d\n mov $4096, %r13d\n mov $8192, %r14d\n"
        " mov $16384, %r15d\n movq $31, -128(%rsp)\n stc\n"
        " movq $1, (%rdi)\n"
        " adc %rbx, %rax\n add %rcx, %rax\n add %rdx, %rax\n add %rsi, %rax\n"
        " add %rbp, %rax\n add %r8, %rax\n add %r9, %rax\n add %r10, %rax\n add %r11, %rax\n"
        " add %r12, %rax\n add %r13, %rax\n add %r14, %rax\n add %r15, %rax\n"
        " add -128(%rsp), %rax\n"
        " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n"
        ".popsection\n");

/* Has no handler: each first use of a page is its gate's. */
long kid_faults(void)
{
    if (exo_tables(&exo.pool, TEST_VA, 1) < 0) return -1;
    exo_thread_set(0, EXO_SET_FAULT, KID_GIVEN, 0);
    exo_thread_set(0, EXO_SET_UPCALL, 0, 0);
    uint64_t sum = 0;
    for (unsigned i = 0; i < PAGES; i++) {
        volatile uint64_t *at = (volatile uint64_t *)(TEST_VA + i * EXO_PAGE);
        if (faults_store((uint64_t)at) != 32767) sum += 1000;
        sum += *at;
    }
    exo_thread_set(0, EXO_SET_FAULT, EXO_CHILD_FAULT, 0);
    return (long)sum;
}

/* Its handler of #UD faults itself. */
static uint64_t touched;
static bool touch_in_handler(struct exo_frame *frame, struct exo_saved *saved)
{
    (void)saved;
    *(volatile uint64_t *)TEST_VA = 5 * ++touched;
    frame->rip += 2;
    return frame->vector == 6;
}

long kid_handler_faults(void)
{
    if (exo_tables(&exo.pool, TEST_VA, 1) < 0) return -1;
    exo_handlers.exception = touch_in_handler;
    exo_thread_set(0, EXO_SET_FAULT, KID_GIVEN, 0);
    __asm__ volatile("ud2\n ud2" : : : "memory");
    exo_thread_set(0, EXO_SET_FAULT, EXO_CHILD_FAULT, 0);
    return (long)*(volatile uint64_t *)TEST_VA;
}

/* ---- who repairs ------------------------------------------------------------------------- */
static struct kid kid;
static uint64_t repairs, odd; /* odd: calls that did not look like the expected fault */

/* The kid's page at va becomes one of its last frames, which it does not use. */
static long repair_page(uint64_t va)
{
    uint64_t frame = kid.child.pool.base + KID_FRAMES - 1 - repairs++;
    return exo_page_bind(kid.child.env, va & -(uint64_t)EXO_PAGE, 1, EXO_CHILD_MEMORY, frame, RW);
}

static void repair(uint64_t badge, uint64_t word[4], uint64_t item)
{
    uint64_t rip = word[3], start = exo.start.image_va;
    odd += badge != BADGE || item || word[0] != PF || (word[1] & 5) != 4;
    odd += word[2] != TEST_VA + repairs * EXO_PAGE;
    odd += rip < start || rip >= start + exo.start.image_pages * EXO_PAGE;
    if (repair_page(word[2]) != 1)
        exo_thread_stop(kid.child.thread); /* it would only fault again */
    memset(word, 0, 4 * sizeof(*word));
}

static void destroy_caller(uint64_t badge, uint64_t word[4], uint64_t item)
{
    (void)badge;
    (void)word;
    (void)item;
    repairs++;
    kid_end(&kid);
    exo_timer_set(1, EV_LATE);
}

static uint64_t server_gate;

/* A kid whose faults are calls to `thread`. */
static long faulting_kid(const char *function, uint32_t thread)
{
    repairs = odd = 0;
    long r = kid_make(&kid, function, exo.start.cpu);
    if (r < 0) return r;
    long gate = exo_gate_new(thread, 0);
    if (gate < 0) return gate;
    server_gate = (uint64_t)gate;
    r = kid_give(&kid, (uint32_t)gate, EXO_GATE_CALL, BADGE, 1);
    return r < 0 ? r : kid_start(&kid);
}

/* Serves faults until the kid has ended, or too long. */
static void serve(exo_server *server)
{
    exo_timer_set(exo_in_us(KID_TIME), EV_LATE);
    exo_serve(server, EXO_EV_FAULT | EV_LATE);
    exo_timer_set(0, 0);
}

static void test_fault_gate(void)
{
    EXPECT(faulting_kid("faults", exo.start.sel_thread), 0);
    serve(repair);
    EXPECT(kid_wait(&kid, KID_TIME), PAGES);
    EXPECT(repairs, PAGES);
    EXPECT(odd, 0);
    EXPECT(kid_end(&kid), 0);
    EXPECT(exo_drop((uint32_t)server_gate), 0);
}

static void test_fault_gate_handler(void)
{
    EXPECT(faulting_kid("handler_faults", exo.start.sel_thread), 0);
    serve(repair);
    EXPECT(kid_wait(&kid, KID_TIME), 10);
    EXPECT(repairs, 1);
    EXPECT(odd, 0);
    EXPECT(kid_end(&kid), 0);
    EXPECT(exo_drop((uint32_t)server_gate), 0);
}

/* The env is destroyed by who serves its fault. */
static void test_fault_gate_kill(void)
{
    EXPECT(faulting_kid("faults", exo.start.sel_thread), 0);
    serve(destroy_caller);
    EXPECT(repairs, 1);
    EXPECT(exo_drop((uint32_t)server_gate), 0);
}

static void hang(uint64_t badge, uint64_t word[4], uint64_t item)
{
    (void)badge;
    (void)word;
    (void)item;
    for (;;)
        exo_event_wait(1ul << 40, 0);
}
static void serve_hang(void *unused)
{
    (void)unused;
    exo_serve(hang, 1);
}

/* The gate's thread dies while it serves the fault, and there is no gate from then on:
 * the thread stays stopped, is repaired from outside and resumed. */
static void test_fault_gate_dies(void)
{
    static struct exo_task server;
    long r;
    EXPECT(exo_task_make(&server, exo.start.cpu), 0);
    EXPECT(exo_task_start(&server, serve_hang, NULL), 0);
    while (exo_thread_info(server.sel) != EXO_T_WAIT)
        exo_yield();
    EXPECT(faulting_kid("faults", server.sel), 0);
    for (uint64_t end = exo_in_us(KID_TIME);
         exo_thread_info(kid.child.thread) != EXO_T_CALLING && exo_tsc() < end;)
        exo_yield();
    EXPECT(exo_thread_info(kid.child.thread), EXO_T_CALLING);
    EXPECT(exo_thread_read(kid.child.thread), -EXO_E_STATE);
    EXPECT(exo_task_destroy(&server), 0);
    EXPECT(exo_cap_info(EXO_REF(kid.child.env, KID_GIVEN)), 0);
    while ((r = kid_wait(&kid, KID_TIME)) == -1000 - PF && repairs < PAGES) {
        EXPECT(exo_page()->regs.addr, TEST_VA + repairs * EXO_PAGE);
        EXPECT(repair_page(exo_page()->regs.addr), 1);
        EXPECT(exo_thread_start(kid.child.thread, 0, 0, 0), 0);
    }
    EXPECT(r, PAGES);
    EXPECT(repairs, PAGES);
    EXPECT(kid_end(&kid), 0);
    exo_sel_free((uint32_t)server_gate); /* it went with the thread */
}

const struct test fault_tests[] = {
    {"fault_gate", test_fault_gate},
    {"fault_gate_handler", test_fault_gate_handler},
    {"fault_gate_kill", test_fault_gate_kill},
    {"fault_gate_dies", test_fault_gate_dies},
    {NULL, NULL},
};
