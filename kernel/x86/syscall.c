/* SPDX-License-Identifier: MIT
 *
 * System calls above the assembly: the tables by call index, what is left to do when a
 * leaf call ends, and the one way back to user mode, which runs whom core has chosen.
 */
#include "entry.h"
#include "quiesce.h"

/* ---- tables ------------------------------------------------------------------------ */

#define CALL_LEAF(name, nargs) long sys_##name();
#define CALL_FULL(name) void sys_##name(struct thread *t);
#include "call_table.h"
#undef CALL_LEAF
#undef CALL_FULL

/* The registers that a leaf function does not take, it does not look at. */
#define CALL_LEAF(name, nargs) (void *)sys_##name,
#define CALL_FULL(name) (void *)syscall_full,
void *const call_table[] = {
#include "call_table.h"
};
#undef CALL_LEAF
#undef CALL_FULL

#define CALL_LEAF(name, nargs) NULL,
#define CALL_FULL(name) sys_##name,
call_full *const full_table[] = {
#include "call_table.h"
};

/* A number that is not ours: the thread's own library system answers it. */
void syscall_foreign(struct thread *t)
{
    t->regs.vector = EXO_UP_SYSCALL;
    t->regs.error = 0;
    fault_take(t, 0);
}

void leaf_commit(void)
{
    quiesce_pending();
    core_commit();
}

/* ---- who runs -------------------------------------------------------------------------- */

void thread_leave(frame_t f)
{
    struct percpu *p = percpu();
    if (p->cur != &threads[f]) return;
    bases_save(p->cur);
    p->cur = NULL;
}

static void thread_switch(struct percpu *p, struct thread *next)
{
    if (p->cur != NULL) bases_save(p->cur);
    p->cur = next;
    p->tss.rsp[0] = (uint64_t)(&next->regs + 1);
    cr3_follow(p, next->cr3);
    bases_load(next);
    fpu_follow(p, next);
}

/* Nobody to run: no thread's address space stays loaded. The interrupt that ends it
 * enters exit_user anew. */
static void __attribute__((noreturn)) cpu_idle(struct percpu *p)
{
    if (p->cur != NULL) bases_save(p->cur);
    p->cur = NULL;
    cr3_follow(p, kernel_cr3);
    lapic_look();
    for (;;)
        __asm__ volatile("sti\n\thlt" : : : "memory");
}

/* Core's decision who runs. */
static struct thread *choose(struct percpu *p)
{
    struct cpu *c = p->core;
    if (c->resched != 0) {
        sched_settle();
        if (c->next_event != c->armed) {
            c->armed = c->next_event;
            lapic_timer_set(c->armed == TIME_NONE ? 0 : c->armed);
        }
    }
    if (c->cur == 0) cpu_idle(p);
    return &threads[c->cur];
}

#define TURNS_MAX 16

/* A virtual CPU does not come back from here, but by an exit. One that must not run has
 * called its monitor, or stopped: each turn one thread less of them is READY. After some
 * turns interrupts get in, as from idle, before it goes on. */
struct thread *exit_prepare(void)
{
    struct percpu *p = percpu();
    struct thread *t = choose(p);
    for (unsigned turns = 0; (t->slow & SLOW_VM) != 0; t = choose(p)) {
        if (vm_enter_check(t)) vm_enter(p, t);
        if (++turns < TURNS_MAX) continue;
        ipi_cpu(p->id);
        cpu_idle(p);
    }
    if (t->slow != 0) event_deliver(t);
    if (t != p->cur) thread_switch(p, t);
    return t;
}

void sched_start(void)
{
    struct percpu *p = percpu();
    p->shown = &counters[p->id];
    p->wait_here = EXO_T_WAIT | (uint64_t)p->id << 32;
    p->calling_here = EXO_T_CALLING | (uint64_t)p->id << 32;
    p->exited_here = p->calling_here | (uint64_t)(SLOW_VM | SLOW_FAULT | SLOW_QUICK) << 48;
    p->window_threads = WINDOW_THREADS;
    p->window_caps = WINDOW_CAPS;
    p->window_upcalls = WINDOW_UPCALLS;
    p->va_end = EXO_VA_END;
    p->cr3 = cr3_read();
    p->ts_set = 0;
    fpu_follow(p, NULL);
    check_begin();
    sched_begin();
    exit_user(); /* resched is set: the slow way, with no thread to leave */
}
