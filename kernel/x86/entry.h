/* SPDX-License-Identifier: MIT
 *
 * What entry.S, syscall.c and trap.c share.
 */
#ifndef ENTRY_H
#define ENTRY_H

#include "../core/thread.h"
#include "x86.h"

/* entry.S */
void syscall_full(void); /* call_table: a call that may switch */
void exit_user(void) __attribute__((noreturn)); /* on the kernel stack, emptied */

/* syscall.c, called by entry.S */
typedef void call_full(struct thread *);
extern void *const call_table[]; /* by index: leaf functions, else syscall_full */
extern call_full *const full_table[]; /* by index: the functions with a thread */
void syscall_foreign(struct thread *t);
void leaf_commit(void);
struct thread *exit_prepare(void);

/* Loads an address space if another is loaded. */
HOT void cr3_follow(struct percpu *p, uint64_t cr3)
{
    if (p->cr3 == cr3) return;
    __atomic_store_n(&p->cr3, cr3, __ATOMIC_RELEASE);
    cr3_write(cr3);
    COUNTED(p->shown->switches, 1);
}

/* The segment bases that user code may have changed; its GS is in the swapped one. */
HOT void bases_save(struct thread *t)
{
    __asm__ volatile("rdfsbase %0\n\tswapgs\n\trdgsbase %1\n\tswapgs"
                     : "=r"(t->fs_base), "=r"(t->gs_base));
}

HOT void bases_load(const struct thread *t)
{
    __asm__ volatile("wrfsbase %0\n\tswapgs\n\twrgsbase %1\n\tswapgs"
                     :
                     : "r"(t->fs_base), "r"(t->gs_base));
}

/* trap.c, called by entry.S */
void trap_user(struct thread *t);
void trap_interrupt(uint64_t vector);
void trap_panic(const struct kregs *k) __attribute__((noreturn));

/* trap.c: the FPU follows the running thread */
void fpu_follow(struct percpu *p, struct thread *next);
/* A virtual CPU's state into the registers, which the host cannot use meanwhile. */
void fpu_lend(struct percpu *p, struct thread *t);
#endif
