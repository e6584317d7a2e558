/* SPDX-License-Identifier: MIT
 *
 * Tests of the Linux interface: each program is static, of one file, and prints a line
 * "ok PROGRAM.NAME" or "FAIL PROGRAM.NAME ..." for each check and "end PROGRAM" as its
 * last. The same files run on Linux and on exovisor; lines are written whole, so that
 * what children print does not mix with them. Compiled with -D_GNU_SOURCE. */
#ifndef TEST_H
#define TEST_H
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *test_program;
static int test_failures;

/* One verdict; `line` is where in the source. errno is kept. */
static inline void test_verdict(bool good, const char *name, const char *what, int line)
{
    int saved = errno;
    if (good)
        dprintf(1, "ok %s.%s\n", test_program, name);
    else
        dprintf(1, "FAIL %s.%s line %d: %s (errno %d)\n", test_program, name, line, what, saved);
    test_failures += !good;
    errno = saved;
}

#define CHECK(name, condition) test_verdict(condition, name, #condition, __LINE__)
/* The call fails with exactly this error. */
#define CHECK_ERROR(name, call, error)                                                             \
    do {                                                                                           \
        errno = 0;                                                                                 \
        bool failed = (long)(call) == -1;                                                          \
        test_verdict(failed &&errno == (error), name, #call " is to fail with " #error, __LINE__); \
    } while (0)

/* A directory of its own under /tmp, which becomes the current one. */
static inline void test_directory(void)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/test.%s.%d", test_program, (int)getpid());
    if (mkdir(path, 0755) < 0 || chdir(path) < 0) {
        dprintf(1, "FAIL %s.directory %s: errno %d\n", test_program, path, errno);
        exit(1);
    }
}

static inline void test_begin(const char *program) { test_program = program; }

static inline int test_end(void)
{
    dprintf(1, "end %s\n", test_program);
    return test_failures ? 1 : 0;
}

/* Runs `child` in a child process: its wait status, or -1. */
static inline int test_child(void (*child)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        child();
        _exit(0);
    }
    int status = -1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid) return -1;
    return status;
}

static inline void test_sleep_ms(long ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&time, &time) < 0 && errno == EINTR)
        ;
}

/* The next of a sequence that `state`, not 0, begins: Marsaglia's xorshift. */
static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Milliseconds of the monotonic clock. */
static inline int64_t test_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
#endif
