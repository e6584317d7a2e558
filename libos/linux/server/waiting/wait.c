/* SPDX-License-Identifier: MIT
 *
 * Who waits for what: one node for each thread and queue that it is in. Owner: the server;
 * no locks, it is one thread. A node is in its thread's list from wait_on to wait_end, and
 * in the queue's (link is not NULL) until that is woken. Each thread has one of its own, so that
 * waiting for one thing never fails. Whoever frees a queue wakes it
 * first, which leaves no node in it. */
#include "pipe.h"

static struct waiter waiters[LX_WAITERS];
static struct waiter *unused; /* by `more` */
static unsigned fresh; /* waiters from here on were never used */

static struct waiter *waiter_new(void)
{
    struct waiter *w = unused;
    if (w)
        unused = w->more;
    else if (fresh < LX_WAITERS)
        w = &waiters[fresh++];
    return w;
}

long wait_on(struct waitq *queue, struct thread *thread)
{
    struct waiter *w = thread->own_used ? waiter_new() : &thread->own;
    if (!w) return -ENOMEM;
    thread->own_used = true;
    w->thread = thread;
    w->more = thread->waiting;
    thread->waiting = w;
    w->next = queue->first;
    w->link = &queue->first;
    if (w->next) w->next->link = &w->next;
    queue->first = w;
    return -LX_WAIT;
}

void wake(struct waitq *queue)
{
    queue->wakes++;
    struct waiter *w = queue->first;
    queue->first = NULL;
    for (; w; w = w->next) {
        w->link = NULL;
        thread_wake(w->thread);
    }
}

void wait_end(struct thread *thread)
{
    struct waiter *w = thread->waiting;
    thread->waiting = NULL;
    thread->own_used = false;
    thread->reading = NULL;
    if (fifo_openers) fifo_back(thread);
    while (w) {
        struct waiter *more = w->more;
        if (w->link) {
            *w->link = w->next;
            if (w->next) w->next->link = w->link;
        }
        if (w != &thread->own) {
            w->more = unused;
            unused = w;
        }
        w = more;
    }
}
