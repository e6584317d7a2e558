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

/* What is known of the program's path, which near_next does not find; or NULL. */
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

/* Whether only the path says which file is meant. */
static inline bool near_decides(uint64_t fd, uint64_t flags, uint8_t first)
{
    return !(flags & ~(uint64_t)AT_SYMLINK_NOFOLLOW) &&
           ((uint32_t)fd == (uint32_t)AT_FDCWD || first == '/');
}

/* Whether the path leads to that entry. */
static inline bool near_leads(struct thread_state *t, uint64_t path, const struct lx_near *near)
{
    typedef uint64_t any_word __attribute__((aligned(1), may_alias));
    any_word *name = (any_word *)(t->near.text + t->near.length);
    uint64_t length = near->length % LX_NEAR_NAME;
    *name = near->name[0];
    for (uint64_t i = 1; i <= length / 8; i++)
        name[i] = near->name[i];
    return user_is(path, t->near.text, t->near.length + length + 1);
}

static inline const struct stat *near_found(struct thread_state *t, const struct lx_near *near)
{
    t->near.next = near + 1;
    t->near.want = false;
    return &near->stat;
}

/* What is known of the program's path, if that leads to the next entry; else NULL. */
static inline const struct stat *near_next(struct thread_state *t, uint64_t fd, uint64_t path,
                                           uint64_t flags)
{
    const struct lx_near *near = t->near.next;
    if (near == t->near.end || t->window->near_changes != shared->changes ||
        !near_decides(fd, flags, t->near.text[0]) || !near_leads(t, path, near))
        return NULL;
    return near_found(t, near);
}
#endif
