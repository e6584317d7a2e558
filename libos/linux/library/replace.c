/* SPDX-License-Identifier: MIT
 *
 * Page replacement. Private pages of the process go to the server's swap store, by an order that
 * the program chose, when it has more frames in use than it is allotted (RLIMIT_RSS), when there
 * are no more to be had, and when the server asks for some back. What the server gets back are
 * whole extents: pages that stay are moved out of them first.
 *
 * A page that was given up has PG_SWAP and the number of its slot in its entry; number 0: its
 * frame was taken by force, and whoever touches it gets SIGBUS. Whether a page was used is known
 * by unbinding it: then the next use is a fault (struct pages: bound).
 *
 * Pages that a thread's buffer lies on stay while the server may read or write there
 * (thread_state: pin_start, pin_end), those being rewritten too, and those locked by mlock. */
#include "replace.h"
#include "library.h"
#include <linux/mman.h>
#include <linux/resource.h>
#include "../../../lib/exo/text.h"

#define KEEP 8u /* pages that came last stay: one instruction may need several */
#define SLICE 64 /* pages that make room at once */
#define INHERITED_GO 16 /* extents at once ... */
#define CHOSEN UINT32_MAX /* ... in place of the number of pages in it */
#define ITEM_UNIT 16
#define BEHIND 64 /* pages behind a fault that are looked at */

static inline struct pages *item_pages(uint32_t item)
{
    return (struct pages *)(LX_DATA_VA + (uint64_t)(item / BLOCK_PAGES) * ITEM_UNIT);
}

/* ---- which page may go -------------------------------------------------------------------- */

enum page_state { PAGE_OTHER, PAGE_STAYS, PAGE_GOES };

bool page_pinned(uint64_t va)
{
    for (uint32_t map = lx.live; map; map &= map - 1) {
        const struct thread_state *t = thread_at((uint32_t)__builtin_ctz(map));
        if (va + PAGE > t->pin_start && va < t->pin_end) return true;
    }
    return false;
}

/* Somebody is about to use the frame that lies there, or it is on a stage of exec. */
static bool page_busy(uint64_t va, const struct vma *vma)
{
    bool faulting = va - lx.replace.faulting < REPLACE_FAULT * PAGE;
    return !vma || faulting || page_pinned(va);
}

/* PAGE_OTHER: nothing of ours alone lies there, or on a stage of exec. */
static enum page_state page_state(const struct pages *p, unsigned i)
{
    uint32_t entry = p->entry[i];
    uint64_t va = p->va + i * PAGE;
    if (!entry || entry & (PG_FILE | PG_SHARED | PG_SWAP)) return PAGE_OTHER;
    const struct extent *e = extent_of(entry & PG_FRAME);
    if (!e || (e->own != EXTENT_OWN && e->own != EXTENT_LEAVING) || shared->holders[e->id] != 1)
        return PAGE_OTHER;
    const struct vma *vma = vma_find(va);
    if (!vma) return PAGE_OTHER;
    return vma->flags & VMA_LOCKED || page_busy(va, vma) ? PAGE_STAYS : PAGE_GOES;
}

/* ---- the ring -------------------------------------------------------------------------------- */

enum replace_policy replace_policy_of(const char *name)
{
    static const char *const names[REPLACE_POLICIES] = {"clock", "fifo", "mru", "random"};
    unsigned i = 0;
    while (i < REPLACE_POLICIES && strcmp(name, names[i]) != 0)
        i++;
    return (enum replace_policy)i;
}

static uint32_t *ring_at(struct replace_ring *ring, uint32_t place)
{
    return &ring->item[(ring->first + place) % REPLACE_RING];
}

void replace_came(struct pages *p, unsigned i)
{
    struct replace_ring *ring = lx.replace.ring;
    uint64_t bit = 1ul << i % 64;
    if (p->listed[i / 64] & bit || ring->count == REPLACE_RING) return;
    p->listed[i / 64] |= bit;
    *ring_at(ring, ring->count++) =
        (uint32_t)(((uint64_t)p - LX_DATA_VA) / ITEM_UNIT) * BLOCK_PAGES + i;
}

/* Pages that the ring does not know: there before it was, or when it was full. */
static void ring_fill(void)
{
    for (struct pages *p = lx.pages_all; p; p = p->after)
        for (unsigned i = 0; i < BLOCK_PAGES; i++)
            if (page_state(p, i) != PAGE_OTHER) replace_came(p, i);
}

static bool ring_make(void)
{
    if (lx.replace.ring) return true;
    struct replace_ring *ring = data_alloc(sizeof(*ring));
    if (!ring) return false;
    ring->first = ring->count = 0;
    lx.replace.ring = ring;
    ring_fill();
    return true;
}

/* Takes one out, by the policy; there are more than KEEP. */
static uint32_t ring_take(struct replace_ring *ring)
{
    uint32_t item = *ring_at(ring, 0);
    if (lx.replace.policy == REPLACE_MRU) {
        uint32_t at = --ring->count - KEEP;
        item = *ring_at(ring, at);
        for (; at < ring->count; at++)
            *ring_at(ring, at) = *ring_at(ring, at + 1);
        return item;
    }
    if (lx.replace.policy == REPLACE_RANDOM) {
        uint32_t *any = ring_at(ring, (uint32_t)(random_word() % (ring->count - KEEP)));
        item = *any;
        *any = *ring_at(ring, 0);
    }
    ring->first++;
    ring->count--;
    return item;
}

/* One that must stay now: behind all others. */
static void ring_return(struct replace_ring *ring, struct pages *p, unsigned i, uint32_t item)
{
    if (lx.replace.policy != REPLACE_MRU) {
        replace_came(p, i);
        return;
    }
    p->listed[i / 64] |= 1ul << i % 64;
    ring->first--;
    ring->count++;
    *ring_at(ring, 0) = item;
}

/* The page that is to go next; false: there is none. */
static bool ring_choose(struct pages **pages, unsigned *index)
{
    struct replace_ring *ring = lx.replace.ring;
    if (ring->count <= KEEP) ring_fill();
    for (uint32_t tries = 2 * ring->count; tries && ring->count > KEEP; tries--) {
        uint32_t item = ring_take(ring);
        struct pages *p = item_pages(item);
        unsigned i = item % BLOCK_PAGES;
        uint64_t bit = 1ul << i % 64;
        p->listed[i / 64] &= ~bit;
        enum page_state state = page_state(p, i);
        bool used = lx.replace.policy == REPLACE_CLOCK && p->bound[i / 64] & bit;
        if (state == PAGE_OTHER) continue;
        if (state == PAGE_STAYS || used) {
            if (state == PAGE_GOES) page_unmap(p->va + i * PAGE);
            ring_return(ring, p, i, item);
            continue;
        }
        *pages = p;
        *index = i;
        return true;
    }
    return false;
}

/* ---- giving pages up ---------------------------------------------------------------------------- */

static bool page_out(struct pages *p, unsigned i)
{
    uint64_t va = p->va + i * PAGE;
    uint32_t frame = p->entry[i] & PG_FRAME;
    page_unmap(va); /* nobody writes it any more */
    long slot = server(LX_OP_SWAP_OUT, frame, 0, 0);
    if (slot <= 0) return false;
    page_note(va, (uint32_t)slot | PG_SWAP);
    frame_free(frame);
    return true;
}

/* A program that faults where it said that it goes through its memory once (MADV_SEQUENTIAL): the
 * page behind it, but one, which an instruction may lie across. */
static bool behind_choose(struct pages **pages, unsigned *index)
{
    uint64_t at = lx.replace.faulting;
    const struct vma *vma = at ? vma_find(at) : NULL;
    if (!vma || !(vma->flags & VMA_SEQUENTIAL)) return false;
    for (uint64_t k = 2; k < BEHIND && at - vma->start >= k * PAGE; k++) {
        *pages = pages_at(at - k * PAGE, false);
        *index = (at - k * PAGE) / PAGE % BLOCK_PAGES;
        if (*pages && page_state(*pages, *index) == PAGE_GOES) return true;
    }
    return false;
}

uint64_t replace_evict(uint64_t n)
{
    struct pages *p;
    unsigned i;
    uint64_t done = 0;
    if (lx.vfork_child || !ring_make()) return 0;
    while (done < n && (behind_choose(&p, &i) || ring_choose(&p, &i))) {
        if (!page_out(p, i)) {
            replace_came(p, i);
            break;
        }
        done++;
    }
    return done;
}

void replace_range(uint64_t va, uint64_t end)
{
    for (; (va = page_next(va, end)) < end; va += PAGE) {
        struct pages *p = pages_at(va, false);
        if (page_state(p, va / PAGE % BLOCK_PAGES) == PAGE_GOES)
            page_out(p, va / PAGE % BLOCK_PAGES);
    }
}

static uint64_t frames_used(void)
{
    uint64_t used = lx.owned;
    for (uint32_t i = 0; i < lx.extents; i++)
        if (lx.extent[i].own == EXTENT_OWN) used -= lx.extent[i].free;
    return used;
}

uint64_t replace_room(void)
{
    if (!lx.replace.allotment) return UINT64_MAX;
    uint64_t used = frames_used();
    return used < lx.replace.allotment ? lx.replace.allotment - used : 0;
}

/* ---- giving extents back -------------------------------------------------------------------------- */

/* The page's contents move into that frame of another extent. */
static bool page_shift(struct pages *p, unsigned i, uint32_t frame)
{
    uint64_t va = p->va + i * PAGE;
    uint32_t entry = p->entry[i];
    page_unmap(va);
    if (server(LX_OP_COPY, entry & PG_FRAME, frame, 1) < 0) {
        frame_free(frame);
        return false;
    }
    p->entry[i] = frame | (entry & PG_W);
    frame_free(entry & PG_FRAME);
    return true;
}

static bool page_move(struct pages *p, unsigned i)
{
    uint32_t frame = frame_spare();
    return frame && page_shift(p, i, frame);
}

static bool extent_move(const struct extent *e)
{
    for (struct pages *p = lx.pages_all; p; p = p->after)
        for (unsigned i = 0; i < BLOCK_PAGES; i++)
            if (page_lies_in(p->entry[i], e) && (page_state(p, i) != PAGE_GOES || !page_move(p, i)))
                return false;
    return e->free == e->count;
}

/* Nothing lies in it afterwards; nothing is allocated from it meanwhile (EXTENT_LEAVING). */
static bool extent_vacate(const struct extent *e)
{
    for (;;) {
        uint64_t need = e->count - e->free, room = 0;
        for (uint32_t i = 0; i < lx.extents; i++)
            if (lx.extent[i].own == EXTENT_OWN && shared->holders[lx.extent[i].id] == 1)
                room += lx.extent[i].free;
        if (need <= room) return extent_move(e);
        if (!replace_evict(need - room < SLICE ? need - room : SLICE)) return false;
    }
}

static struct extent *extent_emptiest(const uint64_t tried[LX_EXTENTS / 64])
{
    struct extent *best = NULL;
    for (uint32_t i = 0; i < lx.extents; i++) {
        struct extent *e = &lx.extent[i];
        if (e->own != EXTENT_OWN || shared->holders[e->id] != 1 || tried[i / 64] >> i % 64 & 1)
            continue;
        if (!best || e->count - e->free < best->count - best->free) best = e;
    }
    return best;
}

static void extents_give(uint64_t want)
{
    uint64_t tried[LX_EXTENTS / 64] = {0}, given = 0;
    while (given < want) {
        struct extent *e = extent_emptiest(tried);
        if (!e) return;
        uint32_t i = (uint32_t)(e - lx.extent);
        tried[i / 64] |= 1ul << i % 64;
        e->own = EXTENT_LEAVING;
        if (extent_vacate(e) && server(LX_OP_GIVE, i, 0, 0) >= 0) {
            e->own = EXTENT_NONE;
            lx.owned -= e->count;
            given += e->count;
        } else {
            e->own = EXTENT_OWN;
        }
    }
}

void replace_allot(uint64_t bytes)
{
    uint64_t frames = bytes == RLIM_INFINITY ? 0 : bytes / PAGE;
    if (bytes != RLIM_INFINITY && frames < REPLACE_MIN) frames = REPLACE_MIN;
    lock();
    lx.replace.allotment = frames;
    uint64_t used = frames_used();
    if (frames && used > frames) replace_evict(used - frames);
    if (frames && lx.owned > frames) extents_give(lx.owned - frames);
    unlock();
}

/* ---- what the server wants ---------------------------------------------------------------------------- */

/* A frame for what lies in an extent that is to be emptied: of another one, if need be a new one
 * that nobody is asked to make room for; 0: there is none. */
static uint32_t frame_elsewhere(const struct extent *e)
{
    uint32_t frame = frame_spare();
    return frame || extent_grow(e->count) < 0 ? frame : frame_spare();
}

/* It could not be emptied as long as somebody waits: to be tried again (server_wait). */
static void window_want(const struct extent *e)
{
    struct lx_window *window = process_window();
    uint32_t i = (uint32_t)(e - lx.extent);
    __atomic_fetch_or(&window->start.wanted[i / 64], 1ul << i % 64, __ATOMIC_RELAXED);
    __atomic_fetch_or(&window->start.asked, LX_WANTED, __ATOMIC_RELEASE);
}

/* This very extent is wanted: what lies in it moves, or goes to the swap store. False: not all. */
static bool extent_clear(const struct extent *e)
{
    for (struct pages *p = lx.pages_all; p; p = p->after)
        for (unsigned i = 0; i < BLOCK_PAGES; i++) {
            if (!page_lies_in(p->entry[i], e)) continue;
            uint64_t va = p->va + i * PAGE;
            if (page_pinned(va)) window_want(e);
            if (page_busy(va, vma_find(va))) return false;
            uint32_t frame = frame_elsewhere(e);
            if (frame ? !page_shift(p, i, frame) : page_state(p, i) != PAGE_GOES || !page_out(p, i))
                return false;
        }
    return true;
}

static void extent_wanted(uint32_t i)
{
    struct extent *e = &lx.extent[i];
    if (e->own == EXTENT_OWN && shared->holders[e->id] == 1)
        e->own = EXTENT_LEAVING;
    else if (e->own != EXTENT_INHERITED)
        return;
    bool own = e->own == EXTENT_LEAVING;
    if (extent_clear(e) && server(LX_OP_GIVE, i, 0, 0) >= 0) {
        e->own = EXTENT_NONE;
        if (own) lx.owned -= e->count;
    } else if (own) {
        e->own = EXTENT_OWN;
    }
}

/* Pages that lie in each extent. */
static void extents_count(uint32_t lying[LX_EXTENTS])
{
    memset(lying, 0, LX_EXTENTS * sizeof(lying[0]));
    for (struct pages *p = lx.pages_all; p; p = p->after)
        for (unsigned w = 0; w < BLOCK_PAGES / 64; w++)
            for (uint64_t map = p->used[w]; map; map &= map - 1) {
                uint32_t entry = p->entry[w * 64 + (unsigned)__builtin_ctzl(map)];
                const struct extent *e =
                    entry & (PG_FILE | PG_SHARED | PG_SWAP) ? NULL : extent_of(entry & PG_FRAME);
                if (e) lying[e - lx.extent]++;
            }
}

/* That with the least in it of those that were inherited; LX_EXTENTS: there is none. */
static uint32_t inherited_emptiest(const uint32_t lying[LX_EXTENTS])
{
    uint32_t best = LX_EXTENTS;
    for (uint32_t i = 0; i < lx.extents; i++)
        if (lx.extent[i].own == EXTENT_INHERITED && lying[i] != CHOSEN &&
            (best == LX_EXTENTS || lying[i] < lying[best]))
            best = i;
    return best;
}

void replace_inherited(void)
{
    uint32_t lying[LX_EXTENTS], give[INHERITED_GO], n = 0, pages = 0;
    if (lx.vfork_child || lx.replace.answering) return;
    lx.replace.answering = true;
    extents_count(lying);
    while (n < INHERITED_GO) {
        uint32_t i = inherited_emptiest(lying);
        if (i == LX_EXTENTS || pages + lying[i] > LX_EXTENT_MAX) break;
        pages += lying[i];
        lying[i] = CHOSEN;
        give[n++] = i;
    }
    if (n == 1 && pages) n = 0; /* to copy one into another wins nothing */
    if (n && pages) extent_grow(pages);
    while (n--)
        extent_wanted(give[n]);
    lx.replace.answering = false;
}

/* All on an extent that was taken by force is lost; where it was a file's, which has become
 * shorter, a fault finds what there is now. */
static void extent_lost(uint32_t i)
{
    struct extent *e = &lx.extent[i];
    bool file = e->own == EXTENT_FILE;
    if (!e->own) return;
    for (struct pages *p = lx.pages_all; p; p = p->after)
        for (unsigned k = 0; k < BLOCK_PAGES; k++) {
            if (!(file ? page_shared_in(p->entry[k], e) : page_lies_in(p->entry[k], e))) continue;
            page_unmap(p->va + k * PAGE);
            page_note(p->va + k * PAGE, file ? 0 : PG_SWAP);
        }
    if (e->own == EXTENT_OWN || e->own == EXTENT_LEAVING) lx.owned -= e->count;
    e->own = EXTENT_NONE;
}

/* What the server wants, or took, by the bits of a word each. */
static void bits_each(uint64_t *words, void (*each)(uint32_t i))
{
    for (uint32_t w = 0; w < LX_EXTENTS / 64; w++)
        for (uint64_t bits = __atomic_exchange_n(&words[w], 0, __ATOMIC_ACQUIRE); bits;
             bits &= bits - 1)
            each(w * 64 + (uint32_t)__builtin_ctzl(bits));
}

void replace_answer(void)
{
    struct lx_window *window = process_window();
    if (lx.replace.answering) return;
    lx.replace.answering = true;
    uint64_t asked = __atomic_exchange_n(&window->start.asked, 0, __ATOMIC_ACQUIRE);
    if (asked & LX_TAKEN) bits_each(window->start.taken, extent_lost);
    if (asked & LX_WANTED && !lx.vfork_child) bits_each(window->start.wanted, extent_wanted);
    if (asked & ~LX_ASKED_FLAGS && !lx.vfork_child) extents_give(asked & ~LX_ASKED_FLAGS);
    lx.replace.answering = false;
}

void replace_look(void)
{
    lock();
    replace_answer();
    unlock();
}

void pins_move(struct thread_state *t)
{
    t->pin_start = t->pin_end = 0;
    replace_look();
}

void replace_clear(uint32_t policy)
{
    if (lx.replace.ring) lx.replace.ring->count = 0;
    for (struct pages *p = lx.pages_all; p; p = p->after)
        memset(p->listed, 0, sizeof(p->listed));
    lx.replace.majors = 0;
    lx.replace.policy = policy;
}
