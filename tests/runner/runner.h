/* SPDX-License-Identifier: MIT
 *
 * What the programs of tests inside the system share: each test prints PASS, FAIL or SKIP
 * with its name; afterwards everything that it used must be back. */
#ifndef RUNNER_H
#define RUNNER_H
/* Handlers interrupt anything: no code of these programs may use vector registers. */
#pragma GCC target("general-regs-only")
#include "../../lib/exo/exo.h"

typedef void test_function(void);
struct test {
    const char *name;
    test_function *run;
};

/* Fails the running test; the first failure is what is reported. */
void test_fail(const char *file, int line, const char *what, long got);
void test_skip(const char *why);
bool test_failing(void);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            test_fail(__FILE__, __LINE__, #condition, 0);                                          \
            return;                                                                                \
        }                                                                                          \
    } while (0)
#define EXPECT(call, value)                                                                        \
    do {                                                                                           \
        long got_ = (long)(call);                                                                  \
        if (got_ != (long)(value)) {                                                               \
            test_fail(__FILE__, __LINE__, #call " == " #value, got_);                              \
            return;                                                                                \
        }                                                                                          \
    } while (0)
#define NEED_CPUS(n)                                                                               \
    if (exo.start.cpus < (n)) {                                                                    \
        test_skip("needs more CPUs");                                                              \
        return;                                                                                    \
    }

/* Runs those of the list, which ends with a NULL name, that args names (all if empty). */
void run_tests(const struct test *tests, const char *args);
/* Prints the summary; the program's status. */
int tests_end(const char *name);
#endif
