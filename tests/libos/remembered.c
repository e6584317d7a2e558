/* SPDX-License-Identifier: MIT
 *
 * What is found again after it was looked for in vain, or lately looked at: others, and the
 * program itself, change it in between. */
#include <dirent.h>
#include <pthread.h>
#include <sys/mount.h>
#include "test.h"

#define DIRECTORY "/etc/test.remembered"
#define NAME DIRECTORY "/name"

/* Opens a file that is not there, more than once. */
static bool missing(const char *path)
{
    for (int i = 0; i < 40; i++) /* on exovisor the call is another one after a while */
        if (open(path, O_RDONLY) >= 0 || errno != ENOENT) return false;
    return true;
}

static bool there(const char *path)
{
    int fd = open(path, O_RDONLY);
    return fd >= 0 && close(fd) == 0;
}

static void make_name(void) { close(open(NAME, O_CREAT | O_WRONLY, 0644)); }
static void link_name(void) { _exit(symlink("/etc/passwd", NAME)); }

static void test_made(void)
{
    mkdir(DIRECTORY, 0755);
    CHECK("missing", missing(NAME));
    CHECK("made_by_child", test_child(make_name) == 0 && there(NAME));
    CHECK("unlinked", unlink(NAME) == 0 && missing(NAME));
    make_name();
    CHECK("made", there(NAME) && unlink(NAME) == 0);
    CHECK("made_by_open", missing(NAME) && close(open(NAME, O_CREAT | O_RDWR, 0600)) == 0);
    CHECK("unlinked_again", unlink(NAME) == 0 && missing(NAME));
    CHECK("link_by_child", test_child(link_name) == 0 && there(NAME) && unlink(NAME) == 0);
    CHECK("other_name", missing(NAME) && there("/etc/passwd") && missing(NAME "s"));
}

static void test_moved(void)
{
    mkdir(DIRECTORY "/a", 0755);
    mkdir(DIRECTORY "/b", 0755);
    close(open(DIRECTORY "/b/file", O_CREAT | O_WRONLY, 0644));
    CHECK("moved_missing", missing(DIRECTORY "/a/file"));
    CHECK("moved_over", rename(DIRECTORY "/b", DIRECTORY "/a") == 0 && there(DIRECTORY "/a/file"));
    CHECK("moved", missing(DIRECTORY "/c/file") && rename(DIRECTORY "/a", DIRECTORY "/c") == 0 &&
                       there(DIRECTORY "/c/file"));
    mkdir(DIRECTORY "/a", 0755);
    CHECK("exchanged", missing(DIRECTORY "/a/file") &&
                           syscall(SYS_renameat2, AT_FDCWD, DIRECTORY "/a", AT_FDCWD,
                                   DIRECTORY "/c", 2 /* RENAME_EXCHANGE */) == 0 &&
                           there(DIRECTORY "/a/file"));
    CHECK("covered", mount("none", DIRECTORY "/a", "tmpfs", 0, "") == 0 &&
                         missing(DIRECTORY "/a/file") && umount(DIRECTORY "/a") == 0 &&
                         there(DIRECTORY "/a/file"));
    unlink(DIRECTORY "/a/file");
}

static void other_root(void)
{
    if (!missing("/a") || chroot(DIRECTORY) < 0 || !there("/a")) _exit(1);
}

static void test_root(void)
{
    CHECK("root", test_child(other_root) == 0);
    CHECK("proc", missing("/proc/self/fd/9") && dup2(0, 9) == 9 && there("/proc/self/fd/9"));
    close(9);
    rmdir(DIRECTORY "/a");
    rmdir(DIRECTORY "/c");
    rmdir(DIRECTORY);
}

/* ---- entries of a directory that are looked at one after the other ---- */

#define FILES 30

static const char *file_name(int i)
{
    static char name[64];
    snprintf(name, sizeof name, i % 3 ? "list/f%d" : "list/a-longer-name-of-a-file-%d", i);
    return name;
}

static void file_make(int i, size_t size)
{
    int fd = open(file_name(i), O_CREAT | O_WRONLY | O_TRUNC, 0644);
    if (fd < 0 || write(fd, "0123456789012345678901234567890123456789", size) != (ssize_t)size)
        _exit(1);
    close(fd);
}

static void change_ten(void) { file_make(10, 33); }

/* What happens when entry i is next. */
static void change(int i)
{
    if (i == 3) file_make(4, 30);
    if (i == 6) chmod(file_name(8), 0600);
    if (i == 9) test_child(change_ten);
    if (i == 13) unlink(file_name(14));
    if (i == 16 && unlink(file_name(17)) == 0) symlink("/etc", file_name(17));
    if (i == 20) link(file_name(1), "list/linked"), rename("list/linked", file_name(21));
    if (i == 24) truncate(file_name(26), 5000);
}

static bool state_right(int i, const struct stat *s, int result)
{
    if (i == 14) return result < 0 && errno == ENOENT;
    if (result < 0) return false;
    if (i == 17) return S_ISLNK(s->st_mode);
    off_t size = i == 4 ? 30 : i == 10 ? 33 : i == 21 ? 2 : i == 26 ? 5000 : i + 1;
    return S_ISREG(s->st_mode) && s->st_size == size && s->st_nlink == (i == 21 ? 2 : 1) &&
           (s->st_mode & 07777) == (i == 8 ? 0600 : 0644);
}

static int count_entries(void)
{
    DIR *directory = opendir("list");
    int n = 0;
    while (directory && readdir(directory))
        n++;
    if (directory) closedir(directory);
    return n;
}

/* Looks at all of them, in their order (those that came last first), right after the directory was read. */
static int look(bool changes)
{
    struct stat state;
    int wrong = 0;
    count_entries();
    for (int i = 0; i < FILES; i++) {
        if (changes) change(i);
        if (changes && i == 12) chdir("list"), chdir("..");
        int result = lstat(file_name(i), &state);
        if (changes) wrong += !state_right(i, &state, result);
        if (!changes) wrong += result < 0 || state.st_size != i + 1;
    }
    return wrong;
}

static void test_list(void)
{
    struct stat state;
    test_directory();
    mkdir("list", 0755);
    for (int i = FILES; i-- > 0;)
        file_make(i, (size_t)i + 1);
    int wrong = 0;
    for (int i = 0; i < 10; i++)
        wrong += look(false);
    CHECK("list", wrong == 0);
    CHECK("list_changes", look(true) == 0);
    mkdir("other", 0755);
    mkdir("other/list", 0700);
    count_entries();
    CHECK("same_name", lstat("list/f1", &state) == 0 && lstat("list/f2", &state) == 0 &&
                           state.st_size == 3 && chdir("other") == 0 &&
                           lstat("list/f4", &state) < 0 && errno == ENOENT && chdir("..") == 0);
    count_entries();
    CHECK("moved_list", lstat("list/f1", &state) == 0 && rename("list", "gone") == 0 &&
                            lstat("list/f2", &state) < 0 && errno == ENOENT &&
                            lstat("gone/f2", &state) == 0);
}

/* ---- a directory that is open ---- */

static void sized(const char *path, off_t size)
{
    int fd = open(path, O_CREAT | O_WRONLY, 0644);
    if (fd < 0 || ftruncate(fd, size) < 0) _exit(1);
    close(fd);
}

static int directory_open(const char *path) { return open(path, O_RDONLY | O_DIRECTORY); }

static long entries_read(int fd)
{
    char bytes[4096];
    return syscall(SYS_getdents64, fd, bytes, sizeof bytes);
}

static bool size_is(const char *path, off_t size)
{
    struct stat state;
    return lstat(path, &state) == 0 && state.st_size == size;
}

/* Whether the descriptor is of what the path leads to, and has as many links. */
static bool same_file(int fd, const char *path)
{
    struct stat one, other;
    return fstat(fd, &one) == 0 && lstat(path, &other) == 0 && one.st_ino == other.st_ino &&
           one.st_nlink == other.st_nlink && one.st_mode == other.st_mode &&
           one.st_mtim.tv_sec == other.st_mtim.tv_sec &&
           one.st_mtim.tv_nsec == other.st_mtim.tv_nsec;
}

static void make_inner(void) { _exit(mkdir("one/inner", 0755)); }
static void change_mode(void) { _exit(chmod("one", 0711)); }

static void test_self(void)
{
    mkdir("one", 0755);
    mkdir("two", 0755);
    int one = directory_open("one");
    CHECK("self", same_file(one, "one"));
    int two = directory_open("two");
    CHECK("self_replaced", dup2(one, two) == two && same_file(two, "one"));
    close(two);
    two = directory_open("two");
    close(open("two/file", O_CREAT | O_WRONLY, 0644));
    CHECK("self_times", same_file(two, "two"));
    sized("two/file", 9);
    CHECK("self_made", test_child(make_inner) == 0 && same_file(two, "two"));
    close(one);
    one = directory_open("one");
    CHECK("self_mode", test_child(change_mode) == 0 && same_file(one, "one"));
    close(one);
    CHECK("self_closed", fcntl(one, F_GETFD) < 0 && !same_file(one, "one"));
    one = directory_open("one");
    CHECK("self_other_number", dup2(one, 40) == 40 && close(one) == 0 &&
                                   directory_open("two") == one && same_file(one, "two") &&
                                   same_file(40, "one"));
    close(one);
    close(two);
    close(40);
}

static int shared_directory;
static void seek_start(void) { _exit(lseek(shared_directory, 0, SEEK_SET) != 0); }
static void make_more(void) { sized("one/more", 1), _exit(0); }

static void test_last(void)
{
    int fd = shared_directory = directory_open("one");
    sized("one/file", 7);
    CHECK("end", entries_read(fd) > 0 && entries_read(fd) == 0 && entries_read(fd) == 0);
    CHECK("end_seek", lseek(fd, 0, SEEK_SET) == 0 && entries_read(fd) > 0 && entries_read(fd) == 0);
    CHECK("end_child_seeks", test_child(seek_start) == 0 && entries_read(fd) > 0);
    close(fd);
    fd = directory_open("one");
    CHECK("end_made", entries_read(fd) > 0 && entries_read(fd) == 0 && test_child(make_more) == 0 &&
                          entries_read(fd) >= 0 && lseek(fd, 0, SEEK_SET) == 0 &&
                          entries_read(fd) > 0 && size_is("one/more", 1));
    close(fd);
    fd = directory_open("one");
    int other = directory_open("one");
    CHECK("end_other", entries_read(other) > 0 && entries_read(other) == 0 &&
                           dup2(fd, other) == other && entries_read(other) > 0);
    close(other);
    other = directory_open("one");
    CHECK("end_reopened", entries_read(other) > 0 && entries_read(other) == 0 &&
                              close(other) == 0 && directory_open("one") == other &&
                              entries_read(other) > 0);
    close(other);
    close(fd);
}

/* A path leads elsewhere after the directory was opened, or read. */
static void test_leads(void)
{
    int fd = directory_open("one");
    CHECK("leads_moved", rename("one", "away") == 0 && rename("two", "one") == 0 &&
                             entries_read(fd) > 0 && size_is("one/file", 9) &&
                             size_is("away/file", 7));
    close(fd);
    symlink("one", "link");
    fd = directory_open("link");
    CHECK("leads_link", entries_read(fd) > 0 && size_is("link/file", 9) && unlink("link") == 0 &&
                            symlink("away", "link") == 0 && size_is("link/file", 7));
    close(fd);
    fd = directory_open("one");
    CHECK("leads_other", size_is("away/file", 7) && entries_read(fd) > 0 &&
                             size_is("away/file", 7) && size_is("one/file", 9));
    close(fd);
    CHECK("leads_bad_pointer",
          syscall(SYS_newfstatat, AT_FDCWD, "one/file", (void *)8, 0) < 0 && errno == EFAULT &&
              syscall(SYS_openat, AT_FDCWD, (void *)-64l, O_RDONLY) < 0 && errno == EFAULT);
}

/* Names of /proc lead elsewhere though no file has changed. */
static void test_proc(void)
{
    int fd[2];
    for (int i = 0; i < 2; i++) {
        char name[2][16];
        snprintf(name[0], sizeof name[0], "p%d", i);
        fd[i] = mkdir(name[0], 0755) == 0 ? directory_open(name[0]) : -1;
        for (int j = 0; j < 3; j++) {
            snprintf(name[1], sizeof name[1], "p%d/f%d", i, j);
            sized(name[1], i * 10 + j);
        }
    }
    dup2(fd[0], 9);
    int proc = directory_open("/proc/self/fd/9");
    CHECK("proc_listed", entries_read(proc) > 0 && size_is("/proc/self/fd/9/f2", 2) &&
                             size_is("/proc/self/fd/9/f1", 1) && dup2(fd[1], 9) == 9 &&
                             size_is("/proc/self/fd/9/f0", 10));
    close(proc);
    proc = directory_open("/proc/self/fd/9");
    CHECK("proc_opened", dup2(fd[0], 9) == 9 && entries_read(proc) > 0 &&
                             size_is("/proc/self/fd/9/f2", 2) && same_file(proc, "p1"));
    close(proc);
    close(9);
    close(fd[0]);
    close(fd[1]);
}

/* A child of vfork, which has another current directory, dies. */
static void test_vfork(void)
{
    mkdir("here", 0755);
    mkdir("there", 0755);
    mkdir("here/d", 0755);
    mkdir("there/d", 0755);
    sized("here/d/f0", 1);
    sized("here/d/f1", 2);
    sized("there/d/f0", 11);
    sized("there/d/f1", 12);
    chdir("here");
    int fd = directory_open("d"), status, other;
    pid_t pid = vfork();
    if (pid == 0) {
        if (chdir("../there") < 0 || (other = directory_open("d")) < 0 || entries_read(other) <= 0)
            _exit(1);
        if (!size_is("d/f1", 12)) _exit(2);
        kill(getpid(), SIGKILL);
        _exit(3);
    }
    bool killed = waitpid(pid, &status, 0) == pid && WIFSIGNALED(status);
    CHECK("vfork", killed && entries_read(fd) > 0 && size_is("d/f0", 1) && size_is("d/f1", 2));
    other = dup(fd);
    CHECK("vfork_self", same_file(other, "d"));
    close(fd);
    close(other);
    chdir("..");
}

static int replaced;
static void *replace(void *with) { return dup2(*(int *)with, replaced) == replaced ? with : NULL; }

/* Another thread makes it another file. */
static void test_thread(void)
{
    pthread_t thread;
    void *result = NULL;
    int with = directory_open("away");
    replaced = directory_open("one");
    pthread_create(&thread, NULL, replace, &with);
    pthread_join(thread, &result);
    CHECK("thread", result && same_file(replaced, "away"));
    close(replaced);
    close(with);
}

int main(void)
{
    test_begin("remembered");
    test_made();
    test_moved();
    test_root();
    test_list();
    test_self();
    test_last();
    test_child(test_leads); /* processes that have not looked at much in vain */
    test_child(test_proc);
    test_child(test_vfork);
    test_thread();
    return test_end();
}
