/* SPDX-License-Identifier: MIT
 *
 * Children of vfork that borrow: such a child is a process of the table, with descriptors, a
 * directory, signals of its own, but no env: it runs in its parent's, on the parent's only thread,
 * until it executes a program, which begins in an env of its own, or ends. The lender has no thread
 * meanwhile. */
#ifndef LX_BORROW_H
#define LX_BORROW_H
#include "process.h"

/* LX_OP_FORK with LX_FORK_BORROW: the thread is the child's when it returns. The child's pid,
 * -EINVAL, -EAGAIN. */
long borrow_fork(struct thread *thread, int exit_signal);
/* The thread is the lender's again: the child has neither env nor thread. Its signals that are
 * pending. */
uint64_t borrow_end(struct process *child);
call_function op_exec_away;
#endif
