/* SPDX-License-Identifier: MIT
 *
 * What the tests share: probing accesses, children, waiting. */
#include "tests.h"

/* ---- probes ----------------------------------------------------------------------- */
uint64_t probe_error, probe_addr;
static volatile int probing;
static int probe_vector;

int probe_do_read(uint64_t va, uint64_t *value);
int probe_do_write(uint64_t va, uint64_t value);
int probe_do_run(uint64_t va);
extern char probe_escape[];

/* Leaf functions without a frame: the escape returns -1 for whichever faulted. The
 * third calls va, which must hold a RET. */
__asm__(".pushsection .text\n"
        "probe_do_read: movq (%rdi), %rax\n movq %rax, (%rsi)\n xorl %eax, %eax\n ret\n"
        "probe_do_write: movq %rsi, (%rdi)\n xorl %eax, %eax\n ret\n"
        "probe_do_run: movq %rsp, probe_rsp(%rip)\n call *%rdi\n xorl %eax, %eax\n ret\n"
        "probe_escape: movl $-1, %eax\n ret\n"
        ".popsection\n .pushsection .bss\n probe_rsp: .quad 0\n .popsection\n");
extern uint64_t probe_rsp;

static bool probe_exception(struct exo_frame *frame, struct exo_saved *saved)
{
    (void)saved;
    if (!probing) return false;
    probe_vector = (int)frame->vector;
    probe_error = frame->error;
    probe_addr = frame->addr;
    frame->rip = (uint64_t)probe_escape;
    if (probing == 2) frame->rsp = probe_rsp;
    return true;
}

void probe_init(void) { exo_handlers.exception = probe_exception; }

int probe_read(uint64_t va, uint64_t *value)
{
    uint64_t dummy;
    probing = 1;
    int r = probe_do_read(va, value ? value : &dummy);
    probing = 0;
    return r ? 1 + probe_vector : 0;
}

int probe_write(uint64_t va, uint64_t value)
{
    probing = 1;
    int r = probe_do_write(va, value);
    probing = 0;
    return r ? 1 + probe_vector : 0;
}

int probe_run(uint64_t va)
{
    probing = 2;
    int r = probe_do_run(va);
    probing = 0;
    return r ? 1 + probe_vector : 0;
}

long raw_call(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
              uint64_t f)
{
    long rax = (long)number;
    register uint64_t r10 __asm__("r10") = d;
    register uint64_t r8 __asm__("r8") = e;
    register uint64_t r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "+a"(rax), "+D"(a), "+S"(b), "+d"(c), "+r"(r10), "+r"(r8), "+r"(r9)
                     :
                     : "rcx", "r11", "memory");
    return rax;
}

/* ---- children ------------------------------------------------------------------------ */
static uint32_t fault_event; /* lives as long as there are kids */
static uint32_t kids;

long kid_make(struct kid *kid, const char *function, unsigned cpu)
{
    char args[64];
    if (!kids++) {
        long event = exo_event_new(exo.start.sel_thread, EXO_EV_FAULT);
        if (event < 0) return event;
        fault_event = (uint32_t)event;
    }
    long r =
        exo_child_make(&kid->child, &exo.pool, KID_FRAMES, KID_TABLES, cpu, fault_event, kid->bits);
    if (r < 0) return r;
    exo_format(args, sizeof(args), "kid %s", function);
    r = exo_child_image(&kid->child, args);
    if (r < 0) return r;
    uint32_t console = exo.start.sel_console;
    r = exo_child_give(&kid->child, console, EXO_USE, 0x3f8, 8);
    kid->child.start.sel_console = r < 0 ? 0 : (uint32_t)r;
    return r < 0 ? r : 0;
}

long kid_start(struct kid *kid) { return exo_child_start(&kid->child); }

long kid_give(struct kid *kid, uint32_t src, unsigned rights, uint64_t base, uint64_t count)
{
    return exo_child_give(&kid->child, src, rights, base, count);
}

long kid_wait(struct kid *kid, uint64_t us)
{
    uint64_t end = exo_in_us(us);
    for (;;) {
        long state = exo_thread_read(kid->child.thread);
        if (state == EXO_T_FAULTED) {
            const struct exo_regs *regs = &exo_page()->regs;
            return regs->rax == EXO_EXIT_MAGIC ? (long)regs->rdi : -1000 - (long)regs->vector;
        }
        if (exo_tsc() >= end) return -1;
        exo_event_wait(EXO_EV_FAULT, EXO_MIN(end, exo_in_us(2000)));
    }
}

long kid_end(struct kid *kid)
{
    long r = exo_child_destroy(&kid->child);
    if (!--kids) exo_drop(fault_event);
    return r;
}

/* ---- small things ------------------------------------------------------------------------ */

bool spin_until(volatile uint32_t *flag, uint32_t value, uint64_t us)
{
    uint64_t end = exo_in_us(us);
    while (*flag != value) {
        if (exo_tsc() > end) return false;
        exo_yield();
    }
    return true;
}

void sleep_us(uint64_t us) { exo_event_wait(1ul << 50, exo_in_us(us)); }

long cap_base(uint64_t sel, uint64_t *count)
{
    if (exo_cap_info(sel) <= 0) return -1;
    if (count) *count = exo_page()->list[0].frame;
    return (long)exo_page()->list[0].va;
}

uint64_t frames(uint64_t n)
{
    long frame = exo_frames_alloc(&exo.pool, n, 1);
    return frame < 0 ? 0 : (uint64_t)frame;
}

void give_back(uint64_t frame, uint64_t n) { exo_frames_free(&exo.pool, frame, n); }
