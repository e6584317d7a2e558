/* SPDX-License-Identifier: MIT
 *
 * Page replacement: which of its private pages a process gives up, and how (replace.c). All under
 * the lock. */
#ifndef LX_REPLACE_H
#define LX_REPLACE_H
#include <stdbool.h>
#include <stdint.h>

/* The order in which pages go; the environment variable EXO_REPLACE names it at exec, and
 * prctl(PR_EXO_REPLACE, policy) changes it. */
enum replace_policy {
    REPLACE_CLOCK, /* the one that came first, unless it was used since it was last looked at */
    REPLACE_FIFO, /* the one that came first */
    REPLACE_MRU, /* the one that came last */
    REPLACE_RANDOM, /* any */
    REPLACE_POLICIES
};
#define PR_EXO_REPLACE 0x45584f01 /* prctl(2): arg2 the policy; gives the one before */

#define REPLACE_RING 16384 /* pages whose order is known; a power of two */
#define REPLACE_FAULT 8 /* pages that one fault is about, at most */
#define REPLACE_MIN 64 /* frames: no allotment is smaller */

/* Pages in the order they came. An item names a page: (place of its struct pages in the
 * library's data, in units of 16 bytes) * 512 + index in it. What became of the page since is
 * looked at when it is taken out. */
struct replace_ring {
    uint32_t first, count; /* oldest, and how many follow */
    uint32_t item[REPLACE_RING];
};
struct replace {
    struct replace_ring *ring; /* NULL: nothing was ever to be given up */
    uint64_t allotment; /* frames in use at most, 0: no limit (RLIMIT_RSS) */
    uint64_t faulting; /* the pages from there on that a fault is about stay; 0: none are */
    uint64_t majors; /* pages that came back */
    uint32_t policy;
    bool answering; /* replace_answer is at work */
};

struct pages;
/* The policy of that name; REPLACE_POLICIES: there is none. */
enum replace_policy replace_policy_of(const char *name);
/* A page of private memory came to lie at index i (page_note). */
void replace_came(struct pages *pages, unsigned i);
/* Gives up n pages, which leaves as many frames free: how many it was. */
uint64_t replace_evict(uint64_t n);
/* Whether a call of the server is about the page. */
bool page_pinned(uint64_t va);
/* How many frames may come into use before some are to be given up. */
uint64_t replace_room(void);
/* The server asked for frames, or took some (lx_window.start.asked): gives them, and notes what
 * is gone. */
void replace_answer(void);
/* Gives back extents that were inherited, those with the least in them, which is copied: when there
 * are no more places for others. */
void replace_inherited(void);
void replace_look(void); /* the same without the lock */
/* The thread's buffers need not stay: what was not done because of them is done. Takes the lock. */
struct thread_state;
void pins_move(struct thread_state *thread);
/* The allotment becomes so many bytes (RLIM_INFINITY: none), and holds at once. Takes the lock. */
void replace_allot(uint64_t bytes);
/* Those pages of [va, end) that can be given up are (MADV_PAGEOUT). */
void replace_range(uint64_t va, uint64_t end);
/* The program is gone, and all its pages (exec). */
void replace_clear(uint32_t policy);
#endif
