/* SPDX-License-Identifier: MIT
 *
 * Husks: envs that outlive their process. A process that ends by itself takes its bindings away
 * first; when its env then is as it was before the process ran, it stays, with its thread, page
 * tables and private block, and the next process of that place in the table begins in it. */
#ifndef LX_HUSK_H
#define LX_HUSK_H
#include "memory.h"

/* What every process holds. Each of these capabilities is derived by way of one of ours, its
 * guard, whose only child it is. */
enum guard { GUARD_FILES, GUARD_FAULT, GUARD_OBJECTS, GUARD_DATA, GUARD_GATE, GUARDS };

long husk_init(void); /* 0 or an EXO error */
/* Gives the process's env its capability of that kind, out of `from`, as exo_cap_derive. */
long husk_give(const struct process *process, enum guard guard, uint64_t from, unsigned rights,
               uint64_t base, uint64_t count);
/* The new env is complete: how it looks is written down. 0 or an EXO error */
long husk_note(const struct process *process);
/* The process has ended, its thread does not run: true when its env is as it was noted and stays
 * (its thread too: process_memory.husk). */
bool husk_keep(struct process *process);
/* A process begins in the env that its place kept. */
struct thread *husk_wake(struct process *process);
/* The env is to be destroyed: before that, and after it. */
void husk_unbind(const struct process *process);
void husk_forget(const struct process *process);
/* Frames of exo.pool, as exo_frames_alloc; husks go when there are none. */
long husk_frames(uint64_t n);
/* All husks go, which gives memory back. False: there was none. */
bool husks_drop(void);
#endif
