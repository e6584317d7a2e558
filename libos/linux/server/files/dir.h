/* SPDX-License-Identifier: MIT
 *
 * Open directories. */
#ifndef LX_DIR_H
#define LX_DIR_H
#include "../server.h"

extern const struct file_ops directory_ops;
/* getdents in its older form, otherwise as directory_ops.getdents. */
long directory_getdents_old(struct file *file, struct iobuf *io);
/* A file_ops.seek for positions that nothing bounds. -EINVAL. */
long position_seek(struct file *file, int64_t offset, int whence);
#endif
