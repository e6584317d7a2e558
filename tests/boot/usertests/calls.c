/* SPDX-License-Identifier: MIT
 *
 * Protected control transfer: calls, replies, queues, items, deadlines, chains, and
 * what happens when either side dies or stops. */
#include "tests.h"

struct server {
    struct exo_task task;
    uint64_t gate;
};
#define EV_QUIT 1ul

static void echo(uint64_t badge, uint64_t word[4], uint64_t item)
{
    (void)item;
    word[0] += badge;
    word[3] ^= word[1];
}

static void serve_echo(void *unused)
{
    (void)unused;
    exo_serve(echo, EV_QUIT);
}

/* A task of ours that serves `function`; the gate carries that badge. */
static long server_make(struct server *s, void (*function)(void *), uint64_t badge)
{
    long r = exo_task_make(&s->task, exo.start.cpu);
    if (r < 0) return r;
    r = exo_gate_new(s->task.sel, badge);
    if (r < 0) return r;
    s->gate = (uint64_t)r;
    r = exo_task_start(&s->task, function, s);
    while (r == 0 && exo_thread_info(s->task.sel) != EXO_T_WAIT)
        exo_yield();
    return r;
}

static long server_end(struct server *s)
{
    exo_drop((uint32_t)s->gate);
    return exo_task_destroy(&s->task);
}

static void test_call(void)
{
    static struct server s;
    EXPECT(server_make(&s, serve_echo, 1000), 0);
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t w[4] = {i, 2 * i, 3 * i, 4 * i};
        EXPECT(exo_call(s.gate, w), 0);
        EXPECT(w[0], i + 1000);
        EXPECT(w[1], 2 * i);
        EXPECT(w[2], 3 * i);
        EXPECT(w[3], (4 * i) ^ (2 * i));
    }
    uint64_t w[4] = {0};
    EXPECT(exo_call(MEM, w), -EXO_E_KIND);
    EXPECT(exo_call(0, w), -EXO_E_SEL);
    EXPECT(exo_call(exo.start.nsel, w), -EXO_E_SEL);
    EXPECT(exo_call(UINT64_MAX, w), -EXO_E_SEL);
    EXPECT(exo_call(1ul << 32 | s.gate, w), -EXO_E_SEL);
    EXPECT(server_end(&s), 0);
}

static void test_call_stopped(void)
{
    static struct server s;
    uint64_t w[4] = {0};
    EXPECT(server_make(&s, serve_echo, 1), 0);
    EXPECT(exo_thread_stop(s.task.sel), 0);
    EXPECT(exo_call(s.gate, w), -EXO_E_STATE);
    EXPECT(server_end(&s), 0);
    EXPECT(exo_call(s.gate, w), -EXO_E_SEL);
}

static void test_call_self(void)
{
    uint64_t w[4] = {0};
    long gate = exo_gate_new(exo.start.sel_thread, 1);
    EXPECT(exo_call((uint64_t)gate, w), -EXO_E_LOOP);
    EXPECT(exo_drop((uint32_t)gate), 0);
}

static void test_call_cpu(void)
{
    NEED_CPUS(2);
    struct exo_task t;
    uint64_t w[4] = {0};
    EXPECT(exo_task_make(&t, 1), 0);
    long gate = exo_gate_new(t.sel, 1);
    EXPECT(exo_call((uint64_t)gate, w), -EXO_E_CPU);
    EXPECT(exo_yield_to(t.sel), -EXO_E_CPU);
    EXPECT(exo_drop((uint32_t)gate), 0);
    EXPECT(exo_task_destroy(&t), 0);
}

/* Callers of a busy server are served in the order they came. */
static uint32_t served[8];
static volatile uint32_t served_count;
static void note(uint64_t badge, uint64_t word[4], uint64_t item)
{
    (void)badge;
    (void)item;
    served[served_count++ % 8] = (uint32_t)word[0];
    for (int i = 0; i < 20; i++)
        exo_yield();
}
static void serve_note(void *unused)
{
    (void)unused;
    exo_serve(note, EV_QUIT);
}
static uint64_t queue_gate;
static long queue_result[4];
static void queue_caller(void *argument)
{
    uint64_t w[4] = {(uint64_t)argument, 0, 0, 0};
    queue_result[(uint64_t)argument] = exo_call(queue_gate, w);
}

static void test_call_queue(void)
{
    static struct server s;
    static struct exo_task t[4];
    served_count = 0;
    EXPECT(server_make(&s, serve_note, 1), 0);
    queue_gate = s.gate;
    for (uint64_t i = 0; i < 4; i++) {
        EXPECT(exo_task_make(&t[i], exo.start.cpu), 0);
        EXPECT(exo_task_start(&t[i], queue_caller, (void *)i), 0);
        while (exo_thread_info(t[i].sel) == EXO_T_READY)
            exo_yield();
    }
    for (unsigned i = 0; i < 4; i++)
        exo_task_join(&t[i]);
    EXPECT(served_count, 4);
    for (unsigned i = 0; i < 4; i++) {
        EXPECT(served[i], i);
        EXPECT(queue_result[i], 0);
        EXPECT(exo_task_destroy(&t[i]), 0);
    }
    EXPECT(server_end(&s), 0);
}

/* The server is destroyed with one caller being served and one waiting. */
static void hang(uint64_t badge, uint64_t word[4], uint64_t item)
{
    (void)badge;
    (void)word;
    (void)item;
    for (;;)
        exo_event_wait(1ul << 40, 0);
}
static void serve_hang(void *unused)
{
    (void)unused;
    exo_serve(hang, EV_QUIT);
}

static void test_server_dies(void)
{
    static struct server s;
    static struct exo_task t[2];
    EXPECT(server_make(&s, serve_hang, 1), 0);
    queue_gate = s.gate;
    for (uint64_t i = 0; i < 2; i++) {
        queue_result[i] = 1;
        EXPECT(exo_task_make(&t[i], exo.start.cpu), 0);
        EXPECT(exo_task_start(&t[i], queue_caller, (void *)i), 0);
        while (exo_thread_info(t[i].sel) == EXO_T_READY)
            exo_yield();
    }
    EXPECT(exo_thread_info(t[0].sel), EXO_T_CALLING);
    EXPECT(exo_thread_info(t[1].sel), EXO_T_QUEUED);
    EXPECT(server_end(&s), 0);
    for (unsigned i = 0; i < 2; i++) {
        exo_task_join(&t[i]);
        EXPECT(queue_result[i], -EXO_E_DEAD);
        EXPECT(exo_task_destroy(&t[i]), 0);
    }
}

/* A client is stopped in the middle of its call; the server's reply is void and it
 * serves the next. */
static void test_client_dies(void)
{
    static struct server s;
    static struct exo_task t;
    uint64_t w[4] = {7, 0, 0, 0};
    served_count = 0;
    EXPECT(server_make(&s, serve_note, 1), 0);
    queue_gate = s.gate;
    EXPECT(exo_task_make(&t, exo.start.cpu), 0);
    EXPECT(exo_task_start(&t, queue_caller, (void *)3), 0);
    while (exo_thread_info(t.sel) == EXO_T_READY)
        exo_yield();
    EXPECT(exo_task_destroy(&t), 0);
    EXPECT(exo_call(s.gate, w), 0);
    EXPECT(served_count, 2);
    EXPECT(server_end(&s), 0);
}

static void test_call_deadline(void)
{
    static struct server s;
    uint64_t w[4] = {0};
    EXPECT(server_make(&s, serve_hang, 1), 0);
    uint64_t start = exo_tsc();
    EXPECT(exo_call_x(s.gate, w, 0, exo_in_us(3000)), -EXO_E_TIME);
    CHECK(exo_tsc() - start >= exo_us(3000));
    EXPECT(server_end(&s), 0);
}

/* A capability travels with a call into the selector that the server opened. */
static uint64_t item_sel, item_seen;
static void take_item(uint64_t badge, uint64_t word[4], uint64_t item)
{
    (void)badge;
    item_seen = item;
    word[0] = (uint64_t)exo_cap_info(item_sel);
}
static void serve_item(void *unused)
{
    (void)unused;
    exo_thread_set(0, EXO_SET_RECEIVE, item_sel, 0);
    exo_serve(take_item, EV_QUIT);
}

static void test_call_item(void)
{
    static struct server s;
    uint64_t w[4] = {0}, a = (uint64_t)exo_sel_alloc();
    item_sel = (uint64_t)exo_sel_alloc();
    EXPECT(exo_cap_derive(MEM, a, EXO_R, exo.pool.base, 3), 0);
    EXPECT(server_make(&s, serve_item, 1), 0);
    EXPECT(exo_call_x(s.gate, w, 0, 0), 0);
    EXPECT(item_seen, 0);
    EXPECT(exo_call_x(s.gate, w, a, 0), 0);
    EXPECT(item_seen, 1);
    EXPECT(w[0] & 0xff, EXO_FRAMES);
    EXPECT(exo_cap_delete(a), -EXO_E_BUSY);
    EXPECT(exo_drop((uint32_t)a), 0);
    EXPECT(exo_cap_info(item_sel), 0);
    exo_vector_read(NULL);
    exo_sel_free((uint32_t)item_sel);
    EXPECT(server_end(&s), 0);
}

/* A chain of servers, each calling the next: EXO_CHAIN_MAX deep and no more. */
#define LINKS (EXO_CHAIN_MAX + 2)
static struct server links[LINKS];
static long deepest;
static bool chain_x; /* by the call that can take an item */
static void forward(uint64_t badge, uint64_t word[4], uint64_t item)
{
    (void)item;
    if (badge == LINKS - 1) return;
    uint64_t gate = links[badge + 1].gate;
    long r = chain_x ? exo_call_x(gate, word, 0, 0) : exo_call(gate, word);
    if (r < 0) {
        word[0] = (uint64_t)r;
        deepest = (long)badge;
    }
}
static void serve_forward(void *unused)
{
    (void)unused;
    exo_serve(forward, EV_QUIT);
}

static void test_call_chain(void)
{
    uint64_t w[4] = {0};
    deepest = -1;
    for (unsigned i = 0; i < LINKS; i++)
        EXPECT(server_make(&links[i], serve_forward, i), 0);
    for (int x = 0; x < 2; x++) {
        w[0] = 0;
        deepest = -1;
        chain_x = x;
        EXPECT(exo_call(links[1].gate, w), 0);
        EXPECT((long)w[0], -EXO_E_DEPTH);
        CHECK(deepest >= EXO_CHAIN_MAX - 2 && deepest <= EXO_CHAIN_MAX + 1);
    }
    w[0] = 0;
    EXPECT(exo_call(links[LINKS - 3].gate, w), 0);
    EXPECT(w[0], 0);
    for (unsigned i = 0; i < LINKS; i++)
        EXPECT(server_end(&links[i]), 0);
}

/* Two servers that call one another: the second is told LOOP. */
static struct server ring[2];
static void ring_call(uint64_t badge, uint64_t word[4], uint64_t item)
{
    (void)item;
    long r = exo_call(ring[badge - 1].gate, word);
    if (r < 0) word[0] = (uint64_t)r;
}
static void serve_ring(void *unused)
{
    (void)unused;
    exo_serve(ring_call, EV_QUIT);
}
static void test_call_loop(void)
{
    uint64_t w[4] = {0};
    EXPECT(server_make(&ring[0], serve_ring, 2), 0); /* the badge says whom to call */
    EXPECT(server_make(&ring[1], serve_ring, 1), 0);
    EXPECT(exo_call(ring[0].gate, w), 0);
    EXPECT((long)w[0], -EXO_E_LOOP);
    EXPECT(server_end(&ring[0]), 0);
    EXPECT(server_end(&ring[1]), 0);
}

/* Calls between address spaces, and badges that a client cannot change. */
static uint64_t last_badge;
static void badge_server(uint64_t badge, uint64_t word[4], uint64_t item)
{
    (void)item;
    last_badge = badge;
    word[0]++;
}

long kid_call(void)
{
    uint64_t w[4] = {0x123456, 2, 3, 4}, forged = 60;
    for (int i = 0; i < 10; i++)
        if (exo_call(KID_GIVEN, w) < 0) return -1;
    if (exo_cap_derive(KID_GIVEN, forged, EXO_GATE_CALL, 99, 1) == 0 && exo_call(forged, w) == 0)
        return -2;
    return (long)w[0];
}

static void test_call_other_env(void)
{
    static struct kid k;
    EXPECT(kid_make(&k, "call", exo.start.cpu), 0);
    long gate = exo_gate_new(exo.start.sel_thread, 0);
    EXPECT(kid_give(&k, (uint32_t)gate, EXO_GATE_CALL, 4711, 1), KID_GIVEN);
    EXPECT(kid_start(&k), 0);
    exo_serve(badge_server, EXO_EV_FAULT);
    EXPECT(kid_wait(&k, KID_TIME), 0x123456 + 10);
    EXPECT(last_badge, 4711);
    EXPECT(kid_end(&k), 0);
    EXPECT(exo_drop((uint32_t)gate), 0);
}

long kid_echo(void) { return exo_serve(echo, EV_QUIT); }

/* Killing an env in the middle of a call, from the other side. */
static void test_kill_in_call(void)
{
    static struct kid k;
    EXPECT(kid_make(&k, "call", exo.start.cpu), 0);
    static struct server s;
    EXPECT(server_make(&s, serve_hang, 5), 0);
    EXPECT(kid_give(&k, (uint32_t)s.gate, EXO_GATE_CALL, 8, 1), -EXO_E_RANGE); /* has a badge */
    uint64_t gate = (uint64_t)exo_gate_new(s.task.sel, 0);
    EXPECT(kid_give(&k, (uint32_t)gate, EXO_GATE_CALL, 8, 1), KID_GIVEN);
    EXPECT(kid_start(&k), 0);
    while (exo_thread_info(k.child.thread) != EXO_T_CALLING)
        exo_yield();
    EXPECT(kid_end(&k), 0);
    EXPECT(exo_drop((uint32_t)gate), 0);
    EXPECT(server_end(&s), 0);
}

const struct test call_tests[] = {
    {"call", test_call},
    {"call_stopped", test_call_stopped},
    {"call_self", test_call_self},
    {"call_cpu", test_call_cpu},
    {"call_queue", test_call_queue},
    {"server_dies", test_server_dies},
    {"client_dies", test_client_dies},
    {"call_deadline", test_call_deadline},
    {"call_item", test_call_item},
    {"call_chain", test_call_chain},
    {"call_loop", test_call_loop},
    {"call_other_env", test_call_other_env},
    {"kill_in_call", test_kill_in_call},
    {NULL, NULL},
};
