/* SPDX-License-Identifier: MIT
 *
 * Pages of files that are mapped to be written: capabilities of runs of them, EXTENT_FILE. A file
 * may lie in as many runs as it has pages, and a process has few selectors: so it has SHARES_MAX
 * of them at a time, the oldest go when others are touched, and come again by a fault. Not those
 * with pages that a call of the server is about. Under the lock. */
#include "library.h"
#include "../../../lib/exo/text.h"

#define SHARES_MAX 64
#define SHARES_GO 16 /* at once: each time all pages are looked at */

/* Takes the extents whose bits are set out of `leaving` if one of their pages is to stay, else
 * (drop) what lies on their pages. */
static void runs_leave(uint64_t leaving[LX_EXTENTS / 64], bool drop)
{
    for (struct pages *p = lx.pages_all; p; p = p->after)
        for (unsigned i = 0; i < BLOCK_PAGES; i++) {
            uint64_t va = p->va + i * PAGE;
            if (!(p->entry[i] & PG_SHARED)) continue;
            for (uint32_t x = 0; x < lx.extents; x++) {
                const struct extent *e = &lx.extent[x];
                uint64_t bit = 1ul << x % 64;
                if (!(leaving[x / 64] & bit) || !page_shared_in(p->entry[i], e)) continue;
                if (!drop && page_pinned(va)) leaving[x / 64] &= ~bit;
                if (!drop) continue;
                page_unmap(va);
                page_note(va, 0);
                break;
            }
        }
}

/* The oldest go. */
static void shares_go(void)
{
    uint64_t leaving[LX_EXTENTS / 64] = {0};
    unsigned n = 0;
    for (uint32_t k = 0; k < LX_EXTENTS && n < SHARES_GO; k++) {
        uint32_t i = lx.share_next++ % LX_EXTENTS;
        if (i >= lx.extents || lx.extent[i].own != EXTENT_FILE) continue;
        leaving[i / 64] |= 1ul << i % 64;
        n++;
    }
    runs_leave(leaving, false);
    runs_leave(leaving, true);
    for (uint32_t i = 0; i < lx.extents; i++)
        if (leaving[i / 64] >> i % 64 & 1 && server(LX_OP_GIVE, i, 0, 0) == 0)
            lx.extent[i].own = EXTENT_NONE;
}

long extent_share(int32_t handle, uint64_t page, uint32_t n)
{
    uint64_t i, count;
    if (process_window()->start.asked & LX_TAKEN) replace_answer(); /* what was taken is no share */
    for (int again = 1;; again--) {
        uint32_t shares = 0;
        i = LX_EXTENTS;
        for (uint32_t k = LX_EXTENTS; k--;) {
            uint8_t own = k < lx.extents ? lx.extent[k].own : EXTENT_NONE;
            if (own == EXTENT_NONE) i = k;
            shares += own == EXTENT_FILE;
        }
        if (i < LX_EXTENTS && shares < SHARES_MAX) break;
        if (!again) return -ENOMEM;
        shares_go();
    }
    const uint64_t a[4] = {(uint64_t)handle, page, n | i << 32, 0};
    long first = server_aside(LX_OP_SHARE, a, &count, sizeof(count));
    if (first < 0) return first;
    lx.extent[i] = (struct extent){.first = (uint32_t)first,
                                   .count = (uint32_t)count,
                                   .id = (uint16_t)handle,
                                   .own = EXTENT_FILE};
    if (i >= lx.extents) lx.extents = (uint32_t)i + 1;
    return (long)i;
}

void extents_unused(void)
{
    for (uint32_t i = 0; i < lx.extents; i++) {
        struct extent *e = &lx.extent[i];
        if (e->own == EXTENT_SHARED && e->free == e->count && server(LX_OP_GIVE, i, 0, 0) == 0)
            e->own = EXTENT_NONE;
    }
}

void extents_unshare(int32_t handle)
{
    for (uint32_t i = 0; i < lx.extents; i++) {
        struct extent *e = &lx.extent[i];
        if (e->own != EXTENT_FILE || e->id != handle || server(LX_OP_GIVE, i, 0, 0) < 0) continue;
        e->own = EXTENT_NONE;
    }
}
