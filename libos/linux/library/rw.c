/* SPDX-License-Identifier: MIT
 *
 * read and write of a few bytes, which travel in the window: copying them twice costs less
 * than saying where they lie. Everything else about them is the server's. */
#include "library.h"
#include "../../../lib/exo/text.h"

#define FEW 512u /* bytes */

static long ask_end(struct thread_state *t, long r)
{
    event_keep(t);
    return r;
}

/* The server has replied `wait`, that it waits: as server_wait, but LEAF_FULL when a signal came
 * instead. */
static __attribute__((noinline)) long ask_again(uint64_t op, uint64_t fd, uint64_t n, long wait)
{
    struct thread_state *t = this_thread();
    for (;;) {
        if (wait == -LX_WAIT && signals_pending(t)) return ask_end(t, wait_over(t, LEAF_FULL));
        event_wait(t, 0);
        long r = wait_result(t);
        if (r >= 0) return ask_end(t, r);
        wait = server6(op | LX_OP_AGAIN, fd, LX_INLINE, n, 0, 0, 0);
        if (!wait_wanted(wait)) return ask_end(t, wait);
    }
}

static inline long ask(uint64_t op, uint64_t fd, uint64_t n)
{
    this_thread()->window->result = 0;
    long r = server6(op, fd, LX_INLINE, n, 0, 0, 0);
    return wait_wanted(r) ? ask_again(op, fd, n, r) : r;
}

long read_few(uint64_t fd, uint64_t to, uint64_t n)
{
    if (n - 1 >= FEW) return LEAF_FULL;
    if (user_probe(to, n) < 0) return LEAF_FULL; /* nothing is to be lost */
    long r = ask(__NR_read, fd, n);
    if (r > 0 && user_put(to, this_thread()->window->bytes, (size_t)r) < 0) return -EFAULT;
    return r;
}

/* A pipe or terminal took less than it was given. */
static __attribute__((noinline)) long write_few_rest(uint64_t fd, uint64_t from, uint64_t n)
{
    uint64_t done = 0;
    while (done < n) {
        if (user_get(this_thread()->window->bytes, from + done, n - done) < 0) break;
        long r = ask(__NR_write, fd, n - done);
        if (r <= 0) break;
        done += (uint64_t)r;
    }
    return (long)done;
}

long write_few(uint64_t fd, uint64_t from, uint64_t n)
{
    if (n - 1 >= FEW) return LEAF_FULL;
    if (user_get(this_thread()->window->bytes, from, n) < 0) return LEAF_FULL; /* or EBADF */
    long r = ask(__NR_write, fd, n);
    return r > 0 && (uint64_t)r < n ? r + write_few_rest(fd, from + (uint64_t)r, n - (uint64_t)r)
                                    : r;
}
