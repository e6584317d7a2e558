/* SPDX-License-Identifier: MIT
 *
 * futex(2) of words that other processes have, too: futex_shared.c. */
#ifndef LX_LIBRARY_FUTEX_H
#define LX_LIBRARY_FUTEX_H
#include "library.h"

/* Where the word lies, when other processes may wait for it: a physical address; 0: it is this
 * process's alone. -EFAULT. command: futex(2)'s. */
long futex_place(uint64_t address, uint64_t command);
/* As futex.c's futex_wait and futex_wake, at a place. */
long futex_wait_at(struct thread_state *t, long place, uint32_t value, uint32_t bits,
                   uint64_t deadline);
long futex_wake_at(long place, uint32_t n, uint32_t bits);
#endif
