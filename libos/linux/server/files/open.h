/* SPDX-License-Identifier: MIT
 *
 * What the files that change names share. */
#ifndef LX_OPEN_H
#define LX_OPEN_H
#include "inode.h"

/* Whether something may be made where a WALK_PARENT walk has led: 0; -EEXIST; -ENOENT: the
 * directory was removed; -EPERM in /proc. */
long name_free(const struct walk *walk);
#endif
