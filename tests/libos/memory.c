/* SPDX-License-Identifier: MIT
 *
 * Memory: mappings, protection, copy on write, what fork and shared mappings see. */
#include <setjmp.h>
#include <sys/mman.h>
#include "test.h"

#define PAGE 4096ul
static sigjmp_buf back;

static void jump(int number)
{
    (void)number;
    siglongjmp(back, 1);
}

/* Whether reading (or writing) there faults. */
static bool faults(volatile char *place, bool write)
{
    if (sigsetjmp(back, 1)) return true;
    if (write)
        *place = 1;
    else
        (void)*place;
    return false;
}

static bool all_zero(const char *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (data[i]) return false;
    return true;
}

static char *map(void *at, size_t pages, int protection, int flags)
{
    return mmap(at, pages * PAGE, protection, flags | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void test_anonymous(void)
{
    char *m = map(NULL, 64, PROT_READ | PROT_WRITE, 0);
    CHECK("map", m != MAP_FAILED && ((uintptr_t)m & (PAGE - 1)) == 0);
    CHECK("zero", all_zero(m, 64 * PAGE));
    memset(m, 5, 64 * PAGE);
    CHECK("unmap_middle", munmap(m + 16 * PAGE, 16 * PAGE) == 0);
    CHECK("unmapped_faults",
          faults(m + 20 * PAGE, false) && !faults(m, false) && !faults(m + 32 * PAGE, true));
    CHECK("unmap_twice", munmap(m + 16 * PAGE, 16 * PAGE) == 0);
    CHECK("map_fixed", map(m + 16 * PAGE, 16, PROT_READ | PROT_WRITE, MAP_FIXED) == m + 16 * PAGE &&
                           all_zero(m + 16 * PAGE, 16 * PAGE) && m[15 * PAGE] == 5);
    CHECK("map_fixed_over", map(m, 2, PROT_READ | PROT_WRITE, MAP_FIXED) == m &&
                                all_zero(m, 2 * PAGE) && m[2 * PAGE] == 5);
    CHECK_ERROR("noreplace", map(m, 1, PROT_READ, MAP_FIXED_NOREPLACE), EEXIST);
    CHECK_ERROR("map_nothing", mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                EINVAL);
    CHECK_ERROR("map_no_kind", mmap(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0), EINVAL);
    CHECK_ERROR("map_unaligned",
                mmap(m + 5, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
                EINVAL);
    CHECK_ERROR("map_huge", mmap(NULL, 1ul << 47, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                ENOMEM);
    CHECK_ERROR("unmap_unaligned", munmap(m + 5, PAGE), EINVAL);
    CHECK_ERROR("unmap_endless", syscall(SYS_munmap, m, -1ul), EINVAL);
    CHECK_ERROR("unmap_beyond", syscall(SYS_munmap, m, 1ul << 62), EINVAL);
    CHECK("unmap_all", munmap(m, 64 * PAGE) == 0 && faults(m, false));
    char *large = mmap(NULL, 1ul << 30, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK("large_reservation", large != MAP_FAILED);
    if (large != MAP_FAILED) {
        large[0] = large[(1ul << 30) - 1] = large[1ul << 29] = 7;
        CHECK("large_sparse", large[1ul << 29] == 7 && large[(1ul << 29) + PAGE] == 0);
        munmap(large, 1ul << 30);
    }
    char *none = map(NULL, 1, PROT_NONE, 0);
    CHECK("none", faults(none, false) && faults(none, true));
    munmap(none, PAGE);
}

static void test_protection(void)
{
    char *m = map(NULL, 8, PROT_READ | PROT_WRITE, 0);
    memset(m, 3, 8 * PAGE);
    CHECK("protect_read", mprotect(m + 2 * PAGE, 2 * PAGE, PROT_READ) == 0);
    CHECK("protected", !faults(m + 2 * PAGE, false) && faults(m + 3 * PAGE, true) &&
                           !faults(m + 4 * PAGE, true));
    CHECK("data_kept", m[2 * PAGE] == 3);
    CHECK("protect_none",
          mprotect(m + 2 * PAGE, PAGE, PROT_NONE) == 0 && faults(m + 2 * PAGE, false));
    CHECK("protect_again", mprotect(m, 8 * PAGE, PROT_READ | PROT_WRITE) == 0 &&
                               !faults(m + 2 * PAGE, true) && m[2 * PAGE + 1] == 3);
    CHECK_ERROR("protect_unaligned", syscall(SYS_mprotect, m + 1, PAGE, PROT_READ), EINVAL);
    CHECK_ERROR("protect_endless", syscall(SYS_mprotect, m, -1ul, PROT_READ), ENOMEM);
    munmap(m + 4 * PAGE, PAGE);
    CHECK_ERROR("protect_hole", mprotect(m, 8 * PAGE, PROT_READ), ENOMEM);
    mprotect(m, 8 * PAGE, PROT_READ | PROT_WRITE);
    static const unsigned char code[] = {0xb8, 0x2a, 0, 0, 0, 0xc3}; /* mov $42, %eax; ret */
    memcpy(m, code, sizeof code);
    CHECK("execute", mprotect(m, PAGE, PROT_READ | PROT_EXEC) == 0 && ((int (*)(void))m)() == 42);
    mprotect(m, PAGE, PROT_READ | PROT_WRITE);
    munmap(m, 8 * PAGE);
}

static void test_remap(void)
{
    char *m = map(NULL, 4, PROT_READ | PROT_WRITE, 0);
    memset(m, 9, 4 * PAGE);
    char *larger = mremap(m, 4 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    CHECK("remap_larger", larger != MAP_FAILED && larger[4 * PAGE - 1] == 9 &&
                              all_zero(larger + 4 * PAGE, 60 * PAGE));
    char *smaller = mremap(larger, 64 * PAGE, 2 * PAGE, 0);
    CHECK("remap_smaller",
          smaller == larger && faults(larger + 2 * PAGE, false) && larger[PAGE] == 9);
    char *place = map(NULL, 8, PROT_READ, 0);
    char *moved = mremap(larger, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
    CHECK("remap_fixed",
          moved == place && moved[0] == 9 && moved[3 * PAGE] == 0 && faults(larger, false));
    char *first = map(NULL, 4, PROT_READ | PROT_WRITE, 0);
    char *grown = mremap(first, 4 * PAGE, 400 * PAGE, MREMAP_MAYMOVE);
    char *next = map(NULL, 400, PROT_READ | PROT_WRITE, 0);
    CHECK("remap_no_overlap", next + 400 * PAGE <= grown || grown + 400 * PAGE <= next);
    munmap(grown, 400 * PAGE);
    munmap(next, 400 * PAGE);
    CHECK_ERROR("remap_unmapped", mremap(larger, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
    char *low = map(NULL, 33, PROT_READ | PROT_WRITE, 0);
    memset(low, 6, 33 * PAGE);
    bool right = true;
    for (size_t n = 33, more = 65; n < 600; n = more, more = 2 * more - 1) {
        low = mremap(low, n * PAGE, more * PAGE, MREMAP_MAYMOVE);
        right = right && low != MAP_FAILED && low[0] == 6 && low[33 * PAGE - 1] == 6;
        if (!right || faults(low + more * PAGE - 4, true) || faults(low + n * PAGE, true))
            right = false;
        map(NULL, 1, PROT_READ, 0);
    }
    CHECK("remap_again_and_again", right);
    munmap(place, 8 * PAGE);
}

/* The system call itself: musl's sbrk does not grow. */
static char *set_break(char *to) { return (char *)syscall(SYS_brk, to); }

static void test_break(void)
{
    char *start = set_break(NULL), *end = start + 100000;
    CHECK("brk_grows", set_break(end) == end && set_break(NULL) == end);
    if (set_break(NULL) != end) return;
    CHECK("brk_zero", all_zero(start, 100000));
    memset(start, 1, 100000);
    CHECK("brk_shrinks", set_break(start) == start && set_break(NULL) == start);
    CHECK("brk_zero_again", set_break(end) == end && all_zero(start + PAGE, 100000 - PAGE));
    set_break(start);
    CHECK("brk_refused", set_break((char *)1) == start);
}

static void test_files(void)
{
    int fd = open("mapped", O_RDWR | O_CREAT | O_TRUNC, 0644);
    char data[PAGE * 2 + 100];
    memset(data, 'm', sizeof data);
    bool written = write(fd, data, sizeof data) == sizeof data;
    char *private = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK("file_private",
          written && private != MAP_FAILED && memcmp(private, data, sizeof data) == 0);
    CHECK("file_rest_is_zero", all_zero(private + sizeof data, 3 * PAGE - sizeof data));
    private[0] = 'P';
    CHECK("file_private_write", pread(fd, data, 1, 0) == 1 && data[0] == 'm');
    char *shared = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK("file_shared", shared != MAP_FAILED && shared[PAGE] == 'm');
    if (shared != MAP_FAILED) {
        shared[PAGE] = 'S';
        CHECK("file_shared_write", pread(fd, data, 1, PAGE) == 1 && data[0] == 'S');
        CHECK("file_write_seen", pwrite(fd, "W", 1, PAGE + 1) == 1 && shared[PAGE + 1] == 'W');
        CHECK("private_unchanged_own_page", private[0] == 'P');
        CHECK("msync", msync(shared, 3 * PAGE, MS_SYNC) == 0);
        munmap(shared, 3 * PAGE);
    }
    munmap(private, 3 * PAGE);
    char *offset = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, PAGE);
    CHECK("file_offset", offset != MAP_FAILED && offset[0] == 'S');
    munmap(offset, PAGE);
    CHECK_ERROR("file_offset_odd", mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 100), EINVAL);
    close(fd);
    CHECK_ERROR("file_closed", mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 99, 0), EBADF);
    fd = open("mapped", O_RDONLY);
    CHECK_ERROR("file_readonly_shared", mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0),
                EACCES);
    close(fd);
}

static char *mine, *ours;

static void cow_child(void)
{
    bool good = mine[0] == 'p' && mine[5 * PAGE] == 'p';
    mine[0] = 'c';
    mine[5 * PAGE] = 'c';
    ours[0] = 'c';
    test_sleep_ms(100);
    good = good && mine[0] == 'c' && mine[PAGE] == 'p' && ours[1] == 'q' && mine[7 * PAGE] == 'p';
    _exit(good ? 0 : 1);
}

static void grandchild(void)
{
    mine[2 * PAGE] = 'g';
    int status = test_child(cow_child);
    _exit(status == 0 && mine[2 * PAGE] == 'g' && mine[0] == 'p' ? 0 : 1);
}

#define ROW 40 /* pages */

/* Writes them one after the other: each then has what it had, and the mark. */
static bool row_write(char *row, char mark)
{
    bool good = true;
    for (int i = 0; i < ROW; i++) {
        good = good && row[i * PAGE] == i + 1 && row[(i + 1) * PAGE - 1] == i + 1;
        row[i * PAGE] = mark;
    }
    for (int i = 0; i < ROW; i++)
        good = good && row[i * PAGE] == mark && row[(i + 1) * PAGE - 1] == i + 1;
    return good;
}

/* Who goes through memory may get several pages at once. */
static void test_fork_row(void)
{
    char *row = map(NULL, ROW, PROT_READ | PROT_WRITE, 0), byte = 0;
    int ends[2], status = -1;
    for (int i = 0; i < ROW; i++)
        memset(row + i * PAGE, i + 1, PAGE);
    pid_t pid = pipe(ends) == 0 ? fork() : -1;
    if (pid == 0) _exit(read(ends[0], &byte, 1) == 1 && row_write(row, 'c') ? 0 : 1);
    bool good = row_write(row, 'p') && write(ends[1], &byte, 1) == 1;
    waitpid(pid, &status, 0);
    CHECK("cow_row_parent", good && row[0] == 'p' && row[(ROW - 1) * PAGE] == 'p');
    CHECK("cow_row_child", status == 0);
    close(ends[0]);
    close(ends[1]);
    munmap(row, ROW * PAGE);
}

static void test_fork(void)
{
    mine = map(NULL, 16, PROT_READ | PROT_WRITE, 0);
    ours = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(mine, 'p', 16 * PAGE);
    pid_t pid = fork();
    if (pid == 0) cow_child();
    mine[7 * PAGE] = 'q'; /* the child must not see it */
    ours[1] = 'q'; /* this it must */
    int status = -1;
    waitpid(pid, &status, 0);
    CHECK("cow_child", status == 0);
    CHECK("cow_parent", mine[0] == 'p' && mine[5 * PAGE] == 'p' && mine[7 * PAGE] == 'q');
    CHECK("shared_with_child", ours[0] == 'c');
    mine[7 * PAGE] = 'p';
    ours[1] = 'q';
    CHECK("cow_grandchild", test_child(grandchild) == 0 && mine[2 * PAGE] == 'p');
    bool good = true;
    for (int round = 0; round < 30; round++) {
        mine[3 * PAGE] = (char)round;
        pid = fork();
        if (pid == 0) _exit(mine[3 * PAGE] == round ? 0 : 1);
        mine[3 * PAGE] = (char)(round + 100);
        good = good && waitpid(pid, &status, 0) == pid && status == 0;
    }
    CHECK("cow_many", good);
    char *fresh = map(NULL, 4, PROT_READ | PROT_WRITE, 0);
    pid = fork();
    if (pid == 0) {
        fresh[0] = 1;
        _exit(all_zero(fresh + PAGE, 3 * PAGE) ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    CHECK("untouched_after_fork", status == 0 && all_zero(fresh, 4 * PAGE));
    char buffer[8];
    int ends[2];
    pid = pipe(ends) == 0 ? fork() : -1;
    if (pid == 0) _exit(read(ends[0], mine + 9 * PAGE, 5) == 5 && mine[9 * PAGE] == 'h' ? 0 : 1);
    bool sent = write(ends[1], "hello", 5) == 5;
    waitpid(pid, &status, 0);
    memcpy(buffer, mine + 9 * PAGE, 8);
    CHECK("read_into_cow_page", sent && status == 0 && buffer[0] == 'p' && buffer[4] == 'p');
    munmap(fresh, 4 * PAGE);
}

static void test_advice(void)
{
    char *m = map(NULL, 4, PROT_READ | PROT_WRITE, 0);
    memset(m, 4, 4 * PAGE);
    CHECK("dontneed",
          madvise(m + PAGE, PAGE, MADV_DONTNEED) == 0 && all_zero(m + PAGE, PAGE) && m[0] == 4);
    CHECK("willneed", madvise(m, PAGE, MADV_WILLNEED) == 0);
    CHECK_ERROR("madvise_odd", madvise(m, PAGE, 9999), EINVAL);
    CHECK_ERROR("madvise_endless", syscall(SYS_madvise, m, -1ul, MADV_DONTNEED), EINVAL);
    CHECK_ERROR("mincore_endless", syscall(SYS_mincore, m, -1ul, m), ENOMEM);
    CHECK_ERROR("madvise_unaligned", madvise(m + 1, PAGE, MADV_DONTNEED), EINVAL);
    munmap(m, 4 * PAGE);
    char *big = malloc(20 << 20);
    bool good = big != NULL;
    for (size_t i = 0; good && i < 20 << 20; i += PAGE)
        big[i] = (char)(i >> 12);
    for (size_t i = 0; good && i < 20 << 20; i += PAGE)
        good = big[i] == (char)(i >> 12);
    CHECK("malloc_20m", good);
    free(big);
    volatile char deep[1 << 20];
    for (size_t i = sizeof deep; i > 0; i -= PAGE)
        deep[i - 1] = 1;
    CHECK("stack_grows", deep[PAGE - 1] == 1);
}

int main(void)
{
    test_begin("memory");
    test_directory();
    struct sigaction action = {.sa_handler = jump, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    test_anonymous();
    test_protection();
    test_remap();
    test_break();
    test_files();
    test_fork();
    test_fork_row();
    test_advice();
    return test_end();
}
