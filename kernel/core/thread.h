/* SPDX-License-Identifier: MIT
 *
 * What thread.c, ipc.c, sched.c, timer.c and event.c share, and what the machine
 * layer asks of them. All of it works on this CPU's threads with interrupts off;
 * the only thing another CPU may do to a thread is thread_request.
 *
 * Words used here:
 *   chain   client -> server -> server's server ..., linked by callee and caller
 *   base    the top of a chain, whose time the chain uses: caller is 0
 *   end     the bottom of a chain: the thread that executes, if it is READY
 */
#ifndef THREAD_H
#define THREAD_H

#include "core.h"

#define RFLAGS_FIXED 0x202ul /* bit 1 reads as one (Intel SDM vol. 1, 3.4.3), IF */
#define RFLAGS_USER 0x250dd5ul /* CF PF AF ZF SF TF DF OF RF AC ID */
#define USER_CODE 0x23 /* the selectors in a user context; percpu.h has the same */
#define USER_DATA 0x1b
#define RESOLVE_MAX (2 * EXO_CHAIN_MAX)
#define TIME_NONE UINT64_MAX

/* thread.c ---- */
/* Leaves a request to t's CPU. Any CPU. */
void thread_request(frame_t t, uint32_t request);
/* Does what other CPUs requested of this one's threads, a bounded number; the rest
 * is done at the interrupt that it sends itself. */
void requests_serve(void);
/* Takes dead threads out of this CPU's list of requests. */
void requests_cancel(void);
/* Stops a thread of this CPU wherever it is. */
void thread_halt(struct thread *t);
/* t, in no wait or call, is STOPPED or FAULTED now: others may have its registers. */
void thread_stopped(struct thread *t, uint32_t state);
/* The result of a thread's call, and registers as SYSRET leaves them. */
/*@ requires a_thread(t); KEEPS */
static inline void thread_result(struct thread *t, long value)
{
    t->regs.rax = (uint64_t)value;
    t->regs.rcx = t->regs.rip;
    t->regs.r11 = t->regs.rflags;
}
/* Can it be loaded into RIP at all? Intel SDM vol. 1, 3.3.7.1. */
/*@ assigns \nothing; */
static inline bool canonical(uint64_t va) { return (va + (1ul << 47)) >> 48 == 0; }
/* May it be loaded into RIP or RSP in user mode? */
/*@ assigns \nothing;
    ensures \result != 0 <==> va < EXO_VA_END; */
static inline bool user_address(uint64_t va) { return va < EXO_VA_END; }
/*@ assigns \nothing; */
static inline uint64_t user_flags(uint64_t flags) { return (flags & RFLAGS_USER) | RFLAGS_FIXED; }

/* The object and count of t's capability sel in the common case: it is there, of that
 * kind, with that right, and does not change meanwhile. cap_read tells why not. */
/*@ requires a_thread(t) && \valid(object) && \valid(count) && kind != EXO_NONE;
    requires ok: sched_ok;
    requires apart(object) && apart(count) && \separated(object, count);
    assigns *object, *count;
    ensures \result != 0 && EXO_THREAD <= kind <= EXO_EVENT ==> *object < OBJECT_END; */
static inline bool cap_quick(const struct thread *t, uint64_t sel, unsigned kind, unsigned right,
                             frame_t *object, uint64_t *count)
{
    if (sel >= t->nsel) return false;
    const struct cap *c = &caps[(cref_t)(t->cap_first + sel)];
    uint32_t seq = fetch32(&c->seq);
    barrier();
    if (c->kind != kind || (c->rights & right) == 0) return false;
    *object = (frame_t)c->base;
    *count = c->count;
    barrier();
    return fetch32(&c->seq) == seq;
}

/* ipc.c ---- */
/* The exception or foreign call in t->regs.vector: upcall, fault gate, or a stop. */
void fault_take(struct thread *t, uint64_t addr);
/* t's fault is known: calls its gate, or stops it and signals its event. */
void fault_call(struct thread *t);
/* t's call ends with an error (or, a fault's, just ends): it can run again. */
void call_fail(struct thread *t, long error);
/* The call of that name. */
void sys_call(struct thread *t);
/* s comes back from its reply_wait with events, or none. */
void wait_leave(struct thread *s, uint64_t events);
/* Takes t out of the call that it made: queue, or a reply that becomes void. */
void call_withdraw(struct thread *t);
/* The callers of t get an error, at most EXO_LIST_MAX of them. True when none is left. */
bool callers_fail(struct thread *t, long error);

/* sched.c ---- */
/* A thread of this CPU became READY (its state is set already). */
void sched_wake(struct thread *t);
/* t is not READY any more. */
void sched_block(struct thread *t);
/* t is (or stops being) a base that may run. */
void ring_add(struct thread *t);
void ring_remove(struct thread *t);
frame_t chain_base(frame_t t);
frame_t chain_end(frame_t t);
/* Forgets whatever the CPU's time-keeping knows of t. */
void sched_forget(frame_t t);
/* The first slot of this CPU. */
void sched_begin(void);
/* Decides who runs now: this_cpu()->cur. */
void sched_choose(void);
/* Before the kernel is left: does what resched asks. */
void sched_settle(void);
/* The timer interrupt. */
void timer_interrupt(void);

/* timer.c ---- */
/* Sets what t waits for at most (0: nothing); re-sorts it. */
void timeout_set(struct thread *t, uint64_t deadline);
void timers_forget(struct thread *t);
uint64_t timers_first(const struct cpu *c);
/* Handles at most 8 expired timers. */
void timers_expire(struct cpu *c, uint64_t time);

/* event.c ---- */
/* What pending events mean for a thread of this CPU: wake it, or mark an upcall due. */
void event_check(struct thread *t);
/* The call of that name, by the running thread. */
long sys_event_signal(uint64_t sel);
/* Enters the event upcall if one is due and the thread is not in its handler. */
void event_deliver(struct thread *t);
/* Enters the upcall handler; false when there is none, or it is entered already. */
bool upcall_enter(struct thread *t, uint64_t vector, uint64_t error, uint64_t addr);
#endif
