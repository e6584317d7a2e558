/* SPDX-License-Identifier: MIT
 *
 * Regular files and names: what one process sees of its files. */
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include "test.h"

#define LARGE (300 << 10)

static void write_file(const char *name, const char *text)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        dprintf(1, "FAIL files.write_file %s: errno %d\n", name, errno);
    close(fd);
}

static bool file_is(const char *name, const char *text)
{
    char data[256];
    int fd = open(name, O_RDONLY);
    ssize_t n = read(fd, data, sizeof data);
    close(fd);
    return n == (ssize_t)strlen(text) && memcmp(data, text, (size_t)n) == 0;
}

static void test_open(void)
{
    CHECK_ERROR("open_missing", open("missing", O_RDONLY), ENOENT);
    int fd = open("new", O_RDWR | O_CREAT | O_EXCL, 0640);
    CHECK("open_creates", fd >= 0);
    CHECK_ERROR("open_exclusive", open("new", O_RDWR | O_CREAT | O_EXCL, 0640), EEXIST);
    CHECK("write", write(fd, "hello world", 11) == 11);
    CHECK("seek_set", lseek(fd, 6, SEEK_SET) == 6);
    char data[32];
    CHECK("read_rest", read(fd, data, sizeof data) == 5 && memcmp(data, "world", 5) == 0);
    CHECK("read_at_end", read(fd, data, sizeof data) == 0);
    CHECK("seek_end", lseek(fd, -1, SEEK_END) == 10);
    CHECK("seek_current", lseek(fd, -4, SEEK_CUR) == 6);
    CHECK_ERROR("seek_before_start", lseek(fd, -20, SEEK_CUR), EINVAL);
    CHECK_ERROR("seek_odd", lseek(fd, 0, 77), EINVAL);
    CHECK("pread", pread(fd, data, 5, 0) == 5 && memcmp(data, "hello", 5) == 0);
    CHECK("pwrite", pwrite(fd, "J", 1, 0) == 1 && lseek(fd, 0, SEEK_CUR) == 6);
    close(fd);
    CHECK("pwrite_kept", file_is("new", "Jello world"));
    fd = open("new", O_RDONLY);
    CHECK_ERROR("write_readonly", write(fd, "x", 1), EBADF);
    close(fd);
    CHECK_ERROR("read_closed", read(fd, data, 1), EBADF);
    CHECK_ERROR("close_twice", close(fd), EBADF);
    fd = open("new", O_WRONLY | O_TRUNC);
    CHECK_ERROR("read_writeonly", read(fd, data, 1), EBADF);
    close(fd);
    CHECK("truncated", file_is("new", ""));
    CHECK_ERROR("open_directory_write", open(".", O_WRONLY), EISDIR);
    CHECK_ERROR("open_not_directory", open("new", O_RDONLY | O_DIRECTORY), ENOTDIR);
    CHECK_ERROR("open_through_file", open("new/x", O_RDONLY), ENOTDIR);
    CHECK_ERROR("open_empty", open("", O_RDONLY), ENOENT);
    char name[300];
    memset(name, 'n', sizeof name);
    name[256] = 0;
    CHECK_ERROR("name_too_long", open(name, O_CREAT | O_RDWR, 0644), ENAMETOOLONG);
    name[255] = 0;
    fd = open(name, O_CREAT | O_RDWR, 0644);
    CHECK("name_longest", fd >= 0 && unlink(name) == 0);
    close(fd);
}

static void test_append_and_holes(void)
{
    write_file("log", "one ");
    int a = open("log", O_WRONLY | O_APPEND), b = open("log", O_WRONLY | O_APPEND);
    CHECK("append", write(a, "two ", 4) == 4 && write(b, "three", 5) == 5);
    CHECK("append_order", file_is("log", "one two three"));
    close(a);
    close(b);
    int fd = open("hole", O_RDWR | O_CREAT, 0644);
    CHECK("hole_write", pwrite(fd, "end", 3, 100000) == 3);
    struct stat status;
    CHECK("hole_size", fstat(fd, &status) == 0 && status.st_size == 100003);
    char data[64];
    memset(data, 1, sizeof data);
    bool zero = pread(fd, data, sizeof data, 50000) == sizeof data;
    for (size_t i = 0; i < sizeof data; i++)
        zero = zero && data[i] == 0;
    CHECK("hole_is_zero", zero);
    CHECK("hole_end", pread(fd, data, 64, 99999) == 4 && memcmp(data, "\0end", 4) == 0);
    CHECK("ftruncate_shorter",
          ftruncate(fd, 10) == 0 && fstat(fd, &status) == 0 && status.st_size == 10);
    CHECK("ftruncate_longer",
          ftruncate(fd, 100003) == 0 && pread(fd, data, 64, 100000) == 3 && data[0] == 0);
    CHECK_ERROR("ftruncate_negative", ftruncate(fd, -1), EINVAL);
    CHECK("truncate",
          truncate("hole", 5) == 0 && stat("hole", &status) == 0 && status.st_size == 5);
    CHECK_ERROR("truncate_directory", truncate(".", 5), EISDIR);
    close(fd);
}

static void test_large(void)
{
    unsigned char *data = malloc(LARGE), *back = calloc(1, LARGE);
    for (int i = 0; i < LARGE; i++)
        data[i] = (unsigned char)(i * 7 + (i >> 8));
    int fd = open("large", O_RDWR | O_CREAT, 0644);
    CHECK("large_write", write(fd, data, LARGE) == LARGE);
    CHECK("large_read", pread(fd, back, LARGE, 0) == LARGE && memcmp(data, back, LARGE) == 0);
    CHECK("large_odd_place",
          pread(fd, back, 9001, 12345) == 9001 && memcmp(data + 12345, back, 9001) == 0);
    struct iovec out[3] = {{data, 5}, {data + 5, 0}, {data + 5, 8192}},
                 in[2] = {{back, 4097}, {back + 4097, 4100}};
    CHECK("writev", lseek(fd, 0, SEEK_SET) == 0 && writev(fd, out, 3) == 8197);
    CHECK("readv",
          lseek(fd, 0, SEEK_SET) == 0 && readv(fd, in, 2) == 8197 && memcmp(data, back, 8197) == 0);
    CHECK_ERROR("readv_too_many", readv(fd, in, 2000), EINVAL);
    int copy = open("copy", O_RDWR | O_CREAT, 0644);
    off_t from = 100;
    CHECK("sendfile", sendfile(copy, fd, &from, 5000) == 5000 && from == 5100);
    CHECK("sendfile_data",
          pread(copy, back, 5000, 0) == 5000 && memcmp(data + 100, back, 5000) == 0);
    close(copy);
    close(fd);
    free(data);
    free(back);
}

/* Pages that were written between holes, of which some are punched out. */
static bool punched(off_t written, off_t from, off_t pages)
{
    char page[4096], zeroes[4096] = {0};
    int fd = open("holes", O_RDWR | O_CREAT | O_TRUNC, 0600);
    memset(page, 'x', sizeof page);
    bool good =
        ftruncate(fd, 5000 * 4096) == 0 &&
        pwrite(fd, page, sizeof page, written * 4096) == (ssize_t)sizeof page &&
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from * 4096, pages * 4096) == 0 &&
        pread(fd, page, sizeof page, written * 4096) == (ssize_t)sizeof page;
    bool inside = written >= from && written < from + pages;
    good = good && (inside ? !memcmp(page, zeroes, sizeof page) : page[0] == 'x');
    close(fd);
    return good;
}

static void test_allocate(void)
{
    struct stat state;
    int fd = open("allocated", O_RDWR | O_CREAT | O_TRUNC, 0600), ends[2];
    CHECK("allocate", fallocate(fd, 0, 0, 10000) == 0 && fstat(fd, &state) == 0 &&
                          state.st_size == 10000 && state.st_blocks > 0);
    CHECK("allocate_keeps", fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 50000) == 0 &&
                                fstat(fd, &state) == 0 && state.st_size == 10000);
    CHECK_ERROR("allocate_nothing", fallocate(fd, 0, 0, 0), EINVAL);
    CHECK_ERROR("allocate_odd", fallocate(fd, 0x1000, 0, 1), EOPNOTSUPP);
    close(fd);
    fd = open("allocated", O_RDONLY);
    CHECK_ERROR("allocate_readonly", fallocate(fd, 0, 0, 1), EBADF);
    close(fd);
    CHECK("pipe", pipe(ends) == 0);
    CHECK_ERROR("allocate_pipe", fallocate(ends[1], 0, 0, 1), ESPIPE);
    close(ends[0]);
    close(ends[1]);
    bool good = true;
    for (off_t at = 0; at < 3300; at += 103)
        good &= punched(at, 100, 3000);
    CHECK("punched", good && punched(5, 5, 1) && punched(1029, 6, 1024) && punched(1030, 6, 1024));
}

static void test_status(void)
{
    struct stat status, other;
    umask(022);
    int fd = open("mode", O_WRONLY | O_CREAT, 0666);
    CHECK("umask_applies", fstat(fd, &status) == 0 && (status.st_mode & 07777) == 0644);
    CHECK("is_regular", S_ISREG(status.st_mode) && status.st_nlink == 1 && status.st_size == 0);
    CHECK("owner_root", status.st_uid == 0 && status.st_gid == 0);
    CHECK("stat_same", stat("mode", &other) == 0 && other.st_ino == status.st_ino &&
                           other.st_dev == status.st_dev);
    CHECK("fchmod",
          fchmod(fd, 0600) == 0 && stat("mode", &status) == 0 && (status.st_mode & 07777) == 0600);
    CHECK("chmod_special", chmod("mode", 04755) == 0 && stat("mode", &status) == 0 &&
                               (status.st_mode & 07777) == 04755);
    CHECK("chown", chown("mode", 12, 34) == 0 && stat("mode", &status) == 0 &&
                       status.st_uid == 12 && status.st_gid == 34);
    CHECK("umask_old", umask(077) == 022 && umask(022) == 077);
    struct timespec times[2] = {{1000, 5}, {2000, 6}};
    CHECK("utimensat", utimensat(AT_FDCWD, "mode", times, 0) == 0 && stat("mode", &status) == 0 &&
                           status.st_atim.tv_sec == 1000 && status.st_mtim.tv_sec == 2000);
    times[0].tv_nsec = UTIME_OMIT;
    times[1].tv_nsec = UTIME_NOW;
    CHECK("utime_now", utimensat(AT_FDCWD, "mode", times, 0) == 0 && stat("mode", &status) == 0 &&
                           status.st_atim.tv_sec == 1000 && status.st_mtim.tv_sec > 2000);
    CHECK("access", access("mode", R_OK) == 0);
    CHECK_ERROR("access_missing", access("missing", F_OK), ENOENT);
    CHECK("stat_directory", stat(".", &status) == 0 && S_ISDIR(status.st_mode));
    CHECK("stat_null", stat("/dev/null", &status) == 0 && S_ISCHR(status.st_mode));
    CHECK_ERROR("stat_missing", stat("missing", &status), ENOENT);
    struct statfs fs;
    CHECK("statfs", statfs(".", &fs) == 0 && fs.f_bsize > 0 && fs.f_namelen == 255);
    close(fd);
}

static void test_links(void)
{
    struct stat a, b;
    write_file("first", "linked");
    CHECK("link", link("first", "second") == 0);
    CHECK("link_same", stat("first", &a) == 0 && stat("second", &b) == 0 && a.st_ino == b.st_ino &&
                           a.st_nlink == 2);
    CHECK_ERROR("link_exists", link("first", "second"), EEXIST);
    CHECK_ERROR("link_directory", link(".", "dirlink"), EPERM);
    CHECK("unlink", unlink("first") == 0 && file_is("second", "linked"));
    CHECK("unlink_count", stat("second", &b) == 0 && b.st_nlink == 1);
    CHECK_ERROR("unlink_missing", unlink("first"), ENOENT);
    CHECK_ERROR("unlink_directory", unlink("."), EISDIR);
    char target[64];
    CHECK("symlink", symlink("second", "soft") == 0 && file_is("soft", "linked"));
    CHECK("readlink",
          readlink("soft", target, sizeof target) == 6 && memcmp(target, "second", 6) == 0);
    CHECK("readlink_cut", readlink("soft", target, 3) == 3);
    CHECK_ERROR("readlink_file", readlink("second", target, sizeof target), EINVAL);
    CHECK("lstat", lstat("soft", &a) == 0 && S_ISLNK(a.st_mode) && a.st_size == 6);
    CHECK_ERROR("open_nofollow", open("soft", O_RDONLY | O_NOFOLLOW), ELOOP);
    CHECK("symlink_dangling", symlink("nowhere", "dangling") == 0);
    CHECK_ERROR("stat_dangling", stat("dangling", &a), ENOENT);
    int fd = open("dangling", O_CREAT | O_WRONLY, 0644);
    CHECK("create_through_link", fd >= 0 && stat("nowhere", &a) == 0);
    close(fd);
    CHECK_ERROR("create_exclusive_link", open("dangling", O_CREAT | O_EXCL | O_WRONLY, 0644),
                EEXIST);
    CHECK("symlink_loop", symlink("loop2", "loop1") == 0 && symlink("loop1", "loop2") == 0);
    CHECK_ERROR("loop", open("loop1", O_RDONLY), ELOOP);
    CHECK("symlink_absolute",
          symlink("/dev/null", "null") == 0 && stat("null", &a) == 0 && S_ISCHR(a.st_mode));
    fd = open("gone", O_RDWR | O_CREAT, 0644);
    CHECK("unlinked_lives", write(fd, "ghost", 5) == 5 && unlink("gone") == 0 &&
                                pread(fd, target, 5, 0) == 5 && memcmp(target, "ghost", 5) == 0);
    CHECK("unlinked_count", fstat(fd, &a) == 0 && a.st_nlink == 0);
    close(fd);
}

static void test_rename(void)
{
    struct stat status;
    write_file("from", "contents");
    write_file("to", "old");
    CHECK("rename_over", rename("from", "to") == 0 && file_is("to", "contents"));
    CHECK_ERROR("rename_gone", rename("from", "to"), ENOENT);
    mkdir("d1", 0755);
    mkdir("d2", 0755);
    CHECK_ERROR("rename_file_over_directory", rename("to", "d1"), EISDIR);
    CHECK_ERROR("rename_directory_over_file", rename("d1", "to"), ENOTDIR);
    CHECK_ERROR("rename_into_itself", rename("d1", "d1/inside"), EINVAL);
    CHECK("rename_over_empty", rename("d1", "d2") == 0 && stat("d1", &status) < 0);
    mkdir("d1", 0755);
    write_file("d1/keep", "x");
    CHECK_ERROR("rename_over_full", rename("d2", "d1"), ENOTEMPTY);
    CHECK("rename_moves", rename("to", "d1/moved") == 0 && file_is("d1/moved", "contents"));
    CHECK("rename_directory_moves", rename("d1", "d2/d1") == 0 && file_is("d2/d1/keep", "x"));
    CHECK("rename_parent", stat("d2/d1/..", &status) == 0);
    struct stat parent;
    CHECK("rename_dotdot", stat("d2", &parent) == 0 && parent.st_ino == status.st_ino);
    CHECK("rename_same", rename("d2/d1/keep", "d2/d1/keep") == 0 && file_is("d2/d1/keep", "x"));
    write_file("na", "a");
    write_file("nb", "b");
    CHECK_ERROR("renameat2_noreplace", syscall(SYS_renameat2, AT_FDCWD, "na", AT_FDCWD, "nb", 1),
                EEXIST);
}

static void test_descriptors(void)
{
    write_file("shared", "0123456789");
    int a = open("shared", O_RDONLY), b = dup(a), c = open("shared", O_RDONLY);
    char data[8];
    CHECK("dup_shares_position", read(a, data, 3) == 3 && lseek(b, 0, SEEK_CUR) == 3);
    CHECK("open_has_its_own", lseek(c, 0, SEEK_CUR) == 0);
    CHECK("dup_lowest", close(a) == 0 && dup(c) == a);
    CHECK("dup2", dup2(c, 50) == 50 && read(50, data, 1) == 1 && lseek(c, 0, SEEK_CUR) == 1);
    CHECK("dup2_same", dup2(c, c) == c);
    CHECK_ERROR("dup2_bad", dup2(99, 50), EBADF);
    CHECK_ERROR("dup3_same", dup3(c, c, 0), EINVAL);
    CHECK("cloexec_default", fcntl(c, F_GETFD) == 0);
    CHECK("cloexec_set", fcntl(c, F_SETFD, FD_CLOEXEC) == 0 && fcntl(c, F_GETFD) == FD_CLOEXEC);
    CHECK("dup3_cloexec", dup3(c, 51, O_CLOEXEC) == 51 && fcntl(51, F_GETFD) == FD_CLOEXEC);
    CHECK("dupfd", fcntl(c, F_DUPFD, 60) == 60 && fcntl(60, F_GETFD) == 0);
    CHECK("dupfd_cloexec", fcntl(c, F_DUPFD_CLOEXEC, 60) == 61 && fcntl(61, F_GETFD) == FD_CLOEXEC);
    CHECK("getfl", (fcntl(c, F_GETFL) & O_ACCMODE) == O_RDONLY);
    int w = open("shared", O_WRONLY);
    CHECK("setfl_append",
          fcntl(w, F_SETFL, O_APPEND) == 0 && write(w, "+", 1) == 1 && lseek(w, 0, SEEK_CUR) == 11);
    CHECK_ERROR("fcntl_bad", fcntl(99, F_GETFL), EBADF);
    CHECK_ERROR("fcntl_odd", fcntl(c, 7777), EINVAL);
    CHECK("flock", flock(w, LOCK_EX | LOCK_NB) == 0 && flock(w, LOCK_UN) == 0);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    CHECK("fcntl_lock", fcntl(w, F_SETLK, &lock) == 0);
    CHECK("fsync", fsync(w) == 0 && fdatasync(w) == 0);
    int many = 0;
    for (int fd; (fd = open("shared", O_RDONLY)) >= 0 && many < 200; many++)
        ;
    CHECK("many_descriptors", many >= 150);
    for (int fd = 3; fd < 300; fd++)
        close(fd);
    CHECK("lowest_again", open("shared", O_RDONLY) == 3);
    close(3);
}

static void test_devices(void)
{
    char data[100];
    int fd = open("/dev/null", O_RDWR);
    CHECK("null", write(fd, "abc", 3) == 3 && read(fd, data, 10) == 0);
    close(fd);
    fd = open("/dev/zero", O_RDWR);
    memset(data, 1, sizeof data);
    bool zero = read(fd, data, sizeof data) == sizeof data;
    for (size_t i = 0; i < sizeof data; i++)
        zero = zero && data[i] == 0;
    CHECK("zero", zero && write(fd, data, 7) == 7);
    close(fd);
    fd = open("/dev/full", O_RDWR);
    CHECK_ERROR("full", write(fd, data, 1), ENOSPC);
    close(fd);
    fd = open("/dev/urandom", O_RDONLY);
    char more[100];
    CHECK("urandom",
          read(fd, data, 100) == 100 && read(fd, more, 100) == 100 && memcmp(data, more, 100) != 0);
    close(fd);
    fd = open("/proc/self/status", O_RDONLY);
    char status[4096] = "";
    CHECK("proc_status", read(fd, status, sizeof status - 1) > 0 && strstr(status, "Pid:") != NULL);
    close(fd);
    ssize_t n = readlink("/proc/self", data, sizeof data - 1);
    data[n > 0 ? n : 0] = 0;
    CHECK("proc_self", atoi(data) == getpid());
    n = readlink("/proc/self/exe", data, sizeof data - 1);
    data[n > 0 ? n : 0] = 0;
    CHECK("proc_exe", n > 5 && strcmp(data + n - 5, "files") == 0);
}

int main(void)
{
    test_begin("files");
    test_directory();
    test_open();
    test_append_and_holes();
    test_large();
    test_allocate();
    test_status();
    test_links();
    test_rename();
    test_descriptors();
    test_devices();
    return test_end();
}
