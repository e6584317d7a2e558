/* SPDX-License-Identifier: MIT
 *
 * fork, vfork, and clone where it makes a process. docs/linux.md says how memory is shared.
 * A vfork's child that does not borrow its parent's env (borrow.c) runs in memory lent by its parent,
 * but in an env of its own: what is new in it
 * (pages, areas, the heap's end) it tells the server before it executes or ends (vfork_back,
 * LX_OP_VFORK_BACK); the parent takes it over when it goes on (back_take, struct lx_back). */
#include "library.h"
#include <asm/signal.h>
#include <linux/mman.h>
#include <linux/sched.h>
#include "../../../lib/exo/text.h"

/* A vfork's child forks: what its parent lent it, it only reads from now on. */
static void lent_inherit(void)
{
    for (uint32_t i = 0; i < lx.extents; i++)
        if (lx.extent[i].own == EXTENT_LENT) lx.extent[i].own = EXTENT_INHERITED;
}

/* What the child needs not of our data (LX_OP_FORK): the unused entries of two tables, and of what
 * is behind the second one. */
static uint64_t data_unused(void)
{
    uint32_t vmas = lx.vma == lx.vma_first ? lx.vmas : 0;
    const char *const at[4] = {(char *)&lx.vma_first[vmas], (char *)&lx.vma_first[VMAS],
                               (char *)&lx.extent[lx.extents], (char *)fork_fpu()};
    uint64_t packed = 0;
    for (unsigned i = 4; i--;)
        packed = packed << 16 | ((uint64_t)at[i] - LX_DATA_VA) / 8;
    return packed;
}
_Static_assert(offsetof(__typeof__(lx), vma_first) < offsetof(__typeof__(lx), extent),
               "data_unused");
_Static_assert(offsetof(__typeof__(lx), extent) + sizeof(lx.extent) + 64 >
                   offsetof(__typeof__(lx), fork_fpu),
               "data_unused");
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
    lx.fork_brk = lx.brk;
    __asm__ volatile("rdfsbase %0" : "=r"(lx.fork_fs));
    __asm__ volatile(FPU_CLAIM "xsave %0" : "+m"(*fork_fpu()) : "a"(~0u), "d"(~0u) : "memory");
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

/* ---- what a vfork's child leaves ------------------------------------------------------------- */

static void back_areas(void)
{
    for (uint32_t i = 0; i < lx.vmas; i++) {
        const struct vma *v = &lx.vma[i];
        if (v->flags & VMA_BACK && v->flags & MAP_PRIVATE && v->handle < 0)
            server6(LX_OP_VFORK_BACK, LX_BACK_AREA, v->start, v->end,
                    (uint64_t)(v->flags & ~VMA_BACK) << 3 | v->prot, 0, 0);
    }
    if (lx.brk != lx.fork_brk) server(LX_OP_VFORK_BACK, LX_BACK_BREAK, lx.brk, 0);
}

/* Whether the page is to be the parent's too: not what is below sp, nor what lies outside of all areas
 * (a stage of exec). */
static bool back_wanted(uint64_t va, uint64_t sp)
{
    const struct vma *v = vma_find(va);
    return v && !(v->flags & MAP_SHARED) &&
           !(sp - v->start < v->end - v->start && va + PAGE <= sp - 128);
}

/* Pages in an extent of our own: new, or copied when they were written. */
static long back_pages(const struct extent *e, uint64_t sp)
{
    long r = 0;
    for (struct pages *p = lx.pages_all; p; p = p->after)
        for (unsigned w = 0; w < BLOCK_PAGES / 64; w++)
            for (uint64_t map = p->used[w]; map && r >= 0; map &= map - 1) {
                unsigned i = w * 64 + (unsigned)__builtin_ctzl(map);
                uint64_t va = p->va + i * PAGE;
                if (page_lies_in(p->entry[i], e) && back_wanted(va, sp))
                    r = server(LX_OP_VFORK_BACK, LX_BACK_PAGE, va, p->entry[i] & PG_FRAME);
            }
    return r;
}

void vfork_back(uint64_t sp, uint32_t stage)
{
    long r = 0;
    uint32_t used = 0;
    if (!lx.vfork_child) return;
    back_areas();
    for (uint32_t i = 0; i < lx.extents; i++)
        if (lx.extent[i].own == EXTENT_OWN) used += lx.extent[i].count - lx.extent[i].free;
    if (used == stage) return;
    for (uint32_t i = 0; i < lx.extents && r >= 0; i++)
        if (lx.extent[i].own == EXTENT_OWN && lx.extent[i].free < lx.extent[i].count)
            r = back_pages(&lx.extent[i], sp);
    if (r < 0)
        log_line("vfork: the parent does not get all of its child's new memory (%d)", (int)r);
}

static void back_area(const struct lx_back *b)
{
    const struct vma *behind = vma_after(b->start);
    struct vma vma = {.start = b->start,
                      .end = b->value,
                      .prot = b->flags & 7,
                      .flags = (uint32_t)(b->flags >> 3),
                      .handle = -1};
    if (vma.start >= vma.end || (vma.start | vma.end) % PAGE || vma.end > LX_USER_END) return;
    if (!behind || behind->start >= vma.end) vma_add(&vma);
}

static void back_page(const struct lx_back *b)
{
    const struct vma *vma = vma_find(b->start);
    if (vma && !(vma->flags & MAP_SHARED)) {
        pages_drop(b->start, b->start + PAGE);
        page_note(b->start, (uint32_t)b->value | PG_SWAP);
    } else {
        server(LX_OP_SWAP_FREE, b->value, 0, 0);
    }
}

/* n of them are in the window. */
static void back_take(uint64_t n)
{
    const struct lx_back *b = (const struct lx_back *)this_thread()->window->bytes;
    for (; n--; b++) {
        if (b->kind == LX_BACK_AREA) back_area(b);
        if (b->kind == LX_BACK_PAGE) back_page(b);
        if (b->kind == LX_BACK_BREAK) lx.brk = b->start;
    }
}

/* The parent of a vfork sleeps through its signals: they are taken afterwards. If the child
 * forked, its child sees our pages. */
static void vfork_wait(long pid)
{
    long back;
    while ((back = server(LX_OP_VFORK_WAIT, (uint64_t)pid, 0, 0)) == -LX_WAIT)
        event_sleep(LX_EVENT, 0);
    lock();
    if (back > 0) back_take((uint64_t)back);
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
    if (borrow_may()) return borrow_begin(t, r, 0, SIGCHLD);
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
    if (flags & CLONE_VM && !(flags & ~(uint64_t)(CSIGNAL | CLONE_VM | CLONE_VFORK)) &&
        borrow_may())
        return borrow_begin(t, child, r->rsi, (int)(flags & CSIGNAL));
    lx.fork_tid = flags & CLONE_CHILD_SETTID ? r->r10 : 0;
    lx.fork_clear_tid = flags & CLONE_CHILD_CLEARTID ? r->r10 : 0;
    long pid = fork_locked(t, child, flags & CLONE_VM, r->rsi, (int)(flags & CSIGNAL));
    int tid = (int)pid;
    if (pid > 0 && flags & CLONE_PARENT_SETTID) user_put(r->rdx, &tid, sizeof(tid));
    return pid;
}
