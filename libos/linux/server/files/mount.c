/* SPDX-License-Identifier: MIT
 *
 * Mounted file systems: a list in the order they were mounted. Each has one reference on
 * its root and one on the directory that it covers. mount(2) makes tmpfs, and what a process
 * serves (fuse.h). */
#include "../process/memory.h"
#include "mount.h"
#include "../entry.h"
#include "files.h"
#include "fuse.h"
#include "../../../../lib/exo/exo.h"
#include <linux/magic.h>
#include <linux/mount.h>

#define MNT_FORCE 1u
#define MNT_DETACH 2u /* umount2(2); not in Linux' exported headers */
#define UMOUNT_FLAGS 15u
#define MOUNT_IGNORED                                                                              \
    (MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME |                 \
     MS_STRICTATIME | MS_SILENT)

struct filesystem root_fs = {.type = "tmpfs", .permanent = true, .source = "tmpfs", .path = "/"};

long fs_mount(struct filesystem *fs, struct inode *covered, uint32_t mode)
{
    static uint32_t device;
    struct filesystem **link;
    fs->root = inode_new(fs, S_IFDIR | mode);
    if (!fs->root) return -ENOMEM;
    if (!fs->pages_max) fs->pages_max = UINT64_MAX;
    if (!fs->magic) fs->magic = TMPFS_MAGIC;
    fs->root->nlink = 2;
    fs->device = ++device;
    fs->covered = covered;
    fs->next = NULL;
    if (fs != &root_fs) {
        for (link = &root_fs.next; *link; link = &(*link)->next)
            ;
        *link = fs;
    }
    if (covered) {
        inode_get(covered);
        covered->mounted = fs->root;
        names_changed++;
        directories_changed++;
        lx_shared->names++;
        lx_shared->changes++;
    }
    return 0;
}

/* ---- mount ---- */

/* A number at *at, which moves behind it. */
static uint64_t option_number(const char **at, unsigned base)
{
    uint64_t value = 0;
    for (; **at >= '0' && **at < '0' + (int)base && value < 1ul << 50; (*at)++)
        value = value * base + (uint64_t)(**at - '0');
    return value;
}

/* "64m" or "50%" (of all pages of files) in pages; 0: as many as there are. */
static uint64_t option_size(const char **at)
{
    static const char units[] = "kmg";
    uint64_t size = option_number(at, 10), all, unused;
    const char *unit = **at ? strchr(units, **at | 0x20) : NULL;
    page_count(&all, &unused);
    if (**at == '%') {
        (*at)++;
        return EXO_MIN(size, 100) * all / 100;
    }
    if (unit) {
        size <<= 10 * (unit - units + 1);
        (*at)++;
    }
    return (size + 4095) / 4096;
}

struct tmpfs_options {
    uint32_t mode, uid, gid;
};

/* tmpfs' options "size=64m,mode=755,uid=0,gid=0": 0 or -EINVAL. */
static long options_read(const char *at, struct filesystem *fs, struct tmpfs_options *options)
{
    while (*at) {
        const char *value = strchr(at, '=');
        size_t n = value ? (size_t)(++value - at) : 0;
        if (n == 5 && !strncmp(at, "size=", 5))
            fs->pages_max = option_size(&value);
        else if (n == 5 && !strncmp(at, "mode=", 5))
            options->mode = (uint32_t)option_number(&value, 8) & 07777;
        else if (n == 4 && !strncmp(at, "uid=", 4))
            options->uid = (uint32_t)option_number(&value, 10);
        else if (n == 4 && !strncmp(at, "gid=", 4))
            options->gid = (uint32_t)option_number(&value, 10);
        else
            return -EINVAL;
        at = value;
        if (*at && *at++ != ',') return -EINVAL;
    }
    return 0;
}

/* "fd=3,rootmode=40755,...": 0, -EINVAL, -EBADF. What else is there is the server's. */
static long options_fuse(struct thread *thread, const char *at, struct filesystem *fs,
                         uint32_t *mode)
{
    uint64_t fd = UINT64_MAX;
    *mode = 0755;
    while (*at) {
        if (!strncmp(at, "fd=", 3)) {
            at += 3;
            fd = option_number(&at, 10);
        } else if (!strncmp(at, "rootmode=", 9)) {
            at += 9;
            *mode = (uint32_t)option_number(&at, 8) & 07777;
        }
        while (*at && *at++ != ',')
            ;
    }
    return fd == UINT64_MAX ? -EINVAL : fuse_attach(thread, fs, fd);
}

/* It is not in the tree any more. */
static void fs_detach(struct filesystem *fs)
{
    struct filesystem **link = &root_fs.next;
    struct inode *root = fs->root;
    while (*link && *link != fs)
        link = &(*link)->next;
    *link = fs->next;
    fs->covered->mounted = NULL;
    names_changed++;
    directories_changed++;
    lx_shared->names++;
    lx_shared->changes++;
    inode_put(fs->covered);
    fs->covered = NULL;
    fs->detached = true;
    inode_put(root);
}

static long flags_refused(uint64_t flags)
{
    log_line("mount: flags %lx are not supported", flags);
    return -EPERM;
}

/* mount(source, target, type, flags, options) */
long call_mount(struct thread *thread, const uint64_t a[6])
{
    struct tmpfs_options options = {.mode = 01777};
    if (a[3] & (MS_REMOUNT | MS_BIND | MS_MOVE)) return flags_refused(a[3]); /* they have no type */
    long r = window_path(thread, a[2], walk_second.path);
    if (r < 0) return r;
    const char *type = walk_second.path;
    bool fuse = !strcmp(type, "fuse") || !strncmp(type, "fuse.", 5) || !strcmp(type, "fuseblk");
    if (!fuse && strcmp(type, "tmpfs") && strcmp(type, "ramfs")) return -ENODEV;
    if (a[3] & ~(uint64_t)(MOUNT_IGNORED | (fuse ? MS_RDONLY : 0))) return flags_refused(a[3]);
    struct filesystem wanted = {.type = "tmpfs", .read_only = a[3] & MS_RDONLY};
    if (fuse) exo_strcpy(wanted.type, type, sizeof(wanted.type));
    r = path_from(&walk_first, thread, (uint64_t)AT_FDCWD, a[1], WALK_FOLLOW);
    if (r < 0) return r;
    struct inode *covered = walk_first.inode;
    if (!covered || !inode_is(covered, S_IFDIR)) return -ENOTDIR;
    if (covered->fs->detached) return -EINVAL;
    if (covered->fs->fixed || !covered->nlink) return -EPERM;
    struct filesystem *fs = names_take(&root_fs, sizeof(*fs));
    if (!fs) return -ENOMEM;
    *fs = wanted;
    char *path = path_of(covered, NULL, root_fs.root, walk_second.link, LX_PATH_MAX);
    exo_strcpy(fs->path, path ? path : "?", sizeof(fs->path));
    walk_second.path[0] = 0;
    if (a[4] != ~0ul) r = window_path(thread, a[4], walk_second.path);
    if (r == 0)
        r = fuse ? options_fuse(thread, walk_second.path, fs, &options.mode)
                 : options_read(walk_second.path, fs, &options);
    if (r == 0 && a[0] != ~0ul) r = window_path(thread, a[0], walk_second.path);
    if (r == 0) {
        exo_strcpy(fs->source, a[0] == ~0ul ? "none" : walk_second.path, sizeof(fs->source));
        r = fs_mount(fs, covered, options.mode);
    }
    if (r < 0) {
        names_give(&root_fs, fs, sizeof(*fs));
        return r;
    }
    fs->root->uid = options.uid;
    fs->root->gid = options.gid;
    if (!fuse) return 0;
    r = fuse_mounted(fs);
    if (r < 0) fs_detach(fs);
    return r;
}

/* ---- umount ---- */

/* Removes all names below, from the leaves up. */
static void tree_empty(struct inode *root)
{
    struct inode *directory = root;
    while (directory != root || directory->dir.first) {
        struct entry *entry = directory->dir.first;
        if (entry && inode_is(entry->inode, S_IFDIR) && entry->inode->dir.first) {
            directory = entry->inode;
        } else if (entry) {
            entry_remove(entry);
        } else {
            directory = directory->dir.parent;
        }
    }
}

void fs_end(struct filesystem *fs)
{
    struct inode *root = fs->root;
    fs->root = NULL;
    inode_get(root);
    tree_empty(root);
    root->nlink = 0;
    inode_put(root);
    if (fs->ops) fs->ops->end(fs);
    names_give(&root_fs, fs, sizeof(*fs));
}

long call_umount2(struct thread *thread, const uint64_t a[6])
{
    uint32_t flags = (uint32_t)a[1];
    if (flags & ~UMOUNT_FLAGS) return -EINVAL;
    long r = path_from(&walk_first, thread, (uint64_t)AT_FDCWD, a[0], WALK_FOLLOW);
    if (r < 0) return r;
    struct inode *root = walk_first.inode;
    if (!root || root != root->fs->root) return -EINVAL;
    struct filesystem *fs = root->fs;
    if (fs->detached) return -EINVAL;
    if (fs->permanent) return -EBUSY;
    for (struct filesystem *other = &root_fs; other; other = other->next)
        if (other->covered && other->covered->fs == fs) return -EBUSY;
    if (!(flags & MNT_DETACH) && (fs->held > 1 || root->references > 1))
        return -EBUSY; /* one is ours */
    r = fs->ops && !(flags & (MNT_DETACH | MNT_FORCE)) ? fs->ops->unmount(fs) : 0;
    fs_detach(fs); /* whatever it waits for: nobody comes in any more */
    return r;
}
