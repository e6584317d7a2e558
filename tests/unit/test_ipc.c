/* SPDX-License-Identifier: MIT
 *
 * Calls, events, timers and time slots on the host: core's own functions, with the test
 * in the place of the assembly (step) and of the users. A line a test: PASS or FAIL.
 */
#include "../../kernel/core/thread.h"

long sys_thread_make(uint64_t dst, uint64_t env, uint64_t sel, uint64_t frame, uint64_t cpu);
long sys_gate_make(uint64_t dst, uint64_t thread, uint64_t entry, uint64_t badge);
long sys_event_make(uint64_t dst, uint64_t thread, uint64_t bits);
long sys_event_signal(uint64_t sel);
long sys_timer_set(uint64_t deadline, uint64_t bits);
long sys_slot_bind(uint64_t sel, uint64_t slot, uint64_t thread, uint64_t flags);
long sys_slot_unbind(uint64_t sel, uint64_t slot);
long sys_cap_delete(uint64_t ref);
long sys_thread_set(uint64_t sel, uint64_t what, uint64_t a, uint64_t b);
void sys_call(struct thread *t);
void sys_call_x(struct thread *t);
void sys_reply_wait(struct thread *t);
void sys_reply_wait_x(struct thread *t);
void sys_reply_give(struct thread *t);
void sys_event_wait(struct thread *t);
void sys_thread_start(struct thread *t);
void sys_thread_stop(struct thread *t);
void sys_yield(struct thread *t);
void sys_yield_to(struct thread *t);
void sys_upcall_return(struct thread *t);

#define THREADS 12
#define THREAD_SEL 32 /* thread i */
#define GATE_SEL 64 /* a gate into it, badge 100 + i, entry 0x1000 + i */
#define EVENT_SEL 96 /* an event of it, bits 0..7 */
#define SLOT 1000 /* ticks, as in host.c */

static unsigned failures;
static bool good;
static frame_t thread[THREADS];

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            printf("  %s:%d: %s\n", __FILE__, __LINE__, #cond);                                    \
            good = false;                                                                          \
        }                                                                                          \
    } while (0)

static struct cpu *cpu(void) { return this_cpu(); }
static struct thread *cur(void) { return &threads[cpu()->cur]; }
static struct thread *th(unsigned i) { return &threads[thread[i]]; }

/* The links of calls, queues and the ring, as thread.c's head has them. */
static void links_check(void)
{
    for (unsigned i = 0; i < THREADS; i++) {
        const struct thread *t = th(i);
        if (thread[i] == 0 || EXO_FW_TYPE(words[thread[i]]) != EXO_FT_THREAD) continue;
        if (t->state == EXO_T_READY) {
            CHECK(threads[chain_base(t->self)].on_ring == 1);
            CHECK(t->depth <= EXO_CHAIN_MAX);
        }
        if (t->caller != 0)
            CHECK(threads[t->caller].state == EXO_T_CALLING &&
                  threads[t->caller].callee == t->self);
        if (t->state == EXO_T_CALLING) CHECK(threads[t->callee].caller == t->self);
        if (t->state == EXO_T_WAIT)
            CHECK(t->caller == 0 && t->queue_head == 0 && t->in_handler == 0 && t->on_ring == 0);
        if (t->on_ring != 0) CHECK(t->caller == 0 && threads[t->ring_next].ring_prev == t->self);
        unsigned queued = 0;
        for (frame_t q = t->queue_head; q != 0 && queued <= THREADS; q = threads[q].queue_next) {
            CHECK(threads[q].state == EXO_T_QUEUED && threads[q].callee == t->self);
            queued++;
        }
        CHECK(queued <= THREADS);
        bool timed = t->timer != 0 || t->timeout != 0;
        CHECK(t->heap_in == timed);
        if (t->state != EXO_T_EVENT && t->state != EXO_T_CALLING && t->state != EXO_T_QUEUED)
            CHECK(t->timeout == 0);
        if (t->heap_up != 0 && t->heap_in != 0) CHECK(threads[t->heap_up].heap_key <= t->heap_key);
    }
    if (cpu()->cur != 0) CHECK(cur()->state == EXO_T_READY);
}

/* What exit_prepare does. */
static void step(void)
{
    sched_settle();
    links_check();
    if (cpu()->cur != 0 && cur()->slow != 0) event_deliver(cur());
    CHECK(core_invariants() == 0);
}

static void full(void (*call)(struct thread *), uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    struct thread *t = cur();
    t->regs.rdi = a;
    t->regs.rsi = b;
    t->regs.rdx = c;
    t->regs.r10 = d;
    t->regs.rip = 0x400000 + t->self;
    call(t);
    step();
}

static void tick(uint64_t ticks)
{
    host_now += ticks;
    timer_interrupt();
    step();
}

/* Makes thread i run, by hand. */
static void run(unsigned i)
{
    cpu()->urgent = 0;
    CHECK(th(i)->state == EXO_T_READY);
    cpu()->cur = cpu()->base = thread[i];
}

/* A machine with THREADS threads, of which the first `ready` wait to run; 0 runs. */
static void begin(unsigned ready)
{
    host_boot(512, 2, true);
    cpu()->cur = host_thread;
    threads[host_thread].state = EXO_T_READY;
    memset(thread, 0, sizeof thread);
    for (unsigned i = 0; i < THREADS; i++) {
        uint32_t frame = HOST_FREE + 2 * i;
        CHECK(sys_thread_make(THREAD_SEL + i, 0, HOST_RAM, frame, 0) == 0);
        CHECK(sys_gate_make(GATE_SEL + i, THREAD_SEL + i, 0x1000 + i, 100 + i) == 0);
        CHECK(sys_event_make(EVENT_SEL + i, THREAD_SEL + i, 0xff) == 0);
        thread[i] = frame;
        if (i < ready) full(sys_thread_start, THREAD_SEL + i, 0x400000, 0x500000, i);
    }
    cpu()->slot_end = host_now + SLOT;
    full(sys_thread_stop, 0, 0, 0, 0);
    if (ready != 0) run(0);
}

/* Thread i waits for calls, thread 0 runs again. */
static void serve(unsigned i)
{
    run(i);
    full(sys_reply_wait, 0, 0, 0, 0);
    CHECK(th(i)->state == EXO_T_WAIT);
    run(0);
}

static void test_call_reply(void)
{
    begin(2);
    serve(1);
    cur()->regs.r15 = 15;
    full(sys_call, GATE_SEL + 1, 7, 8, 9);
    CHECK(cur() == th(1) && cur()->regs.rip == 0x1001 && cur()->regs.rdi == 101);
    CHECK(cur()->regs.rsi == 7 && cur()->regs.rdx == 8 && cur()->regs.r10 == 9);
    CHECK(cur()->regs.r15 == 15 && cur()->regs.rax == 0 && cur()->depth == 1);
    CHECK(th(0)->state == EXO_T_CALLING && th(1)->caller == thread[0]);
    full(sys_reply_wait, 0, 70, 80, 90);
    CHECK(cur() == th(0) && cur()->regs.rax == 0 && cur()->regs.rsi == 70);
    CHECK(cur()->regs.rip == 0x400000 + thread[0] && th(1)->state == EXO_T_WAIT);
}

static void test_queue(void)
{
    begin(4);
    serve(1);
    full(sys_call, GATE_SEL + 1, 1, 0, 0);
    run(2);
    full(sys_call, GATE_SEL + 1, 2, 0, 0);
    CHECK(th(2)->state == EXO_T_QUEUED);
    run(3);
    full(sys_call, GATE_SEL + 1, 3, 0, 0);
    CHECK(th(1)->queue_head == thread[2] && th(1)->queue_tail == thread[3]);
    CHECK(cur() == th(1)); /* on the time of one of them */
    full(sys_reply_wait, 0, 0, 0, 0);
    CHECK(cur() == th(0) && th(1)->caller == thread[2] && th(1)->regs.rsi == 2);
    CHECK(th(1)->state == EXO_T_READY && th(1)->on_ring == 0);
    full(sys_event_wait, 1, 0, 0, 0);
    CHECK(cur() == th(1));
    full(sys_reply_wait, 0, 0, 0, 0);
    CHECK(cur() == th(2) && th(1)->caller == thread[3] && th(1)->regs.rsi == 3);
}

static void test_depth(void)
{
    begin(11);
    for (unsigned i = 1; i < 11; i++)
        serve(i);
    for (unsigned i = 1; i <= EXO_CHAIN_MAX; i++) {
        full(sys_call, GATE_SEL + i, 0, 0, 0);
        CHECK(cur() == th(i) && cur()->depth == i);
    }
    full(sys_call, GATE_SEL + 9, 0, 0, 0);
    CHECK(cur() == th(8) && cur()->regs.rax == (uint64_t)-EXO_E_DEPTH);
    full(sys_call, GATE_SEL + 8, 0, 0, 0);
    CHECK(cur()->regs.rax == (uint64_t)-EXO_E_LOOP);
    CHECK(chain_base(thread[8]) == thread[0] && chain_end(thread[0]) == thread[8]);
    for (unsigned i = 8; i >= 1; i--) {
        cpu()->cur = thread[i];
        full(sys_reply_wait, 0, 0, 0, 0);
        CHECK(cpu()->cur == thread[i - 1]);
    }
}

static void test_loop(void)
{
    begin(3);
    serve(1);
    serve(2);
    full(sys_call, GATE_SEL + 1, 0, 0, 0);
    full(sys_call, GATE_SEL + 2, 0, 0, 0);
    full(sys_call, GATE_SEL + 1, 0, 0, 0);
    CHECK(cur() == th(2) && cur()->regs.rax == (uint64_t)-EXO_E_LOOP);
    full(sys_call, GATE_SEL + 0, 0, 0, 0);
    CHECK(cur() == th(2) && cur()->regs.rax == (uint64_t)-EXO_E_LOOP);
    full(sys_call, GATE_SEL + 5, 0, 0, 0);
    CHECK(cur()->regs.rax == (uint64_t)-EXO_E_STATE);
}

static void test_client_dies(void)
{
    begin(3);
    serve(1);
    full(sys_call, GATE_SEL + 1, 0, 0, 0);
    run(2);
    full(sys_thread_stop, THREAD_SEL + 0, 0, 0, 0);
    CHECK(th(0)->state == EXO_T_STOPPED && th(1)->caller == 0 && th(1)->on_ring == 1);
    CHECK(sys_cap_delete(THREAD_SEL + 0) == 0 || cpu()->pend_count != 0);
    CHECK(th(0)->gone == 1);
    full(sys_event_wait, 1, 0, 0, 0);
    CHECK(cur() == th(1));
    full(sys_reply_wait, 0, 0, 0, 0);
    CHECK(cpu()->cur == 0 && th(1)->state == EXO_T_WAIT);
}

static void test_server_dies(void)
{
    begin(4);
    serve(1);
    full(sys_call, GATE_SEL + 1, 0, 0, 0);
    run(2);
    full(sys_call, GATE_SEL + 1, 0, 0, 0);
    run(3);
    lock_tree();
    CHECK(thread_detach(thread[1]) == 0);
    unlock_tree();
    CHECK(th(0)->state == EXO_T_READY && th(0)->regs.rax == (uint64_t)-EXO_E_DEAD);
    CHECK(th(2)->state == EXO_T_READY && th(2)->regs.rax == (uint64_t)-EXO_E_DEAD);
    CHECK(th(1)->queue_head == 0 && th(1)->on_ring == 0);
}

static void test_call_timeout(void)
{
    begin(3);
    serve(1);
    cur()->regs.r14 = 0;
    cur()->regs.r15 = host_now + 300;
    full(sys_call_x, GATE_SEL + 1, 5, 0, 0);
    CHECK(cur() == th(1) && cur()->regs.rsi == 5 && cur()->regs.r15 == 0);
    tick(200);
    CHECK(cur() == th(1));
    tick(200);
    CHECK(th(0)->state == EXO_T_READY && th(0)->regs.rax == (uint64_t)-EXO_E_TIME);
    CHECK(th(1)->caller == 0 && th(1)->state == EXO_T_READY && th(1)->on_ring == 1);
    CHECK(cpu()->heap_count == 0 && th(0)->slow == 0);
}

static void test_reply_give(void)
{
    begin(3);
    serve(1);
    full(sys_call, GATE_SEL + 1, 0, 0, 0);
    full(sys_reply_give, THREAD_SEL + 2, 0, 0, 0);
    CHECK(cur()->regs.rax == 0 && th(1)->caller == 0 && th(2)->caller == thread[0]);
    CHECK(th(1)->on_ring == 1 && th(2)->on_ring == 0 && th(2)->depth == 1);
    full(sys_reply_give, THREAD_SEL + 2, 0, 0, 0);
    CHECK(cur()->regs.rax == (uint64_t)-EXO_E_STATE);
    cpu()->cur = thread[2];
    full(sys_reply_wait, 0, 44, 0, 0);
    CHECK(cur() == th(0) && cur()->regs.rsi == 44);
}

static void test_events(void)
{
    begin(2);
    full(sys_event_wait, 4, 0, 0, 0);
    CHECK(th(0)->state == EXO_T_EVENT && cur() == th(1));
    CHECK(sys_event_signal(EVENT_SEL + 0) == 0);
    CHECK(th(0)->state == EXO_T_READY && th(0)->regs.rax == 4);
    CHECK(upcalls[th(0)->upcall].events == 0xfb);
    run(0);
    full(sys_event_wait, 8, 0, 0, 0);
    CHECK(cur()->regs.rax == 8);
    full(sys_reply_wait, 0x30, 0, 0, 0);
    CHECK(cur()->regs.rax == 1 && cur()->regs.rdi == 0x30);
    full(sys_event_wait, 0x100, host_now + 10, 0, 0);
    CHECK(th(0)->state == EXO_T_EVENT);
    tick(20);
    CHECK(th(0)->state == EXO_T_READY && th(0)->regs.rax == 0);
}

static void test_upcalls(void)
{
    begin(2);
    struct exo_upcall_page *page = &upcalls[th(0)->upcall];
    CHECK(sys_thread_set(0, EXO_SET_UPCALL, 0x7000, 0x8000) == 0);
    page->event_mask = 0x0f;
    CHECK(sys_event_signal(EVENT_SEL + 0) == 0);
    step();
    CHECK(cur() == th(0) && cur()->in_handler == 1 && cur()->regs.rip == 0x7000);
    CHECK(page->frame.vector == EXO_UP_EVENT && page->frame.addr == 0x0f);
    CHECK(page->events == 0xf0);
    CHECK(sys_event_signal(EVENT_SEL + 0) == 0);
    step();
    page->frame.rip = 0x1234;
    page->frame.rflags = 0x3000 | 1;
    full(sys_upcall_return, 0, 0, 0, 0);
    CHECK(cur()->in_handler == 1 && page->frame.rip == 0x1234 && page->frame.rflags == 0x203);
    full(sys_upcall_return, 0, 0, 0, 0);
    CHECK(cur()->in_handler == 0 && cur()->regs.rip == 0x1234);
    full(sys_upcall_return, 0, 0, 0, 0);
    CHECK(cur()->regs.rax == (uint64_t)-EXO_E_STATE);
    full(sys_event_wait, 0x100, 0, 0, 0);
    run(1);
    CHECK(sys_event_signal(EVENT_SEL + 0) == 0);
    CHECK(th(0)->state == EXO_T_READY && th(0)->regs.rax == 0 && th(0)->slow == SLOW_EVENT);
}

static void test_fault_gate(void)
{
    begin(2);
    serve(1);
    CHECK(sys_thread_set(0, EXO_SET_FAULT, GATE_SEL + 1, 0) == 0);
    cur()->regs.vector = 14;
    cur()->regs.error = 6;
    cur()->regs.rip = 0x4321;
    cur()->regs.rax = 77;
    fault_take(cur(), 0xdead);
    step();
    CHECK(cur() == th(1) && cur()->regs.rsi == 14 && cur()->regs.rdx == 6);
    CHECK(cur()->regs.r8 == 0xdead && cur()->regs.r9 == 0x4321 && cur()->regs.rdi == 101);
    full(sys_reply_wait, 0, 1, 2, 3);
    CHECK(cur() == th(0) && cur()->regs.rip == 0x4321 && cur()->regs.rax == 77);
    CHECK(cur()->slow == 0);
    CHECK(sys_thread_set(0, EXO_SET_FAULT, EVENT_SEL + 2, 0) == 0);
    fault_take(cur(), 0xdead);
    step();
    CHECK(th(0)->state == EXO_T_FAULTED && upcalls[th(2)->upcall].events == 0xff);
}

static void test_timers(void)
{
    static const uint64_t order[THREADS] = {70, 20, 110, 50, 90, 10, 120, 40, 60, 30, 100, 80};
    begin(THREADS);
    uint64_t start = host_now;
    for (unsigned i = 0; i < THREADS; i++) {
        run(i);
        CHECK(sys_timer_set(start + order[i], 1ul << 40) == 0);
    }
    CHECK(cpu()->heap_count == THREADS && timers_first(cpu()) == start + 10);
    run(3);
    CHECK(sys_timer_set(0, 0) == 0);
    run(0);
    uint64_t fired = 0;
    for (uint64_t time = 10; time <= 120; time += 10) {
        tick(10);
        for (unsigned i = 0; i < THREADS; i++)
            if (i != 3) CHECK((upcalls[th(i)->upcall].events != 0) == (order[i] <= time));
        fired++;
    }
    CHECK(fired == 12 && cpu()->heap_count == 0);
}

/* Counts who runs in each of n slots. */
static void slots_run(unsigned n, unsigned count[THREADS])
{
    memset(count, 0, THREADS * sizeof *count);
    for (unsigned s = 0; s < n; s++) {
        tick(cpu()->slot_end - host_now);
        for (unsigned i = 0; i < THREADS; i++)
            count[i] += cpu()->cur == thread[i];
    }
}

static void test_slot_shares(void)
{
    unsigned count[THREADS];
    begin(4);
    for (unsigned pos = 0; pos < 16; pos++)
        CHECK(sys_slot_bind(HOST_SLOTS, pos, THREAD_SEL + (pos < 12 ? 0 : 1), 0) == 0);
    slots_run(64, count);
    CHECK(count[0] == 12 + 12 && count[1] == 4 + 12 && count[2] == 12 && count[3] == 12);
    run(0);
    full(sys_event_wait, 1, 0, 0, 0);
    slots_run(64, count);
    CHECK(count[0] == 0 && count[1] >= 4 + 19 && count[2] >= 19 && count[3] >= 19);
}

static void test_credit(void)
{
    begin(3);
    for (unsigned pos = 0; pos < EXO_SLOTS_PER_CPU; pos++)
        CHECK(sys_slot_bind(HOST_SLOTS, pos, THREAD_SEL + (pos & 1), 0) == 0);
    run(1);
    full(sys_event_wait, 1, 0, 0, 0);
    while (cpu()->pos != 2)
        tick(cpu()->slot_end - host_now);
    CHECK(cur() == th(0));
    host_now += 400;
    CHECK(sys_event_signal(EVENT_SEL + 1) == 0);
    step();
    CHECK(cur() == th(1) && cpu()->urgent == thread[1]); /* on credit */
    host_now += 100;
    full(sys_event_wait, 0x100, 0, 0, 0);
    CHECK(cur() == th(0) && th(1)->credit_slot == 1 + 3 && cpu()->debt[3] == 100);
    CHECK(sys_event_signal(EVENT_SEL + 1) == 0);
    upcalls[th(1)->upcall].events |= 0x100;
    event_check(th(1));
    step();
    CHECK(cur() == th(0)); /* one debt at most */
    tick(cpu()->slot_end - host_now);
    CHECK(cpu()->pos == 3 && cur() == th(0)); /* paid back ... */
    tick(100);
    CHECK(cpu()->pos == 3 && cur() == th(1)); /* ... and no more than that */
    CHECK(th(1)->credit_slot == 0);
}

/* Slots by turns to 0 and 1; 1, woken in a slot of 0, runs on credit for 100 ticks. */
static void credit_begin(void)
{
    begin(3);
    for (unsigned pos = 0; pos < EXO_SLOTS_PER_CPU; pos++)
        CHECK(sys_slot_bind(HOST_SLOTS, pos, THREAD_SEL + (pos & 1), 0) == 0);
    run(1);
    full(sys_event_wait, 1, 0, 0, 0);
    while (cpu()->pos != 2)
        tick(cpu()->slot_end - host_now);
    host_now += 400;
    CHECK(sys_event_signal(EVENT_SEL + 1) == 0);
    step();
    CHECK(cur() == th(1) && cpu()->urgent == thread[1] && cpu()->credit_to == thread[0]);
    host_now += 100;
}

/* What runs on credit cannot give it away: the rest of the slot is its owner's. */
static void test_credit_given(void)
{
    credit_begin();
    full(sys_yield_to, THREAD_SEL + 2, 0, 0, 0);
    CHECK(cur() == th(0) && cpu()->debt[3] == 100);
    credit_begin();
    full(sys_yield, 0, 0, 0, 0);
    CHECK(cur() == th(0) && cpu()->debt[3] == 100);
}

/* A debt is the slot's, whoever it is bound to by then, and outlives who made it. */
static void test_credit_dodged(void)
{
    credit_begin();
    full(sys_event_wait, 0x100, 0, 0, 0);
    CHECK(cur() == th(0) && cpu()->debt[3] == 100);
    CHECK(sys_slot_unbind(HOST_SLOTS, 3) == 0);
    CHECK(sys_slot_bind(HOST_SLOTS, 3, THREAD_SEL + 2, 0) == 0);
    tick(cpu()->slot_end - host_now);
    CHECK(cpu()->pos == 3 && cur() == th(0));
    tick(100);
    CHECK(cpu()->pos == 3 && cur() == th(2));
    credit_begin();
    full(sys_event_wait, 0x100, 0, 0, 0);
    CHECK(cur() == th(0));
    CHECK(sys_cap_delete(THREAD_SEL + 1) == -EXO_E_AGAIN || th(1)->gone == 1);
    CHECK(th(1)->gone == 1 && cpu()->debt[3] == 100 && cpu()->debt_by[3] == 0);
    tick(cpu()->slot_end - host_now);
    CHECK(cpu()->pos == 3 && cur() == th(0) && cpu()->part_to == thread[0]);
}

/* Who gives idle time to one another keeps no owner from running. */
static void test_idle_given(void)
{
    begin(4);
    CHECK(sys_slot_bind(HOST_SLOTS, 2, THREAD_SEL + 1, 0) == 0);
    CHECK(sys_slot_bind(HOST_SLOTS, 7, THREAD_SEL + 3, 0) == 0);
    run(1);
    full(sys_event_wait, 1, 0, 0, 0);
    run(3);
    full(sys_event_wait, 1, 0, 0, 0);
    while (cpu()->pos != 2)
        tick(cpu()->slot_end - host_now);
    full(sys_yield_to, THREAD_SEL + (cur() == th(0) ? 2 : 0), 0, 0, 0);
    CHECK(cpu()->urgent != 0);
    CHECK(sys_event_signal(EVENT_SEL + 3) == 0); /* owns another slot */
    step();
    CHECK(cur() == th(3));
    CHECK(sys_event_signal(EVENT_SEL + 1) == 0); /* owns this one */
    step();
    CHECK(cur() == th(1));
    full(sys_yield_to, THREAD_SEL + 0, 0, 0, 0); /* what it gives away stays given */
    CHECK(cur() == th(0));
}

/* A bit that ends a wait and one that is taken as an upcall, seen at the same time. */
static void test_wait_and_upcall(void)
{
    begin(2);
    run(1);
    CHECK(sys_thread_set(0, EXO_SET_UPCALL, 0x5000, 0x6000) == 0);
    upcalls[th(1)->upcall].event_mask = 2;
    full(sys_event_wait, 1, 0, 0, 0);
    CHECK(th(1)->state == EXO_T_EVENT);
    upcalls[th(1)->upcall].events = 3;
    event_check(th(1));
    CHECK(th(1)->state == EXO_T_READY && th(1)->regs.rax == 1);
    CHECK((th(1)->slow & SLOW_EVENT) != 0);
    event_deliver(th(1));
    CHECK(th(1)->regs.rip == 0x5000 && upcalls[th(1)->upcall].frame.addr == 2);
    CHECK(upcalls[th(1)->upcall].frame.rax == 1 && upcalls[th(1)->upcall].events == 0);
}

static void test_yield(void)
{
    begin(3);
    full(sys_yield_to, THREAD_SEL + 2, 0, 0, 0);
    CHECK(cur() == th(2));
    full(sys_yield_to, THREAD_SEL + 0, 0, 0, 0);
    CHECK(cur() == th(0) && th(2)->regs.rax == 0);
    full(sys_yield_to, THREAD_SEL + 7, 0, 0, 0);
    CHECK(cur() == th(0) && cur()->regs.rax == (uint64_t)-EXO_E_STATE);
    unsigned seen = 0;
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned j = 0; j < 3; j++)
            seen |= (unsigned)(cur() == th(j)) << j;
        full(sys_yield, 0, 0, 0, 0);
    }
    CHECK(seen == 7);
}

static void test_other_cpu(void)
{
    begin(2);
    host_cpu = 1;
    cpu()->cur = thread[11]; /* somebody there */
    host_ipis = 0;
    event_raise(thread[0], 3);
    event_raise(thread[0], 4);
    CHECK(host_ipis == 1 && th(0)->requests == (THREAD_REQ_WAKE | THREAD_REQ_QUEUED));
    lock_tree();
    CHECK(thread_detach(thread[1]) == -EXO_E_AGAIN);
    unlock_tree();
    host_cpu = 0;
    full(sys_event_wait, 8, 0, 0, 0);
    run(0 + (th(0)->state != EXO_T_READY));
    requests_serve();
    CHECK(cpus[0].requests == 0 && th(0)->requests == 0 && th(1)->gone == 1);
}

static void test_slice(void)
{
    begin(2);
    CHECK(sys_thread_set(0, EXO_SET_SLICE, EXO_SLOT_US / 2 + 1, 0) == -EXO_E_ARG);
    CHECK(sys_thread_set(0, EXO_SET_SLICE, EXO_SLOT_US / 5, 0) == 0);
    do
        tick(cpu()->slot_end - host_now);
    while (cur() != th(0));
    upcalls[th(0)->upcall].events = 0;
    CHECK(cpu()->next_event == cpu()->slot_end - SLOT / 5);
    tick(SLOT / 2);
    CHECK(upcalls[th(0)->upcall].events == 0);
    tick(cpu()->next_event - host_now);
    CHECK(upcalls[th(0)->upcall].events == EXO_EVENT_SLICE);
    CHECK(cpu()->next_event == cpu()->slot_end && cur() == th(0));
}

static void test_items(void)
{
    begin(2);
    CHECK(sys_thread_set(THREAD_SEL + 1, EXO_SET_RECEIVE, 200, 0) == 0);
    CHECK(sys_thread_set(0, EXO_SET_RECEIVE, 201, 0) == 0);
    serve(1);
    cur()->regs.r14 = EVENT_SEL + 5;
    cur()->regs.r15 = 0;
    full(sys_call_x, GATE_SEL + 1, 0, 0, 0);
    const struct cap *got = &caps[env_caps(host_env) + 200];
    CHECK(cur() == th(1) && cur()->regs.rax == 1 && cur()->regs.r14 == 0);
    CHECK(got->kind == EXO_EVENT && got->base == thread[5] && th(1)->receive_sel == 0);
    cur()->regs.r14 = GATE_SEL + 3;
    full(sys_reply_wait_x, 0, 0, 0, 0);
    CHECK(cur() == th(0) && cur()->regs.rax == 1 && got[1].kind == EXO_GATE);
    cur()->regs.r14 = EVENT_SEL + 5;
    full(sys_call_x, GATE_SEL + 1, 0, 0, 0);
    CHECK(cur() == th(1) && cur()->regs.rax == 0); /* it opened none */
}

static uint64_t seed;

static unsigned chance(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

/* One thing that the running thread might do. */
static void random_call(void)
{
    uint64_t i = chance(THREADS), soon = chance(2) != 0 ? host_now + 1 + chance(3000) : 0;
    switch (chance(16)) {
    case 0:
    case 1:
    case 2:
        full(sys_call, GATE_SEL + i, 1, 2, 3);
        break;
    case 3:
        cur()->regs.r14 = chance(2) != 0 ? EVENT_SEL + i : 0;
        cur()->regs.r15 = soon;
        full(sys_call_x, GATE_SEL + chance(THREADS), 1, 2, 3);
        break;
    case 4:
    case 5:
    case 6:
        full(sys_reply_wait, chance(256), 4, 5, 6);
        break;
    case 7:
        full(sys_event_wait, chance(256), soon, 0, 0);
        break;
    case 8:
        (void)sys_timer_set(soon, 1u << chance(8));
        step();
        break;
    case 9:
        full(sys_yield, 0, 0, 0, 0);
        break;
    case 10:
        full(sys_yield_to, THREAD_SEL + i, 0, 0, 0);
        break;
    case 11:
        full(sys_thread_stop, chance(4) != 0 ? 0 : THREAD_SEL + i, 0, 0, 0);
        break;
    case 12:
        full(sys_reply_give, THREAD_SEL + i, 0, 0, 0);
        break;
    case 13:
        (void)sys_thread_set(0, EXO_SET_UPCALL, chance(2) * 0x7000, 0x8000);
        upcalls[cur()->upcall].event_mask = chance(256);
        (void)sys_thread_set(0, EXO_SET_FAULT, (chance(2) != 0 ? GATE_SEL : EVENT_SEL) + i, 0);
        break;
    case 14:
        cur()->regs.vector = 14;
        fault_take(cur(), 0x1234);
        step();
        break;
    default:
        upcalls[cur()->upcall].frame.rip = 0x400000;
        full(sys_upcall_return, 0, 0, 0, 0);
        break;
    }
}

/* One thing that happens to the machine, or that somebody else does. */
static void random_happening(void)
{
    uint64_t i = chance(THREADS);
    if (chance(3) == 0) tick(1 + chance(2 * SLOT));
    event_raise(thread[i], 1u << chance(8));
    step();
    i = chance(THREADS);
    if (th(i)->state == EXO_T_STOPPED || th(i)->state == EXO_T_FAULTED) {
        thread_request(thread[i], THREAD_REQ_START);
        requests_serve();
        step();
    }
}

static void test_random(void)
{
    for (seed = 1; seed < 40 && good; seed++) {
        uint64_t kept = seed;
        begin(THREADS);
        for (unsigned pos = 0; pos < EXO_SLOTS_PER_CPU; pos += 2)
            (void)sys_slot_bind(HOST_SLOTS, pos, THREAD_SEL + chance(4),
                                chance(4) == 0 ? EXO_SLOT_FIRM : 0);
        for (unsigned n = 0; n < 3000 && good; n++) {
            if (cpu()->cur == 0 || chance(4) == 0)
                random_happening();
            else
                random_call();
        }
        if (!good) printf("  seed %lu\n", kept);
        seed = kept;
    }
}

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    {"call and reply", test_call_reply},
    {"callers queue", test_queue},
    {"depth of a chain", test_depth},
    {"loops are refused", test_loop},
    {"client dies", test_client_dies},
    {"server dies", test_server_dies},
    {"call times out", test_call_timeout},
    {"reply given away", test_reply_give},
    {"events", test_events},
    {"upcalls", test_upcalls},
    {"fault gate and event", test_fault_gate},
    {"timers in order", test_timers},
    {"shares of slots", test_slot_shares},
    {"credit", test_credit},
    {"credit is not given away", test_credit_given},
    {"debts are not dodged", test_credit_dodged},
    {"idle time given away", test_idle_given},
    {"a wait and an upcall at once", test_wait_and_upcall},
    {"yield", test_yield},
    {"end of a slice", test_slice},
    {"items", test_items},
    {"requests of other CPUs", test_other_cpu},
    {"whatever happens", test_random},
};

int main(void)
{
    for (unsigned i = 0; i < sizeof tests / sizeof *tests; i++) {
        good = true;
        host_cpu = 0;
        tests[i].run();
        failures += !good;
        printf("%s %s\n", good ? "PASS" : "FAIL", tests[i].name);
    }
    return failures != 0;
}
