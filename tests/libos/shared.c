/* SPDX-License-Identifier: MIT
 *
 * Files that are mapped to be written, whose pages lie here and there: many more than a process
 * of exovisor has at a time. */
#include <setjmp.h>
#include <sys/mman.h>
#include "test.h"

#define PAGE 4096ul
#define PAGES 600ul
#define STEP 37ul /* has no divisor in common with PAGES: i * STEP goes through all of them */
#define WORDS (PAGE / sizeof(uint32_t))

static uint32_t *map, *again;

static uint32_t *page_at(uint32_t *of, unsigned long page) { return of + page * WORDS; }

static bool pages_are(const uint32_t *of, uint32_t add)
{
    for (unsigned long i = 0; i < PAGES; i++) {
        unsigned long page = i * 7 % PAGES;
        if (of[page * WORDS] != page + add || of[page * WORDS + WORDS - 1] != page + add)
            return false;
    }
    return true;
}

static void pages_set(uint32_t *of, uint32_t add)
{
    for (unsigned long i = 0; i < PAGES; i++) {
        uint32_t *words = page_at(of, i * STEP % PAGES);
        words[0] = words[WORDS - 1] = (uint32_t)(i * STEP % PAGES) + add;
    }
}

/* A file whose pages were made out of order, among those of another one. */
static int scattered(void)
{
    int fd = open("scattered", O_RDWR | O_CREAT, 0600);
    int other = open("other", O_RDWR | O_CREAT, 0600);
    uint32_t words[WORDS] = {0};
    for (unsigned long i = 0; i < PAGES; i++) {
        unsigned long page = i * STEP % PAGES;
        words[0] = words[WORDS - 1] = (uint32_t)page;
        if (pwrite(fd, words, PAGE, (off_t)(page * PAGE)) != (ssize_t)PAGE ||
            pwrite(other, words, PAGE, (off_t)(i * PAGE)) != (ssize_t)PAGE)
            return -1;
    }
    close(other);
    return fd;
}

static void in_child(void)
{
    if (!pages_are(map, 1000)) _exit(1);
    pages_set(map, 2000);
}

/* Whether reading all of the file with one call, into the other mapping, gives what is there. */
static bool read_all(int fd)
{
    char *from = (char *)again, *file = (char *)map;
    if (pread(fd, file, 300 * PAGE, (off_t)(300 * PAGE)) != (ssize_t)(300 * PAGE)) return false;
    return memcmp(file, from + 300 * PAGE, 300 * PAGE) == 0;
}

/* ---- a file that becomes shorter, and longer again ------------------------------------------- */

#define CUT 8 /* pages */

static sigjmp_buf back;

static void jump(int number)
{
    (void)number;
    siglongjmp(back, 1);
}

static bool bus_error(volatile char *at)
{
    if (sigsetjmp(back, 1)) return true;
    (void)*at;
    return false;
}

/* What is behind the end cannot be touched. */
static bool cut_there(char *m)
{
    bool good = m[0] == 1;
    for (unsigned long i = 1; i < CUT; i++)
        good &= bus_error(m + i * PAGE);
    return good;
}

/* Has touched the pages, is told that they are gone, makes room for others. */
static void cut_child(int fd, char *m, const int ends[4])
{
    char byte = 0;
    bool good = m[PAGE] == 1 && write(ends[3], &byte, 1) == 1 && read(ends[0], &byte, 1) == 1;
    good = good && cut_there(m) && ftruncate(fd, CUT * PAGE) == 0 && !m[PAGE];
    if (good) m[PAGE] = 3;
    _exit(good ? 0 : 1);
}

static void test_cut(void)
{
    char byte = 0;
    int fd = open("cut", O_RDWR | O_CREAT, 0600), ends[4], status = -1;
    signal(SIGBUS, jump);
    CHECK("cut_make", ftruncate(fd, CUT * PAGE) == 0 && pipe(ends) == 0 && pipe(ends + 2) == 0);
    char *m = mmap(NULL, CUT * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    for (unsigned long i = 0; i < CUT; i++)
        m[i * PAGE] = 1;
    pid_t pid = fork();
    if (pid == 0) cut_child(fd, m, ends);
    CHECK("cut", read(ends[2], &byte, 1) == 1 && ftruncate(fd, PAGE / 2) == 0 && cut_there(m));
    CHECK("cut_child", write(ends[1], &byte, 1) == 1 && waitpid(pid, &status, 0) == pid && !status);
    CHECK("longer", !status && m[PAGE] == 3 && !m[2 * PAGE] && m[0] == 1);
    if (!status) m[2 * PAGE] = 4;
    CHECK("longer_file", pread(fd, &byte, 1, 2 * PAGE) == 1 && byte == 4);
    CHECK("cut_all", ftruncate(fd, 0) == 0 && bus_error(m) && bus_error(m + 2 * PAGE));
    CHECK("cut_unmap", munmap(m, CUT * PAGE) == 0);
    signal(SIGBUS, SIG_DFL);
    for (int i = 0; i < 4; i++)
        close(ends[i]);
    close(fd);
}

int main(void)
{
    test_begin("shared");
    test_directory();
    int fd = scattered();
    CHECK("made", fd >= 0);
    map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    again = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK("map", map != MAP_FAILED && again != MAP_FAILED);
    CHECK("contents", pages_are(map, 0));
    pages_set(map, 1000);
    CHECK("written", pages_are(map, 1000) && pages_are(again, 1000));
    CHECK("child", test_child(in_child) == 0 && pages_are(map, 2000) && pages_are(again, 2000));
    pages_set(again, 3000);
    CHECK("written_again", pages_are(map, 3000) && msync(map, PAGES * PAGE, MS_SYNC) == 0);
    uint32_t word = 0;
    bool same = true;
    for (unsigned long i = 0; i < PAGES; i++)
        same = same && pread(fd, &word, 4, (off_t)(i * PAGE)) == 4 && word == i + 3000;
    CHECK("file", same);
    CHECK("read_into", read_all(fd));
    CHECK("unmap", munmap(map, PAGES * PAGE) == 0 && munmap(again, PAGES * PAGE) == 0);
    CHECK("sparse", ftruncate(fd, 0) == 0 && ftruncate(fd, PAGES * PAGE) == 0);
    map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    pages_set(map, 4000);
    CHECK("sparse_written", pages_are(map, 4000));
    unlink("scattered");
    unlink("other");
    test_cut();
    return test_end();
}
