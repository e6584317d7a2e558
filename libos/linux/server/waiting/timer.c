/* SPDX-License-Identifier: MIT
 *
 * The server's timers: a list by deadline, the earliest first. Owner: the server; no locks,
 * it is one thread. A timer is in the list exactly while its deadline is not 0. There are
 * as many as timerfds and terminals, a few. */
#include "timer.h"

#define GAP 50000 /* nanoseconds between two rounds: callers have their turn */

static struct timer *first;
static uint64_t next_round; /* not before this time */
static bool running; /* a round: the clock is set at its end */

static void clock_set(void)
{
    if (running) return;
    server_timer(!first ? 0 : first->deadline > next_round ? first->deadline : next_round);
}

static void timer_remove(struct timer *timer)
{
    struct timer **at = &first;
    while (*at != timer)
        at = &(*at)->next;
    *at = timer->next;
    timer->deadline = 0;
}

void timer_cancel(struct timer *timer)
{
    if (!timer->deadline) return;
    bool earliest = first == timer;
    timer_remove(timer);
    if (earliest) clock_set();
}

void timer_set(struct timer *timer, uint64_t deadline)
{
    if (timer->deadline) timer_remove(timer);
    timer->deadline = deadline ? deadline : 1; /* at once */
    struct timer **at = &first;
    while (*at && (*at)->deadline <= timer->deadline)
        at = &(*at)->next;
    timer->next = *at;
    *at = timer;
    clock_set();
}

void timers_run(void)
{
    uint64_t now = time_boot();
    running = true;
    while (first && first->deadline <= now) {
        struct timer *timer = first;
        timer_remove(timer);
        timer->run(timer);
    }
    running = false;
    next_round = time_boot() + GAP;
    clock_set();
}
