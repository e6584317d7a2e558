/* SPDX-License-Identifier: MIT
 *
 * Mounted file systems: a list in the order they were mounted. Each has one reference on
 * its root and one on the directory that it covers. mount(2) makes tmpfs only. */
#include "../process/memory.h"
#include "mount.h"
#include "../entry.h"
#include "files.h"
#include "../../../../lib/exo/exo.h"
#include <linux/magic.h>
#include <linux/mount.h>

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

/* tmpfs' options "size=64m,mode=755": 0 or -EINVAL. */
static long options_read(const char *at, struct filesystem *fs, uint32_t *mode)
{
    while (*at) {
        if (!strncmp(at, "mode=", 5)) {
            at += 5;
            *mode = (uint32_t)option_number(&at, 8) & 07777;
        } else if (!strncmp(at, "size=", 5)) {
            static const char units[] = "kmg";
            at += 5;
            uint64_t size = option_number(&at, 10);
            const char *unit = *at ? strchr(units, *at | 0x20) : NULL;
            if (unit) {
                size <<= 10 * (unit - units + 1);
                at++;
            }
            fs->pages_max = (size + 4095) / 4096;
        } else {
            return -EINVAL;
        }
        if (*at && *at++ != ',') return -EINVAL;
    }
    return 0;
}

/* mount(source, target, type, flags, options) */
long call_mount(struct thread *thread, const uint64_t a[6])
{
    uint32_t mode = 01777;
    long r = window_path(thread, a[2], walk_second.path);
    if (r < 0) return r;
    if (a[3] & ~(uint64_t)MOUNT_IGNORED) {
        log_line("mount: flags %lx are not supported", a[3]);
        return -EPERM;
    }
    if (strcmp(walk_second.path, "tmpfs") && strcmp(walk_second.path, "ramfs")) return -ENODEV;
    r = path_from(&walk_first, thread, (uint64_t)AT_FDCWD, a[1], WALK_FOLLOW);
    if (r < 0) return r;
    struct inode *covered = walk_first.inode;
    if (!covered || !inode_is(covered, S_IFDIR)) return -ENOTDIR;
    if (covered->fs->detached) return -EINVAL;
    if (covered->fs->fixed || !covered->nlink) return -EPERM;
    struct filesystem *fs = names_take(&root_fs, sizeof(*fs));
    if (!fs) return -ENOMEM;
    *fs = (struct filesystem){.type = "tmpfs"};
    char *path = path_of(covered, NULL, root_fs.root, walk_second.link, LX_PATH_MAX);
    exo_strcpy(fs->path, path ? path : "?", sizeof(fs->path));
    if (a[4] != ~0ul && (r = window_path(thread, a[4], walk_second.path)) == 0)
        r = options_read(walk_second.path, fs, &mode);
    if (r == 0 && a[0] != ~0ul) r = window_path(thread, a[0], walk_second.path);
    if (r == 0) {
        exo_strcpy(fs->source, a[0] == ~0ul ? "none" : walk_second.path, sizeof(fs->source));
        r = fs_mount(fs, covered, mode);
    }
    if (r < 0) names_give(&root_fs, fs, sizeof(*fs));
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
    struct filesystem *fs = root->fs, **link;
    if (fs->detached) return -EINVAL;
    if (fs->permanent) return -EBUSY;
    for (struct filesystem *other = &root_fs; other; other = other->next)
        if (other->covered && other->covered->fs == fs) return -EBUSY;
    if (!(flags & MNT_DETACH) && (fs->held > 1 || root->references > 1))
        return -EBUSY; /* one is ours */
    for (link = &root_fs.next; *link && *link != fs; link = &(*link)->next)
        ;
    *link = fs->next;
    fs->covered->mounted = NULL;
    names_changed++;
    lx_shared->names++;
    lx_shared->changes++;
    inode_put(fs->covered);
    fs->covered = NULL;
    fs->detached = true;
    inode_put(root);
    return 0;
}
