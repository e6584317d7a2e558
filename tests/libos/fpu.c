/* SPDX-License-Identifier: MIT
 *
 * The FPU's registers belong to a process alone: several processes keep values in SSE
 * registers over page faults, calls and each other's turns, while others are born. */
#include <sys/mman.h>
#include "test.h"

#define PROCESSES 4
#define PAGES 300
#define PAGE 4096
#define REGISTERS 8

static unsigned char *pages;
static uint64_t in[2 * REGISTERS] __attribute__((aligned(16)));
static uint64_t out[2 * REGISTERS] __attribute__((aligned(16)));

/* Loads eight registers, touches a page (read or write), makes a call, stores them. */
static bool kept(uint64_t key, unsigned char *page, bool write)
{
    long number = SYS_sched_yield;
    for (int i = 0; i < 2 * REGISTERS; i++)
        in[i] = key << 16 | (unsigned)i;
    __asm__ volatile("movdqa (%1), %%xmm0\n\tmovdqa 16(%1), %%xmm1\n\tmovdqa 32(%1), %%xmm2\n\t"
                     "movdqa 48(%1), %%xmm3\n\tmovdqa 64(%1), %%xmm4\n\tmovdqa 80(%1), %%xmm5\n\t"
                     "movdqa 96(%1), %%xmm6\n\tmovdqa 112(%1), %%xmm7\n\t"
                     "testb %4, %4\n\tje 1f\n\tmovb $1, (%3)\n\tjmp 2f\n"
                     "1: testb $1, (%3)\n"
                     "2: syscall\n\t"
                     "movdqa %%xmm0, (%2)\n\tmovdqa %%xmm1, 16(%2)\n\tmovdqa %%xmm2, 32(%2)\n\t"
                     "movdqa %%xmm3, 48(%2)\n\tmovdqa %%xmm4, 64(%2)\n\tmovdqa %%xmm5, 80(%2)\n\t"
                     "movdqa %%xmm6, 96(%2)\n\tmovdqa %%xmm7, 112(%2)"
                     : "+a"(number)
                     : "r"(in), "r"(out), "r"(page), "q"(write)
                     : "rcx", "r11", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",
                       "xmm6", "xmm7");
    return memcmp(in, out, sizeof in) == 0;
}

static void keep(uint64_t key)
{
    bool good = true;
    for (unsigned i = 0; i < PAGES; i++)
        good = kept(key + i, pages + i * PAGE, i & 1) && good;
    unsigned char *fresh =
        mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < PAGES; i++)
        good = kept(key + i, fresh + i * PAGE, i & 1) && good;
    munmap(fresh, PAGES * PAGE);
    _exit(good ? 0 : 1);
}

static void test_processes(void)
{
    bool good = true;
    for (uint64_t round = 0; round < 5; round++) {
        for (uint64_t i = 0; i < PROCESSES; i++)
            if (fork() == 0) keep(round * 100000 + i * 1000);
        int status;
        while (wait(&status) > 0)
            if (status != 0) {
                dprintf(1, "# status %x\n", status);
                good = false;
            }
    }
    CHECK("processes", good);
}

static bool signal_good;
static volatile sig_atomic_t handled;

static void clobber(int number)
{
    (void)number;
    __asm__ volatile("pcmpeqd %%xmm0, %%xmm0\n\tpcmpeqd %%xmm5, %%xmm5" : : : "xmm0", "xmm5");
    handled++;
}

/* A handler's own use of the registers is not seen. */
static void test_handler(void)
{
    signal(SIGCHLD, clobber);
    signal_good = true;
    for (uint64_t i = 0; i < 40; i++) {
        if (fork() == 0) _exit(0);
        for (uint64_t k = 0; handled <= (int)i && k < 100000; k++)
            signal_good = kept(i * 100000 + k, pages, k & 1) && signal_good;
        wait(NULL);
    }
    CHECK("handled", handled > 0);
    CHECK("handler", signal_good);
}

int main(void)
{
    test_begin("fpu");
    pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(pages, 1, PAGES * PAGE);
    test_processes();
    test_handler();
    return test_end();
}
