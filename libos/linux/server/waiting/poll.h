/* SPDX-License-Identifier: MIT
 *
 * Waiting for many things at once, and the files that exist for it: epoll, eventfd,
 * timerfd. */
#ifndef LX_POLL_H
#define LX_POLL_H
#include "../server.h"

/* Joins all queues that may make file's poll say more: -LX_WAIT, or -ENOMEM. An epoll file
 * stands for all that it watches. */
long file_wait(struct file *file, struct thread *thread);
/* What poll says of a file now: POLLIN ... */
unsigned file_poll(struct file *file);

/* poll, ppoll: a[0] offset of struct pollfd's in the window, a[1] how many (at most
 * LX_FDS), a[2] 0: does not wait (the time is over). Result as poll's, the array with its
 * answers at offset 0. */
call_function call_poll;
#define LX_POLL_MAX 1024
/* select, pselect6: a[0] descriptors, a[1] offset of three fd_set of LX_SELECT_BYTES each
 * (read, write, except; all zero where the user gave none), a[2] 0: does not wait. The
 * result as select's, the three sets at offset 0. */
call_function call_select;
#define LX_SELECT_BYTES 128

/* epoll_create (size), epoll_create1 (flags), epoll_ctl (epfd, op, fd, offset of struct
 * epoll_event). */
call_function call_epoll_create, call_epoll_create1, call_epoll_ctl;
/* epoll_wait, epoll_pwait: a[0] epfd, a[1] events wanted (those that fit the window are
 * given), a[2] 0: does not wait. The events at offset 0. */
call_function call_epoll_wait;
/* A file that epoll files watch is being closed: they forget it. */
void epoll_forget(struct file *file);

/* eventfd (count), eventfd2 (count, flags). */
call_function call_eventfd, call_eventfd2;
/* timerfd_create (clock, flags), timerfd_settime (fd, flags, offset of struct
 * itimerspec): the old setting at offset 0; timerfd_gettime (fd): at offset 0. */
call_function call_timerfd_create, call_timerfd_settime, call_timerfd_gettime;
/* signalfd (fd or -1, offset of a mask, its size), signalfd4 (the same, flags). */
call_function call_signalfd, call_signalfd4;
extern struct waitq signalfd_queue; /* woken when a signal is sent */
unsigned signalfd_count(void);
/* Given by process.c: signals pending for the thread or its process, a bit each; takes one
 * away: false, and no info, when the process sent it to that very thread. */
uint64_t signals_pending(struct thread *thread);
bool signal_take(struct thread *thread, int signal, struct lx_siginfo *info);

unsigned poll_files_count(void); /* epoll items, eventfds, timerfds: for leak checks */
#endif
