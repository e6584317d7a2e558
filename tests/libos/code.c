/* SPDX-License-Identifier: MIT
 *
 * Where system calls are made from: sites that more than one path reaches, code that
 * changes, code that looks at itself, and what a call must leave as it was. */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/time.h>
#include "test.h"

#define PAGE 4096ul
#define THREADS 3

/* site_fixed: the usual form; site_inside is its syscall alone, reached with another
 * number in eax. site_any: a site for all numbers. site_shared: two ways to one syscall. */
__asm__(".text\n"
        ".globl site_page, site_fixed, site_inside, site_any, site_shared, site_first, site_odd, "
        "site_after\n"
        ".p2align 4\n"
        "site_fixed: mov $39, %eax\n" /* getpid */
        "site_inside: syscall\n"
        "ret\n"
        ".p2align 4\n"
        "site_any: mov %rdi, %rax\n"
        "mov %rsi, %rdi\n"
        "mov %rdx, %rsi\n"
        "mov %rcx, %rdx\n"
        "syscall\n"
        "ret\n"
        ".p2align 4\n"
        "site_shared: mov $110, %eax\n" /* getppid */
        "jmp 1f\n"
        "site_first: mov $39, %eax\n"
        "1: syscall\n"
        "ret\n"
        ".p2align 4\n"
        "site_odd: mov $0x90909090, %eax\n" /* its bytes are instructions, too */
        "syscall\n"
        "ret\n"
        ".p2align 4\n"
        "site_after: mov $39, %eax\n"
        "syscall\n"
        "test %rax, %rax\n" /* a jump to here must not see the syscall's rest */
        "2: sete %al\n"
        "ret\n"
        ".p2align 12\n"
        "site_page: mov $39, %eax\n" /* alone in its page */
        "syscall\n"
        "ret\n"
        ".p2align 12\n");
long site_fixed(void), site_shared(void), site_first(void), site_odd(void), site_after(void);
long site_page(void);
long site_any(long number, long a, long b, long c);
extern char site_inside[];

/* Calls `code` with rax = number. */
static long call_with(const void *code, long number)
{
    long result;
    __asm__ volatile("call *%2" : "=a"(result) : "a"(number), "r"(code) : "rcx", "r11", "memory");
    return result;
}

static void test_sites(void)
{
    long me = getpid(), parent = getppid();
    bool good = true;
    CHECK("inside_first", call_with(site_inside, SYS_getppid) == parent);
    for (int i = 0; i < 100; i++)
        good = good && site_fixed() == me && call_with(site_inside, SYS_getppid) == parent;
    CHECK("inside", good);
    good = true;
    for (int i = 0; i < 100; i++)
        good = good && site_any(SYS_getpid, 0, 0, 0) == me &&
               site_any(SYS_getppid, 0, 0, 0) == parent && site_any(SYS_close, 999, 0, 0) == -EBADF;
    CHECK("any_number", good);
    good = true;
    for (int i = 0; i < 100; i++)
        good = good && site_shared() == parent && site_first() == me;
    CHECK("two_ways", good);
    CHECK("odd_number", site_odd() == -ENOSYS && site_odd() == -ENOSYS);
    CHECK("inside_odd_number", call_with((char *)site_odd + 1, SYS_getppid) == parent);
    CHECK("after", (site_after() & 255) == 0 && (site_after() & 255) == 0);
    CHECK("upper_half_ignored", site_any(0x700000027, 0, 0, 0) == me);
    CHECK("unknown", site_any(5000, 0, 0, 0) == -ENOSYS && site_any(-1, 0, 0, 0) == -ENOSYS);
}

static void test_own_bytes(void)
{
    static const unsigned char expected[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};
    unsigned char in_file[sizeof expected];
    int fd = open("/proc/self/exe", O_RDONLY);
    unsigned char header[64];
    bool good =
        read(fd, header, sizeof header) == sizeof header && memcmp(header, "\177ELF", 4) == 0;
    CHECK("own_file", good);
    uint64_t table, base = 0;
    uint16_t entries;
    memcpy(&table, header + 32, 8);
    memcpy(&entries, header + 56, 2);
    good = false;
    extern char __executable_start[];
    base = header[16] == 3 ? (uint64_t)(uintptr_t)__executable_start : 0;
    for (int i = 0; i < entries; i++) {
        uint64_t field[7]; /* ELF64: type and flags, offset, address, ... */
        if (pread(fd, field, 56, (off_t)(table + (uint64_t)i * 56)) != 56 ||
            (uint32_t)field[0] != 1)
            continue;
        uint64_t place = (uint64_t)(uintptr_t)site_fixed - base - field[2];
        if (place < field[4])
            good = pread(fd, in_file, 8, (off_t)(field[1] + place)) == 8 &&
                   memcmp(in_file, expected, 8) == 0;
    }
    close(fd);
    CHECK("own_file_unchanged", good);
}

static unsigned char *page;

static void store(const unsigned char *code, size_t n, int protection)
{
    mprotect(page, PAGE, PROT_READ | PROT_WRITE);
    memcpy(page, code, n);
    mprotect(page, PAGE, protection);
}

static void test_changing(void)
{
    static const unsigned char getpid_code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};
    static const unsigned char getppid_code[] = {0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3};
    static const unsigned char constant[] = {0xb8, 7, 0, 0, 0, 0x90, 0x90, 0xc3};
    long me = getpid(), parent = getppid();
    page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                0);
    long (*run)(void) = (long (*)(void))page;
    memcpy(page, getpid_code, 8);
    bool good = run() == me && run() == me;
    page[1] = 110;
    CHECK("changed_in_place", good && run() == parent && run() == parent);
    memcpy(page, constant, 8);
    CHECK("changed_to_other_code", run() == 7);
    good = true;
    for (int i = 0; i < 20; i++) {
        store(getpid_code, 8, PROT_READ | PROT_EXEC);
        good = good && run() == me && run() == me;
        store(getppid_code, 8, PROT_READ | PROT_EXEC);
        good = good && run() == parent && run() == parent;
        store(constant, 8, PROT_READ | PROT_EXEC);
        good = good && run() == 7;
    }
    CHECK("changed_by_protection", good);
    store(getpid_code, 8, PROT_READ | PROT_EXEC);
    good = run() == me && run() == me;
    mprotect(page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    page[1] = 110;
    CHECK("changed_after_use", good && run() == parent);
    mprotect(page, 2 * PAGE, PROT_READ | PROT_WRITE);
    memcpy(page + PAGE - 6, getpid_code, 8); /* the syscall has a byte on each page */
    mprotect(page, 2 * PAGE, PROT_READ | PROT_EXEC);
    run = (long (*)(void))(page + PAGE - 6);
    CHECK("over_two_pages", run() == me && run() == me);
    mprotect(page, 2 * PAGE, PROT_READ | PROT_WRITE);
    memcpy(page + 2 * PAGE - 8, getpid_code, 8);
    mprotect(page, 2 * PAGE, PROT_READ | PROT_EXEC);
    run = (long (*)(void))(page + 2 * PAGE - 8);
    CHECK("end_of_page", run() == me && run() == me);
    munmap(page, 2 * PAGE);
    page = mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    run = (long (*)(void))page;
    store(getppid_code, 8, PROT_READ | PROT_EXEC);
    CHECK("mapped_again", run() == parent && run() == parent);
    munmap(page, PAGE);
}

/* Everything but rax, rcx and r11 is as before, the 128 bytes below the stack pointer too. */
static bool registers_kept(long number, unsigned round)
{
    uint64_t before[14], after[13];
    for (int i = 0; i < 13; i++)
        before[i] = 0x1111111111111111u * (unsigned)(i + 1) + round;
    before[13] = (uint64_t)number;
    uint64_t *from = before, *to = after;
    __asm__ volatile("push %%rbp\n\tpush %%rbx\n\tpush %[after]\n\tmov %[before], %%rax\n\t"
                     "mov (%%rax), %%rbx\n\tmov 8(%%rax), %%rdx\n\tmov 16(%%rax), %%rsi\n\t"
                     "mov 24(%%rax), %%rdi\n\tmov 32(%%rax), %%rbp\n\tmov 40(%%rax), %%r8\n\t"
                     "mov 48(%%rax), %%r9\n\tmov 56(%%rax), %%r10\n\tmov 64(%%rax), %%r12\n\t"
                     "mov 72(%%rax), %%r13\n\tmov 80(%%rax), %%r14\n\tmov 88(%%rax), %%r15\n\t"
                     "movq 96(%%rax), %%xmm7\n\tmov %%r15, -128(%%rsp)\n\tmov %%r14, -8(%%rsp)\n\t"
                     "mov 104(%%rax), %%eax\n\tsyscall\n\t"
                     "xor -128(%%rsp), %%r15\n\txor -8(%%rsp), %%r14\n\t"
                     "pop %%rax\n\tmov %%rbx, (%%rax)\n\tmov %%rdx, 8(%%rax)\n\t"
                     "mov %%rsi, 16(%%rax)\n\tmov %%rdi, 24(%%rax)\n\tmov %%rbp, 32(%%rax)\n\t"
                     "mov %%r8, 40(%%rax)\n\tmov %%r9, 48(%%rax)\n\tmov %%r10, 56(%%rax)\n\t"
                     "mov %%r12, 64(%%rax)\n\tmov %%r13, 72(%%rax)\n\tmov %%r14, 80(%%rax)\n\t"
                     "mov %%r15, 88(%%rax)\n\tmovq %%xmm7, 96(%%rax)\n\tpop %%rbx\n\tpop %%rbp"
                     : [before] "+a"(from), [after] "+c"(to)
                     :
                     : "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
                       "xmm7", "memory", "cc");
    before[10] = before[11] = 0; /* these were compared with the stack */
    return memcmp(before, after, sizeof after) == 0;
}

static volatile sig_atomic_t interruptions;

static void interrupt(int number)
{
    (void)number;
    interruptions++;
}

/* Calls that do something quickly, or refuse these arguments: while a timer interrupts them
 * and what is around them. */
static void test_interrupted(void)
{
    static const short numbers[] = {SYS_getpid, SYS_getppid, SYS_gettid,     SYS_read,
                                    SYS_close,  SYS_kill,    SYS_sched_yield};
    struct itimerval often = {{0, 500}, {0, 500}}, none = {{0, 0}, {0, 0}};
    bool good = true;
    signal(SIGALRM, interrupt);
    setitimer(ITIMER_REAL, &often, NULL);
    unsigned rounds = 0;
    for (int64_t end = test_now_ms() + 10000;
         rounds < 30000 || (interruptions < 300 && test_now_ms() < end); rounds++)
        good = registers_kept(numbers[rounds % COUNT(numbers)], rounds) && good;
    CHECK("interruptions", interruptions >= 300);
    CHECK("registers_kept_interrupted", good);
    signal(SIGALRM, SIG_IGN);
    good = true;
    for (int64_t end = test_now_ms() + 1000; rounds % 64 != 0 || test_now_ms() < end; rounds++)
        good = registers_kept(numbers[rounds % COUNT(numbers)], rounds) && good;
    setitimer(ITIMER_REAL, &none, NULL);
    CHECK("registers_kept_ignoring", good);
}

static void test_registers(void)
{
    bool good = true;
    for (unsigned round = 0; round < 3; round++)
        good = registers_kept(SYS_getppid, round) && good;
    CHECK("registers_kept", good);
    uint64_t flags;
    __asm__ volatile("std\n\tmov $110, %%eax\n\tsyscall\n\tpushf\n\tpop %0\n\tcld"
                     : "=r"(flags)
                     :
                     : "rax", "rcx", "r11", "memory", "cc");
    CHECK("direction_flag_kept", flags & 0x400);
}

static long racing_expected;
static volatile int go;

static void *race(void *argument)
{
    long (*run)(void) = (long (*)(void))page;
    while (!go)
        sched_yield();
    for (int i = 0; i < 200; i++)
        if (run() != racing_expected) return argument;
    return NULL;
}

static void test_race(void)
{
    static const unsigned char getppid_code[] = {0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3};
    bool good = true;
    int failed = 0;
    racing_expected = getppid();
    for (int round = 0; round < 10; round++) {
        pthread_t thread[THREADS];
        page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        store(getppid_code, 8, PROT_READ | PROT_EXEC);
        go = 0;
        for (int i = 0; i < THREADS; i++)
            pthread_create(&thread[i], NULL, race, &failed);
        go = 1;
        for (int i = 0; i < THREADS; i++) {
            void *result = NULL;
            pthread_join(thread[i], &result);
            good = good && result == NULL;
        }
        munmap(page, PAGE);
    }
    CHECK("race_to_a_site", good);
}

/* ---- text that moves, and pages of the program's behind its own ---- */

extern char _end[];

static bool sites_good(void)
{
    bool good = true;
    for (int i = 0; i < 30; i++)
        good &= site_fixed() == getpid() && site_page() == getpid() && close(-1) < 0;
    return good;
}

static char *behind(void) { return (char *)(((uintptr_t)_end + PAGE - 1) & -PAGE); }

static void maps_behind(void)
{
    int prot = PROT_READ | PROT_WRITE;
    char *at = mmap(behind(), PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (at != behind()) _exit(1);
    memset(at, 0xcc, PAGE);
    _exit(!sites_good() || at[0] != (char)0xcc);
}

static void unmaps_behind(void)
{
    if (munmap(behind(), PAGE) < 0) _exit(1);
    _exit(!sites_good());
}

static void moves_text(void)
{
    char *to = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *text = (void *)site_page;
    if (mremap(text, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to) _exit(1);
    for (int i = 0; i < 30; i++)
        if (call_with(to, 0) != getpid() || site_fixed() != getpid()) _exit(2);
    _exit(0);
}

static void test_moved(void)
{
    CHECK("called", sites_good());
    CHECK("mapped_behind", test_child(maps_behind) == 0);
    CHECK("unmapped_behind", test_child(unmaps_behind) == 0);
    CHECK("text_moved", test_child(moves_text) == 0);
    CHECK("still_called", sites_good());
}

int main(void)
{
    test_begin("code");
    test_sites();
    test_own_bytes();
    test_changing();
    test_registers();
    test_interrupted();
    test_race();
    test_moved();
    return test_end();
}
