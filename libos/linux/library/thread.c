/* SPDX-License-Identifier: MIT
 *
 * Threads of a process: an index each, with a thread of the exokernel's, a window and stacks
 * at LX_THREAD_VA. One that ended is *parked*: it waits in the library until clone wants
 * one, so that most threads begin without a call of the server. thread_map, parked and
 * threads change under the lock. Only the states of `live` ones are looked at by others: an
 * upcall page comes with what its frame held before. */
#include "library.h"
#include <linux/sched.h>
#include <linux/futex.h>
#include "../../../lib/exo/text.h"

/* What a thread begins with. */
struct thread_first {
    struct regs regs;
    uint64_t fs, mask, clear_tid;
    uint32_t mxcsr;
    uint16_t control; /* of the x87 unit */
    int tid; /* not 0: everything else is there, and it may begin */
};

/* What clone and clone3 ask for. */
struct thread_wish {
    uint64_t flags, stack, parent_tid, child_tid, tls;
};

#define THREAD_FLAGS                                                                               \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)
#define THREAD_MAY                                                                                 \
    (CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID |              \
     CLONE_DETACHED | CSIGNAL)

/* An index, -EAGAIN when there is none; *fresh: it has no thread yet. */
static long index_take(bool *fresh)
{
    long index = -EAGAIN;
    lock();
    uint32_t parked = lx.parked & ~1u, unused = ~lx.thread_map & ((1u << LX_THREADS) - 1);
    if (!lx.ending && (parked || unused)) {
        *fresh = !parked;
        index = __builtin_ctz(parked ? parked : unused);
        lx.parked &= ~(1u << index);
        lx.thread_map |= 1u << index;
        lx.threads++;
    }
    unlock();
    return index;
}

static void index_put(uint32_t index, bool park)
{
    lock();
    __atomic_fetch_and(&lx.live, ~(1u << index), __ATOMIC_ACQ_REL);
    if (!(lx.parked >> index & 1)) lx.threads--;
    if (park)
        lx.parked |= 1u << index;
    else
        lx.thread_map &= ~(1u << index), lx.parked &= ~(1u << index);
    unlock();
}

_Noreturn static void thread_enter(struct thread_state *t)
{
    struct thread_first *first = &lx.first[t->index];
    t->tid = first->tid;
    t->clear_tid = first->clear_tid;
    t->robust_list = 0;
    t->restore_mask = false;
    t->altstack = (struct sigstack){0, 0, 0};
    t->used_before = thread_used(t);
    signals_mask(t, first->mask);
    first->tid = 0;
    thread_check(t);
    __atomic_fetch_or(&lx.live, 1u << t->index, __ATOMIC_RELEASE);
    if (t->window->signals) __atomic_fetch_or(&upcall_page()->events, LX_EVENT, __ATOMIC_RELAXED);
    __asm__ volatile("fninit; fldcw %0; ldmxcsr %1; wrfsbase %2"
                     :
                     : "m"(first->control), "m"(first->mxcsr), "r"(first->fs));
    struct regs r = first->regs;
    leave(&r);
}

static bool first_ready(const struct thread_state *t)
{
    return __atomic_load_n(&lx.first[t->index].tid, __ATOMIC_ACQUIRE);
}

void thread_begin(struct thread_state *t)
{
    while (!first_ready(t))
        exo_yield();
    thread_enter(t);
}

/* Thread 0 stays, since its window is the process's. */
_Noreturn static void thread_gone(struct thread_state *t)
{
    t->window->refused = ~0ul;
    index_put(t->index, t->index == 0);
    while (t->index != 0)
        server(LX_OP_THREAD_END, 0, 0, 0);
    for (;;)
        event_sleep(LX_EVENTS, 0);
}

_Noreturn static void thread_end(struct thread_state *t)
{
    futex_thread_end(t);
    timers_orphan(t);
    if (lx.ending) thread_gone(t);
    t->window->signals = 0;
    t->window->refused = ~0ul; /* the server is to tell others */
    index_put(t->index, true);
    for (uint32_t map = lx.live; map && lx.timers; map &= map - 1)
        exo_event_signal(thread_at((uint32_t)__builtin_ctz(map))->event);
    while (!first_ready(t)) {
        if (lx.ending) thread_gone(t);
        event_sleep(LX_EVENTS, 0);
    }
    thread_enter(t);
}

/* The new thread's words for its tid; the tid itself last: it may begin. */
static void thread_tell(const struct thread_wish *wish, struct thread_first *first, int tid)
{
    if (wish->flags & CLONE_PARENT_SETTID) user_put(wish->parent_tid, &tid, sizeof(tid));
    if (wish->flags & CLONE_CHILD_SETTID) user_put(wish->child_tid, &tid, sizeof(tid));
    __atomic_store_n(&first->tid, tid, __ATOMIC_RELEASE);
}

static long thread_make(struct thread_state *t, const struct regs *r,
                        const struct thread_wish *wish)
{
    bool fresh = false;
    if ((wish->flags & THREAD_FLAGS & ~(uint64_t)CLONE_SYSVSEM) !=
            (THREAD_FLAGS & ~(uint64_t)CLONE_SYSVSEM) ||
        wish->flags & ~(uint64_t)(THREAD_FLAGS | THREAD_MAY))
        return -EINVAL;
    if (lx.vfork_child || lx.borrowing) return -EAGAIN; /* the memory is the parent's */
    if (!lx.first) {
        struct thread_first *first = data_alloc(LX_THREADS * sizeof(*first));
        if (!first) return -ENOMEM;
        memset(first, 0, LX_THREADS * sizeof(*first));
        lx.first = first;
    }
    long index = index_take(&fresh);
    if (index < 0) return index;
    struct thread_first *first = &lx.first[index];
    first->regs = *r;
    first->regs.rax = 0;
    first->regs.number = NO_CALL;
    if (wish->stack) first->regs.rsp = wish->stack;
    first->mask = t->mask;
    first->clear_tid = wish->flags & CLONE_CHILD_CLEARTID ? wish->child_tid : 0;
    __asm__ volatile("fnstcw %0; stmxcsr %1; rdfsbase %2"
                     : "=m"(first->control), "=m"(first->mxcsr), "=r"(first->fs));
    if (wish->flags & CLONE_SETTLS) first->fs = wish->tls;
    long tid = fresh ? server(LX_OP_THREAD, (uint64_t)index, LX_START_THREAD, 0)
                     : thread_at((uint32_t)index)->tid;
    if (tid < 0) {
        index_put((uint32_t)index, false);
        return tid;
    }
    thread_tell(wish, first, (int)tid);
    if (!fresh) exo_event_signal(thread_at((uint32_t)index)->event);
    return tid;
}

long sys_clone(struct thread_state *t, struct regs *r)
{
    const struct thread_wish wish = {r->rdi, r->rsi, r->rdx, r->r10, r->r8};
    return wish.flags & CLONE_THREAD ? thread_make(t, r, &wish) : fork_clone(t, r, r);
}

long sys_clone3(struct thread_state *t, struct regs *r)
{
    struct clone_args args;
    if (r->rsi < CLONE_ARGS_SIZE_VER0 || r->rsi > PAGE) return -EINVAL;
    if (user_get(&args, r->rdi, CLONE_ARGS_SIZE_VER0) < 0) return -EFAULT;
    const struct thread_wish wish = {args.flags | args.exit_signal,
                                     args.stack ? args.stack + args.stack_size : 0, args.parent_tid,
                                     args.child_tid, args.tls};
    if (args.flags & CSIGNAL || args.exit_signal & ~(uint64_t)CSIGNAL) return -EINVAL;
    if (wish.flags & CLONE_THREAD) return thread_make(t, r, &wish);
    struct regs as_clone = *r;
    as_clone.rdi = wish.flags;
    as_clone.rsi = wish.stack;
    as_clone.rdx = wish.parent_tid;
    as_clone.r10 = wish.child_tid;
    as_clone.r8 = wish.tls;
    return fork_clone(t, &as_clone, r);
}

long sys_exit(struct thread_state *t, struct regs *r)
{
    if (lx.threads > 1) thread_end(t);
    futex_thread_end(t);
    vfork_back(r->rsp, 0);
    pages_leave();
    long over = server(__NR_exit_group, r->rdi, 0, 0);
    if (lx.borrowing) borrow_end(t);
    return over;
}

long sys_set_tid_address(struct thread_state *t, struct regs *r)
{
    t->clear_tid = r->rdi;
    return t->tid;
}

long leaf_gettid(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    return this_thread()->tid;
}

void thread_check(struct thread_state *t)
{
    if (lx.ending && lx.ending != t->index + 1) {
        timers_orphan(t);
        thread_gone(t);
    }
}

void threads_end_others(struct thread_state *t)
{
    uint32_t own = 1u << t->index;
    if (!(lx.thread_map & ~own)) return;
    lx.ending = t->index + 1;
    for (uint32_t map = lx.thread_map & ~own; map; map &= map - 1)
        exo_event_signal(LX_SEL_THREAD + 4 * (uint32_t)__builtin_ctz(map) + 1); /* start.c */
    while (lx.thread_map & ~own & ~(lx.parked & 1))
        exo_yield();
    lx.ending = 0;
    timers_adopt(t);
}

void threads_forked(void)
{
    lx.parked = lx.ending = 0;
    signals_forked();
    timers_clear(true);
}
