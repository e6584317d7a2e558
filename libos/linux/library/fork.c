/* SPDX-License-Identifier: MIT
 *
 * fork, vfork, and clone where it makes a process. docs/linux.md says how memory is shared. */
#include "library.h"
#include <asm/signal.h>
#include <linux/sched.h>
#include "../../../lib/exo/text.h"

/* A vfork's child forks: what its parent lent it, it only reads from now on. */
static void lent_inherit(void)
{
    for (uint32_t i = 0; i < lx.extents; i++)
        if (lx.extent[i].own == EXTENT_LENT) lx.extent[i].own = EXTENT_INHERITED;
}

/* What the child needs not of our data (LX_OP_FORK): the unused entries of two tables. */
static uint64_t data_unused(void)
{
    const char *const at[4] = {(char *)&lx.vma[lx.vmas], (char *)&lx.vma[VMAS],
                               (char *)&lx.extent[lx.extents], (char *)&lx.extent[LX_EXTENTS]};
    uint64_t packed = 0;
    for (unsigned i = 4; i--;)
        packed = packed << 16 | ((uint64_t)at[i] - LX_DATA_VA) / 8;
    return packed;
}
_Static_assert(offsetof(__typeof__(lx), vma) < offsetof(__typeof__(lx), extent), "data_unused");
_Static_assert(sizeof(lx) <= LX_DATA_CHUNK * PAGE, "in the first chunk");

static long fork_common(struct thread_state *t, struct regs *r, bool vfork, uint64_t stack,
                        int signal)
{
    bool lent = lx.vfork_child;
    lx.fork_regs = *r;
    lx.fork_regs.rax = 0;
    lx.fork_regs.number = NO_CALL;
    if (stack) lx.fork_regs.rsp = stack;
    lx.fork_mask = t->mask;
    lx.fork_altstack = t->altstack;
    __asm__ volatile("rdfsbase %0" : "=r"(lx.fork_fs));
    __asm__ volatile(FPU_CLAIM "xsave %0" : "+m"(lx.fork_fpu) : "a"(~0u), "d"(~0u));
    if (!vfork) pages_protect();
    if (!vfork && lent) lent_inherit();
    lx.vfork_child = vfork;
    uint64_t keep[LX_EXTENTS / 64];
    extents_inherited(keep);
    long pid = server6(LX_OP_FORK, vfork ? LX_FORK_VFORK : 0, lx.data_used, (uint64_t)signal,
                       keep[0], keep[1], data_unused());
    lx.vfork_child = lent;
    return pid;
}

/* The parent of a vfork sleeps through its signals: they are taken afterwards. If the child
 * forked, its child sees our pages. */
static void vfork_wait(long pid)
{
    while (server(LX_OP_VFORK_WAIT, (uint64_t)pid, 0, 0) == -LX_WAIT)
        event_sleep(LX_EVENT, 0);
    lock();
    for (uint32_t i = 0; i < lx.extents; i++)
        if (lx.extent[i].own == EXTENT_OWN && shared->holders[lx.extent[i].id] > 1) {
            pages_protect();
            break;
        }
    unlock();
}

static long fork_locked(struct thread_state *t, struct regs *r, bool vfork, uint64_t stack,
                        int signal)
{
    lock();
    long pid = fork_common(t, r, vfork, stack, signal);
    unlock();
    if (vfork && pid > 0) vfork_wait(pid);
    return pid;
}

long sys_fork(struct thread_state *t, struct regs *r)
{
    lx.fork_tid = lx.fork_clear_tid = 0;
    return fork_locked(t, r, false, 0, SIGCHLD);
}

long sys_vfork(struct thread_state *t, struct regs *r)
{
    lx.fork_tid = lx.fork_clear_tid = 0;
    return fork_locked(t, r, true, 0, SIGCHLD);
}

long fork_clone(struct thread_state *t, const struct regs *r, struct regs *child)
{
    uint64_t flags = r->rdi;
    const uint64_t known = CSIGNAL | CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID |
                           CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    if (flags & ~known || (flags & CLONE_VM && !(flags & CLONE_VFORK))) {
        log_line("clone with flags %lx is not supported", flags);
        return -EINVAL;
    }
    lx.fork_tid = flags & CLONE_CHILD_SETTID ? r->r10 : 0;
    lx.fork_clear_tid = flags & CLONE_CHILD_CLEARTID ? r->r10 : 0;
    long pid = fork_locked(t, child, flags & CLONE_VM, r->rsi, (int)(flags & CSIGNAL));
    int tid = (int)pid;
    if (pid > 0 && flags & CLONE_PARENT_SETTID) user_put(r->rdx, &tid, sizeof(tid));
    return pid;
}
