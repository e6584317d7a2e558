/* SPDX-License-Identifier: MIT
 *
 * The swap store, and memory that is asked back: swap.c. */
#ifndef LX_SWAP_H
#define LX_SWAP_H
#include "../server.h"

void swap_init(void);
/* A child has what its parent has; a process that ends has nothing. */
void swap_fork(struct process *parent, struct process *child);
void swap_end(struct process *process);
/* Pages that fit, that are in use (those that are all zero use none). */
void swap_count(uint64_t *all, uint64_t *used);
uint64_t swap_room(void); /* pages that it would take now */
uint32_t swap_held(const struct process *process); /* pages of the process's */

/* There are not that many frames for the process: 0 when it is to be tried again, since some
 * were taken by force; -EAGAIN when somebody was asked for them; -ENOMEM when nobody can be. */
long memory_ask(const struct process *process, uint32_t frames);
/* Tells the process by lx_window.start.asked: a number of frames, or one of LX_ASKED_FLAGS. */
void process_ask(struct process *process, uint64_t what);
/* A process gave frames back. */
void memory_given(const struct process *process, uint32_t frames);

/* What a vfork's child left its parent goes into the thread's window: how many struct lx_back. */
long swap_back_take(struct thread *thread);

call_function op_swap_out, op_swap_in, op_swap_free, op_vfork_back;
#endif
