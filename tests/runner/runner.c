/* SPDX-License-Identifier: MIT
 *
 * Runs the tests, and after each compares what is in use with before: frames by our
 * own count and by the exposed frame words, selectors, time slots, pending events. */
#include "runner.h"

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

void run_tests(const struct test *tests, const char *args)
{
    for (; tests->name; tests++)
        if (wanted(args, tests->name)) run_test(tests);
}

int tests_end(const char *name)
{
    exo_printf("%s: %d passed, %d failed, %d skipped\n", name, passed, failed, skips);
    exo_printf("TESTS DONE\n");
    return failed != 0;
}
