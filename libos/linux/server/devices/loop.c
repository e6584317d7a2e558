/* SPDX-License-Identifier: MIT
 *
 * /dev/loop0 to 7 and /dev/loop-control: a regular file as a block device, for mount(8) and
 * losetup(8) (loop(4)). A device has a reference on its file from LOOP_SET_FD until LOOP_CLR_FD, or
 * until its last open file closes, where that comes later. It has no cache: a read or write is one
 * of the file's contents, at the device's offset and within its size. Owner: linuxd; no locks. */
#include "dev.h"
#include "../files/data.h"
#include "../files/files.h"
#include "../../../../lib/exo/exo.h"
#include <linux/loop.h>
#include <linux/fs.h>

#define LOOPS 8
#define LOOP_MAJOR 7 /* Linux' Documentation/admin-guide/devices.txt */
#define SECTOR 512u

static struct loop {
    struct file *file; /* NULL: free */
    uint32_t opened; /* open files of the device */
    bool ending; /* the file goes with the last of them */
    struct loop_info64 info;
} loops[LOOPS];

static bool loop_read_only(const struct loop *loop)
{
    return (loop->file->flags & O_ACCMODE) == O_RDONLY;
}

static uint64_t loop_size(const struct loop *loop)
{
    uint64_t size = loop->file->inode->size, offset = loop->info.lo_offset;
    size = size > offset ? size - offset : 0;
    if (loop->info.lo_sizelimit) size = EXO_MIN(size, loop->info.lo_sizelimit);
    return size & ~(uint64_t)(SECTOR - 1);
}

static void loop_free(struct loop *loop)
{
    struct file *file = loop->file;
    *loop = (struct loop){.opened = loop->opened};
    file_put(file);
}

/* ---- contents ---- */

/* Moves bytes between io and the file; as file_ops' read and write. */
static long loop_move(struct file *file, struct iobuf *io, uint64_t *pos, bool write)
{
    struct loop *loop = file->data;
    if (!loop->file) return -ENXIO;
    if (write && loop_read_only(loop)) return -EROFS;
    uint64_t start = pos ? *pos : file->position, size = loop_size(loop);
    if (start >= size) return write && io->left ? -ENOSPC : 0;
    uint64_t left = io->left, n = EXO_MIN(left, size - start), at = start + loop->info.lo_offset;
    struct file plain = {.inode = loop->file->inode};
    io->left = n;
    long r = write ? data_ops.write(&plain, io, &at) : data_ops.read(&plain, io, &at);
    io->left = left - (n - io->left);
    if (r > 0 && !pos) file->position = start + (uint64_t)r;
    return r;
}

static long loop_read(struct file *file, struct iobuf *io, uint64_t *pos)
{
    return loop_move(file, io, pos, false);
}

static long loop_write(struct file *file, struct iobuf *io, uint64_t *pos)
{
    return loop_move(file, io, pos, true);
}

static long loop_seek(struct file *file, int64_t offset, int whence)
{
    const struct loop *loop = file->data;
    int64_t at = whence == SEEK_SET   ? 0
                 : whence == SEEK_CUR ? (int64_t)file->position
                 : whence == SEEK_END ? (int64_t)(loop->file ? loop_size(loop) : 0)
                                      : -1;
    if (at < 0 || __builtin_add_overflow(at, offset, &at) || at < 0) return -EINVAL;
    file->position = (uint64_t)at;
    return at;
}

/* ---- control ---- */

/* Takes the file that a descriptor is, which must be a regular one of the tree's own. */
static long loop_set_file(struct loop *loop, const struct file *device, struct thread *thread,
                          uint64_t fd)
{
    struct file *file = fd_file(thread, fd);
    if (loop->file) return -EBUSY;
    if (!file || file->flags & O_PATH) return -EBADF;
    if (file->ops != &data_ops) return -EINVAL;
    *loop = (struct loop){.file = file, .opened = loop->opened};
    bool writes = (file->flags & O_ACCMODE) == O_RDWR && (device->flags & O_ACCMODE) == O_RDWR;
    loop->info.lo_number = (uint32_t)(loop - loops);
    loop->info.lo_flags = writes ? 0 : LO_FLAGS_READ_ONLY;
    file_get(file);
    return 0;
}

static long loop_set_info(struct loop *loop, const struct loop_info64 *info)
{
    if (info->lo_encrypt_type || info->lo_encrypt_key_size) return -EINVAL;
    if (info->lo_offset > LX_FILE_MAX || info->lo_sizelimit > LX_FILE_MAX) return -EOVERFLOW;
    uint32_t kept = loop->info.lo_flags & LO_FLAGS_READ_ONLY;
    loop->info = *info;
    loop->info.lo_number = (uint32_t)(loop - loops);
    loop->info.lo_flags = kept | (info->lo_flags & LO_FLAGS_AUTOCLEAR);
    loop->info.lo_device = loop->file->inode->fs->device;
    loop->info.lo_inode = loop->file->inode->number;
    loop->info.lo_file_name[LO_NAME_SIZE - 1] = 0;
    return 0;
}

static long loop_clear(struct loop *loop)
{
    loop->ending = true; /* who asks has it open, too */
    return 0;
}

/* What is asked of one that has a file. */
static long loop_query(struct loop *loop, uint32_t command, struct iobuf *io)
{
    struct loop_info64 info;
    uint64_t size = loop_size(loop), sectors = size / SECTOR;
    uint32_t answer = command == BLKROGET ? loop_read_only(loop) : SECTOR;
    switch (command) {
    case LOOP_GET_STATUS64:
        iobuf_put(io, &loop->info, sizeof(loop->info));
        return 0;
    case LOOP_SET_STATUS64:
        iobuf_get(io, &info, sizeof(info));
        return loop_set_info(loop, &info);
    case BLKGETSIZE64:
        iobuf_put(io, &size, sizeof(size));
        return 0;
    case BLKGETSIZE:
        iobuf_put(io, &sectors, sizeof(sectors));
        return 0;
    case BLKROGET:
    case BLKSSZGET:
        iobuf_put(io, &answer, sizeof(answer));
        return 0;
    case BLKFLSBUF:
    case LOOP_SET_CAPACITY:
        return 0;
    default:
        return -ENOTTY;
    }
}

static long loop_ioctl(struct file *file, struct thread *thread, uint32_t command,
                       uint64_t argument, struct iobuf *io)
{
    struct loop *loop = file->data;
    if (command == LOOP_SET_FD) return loop_set_file(loop, file, thread, argument);
    if (!loop->file) return -ENXIO;
    return command == LOOP_CLR_FD ? loop_clear(loop) : loop_query(loop, command, io);
}

static void loop_close(struct file *file)
{
    struct loop *loop = file->data;
    bool last = --loop->opened == 0;
    if (last && loop->file && (loop->ending || loop->info.lo_flags & LO_FLAGS_AUTOCLEAR))
        loop_free(loop);
}

static const struct file_ops loop_ops = {.read = loop_read,
                                         .write = loop_write,
                                         .seek = loop_seek,
                                         .ioctl = loop_ioctl,
                                         .close = loop_close};

static long loop_open(void *data, uint32_t flags, struct file **file)
{
    struct loop *loop = data;
    bool writes = (flags & O_ACCMODE) != O_RDONLY;
    if (writes && loop->file && loop->info.lo_flags & LO_FLAGS_READ_ONLY) return -EROFS;
    *file = file_new(&loop_ops, flags);
    if (!*file) return -ENFILE;
    (*file)->data = loop;
    loop->opened++;
    return 0;
}

/* ---- /dev/loop-control ---- */

static long control_ioctl(struct file *file, struct thread *thread, uint32_t command,
                          uint64_t argument, struct iobuf *io)
{
    (void)file, (void)thread, (void)argument, (void)io;
    if (command != LOOP_CTL_GET_FREE) return -ENOTTY;
    for (unsigned i = 0; i < LOOPS; i++)
        if (!loops[i].file) return i;
    return -ENOSPC;
}

static const struct file_ops control_ops = {.ioctl = control_ioctl};

static long control_open(void *data, uint32_t flags, struct file **file)
{
    (void)data;
    *file = file_new(&control_ops, flags);
    return *file ? 0 : -ENFILE;
}

long loop_start(void)
{
    static const struct dev_ops loop_dev = {loop_open}, control = {control_open};
    char name[8] = "loop0";
    long r = dev_register("loop-control", S_IFCHR | 0660, LX_DEV(10, 237), &control, NULL);
    for (unsigned i = 0; i < LOOPS && r == 0; i++) {
        name[4] = (char)('0' + i);
        r = dev_register(name, S_IFBLK | 0660, LX_DEV(LOOP_MAJOR, i), &loop_dev, &loops[i]);
    }
    return r;
}
