/* SPDX-License-Identifier: MIT
 *
 * A signal handler's frame on the program's stack, as Linux lays it out. Included behind
 * library.h and signals.h. */
#ifndef LX_SIGFRAME_H
#define LX_SIGFRAME_H
#include <linux/signal.h>
#include <asm/siginfo.h>

/* Saves r, the FPU's state and the mask of signals on the stack that the action names, and
 * changes r to begin the handler. 0, or -EFAULT: the frame cannot be there. */
long sigframe_push(struct thread_state *t, struct regs *r, int signal,
                   const struct lx_sigaction *action, const struct lx_siginfo *info,
                   uint64_t address);
void siginfo_fill(siginfo_t *to, int signal, const struct lx_siginfo *info, uint64_t address);
/* The alternate stack as sigaltstack(2) gives and takes it. */
stack_t sigstack_show(const struct thread_state *t);
void sigstack_set(struct thread_state *t, const stack_t *stack);
#endif
