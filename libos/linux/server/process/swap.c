/* SPDX-License-Identifier: MIT
 *
 * The swap store: what processes' libraries gave up of their memory (library/replace.c), page by
 * page, in pages of page_new, a quarter of them at most. A page of zeroes needs none. A slot
 * belongs to the process that filled it, and to its children since; the last one that has it
 * back, or drops it, empties it.
 *
 * Memory that is asked back: when there is none for a process, the one that has most for itself
 * is told how much it is to give (lx_window.start.asked); which pages and which extents, is its
 * library's choice. One is asked at a time. After LX_ASK_US what is missing is taken by force,
 * and it is told what went. Nobody is asked for more than the store has room for.
 *
 * What a vfork's child leaves to its parent goes this way too (LX_OP_VFORK_BACK, struct lx_back):
 * its new pages into slots of the parent's, LX_BACK_MAX of them with areas at most. */
#include "swap.h"
#include "memory.h"
#include "process.h"

#define SLOTS 16384 /* 64 MiB */
#define SLOTS_SURE 64 /* of a process */
#define ASK_LEAST 128 /* frames: asked for at once */

struct slot {
    uint32_t frame; /* 0: the page is all zeroes */
    uint32_t next; /* free: the next one */
    uint64_t held[LX_PROCESSES / 64]; /* by whom, a bit each */
};
static struct slot slots[SLOTS]; /* number 0 is none */
static uint32_t slot_free;
static uint64_t pages_max, pages_used;
static uint32_t slots_free; /* how many */

static struct {
    const struct process *process; /* NULL: nobody */
    uint32_t frames; /* that it has still to give */
    uint64_t deadline; /* time_boot */
} asked;

void swap_init(void)
{
    uint64_t all, unused;
    page_count(&all, &unused);
    pages_max = EXO_MIN(all / 4, SLOTS - 1);
    for (uint32_t i = SLOTS - 1; i; i--) {
        slots[i].next = slot_free;
        slot_free = i;
        slots_free++;
    }
}

void swap_count(uint64_t *all, uint64_t *used)
{
    *all = pages_max;
    *used = pages_used;
}

uint64_t swap_room(void)
{
    uint64_t all, unused;
    page_count(&all, &unused);
    return EXO_MIN(pages_max - pages_used, unused);
}

uint32_t swap_held(const struct process *p) { return p->memory->swapped; }

/* ---- slots --------------------------------------------------------------------------------- */

static struct slot *slot_of(const struct process *p, uint64_t i)
{
    unsigned at = memory_place(p);
    return i && i < SLOTS && slots[i].held[at / 64] >> at % 64 & 1 ? &slots[i] : NULL;
}

static void slot_hold(struct slot *slot, struct process *p)
{
    slot->held[memory_place(p) / 64] |= 1ul << memory_place(p) % 64;
    p->memory->swapped++;
}

static void slot_drop(struct slot *slot, struct process *p)
{
    uint64_t left = 0;
    slot->held[memory_place(p) / 64] &= ~(1ul << memory_place(p) % 64);
    p->memory->swapped--;
    for (unsigned w = 0; w < EXO_COUNT(slot->held); w++)
        left |= slot->held[w];
    if (left) return;
    if (slot->frame) {
        page_free(slot->frame);
        pages_used--;
    }
    slot->frame = 0;
    slots_free++;
    slot->next = slot_free;
    slot_free = (uint32_t)(slot - slots);
}

static bool all_zero(const uint64_t *words)
{
    for (unsigned i = 0; i < EXO_PAGE / 8; i++)
        if (words[i]) return false;
    return true;
}

/* Nobody gets more than a part of what he leaves; all can have a few. */
static bool slot_fair(const struct process *p)
{
    uint64_t left = EXO_MIN(slots_free, pages_max - pages_used);
    return p->memory->swapped < SLOTS_SURE || p->memory->swapped < 4 * left;
}

/* The page's contents, as process `for_whom` is to find them: the slot. */
static long slot_fill(const struct process *p, uint64_t page, struct process *for_whom)
{
    if (!frames_allowed(p, page, page, false)) return -EFAULT;
    const void *from = frame_data((uint32_t)page);
    uint32_t i = slot_free, frame = 0;
    if (!i || !slot_fair(for_whom)) return -ENOMEM;
    if (!all_zero(from)) {
        frame = pages_used < pages_max ? page_new() : 0;
        if (!frame) return -ENOMEM;
        pages_used++;
        memcpy(page_data(frame), from, EXO_PAGE);
    }
    slot_free = slots[i].next;
    slots_free--;
    slots[i].frame = frame;
    slot_hold(&slots[i], for_whom);
    return i;
}

long op_swap_out(struct thread *thread, const uint64_t a[6])
{
    return slot_fill(thread->process, a[0], thread->process);
}

long op_swap_in(struct thread *thread, const uint64_t a[6])
{
    struct slot *slot = slot_of(thread->process, a[0]);
    if (!slot) return -EINVAL;
    if (!frames_allowed(thread->process, a[1], a[1], true)) return -EFAULT;
    if (slot->frame)
        memcpy(frame_data((uint32_t)a[1]), page_data(slot->frame), EXO_PAGE);
    else
        memset(frame_data((uint32_t)a[1]), 0, EXO_PAGE);
    slot_drop(slot, thread->process);
    return 0;
}

long op_swap_free(struct thread *thread, const uint64_t a[6])
{
    struct slot *slot = slot_of(thread->process, a[0]);
    if (!slot) return -EINVAL;
    slot_drop(slot, thread->process);
    return 0;
}

void swap_fork(struct process *parent, struct process *child)
{
    for (uint32_t i = 1, left = parent->memory->swapped; left; i++) {
        if (!slot_of(parent, i)) continue;
        slot_hold(&slots[i], child);
        left--;
    }
}

void swap_end(struct process *p)
{
    if (asked.process == p) asked.process = NULL;
    free(p->memory->back);
    p->memory->back = NULL;
    p->memory->backs = 0;
    for (uint32_t i = 1; p->memory->swapped; i++)
        if (slot_of(p, i)) slot_drop(&slots[i], p);
}

/* ---- what a vfork's child leaves ---------------------------------------------------------------- */

long op_vfork_back(struct thread *thread, const uint64_t a[6])
{
    struct process *lender = thread->process->lender;
    struct lx_back back = {a[0], a[1], a[2], a[3]};
    if (!lender || !process_alive(lender)) return -EINVAL;
    struct process_memory *m = lender->memory;
    if (!m->back && !(m->back = malloc(LX_BACK_MAX * sizeof(back)))) return -ENOMEM;
    if (m->backs == LX_BACK_MAX) return -ENOMEM;
    if (back.kind == LX_BACK_PAGE) {
        long slot = slot_fill(thread->process, back.value, lender);
        if (slot < 0) return slot;
        back.value = (uint64_t)slot;
    }
    m->back[m->backs++] = back;
    return 0;
}

long swap_back_take(struct thread *thread)
{
    struct process_memory *m = thread->process->memory;
    uint32_t n = m->backs;
    if (n) window_put(thread, 0, m->back, n * sizeof(*m->back));
    m->backs = 0;
    free(m->back);
    m->back = NULL;
    return n;
}

/* ---- asking ------------------------------------------------------------------------------------ */

/* One that runs in its parent's memory, or whose child does, cannot move its pages. */
static bool lends(const struct process *p)
{
    bool lends = p->vfork;
    for (const struct process *c = p->child; c; c = c->sibling)
        lends |= c->vfork;
    return lends;
}

/* Who has most for himself, and how much. */
static struct process *richest(uint32_t *frames)
{
    struct process *best = NULL;
    *frames = 0;
    for (unsigned i = 0; i < LX_PROCESSES; i++) {
        struct process *p = &processes[i];
        uint32_t own = process_alive(p) && !lends(p) ? extents_private(p) : 0;
        if (own <= *frames) continue;
        best = p;
        *frames = own;
    }
    return best;
}

void process_ask(struct process *p, uint64_t what)
{
    uint64_t *asked = &process_window(p)->start.asked;
    if (!(what & LX_ASKED_FLAGS)) __atomic_fetch_and(asked, LX_ASKED_FLAGS, __ATOMIC_RELAXED);
    __atomic_fetch_or(asked, what, __ATOMIC_RELEASE);
    if (p->borrower) p = p->borrower;
    for (uint32_t i = 0; i < LX_THREADS; i++)
        if (p->threads[i]) thread_wake(p->threads[i]);
}

static void ask(struct process *p, uint32_t frames)
{
    asked.process = p;
    asked.frames = frames;
    asked.deadline = time_boot() + LX_ASK_US * 1000ul;
    process_ask(p, frames);
}

/* The deadline has passed. */
static void take(struct process *p)
{
    uint32_t frames = extents_take(p, asked.frames);
    log_line("%s[%d]: asked for memory, did not give %u pages in time: %u were taken", p->name,
             p->pid, asked.frames, frames);
    asked.process = NULL;
}

long memory_ask(const struct process *p, uint32_t frames)
{
    uint32_t most;
    if (asked.process == memory_owner(p)) return -ENOMEM; /* it has too much itself */
    if (asked.process) {
        if (time_boot() < asked.deadline) return -EAGAIN;
        take(&processes[memory_place(asked.process)]);
        return 0;
    }
    struct process *from = richest(&most);
    uint32_t own = extents_private(p), want = frames > ASK_LEAST ? frames : ASK_LEAST;
    if (!from || from == p || most < own + 2 * want) return -ENOMEM;
    if (pages_max - pages_used < want) return -ENOMEM;
    ask(from, want);
    return -EAGAIN;
}

void memory_given(const struct process *p, uint32_t frames)
{
    if (asked.process != memory_owner(p)) return;
    if (frames < asked.frames)
        asked.frames -= frames;
    else
        asked.process = NULL;
}
