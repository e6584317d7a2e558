/* SPDX-License-Identifier: MIT
 *
 * Inodes: attributes, contents, their end. A time is 34 bits of seconds and 30 of nanoseconds,
 * the upper ones in words that only large inodes have (Linux, Documentation/filesystems/ext4,
 * "Inode Timestamps"). */
#include "extfs.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define EPOCH_BITS 2
#define NOT_WRITTEN (EXT2_IMMUTABLE_FL | EXT2_APPEND_FL | EXT4_VERITY_FL | EXT4_ENCRYPT_FL)

struct volume volume;

int error_of(errcode_t error)
{
    if (error >= 0 && error < 256) return -(int)error;
    switch (error) {
    case EXT2_ET_FILE_NOT_FOUND:
        return -ENOENT;
    case EXT2_ET_NO_DIRECTORY:
        return -ENOTDIR;
    case EXT2_ET_DIR_EXISTS:
    case EXT2_ET_FILE_EXISTS:
        return -EEXIST;
    case EXT2_ET_BLOCK_ALLOC_FAIL:
    case EXT2_ET_INODE_ALLOC_FAIL:
    case EXT2_ET_DIR_NO_SPACE:
        return -ENOSPC;
    case EXT2_ET_NO_MEMORY:
        return -ENOMEM;
    case EXT2_ET_FILE_TOO_BIG:
        return -EFBIG;
    case EXT2_ET_RO_FILSYS:
        return -EROFS;
    default:
        return -EIO;
    }
}

bool reply_add(struct request *r, const void *data, size_t n)
{
    if (n > r->room - r->done) return false;
    memcpy(r->out + r->done, data, n);
    r->done += n;
    return true;
}

/* ---- inodes ---- */

int inode_get(ext2_ino_t ino, struct ext2_inode_large *inode)
{
    memset(inode, 0, sizeof(*inode));
    if (ino < 1 || ino > volume.fs->super->s_inodes_count) return -ESTALE;
    return error_of(ext2fs_read_inode_full(volume.fs, ino, EXT2_INODE(inode), sizeof(*inode)));
}

int inode_put(ext2_ino_t ino, struct ext2_inode_large *inode)
{
    volume.dirty = true;
    return error_of(ext2fs_write_inode_full(volume.fs, ino, EXT2_INODE(inode), sizeof(*inode)));
}

/* Whether a large inode has the word. */
#define HAS(inode, field)                                                                          \
    (EXT2_INODE_SIZE(volume.fs->super) > EXT2_GOOD_OLD_INODE_SIZE &&                               \
     (size_t)EXT2_GOOD_OLD_INODE_SIZE + (inode)->i_extra_isize >=                                  \
         offsetof(struct ext2_inode_large, field) + sizeof((inode)->field))

static void time_put(uint32_t *low, uint32_t *high, int64_t seconds, uint32_t nanoseconds)
{
    *low = (uint32_t)seconds;
    if (high)
        *high = nanoseconds << EPOCH_BITS |
                (uint32_t)((seconds - (int32_t)seconds) >> 32 & ((1 << EPOCH_BITS) - 1));
}

static void time_get(uint32_t low, const uint32_t *high, uint64_t *seconds, uint32_t *nanoseconds)
{
    int64_t epoch = high ? *high & ((1u << EPOCH_BITS) - 1) : 0;
    *seconds = (uint64_t)((int32_t)low + (epoch << 32));
    *nanoseconds = high ? *high >> EPOCH_BITS : 0;
}

#define TIME_PUT(inode, name, seconds, nanoseconds)                                                \
    time_put(&(inode)->i_##name, HAS(inode, i_##name##_extra) ? &(inode)->i_##name##_extra : NULL, \
             seconds, nanoseconds)
#define TIME_GET(inode, name, seconds, nanoseconds)                                                \
    time_get((inode)->i_##name, HAS(inode, i_##name##_extra) ? &(inode)->i_##name##_extra : NULL,  \
             seconds, nanoseconds)

void inode_touch(struct ext2_inode_large *inode, unsigned times)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint32_t ns = (uint32_t)now.tv_nsec;
    if (times & TIME_ACCESS) TIME_PUT(inode, atime, now.tv_sec, ns);
    if (times & TIME_MODIFY) TIME_PUT(inode, mtime, now.tv_sec, ns);
    if (times & TIME_CHANGE) TIME_PUT(inode, ctime, now.tv_sec, ns);
    if (times & TIME_BIRTH && HAS(inode, i_crtime)) TIME_PUT(inode, crtime, now.tv_sec, ns);
}

int inode_touched(ext2_ino_t ino, unsigned times)
{
    struct ext2_inode_large inode;
    int error = inode_get(ino, &inode);
    if (error) return error;
    inode_touch(&inode, times);
    return inode_put(ino, &inode);
}

void attributes_fill(ext2_ino_t ino, const struct ext2_inode_large *inode, struct fuse_attr *attr)
{
    uint32_t type = inode->i_mode & S_IFMT;
    *attr = (struct fuse_attr){
        .ino = ino,
        .size = EXT2_I_SIZE(inode),
        .blocks = ext2fs_get_stat_i_blocks(volume.fs, (struct ext2_inode *)(uintptr_t)inode),
        .mode = inode->i_mode,
        .nlink = inode->i_links_count,
        .uid = inode_uid(*inode),
        .gid = inode_gid(*inode),
        .blksize = volume.fs->blocksize,
    };
    if (type == S_IFCHR || type == S_IFBLK) /* 16 bits, or else 32 */
        attr->rdev = inode->i_block[0] ? inode->i_block[0] : inode->i_block[1];
    TIME_GET(inode, atime, &attr->atime, &attr->atimensec);
    TIME_GET(inode, mtime, &attr->mtime, &attr->mtimensec);
    TIME_GET(inode, ctime, &attr->ctime, &attr->ctimensec);
}

void entry_fill(ext2_ino_t ino, const struct ext2_inode_large *inode, struct fuse_entry_out *out)
{
    memset(out, 0, sizeof(*out));
    out->nodeid = ino;
    out->generation = inode->i_generation;
    attributes_fill(ino, inode, &out->attr);
}

static int attributes_reply(struct request *r)
{
    struct ext2_inode_large inode;
    struct fuse_attr_out out = {0};
    int error = inode_get(r->ino, &inode);
    if (error) return error;
    attributes_fill(r->ino, &inode, &out.attr);
    return reply_add(r, &out, sizeof(out)) ? 0 : -EIO;
}

int serve_getattr(struct request *r) { return attributes_reply(r); }

/* ---- contents ---- */

static int file_open(ext2_ino_t ino, bool write, ext2_file_t *file)
{
    struct ext2_inode_large inode;
    int error = inode_get(ino, &inode);
    if (error) return error;
    if (!LINUX_S_ISREG(inode.i_mode)) return -EINVAL;
    if (inode.i_flags & EXT4_ENCRYPT_FL) return -ENOKEY;
    if (write && inode.i_flags & NOT_WRITTEN & ~(uint32_t)EXT2_APPEND_FL) return -EPERM;
    return error_of(ext2fs_file_open(volume.fs, ino, write ? EXT2_FILE_WRITE : 0, file));
}

int serve_read(struct request *r)
{
    const struct fuse_read_in *in = r->in;
    ext2_file_t file;
    unsigned done = 0;
    if (r->size < sizeof(*in)) return -EINVAL;
    int error = file_open(r->ino, false, &file);
    if (error) return error;
    unsigned n = in->size < EXTFS_DATA_MAX ? in->size : EXTFS_DATA_MAX;
    error = error_of(ext2fs_file_llseek(file, in->offset, EXT2_SEEK_SET, NULL));
    if (!error) error = error_of(ext2fs_file_read(file, r->out, n, &done));
    r->done = done;
    ext2fs_file_close(file);
    return error;
}

int serve_write(struct request *r)
{
    const struct fuse_write_in *in = r->in;
    struct fuse_write_out out = {0};
    ext2_file_t file;
    if (r->size < sizeof(*in) || in->size > r->size - sizeof(*in)) return -EINVAL;
    int error = file_open(r->ino, true, &file);
    if (error) return error;
    volume.dirty = true;
    error = error_of(ext2fs_file_llseek(file, in->offset, EXT2_SEEK_SET, NULL));
    if (!error) error = error_of(ext2fs_file_write(file, in + 1, in->size, &out.size));
    int ending = error_of(ext2fs_file_close(file));
    if (out.size) error = 0; /* so much was written */
    if (!error) error = ending;
    if (!error) error = inode_touched(r->ino, TIME_MODIFY | TIME_CHANGE);
    return error ? error : reply_add(r, &out, sizeof(out)) ? 0 : -EIO;
}

static int file_resize(ext2_ino_t ino, uint64_t size)
{
    ext2_file_t file;
    int error = file_open(ino, true, &file);
    if (error) return error;
    volume.dirty = true;
    error = error_of(ext2fs_file_set_size2(file, (ext2_off64_t)size));
    int ending = error_of(ext2fs_file_close(file));
    return error ? error : ending;
}

int serve_readlink(struct request *r)
{
    struct ext2_inode_large inode;
    int error = inode_get(r->ino, &inode);
    if (error) return error;
    uint64_t size = EXT2_I_SIZE(&inode);
    if (!LINUX_S_ISLNK(inode.i_mode)) return -EINVAL;
    if (inode.i_flags & EXT4_ENCRYPT_FL) return -ENOKEY;
    if (size >= r->room || size > volume.fs->blocksize) return -EIO;
    if (ext2fs_is_fast_symlink(EXT2_INODE(&inode)))
        return reply_add(r, inode.i_block, size) ? 0 : -EIO;
    size_t n = size;
    if (inode.i_flags & EXT4_INLINE_DATA_FL) {
        error = error_of(ext2fs_inline_data_get(volume.fs, r->ino, EXT2_INODE(&inode), r->out, &n));
    } else {
        blk64_t block;
        static char data[EXT2_MAX_BLOCK_SIZE];
        error =
            error_of(ext2fs_bmap2(volume.fs, r->ino, EXT2_INODE(&inode), NULL, 0, 0, NULL, &block));
        if (!error && !block) error = -EIO;
        if (!error) error = error_of(io_channel_read_blk64(volume.fs->io, block, 1, data));
        if (!error) memcpy(r->out, data, n);
    }
    r->done = n;
    return error;
}

/* ---- what is changed ---- */

int serve_setattr(struct request *r)
{
    const struct fuse_setattr_in *in = r->in;
    struct ext2_inode_large inode;
    if (r->size < sizeof(*in)) return -EINVAL;
    int error = in->valid & FATTR_SIZE ? file_resize(r->ino, in->size) : 0;
    if (!error) error = inode_get(r->ino, &inode);
    if (error) return error;
    if (inode.i_flags & (EXT2_IMMUTABLE_FL | EXT2_APPEND_FL)) return -EPERM;
    if (in->valid & FATTR_MODE)
        inode.i_mode = (uint16_t)((inode.i_mode & S_IFMT) | (in->mode & 07777));
    if (in->valid & FATTR_UID) {
        inode.i_uid = (uint16_t)in->uid;
        ext2fs_set_i_uid_high(inode, in->uid >> 16);
    }
    if (in->valid & FATTR_GID) {
        inode.i_gid = (uint16_t)in->gid;
        ext2fs_set_i_gid_high(inode, in->gid >> 16);
    }
    if (in->valid & FATTR_ATIME) TIME_PUT(&inode, atime, (int64_t)in->atime, in->atimensec);
    if (in->valid & FATTR_MTIME) TIME_PUT(&inode, mtime, (int64_t)in->mtime, in->mtimensec);
    inode_touch(&inode, TIME_CHANGE | (in->valid & FATTR_SIZE ? TIME_MODIFY : 0));
    error = inode_put(r->ino, &inode);
    return error ? error : attributes_reply(r);
}

int serve_statfs(struct request *r)
{
    struct ext2_super_block *super = volume.fs->super;
    uint64_t blocks = ext2fs_blocks_count(super), free = ext2fs_free_blocks_count(super),
             kept = ext2fs_r_blocks_count(super);
    struct fuse_statfs_out out = {.st = {.blocks = blocks - super->s_overhead_clusters,
                                         .bfree = free,
                                         .bavail = free > kept ? free - kept : 0,
                                         .files = super->s_inodes_count,
                                         .ffree = super->s_free_inodes_count,
                                         .bsize = volume.fs->blocksize,
                                         .namelen = EXT2_NAME_LEN,
                                         .frsize = volume.fs->blocksize}};
    return reply_add(r, &out, sizeof(out)) ? 0 : -EIO;
}

/* ---- the end ---- */

static int block_free(ext2_filsys fs, blk64_t *block, e2_blkcnt_t at, blk64_t parent, int offset,
                      void *data)
{
    (void)at, (void)parent, (void)offset, (void)data;
    ext2fs_block_alloc_stats2(fs, *block, -1);
    return 0;
}

/* Gives the blocks, the attributes and the inode back. */
static int inode_free(ext2_ino_t ino)
{
    struct ext2_inode_large inode;
    int error = inode_get(ino, &inode);
    if (error) return error;
    error = error_of(ext2fs_free_ext_attr(volume.fs, ino, &inode));
    if (!error && ext2fs_inode_has_valid_blocks2(volume.fs, EXT2_INODE(&inode)))
        error = error_of(
            ext2fs_block_iterate3(volume.fs, ino, BLOCK_FLAG_READ_ONLY, NULL, block_free, NULL));
    if (error) return error;
    inode.i_dtime = (uint32_t)time(NULL);
    error = inode_put(ino, &inode);
    ext2fs_inode_alloc_stats2(volume.fs, ino, -1, LINUX_S_ISDIR(inode.i_mode));
    return error;
}

int inode_orphan(ext2_ino_t ino)
{
    if (volume.orphan_count == volume.orphan_room) {
        size_t room = volume.orphan_room ? 2 * volume.orphan_room : 64;
        ext2_ino_t *orphans = realloc(volume.orphans, room * sizeof(*orphans));
        if (!orphans) return -ENOMEM;
        volume.orphans = orphans;
        volume.orphan_room = room;
    }
    volume.orphans[volume.orphan_count++] = ino;
    return 0;
}

void inode_forget(ext2_ino_t ino)
{
    for (size_t i = 0; i < volume.orphan_count; i++) {
        if (volume.orphans[i] != ino) continue;
        volume.orphans[i] = volume.orphans[--volume.orphan_count];
        inode_free(ino);
        return;
    }
}

/* libext2fs 1.47.0 does not cut an extent that ends with the last block of the image: while it
 * is mounted, that one is nobody's to get. */
static void volume_hide_last(bool hide)
{
    blk64_t last = ext2fs_blocks_count(volume.fs->super) - 1;
    if (volume.last_hidden) ext2fs_unmark_block_bitmap2(volume.fs->block_map, last);
    volume.last_hidden = hide && !ext2fs_test_block_bitmap2(volume.fs->block_map, last);
    if (volume.last_hidden) ext2fs_mark_block_bitmap2(volume.fs->block_map, last);
}

int volume_flush(void)
{
    if (!volume.dirty) return 0;
    volume.dirty = false;
    volume_hide_last(false);
    errcode_t error = ext2fs_flush(volume.fs);
    volume_hide_last(true);
    return error_of(error);
}

int volume_end(void)
{
    while (volume.orphan_count)
        inode_free(volume.orphans[--volume.orphan_count]);
    if (!volume.writable) return 0;
    if (volume.valid) volume.fs->super->s_state |= EXT2_VALID_FS;
    ext2fs_mark_super_dirty(volume.fs);
    volume.dirty = true;
    return volume_flush();
}
