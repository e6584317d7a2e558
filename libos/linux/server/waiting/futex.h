/* SPDX-License-Identifier: MIT
 *
 * Words that threads of several processes wait for: futex.c. */
#ifndef LX_FUTEX_H
#define LX_FUTEX_H
#include "../server.h"

void futex_leave(struct thread *thread); /* it waits no more */

/* Wakes so many of those that wait for the word at that physical address, at most: how many. */
uint32_t futex_wake(uint64_t place, uint32_t most, uint32_t bits);
/* The process is about to end: what its threads hold of robust mutexes is released (robust.c). */
void robust_end(const struct process *process);

call_function op_futex_wait, op_futex_wake, op_futex_end;
#endif
