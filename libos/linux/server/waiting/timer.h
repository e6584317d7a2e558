/* SPDX-License-Identifier: MIT
 *
 * The server's timers: timerfd, and terminals that wait for so long. */
#ifndef LX_TIMER_H
#define LX_TIMER_H
#include "../server.h"

struct timer {
    uint64_t deadline; /* nanoseconds since boot; 0: not set */
    struct timer *next;
    void (*run)(struct timer *timer); /* may set it again */
};
/* (Re)sets a timer; timer->run is the caller's to fill before. */
void timer_set(struct timer *timer, uint64_t deadline);
void timer_cancel(struct timer *timer);
/* main.c: runs those whose time has come. */
void timers_run(void);
/* Given by main.c: timers_run is to be called at that time (nanoseconds since boot; 0: no
 * more). Only the last word counts. */
void server_timer(uint64_t deadline);
#endif
