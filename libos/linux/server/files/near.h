/* SPDX-License-Identifier: MIT
 *
 * What a library is told before it asks for it (lx_window.near): who opens a directory asks for
 * its state next, who reads it for the state of its entries. Only what lies in the root's file
 * system, all of whose changes lx_shared.changes counts, and only plain files and directories. */
#ifndef LX_NEAR_FILES_H
#define LX_NEAR_FILES_H
#include "../server.h"
#include "inode.h"

/* What stat shows of an inode, all of it; *stat is not read. (stat.c) */
void stat_fill(struct stat *stat, const struct inode *inode);
/* The directory that a walk led to was opened. */
void near_opened(struct thread *thread, const struct walk *walk);
/* `first` and those behind it were listed, NULL: none; all: there are no more. `wanted`: how many
 * are, at most. */
void near_list(struct thread *thread, const struct entry *first, uint64_t wanted, bool all);
/* The walk led to an entry: those behind it. */
void near_walked(struct thread *thread, const struct walk *walk, uint64_t wanted);
#endif
