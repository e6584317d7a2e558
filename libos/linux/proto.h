/* SPDX-License-Identifier: MIT
 *
 * What the library in each process and the server, linuxd, say to each other.
 *
 * A call is one exo call of the thread's gate: rsi the operation, which is a Linux
 * system call's number or one of LX_OP_*, then six arguments in rdx, r8, r9, r10, rbx,
 * rbp; the reply is a result in rsi, >= 0 or the negative of a Linux error. Arguments
 * that are memory travel so:
 *
 *  - a path or other small input lies in the thread's window: the argument is its
 *    offset in `bytes`;
 *  - a structure that comes back lies at offset 0 of `bytes` after the call, unless said
 *    otherwise;
 *  - a user's buffer is named by where it lies in memory: two arguments, the first the
 *    physical address when it is one run, or LX_RUNS | number of runs in the window,
 *    the second its length in bytes. The server reads and writes there directly. It
 *    checks that every frame belongs to an extent that the process was given.
 *
 * The window is shared memory: the server trusts nothing in it and fetches once.
 *
 * Blocking: the server never waits for one client. A call that would block replies
 * -LX_WAIT; the thread then waits for LX_EVENT and makes the same call again. Signals
 * come as the same event, with bits in `signals`. */
#ifndef LX_PROTO_H
#define LX_PROTO_H
#include "linux.h"

/* ---- address space of a process ----------------------------------------------------
 * The program's low addresses are its own. Everything from LX_TOP down lies in one
 * 1 GiB block: one page directory. */
#define LX_BLOCK 0x7fffc0000000ul
#define LX_PIE_VA (LX_BLOCK + 0x1000000) /* where position-independent programs go */
#define LX_STACK_TOP 0x7ffff0000000ul /* exclusive */
#define LX_STACK_MAX (8ul << 20)
#define LX_MMAP_TOP (LX_STACK_TOP - LX_STACK_MAX - (1ul << 20)) /* downward from here */
#define LX_LIB_VA 0x7ffff8000000ul /* the library's image: text, read-only data */
#define LX_LIB_TEXT_PAGES 32 /* 128 KiB at most */
#define LX_DATA_VA (LX_LIB_VA + 0x40000) /* the library's data: struct process first */
#define LX_DATA_PAGES 64 /* LX_DATA_START of them there from the start */
#define LX_DATA_START 16
#define LX_THREAD_VA (LX_LIB_VA + 0x100000) /* LX_THREAD_SPAN for each thread */
#define LX_THREAD_SPAN 0x8000 /* upcall page, window, upcall stack, stack */
#define LX_THREAD_UPCALL 0 /* offsets in it */
#define LX_THREAD_WINDOW 0x1000
#define LX_WINDOW_PAGES 3
#define LX_THREAD_STACKS 0x4000 /* upcall stack: one page; then the stack */
#define LX_STACK_PAGES 4 /* of both */
#define LX_SHARED_VA 0x7ffff7000000ul /* struct lx_shared, read-only */
#define LX_USER_END 0x7ffff7000000ul /* what a program may map ends here */

/* ---- selectors of a process -------------------------------------------------------- */
#define LX_SEL_FILES 1 /* frames of all files' pages: R, X */
#define LX_SEL_LIB 2 /* frames of the library's text */
#define LX_SEL_SHARED 3 /* the frame of struct lx_shared */
#define LX_SEL_MEMORY 4 /* frames of its own: library data and stacks of its first thread */
#define LX_SEL_OBJECTS 5 /* frames its thread objects are made of (not usable otherwise) */
#define LX_SEL_THREAD 8 /* 8 + 4 * i: thread i of the process: thread, gate, event, objects */
#define LX_THREADS 30 /* threads of a process */
#define LX_SEL_EXTENT 128 /* 128..255: extents of memory */
#define LX_EXTENTS 128
#define LX_EXTENTS_ALL 3584 /* of all processes together */
#define LX_TABLES 4 /* frames of its capability table */

#define LX_EVENT 1ul /* bit of each thread's events: look at the window again */
#define LX_TIMER 2ul /* bit of the thread's own timer */

/* ---- calls that Linux does not have -------------------------------------------------- */
#define LX_OP_EXTENT 0x1000 /* a0 frames wanted (1..4096): result the first frame; its
                               selector and its number in bytes as two uint64_t. -ENOMEM */
#define LX_OP_GIVE 0x1001 /* a0 selector of an extent: it is given back (nothing bound) */
#define LX_OP_FORK 0x1002 /* a0 flags (LX_FORK_VFORK), a1 bytes of library data in use, a2
                             user rsp's thread index: result the child's pid */
#define LX_OP_EXEC 0x1003 /* a0 offset of the name: descriptors marked so are closed, name set,
                             all extents but those of LX_KEEP given back */
#define LX_OP_MAPFILE 0x1004 /* a0 descriptor, a1 first page, a2 pages (1..64), a3 nonzero:
                                will be written (shared): frame numbers in bytes as uint32_t,
                                0 beyond the end; result: how many */
#define LX_OP_THREAD 0x1005 /* a0 index, a1 tid address: a thread is made, stopped: result its tid */
#define LX_OP_THREAD_END 0x1006 /* the calling thread ends (not the last one) */
#define LX_OP_LOG 0x1007 /* a0 offset, a1 length: text for the log that /dev/kmsg shows */
#define LX_OP_CRASH 0x1008 /* a0 signal: the process ends by it */
#define LX_OP_MEMINFO 0x1009 /* a0 KiB resident, a1 KiB virtual: for /proc, no reply needed */
#define LX_OP_END 0x100a

#define LX_FORK_VFORK 1

#define LX_WAIT 4095 /* -LX_WAIT: wait for LX_EVENT, then call again */
#define LX_RUNS (1ul << 63)
#define LX_RUN_MAX 64

struct lx_run {
    uint64_t address; /* physical */
    uint64_t length; /* in one run: consecutive frames */
};
#define LX_WINDOW_BYTES (LX_WINDOW_PAGES * 4096 - 64 - LX_RUN_MAX * 16)
struct lx_window {
    uint64_t signals; /* pending for this thread (bit signal - 1); the server sets, the
                         library clears when it takes one (atomically) */
    uint64_t spare[7];
    struct lx_run run[LX_RUN_MAX];
    uint8_t bytes[LX_WINDOW_BYTES];
};
_Static_assert(sizeof(struct lx_window) == LX_WINDOW_PAGES * 4096, "window");

/* One page, the same in all processes, read-only. */
struct lx_shared {
    uint64_t tsc_hz;
    uint64_t tsc_base; /* time-stamp counter ... */
    uint64_t real_base; /* ... at which it was so many nanoseconds since 1970 */
    uint64_t files_base, files_count; /* frames of LX_SEL_FILES */
    uint32_t processes; /* running */
    uint32_t memory_frames, memory_free; /* of what processes can get */
    uint8_t holders[LX_EXTENTS_ALL]; /* by an extent's number: processes that have it (at
                                         most 255); more than one since a fork */
};
#endif
