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
 *    Or LX_INLINE | offset: it lies there in the window's bytes.
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
#define LX_STACK_TOP LX_OWN_VA /* exclusive */
#define LX_STACK_MAX (8ul << 20)
#define LX_MMAP_TOP (LX_STACK_TOP - LX_STACK_MAX - (1ul << 20)) /* downward from here */
#define LX_USER_END LX_STACK_TOP /* what a program may map ends here */
/* A new program's stack is made at one of two places, where the old one is not (no page table more),
 * and stays there; or elsewhere, and is moved to LX_STACK_TOP. */
#define LX_STAGE_NEAR 0x7ffff8020000ul
#define LX_STAGE_STEP 0x40000ul
#define LX_STAGE_NEAR_PAGES 32
#define LX_STACK_BELOW 32 /* pages below a new stack that it may use without growing */
#define LX_STAGE_SP                                                                                \
    3072 /* it begins so far up: what the program pushes first lies in its page too */
#define LX_STAGE_FAR 0x7ffff8400000ul
#define LX_STAGE_FAR_PAGES 512
/* The library's image: text, read-only data (library.ld); one large page, the same in all. */
#define LX_LIB_VA 0x7ffff8200000ul
#define LX_LIB_PAGES 512ul
#define LX_LIB_START LX_LIB_VA /* where threads begin */
#define LX_LIB_UPCALL (LX_LIB_VA + 16) /* where upcalls go */
#define LX_LIB_CALL (LX_LIB_VA + 32) /* where stubs go (LX_OP_SITE): rcx the return address */
/* One page table maps from LX_STAGE_NEAR: the top of the stack, rings, threads, data. */
#define LX_OWN_VA 0x7ffff8080000ul
#define LX_RING_VA (LX_OWN_VA + 0x3b000) /* struct lx_ring of each slot */
#define LX_RINGS 4
#define LX_SHARED_VA (LX_RING_VA + LX_RINGS * 4096ul) /* struct lx_shared, read-only */
#define LX_THREAD_VA (LX_OWN_VA + 0x40000) /* LX_THREAD_SPAN for each thread */
#define LX_THREAD_SPAN 0x8000 /* upcall page, window, upcall stack, stack */
#define LX_THREAD_WINDOW 0x1000 /* offsets in it */
#define LX_WINDOW_PAGES 3
#define LX_THREAD_STACKS 0x4000 /* upcall stack: one page; then the stack */
#define LX_STACK_PAGES 4 /* of both */
#define LX_THREADS 24 /* threads of a process */
#define LX_DATA_VA (LX_OWN_VA + 0x100000) /* the library's data: struct lx first */
/* It grows by chunks: LX_DATA_NEAR of LX_DATA_CHUNK pages there, then larger ones elsewhere, for
 * which there is one page table. */
#define LX_DATA_CHUNK 16
#define LX_DATA_NEAR 8
#define LX_DATA_FAR_VA (LX_STAGE_FAR + LX_STAGE_FAR_PAGES * 4096ul)
#define LX_DATA_FAR_CHUNK 64
#define LX_DATA_CHUNKS (LX_DATA_NEAR + 512 / LX_DATA_FAR_CHUNK)
static inline uint32_t lx_data_pages(uint32_t chunk)
{
    return chunk < LX_DATA_NEAR ? LX_DATA_CHUNK : LX_DATA_FAR_CHUNK;
}
static inline uint64_t lx_data_va(uint32_t chunk)
{
    if (chunk < LX_DATA_NEAR) return LX_DATA_VA + chunk * LX_DATA_CHUNK * 4096ul;
    return LX_DATA_FAR_VA + (chunk - LX_DATA_NEAR) * LX_DATA_FAR_CHUNK * 4096ul;
}
/* Frames of a process's private block: window and stacks of its first thread, data. */
#define LX_PRIVATE_DATA (LX_WINDOW_PAGES + LX_STACK_PAGES)
#define LX_PRIVATE_FRAMES 24
#define LX_UNIT 8 /* frames: memory of processes is handed out in multiples of it */
#define LX_OBJECT_FRAMES 24 /* a process's first: page tables, threads ... */
#define LX_OBJECTS_USED 5 /* ... of which the server takes so many: a thread, three tables */

/* What a first thread starts with (rdi). */
#define LX_START_EXEC                                                                              \
    0 /* the window's bytes: a path, then arguments, each ended by 0; an
                           empty one ends them */
#define LX_START_FORK 1
#define LX_START_HANDED 3 /* the window's bytes: what LX_OP_EXEC_AWAY was given */

/* ---- selectors of a process -------------------------------------------------------- */
#define LX_SEL_FILES 1 /* frames of all files' pages, the library's image, lx_shared: R, X */
#define LX_SEL_FAULT 4 /* event of the server: a thread was stopped by a fault */
#define LX_SEL_OBJECTS 5 /* frames for page tables and threads */
#define LX_SEL_RING 6 /* 6..9: the pages at LX_RING_VA */
#define LX_SEL_DATA 16 /* 16..31: private block, with the first chunk of data; the other chunks */
#define LX_SEL_THREAD 32 /* 32 + 4 * i of thread i: gate, event, frames of its object, its stacks */
#define LX_SEL_EXTENT 128 /* 128..255: extents of memory */
#define LX_EXTENTS 128
#define LX_EXTENT_MAX 512 /* frames of one */
#define LX_EXTENT_FEW 32 /* others are asked to make room for so many, not for more */
#define LX_EXTENTS_ALL 3584 /* of all processes together */
#define LX_TABLES 4 /* frames of its capability table */

#define LX_EVENT 1ul /* bit of each thread's events: look at the window again */
#define LX_TIMER 2ul /* bit of the thread's own timer */
#define LX_EVENTS (LX_EVENT | LX_TIMER)

/* ---- calls that Linux does not have -------------------------------------------------- */
#define LX_OP_BASE 0x1000
/* a0 frames wanted (1..LX_EXTENT_MAX), a1 selector index (0..LX_EXTENTS - 1), a2 what for:
 * LX_FOR_*. Result: first frame; bytes: its number (bits 0..15), and from bit 32 on how many: of
 * memory less where more than LX_EXTENT_FEW are not to be had in a row. -ENOMEM, -EINVAL, -EEXIST; -EAGAIN: another
 * process was asked to give some back, and has LX_ASK_US to do so: to be called again */
#define LX_OP_EXTENT 0x1000
/* a0 selector index: given back. Nothing may be bound through it: else -EBUSY */
#define LX_OP_GIVE 0x1001
/* a0, a1 selector indices, a bit each: all of these. Bytes: uint64_t[2], those that it cannot be
 * done with */
#define LX_OP_GIVE_ALL 0x101f
/* a0 LX_FORK_*, a1 bytes of library data to copy, a2 signal to the parent at the end,
 * a3, a4 the extents that the child gets, a bit each; a5 what is not copied of the first
 * LX_DATA_CHUNK pages, two stretches: in units of 8 bytes where one begins (bits 0..15) and ends,
 * where the next one begins and ends. Result: the child's pid. LX_FORK_BORROW alone, by the only
 * thread of a process: it is the child from now on, in the same env, until that executes
 * (LX_OP_EXEC_AWAY) or ends; when that call returns it is the parent again. Of the arguments only
 * a2 says something. -EINVAL: there are more threads, or the process runs in its parent's memory
 * itself */
#define LX_OP_FORK 0x1002
/* a0 offset of a path, a1 offset of the arguments (each ended by 0), a2 their length, a3 offset
 * of the path whose last part is the process's name (a script's, while a0 is its interpreter), a4
 * the mapping handle of its file: the point of no return of exec. Descriptors marked so are closed,
 * all other mapping handles given back, names are kept for /proc, a parent in vfork goes on.
 * -EINVAL in a borrowed env */
#define LX_OP_EXEC 0x1003
/* The same from a borrowed env: the child goes on in an env of its own, which is given the new
 * program's stack, the mapping handle of its file as handle 0, and what the window's bytes begin
 * with. a0 to a3 as above; a4 and the low half of a5: the stack from LX_STAGE_SP on, as a buffer;
 * a5, from bit 32 on: bytes of the window, from bit 48 on: the handle. The thread is the parent's
 * then, but on an error: -EINVAL, -EFAULT, -EBADF, -ENOMEM, -EAGAIN */
#define LX_OP_EXEC_AWAY 0x1021
struct lx_handed { /* what the bytes begin with in the new env: where the stack is */
    uint64_t first, count; /* frames of the extent at selector index 0 */
    uint64_t id; /* its number */
};
/* a0 descriptor, a1 0: mapping handle for it (a2 not 0: -EACCES unless it is open for reading
 * and writing); a0 offset of a path, a1 1: the same of a
 * file that may be executed. Handles are inherited; one open file has one, however often it is
 * mapped. Result: the handle; bytes: its size, and of one to
 * be executed the LX_HEAD bytes that it begins with (zeroes behind its end) */
#define LX_OP_MAP 0x1004
#define LX_HEAD 1024
#define LX_OP_UNMAP 0x1005 /* a0 handle */
/* a0 handle, a1 first page, a2 number (1..64): frame numbers as uint32_t in bytes, 0 for
 * what lies beyond the end; a3 0, or 1 + the page that was touched first: it is remembered for
 * LX_OP_SEEN when the file is what the process executes. a2 with LX_PAGES_TEXT: to be executed
 * (LX_OP_SITE); page LX_STUBS is that of the stubs. Result: how many */
#define LX_OP_PAGES 0x1006
#define LX_PAGES_TEXT (1ul << 32)
#define LX_STUBS 0x40000000u
/* a0 first frame from (0: zeroes), a1 first frame to, a2 pages (1..LX_EXTENT_MAX): copies them */
#define LX_OP_COPY 0x1007
/* a0 offset, a1 length of text for the log (dmesg) */
#define LX_OP_LOG 0x1008
#define LX_OP_CRASH 0x1009 /* a0 signal: the process ends by it */
/* The next chunk of library data is bound, where there is a page table. -ENOMEM */
#define LX_OP_DATA 0x100a
/* A thread. a0 index, a1 word: it starts at the library's entry with LX_START_THREAD.
 * Result: its tid */
#define LX_OP_THREAD 0x100b
#define LX_OP_THREAD_END 0x100c /* the calling thread ends; not the last one */
#define LX_OP_VFORK_WAIT 0x100d /* a0 pid: -LX_WAIT until it has executed or ended */
/* From a child of vfork, before it executes or ends: a struct lx_back for its parent, which finds
 * them in its window when LX_OP_VFORK_WAIT is over, whose result is how many. -ENOMEM: no more.
 * -EINVAL: it has no parent that waits. -EFAULT */
#define LX_OP_VFORK_BACK 0x1013
struct lx_back {
    uint64_t kind;
    uint64_t start; /* an address */
    uint64_t value; /* LX_BACK_PAGE: the frame, from the server the swap slot; AREA: its end */
    uint64_t flags; /* LX_BACK_AREA: of mmap, above the rights (3 bits) */
};
#define LX_BACK_PAGE 0 /* a page that is not the parent's: it gets the contents */
#define LX_BACK_AREA 1 /* private and anonymous memory that was mapped */
#define LX_BACK_BREAK 2 /* brk */
#define LX_BACK_MAX 256
/* a0 signal, a1 0: of this thread, 1: of the process: what is known of one that the server
 * put into a window, and that the library has taken out: struct lx_siginfo in bytes */
#define LX_OP_SIGINFO 0x100e
#define LX_OP_STOPPED 0x100f /* a0 signal: the process stops; -LX_WAIT until it is continued */
/* a0 handle of a file open for writing, a1 first page, a2 number (1..LX_SHARE_MAX) and, from bit
 * 32 on, a selector index: a capability, with the right to write, of as many of the file's own pages as lie in a
 * row from the first on. Result: the first frame; bytes: how many as uint64_t. -ENXIO: beyond
 * the file's end; -EACCES, -ENOMEM, -EEXIST, -EINVAL */
#define LX_OP_SHARE 0x1010
#define LX_SHARE_MAX 64
/* A page's contents out of a process's memory: a0 frame. Result: the slot it is in, from 1 on;
 * -ENOMEM, -EFAULT. Children inherit slots as they do extents. */
#define LX_OP_SWAP_OUT 0x1018
/* a0 slot, a1 frame: back into a frame of the process's; the slot is not its any more. -EINVAL:
 * it never was. -EFAULT */
#define LX_OP_SWAP_IN 0x1019
#define LX_OP_SWAP_FREE 0x101a /* a0 slot: what is in it is not needed any more. -EINVAL */
/* a0 slot of a ring that the process writes: the reader is woken. -EINVAL: there is none */
#define LX_OP_RING 0x1011
/* Bytes: uint64_t[2], ticks that the process was not waiting, of all its threads, and the same of
 * its children that were waited for */
#define LX_OP_TIMES 0x1012
/* Words that processes share: a0 the physical address. WAIT: a1 the value that it is to have
 * (-EAGAIN: it has not), a2 bits: -LX_WAIT; the thread is a waiter, whatever it calls meanwhile,
 * until `result` of its window becomes 1, or END, which says whether it still was. WAKE: a1 of
 * those whose bits are in a2, at most: how many. -EFAULT: the process has no such frame. */
#define LX_OP_FUTEX_WAIT 0x101b
#define LX_OP_FUTEX_WAKE 0x101c
#define LX_OP_FUTEX_END 0x101d

/* a0 handle of the program that is executed: bytes are struct lx_seen of those of its pages that it
 * touched whenever it was executed lately, in their order. Result: how many; 0: not known, this
 * run is the one that shows them. Frames are those to be executed; LX_STUBS comes last */
#define LX_OP_SEEN 0x1020
struct lx_seen {
    uint32_t page, frame;
};
#define LX_OP_NAME                                                                                 \
    0x1022 /* a0 0: the process's name becomes the LX_NAME bytes; 1: they become it */
#define LX_NAME 16
#define LX_SEEN_PAGES 1024 /* of a file, the first ones: others are not remembered */
/* a0 handle of the program that is executed, a1 where in the file a `syscall` is that is called
 * often: the server makes a jump of it, in copies of the file's pages (LX_PAGES_TEXT) that need
 * the page LX_STUBS right behind the program's last segment. 0: the site's page is
 * to be had anew. -EINVAL: it stays as it is. -ENOMEM, -EBADF */
#define LX_OP_SITE 0x1023

#define LX_FOR_MEMORY 0
#define LX_FOR_OBJECTS 1 /* page tables, threads: the server never touches it */
#define LX_FOR_SHARED 2 /* stays writable in children too: MAP_SHARED */
#define LX_START_THREAD 2

#define LX_FORK_VFORK 1
#define LX_FORK_BORROW 2

#define LX_FDS 1024 /* descriptors of a process */
#define LX_DIRECT_FDS 256 /* of which so many, the first ones, can be in lx_window.direct */
#define LX_CMDLINE 256 /* bytes of arguments that /proc shows */
#define LX_ASK_US 1000000 /* microseconds until frames that were asked for are taken */
#define LX_TAKEN (1ul << 63) /* in lx_window.start.asked: extents were taken */
#define LX_WANTED (1ul << 62) /* the same: these very extents are to be given back */
#define LX_ASKED_FLAGS (LX_TAKEN | LX_WANTED)
#define LX_NULL (~0ul) /* in place of a window offset: the program gave no pointer */
#define LX_WAIT 4095 /* -LX_WAIT: wait for LX_EVENT, then call again */
#define LX_WAIT_FIRM 4093 /* -LX_WAIT_FIRM: the same, and signals wait too */
#define LX_OP_AGAIN (1ul << 32) /* with the operation: it waited and is made again */
#define LX_RUNS (1ul << 63)
#define LX_RUN_MAX 64
#define LX_INLINE (1ul << 62)

struct lx_run {
    uint64_t address; /* physical */
    uint64_t length; /* in one run: consecutive frames */
};
/* What the library does itself with a descriptor. */
#define LX_DIRECT_EOF 1 /* reading finds the end */
#define LX_DIRECT_ZEROES 2 /* reading gives zeroes */
#define LX_DIRECT_SINK 4 /* what is written is gone */
#define LX_DIRECT_RING 8 /* it is the end of a pipe that has a ring */
/* An entry of a directory and its state. */
#define LX_NEAR 12
#define LX_NEAR_NAME 32 /* bytes of a name, with a zero at its end */
struct lx_near {
    uint64_t name[LX_NEAR_NAME / 8]; /* zeroes behind it */
    uint64_t length; /* of the name */
    struct stat stat;
};
#define LX_WINDOW_BYTES                                                                            \
    (LX_WINDOW_PAGES * 4096 - 176 - LX_RINGS * 8 - LX_DIRECT_FDS - LX_RUN_MAX * 16 -               \
     LX_NEAR * (LX_NEAR_NAME + 8 + 144))
struct lx_window {
    uint64_t signals; /* pending for this thread (bit signal - 1); the server sets, the
                         library clears when it takes one (atomically) */
    uint64_t refused; /* signals that this thread blocks or its process ignores: the library
                         keeps it; the server asks it for SIGTTIN and SIGTTOU (tty.h) */
    struct {
        uint64_t objects, objects_end; /* frames of LX_SEL_OBJECTS that are free */
        uint64_t pid, ppid; /* the server keeps ppid true in the first thread's window */
        uint64_t signals; /* in thread 0's window: pending for the whole process. The server
                             sets a bit and tells (LX_EVENT) a thread that does not refuse it,
                             if there is one; whoever takes it clears the bit */
        uint64_t asked; /* in thread 0's window: frames to give back within LX_ASK_US, as whole
                           extents; and LX_ASKED_FLAGS. The library makes it 0 */
        uint64_t taken[LX_EXTENTS / 64]; /* extents that were taken by force, a bit each */
        uint64_t
            wanted[LX_EXTENTS / 64]; /* that are to be given back, others for them if need be */
        uint64_t no_zombies; /* in thread 0's window, not 0: children that end are forgotten */
    } start;
    uint64_t started; /* time-stamp counter when the thread began; the server sets it */
    uint64_t robust; /* of set_robust_list(2), 0: none; the library keeps it */
    uint64_t waited; /* ticks that it waited; the library keeps these two ... */
    uint64_t since; /* ... and since when it waits, 0: it does not */
    uint64_t result; /* of a read that waits: 1 + bytes that the server has put into its buffer
                        meanwhile; 0: none. The library makes it 0 before. The thread's next
                        call, of any kind, ends the waiting */
    uint64_t absent; /* lx_shared.names when a path, from the root on, was not found; it is not
                        there while that is the same. Else as it was */
    uint64_t near_changes; /* lx_shared.changes when these were so: */
    uint64_t nears; /* newfstatat was told (a4) how many entries behind the one that it asks for
                       are wanted, LX_NEAR at most, or getdents64 (a3) 1 + how many of those that it
                       lists: so many are here. openat, of a directory (O_DIRECTORY): 1, which is
                       that directory, without a name. Else as it was */
    uint64_t near_ended; /* getdents64, with a3: not 0: these were the directory's last entries */
    uint8_t direct[LX_DIRECT_FDS]; /* in thread 0's window, the server keeps it: LX_DIRECT_* */
    struct { /* in thread 0's window, the server keeps it: slots of rings */
        uint32_t number; /* the descriptor + 1; true while that has LX_DIRECT_RING */
        uint32_t end; /* how far this side had come when the server took the ring back */
    } ring[LX_RINGS];
    /* From here on it begins with what was there before. */
    struct lx_near near[LX_NEAR];
    struct lx_run run[LX_RUN_MAX];
    uint8_t bytes[LX_WINDOW_BYTES];
};
_Static_assert(sizeof(struct lx_window) == LX_WINDOW_PAGES * 4096, "window");
_Static_assert(LX_BACK_MAX * sizeof(struct lx_back) <= LX_WINDOW_BYTES, "LX_OP_VFORK_WAIT");
_Static_assert((LX_SEEN_PAGES + 1) * sizeof(struct lx_seen) <= LX_WINDOW_BYTES, "LX_OP_SEEN");

/* A pipe's bytes on their way between two processes: one page, which both can write. */
#define LX_RING_BYTES 2048u
struct lx_ring {
    uint32_t head; /* bytes put in so far: the writer's */
    uint32_t tail; /* bytes taken out: the reader's */
    uint32_t waits; /* the reader waits, to be told by LX_OP_RING */
    uint32_t spare[13];
    uint8_t bytes[LX_RING_BYTES];
};

/* What begins the library's data, at LX_DATA_VA: /proc shows some of it. */
struct lx_sigaction {
    uint64_t handler, flags, restorer, mask;
};
struct lx_public {
    struct lx_sigaction action[64]; /* by signal - 1 */
};

/* LX_OP_SIGINFO. */
struct lx_siginfo {
    int32_t code; /* SI_USER, CLD_EXITED ... */
    int32_t pid, uid;
    int32_t status; /* SIGCHLD */
    uint64_t value; /* of sigqueue */
};

/* One page, the same in all processes, read-only. */
struct lx_shared {
    uint64_t tsc_hz;
    uint64_t tsc_base; /* time-stamp counter ... */
    uint64_t real_base; /* ... at which it was so many nanoseconds since 1970 */
    uint64_t boot_base; /* ... and so many since boot */
    uint64_t ns_mult; /* nanoseconds = ticks * ns_mult >> 32 */
    uint32_t memory_frames, memory_free; /* of what processes can get */
    uint32_t processes; /* there are */
    uint32_t spare;
    uint64_t
        names; /* counts what can make a path lead somewhere that led nowhere; from 1 on, once there is a name */
    uint64_t changes; /* counts what can make stat of a file in the root's file system, or by a
                         path, say something else */
    uint8_t holders[LX_EXTENTS_ALL]; /* by an extent's number: processes that have it (at
                                         most 255); more than one since a fork */
};
_Static_assert(sizeof(struct lx_shared) <= 4096, "shared");
#endif
