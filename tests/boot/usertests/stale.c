/* SPDX-License-Identifier: MIT
 *
 * Translations that another CPU still holds: when page_unbind has returned, nothing
 * written through them arrives any more, whatever the frame becomes next. */
#include "tests.h"

#define RW (EXO_R | EXO_W)
#define BLOCK 512 /* frames of a 2 MiB page */
#define TURNS 25
#define STALE_VA (TEST_VA + (8ul << 20))
#define LOOK_US 1000 /* at the frame, after it was taken */

/* Frames of the block that the writer writes to, its first included. */
static const uint16_t written[] = {0, 7, 300, 511};

/* Writes through STALE_VA until it faults; is repaired and resumed, and goes on. */
long kid_writes(void)
{
    uint64_t count, base = (uint64_t)cap_base(KID_GIVEN, &count);
    bool large = count == BLOCK;
    exo_thread_set(0, EXO_SET_UPCALL, 0, 0);
    if (exo_bind(&exo.pool, STALE_VA, 1, KID_GIVEN, base, RW | (large ? EXO_LARGE_2M : 0)) < 0)
        return -1;
    for (;;)
        for (unsigned i = 0; i < (large ? EXO_COUNT(written) : 1); i++)
            ++*(volatile uint64_t *)(STALE_VA + written[i] * EXO_PAGE);
}

/* The frame becomes a page table of ours: it stays empty as long as we look. */
static void table_stays_empty(uint64_t frame)
{
    const volatile uint64_t *entry = (const volatile uint64_t *)TEST_VA;
    EXPECT(exo_pt_make(EXO_SELF, FAR_VA, 3, MEM, frame), 0);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, frame, EXO_R), 1);
    for (uint64_t end = exo_in_us(LOOK_US); exo_tsc() < end;)
        EXPECT(entry[0], 0);
    for (unsigned i = 0; i < 512; i++)
        EXPECT(entry[i], 0);
    EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, 1), 1);
    EXPECT(exo_pt_unmake(EXO_SELF, FAR_VA, 3), 0);
}

/* One turn: the kid writes; its mapping goes; the frame is looked at, and retyped. */
static void stale_turn(struct kid *k, uint64_t frame)
{
    volatile uint64_t *seen = (volatile uint64_t *)TEST_VA;
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, frame, RW), 1);
    uint64_t start = *seen;
    for (uint64_t end = exo_in_us(KID_TIME); *seen - start < 50;)
        CHECK(exo_tsc() < end);
    EXPECT(exo_page_unbind(k->child.env, STALE_VA, 1), 1);
    uint64_t value = *seen;
    for (uint64_t end = exo_in_us(LOOK_US); exo_tsc() < end;)
        EXPECT(*seen, value);
    EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, 1), 1);
    table_stays_empty(frame);
}

static void stale(uint64_t n)
{
    static struct kid k;
    NEED_CPUS(2);
    long frame = exo_frames_alloc(&exo.pool, n, n);
    unsigned size = n == BLOCK ? EXO_LARGE_2M : 0;
    uint64_t f = (uint64_t)frame;
    if (frame < 0) {
        test_skip("no 2 MiB of frames");
        return;
    }
    EXPECT(kid_make(&k, "writes", exo.start.cpu == 0), 0);
    EXPECT(kid_give(&k, MEM, RW, f, n), KID_GIVEN);
    EXPECT(kid_start(&k), 0);
    for (unsigned turn = 0; turn < TURNS && !test_failing(); turn++) {
        stale_turn(&k, f + (n == BLOCK ? written[turn % EXO_COUNT(written)] : 0));
        EXPECT(kid_wait(&k, KID_TIME), -1014);
        EXPECT(exo_page()->regs.addr >> 21, STALE_VA >> 21);
        EXPECT(exo_page_bind(k.child.env, STALE_VA, 1, KID_GIVEN, f, RW | size), 1);
        EXPECT(exo_thread_start(k.child.thread, 0, 0, 0), 0);
    }
    EXPECT(kid_end(&k), 0);
    give_back(f, n);
}

static void test_stale_small(void) { stale(1); }
static void test_stale_large(void) { stale(BLOCK); }

const struct test stale_tests[] = {
    {"stale_small", test_stale_small},
    {"stale_large", test_stale_large},
    {NULL, NULL},
};
