/* SPDX-License-Identifier: MIT
 *
 * Page faults: demand zero, pages of files, copy on write, the stack's growth. */
#include "library.h"
#include <asm/signal.h>
#include <linux/mman.h>
#include "text.h"

#define FAULT_PRESENT 1 /* error code, Intel SDM vol. 3, 4.7 */
#define FAULT_WRITE 2
#define FAULT_FETCH 16
#define AROUND 16 /* pages of a file that are bound at once */

/* The area that the stack's growth to va would be part of. */
static struct vma *stack_grow(uint64_t va)
{
    struct vma *vma = NULL;
    for (uint32_t i = lx.vmas; i-- && lx.vma[i].start > va;)
        vma = &lx.vma[i];
    if (!vma || !(vma->flags & VMA_STACK) || va < vma->end - LX_STACK_MAX) return NULL;
    uint64_t start = va & -PAGE;
    if (vma > lx.vma && vma[-1].end > start) return NULL;
    vma->start = start;
    return vma;
}

static unsigned rights_of(const struct vma *vma, bool write)
{
    return EXO_R | (write ? EXO_W : 0) | (vma->prot & PROT_EXEC ? EXO_X : 0);
}

/* A fresh frame at va, filled with zeroes. */
static int fault_zero(struct vma *vma, uint64_t va)
{
    uint32_t frame = frame_alloc();
    if (!frame) return SIGBUS;
    bool write = vma->prot & PROT_WRITE;
    if (write && lx.threads == 1) {
        if (page_map(va, frame, rights_of(vma, true)) < 0) return SIGBUS;
        uint64_t quads = PAGE / 8, to = va;
        __asm__ volatile("cld; rep stosq" : "+D"(to), "+c"(quads) : "a"(0ul) : "memory");
    } else {
        server(LX_OP_COPY, 0, frame, 0);
        if (page_map(va, frame, rights_of(vma, write)) < 0) return SIGBUS;
    }
    page_note(va, write ? frame | PG_W : frame);
    return 0;
}

/* Pages of the file around va that nothing lies on yet: noted, and bound where that takes one
 * call. */
static int fault_file(struct vma *vma, uint64_t va)
{
    uint64_t first = va & -(AROUND * PAGE), end = first + AROUND * PAGE;
    if (first < vma->start) first = vma->start;
    if (end > vma->end) end = vma->end;
    uint32_t frame[AROUND];
    long n =
        server_aside(LX_OP_PAGES, (uint64_t)vma->handle, vma->offset + (first - vma->start) / PAGE,
                     (end - first) / PAGE, frame, sizeof(frame));
    if (n < 0) return SIGBUS;
    struct exo_batch *list = upcall_page()->list;
    unsigned count = 0;
    for (uint64_t at = first; at < end; at += PAGE) {
        uint32_t f = frame[(at - first) / PAGE] & PG_FRAME, *entry = page_entry(at, true);
        if (!entry) return SIGBUS;
        if (*entry || !f) continue;
        page_note(at, f | PG_FILE);
        if (at != va) list[count++] = (struct exo_batch){at, f};
    }
    uint32_t *entry = page_entry(va, false);
    if (!entry || !*entry) return SIGBUS;
    /* The first one makes the page table; neighbours that fail are bound by their own fault. */
    if (page_map(va, *entry, rights_of(vma, false)) < 0) return SIGBUS;
    if (count) exo_page_bind_list(EXO_SELF, count, LX_SEL_FILES, rights_of(vma, false));
    return 0;
}

/* The first touch of a page that a fork left, and of its neighbours of the same extent. */
static int fault_inherited(struct vma *vma, uint64_t va, uint32_t entry)
{
    if (page_map(va, entry, rights_of(vma, entry & (PG_W | PG_SHARED))) < 0) return SIGBUS;
    if (entry & (PG_W | PG_SHARED)) return 0;
    struct extent *e = entry & PG_FILE ? NULL : extent_of(entry & PG_FRAME);
    uint64_t first = va & -(AROUND * PAGE), end = first + AROUND * PAGE;
    if (first < vma->start) first = vma->start;
    if (end > vma->end) end = vma->end;
    struct exo_batch *list = upcall_page()->list;
    unsigned count = 0;
    for (uint64_t at = va + PAGE; at < end; at += PAGE) {
        uint32_t other = *page_entry(at, false);
        if (!other || (other & ~PG_FRAME) != (entry & ~PG_FRAME)) break;
        if (e && (other & PG_FRAME) - e->first >= e->count) break;
        list[count++] = (struct exo_batch){at, other & PG_FRAME};
    }
    uint32_t sel = e ? LX_SEL_EXTENT + (uint32_t)(e - lx.extent) : LX_SEL_FILES;
    if (count) exo_page_bind_list(EXO_SELF, count, sel, rights_of(vma, false));
    return 0;
}

/* May the frame be written where it is? */
static bool frame_writable(uint32_t entry)
{
    if (entry & PG_FILE) return false;
    if (entry & PG_SHARED) return true;
    struct extent *e = extent_of(entry & PG_FRAME);
    return e && (e->own == EXTENT_LENT || (e->own == EXTENT_OWN && shared->holders[e->id] == 1));
}

static int fault_write(struct vma *vma, uint64_t va, uint32_t entry, bool present)
{
    if (frame_writable(entry)) {
        long r = -1;
        if (present) r = exo_page_protect(EXO_SELF, va, 1, rights_of(vma, true));
        if (r != 1 && page_map(va, entry, rights_of(vma, true)) < 0) return SIGBUS;
        page_note(va, entry | PG_W);
        return 0;
    }
    uint32_t frame = frame_alloc();
    if (!frame) return SIGBUS;
    if (server(LX_OP_COPY, entry & PG_FRAME, frame, 0) < 0) return SIGBUS;
    if (page_map(va, frame, rights_of(vma, true)) < 0) return SIGBUS;
    if (!(entry & PG_FILE)) frame_free(entry & PG_FRAME);
    page_note(va, frame | PG_W);
    return 0;
}

static int fault_locked(uint64_t va, uint64_t error)
{
    struct vma *vma = vma_find(va);
    if (!vma) vma = stack_grow(va);
    if (!vma) return SIGSEGV;
    int need = error & FAULT_WRITE ? PROT_WRITE : error & FAULT_FETCH ? PROT_EXEC : PROT_READ;
    bool readable = need == PROT_READ && vma->prot; /* whatever can be used can be read */
    if (!(vma->prot & need) && !readable) return SIGSEGV;
    va &= -PAGE;
    uint32_t *entry = page_entry(va, true);
    if (!entry) return SIGBUS;
    bool present = error & FAULT_PRESENT;
    if (!*entry) {
        int signal = vma->handle < 0 ? fault_zero(vma, va) : fault_file(vma, va);
        if (signal || !(error & FAULT_WRITE) || *entry & PG_W) return signal;
        present = true;
    }
    if (error & FAULT_WRITE) return fault_write(vma, va, *entry, present);
    return present ? 0 : fault_inherited(vma, va, *entry);
}

int fault_handle(uint64_t va, uint64_t error)
{
    if (va >= LX_USER_END) return SIGSEGV;
    lock();
    int signal = fault_locked(va, error);
    unlock();
    return signal;
}

/* For rewrite.c: an area that may not be written keeps its rights, its page does not, until it
 * is sealed. */
long page_own(uint64_t va)
{
    lock();
    struct vma *vma = vma_find(va);
    uint32_t *entry = vma ? page_entry(va, true) : NULL;
    int signal = entry ? 0 : SIGSEGV;
    if (entry && !*entry) signal = fault_locked(va, 0);
    if (!signal) signal = fault_write(vma, va, *entry, false);
    unlock();
    return signal ? -EFAULT : 0;
}

void page_seal(uint64_t va)
{
    lock();
    exo_page_protect(EXO_SELF, va, 1, EXO_R | EXO_X);
    uint32_t *entry = page_entry(va, false);
    if (entry) page_note(va, *entry & ~PG_W);
    unlock();
}
