/* SPDX-License-Identifier: MIT
 *
 * linuxd's files: the archive, devices, /proc, mounts, locks, descriptors over fork and
 * exec, mapping; and that nothing is lost when pages, memory or descriptors run out, or
 * arguments are hostile. (The calls one by one: test_lx_files_random.c.) */
#include "lx_files.h"

#define ARCHIVE_MAX 65536

static char archive[ARCHIVE_MAX];
static size_t archive_size;

/* Adds an entry to the archive being made. */
static void entry_make(const char *name, unsigned mode, unsigned inode, unsigned links,
                       const char *data, size_t size)
{
    archive_size += (size_t)snprintf(archive + archive_size, sizeof(archive) - archive_size,
                                     "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s",
                                     inode, mode, 3, 4, links, 1000, (unsigned)size, 0, 0, 5, 1,
                                     (unsigned)strlen(name) + 1, 0, name);
    archive_size = (archive_size + 1 + 3) & ~3ul;
    memcpy(archive + archive_size, data, size);
    archive_size = (archive_size + size + 3) & ~3ul;
}

static char big[9000];

static void archive_make(void)
{
    archive_size = 0;
    for (unsigned i = 0; i < sizeof(big); i++)
        big[i] = (char)(i * 7 + i / 256);
    entry_make(".", S_IFDIR | 0755, 1, 2, "", 0);
    entry_make("bin", S_IFDIR | 0755, 2, 2, "", 0);
    entry_make("./bin/sh", S_IFLNK | 0777, 3, 1, "busybox", 7);
    entry_make("bin/cp", S_IFREG | 0755, 4, 2, "", 0);
    entry_make("bin/busybox", S_IFREG | 0755, 4, 2, big, sizeof(big));
    entry_make("etc/passwd", S_IFREG | 0644, 5, 1, "root:x:0:0::/:/bin/sh\n", 22);
    entry_make("console", S_IFCHR | 0600, 6, 1, "", 0);
    entry_make("TRAILER!!!", 0, 0, 1, "", 0);
}

/* The tree begins anew: what was there is forgotten, not freed. */
static long world_start(const void *data, size_t size)
{
    for (uint32_t i = 1; i < HOST_PAGES; i++)
        if (host_pages[i]) page_free(i);
    memset(entry_buckets, 0, sizeof(entry_buckets));
    inode_count = entry_count = file_count = 0;
    names.used = names.by[0] = fixed_names.used = fixed_names.by[0] = 0;
    proc_made = NULL;
    devices = NULL;
    struct filesystem *const mounts[] = {&root_fs, &dev_mount, &pts_mount, &proc_mount};
    for (unsigned i = 0; i < EXO_COUNT(mounts); i++) { /* as they are at the start */
        struct filesystem *fs = mounts[i];
        fs->root = fs->covered = NULL;
        fs->next = NULL;
        fs->pages = fs->held = 0;
    }
    for (unsigned i = 0; i < LX_PROCESSES; i++)
        processes[i].state = PROCESS_FREE;
    host_process(0);
    long r = files_start(data, size);
    fds_init(&processes[0]);
    return r;
}

static void test_archive(void)
{
    char text[10000];
    uint32_t frames[4];
    archive_make();
    EXPECT(world_start(archive, archive_size) == 0);
    EXPECT(read_all("/etc/passwd", text, sizeof(text)) == 22 && !strncmp(text, "root:", 5));
    struct stat cp = stat_of("/bin/cp"), sh = stat_of("/bin/sh");
    EXPECT(cp.st_size == sizeof(big) && cp.st_nlink == 2 && cp.st_mode == (S_IFREG | 0755));
    EXPECT(cp.st_uid == 3 && cp.st_gid == 4 && cp.st_mtime == 1000 && cp.st_blocks == 24);
    EXPECT(sh.st_size == 7 && (sh.st_mode & S_IFMT) == S_IFLNK);
    EXPECT(stat_of("/console").st_rdev == LX_DEV(5, 1));
    EXPECT(read_all("/bin/sh", text, sizeof(text)) == sizeof(big) &&
           !memcmp(text, big, sizeof(big)));
    EXPECT(pages_used == 0); /* it was read where it lies */

    long fd = open_path("/bin/busybox", O_RDWR, 0);
    EXPECT(CALL(pwrite64, (uint64_t)fd, POINTER("hello"), 5, 4094) == 5);
    memcpy(big + 4094, "hello", 5);
    EXPECT(pages_used == 2);
    EXPECT(read_all("/bin/cp", text, sizeof(text)) == sizeof(big) &&
           !memcmp(text, big, sizeof(big)));
    struct file *file = processes[0].fds[fd].file;
    EXPECT(file_pages(file, 1, 4, frames, false) == 4 && frames[0] && frames[1] && !frames[2]);
    EXPECT(!memcmp(page_data(frames[1]), big + 8192, sizeof(big) - 8192));
    EXPECT(CALL(ftruncate, (uint64_t)fd, 100) == 0 && CALL(ftruncate, (uint64_t)fd, 9000) == 0);
    EXPECT(pages_used == 1 && file->inode->data.pages == 1);
    memset(big + 100, 0, sizeof(big) - 100);
    EXPECT(read_all("/bin/cp", text, sizeof(text)) == sizeof(big) &&
           !memcmp(text, big, sizeof(big)));
    EXPECT(file_pages(file, ~0ul - 1, 4, frames, false) == 4 && !frames[0]);
    CALL(close, (uint64_t)fd);
}

/* Archives that are cut or changed anywhere give an error or a tree, nothing worse. */
static void test_archive_damage(void)
{
    archive_make();
    for (size_t size = 0; size < archive_size; size += 13) {
        char *copy = malloc(size + 1); /* so that a byte too far is seen */
        memcpy(copy, archive, size);
        long r = world_start(copy, size);
        EXPECT(size ? r == -EINVAL || r == 0 : r == 0);
    }
    for (unsigned i = 0; i < 2000; i++) {
        char *copy = malloc(archive_size);
        memcpy(copy, archive, archive_size);
        for (unsigned n = (unsigned)next(4) + 1; n; n--)
            copy[next(archive_size - sizeof(big))] =
                (char)(next(2) ? (uint64_t) "0123/f."[next(7)] : next(256));
        world_start(copy, archive_size);
    }
}

static void test_devices(void)
{
    char data[600], zero[600] = {0};
    world_start(NULL, 0);
    long fd = open_path("/dev/null", O_RDWR, 0);
    EXPECT(fd == 0 && CALL(read, 0, POINTER(data), 10) == 0);
    EXPECT(CALL(write, 0, POINTER(data), 10) == 10);
    fd = open_path("/dev/zero", O_RDONLY, 0);
    memset(data, 1, sizeof(data));
    EXPECT(CALL(read, (uint64_t)fd, POINTER(data), 600) == 600 && !memcmp(data, zero, 600));
    fd = open_path("/dev/full", O_RDWR, 0);
    EXPECT(CALL(write, (uint64_t)fd, POINTER(data), 10) == -ENOSPC);
    fd = open_path("/dev/urandom", O_RDONLY, 0);
    EXPECT(CALL(read, (uint64_t)fd, POINTER(data), 600) == 600 && memcmp(data, zero, 600));
    EXPECT(CALL(read, (uint64_t)fd, BAD_ADDRESS, 600) == -EFAULT);
    EXPECT(read_all("/dev/kmsg", data, sizeof(data)) == sizeof(log_text) - 1);
    EXPECT(!strcmp(data, log_text));
    logged = 0;
    EXPECT(write_all("/dev/kmsg", "<3>hello\n") == 9 && logged == 1);
    EXPECT(CALL(mknod, PATH("/zero"), S_IFCHR | 0600, LX_DEV(1, 5)) == 0);
    EXPECT(read_all("/zero", data, 11) == 10 && data[9] == 0);
    EXPECT(CALL(mknod, PATH("/none"), S_IFCHR | 0600, LX_DEV(77, 5)) == 0);
    EXPECT(open_path("/none", O_RDONLY, 0) == -ENXIO);
    EXPECT(dev_register("null", S_IFCHR | 0600, 1, &memory_ops, NULL) == -EEXIST);
    EXPECT(dev_register("deep/er/x", S_IFCHR | 0600, LX_DEV(9, 9), &memory_ops,
                        (void *)(uintptr_t)&zero_ops) == 0);
    EXPECT(read_all("/dev/deep/er/x", data, 11) == 10);
    EXPECT(dev_unregister("deep/er/x", S_IFCHR, LX_DEV(9, 9)) == 0 &&
           dev_unregister("deep/er/x", S_IFCHR, LX_DEV(9, 9)) == -ENOENT);
    EXPECT(open_path("/dev/deep/er/x", O_RDONLY, 0) == -ENOENT);
    EXPECT(read_all("/dev/fd/0", data, 11) == 0); /* /dev/null */
    EXPECT(CALL(readlink, PATH("/dev/stdin"), POINTER(data), 100) == 15);
}

static void test_proc(void)
{
    static const char *const texts[] = {"meminfo",
                                        "stat",
                                        "uptime",
                                        "loadavg",
                                        "version",
                                        "cpuinfo",
                                        "mounts",
                                        "self/stat",
                                        "self/status",
                                        "self/statm",
                                        "self/comm",
                                        "100/cmdline",
                                        "sys/kernel/hostname"};
    char text[5000], path[64];
    struct files_counts before, after;
    archive_make();
    world_start(archive, archive_size);
    memcpy(processes[0].cmdline, "sh\0-l", processes[0].cmdline_length = 6);
    processes[0].threads[0] = &host_threads[0];
    strcpy(processes[0].name, "a (b) c");
    strcpy(processes[0].path, "/bin/sh");
    proc_sweep();
    files_count(&before);
    for (unsigned i = 0; i < EXO_COUNT(texts); i++) {
        snprintf(path, sizeof(path), "/proc/%s", texts[i]);
        EXPECT(read_all(path, text, sizeof(text)) > 0);
    }
    EXPECT(read_all("/proc/self/cmdline", text, sizeof(text)) == 6 && !memcmp(text, "sh\0-l", 6));
    EXPECT(read_all("/proc/100/stat", text, sizeof(text)) > 0 &&
           !strncmp(text, "100 (a (b) c) R 0", 17));
    EXPECT(read_all("/proc/101/stat", text, sizeof(text)) == -ENOENT);
    EXPECT(read_all("/proc/0100/stat", text, sizeof(text)) == -ENOENT);
    EXPECT(read_all("/proc/mounts", text, sizeof(text)) > 0 && strstr(text, "proc /proc proc"));
    EXPECT(CALL(readlink, PATH("/proc/self"), POINTER(text), 100) == 3);
    EXPECT(CALL(readlink, PATH("/proc/self/exe"), POINTER(text), 100) == 7);
    EXPECT(open_path("/bin", O_RDONLY, 0) == 0 && open_path("/etc/passwd", O_RDONLY, 0) == 1);
    EXPECT(CALL(readlink, PATH("/proc/self/fd/1"), POINTER(text), 100) == 11);
    EXPECT(!memcmp(text, "/etc/passwd", 11));
    EXPECT(read_all("/proc/self/fd/0/../etc/passwd", text, sizeof(text)) == 22);
    EXPECT(read_all("/proc/self/exe", text, sizeof(text)) == 4999);
    EXPECT(CALL(pipe2, 0, O_NONBLOCK) == 0); /* descriptors 2 and 3 */
    EXPECT(CALL(readlink, PATH("/proc/self/fd/3"), POINTER(text), 100) > 6);
    EXPECT((stat_of("/proc/self/fd/3").st_mode & S_IFMT) == S_IFLNK);
    EXPECT(CALL(stat, PATH("/proc/self/fd/3")) == 0);
    EXPECT((((struct stat *)host_bytes(0))->st_mode & S_IFMT) == S_IFIFO);
    EXPECT(open_path("/proc/self/fd/3", O_WRONLY, 0) == 4);
    EXPECT(open_path("/proc/self/fd/3", O_RDONLY, 0) == -EACCES);
    EXPECT(CALL(write, 4, POINTER("x"), 1) == 1 && CALL(read, 2, POINTER(text), 9) == 1);
    EXPECT(CALL(chdir, PATH("/proc/self/fd")) == 0);
    EXPECT(CALL(getcwd, POINTER(text), 100) == 13 && !strcmp(text, "/proc/100/fd"));
    EXPECT(open_path("new", O_CREAT | O_WRONLY, 0600) == -ENOENT);
    EXPECT(open_path("/proc/new", O_CREAT | O_WRONLY, 0600) == -ENOENT);
    EXPECT(CALL(unlink, PATH("/proc/meminfo")) == -EPERM);
    EXPECT(CALL(rename, PATH("/proc/stat"), PATH2("/proc/x")) == -EPERM);
    EXPECT(CALL(rmdir, PATH("/proc/100")) == -EPERM && CALL(rmdir, PATH("/proc")) == -EBUSY);
    EXPECT(CALL(chdir, PATH("/")) == 0);
    for (uint64_t fd = 0; fd < 5; fd++)
        CALL(close, fd);
    proc_sweep();
    files_count(&after);
    EXPECT(before.inodes == after.inodes && before.files == after.files);
}

/* Names in a directory: how many there are, by small pieces. */
static unsigned list_count(const char *path)
{
    char data[100];
    unsigned count = 0;
    long n, fd = open_path(path, O_RDONLY | O_DIRECTORY, 0);
    while ((n = CALL(getdents64, (uint64_t)fd, POINTER(data), sizeof(data))) > 0)
        for (long i = 0; i < n; i += ((struct dirent64 *)(data + i))->length)
            count++;
    CALL(close, (uint64_t)fd);
    return n < 0 ? 0 : count;
}

static void test_directories(void)
{
    char name[64], data[64];
    world_start(NULL, 0);
    EXPECT(list_count("/") == 5 && list_count("/dev") >= 10);
    EXPECT(list_count("/proc/self") == 2 + PROC_ENTRIES && list_count("/proc/self/fd") == 3);
    EXPECT(list_count("/proc") > 10);
    CALL(mkdir, PATH("/d"), 0755);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "/d/file%u", i);
        EXPECT(write_all(name, "") == 0);
    }
    EXPECT(list_count("/d") == 102);
    /* While it is read entries go and come; each that stays is seen once. */
    uint64_t fd = (uint64_t)open_path("/d", O_RDONLY, 0);
    unsigned seen[101] = {0}, gone[101] = {0};
    const struct dirent64 *entry = (const void *)data;
    for (unsigned i = 0, file; CALL(getdents64, fd, POINTER(data), 32) > 0; i++) {
        if (sscanf(entry->name, "file%u", &file) == 1 && file < 101) seen[file]++;
        file = i * 37 % 100;
        snprintf(name, sizeof(name), "/d/file%u", file);
        if (i < 40 && CALL(unlink, PATH(name)) == 0) gone[file] = 1;
        if (i == 50) write_all("/d/file100", "");
    }
    for (unsigned i = 0; i < 101; i++) /* what comes meanwhile is not seen */
        EXPECT(gone[i] ? seen[i] <= 1 : seen[i] == (i < 100));
    EXPECT(write_all("/d/later", "") == 0 && CALL(getdents64, fd, POINTER(data), 64) == 0);
    EXPECT(CALL(lseek, fd, 0, SEEK_SET) == 0);
    EXPECT(CALL(getdents64, fd, POINTER(data), 64) == 48); /* `.`, `..` */
    EXPECT(CALL(getdents64, fd, POINTER(data), 8) == -EINVAL);
    EXPECT(CALL(getdents, fd, POINTER(data), 64) > 0);
    CALL(close, fd);
    EXPECT(CALL(getdents64, fd, POINTER(data), 64) == -EBADF);
}

static void test_mounts(void)
{
    struct files_counts before, after;
    char text[300];
    world_start(NULL, 0);
    CALL(mkdir, PATH("/m"), 0700);
    files_count(&before);
    at(0, "none");
    at(16, "/m");
    at(32, "tmpfs");
    at(48, "size=8k,mode=711");
    EXPECT(CALL(mount, 0, 16, 32, 0, 48) == 0);
    EXPECT(stat_of("/m").st_mode == (S_IFDIR | 0711) &&
           stat_of("/m").st_dev != stat_of("/").st_dev);
    EXPECT(write_all("/m/x", "hello") == 5);
    EXPECT(CALL(rename, PATH("/m/x"), PATH2("/x")) == -EXDEV);
    EXPECT(CALL(link, PATH("/m/x"), PATH2("/x")) == -EXDEV);
    EXPECT(CALL(rmdir, PATH("/m")) == -EBUSY && CALL(rename, PATH("/m"), PATH2("/n")) == -EBUSY);
    EXPECT(CALL(chdir, PATH("/m")) == 0 && CALL(umount2, PATH("/m"), 0) == -EBUSY);
    EXPECT(CALL(getcwd, POINTER(text), 100) == 3 && !strcmp(text, "/m"));
    EXPECT(read_all("../m/../m/x", text, 100) == 5 && CALL(chdir, PATH("..")) == 0);
    EXPECT(CALL(getcwd, POINTER(text), 100) == 2);
    EXPECT(read_all("/proc/mounts", text, sizeof(text)) > 0 && strstr(text, "none /m tmpfs"));
    uint64_t fd = (uint64_t)open_path("/m/big", O_CREAT | O_RDWR, 0600);
    EXPECT(CALL(fallocate, fd, 0, 0, 4097) == -ENOSPC); /* one page is x's */
    EXPECT(CALL(pwrite64, fd, POINTER(text), 300, 4000) == 96);
    EXPECT(CALL(pwrite64, fd, POINTER(text), 300, 4096) == -ENOSPC);
    EXPECT(CALL(umount2, PATH("/m"), 0) == -EBUSY && CALL(umount2, PATH("/dev"), 0) == 0 - EBUSY);
    EXPECT(CALL(unlink, PATH("/m/big")) == 0 && CALL(umount2, PATH("/m"), 0) == -EBUSY);
    EXPECT(CALL(umount2, PATH("/m"), MNT_DETACH) == 0);
    EXPECT(CALL(pread64, fd, POINTER(text), 300, 4000) == 96);
    CALL(close, fd);
    files_count(&after);
    EXPECT(before.inodes == after.inodes && before.entries == after.entries && !pages_used);
    EXPECT(CALL(umount2, PATH("/m"), 0) == -EINVAL && CALL(umount2, PATH("/"), 0) == -EBUSY);
    at(0, "none");
    at(16, "/m");
    at(32, "ext9");
    EXPECT(CALL(mount, 0, 16, 32, 0, ~0ul) == -ENODEV);
    at(32, "tmpfs");
    at(48, "size=1k,bogus");
    EXPECT(CALL(mount, 0, 16, 32, 0, 48) == -EINVAL);
    files_count(&after);
    EXPECT(before.inodes == after.inodes);
}

static void test_fork_exec(void)
{
    world_start(NULL, 0);
    CALL(mkdir, PATH("/d"), 0755);
    CALL(chdir, PATH("/d"));
    uint64_t a = (uint64_t)open_path("a", O_CREAT | O_RDWR, 0600);
    uint64_t b = (uint64_t)open_path("b", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    host_process(1);
    fds_fork(&processes[0], &processes[1]);
    fds_exec(&processes[1]);
    EXPECT(processes[1].fds[a].file == processes[0].fds[a].file && !processes[1].fds[b].file);
    EXPECT(HOST_CALL(1, call_write, a, POINTER("12"), 2) == 2);
    EXPECT(CALL(lseek, a, 0, SEEK_CUR) == 2);
    fds_end(&processes[0]);
    EXPECT(HOST_CALL(1, call_lseek, a, 0, SEEK_CUR) == 2);
    EXPECT(file_count == 1);
    fds_end(&processes[1]);
    EXPECT(file_count == 0 && root_fs.held == 1 + 2); /* its root, /dev, /proc */
}

static long lock_try(unsigned process, uint64_t fd, unsigned command, short type, int64_t start,
                     int64_t length)
{
    struct flock lock = {.l_type = type, .l_start = start, .l_len = length};
    memcpy(host_bytes(process), &lock, sizeof(lock));
    return HOST_CALL(process, call_fcntl, fd, command, 0);
}

static void test_locks(void)
{
    world_start(NULL, 0);
    uint64_t fd = (uint64_t)open_path("f", O_CREAT | O_RDWR, 0600);
    host_process(1);
    fds_fork(&processes[0], &processes[1]);
    EXPECT(lock_try(0, fd, F_SETLK, F_WRLCK, 10, 10) == 0);
    EXPECT(lock_try(1, fd, F_SETLK, F_RDLCK, 0, 0) == -EAGAIN);
    EXPECT(lock_try(1, fd, F_SETLK, F_WRLCK, 0, 10) == 0 &&
           lock_try(1, fd, F_SETLK, F_RDLCK, 20, 5) == 0);
    EXPECT(lock_try(0, fd, F_SETLK, F_UNLCK, 12, 3) == 0);
    EXPECT(lock_try(1, fd, F_SETLK, F_WRLCK, 12, 3) == 0);
    EXPECT(lock_try(1, fd, F_SETLK, F_WRLCK, 11, 2) == -EAGAIN);
    EXPECT(lock_try(1, fd, F_SETLK, F_WRLCK, 14, 2) == -EAGAIN);
    EXPECT(lock_try(0, fd, F_GETLK, F_WRLCK, 14, 100) == 0);
    struct flock *got = (struct flock *)host_bytes(0);
    EXPECT(got->l_pid == 101 && got->l_type != F_UNLCK);
    EXPECT(lock_try(1, fd, F_SETLKW, F_WRLCK, 15, 1) == -LX_WAIT);
    woken[1] = 0;
    EXPECT(lock_try(0, fd, F_SETLK, F_UNLCK, 0, 0) == 0 && woken[1] == 1);
    EXPECT(lock_try(1, fd, F_SETLKW, F_WRLCK, 15, 1) == 0);
    EXPECT(lock_try(0, fd, F_OFD_SETLK, F_WRLCK, 15, 1) == -EAGAIN);
    EXPECT(lock_try(0, fd, F_SETLK, F_RDLCK, INT64_MAX, 2) == -EOVERFLOW);
    EXPECT(lock_try(0, fd, F_SETLK, F_RDLCK, -1, 2) == -EINVAL);
    EXPECT(lock_try(0, fd, F_SETLK, 7, 0, 2) == -EINVAL);
    EXPECT(lock_try(0, fd, F_SETLK, F_RDLCK, 5, INT64_MIN) == -EINVAL);
    uint64_t other = (uint64_t)open_path("f", O_RDONLY, 0);
    EXPECT(CALL(flock, fd, LOCK_EX) == 0 && CALL(flock, other, LOCK_SH | LOCK_NB) == -EAGAIN);
    EXPECT(CALL(flock, fd, LOCK_SH) == 0 && CALL(flock, other, LOCK_SH | LOCK_NB) == 0);
    for (unsigned i = 0; i < 2 * LOCKS_MAX; i++)
        lock_try(0, other, F_OFD_SETLK, F_RDLCK, 100 + 2 * i, 1);
    EXPECT(made[0] > LOCKS_SHARED / 2 - 8 &&
           made[0] <= LOCKS_SHARED / 2); /* no more than is left */
    EXPECT(lock_try(0, other, F_OFD_SETLK, F_RDLCK, 50, 1) == -ENOLCK);
    EXPECT(lock_try(1, fd, F_SETLK, F_RDLCK, 50, 1) == 0);
    fds_end(&processes[0]);
    fds_end(&processes[1]);
    EXPECT(lock_count == 0 && file_count == 0);
}

static void test_exhaustion(void)
{
    static char data[200000], text[200000];
    world_start(NULL, 0);
    uint64_t fd = (uint64_t)open_path("f", O_CREAT | O_RDWR, 0600);
    for (page_limit = 1; page_limit < 40; page_limit++) {
        long n = CALL(pwrite64, fd, POINTER(data), sizeof(data), 1000);
        EXPECT(n > 0 && n < (long)page_limit * 4096 && (long)stat_of("f").st_size == n + 1000);
        EXPECT(CALL(pread64, fd, POINTER(text), sizeof(text), 1000) == n &&
               !memcmp(data, text, (size_t)n));
        EXPECT(CALL(pwrite64, fd, POINTER(data), 10, 1ul << 30) == -ENOSPC);
        EXPECT(CALL(fallocate, fd, 0, 0, 1ul << 20) == -ENOSPC);
        EXPECT(CALL(ftruncate, fd, 0) == 0 && pages_used == 0);
    }
    page_limit = HOST_PAGES;
    EXPECT(CALL(ftruncate, fd, LX_FILE_MAX) == 0 && CALL(ftruncate, fd, LX_FILE_MAX + 1) == -EFBIG);
    EXPECT(CALL(pwrite64, fd, POINTER(data), 100, LX_FILE_MAX - 50) == 50);
    EXPECT(CALL(pwrite64, fd, POINTER(data), 100, LX_FILE_MAX) == -EFBIG);
    EXPECT(CALL(pwrite64, fd, POINTER(data), 100, -5ul) == -EINVAL);
    EXPECT(CALL(ftruncate, fd, LX_FILE_MAX - 4096) == 0);
    EXPECT(CALL(ftruncate, fd, 0) == 0 && pages_used == 0);
    CALL(close, fd);
    unsigned opened = 0;
    while (open_path("f", O_RDONLY, 0) >= 0)
        opened++;
    EXPECT(opened == LX_FDS && open_path("f", O_RDONLY, 0) == -EMFILE && file_count == LX_FDS);
    EXPECT(CALL(close_range, 3, ~0u, 0) == 0 && file_count == 3);
}

/* Random arguments to every call. */
static void test_hostile(void)
{
    static call_function *const calls[] = {
        call_open,       call_openat,       call_close,           call_dup2,
        call_dup3,       call_fcntl,        call_flock,           call_lseek,
        call_getdents64, call_sendfile,     call_copy_file_range, call_fsync,
        call_ftruncate,  call_truncate,     call_fallocate,       call_stat,
        call_newfstatat, call_statx,        call_statfs,          call_faccessat2,
        call_fchmodat,   call_fchownat,     call_utimensat,       call_mkdirat,
        call_unlinkat,   call_linkat,       call_symlinkat,       call_renameat2,
        call_mknodat,    call_chdir,        call_fchdir,          call_mount,
        call_umount2,    call_memfd_create, call_close_range};
    static const char *const paths[] = {
        "/proc/self/fd/1",  "/dev/null", "a/b", "..", "/proc/self",
        "/proc/self/cwd/x", "tmpfs",     "/m",  "",   "/proc/self/fd"};
    static uint8_t user[65536];
    world_start(NULL, 0);
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t a[6];
        for (unsigned j = 0; j < 6; j++)
            a[j] = next(4)   ? next(5)
                   : next(3) ? next(LX_WINDOW_BYTES + 100)
                             : next(1ul << 40) << next(24);
        if (next(10)) at(0, paths[next(EXO_COUNT(paths))]);
        if (next(3)) at(2, paths[next(EXO_COUNT(paths))]);
        for (unsigned j = 0; j < 5; j++) /* a buffer, or none */
            if (a[j] > LX_WINDOW_BYTES && next(2)) a[j] = (uint64_t)AT_FDCWD;
        call_function *call = calls[next(EXO_COUNT(calls))];
        if (call == call_getdents64) {
            a[1] = POINTER(user);
            a[2] %= sizeof(user);
        }
        long r = call(host_thread(0), a);
        EXPECT(r >= -LX_WAIT);
        if (i % 5000 == 0) fds_end(&processes[0]), fds_init(&processes[0]);
    }
    fds_end(&processes[0]);
    EXPECT(file_count == 0 && lock_count == 0);
}

int main(void)
{
    static const struct unit_test tests[] = {
        {"the archive is the tree", test_archive},
        {"damaged archives", test_archive_damage},
        {"devices", test_devices},
        {"/proc", test_proc},
        {"directories are read while they change", test_directories},
        {"mounts", test_mounts},
        {"descriptors over fork and exec", test_fork_exec},
        {"locks", test_locks},
        {"no pages, no descriptors", test_exhaustion},
        {"hostile arguments", test_hostile},
    };
    return TESTS_RUN("linuxd files", tests);
}
