/* SPDX-License-Identifier: MIT
 *
 * Contracts of what thread.c, ipc.c, sched.c, event.c, timer.c and vm.c share. They are
 * proved free of undefined behaviour, no more: what that needs is that every number that a
 * thread, a CPU or a capability of a thread holds lies within the tables (sched_ok).
 */
#ifndef THREADS_H
#define THREADS_H
#include "contracts.h"

/* Of the others only the list of requests is touched. */
extern struct cpu cpus[EXO_MAX_CPUS];
extern struct exo_cpu counters[EXO_MAX_CPUS];
struct vcpu; /* vm.h */
extern struct vcpu *const vcpus;

/* clang-format off */
/* clang-format off */
#define IN(field) (\forall integer f; 0 <= f < PROOF_FRAMES ==> threads[f].field < OBJECT_END)
/* clang-format on */
#define THREADS_IN                                                                                 \
    IN(self) && IN(env) && IN(caller) && IN(callee) && IN(queue_head) && IN(queue_tail) &&         \
        IN(queue_next) && IN(queue_prev) && IN(ring_next) && IN(ring_prev) && IN(heap_up) &&       \
        IN(heap_left) && IN(heap_right) && IN(request_next) && IN(upcall)
/* clang-format on */
/*@ predicate homes_in =
      (\forall integer f; 0 <= f < PROOF_FRAMES ==> threads[f].cpu < EXO_MAX_CPUS) &&
      (\forall integer f; 0 <= f < PROOF_FRAMES ==> threads[f].slow < 32);
    predicate cpu_in = the_cpu.cur < OBJECT_END && the_cpu.base < OBJECT_END &&
      the_cpu.ring < OBJECT_END && the_cpu.heap < OBJECT_END && the_cpu.requests < OBJECT_END &&
      the_cpu.urgent < OBJECT_END && the_cpu.credit_to < OBJECT_END && the_cpu.part_to < OBJECT_END &&
      the_cpu.take < OBJECT_END && the_cpu.credit_pos < EXO_SLOTS_PER_CPU &&
      the_cpu.pos < EXO_SLOTS_PER_CPU && the_cpu.id < EXO_MAX_CPUS && slot_ticks > 0;
    predicate debts_in = \forall integer i; 0 <= i < EXO_SLOTS_PER_CPU ==>
      the_cpu.debt_to[i] < OBJECT_END && the_cpu.debt_by[i] < OBJECT_END;
    predicate slots_in = \forall integer i; 0 <= i < EXO_MAX_CPUS * EXO_SLOTS_PER_CPU ==>
      slots[i].thread < OBJECT_END;
    predicate requests_in = \forall integer k; 0 <= k < EXO_MAX_CPUS ==>
      cpus[k].requests < OBJECT_END;
    predicate a_page{L}(struct exo_upcall_page *p) = \exists integer f; 0 <= f < PROOF_FRAMES &&
      p == &upcalls[f];
    predicate a_link{L}(frame_t *p) = p == &the_cpu.heap || \exists integer f;
      0 <= f < OBJECT_END && (p == &threads[f].heap_left || p == &threads[f].heap_right);
    predicate sched_ok = requests_in && THREADS_IN && homes_in && cpu_in && debts_in && slots_in && caps_in;
    predicate a_thread{L}(struct thread *t) = \exists integer f; 0 <= f < OBJECT_END && t == &threads[f]; */

/* To clang-format two dots are no operator, and clauses no statements. */
/* clang-format off */
/* What any of these functions may change, and what it keeps. */
#define STATE                                                                                      \
    threads[0 .. PROOF_FRAMES - 1], the_cpu, cpus[0 .. EXO_MAX_CPUS - 1], upcalls[0 .. PROOF_FRAMES - 1],                       \
        counters[0 .. EXO_MAX_CPUS - 1]
#define KEEPS requires ok: sched_ok; assigns STATE; ensures still: sched_ok;
/* ... those that hand over a capability, and that name a revoker. */
#define KEEPS_ALL                                                                                  \
    requires ok: sched_ok; assigns STATE, caps[0 .. 0xffffffff]; ensures still: sched_ok;
#define KEEPS_ENVS                                                                                 \
    requires ok: sched_ok; assigns STATE, envs[0 .. PROOF_FRAMES - 1]; ensures still: sched_ok;
#define READS requires ok: sched_ok; assigns \nothing;
/* clang-format on */

/* For env.c, revoke.c and the calls of others, which work with all of it: envs name threads
 * and sweeps that are in order, a capability's holder is an env. */
/*@ predicate envs_in = \forall integer e; 0 <= e < PROOF_FRAMES ==>
      envs[e].revoker < OBJECT_END && (env_ok(e) ==> sweep_ok(e));
    predicate holders = \forall integer c; 0 <= c < 0x100000000 && caps[c].kind != EXO_NONE ==>
      env_ok(caps[c].env);
    predicate owned = \forall integer t; 0 <= t < PROOF_FRAMES && thread_ok(t) ==>
      caps[threads[t].owner].base < OBJECT_END;
    predicate core_ok =
      invariants && sched_ok && slots_ok && envs_in && holders && owned; */
/* clang-format off */
#define CAPS caps[0 .. 0xffffffff]
#define OBJECTS                                                                                    \
    CAPS, tables[0 .. PROOF_FRAMES - 1], envs[0 .. PROOF_FRAMES - 1], slots[0 .. 2047],            \
        irqs[0 .. EXO_IRQ_COUNT - 1], vectors[0 .. PROOF_FRAMES - 1], words[0 .. 0xffffffff],      \
        blocks2m[0 .. 0xffffffff], blocks1g[0 .. 0xffffffff], lines[0 .. PROOF_FRAMES - 1]
#define ALL requires ok: core_ok; assigns STATE, OBJECTS; ensures still: core_ok;
/* ... and the reap queue, which only revoke.c sees. */
#define ALL_QUEUE                                                                                  \
    requires ok: core_ok && queue_ok; assigns STATE, OBJECTS, reap_head, reap_tail;                \
    ensures still: core_ok && queue_ok;
#define MARKS requires ok: core_ok; assigns CAPS; ensures still: core_ok;
/* clang-format on */
#define PENDING the_cpu.pend_count
#define PENDING_OLD \old(the_cpu.pend_count)

/*@ requires ok: core_ok; requires e < OBJECT_END && \valid_read(c);
    assigns STATE, vectors[0 .. PROOF_FRAMES - 1];
    ensures still: core_ok && PENDING == PENDING_OLD; */
void vector_record(frame_t e, unsigned what, const struct cap *c, uint32_t sel, uint64_t amount,
                   uint64_t deadline);
/*@ requires ok: core_ok; requires pend_room && caps[c].kind == EXO_PORTS;
    assigns CAPS, tables[0 .. PROOF_FRAMES - 1], the_cpu.pend_count,
      the_cpu.pend[the_cpu.pend_count];
    ensures still: core_ok;
    ensures done: \result != 0 ==> PENDING == PENDING_OLD; */
bool ports_forget_cap(cref_t c);
/*@ requires f < PROOF_FRAMES; assigns tables[f]; */
void root_init(frame_t f);
/*@ requires 0 < f && 1 <= n <= EXO_TAB_MAX;
    requires f + 3 + n + ((flags & ENV_VM) != 0 ? EXO_VM_ENV_FRAMES : 0) <= PROOF_FRAMES;
    requires ok: core_ok;
    assigns envs[f], tables[0 .. PROOF_FRAMES - 1];
    ensures still: core_ok; */
void env_init(frame_t f, uint32_t n, uint32_t flags, cref_t owner);
/*@ requires ok: core_ok; requires 1 <= frames <= 3 + EXO_TAB_MAX + EXO_VM_ENV_FRAMES;
    requires f + frames <= 0xffffffff && n <= EXO_TAB_MAX;
    requires owner < PROOF_FRAMES || owner == f;
    assigns STATE, words[0 .. 0xffffffff], blocks2m[0 .. 0xffffffff], blocks1g[0 .. 0xffffffff];
    ensures still: core_ok;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures there: \result == 0 ==> 0 < f && f + frames <= nframes; */
long object_type(frame_t f, uint32_t frames, frame_t owner, uint32_t n);
/*@ requires ok: core_ok; requires t < OBJECT_END && pend_room;
    assigns envs[0 .. PROOF_FRAMES - 1], the_cpu.pend_count, the_cpu.pend_all,
      the_cpu.pend[the_cpu.pend_count];
    ensures still: core_ok;
    ensures PENDING == PENDING_OLD + 1; */
void thread_free(frame_t t);
/*@ requires ok: core_ok; requires e < OBJECT_END && pend_room;
    assigns the_cpu.pend_count, the_cpu.pend_all, the_cpu.pend[the_cpu.pend_count];
    ensures still: core_ok;
    ensures PENDING == PENDING_OLD + 1; */
void env_free(frame_t e);

/* ---- thread.c ---- */
/*@ requires t < OBJECT_END; KEEPS */
void thread_request(frame_t t, uint32_t request);
/*@ KEEPS */
void requests_serve(void);
/*@ KEEPS */
void requests_cancel(void);
/*@ requires a_thread(t); KEEPS */
void thread_halt(struct thread *t);
/*@ requires a_thread(t); KEEPS */
void thread_stopped(struct thread *t, uint32_t state);

/* ---- ipc.c ---- */
/*@ requires a_thread(t); KEEPS_ALL */
void fault_take(struct thread *t, uint64_t addr);
/*@ requires a_thread(t); KEEPS_ALL */
void fault_call(struct thread *t);
/*@ requires a_thread(t); KEEPS */
void call_fail(struct thread *t, long error);
/*@ requires a_thread(s); KEEPS */
void wait_leave(struct thread *s, uint64_t events);
/*@ requires a_thread(t); KEEPS */
void call_withdraw(struct thread *t);
/*@ requires a_thread(t); KEEPS */
bool callers_fail(struct thread *t, long error);

/*@ requires a_thread(t); KEEPS_ALL */
void sys_call(struct thread *t);

/* ---- sched.c ---- */
/*@ requires a_thread(t); KEEPS */
void sched_wake(struct thread *t);
/*@ requires a_thread(t); KEEPS */
void sched_block(struct thread *t);
/*@ requires a_thread(t); KEEPS */
void ring_add(struct thread *t);
/*@ requires a_thread(t); KEEPS */
void ring_remove(struct thread *t);
/*@ requires f < OBJECT_END; READS
    ensures \result < OBJECT_END; */
frame_t chain_base(frame_t f);
/*@ requires f < OBJECT_END; READS
    ensures \result < OBJECT_END; */
frame_t chain_end(frame_t f);
/*@ requires t < OBJECT_END; KEEPS */
void sched_forget(frame_t t);
/*@ KEEPS */
void sched_begin(void);
/*@ KEEPS */
void sched_choose(void);
/*@ KEEPS */
void sched_settle(void);
/*@ KEEPS */
void timer_interrupt(void);

/* ---- timer.c ---- */
/*@ requires a_thread(t); KEEPS */
void timeout_set(struct thread *t, uint64_t deadline);
/*@ requires a_thread(t); KEEPS */
void timers_forget(struct thread *t);
/*@ requires c == &the_cpu; READS */
uint64_t timers_first(const struct cpu *c);
/*@ requires c == &the_cpu; KEEPS */
void timers_expire(struct cpu *c, uint64_t time);

/* ---- event.c ---- */
/*@ requires a_thread(t); KEEPS */
void event_check(struct thread *t);
/*@ requires a_thread(t); KEEPS */
void event_deliver(struct thread *t);
/*@ requires a_thread(t); KEEPS */
bool upcall_enter(struct thread *t, uint64_t vector, uint64_t error, uint64_t addr);
/*@ requires t < OBJECT_END; KEEPS */
void event_raise(frame_t t, uint64_t bits);
/*@ KEEPS */
long sys_event_signal(uint64_t sel);

/* ---- of core.h ---- */
/*@ requires ok: f < OBJECT_END && env < OBJECT_END; requires cpu < EXO_MAX_CPUS; KEEPS */
void thread_init(frame_t f, frame_t env, unsigned cpu, cref_t owner);
/*@ requires t < OBJECT_END; requires ok: sched_ok;
    requires slots_ok;
    assigns STATE, envs[0 .. PROOF_FRAMES - 1], slots[0 .. 2047], irqs[0 .. EXO_IRQ_COUNT - 1],
      caps[0 .. 0xffffffff];
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures still: core_ok && PENDING == PENDING_OLD; */
long thread_detach(frame_t t);
/*@ requires e < OBJECT_END && t < OBJECT_END; requires ok: sched_ok;
    assigns envs[e].revoker;
    ensures -EXO_E_NOVM <= \result <= 0; */
long revoker_set(frame_t e, frame_t t);
/*@ requires from < OBJECT_END && to < OBJECT_END; requires ok: sched_ok;
    assigns caps[0 .. 0xffffffff]; ensures still: sched_ok; */
long cap_hand_over(frame_t from, uint64_t src, frame_t to, uint64_t dst);

/* ---- vm.c ---- */
/*@ requires a_thread(t); KEEPS */
void vm_init(struct thread *t);
/*@ requires a_thread(t); KEEPS */
void vm_forget(struct thread *t);
/*@ requires a_thread(t); KEEPS */
long vm_set(struct thread *t, uint64_t what, uint64_t a, uint64_t b);
/*@ requires a_thread(t); KEEPS */
bool vm_reply(struct thread *t, uint64_t set, uint64_t get);
/*@ requires a_thread(s) && a_thread(t); KEEPS */
void vm_words(struct thread *s, const struct thread *t);

/* What the machine does with virtual CPUs. Their state (vcpus) stands nowhere in STATE: no
 * function whose behaviour could be undefined by it reads it. */
union vcpu_group;
/*@ requires a_thread(t); KEEPS */
void vcpu_init(struct thread *t);
/*@ requires a_thread(t); KEEPS */
void vcpu_forget(struct thread *t);
/*@ requires a_thread(t); KEEPS */
void vcpu_get(struct thread *t, uint32_t group, union vcpu_group *value);
/*@ requires a_thread(t); KEEPS */
void vcpu_set(struct thread *t, uint32_t group, const union vcpu_group *value);
/*@ requires a_thread(t); KEEPS */
void vcpu_fpu_flush(struct thread *t);
/*@ requires a_thread(t); KEEPS
    ensures \result < EXO_VX_COUNT; */
uint32_t vcpu_reason(struct thread *t, struct exo_vm_exit *exit);
/*@ requires env < PROOF_FRAMES; assigns \nothing; */
void msr_pass(frame_t env, uint32_t mask);

/* ---- vm_check.c ---- */
struct exo_vm_inject;
/*@ requires \valid_read(inject);
    assigns \nothing; */
int inject_check(const struct exo_vm_inject *inject, uint32_t flags, uint64_t cr0);
/*@ requires \valid_read(header + (0 .. 7));
    assigns \nothing; */
int fpu_check(const uint64_t *header, uint32_t mxcsr);

/* ---- the machine ---- */
/*@ requires f < PROOF_FRAMES; KEEPS */
void page_clear(frame_t f);
/*@ requires t < OBJECT_END; KEEPS */
void thread_leave(frame_t t);
#endif
