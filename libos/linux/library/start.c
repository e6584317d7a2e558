/* SPDX-License-Identifier: MIT
 *
 * Where threads begin: the first one of a first process, of a forked one, of one that executes away
 * from its parent's env, and the others. */
#include "library.h"
#include "../../../lib/exo/text.h"

extern const char upcall_entry[];

static struct thread_state *thread_init(struct exo_upcall_page *page)
{
    uint64_t base = (uint64_t)page;
    struct thread_state *t = (struct thread_state *)page->user;
    memset(t, 0, sizeof(*t));
    t->self = t;
    t->stack = base + LX_THREAD_SPAN;
    t->window = (struct lx_window *)(base + LX_THREAD_WINDOW);
    t->index = (uint32_t)((base - LX_THREAD_VA) / LX_THREAD_SPAN);
    t->gate = LX_SEL_THREAD + 4 * t->index;
    t->event = t->gate + 1;
    page->event_mask = 0;
    return t;
}

static void process_init(struct thread_state *t)
{
    lx.pid = (int)t->window->start.pid;
    t->tid = lx.pid;
    lx.threads = 1;
    lx.thread_map = lx.live = 1;
    lx.lock = 0;
    lx.objects = (uint32_t)t->window->start.objects;
    lx.objects_free = (1u << (t->window->start.objects_end - lx.objects)) - 1;
}

/* A page is found by its frame's extent: what was ours is inherited now, or lent. */
static void extents_inherit(void)
{
    uint64_t keep[LX_EXTENTS / 64];
    extents_inherited(keep);
    for (uint32_t i = 0; i < lx.extents; i++) {
        struct extent *e = &lx.extent[i];
        if (!(keep[i / 64] >> i % 64 & 1)) e->own = EXTENT_NONE;
        if (e->own == EXTENT_OWN) e->own = lx.vfork_child ? EXTENT_LENT : EXTENT_INHERITED;
    }
    lx.owned = 0;
    lx.extent_hint = lx.extent_found = 0; /* only entries below lx.extents are copied */
}

static void start_fork(struct thread_state *t)
{
    lx.borrowing = false;
    extents_inherit();
    pages_unbound();
    process_init(t);
    t->mask = lx.fork_mask;
    t->altstack = lx.fork_altstack;
    threads_forked();
    __asm__ volatile("wrfsbase %0" : : "r"(lx.fork_fs));
    __asm__ volatile(FPU_CLAIM "xrstor %0" : : "m"(*fork_fpu()), "a"(~0u), "d"(~0u) : "memory");
    t->clear_tid = lx.fork_clear_tid;
    if (lx.fork_tid) user_put(lx.fork_tid, &t->tid, sizeof(t->tid));
    struct regs r = lx.fork_regs;
    leave(&r);
}

/* Our data begins, in zeroes. */
static void data_init(void)
{
    lx.data_used = (sizeof(lx) + 15) & ~15ul;
    lx.data_end = LX_DATA_CHUNK * PAGE;
    lx.data_chunks = 1;
    lx.vma = lx.vma_first;
    lx.vma_room = VMAS;
}

static void start_exec(struct thread_state *t)
{
    data_init();
    process_init(t);
    exec_first(t);
}

/* In an env that another process may have had: our data begins anew, but for the tables that have
 * no entries then. */
static void start_handed(struct thread_state *t)
{
    memset(&lx, 0, offsetof(__typeof__(lx), vma_first));
    memset(&lx.vmas, 0, offsetof(__typeof__(lx), extent) - offsetof(__typeof__(lx), vmas));
    memset(&lx.extent_hint, 0, sizeof(lx) - offsetof(__typeof__(lx), extent_hint));
    data_init();
    process_init(t);
    exec_handed(t);
}

void thread_start(uint64_t word, struct exo_upcall_page *page)
{
    struct thread_state *t = thread_init(page);
    if (word == LX_START_FORK)
        start_fork(t);
    else if (word == LX_START_EXEC)
        start_exec(t);
    else if (word == LX_START_HANDED)
        start_handed(t);
    else
        thread_begin(t);
}
