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

/* ---- two CPUs that each destroy a thread of the other --------------------------------- */
/* In one step each takes something from the env whose revoker that thread is, so that
 * the other CPU has a request left for it, and then the thread. If both do so at once
 * neither can be interrupted. */
#define MEETINGS 300
struct side {
    uint64_t env, source, thread, frame;
    unsigned cpu; /* of its thread */
    long error;
};
static struct side side[2];
static volatile uint32_t met[2];

static long side_round(struct side *s)
{
    long r = exo_cap_derive(MEM, s->source, EXO_RIGHTS_ALL, s->frame, 3);
    if (r == 0) r = exo_cap_derive(s->source, EXO_REF(s->env, 2), EXO_R, s->frame + 2, 1);
    if (r == 0) r = exo_cap_derive(s->source, EXO_REF(s->env, 1), EXO_RIGHTS_ALL, s->frame, 2);
    if (r == 0) r = exo_thread_make(s->thread, s->env, 1, s->frame, s->cpu);
    if (r == 0) r = exo_env_revoker(s->env, s->thread);
    if (r == 0) r = exo_cap_revoke(EXO_REF(s->env, 1), 0, 0);
    return r == -EXO_E_AGAIN ? 0 : r == 0 ? -EXO_E_STATE : r; /* its CPU was asked */
}

static void side_run(void *which)
{
    struct side *s = which;
    unsigned me = s == &side[1];
    for (uint32_t i = 1; i <= MEETINGS && s->error == 0; i++) {
        s->error = side_round(s);
        for (uint64_t end = exo_in_us(30); exo_tsc() < end;)
            continue;
        met[me] = i;
        while (met[!me] < i && side[!me].error == 0)
            continue;
        long r;
        while ((r = exo_cap_revoke(s->source, 0, 0)) == -EXO_E_AGAIN)
            continue;
        if (r == 0) r = exo_cap_delete(s->source);
        if (s->error == 0) s->error = r;
    }
}

static void test_destroy_each_other(void)
{
    static struct exo_task t;
    NEED_CPUS(2);
    uint64_t f[2];
    met[0] = met[1] = 0;
    for (unsigned i = 0; i < 2; i++) {
        f[i] = frames(8);
        side[i] = (struct side){.env = (uint64_t)exo_sel_alloc(),
                                .source = (uint64_t)exo_sel_alloc(),
                                .thread = (uint64_t)exo_sel_alloc(),
                                .frame = f[i] + 4,
                                .cpu = (exo.start.cpu + !i) % exo.start.cpus};
        EXPECT(exo_env_make(side[i].env, MEM, f[i], 1, 0), 0);
    }
    EXPECT(exo_task_make(&t, side[0].cpu), 0);
    EXPECT(exo_task_start(&t, side_run, &side[1]), 0);
    side_run(&side[0]);
    exo_task_join(&t);
    EXPECT(exo_task_destroy(&t), 0);
    EXPECT(side[0].error, 0);
    EXPECT(side[1].error, 0);
    for (unsigned i = 0; i < 2; i++) {
        EXPECT(exo_drop((uint32_t)side[i].env), 0);
        exo_sel_free((uint32_t)side[i].source);
        exo_sel_free((uint32_t)side[i].thread);
        give_back(f[i], 8);
    }
}

/* ---- instructions that are not a user's, and contexts that are odd ------------------------ */
static const struct odd {
    const char *name;
    uint8_t code[24];
    uint8_t vector[2]; /* of the exception, 0xff: none; another that will do: #UD where
                          the CPU lacks it, #PF by emulators that read the stack as the kernel */
} odds[] = {
    {"int 0", {0xcd, 0}, {13, 13}},
    {"int 1", {0xcd, 1}, {13, 13}},
    {"int 2", {0xcd, 2}, {13, 13}},
    {"int 8", {0xcd, 8}, {13, 13}},
    {"int 14", {0xcd, 14}, {13, 13}},
    {"int 18", {0xcd, 18}, {13, 13}},
    {"int 0x20", {0xcd, 0x20}, {13, 13}},
    {"int 0x80", {0xcd, 0x80}, {13, 13}},
    {"int timer", {0xcd, 0xe0}, {13, 13}},
    {"int ipi", {0xcd, 0xe1}, {13, 13}},
    {"int quiesce", {0xcd, 0xe2}, {13, 13}},
    {"int3", {0xcc}, {3, 3}},
    {"int1", {0xf1}, {1, 6}},
    {"sysenter", {0x0f, 0x34}, {13, 6}},
    {"sysret", {0x48, 0x0f, 0x07}, {13, 13}},
    {"swapgs", {0x0f, 0x01, 0xf8}, {13, 13}},
    {"rdpmc", {0x31, 0xc9, 0x0f, 0x33}, {13, 13}},
    {"rdmsr", {0x31, 0xc9, 0x0f, 0x32}, {13, 13}},
    {"wrmsr", {0xb9, 0x82, 0, 0, 0xc0, 0x0f, 0x30}, {13, 13}},
    {"xsetbv", {0x31, 0xc9, 0x0f, 0x01, 0xd1}, {13, 13}},
    {"mov from cr3", {0x0f, 0x20, 0xd8}, {13, 13}},
    {"mov to dr7", {0x0f, 0x23, 0xf8}, {13, 13}},
    {"lidt", {0x0f, 0x01, 0x1c, 0x24}, {13, 13}},
    {"hlt", {0xf4}, {13, 13}},
    {"cli", {0xfa}, {13, 13}},
    {"in", {0xe4, 0x64}, {13, 13}},
    {"vmrun", {0x0f, 0x01, 0xd8}, {13, 6}},
    {"clgi", {0x0f, 0x01, 0xdd}, {13, 6}},
    {"vmmcall", {0x0f, 0x01, 0xd9}, {6, 6}},
    {"ds = kernel code", {0xb8, 8, 0, 0, 0, 0x8e, 0xd8}, {13, 13}},
    {"gs = tss", {0xb8, 0x28, 0, 0, 0, 0x8e, 0xe8}, {13, 13}},
    {"gs = user data", {0xb8, 0x1b, 0, 0, 0, 0x8e, 0xe8, 0xc3}, {0xff, 0xff}},
    {"ss = 0", {0x31, 0xc0, 0x8e, 0xd0}, {13, 13}},
    {"far return to the kernel", {0x6a, 8, 0x6a, 0, 0x48, 0xcb}, {13, 14}},
    {"jump past 2^47", {0x48, 0xb8, 0, 0, 0, 0, 0, 0x80, 0, 0, 0xff, 0xe0}, {13, 13}},
    {"jump into the kernel",
     {0x48, 0xb8, 0, 0, 0x20, 0, 0x80, 0x87, 0xff, 0xff, 0xff, 0xe0},
     {14, 14}},
    {"a kernel's gs, then ud2",
     {0x48, 0xb8, 0, 0, 0x20, 0, 0x80, 0x87, 0xff, 0xff, 0xf3, 0x48, 0x0f, 0xae, 0xd8, 0x0f, 0x0b},
     {6, 6}},
    {"gs = -1 that is not canonical",
     {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xf3, 0x48, 0x0f, 0xae, 0xd8},
     {13, 13}},
    {"nt and ac, then ud2", {0x68, 2, 0x40, 4, 0, 0x9d, 0x0f, 0x0b}, {6, 6}},
};

static void test_odd_instructions(void)
{
    uint64_t f = frames(1);
    EXPECT(exo_bind(&exo.pool, TEST_VA, 1, MEM, f, RW) < 0, 0);
    EXPECT(exo_bind(&exo.pool, TEST_VA + EXO_PAGE, 1, MEM, f, EXO_R | EXO_X) < 0, 0);
    for (unsigned i = 0; i < EXO_COUNT(odds); i++) {
        memcpy((void *)TEST_VA, odds[i].code, sizeof odds[i].code);
        int r = probe_run(TEST_VA + EXO_PAGE) - 1;
        if ((r & 0xff) != odds[i].vector[0] && (r & 0xff) != odds[i].vector[1]) {
            test_fail(__FILE__, __LINE__, odds[i].name, r);
            break;
        }
    }
    exo_unbind(&exo.pool, TEST_VA, 2);
    give_back(f, 1);
}

const struct test hostile2_tests[] = {
    {"a dead thread is told of no revocation", test_dead_revoker},
    {"two CPUs destroy each other's threads", test_destroy_each_other},
    {"odd instructions", test_odd_instructions},
    {NULL, NULL},
};
