/* SPDX-License-Identifier: MIT
 *
 * The assembly's fast paths against core's C: a random but repeatable sequence of calls,
 * replies, upcalls, exceptions and foreign system calls between ten threads in six envs,
 * on one CPU. Every register that comes out of the kernel goes into a digest; what can be
 * known beforehand (words, badges, bases, FPU registers) is also checked at once. The
 * suite runs it with and without `slow=1` and compares the digests.
 *
 * Only one thread runs at a time, the end of the one chain of calls; so all share one
 * random sequence and one digest. Exception: a server that finds an event when it waits
 * goes round once more at some time of its own; that touches only its `apart`.
 */
#ifndef PATHS_H
#define PATHS_H

/* struct io, for the assembly: rax rbx rcx rdx rsi rdi rbp r8..r15 in this order. */
#define IO_RDI 40
#define IO_FLAGS 120
#define IO_VIA 128

#ifndef __ASSEMBLER__
#pragma GCC target("general-regs-only")
#include "../../../lib/exo/exo.h"

#define TASKS 4 /* servers in the first env; the others have one env each */
#define SERVERS 9
#define DRIVER SERVERS /* index of the first env's first thread */
#define ENVS (1 + SERVERS - TASKS)
#define SHARED_VA 0x0000000070000000ul
#define SERVER_FRAMES 256

/* Registers before and after something that goes through the kernel. */
struct io {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t flags;
    uint64_t via; /* 1: came by a gate */
};
#define IO_REGISTERS 16
#define WORDS 11

struct shared {
    uint64_t digest, random;
    uint64_t wrong; /* things that were not as they must be */
    uint64_t calls, replies, depth_errors, upcalls, traps;
    uint64_t dive; /* so many calls more are made before anything else */
    uint64_t sent[WORDS]; /* of the call or reply under way */
    uint64_t sender; /* env of the caller */
    uint64_t apart[SERVERS];
    uint32_t gate[ENVS][SERVERS + 1]; /* selectors; the last may not be called */
};
#define SHARED ((struct shared *)SHARED_VA)

/* What a thread knows of itself, in its upcall page. */
struct local {
    uint64_t index, env;
    uint64_t event; /* selector: UPCALL_BIT and WAIT_BIT of it itself */
    uint64_t wait_event;
    uint64_t in_handler;
    uint64_t resume; /* where the exception's handler goes on */
    uint64_t fs, gs;
    uint64_t xmm[6];
};
#define UPCALL_BIT (1ul << 7)
#define WAIT_BIT (1ul << 8)

/* path.S */
void path_call(struct io *io); /* SYSCALL */
void path_gate(void);
void path_upcall(void);
extern void (*const path_traps[])(struct io *io);
extern const uint64_t path_resume[]; /* behind the instruction of each */
#define TRAPS 7

/* server.c */
struct local *local_of(void);
void local_init(uint64_t index, uint64_t env, uint64_t thread);
uint64_t badge_of(uint64_t env, uint64_t server);
void note(uint64_t value);
/* One turn of the running thread: a few random things. */
void turn(struct local *l, uint64_t depth);
void server_loop(uint64_t index, uint64_t env, uint64_t thread);
#endif
#endif
