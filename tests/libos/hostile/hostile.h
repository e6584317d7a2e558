/* SPDX-License-Identifier: MIT
 *
 * What the hostile programs share: a child that does its worst for a limited time, and a
 * look at whether its parent and neighbours go on as before. */
#ifndef HOSTILE_H
#define HOSTILE_H
#include "../test.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

/* Runs `child` in a process of its own, killed after `ms`: its wait status, or -1 when it
 * cannot be killed. */
static inline int hostile_run(void (*child)(void), int ms)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        child();
        _exit(0);
    }
    if (pid < 0) return -1;
    for (int64_t end = test_now_ms() + ms; test_now_ms() < end; test_sleep_ms(2))
        if (waitpid(pid, &status, WNOHANG) == pid) return status;
    kill(pid, SIGKILL);
    for (int64_t end = test_now_ms() + 5000; test_now_ms() < end; test_sleep_ms(2))
        if (waitpid(pid, &status, WNOHANG) == pid) return status;
    return -1;
}

/* Whether this process still has what a process should: files, pipes, children, memory. */
static inline bool hostile_all_well(void)
{
    int ends[2], status = -1;
    char data[64] = "";
    char *memory = malloc(1 << 20);
    if (!memory || pipe(ends) < 0) return false;
    memset(memory, 3, 1 << 20);
    pid_t pid = fork();
    if (pid == 0) {
        memory[77] = 4;
        _exit(write(ends[1], "well", 4) == 4 ? 12 : 13);
    }
    bool good = read(ends[0], data, sizeof data) == 4 && memcmp(data, "well", 4) == 0;
    good = good && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 12 && memory[77] == 3;
    int fd = open("well", O_RDWR | O_CREAT | O_TRUNC, 0644);
    good = good && write(fd, "file", 4) == 4 && pread(fd, data, 8, 0) == 4 &&
           memcmp(data, "file", 4) == 0;
    close(fd);
    close(ends[0]);
    close(ends[1]);
    free(memory);
    return good;
}

/* KiB of memory that is free. */
static inline long hostile_free_kib(void)
{
    struct sysinfo info;
    return sysinfo(&info) == 0 ? (long)(info.freeram / 1024 * info.mem_unit) : -1;
}

/* Whether what was free is free again, but for `slack` KiB: it may take a moment. */
static inline bool hostile_given_back(long before, long slack)
{
    for (int i = 0; i < 200 && hostile_free_kib() < before - slack; i++)
        test_sleep_ms(10);
    return hostile_free_kib() >= before - slack;
}
#endif
