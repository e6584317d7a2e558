/* SPDX-License-Identifier: MIT
 *
 * System calls that make, change and remove names, and those about a process's
 * directories. Checks first, effects after. */
#include "../process/memory.h"
#include "files.h"
#include "open.h"
#include "../proc/proc.h"
#include "../../../../lib/exo/exo.h"
#include <linux/fs.h>

#define CWD ((uint64_t)AT_FDCWD)

/* Walks to where a new name is to be: 0, or why it cannot be made there. */
static long walk_new(struct thread *thread, uint64_t dirfd, uint64_t path, bool directory)
{
    long r = path_from(&walk_first, thread, dirfd, path, WALK_PARENT);
    if (r < 0) return r;
    if (walk_first.inode || walk_first.special) return -EEXIST;
    if (walk_first.slash && !directory) return -ENOENT;
    return name_free(&walk_first);
}

/* The new name, of an inode of that mode, is made: 0, -ENOSPC. */
static long make_new(uint32_t mode, uint64_t rdev)
{
    const struct fs_ops *ops = walk_first.directory->fs->ops;
    if (ops) return ops->make(&walk_first, mode, rdev, NULL, true);
    struct inode *inode = inode_make(walk_first.directory, &walk_first.last, mode);
    if (inode) inode->rdev = rdev;
    return inode ? 0 : -ENOSPC;
}

static long make_directory(struct thread *thread, uint64_t dirfd, uint64_t path, uint64_t mode)
{
    long r = walk_new(thread, dirfd, path, true);
    if (r < 0) return r;
    uint32_t permissions = (uint32_t)mode & 01777 & ~thread->process->umask;
    return make_new(S_IFDIR | permissions, 0);
}

long call_mkdir(struct thread *thread, const uint64_t a[6])
{
    return make_directory(thread, CWD, a[0], a[1]);
}

long call_mkdirat(struct thread *thread, const uint64_t a[6])
{
    return make_directory(thread, a[0], a[1], a[2]);
}

static long make_node(struct thread *thread, uint64_t dirfd, uint64_t path, uint64_t mode,
                      uint64_t device)
{
    uint32_t type = (uint32_t)mode & S_IFMT;
    if (type == S_IFDIR) return -EPERM;
    if (!type) type = S_IFREG;
    if (type != S_IFREG && type != S_IFIFO && type != S_IFCHR && type != S_IFBLK &&
        type != S_IFSOCK)
        return -EINVAL;
    long r = walk_new(thread, dirfd, path, false);
    if (r < 0) return r;
    bool numbered = type == S_IFCHR || type == S_IFBLK;
    return make_new(type | ((uint32_t)mode & 07777 & ~thread->process->umask),
                    numbered ? (uint32_t)device : 0);
}

long call_mknod(struct thread *thread, const uint64_t a[6])
{
    return make_node(thread, CWD, a[0], a[1], a[2]);
}

long call_mknodat(struct thread *thread, const uint64_t a[6])
{
    return make_node(thread, a[0], a[1], a[2], a[3]);
}

static long make_symlink(struct thread *thread, uint64_t target, uint64_t dirfd, uint64_t path)
{
    long r = window_path(thread, target, walk_second.path);
    if (r < 0) return r;
    if (!walk_second.path[0]) return -ENOENT;
    r = walk_new(thread, dirfd, path, false);
    if (r < 0) return r;
    const struct fs_ops *ops = walk_first.directory->fs->ops;
    if (ops) return ops->make(&walk_first, S_IFLNK | 0777, 0, walk_second.path, true);
    return symlink_make(walk_first.directory, &walk_first.last, walk_second.path);
}

long call_symlink(struct thread *thread, const uint64_t a[6])
{
    return make_symlink(thread, a[0], CWD, a[1]);
}

long call_symlinkat(struct thread *thread, const uint64_t a[6])
{
    return make_symlink(thread, a[0], a[1], a[2]);
}

/* A further name for what is there. */
static long make_link(struct thread *thread, uint64_t from_dirfd, uint64_t from, uint64_t dirfd,
                      uint64_t path, uint64_t flags)
{
    if ((uint32_t)flags & ~(uint32_t)(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) return -EINVAL;
    long r = path_from(&walk_second, thread, from_dirfd, from,
                       (flags & AT_SYMLINK_FOLLOW ? WALK_FOLLOW : 0) |
                           (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0));
    if (r < 0) return r;
    struct inode *inode = walk_second.inode;
    if (inode) inode_get(inode);
    r = walk_new(thread, dirfd, path, false);
    if (r < 0)
        ;
    else if (!inode || inode->fs != walk_first.directory->fs)
        r = -EXDEV;
    else if (inode_is(inode, S_IFDIR))
        r = -EPERM;
    else if (inode->fs->ops)
        r = inode->fs->ops->link(&walk_first, inode);
    else
        r = entry_add(walk_first.directory, &walk_first.last, inode);
    if (inode) inode_put(inode);
    return r;
}

long call_link(struct thread *thread, const uint64_t a[6])
{
    return make_link(thread, CWD, a[0], CWD, a[1], 0);
}

long call_linkat(struct thread *thread, const uint64_t a[6])
{
    return make_link(thread, a[0], a[1], a[2], a[3], a[4]);
}

/* ---- removing ---- */

static long remove_found(void)
{
    const struct fs_ops *ops = walk_first.directory->fs->ops;
    if (ops) return ops->remove(&walk_first);
    entry_remove(walk_first.entry);
    return 0;
}

static long remove_directory(struct thread *thread, uint64_t dirfd, uint64_t path)
{
    long r = path_from(&walk_first, thread, dirfd, path, WALK_PARENT);
    if (r < 0) return r;
    struct inode *inode = walk_first.inode;
    if (walk_first.special) /* `..`, `.`, `/` */
        return walk_first.dots == 2 ? -ENOTEMPTY : walk_first.dots == 1 ? -EINVAL : -EBUSY;
    if (!inode) return -ENOENT;
    if (inode->fs->fixed && inode->fs->root != inode) return -EPERM;
    if (!inode_is(inode, S_IFDIR)) return -ENOTDIR;
    if (inode != walk_first.entry->inode) return -EBUSY;
    if (inode->dir.first) return -ENOTEMPTY;
    return remove_found();
}

static long remove_file(struct thread *thread, uint64_t dirfd, uint64_t path)
{
    long r = path_from(&walk_first, thread, dirfd, path, WALK_PARENT);
    if (r < 0) return r;
    struct inode *inode = walk_first.inode;
    if (walk_first.special) return -EISDIR;
    if (!inode) return -ENOENT;
    if (inode_is(inode, S_IFDIR)) return -EISDIR;
    if (walk_first.slash) return -ENOTDIR;
    if (inode->fs->fixed) return -EPERM;
    return remove_found();
}

long call_rmdir(struct thread *thread, const uint64_t a[6])
{
    return remove_directory(thread, CWD, a[0]);
}

long call_unlink(struct thread *thread, const uint64_t a[6])
{
    return remove_file(thread, CWD, a[0]);
}

long call_unlinkat(struct thread *thread, const uint64_t a[6])
{
    uint32_t flags = (uint32_t)a[2];
    if (flags & ~(uint32_t)AT_REMOVEDIR) return -EINVAL;
    return flags ? remove_directory(thread, a[0], a[1]) : remove_file(thread, a[0], a[1]);
}

/* ---- renaming ---- */

bool directory_within(const struct inode *inner, const struct inode *outer)
{
    for (; inner != outer; inner = inner->dir.parent)
        if (inner == inner->fs->root || inner == inner->dir.parent) return false;
    return true;
}

/* The checks of rename(2) of two names that walks have found. */
static long rename_check(const struct walk *from, const struct walk *to, uint32_t flags)
{
    const struct inode *inode = from->inode, *over = to->inode;
    if (from->directory && to->directory && from->directory->fs != to->directory->fs) return -EXDEV;
    if (from->special) return -EBUSY;
    if (to->special) return flags & RENAME_NOREPLACE ? -EEXIST : -EBUSY;
    if (from->last.length > LX_NAME_MAX) return -ENAMETOOLONG;
    if (!inode) return -ENOENT;
    if (!to->directory || !to->directory->nlink) return -ENOENT;
    if (to->last.length > LX_NAME_MAX) return -ENAMETOOLONG;
    if (over && flags & RENAME_NOREPLACE) return -EEXIST;
    if (!over && flags & RENAME_EXCHANGE) return -ENOENT;
    bool directory = inode_is(inode, S_IFDIR);
    if (!directory && from->slash) return -ENOTDIR;
    if (to->slash && (flags & RENAME_EXCHANGE ? !inode_is(over, S_IFDIR) : !directory))
        return -ENOTDIR;
    if (directory && directory_within(to->directory, inode)) return -EINVAL;
    if (over && inode_is(over, S_IFDIR) && directory_within(from->directory, over))
        return flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
    if (inode->fs->fixed) return -EPERM;
    if (inode != from->entry->inode || (over && over != to->entry->inode)) return -EBUSY;
    if (!over || inode == over || flags & RENAME_EXCHANGE) return 0;
    if (!directory) return inode_is(over, S_IFDIR) ? -EISDIR : 0;
    if (!inode_is(over, S_IFDIR)) return -ENOTDIR;
    return over->dir.first ? -ENOTEMPTY : 0;
}

static long rename_paths(struct thread *thread, uint64_t from_dirfd, uint64_t from, uint64_t dirfd,
                         uint64_t path, uint32_t flags)
{
    if (flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE) ||
        flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    long r = path_from(&walk_first, thread, from_dirfd, from, WALK_PARENT | WALK_LONG);
    if (r == 0) r = path_from(&walk_second, thread, dirfd, path, WALK_PARENT | WALK_LONG);
    if (r == 0) r = rename_check(&walk_first, &walk_second, flags);
    if (r < 0 || walk_first.inode == walk_second.inode) return r;
    const struct fs_ops *ops = walk_first.inode->fs->ops;
    if (ops) return ops->rename(&walk_first, &walk_second, flags);
    if (!(flags & RENAME_EXCHANGE))
        return entry_move(walk_first.entry, walk_second.directory, &walk_second.last,
                          walk_second.entry);
    entry_exchange(walk_first.entry, walk_second.entry);
    return 0;
}

long call_rename(struct thread *thread, const uint64_t a[6])
{
    return rename_paths(thread, CWD, a[0], CWD, a[1], 0);
}

long call_renameat(struct thread *thread, const uint64_t a[6])
{
    return rename_paths(thread, a[0], a[1], a[2], a[3], 0);
}

long call_renameat2(struct thread *thread, const uint64_t a[6])
{
    return rename_paths(thread, a[0], a[1], a[2], a[3], (uint32_t)a[4]);
}

/* ---- links read ---- */

static long link_read(struct thread *thread, uint64_t dirfd, uint64_t path,
                      const uint64_t buffer[2])
{
    struct iobuf io;
    if ((int)buffer[1] <= 0) return -EINVAL;
    walk_first.path[0] = '/'; /* a path that is remembered as a whole is not fetched: not empty */
    long r = path_from(&walk_first, thread, dirfd, path, WALK_EMPTY);
    if (r < 0) return r;
    const struct inode *inode = walk_first.inode;
    if (!inode || !inode_is(inode, S_IFLNK)) return walk_first.path[0] ? -EINVAL : -ENOENT;
    if (inode->fs->ops && (r = inode->fs->ops->target(walk_first.inode)) < 0) return r;
    const char *text = inode->target;
    size_t length = inode->size;
    if (inode->proc.node) {
        r = proc_link(walk_first.inode, walk_first.link, sizeof(walk_first.link));
        if (r < 0) return r;
        text = walk_first.link;
        length = strlen(text);
    }
    r = iobuf_from(&io, thread, buffer[0], (uint32_t)buffer[1], true);
    return r < 0 ? r : (long)iobuf_put(&io, text, EXO_MIN(length, io.left));
}

long call_readlink(struct thread *thread, const uint64_t a[6])
{
    return link_read(thread, CWD, a[0], &a[1]);
}

long call_readlinkat(struct thread *thread, const uint64_t a[6])
{
    return link_read(thread, a[0], a[1], &a[2]);
}

/* ---- a process's directories ---- */

long call_getcwd(struct thread *thread, const uint64_t a[6])
{
    struct process *process = thread->process;
    struct iobuf io;
    char *buffer = walk_first.path;
    if (!process->cwd->nlink && !process->cwd->proc.node) return -ENOENT;
    char *path = path_of(process->cwd, NULL, process->root, buffer, LX_PATH_MAX);
    if (!path) return -ENAMETOOLONG;
    size_t length = (size_t)(buffer + LX_PATH_MAX - path);
    if (a[1] < length) return -ERANGE;
    long r = iobuf_from(&io, thread, a[0], length, true);
    return r < 0 ? r : (long)iobuf_put(&io, path, length);
}

/* One of a process's directories becomes another. */
static long directory_set(struct inode **directory, struct inode *inode)
{
    if (!inode || !inode_is(inode, S_IFDIR)) return -ENOTDIR;
    inode_get(inode);
    inode_put(*directory);
    lx_shared->changes++; /* paths begin elsewhere */
    *directory = inode;
    return 0;
}

long call_chdir(struct thread *thread, const uint64_t a[6])
{
    long r = path_from(&walk_first, thread, CWD, a[0], WALK_FOLLOW);
    return r < 0 ? r : directory_set(&thread->process->cwd, walk_first.inode);
}

long call_fchdir(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]);
    return file ? directory_set(&thread->process->cwd, file->inode) : -EBADF;
}

long call_chroot(struct thread *thread, const uint64_t a[6])
{
    long r = path_from(&walk_first, thread, CWD, a[0], WALK_FOLLOW);
    lx_shared->names++; /* other names can be found */
    return r < 0 ? r : directory_set(&thread->process->root, walk_first.inode);
}
