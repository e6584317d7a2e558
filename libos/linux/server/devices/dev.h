/* SPDX-License-Identifier: MIT
 *
 * Devices, inside: files.h has what others need. */
#ifndef LX_DEV_H
#define LX_DEV_H
#include "../files/inode.h"

/* Opens the device that a device file names: one reference. -ENXIO: there is none of that
 * number; else as its own open. */
long dev_open(struct inode *inode, uint32_t flags, struct file **file);
/* Makes /dev's own devices and links. 0 or -ENOMEM. */
long dev_start(struct filesystem *fs);
/* loop.c: makes /dev/loop0 ... and /dev/loop-control. 0 or -ENOMEM. */
long loop_start(void);
#endif
