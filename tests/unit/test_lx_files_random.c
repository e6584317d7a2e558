/* SPDX-License-Identifier: MIT
 *
 * linuxd's files against this machine's own: the same random calls are made to both, here
 * in an empty directory that a child of the test has as its root, and must give the same
 * results, errors, contents, types, modes and links. */
#include "lx_files.h"
#include <errno.h>
#include <sys/syscall.h>

long syscall(long number, ...);
int waitpid(int pid, int *status, int options);
char *mkdtemp(char *);

#define STEPS 200000
#define SLOTS 8
#define NEWUSER 0x10000000 /* CLONE_NEWUSER */

static long fd_host[SLOTS], fd_ours[SLOTS];
static char history[8192]; /* of the step */
static unsigned step;

static long host(long r) { return r < 0 ? -(long)errno : r; }
#define HOST(name, ...) host(syscall(__NR_##name, __VA_ARGS__))

/* ---- what is asked ---- */

static const char *const words[] = {"a",  "b", "c", "d",         "e", ".",
                                    "..", "a", "b", "long name", "f", "link"};

/* A path of a few names, now and then odd. */
static void path_make(char *path)
{
    unsigned names = (unsigned)next(next(4) ? 2 : 5) + 1;
    *path = 0;
    if (!next(400)) return;
    if (!next(4)) strcat(path, next(8) ? "/" : "//");
    for (unsigned i = 0; i < names; i++) {
        if (i) strcat(path, next(10) ? "/" : "///");
        if (next(300)) {
            strcat(path, words[next(EXO_COUNT(words))]);
        } else {
            size_t length = strlen(path), n = next(2) ? 255 : 256;
            memset(path + length, 'x', n);
            path[length + n] = 0;
        }
    }
    if (!next(8)) strcat(path, "/");
}

static char one[2048], two[2048];

static unsigned flags_make(void)
{
    static const unsigned some[] = {O_CREAT,     O_EXCL,     O_TRUNC, O_APPEND,
                                    O_DIRECTORY, O_NOFOLLOW, O_PATH};
    unsigned flags = (unsigned)next(3) | O_NONBLOCK;
    if (next(2)) flags |= O_CREAT;
    for (unsigned n = (unsigned)next(3); n; n--)
        flags |= some[next(next(4) ? 4 : EXO_COUNT(some))];
    if ((flags & (O_CREAT | O_DIRECTORY)) == (O_CREAT | O_DIRECTORY)) flags &= ~O_CREAT;
    return flags;
}

/* ---- comparing ---- */

static void same(long h, long o, const char *what)
{
    if (h == o) return;
    printf("  step %u: %s: %ld here, %ld in linuxd: %s\n", step, what, h, o, history);
    failures++;
}

static void same_stat(const struct stat *h, const struct stat *o)
{
    bool directory = (h->st_mode & S_IFMT) == S_IFDIR;
    same(h->st_mode, o->st_mode, "mode");
    if (!directory) same((long)h->st_nlink, (long)o->st_nlink, "links");
    if (!directory) same(h->st_size, o->st_size, "size");
}

static void same_path(const char *path)
{
    struct stat h, *o = (struct stat *)host_bytes(0);
    long r = HOST(lstat, path, &h);
    same(r, CALL(lstat, PATH(path)), "lstat");
    if (r == 0) same_stat(&h, o);
    r = HOST(stat, path, &h);
    same(r, CALL(stat, PATH(path)), "stat");
    if (r == 0) same_stat(&h, o);
}

/* ---- steps ---- */

#define SAY(...) snprintf(history, sizeof(history), __VA_ARGS__)

static void step_open(void)
{
    unsigned slot = (unsigned)next(SLOTS), dir = (unsigned)next(SLOTS);
    unsigned flags = flags_make(), mode = (unsigned)next(01000);
    bool at_dir = !next(4);
    if (fd_host[slot] >= 0) {
        same(HOST(close, fd_host[slot]), CALL(close, (uint64_t)fd_ours[slot]), "close");
        fd_host[slot] = fd_ours[slot] = -1;
    }
    SAY("open '%s' flags %o mode %o at %ld", one, flags, mode, at_dir ? fd_ours[dir] : -100);
    long h = HOST(openat, at_dir ? fd_host[dir] : AT_FDCWD, one, flags, mode);
    long o =
        CALL(openat, at_dir ? (uint64_t)fd_ours[dir] : (uint64_t)AT_FDCWD, PATH(one), flags, mode);
    same(h < 0 ? h : 0, o < 0 ? o : 0, "open");
    fd_host[slot] = h < 0 || o < 0 ? -1 : h;
    fd_ours[slot] = h < 0 || o < 0 ? -1 : o;
}

static void step_move(void)
{
    static char data[20000], mine[20000];
    unsigned slot = (unsigned)next(SLOTS);
    long h = fd_host[slot], r;
    uint64_t o = (uint64_t)fd_ours[slot], n = next(next(4) ? 200 : sizeof(data));
    uint64_t pos = next(next(4) ? 300 : 100000);
    struct stat stat;
    if (h < 0 || (HOST(fstat, h, &stat) == 0 && (stat.st_mode & S_IFMT) == S_IFIFO)) return;
    switch (next(4)) {
    case 0:
    case 1:
        for (uint64_t i = 0; i < n; i++)
            data[i] = (char)next(256);
        SAY("write %lu at %lu", n, pos);
        if (next(2))
            same(HOST(write, h, data, n), CALL(write, o, POINTER(data), n), "write");
        else
            same(HOST(pwrite64, h, data, n, pos), CALL(pwrite64, o, POINTER(data), n, pos),
                 "pwrite");
        break;
    default:
        SAY("read %lu at %lu", n, pos);
        if (next(2)) {
            r = HOST(read, h, data, n);
            same(r, CALL(read, o, POINTER(mine), n), "read");
        } else {
            r = HOST(pread64, h, data, n, pos);
            same(r, CALL(pread64, o, POINTER(mine), n, pos), "pread");
        }
        if (r > 0) same(0, memcmp(data, mine, (size_t)r), "bytes");
    }
}

static void step_size(void)
{
    unsigned slot = (unsigned)next(SLOTS), other = (unsigned)next(SLOTS);
    long h = fd_host[slot];
    uint64_t o = (uint64_t)fd_ours[slot];
    int64_t size = (int64_t)next(next(3) ? 300 : 60000) - 5;
    unsigned whence = (unsigned)next(3);
    switch (next(5)) {
    case 0:
        SAY("ftruncate %ld of %ld", size, o);
        same(HOST(ftruncate, h, size), CALL(ftruncate, o, (uint64_t)size), "ftruncate");
        break;
    case 1:
        SAY("truncate '%s' %ld", one, size);
        same(HOST(truncate, one, size), CALL(truncate, PATH(one), (uint64_t)size), "truncate");
        break;
    case 2:
        SAY("fallocate %ld", size);
        same(HOST(fallocate, h, 0, 0, size), CALL(fallocate, o, 0, 0, (uint64_t)size), "fallocate");
        break;
    case 3: {
        struct stat stat;
        if (HOST(fstat, h, &stat) == 0 && (stat.st_mode & S_IFMT) == S_IFDIR) return;
        SAY("lseek %ld whence %u", size, whence);
        same(HOST(lseek, h, size, whence), CALL(lseek, o, (uint64_t)size, whence), "lseek");
        break;
    }
    default: {
        uint64_t from = next(300), to = next(3000), n = next(5000);
        uint64_t *ours = (uint64_t *)(host_bytes(0) + 64), in = from, out = to;
        ours[0] = from;
        ours[1] = to;
        SAY("copy_file_range %lu to %lu, %lu bytes", from, to, n);
        same(HOST(copy_file_range, h, &in, fd_host[other], &out, n, 0),
             CALL(copy_file_range, o, 64, (uint64_t)fd_ours[other], 72, n, 0), "copy_file_range");
        same((long)in, (long)ours[0], "from where");
        same((long)out, (long)ours[1], "to where");
    }
    }
}

static void step_name(void)
{
    unsigned mode = (unsigned)next(01000), type = next(2) ? S_IFIFO : S_IFREG;
    switch (next(7)) {
    case 0:
    case 1:
        SAY("mkdir '%s' %o", one, mode);
        same(HOST(mkdir, one, mode), CALL(mkdir, PATH(one), mode), "mkdir");
        break;
    case 2:
        SAY("rmdir '%s'", one);
        same(HOST(rmdir, one), CALL(rmdir, PATH(one)), "rmdir");
        break;
    case 3:
        SAY("unlink '%s'", one);
        same(HOST(unlink, one), CALL(unlink, PATH(one)), "unlink");
        break;
    case 4:
        SAY("symlink to '%s' at '%s'", two, one);
        same(HOST(symlink, two, one), CALL(symlink, PATH2(two), PATH(one)), "symlink");
        break;
    case 5:
        SAY("link '%s' '%s' flags %u", two, one, mode & 1);
        mode = mode & 1 ? AT_SYMLINK_FOLLOW : 0;
        same(HOST(linkat, AT_FDCWD, two, AT_FDCWD, one, mode),
             CALL(linkat, (uint64_t)AT_FDCWD, PATH2(two), (uint64_t)AT_FDCWD, PATH(one), mode),
             "link");
        break;
    default:
        SAY("mknod '%s' %o", one, type | mode);
        same(HOST(mknod, one, type | mode, 0), CALL(mknod, PATH(one), type | mode, 0), "mknod");
    }
}

static void step_rename(void)
{
    unsigned flags = next(3) ? 0 : (unsigned)next(4);
    SAY("rename '%s' to '%s' flags %u", one, two, flags);
    same(HOST(renameat2, AT_FDCWD, one, AT_FDCWD, two, flags),
         CALL(renameat2, (uint64_t)AT_FDCWD, PATH(one), (uint64_t)AT_FDCWD, PATH2(two), flags),
         "rename");
    same_path(one);
    same_path(two);
}

static void step_look(void)
{
    static char h[4096], o[4096];
    unsigned mode = (unsigned)next(9);
    long r;
    switch (next(6)) {
    case 0:
        SAY("readlink '%s' %u", one, mode * 3);
        r = HOST(readlink, one, h, mode * 3);
        same(r, CALL(readlink, PATH(one), POINTER(o), mode * 3), "readlink");
        if (r > 0) same(0, memcmp(h, o, (size_t)r), "link");
        break;
    case 1:
        SAY("access '%s' %u", one, mode);
        same(HOST(access, one, mode), CALL(access, PATH(one), mode), "access");
        break;
    case 2:
        SAY("chmod '%s' %o", one, mode * 0111);
        same(HOST(chmod, one, mode * 0111), CALL(chmod, PATH(one), mode * 0111), "chmod");
        break;
    case 3:
        SAY("chdir '%s'", one);
        same(HOST(chdir, one), CALL(chdir, PATH(one)), "chdir");
        break;
    case 4:
        SAY("getcwd");
        r = HOST(getcwd, h, sizeof(h));
        same(r, CALL(getcwd, POINTER(o), sizeof(o)), "getcwd");
        if (r > 0) same(0, memcmp(h, o, (size_t)r), "directory");
        break;
    default:
        SAY("stat '%s'", one);
        same_path(one);
    }
}

/* ---- whole directories ---- */

struct listed {
    unsigned count, types;
    uint64_t sum; /* of the names' hashes */
};

static struct listed list_sum(const char *data, long n)
{
    struct listed listed = {0};
    for (long i = 0; i < n;) {
        const struct dirent64 *entry = (const void *)(data + i);
        char room[LX_NAME_ROOM];
        struct name name;
        name_from(&name, room, entry->name, strlen(entry->name));
        listed.count++;
        listed.types += entry->type;
        listed.sum += name.hash;
        i += entry->length;
    }
    return listed;
}

static void same_directory(const char *path)
{
    static char h[65536], o[65536];
    long fd = HOST(open, path, O_RDONLY | O_DIRECTORY, 0), mine = open_path(path, O_DIRECTORY, 0);
    same(fd < 0 ? fd : 0, mine < 0 ? mine : 0, "directory");
    if (fd < 0 || mine < 0) return;
    struct listed here = list_sum(h, HOST(getdents64, fd, h, sizeof(h)));
    struct listed ours = list_sum(o, CALL(getdents64, (uint64_t)mine, POINTER(o), sizeof(o)));
    same(here.count, ours.count, "entries");
    same((long)here.sum, (long)ours.sum, "names");
    same(here.types, ours.types, "types");
    HOST(close, fd);
    CALL(close, (uint64_t)mine);
}

static void steps_run(void)
{
    static void (*const steps[])(void) = {step_open, step_open, step_move,   step_move, step_size,
                                          step_name, step_name, step_rename, step_look};
    for (unsigned i = 0; i < SLOTS; i++)
        fd_host[i] = fd_ours[i] = -1;
    for (step = 0; step < STEPS && failures < 10; step++) {
        path_make(one);
        path_make(two);
        steps[next(EXO_COUNT(steps))]();
        if (step % 50) continue;
        SAY("the directory");
        same_directory(".");
        if (step % 100 == 0) same_directory("/");
        if (step % 1000 == 0) same(HOST(chdir, "/"), CALL(chdir, PATH("/")), "chdir");
    }
}

/* The directory becomes the root of this process, and an empty one of linuxd's. */
static bool root_enter(const char *path)
{
    long r = HOST(chdir, path);
    if (r == 0) r = HOST(chroot, ".");
    if (r == -EPERM && HOST(unshare, NEWUSER) == 0) r = HOST(chroot, ".");
    if (r < 0) return false;
    HOST(umask, 022);
    HOST(chmod, "/", 0755);
    host_process(0);
    files_start(NULL, 0);
    fds_init(&processes[0]);
    return CALL(mkdir, PATH("/empty"), 0755) == 0 && CALL(chroot, PATH("/empty")) == 0 &&
           CALL(chdir, PATH("/")) == 0;
}

/* Everything is closed and removed: linuxd has what it had. */
static void leak_check(uint64_t inodes, uint64_t entries)
{
    struct files_counts counts;
    struct inode *empty = processes[0].root;
    inode_get(empty);
    fds_end(&processes[0]);
    tree_empty(empty);
    inode_put(empty);
    files_count(&counts);
    SAY("the end");
    same(0, (long)counts.files, "open files");
    same((long)inodes, (long)counts.inodes, "inodes");
    same((long)entries, (long)counts.entries, "entries");
    same(0, (long)counts.pages, "pages");
    same(0, (long)pipe_count(), "fifos");
}

static void test_random(void)
{
    char here[] = "/dev/shm/lx-files-XXXXXX", there[] = "/tmp/lx-files-XXXXXX", remove[64];
    char *path = mkdtemp(here);
    int status = -1;
    if (!path) path = mkdtemp(there);
    EXPECT(path);
    if (!path) return;
    int child = fork();
    if (!child) {
        failures = 0;
        if (!root_enter(path)) {
            printf("  cannot have a root of its own: neither root nor user namespaces?\n");
            _exit(1);
        }
        uint64_t inodes = inode_count, entries = entry_count;
        steps_run();
        leak_check(inodes, entries);
        fflush(stdout);
        _exit(failures != 0);
    }
    EXPECT(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    snprintf(remove, sizeof(remove), "rm -rf %s", path);
    EXPECT(system(remove) == 0);
}

int main(void)
{
    static const struct unit_test tests[] = {{"the same as this machine's", test_random}};
    return TESTS_RUN("linuxd files, random", tests);
}
