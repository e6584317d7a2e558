/* SPDX-License-Identifier: MIT
 *
 * Capabilities that travel with calls and replies: where they arrive is the receiver's
 * choice alone. */
#include "tests.h"

static struct exo_task server;
static uint64_t gate, go_on, item;

static long start_server(void (*function)(void *))
{
    long r = exo_task_make(&server, exo.start.cpu);
    if (r < 0) return r;
    gate = (uint64_t)exo_gate_new(server.sel, 1);
    r = exo_task_start(&server, function, NULL);
    while (r == 0 && exo_thread_info(server.sel) != EXO_T_WAIT)
        exo_yield();
    return r;
}

static void end_server(void)
{
    EXPECT(exo_drop((uint32_t)gate), 0);
    EXPECT(exo_task_destroy(&server), 0);
}

/* Replies with the item, then waits until it is told to serve on. */
static void reply_with_item(uint64_t badge, uint64_t word[4], uint64_t got)
{
    (void)badge;
    (void)word;
    (void)got;
    exo_reply_wait_x(2, item);
}
static void serve_giving(void *unused)
{
    (void)unused;
    exo_serve(reply_with_item, 1);
}

static long call_for_item(uint64_t sel)
{
    uint64_t w[4] = {1, 2, 3, 4};
    item = sel;
    long r = exo_call_x(gate, w, 0, 0);
    exo_event_signal(go_on);
    while (exo_thread_info(server.sel) != EXO_T_WAIT)
        exo_yield();
    return r;
}

static void test_reply_item(void)
{
    uint64_t into = (uint64_t)exo_sel_alloc(), a = (uint64_t)exo_sel_alloc(), count;
    EXPECT(exo_cap_derive(MEM, a, EXO_R, exo.pool.base + 5, 3), 0);
    EXPECT(start_server(serve_giving), 0);
    go_on = (uint64_t)exo_event_new(server.sel, 2);
    EXPECT(call_for_item(a), 0); /* nothing is open */
    EXPECT(exo_thread_set(0, EXO_SET_RECEIVE, into, 0), 0);
    EXPECT(call_for_item(0), 0);
    EXPECT(call_for_item(exo.start.nsel), 0);
    EXPECT(call_for_item(EXO_REF(exo.start.sel_env, a)), 0); /* no reference: a selector */
    EXPECT(exo_cap_info(into), 0);
    EXPECT(call_for_item(a), 1);
    EXPECT(exo_cap_info(into), EXO_FRAMES | EXO_R << 8);
    EXPECT(cap_base(into, &count), exo.pool.base + 5);
    EXPECT(count, 3);
    EXPECT(call_for_item(a), 0); /* it was open for one */
    EXPECT(exo_thread_set(0, EXO_SET_RECEIVE, into, 0), 0);
    EXPECT(call_for_item(a), 0); /* it is full */
    EXPECT(exo_thread_set(0, EXO_SET_RECEIVE, 0, 0), 0);
    EXPECT(exo_drop((uint32_t)a), 0);
    EXPECT(exo_cap_info(into), 0);
    exo_vector_read(NULL);
    exo_sel_free((uint32_t)into);
    EXPECT(exo_drop((uint32_t)go_on), 0);
    end_server();
}

/* ---- a hostile client ---------------------------------------------------------------------- */
static uint64_t got_items, open_into;

static void count_items(uint64_t badge, uint64_t word[4], uint64_t got)
{
    (void)badge;
    word[0] = got;
    got_items += got;
    if (word[1]) /* opens again */
        exo_thread_set(0, EXO_SET_RECEIVE, open_into, 0);
}

/* Names selectors of the server, of nobody, and empty ones; then one that it has. */
long kid_sends(void)
{
    uint64_t console = exo.start.sel_console, w[4] = {0};
    const uint64_t forged[] = {0,
                               55,
                               exo.start.nsel,
                               EXO_REF(EXO_CHILD_ENV, console),
                               EXO_REF(KID_GIVEN, console),
                               1ul << 32 | console,
                               1ul << 63 | console,
                               UINT64_MAX};
    for (unsigned i = 0; i < EXO_COUNT(forged); i++)
        if (exo_call_x(KID_GIVEN, w, forged[i], 0) != 0 || w[0]) return (long)i + 1;
    if (exo_thread_set(KID_GIVEN, EXO_SET_RECEIVE, 5, 0) != -EXO_E_KIND ||
        exo_cap_derive(console, EXO_REF(KID_GIVEN, 5), EXO_USE, 0x3f8, 1) != -EXO_E_KIND)
        return 100;
    if (exo_call_x(KID_GIVEN, w, console, 0) != 0 || w[0] != 1) return 101;
    w[1] = 1; /* the server opens the same selector again, which is full now */
    if (exo_call_x(KID_GIVEN, w, console, 0) != 0 || w[0]) return 102;
    w[1] = 0;
    if (exo_call_x(KID_GIVEN, w, EXO_CHILD_MEMORY, 0) != 0 || w[0]) return 103;
    return 0;
}

static uint32_t selectors_in_use(void)
{
    uint32_t n = 0;
    for (uint32_t s = 1; s < exo.start.nsel; s++)
        n += exo_cap_info(s) > 0;
    return n;
}

static void test_hostile_sender(void)
{
    static struct kid k;
    uint64_t count;
    got_items = 0;
    open_into = (uint64_t)exo_sel_alloc();
    EXPECT(kid_make(&k, "sends", exo.start.cpu), 0);
    uint64_t own = (uint64_t)exo_gate_new(exo.start.sel_thread, 0);
    EXPECT(kid_give(&k, (uint32_t)own, EXO_GATE_CALL, 3, 1), KID_GIVEN);
    uint32_t before = selectors_in_use();
    EXPECT(exo_thread_set(0, EXO_SET_RECEIVE, open_into, 0), 0);
    EXPECT(kid_start(&k), 0);
    exo_timer_set(exo_in_us(KID_TIME), 0x40);
    exo_serve(count_items, EXO_EV_FAULT | 0x40);
    exo_timer_set(0, 0);
    EXPECT(kid_wait(&k, KID_TIME), 0);
    EXPECT(got_items, 1);
    EXPECT(cap_base(open_into, &count), 0x3f8);
    EXPECT(selectors_in_use(), before + 1);
    EXPECT(exo_thread_set(0, EXO_SET_RECEIVE, 0, 0), 0);
    EXPECT(kid_end(&k), 0); /* what it gave was derived from its own */
    EXPECT(exo_cap_info(open_into), 0);
    exo_vector_read(NULL);
    exo_sel_free((uint32_t)open_into);
    EXPECT(exo_drop((uint32_t)own), 0);
}

const struct test item_tests[] = {
    {"reply_item", test_reply_item},
    {"hostile_sender", test_hostile_sender},
    {NULL, NULL},
};
