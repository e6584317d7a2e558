/* SPDX-License-Identifier: MIT
 *
 * A program that has most of the memory and does not answer when some of it is asked back: it
 * shuts its library out. On exovisor it loses memory by force after a while, and gets SIGBUS
 * where that was; on Linux nothing is asked. Whoever needs the memory gets it. */
#include <sys/prctl.h>
#include "hostile.h"

#define PAGE 4096ul
#define SPINS 2000 /* milliseconds */

static int ready[2];

/* exovisor's library hears of events by a mask in the page at the thread's GS base (struct
 * exo_upcall_page); Linux' threads have no GS base. */
static void deafen(void)
{
    uint64_t base;
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    if (base) ((volatile uint64_t *)base)[1] = 0;
}

static void hold(void)
{
    struct sysinfo info;
    char byte = 0;
    sysinfo(&info);
    size_t bytes = info.freeram / 2 / 10 * 9 & -PAGE;
    volatile char *all =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) _exit(3);
    for (size_t i = 0; i < bytes; i += PAGE)
        all[i] = 1;
    if (write(ready[1], &byte, 1) != 1) _exit(4);
    deafen();
    for (uint64_t state = 1;;) /* now with no call of anything */
        all[hostile_random(&state) % bytes] = 2;
}

static size_t wanted;

static void touch(void)
{
    volatile char *memory =
        mmap(NULL, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) _exit(1);
    for (size_t i = 0; i < wanted; i += PAGE)
        memory[i] = 1;
}

static void test_deaf(void)
{
    struct sysinfo info;
    char byte;
    int status = 0;
    sysinfo(&info);
    CHECK("pipe", pipe(ready) == 0);
    pid_t pid = fork();
    if (pid == 0) hold();
    CHECK("held", read(ready[0], &byte, 1) == 1);
    wanted = info.freeram / 2 / 8 & -PAGE;
    CHECK("got", test_child(touch) == 0);
    test_sleep_ms(SPINS);
    bool linux_kernel = prctl(0x45584f01, 0) < 0; /* it knows no page replacement of ours */
    bool ended = waitpid(pid, &status, WNOHANG) == pid;
    CHECK("taken", linux_kernel || (ended && WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS));
    if (ended) return;
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
}

int main(void)
{
    test_begin("hold");
    test_directory();
    long before = hostile_free_kib();
    test_deaf();
    CHECK("well", hostile_all_well());
    CHECK("given_back", hostile_given_back(before, 2048));
    return test_end();
}
