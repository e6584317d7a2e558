/* SPDX-License-Identifier: MIT
 *
 * Servers of file systems (/dev/fuse) that do what they should, but for one thing: they keep
 * writers waiting, are slow, say that there is nothing yet, or that a file is larger than any can
 * be. Who uses another server's mount does not see it, and each server is told what it has to know. */
#include <dirent.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include "hostile.h"

#define SIZE 10 /* bytes of the one file, "f" */
#define HUGE (1ul << 48)
#define KEPT 20 /* writers that are killed while they wait */

enum fault { NOTHING, KEEPS_WRITERS, SLOW_OPEN, READ_AGAIN, HUGE_FILE };

static struct counts {
    int opens, releases, destroys, waiting;
} * counts; /* what the servers have been asked */
static _Alignas(16) uint8_t in[80000], out[80000];

struct served {
    const char *directory;
    int device;
    pid_t server;
};

/* ---- a server ---- */

static void attributes(struct fuse_attr *attr, uint64_t node, enum fault fault)
{
    uint64_t size = fault == HUGE_FILE ? HUGE : SIZE;
    *attr = (struct fuse_attr){.ino = node, .nlink = 1, .mode = S_IFREG | 0644, .size = size};
    if (node == FUSE_ROOT_ID) attr->mode = S_IFDIR | 0755;
}

static size_t entry(struct fuse_entry_out *to, enum fault fault)
{
    *to = (struct fuse_entry_out){.nodeid = 2};
    attributes(&to->attr, 2, fault);
    return sizeof *to;
}

static size_t names(struct fuse_direntplus *to, uint64_t offset, enum fault fault)
{
    if (offset) return 0;
    entry(&to->entry_out, fault);
    to->dirent = (struct fuse_dirent){.ino = 2, .off = 1, .namelen = 1, .type = DT_REG};
    to->dirent.name[0] = 'f';
    return FUSE_DIRENTPLUS_SIZE(to);
}

/* The reply's length, or an error; *silent: there is none. */
static long reply(const struct fuse_in_header *request, void *to, enum fault fault, bool *silent)
{
    const struct fuse_read_in *read_in = (const void *)(request + 1);
    switch (request->opcode) {
    case FUSE_INIT:
        *(struct fuse_init_out *)to = (struct fuse_init_out){
            .major = 7, .minor = 31, .flags = FUSE_DO_READDIRPLUS, .max_write = 65536};
        return sizeof(struct fuse_init_out);
    case FUSE_LOOKUP:
        return strcmp((const char *)(request + 1), "f") ? -ENOENT : (long)entry(to, fault);
    case FUSE_GETATTR:
    case FUSE_SETATTR:
        attributes(&((struct fuse_attr_out *)to)->attr, request->nodeid, fault);
        return sizeof(struct fuse_attr_out);
    case FUSE_READDIR:
        return -ENOSYS;
    case FUSE_READDIRPLUS:
        return (long)names(to, read_in->offset, fault);
    case FUSE_OPEN:
        counts->opens++;
        if (fault == SLOW_OPEN) test_sleep_ms(300);
        return sizeof(struct fuse_open_out);
    case FUSE_READ:
        if (fault == READ_AGAIN) return -EAGAIN;
        if (fault == HUGE_FILE || read_in->offset) return 0;
        memset(to, 'x', SIZE);
        return SIZE;
    case FUSE_WRITE:
        counts->waiting++;
        *silent = fault == KEEPS_WRITERS;
        ((struct fuse_write_out *)to)->size = read_in->size;
        return sizeof(struct fuse_write_out);
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
        *silent = true;
        return 0;
    case FUSE_RELEASE:
        counts->releases++;
        return 0;
    case FUSE_DESTROY:
        counts->destroys++;
        return 0;
    case FUSE_OPENDIR:
        return sizeof(struct fuse_open_out);
    case FUSE_RELEASEDIR:
        return 0;
    default:
        return -ENOSYS;
    }
}

static void serve(int device, enum fault fault)
{
    const struct fuse_in_header *request = (const void *)in;
    struct fuse_out_header *header = (void *)out;
    while (read(device, in, sizeof in) > 0) {
        bool silent = false;
        memset(out, 0, 4096);
        long n = reply(request, header + 1, fault, &silent);
        size_t length = sizeof *header + (n > 0 ? (size_t)n : 0);
        *header = (struct fuse_out_header){(uint32_t)length, n < 0 ? (int)n : 0, request->unique};
        if (!silent && write(device, out, length) < 0 && errno != ENOENT) break;
    }
    _exit(0);
}

static struct served mount_new(const char *directory, enum fault fault)
{
    char options[80];
    struct served mount_point = {directory, open("/dev/fuse", O_RDWR), -1};
    mkdir(directory, 0755);
    snprintf(options, sizeof options, "fd=%d,rootmode=40755,user_id=0,group_id=0",
             mount_point.device);
    if (mount("hostile", directory, "fuse", 0, options) < 0) return mount_point;
    mount_point.server = fork();
    if (mount_point.server == 0) serve(mount_point.device, fault);
    close(mount_point.device);
    return mount_point;
}

static void mount_end(const struct served *mount_point)
{
    umount2(mount_point->directory, MNT_DETACH);
    if (mount_point->server > 0) {
        kill(mount_point->server, SIGKILL);
        waitpid(mount_point->server, NULL, 0);
    }
}

/* ---- the tests ---- */

static bool file_is_read(const char *path)
{
    char data[SIZE + 1];
    int fd = open(path, O_RDONLY);
    bool good = fd >= 0 && read(fd, data, sizeof data) == SIZE && data[SIZE - 1] == 'x';
    close(fd);
    return good;
}

static void writer(void)
{
    static char data[60000];
    int fd = open("bad/f", O_WRONLY);
    _exit(write(fd, data, sizeof data) < 0);
}

static void test_writers(void)
{
    struct served good = mount_new("good", NOTHING), bad = mount_new("bad", KEEPS_WRITERS);
    CHECK("writers.before", good.server > 0 && bad.server > 0 && file_is_read("good/f"));
    pid_t pids[KEPT];
    for (int i = 0; i < KEPT; i++)
        if ((pids[i] = fork()) == 0) writer();
    test_sleep_ms(700);
    for (int i = 0; i < KEPT; i++)
        kill(pids[i], SIGKILL);
    CHECK("writers.wait", counts->waiting > 0);
    CHECK("writers.others", file_is_read("good/f") && hostile_all_well());
    mount_end(&bad);
    for (int i = 0; i < KEPT; i++) /* Linux keeps them until their server answers, or ends */
        waitpid(pids[i], NULL, 0);
    CHECK("writers.after", file_is_read("good/f"));
    mount_end(&good);
}

static void opener(void)
{
    int fd = open("slow/f", O_RDONLY);
    close(fd);
}

/* Who opens is killed before the reply comes, or about when it does. */
static void test_openers(void)
{
    struct served slow = mount_new("slow", SLOW_OPEN);
    CHECK("openers.mount", slow.server > 0);
    *counts = (struct counts){0};
    for (int i = 0; i < 6; i++)
        hostile_run(opener, 50 + i * 60);
    hostile_run(opener, 8000); /* comes behind all of these */
    for (int i = 0; i < 200 && counts->opens != counts->releases; i++)
        test_sleep_ms(10);
    CHECK("openers.released", counts->opens > 0 && counts->opens == counts->releases);
    mount_end(&slow);
}

static void reader(void)
{
    char data[SIZE];
    int fd = open("again/f", O_RDONLY);
    _exit(read(fd, data, sizeof data) < 0 && errno == EAGAIN ? 5 : 6);
}

static void test_again(void)
{
    struct served again = mount_new("again", READ_AGAIN);
    int status = hostile_run(reader, 5000);
    CHECK("again", again.server > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 5);
    mount_end(&again);
}

static void toucher(void)
{
    char data[SIZE];
    int fd = open("huge/f", O_RDONLY);
    if (pread(fd, data, sizeof data, HUGE - 4096) < 0) data[0] = 0;
    for (unsigned shift = 30; shift < 48; shift++) {
        volatile char *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, (off_t)(1ul << shift));
        if (at != MAP_FAILED && fork() == 0) _exit(*at);
        wait(NULL);
    }
}

static void test_huge(void)
{
    struct served huge = mount_new("huge", HUGE_FILE);
    CHECK("huge.mount", huge.server > 0);
    hostile_run(toucher, 8000);
    CHECK("huge.others", hostile_all_well());
    mount_end(&huge);
}

/* Busy, it is not told that it ends; not busy, it is before umount comes back. */
static void test_umount(void)
{
    struct served served = mount_new("served", NOTHING);
    struct stat state;
    *counts = (struct counts){0};
    CHECK("umount.used", chdir("served") == 0 && stat("f", &state) == 0);
    CHECK_ERROR("umount.busy", umount("../served"), EBUSY);
    CHECK("umount.goes_on", counts->destroys == 0 && file_is_read("f") && chdir("..") == 0);
    CHECK("umount.done", umount("served") == 0 && stat("served/f", &state) < 0);
    for (int i = 0; i < 100 && !counts->destroys; i++)
        test_sleep_ms(10); /* Linux does not wait for it */
    CHECK("umount.told", counts->destroys <= 1);
    mount_end(&served);
}

int main(void)
{
    test_begin("fuse_slow");
    test_directory();
    int module = open("/lib/fuse.ko", O_RDONLY);
    if (module >= 0 && access("/dev/fuse", F_OK) < 0) syscall(SYS_finit_module, module, "", 0);
    counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    test_writers();
    test_openers();
    test_again();
    test_huge();
    test_umount();
    return test_end();
}
