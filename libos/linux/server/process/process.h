/* SPDX-License-Identifier: MIT
 *
 * Processes as the server makes and ends them: process.c (the table, ends, waiting),
 * spawn.c (envs and threads), signal.c (who gets a signal). */
#ifndef LX_PROCESS_H
#define LX_PROCESS_H
#include "memory.h"
#include "../server.h"

extern struct thread threads[LX_ALL_THREADS];

/* Bits of the server's thread (libexo has 40 and more). */
#define LX_SERVER_FAULT (1ul << 36)
#define LX_SERVER_TIMER (1ul << 37)
#define LX_SERVER_END (1ul << 38) /* the first process has ended */

/* spawn.c */
long spawn_init(const void *library, size_t size); /* the library's image; prints why not */
/* The first process: executes the path with these arguments (each ended by 0, an empty one
 * last; the path itself first). Its pid or an error. */
long spawn_first(const char *text, size_t size);
/* The env with everything in it goes; the process is a shell then. willing: it ends by itself;
 * the env stays (husk.h) if it is clean. */
void spawn_end(struct process *process, bool willing);
void spawn_drop(struct process *process); /* its place's husk goes */
void thread_end(struct thread *thread);
void thread_settle(struct thread *thread); /* it waits for nothing any more */
/* An env of its own for a process that has none, its first thread stopped: 0, -ENOMEM, -EAGAIN;
 * on an error spawn_end takes back what there is. And that thread begins: 0 or an EXO error. */
long spawn_build(struct process *process);
long spawn_start(struct process *process, uint64_t word);
/* What op_exec's arguments, in the thread's window, say of the process: name, arguments, path.
 * 0, -EFAULT, -ENAMETOOLONG. */
long exec_names(struct process *process, struct thread *thread, const uint64_t a[6]);
uint64_t thread_used(const struct thread *thread); /* ticks that it did not wait */

/* The window of the first thread, which lives as long as the process. */
static inline struct lx_window *process_window(const struct process *p)
{
    return frame_data(extent_first(p->memory->data[0]));
}

/* process.c */
/* A free process (its pid given) or NULL. */
struct process *process_new(struct process *parent);
void process_free(struct process *process); /* nobody knows it any more */
/* What goes with the process's place in the table: its memory, or the husk for it. */
struct process_memory *process_memory(const struct process *process);
/* It ends: with this status (as wait gives it) it waits for its parent. */
void process_end(struct process *process, int status);
/* Nobody borrows its env any more, which goes if the process has ended meanwhile. */
void process_left(struct process *process);
int pid_new(void);
/* A descendant runs in its parent's memory no more. */
void process_release(struct process *process);
bool process_alive(const struct process *process);

call_function op_log; /* log.c */
call_function op_fork, op_exec, op_crash, op_name, op_thread, op_thread_end, op_vfork_wait,
    op_siginfo, op_stopped, op_times;
call_function call_wait4, call_waitid, call_exit_group, call_kill, call_getpgid, call_setpgid,
    call_getpgrp, call_getsid, call_setsid, call_tkill, call_tgkill;
#endif
