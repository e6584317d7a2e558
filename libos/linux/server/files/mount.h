/* SPDX-License-Identifier: MIT
 *
 * Mounted file systems. */
#ifndef LX_MOUNT_H
#define LX_MOUNT_H
#include "inode.h"

/* Mounts fs, whose type, source and path are set, on a directory (NULL: it becomes /): makes
 * its root. 0 or -ENOMEM. */
long fs_mount(struct filesystem *fs, struct inode *covered, uint32_t mode);
/* Ends a file system that is detached and of which nothing has a reference any more. */
void fs_end(struct filesystem *fs);
#endif
