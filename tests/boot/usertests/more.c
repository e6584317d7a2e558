/* SPDX-License-Identifier: MIT
 *
 * The rarer calls and refusals: envs, upcall frames, slices, handed-over replies,
 * clients that run out of time. */
#include "tests.h"

#define RW (EXO_R | EXO_W)

static void test_env_errors(void)
{
    uint64_t f = frames(8), a = (uint64_t)exo_sel_alloc();
    EXPECT(exo_env_make(a, MEM, f, 0, 0), -EXO_E_ARG);
    EXPECT(exo_env_make(a, MEM, f, EXO_TAB_MAX + 1, 0), -EXO_E_ARG);
    EXPECT(exo_env_make(a, MEM, f, 1, 2), -EXO_E_ARG);
    if (exo.info->vm == 0) EXPECT(exo_env_make(a, MEM, f, 1, EXO_ENV_VM), -EXO_E_NOVM);
    EXPECT(exo_env_make(MEM, MEM, f, 1, 0), -EXO_E_FULL);
    EXPECT(exo_env_make(a, 0, f, 1, 0), -EXO_E_SEL);
    EXPECT(exo_env_make(a, exo.start.sel_thread, f, 1, 0), -EXO_E_KIND);
    EXPECT(exo_env_make(a, MEM, exo.start.memory_base + exo.start.memory_count - 3, 1, 0),
           -EXO_E_RANGE);
    EXPECT(exo_env_make(a, MEM, UINT64_MAX, 1, 0), -EXO_E_RANGE);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, f + 3, EXO_R), 1);
    EXPECT(exo_env_make(a, MEM, f, 1, 0), -EXO_E_BUSY);
    EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, 1), 1);
    EXPECT(exo_env_make(a, MEM, f, 1, 0), 0);
    EXPECT(EXO_FW_TYPE(exo.words[f]), EXO_FT_ENV);
    EXPECT(EXO_FW_TYPE(exo.words[f + 1]), EXO_FT_PT4);
    EXPECT(EXO_FW_TYPE(exo.words[f + 3]), EXO_FT_CAPS);
    for (unsigned i = 0; i < 4; i++) /* nothing of it can be written, nor its table read */
        EXPECT(i != 2 && exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, f + i, RW) > 0, 0);
    EXPECT(exo_env_make(a, MEM, f + 4, 1, 0), -EXO_E_FULL);
    EXPECT(exo_env_revoker(a, exo.start.sel_thread), -EXO_E_ARG);
    EXPECT(exo_env_revoker(MEM, 0), -EXO_E_KIND);
    EXPECT(exo_page_bind(a, TEST_VA, 1, 1, f + 5, RW), -EXO_E_SEL); /* its table is empty */
    EXPECT(exo_drop((uint32_t)a), 0);
    for (unsigned i = 0; i < 4; i++)
        EXPECT(EXO_FW_TYPE(exo.words[f + i]), EXO_FT_PLAIN);
    give_back(f, 8);
}

/* What a handler puts into its frame cannot make it more than a user. */
static uint64_t bad_rip, bad_flags;
static int bad_step;
static bool bad_frame(struct exo_frame *frame, struct exo_saved *saved)
{
    (void)saved;
    if (bad_step++ == 0) {
        uint64_t rip = frame->rip;
        frame->rip = bad_rip;
        long r = raw_call(EXO_CALL_upcall_return, 0, 0, 0, 0, 0, 0);
        if (r != -EXO_E_ARG) return false;
        frame->rip = rip + 2;
        frame->rflags = bad_flags;
    }
    return true;
}

static void test_frame_forged(void)
{
    static const uint64_t rips[] = {1ul << 47, 0xffff878000000000, UINT64_MAX, EXO_VA_END};
    bool (*before)(struct exo_frame *, struct exo_saved *) = exo_handlers.exception;
    for (unsigned i = 0; i < EXO_COUNT(rips); i++) {
        uint64_t flags;
        bad_rip = rips[i];
        bad_flags = UINT64_MAX & ~0x140100ul & ~0x400ul; /* but TF, RF, VIP, VIF, and DF */
        bad_step = 0;
        exo_handlers.exception = bad_frame;
        __asm__ volatile("ud2\n pushfq\n popq %0\n pushq $2\n popfq"
                         : "=r"(flags)
                         :
                         : "memory", "cc");
        exo_handlers.exception = before;
        EXPECT(flags & 0x3000, 0); /* IOPL */
        EXPECT(flags & 0x4000, 0); /* NT */
        EXPECT(flags & 0x200, 0x200); /* interrupts stay on */
    }
    EXPECT(raw_call(EXO_CALL_upcall_return, 0, 0, 0, 0, 0, 0), -EXO_E_STATE);
}

/* In a handler nothing may wait; upcall_done makes ordinary code of it. */
static long waited, replied, replied_x, done_once, done_twice;
static void in_handler(struct exo_frame *frame, struct exo_saved *saved)
{
    (void)frame;
    (void)saved;
    waited = exo_event_wait(1, 0);
    replied = exo_reply_wait(1);
    replied_x = exo_reply_wait_x(1, 0);
    done_once = exo_upcall_done();
    done_twice = exo_upcall_done();
    exo_event_wait(1, exo_in_us(100)); /* ordinary code may wait */
    exo_this()->done = 1;
    exo_event_signal(exo.join_event);
    for (;;)
        exo_thread_stop(0);
}

static void foreign_call(void *unused)
{
    (void)unused;
    raw_call(39, 0, 0, 0, 0, 0, 0);
}

static void test_upcall_done(void)
{
    static struct exo_task t;
    done_once = done_twice = 1;
    exo_handlers.syscall = in_handler;
    EXPECT(exo_task_make(&t, exo.start.cpu), 0);
    EXPECT(exo_task_start(&t, foreign_call, NULL), 0);
    exo_task_join(&t);
    exo_handlers.syscall = NULL;
    EXPECT(waited, -EXO_E_STATE);
    EXPECT(replied, -EXO_E_STATE);
    EXPECT(replied_x, -EXO_E_STATE);
    EXPECT(done_once, 0);
    EXPECT(done_twice, -EXO_E_STATE);
    EXPECT(exo_task_destroy(&t), 0);
}

/* The end of a slice is told beforehand to who asked. */
static void greedy(void *stop)
{
    while (!*(volatile uint32_t *)stop)
        continue;
}

static void test_slice_warning(void)
{
    static struct exo_task t;
    static volatile uint32_t stop;
    const volatile uint64_t *events = &exo_page()->events;
    EXPECT(exo_task_make(&t, exo.start.cpu), 0);
    stop = 0;
    EXPECT(exo_task_start(&t, greedy, (void *)&stop), 0);
    EXPECT(exo_thread_set(0, EXO_SET_SLICE, EXO_SLOT_US / 2 + 1, 0), -EXO_E_ARG);
    EXPECT(exo_thread_set(0, EXO_SET_SLICE, 300, 0), 0);
    for (uint64_t end = exo_in_us(1000000); !(*events & EXO_EVENT_SLICE) && exo_tsc() < end;)
        continue;
    uint64_t seen = *events;
    EXPECT(exo_thread_set(0, EXO_SET_SLICE, 0, 0), 0);
    stop = 1;
    exo_task_join(&t);
    EXPECT(exo_task_destroy(&t), 0);
    exo_page()->events = 0;
    CHECK(seen & EXO_EVENT_SLICE);
}

/* ---- calls -------------------------------------------------------------------------------- */
static struct exo_task server, worker;
static uint64_t gate, wake;
static long give_result, give_again;

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

static void give_away(uint64_t badge, uint64_t word[4], uint64_t item)
{
    (void)badge;
    (void)item;
    word[0] = 1;
    give_result = exo_reply_give(worker.sel);
    give_again = exo_reply_give(worker.sel);
    exo_event_signal(wake);
}
static void serve_giving(void *unused)
{
    (void)unused;
    exo_serve(give_away, 1);
}
static void reply_later(void *unused)
{
    (void)unused;
    exo_event_wait(2, 0);
    exo_reply_wait(4); /* replies, with words of 0, and waits */
}

static void test_reply_give(void)
{
    uint64_t w[4] = {9, 9, 9, 9};
    EXPECT(exo_reply_give(0), -EXO_E_STATE);
    EXPECT(exo_task_make(&worker, exo.start.cpu), 0);
    wake = (uint64_t)exo_event_new(worker.sel, 2);
    EXPECT(start_server(serve_giving), 0);
    EXPECT(exo_task_start(&worker, reply_later, NULL), 0);
    EXPECT(exo_call(gate, w), 0);
    EXPECT(w[0], 0); /* the worker's words, not the server's */
    EXPECT(give_result, 0);
    EXPECT(give_again, -EXO_E_STATE);
    EXPECT(exo_drop((uint32_t)wake), 0);
    EXPECT(exo_task_destroy(&worker), 0);
    end_server();
}

static void slow(uint64_t badge, uint64_t word[4], uint64_t item)
{
    (void)badge;
    (void)item;
    sleep_us(word[0]);
    word[1] = 5;
}
static void serve_slowly(void *unused)
{
    (void)unused;
    exo_serve(slow, 1);
}

/* A client that gives up does not hold the server for the next one. */
static void test_client_times_out(void)
{
    EXPECT(start_server(serve_slowly), 0);
    for (int i = 0; i < 3; i++) {
        uint64_t w[4] = {5000, 0, 0, 0}, v[4] = {0};
        EXPECT(exo_call_x(gate, w, 0, exo_in_us(1000)), -EXO_E_TIME);
        EXPECT(exo_call_x(gate, v, 0, exo_in_us(2000000)), 0);
        EXPECT(v[1], 5);
        EXPECT(exo_call(gate, v), 0);
    }
    end_server();
}

/* A selector that a client could fill is filled once, when the server opened it. */
static uint64_t open_sel, items;
static void count_items(uint64_t badge, uint64_t word[4], uint64_t item)
{
    (void)badge;
    (void)word;
    items += item;
}
static void serve_items(void *unused)
{
    (void)unused;
    exo_thread_set(0, EXO_SET_RECEIVE, open_sel, 0);
    exo_serve(count_items, 1);
}

static void test_receive_once(void)
{
    uint64_t w[4] = {0};
    items = 0;
    open_sel = (uint64_t)exo_sel_alloc();
    EXPECT(start_server(serve_items), 0);
    EXPECT(exo_call_x(gate, w, 0xffffff, 0), 0); /* forged: nothing comes */
    EXPECT(items, 0);
    EXPECT(exo_cap_info(open_sel), 0);
    for (int i = 0; i < 3; i++)
        EXPECT(exo_call_x(gate, w, exo.start.sel_console, 0), 0);
    EXPECT(items, 1);
    EXPECT(exo_cap_info(open_sel) & 0xff, EXO_PORTS);
    EXPECT(exo_drop((uint32_t)open_sel), 0);
    end_server();
}

const struct test more_tests[] = {
    {"env_errors", test_env_errors},     {"frame_forged", test_frame_forged},
    {"upcall_done", test_upcall_done},   {"slice_warning", test_slice_warning},
    {"reply_give", test_reply_give},     {"client_times_out", test_client_times_out},
    {"receive_once", test_receive_once}, {NULL, NULL},
};
