/* SPDX-License-Identifier: MIT
 *
 * What the kernel's primitives cost, in ticks of the time-stamp counter: on
 * `qemu -accel tcg -icount shift=0,sleep=off` that is executed instructions, exactly.
 * Each figure is the median of RUNS runs of the operation with its stub, between two
 * RDTSCs whose own cost (measured first) is subtracted. Beside it: address spaces
 * switched and kernel entries of the whole operation (all its pages), by kernels
 * built to count them.
 * Lines: bench NAME VALUE UNIT switches=N crossings=M flushes=K */
#pragma GCC target("general-regs-only")
#include "bench.h"

#define PAGES 100
#define VA 0x0000000060000000ul
#define RW (EXO_R | EXO_W)
#define KID_FRAMES 512
#define KID_GIVEN 7

void bench_serve(void), bench_gate(void), bench_skip(void), bench_upcall(void);
void bench_fault(struct exo_upcall_page *page);
_Static_assert(EXO_UPCALL_VA == 0x00007f8000000000, "entry.S");

uint64_t sample[RUNS];
static uint64_t empty;
static uint64_t switches, crossings, flushes;
static uint64_t counted_switches, counted_crossings, counted_flushes;

static const struct exo_cpu *counters(void) { return &exo.cpus[exo.start.cpu]; }

static void sort(uint64_t *a)
{
    for (unsigned i = 1; i < RUNS; i++)
        for (unsigned k = i; k && a[k - 1] > a[k]; k--) {
            uint64_t t = a[k];
            a[k] = a[k - 1];
            a[k - 1] = t;
        }
}

uint64_t median_over(uint64_t nothing)
{
    sort(sample);
    return sample[RUNS / 2] - nothing;
}

static uint64_t median(void) { return median_over(empty); }

void begin(void)
{
    switches = counters()->switches;
    crossings = counters()->crossings;
    flushes = counters()->flushes;
}

void end(uint64_t n)
{
    counted_switches = (counters()->switches - switches) / n;
    counted_crossings = (counters()->crossings - crossings) / n;
    counted_flushes = (counters()->flushes - flushes) / n;
}

void report(const char *name, uint64_t value, const char *unit)
{
    exo_printf("bench %s %lu %s switches=%lu crossings=%lu flushes=%lu\n", name, value, unit,
               counted_switches, counted_crossings, counted_flushes);
}

/* Runs `operation` RUNS times, after `before` each time, which is not measured. The
 * counts are those of the last run. */
#define MEASURE(before, operation)                                                                 \
    for (unsigned run_ = 0; run_ < RUNS; run_++) {                                                 \
        before;                                                                                    \
        begin();                                                                                   \
        uint64_t start_ = exo_tsc();                                                               \
        operation;                                                                                 \
        sample[run_] = exo_tsc() - start_;                                                         \
        end(1);                                                                                    \
    }
#define NOTHING (void)0

void must(long got, long wanted, const char *what)
{
    if (got == wanted) return;
    exo_printf("bench: %s gave %ld (%s)\n", what, got, exo_strerror(got));
    exo_exit(1);
}
static void set_upcall(void (*entry)(void))
{
    MUST(exo_thread_set(0, EXO_SET_UPCALL, (uint64_t)entry, exo_this()->upcall_sp), 0);
}

/* ---- children ------------------------------------------------------------------------ */
struct shared {
    volatile uint64_t stamp;
    volatile uint64_t turns;
};
#define SHARED ((struct shared *)VA)

struct kid {
    struct exo_child child;
    uint64_t bits[EXO_POOL_WORDS(KID_FRAMES)];
};

static void kid_make(struct kid *kid, const char *name)
{
    MUST(exo_child_make(&kid->child, &exo.pool, KID_FRAMES, 1, exo.start.cpu, 0, kid->bits), 0);
    MUST(exo_child_image(&kid->child, name), 0);
}

static void kid_end(struct kid *kid) { MUST(exo_child_destroy(&kid->child), 0); }

/* A page that both see at VA, ours through our memory, the kid's through KID_GIVEN. */
static uint64_t share_page(struct kid *kid)
{
    uint64_t frame = (uint64_t)exo_frames_alloc(&exo.pool, 1, 1);
    MUST(exo_bind(&exo.pool, VA, 1, exo.pool.sel, frame, RW), 0);
    MUST(exo_child_give(&kid->child, exo.pool.sel, RW, frame, 1), KID_GIVEN);
    SHARED->stamp = SHARED->turns = 0;
    return frame;
}

static void unshare_page(uint64_t frame) { MUST(exo_unmap(VA, 1, frame), 0); }

static void kid_map_shared(void)
{
    exo_cap_info(KID_GIVEN);
    MUST(exo_bind(&exo.pool, VA, 1, KID_GIVEN, exo_page()->list[0].va, RW), 0);
}

#define COM1_IRQ 4
#define KID_IRQS (KID_GIVEN + 1)

/* Stamps the time of each event, which the serial port's interrupt sets as well. */
static void kid_waiter(void)
{
    kid_map_shared();
    exo_irq_bind(KID_IRQS, COM1_IRQ, (uint64_t)exo_event_new(exo.start.sel_thread, 1));
    for (;;) {
        exo_event_wait(1, 0);
        SHARED->stamp = exo_tsc();
        SHARED->turns++;
        exo_irq_ack(KID_IRQS, COM1_IRQ);
    }
}

static void kid_yielder(void)
{
    for (;;)
        exo_yield_to(KID_GIVEN);
}

/* ---- calls --------------------------------------------------------------------------------- */

static inline long call_raw(uint64_t gate, uint64_t w[4], bool words)
{
    register uint64_t r8 __asm__("r8");
    register uint64_t r9 __asm__("r9");
    long rax = EXO_CALL_call;
    uint64_t rsi, rdx;
    if (words) {
        rsi = w[0];
        rdx = w[1];
        r8 = w[2];
        r9 = w[3];
        __asm__ volatile("syscall"
                         : "+a"(rax), "+D"(gate), "+S"(rsi), "+d"(rdx), "+r"(r8), "+r"(r9)
                         :
                         : "rcx", "r11", "r10", "rbx", "rbp", "r12", "r13", "r14", "r15", "memory");
        w[0] = rsi;
        w[1] = rdx;
        w[2] = r8;
        w[3] = r9;
    } else {
        __asm__ volatile("syscall"
                         : "+a"(rax), "+D"(gate)
                         :
                         : "rcx", "r11", "rsi", "rdx", "r8", "r9", "r10", "rbx", "rbp", "r12",
                           "r13", "r14", "r15", "memory");
    }
    return rax;
}

__attribute__((noinline)) static void bench_call(uint64_t gate)
{
    uint64_t w[4] = {1, 2, 3, 4};
    MUST(call_raw(gate, w, false), 0);
    MEASURE(NOTHING, call_raw(gate, w, false));
    report("call_reply", median(), "instructions");
    MEASURE(NOTHING, call_raw(gate, w, true));
    MUST(w[0] == 1 && w[3] == 4, 1);
    report("call_reply_4w", median(), "instructions");
    MEASURE(NOTHING, exo_call(gate, w));
    report("call_reply_scrubbed", median(), "instructions");
}

static void bench_calls(void)
{
    static struct kid k;
    kid_make(&k, "server");
    long gate = exo_sel_alloc();
    MUST(exo_gate_make((uint64_t)gate, k.child.thread, (uint64_t)bench_gate, 1), 0);
    MUST(exo_child_start(&k.child), 0);
    while (exo_thread_info(k.child.thread) != EXO_T_WAIT)
        exo_yield();
    bench_call((uint64_t)gate);
    MUST(exo_drop((uint32_t)gate), 0);
    kid_end(&k);
}

/* ---- events, interrupts, yields ---------------------------------------------------------------- */
#define COM1_IER 0x3f9 /* 16550 data sheet: bit 1, holding register empty */
#define COM1_IIR 0x3fa
#define COM1_MCR 0x3fc /* bit 3, OUT2: lets the interrupt through on a PC */

/* Time from `operation` to the waiter's stamp. */
#define MEASURE_WAKE(operation)                                                                    \
    for (unsigned run_ = 0; run_ < RUNS; run_++) {                                                 \
        while (exo_thread_info(k.child.thread) != EXO_T_EVENT)                                     \
            exo_yield();                                                                           \
        uint64_t turn_ = SHARED->turns;                                                            \
        begin();                                                                                   \
        uint64_t start_ = exo_tsc();                                                               \
        operation;                                                                                 \
        end(1);                                                                                    \
        while (SHARED->turns == turn_)                                                             \
            exo_yield();                                                                           \
        sample[run_] = SHARED->stamp - start_;                                                     \
    }

static void bench_irq(const struct kid *waiter)
{
    const struct kid k = *waiter;
    uint64_t con = exo.start.sel_console;
    exo_port_out(con, COM1_MCR, 1, (uint64_t)exo_port_in(con, COM1_MCR, 1) | 8);
    exo_port_out(con, COM1_IER, 1, 0);
    MEASURE(NOTHING, exo_port_out(con, COM1_IER, 1, 0));
    uint64_t port = median();
    MEASURE_WAKE({
        exo_port_in(con, COM1_IIR, 1);
        exo_port_out(con, COM1_IER, 1, 0);
        start_ = exo_tsc();
        exo_port_out(con, COM1_IER, 1, 2); /* interrupts before it returns */
    });
    report("irq_to_user", median() - port, "instructions");
    exo_port_out(con, COM1_IER, 1, 0);
}

/* The waiter owns the time slots, so that it runs as soon as it is woken. */
static void bench_signals(void)
{
    static struct kid k;
    const struct exo_range *s = &exo.start.slots[exo.start.cpu];
    kid_make(&k, "waiter");
    uint64_t frame = share_page(&k);
    MUST(exo_child_give(&k.child, exo.start.irqs.sel, EXO_USE, COM1_IRQ, 1), KID_IRQS);
    uint64_t event = (uint64_t)exo_event_new(k.child.thread, 1);
    uint64_t idle = (uint64_t)exo_event_new(k.child.thread, 2);
    for (uint32_t i = 0; i < s->count; i++) {
        MUST(exo_slot_unbind(s->sel, s->first + i), 0);
        MUST(exo_slot_bind(s->sel, s->first + i, k.child.thread, 0), 0);
    }
    MUST(exo_child_start(&k.child), 0);
    while (exo_thread_info(k.child.thread) != EXO_T_EVENT)
        exo_yield();
    MEASURE(NOTHING, exo_event_signal(idle));
    report("signal_no_waiter", median(), "instructions");
    MEASURE_WAKE(exo_event_signal(event));
    report("signal_to_waiter", median(), "instructions");
    bench_irq(&k);
    for (uint32_t i = 0; i < s->count; i++) {
        MUST(exo_slot_unbind(s->sel, s->first + i), 0);
        MUST(exo_slot_bind(s->sel, s->first + i, exo.start.sel_thread, 0), 0);
    }
    MUST(exo_drop((uint32_t)event), 0);
    MUST(exo_drop((uint32_t)idle), 0);
    kid_end(&k);
    unshare_page(frame);
}

static void bench_yield(void)
{
    static struct kid k;
    kid_make(&k, "yielder");
    MUST(exo_child_give(&k.child, exo.start.sel_thread, EXO_THREAD_YIELD, 0, 1), KID_GIVEN);
    MUST(exo_child_start(&k.child), 0);
    for (int i = 0; i < 10; i++)
        exo_yield_to(k.child.thread);
    MEASURE(NOTHING, exo_yield_to(k.child.thread));
    report("yield_and_back", median(), "instructions");
    kid_end(&k);
}

/* ---- memory, capabilities, envs ------------------------------------------------------------------- */

static void bench_pages(uint64_t frame)
{
    uint64_t sel = exo.pool.sel;
    MEASURE(exo_page_unbind(EXO_SELF, VA, 1), exo_page_bind(EXO_SELF, VA, 1, sel, frame, RW));
    report("page_bind", median(), "instructions");
    MEASURE(exo_page_bind(EXO_SELF, VA, 1, sel, frame, RW);
            *(volatile char *)VA = 1, exo_page_unbind(EXO_SELF, VA, 1));
    report("page_unbind", median(), "instructions");
    MEASURE(exo_page_unbind(EXO_SELF, VA, 64), exo_page_bind(EXO_SELF, VA, 64, sel, frame, RW));
    report("page_bind_64", median() / 64, "instructions/page");
    MEASURE(exo_page_bind(EXO_SELF, VA, 64, sel, frame, RW), exo_page_unbind(EXO_SELF, VA, 64));
    report("page_unbind_64", median() / 64, "instructions/page");
}

static void bench_caps(uint64_t frame)
{
    uint64_t a = (uint64_t)exo_sel_alloc();
    MEASURE(exo_cap_delete(a), exo_cap_derive(exo.pool.sel, a, EXO_R, frame, 1));
    report("cap_derive", median(), "instructions");
    MEASURE(exo_cap_derive(exo.pool.sel, a, EXO_R, frame, 1), exo_cap_delete(a));
    report("cap_delete", median(), "instructions");
    MEASURE(NOTHING, {
        exo_env_make(a, exo.pool.sel, frame, 1, 0);
        while (exo_cap_delete(a) == -EXO_E_AGAIN)
            continue;
    });
    report("env_create_destroy", median(), "instructions");
    MUST(exo_cap_info(a), 0);
    exo_sel_free((uint32_t)a);
}

/* What a library system makes for a process that forks: an env, a thread, page tables of three
 * stretches, pages bound one by one, then write-protected; and how all of it goes. */
enum { PROCESS_ENV = 3 + 4, PROCESS_THREAD = 2, PROCESS_TABLES = 8, PROCESS_PAGES = 60 };
#define PROCESS_FRAMES (PROCESS_ENV + PROCESS_THREAD + PROCESS_TABLES + PROCESS_PAGES)
#define PROCESS_STRETCHES 3

static void process_make(uint32_t env, uint32_t thread, uint64_t frame)
{
    static const uint64_t at[PROCESS_STRETCHES] = {0x400000, 0x7fe00000, 0x7f0000000000};
    static const unsigned levels[PROCESS_STRETCHES] = {3, 2, 3};
    exo_env_make(env, exo.pool.sel, frame, PROCESS_ENV - 3, 0);
    exo_cap_derive(exo.pool.sel, EXO_REF(env, 1), RW | EXO_OBJECT, frame, PROCESS_FRAMES);
    exo_thread_make(thread, env, 1, frame + PROCESS_ENV, exo.start.cpu);
    frame += PROCESS_ENV + PROCESS_THREAD;
    for (unsigned i = 0; i < PROCESS_STRETCHES; i++)
        for (unsigned level = levels[i]; level; level--)
            exo_pt_make(env, at[i], level, 1, frame++);
    for (unsigned i = 0; i < PROCESS_PAGES; i++)
        exo_page_bind(env, at[i % PROCESS_STRETCHES] + i / PROCESS_STRETCHES * EXO_PAGE, 1, 1,
                      frame++, RW);
    for (unsigned i = 0; i < PROCESS_STRETCHES; i++)
        MUST(exo_page_protect(env, at[i], PROCESS_PAGES / PROCESS_STRETCHES, EXO_R),
             PROCESS_PAGES / PROCESS_STRETCHES);
}

static void process_end(uint32_t env, uint32_t thread)
{
    while (exo_cap_delete(env) == -EXO_E_AGAIN)
        continue;
    while (exo_cap_delete(thread) == -EXO_E_AGAIN)
        continue;
}

static void bench_process(void)
{
    uint32_t env = (uint32_t)exo_sel_alloc(), thread = (uint32_t)exo_sel_alloc();
    uint64_t frame = (uint64_t)exo_frames_alloc(&exo.pool, PROCESS_FRAMES, 1);
    MEASURE(process_end(env, thread), process_make(env, thread, frame));
    report("process_make", median(), "instructions");
    MEASURE(process_make(env, thread, frame), process_end(env, thread));
    report("process_end", median(), "instructions");
    exo_sel_free(env);
    exo_sel_free(thread);
    exo_frames_free(&exo.pool, frame, PROCESS_FRAMES);
}

/* ---- faults: W. Appel and K. Li, Virtual memory primitives for user programs (1991) ---------- */
static enum { SKIP, BIND, UNPROTECT, SWAP } fault_mode;
static uint64_t fault_frame, other_page;
#define STORE_LENGTH 3 /* movb $1, (%reg) */

void bench_fault(struct exo_upcall_page *page)
{
    uint64_t va = page->frame.addr & -(uint64_t)EXO_PAGE;
    switch (fault_mode) {
    case SKIP:
        page->frame.rip += STORE_LENGTH;
        break;
    case BIND:
        exo_page_bind(EXO_SELF, va, 1, exo.pool.sel, fault_frame, RW);
        break;
    case UNPROTECT:
        exo_page_protect(EXO_SELF, va, 1, RW);
        break;
    case SWAP:
        exo_page_protect(EXO_SELF, va, 1, RW);
        exo_page_protect(EXO_SELF, other_page, 1, EXO_R);
        break;
    }
}

static inline void store(uint64_t va) { __asm__ volatile("movb $1, (%0)" : : "a"(va) : "memory"); }

static void store_all(void)
{
    for (uint64_t i = 0; i < PAGES; i++)
        store(VA + i * EXO_PAGE);
}

static void bench_faults(uint64_t frame)
{
    set_upcall(bench_skip);
    MEASURE(NOTHING, __asm__ volatile("ud2" ::: "memory"));
    report("exception_upcall", median(), "instructions");
    set_upcall(bench_upcall);
    fault_mode = BIND;
    fault_frame = frame;
    exo_page_bind(EXO_SELF, VA, 1, exo.pool.sel, frame, RW);
    MEASURE(exo_page_unbind(EXO_SELF, VA, 1), store(VA));
    report("page_fault_map_resume", median(), "instructions");
    exo_page_unbind(EXO_SELF, VA, 1);
    MUST(exo_page_bind(EXO_SELF, VA, PAGES, exo.pool.sel, frame, EXO_R), PAGES);
    fault_mode = SKIP;
    MEASURE(NOTHING, store(VA));
    report("trap", median(), "instructions");
}

static void bench_protect(void)
{
    MEASURE(exo_page_protect(EXO_SELF, VA, 1, RW), exo_page_protect(EXO_SELF, VA, 1, EXO_R));
    report("prot1", median(), "instructions");
    MEASURE(exo_page_protect(EXO_SELF, VA, 1, EXO_R), exo_page_protect(EXO_SELF, VA, 1, RW));
    report("unprot1", median(), "instructions");
    MEASURE(exo_page_protect(EXO_SELF, VA, PAGES, RW),
            exo_page_protect(EXO_SELF, VA, PAGES, EXO_R));
    report("prot100", median(), "instructions");
    MEASURE(exo_page_protect(EXO_SELF, VA, PAGES, EXO_R),
            exo_page_protect(EXO_SELF, VA, PAGES, RW));
    report("unprot100", median(), "instructions");
    exo_page_protect(EXO_SELF, VA, PAGES, EXO_R);
    fault_mode = SWAP;
    MEASURE(exo_page_protect(EXO_SELF, VA, 1, EXO_R); other_page = VA + EXO_PAGE;
            exo_page_protect(EXO_SELF, other_page, 1, RW), store(VA));
    report("appel1", median(), "instructions");
    fault_mode = UNPROTECT;
    MEASURE(NOTHING, exo_page_protect(EXO_SELF, VA, PAGES, EXO_R); store_all());
    report("appel2", median() / PAGES, "instructions/page");
}

/* The page table that maps VA, bound read-only beside it, tells. */
#define PTE_DIRTY 0x40 /* Intel SDM vol. 3, 4.5 */
#define FAR_VA 0x0000300000000000ul

static void bench_dirty(uint64_t frame)
{
    uint64_t sel = exo.pool.sel, table = (uint64_t)exo_frames_alloc(&exo.pool, 3, 1);
    volatile uint64_t bits;
    for (unsigned level = 3; level; level--)
        MUST(exo_pt_make(EXO_SELF, FAR_VA, level, sel, table + level - 1), 0);
    MUST(exo_page_bind(EXO_SELF, FAR_VA, 1, sel, frame, RW), 1);
    MUST(exo_page_bind(EXO_SELF, VA, 1, sel, table, EXO_R), 1);
    *(volatile char *)FAR_VA = 1;
    const volatile uint64_t *entries = (const volatile uint64_t *)VA;
    uint64_t va = FAR_VA;
    __asm__ volatile("" : "+r"(va));
    MEASURE(NOTHING, bits = entries[va >> 12 & 511] & PTE_DIRTY);
    MUST(bits, PTE_DIRTY);
    report("dirty", median(), "instructions");
    MUST(exo_page_unbind(EXO_SELF, VA, 1), 1);
    MUST(exo_page_unbind(EXO_SELF, FAR_VA, 1), 1);
    for (unsigned level = 1; level <= 3; level++)
        MUST(exo_pt_unmake(EXO_SELF, FAR_VA, level), 0);
    exo_frames_free(&exo.pool, table, 3);
}

int main(struct exo_startup *start)
{
    if (!strcmp(start->args, "server")) bench_serve();
    if (!strcmp(start->args, "waiter")) kid_waiter();
    if (!strcmp(start->args, "yielder")) kid_yielder();
    MEASURE(NOTHING, NOTHING);
    empty = median_over(0);
    exo_printf("bench rdtsc_pair %lu instructions switches=0 crossings=0 flushes=0\n", empty);
    uint64_t frame = (uint64_t)exo_frames_alloc(&exo.pool, PAGES, 1);
    MUST(exo_bind(&exo.pool, VA, 1, exo.pool.sel, frame, RW), 0); /* its page tables */
    MEASURE(NOTHING, exo_null());
    report("null_call", median(), "instructions");
    bench_pages(frame);
    bench_caps(frame);
    bench_process();
    bench_faults(frame);
    bench_protect();
    set_upcall(exo_upcall_entry);
    MUST(exo_page_unbind(EXO_SELF, VA, PAGES), PAGES);
    bench_dirty(frame);
    exo_frames_free(&exo.pool, frame, PAGES);
    bench_calls();
    bench_yield();
    bench_signals();
    bench_vms();
    exo_printf("BENCH DONE\n");
    return 0;
}
