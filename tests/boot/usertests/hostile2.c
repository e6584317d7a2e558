/* SPDX-License-Identifier: MIT
 *
 * Races that a hostile program would look for: objects that die while another CPU is
 * about to write their name down somewhere. */
#include "tests.h"

#define RW (EXO_R | EXO_W)

/* ---- who is told of revocations: a thread that dies at that moment ------------------ */
#define RACES 400
static volatile uint32_t race_stop, race_turn;
static uint64_t race_sel;
static volatile bool race_by_env;

static void revoker_claims(void *unused)
{
    (void)unused;
    while (!race_stop)
        if (race_by_env)
            exo_env_revoker(EXO_SELF, race_sel);
        else
            exo_thread_set(race_sel, EXO_SET_REVOKE, 0, 0);
}

/* Something of ours is taken back, which our revoker is told of. */
static long revoke_from_self(uint64_t a, uint64_t b, uint64_t frame)
{
    long r = exo_cap_derive(MEM, a, EXO_R, frame, 1);
    if (r == 0) r = exo_cap_derive(a, b, EXO_R, frame, 1);
    if (r == 0) r = exo_cap_revoke(a, 0, 0);
    return r == 0 ? exo_cap_delete(a) : r;
}

/* The thread's frames are plain memory again: nobody's events may be set in them. */
static bool dead_is_told(uint64_t f, uint64_t a, uint64_t b)
{
    volatile uint64_t *events = (volatile uint64_t *)TEST_VA;
    if (exo_bind(&exo.pool, TEST_VA, 1, MEM, f + 1, RW) < 0) return true;
    *events = 0;
    long r = revoke_from_self(a, b, f);
    bool told = r != 0 || *events != 0;
    exo_unbind(&exo.pool, TEST_VA, 1);
    return told;
}

static void test_dead_revoker(void)
{
    static struct exo_task t;
    NEED_CPUS(2);
    uint64_t f = frames(2), a = (uint64_t)exo_sel_alloc(), b = (uint64_t)exo_sel_alloc();
    unsigned told = 0;
    race_sel = (uint64_t)exo_sel_alloc();
    EXPECT(exo_task_make(&t, (exo.start.cpu + 1) % exo.start.cpus), 0);
    race_stop = 0;
    EXPECT(exo_task_start(&t, revoker_claims, NULL), 0);
    for (unsigned i = 0; i < RACES; i++) {
        race_by_env = i % 2;
        EXPECT(exo_thread_make(race_sel, EXO_SELF, MEM, f, exo.start.cpu), 0);
        for (uint64_t end = exo_in_us(20); exo_tsc() < end;)
            continue;
        EXPECT(exo_cap_delete(race_sel), 0);
        told += dead_is_told(f, a, b);
    }
    race_stop = 1;
    exo_task_join(&t);
    EXPECT(exo_task_destroy(&t), 0);
    EXPECT(exo_env_revoker(EXO_SELF, exo.start.sel_thread), 0);
    EXPECT(told, 0);
    exo_sel_free((uint32_t)race_sel);
    exo_sel_free((uint32_t)a);
    exo_sel_free((uint32_t)b);
    give_back(f, 2);
}

const struct test hostile2_tests[] = {
    {"a dead thread is told of no revocation", test_dead_revoker},
    {NULL, NULL},
};
