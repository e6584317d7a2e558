/* SPDX-License-Identifier: MIT
 *
 * What the Linux interface costs: each row is measured ROUNDS times with the time-stamp
 * counter, on Linux and on exovisor by this same file, and its median printed as
 * "NAME instructions". System calls are made through the C library, as programs do. A
 * row that cannot be measured says so in a line "# NAME: errno". */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "count.h"

#define MOST_ROUNDS 101
#define PAGE 4096
#define FRESH_PAGES 64
#define TINY "/bench/tiny"

static int zero, null, there[2], back[2];
static char bytes[65536];
static volatile int handled;

/* ---- one call ----------------------------------------------------------------------- */

static bool run_getppid(void) { return getppid() >= 0; }

static bool run_read_zero(void) { return read(zero, bytes, 1) == 1; }

static bool run_write_null(void) { return write(null, bytes, 1) == 1; }

static bool run_stat(void)
{
    struct stat status;
    return stat("/tmp/primitives.file", &status) == 0;
}

static bool run_open_close(void)
{
    int fd = open("/tmp/primitives.file", O_RDONLY);
    return fd >= 0 && close(fd) == 0;
}

static void handle(int number)
{
    (void)number;
    handled = handled + 1;
}

static bool run_signal_install(void)
{
    struct sigaction action = {.sa_handler = handle};
    return sigaction(SIGUSR1, &action, NULL) == 0;
}

static bool run_signal(void)
{
    int before = handled;
    return kill(getpid(), SIGUSR1) == 0 && handled == before + 1;
}

/* ---- between two processes ----------------------------------------------------------- */

static bool run_pipe(void)
{
    return write(there[1], bytes, 1) == 1 && read(back[0], bytes, 1) == 1;
}

static bool run_pipe_64k(void)
{
    size_t n = 0;
    if (write(there[1], bytes, 1) != 1) return false;
    while (n < sizeof bytes) {
        ssize_t got = read(back[0], bytes, sizeof bytes - n);
        if (got <= 0) return false;
        n += (size_t)got;
    }
    return true;
}

static pid_t pipe_peer(size_t answer)
{
    if (pipe(there) < 0 || pipe(back) < 0) return -1;
    pid_t pid = fork();
    if (pid != 0) return pid;
    close(there[1]);
    for (char byte; read(there[0], &byte, 1) == 1;)
        if (write(back[1], bytes, answer) != (ssize_t)answer) _exit(1);
    _exit(0);
}

static void pipe_end(pid_t pid)
{
    for (int i = 0; i < 2; i++) {
        close(there[i]);
        close(back[i]);
    }
    if (pid > 0) waitpid(pid, NULL, 0);
}

/* ---- processes --------------------------------------------------------------------------- */

static bool wait_well(pid_t pid)
{
    int status;
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

static bool run_fork(void)
{
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    return wait_well(pid);
}

static char *const tiny_arguments[] = {"tiny", NULL}, *const no_environment[] = {NULL};

static bool run_fork_exec(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        execve(TINY, tiny_arguments, no_environment);
        _exit(127);
    }
    return wait_well(pid);
}

static bool run_vfork_exec(void)
{
    pid_t pid = vfork();
    if (pid == 0) {
        execve(TINY, tiny_arguments, no_environment);
        _exit(127);
    }
    return wait_well(pid);
}

static bool run_fork_exec_sh(void)
{
    static char *const arguments[] = {"sh", "-c", "exit 0", NULL};
    pid_t pid = fork();
    if (pid == 0) {
        execve("/bin/sh", arguments, no_environment);
        _exit(127);
    }
    return wait_well(pid);
}

/* ---- threads --------------------------------------------------------------------------------- */

static int turn;

static void futex_wait(int value)
{
    while (__atomic_load_n(&turn, __ATOMIC_SEQ_CST) == value)
        syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_pass(int value)
{
    __atomic_store_n(&turn, value, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* 0: ours; 1: the peer's; 2: the end. */
static void *futex_peer(void *argument)
{
    for (;;) {
        futex_wait(0);
        if (__atomic_load_n(&turn, __ATOMIC_SEQ_CST) == 2) return argument;
        futex_pass(0);
    }
}

static bool run_futex(void)
{
    futex_pass(1);
    futex_wait(1);
    return true;
}

static void *thread_nothing(void *argument) { return argument; }

static bool run_thread(void)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, thread_nothing, NULL) == 0 &&
           pthread_join(thread, NULL) == 0;
}

/* ---- memory -------------------------------------------------------------------------------------- */

static bool run_mmap(void)
{
    char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return false;
    *(volatile char *)page = 1;
    return munmap(page, PAGE) == 0;
}

static char *fresh;

/* ---- measuring -------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void measure(const char *name, bool (*run)(void), int rounds)
{
    static uint64_t taken[MOST_ROUNDS];
    uint64_t least = UINT64_MAX; /* what measuring itself takes */
    for (int i = 0; i < 10; i++) {
        uint64_t start = count_now(), n = count_now() - start;
        least = n < least ? n : least;
    }
    for (int i = -3; i < rounds; i++) { /* the first ones are not counted */
        uint64_t start = count_now();
        bool good = run();
        uint64_t end = count_now();
        if (!good) {
            printf("# %s: errno %d\n", name, errno);
            return;
        }
        if (i >= 0) taken[i] = end - start - least;
    }
    qsort(taken, (size_t)rounds, sizeof *taken, compare);
    printf("%s %lu\n", name, (unsigned long)taken[rounds / 2]);
    fflush(stdout);
}

static void measure_pipes(void)
{
    pid_t pid = pipe_peer(1);
    measure("pipe_round_trip", run_pipe, 101);
    pipe_end(pid);
    pid = pipe_peer(sizeof bytes);
    measure("pipe_64k", run_pipe_64k, 31);
    pipe_end(pid);
}

static void measure_threads(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, futex_peer, NULL) == 0) {
        measure("futex_ping_pong", run_futex, 101);
        futex_pass(2);
        pthread_join(thread, NULL);
    }
    measure("pthread_create_join", run_thread, 51);
}

/* Each round touches a page that was not touched before. */
/* The mean of many: who takes several pages at one fault takes them all in it. */
static void measure_touches(const char *name)
{
    uint64_t start = count_now();
    for (unsigned i = 3; i < FRESH_PAGES; i++)
        fresh[PAGE * i] = 1;
    printf("%s %lu\n", name, (unsigned long)((count_now() - start) / (FRESH_PAGES - 3)));
}

static void measure_faults(void)
{
    size_t size = FRESH_PAGES * PAGE;
    fresh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED) return;
    measure_touches("zero_fault");
    memset(fresh, 1, size);
    int ends[2];
    if (pipe(ends) < 0) return;
    pid_t pid = fork(); /* the child keeps its view of the pages until all is measured */
    if (pid == 0) {
        char byte;
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) != 0);
    }
    measure_touches("cow_fault");
    close(ends[1]);
    close(ends[0]);
    waitpid(pid, NULL, 0);
    munmap(fresh, size);
}

int main(void)
{
    zero = open("/dev/zero", O_RDONLY);
    null = open("/dev/null", O_WRONLY);
    close(open("/tmp/primitives.file", O_CREAT | O_WRONLY, 0644));
    memset(bytes, 1, sizeof bytes);
    measure("getppid", run_getppid, 101);
    measure("read_zero_1b", run_read_zero, 101);
    measure("write_null_1b", run_write_null, 101);
    measure("stat", run_stat, 101);
    measure("open_close", run_open_close, 101);
    measure_pipes();
    measure("signal_install", run_signal_install, 101);
    measure("signal_roundtrip", run_signal, 101);
    measure("fork_exit_wait", run_fork, 51);
    measure("fork_exec_wait", run_fork_exec, 51);
    measure("vfork_exec_wait", run_vfork_exec, 51);
    measure("fork_exec_sh", run_fork_exec_sh, 21);
    measure_threads();
    measure("mmap_touch_unmap", run_mmap, 101);
    measure_faults();
    unlink("/tmp/primitives.file");
    return 0;
}
