/* SPDX-License-Identifier: MIT
 *
 * extfs: a server of /dev/fuse for ext2, ext3 and ext4 images, by libext2fs (e2fsprogs). One
 * process for a mount, one thread, one request at a time; the library's caches and bitmaps are
 * its state, and are written when it has had nothing to do for a second, at fsync and at the end.
 * There is no journal: an image that was not unmounted has to be checked with e2fsck. */
#ifndef EXTFS_H
#define EXTFS_H
#include <ext2fs/ext2fs.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXTFS_DATA_MAX 61440u /* bytes of a read or write */

/* What the server is asked: its reply's bytes are put in order behind `out`. */
struct request {
    ext2_ino_t ino;
    const void *in; /* behind the header: `size` bytes, and a zero */
    size_t size;
    char *out;
    size_t done, room;
};

struct volume {
    ext2_filsys fs;
    bool writable, valid; /* valid: it was marked clean when it was mounted */
    bool last_hidden; /* inode.c */
    bool dirty; /* something was changed since it was last written */
    ext2_ino_t *orphans; /* without a name, but known to who asks: they go when forgotten */
    size_t orphan_count, orphan_room;
};
extern struct volume volume;

/* A handler: 0 or a negative error. */
typedef int handler(struct request *r);
/* tree.c */
handler serve_mknod, serve_mkdir, serve_symlink, serve_link, serve_unlink, serve_rmdir,
    serve_rename, serve_lookup, serve_readdir;
/* inode.c */
handler serve_getattr, serve_setattr, serve_readlink, serve_read, serve_write, serve_statfs;
/* Who asks knows it no more: without a name it is freed. */
void inode_forget(ext2_ino_t ino);
/* Its last name is gone: it is freed when it is forgotten. 0 or -ENOMEM. */
int inode_orphan(ext2_ino_t ino);

/* ---- what they share (inode.c) ---------------------------------------------------------- */
/* The library's error as Linux': 0 or negative. */
int error_of(errcode_t error);
int inode_get(ext2_ino_t ino, struct ext2_inode_large *inode);
int inode_put(ext2_ino_t ino, struct ext2_inode_large *inode);
#define TIME_ACCESS 1u
#define TIME_MODIFY 2u
#define TIME_CHANGE 4u
#define TIME_BIRTH 8u
/* Those times become now. */
void inode_touch(struct ext2_inode_large *inode, unsigned times);
/* The same of one that lies in the image. */
int inode_touched(ext2_ino_t ino, unsigned times);
void attributes_fill(ext2_ino_t ino, const struct ext2_inode_large *inode, struct fuse_attr *attr);
void entry_fill(ext2_ino_t ino, const struct ext2_inode_large *inode, struct fuse_entry_out *out);
/* Adds to the reply: false when there is no room. */
bool reply_add(struct request *r, const void *data, size_t n);
/* All that was changed is in the image. */
int volume_flush(void);
/* The end: what has no name goes, the image is marked clean. */
int volume_end(void);
/* Serves what comes from the device until it ends; `ready` gets a byte when the mount can be
 * used. */
void serve(int device, int ready);
#endif
