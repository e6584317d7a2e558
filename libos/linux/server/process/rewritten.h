/* SPDX-License-Identifier: MIT
 *
 * The text of programs, with jumps in place of `syscall`s: copies of those pages of a file in
 * which there are such jumps, and a page of stubs that they lead to, which lies right behind the
 * program wherever that is. All processes that execute the file have the same ones; who maps the file
 * otherwise, or reads it, has its own bytes. They belong to the inode, and stay as long as
 * somebody executes it. When its contents change nobody gets them any more, nor others. */
#ifndef LX_REWRITTEN_H
#define LX_REWRITTEN_H
#include "../server.h"

struct inode;
struct rewritten;

/* The frame of the file's page to be executed: `frame`, which is the page's own, or a copy. */
uint32_t rewritten_frame(const struct file *file, uint64_t page, uint32_t frame);
/* Which pages have a copy, a bit each of LX_SEEN_PAGES; NULL: none. */
const uint64_t *rewritten_copied(const struct file *file);
/* That of the page of stubs, 0: there is none. */
uint32_t rewritten_stubs(const struct file *file);
/* The contents of the inode, which has some, change: it gets no more. And it ends. */
void rewritten_drop(struct inode *inode);
void rewritten_end(struct inode *inode);

call_function op_site;
#endif
