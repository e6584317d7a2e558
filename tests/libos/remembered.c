/* SPDX-License-Identifier: MIT
 *
 * What is found again after it was looked for in vain, or lately looked at: others, and the
 * program itself, change it in between. */
#include <dirent.h>
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

/* Looks at all of them, in their order, right after the directory was read. */
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
    for (int i = 0; i < FILES; i++)
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

int main(void)
{
    test_begin("remembered");
    test_made();
    test_moved();
    test_root();
    test_list();
    return test_end();
}
