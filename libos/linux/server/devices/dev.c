/* SPDX-License-Identifier: MIT
 *
 * /dev: a table of devices by number, to which their owners add, and those that have no
 * owner: null, zero, full, random, urandom, kmsg. */
#include "dev.h"
#include "../files/files.h"
#include "../log.h"
#include "../../../../lib/exo/exo.h"

#define MEMORY_MAJOR 1 /* Linux' Documentation/admin-guide/devices.txt */
#define RANDOM_PIECE 4096 /* bytes at a time */
#define KMSG_PIECE 512

struct device {
    struct device *next;
    uint64_t rdev;
    uint32_t type;
    const struct dev_ops *ops;
    void *data;
};

static struct device *devices;
static struct filesystem *dev_fs;

long dev_open(struct inode *inode, uint32_t flags, struct file **file)
{
    struct device *device = devices;
    while (device && (device->rdev != inode->rdev || device->type != (inode->mode & S_IFMT)))
        device = device->next;
    return device ? device->ops->open(device->data, flags, file) : -ENXIO;
}

/* The name in /dev: its directory (made), NULL: it cannot be. */
static struct inode *dev_directory(const char *text, struct name *name, char room[LX_NAME_ROOM])
{
    return tree_directory(dev_fs->root, &text, name, room);
}

long dev_register(const char *text, uint32_t mode, uint64_t rdev, const struct dev_ops *ops,
                  void *data)
{
    char room[LX_NAME_ROOM];
    struct name name;
    struct inode *directory = dev_directory(text, &name, room);
    if (!directory) return -ENOMEM;
    if (entry_find(directory, &name)) return -EEXIST;
    struct device *device = malloc(sizeof(*device));
    struct inode *inode = device ? inode_make(directory, &name, mode) : NULL;
    if (!inode) {
        free(device);
        return -ENOMEM;
    }
    inode->rdev = rdev;
    *device = (struct device){devices, rdev, mode & S_IFMT, ops, data};
    devices = device;
    return 0;
}

long dev_unregister(const char *text, uint32_t mode, uint64_t rdev)
{
    char room[LX_NAME_ROOM];
    struct name name;
    uint32_t type = mode & S_IFMT;
    struct device **link = &devices;
    while (*link && ((*link)->rdev != rdev || (*link)->type != type))
        link = &(*link)->next;
    if (!*link) return -ENOENT;
    struct device *device = *link;
    *link = device->next;
    free(device);
    struct inode *directory = dev_directory(text, &name, room);
    struct entry *entry = directory ? entry_find(directory, &name) : NULL;
    if (entry && entry->inode->rdev == rdev && (entry->inode->mode & S_IFMT) == type)
        entry_remove(entry);
    return 0;
}

/* ---- devices of memory ---- */

static long null_read(struct file *file, struct iobuf *io, uint64_t *pos)
{
    (void)file, (void)io, (void)pos;
    return 0;
}

static long zero_read(struct file *file, struct iobuf *io, uint64_t *pos)
{
    (void)file, (void)pos;
    return (long)iobuf_zero(io, io->left);
}

static long random_read(struct file *file, struct iobuf *io, uint64_t *pos)
{
    static uint8_t bytes[RANDOM_PIECE];
    long done = 0;
    (void)file, (void)pos;
    while (io->left) {
        size_t part = EXO_MIN(io->left, sizeof(bytes));
        random_bytes(bytes, part);
        done += (long)iobuf_put(io, bytes, part);
        memset(bytes, 0, part); /* nobody else's */
    }
    return done;
}

static long null_write(struct file *file, struct iobuf *io, uint64_t *pos)
{
    (void)file, (void)pos;
    return (long)io->left;
}

static long full_write(struct file *file, struct iobuf *io, uint64_t *pos)
{
    (void)file, (void)pos;
    return io->left ? -ENOSPC : 0;
}

static long null_seek(struct file *file, int64_t offset, int whence)
{
    (void)file, (void)offset, (void)whence;
    return 0;
}

static long kmsg_read(struct file *file, struct iobuf *io, uint64_t *pos)
{
    char bytes[KMSG_PIECE];
    long done = 0;
    (void)pos;
    while (io->left) {
        size_t n = log_read(&file->position, bytes, EXO_MIN(io->left, sizeof(bytes)));
        if (!n) break;
        done += (long)iobuf_put(io, bytes, n);
    }
    return done;
}

/* A line for the log; its priority "<n>" is not kept. */
static long kmsg_write(struct file *file, struct iobuf *io, uint64_t *pos)
{
    char line[256];
    size_t all = io->left, n = EXO_MIN(all, sizeof(line) - 1), start = 0;
    (void)file, (void)pos;
    iobuf_get(io, line, n);
    while (n && line[n - 1] == '\n')
        n--;
    line[n] = 0;
    if (line[0] == '<')
        while (start < n && line[start++] != '>')
            ;
    log_line("%s", line + start);
    return (long)all;
}

static const struct file_ops null_ops = {.read = null_read,
                                         .write = null_write,
                                         .seek = null_seek,
                                         .direct = LX_DIRECT_EOF | LX_DIRECT_SINK};
static const struct file_ops zero_ops = {.read = zero_read,
                                         .write = null_write,
                                         .seek = null_seek,
                                         .direct = LX_DIRECT_ZEROES | LX_DIRECT_SINK};
static const struct file_ops full_ops = {.read = zero_read, .write = full_write, .seek = null_seek};
static const struct file_ops random_ops = {
    .read = random_read, .write = null_write, .seek = null_seek};
static const struct file_ops kmsg_ops = {.read = kmsg_read, .write = kmsg_write};

/* data: the operations. */
static long memory_open(void *data, uint32_t flags, struct file **file)
{
    *file = file_new(data, flags);
    return *file ? 0 : -ENFILE;
}

static const struct dev_ops memory_ops = {memory_open};

static const struct {
    const char *name;
    uint32_t mode, minor;
    const struct file_ops *ops;
} memory_devices[] = {
    {"null", 0666, 3, &null_ops},      {"zero", 0666, 5, &zero_ops},
    {"full", 0666, 7, &full_ops},      {"random", 0666, 8, &random_ops},
    {"urandom", 0666, 9, &random_ops}, {"kmsg", 0644, 11, &kmsg_ops},
};

/* Links that a usual /dev has. */
static const struct {
    const char *name, *target;
} links[] = {
    {"fd", "/proc/self/fd"},
    {"stdin", "/proc/self/fd/0"},
    {"stdout", "/proc/self/fd/1"},
    {"stderr", "/proc/self/fd/2"},
};

long dev_start(struct filesystem *fs)
{
    char room[LX_NAME_ROOM];
    struct name name;
    dev_fs = fs;
    for (unsigned i = 0; i < EXO_COUNT(memory_devices); i++) {
        long r = dev_register(memory_devices[i].name, S_IFCHR | memory_devices[i].mode,
                              LX_DEV(MEMORY_MAJOR, memory_devices[i].minor), &memory_ops,
                              (void *)(uintptr_t)memory_devices[i].ops);
        if (r < 0) return r;
    }
    for (unsigned i = 0; i < EXO_COUNT(links); i++) {
        name_from(&name, room, links[i].name, strlen(links[i].name));
        if (symlink_make(fs->root, &name, links[i].target) < 0) return -ENOMEM;
    }
    return 0;
}
