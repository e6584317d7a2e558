/* SPDX-License-Identifier: MIT
 *
 * The state of files that a program will probably ask for next. Whoever reads a directory often
 * asks for each of its entries, in their order: then the server gives several at once
 * (lx_window.near), which hold until anything changes (lx_shared.changes). */
#ifndef LX_NEAR_H
#define LX_NEAR_H
#include "library.h"

#define NEAR_WASTED 3 /* times without any use after which none are asked for */

/* What is known of the path in the window, of n bytes; or NULL. */
const struct stat *near_look(struct thread_state *t, uint64_t n);
/* How many are to be asked for, with the path in the window, of n bytes: 0 to LX_NEAR. */
uint64_t near_wanted(struct thread_state *t, uint64_t n);

/* The program has read some of a directory. */
static inline void near_listed(struct thread_state *t)
{
    if (t->near.wasted < NEAR_WASTED) t->near.active = t->near.want = true;
}
#endif
