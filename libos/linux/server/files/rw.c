/* SPDX-License-Identifier: MIT
 *
 * System calls that move bytes of open files, or their position or size. Buffers are the
 * process's own memory, checked (iobuf): one copy. */
#include "files.h"
#include "data.h"
#include "fuse.h"
#include "dir.h"
#include "open.h"
#include "../waiting/pipe.h"
#include "../waiting/poll.h"
#include "../../../../lib/exo/exo.h"
#include <linux/falloc.h>
#include <linux/fs.h>

#define COPY_MAX (1u << 20) /* bytes of one sendfile */

static inline bool file_readable(const struct file *file)
{
    unsigned access = file->flags & O_ACCMODE;
    return (access == O_RDONLY || access == O_RDWR) && !(file->flags & O_PATH);
}

static inline bool file_writable(const struct file *file)
{
    unsigned access = file->flags & O_ACCMODE;
    return access == O_WRONLY || access == O_RDWR;
}

/* The call would block: it waits, where it may. */
static long file_block(struct file *file, struct thread *thread)
{
    return file->flags & O_NONBLOCK ? -EAGAIN : file_wait(file, thread);
}

static inline long file_read(struct thread *thread, const uint64_t a[6], uint64_t *pos)
{
    struct file *file = fd_file(thread, a[0]);
    struct iobuf io;
    if (!pos && thread->again && thread->handed) { /* done while it was waking up */
        long done = (long)thread->handed - 1;
        thread->handed = 0;
        return done;
    }
    if (!file || !file_readable(file)) return -EBADF;
    if (pos && !file->ops->seek) return -ESPIPE;
    if (!file->ops->read) return file->ops == &directory_ops ? -EISDIR : -EINVAL;
    long r = iobuf_from(&io, thread, a[1], a[2], true);
    if (r < 0) return r;
    r = file->ops->read(file, &io, pos);
    if (r >= 0) return r;
    thread->handed = 0; /* what an earlier read was handed, should this one wait */
    if (r != -EAGAIN || !file->ops->queue) return r; /* a served file's server may say so */
    r = file_block(file, thread);
    if (r == -LX_WAIT && !pos) {
        thread->reading = file->ops->queue(file);
        thread->reading_where = a[1];
        thread->reading_length = a[2];
    }
    return r;
}

static inline long file_write(struct thread *thread, const uint64_t a[6], uint64_t *pos)
{
    struct file *file = fd_file(thread, a[0]);
    struct iobuf io;
    if (!file || !file_writable(file)) return -EBADF;
    if (pos && !file->ops->seek) return -ESPIPE;
    if (!file->ops->write) return -EINVAL;
    long r = iobuf_from(&io, thread, a[1], a[2], false);
    if (r < 0) return r;
    r = file->ops->write(file, &io, pos);
    return r == -EAGAIN && file->ops->queue ? file_block(file, thread) : r;
}

long call_read(struct thread *thread, const uint64_t a[6]) { return file_read(thread, a, NULL); }

long call_write(struct thread *thread, const uint64_t a[6]) { return file_write(thread, a, NULL); }

long call_readv(struct thread *thread, const uint64_t a[6]) { return file_read(thread, a, NULL); }

long call_writev(struct thread *thread, const uint64_t a[6]) { return file_write(thread, a, NULL); }

long call_pread64(struct thread *thread, const uint64_t a[6])
{
    uint64_t pos = a[3];
    return (int64_t)pos < 0 ? -EINVAL : file_read(thread, a, &pos);
}

long call_pwrite64(struct thread *thread, const uint64_t a[6])
{
    uint64_t pos = a[3];
    return (int64_t)pos < 0 ? -EINVAL : file_write(thread, a, &pos);
}

long call_preadv(struct thread *thread, const uint64_t a[6]) { return call_pread64(thread, a); }

long call_pwritev(struct thread *thread, const uint64_t a[6]) { return call_pwrite64(thread, a); }

long call_lseek(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]);
    if (!file || file->flags & O_PATH) return -EBADF;
    if ((uint32_t)a[2] > SEEK_MAX) return -EINVAL;
    return file->ops->seek ? file->ops->seek(file, (int64_t)a[1], (int)a[2]) : -ESPIPE;
}

static long getdents(struct thread *thread, const uint64_t a[6], bool old)
{
    struct file *file = fd_file(thread, a[0]);
    struct iobuf io;
    if (!file || file->flags & O_PATH) return -EBADF;
    if (!file->ops->getdents) return -ENOTDIR;
    long r = iobuf_from(&io, thread, a[1], (uint32_t)a[2], true);
    if (r < 0) return r;
    return old ? directory_getdents_old(file, &io) : file->ops->getdents(file, &io, a[3]);
}

long call_getdents(struct thread *thread, const uint64_t a[6]) { return getdents(thread, a, true); }

long call_getdents64(struct thread *thread, const uint64_t a[6])
{
    return getdents(thread, a, false);
}

/* ---- from file to file ---- */

/* An offset that a call takes and gives back, at `at` of the window; none: the file's own
 * position. */
struct place {
    bool given;
    uint64_t offset;
};

static long place_get(struct place *place, struct thread *thread, const struct file *file,
                      uint64_t at)
{
    *place = (struct place){at != ~0ul, file->position};
    if (!place->given) return 0;
    if (window_get(thread, at, &place->offset, sizeof(place->offset)) < 0) return -EFAULT;
    return (int64_t)place->offset < 0 ? -EINVAL : 0;
}

static long place_put(const struct place *place, struct thread *thread, struct file *file,
                      uint64_t at)
{
    if (place->given) return window_put(thread, at, &place->offset, sizeof(place->offset));
    file->position = place->offset;
    return 0;
}

/* Copies from a regular file's pages straight into whatever `to` is. place, out: moved.
 * out NULL: at to's own position. Bytes, or the error when there were none. */
static long copy_data(struct inode *from, struct place *place, struct file *to, uint64_t *out,
                      uint64_t n)
{
    long done = 0;
    n = EXO_MIN(n, COPY_MAX);
    while ((uint64_t)done < n) {
        struct iobuf io;
        size_t part;
        const void *data = data_at(from, place->offset, &part);
        if (!part) break;
        iobuf_own(&io, (void *)(uintptr_t)data, EXO_MIN(part, n - (uint64_t)done));
        size_t wanted = io.left;
        long r = to->ops->write(to, &io, out);
        if (r <= 0) return done ? done : r;
        done += r;
        place->offset += (uint64_t)r;
        if (out) *out += (uint64_t)r;
        if ((size_t)r < wanted) break;
    }
    return done;
}

long call_sendfile(struct thread *thread, const uint64_t a[6])
{
    struct file *to = fd_file(thread, a[0]), *from = fd_file(thread, a[1]);
    struct place place;
    if (!to || !from || !file_writable(to) || !file_readable(from)) return -EBADF;
    if (from->ops != &data_ops || !to->ops->write || to->flags & O_APPEND ||
        to->inode == from->inode || (to->inode && to->inode->fs->ops))
        return -EINVAL; /* programs then read and write */
    long r = place_get(&place, thread, from, a[2]);
    if (r < 0) return r;
    r = copy_data(from->inode, &place, to, NULL, a[3]);
    if (r == -EAGAIN) return file_block(to, thread);
    if (r < 0) return r;
    long put = place_put(&place, thread, from, a[2]);
    return put < 0 ? put : r;
}

long call_copy_file_range(struct thread *thread, const uint64_t a[6])
{
    struct file *from = fd_file(thread, a[0]), *to = fd_file(thread, a[2]);
    struct place in, out;
    if (!to || !from || (to->flags | from->flags) & O_PATH) return -EBADF;
    if (a[5]) return -EINVAL;
    if (from->ops == &directory_ops || to->ops == &directory_ops) return -EISDIR;
    if (from->ops != &data_ops || to->ops != &data_ops) return -EINVAL;
    if (!file_writable(to) || !file_readable(from) || to->flags & O_APPEND) return -EBADF;
    long r = place_get(&in, thread, from, a[1]);
    if (r == 0) r = place_get(&out, thread, to, a[3]);
    if (r < 0) return r;
    uint64_t left = from->inode->size > in.offset ? from->inode->size - in.offset : 0;
    uint64_t n = EXO_MIN(EXO_MIN(a[4], COPY_MAX), left);
    if (from->inode == to->inode && in.offset < out.offset + n && out.offset < in.offset + n)
        return -EINVAL;
    r = copy_data(from->inode, &in, to, &out.offset, n);
    if (r < 0) return r;
    long put = place_put(&in, thread, from, a[1]);
    if (put == 0) put = place_put(&out, thread, to, a[3]);
    return put < 0 ? put : r;
}

/* ---- sizes, and what is on the disk: nothing, but where a process serves it ---- */

long call_fsync(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]);
    if (!file || file->flags & O_PATH) return -EBADF;
    if (file->ops == &fuse_ops || (file->ops == &directory_ops && file->inode->fs->ops))
        return file->inode->fs->ops->sync(file);
    if (file->inode && inode_is(file->inode, S_IFBLK)) return 0;
    return file->ops == &data_ops || file->ops == &directory_ops ? 0 : -EINVAL;
}

long call_fdatasync(struct thread *thread, const uint64_t a[6]) { return call_fsync(thread, a); }

long call_syncfs(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]);
    return !file || file->flags & O_PATH ? -EBADF : 0;
}

long call_sync(struct thread *thread, const uint64_t a[6])
{
    (void)thread, (void)a;
    return 0;
}

static long inode_resize(struct inode *inode, uint64_t size)
{
    const struct fs_change change = {.valid = FATTR_SIZE, .size = size};
    if (inode->fs->ops) return inode->fs->ops->change(inode, &change, true);
    long r = data_truncate(inode, size);
    if (r == 0) inode_modified(inode);
    return r;
}

long call_ftruncate(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]);
    if ((int64_t)a[1] < 0) return -EINVAL;
    if (!file || file->flags & O_PATH) return -EBADF;
    if (!file_writable(file) || !file->inode || !inode_is(file->inode, S_IFREG) ||
        file->inode->proc.node)
        return -EINVAL;
    return inode_resize(file->inode, a[1]);
}

long call_truncate(struct thread *thread, const uint64_t a[6])
{
    if ((int64_t)a[1] < 0) return -EINVAL;
    long r = path_from(&walk_first, thread, (uint64_t)AT_FDCWD, a[0], WALK_FOLLOW);
    if (r < 0) return r;
    struct inode *inode = walk_first.inode;
    if (!inode || !inode_is(inode, S_IFREG))
        return inode && inode_is(inode, S_IFDIR) ? -EISDIR : -EINVAL;
    return inode->proc.node ? -EPERM : inode_resize(inode, a[1]);
}

long call_fallocate(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]);
    uint32_t mode = (uint32_t)a[1];
    uint64_t offset = a[2], n = a[3], end;
    long r;
    if (!file || file->flags & O_PATH) return -EBADF;
    if ((int64_t)offset < 0 || (int64_t)n <= 0) return -EINVAL;
    if (mode != 0 && mode != FALLOC_FL_KEEP_SIZE &&
        mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
        return -EOPNOTSUPP;
    if (!file_writable(file)) return -EBADF;
    struct inode *inode = file->inode;
    if (inode && inode->fs->ops) return -EOPNOTSUPP;
    if (!inode || file->ops != &data_ops)
        return file->ops == &directory_ops ? -EISDIR : file_is_pipe(file) ? -ESPIPE : -ENODEV;
    if (__builtin_add_overflow((int64_t)offset, (int64_t)n, (int64_t *)&end)) return -EFBIG;
    if (mode & FALLOC_FL_PUNCH_HOLE) return data_zero(inode, offset, n);
    r = data_reserve(inode, offset, n);
    if (r == 0 && !mode && end > inode->size) r = data_truncate(inode, end);
    if (r == 0) inode_modified(inode);
    return r;
}

long call_fadvise64(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]);
    if (!file || file->flags & O_PATH) return -EBADF;
    if (file_is_pipe(file)) return -ESPIPE;
    return (uint32_t)a[3] > 5 ? -EINVAL : 0; /* POSIX_FADV_NOREUSE is the last */
}
