/* SPDX-License-Identifier: MIT
 *
 * Events and upcalls. A thread's pending events are the bits in its upcall page, set
 * by anyone with a locked or, cleared by the owner or by being waited for.
 *
 * A thread that waits (EVENT, WAIT) is woken by a pending bit of its wait mask. Bits
 * of its event_mask are taken as an upcall, EXO_UP_EVENT, which clears them and tells
 * them in frame.addr. If such a bit comes while it waits, the wait ends first, with no
 * events (event_wait: 0; reply_wait: 1 and rdi = 0), and the upcall is entered on top;
 * the waiting code waits anew. In a call the upcall is taken when the reply comes; in
 * the upcall handler, when that is left.
 *
 * The kernel looks at event_mask when a bit is raised and when a handler is left.
 * Whoever sets bits of its own mask looks at its own pending events.
 *
 * Locking: run state is the CPU's own; a raise for another CPU's thread sets the bits
 * and leaves the rest to that CPU (THREAD_REQ_WAKE).
 */
#include "thread.h"

/*@ requires \valid_read(page);
    assigns \nothing; */
static uint64_t pending(const struct exo_upcall_page *page)
{
    return fetch(&page->events) & fetch(&page->event_mask);
}

/* Ends t's wait with `events`. */
/*@ requires a_thread(t); KEEPS */
static void wait_end(struct thread *t, uint64_t events)
{
    if (t->state == EXO_T_EVENT)
        thread_result(t, (long)events);
    else
        wait_leave(t, events);
    t->state = EXO_T_READY;
    if (t->timeout != 0) timeout_set(t, 0);
    sched_wake(t);
}

/*@ requires a_thread(t) && a_page(page); KEEPS */
static inline void check(struct thread *t, struct exo_upcall_page *page)
{
    bool waits = t->state == EXO_T_EVENT || t->state == EXO_T_WAIT;
    if (waits && (fetch(&page->events) & t->wait_mask) != 0) {
        uint64_t got = clear_shared(&page->events, t->wait_mask) & t->wait_mask;
        if (got != 0) {
            wait_end(t, got);
            waits = false;
        }
    }
    if (pending(page) == 0 || t->upcall_entry == 0) return;
    t->slow |= SLOW_EVENT;
    if (waits)
        wait_end(t, 0);
    else if (this_cpu()->cur == t->self)
        this_cpu()->resched |= RESCHED_EXIT;
}

void event_check(struct thread *t) { check(t, &upcalls[t->upcall]); }

/*@ requires f < OBJECT_END; KEEPS */
static inline void raise(frame_t f, uint64_t bits)
{
    struct thread *t = &threads[f];
    struct exo_upcall_page *page = &upcalls[t->upcall];
    or_shared(&page->events, bits);
    if (t->cpu == this_cpu()->id)
        check(t, page);
    else
        thread_request(f, THREAD_REQ_WAKE);
}

void event_raise(frame_t f, uint64_t bits) { raise(f, bits); }

bool upcall_enter(struct thread *t, uint64_t vector, uint64_t error, uint64_t addr)
{
    if (t->upcall_entry == 0 || t->in_handler != 0) return false;
    struct exo_frame *frame = &upcalls[t->upcall].frame;
    frame->rip = t->regs.rip;
    frame->rflags = t->regs.rflags;
    frame->rsp = t->regs.rsp;
    frame->rcx = t->regs.rcx;
    frame->r11 = t->regs.r11;
    frame->rax = t->regs.rax;
    frame->vector = vector;
    frame->error = error;
    frame->addr = addr;
    t->in_handler = 1;
    t->regs.rip = t->regs.rcx = t->upcall_entry;
    t->regs.rsp = t->upcall_sp;
    t->regs.rflags = t->regs.r11 = RFLAGS_FIXED;
    return true;
}

void event_deliver(struct thread *t)
{
    if ((t->slow & SLOW_EVENT) == 0 || t->in_handler != 0) return;
    struct exo_upcall_page *page = &upcalls[t->upcall];
    t->slow &= (uint16_t)~SLOW_EVENT;
    uint64_t mask = fetch(&page->event_mask);
    uint64_t got = clear_shared(&page->events, mask) & mask;
    if (got == 0) return;
    if (!upcall_enter(t, EXO_UP_EVENT, 0, got)) or_shared(&page->events, got);
}

/*@ KEEPS */
long sys_event_signal(uint64_t sel)
{
    const struct thread *t = this_thread();
    frame_t target;
    uint64_t bits;
    if (!cap_quick(t, sel, EXO_EVENT, EXO_EVENT_SIGNAL, &target, &bits)) {
        struct cap c;
        long r = cap_read(t->env, sel, EXO_EVENT, EXO_EVENT_SIGNAL, &c);
        return r != 0 ? r : -EXO_E_AGAIN;
    }
    raise(target, bits);
    return 0;
}

/*@ requires a_thread(t); KEEPS */
void sys_event_wait(struct thread *t)
{
    uint64_t mask = t->regs.rdi, deadline = t->regs.rsi;
    struct exo_upcall_page *page = &upcalls[t->upcall];
    if (t->in_handler != 0) {
        thread_result(t, -EXO_E_STATE);
        return;
    }
    uint64_t got = 0;
    if ((fetch(&page->events) & mask) != 0) got = clear_shared(&page->events, mask) & mask;
    if (got != 0 || (deadline != 0 && now() >= deadline)) {
        thread_result(t, (long)got);
        return;
    }
    t->state = EXO_T_EVENT;
    t->wait_mask = mask;
    timeout_set(t, deadline);
    sched_block(t);
}

/* Leaving the handler, when the assembly did not: something is pending or wrong. */
/*@ requires a_thread(t); KEEPS */
void sys_upcall_return(struct thread *t)
{
    const struct exo_upcall_page *page = &upcalls[t->upcall];
    uint64_t rip = fetch(&page->frame.rip);
    if (t->in_handler == 0 || !user_address(rip)) {
        thread_result(t, t->in_handler == 0 ? -EXO_E_STATE : -EXO_E_ARG);
        return;
    }
    t->in_handler = 0;
    t->regs.rip = rip;
    t->regs.rflags = user_flags(fetch(&page->frame.rflags));
    t->regs.rsp = fetch(&page->frame.rsp);
    t->regs.rcx = fetch(&page->frame.rcx);
    t->regs.r11 = fetch(&page->frame.r11);
    t->regs.rax = fetch(&page->frame.rax);
    if (pending(page) != 0) t->slow |= SLOW_EVENT;
}

/*@ KEEPS */
long sys_upcall_done(void)
{
    struct thread *t = this_thread();
    if (t->in_handler == 0) return -EXO_E_STATE;
    t->in_handler = 0;
    if (pending(&upcalls[t->upcall]) != 0) t->slow |= SLOW_EVENT;
    if (t->slow != 0) this_cpu()->resched |= RESCHED_EXIT;
    return 0;
}
