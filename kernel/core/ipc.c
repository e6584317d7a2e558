/* SPDX-License-Identifier: MIT
 *
 * Protected control transfer: a call through a gate enters the gate's thread on the
 * caller's time; the reply gives it back. The common cases of call and reply_wait run
 * in entry.S; this file does all of them, and what it does in the common case is what
 * the assembly does (registers, states and links alike).
 *
 *      call:  C READY, S WAIT   ->  C CALLING, callee S;  S READY, caller C
 *             C READY, S busy   ->  C QUEUED at S's queue, lending its time
 *      reply: C READY again; S takes the head of its queue, or events, or is WAIT
 *
 * Words are rsi, rdx, r8, r9, r10, rbx, rbp, r12..r15. With an item r14, r15 are none.
 * A call whose client dies, is stopped or times out goes on; its reply is void, and the
 * server is a base of its own. A server that dies gives its callers -EXO_E_DEAD.
 *
 * Chains end: a call is refused if following its server's own calls leads back to the
 * caller, or does not end within RESOLVE_MAX steps. A reply is given away only to
 * a thread that makes no call itself.
 *
 * Locking: all threads of a chain are this CPU's; cap_read and cap_hand_over see to
 * theirs.
 */
#include "thread.h"

#include "vm.h"

/*@ requires f < PROOF_FRAMES;
    assigns \nothing;
    ensures \result == &threads[f]; */
static struct thread *at(frame_t f) { return &threads[f]; }

/* ---- words --------------------------------------------------------------------------- */

/*@ requires (\exists integer x; 0 <= x < OBJECT_END && to == &threads[x].regs) && \valid_read(from); KEEPS */
static void words_copy(struct kregs *to, const struct kregs *from)
{
    to->rsi = from->rsi;
    to->rdx = from->rdx;
    to->r8 = from->r8;
    to->r9 = from->r9;
    to->r10 = from->r10;
    to->rbx = from->rbx;
    to->rbp = from->rbp;
    to->r12 = from->r12;
    to->r13 = from->r13;
    to->r14 = from->r14;
    to->r15 = from->r15;
}

/* What a server finds, or a client gets: its own words if it sent an item are fewer. */
/*@ requires a_thread(to) && a_thread(from); KEEPS */
static void words_send(struct thread *to, const struct thread *from, bool item)
{
    if ((from->slow & SLOW_FAULT) != 0 && (from->slow & SLOW_VM) != 0) {
        words_copy(&to->regs, &from->regs);
        vm_words(to, from);
        return;
    }
    if ((from->slow & SLOW_FAULT) != 0) {
        words_copy(&to->regs, &(const struct kregs){0});
        to->regs.rsi = from->regs.vector;
        to->regs.rdx = from->regs.error;
        to->regs.r8 = from->fault_addr;
        to->regs.r9 = from->regs.rip;
        return;
    }
    words_copy(&to->regs, &from->regs);
    if (item) to->regs.r14 = to->regs.r15 = 0;
}

/*@ requires a_thread(t); KEEPS */
static void words_clear(struct thread *t)
{
    words_copy(&t->regs, &(const struct kregs){0});
    t->regs.rdi = 0;
}

void wait_leave(struct thread *s, uint64_t events)
{
    words_clear(s);
    s->regs.rdi = events;
    s->depth = 0;
    thread_result(s, 1);
}

/* Hands over what `from` named as its item: 1 if `to` got it. */
/*@ requires a_thread(to) && a_thread(from); KEEPS_ALL */
static long item_send(struct thread *to, struct thread *from)
{
    uint32_t item = from->item;
    from->item = 0;
    if (item == 0 || to->receive_sel == 0) return 0;
    if (cap_hand_over(from->env, item, to->env, to->receive_sel) != 0) return 0;
    to->receive_sel = 0;
    return 1;
}

/* ---- the queue of a busy server ---------------------------------------------------------- */

/*@ requires a_thread(s) && a_thread(t); KEEPS */
static void queue_append(struct thread *s, struct thread *t)
{
    t->queue_next = 0;
    t->queue_prev = s->queue_tail;
    if (s->queue_tail != 0)
        at(s->queue_tail)->queue_next = t->self;
    else
        s->queue_head = t->self;
    s->queue_tail = t->self;
}

/*@ requires a_thread(s) && a_thread(t); KEEPS */
static void queue_remove(struct thread *s, struct thread *t)
{
    if (t->queue_prev != 0)
        at(t->queue_prev)->queue_next = t->queue_next;
    else
        s->queue_head = t->queue_next;
    if (t->queue_next != 0)
        at(t->queue_next)->queue_prev = t->queue_prev;
    else
        s->queue_tail = t->queue_prev;
    t->queue_next = t->queue_prev = 0;
}

/* ---- call -------------------------------------------------------------------------------- */

/* s, which waits, begins to serve t's call. */
/*@ requires a_thread(s) && a_thread(t); KEEPS_ALL */
static void call_enter(struct thread *t, struct thread *s)
{
    t->state = EXO_T_CALLING;
    t->slow &= (uint16_t)~SLOW_QUICK;
    t->callee = s->self;
    s->caller = t->self;
    s->depth = t->depth + 1;
    s->state = EXO_T_READY;
    words_send(s, t, (t->slow & SLOW_CALL) != 0);
    s->regs.rip = t->call_entry;
    s->regs.rdi = t->call_badge;
    thread_result(s, item_send(s, t));
}

/* 0 if t may call s now or queue for it. */
/*@ requires a_thread(s) && a_thread(t); READS */
static long call_check(const struct thread *t, const struct thread *s)
{
    if (s->cpu != this_cpu()->id) return -EXO_E_CPU;
    if (s == t) return -EXO_E_LOOP;
    if (s->state == EXO_T_STOPPED || s->state == EXO_T_FAULTED) return -EXO_E_STATE;
    if (t->depth >= EXO_CHAIN_MAX) return -EXO_E_DEPTH;
    /*@ loop invariant 0 <= i <= RESOLVE_MAX && a_thread(s);
        loop assigns i, s;
        loop variant RESOLVE_MAX - i; */
    for (unsigned i = 0; i < RESOLVE_MAX; i++) {
        if (s->state != EXO_T_CALLING && s->state != EXO_T_QUEUED) return 0;
        s = at(s->callee);
        if (s == t) return -EXO_E_LOOP;
    }
    return -EXO_E_DEPTH;
}

/* t calls through the gate: it runs no more, or an error and nothing happened. */
/*@ requires a_thread(t); KEEPS_ALL */
static long call_make(struct thread *t, uint64_t sel, uint16_t slow, uint32_t item,
                      uint64_t deadline)
{
    struct cap gate;
    long r = cap_read(t->env, sel, EXO_GATE, EXO_GATE_CALL, &gate);
    if (r != 0) return r;
    struct thread *s = at((frame_t)gate.base);
    r = call_check(t, s);
    if (r != 0) return r;
    if (deadline != 0 && now() >= deadline) return -EXO_E_TIME;
    t->slow |= slow;
    t->item = item;
    t->call_entry = gate.count;
    t->call_badge = gate.badge;
    if (deadline != 0) timeout_set(t, deadline);
    if (s->state == EXO_T_WAIT) {
        call_enter(t, s);
        this_cpu()->cur = s->self;
        return 0;
    }
    t->state = EXO_T_QUEUED;
    t->callee = s->self;
    queue_append(s, t);
    this_cpu()->resched |= RESCHED_CHOOSE;
    return 0;
}

/*@ requires a_thread(t); KEEPS_ALL */
void sys_call(struct thread *t)
{
    long r = call_make(t, t->regs.rdi, 0, 0, 0);
    if (r != 0) thread_result(t, r);
}

/*@ requires a_thread(t); KEEPS_ALL */
void sys_call_x(struct thread *t)
{
    uint32_t item = t->regs.r14 < t->nsel ? (uint32_t)t->regs.r14 : 0;
    long r = call_make(t, t->regs.rdi, SLOW_CALL, item, t->regs.r15);
    if (r != 0) thread_result(t, r);
}

/* ---- how a call ends ------------------------------------------------------------------------- */

/* t, CALLING or QUEUED no longer, can run. */
/*@ requires a_thread(t); KEEPS */
static void call_end(struct thread *t)
{
    t->slow &= (uint16_t) ~(SLOW_CALL | SLOW_FAULT);
    t->item = 0;
    t->state = EXO_T_READY;
    timeout_set(t, 0);
}

void call_withdraw(struct thread *t)
{
    struct thread *s = at(t->callee);
    if (t->state == EXO_T_QUEUED) {
        queue_remove(s, t);
        return;
    }
    s->caller = 0;
    s->depth = 0;
    ring_add(s);
}

void call_fail(struct thread *t, long error)
{
    bool fault = (t->slow & SLOW_FAULT) != 0;
    call_end(t);
    if (fault && error == -EXO_E_DEAD) {
        t->state = EXO_T_FAULTED;
        return;
    }
    if (!fault) {
        words_clear(t);
        thread_result(t, error);
    }
    sched_wake(t);
}

bool callers_fail(struct thread *t, long error)
{
    struct thread *c = at(t->caller);
    if (t->caller != 0) {
        t->caller = 0;
        call_fail(c, error);
    }
    /*@ loop invariant 0 <= i <= EXO_LIST_MAX;
        loop invariant ok: sched_ok;
        loop assigns i, c, STATE;
        loop variant EXO_LIST_MAX - i; */
    for (unsigned i = 0; i < EXO_LIST_MAX && t->queue_head != 0; i++) {
        c = at(t->queue_head);
        queue_remove(t, c);
        call_fail(c, error);
    }
    return t->queue_head == 0;
}

/* ---- reply -------------------------------------------------------------------------------- */

/* s's caller gets its reply and runs on; or, a virtual CPU, it calls s again at once: false. */
/*@ requires a_thread(s); KEEPS_ALL */
static bool reply_send(struct thread *s, bool item)
{
    struct thread *c = at(s->caller);
    bool fault = (c->slow & SLOW_FAULT) != 0;
    if (fault && (c->slow & SLOW_VM) != 0 && !vm_reply(c, s->regs.rsi, s->regs.rdx)) {
        call_enter(c, s);
        return false;
    }
    s->caller = 0;
    if (!fault) {
        words_send(c, s, item);
        c->regs.rdi = 0;
        thread_result(c, item_send(c, s));
    }
    call_end(c);
    this_cpu()->cur = c->self;
    return true;
}

/* s has replied: the next caller, events, or it waits. */
/*@ requires a_thread(s); KEEPS_ALL */
static void reply_next(struct thread *s, uint64_t mask)
{
    struct exo_upcall_page *page = &upcalls[s->upcall];
    bool replied = this_cpu()->cur != s->self;
    uint64_t got = 0;
    s->item = 0;
    if ((fetch(&page->events) & mask) != 0) got = clear_shared(&page->events, mask) & mask;
    if (got != 0) {
        wait_leave(s, got);
        ring_add(s);
        return;
    }
    ring_remove(s); /* who is called is no base */
    if (s->queue_head != 0) {
        struct thread *c = at(s->queue_head);
        queue_remove(s, c);
        call_enter(c, s);
        ring_add(at(chain_base(s->self)));
        return;
    }
    s->wait_mask = mask;
    s->state = EXO_T_WAIT;
    if (!replied) sched_block(s);
}

/*@ requires a_thread(s); KEEPS_ALL */
static void reply_and_wait(struct thread *s, uint32_t item)
{
    if (s->in_handler != 0) {
        thread_result(s, -EXO_E_STATE);
        return;
    }
    s->item = item;
    if (s->caller != 0 && !reply_send(s, item != 0)) return;
    reply_next(s, s->regs.rdi);
}

/*@ requires a_thread(t); KEEPS_ALL */
void sys_reply_wait(struct thread *t) { reply_and_wait(t, 0); }

/*@ requires a_thread(t); KEEPS_ALL */
void sys_reply_wait_x(struct thread *t)
{
    reply_and_wait(t, t->regs.r14 < t->nsel ? (uint32_t)t->regs.r14 : 0);
}

/*@ requires a_thread(t); KEEPS */
static long reply_give(struct thread *t, uint64_t sel)
{
    frame_t f;
    long r = thread_find(sel, EXO_THREAD_CONTROL, &f);
    if (r != 0) return r;
    struct thread *u = at(f), *c = at(t->caller);
    if (u->cpu != t->cpu) return -EXO_E_CPU;
    if (t->caller == 0 || u == t || u->env != t->env || u->caller != 0) return -EXO_E_STATE;
    if (u->state != EXO_T_READY && u->state != EXO_T_EVENT) return -EXO_E_STATE;
    c->callee = f;
    u->caller = c->self;
    u->depth = t->depth;
    t->caller = 0;
    t->depth = 0;
    ring_remove(u);
    ring_add(at(chain_base(f)));
    ring_add(t);
    return 0;
}

/*@ requires a_thread(t); KEEPS */
void sys_reply_give(struct thread *t) { thread_result(t, reply_give(t, t->regs.rdi)); }

/* ---- faults ------------------------------------------------------------------------------------ */

/* Tells the event that t's env named for it, if it did; t stays stopped. */
/*@ requires a_thread(t); KEEPS */
static void fault_stop(struct thread *t)
{
    struct cap event;
    thread_stopped(t, EXO_T_FAULTED);
    if (t->fault_sel != 0 &&
        cap_read(t->env, t->fault_sel, EXO_EVENT, EXO_EVENT_SIGNAL, &event) == 0)
        event_raise((frame_t)event.base, event.count);
}

void fault_call(struct thread *t)
{
    if (t->fault_sel != 0 && call_make(t, t->fault_sel, SLOW_FAULT, 0, 0) == 0) return;
    fault_stop(t);
}

void fault_take(struct thread *t, uint64_t addr)
{
    if (upcall_enter(t, t->regs.vector, t->regs.error, addr)) return;
    t->fault_addr = addr;
    if (!canonical(t->regs.rip)) t->regs.rip = 0; /* it could not be resumed; there it faults */
    fault_call(t);
}
