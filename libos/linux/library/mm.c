/* SPDX-License-Identifier: MIT
 *
 * The process's memory: extents that the server gave, frames out of them, what lies on
 * which page, and the areas of the address space. docs/linux.md says how fork works with
 * it. Under the lock where there are several threads. */
#include "library.h"
#include <linux/mman.h>
#include "../../../lib/exo/text.h"

#define FIRST_EXTENT LX_EXTENT_FEW /* frames */
#define OBJECTS_FIRST 16 /* frames of the first extent for page tables; and at most */
#define OBJECTS_MAX 64
#define GAP 6
#define EVICTED 8 /* pages that go when no memory is to be had */

/* ---- extents and frames ---------------------------------------------------------------- */

struct extent *extent_of(uint32_t frame)
{
    struct extent *last = &lx.extent[lx.extent_found];
    if (last->own && frame - last->first < last->count) return last;
    for (uint32_t i = 0; i < lx.extents; i++) {
        struct extent *e = &lx.extent[i];
        if (!e->own || frame - e->first >= e->count) continue;
        lx.extent_found = i;
        return e;
    }
    return NULL;
}

/* The first selector that has none. */
static uint32_t extent_place(void)
{
    uint32_t i = 0;
    while (i < lx.extents && lx.extent[i].own)
        i++;
    return i;
}

long extent_get(uint32_t frames, unsigned purpose)
{
    if (process_window()->start.asked) replace_answer();
    uint32_t i = extent_place();
    if (i >= LX_EXTENTS - 2) { /* what is copied for another one may need a place, too */
        replace_inherited();
        i = extent_place();
    }
    if (i == LX_EXTENTS) return -ENOMEM;
    uint64_t told;
    long first;
    const uint64_t a[4] = {frames, i, purpose, 0};
    while ((first = server_aside(LX_OP_EXTENT, a, &told, sizeof(told))) == -EAGAIN)
        exo_yield(); /* somebody else was asked to give some back */
    if (first < 0) return first;
    if (purpose == LX_FOR_MEMORY && told >> 32 < frames) frames = (uint32_t)(told >> 32);
    struct extent *e = &lx.extent[i];
    *e = (struct extent){.first = (uint32_t)first,
                         .count = frames,
                         .id = (uint16_t)told,
                         .own = purpose == LX_FOR_MEMORY    ? EXTENT_OWN
                                : purpose == LX_FOR_OBJECTS ? EXTENT_OBJECTS
                                                            : EXTENT_SHARED,
                         .free = frames};
    if (i >= lx.extents) lx.extents = i + 1;
    return i;
}

/* The first free frames that lie in a row, at most *n: *n is how many. */
static uint32_t extent_take(struct extent *e, uint32_t *n)
{
    for (unsigned w = 0; w * 64 < e->count; w++) {
        uint64_t free = ~e->used[w];
        if (!free) continue;
        unsigned low = (unsigned)__builtin_ctzl(free), bit = w * 64 + low, run = 1;
        if (bit >= e->count) break;
        while (run < *n && low + run < 64 && bit + run < e->count && free >> (low + run) & 1)
            run++;
        e->used[w] |= ((1ul << run) - 1) << low;
        e->free -= *n = run;
        return e->first + bit;
    }
    return 0;
}

static bool extent_usable(const struct extent *e, uint8_t own)
{
    return e->own == own && e->free && (own == EXTENT_OBJECTS || shared->holders[e->id] == 1);
}

/* grow: frames of a new extent when there is none free in what we have; 0: none is asked for. */
static uint32_t frame_of(uint8_t own, unsigned purpose, uint32_t grow, uint32_t *n)
{
    struct extent *e = &lx.extent[lx.extent_hint];
    if (extent_usable(e, own)) return extent_take(e, n);
    for (uint32_t i = 0; i < lx.extents; i++) {
        if (!extent_usable(&lx.extent[i], own)) continue;
        if (own == EXTENT_OWN) lx.extent_hint = i;
        return extent_take(&lx.extent[i], n);
    }
    if (!grow) return 0;
    long i = extent_get(grow, purpose);
    if (i < 0 && grow > FIRST_EXTENT) i = extent_get(FIRST_EXTENT, purpose);
    if (i < 0) return 0;
    if (own == EXTENT_OWN) {
        lx.owned += lx.extent[i].count;
        lx.extent_hint = (uint32_t)i;
    }
    return extent_take(&lx.extent[i], n);
}

/* Doubles what there is; but while a child has our extents, of which nothing may be taken,
 * only copies are needed, and for a short time. */
uint32_t frames_alloc(uint32_t *n)
{
    uint64_t grow = lx.owned, room = replace_room();
    if (!room) room = replace_evict(1);
    if (*n > room) *n = room ? (uint32_t)room : 1; /* nothing can go: more than allotted */
    for (uint32_t i = 0; i < lx.extents; i++)
        if (lx.extent[i].own == EXTENT_OWN && shared->holders[lx.extent[i].id] > 1) {
            grow /= 8;
            break;
        }
    if (grow < FIRST_EXTENT) grow = FIRST_EXTENT;
    if (grow > LX_EXTENT_MAX) grow = LX_EXTENT_MAX;
    if (grow > room) grow = room < FIRST_EXTENT ? FIRST_EXTENT : room;
    uint32_t frame = frame_of(EXTENT_OWN, LX_FOR_MEMORY, (uint32_t)grow, n);
    if (!frame && replace_evict(EVICTED)) frame = frame_of(EXTENT_OWN, LX_FOR_MEMORY, 0, n);
    return frame;
}

uint32_t frame_spare(void)
{
    uint32_t n = 1;
    return frame_of(EXTENT_OWN, LX_FOR_MEMORY, 0, &n);
}

long extent_grow(uint32_t frames)
{
    const uint32_t least = LX_EXTENT_FEW + 1; /* nobody is asked for so many */
    long i = extent_get(frames > least ? frames : least, LX_FOR_MEMORY);
    if (i >= 0) lx.owned += lx.extent[i].count;
    return i;
}

uint32_t frame_alloc(void)
{
    uint32_t n = 1;
    return frames_alloc(&n);
}

uint32_t frames_shared(uint32_t *n)
{
    return frame_of(EXTENT_SHARED, LX_FOR_SHARED, *n > LX_UNIT ? *n : LX_UNIT, n);
}

void frame_free(uint32_t frame)
{
    struct extent *e = extent_of(frame);
    if (!e || (e->own != EXTENT_OWN && e->own != EXTENT_LEAVING && e->own != EXTENT_SHARED)) return;
    uint32_t bit = frame - e->first;
    e->used[bit / 64] &= ~(1ul << bit % 64);
    e->free++;
}

void extents_inherited(uint64_t keep[LX_EXTENTS / 64])
{
    memset(keep, 0, LX_EXTENTS / 8);
    for (uint32_t i = 0; i < lx.extents; i++) {
        const struct extent *e = &lx.extent[i];
        bool empty = e->own == EXTENT_OWN && e->free == e->count;
        if (e->own && e->own != EXTENT_OBJECTS && !empty) keep[i / 64] |= 1ul << i % 64;
    }
}

/* A frame for a page table; 0: none to be had. What there is is doubled. */
static uint32_t object_frame(void)
{
    uint32_t n = 1, grow = OBJECTS_FIRST;
    if (lx.objects_free) {
        uint32_t i = (uint32_t)__builtin_ctz(lx.objects_free);
        lx.objects_free &= lx.objects_free - 1;
        return lx.objects + i;
    }
    for (uint32_t i = 0; i < lx.extents; i++)
        if (lx.extent[i].own == EXTENT_OBJECTS) grow += lx.extent[i].count;
    return frame_of(EXTENT_OBJECTS, LX_FOR_OBJECTS, grow < OBJECTS_MAX ? grow : OBJECTS_MAX, &n);
}

static void object_free(uint32_t frame)
{
    struct extent *e = extent_of(frame);
    uint32_t bit = frame - (e ? e->first : lx.objects);
    if (!e) {
        lx.objects_free |= 1u << bit;
        return;
    }
    e->used[bit / 64] &= ~(1ul << bit % 64);
    e->free++;
}

/* ---- page tables and bindings --------------------------------------------------------------- */

static uint32_t frame_selector(uint32_t entry)
{
    if (entry & PG_FILE) return LX_SEL_FILES;
    struct extent *e = extent_of(entry & PG_FRAME);
    return e ? LX_SEL_EXTENT + (uint32_t)(e - lx.extent) : 0;
}

/* The page tables for va, down to level 1; *table: that one's frame, if it was not there. */
static long tables_make(uint64_t va, uint64_t *table)
{
    for (unsigned level = 1; level;) {
        uint32_t frame = object_frame();
        if (!frame) return -ENOMEM;
        struct extent *e = extent_of(frame);
        uint32_t sel = e ? LX_SEL_EXTENT + (uint32_t)(e - lx.extent) : LX_SEL_OBJECTS;
        long r;
        do
            r = exo_pt_make(EXO_SELF, va, level, sel, frame);
        while (r == -EXO_E_AGAIN);
        if (r < 0) object_free(frame);
        if (r == 0 && level == 1) *table = frame;
        if (r == -EXO_E_NOPT && level < 3)
            level++;
        else if (r < 0 && r != -EXO_E_BOUND)
            return -ENOMEM;
        else
            level--;
    }
    return 0;
}

/* ---- the library's own data ----------------------------------------------------------------------- */

#define NEAR_BYTES (LX_DATA_NEAR * LX_DATA_CHUNK * PAGE)

/* Whether n bytes (a multiple of 16) are there. */
static bool data_room(size_t n) { return lx.data_used + n <= lx.data_end; }

static bool data_more(void)
{
    uint64_t table;
    if (lx.data_chunks == LX_DATA_NEAR && tables_make(LX_DATA_FAR_VA, &table) < 0) return false;
    if (server(LX_OP_DATA, 0, 0, 0) < 0) return false;
    lx.data_end += lx_data_pages(lx.data_chunks++) * PAGE;
    return true;
}

void *data_alloc(size_t n)
{
    n = (n + 15) & ~15ul;
    if (lx.data_used < NEAR_BYTES && lx.data_used + n > NEAR_BYTES) lx.data_used = NEAR_BYTES;
    while (!data_room(n))
        if (!data_more()) return NULL;
    uint64_t at = lx.data_used;
    lx.data_used += n;
    return (void *)(at < NEAR_BYTES ? LX_DATA_VA + at : LX_DATA_FAR_VA + at - NEAR_BYTES);
}

/* ---- what lies where -------------------------------------------------------------------------- */

static bool block_empty(const struct pages *p)
{
    uint64_t any = 0;
    for (unsigned w = 0; w < BLOCK_PAGES / 64; w++)
        any |= p->used[w] | p->bound[w];
    return !any;
}

/* One on which nothing lies any more is taken from its place, and the page table there too; NULL:
 * there is none. What replace.c has of it in its ring (`listed`) stays there. */
static struct pages *pages_emptied(void)
{
    struct pages *p = lx.pages_all;
    while (p && !block_empty(p))
        p = p->after;
    if (!p) return NULL;
    struct pages **link = &lx.pages[p->va >> BLOCK_BITS & (BLOCK_LISTS - 1)];
    while (*link != p)
        link = &(*link)->next;
    *link = p->next;
    if (p->table && exo_pt_unmake(EXO_SELF, p->va, 1) == 0) object_free(p->table);
    p->table = 0;
    return p;
}

static struct pages *pages_new(void)
{
    struct pages *p = data_room(sizeof(*p)) ? NULL : pages_emptied();
    if (p) return p;
    p = data_alloc(sizeof(*p));
    if (!p) return NULL;
    memset(p, 0, sizeof(*p));
    p->after = lx.pages_all;
    return lx.pages_all = p;
}

struct pages *pages_at(uint64_t va, bool make)
{
    uint64_t base = va >> BLOCK_BITS << BLOCK_BITS;
    struct pages *p = lx.pages_last;
    if (p && p->va == base) return p;
    struct pages **list = &lx.pages[va >> BLOCK_BITS & (BLOCK_LISTS - 1)];
    for (p = *list; p; p = p->next)
        if (p->va == base) return lx.pages_last = p;
    if (!make || !(p = pages_new())) return NULL;
    p->va = base;
    p->next = *list;
    *list = p;
    return lx.pages_last = p;
}

uint32_t *page_entry(uint64_t va, bool make)
{
    struct pages *p = pages_at(va, make);
    return p ? &p->entry[va >> 12 & 511] : NULL;
}

void page_note(uint64_t va, uint32_t entry)
{
    struct pages *p = pages_at(va, entry != 0);
    if (!p) return;
    unsigned i = va >> 12 & 511;
    uint64_t bit = 1ul << i % 64;
    p->entry[i] = entry;
    p->used[i / 64] = entry ? p->used[i / 64] | bit : p->used[i / 64] & ~bit;
    if ((entry & (PG_W | PG_SHARED)) == PG_W)
        p->writable[i / 64] |= bit;
    else
        p->writable[i / 64] &= ~bit;
    if (lx.replace.ring && entry && !(entry & (PG_FILE | PG_SHARED | PG_SWAP))) replace_came(p, i);
}

/* Bits [first, first + n) of one word at a time. */
static uint64_t word_mask(unsigned word, unsigned first, unsigned n)
{
    unsigned low = word * 64 > first ? 0 : first - word * 64;
    unsigned end = first + n - word * 64;
    return (end >= 64 ? ~0ul : (1ul << end) - 1) & ~0ul << low;
}

static void bound_set(struct pages *p, unsigned first, unsigned n)
{
    for (unsigned w = first / 64; w <= (first + n - 1) / 64; w++)
        p->bound[w] |= word_mask(w, first, n);
}

static void unbind_one(struct pages *p, unsigned i)
{
    uint64_t bit = 1ul << i % 64;
    if (!(p->bound[i / 64] & bit)) return;
    p->bound[i / 64] &= ~bit;
    while (exo_page_unbind(EXO_SELF, p->va + i * PAGE, 1) == -EXO_E_AGAIN)
        ;
}

static void range_unbind(uint64_t va, unsigned n)
{
    for (long r, left = n; left > 0; left -= r, va += (uint64_t)r * PAGE) {
        r = exo_page_unbind(EXO_SELF, va, (uint64_t)left);
        if (r == -EXO_E_AGAIN)
            r = 0;
        else if (r <= 0)
            r = 1; /* the program undid it with calls of its own */
    }
}

/* Unbinds those pages of [first, first + n) that are bound, in pieces with no gap of more than
 * GAP pages: to pass over so many costs as much as another call. */
static void unbind(struct pages *p, unsigned first, unsigned n)
{
    unsigned low = 0, high = 0;
    if (n == 1) {
        unbind_one(p, first);
        return;
    }
    for (unsigned w = first / 64; w <= (first + n - 1) / 64; w++) {
        if (!p->bound[w]) continue;
        uint64_t mask = p->bound[w];
        if (n < BLOCK_PAGES) mask &= word_mask(w, first, n);
        p->bound[w] &= ~mask;
        while (mask) {
            unsigned bit = (unsigned)__builtin_ctzl(mask), i = w * 64 + bit;
            uint64_t above = mask + (1ul << bit); /* behind its run of ones */
            if (low == high) low = high = i;
            if (i - high > GAP) {
                range_unbind(p->va + low * PAGE, high - low);
                low = i;
            }
            high = above > mask ? w * 64 + (unsigned)__builtin_ctzl(above) : w * 64 + 64;
            mask &= above > mask ? above : 0;
        }
    }
    if (low < high) range_unbind(p->va + low * PAGE, high - low);
}

void page_unmap(uint64_t va)
{
    struct pages *p = pages_at(va, false);
    if (p) unbind(p, va >> 12 & 511, 1);
}

void pages_unbound(void)
{
    for (struct pages *p = lx.pages_all; p; p = p->after) {
        memset(p->bound, 0, sizeof(p->bound));
        p->table = 0;
    }
    lx.learning = 0;
}

void pages_leave(void)
{
    if (lx.threads > 1 || lx.borrowing) return;
    for (struct pages *p = lx.pages_all; p; p = p->after)
        unbind(p, 0, BLOCK_PAGES);
}

long pages_map(uint64_t va, uint32_t entry, unsigned n, unsigned rights)
{
    uint32_t sel = frame_selector(entry);
    struct pages *p = pages_at(va, true);
    if (!sel || !p) return -ENOMEM;
    unsigned i = va >> 12 & 511;
    if (n > 1 && !(entry & PG_FILE)) { /* extents of a file can overlap: this one's are fewer */
        const struct extent *e = extent_of(entry & PG_FRAME);
        if (n > e->first + e->count - (entry & PG_FRAME))
            n = e->first + e->count - (entry & PG_FRAME);
    }
    if (n > 1 || p->bound[i / 64] >> i % 64 & 1) unbind(p, i, n);
    for (;;) {
        long r = exo_page_bind(EXO_SELF, va, n, sel, entry & PG_FRAME, rights);
        if (r > 0) {
            bound_set(p, i, (unsigned)r);
            return r;
        }
        if (r == -EXO_E_AGAIN) continue;
        if (r != -EXO_E_NOPT || tables_make(va, &p->table) < 0) return -ENOMEM;
    }
}

long page_map(uint64_t va, uint32_t entry, unsigned rights)
{
    return pages_map(va, entry, 1, rights) < 0 ? -ENOMEM : 0;
}

void pages_map_list(unsigned n, unsigned rights)
{
    struct exo_batch *list = upcall_page()->list;
    while (n) {
        struct pages *first = pages_at(list->va, true);
        if (!first) return;
        long r = exo_page_bind_list(EXO_SELF, n, LX_SEL_FILES, rights);
        if (r == -EXO_E_AGAIN || (r == -EXO_E_NOPT && tables_make(list->va, &first->table) == 0))
            continue;
        if (r <= 0) return;
        for (long i = 0; i < r; i++) {
            struct pages *p = pages_at(list[i].va, true);
            unsigned at = list[i].va >> 12 & 511;
            if (!p) return;
            p->entry[at] = (uint32_t)list[i].frame | PG_FILE;
            p->used[at / 64] |= 1ul << at % 64;
            p->bound[at / 64] |= 1ul << at % 64;
        }
        n -= (unsigned)r;
        memmove(list, list + r, n * sizeof(*list));
    }
}

/* The next page at or after va, below end, that has something; end: none. */
uint64_t page_next(uint64_t va, uint64_t end)
{
    while (va < end) {
        struct pages *p = pages_at(va, false);
        unsigned i = va >> 12 & 511;
        if (p) {
            uint64_t word = p->used[i / 64] >> i % 64;
            if (word) {
                va += (uint64_t)__builtin_ctzl(word) * PAGE;
                return va < end ? va : end;
            }
            va = (va & -(64 * PAGE)) + 64 * PAGE;
        } else {
            va = (va >> BLOCK_BITS << BLOCK_BITS) + (1ul << BLOCK_BITS);
        }
    }
    return end;
}

bool page_lies_in(uint32_t entry, const struct extent *e)
{
    return entry && !(entry & (PG_FILE | PG_SHARED | PG_SWAP)) &&
           (entry & PG_FRAME) - e->first < e->count;
}

/* Everything on pages [first, first + n) of a block goes. */
static void block_drop(struct pages *p, unsigned first, unsigned n)
{
    unbind(p, first, n);
    for (unsigned w = first / 64; w <= (first + n - 1) / 64; w++) {
        if (!p->used[w]) continue;
        uint64_t mask = p->used[w] & word_mask(w, first, n);
        p->used[w] &= ~mask;
        p->writable[w] &= ~mask;
        for (; mask; mask &= mask - 1) {
            uint32_t *entry = &p->entry[w * 64 + (unsigned)__builtin_ctzl(mask)];
            if (*entry & PG_SWAP)
                server(LX_OP_SWAP_FREE, *entry & PG_FRAME, 0, 0);
            else if (!(*entry & PG_FILE))
                frame_free(*entry & PG_FRAME);
            *entry = 0;
        }
    }
}

void pages_drop(uint64_t va, uint64_t end)
{
    while (va < end) {
        uint64_t next = (va >> BLOCK_BITS << BLOCK_BITS) + (1ul << BLOCK_BITS);
        uint64_t stop = next < end ? next : end;
        struct pages *p = pages_at(va, false);
        if (p) block_drop(p, va >> 12 & 511, (unsigned)((stop - va) / PAGE));
        va = stop;
    }
}

/* The bound ones of a word's writable pages lose the right, a run at a time. */
static void word_protect(struct pages *p, unsigned w)
{
    uint64_t mask = p->writable[w] & p->bound[w];
    while (mask) {
        unsigned i = (unsigned)__builtin_ctzl(mask);
        uint64_t rest = ~(mask >> i), va = p->va + (w * 64ul + i) * PAGE;
        unsigned n = rest ? (unsigned)__builtin_ctzl(rest) : 64;
        struct vma *vma = vma_find(va);
        if (n > 64 - i) n = 64 - i;
        if (vma && n > (vma->end - va) / PAGE) n = (unsigned)((vma->end - va) / PAGE);
        while (exo_page_protect(EXO_SELF, va, n,
                                EXO_R | (vma && vma->prot & PROT_EXEC ? EXO_X : 0)) == -EXO_E_AGAIN)
            ;
        mask &= n == 64 ? 0 : ~(((1ul << n) - 1) << i);
    }
    for (mask = p->writable[w]; mask; mask &= mask - 1)
        p->entry[w * 64 + (unsigned)__builtin_ctzl(mask)] &= ~PG_W;
    p->writable[w] = 0;
}

void pages_protect(void)
{
    for (struct pages *p = lx.pages_all; p; p = p->after)
        for (unsigned w = 0; w < 8; w++)
            if (p->writable[w]) word_protect(p, w);
}

/* ---- areas ---------------------------------------------------------------------------------------- */

/* The first area that ends above va: its place in the array. */
static uint32_t vma_at(uint64_t va)
{
    const struct vma *vma = lx.vma;
    uint32_t low = lx.vma_hint, high = lx.vmas;
    if (low < high && vma[low].end <= va) low++;
    if ((low == high || (low < high && vma[low].end > va)) && (!low || vma[low - 1].end <= va))
        return lx.vma_hint = low;
    low = 0;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (vma[middle].end <= va)
            low = middle + 1;
        else
            high = middle;
    }
    return lx.vma_hint = low;
}

struct vma *vma_find(uint64_t va)
{
    uint32_t i = vma_at(va);
    return i < lx.vmas && lx.vma[i].start <= va ? &lx.vma[i] : NULL;
}

struct vma *vma_after(uint64_t va)
{
    uint32_t i = vma_at(va);
    return i < lx.vmas ? &lx.vma[i] : NULL;
}

static bool vma_joins(const struct vma *a, const struct vma *b)
{
    return a->end == b->start && a->prot == b->prot && a->flags == b->flags &&
           a->handle == b->handle &&
           (a->handle < 0 || a->offset + (a->end - a->start) / PAGE == b->offset);
}

/* A table that is full is left for one four times as large; false: there is no room. */
static bool vmas_grow(void)
{
    struct vma *more = data_alloc(4 * lx.vma_room * sizeof(*more));
    if (!more) return false;
    memcpy(more, lx.vma, lx.vmas * sizeof(*more));
    lx.vma = more;
    lx.vma_room *= 4;
    return true;
}

long vma_add(const struct vma *area)
{
    struct vma new = *area, *vma = &new;
    uint32_t i = vma_at(vma->start);
    struct vma *at = &lx.vma[i];
    if (lx.vfork_child) vma->flags |= VMA_BACK;
    if (i && vma_joins(at - 1, vma)) {
        at[-1].end = vma->end;
        if (i < lx.vmas && vma_joins(at - 1, at)) {
            at[-1].end = at->end;
            memmove(at, at + 1, (--lx.vmas - i) * sizeof(*vma));
        }
        return 0;
    }
    if (i < lx.vmas && vma_joins(vma, at)) {
        at->start = vma->start;
        at->offset = vma->offset;
        return 0;
    }
    if (lx.vmas == lx.vma_room && !vmas_grow()) return -ENOMEM;
    at = &lx.vma[i];
    memmove(at + 1, at, (lx.vmas++ - i) * sizeof(*vma));
    *at = *vma;
    return 0;
}

long vma_cut(uint64_t va)
{
    struct vma *vma = vma_find(va);
    if (!vma || vma->start == va) return 0;
    uint32_t i = (uint32_t)(vma - lx.vma);
    if (lx.vmas == lx.vma_room && !vmas_grow()) return -ENOMEM;
    vma = &lx.vma[i];
    memmove(vma + 1, vma, (lx.vmas++ - i) * sizeof(*vma));
    vma[0].end = va;
    vma[1].offset += (va - vma[1].start) / PAGE;
    vma[1].start = va;
    return 0;
}

void vma_join(uint64_t va, uint64_t end)
{
    uint32_t i = vma_at(va ? va - 1 : va);
    while (i + 1 < lx.vmas && lx.vma[i].end <= end) {
        if (!vma_joins(&lx.vma[i], &lx.vma[i + 1])) {
            i++;
            continue;
        }
        lx.vma[i].end = lx.vma[i + 1].end;
        lx.vmas--;
        memmove(&lx.vma[i + 1], &lx.vma[i + 2], (lx.vmas - i - 1) * sizeof(lx.vma[0]));
    }
}

void vma_remove(uint64_t start, uint64_t end)
{
    uint32_t i = vma_at(start), n = 0;
    while (i + n < lx.vmas && lx.vma[i + n].end <= end)
        n++;
    if (n) memmove(&lx.vma[i], &lx.vma[i + n], (lx.vmas - i - n) * sizeof(lx.vma[0]));
    lx.vmas -= n;
}

uint64_t vma_room(uint64_t length)
{
    uint64_t top = LX_MMAP_TOP;
    uint32_t i = vma_at(LX_MMAP_TOP);
    if (i < lx.vmas && lx.vma[i].start < top) top = lx.vma[i].start;
    while (i--) {
        struct vma *vma = &lx.vma[i];
        if (vma->end <= top && top - vma->end >= length) return top - length;
        if (vma->start < top) top = vma->start;
    }
    return top > length + LX_BLOCK / 4 ? top - length : 0;
}

/* ---- exec ------------------------------------------------------------------------------------------ */

void mm_clear(uint64_t keep, uint64_t end)
{
    uint64_t size = 1ul << BLOCK_BITS;
    for (struct pages *p = lx.pages_all; p; p = p->after) {
        bool inside = keep - p->va < size;
        unsigned first = inside ? (unsigned)((keep - p->va) / PAGE) : BLOCK_PAGES;
        unsigned behind = inside ? (unsigned)((end - p->va) / PAGE) : BLOCK_PAGES;
        if (first) block_drop(p, 0, first);
        if (behind < BLOCK_PAGES) block_drop(p, behind, BLOCK_PAGES - behind);
    }
    lx.vmas = 0;
    lx.brk_start = lx.brk = 0;
    lx.text = 0;
    memset(lx.stays, 0, sizeof(lx.stays));
}
