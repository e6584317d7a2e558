/* SPDX-License-Identifier: MIT
 *
 * Page replacement: programs that use more memory than they are allotted (RLIMIT_RSS, which
 * Linux takes and ignores), by each policy, with what can come between: fork, threads, calls
 * that read and write large buffers, mremap, mlock, memory that somebody else needs. Where memory
 * is really given up (exovisor), the faults tell which policy was at work. */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include "test.h"

#define PAGE 4096ul
#define PAGES 512ul /* of memory that is gone through */
#define ALLOTTED 256ul /* pages: of the whole program */
#define ROUNDS 6
#define PR_EXO_REPLACE 0x45584f01 /* libos/linux/library/replace.h */
enum { CLOCK, FIFO, MRU, RANDOM, POLICIES };
static const char *const policies[POLICIES] = {"clock", "fifo", "mru", "random"};

static uint64_t *memory;
static bool replaces; /* this system does give up pages */

static uint64_t *map(size_t pages)
{
    void *m = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return m == MAP_FAILED ? NULL : m;
}

static long majors(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_majflt;
}

/* 0: without a limit. */
static int allot(size_t pages)
{
    struct rlimit limit = {pages ? pages * PAGE : RLIM_INFINITY, RLIM_INFINITY};
    return setrlimit(RLIMIT_RSS, &limit);
}

static uint64_t word_of(size_t page, size_t i, uint64_t salt)
{
    return (page * 512 + i + 1) * 0x9e3779b97f4a7c15ul + salt;
}

static void fill(uint64_t *at, size_t pages, uint64_t salt)
{
    for (size_t p = 0; p < pages; p++)
        for (size_t i = 0; i < 512; i += 7)
            at[p * 512 + i] = word_of(p, i, salt);
}

static bool filled(const uint64_t *at, size_t pages, uint64_t salt)
{
    for (size_t p = 0; p < pages; p++)
        for (size_t i = 0; i < 512; i += 7)
            if (at[p * 512 + i] != word_of(p, i, salt)) return false;
    return true;
}

/* ---- policies ---- */

/* Goes round through all pages; faults of a round. */
static long cyclic_faults(int policy, bool *right)
{
    *right = true;
    if (replaces && prctl(PR_EXO_REPLACE, policy) < 0) return -1;
    fill(memory, PAGES, (uint64_t)policy);
    long before = majors();
    for (int round = 0; round < ROUNDS; round++)
        *right &= filled(memory, PAGES, (uint64_t)policy);
    return (majors() - before) / ROUNDS;
}

static void test_policies(void)
{
    long faults[POLICIES];
    CHECK("allot", allot(ALLOTTED) == 0);
    for (int policy = 0; policy < POLICIES; policy++) {
        bool right;
        faults[policy] = cyclic_faults(policy, &right);
        CHECK(policies[policy], right);
        dprintf(1, "%s: %ld faults a round of %lu pages\n", policies[policy], faults[policy],
                PAGES);
    }
    /* Who goes round finds with the oldest gone first never a page, with the newest gone first
     * all that fit. */
    CHECK("clock_faults", !replaces || faults[CLOCK] > (long)PAGES * 9 / 10);
    CHECK("fifo_faults", !replaces || faults[FIFO] > (long)PAGES * 9 / 10);
    CHECK("mru_faults", !replaces || (faults[MRU] > 0 && faults[MRU] < (long)PAGES * 2 / 3));
    CHECK("random_faults",
          !replaces || (faults[RANDOM] > faults[MRU] && faults[RANDOM] < faults[FIFO]));
}

/* A few pages that are used all the time stay under clock, and go under fifo. */
static long hot_faults(int policy)
{
    volatile uint64_t *hot = map(32);
    uint64_t sum = 0;
    if (replaces) prctl(PR_EXO_REPLACE, policy);
    for (size_t p = 0; p < 32; p++)
        hot[p * 512] = p;
    fill(memory, PAGES, 1);
    long cold = 0, all = majors();
    for (int round = 0; round < ROUNDS; round++)
        for (size_t p = 0; p < PAGES; p++) {
            long before = majors();
            sum += memory[p * 512];
            cold += majors() - before;
            sum += hot[p % 32 * 512];
        }
    munmap((void *)hot, 32 * PAGE);
    return sum ? majors() - all - cold : -1;
}

static void test_hot(void)
{
    long clock = hot_faults(CLOCK), fifo = hot_faults(FIFO);
    dprintf(1, "hot pages: clock %ld faults, fifo %ld\n", clock, fifo);
    CHECK("hot", !replaces || (clock >= 0 && 2 * clock < fifo));
}

/* ---- what a program says of an area (madvise) ---- */

static size_t there(const void *at, size_t pages)
{
    unsigned char state[PAGES];
    size_t n = 0;
    if (mincore((void *)at, pages * PAGE, state) < 0) return PAGES + 1;
    for (size_t i = 0; i < pages; i++)
        n += state[i] & 1;
    return n;
}

/* Pages that are there when the first four of an area were written one after the other. */
static size_t written_there(int advice)
{
    char *at = (char *)map(64);
    bool said = madvise(at, 64 * PAGE, advice) == 0;
    for (size_t i = 0; i < 4; i++)
        at[i * PAGE] = 1;
    size_t n = there(at, 64);
    munmap(at, 64 * PAGE);
    return said ? n : PAGES + 1;
}

/* Pages of a file that are there when one was read. */
static size_t read_there(int fd, int advice, bool *right)
{
    volatile char *at = mmap(NULL, 16 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    madvise((void *)at, 16 * PAGE, advice);
    *right &= at[5 * PAGE] == 'f';
    size_t n = there((const void *)at, 16);
    munmap((void *)at, 16 * PAGE);
    return n;
}

static void test_advice(void)
{
    long fifo = hot_faults(FIFO);
    CHECK("sequential", madvise(memory, PAGES * PAGE, MADV_SEQUENTIAL) == 0);
    long behind = hot_faults(FIFO);
    CHECK("sequential_right", filled(memory, PAGES, 1));
    CHECK("normal", madvise(memory, PAGES * PAGE, MADV_NORMAL) == 0);
    long again = hot_faults(FIFO);
    dprintf(1, "hot pages beside: normal %ld faults, sequential %ld, normal %ld\n", fifo, behind,
            again);
    madvise(memory, PAGES * PAGE, MADV_RANDOM);
    fill(memory, PAGES, 2);
    CHECK("random_right", filled(memory, PAGES, 2));
    madvise(memory, PAGES * PAGE, MADV_NORMAL);
    CHECK("drop_behind", !replaces || (behind >= 0 && 4 * behind < fifo && 4 * behind < again));
}

/* Where there is room, more comes than what is touched, unless the program said that it jumps. */
static void test_random(void)
{
    size_t normal = written_there(MADV_NORMAL), few = written_there(MADV_RANDOM);
    CHECK("random_written", normal >= 4 && few == 4 && (!replaces || normal > 4));
    char page[PAGE];
    bool right = true;
    int fd = open("advice", O_RDWR | O_CREAT | O_TRUNC, 0600);
    memset(page, 'f', sizeof page);
    for (int i = 0; i < 16; i++)
        right &= write(fd, page, sizeof page) == (ssize_t)sizeof page;
    normal = read_there(fd, MADV_NORMAL, &right);
    few = read_there(fd, MADV_RANDOM, &right);
    CHECK("random_read", right && (!replaces || (normal == 4 && few == 1)));
    close(fd);
    uint64_t *hole = map(16);
    CHECK("hole", munmap(hole + 8 * 512, PAGE) == 0 &&
                      madvise(hole, 16 * PAGE, MADV_SEQUENTIAL) < 0 && errno == ENOMEM);
    munmap(hole, 16 * PAGE);
}

/* ---- what may come between ---- */

static void test_buffers(void)
{
    char name[] = "replace.data";
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    size_t bytes = PAGES * PAGE, done = 0;
    for (ssize_t n; done < bytes && (n = write(fd, (char *)memory + done, bytes - done)) > 0;)
        done += (size_t)n;
    CHECK("write_large", done == bytes);
    uint64_t *other = map(PAGES);
    lseek(fd, 0, SEEK_SET);
    done = 0;
    for (ssize_t n; done < bytes && (n = read(fd, (char *)other + done, bytes - done)) > 0;)
        done += (size_t)n;
    CHECK("read_large", done == bytes && memcmp(other, memory, bytes) == 0);
    munmap(other, bytes);
    close(fd);
    unlink(name);
}

static void child_checks(void)
{
    if (!filled(memory, PAGES, 9)) _exit(1);
    fill(memory, PAGES, 10);
    if (!filled(memory, PAGES, 10)) _exit(2);
}

static void test_fork(void)
{
    fill(memory, PAGES, 9);
    pid_t pid = fork();
    if (pid == 0) {
        child_checks();
        _exit(0);
    }
    fill(memory, PAGES / 2, 11);
    int status = -1;
    waitpid(pid, &status, 0);
    CHECK("fork_child", status == 0);
    CHECK("fork_parent",
          filled(memory, PAGES / 2, 11) && memory[PAGES / 2 * 512] == word_of(PAGES / 2, 0, 9));
    fill(memory, PAGES, 12);
    CHECK("fork_after", filled(memory, PAGES, 12));
}

static void *thread_run(void *word)
{
    uint64_t salt = (uint64_t)word, *own = map(PAGES / 2);
    bool good = own != NULL;
    for (int round = 0; good && round < 3; round++) {
        fill(own, PAGES / 2, salt + (uint64_t)round);
        good = filled(own, PAGES / 2, salt + (uint64_t)round);
    }
    munmap(own, PAGES / 2 * PAGE);
    return (void *)(uintptr_t)good;
}

/* Each in a large read that waits, while the others make its pages go. */
static void *reader_run(void *word)
{
    int fd = (int)(intptr_t)word;
    char *buffer = (char *)map(16);
    size_t done = 0;
    for (ssize_t n; done < 16 * PAGE && (n = read(fd, buffer + done, 16 * PAGE - done)) > 0;)
        done += (size_t)n;
    bool good = done == 16 * PAGE;
    for (size_t i = 0; i < done; i++)
        good &= buffer[i] == (char)(i * 7);
    return (void *)(uintptr_t)good;
}

static void test_threads(void)
{
    pthread_t thread[4], reader;
    int fds[2];
    bool good = true;
    char piece[512];
    CHECK("pipe", pipe(fds) == 0);
    pthread_create(&reader, NULL, reader_run, (void *)(intptr_t)fds[0]);
    for (uintptr_t i = 0; i < COUNT(thread); i++)
        pthread_create(&thread[i], NULL, thread_run, (void *)(i * 1000));
    for (size_t i = 0; i < 16 * PAGE; i += sizeof piece) {
        for (size_t k = 0; k < sizeof piece; k++)
            piece[k] = (char)((i + k) * 7);
        if (write(fds[1], piece, sizeof piece) != sizeof piece) break;
        if (i % 8192 == 0) test_sleep_ms(1);
    }
    for (size_t i = 0; i < COUNT(thread); i++) {
        void *result;
        pthread_join(thread[i], &result);
        good &= result != NULL;
    }
    void *result;
    pthread_join(reader, &result);
    CHECK("threads", good);
    CHECK("threads_read", result != NULL);
    close(fds[0]);
    close(fds[1]);
}

static void test_areas(void)
{
    fill(memory, PAGES, 20);
    CHECK("pageout", madvise(memory, PAGES * PAGE, MADV_PAGEOUT) == 0 && filled(memory, PAGES, 20));
    long before = majors();
    CHECK("mlock", mlock(memory, 64 * PAGE) == 0);
    fill(memory + 64 * 512, PAGES - 64, 21);
    before = majors();
    CHECK("mlock_stays", filled(memory, 64, 20) && majors() < before + 8);
    CHECK("munlock", munlock(memory, 64 * PAGE) == 0);
    uint64_t *moved = mremap(memory, PAGES * PAGE, 2 * PAGES * PAGE, MREMAP_MAYMOVE);
    CHECK("mremap", moved != MAP_FAILED && filled(moved, 64, 20) &&
                        moved[100 * 512] == word_of(36, 0, 21) && moved[PAGES * 512] == 0);
    memory = moved;
    CHECK("shrink", munmap(memory + PAGES * 512, PAGES * PAGE) == 0);
    madvise(memory, PAGES * PAGE, MADV_PAGEOUT);
    CHECK("protect_none", mprotect(memory, PAGES * PAGE, PROT_NONE) == 0);
    CHECK("protect_again",
          mprotect(memory, PAGES * PAGE, PROT_READ | PROT_WRITE) == 0 && filled(memory, 64, 20));
    madvise(memory, 64 * PAGE, MADV_DONTNEED);
    CHECK("dontneed", memory[0] == 0 && memory[63 * 512] == 0);
}

/* ---- memory that somebody else needs ---- */

/* A child has most of the memory; another program needs more than is left. What the first one
 * had is still right, once it is given time to be asked. */
static void hoard(size_t pages, int ready, int go)
{
    char byte = 0;
    allot(0);
    uint64_t *all = map(pages);
    if (!all) _exit(3);
    fill(all, pages, 30);
    if (write(ready, &byte, 1) != 1 || read(go, &byte, 1) != 1) _exit(4);
    long before = majors();
    if (!filled(all, pages, 30)) _exit(5);
    _exit(replaces && majors() == before ? 6 : 0); /* it had to give some back */
}

static void test_asked(void)
{
    struct sysinfo info;
    int ready[2], go[2], status = -1;
    char byte = 0;
    sysinfo(&info);
    size_t free = info.freeram / PAGE / 2; /* exovisor: half of it is for files */
    if (pipe(ready) < 0 || pipe(go) < 0) return;
    pid_t pid = fork();
    if (pid == 0) hoard(free * 9 / 10, ready[1], go[0]);
    CHECK("hoarded", read(ready[0], &byte, 1) == 1);
    uint64_t *more = map(free / 6);
    fill(more, free / 6, 31);
    CHECK("asked", filled(more, free / 6, 31));
    munmap(more, free / 6 * PAGE);
    CHECK("asked_told", write(go[1], &byte, 1) == 1);
    waitpid(pid, &status, 0);
    CHECK("asked_whole", status == 0);
}

/* Memory is free, but in small pieces between those of others. */
static void test_pieces(void)
{
    enum { OTHERS = 40 };
    struct sysinfo info;
    int ready[2], go[2][2];
    char byte;
    bool good = pipe(ready) == 0 && pipe(go[0]) == 0 && pipe(go[1]) == 0;
    sysinfo(&info);
    size_t free = info.freeram / PAGE / 2;
    for (int i = 0; i < OTHERS && good; i++) {
        if (fork() == 0) {
            uint64_t *own = map(free / 60);
            fill(own, free / 60, 50);
            close(go[0][1]);
            close(go[1][1]);
            good = write(ready[1], "r", 1) == 1 && read(go[i & 1][0], &byte, 1) == 0;
            _exit(!good || !filled(own, free / 60, 50));
        }
        good = read(ready[0], &byte, 1) == 1;
    }
    close(go[0][1]); /* every other one ends */
    for (int i = 0, status; i < OTHERS / 2; i++)
        good &= wait(&status) > 0 && status == 0;
    CHECK("pieces", good);
    long before = majors();
    uint64_t *all = map(free / 5 * 2);
    fill(all, free / 5 * 2, 51);
    CHECK("pieces_filled", filled(all, free / 5 * 2, 51) && majors() == before);
    munmap(all, free / 5 * 2 * PAGE);
    close(go[1][1]);
    for (int i = 0, status; i < OTHERS / 2; i++)
        good &= wait(&status) > 0 && status == 0;
    CHECK("pieces_others", good);
}

/* The environment chooses the policy of a program that is executed; the allotment stays. */
static int choice(const char *wish)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_RSS, &limit) < 0 || limit.rlim_cur != ALLOTTED * PAGE) return 20;
    int policy = prctl(PR_EXO_REPLACE, CLOCK);
    return policy < 0 || strcmp(policies[policy], wish) == 0 ? 0 : 21;
}

static void chooses(const char *value, const char *wish)
{
    char variable[32];
    snprintf(variable, sizeof variable, "EXO_REPLACE=%s", value);
    char *argv[] = {"replace", (char *)wish, NULL}, *envp[] = {"A=b", variable, NULL};
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        execve("/proc/self/exe", argv, envp);
        _exit(22);
    }
    waitpid(pid, &status, 0);
    char name[40];
    snprintf(name, sizeof name, "choice_%s", value);
    CHECK(name, status == 0);
}

/* ---- for whoever takes memory from the whole system (tools/shell.py) ---- */

/* Fills so many MiB, and at SIGUSR1 looks whether all is still there. */
static int hold(size_t pages)
{
    sigset_t set;
    int signal;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    uint64_t *all = map(pages);
    if (!all) return 3;
    fill(all, pages, 40);
    dprintf(1, "holds\n");
    long before = majors();
    sigwait(&set, &signal);
    bool whole = filled(all, pages, 40);
    dprintf(1, "%s, %s\n", whole ? "whole" : "LOST",
            majors() > before ? "some came back" : "all stayed");
    return whole ? 0 : 1;
}

/* Fills it and goes round through it without being told of anything: what is asked for it does not
 * give. Ends by SIGBUS where something was taken. */
static int refuse(size_t pages)
{
    volatile uint64_t *all = map(pages);
    if (!all) return 3;
    fill((uint64_t *)all, pages, 41);
    dprintf(1, "refuses\n");
    for (size_t p = 0;; p = (p + 1) % pages) {
        if (replaces) __asm__ volatile("movq $0, %gs:8"); /* exo_upcall_page.event_mask */
        if (all[p * 512] != word_of(p, 0, 41)) return 4;
    }
}

int main(int argc, char **argv)
{
    if (argc == 2) return choice(argv[1]);
    replaces = prctl(PR_EXO_REPLACE, CLOCK) >= 0;
    if (argc == 3 && !strcmp(argv[1], "hold")) return hold(strtoul(argv[2], NULL, 10) * 256);
    if (argc == 3 && !strcmp(argv[1], "refuse")) return refuse(strtoul(argv[2], NULL, 10) * 256);
    test_begin("replace");
    test_directory();
    memory = map(PAGES);
    test_random();
    test_policies();
    test_hot();
    test_advice();
    test_buffers();
    test_fork();
    test_threads();
    test_areas();
    for (int policy = 0; policy < POLICIES; policy++)
        chooses(policies[policy], policies[policy]);
    chooses("oldest", "clock");
    allot(0);
    test_asked();
    test_pieces();
    return test_end();
}
