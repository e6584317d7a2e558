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

int main(void)
{
    test_begin("remembered");
    test_made();
    test_moved();
    test_root();
    return test_end();
}
