/* SPDX-License-Identifier: MIT
 *
 * read and write of a few bytes, which travel in the window: copying them twice costs less
 * than saying where they lie. Everything else about them is the server's. */
#include "library.h"
#include "text.h"

#define FEW 512u /* bytes */

/* As server_wait, without arguments in memory: LEAF_FULL when a signal came instead. */
static inline long ask(struct thread_state *t, uint64_t op, uint64_t fd, uint64_t n)
{
    for (;;) {
        t->window->result = 0;
        long r = server6(op, fd, LX_INLINE, n, 0, 0, 0);
        if (r != -LX_WAIT) return r;
        if (signals_pending(t)) return wait_over(t, LEAF_FULL);
        event_wait(t, 0);
        if ((r = wait_result(t)) >= 0) return r;
    }
}

long read_few(uint64_t fd, uint64_t to, uint64_t n)
{
    struct thread_state *t = this_thread();
    if (n - 1 >= FEW) return LEAF_FULL;
    if (user_probe(to, n) < 0) return LEAF_FULL; /* nothing is to be lost */
    long r = ask(t, __NR_read, fd, n);
    if (r > 0 && user_put(to, t->window->bytes, (size_t)r) < 0) return -EFAULT;
    return r;
}

long write_few(uint64_t fd, uint64_t from, uint64_t n)
{
    struct thread_state *t = this_thread();
    if (n - 1 >= FEW) return LEAF_FULL;
    uint64_t done = 0;
    while (done < n) {
        if (user_get(t->window->bytes, from + done, n - done) < 0)
            return done ? (long)done : -EFAULT;
        long r = ask(t, __NR_write, fd, n - done);
        if (r <= 0) return done ? (long)done : r;
        done += (uint64_t)r;
    }
    return (long)done;
}
