/* SPDX-License-Identifier: MIT
 *
 * Opening: from a path to an inode, made where wanted, to an open file of its kind. */
#include "open.h"
#include "data.h"
#include "../devices/dev.h"
#include "dir.h"
#include "files.h"
#include "near.h"
#include "fuse.h"
#include "../waiting/pipe.h"
#include "../proc/proc.h"
#include "../../../../lib/exo/exo.h"
#include <linux/memfd.h>

/* Not kept in an open file's flags. */
#define FLAGS_ONCE (O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC)
#define TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)

static const struct file_ops path_ops; /* O_PATH: only a name */

/* An open file of ops on the inode. */
static long open_plain(const struct file_ops *ops, struct inode *inode, uint32_t flags,
                       struct file **file)
{
    *file = file_new(ops, flags);
    if (!*file) return -ENFILE;
    (*file)->inode = inode;
    inode_get(inode);
    return 0;
}

/* An open file of the inode, as its type has it. */
static long open_inode(struct inode *inode, uint32_t flags, struct file **file)
{
    uint32_t kept = (flags & ~(uint32_t)FLAGS_ONCE) | O_LARGEFILE;
    long r;
    switch (inode->mode & S_IFMT) {
    case S_IFREG:
        if (inode->proc.node) return proc_open(inode, kept, file);
        if (inode->fs->ops) return inode->fs->ops->open(inode, kept | (flags & O_TRUNC), file);
        return open_plain(&data_ops, inode, kept, file);
    case S_IFDIR:
        return open_plain(&directory_ops, inode, kept, file);
    case S_IFIFO:
        r = fifo_open(&inode->pipe, kept, file);
        break;
    case S_IFCHR:
    case S_IFBLK:
        r = dev_open(inode, kept | (flags & O_NOCTTY), file);
        break;
    default:
        return -ENXIO;
    }
    if (r < 0 || (*file)->inode) return r;
    (*file)->inode = inode;
    inode_get(inode);
    return 0;
}

/* What exists is opened: the checks of open(2). */
static long open_existing(struct inode *inode, uint32_t flags, struct file **file)
{
    bool directory = inode_is(inode, S_IFDIR);
    if (flags & O_DIRECTORY && !directory) return -ENOTDIR;
    if (inode_is(inode, S_IFLNK) && !(flags & O_PATH)) return -ELOOP;
    if (flags & O_PATH)
        return open_plain(&path_ops, inode, flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW), file);
    if (directory && (flags & (O_ACCMODE | O_TRUNC))) return -EISDIR;
    long r = open_inode(inode, flags, file);
    if (r < 0 || !(flags & O_TRUNC) || (*file)->ops != &data_ops) return r;
    if (inode->size) data_truncate(inode, 0);
    inode_modified(inode);
    return 0;
}

long name_free(const struct walk *walk)
{
    if (walk->inode) return -EEXIST;
    if (!walk->directory->nlink) return -ENOENT;
    if (!walk->directory->fs->fixed) return 0;
    return walk->directory->proc.node ? -ENOENT : -EPERM; /* as Linux has it */
}

/* An open file of a new inode without a name. */
static long open_unnamed(struct filesystem *fs, uint32_t flags, uint32_t mode, struct file **file)
{
    struct inode *inode = inode_new(fs, S_IFREG | mode);
    if (!inode) return -ENOSPC;
    long r = open_inode(inode, flags, file);
    inode_put(inode);
    return r;
}

/* What the walk found is opened, or made. mode: without the umask's bits. */
static long open_found(const struct walk *walk, uint32_t flags, uint32_t mode, struct file **file)
{
    struct inode *inode = walk->inode;
    if (walk->magic && !inode) { /* a link of /proc to what has no name */
        unsigned has = walk->magic->flags & O_ACCMODE, wants = flags & O_ACCMODE;
        if (has != O_RDWR && has != wants) return -EACCES;
        *file = walk->magic;
        file_get(*file);
        return 0;
    }
    if ((flags & O_TMPFILE) == O_TMPFILE) {
        if (!inode_is(inode, S_IFDIR)) return -ENOTDIR;
        if ((flags & O_ACCMODE) == O_RDONLY) return -EINVAL;
        if (inode->fs->fixed || inode->fs->ops) return -EOPNOTSUPP;
        return open_unnamed(inode->fs, flags & ~(uint32_t)O_TMPFILE, mode, file);
    }
    if (flags & O_CREAT) {
        if (walk->slash && !walk->special) return -EISDIR;
        if (inode && flags & O_EXCL && !fuse_made(inode)) return -EEXIST;
        if (inode && inode_is(inode, S_IFDIR)) return -EISDIR;
        if (walk->last.length > LX_NAME_MAX) return -ENAMETOOLONG;
    }
    if (inode) return open_existing(inode, flags, file);
    long r = name_free(walk);
    if (r < 0) return r == -EPERM ? -EACCES : r;
    const struct fs_ops *ops = walk->directory->fs->ops;
    if (ops) return ops->make(walk, S_IFREG | mode, 0, NULL, false);
    inode = inode_make(walk->directory, &walk->last, S_IFREG | mode);
    return inode ? open_inode(inode, flags, file) : -ENOSPC;
}

/* openat of the path at `offset` of the thread's window; thread NULL: of that in walk_first. */
static inline long open_walk(struct process *process, struct thread *thread, uint64_t offset,
                             int dirfd, uint32_t flags, uint32_t mode, struct file **file)
{
    uint32_t how = flags & O_NOFOLLOW ? 0 : WALK_FOLLOW;
    if (flags & O_PATH) flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    if (flags & TMPFILE_BIT && (flags & O_TMPFILE) != O_TMPFILE) return -EINVAL;
    if (flags & O_CREAT) {
        if (flags & (O_DIRECTORY | TMPFILE_BIT)) return -EINVAL;
        how = WALK_PARENT | WALK_LONG | (flags & O_EXCL ? 0 : how);
    }
    long r = thread ? path_from(&walk_first, thread, (uint64_t)dirfd, offset, how)
                    : path_walk(&walk_first, process, dirfd, how);
    if (r < 0) return r;
    return open_found(&walk_first, flags, mode & 07777 & ~process->umask, file);
}

long file_open(struct process *process, const char *path, uint32_t flags, uint32_t mode,
               struct file **file)
{
    if (strlen(path) >= LX_PATH_MAX) return -ENAMETOOLONG;
    exo_strcpy(walk_first.path, path, LX_PATH_MAX);
    return open_walk(process, NULL, 0, AT_FDCWD, flags, mode, file);
}

long inode_open_exec(struct thread *thread, const char *path, struct file **file)
{
    long r = file_open(thread->process, path, O_RDONLY, 0, file);
    if (r < 0) return r == -EISDIR ? -EACCES : r;
    if ((*file)->inode && inode_is((*file)->inode, S_IFREG) && (*file)->inode->mode & 0111 &&
        !(*file)->inode->proc.node)
        return 0;
    file_put(*file);
    return -EACCES;
}

static long open_call(struct thread *thread, int dirfd, uint64_t path, uint32_t flags,
                      uint32_t mode)
{
    struct file *file = NULL;
    long r = open_walk(thread->process, thread, path, dirfd, flags, mode, &file);
    if (r == 0) r = fd_install(thread->process, file, flags & O_CLOEXEC, 0);
    if (r >= 0 && (flags & O_TMPFILE) == O_DIRECTORY) near_opened(thread, &walk_first);
    return r;
}

long call_open(struct thread *thread, const uint64_t a[6])
{
    return open_call(thread, AT_FDCWD, a[0], (uint32_t)a[1], (uint32_t)a[2]);
}

long call_openat(struct thread *thread, const uint64_t a[6])
{
    return open_call(thread, (int)a[0], a[1], (uint32_t)a[2], (uint32_t)a[3]);
}

long call_creat(struct thread *thread, const uint64_t a[6])
{
    return open_call(thread, AT_FDCWD, a[0], O_CREAT | O_WRONLY | O_TRUNC, (uint32_t)a[1]);
}

long call_memfd_create(struct thread *thread, const uint64_t a[6])
{
    struct file *file;
    uint32_t flags = (uint32_t)a[1];
    if (flags & ~(uint32_t)(MFD_CLOEXEC | MFD_ALLOW_SEALING)) return -EINVAL;
    long r = window_path(thread, a[0], walk_first.path);
    if (r < 0) return r;
    if (strlen(walk_first.path) > LX_NAME_MAX - 6) return -EINVAL; /* "memfd:" before it */
    r = open_unnamed(&root_fs, O_RDWR, 0777, &file);
    return r < 0 ? r : fd_install(thread->process, file, flags & MFD_CLOEXEC, 0);
}
