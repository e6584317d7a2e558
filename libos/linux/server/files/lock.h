/* SPDX-License-Identifier: MIT
 *
 * Locks on files: ranges of fcntl, owned by a process or (F_OFD_*) an open file, and whole
 * files of flock, which know nothing of the first. */
#ifndef LX_LOCK_H
#define LX_LOCK_H
#include "../server.h"

/* fcntl's F_GETLK, F_SETLK, F_SETLKW and F_OFD_* of them; the struct flock is at offset
 * `at` of the window, F_GETLK's answer at its start. 0, -EAGAIN, -LX_WAIT, -EBADF, -EINVAL,
 * -EOVERFLOW, -EFAULT, -ENOLCK. */
long lock_fcntl(struct thread *thread, struct file *file, unsigned command, uint64_t at);
/* flock(2)'s operation. */
long lock_flock(struct thread *thread, struct file *file, unsigned operation);
/* A process closes a descriptor of the file: its own locks on it end. */
void lock_close(struct process *process, struct inode *inode);
/* The last descriptor of an open file is gone, on whose inode there are locks: its own end. */
void lock_end(struct file *file);
extern uint64_t lock_count;
#endif
