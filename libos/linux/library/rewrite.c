/* SPDX-License-Identifier: MIT
 *
 * Rewriting of `syscall` sites: site.c decides, this does. A site is looked at when it has
 * been reflected REWRITE_AFTER times: what that cost then is what rewriting costs, and most
 * programs call most sites a few times only. The text page becomes the process's own; stubs
 * lie in a page below the program, the first of each page is a pointer to call_entry.
 *
 * With several threads: they share a CPU, so a store of eight bytes is seen as a whole, and
 * no instruction that is replaced has a boundary inside the bytes that change. */
#include "library.h"
#include <linux/mman.h>
#include "site.h"
#include "../../../lib/exo/text.h"

#define REWRITE_AFTER 24
#define REFUSED 255 /* as a count */
#define COUNT_SHIFT 56
#define SYSCALL_SIZE 2
#define LOWEST 0x10000ul /* of a page of stubs */

#define SITES (sizeof(lx.sites) / sizeof(lx.sites[0]))

static bool notes(uint64_t note, uint64_t site) { return (note ^ site) << (64 - COUNT_SHIFT) == 0; }

/* Where a site is counted: one of two places, else that of the one that was counted less. */
static uint64_t *seen(uint64_t site)
{
    uint64_t *two = &lx.sites[(site ^ site >> 6 ^ site >> 12) % SITES & ~1ul];
    if (notes(two[0], site)) return &two[0];
    if (notes(two[1], site)) return &two[1];
    return &two[two[1] >> COUNT_SHIFT < two[0] >> COUNT_SHIFT];
}

/* Only what a file holds and the program cannot write is rewritten. */
static bool area_good(const struct vma *vma)
{
    return vma && vma->handle >= 0 && !(vma->flags & MAP_SHARED) && vma->prot & PROT_EXEC &&
           !(vma->prot & PROT_WRITE);
}

/* The highest page below the area and its neighbours where nothing is; 0: none. */
static uint64_t stub_room(const struct vma *vma)
{
    while (vma > lx.vma && vma[-1].end == vma->start)
        vma--;
    return vma->start > LOWEST ? vma->start - PAGE : 0;
}

/* Writes to pages that are executed: they are the process's own afterwards. */
static long text_write(uint64_t va, const uint8_t *bytes, unsigned length)
{
    uint64_t page = va & -PAGE, whole;
    if (page_own(page) < 0) return -ENOMEM;
    if (length <= sizeof(whole)) {
        uint64_t at = va - page > PAGE - sizeof(whole) ? page + PAGE - sizeof(whole) : va;
        memcpy(&whole, (const void *)at, sizeof(whole));
        memcpy((uint8_t *)&whole + (va - at), bytes, length);
        *(volatile uint64_t *)at = whole;
    } else {
        memcpy((void *)va, bytes, length);
    }
    page_seal(page);
    return 0;
}

/* Makes lx.stub_va a free stub. */
static long stub_get(const struct vma *vma)
{
    if (lx.stub_va != lx.stub_end) return 0;
    uint64_t page = stub_room(vma), entry = (uint64_t)call_entry;
    if (!page) return -ENOMEM;
    if (mm_map(page, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
               -1, 0) < 0)
        return -ENOMEM;
    if (text_write(page, (const uint8_t *)&entry, sizeof(entry)) < 0) return -ENOMEM;
    lx.stub_va = page + STUB_SIZE;
    lx.stub_end = page + PAGE;
    return 0;
}

static bool crosses(const struct site_write *write)
{
    return write->va % PAGE + write->length > PAGE;
}

static bool rewrite(struct vma *vma, uint64_t site)
{
    struct site_plan plan;
    uint8_t bytes[2 * SITE_REACH];
    uint64_t from = site > vma->start + SITE_REACH ? site - SITE_REACH : vma->start;
    uint64_t end = site + SITE_REACH < vma->end ? site + SITE_REACH : vma->end;
    if (user_get(bytes, from, end - from) < 0) return false;
    if (stub_get(vma) < 0) return false;
    const struct site_text text = {bytes, from, (unsigned)(end - from)};
    if (!site_plan(&plan, &text, site, lx.stub_va, lx.stub_va & -PAGE)) return false;
    for (unsigned i = 0; i < plan.writes; i++)
        if (crosses(&plan.write[i]) || !area_good(vma_find(plan.write[i].va))) return false;
    if (text_write(lx.stub_va, plan.stub, STUB_SIZE) < 0) return false;
    lx.stub_va += STUB_SIZE;
    for (unsigned i = 0; i < plan.writes; i++)
        if (text_write(plan.write[i].va, plan.write[i].bytes, plan.write[i].length) < 0)
            return false;
    return true;
}

void rewrite_site(struct thread_state *t, uint64_t rip)
{
    (void)t;
    uint64_t site = rip - SYSCALL_SIZE, *note = seen(site), count = *note >> COUNT_SHIFT;
    if (!notes(*note, site)) count = 0;
    if (count < REWRITE_AFTER) {
        *note = site | (count + 1) << COUNT_SHIFT;
        return;
    }
    if (count == REFUSED || lx.vfork_child) return; /* lent text is the parent's */
    if (__atomic_exchange_n(&lx.rewriting, 1, __ATOMIC_ACQUIRE)) return;
    struct vma *vma = vma_find(site);
    *note = site | (uint64_t)REFUSED << COUNT_SHIFT;
    if (area_good(vma) && rewrite(vma, site)) *note = 0;
    __atomic_store_n(&lx.rewriting, 0, __ATOMIC_RELEASE);
}
