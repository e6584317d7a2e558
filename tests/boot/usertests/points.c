/* SPDX-License-Identifier: MIT
 *
 * What an exokernel is for: replacement policies of the programs' own, visible
 * revocation, guaranteed time, exposed tables. */
#include "tests.h"

#define RW (EXO_R | EXO_W)

/* ---- two library OSes with different page replacement -------------------------------- */
#define SCAN_PAGES 64
#define SCAN_LIMIT 48
#define SCAN_PASSES 6

/* A cyclic scan; returns the faults it took, or -1 when a page lost its contents. */
static long scan(exo_policy *policy)
{
    struct exo_region region;
    if (exo_region_make(&region, TEST_VA, SCAN_PAGES, SCAN_LIMIT, policy, true) < 0) return -2;
    for (uint64_t pass = 0; pass < SCAN_PASSES; pass++)
        for (uint64_t i = 0; i < SCAN_PAGES; i++) {
            volatile uint64_t *at = (volatile uint64_t *)(TEST_VA + i * EXO_PAGE);
            if (*at != (pass ? pass * 1000 + i : 0)) return -1;
            *at = (pass + 1) * 1000 + i;
        }
    long faults = (long)region.faults;
    exo_region_destroy(&region);
    return faults;
}

long kid_pager_fifo(void) { return scan(exo_policy_fifo); }
long kid_pager_clock(void) { return scan(exo_policy_clock); }
long kid_pager_mru(void) { return scan(exo_policy_mru); }

static void test_replacement(void)
{
    static struct kid lru, mru, fifo;
    EXPECT(kid_make(&lru, "pager_clock", exo.start.cpu), 0);
    EXPECT(kid_make(&mru, "pager_mru", exo.start.cpu), 0);
    EXPECT(kid_make(&fifo, "pager_fifo", exo.start.cpu), 0);
    EXPECT(kid_start(&lru), 0);
    EXPECT(kid_start(&mru), 0);
    EXPECT(kid_start(&fifo), 0);
    long a = kid_wait(&lru, KID_TIME), b = kid_wait(&mru, KID_TIME), c = kid_wait(&fifo, KID_TIME);
    exo_printf("replacement: faults of %d on a cyclic scan: LRU %ld, FIFO %ld, MRU %ld\n",
               SCAN_PAGES * SCAN_PASSES, a, c, b);
    CHECK(a >= SCAN_PAGES * SCAN_PASSES * 9 / 10);
    EXPECT(c, SCAN_PAGES * SCAN_PASSES);
    CHECK(b > 0 && b * 2 < a);
    EXPECT(kid_end(&lru), 0);
    EXPECT(kid_end(&mru), 0);
    EXPECT(kid_end(&fifo), 0);
}

/* ---- revocation ------------------------------------------------------------------------- */
#define GRANTS 8
#define GRANT_PAGES 8

static uint64_t grant_va(unsigned i) { return TEST_VA + (uint64_t)i * GRANT_PAGES * EXO_PAGE; }

/* Binds its grants, writes to each; false on an error. */
static bool grants_bind(void)
{
    for (unsigned i = 0; i < GRANTS; i++) {
        uint64_t count, base = (uint64_t)cap_base(KID_GIVEN + i, &count);
        if (exo_bind(&exo.pool, grant_va(i), count, KID_GIVEN + i, base, RW) < 0) return false;
        *(volatile uint64_t *)grant_va(i) = 100 + i;
    }
    return true;
}

static volatile uint32_t gave;

/* Asked for memory: gives the even grants, which hold nothing that it needs. */
static void give_even(const struct exo_record *record)
{
    uint64_t left = record->amount;
    if (record->what != EXO_ASKED) return;
    for (unsigned i = 0; i < GRANTS && left; i += 2) {
        exo_page_unbind(EXO_SELF, grant_va(i), GRANT_PAGES);
        if (exo_cap_delete(KID_GIVEN + i) < 0) continue;
        gave++;
        left -= EXO_MIN(left, GRANT_PAGES);
    }
}

long kid_gives(void)
{
    if (!grants_bind() || exo_revocations(give_even) < 0) return -1;
    exo_event_signal(KID_GIVEN + GRANTS);
    if (!spin_until(&gave, GRANTS / 2, KID_TIME)) return -2;
    for (unsigned i = 1; i < GRANTS; i += 2)
        if (*(volatile uint64_t *)grant_va(i) != 100 + i) return -3;
    return gave;
}

static uint64_t taken_names;
static void note_taken(const struct exo_record *record)
{
    if (record->what == EXO_TAKEN && record->kind == EXO_FRAMES) taken_names += record->count;
}

long kid_ignores(void)
{
    probe_init();
    if (!grants_bind()) return -1;
    exo_event_signal(KID_GIVEN + GRANTS);
    uint64_t end = exo_in_us(KID_TIME);
    while (exo_tsc() < end && taken_names < GRANT_PAGES * GRANTS / 2) {
        exo_vector_read(note_taken);
        exo_yield();
    }
    long lost = 0;
    for (unsigned i = 0; i < GRANTS; i++)
        lost += probe_read(grant_va(i), NULL) != 0;
    return lost * 1000 + (long)taken_names;
}

struct grant_parent {
    struct kid kid;
    uint64_t frame, source, ready;
};

static long grants_give(struct grant_parent *p, const char *function)
{
    p->frame = frames(GRANTS * GRANT_PAGES);
    p->source = (uint64_t)exo_sel_alloc();
    long r = exo_cap_derive(MEM, p->source, RW, p->frame, GRANTS * GRANT_PAGES);
    if (r == 0) r = kid_make(&p->kid, function, exo.start.cpu);
    for (unsigned i = 0; i < GRANTS && r >= 0; i++)
        r = kid_give(&p->kid, (uint32_t)p->source, RW, p->frame + i * GRANT_PAGES, GRANT_PAGES);
    p->ready = (uint64_t)exo_event_new(exo.start.sel_thread, 0x20);
    if (r >= 0) r = kid_give(&p->kid, (uint32_t)p->ready, EXO_EVENT_SIGNAL, UINT64_MAX, 1);
    return r < 0 ? r : kid_start(&p->kid);
}

static void grants_end(struct grant_parent *p)
{
    EXPECT(kid_end(&p->kid), 0);
    EXPECT(exo_drop((uint32_t)p->source), 0);
    EXPECT(exo_drop((uint32_t)p->ready), 0);
    give_back(p->frame, GRANTS * GRANT_PAGES);
}

static long revoke_until(uint64_t source, uint64_t amount, uint64_t deadline)
{
    long r;
    while ((r = exo_cap_revoke(source, amount, deadline)) == -EXO_E_AGAIN)
        exo_yield();
    return r;
}

static void test_gives_back(void)
{
    static struct grant_parent p;
    EXPECT(grants_give(&p, "gives"), 0);
    EXPECT(exo_event_wait(0x20, exo_in_us(KID_TIME)), 0x20);
    uint64_t deadline = exo_in_us(5000000);
    EXPECT(revoke_until(p.source, GRANTS * GRANT_PAGES / 2, deadline), GRANTS * GRANT_PAGES / 2);
    CHECK(exo_tsc() < deadline); /* it was over early */
    for (unsigned i = 0; i < GRANTS; i++)
        EXPECT(exo_cap_info(EXO_REF(p.kid.child.env, KID_GIVEN + i)) != 0, i % 2);
    EXPECT(kid_wait(&p.kid, KID_TIME), GRANTS / 2);
    grants_end(&p);
}

static void test_ignores(void)
{
    static struct grant_parent p;
    EXPECT(grants_give(&p, "ignores"), 0);
    EXPECT(exo_event_wait(0x20, exo_in_us(KID_TIME)), 0x20);
    uint64_t deadline = exo_in_us(20000);
    EXPECT(revoke_until(p.source, GRANTS * GRANT_PAGES / 2, deadline), GRANTS * GRANT_PAGES / 2);
    CHECK(exo_tsc() >= deadline);
    EXPECT(kid_wait(&p.kid, KID_TIME), GRANTS / 2 * 1000 + GRANTS * GRANT_PAGES / 2);
    grants_end(&p);
}

/* ---- time --------------------------------------------------------------------------------- */
#define GREEDY 100
#define SHARE_SLOTS 16
#define REVOLUTIONS 12

static volatile uint32_t time_over;
static volatile uint64_t turns[GREEDY + 1]; /* of the same loop, by each thread */

static void use_time(void *argument)
{
    volatile uint64_t *mine = &turns[(uint64_t)argument];
    while (!time_over)
        ++*mine;
}

static uint64_t turns_all(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i <= GREEDY; i++)
        sum += turns[i];
    return sum;
}

/* The owner's permille of what was done in some revolutions. */
static uint64_t share_measure(void)
{
    uint64_t all = turns_all(), own = turns[0];
    sleep_us(REVOLUTIONS * EXO_SLOTS_PER_CPU * EXO_SLOT_US);
    return (turns[0] - own) * 1000 / (turns_all() - all);
}

static void test_share(void)
{
    static struct exo_task owner, greedy[GREEDY];
    const struct exo_range *s = &exo.start.slots[exo.start.cpu];
    if (s->count < SHARE_SLOTS) {
        test_skip("fewer than 16 slots given");
        return;
    }
    time_over = 0;
    EXPECT(exo_task_make(&owner, exo.start.cpu), 0);
    for (unsigned i = 0; i < GREEDY; i++)
        EXPECT(exo_task_make(&greedy[i], exo.start.cpu), 0);
    for (uint32_t i = 0; i < s->count; i++) {
        EXPECT(exo_slot_unbind(s->sel, s->first + i), 0);
        if (i < SHARE_SLOTS)
            EXPECT(exo_slot_bind(s->sel, s->first + i, owner.sel, EXO_SLOT_FIRM), 0);
    }
    for (unsigned i = 0; i < GREEDY; i++)
        EXPECT(exo_task_start(&greedy[i], use_time, (void *)(uint64_t)(i + 1)), 0);
    EXPECT(exo_task_start(&owner, use_time, NULL), 0);
    sleep_us(EXO_SLOTS_PER_CPU * EXO_SLOT_US);
    /* 250 of its own, and what falls to it of the idle slots */
    const uint64_t own = SHARE_SLOTS * 1000 / EXO_SLOTS_PER_CPU;
    const uint64_t least = own - own * 2 / 100, most = own * 6 / 5;
    uint64_t permille = share_measure();
    for (int i = 1; i < 5 && (permille < least || permille > most); i++)
        permille = share_measure(); /* the emulator may have lost time to its host */
    time_over = 1;
    exo_task_join(&owner);
    for (unsigned i = 0; i < GREEDY; i++) {
        exo_task_join(&greedy[i]);
        EXPECT(exo_task_destroy(&greedy[i]), 0);
    }
    for (uint32_t i = 0; i < s->count; i++) {
        if (i < SHARE_SLOTS) EXPECT(exo_slot_unbind(s->sel, s->first + i), 0);
        EXPECT(exo_slot_bind(s->sel, s->first + i, exo.start.sel_thread, 0), 0);
    }
    EXPECT(exo_task_destroy(&owner), 0);
    exo_printf("share: %lu permille of the time with 16 of 64 slots against %d greedy threads\n",
               permille, GREEDY);
    CHECK(permille >= least);
    CHECK(permille <= most);
}

/* ---- exposed tables ------------------------------------------------------------------------- */

long kid_tables(void)
{
    if (!exo.words) return -1;
    exo_thread_info(0);
    uint64_t self = exo_page()->list[0].va, env = exo_page()->list[0].frame, types = 0, bound = 0;
    for (uint64_t f = exo.start.memory_base; f < exo.start.memory_base + exo.start.memory_count;
         f++) {
        unsigned type = EXO_FW_TYPE(exo.words[f]);
        if (type != EXO_FT_PLAIN && EXO_FW_OWNER(exo.words[f]) != env) return -2;
        types += type != EXO_FT_PLAIN;
        bound += type == EXO_FT_PLAIN && EXO_FW_BINDINGS(exo.words[f]) != 0;
    }
    if (EXO_FW_TYPE(exo.words[self]) != EXO_FT_THREAD || EXO_FW_TYPE(exo.words[env]) != EXO_FT_ENV)
        return -3;
    if (exo.cpus[exo.start.cpu].current != self) return -4;
    uint64_t free = exo.start.memory_count - types - bound;
    uint64_t mine = exo.pool.free; /* what we know ourselves to be free */
    probe_init();
    if (probe_write((uint64_t)exo.words, 0) != 15) return -5;
    return free == mine ? 0 : (long)free - (long)mine;
}

static void test_tables(void)
{
    static struct kid k;
    EXPECT(kid_make(&k, "tables", exo.start.cpu), 0);
    long sel =
        kid_give(&k, exo.start.sel_tables, EXO_R, exo.start.tables_base, exo.start.tables_count);
    EXPECT(sel, KID_GIVEN);
    k.child.start.sel_tables = (uint32_t)sel;
    EXPECT(kid_start(&k), 0);
    EXPECT(kid_wait(&k, KID_TIME), 0);
    EXPECT(kid_end(&k), 0);
    exo_thread_info(0);
    uint64_t self = exo_page()->list[0].va, env = exo_page()->list[0].frame;
    const struct exo_range *s = &exo.start.slots[exo.start.cpu];
    for (uint32_t i = 0; i < s->count; i++) {
        EXPECT(exo.slots[s->first + i].thread, self);
        EXPECT(exo.slots[s->first + i].env, env);
        EXPECT(exo.slots[s->first + i].sel, s->sel);
    }
    EXPECT(exo.info->magic, EXO_INFO_MAGIC);
    EXPECT(exo.info->cpus, exo.start.cpus);
}

const struct test point_tests[] = {
    {"replacement", test_replacement}, {"gives_back", test_gives_back},
    {"ignores", test_ignores},         {"share", test_share},
    {"tables", test_tables},           {NULL, NULL},
};
