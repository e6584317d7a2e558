/* SPDX-License-Identifier: MIT
 *
 * Rewriting of `syscall` sites: one that was reflected is reported to the server, which makes a
 * jump of it for all processes that execute the file (server/process/rewritten.h). Stubs lie in a
 * page of their own right behind the program; its heap begins behind that. */
#include "library.h"
#include "lx_calls.h"
#include <linux/mman.h>

#define SYSCALL_SIZE 2
#define STAYS (sizeof(lx.stays) / sizeof(lx.stays[0]))
#define SIGRETURNS 24 /* before: unwinders know its bytes */

bool text_area(const struct vma *vma)
{
    return lx.text && vma->handle == lx.text - 1 && vma->prot & PROT_EXEC &&
           !(vma->prot & PROT_WRITE) &&
           (vma->offset == LX_STUBS || vma->start - vma->offset * PAGE == lx.text_base);
}

uint64_t text_place(int32_t handle, uint64_t end)
{
    struct vma stubs = {.start = end,
                        .end = end + PAGE,
                        .prot = PROT_READ | PROT_EXEC,
                        .flags = MAP_PRIVATE,
                        .handle = handle,
                        .offset = LX_STUBS};
    const struct vma *behind = vma_after(end);
    uint32_t i = 0;
    lx.text = 0;
    while (i < lx.vmas && !(lx.vma[i].handle == handle && lx.vma[i].prot & PROT_EXEC))
        i++;
    if (i == lx.vmas || (behind && behind->start < stubs.end)) return end;
    lx.text_base = lx.vma[i].start - lx.vma[i].offset * PAGE;
    if (vma_add(&stubs) < 0) return end;
    lx.text = handle + 1;
    return stubs.end;
}

void text_end(void)
{
    int32_t handle = (int32_t)lx.text - 1;
    lx.text = 0;
    for (uint32_t i = 0; i < lx.vmas; i++) {
        const struct vma *vma = &lx.vma[i];
        if (vma->handle != handle || !(vma->prot & PROT_EXEC)) continue;
        for (uint64_t va = vma->start; (va = page_next(va, vma->end)) < vma->end; va += PAGE)
            if (*page_entry(va, false) & PG_FILE) pages_drop(va, va + PAGE);
    }
}

void rewrite_site(uint64_t number, uint64_t rip)
{
    uint64_t site = rip - SYSCALL_SIZE;
    if (number >= LX_CALLS) return;
    if (number == __NR_rt_sigreturn && lx.sigreturns++ < SIGRETURNS) return;
    uint64_t *stays = &lx.stays[(site ^ site >> 6 ^ site >> 12) % STAYS];
    if (*stays == site || lx.vfork_child) return; /* lent text is the parent's */
    *stays = site;
    const struct vma *vma = vma_find(site);
    if (!vma || !text_area(vma)) return;
    uint64_t offset = site - vma->start + vma->offset * PAGE, page = site & -PAGE;
    if (server(LX_OP_SITE, (uint64_t)vma->handle, offset, 0) < 0) return;
    *stays = 0;
    lock();
    const uint32_t *entry = page_entry(page, false);
    if (entry && *entry & PG_FILE) pages_drop(page, page + PAGE); /* else a copy of its own */
    unlock();
}
