/* SPDX-License-Identifier: MIT
 *
 * vfork in a process of one thread: the child is the same thread, in the same env; only the server
 * takes it for another process (server/process/borrow.h). Memory is the parent's own. What the
 * library knows of a process that is not memory (identity, mask, alternate stack, lists of mutexes;
 * actions, limits and the like, kept when the child is about to change them) is put back when the
 * child ends or has begun in an env of its own, and the parent returns from its call: struct borrow.
 *
 * Not with timers, which would come to the child, nor with signals that wait in the library: then
 * the child is lent memory in another env (fork.c). */
#include "library.h"
#include "near.h"
#include "../../../lib/exo/text.h"

struct kept {
    struct lx_sigaction action[SIGNALS];
    uint64_t actions_set, ignored, allotment;
    uint64_t limit[16][2];
    uint32_t limits_set, policy;
    int priority;
};

struct borrow {
    struct regs regs;
    uint64_t fs, mask, clear_tid, robust_list;
    struct sigstack altstack;
    int pid;
    bool changed; /* `kept` is what is the parent's */
    struct kept *kept; /* NULL: was never needed */
    uint8_t *fpu; /* XSAVE's area */
};

bool borrow_may(void)
{
    return lx.thread_map == 1 && !lx.vfork_child && !lx.borrowing && timers_none() &&
           signals_quiet();
}

static struct borrow *borrow_make(void)
{
    struct borrow *b = data_alloc(sizeof(*b) + xsave_size() + 63);
    if (!b) return NULL;
    b->kept = NULL;
    b->fpu = (uint8_t *)(((uint64_t)(b + 1) + 63) & -64ul);
    memset(b->fpu, 0, xsave_size());
    return b;
}

long borrow_begin(struct thread_state *t, struct regs *r, uint64_t stack, int signal)
{
    if (!lx.borrow && !(lx.borrow = borrow_make())) return -ENOMEM;
    struct borrow *b = lx.borrow;
    b->regs = *r;
    b->mask = t->mask;
    b->clear_tid = t->clear_tid;
    b->robust_list = t->robust_list;
    b->altstack = t->altstack;
    b->pid = lx.pid;
    b->changed = false;
    __asm__ volatile("rdfsbase %0" : "=r"(b->fs));
    __asm__ volatile(FPU_CLAIM "xsave %0" : "+m"(*b->fpu) : "a"(~0u), "d"(~0u) : "memory");
    long pid = server(LX_OP_FORK, LX_FORK_BORROW, 0, (uint64_t)signal);
    if (pid < 0) return pid;
    b->regs.rax = (uint64_t)pid;
    b->regs.number = NO_CALL;
    lx.pid = t->tid = (int)pid;
    lx.borrowing = true;
    t->clear_tid = t->robust_list = 0;
    if (stack) r->rsp = stack;
    return 0;
}

bool borrow_keep_all(void)
{
    struct borrow *b = lx.borrow;
    if (b->changed) return true;
    if (!b->kept && !(b->kept = data_alloc(sizeof(*b->kept)))) return false;
    struct kept *kept = b->kept;
    memcpy(kept->action, lx.action, sizeof(kept->action));
    memcpy(kept->limit, lx.limit, sizeof(kept->limit));
    kept->actions_set = lx.actions_set;
    kept->ignored = lx.ignored;
    kept->allotment = lx.replace.allotment;
    kept->limits_set = lx.limits_set;
    kept->policy = lx.replace.policy;
    kept->priority = lx.priority;
    return b->changed = true;
}

static void kept_back(const struct kept *kept)
{
    memcpy(lx.action, kept->action, sizeof(kept->action));
    memcpy(lx.limit, kept->limit, sizeof(kept->limit));
    lx.actions_set = kept->actions_set;
    lx.ignored = kept->ignored;
    lx.replace.allotment = kept->allotment;
    lx.limits_set = kept->limits_set;
    lx.replace.policy = kept->policy;
    lx.priority = kept->priority;
}

void borrow_end(struct thread_state *t)
{
    const struct borrow *b = lx.borrow;
    struct regs r = b->regs;
    if (b->changed) kept_back(b->kept);
    lx.borrowing = false;
    lx.pid = t->tid = b->pid;
    t->clear_tid = b->clear_tid;
    t->robust_list = b->robust_list;
    t->altstack = b->altstack;
    t->restore_mask = t->waited = false;
    t->pin_start = t->pin_end = 0;
    t->absent.names = 0;
    near_forget(t);
    timers_clear(true);
    signals_forked();
    signals_mask(t, b->mask);
    event_keep(t);
    __asm__ volatile("wrfsbase %0" : : "r"(b->fs));
    __asm__ volatile(FPU_CLAIM "xrstor %0" : : "m"(*b->fpu), "a"(~0u), "d"(~0u) : "memory");
    leave(&r);
}
