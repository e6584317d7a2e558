/* SPDX-License-Identifier: MIT
 *
 * Pipes that two processes use without the server (ring.c). */
#ifndef LX_RING_H
#define LX_RING_H
#include "pipe.h"

/* The calling thread has written to the pipe what `reader`, which waits in read, was handed: if
 * these two processes are the only ones that have the pipe, they get a ring for it. */
void ring_offer(struct pipe *pipe, struct thread *reader);
/* Whoever is not one of the two wants the pipe, or does something else with it than they do:
 * what is in the ring is the pipe's again, both go to the server. It must be open. */
void ring_close(struct ring *ring);
bool ring_is_open(const struct ring *ring);
/* The pipe ends. */
void ring_forget(struct ring *ring);
/* The descriptor is closed; the process forks, executes, makes a thread; it has ended. */
void rings_close_fd(struct process *process, unsigned fd);
void rings_close(struct process *process);
void rings_end(struct process *process);
/* a0 slot: the reader, which waits, is told that there is something. -EINVAL: no such ring. */
call_function op_ring;
#endif
