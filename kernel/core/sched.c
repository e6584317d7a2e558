/* SPDX-License-Identifier: MIT
 *
 * The CPU's time. It is cut into slots; a vector of 64 goes round for ever. Whom
 * a slot belongs to is in slots[] (bind.c, written under the tree lock; read here
 * without: one word). A slot whose owner cannot run goes to the ring, one slot a turn.
 *
 * Who runs is decided by sched_choose, in this order:
 *   1. urgent: who was given the rest of this slot, by a yield or by its credit
 *   2. the slot's owner (while the slot pays a debt: whom it owes)
 *   3. whose turn of the ring this slot is (cpu.base), then the next of the ring
 *   4. nobody: idle, with no timer but the first deadline; slots passed are skipped
 * and in each case not the base itself, but the end of its chain of calls.
 *
 * Ring: the bases that may run. All READY threads' bases are in it; those that block
 * stay until their turn comes and finds them so, so that blocking and waking are cheap.
 *
 * Credit: a woken base that owns slots runs at once. On the time of the ring it does
 * so freely. The owner of a running slot it displaces only by exchange: what it uses is
 * a debt that its own next slot pays to the displaced one. One debt a thread; a firm
 * slot, and one that pays or is displaced already, is never displaced. The debt is the
 * slot's: whom that is bound to meanwhile, and what becomes of the debtor, changes nothing.
 *
 * What was given by a yield is its receiver's, unless it was the ring's time: then a woken
 * owner of slots displaces it as it does the ring.
 *
 * The assembly paths change cpu.cur alone; cpu.base stays, whose slot it is. All is
 * this CPU's own: no locks.
 */
#include "thread.h"

#define RING_STEPS 64 /* members looked at in one decision */

/*@ requires f < PROOF_FRAMES;
    assigns \nothing;
    ensures \result == &threads[f]; */
static struct thread *at(frame_t f) { return &threads[f]; }

/* ---- chains and the ring ----------------------------------------------------------- */

frame_t chain_base(frame_t f)
{
    /*@ loop invariant 0 <= i <= RESOLVE_MAX && f < OBJECT_END;
        loop assigns i, f;
        loop variant RESOLVE_MAX - i; */
    for (unsigned i = 0; i < RESOLVE_MAX && at(f)->caller != 0; i++)
        f = at(f)->caller;
    return f;
}

frame_t chain_end(frame_t f)
{
    /*@ loop invariant 0 <= i <= RESOLVE_MAX + 1 && f < OBJECT_END;
        loop assigns i, f;
        loop variant RESOLVE_MAX + 1 - i; */
    for (unsigned i = 0; f != 0 && i <= RESOLVE_MAX; i++) {
        uint32_t state = at(f)->state;
        if (state == EXO_T_READY) return f;
        if (state != EXO_T_CALLING && state != EXO_T_QUEUED) return 0;
        f = at(f)->callee;
    }
    return 0;
}

void ring_add(struct thread *t)
{
    struct cpu *c = this_cpu();
    if (t->on_ring != 0) return;
    t->on_ring = 1;
    if (c->ring == 0) {
        c->ring = t->ring_next = t->ring_prev = t->self;
        return;
    }
    t->ring_next = c->ring;
    t->ring_prev = at(c->ring)->ring_prev;
    at(t->ring_prev)->ring_next = t->self;
    at(c->ring)->ring_prev = t->self;
}

void ring_remove(struct thread *t)
{
    struct cpu *c = this_cpu();
    if (t->on_ring == 0) return;
    t->on_ring = 0;
    if (t->ring_next == t->self) {
        c->ring = 0;
        return;
    }
    at(t->ring_prev)->ring_next = t->ring_next;
    at(t->ring_next)->ring_prev = t->ring_prev;
    if (c->ring == t->self) c->ring = t->ring_next;
}

/* The next base of the ring, other than `not`, that can run; its turn is over then. */
/*@ requires c == &the_cpu && \valid(run) && apart(run);
    requires ok: sched_ok;
    assigns STATE, *run;
    ensures still: sched_ok;
    ensures \result < OBJECT_END && *run < OBJECT_END; */
static frame_t ring_turn(struct cpu *c, frame_t not, frame_t *run)
{
    /*@ loop invariant 0 <= i <= RING_STEPS;
        loop invariant ok: sched_ok;
        loop assigns i, STATE, *run;
        loop variant RING_STEPS - i; */
    for (unsigned i = 0; i < RING_STEPS && c->ring != 0; i++) {
        frame_t f = c->ring;
        /*@ assert inside: a_thread(&threads[f]); */
        *run = at(f)->caller == 0 ? chain_end(f) : 0;
        if (*run == 0) {
            ring_remove(at(f));
            continue;
        }
        c->ring = at(f)->ring_next;
        if (f != not ) return f;
        if (at(f)->ring_next == f) break;
    }
    *run = 0;
    return 0;
}

/* ---- slots ------------------------------------------------------------------------------ */

/*@ requires c == &the_cpu && pos < EXO_SLOTS_PER_CPU; READS
    ensures \result == &slots[the_cpu.id * EXO_SLOTS_PER_CPU + pos]; */
static const struct exo_slot *slot_at(const struct cpu *c, uint32_t pos)
{
    return &slots[c->id * EXO_SLOTS_PER_CPU + pos];
}

/*@ requires c == &the_cpu && pos < EXO_SLOTS_PER_CPU; READS
    ensures \result < OBJECT_END; */
static frame_t slot_thread(const struct cpu *c, uint32_t pos)
{
    return __atomic_load_n(&slot_at(c, pos)->thread, __ATOMIC_RELAXED);
}

/* Who has this slot: its owner, or whom it owes. */
/*@ requires c == &the_cpu; READS
    ensures \result < OBJECT_END; */
static frame_t slot_owner(const struct cpu *c, uint64_t time)
{
    return c->part_to != 0 && time < c->part_end ? c->part_to : slot_thread(c, c->pos);
}

/* The urgent one has had what it had: its debt, if it ran on credit. */
/*@ requires c == &the_cpu; KEEPS */
static void urgent_end(struct cpu *c, uint64_t time)
{
    uint32_t p = c->credit_pos;
    if (time > c->slot_end) time = c->slot_end;
    if (c->credit_to != 0 && time > c->credit_from) {
        c->debt[p] = time - c->credit_from;
        c->debt_to[p] = c->credit_to;
        c->debt_by[p] = c->urgent;
        at(c->urgent)->credit_slot = 1 + p;
    }
    c->credit_to = 0;
    c->urgent = 0;
}

/* The slot that holds `time` begins. */
/*@ requires c == &the_cpu; KEEPS */
static void slot_begin(struct cpu *c, uint64_t time)
{
    uint64_t passed = 1;
    urgent_end(c, c->slot_end);
    if (time - c->slot_end >= slot_ticks) passed += (time - c->slot_end) / slot_ticks;
    c->pos = (uint32_t)((c->pos + passed) % EXO_SLOTS_PER_CPU);
    c->slot_end += passed * slot_ticks;
    c->base = 0;
    c->warned = 0;
    c->part_to = 0;
    counters[c->id].slices++;
    if (c->debt[c->pos] != 0) {
        if (c->debt_by[c->pos] != 0) at(c->debt_by[c->pos])->credit_slot = 0;
        c->part_to = c->debt_to[c->pos];
        c->part_end = c->slot_end - slot_ticks + c->debt[c->pos];
        c->debt[c->pos] = 0;
    }
}

/* ---- the decision -------------------------------------------------------------------------- */

/*@ assigns \nothing; */
static uint64_t min(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Whose slice it is now. */
/*@ requires c == &the_cpu; READS
    ensures \result < OBJECT_END; */
static frame_t slice_base(const struct cpu *c) { return c->urgent != 0 ? c->urgent : c->base; }

/* When the timer must interrupt next. */
/*@ requires c == &the_cpu; READS */
static uint64_t next_event(const struct cpu *c, uint64_t time)
{
    uint64_t next = timers_first(c);
    if (c->cur == 0) return next;
    next = min(next, c->slot_end);
    if (c->part_to != 0) next = min(next, c->part_end);
    frame_t b = slice_base(c);
    uint32_t warning = b != 0 && c->warned == 0 ? at(b)->slice_warning : 0;
    if (warning != 0 && c->slot_end - warning > time) next = min(next, c->slot_end - warning);
    return next;
}

/*@ requires c == &the_cpu && \valid(base) && apart(base);
    requires ok: sched_ok;
    assigns STATE, *base;
    ensures still: sched_ok;
    ensures \result < OBJECT_END && *base < OBJECT_END; */
static frame_t choose(struct cpu *c, uint64_t time, frame_t *base)
{
    frame_t run = chain_end(c->urgent);
    *base = c->urgent;
    if (run != 0) return run;
    if (c->urgent != 0) urgent_end(c, time);
    *base = slot_owner(c, time);
    run = chain_end(*base);
    if (run != 0) return run;
    *base = c->base;
    run = c->base != 0 && at(c->base)->on_ring != 0 ? chain_end(c->base) : 0;
    if (run == 0) *base = ring_turn(c, 0, &run);
    return run;
}

void sched_choose(void)
{
    struct cpu *c = this_cpu();
    uint64_t time = now();
    frame_t base;
    c->resched = 0;
    c->take = 0;
    if (time >= c->slot_end) slot_begin(c, time);
    if (time >= c->part_end) c->part_to = 0;
    c->cur = choose(c, time, &base);
    c->base = c->cur != 0 ? base : 0;
    counters[c->id].current = c->cur;
    if (c->cur == 0) counters[c->id].idle++;
    if (c->cur == 0 && c->ring != 0) ipi_cpu(c->id); /* RING_STEPS were not enough */
    c->next_event = next_event(c, time);
}

void sched_settle(void)
{
    struct cpu *c = this_cpu();
    if ((c->resched & RESCHED_CHOOSE) != 0) {
        sched_choose();
    } else if ((c->resched & RESCHED_TAKE) != 0) {
        c->cur = c->take;
        c->take = 0;
    }
    c->resched = 0;
}

void sched_begin(void)
{
    struct cpu *c = this_cpu();
    c->slot_end = now() + slot_ticks;
    c->next_event = TIME_NONE;
    c->resched |= RESCHED_CHOOSE;
    requests_serve();
}

void timer_interrupt(void)
{
    struct cpu *c = this_cpu();
    uint64_t time = now();
    c->armed = 0;
    timers_expire(c, time);
    if (time >= c->slot_end || (c->part_to != 0 && time >= c->part_end))
        c->resched |= RESCHED_CHOOSE;
    frame_t b = slice_base(c);
    if (b != 0 && c->warned == 0 && at(b)->slice_warning != 0 &&
        time + at(b)->slice_warning >= c->slot_end) {
        c->warned = 1;
        event_raise(b, EXO_EVENT_SLICE);
    }
    c->next_event = next_event(c, time);
}

/* ---- waking and blocking ---------------------------------------------------------------------- */

/* b's next slot, that pays for the use of this one; EXO_SLOTS_PER_CPU: it has none. */
/*@ requires c == &the_cpu; READS
    ensures \result <= EXO_SLOTS_PER_CPU; */
static uint32_t slot_next(const struct cpu *c, frame_t b)
{
    /*@ loop invariant 1 <= i <= EXO_SLOTS_PER_CPU;
        loop assigns i;
        loop variant EXO_SLOTS_PER_CPU - i; */
    for (uint32_t i = 1; i < EXO_SLOTS_PER_CPU; i++) {
        uint32_t p = (c->pos + i) % EXO_SLOTS_PER_CPU;
        if (slot_thread(c, p) == b && c->debt[p] == 0) return p;
    }
    return EXO_SLOTS_PER_CPU;
}

/* b, woken, wants a slot that `owner` has: may it? */
/*@ requires c == &the_cpu && b < OBJECT_END && owner < OBJECT_END; KEEPS */
static bool credit_take(struct cpu *c, frame_t b, frame_t owner, uint64_t time)
{
    if (c->base != owner) return true;
    if ((slot_at(c, c->pos)->flags & EXO_SLOT_FIRM) != 0 || c->part_to != 0 ||
        at(b)->credit_slot != 0)
        return false;
    uint32_t p = slot_next(c, b);
    if (p == EXO_SLOTS_PER_CPU) return false;
    c->credit_to = owner;
    c->credit_from = time;
    c->credit_pos = p;
    return true;
}

void sched_wake(struct thread *t)
{
    struct cpu *c = this_cpu();
    frame_t b = chain_base(t->self);
    ring_add(at(b));
    if (c->cur == 0) {
        c->resched |= RESCHED_CHOOSE;
        return;
    }
    if (at(b)->slots == 0) return;
    uint64_t time = now();
    frame_t owner = slot_owner(c, time);
    if (c->urgent != 0 && (c->credit_to != 0 || (owner != b && chain_end(owner) != 0))) return;
    if (owner != b && !credit_take(c, b, owner, time)) return;
    c->urgent = owner != b ? b : 0;
    if (owner == b) c->base = b;
    c->take = t->self;
    c->resched |= at(b)->slice_warning == 0 ? RESCHED_TAKE : RESCHED_CHOOSE;
}

void sched_block(struct thread *t)
{
    struct cpu *c = this_cpu();
    if (c->cur == t->self || c->take == t->self) c->resched |= RESCHED_CHOOSE;
}

void sched_forget(frame_t f)
{
    struct cpu *c = this_cpu();
    ring_remove(at(f));
    if (c->credit_to == f) c->credit_to = 0;
    if (c->urgent == f) urgent_end(c, now());
    if (c->part_to == f) c->part_to = 0;
    if (c->base == f) c->base = 0;
    /*@ loop invariant 0 <= i <= EXO_SLOTS_PER_CPU;
        loop invariant ok: sched_ok;
        loop assigns i, STATE;
        loop variant EXO_SLOTS_PER_CPU - i; */
    for (unsigned i = 0; i < EXO_SLOTS_PER_CPU; i++) {
        /*@ assert debts: the_cpu.debt_by[i] < OBJECT_END; */
        if (c->debt_to[i] == f) {
            if (c->debt[i] != 0 && c->debt_by[i] != 0) at(c->debt_by[i])->credit_slot = 0;
            c->debt[i] = c->debt_to[i] = c->debt_by[i] = 0;
        }
        if (c->debt_by[i] == f) c->debt_by[i] = 0;
    }
}

/* ---- system calls ---------------------------------------------------------------------------------- */

/* The rest of the slot is b's; on credit it is not the giver's, but its owner's again. */
/*@ requires c == &the_cpu && b < OBJECT_END && run < OBJECT_END; KEEPS */
static void slice_give(struct cpu *c, frame_t b, frame_t run)
{
    if (c->credit_to != 0) {
        urgent_end(c, now());
        c->resched |= RESCHED_CHOOSE;
        return;
    }
    c->urgent = b;
    c->cur = run;
}

/*@ requires a_thread(t); KEEPS */
void sys_yield(struct thread *t)
{
    struct cpu *c = this_cpu();
    frame_t run, base = chain_base(t->self);
    thread_result(t, 0);
    frame_t next = ring_turn(c, base, &run);
    if (next != 0) slice_give(c, next, run);
}

/*@ requires a_thread(t); KEEPS */
static __attribute__((noinline, cold)) void yield_to(struct thread *t)
{
    struct cpu *c = this_cpu();
    frame_t f;
    long r = thread_find(t->regs.rdi, EXO_THREAD_YIELD, &f);
    if (r == 0 && at(f)->cpu != c->id) r = -EXO_E_CPU;
    frame_t run = r == 0 ? chain_end(f) : 0;
    if (r == 0 && run == 0) r = -EXO_E_STATE;
    if (r == 0) slice_give(c, f, run);
    thread_result(t, r);
}

/* The common case: to a thread that could run itself. */
/*@ requires a_thread(t); KEEPS */
void sys_yield_to(struct thread *t)
{
    struct cpu *c = this_cpu();
    frame_t f;
    uint64_t count;
    if (!cap_quick(t, t->regs.rdi, EXO_THREAD, EXO_THREAD_YIELD, &f, &count) ||
        at(f)->cpu != c->id || at(f)->state != EXO_T_READY || c->credit_to != 0) {
        yield_to(t);
        return;
    }
    c->urgent = c->cur = f;
    t->regs.rax = 0;
}
