/* SPDX-License-Identifier: MIT
 *
 * What poll.c and eventfd.c need of epoll.c. */
#ifndef LX_EPOLL_H
#define LX_EPOLL_H
#include "poll.h"

bool file_is_epoll(const struct file *file);
/* Joins the queues of all that it watches, and its own: as file_wait. */
long epoll_join(struct file *file, struct thread *thread);
/* Epolls and their items. */
unsigned epoll_count(void);
#endif
