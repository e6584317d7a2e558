/* SPDX-License-Identifier: MIT
 *
 * The library that each Linux process has in its own address space. It is entered by
 * the program's system calls and by upcalls, runs on a stack of its own, and is trusted
 * by nobody but its own program, which can spoil it as it can spoil itself.
 *
 * A thread inside the library gets no events as upcalls: its event mask is 0 from entry
 * to exit (entry.S), where what came meanwhile is looked at. Faults on the program's
 * memory can happen anywhere in here, but never while the lock is held. */
#ifndef LX_LIBRARY_H
#define LX_LIBRARY_H
#include "../../../abi/exo.h"
#include "../proto.h"
#include "replace.h"
#include "exo_stubs.h"

#pragma GCC visibility push(hidden) /* no global offset table */

#define PAGE 4096ul

/* The program's registers while one of its threads is in here. entry.S knows the order. */
struct regs {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint64_t rip, rflags, rsp;
    uint64_t number; /* of the system call, which rax overwrites; NO_CALL for an event */
};
#define NO_CALL (~0ul)

/* ---- threads ------------------------------------------------------------------------
 * A thread's state lies in its upcall page (abi/exo.h), whose address is its GS base. */
struct sigstack {
    uint64_t base, size;
    uint32_t flags;
};
#define PATH_WORDS 6
struct thread_state {
    struct thread_state *self; /* GS:1536 */
    uint64_t user_rip, user_rsp; /* where an exit leads */
    uint64_t stack; /* top of the library's stack */
    struct lx_window *window;
    uint32_t index; /* in the process */
    int tid;
    uint64_t gate; /* selectors: the server's gate with our badge */
    uint64_t event; /* our LX_EVENT */
    uint64_t mask; /* blocked signals: bit signal - 1 */
    uint64_t saved_mask; /* to put back after sigsuspend's handler */
    bool restore_mask;
    struct sigstack altstack;
    uint64_t clear_tid; /* user address, or 0 */
    uint64_t robust_list;
    uint64_t futex_key; /* address waited for, 0 none: futex.c */
    uint64_t futex_ticket; /* who waits longest has the lowest */
    uint32_t futex_bits;
    bool futex_ready; /* it waits, but can run: it is not to be told */
    bool futex_woke; /* it has woken somebody since it last waited */
    bool waited; /* a leaf's call waited: the next one (server_wait) is the same again */
    char name[LX_NAME]; /* PR_SET_NAME, of others than the first */
    uint64_t sleep_deadline; /* of an interrupted nanosleep, for restart_syscall */
    uint64_t used_before; /* ticks, by others that this one's exokernel thread was */
    struct {
        uint64_t names; /* lx_shared.names then; 0: there is none */
        uint64_t size; /* with its end */
        uint8_t text[PATH_WORDS * 8];
    } absent; /* names.c: a path that was not found */
    struct {
        uint64_t length; /* of the directory's text, its slash too */
        uint8_t text[PATH_WORDS * 8 + LX_NEAR_NAME]; /* and room for an entry's name */
        const struct lx_near *next, *end; /* of window->near: those before `next` were asked for */
        uint32_t wasted; /* times in a row that few of them were asked for */
        bool active; /* the next stat is to look here */
        bool want; /* ... and if there is nothing, to ask for more */
        bool self; /* window->near[0] is the state of `descriptor` */
        bool ended; /* there is no more to be read from `descriptor` */
        uint32_t descriptor; /* 1 + that of the directory, as long as that is sure; 0: it is not */
        uint64_t changes; /* lx_shared.changes when it was opened: so long all of this holds */
    } near; /* near.c: entries of a directory whose state is known */
    uint64_t pin_start, pin_end; /* pages that the server is told of stay (user_runs) */
};
#define THREAD_STATE_OFFSET 1536
_Static_assert(offsetof(struct exo_upcall_page, user) == THREAD_STATE_OFFSET, "GS layout");
_Static_assert(sizeof(struct thread_state) <= 2560, "thread state");

static inline struct thread_state *this_thread(void)
{
    struct thread_state *t;
    __asm__("movq %%gs:1536, %0" : "=r"(t));
    return t;
}
static inline struct exo_upcall_page *upcall_page(void)
{
    return (struct exo_upcall_page *)((char *)this_thread() - THREAD_STATE_OFFSET);
}

/* ---- the process ------------------------------------------------------------------------ */
#define VMAS 256 /* at first */
struct vma {
    uint64_t start, end; /* bytes, page-aligned */
    uint32_t prot; /* PROT_* */
    uint32_t flags; /* MAP_*, VMA_* */
    int32_t handle; /* of a mapped file; -1 none */
    uint32_t spare;
    uint64_t offset; /* in the file, in pages */
};
#define VMA_BACK 0x08000000u /* mapped by a child of vfork */
#define VMA_RANDOM 0x04000000u /* madvise: only what is touched comes */
#define VMA_SEQUENTIAL 0x02000000u /* madvise: what was gone through goes first */
#define VMA_STACK 0x80000000u /* grows downward to LX_STACK_MAX */
#define VMA_HEAP 0x40000000u
#define VMA_LOCKED 0x10000000u /* mlock: its pages stay */
#define VMA_WRITES 0x20000000u /* a shared mapping of a file that was open for writing */

/* What lies on a page of the program: frame in the low 24 bits, 0 nothing yet. */
#define PG_FRAME 0x00fffffful
#define PG_W 0x01000000u /* bound writable */
#define PG_FILE 0x02000000u /* a file's own page */
#define PG_SHARED 0x04000000u /* of an extent for MAP_SHARED */
#define PG_SWAP 0x08000000u /* not there: the server's slot, in place of the frame; 0: lost */
#define BLOCK_BITS 21
#define BLOCK_PAGES 512
#define BLOCK_LISTS 64 /* of lx.pages */
struct pages { /* of 2 MiB of address space */
    uint64_t va; /* of the block */
    struct pages *next; /* of the same bucket */
    struct pages *after; /* of all */
    uint64_t table; /* frame of the page table that was made for it here; 0: of none */
    uint64_t used[8]; /* entries that are not 0, a bit each */
    uint64_t writable[8]; /* private ones that are bound writable */
    uint64_t bound[8]; /* those that a page table has */
    uint64_t listed[8]; /* those in the ring of replace.c */
    uint32_t entry[BLOCK_PAGES];
};

struct extent {
    uint32_t first, count;
    uint16_t id; /* lx_shared.holders */
    uint8_t own; /* EXTENT_* */
    uint8_t spare;
    uint32_t free;
    uint64_t used[LX_EXTENT_MAX / 64];
};
#define EXTENT_NONE 0 /* no extent at this selector */
#define EXTENT_OWN 1
#define EXTENT_INHERITED 2 /* read-only, since a fork */
#define EXTENT_LENT 3 /* the parent's, in vfork: written, not allocated from */
#define EXTENT_SHARED 4 /* MAP_SHARED */
#define EXTENT_OBJECTS 5
#define EXTENT_LEAVING 7 /* our own; it is being emptied to be given back */
#define EXTENT_FILE 6 /* a file's pages, mapped to be written; id: the handle */

#define SIGNALS 64

/* Everything that fork copies: lies at LX_DATA_VA; `heap` goes on behind it. */
struct lx {
    struct lx_sigaction action[SIGNALS]; /* signal.c; first: struct lx_public */

    int pid;
    uint32_t lock; /* thread index + 1 of its holder */
    uint32_t threads; /* running */
    uint32_t thread_map; /* indices in use */
    uint64_t data_used; /* bytes that fork copies */
    uint64_t data_end; /* bytes bound ... */
    uint32_t data_chunks; /* ... in so many chunks */

    /* memory: mm.c */
    struct vma vma_first[VMAS];
    uint32_t vmas;
    struct vma
        *vma; /* the table that is used, with room for vma_room; vma_first as long as it does */
    uint32_t vma_room;
    uint32_t vma_hint; /* the place that was looked for last: the next is it, or the one behind */
    uint32_t extents; /* highest index in use + 1 */
    struct extent extent[LX_EXTENTS]; /* forks copy of these, and of vma_first[], what is in use */
    uint8_t fork_fpu[2816]
        __attribute__((aligned(64))); /* right behind it: XSAVE's area, at its end */
    uint32_t extent_hint; /* the last one with a free frame */
    uint32_t extent_found; /* the last one that a frame was looked for in */
    uint64_t owned; /* frames of EXTENT_OWN */
    uint32_t objects; /* the first frames for page tables ... */
    uint32_t objects_free; /* ... and which are free, a bit each */
    uint64_t brk_start, brk;
    struct pages *pages[BLOCK_LISTS]; /* hashed by block */
    struct pages *pages_all;
    struct pages *pages_last; /* the last one found */
    struct replace replace; /* replace.c */
    uint32_t share_next; /* share.c: where it is looked for the oldest one */
    bool shares; /* there is or was a shared mapping (futex_shared.c) */
    int32_t learning; /* 1 + the program's handle: the server is shown which pages are touched */

    /* fork: what the child starts with */
    struct regs fork_regs;
    uint64_t fork_fs, fork_mask, fork_brk;
    uint64_t fork_tid, fork_clear_tid; /* user addresses, or 0 */
    struct sigstack fork_altstack;
    bool vfork_child; /* we run in our parent's memory */
    bool borrowing; /* this is a child of vfork's, in its parent's env (borrow.c) */
    struct borrow *borrow; /* what the parent goes on with; NULL: there was none yet */

    /* signals: signal.c */
    uint64_t actions_set; /* signals whose action may not be the default, a bit each */
    uint64_t ignored; /* signals that are thrown away when they come */
    uint64_t info_known; /* of those that this process sent itself: */
    struct lx_siginfo *info; /* by signal - 1; NULL: none yet */
    struct sigqueue *sigqueue; /* NULL: nothing ever waited */
    uint32_t xsave_size; /* bytes of the FPU's state; 0: not asked yet */
    uint64_t xsave_parts; /* XCR0 */

    /* threads and time: thread.c, futex.c, time.c, misc.c */
    uint32_t live; /* indices of threads that run the program: their state is true */
    uint32_t parked; /* of threads that ended and can begin anew */
    uint32_t ending; /* index + 1 of a thread that wants all others to end */
    struct thread_first *first; /* what threads begin with; NULL: none was made yet */
    uint64_t futex_tickets;
    struct timers *timers; /* NULL: none was set yet */
    uint64_t limit[16][2]; /* resource limits, soft and hard ... */
    uint32_t limits_set; /* ... that were set, a bit each */
    int priority; /* nice value */

    /* rewriting: rewrite.c */
    int32_t text; /* 1 + the program's handle: the page behind it is that of stubs */
    uint64_t text_base; /* where the file's first page lies, or would */
    uint32_t sigreturns; /* that were reflected */
    uint64_t stays[64]; /* hashed by address: sites that stay as they are */
};
#define lx (*(struct lx *)LX_DATA_VA)
#define shared ((const volatile struct lx_shared *)LX_SHARED_VA)

uint32_t xsave_size(void); /* bytes of the FPU's state (sigframe.c) */
static inline uint8_t *fork_fpu(void)
{
    return lx.fork_fpu + sizeof(lx.fork_fpu) - ((xsave_size() + 63) & -64u);
}

/* The one lock of the process's structures; nothing when there is one thread. A holder
 * must not touch the program's memory. */
void lock(void);
void unlock(void);

/* ---- calls of the server (server.c) --------------------------------------------------- */
/* rw.c: read and write of so few bytes that they travel in the window; else LEAF_FULL. */
long read_few(uint64_t fd, uint64_t to, uint64_t n);
long write_few(uint64_t fd, uint64_t from, uint64_t n);
/* ring.c: the same through the ring that a descriptor has. */
long ring_read(uint64_t fd, uint64_t to, uint64_t n);
long ring_write(uint64_t fd, uint64_t from, uint64_t n);
/* One call: the result, or a negative Linux error. Never -LX_WAIT from server_wait, which waits
 * and calls again; -EINTR when a signal that is not blocked came instead. */
long server6(uint64_t op, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
             uint64_t a5);
static inline long server(uint64_t op, uint64_t a0, uint64_t a1, uint64_t a2)
{
    return server6(op, a0, a1, a2, 0, 0, 0);
}
/* The same in the midst of another call's arguments or results, by a fault on the program's
 * memory: n bytes (at most SERVER_ASIDE_MAX) of what comes back are copied to `result`, and
 * the window's are as before. */
long server_aside(uint64_t op, const uint64_t a[4], void *result, size_t n);
#define SERVER_ASIDE_MAX 256
/* A call waited (-LX_WAIT). What the server did for it meanwhile, or -1 (lx_window.result); the
 * same when it is to wait no more, or the error. */
static inline long wait_result(struct thread_state *t)
{
    return (long)__atomic_load_n(&t->window->result, __ATOMIC_ACQUIRE) - 1;
}
long wait_over(struct thread_state *t, long error);
/* Whether a result says that the call waits. */
static inline bool wait_wanted(long r) { return r == -LX_WAIT || r == -LX_WAIT_FIRM; }
/* deadline: time-stamp counter, 0 none: then -ETIMEDOUT. -WAIT_MOVED, where the program's memory is
 * named in the call (user_runs): pages of it are to move; pins_move, and all over again. */
#define WAIT_MOVED 4094
long server_wait(uint64_t op, const uint64_t a[6], uint64_t deadline);
/* Text to the log; printf-like %s %d %u %lx %lu. */
void log_line(const char *format, ...);

/* ---- the program's memory (user.S, user.c) ---------------------------------------------
 * Copies that end with -EFAULT instead of a fault. */
long user_get(void *to, uint64_t from, size_t n); /* 0 or -EFAULT */
long user_put(uint64_t to, const void *from, size_t n);
/* Whether 1 to PAGE bytes can be stored there, which does not change them: 0 or -EFAULT. */
long user_probe(uint64_t to, uint64_t n);
long user_string(char *to, uint64_t from, size_t size); /* length, -EFAULT, -ENAMETOOLONG */
/* entry.S's user_same, which changes no other registers: 1, 0 or -EFAULT. */
static inline long user_same(const void *from, const void *text, uint64_t n)
{
    long same;
    __asm__ volatile("call user_same"
                     : "=a"(same), "+d"(n)
                     : "D"(from), "S"(text)
                     : "rcx", "cc", "memory");
    return same;
}
/* Whether the n bytes there, a page at most, can be read and are those of `text`. */
static inline bool user_is(uint64_t from, const void *text, uint64_t n)
{
    return from <= LX_USER_END - PAGE && user_same((const void *)from, text, n) == 1;
}
/* The bare copies (entry.S), which look at no range: 0 or -EFAULT; of a string its length, -EFAULT,
 * or n when it has no end there. */
long user_copy(void *to, const void *from, size_t n);
long user_copy_string(char *to, const char *from, size_t n);

/* ---- memory (mm.c, fault.c) ---------------------------------------------------------------- */
struct vma *vma_find(uint64_t va); /* that contains va, or NULL */
struct vma *vma_after(uint64_t va); /* the first that ends above va, or NULL */
/* A frame of our own, contents unknown; 0: none to be had. */
uint32_t frame_alloc(void);
/* The same of at most *n (1..64) that lie in a row: *n is how many. */
uint32_t frames_alloc(uint32_t *n);
/* The same for MAP_SHARED | MAP_ANONYMOUS, in frames that no other process has yet. */
uint32_t frames_shared(uint32_t *n);
uint32_t frame_spare(void); /* one that is free in what we have; 0: none */
void frame_free(uint32_t frame);
/* One more extent to take frames from, of about so many, if there is memory that nobody else has to
 * give up for it: its index or a negative Linux error. */
long extent_grow(uint32_t frames);
/* The 2 MiB around va; NULL: nothing lies there (make: no memory). Made of one on which nothing
 * lies and nothing is bound, when there is no more room. */
struct pages *pages_at(uint64_t va, bool make);
/* What lies on the page; NULL: its block has no entries. make: makes the block (NULL: no
 * memory). */
uint32_t *page_entry(uint64_t va, bool make);
void page_note(uint64_t va, uint32_t entry); /* sets it */
/* Whether private memory in that extent is on the page. */
bool page_lies_in(uint32_t entry, const struct extent *e);
/* Whether it is one of that extent's for MAP_SHARED. */
static inline bool page_shared_in(uint32_t entry, const struct extent *e)
{
    return entry & PG_SHARED && (entry & PG_FRAME) - e->first < e->count;
}
/* Binds n consecutive frames, of which the first is the entry's, at va, all in one 2 MiB where
 * something was noted; page tables are made as needed, what was bound there goes. Pages
 * bound, from the first on, or -ENOMEM. */
long pages_map(uint64_t va, uint32_t entry, unsigned n, unsigned rights);
/* Notes and binds the first n entries of the upcall page's list, pages of files where nothing is
 * bound, as far as it goes: page tables are made as needed. */
void pages_map_list(unsigned n, unsigned rights);
/* Takes the binding of a page away; what lies there stays. */
void page_unmap(uint64_t va);
/* The process ends: its env, where nothing is bound then, can be used again (server/process/husk.h).
 * Not where there are other threads, or the env is another process's. */
void pages_leave(void);
/* Nothing is bound (a child begins). */
void pages_unbound(void);
/* Binds what an entry says at va: 0 or -ENOMEM. */
long page_map(uint64_t va, uint32_t entry, unsigned rights);
/* The extent of a frame, NULL: of none. */
struct extent *extent_of(uint32_t frame);
/* A new extent: its index or a negative Linux error. */
long extent_get(uint32_t frames, unsigned purpose);
/* The next page at or after va, below end, on which something lies; end: none. */
uint64_t page_next(uint64_t va, uint64_t end);
/* The same of a file's own pages, from `page` of the handle on, at most n in a row: index. */
long extent_share(int32_t handle, uint64_t page, uint32_t n);
void extents_unused(void); /* extents of frames_shared in which nothing lies go back */
void extents_unshare(int32_t handle); /* nothing of the handle's is mapped any more */
/* The extents that a child gets, a bit each: not those where nothing lies, which stay ours
 * alone, so that there is something to copy into. */
void extents_inherited(uint64_t keep[LX_EXTENTS / 64]);
/* Takes all bindings of [va, va + n) away and frees what is ours. */
void pages_drop(uint64_t va, uint64_t end);
/* Takes the right to write private pages away (before a fork). */
void pages_protect(void);
/* vmas: makes one (joined with a like neighbour); cuts one at an address: both can move all of them
 * (-ENOMEM: there is no room); joins those of a range that are alike, and its neighbours; takes a
 * range out. */
long vma_add(const struct vma *vma);
long vma_cut(uint64_t va);
void vma_join(uint64_t va, uint64_t end);
void vma_remove(uint64_t start, uint64_t end);
/* The highest free range below LX_MMAP_TOP, or 0. */
uint64_t vma_room(uint64_t length);
/* A fault at va (error code: bit 1 a write, bit 4 a fetch): 0 when the access can be tried
 * again; else the signal (SIGSEGV, SIGBUS). */
int fault_handle(uint64_t va, uint64_t error);
/* The areas of a new program are there: those of its file's pages that it will touch, as far as
 * the server knows, are bound, or copied where they can be written. */
void program_bind(int32_t handle);
/* Makes sure that [va, va + n) can be read (or written): 0 or -EFAULT. */
long user_touch(uint64_t va, uint64_t n, bool write);
/* A user's buffer as runs in the window, behind `runs` others: how many there are now, or
 * -EFAULT when not a byte of it can be used. *length becomes what fits LX_RUN_MAX runs. */
long user_runs(unsigned runs, uint64_t va, uint64_t *length, bool write);
/* The first of the two arguments that name so many runs. */
uint64_t user_where(unsigned runs);
long mm_map(uint64_t va, uint64_t length, int prot, int flags, int fd, uint64_t offset);
/* Everything of the program goes, but what lies from `keep` to `end`, in one block. */
void mm_clear(uint64_t keep, uint64_t end);
void *data_alloc(size_t n); /* of the library's data, for good; NULL: no memory */

uint64_t random_word(void); /* random.c */

/* ---- system calls (dispatch.c) ----------------------------------------------------------- */
/* A call that the library does itself: arguments are regs' rdi, rsi, rdx, r10, r8, r9. */
typedef long sys_function(struct thread_state *t, struct regs *r);
/* What a `quick` call's leaf_NAME returns when its sys_NAME has to do it. */
#define LEAF_FULL (-4096l)

/* What calls.list says of the call in r->number, done: arguments to the server, results back. */
long call_server(struct thread_state *t, struct regs *r);
/* poll.c: a read or write was of `done` bytes, which may be fewer than the program gave it room
 * for: the rest too, as a file that blocks does it. How many in all. */
long transfer_rest(const struct regs *r, long done);

/* Before XSAVE and XRSTOR: makes the FPU's registers this thread's. Those two instructions do
 * not raise #NM in QEMU (7.2, TCG) though they should (Intel SDM vol. 2, XRSTOR, exceptions). */
#define FPU_CLAIM "fnop\n\t"

/* fork.c: clone without CLONE_THREAD, with CLONE_VM only as vfork is: r has clone's arguments; the child
 * goes on with the registers `child`. */
long fork_clone(struct thread_state *t, const struct regs *r, struct regs *child);
/* borrow.c: vfork where the child is this same thread: 0 in the child, which begins with the
 * registers r (and that stack, if not 0), or an error; the parent returns by borrow_end. */
bool borrow_may(void); /* whether this can be done now */
long borrow_begin(struct thread_state *t, struct regs *r, uint64_t stack, int signal);
/* The child has ended, or executes elsewhere: the parent goes on. */
_Noreturn void borrow_end(struct thread_state *t);
/* Before a change of what is the child's alone, though it lies in the parent's library: actions,
 * limits, priority, name, policy. False: no memory; to be left as it is. */
bool borrow_keep_all(void);
static inline bool borrow_keep(void) { return !lx.borrowing || borrow_keep_all(); }
/* In a child of vfork, before it executes or ends: its parent gets what is new in the memory that they
 * share. sp: of the program; stage: pages of a new stack, which are not the parent's to have. */
void vfork_back(uint64_t sp, uint32_t stage);
/* exec.c: the first program of all, named in the window. */
_Noreturn void exec_first(struct thread_state *t);
/* exec.c: the program that a borrower executes, in its new env. */
_Noreturn void exec_handed(struct thread_state *t);
/* time.c: the thread's timer (LX_TIMER) came. */
void timer_expired(struct thread_state *t);
/* Waits for LX_EVENT or the deadline (time-stamp counter; 0: none), or less; a timer that
 * expired is seen to. */
void event_wait(struct thread_state *t, uint64_t deadline);
/* exo_event_wait, which counts as waiting. */
long event_sleep(uint64_t events, uint64_t deadline);
uint64_t thread_used(const struct thread_state *t); /* ticks that it did not wait, so far */
/* Others run, if any can. */
void turn_give(struct thread_state *t);
/* The process has no timers but, if not told so, alarm's (exec); nor that one (fork). */
void timers_clear(bool alarm);
bool timers_none(void); /* none is set */
/* alarm's, which exec keeps: when it comes next (time-stamp counter, 0: not set), its interval in
 * ticks; and in the new program. */
void timers_alarm(uint64_t alarm[2]);
void timers_alarm_set(struct thread_state *t, const uint64_t alarm[2]);
/* A thread ends, whose timer may be the one that is set; another one sets it then. */
void timers_orphan(struct thread_state *t);
void timers_adopt(struct thread_state *t);
/* A deadline (time-stamp counter) from the program's timespec at `from`: so long from now, or
 * an absolute time of the clock. -EFAULT, -EINVAL. */
long deadline_of(uint64_t from, uint64_t clock, bool absolute, uint64_t *deadline);
/* Nanoseconds in ticks of the time-stamp counter. */
uint64_t ticks_of(uint64_t ns);
static inline uint64_t tsc_now(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}
/* A thread ends: its robust list, and the word that clone was to clear. */
void futex_thread_end(struct thread_state *t);
/* The process ends, or executes another program: the robust lists of all threads. */
void futex_process_end(void);
/* thread.c: does not come back when another thread wants this one to end. */
void thread_check(struct thread_state *t);
/* thread.c: what a forked child has not: other threads, timers. */
void threads_forked(void);
/* thread.c: ends all threads but this one (exec). */
void threads_end_others(struct thread_state *t);
/* signal.c: what a forked child has not: signals that wait. */
void signals_forked(void);
bool signals_quiet(void); /* signal.c: none that the process sent itself is pending */
/* signal.c: handlers become the default ones again (exec). */
void signals_reset(struct thread_state *t);
/* signal.c: called on every exit to the program that is not the leaf path, when the
 * event came or signals may be pending: delivers at most one by changing regs. */
void signals_deliver(struct thread_state *t, struct regs *r);
/* A signal for this thread caused by itself (a fault): delivered at once. */
void signal_force(struct thread_state *t, struct regs *r, int signal, int code, uint64_t address);
bool signals_pending(struct thread_state *t); /* one that interrupts: not blocked or ignored */
/* The event that tells of such a one was taken by waiting: it is seen to when we leave. */
void event_keep(struct thread_state *t);
/* Sets the mask of blocked signals (SIGKILL and SIGSTOP stay out of it). */
void signals_mask(struct thread_state *t, uint64_t mask);
/* A signal of this process to itself (t NULL) or to one of its threads. */
void signal_send(struct thread_state *t, int signal, int code, uint64_t value);
static inline struct lx_window *process_window(void)
{
    return (struct lx_window *)(LX_THREAD_VA + LX_THREAD_WINDOW);
}
/* LX_DIRECT_* of a descriptor. */
static inline unsigned direct_of(uint64_t fd)
{
    fd = (uint32_t)fd;
    return fd < LX_DIRECT_FDS ? process_window()->direct[fd] : 0;
}
static inline struct thread_state *thread_at(uint32_t index)
{
    return (struct thread_state *)(LX_THREAD_VA + index * LX_THREAD_SPAN + THREAD_STATE_OFFSET);
}
/* A call was interrupted and may be started again: as Linux does it internally. */
#define RESTART_SYS 512 /* unless the handler lacks SA_RESTART */
#define RESTART_NOHAND 514 /* unless there is a handler */
#define RESTART_BLOCK 516 /* as that, by restart_syscall */
static inline bool call_restarts(uint64_t rax) { return rax + RESTART_BLOCK <= 4; }
/* thread.c: where a new thread begins (word LX_START_THREAD). */
void thread_begin(struct thread_state *t);
/* rewrite.c: after a reflected call from rip (behind the syscall). */
void rewrite_site(uint64_t number, uint64_t rip);
/* The areas of a new program are there, up to `end`: that of its stubs is made, if there is room.
 * Where what it has ends then. And whether an area's pages are to be those with jumps to stubs. */
uint64_t text_place(int32_t handle, uint64_t end);
bool text_area(const struct vma *vma);
/* The page of stubs goes, or text moves: pages come again as they are in the file. Under the lock. */
void text_end(void);
/* entry.S: leaves for the program with these registers. */
_Noreturn void leave(struct regs *r);
#endif
