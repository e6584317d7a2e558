/* SPDX-License-Identifier: MIT
 *
 * A program that dies in every system call: killed from outside while it calls, or by a
 * fault of another of its threads. Its parent gets its status; a pipe, a terminal and
 * memory that it shared go on. */
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include "hostile.h"

#define TIMES 3

static int ends[2], full[2], e;
static char buffer[4096];
static int word;
static const struct victim {
    const char *name;
    long number, a, b, c, d;
} victims[] = {
    {"getppid", SYS_getppid, 0, 0, 0, 0},
    {"read_zero", SYS_read, -2, (long)buffer, 4096, 0},
    {"write_file", SYS_write, -3, (long)buffer, 4096, 0},
    {"read_pipe", SYS_read, -4, (long)buffer, 1, 0},
    {"write_pipe", SYS_write, -5, (long)buffer, 4096, 0},
    {"stat", SYS_stat, (long)"/tmp", (long)buffer, 0, 0},
    {"open", SYS_open, (long)"die", O_CREAT | O_RDWR, 0644, 0},
    {"mkdir", SYS_mkdir, (long)"die-dir", 0755, 0, 0},
    {"rename", SYS_rename, (long)"die", (long)"die2", 0, 0},
    {"unlink", SYS_unlink, (long)"die2", 0, 0, 0},
    {"poll", SYS_poll, (long)buffer, 0, -1, 0},
    {"epoll", SYS_epoll_wait, -6, (long)buffer, 4, -1},
    {"futex", SYS_futex, (long)&word, 0, 0, 0},
    {"nanosleep", SYS_clock_nanosleep, 1, 0, (long)(const struct timespec[]){{100, 0}}, 0},
    {"pause", SYS_pause, 0, 0, 0, 0},
    {"brk", SYS_brk, 0, 0, 0, 0},
    {"mmap", SYS_mmap, 0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS},
    {"pipe", SYS_pipe, (long)buffer, 0, 0, 0},
    {"dup", SYS_dup, 1, 0, 0, 0},
    {"fork", SYS_fork, 0, 0, 0, 0},
    {"wait", SYS_wait4, -1, 0, 0, 0},
    {"sigsuspend", SYS_rt_sigsuspend, (long)buffer, 8, 0, 0},
    {"kill", SYS_kill, 0, 0, 0, 0},
    {"getrandom", SYS_getrandom, (long)buffer, 4096, 0, 0},
    {"flock", SYS_flock, -3, 2, 0, 0},
    {"getdents", SYS_getdents64, -7, (long)buffer, 4096, 0},
};
static const struct victim *victim;

static long descriptor(long a)
{
    static int zero = -1, file = -1, directory = -1;
    if (zero < 0) {
        zero = open("/dev/zero", O_RDONLY);
        file = open("die-file", O_CREAT | O_RDWR, 0644);
        directory = open(".", O_RDONLY);
    }
    switch (a) {
    case -2:
        return zero;
    case -3:
        return lseek(file, 0, SEEK_SET), file;
    case -4:
        return ends[0];
    case -5:
        return full[1];
    case -6:
        return e;
    case -7:
        return lseek(directory, 0, SEEK_SET), directory;
    default:
        return a;
    }
}

static void call_for_ever(void)
{
    long a = victim->a;
    for (int mapped = 0;;) {
        long result = syscall(victim->number, victim->number == SYS_wait4 ? a : descriptor(a),
                              victim->b, victim->c, victim->d, -1, 0);
        if (victim->number == SYS_fork) {
            if (result == 0) _exit(0);
            waitpid((pid_t)result, NULL, 0);
        }
        if (victim->number == SYS_mmap &&
            ++mapped > 100) /* address space is not what is meant here */
            mapped = 0, munmap((void *)result, 1 << 20);
        if (victim->number == SYS_pipe || victim->number == SYS_dup)
            for (int fd = 20; fd < 40; fd++)
                close(fd);
    }
}

static void *call_in_thread(void *argument)
{
    call_for_ever();
    return argument;
}

static void fault_beside(void)
{
    pthread_t thread;
    volatile int *volatile nowhere = (volatile int *)8;
    pthread_create(&thread, NULL, call_in_thread, NULL);
    test_sleep_ms(5);
    *nowhere = 1;
}

/* A process that makes the call for ever is killed in it, some times; in another a thread faults. */
static bool dies(const struct victim *which, bool *faults)
{
    bool killed = true;
    victim = which;
    for (int time = 0; time < TIMES; time++) {
        int status = hostile_run(call_for_ever, 3 + time * 7);
        killed = killed && status != -1 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    }
    int status = hostile_run(fault_beside, 2000);
    *faults = status != -1 && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
    return killed;
}

int main(void)
{
    char name[64];
    test_begin("die");
    test_directory();
    struct epoll_event event = {.events = EPOLLIN};
    if (pipe(ends) < 0 || pipe(full) < 0 || (e = epoll_create1(0)) < 0) return 1;
    epoll_ctl(e, EPOLL_CTL_ADD, ends[0], &event);
    hostile_all_well();
    bool faults;
    for (size_t i = 0; i < COUNT(victims); i++) /* what they leave in our file and pipes is there */
        dies(&victims[i], &faults);
    long before = hostile_free_kib();
    for (size_t i = 0; i < COUNT(victims); i++) {
        bool killed = dies(&victims[i], &faults);
        snprintf(name, sizeof name, "killed_in_%s", victim->name);
        CHECK(name, killed);
        snprintf(name, sizeof name, "fault_beside_%s", victim->name);
        CHECK(name, faults);
    }
    CHECK("neighbours",
          hostile_all_well() && write(ends[1], "p", 1) == 1 && read(ends[0], buffer, 2) == 1);
    CHECK("given_back", hostile_given_back(before, 1024));
    return test_end();
}
