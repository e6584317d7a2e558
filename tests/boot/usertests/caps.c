/* SPDX-License-Identifier: MIT
 *
 * Capabilities: derive, copy, delete, revoke, info, and each refusal. */
#include "tests.h"

#define RWX (EXO_R | EXO_W | EXO_X)

static void test_null(void) { EXPECT(exo_null(), 0); }

static uint64_t reflected;
static void reflect(struct exo_frame *frame, struct exo_saved *saved)
{
    reflected = frame->rax;
    frame->rax = saved->rdi + 1;
}

static void test_foreign_calls(void)
{
    static const uint64_t numbers[] = {0,
                                       1,
                                       39,
                                       600,
                                       EXO_CALL_BASE - 1,
                                       EXO_CALL_BASE + EXO_CALL_COUNT,
                                       0x100000000 + EXO_CALL_BASE,
                                       UINT64_MAX};
    exo_handlers.syscall = reflect;
    for (unsigned i = 0; i < EXO_COUNT(numbers); i++) {
        EXPECT(raw_call(numbers[i], 41, 0, 0, 0, 0, 0), 42);
        EXPECT(reflected, numbers[i]);
    }
    exo_handlers.syscall = NULL;
}

static void test_cap_derive(void)
{
    uint64_t base = exo.pool.base, count;
    long a = exo_sel_alloc(), b = exo_sel_alloc();
    EXPECT(exo_cap_derive(MEM, (uint64_t)a, EXO_R, base + 1, 2), 0);
    EXPECT(cap_base((uint64_t)a, &count), base + 1);
    EXPECT(count, 2);
    EXPECT(exo_cap_info((uint64_t)a), EXO_FRAMES | EXO_R << 8);
    EXPECT(exo_cap_derive(MEM, (uint64_t)a, EXO_R, base, 1), -EXO_E_FULL);
    EXPECT(exo_cap_derive((uint64_t)a, (uint64_t)b, EXO_R | EXO_W, base + 1, 1), 0);
    EXPECT(exo_cap_info((uint64_t)b), EXO_FRAMES | EXO_R << 8);
    EXPECT(exo_cap_info((uint64_t)a) >> 16 & 1, 1);
    EXPECT(exo_cap_delete((uint64_t)a), -EXO_E_BUSY);
    EXPECT(exo_cap_delete((uint64_t)b), 0);
    EXPECT(exo_cap_delete((uint64_t)a), 0);
    EXPECT(exo_cap_delete((uint64_t)a), -EXO_E_SEL);
    EXPECT(exo_cap_info((uint64_t)a), 0);
    exo_sel_free((uint32_t)a);
    exo_sel_free((uint32_t)b);
}

static void test_cap_ranges(void)
{
    uint64_t base = exo.pool.base, count = exo.pool.count;
    uint64_t a = (uint64_t)exo_sel_alloc();
    EXPECT(exo_cap_derive(MEM, a, RWX, base, 0), -EXO_E_ARG);
    EXPECT(exo_cap_derive(MEM, a, RWX, base - 1, 1), -EXO_E_RANGE);
    EXPECT(exo_cap_derive(MEM, a, RWX, base, exo.start.memory_count + 1), -EXO_E_RANGE);
    EXPECT(exo_cap_derive(MEM, a, RWX, base + count - 1, UINT64_MAX), -EXO_E_RANGE);
    EXPECT(exo_cap_derive(MEM, a, RWX, base + 1, UINT64_MAX), -EXO_E_RANGE);
    EXPECT(exo_cap_derive(MEM, a, RWX, UINT64_MAX, 1), -EXO_E_RANGE);
    EXPECT(exo_cap_derive(MEM, a, RWX, base, 0 - base), -EXO_E_RANGE);
    EXPECT(exo_cap_derive(MEM, a, RWX, 1ul << 52, 1), -EXO_E_RANGE);
    EXPECT(exo_cap_info(a), 0);
    exo_sel_free((uint32_t)a);
}

static void test_cap_refs(void)
{
    uint64_t base = exo.pool.base, a = (uint64_t)exo_sel_alloc();
    uint64_t nsel = exo.start.nsel;
    EXPECT(exo_cap_derive(0, a, EXO_R, base, 1), -EXO_E_SEL);
    EXPECT(exo_cap_derive(nsel, a, EXO_R, base, 1), -EXO_E_SEL);
    EXPECT(exo_cap_derive(0xffffffff, a, EXO_R, base, 1), -EXO_E_SEL);
    EXPECT(exo_cap_derive(MEM, nsel, EXO_R, base, 1), -EXO_E_SEL);
    EXPECT(exo_cap_derive(MEM, 0, EXO_R, base, 1), -EXO_E_SEL);
    EXPECT(exo_cap_derive(MEM, EXO_REF(nsel, 5), EXO_R, base, 1), -EXO_E_SEL);
    EXPECT(exo_cap_derive(MEM, EXO_REF(MEM, 5), EXO_R, base, 1), -EXO_E_KIND);
    EXPECT(exo_cap_derive(exo.start.sel_env, a, EXO_ENV_BIND, 0, 1), 0);
    EXPECT(exo_cap_derive(MEM, EXO_REF(a, 200), EXO_R, base, 1), -EXO_E_RIGHTS);
    EXPECT(exo_cap_derive(EXO_REF(a, MEM), 200, EXO_R, base, 1), -EXO_E_RIGHTS);
    EXPECT(exo_cap_delete(EXO_REF(a, a)), -EXO_E_RIGHTS);
    EXPECT(exo_cap_revoke(EXO_REF(a, MEM), 0, 0), -EXO_E_RIGHTS);
    EXPECT(exo_cap_info(0), -EXO_E_SEL);
    EXPECT(exo_cap_info(nsel), -EXO_E_SEL);
    EXPECT(exo_cap_delete(a), 0);
    exo_sel_free((uint32_t)a);
}

static void test_cap_copy(void)
{
    uint64_t base = exo.pool.base;
    uint64_t a = (uint64_t)exo_sel_alloc(), b = (uint64_t)exo_sel_alloc();
    EXPECT(exo_cap_derive(MEM, a, EXO_R | EXO_W, base, 4), 0);
    EXPECT(exo_cap_copy(a, b, EXO_R, base, 5), -EXO_E_RANGE);
    EXPECT(exo_cap_copy(a, b, EXO_R, base, 0), -EXO_E_ARG);
    EXPECT(exo_cap_copy(a, b, EXO_R, base + 1, 2), 0);
    EXPECT(exo_cap_copy(a, b, EXO_R, base + 1, 2), -EXO_E_FULL);
    EXPECT(exo_cap_revoke(a, 0, 0), 0);
    EXPECT(exo_cap_delete(a), 0);
    EXPECT(exo_cap_info(b), EXO_FRAMES | EXO_R << 8); /* it outlives the source */
    EXPECT(exo_cap_delete(b), 0);
    exo_sel_free((uint32_t)a);
    exo_sel_free((uint32_t)b);
}

static void test_cap_copy_object(void)
{
    uint64_t frame = frames(2), a = (uint64_t)exo_sel_alloc(), b = (uint64_t)exo_sel_alloc();
    EXPECT(exo_thread_make(a, EXO_SELF, MEM, frame, exo.start.cpu), 0);
    EXPECT(exo_cap_copy(a, b, EXO_RIGHTS_ALL, 0, 1), -EXO_E_KIND);
    EXPECT(exo_cap_derive(a, b, EXO_THREAD_YIELD, 0, 1), 0);
    EXPECT(exo_thread_stop(b), -EXO_E_RIGHTS);
    long r;
    do /* destroys the thread, and with it what was derived */
        r = exo_cap_delete(a);
    while (r == -EXO_E_AGAIN);
    EXPECT(r, 0);
    EXPECT(exo_cap_info(b), 0);
    exo_sel_free((uint32_t)a);
    exo_sel_free((uint32_t)b);
    give_back(frame, 2);
}

static void test_revoke_bindings(void)
{
    uint64_t frame = frames(4), a = (uint64_t)exo_sel_alloc();
    EXPECT(exo_cap_derive(MEM, a, EXO_R | EXO_W, frame, 4), 0);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 4, a, frame, EXO_R | EXO_W), 4);
    *(volatile uint64_t *)TEST_VA = 5;
    EXPECT(exo_cap_delete(a), -EXO_E_BUSY);
    long r;
    do
        r = exo_cap_revoke(a, 0, 0);
    while (r == -EXO_E_AGAIN);
    EXPECT(r, 0);
    EXPECT(probe_read(TEST_VA, NULL), 0); /* its own bindings are not derived from it */
    EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, 4), 4);
    EXPECT(probe_read(TEST_VA, NULL), 15);
    EXPECT(exo_cap_delete(a), 0);
    exo_sel_free((uint32_t)a);
    give_back(frame, 4);
}

static void test_revoke_child_bindings(void)
{
    uint64_t frame = frames(4), a = (uint64_t)exo_sel_alloc(), b = (uint64_t)exo_sel_alloc();
    EXPECT(exo_cap_derive(MEM, a, EXO_R | EXO_W, frame, 4), 0);
    EXPECT(exo_cap_derive(a, b, EXO_R | EXO_W, frame, 4), 0);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 4, b, frame, EXO_R | EXO_W), 4);
    *(volatile uint64_t *)TEST_VA = 5;
    long r;
    do
        r = exo_cap_revoke(a, 0, 0);
    while (r == -EXO_E_AGAIN);
    EXPECT(r, 0);
    EXPECT(exo_cap_info(b), 0);
    EXPECT(probe_read(TEST_VA, NULL), 15);
    EXPECT(EXO_FW_BINDINGS(exo.words[frame]), 0);
    EXPECT(exo_cap_delete(a), 0);
    exo_vector_read(NULL); /* what was taken from b is on record */
    exo_sel_free((uint32_t)a);
    exo_sel_free((uint32_t)b);
    give_back(frame, 4);
}

static void test_revoke_amount(void)
{
    uint64_t frame = frames(8), a = (uint64_t)exo_sel_alloc(), kid[4];
    EXPECT(exo_cap_derive(MEM, a, EXO_R, frame, 8), 0);
    for (unsigned i = 0; i < 4; i++) {
        kid[i] = (uint64_t)exo_sel_alloc();
        EXPECT(exo_cap_derive(a, kid[i], EXO_R, frame + 2 * i, 2), 0);
    }
    long r;
    do
        r = exo_cap_revoke(a, 4, 0);
    while (r == -EXO_E_AGAIN);
    EXPECT(r, 4); /* names that the two eldest still hold */
    EXPECT(exo_cap_info(kid[0]) != 0, 1);
    EXPECT(exo_cap_info(kid[1]) != 0, 1);
    EXPECT(exo_cap_info(kid[2]), 0);
    EXPECT(exo_cap_info(kid[3]), 0);
    exo_vector_read(NULL);
    EXPECT(exo_drop((uint32_t)a), 0);
    exo_vector_read(NULL);
    for (unsigned i = 0; i < 4; i++)
        exo_sel_free((uint32_t)kid[i]);
    give_back(frame, 8);
}

static void test_derive_chain(void)
{
    static uint64_t chain[100];
    uint64_t base = exo.pool.base;
    chain[0] = MEM;
    for (unsigned i = 1; i < 100; i++) {
        chain[i] = (uint64_t)exo_sel_alloc();
        EXPECT(exo_cap_derive(chain[i - 1], chain[i], EXO_R, base, 1), 0);
    }
    EXPECT(exo_drop((uint32_t)chain[1]), 0);
    for (unsigned i = 1; i < 100; i++) {
        EXPECT(exo_cap_info(chain[i]), 0);
        exo_sel_free((uint32_t)chain[i]);
    }
    exo_vector_read(NULL);
}

static void test_event_masks(void)
{
    uint32_t thread = exo.start.sel_thread;
    uint64_t b = (uint64_t)exo_sel_alloc(), a = (uint64_t)exo_event_new(thread, 0xf0);
    EXPECT(exo_event_make(b, thread, 0), -EXO_E_ARG);
    EXPECT(exo_event_make(b, thread, EXO_EVENT_REVOKE), -EXO_E_ARG);
    EXPECT(exo_event_make(b, thread, EXO_EVENT_SLICE | 1), -EXO_E_ARG);
    EXPECT(exo_event_make(a, thread, 1), -EXO_E_FULL);
    EXPECT(exo_event_make(b, MEM, 1), -EXO_E_KIND);
    EXPECT(exo_cap_derive(a, b, EXO_EVENT_SIGNAL, 0x30, 1), 0);
    EXPECT(exo_event_signal(b), 0);
    EXPECT(exo_event_wait(0xff, 0), 0x30);
    EXPECT(exo_event_signal(MEM), -EXO_E_KIND);
    EXPECT(exo_drop((uint32_t)a), 0);
    EXPECT(exo_event_signal(b), -EXO_E_SEL);
    exo_sel_free((uint32_t)b);
}

static void test_gate_badges(void)
{
    uint64_t a = (uint64_t)exo_gate_new(exo.start.sel_thread, 0);
    uint64_t b = (uint64_t)exo_sel_alloc(), c = (uint64_t)exo_sel_alloc();
    EXPECT(exo_gate_make(c, exo.start.sel_thread, 1ul << 47, 0), -EXO_E_VA);
    EXPECT(exo_gate_make(c, exo.start.sel_thread, UINT64_MAX, 0), -EXO_E_VA);
    EXPECT(exo_cap_derive(a, b, EXO_GATE_CALL, 77, 1), 0);
    EXPECT(exo_cap_derive(b, c, EXO_GATE_CALL, 78, 1), -EXO_E_RANGE); /* set for good */
    EXPECT(exo_drop((uint32_t)a), 0);
    exo_sel_free((uint32_t)b);
    exo_sel_free((uint32_t)c);
}

const struct test cap_tests[] = {
    {"null", test_null},
    {"foreign_calls", test_foreign_calls},
    {"cap_derive", test_cap_derive},
    {"cap_ranges", test_cap_ranges},
    {"cap_refs", test_cap_refs},
    {"cap_copy", test_cap_copy},
    {"cap_copy_object", test_cap_copy_object},
    {"revoke_bindings", test_revoke_bindings},
    {"revoke_child_bindings", test_revoke_child_bindings},
    {"revoke_amount", test_revoke_amount},
    {"derive_chain", test_derive_chain},
    {"event_masks", test_event_masks},
    {"gate_badges", test_gate_badges},
    {NULL, NULL},
};
