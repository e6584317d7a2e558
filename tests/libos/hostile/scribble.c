/* SPDX-License-Identifier: MIT
 *
 * A program that writes over its own library OS: the addresses where that lies on
 * exovisor (libos/linux/proto.h; on Linux stack and vDSO lie there), and its GS base. It may
 * come to any end; its parent, and whoever shares a pipe and memory with it, go on. */
#include <asm/prctl.h>
#include <sched.h>
#include <setjmp.h>
#include "hostile.h"

#define FIRST 0x7ffff7000000ul
#define LAST 0x7ffffffff000ul
#define PAGE 4096ul

static sigjmp_buf back;
static int ends[2];
static volatile char *shared;

static void skip(int number)
{
    (void)number;
    siglongjmp(back, 1);
}

/* Some calls, for whoever is still able to. */
static void go_on(void)
{
    char byte = 0;
    for (int i = 0; i < 100; i++) {
        syscall(SYS_getppid);
        syscall(SYS_write, ends[1], "xxxx", 4);
        syscall(SYS_read, ends[0], &byte, 1);
        syscall(SYS_brk, 0);
    }
}

/* Writes `value` at one place of each page, or over all of it; its own stack is left out. */
static void scribble(uint64_t value, size_t step)
{
    static volatile uintptr_t place;
    static uintptr_t own;
    static uint64_t state;
    struct sigaction action = {.sa_handler = skip, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    own = (uintptr_t)__builtin_frame_address(0) & ~0xfffful;
    state = value | 1;
    for (place = FIRST; place < LAST; place += PAGE) {
        if (place >= own && place < own + 0x20000) continue;
        if (sigsetjmp(back, 0)) continue;
        for (size_t i = 0; i < PAGE; i += step)
            *(volatile uint64_t *)(place + i) = value ? random_next(&state) : 0;
    }
    go_on();
}

static void scribble_zeroes(void) { scribble(0, 8); }

static void scribble_random(void) { scribble(0x1234567, 8); }

static void scribble_sparsely(void) { scribble(0x7654321, PAGE); }

static void set_gs(void)
{
    static const uint64_t values[] = {
        0, 8, 0x400000, FIRST, LAST, 0x7fffffffe000, 0xffffffff80000000};
    for (size_t i = 0; i < COUNT(values); i++) {
        syscall(SYS_arch_prctl, ARCH_SET_GS, values[i]);
        syscall(SYS_getppid);
    }
    go_on();
}

static void write_gs(void)
{
    __asm__ volatile("wrgsbase %0" : : "r"(0ul));
    go_on();
}

static void write_gs_odd(void)
{
    __asm__ volatile("wrgsbase %0" : : "r"(0x7ffff7000123ul));
    go_on();
}

static void odd_stack(void)
{
    __asm__ volatile(
        "mov %0, %%rsp\n\tmov $110, %%eax\n\tsyscall\n\tmov $110, %%eax\n\tsyscall\n\tpush %%rax"
        :
        : "r"(0x7ffff7000ff8ul)
        : "rax", "rcx", "r11", "memory");
}

static void unmap_all(void)
{
    for (uintptr_t place = FIRST; place < LAST; place += PAGE << 6)
        munmap((void *)place, PAGE << 6);
    munmap((void *)0x400000, 0x100000);
    go_on();
}

static void map_over(void)
{
    for (uintptr_t place = FIRST; place < LAST; place += PAGE << 8)
        mmap((void *)place, PAGE << 8, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    go_on();
}

/* ---- what two processes share of a pipe ------------------------------------------------ */

#define SHARED_FIRST 0x7ffff80bb000ul /* LX_RING_VA; on Linux nothing lies there */
#define SHARED_LAST 0x7ffff80bf000ul
#define TURNS 40 /* after so many a pipe may be shared */

static int there[2], back_again[2];

/* Writes all over it, or over its first words, between calls. */
static void spoil_shared(unsigned round)
{
    static volatile uintptr_t place;
    static volatile unsigned i;
    static uint64_t state;
    state = round + 77;
    for (i = 0; i < 50; i++) {
        for (place = SHARED_FIRST; place < SHARED_LAST; place += PAGE) {
            if (sigsetjmp(back, 0)) continue;
            for (size_t k = 0; k < (round % 2 ? PAGE : 16); k += 8)
                *(volatile uint64_t *)(place + k) = random_next(&state);
        }
        if (i % 8 == round % 8 && write(back_again[1], "spoiled", 7) < 0) break;
        sched_yield();
    }
}

static void spoiler(unsigned round)
{
    char byte;
    struct sigaction action = {.sa_handler = skip, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    close(there[1]);
    close(back_again[0]);
    for (int i = 0; i < TURNS; i++)
        if (read(there[0], &byte, 1) != 1 || write(back_again[1], &byte, 1) != 1) _exit(8);
    spoil_shared(round);
    _exit(9);
}

/* The spoiler's child process, with whom the pipes have gone to and fro; or -1. */
static pid_t spoiler_start(unsigned round)
{
    char data;
    if (pipe(there) < 0 || pipe(back_again) < 0) return -1;
    pid_t pid = fork();
    if (pid == 0) spoiler(round);
    close(there[0]);
    close(back_again[1]);
    bool good = pid > 0;
    for (int i = 0; i < TURNS && good; i++)
        good = write(there[1], "t", 1) == 1 && read(back_again[0], &data, 1) == 1;
    return good ? pid : -1;
}

/* Whether what it left in the pipe comes to an end. */
static bool spoiled_ends(void)
{
    char data[256];
    int reads = 0;
    while (read(back_again[0], data, sizeof data) > 0 && reads < 4096)
        reads++;
    close(there[1]);
    close(back_again[0]);
    return reads < 4096;
}

/* This side writes meanwhile, and reads when the spoiler has ended, if it has to be killed for it. */
static bool beside_spoiler(unsigned round)
{
    pid_t pid = spoiler_start(round);
    for (int i = 0; i < 20; i++)
        if (write(there[1], "words", 5) < 0) break;
    int status = -1;
    for (int i = 0; pid > 0 && i < 3000 && waitpid(pid, &status, WNOHANG) == 0; i++) {
        if (i == 1000) kill(pid, SIGKILL);
        test_sleep_ms(1);
    }
    return spoiled_ends() && (WIFEXITED(status) || WIFSIGNALED(status));
}

/* This side reads in the midst of it. */
static bool reading_spoiled(unsigned round)
{
    pid_t pid = spoiler_start(round);
    bool good = spoiled_ends();
    int status = -1;
    return pid > 0 && waitpid(pid, &status, 0) == pid && good;
}

static const struct {
    const char *name;
    void (*run)(void);
} ways[] = {
    {"zeroes", scribble_zeroes}, {"random", scribble_random}, {"sparsely", scribble_sparsely},
    {"set_gs", set_gs},          {"write_gs", write_gs},      {"write_gs_odd", write_gs_odd},
    {"odd_stack", odd_stack},    {"unmap_all", unmap_all},    {"map_over", map_over},
};

int main(void)
{
    char name[64];
    test_begin("scribble");
    test_directory();
    if (pipe2(ends, O_NONBLOCK) < 0) return 1;
    shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    hostile_all_well();
    long before = hostile_free_kib();
    for (size_t i = 0; i < COUNT(ways); i++) {
        int status = hostile_run(ways[i].run, 3000);
        snprintf(name, sizeof name, "%s_ended", ways[i].name);
        CHECK(name, status != -1);
        char data[512];
        while (read(ends[0], data, sizeof data) > 0)
            ;
        snprintf(name, sizeof name, "%s_neighbours", ways[i].name);
        CHECK(name, hostile_all_well() && write(ends[1], "p", 1) == 1 &&
                        read(ends[0], data, 2) == 1 && data[0] == 'p');
    }
    bool good = true;
    signal(SIGPIPE, SIG_IGN);
    for (unsigned round = 0; round < 16; round++)
        good = good && beside_spoiler(round) && reading_spoiled(round);
    CHECK("shared_pipe", good);
    CHECK("shared_pipe_neighbours", hostile_all_well());
    CHECK("given_back", hostile_given_back(before, 512));
    return test_end();
}
