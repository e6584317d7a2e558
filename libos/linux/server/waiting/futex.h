/* SPDX-License-Identifier: MIT
 *
 * Words that threads of several processes wait for: futex.c. */
#ifndef LX_FUTEX_H
#define LX_FUTEX_H
#include "../server.h"

void futex_leave(struct thread *thread); /* it waits no more */

call_function op_futex_wait, op_futex_wake, op_futex_end;
#endif
