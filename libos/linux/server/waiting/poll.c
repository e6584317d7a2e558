/* SPDX-License-Identifier: MIT
 *
 * poll and select: what holds of each file now; when nothing does, the thread joins the
 * queues of all of them and asks again when one was woken. Owner: the server; no locks, it
 * is one thread, so that nothing happens between the look and the joining. */
#include "epoll.h"
#include "../../../../lib/exo/exo.h"
#include <asm/poll.h>

#define READY_READ (POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
#define READY_WRITE (POLLWRNORM | POLLWRBAND | POLLOUT | POLLERR)
#define READY_EXCEPT POLLPRI
#define ALWAYS (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM) /* of what never waits */

unsigned file_poll(struct file *file) { return file->ops->poll ? file->ops->poll(file) : ALWAYS; }

long file_wait(struct file *file, struct thread *thread)
{
    if (file_is_epoll(file)) return epoll_join(file, thread);
    struct waitq *queue = file->ops->queue ? file->ops->queue(file) : NULL;
    return queue ? wait_on(queue, thread) : -LX_WAIT;
}

/* ---- poll ---- */

static unsigned poll_one(struct thread *thread, const struct pollfd *p)
{
    struct file *file = p->fd < 0 ? NULL : fd_file(thread, (uint64_t)p->fd);
    if (p->fd < 0) return 0;
    return file ? file_poll(file) & ((uint16_t)p->events | POLLERR | POLLHUP) : POLLNVAL;
}

long call_poll(struct thread *thread, const uint64_t a[6])
{
    static struct pollfd fds[LX_POLL_MAX];
    long found = 0;
    if (a[1] > LX_POLL_MAX) return -EINVAL;
    unsigned n = (unsigned)a[1];
    if (n && window_get(thread, a[0], fds, n * sizeof(fds[0])) < 0) return -EFAULT;
    for (unsigned i = 0; i < n; i++) {
        fds[i].revents = (short)poll_one(thread, &fds[i]);
        found += fds[i].revents != 0;
    }
    if (found || !a[2]) {
        long r = n ? window_put(thread, 0, fds, n * sizeof(fds[0])) : 0;
        return r < 0 ? r : found;
    }
    for (unsigned i = 0; i < n; i++) {
        struct file *file = fds[i].fd < 0 ? NULL : fd_file(thread, (uint64_t)fds[i].fd);
        long r = file ? file_wait(file, thread) : -LX_WAIT;
        if (r != -LX_WAIT) return r;
    }
    return -LX_WAIT;
}

/* ---- select ---- */

struct select {
    uint64_t set[3][LX_SELECT_BYTES / sizeof(uint64_t)];
};
static const unsigned select_events[3] = {READY_READ, READY_WRITE, READY_EXCEPT};

static bool select_has(const struct select *s, unsigned set, unsigned fd)
{
    return s->set[set][fd / 64] >> (fd % 64) & 1;
}
static bool select_any(const struct select *s, unsigned fd)
{
    return select_has(s, 0, fd) || select_has(s, 1, fd) || select_has(s, 2, fd);
}

/* What holds, as sets: how many bits, or -EBADF. */
static long select_look(struct thread *thread, const struct select *asked, unsigned n,
                        struct select *answer)
{
    long found = 0;
    for (unsigned fd = 0; fd < n; fd++) {
        if (!select_any(asked, fd)) continue;
        struct file *file = fd_file(thread, fd);
        if (!file) return -EBADF;
        unsigned events = file_poll(file);
        for (unsigned set = 0; set < 3; set++) {
            if (!select_has(asked, set, fd) || !(events & select_events[set])) continue;
            answer->set[set][fd / 64] |= 1ul << (fd % 64);
            found++;
        }
    }
    return found;
}

long call_select(struct thread *thread, const uint64_t a[6])
{
    struct select asked, answer = {0};
    if ((int64_t)a[0] < 0) return -EINVAL;
    unsigned n = (unsigned)EXO_MIN(a[0], (uint64_t)LX_FDS); /* beyond: never open */
    if (window_get(thread, a[1], &asked, sizeof(asked)) < 0) return -EFAULT;
    long found = select_look(thread, &asked, n, &answer);
    if (found < 0) return found;
    if (found || !a[2]) {
        long r = window_put(thread, 0, &answer, sizeof(answer));
        return r < 0 ? r : found;
    }
    for (unsigned fd = 0; fd < n; fd++) {
        if (!select_any(&asked, fd)) continue;
        long r = file_wait(fd_file(thread, fd), thread);
        if (r != -LX_WAIT) return r;
    }
    return -LX_WAIT;
}
