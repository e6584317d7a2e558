/* SPDX-License-Identifier: MIT
 *
 * Self-paging: demand-zero memory with a limit of frames and a policy of the
 * program's own about which page goes. Pages that go are kept in a store in ordinary
 * memory, so that what replacement costs can be seen without a disk. The frames are
 * allocated when the region is made: the fault handler allocates nothing. */
#include "exo.h"

static struct exo_region *regions;

static uint64_t page_va(const struct exo_region *r, uint32_t index)
{
    return r->va + (uint64_t)index * EXO_PAGE;
}

uint32_t exo_policy_fifo(struct exo_region *region)
{
    (void)region;
    return 0;
}

uint32_t exo_policy_mru(struct exo_region *region) { return region->count - 1; }

/* The hand takes a page's access away and passes; a page that was not used again
 * when it comes round goes. */
uint32_t exo_policy_clock(struct exo_region *r)
{
    for (uint32_t turns = 0; turns < 2 * r->count; turns++) {
        uint32_t at = r->hand % r->count;
        struct exo_region_page *page = &r->resident[at];
        if (!page->referenced) {
            r->hand = at;
            return at;
        }
        page->referenced = 0;
        exo_page_protect(EXO_SELF, page_va(r, page->index), 1, 0);
        r->hand = at + 1;
    }
    return 0;
}

static uint64_t region_evict(struct exo_region *r)
{
    uint32_t at = r->policy(r);
    struct exo_region_page page = r->resident[at];
    uint64_t va = page_va(r, page.index);
    if (r->store) {
        if (!page.referenced) exo_page_protect(EXO_SELF, va, 1, EXO_R);
        memcpy(r->store + (uint64_t)page.index * EXO_PAGE, (void *)va, EXO_PAGE);
        r->stored[page.index / 64] |= 1ul << page.index % 64;
    }
    exo_page_unbind(EXO_SELF, va, 1);
    r->count--;
    memmove(&r->resident[at], &r->resident[at + 1], (r->count - at) * sizeof(page));
    r->resident[r->count].frame = page.frame; /* the next to come in takes it */
    return page.frame;
}

static bool region_load(struct exo_region *r, uint32_t index)
{
    if (r->count == r->limit && (!r->limit || !region_evict(r))) return false;
    struct exo_region_page *page = &r->resident[r->count];
    uint64_t va = page_va(r, index);
    if (exo_page_bind(EXO_SELF, va, 1, exo.pool.sel, page->frame, EXO_R | EXO_W) != 1) return false;
    if (r->store && r->stored[index / 64] >> index % 64 & 1)
        memcpy((void *)va, r->store + (uint64_t)index * EXO_PAGE, EXO_PAGE);
    else
        memset((void *)va, 0, EXO_PAGE);
    page->index = index;
    page->referenced = 1;
    r->count++;
    r->faults++;
    return true;
}

bool exo_region_fault(uint64_t va)
{
    struct exo_region *r = regions;
    while (r && va - r->va >= r->pages * EXO_PAGE)
        r = r->next;
    if (!r) return false;
    uint32_t index = (uint32_t)((va - r->va) / EXO_PAGE);
    for (uint32_t i = 0; i < r->count; i++) {
        if (r->resident[i].index != index) continue;
        if (r->resident[i].referenced) return false;
        r->resident[i].referenced = 1;
        r->soft++;
        return exo_page_protect(EXO_SELF, page_va(r, index), 1, EXO_R | EXO_W) == 1;
    }
    return region_load(r, index);
}

long exo_region_make(struct exo_region *region, uint64_t va, uint64_t pages, uint32_t limit,
                     exo_policy *policy, bool keep)
{
    *region = (struct exo_region){.va = va, .pages = pages, .limit = limit, .policy = policy};
    long r = 0;
    for (uint64_t at = va & -(512ul * EXO_PAGE); at < va + pages * EXO_PAGE && r == 0;
         at += 512ul * EXO_PAGE) {
        r = exo_tables(&exo.pool, at, 1);
        r = r == -EXO_E_BOUND ? 0 : r;
    }
    region->resident = malloc(limit * sizeof(struct exo_region_page));
    if (region->resident) memset(region->resident, 0, limit * sizeof(struct exo_region_page));
    region->stored = malloc(EXO_POOL_WORDS(pages) * 8);
    if (keep) region->store = malloc(pages * EXO_PAGE);
    if (r < 0 || !region->resident || !region->stored || (keep && !region->store)) {
        exo_region_destroy(region);
        return r < 0 ? r : -EXO_E_LIMIT;
    }
    memset(region->stored, 0, EXO_POOL_WORDS(pages) * 8);
    for (uint32_t i = 0; i < limit; i++) {
        long frame = exo_frames_alloc(&exo.pool, 1, 1);
        if (frame < 0) {
            exo_region_destroy(region);
            return frame;
        }
        region->resident[i].frame = (uint64_t)frame;
    }
    region->next = regions;
    regions = region;
    return 0;
}

void exo_region_destroy(struct exo_region *region)
{
    for (struct exo_region **at = &regions; *at; at = &(*at)->next)
        if (*at == region) {
            *at = region->next;
            break;
        }
    for (uint32_t i = 0; region->resident && i < region->limit; i++) {
        if (i < region->count)
            exo_page_unbind(EXO_SELF, page_va(region, region->resident[i].index), 1);
        if (region->resident[i].frame) exo_frames_free(&exo.pool, region->resident[i].frame, 1);
    }
    free(region->resident);
    free(region->stored);
    free(region->store);
    region->resident = NULL;
    region->count = region->limit = 0;
}

uint32_t exo_region_shrink(struct exo_region *region, uint32_t n)
{
    uint32_t done = 0;
    for (; done < n && region->limit; done++) {
        if (region->count == region->limit) region_evict(region);
        region->limit--;
        exo_frames_free(&exo.pool, region->resident[region->limit].frame, 1);
        region->resident[region->limit].frame = 0;
    }
    return done;
}
