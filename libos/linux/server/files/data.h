/* SPDX-License-Identifier: MIT
 *
 * What regular files contain. */
#ifndef LX_DATA_H
#define LX_DATA_H
#include "inode.h"
#include "../server.h"

extern const struct file_ops data_ops; /* of an open regular file */
/* The file is `size` bytes long from now on: what it gains is zero. 0, or -EFBIG above
 * LX_FILE_MAX. */
long data_truncate(struct inode *inode, uint64_t size);
/* Makes pages for n bytes from offset on, all or none: -ENOSPC, -EFBIG. */
long data_reserve(struct inode *inode, uint64_t offset, uint64_t n);
/* The n bytes from offset on are zero from now on. -ENOSPC: not all. */
long data_zero(struct inode *inode, uint64_t offset, uint64_t n);
/* n bytes at most from offset `at` on that lie together: where, and how many in *n; 0 of
 * them at the end of the file. What was never written is read as zeroes. */
const void *data_at(struct inode *inode, uint64_t at, size_t *n);
/* The frame of a page that a process may have mapped: 0 when there is none. */
uint32_t data_frame(struct file *file, uint64_t page);
/* Where those of `page` and the *n - 1 behind it are kept, 0 where there is none; NULL and 0: nowhere. */
const uint32_t *data_frames(struct file *file, uint64_t page, uint64_t *n);
/* Stores at offset `at` what io has, as far as there is memory: where it ends. Says nothing of
 * times. */
uint64_t data_put(struct inode *inode, uint64_t at, struct iobuf *io);
/* Where a seek of a regular file leads, which is its position then; or an error. */
long data_seek(struct file *file, int64_t offset, int whence);
/* Pages that stat counts. */
static inline uint64_t data_pages(const struct inode *inode)
{
    uint64_t archive = (inode->data.archive_size + 4095) / 4096;
    uint64_t own = inode->data.pages - inode->data.indexes;
    return own > archive ? own : archive;
}
#endif
