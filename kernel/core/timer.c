/* SPDX-License-Identifier: MIT
 *
 * Timers: for each thread one that it sets itself and one for what it waits for.
 * Both are one entry in its CPU's heap, keyed by the earlier of the two.
 *
 * The heap is a complete binary tree threaded through the threads themselves: the
 * path to the n-th place (from 1) is the bits of n below its highest, 0 left, 1 right.
 * Every loop runs once a level. No locks: the heap is its CPU's.
 */
#include "thread.h"

#define EXPIRE_MAX 8

/*@ requires f < PROOF_FRAMES;
    assigns \nothing;
    ensures \result == &threads[f]; */
static struct thread *at(frame_t f) { return &threads[f]; }

/* The link (of the CPU or of a thread) that holds place n's thread. */
/*@ requires c == &the_cpu && \valid(up) && apart(up);
    requires ok: sched_ok;
    assigns *up;
    ensures a_link(\result) && *up < OBJECT_END; */
static frame_t *heap_link(struct cpu *c, uint32_t n, frame_t *up)
{
    frame_t *link = &c->heap;
    *up = 0;
    if (n <= 1) return link;
    /*@ loop invariant -1 <= bit <= 30 && a_link(link) && *up < OBJECT_END;
        loop assigns bit, link, *up;
        loop variant bit; */
    for (int bit = 30 - __builtin_clz(n); bit >= 0; bit--) {
        *up = *link;
        link = (n >> bit & 1) != 0 ? &at(*link)->heap_right : &at(*link)->heap_left;
    }
    return link;
}

/*@ requires f < OBJECT_END; KEEPS */
static void children_adopt(frame_t f)
{
    if (at(f)->heap_left != 0) at(at(f)->heap_left)->heap_up = f;
    if (at(f)->heap_right != 0) at(at(f)->heap_right)->heap_up = f;
}

/*@ requires c == &the_cpu && f < OBJECT_END; READS
    ensures a_link(\result); */
static frame_t *parent_link(struct cpu *c, frame_t f)
{
    frame_t up = at(f)->heap_up;
    if (up == 0) return &c->heap;
    return at(up)->heap_left == f ? &at(up)->heap_left : &at(up)->heap_right;
}

/* Exchanges f with its parent. */
/*@ requires c == &the_cpu && f < OBJECT_END; KEEPS */
static void heap_rise(struct cpu *c, frame_t f)
{
    frame_t p = at(f)->heap_up;
    frame_t left = at(f)->heap_left, right = at(f)->heap_right;
    frame_t *link = parent_link(c, p);
    at(f)->heap_up = at(p)->heap_up;
    if (at(p)->heap_left == f) {
        at(f)->heap_left = p;
        at(f)->heap_right = at(p)->heap_right;
    } else {
        at(f)->heap_left = at(p)->heap_left;
        at(f)->heap_right = p;
    }
    at(p)->heap_left = left;
    at(p)->heap_right = right;
    *link = f;
    children_adopt(p);
    children_adopt(f);
}

/* Moves f, whose key changed, to where it belongs. */
/*@ requires c == &the_cpu && f < OBJECT_END; KEEPS */
static void heap_settle(struct cpu *c, frame_t f)
{
    /*@ loop invariant ok: sched_ok;
        loop assigns STATE; */
    while (at(f)->heap_up != 0 && at(at(f)->heap_up)->heap_key > at(f)->heap_key)
        heap_rise(c, f);
    /*@ loop invariant ok: sched_ok;
        loop assigns STATE; */
    for (;;) {
        frame_t least = at(f)->heap_left, right = at(f)->heap_right;
        if (least == 0) return;
        if (right != 0 && at(right)->heap_key < at(least)->heap_key) least = right;
        if (at(least)->heap_key >= at(f)->heap_key) return;
        heap_rise(c, least);
    }
}

/*@ requires c == &the_cpu && f < OBJECT_END; KEEPS */
static void heap_insert(struct cpu *c, frame_t f)
{
    frame_t up;
    frame_t *link = heap_link(c, ++c->heap_count, &up);
    *link = f;
    at(f)->heap_up = up;
    at(f)->heap_left = at(f)->heap_right = 0;
    at(f)->heap_in = 1;
    heap_settle(c, f);
}

/*@ requires c == &the_cpu && f < OBJECT_END; KEEPS */
static void heap_remove(struct cpu *c, frame_t f)
{
    frame_t up;
    frame_t *link = heap_link(c, c->heap_count--, &up);
    frame_t last = *link;
    *link = 0;
    at(f)->heap_in = 0;
    if (last == f) return;
    *parent_link(c, f) = last;
    at(last)->heap_up = at(f)->heap_up;
    at(last)->heap_left = at(f)->heap_left;
    at(last)->heap_right = at(f)->heap_right;
    children_adopt(last);
    heap_settle(c, last);
}

/*@ requires a_thread(t); KEEPS */
static void heap_update(struct thread *t)
{
    struct cpu *c = this_cpu(); /* t's, too */
    uint64_t key = TIME_NONE;
    if (t->timer != 0) key = t->timer;
    if (t->timeout != 0 && t->timeout < key) key = t->timeout;
    if (t->heap_in != 0 && key == TIME_NONE) {
        heap_remove(c, t->self);
    } else if (t->heap_in != 0 && key != t->heap_key) {
        t->heap_key = key;
        heap_settle(c, t->self);
    } else if (t->heap_in == 0 && key != TIME_NONE) {
        t->heap_key = key;
        heap_insert(c, t->self);
    }
    if (key < c->next_event) {
        c->next_event = key;
        c->resched |= RESCHED_EXIT;
    }
}

void timeout_set(struct thread *t, uint64_t deadline)
{
    if (t->timeout == deadline) return;
    t->timeout = deadline;
    heap_update(t);
}

void timers_forget(struct thread *t)
{
    t->timer = t->timeout = 0;
    heap_update(t);
}

uint64_t timers_first(const struct cpu *c)
{
    return c->heap != 0 ? at(c->heap)->heap_key : TIME_NONE;
}

/* What t waited for did not come in time. */
/*@ requires a_thread(t); KEEPS */
static void timeout_passed(struct thread *t)
{
    timeout_set(t, 0);
    switch (t->state) {
    case EXO_T_EVENT:
        t->regs.rax = 0;
        t->state = EXO_T_READY;
        sched_wake(t);
        break;
    case EXO_T_CALLING:
    case EXO_T_QUEUED:
        call_withdraw(t);
        call_fail(t, -EXO_E_TIME);
        break;
    default:
        break;
    }
}

void timers_expire(struct cpu *c, uint64_t time)
{
    /*@ loop invariant 0 <= i <= EXPIRE_MAX;
        loop invariant ok: sched_ok;
        loop assigns i, STATE;
        loop variant EXPIRE_MAX - i; */
    for (unsigned i = 0; i < EXPIRE_MAX && c->heap != 0 && at(c->heap)->heap_key <= time; i++) {
        struct thread *t = at(c->heap);
        /*@ assert here: a_thread(t); */
        if (t->timeout != 0 && t->timeout <= time) timeout_passed(t);
        if (t->timer != 0 && t->timer <= time) {
            t->timer = 0;
            heap_update(t);
            event_raise(t->self, t->timer_bits);
        }
    }
}

/*@ KEEPS */
long sys_timer_set(uint64_t deadline, uint64_t bits)
{
    if ((bits & EXO_EVENT_KERNEL) != 0) return -EXO_E_ARG;
    struct thread *t = this_thread();
    t->timer = deadline;
    t->timer_bits = bits;
    heap_update(t);
    return 0;
}
