/* SPDX-License-Identifier: MIT
 *
 * Programs that mean harm: each must get an error or die alone. */
#include "tests.h"

#define RW (EXO_R | EXO_W)

long kid_spin(void)
{
    for (;;)
        continue;
}

static void test_never_yields(void)
{
    static struct kid k;
    EXPECT(kid_make(&k, "spin", exo.start.cpu), 0);
    EXPECT(kid_start(&k), 0);
    for (int i = 0; i < 5; i++) {
        uint64_t start = exo_tsc();
        sleep_us(2000);
        CHECK(exo_tsc() - start < exo_us(200000));
    }
    EXPECT(exo_thread_info(k.child.thread), EXO_T_READY);
    EXPECT(kid_end(&k), 0);
}

/* Frames that are not its own, by every call that takes one. */
long kid_own_frames(void)
{
    uint64_t base = exo.start.memory_base, end = base + exo.start.memory_count;
    uint64_t mem = exo.start.sel_memory;
    const uint64_t bad[] = {0,       1,         base - 1,   end,      end + 1000,
                            0xfee00, 1ul << 40, UINT64_MAX, 1ul << 52};
    for (unsigned i = 0; i < EXO_COUNT(bad); i++) {
        uint64_t f = bad[i];
        exo_page()->list[0] = (struct exo_batch){EXO_TASK_VA, f};
        if (exo_page_bind(EXO_SELF, EXO_WINDOW_VA, 1, mem, f, RW) >= 0 ||
            exo_page_bind_list(EXO_SELF, 1, mem, RW) >= 0 ||
            exo_pt_make(EXO_SELF, FAR_VA, 3, mem, f) >= 0 ||
            exo_cap_derive(mem, 60, EXO_R, f, 1) >= 0 || exo_env_make(60, mem, f, 1, 0) >= 0 ||
            exo_thread_make(60, EXO_SELF, mem, f, 0) >= 0)
            return (long)i + 1;
    }
    /* its capability table, its env, its thread: never bound at all */
    for (uint64_t f = base; f < end; f++)
        if (exo_page_bind(EXO_SELF, EXO_WINDOW_VA, 1, mem, f, RW) > 0) {
            volatile uint64_t *at = (volatile uint64_t *)EXO_WINDOW_VA;
            *at = *at;
            exo_page_unbind(EXO_SELF, EXO_WINDOW_VA, 1);
        }
    return 0;
}

/* Addresses that point into the kernel, past the end, or nowhere. */
long kid_hostile_pointers(void)
{
    static const uint64_t bad[] = {1ul << 47,          EXO_VA_END,         0xffff800000000000,
                                   0xffff878000000000, 0x8000000000000000, UINT64_MAX,
                                   UINT64_MAX - 4095,  0xfffff000};
    uint64_t mem = exo.start.sel_memory, base = exo.start.memory_base;
    for (unsigned i = 0; i < EXO_COUNT(bad); i++) {
        uint64_t va = bad[i];
        exo_page()->list[0] = (struct exo_batch){va, base};
        exo_page_bind(EXO_SELF, va, 1, mem, base, RW);
        exo_page_bind(EXO_SELF, va, EXO_RANGE_MAX, mem, base, RW);
        exo_page_bind_list(EXO_SELF, 1, mem, RW);
        exo_page_protect(EXO_SELF, va, 512, RW);
        exo_page_unbind(EXO_SELF, va, 512);
        exo_page_unbind_list(EXO_SELF, 1);
        for (unsigned level = 0; level < 6; level++) {
            exo_pt_make(EXO_SELF, va, level, mem, base + exo.start.memory_count - 1);
            exo_pt_unmake(EXO_SELF, va, level);
        }
        if (i < 7 && (exo_gate_make(50, EXO_CHILD_THREAD, va, 0) >= 0 ||
                      exo_thread_set(0, EXO_SET_UPCALL, va, va) >= 0))
            return (long)i + 1;
        /* the stack pointer can be anything while the kernel is entered */
        __asm__ volatile("movq %%rsp, %%rbx\n movq %0, %%rsp\n syscall\n movq %%rbx, %%rsp"
                         :
                         : "r"(va), "a"(EXO_CALL_null)
                         : "rbx", "rcx", "r11", "rdi", "rsi", "rdx", "r8", "r9", "r10", "memory");
    }
    return 0;
}

static void run_kid(const char *name, long result)
{
    static struct kid k;
    EXPECT(kid_make(&k, name, exo.start.cpu), 0);
    EXPECT(kid_start(&k), 0);
    EXPECT(kid_wait(&k, KID_TIME), result);
    EXPECT(kid_end(&k), 0);
}

static void test_others_frames(void) { run_kid("own_frames", 0); }
static void test_pointers(void) { run_kid("hostile_pointers", 0); }

/* Random calls with arguments that are often nearly right. */
static uint64_t fuzz_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t fuzz_value(uint64_t *state)
{
    uint64_t r = fuzz_next(state) >> 8;
    switch (r % 8) {
    case 0:
    case 1:
    case 2:
        return r / 8 % 64; /* selectors, rights, counts */
    case 3:
        return exo.start.memory_base + r / 8 % exo.start.memory_count;
    case 4:
        return EXO_TASK_VA + r / 8 % 4096 * EXO_PAGE;
    case 5:
        return EXO_REF(r / 8 % 64, r / 512 % 64);
    case 6:
        return fuzz_next(state);
    default:
        return (r / 8 % 3) << 47 | (r / 64 % 512);
    }
}

/* Not: what ends or blocks it (thread_stop, event_wait without end, reply_wait). */
static bool fuzz_left_out(uint64_t call)
{
    return call == EXO_CALL_thread_stop || call == EXO_CALL_event_wait ||
           call == EXO_CALL_reply_wait || call == EXO_CALL_reply_wait_x ||
           call == EXO_CALL_upcall_return;
}

long kid_fuzz(void)
{
    uint64_t state = exo.start.irqs.first * 0x9e3779b97f4a7c15ul + 88172645463325252ul;
    for (int i = 0; i < 3000; i++) {
        uint64_t call = EXO_CALL_BASE + fuzz_next(&state) % EXO_CALL_COUNT, a[6];
        for (int k = 0; k < 6; k++)
            a[k] = fuzz_value(&state);
        if (!fuzz_left_out(call)) raw_call(call, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
    return 0;
}

static void test_fuzz(void)
{
    static struct kid k;
    uint64_t gate = (uint64_t)exo_gate_new(exo.start.sel_thread, 0);
    uint64_t event = (uint64_t)exo_event_new(exo.start.sel_thread, 0xff00);
    for (uint32_t seed = 1; seed <= 8; seed++) {
        EXPECT(kid_make(&k, "fuzz", seed % 2 ? exo.start.cpu : exo.start.cpus - 1), 0);
        k.child.start.irqs.first = seed;
        EXPECT(kid_give(&k, (uint32_t)event, EXO_EVENT_SIGNAL, UINT64_MAX, 1), KID_GIVEN);
        EXPECT(kid_start(&k), 0);
        kid_wait(&k, 300000); /* it may well have stopped itself */
        EXPECT(kid_end(&k), 0);
    }
    exo_page()->events = 0;
    EXPECT(exo_drop((uint32_t)event), 0);
    EXPECT(exo_drop((uint32_t)gate), 0);
}

static volatile uint64_t storm_taken;
static void storm_count(uint64_t events)
{
    (void)events;
    storm_taken++;
}
static uint64_t storm_event;
static void storm(void *unused)
{
    (void)unused;
    for (int i = 0; i < 20000; i++)
        exo_event_signal(storm_event);
}

static void test_event_storm(void)
{
    struct exo_task t;
    storm_event = (uint64_t)exo_event_new(exo.start.sel_thread, 0x10);
    storm_taken = 0;
    EXPECT(exo_task_make(&t, exo.start.cpus - 1), 0);
    exo_handlers.events = storm_count;
    exo_events_mask(0x10);
    EXPECT(exo_task_start(&t, storm, NULL), 0);
    exo_task_join(&t);
    exo_null();
    exo_events_mask(0);
    exo_handlers.events = NULL;
    CHECK(storm_taken > 0);
    EXPECT(exo_task_destroy(&t), 0);
    EXPECT(exo_drop((uint32_t)storm_event), 0);
    exo_page()->events = 0;
}

/* Selectors, frames and threads run out with an error, and all comes back. */
static void test_exhaustion(void)
{
    static struct exo_task tasks[40];
    static uint32_t sels[EXO_SELECTORS];
    unsigned n = 0, t = 0;
    for (; t < 40 && exo_task_make(&tasks[t], exo.start.cpu) == 0; t++)
        continue;
    for (long s; (s = exo_event_new(exo.start.sel_thread, 1)) > 0;)
        sels[n++] = (uint32_t)s;
    struct exo_task more;
    EXPECT(exo_task_make(&more, exo.start.cpu), -EXO_E_LIMIT);
    while (n)
        EXPECT(exo_drop(sels[--n]), 0);
    while (t)
        EXPECT(exo_task_destroy(&tasks[--t]), 0);
    static uint64_t before[EXO_POOL_WORDS(262144)];
    memcpy(before, exo.pool.used, EXO_POOL_WORDS(exo.pool.count) * 8);
    uint64_t got = 0, start = exo.pool.free;
    while (frames(1))
        got++;
    EXPECT(got, start);
    EXPECT(exo_task_make(&more, exo.start.cpu), -EXO_E_LIMIT);
    memcpy(exo.pool.used, before, EXO_POOL_WORDS(exo.pool.count) * 8);
    exo.pool.free = start;
    exo.pool.hint = 0;
}

/* A thread on the other CPU writes to frames while they are taken from it; then they
 * become page tables of ours. */
long kid_hold(void)
{
    uint64_t count, base = (uint64_t)cap_base(KID_GIVEN, &count);
    if (exo_bind(&exo.pool, TEST_VA, count, KID_GIVEN, base, RW) < 0) return -1;
    for (;;)
        for (uint64_t i = 0; i < count; i++)
            *(volatile uint64_t *)(TEST_VA + i * EXO_PAGE) += 1;
}

static void revoke_running(unsigned cpu)
{
    static struct kid k;
    uint64_t f = frames(4), m = (uint64_t)exo_sel_alloc();
    long r;
    for (int turn = 0; turn < 4; turn++) {
        EXPECT(exo_cap_derive(MEM, m, RW | EXO_OBJECT, f, 4), 0);
        EXPECT(kid_make(&k, "hold", cpu), 0);
        EXPECT(kid_give(&k, (uint32_t)m, RW, f, 4), KID_GIVEN);
        EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 4, m, f, RW), 4);
        volatile uint64_t *seen = (volatile uint64_t *)TEST_VA;
        *seen = 0;
        EXPECT(kid_start(&k), 0);
        for (uint64_t end = exo_in_us(KID_TIME); *seen < 100;) {
            CHECK(exo_tsc() < end);
            exo_yield();
        }
        do
            r = exo_cap_revoke(m, 0, 0);
        while (r == -EXO_E_AGAIN);
        EXPECT(r, 0);
        uint64_t value = *seen;
        for (int i = 0; i < 1000; i++)
            EXPECT(*seen, value);
        EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, 4), 4);
        for (unsigned level = 3; level; level--)
            EXPECT(exo_pt_make(EXO_SELF, FAR_VA, level, m, f + level), 0);
        EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, m, f + 1, EXO_R), 1);
        for (unsigned i = 0; i < 512; i++)
            EXPECT(seen[i], 0);
        EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, 1), 1);
        for (unsigned level = 1; level <= 3; level++)
            EXPECT(exo_pt_unmake(EXO_SELF, FAR_VA, level), 0);
        EXPECT(kid_wait(&k, KID_TIME), -1014);
        EXPECT(kid_end(&k), 0);
        EXPECT(exo_cap_delete(m), 0);
    }
    exo_sel_free((uint32_t)m);
    give_back(f, 4);
}

static void test_revoke_running(void) { revoke_running(exo.start.cpu); }
static void test_revoke_running_other_cpu(void)
{
    NEED_CPUS(2);
    revoke_running(1);
}

/* Two envs whose tables hold each other's frames and envs, destroyed in either order. */
static void test_mutual_tables(void)
{
    static struct kid a, b;
    for (int order = 0; order < 2; order++) {
        EXPECT(kid_make(&a, "exit7", exo.start.cpu), 0);
        EXPECT(kid_make(&b, "exit7", exo.start.cpu), 0);
        uint32_t ea = a.child.env, eb = b.child.env;
        uint64_t fa = a.child.pool.base + KID_FRAMES - 8, fb = b.child.pool.base + KID_FRAMES - 8;
        unsigned all = RW | EXO_X | EXO_OBJECT;
        EXPECT(exo_cap_derive(EXO_REF(ea, EXO_CHILD_MEMORY), EXO_REF(eb, 40), all, fa, 8), 0);
        EXPECT(exo_cap_derive(EXO_REF(eb, EXO_CHILD_MEMORY), EXO_REF(ea, 40), all, fb, 8), 0);
        EXPECT(exo_cap_derive(ea, EXO_REF(eb, 41), EXO_RIGHTS_ALL, 0, 1), 0);
        EXPECT(exo_cap_derive(eb, EXO_REF(ea, 41), EXO_RIGHTS_ALL, 0, 1), 0);
        EXPECT(exo_cap_derive(EXO_REF(eb, 40), EXO_REF(ea, 42), RW, fa, 8), 0);
        EXPECT(exo_page_bind(ea, EXO_WINDOW_VA, 8, 40, fb, RW), 8);
        EXPECT(exo_page_bind(eb, EXO_WINDOW_VA, 8, 40, fa, RW), 8);
        EXPECT(kid_start(&a), 0);
        EXPECT(kid_end(order ? &a : &b), 0);
        EXPECT(kid_end(order ? &b : &a), 0);
    }
}

/* Envs are destroyed while they run, here and on the other CPU. */
static void test_destroy_running(void)
{
    static struct kid k;
    for (int i = 0; i < 4; i++) {
        EXPECT(kid_make(&k, "spin", i % 2 ? exo.start.cpus - 1 : exo.start.cpu), 0);
        EXPECT(kid_start(&k), 0);
        sleep_us(2000);
        EXPECT(kid_end(&k), 0);
    }
}

const struct test hostile_tests[] = {
    {"never_yields", test_never_yields},
    {"others_frames", test_others_frames},
    {"pointers", test_pointers},
    {"event_storm", test_event_storm},
    {"exhaustion", test_exhaustion},
    {"revoke_running", test_revoke_running},
    {"revoke_running_other_cpu", test_revoke_running_other_cpu},
    {"mutual_tables", test_mutual_tables},
    {"destroy_running", test_destroy_running},
    {"fuzz", test_fuzz},
    {NULL, NULL},
};
