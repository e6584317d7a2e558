/* SPDX-License-Identifier: MIT
 *
 * The tree at the start: the archive of a root file system, and what is mounted in it. */
#include "files.h"
#include "../entry.h"
#include "fuse.h"
#include "../devices/dev.h"
#include "mount.h"
#include "../proc/proc.h"
#include "../../../../lib/exo/exo.h"
#include <linux/magic.h>

/* Entries of the archive that have several names: the inode that its number became. */
struct linked {
    struct linked *next;
    uint32_t number;
    struct inode *inode;
};

static struct filesystem dev_mount = {
    .type = "devtmpfs", .permanent = true, .source = "devtmpfs", .path = "/dev"};
static struct filesystem pts_mount = {.type = "devpts",
                                      .magic = DEVPTS_SUPER_MAGIC,
                                      .permanent = true,
                                      .fixed = true,
                                      .source = "devpts",
                                      .path = "/dev/pts"};
static struct filesystem proc_mount = {.type = "proc",
                                       .magic = PROC_SUPER_MAGIC,
                                       .permanent = true,
                                       .fixed = true,
                                       .source = "proc",
                                       .path = "/proc"};

struct inode *tree_directory(struct inode *directory, const char **path, struct name *name,
                             char room[LX_NAME_ROOM])
{
    const char *slash;
    for (const char *at = *path;; at = slash) {
        while (*at == '/')
            at++;
        for (slash = at; *slash && *slash != '/'; slash++)
            ;
        const char *rest = slash;
        while (*rest == '/')
            rest++;
        size_t length = (size_t)(slash - at);
        if (!length || length > LX_NAME_MAX) return NULL;
        name_from(name, room, at, length);
        *path = at;
        if (!*rest) return directory;
        struct entry *entry = entry_find(directory, name);
        directory = entry ? inode_top(entry->inode) : inode_make(directory, name, S_IFDIR | 0755);
        if (!directory || !inode_is(directory, S_IFDIR)) return NULL;
    }
}

/* The inode that an entry with several names already has, or NULL. */
static struct linked *linked_find(struct linked *linked, uint32_t number)
{
    while (linked && linked->number != number)
        linked = linked->next;
    return linked;
}

/* The contents of a new (or linked) inode, as the entry has them: 0 or -ENOMEM. */
static long entry_contents(struct inode *inode, const struct exo_archive_entry *entry)
{
    uint64_t size = entry->file.size;
    if (inode_is(inode, S_IFREG) && size) {
        inode->data.archive = (const uint8_t *)entry->file.data;
        inode->data.archive_size = inode->size = size;
    } else if (inode_is(inode, S_IFLNK)) {
        size = EXO_MIN(size, LX_PATH_MAX - 1);
        if (!(inode->target = names_take(inode->fs, size + LX_TARGET_ROOM))) return -ENOMEM;
        memcpy(inode->target, entry->file.data, size);
        inode->target[size] = 0;
        inode->size = size;
    } else if (inode_is(inode, S_IFCHR) || inode_is(inode, S_IFBLK)) {
        inode->rdev = LX_DEV(entry->field[EXO_CPIO_RDEV_MAJOR], entry->field[EXO_CPIO_RDEV_MINOR]);
    }
    inode->uid = entry->field[EXO_CPIO_UID];
    inode->gid = entry->field[EXO_CPIO_GID];
    inode->mtime = (struct lx_timespec){entry->field[EXO_CPIO_TIME], 0};
    return 0;
}

/* Adds an entry of the archive to the tree. */
static long import_entry(const struct exo_archive_entry *entry, struct linked **links)
{
    char room[LX_NAME_ROOM];
    struct name name;
    const char *path = entry->name;
    uint32_t mode = entry->field[EXO_CPIO_MODE] & (S_IFMT | 07777);
    if (!strcmp(path, ".") || !strcmp(path, "/") || !*path) {
        root_fs.root->mode = S_IFDIR | (mode & 07777);
        return 0;
    }
    struct inode *directory = tree_directory(root_fs.root, &path, &name, room);
    if (!directory || !strncmp(path, "..", 3)) return -EINVAL;
    struct entry *old = entry_find(directory, &name);
    if (old) { /* a directory that a name before it needed; anything else: the last one wins */
        if (inode_is(old->inode, S_IFDIR)) {
            if ((mode & S_IFMT) == S_IFDIR) old->inode->mode = mode;
            return (mode & S_IFMT) == S_IFDIR ? 0 : -EINVAL;
        }
        entry_remove(old);
    }
    bool several = entry->field[EXO_CPIO_LINKS] > 1 && (mode & S_IFMT) == S_IFREG;
    struct linked *linked = several ? linked_find(*links, entry->field[EXO_CPIO_INODE]) : NULL;
    if (linked) {
        if (entry_add(directory, &name, linked->inode) < 0) return -ENOMEM;
        return entry_contents(linked->inode, entry);
    }
    struct inode *inode = inode_make(directory, &name, mode);
    if (!inode || entry_contents(inode, entry) < 0) return -ENOMEM;
    if (!several) return 0;
    if (!(linked = malloc(sizeof(*linked)))) return -ENOMEM;
    *linked = (struct linked){*links, entry->field[EXO_CPIO_INODE], inode};
    *links = linked;
    inode_get(inode);
    return 0;
}

static long import(const char *archive, size_t size)
{
    struct linked *links = NULL;
    struct exo_archive_entry entry;
    uint64_t at = 0;
    long r = 0;
    bool end = !size;
    while (!end && r == 0 && exo_archive_next(archive, size, &at, &entry)) {
        end = !strcmp(entry.name, "TRAILER!!!");
        if (!end) r = import_entry(&entry, &links);
    }
    while (links) {
        struct linked *linked = links;
        links = links->next;
        inode_put(linked->inode);
        free(linked);
    }
    return r == 0 && !end ? -EINVAL : r;
}

/* A directory in a root, made where it is not there. */
static struct inode *directory_in(struct inode *root, const char *text, uint32_t mode)
{
    char room[LX_NAME_ROOM];
    struct name name;
    name_from(&name, room, text, strlen(text));
    struct entry *entry = entry_find(root, &name);
    if (entry && inode_is(entry->inode, S_IFDIR)) return entry->inode;
    if (entry) entry_remove(entry);
    return inode_make(root, &name, S_IFDIR | mode);
}

/* The names of terminals: the server's alone, so that none of them is taken. */
static long pts_start(void)
{
    struct inode *pts = directory_in(dev_mount.root, "pts", 0755);
    return pts ? fs_mount(&pts_mount, pts, 0755) : -ENOMEM;
}

long files_start(const void *archive, size_t size)
{
    random_bytes(names_key, sizeof(names_key));
    names_key[1] |= 1;
    long r = fs_mount(&root_fs, NULL, 0755);
    if (r < 0) return r;
    long imported = import(archive, size);
    struct inode *dev = directory_in(root_fs.root, "dev", 0755),
                 *proc = directory_in(root_fs.root, "proc", 0555);
    if (!dev || !proc || !directory_in(root_fs.root, "tmp", 01777)) return -ENOMEM;
    r = fs_mount(&dev_mount, dev, 0755);
    if (r == 0) r = pts_start();
    if (r == 0) r = fs_mount(&proc_mount, proc, 0555);
    if (r == 0) r = dev_start(&dev_mount);
    if (r == 0) r = proc_start(&proc_mount);
    if (r == 0) r = fuse_dev_start();
    if (r == 0) r = loop_start();
    return r < 0 ? r : imported;
}
