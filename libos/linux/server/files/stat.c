/* SPDX-License-Identifier: MIT
 *
 * System calls about what an inode is: stat in its forms, and what of it can be changed. */
#include "files.h"
#include "data.h"
#include "near.h"
#include "../process/memory.h"
#include "fuse.h"
#include "../waiting/pipe.h"
#include "../../../../lib/exo/exo.h"
#include <asm/statfs.h>
#include <linux/kdev_t.h>

#define BLOCK STAT_BLOCK
#define NOW ((1l << 30) - 1) /* UTIME_NOW, UTIME_OMIT: utimensat(2) */
#define OMIT ((1l << 30) - 2)
#define ACCESS_MODES 7u /* R_OK | W_OK | X_OK of access(2) */
#define ACCESS_EXECUTE 1u
#define NONE (~0ul) /* a null pointer: calls.list */

/* ---- what it is ---- */

/* The inode of an open file that has none: a pipe's, a socket's, an event file's. */
static void stat_anonymous(const struct file *file, struct inode *inode)
{
    uint32_t type = file_is_pipe(file) ? S_IFIFO : file_is_socket(file) ? S_IFSOCK : 0;
    *inode = (struct inode){.mode = type | 0600,
                            .nlink = 1,
                            .number = ((uintptr_t)file & 0xffffffff) >> 4 | 1ul << 32,
                            .fs = &root_fs};
}

/* What stat says of pages and sizes that are not contents. */
static uint64_t stat_size(const struct inode *inode)
{
    return inode_is(inode, S_IFDIR) && !inode->proc.node && !inode->node ? BLOCK : inode->size;
}

static uint64_t stat_blocks(const struct inode *inode)
{
    if (inode->node) return inode->node->blocks;
    return inode_is(inode, S_IFREG) ? data_pages(inode) * (BLOCK / 512) : 0;
}

static uint32_t stat_links(const struct inode *inode)
{
    if (inode->node) return inode->nlink + inode->node->links;
    return inode->proc.node && !inode->nlink ? 1 : inode->nlink;
}

void stat_made(struct stat *stat, const struct inode *inode)
{
    stat->st_nlink = stat_links(inode);
    stat->st_size = (int64_t)stat_size(inode);
    stat->st_blocks = (int64_t)stat_blocks(inode);
}

static long stat_put(struct thread *thread, struct inode *inode)
{
    long r = inode->node ? inode->fs->ops->attributes(inode) : 0;
    if (r < 0) return r;
    stat_fill((struct stat *)thread->window->bytes, inode); /* aligned */
    return 0;
}

/* The inode that a walk led to; a made up one for an open file without. */
static struct inode *walk_inode(const struct walk *walk)
{
    static struct inode anonymous;
    if (walk->inode) return walk->inode;
    stat_anonymous(walk->magic, &anonymous);
    return &anonymous;
}

static long stat_path(struct thread *thread, uint64_t dirfd, uint64_t path, uint32_t how)
{
    long r = path_from(&walk_first, thread, dirfd, path, how);
    return r < 0 ? r : stat_put(thread, walk_inode(&walk_first));
}

long call_stat(struct thread *thread, const uint64_t a[6])
{
    return stat_path(thread, (uint64_t)AT_FDCWD, a[0], WALK_FOLLOW);
}

long call_lstat(struct thread *thread, const uint64_t a[6])
{
    return stat_path(thread, (uint64_t)AT_FDCWD, a[0], 0);
}

long call_fstat(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]);
    struct inode anonymous;
    if (!file) return -EBADF;
    if (file->inode) return stat_put(thread, file->inode);
    stat_anonymous(file, &anonymous);
    return stat_put(thread, &anonymous);
}

/* How a walk goes with AT_ flags; `allowed` besides those two: 0 or -EINVAL. */
static long walk_flags(uint32_t flags, uint32_t allowed, uint32_t *how)
{
    if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | allowed)) return -EINVAL;
    *how =
        (flags & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW) | (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0);
    return 0;
}

long call_newfstatat(struct thread *thread, const uint64_t a[6])
{
    uint32_t how;
    long r = walk_flags((uint32_t)a[3], AT_NO_AUTOMOUNT, &how);
    if (r == 0) r = stat_path(thread, a[0], a[1], how);
    if (a[4] && r == 0 && !walk_first.special) near_walked(thread, &walk_first, a[4]);
    return r;
}

static struct statx_timestamp statx_time(const struct lx_timespec *time)
{
    return (struct statx_timestamp){.tv_sec = time->tv_sec, .tv_nsec = (uint32_t)time->tv_nsec};
}

long call_statx(struct thread *thread, const uint64_t a[6])
{
    uint32_t how;
    long r = walk_flags((uint32_t)a[2], AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE, &how);
    if (r < 0) return r;
    if (a[3] & STATX__RESERVED || (a[2] & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE) return -EINVAL;
    r = path_from(&walk_first, thread, a[0], a[1], how);
    if (r < 0) return r;
    struct inode *inode = walk_inode(&walk_first);
    r = inode->node ? inode->fs->ops->attributes(inode) : 0;
    if (r < 0) return r;
    struct statx statx = {
        .stx_mask = STATX_BASIC_STATS,
        .stx_blksize = BLOCK,
        .stx_nlink = stat_links(inode),
        .stx_uid = inode->uid,
        .stx_gid = inode->gid,
        .stx_mode = (uint16_t)inode->mode,
        .stx_ino = inode->number,
        .stx_size = stat_size(inode),
        .stx_blocks = stat_blocks(inode),
        .stx_atime = statx_time(&inode->atime),
        .stx_ctime = statx_time(&inode->ctime),
        .stx_mtime = statx_time(&inode->mtime),
        .stx_rdev_major = (uint32_t)(inode->rdev >> 8) & 0xfff,
        .stx_rdev_minor = (uint32_t)((inode->rdev & 0xff) | (inode->rdev >> 12 & 0xfff00)),
        .stx_dev_minor = inode->fs->device,
    };
    return window_put(thread, 0, &statx, sizeof(statx));
}

static long statfs_put(struct thread *thread, struct filesystem *fs)
{
    uint64_t all, unused;
    page_count(&all, &unused);
    unused = EXO_MIN(unused, fs->pages_max - fs->pages);
    struct statfs statfs = {.f_type = fs->magic,
                            .f_bsize = BLOCK,
                            .f_frsize = BLOCK,
                            .f_namelen = LX_NAME_MAX,
                            .f_fsid = {.val = {(int)fs->device, 0}}};
    if (!fs->fixed && !fs->ops) {
        statfs.f_blocks = (long)(unused + fs->pages);
        statfs.f_bfree = statfs.f_bavail = (long)unused;
        statfs.f_files = statfs.f_ffree = (long)unused;
    }
    long r = fs->ops ? fs->ops->usage(fs, &statfs) : 0;
    return r < 0 ? r : window_put(thread, 0, &statfs, sizeof(statfs));
}

long call_statfs(struct thread *thread, const uint64_t a[6])
{
    long r = path_from(&walk_first, thread, (uint64_t)AT_FDCWD, a[0], WALK_FOLLOW);
    return r < 0 ? r : statfs_put(thread, walk_inode(&walk_first)->fs);
}

long call_fstatfs(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]);
    return !file ? -EBADF : statfs_put(thread, file->inode ? file->inode->fs : &root_fs);
}

/* Everybody is root: only what nobody may execute is refused. */
static long access_check(struct thread *thread, uint64_t dirfd, uint64_t path, uint32_t mode,
                         uint32_t flags)
{
    uint32_t how;
    long r = walk_flags(flags, AT_EACCESS, &how);
    if (r < 0 || mode & ~ACCESS_MODES) return -EINVAL;
    r = path_from(&walk_first, thread, dirfd, path, how);
    if (r < 0) return r;
    const struct inode *inode = walk_inode(&walk_first);
    return mode & ACCESS_EXECUTE && !inode_is(inode, S_IFDIR) && !(inode->mode & 0111) ? -EACCES
                                                                                       : 0;
}

long call_access(struct thread *thread, const uint64_t a[6])
{
    return access_check(thread, (uint64_t)AT_FDCWD, a[0], (uint32_t)a[1], 0);
}

long call_faccessat(struct thread *thread, const uint64_t a[6])
{
    return access_check(thread, a[0], a[1], (uint32_t)a[2], 0);
}

long call_faccessat2(struct thread *thread, const uint64_t a[6])
{
    return access_check(thread, a[0], a[1], (uint32_t)a[2], (uint32_t)a[3]);
}

/* ---- what can be changed ---- */

/* The inode that a path, or a descriptor, is about; NULL and *error. */
static struct inode *path_inode(struct thread *thread, uint64_t dirfd, uint64_t path, uint32_t how,
                                long *error)
{
    *error = path_from(&walk_first, thread, dirfd, path, how);
    if (*error < 0) return NULL;
    if (!walk_first.inode) *error = -EPERM;
    return walk_first.inode;
}

static struct inode *fd_inode(struct thread *thread, uint64_t fd, long *error)
{
    struct file *file = fd_file(thread, fd);
    *error = !file || file->flags & O_PATH ? -EBADF : file->inode ? 0 : -EPERM;
    return *error ? NULL : file->inode;
}

static long inode_chmod(struct inode *inode, uint64_t mode, long error)
{
    if (!inode) return error;
    if (inode_is(inode, S_IFLNK)) return -EOPNOTSUPP;
    if (inode->proc.node) return -EPERM;
    if (inode->fs->ops)
        return inode->fs->ops->change(
            inode, &(struct fs_change){.valid = FATTR_MODE, .mode = (uint32_t)mode & 07777}, true);
    inode->mode = (inode->mode & S_IFMT) | ((uint32_t)mode & 07777);
    inode_changed(inode);
    return 0;
}

long call_chmod(struct thread *thread, const uint64_t a[6])
{
    long error;
    struct inode *inode = path_inode(thread, (uint64_t)AT_FDCWD, a[0], WALK_FOLLOW, &error);
    return inode_chmod(inode, a[1], error);
}

long call_fchmod(struct thread *thread, const uint64_t a[6])
{
    long error;
    struct inode *inode = fd_inode(thread, a[0], &error);
    return inode_chmod(inode, a[1], error);
}

long call_fchmodat(struct thread *thread, const uint64_t a[6])
{
    long error;
    struct inode *inode = path_inode(thread, a[0], a[1], WALK_FOLLOW, &error);
    return inode_chmod(inode, a[2], error);
}

/* Of a file system that does it itself. */
static long chown_ask(struct inode *inode, uint32_t uid, uint32_t gid)
{
    struct fs_change change = {.uid = uid, .gid = gid};
    if (uid != UINT32_MAX) change.valid |= FATTR_UID;
    if (gid != UINT32_MAX) change.valid |= FATTR_GID;
    change.mode = inode->mode & ~(uint32_t)S_ISUID;
    if (inode->mode & S_IXGRP) change.mode &= ~(uint32_t)S_ISGID;
    if (!inode_is(inode, S_IFDIR) && change.mode != inode->mode) change.valid |= FATTR_MODE;
    return inode->fs->ops->change(inode, &change, true);
}

/* -1: stays. What others execute as its owner they no longer do. */
static long inode_chown(struct inode *inode, uint64_t uid, uint64_t gid, long error)
{
    if (!inode) return error;
    if (inode->proc.node) return -EPERM;
    if (inode->fs->ops) return chown_ask(inode, (uint32_t)uid, (uint32_t)gid);
    if ((uint32_t)uid != UINT32_MAX) inode->uid = (uint32_t)uid;
    if ((uint32_t)gid != UINT32_MAX) inode->gid = (uint32_t)gid;
    if (!inode_is(inode, S_IFDIR)) {
        inode->mode &= ~(uint32_t)S_ISUID;
        if (inode->mode & S_IXGRP) inode->mode &= ~(uint32_t)S_ISGID;
    }
    inode_changed(inode);
    return 0;
}

long call_chown(struct thread *thread, const uint64_t a[6])
{
    long error;
    struct inode *inode = path_inode(thread, (uint64_t)AT_FDCWD, a[0], WALK_FOLLOW, &error);
    return inode_chown(inode, a[1], a[2], error);
}

long call_lchown(struct thread *thread, const uint64_t a[6])
{
    long error;
    struct inode *inode = path_inode(thread, (uint64_t)AT_FDCWD, a[0], 0, &error);
    return inode_chown(inode, a[1], a[2], error);
}

long call_fchown(struct thread *thread, const uint64_t a[6])
{
    long error;
    struct inode *inode = fd_inode(thread, a[0], &error);
    return inode_chown(inode, a[1], a[2], error);
}

long call_fchownat(struct thread *thread, const uint64_t a[6])
{
    uint32_t how;
    long error = walk_flags((uint32_t)a[4], 0, &how);
    if (error < 0) return error;
    struct inode *inode = path_inode(thread, a[0], a[1], how, &error);
    return inode_chown(inode, a[2], a[3], error);
}

/* ---- times ---- */

static void time_set(struct lx_timespec *time, const struct lx_timespec *to)
{
    if (to->tv_nsec == NOW)
        *time = time_now();
    else if (to->tv_nsec != OMIT)
        *time = *to;
}

static bool time_valid(const struct lx_timespec *time)
{
    return (time->tv_nsec >= 0 && time->tv_nsec < (int64_t)NANOSECONDS) || time->tv_nsec == NOW ||
           time->tv_nsec == OMIT;
}

/* times: access, modification. */
static long inode_utimes(struct inode *inode, const struct lx_timespec times[2], long error)
{
    if (!inode) return error;
    if (inode->proc.node) return -EPERM;
    if (inode->fs->ops) {
        struct fs_change change = {.atime = inode->atime, .mtime = inode->mtime};
        time_set(&change.atime, &times[0]);
        time_set(&change.mtime, &times[1]);
        change.valid = (times[0].tv_nsec == OMIT ? 0 : FATTR_ATIME) |
                       (times[1].tv_nsec == OMIT ? 0 : FATTR_MTIME);
        return inode->fs->ops->change(inode, &change, true);
    }
    time_set(&inode->atime, &times[0]);
    time_set(&inode->mtime, &times[1]);
    inode_changed(inode);
    return 0;
}

long call_utimensat(struct thread *thread, const uint64_t a[6])
{
    struct lx_timespec times[2] = {{0, NOW}, {0, NOW}};
    struct inode *inode;
    uint32_t how;
    long error;
    if (a[2] != NONE && window_get(thread, a[2], times, sizeof(times)) < 0) return -EFAULT;
    if (!time_valid(&times[0]) || !time_valid(&times[1])) return -EINVAL;
    if (times[0].tv_nsec == OMIT && times[1].tv_nsec == OMIT) return 0;
    if (a[1] == NONE) {
        if ((uint32_t)a[3]) return -EINVAL;
        if ((int)a[0] == AT_FDCWD) return -EFAULT;
        inode = fd_inode(thread, a[0], &error);
    } else {
        error = walk_flags((uint32_t)a[3], 0, &how);
        if (error < 0) return error;
        inode = path_inode(thread, a[0], a[1], how, &error);
    }
    return inode_utimes(inode, times, error);
}

/* utimes and futimesat: microseconds at `at` of the window. */
static long utimes_path(struct thread *thread, uint64_t dirfd, uint64_t path, uint64_t at)
{
    struct lx_timespec times[2] = {{0, NOW}, {0, NOW}};
    long error;
    if (at != NONE) {
        if (window_get(thread, at, times, sizeof(times)) < 0) return -EFAULT;
        for (unsigned i = 0; i < 2; i++) {
            if (times[i].tv_nsec < 0 || times[i].tv_nsec >= 1000000) return -EINVAL;
            times[i].tv_nsec *= 1000;
        }
    }
    struct inode *inode = path_inode(thread, dirfd, path, WALK_FOLLOW, &error);
    return inode_utimes(inode, times, error);
}

long call_utimes(struct thread *thread, const uint64_t a[6])
{
    return utimes_path(thread, (uint64_t)AT_FDCWD, a[0], a[1]);
}

long call_futimesat(struct thread *thread, const uint64_t a[6])
{
    return utimes_path(thread, a[0], a[1], a[2]);
}

long call_utime(struct thread *thread, const uint64_t a[6])
{
    struct lx_timespec times[2] = {{0, NOW}, {0, NOW}};
    int64_t seconds[2];
    long error;
    if (a[1] != NONE) {
        if (window_get(thread, a[1], seconds, sizeof(seconds)) < 0) return -EFAULT;
        for (unsigned i = 0; i < 2; i++)
            times[i] = (struct lx_timespec){seconds[i], 0};
    }
    struct inode *inode = path_inode(thread, (uint64_t)AT_FDCWD, a[0], WALK_FOLLOW, &error);
    return inode_utimes(inode, times, error);
}

long call_umask(struct thread *thread, const uint64_t a[6])
{
    uint32_t old = thread->process->umask;
    thread->process->umask = (uint32_t)a[0] & 0777;
    return (long)old;
}
