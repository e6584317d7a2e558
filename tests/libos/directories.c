/* SPDX-License-Identifier: MIT
 *
 * Directories, working directories, and the calls that name files from a descriptor. */
#include <dirent.h>
#include <limits.h>
#include <sys/mount.h>
#include "test.h"

static int entries(const char *path, const char *wanted, bool *found)
{
    DIR *directory = opendir(path);
    int n = 0;
    *found = false;
    if (!directory) return -1;
    for (struct dirent *entry; (entry = readdir(directory));) {
        n++;
        *found |= strcmp(entry->d_name, wanted) == 0;
    }
    closedir(directory);
    return n;
}

static void test_make_remove(void)
{
    struct stat status;
    CHECK("mkdir", mkdir("sub", 0755) == 0 && stat("sub", &status) == 0 && S_ISDIR(status.st_mode));
    CHECK("mkdir_links", status.st_nlink == 2);
    CHECK_ERROR("mkdir_exists", mkdir("sub", 0755), EEXIST);
    CHECK_ERROR("mkdir_no_parent", mkdir("no/sub", 0755), ENOENT);
    CHECK_ERROR("mkdir_dot", mkdir(".", 0755), EEXIST);
    CHECK("mkdir_slash", mkdir("slash/", 0755) == 0 && rmdir("slash") == 0);
    CHECK("parent_links",
          mkdir("sub/inner", 0700) == 0 && stat("sub", &status) == 0 && status.st_nlink == 3);
    CHECK_ERROR("rmdir_full", rmdir("sub"), ENOTEMPTY);
    CHECK_ERROR("rmdir_missing", rmdir("none"), ENOENT);
    CHECK_ERROR("rmdir_dot", rmdir("sub/inner/."), EINVAL);
    close(open("plain", O_CREAT | O_WRONLY, 0644));
    CHECK_ERROR("rmdir_file", rmdir("plain"), ENOTDIR);
    CHECK("rmdir", rmdir("sub/inner") == 0 && rmdir("sub") == 0);
    CHECK_ERROR("rmdir_gone", stat("sub", &status), ENOENT);
}

static void test_list(void)
{
    bool found;
    mkdir("list", 0755);
    CHECK("empty", entries("list", "..", &found) == 2 && found);
    char name[40];
    bool made = true;
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "list/entry-with-a-longer-name-%d", i);
        int fd = open(name, O_CREAT | O_WRONLY, 0644);
        made = made && fd >= 0;
        close(fd);
    }
    CHECK("many", made && entries("list", "entry-with-a-longer-name-317", &found) == 502 && found);
    DIR *directory = opendir("list");
    int removed = 0;
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        if (entry->d_name[0] == 'e') removed += unlinkat(dirfd(directory), entry->d_name, 0) == 0;
    CHECK("remove_while_reading", removed == 500);
    if (directory) {
        rewinddir(directory);
        CHECK("rewind", readdir(directory) != NULL);
        closedir(directory);
    }
    CHECK("list_empty", entries("list", ".", &found) == 2 && rmdir("list") == 0);
    int fd = open("plain", O_RDONLY);
    char buffer[1024];
    CHECK_ERROR("getdents_file", syscall(SYS_getdents64, fd, buffer, sizeof buffer), ENOTDIR);
    close(fd);
    fd = open(".", O_RDONLY | O_DIRECTORY);
    CHECK_ERROR("read_directory", read(fd, buffer, 10), EISDIR);
    CHECK_ERROR("getdents_short", syscall(SYS_getdents64, fd, buffer, 4), EINVAL);
    close(fd);
}

static void test_types(void)
{
    symlink("plain", "soft");
    mkdir("sub", 0755);
    mkfifo("fifo", 0644);
    DIR *directory = opendir(".");
    bool good = directory != NULL;
    int seen = 0;
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        struct stat status;
        good = good &&
               fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
               (entry->d_type == DT_UNKNOWN || IFTODT(status.st_mode) == entry->d_type) &&
               (strcmp(entry->d_name, "..") == 0 || status.st_ino == entry->d_ino);
        seen++;
    }
    CHECK("types_and_numbers", good && seen >= 5);
    if (directory) closedir(directory);
}

static void test_working_directory(void)
{
    char before[256], now[256];
    CHECK("getcwd", getcwd(before, sizeof before) != NULL);
    CHECK("chdir", chdir("sub") == 0 && getcwd(now, sizeof now) &&
                       strcmp(now + strlen(now) - 4, "/sub") == 0);
    int fd = open("..", O_RDONLY | O_DIRECTORY);
    CHECK("fchdir", fchdir(fd) == 0 && getcwd(now, sizeof now) && strcmp(before, now) == 0);
    close(fd);
    CHECK_ERROR("chdir_file", chdir("plain"), ENOTDIR);
    CHECK_ERROR("chdir_missing", chdir("none"), ENOENT);
    CHECK_ERROR("getcwd_short", syscall(SYS_getcwd, now, 3), ERANGE);
    CHECK("chdir_root", chdir("/../..") == 0 && getcwd(now, sizeof now) && strcmp(now, "/") == 0);
    CHECK("chdir_back", chdir(before) == 0);
    CHECK("dots",
          chdir("sub/../sub/./..") == 0 && getcwd(now, sizeof now) && strcmp(before, now) == 0);
    mkdir("doomed", 0755);
    chdir("doomed");
    rmdir("../doomed");
    CHECK_ERROR("getcwd_gone", syscall(SYS_getcwd, now, sizeof now), ENOENT);
    CHECK_ERROR("create_in_gone", open("x", O_CREAT | O_WRONLY, 0644), ENOENT);
    chdir(before);
}

static void test_at(void)
{
    int sub = open("sub", O_RDONLY | O_DIRECTORY), plain = open("plain", O_RDONLY);
    struct stat status;
    char target[16];
    int fd = openat(sub, "file", O_CREAT | O_RDWR, 0644);
    CHECK("openat", fd >= 0 && stat("sub/file", &status) == 0);
    close(fd);
    CHECK_ERROR("openat_not_directory", openat(plain, "file", O_RDONLY), ENOTDIR);
    CHECK_ERROR("openat_bad", openat(999, "file", O_RDONLY), EBADF);
    fd = openat(999, "/dev/null", O_RDONLY);
    CHECK("openat_absolute", fd >= 0);
    close(fd);
    CHECK("mkdirat", mkdirat(sub, "d", 0755) == 0 && stat("sub/d", &status) == 0);
    CHECK("fstatat", fstatat(sub, "file", &status, 0) == 0 && S_ISREG(status.st_mode));
    CHECK("fstatat_empty",
          fstatat(plain, "", &status, AT_EMPTY_PATH) == 0 && S_ISREG(status.st_mode));
    CHECK_ERROR("fstatat_no_empty", fstatat(plain, "", &status, 0), ENOENT);
    CHECK("linkat", linkat(sub, "file", AT_FDCWD, "hard", 0) == 0 && stat("hard", &status) == 0 &&
                        status.st_nlink == 2);
    CHECK("symlinkat", symlinkat("file", sub, "s") == 0 && readlinkat(sub, "s", target, 16) == 4);
    CHECK("renameat", renameat(sub, "file", AT_FDCWD, "moved") == 0 && stat("moved", &status) == 0);
    CHECK_ERROR("unlinkat_directory", unlinkat(sub, "d", 0), EISDIR);
    CHECK("unlinkat_removedir", unlinkat(sub, "d", AT_REMOVEDIR) == 0);
    CHECK("unlinkat", unlinkat(sub, "s", 0) == 0);
    CHECK("faccessat", faccessat(AT_FDCWD, "moved", R_OK, 0) == 0);
    CHECK("fchmodat", fchmodat(AT_FDCWD, "moved", 0600, 0) == 0 && stat("moved", &status) == 0 &&
                          (status.st_mode & 0777) == 0600);
    CHECK_ERROR("unlinkat_flags", unlinkat(sub, "s", 0x7000), EINVAL);
    fd = open("moved", O_PATH);
    CHECK("opath_fstat", fd >= 0 && fstat(fd, &status) == 0);
    CHECK_ERROR("opath_read", read(fd, target, 1), EBADF);
    close(fd);
    close(sub);
    close(plain);
}

static void test_mounts(void)
{
    struct stat status;
    char home[PATH_MAX];
    mkdir("mount", 0755);
    CHECK("mount", getcwd(home, sizeof home) && mount("t", "mount", "tmpfs", 0, NULL) == 0);
    close(open("mount/file", O_CREAT | O_WRONLY, 0644));
    CHECK("mount_enter", chdir("mount") == 0);
    CHECK_ERROR("umount_busy", umount2(".", 0), EBUSY);
    CHECK("umount_detach", umount2(".", MNT_DETACH) == 0);
    CHECK_ERROR("umount_detached", umount2(".", MNT_DETACH), EINVAL);
    CHECK_ERROR("umount_detached_now", umount2(".", 0), EINVAL);
    CHECK("detached_lives", mkdir("n", 0755) == 0 && stat("file", &status) == 0);
    CHECK_ERROR("mount_in_detached", mount("t", "n", "tmpfs", 0, NULL), EINVAL);
    CHECK_ERROR("mount_over_detached", mount("t", ".", "tmpfs", 0, NULL), EINVAL);
    CHECK("mount_leave", chdir(home) == 0 && stat("mount/file", &status) < 0 && errno == ENOENT);
    CHECK_ERROR("umount_no_mount", umount2("mount", 0), EINVAL);
    CHECK("mount_again", mount("t", "mount", "tmpfs", 0, NULL) == 0 && umount2("mount", 0) == 0 &&
                             rmdir("mount") == 0);
}

int main(void)
{
    test_begin("directories");
    test_directory();
    test_make_remove();
    test_list();
    test_types();
    test_working_directory();
    test_at();
    test_mounts();
    return test_end();
}
