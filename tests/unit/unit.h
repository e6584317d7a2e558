/* SPDX-License-Identifier: MIT
 *
 * What unit tests share: a check that goes on, numbers that are the same each time, and the
 * loop over the tests of a program, each of which is one line PASS or FAIL. Included once,
 * by the test's own file. */
#ifndef UNIT_H
#define UNIT_H
#include <stdint.h>
#include <stdio.h>

static int failures; /* of the running test */
#define EXPECT(what)                                                                               \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            printf("  %s:%d: %s\n", __FILE__, __LINE__, #what);                                    \
            failures++;                                                                            \
        }                                                                                          \
    } while (0)

/* Below `below`: xorshift, always from the same seed. */
static inline uint64_t next(uint64_t below)
{
    static uint64_t state = 88172645463325252ul;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 8) % below;
}

struct unit_test {
    const char *name;
    void (*run)(void);
};
/* Whether one of them failed: main's result. */
static inline int tests_run(const char *suite, const struct unit_test *tests, unsigned count)
{
    int failed = 0;
    for (unsigned i = 0; i < count; i++) {
        failures = 0;
        tests[i].run();
        printf("%s %s: %s\n", failures ? "FAIL" : "PASS", suite, tests[i].name);
        failed += failures != 0;
    }
    return failed != 0;
}
#define TESTS_RUN(suite, tests) tests_run(suite, tests, sizeof(tests) / sizeof((tests)[0]))
#endif
