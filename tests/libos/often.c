/* SPDX-License-Identifier: MIT
 *
 * What a process, or a line of processes, can do as often as it likes: nothing is used up by it. */
#include <sys/mman.h>
#include <sys/mount.h>
#include "test.h"

#define EXECS 150

/* A program that executes itself again: `left` times more. */
static void exec_again(int left)
{
    char text[16];
    if (!left) _exit(42);
    snprintf(text, sizeof text, "%d", left - 1);
    execl("/proc/self/exe", "again", text, NULL);
    dprintf(1, "often: errno %d, %d to go\n", errno, left);
    _exit(1);
}

static void test_exec(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) exec_again(EXECS);
    CHECK("exec", waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 42);
}

/* What a program had mapped is not in use any more when another one is executed. */
static void test_exec_closes(void)
{
    int status, ends[2];
    char byte;
    mkdir("mount", 0755);
    CHECK("mount", mount("none", "mount", "tmpfs", 0, NULL) == 0 && pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open("mount/file", O_RDWR | O_CREAT, 0644);
        volatile char *m = ftruncate(fd, 4096) == 0
                               ? mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                               : MAP_FAILED;
        if (m == MAP_FAILED) _exit(1);
        *m = 1;
        close(fd);
        fcntl(ends[1], F_SETFD, FD_CLOEXEC);
        execl("/bin/sleep", "sleep", "100", NULL);
        _exit(1);
    }
    close(ends[1]);
    CHECK("executed", read(ends[0], &byte, 1) == 0);
    CHECK("exec_unmaps", umount("mount") == 0);
    CHECK("killed", kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
    umount("mount");
    close(ends[0]);
}

/* ---- memory ----------------------------------------------------------------------------------- */

#define TIMES 600
#define SPAN (2ul << 20) /* what one page table maps */
#define PAGE 4096ul

/* A page at a time, so far from the one before that it has its own page table, of zeroes or of a
 * file, and is unmapped before the next. */
static bool far_map(int flags, int fd)
{
    for (int i = 0; i < TIMES; i++) {
        char *at = (char *)0x100000000000ul + i * SPAN;
        char *m = mmap(at, PAGE, PROT_READ | PROT_WRITE, flags | MAP_PRIVATE | MAP_FIXED, fd, 0);
        if (m != at || *m != (fd < 0 ? 0 : 0x7f)) return false;
        *m = 1;
        if (munmap(m, PAGE) < 0) return false;
    }
    return true;
}

/* The same in one mapping, where pages are only forgotten. */
static bool far_forget(char *m)
{
    for (int i = 0; i < TIMES; i++) {
        if (m[i * SPAN]) return false;
        m[i * SPAN] = 1;
        if (madvise(m + i * SPAN, PAGE, MADV_DONTNEED) < 0) return false;
    }
    return true;
}

/* And all at once, of which a child sees the same. */
static bool far_keep(char *m)
{
    for (int i = 0; i < TIMES; i++)
        m[i * SPAN] = (char)(i + 1);
    pid_t pid = fork();
    bool good = pid >= 0;
    for (int i = 0; i < TIMES && good; i++)
        good = m[i * SPAN]++ == (char)(i + 1);
    if (pid == 0) _exit(good ? 0 : 1);
    int status;
    return waitpid(pid, &status, 0) == pid && status == 0 && good;
}

static void test_far(void)
{
    char *m = mmap(NULL, TIMES * SPAN, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK("far_forget", m != MAP_FAILED && far_forget(m) && far_forget(m));
    CHECK("far_keep", m != MAP_FAILED && far_keep(m));
    munmap(m, TIMES * SPAN);
    CHECK("far_unmap", far_map(MAP_ANONYMOUS, -1));
    int fd = open("/proc/self/exe", O_RDONLY);
    CHECK("far_file", fd >= 0 && far_map(0, fd));
    close(fd);
}

/* Shared memory that is unmapped, with a child that has it too now and then: the child sees what is
 * written, and memory mapped anew is zero. */
static bool shared_round(int i)
{
    char *m = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED || m[0] || m[2 * PAGE]) return false;
    m[0] = m[2 * PAGE] = 1;
    pid_t pid = i % 8 ? -1 : fork();
    if (pid == 0) {
        m[PAGE] = 2;
        bool good = munmap(m, PAGE) == 0 && m[2 * PAGE] == 1;
        m[2 * PAGE] = 3;
        _exit(good && munmap(m + PAGE, 2 * PAGE) == 0 ? 0 : 1);
    }
    int status = 0;
    if (pid > 0 && (waitpid(pid, &status, 0) != pid || status)) return false;
    if (pid > 0 && (m[PAGE] != 2 || m[2 * PAGE] != 3)) return false;
    return munmap(m, PAGE) == 0 && munmap(m + PAGE, 2 * PAGE) == 0;
}

static void test_shared(void)
{
    int i = 0;
    char *kept[200];
    while (i < TIMES && shared_round(i))
        i++;
    CHECK("shared_unmap", i == TIMES);
    for (i = 0; i < 200; i++) {
        kept[i] = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (kept[i] == MAP_FAILED || *kept[i]) break;
        *kept[i] = (char)i;
    }
    CHECK("shared_many", i == 200);
    while (i-- > 0 && *kept[i] == (char)i && munmap(kept[i], PAGE) == 0)
        ;
    CHECK("shared_contents", i == -1);
}

/* Generations: each changes something of a memory that only the first one filled, and ends. */
#define GENERATIONS 150
#define LINE_PAGES 256

static char line[LINE_PAGES * PAGE];
struct last {
    int generation, wrong;
};

static void generations(struct last *last)
{
    for (int g = 1; g <= GENERATIONS; g++) {
        for (int i = 0; i < 20; i++)
            line[(g * 97 + i * 13) % LINE_PAGES * PAGE] = (char)(g + i);
        pid_t pid = fork();
        if (pid != 0) _exit(pid < 0);
        for (int i = 0; i < 20; i++)
            last->wrong += line[(g * 97 + i * 13) % LINE_PAGES * PAGE] != (char)(g + i);
        last->generation = g;
    }
    for (int i = 0; i < LINE_PAGES; i++)
        last->wrong += line[i * PAGE + 1] != (char)i;
}

static void test_generations(void)
{
    struct last *last = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ends[2];
    char byte;
    for (int i = 0; i < LINE_PAGES; i++)
        line[i * PAGE + 1] = (char)i;
    if (last == MAP_FAILED || pipe(ends) < 0) return;
    pid_t pid = fork();
    if (pid == 0) {
        generations(last);
        _exit(0);
    }
    close(ends[1]);
    CHECK("generations_end", read(ends[0], &byte, 1) == 0 && waitpid(pid, NULL, 0) == pid);
    CHECK("generations", last->generation == GENERATIONS);
    CHECK("generations_contents", !last->wrong);
    close(ends[0]);
    munmap(last, PAGE);
}

/* Many mappings of one file, in and out of order, and of many files at a time. */
#define MAPPINGS 200

static bool map_one(int fd)
{
    char *m[MAPPINGS];
    int i = 0, left = 0;
    for (; i < MAPPINGS; i++) {
        m[i] = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, i % 7 * 2 * (long)PAGE);
        if (m[i] == MAP_FAILED) return false;
    }
    bool good = true;
    for (i = 0; i < MAPPINGS; i++) /* one that is used again when most are gone */
        if (i != 77) good &= munmap(m[i], PAGE) == 0;
    for (i = 0; i < (int)PAGE; i++)
        left += m[77][i] == 0;
    return good && left == (int)PAGE && munmap(m[77], PAGE) == 0;
}

static bool map_files(void)
{
    char *m[MAPPINGS], name[32];
    int i = 0;
    for (; i < MAPPINGS; i++) {
        snprintf(name, sizeof name, "mapped%d", i);
        int fd = open(name, O_RDWR | O_CREAT, 0644);
        if (fd < 0 || write(fd, &i, 1) != 1) break;
        m[i] = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
        if (close(fd) < 0 || unlink(name) < 0 || m[i] == MAP_FAILED) break;
    }
    bool good = i == MAPPINGS;
    while (i-- > 0 && *m[i] == (char)i && munmap(m[i], PAGE) == 0)
        ;
    return good && i == -1;
}

static void test_mappings(void)
{
    int fd = open("one", O_RDWR | O_CREAT, 0644);
    CHECK("map_one", fd >= 0 && ftruncate(fd, 14 * PAGE) == 0 && map_one(fd) && map_one(fd));
    close(fd);
    CHECK("map_files", map_files());
}

/* Neighbours that differ in what may be done with them; each is changed, and all are joined again. */
#define AREAS 1500

static void test_areas(void)
{
    char *m = mmap(NULL, AREAS * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool good = m != MAP_FAILED;
    for (int i = 0; good && i < AREAS; i++) {
        m[i * PAGE] = (char)i;
        good = i % 2 || mprotect(m + i * PAGE, PAGE, PROT_READ) == 0;
    }
    CHECK("areas", good);
    pid_t pid = good ? fork() : -1;
    for (int i = 0; good && i < AREAS; i++) {
        good = m[i * PAGE] == (char)i;
        if (i % 2) m[i * PAGE] = 0;
    }
    if (pid == 0) _exit(good ? 0 : 1);
    int status;
    CHECK("areas_inherited", waitpid(pid, &status, 0) == pid && status == 0 && good);
    CHECK("areas_join", mprotect(m, AREAS * PAGE, PROT_READ | PROT_WRITE) == 0);
    for (int i = 0; good && i < AREAS; i++)
        good = m[i * PAGE]++ == (char)(i % 2 ? 0 : i);
    CHECK("areas_contents", good && munmap(m, AREAS * PAGE) == 0);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[0], "again")) exec_again(atoi(argv[1]));
    test_begin("often");
    test_directory();
    test_exec();
    test_exec_closes();
    test_far();
    test_shared();
    test_generations();
    test_mappings();
    test_areas();
    return test_end();
}
