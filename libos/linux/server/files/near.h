/* SPDX-License-Identifier: MIT
 *
 * What a library is told before it asks for it (lx_window.near): who opens a directory asks for
 * its state next, who reads it for the state of its entries. Only what lies in the root's file
 * system, all of whose changes lx_shared.changes counts, and only plain files and directories. */
#ifndef LX_NEAR_FILES_H
#define LX_NEAR_FILES_H
#include "../server.h"
#include "data.h"
#include "inode.h"

#define STAT_BLOCK 4096u /* st_blksize, and what a directory says that it has */

/* What stat.c corrects of that where a file is made up (/proc), or a process serves it. */
void stat_made(struct stat *stat, const struct inode *inode);
/* What stat shows of an inode, all of it; *stat is not read. */
static inline void stat_fill(struct stat *stat, const struct inode *inode)
{
    uint32_t mode = inode->mode, type = mode & S_IFMT;
    stat->st_dev = inode->fs->device;
    stat->st_ino = inode->number;
    stat->st_nlink = inode->nlink;
    stat->st_mode = mode;
    stat->st_uid = inode->uid;
    stat->st_gid = inode->gid;
    stat->__pad0 = 0;
    stat->st_rdev = inode->rdev;
    stat->st_size = (int64_t)(type == S_IFDIR ? STAT_BLOCK : inode->size);
    stat->st_blksize = STAT_BLOCK;
    stat->st_blocks = type == S_IFREG ? (int64_t)data_pages(inode) * (STAT_BLOCK / 512) : 0;
    stat->st_atime = (uint64_t)inode->atime.tv_sec;
    stat->st_atime_nsec = (uint64_t)inode->atime.tv_nsec;
    stat->st_mtime = (uint64_t)inode->mtime.tv_sec;
    stat->st_mtime_nsec = (uint64_t)inode->mtime.tv_nsec;
    stat->st_ctime = (uint64_t)inode->ctime.tv_sec;
    stat->st_ctime_nsec = (uint64_t)inode->ctime.tv_nsec;
    stat->__unused[0] = stat->__unused[1] = stat->__unused[2] = 0;
    if (inode->node || inode->proc.node) stat_made(stat, inode);
}
/* The directory that a walk led to was opened. */
void near_opened(struct thread *thread, const struct walk *walk);
/* `first` and those behind it were listed, NULL: none; all: there are no more. `wanted`: how many
 * are, at most. */
void near_list(struct thread *thread, const struct entry *first, uint64_t wanted, bool all);
/* The walk led to an entry: those behind it. */
void near_walked(struct thread *thread, const struct walk *walk, uint64_t wanted);
#endif
