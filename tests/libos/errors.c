/* SPDX-License-Identifier: MIT
 *
 * Bad pointers and odd arguments: each is an error for who gave them, and nothing else. */
#include <dirent.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include "test.h"

#define PAGE 4096ul
static char *edge; /* the byte behind a readable and writable page: nothing is there */
static char *fixed; /* a page that is only readable */
static const struct {
    const char *name;
    uintptr_t place;
} bad[] = {
    {"null", 0},
    {"low", 0x10},
    {"kernel", 0xffff800000001000ul},
    {"noncanonical", 0x0000900000000000ul},
    {"top", UINTPTR_MAX - 7},
};

/* Raw calls: the C library's own code would touch some of these itself. */
static void check_everywhere(const char *call, long number, int argument, long a, long b, long c,
                             long d)
{
    char name[64];
    for (size_t i = 0; i < COUNT(bad); i++) {
        long arguments[4] = {a, b, c, d};
        arguments[argument] = (long)bad[i].place;
        snprintf(name, sizeof name, "%s_%s", call, bad[i].name);
        CHECK_ERROR(name, syscall(number, arguments[0], arguments[1], arguments[2], arguments[3]),
                    EFAULT);
    }
}

static void test_pointers(void)
{
    int ends[2], file = open("file", O_RDWR | O_CREAT, 0644), directory = open(".", O_RDONLY);
    struct epoll_event event = {.events = EPOLLIN};
    int e = epoll_create1(0);
    if (pipe(ends) < 0 || write(ends[1], "12345678", 8) != 8 || write(file, "12345678", 8) != 8)
        dprintf(1, "FAIL errors.setup\n");
    epoll_ctl(e, EPOLL_CTL_ADD, ends[0], &event);
    check_everywhere("read_pipe", SYS_read, 1, ends[0], 0, 8, 0);
    check_everywhere("write_pipe", SYS_write, 1, ends[1], 0, 8, 0);
    check_everywhere("pread_file", SYS_pread64, 1, file, 0, 8, 0);
    check_everywhere("write_file", SYS_write, 1, file, 0, 8, 0);
    check_everywhere("open", SYS_open, 0, 0, O_RDONLY, 0, 0);
    check_everywhere("stat_path", SYS_stat, 0, 0, (long)edge - 144, 0, 0);
    check_everywhere("stat_result", SYS_stat, 1, (long)"file", 0, 0, 0);
    check_everywhere("fstat", SYS_fstat, 1, file, 0, 0, 0);
    check_everywhere("pipe2", SYS_pipe2, 0, 0, 0, 0, 0);
    check_everywhere("getdents", SYS_getdents64, 1, directory, 0, 512, 0);
    check_everywhere("getcwd", SYS_getcwd, 0, 0, 512, 0, 0);
    check_everywhere("rename", SYS_rename, 1, (long)"file", 0, 0, 0);
    check_everywhere("execve", SYS_execve, 0, 0, 0, 0, 0);
    check_everywhere("uname", SYS_uname, 0, 0, 0, 0, 0);
    check_everywhere("poll", SYS_poll, 0, 0, 1, 0, 0);
    check_everywhere("epoll_wait", SYS_epoll_wait, 1, e, 0, 1, 0);
    check_everywhere("getrandom", SYS_getrandom, 0, 0, 8, 0, 0);
    check_everywhere("getrlimit", SYS_getrlimit, 1, RLIMIT_NOFILE, 0, 0, 0);
    check_everywhere("readlink", SYS_readlink, 1, (long)"/proc/self", 0, 64, 0);
    check_everywhere("statfs", SYS_statfs, 1, (long)".", 0, 0, 0);
    check_everywhere("writev", SYS_writev, 1, file, 0, 1, 0);
    for (size_t i = 1; i < COUNT(bad); i++) {
        char name[64];
        snprintf(name, sizeof name, "sigaction_%s", bad[i].name);
        CHECK_ERROR(name, syscall(SYS_rt_sigaction, SIGUSR1, bad[i].place, 0, 8), EFAULT);
        snprintf(name, sizeof name, "nanosleep_%s", bad[i].name);
        CHECK_ERROR(name, syscall(SYS_nanosleep, bad[i].place, 0), EFAULT);
        snprintf(name, sizeof name, "clock_%s", bad[i].name);
        if (i != 2 && i != 4) /* without a kernel's help these may be signals: not promised */
            CHECK_ERROR(name, syscall(SYS_clock_gettime, CLOCK_MONOTONIC, bad[i].place), EFAULT);
    }
    CHECK("pipe_still_there",
          read(ends[0], edge - 8, 8) == 8 && memcmp(edge - 8, "12345678", 8) == 0);
    close(ends[0]);
    close(ends[1]);
    close(file);
    close(directory);
    close(e);
}

static void test_edges(void)
{
    int ends[2], file = open("file2", O_RDWR | O_CREAT, 0644);
    struct iovec io[2];
    strcpy(edge - 8, "file2");
    CHECK("path_at_edge", open(edge - 8, O_RDONLY) >= 0);
    memcpy(edge - 5, "file2", 5);
    CHECK_ERROR("path_over_edge", open(edge - 5, O_RDONLY), EFAULT);
    CHECK_ERROR("stat_over_edge", syscall(SYS_fstat, file, edge - 100), EFAULT);
    memset(edge - PAGE, 'e', PAGE);
    ssize_t n = write(file, edge - 100, 200);
    CHECK("write_over_edge", n == 100 || (n < 0 && errno == EFAULT));
    CHECK("write_to_edge", pwrite(file, edge - 100, 100, 0) == 100);
    n = pread(file, edge - 50, 100, 0);
    CHECK("read_over_edge", n == 50 || (n < 0 && errno == EFAULT));
    CHECK_ERROR("read_into_fixed", pread(file, fixed, 10, 0), EFAULT);
    CHECK("fixed_unchanged", fixed[0] == 0);
    CHECK_ERROR("stat_into_fixed", syscall(SYS_fstat, file, fixed), EFAULT);
    if (pipe(ends) < 0) return;
    io[0] = (struct iovec){edge - 10, 10};
    io[1] = (struct iovec){edge, 10};
    n = writev(ends[1], io, 2);
    CHECK("writev_over_edge", n == 10 || (n < 0 && errno == EFAULT));
    CHECK("huge_length",
          (n = pread(file, edge - PAGE, SIZE_MAX / 2, 0), n == 100 || (n < 0 && errno == EFAULT)));
    io[0].iov_len = SIZE_MAX;
    CHECK_ERROR("iov_overflow", writev(ends[1], io, 1), EINVAL);
    CHECK("zero_length", write(ends[1], NULL, 0) == 0 && read(file, NULL, 0) == 0);
    close(ends[0]);
    close(ends[1]);
    close(file);
}

static void test_arguments(void)
{
    CHECK_ERROR("fd_negative", read(-1, edge - 8, 1), EBADF);
    CHECK_ERROR("fd_large", read(0x7fffffff, edge - 8, 1), EBADF);
    CHECK_ERROR("dup2_large", dup2(1, 0x7fffffff), EBADF);
    CHECK_ERROR("poll_many", syscall(SYS_poll, edge - 8, 0x7fffffff, 0), EINVAL);
    CHECK_ERROR("kill_int_min", kill(-0x7fffffff - 1, 0), ESRCH);
    CHECK_ERROR("lseek_large", lseek(open("file", O_RDONLY), INT64_MIN, SEEK_SET), EINVAL);
    CHECK_ERROR("pread_negative", pread(open("file", O_RDONLY), edge - 8, 1, -1), EINVAL);
    CHECK_ERROR("ioctl_file", ioctl(open("file", O_RDONLY), TIOCGWINSZ, edge - 8), ENOTTY);
    CHECK_ERROR("mount_nothing", syscall(SYS_mount, "none", "/no/such/place", "tmpfs", 0, 0),
                ENOENT);
    CHECK_ERROR("fchmod_bad", fchmod(500, 0), EBADF);
    CHECK_ERROR("waitid_odd", waitid((idtype_t)9, 0, NULL, WEXITED), EINVAL);
    CHECK_ERROR("sigaction_size", syscall(SYS_rt_sigaction, SIGUSR1, 0, 0, 4), EINVAL);
    CHECK_ERROR("clone_odd", syscall(SYS_clone, 0x00010000 | 17, 0, 0, 0, 0), EINVAL);
    char path[5000];
    memset(path, '/', sizeof path);
    path[4999] = 0;
    CHECK_ERROR("path_too_long", open(path, O_RDONLY), ENAMETOOLONG);
    memset(path, 'a', 3);
    path[4095] = 0;
    for (int i = 3; i < 4095; i += 2)
        path[i] = '/', path[i + 1] = '.';
    CHECK_ERROR("path_deep", open(path, O_RDONLY), ENOENT);
}

int main(void)
{
    test_begin("errors");
    test_directory();
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages + PAGE, PAGE, PROT_NONE);
    edge = pages + PAGE;
    fixed = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    test_pointers();
    test_edges();
    test_arguments();
    return test_end();
}
