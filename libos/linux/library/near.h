/* SPDX-License-Identifier: MIT
 *
 * The state of files that a program will probably ask for next. Whoever reads a directory often
 * asks for each of its entries, in their order: then the server gives several at once
 * (lx_window.near), with those that it lists or with the first that is asked for. Whoever opens a
 * directory asks for its own state, and when it has read all of it, again, to see that there is
 * no more. All of this holds until anything changes (lx_shared.changes); what is known of a
 * descriptor, until any call that may concern descriptors, of a process with one thread. */
#ifndef LX_NEAR_H
#define LX_NEAR_H
#include "library.h"

#define NEAR_WASTED 3 /* times with little use after which none are asked for */

/* What is known of the program's path; or NULL. */
const struct stat *near_look(struct thread_state *t, uint64_t fd, uint64_t path, uint64_t flags);
/* How many are to be asked for by newfstatat, with the path in the window, of n bytes: 0 to
 * LX_NEAR. */
uint64_t near_wanted(struct thread_state *t, uint64_t fd, uint64_t n, uint64_t flags);

/* That call was made: what the server has told is known. */
void near_take(struct thread_state *t);

/* Nothing is known any more: a directory is opened, or this is another process. */
void near_forget(struct thread_state *t);
/* A directory was opened, with the path in the window, of n bytes. */
void near_opened(struct thread_state *t, uint64_t fd, uint64_t directory, uint64_t n);
/* The directory is about to be read: a3 of getdents64. And some of it was. */
uint64_t near_list(struct thread_state *t, uint64_t fd);
void near_listed(struct thread_state *t, bool known);

/* Whether the descriptor is the directory's, and all is as it was. */
static inline bool near_is(const struct thread_state *t, uint64_t fd)
{
    return t->near.descriptor == (uint32_t)fd + 1 && t->near.descriptor &&
           t->near.changes == shared->changes;
}
/* The directory's own state; NULL: not known. */
static inline const struct stat *near_self(const struct thread_state *t, uint64_t fd)
{
    return near_is(t, fd) && t->near.self ? &t->window->near[0].stat : NULL;
}
#endif
