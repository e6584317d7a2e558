/* SPDX-License-Identifier: MIT
 *
 * Runs the tests, and after each compares what is in use with before: frames by our
 * own count and by the exposed frame words, selectors, time slots, pending events.
 * arguments: names of tests to run (default: all). */
#include "tests.h"

static const char *failure_what, *failure_file;
static const char *skipped;
static int failure_line;
static long failure_got;

void test_fail(const char *file, int line, const char *what, long got)
{
    if (failure_what) return;
    failure_file = file;
    failure_line = line;
    failure_what = what;
    failure_got = got;
}

bool test_failing(void) { return failure_what != NULL; }

void test_skip(const char *why) { skipped = why; }

struct usage {
    uint64_t free, typed, bindings, selectors, slots;
};

static struct usage usage_now(void)
{
    struct usage u = {.free = exo.pool.free + exo.pool.tables + exo.heap_pages};
    for (uint64_t f = exo.pool.base; exo.words && f < exo.pool.base + exo.pool.count; f++) {
        if (EXO_FW_TYPE(exo.words[f]) != EXO_FT_PLAIN)
            u.typed++;
        else
            u.bindings += EXO_FW_BINDINGS(exo.words[f]);
    }
    u.typed -= exo.pool.tables;
    u.bindings -= exo.heap_pages;
    for (uint32_t s = 1; s < exo.start.nsel; s++)
        u.selectors += exo_cap_info(s) != 0;
    for (uint32_t i = 0; exo.slots && i < exo.start.cpus * EXO_SLOTS_PER_CPU; i++)
        u.slots += exo.slots[i].thread != 0;
    return u;
}

static bool leaks(const struct usage *a, const struct usage *b, const char *name)
{
    if (!memcmp(a, b, sizeof(*a))) return false;
    exo_printf("FAIL %s leaks: free %ld typed %ld bindings %ld selectors %ld slots %ld\n", name,
               (long)(b->free - a->free), (long)(b->typed - a->typed),
               (long)(b->bindings - a->bindings), (long)(b->selectors - a->selectors),
               (long)(b->slots - a->slots));
    return true;
}

static int passed, failed, skips;

static void run_test(const struct test *test)
{
    struct usage before = usage_now();
    failure_what = skipped = NULL;
    exo_page()->events = 0;
    test->run();
    struct usage after = usage_now();
    if (failure_what) {
        exo_printf("FAIL %s %s:%d: %s (got %ld%s%s)\n", test->name, failure_file, failure_line,
                   failure_what, failure_got, failure_got < 0 ? " " : "",
                   failure_got < 0 ? exo_strerror(failure_got) : "");
        failed++;
    } else if (skipped) {
        exo_printf("SKIP %s %s\n", test->name, skipped);
        skips++;
    } else if (leaks(&before, &after, test->name)) {
        failed++;
    } else {
        exo_printf("PASS %s\n", test->name);
        passed++;
    }
}

static bool wanted(const char *args, const char *name)
{
    size_t n = strlen(name);
    if (!*args) return true;
    for (const char *at = args; *at; at++)
        if ((at == args || at[-1] == ' ') && !strncmp(at, name, n) && (!at[n] || at[n] == ' '))
            return true;
    return false;
}

static void run_tests(const struct test *tests, const char *args)
{
    for (; tests->name; tests++)
        if (wanted(args, tests->name)) run_test(tests);
}

const struct kid_function kid_functions[] = {
    {"echo", kid_echo},
    {"spin", kid_spin},
    {"exit7", kid_exit7},
    {"ud2", kid_ud2},
    {"fault_in_handler", kid_fault_in_handler},
    {"hostile_pointers", kid_hostile_pointers},
    {"pager_fifo", kid_pager_fifo},
    {"pager_clock", kid_pager_clock},
    {"pager_mru", kid_pager_mru},
    {"gives", kid_gives},
    {"ignores", kid_ignores},
    {"tables", kid_tables},
    {"hold", kid_hold},
    {"call", kid_call},
    {"fuzz", kid_fuzz},
    {"own_frames", kid_own_frames},
    {"faults", kid_faults},
    {"handler_faults", kid_handler_faults},
    {"writes", kid_writes},
    {"sends", kid_sends},
    {"works", kid_works},
    {"owns", kid_owns},
    {"channel", kid_channel},
    {NULL, NULL},
};

static int run_kid(const char *name)
{
    for (const struct kid_function *k = kid_functions; k->name; k++)
        if (!strcmp(k->name, name)) return (int)k->run();
    return -2;
}

int main(struct exo_startup *start)
{
    if (!strncmp(start->args, "kid ", 4)) return run_kid(start->args + 4);
    probe_init();
    for (size_t size = 2048; size <= 1ul << 20; size *= 2)
        free(malloc(size));
    uint64_t spare = frames(1); /* makes the page tables that most tests need */
    exo_bind(&exo.pool, TEST_VA, 1, MEM, spare, EXO_R);
    exo_unbind(&exo.pool, TEST_VA, 1);
    give_back(spare, 1);
    exo_printf("usertests: %u CPUs, %lu frames\n", start->cpus, exo.pool.count);
    run_tests(cap_tests, start->args);
    run_tests(page_tests, start->args);
    run_tests(thread_tests, start->args);
    run_tests(call_tests, start->args);
    run_tests(device_tests, start->args);
    run_tests(more_tests, start->args);
    run_tests(hostile_tests, start->args);
    run_tests(hostile2_tests, start->args);
    run_tests(point_tests, start->args);
    run_tests(fault_tests, start->args);
    run_tests(stale_tests, start->args);
    run_tests(item_tests, start->args);
    run_tests(error_tests, start->args);
    run_tests(channel_tests, start->args);
    exo_printf("usertests: %d passed, %d failed, %d skipped\n", passed, failed, skips);
    exo_printf("TESTS DONE\n");
    return failed != 0;
}
