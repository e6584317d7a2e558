/* SPDX-License-Identifier: MIT
 *
 * System calls about memory: mmap(2), munmap(2), mprotect(2), mremap(2), brk(2), madvise(2),
 * mincore(2), msync(2), mlock(2). */
#include "library.h"
#include <linux/mman.h>
#include "../../../lib/exo/text.h"

static uint64_t page_up(uint64_t n) { return (n + PAGE - 1) & -PAGE; }

/* Of any length: rounded up, what is good stays so and does not wrap. */
static bool range_good(uint64_t va, uint64_t length)
{
    return !(va % PAGE) && length <= LX_USER_END && va <= LX_USER_END - length;
}

/* The mapping handle of an open file, which other areas may have, too: so that nobody gives it back
 * before this one has it, the lock is taken; but not on an error. */
static long handle_get(int fd, bool writes)
{
    const uint64_t a[6] = {(uint64_t)fd, 0, writes};
    for (;;) {
        lock();
        long r = server(LX_OP_MAP, a[0], a[1], a[2]);
        if (r >= 0) return r;
        unlock();
        if (!wait_wanted(r)) return r;
        r = server_wait(LX_OP_MAP, a, 0); /* the file is there then: once more */
        event_keep(this_thread());
        if (r < 0) return r;
    }
}

/* A mapping handle that no area uses any more is given back. */
static void handle_put(int32_t handle)
{
    for (uint32_t i = 0; i < lx.vmas; i++)
        if (lx.vma[i].handle == handle) return;
    extents_unshare(handle);
    server(LX_OP_UNMAP, (uint64_t)handle, 0, 0);
}

static long unmap(uint64_t va, uint64_t end)
{
    struct vma *vma = vma_after(va);
    if (!vma) return 0;
    if (vma->start != va || vma->end != end) {
        long r = vma_cut(va);
        if (r == 0) r = vma_cut(end);
        if (r < 0) return r;
        vma = vma_after(va);
    }
    while (vma && vma < lx.vma + lx.vmas && vma->start < end) { /* the next one takes its place */
        int32_t handle = vma->handle;
        if (vma->offset == LX_STUBS && text_area(vma)) text_end();
        bool shares = vma->flags & MAP_SHARED;
        uint64_t start = vma->start, stop = vma->end;
        pages_drop(start, stop);
        vma_remove(start, stop);
        if (handle >= 0) handle_put(handle);
        if (handle < 0 && shares) extents_unused();
    }
    return 0;
}

/* Frames for MAP_SHARED | MAP_ANONYMOUS: there from the start, since children share them. */
static long shared_fill(uint64_t va, uint64_t end)
{
    while (va < end) {
        uint64_t left = (end - va) / PAGE, room = BLOCK_PAGES - va / PAGE % BLOCK_PAGES;
        uint32_t n = (uint32_t)(left < room ? left : room);
        uint32_t frame = page_entry(va, true) ? frames_shared(&n) : 0;
        if (!frame) return -ENOMEM;
        for (uint32_t k = 0; k < n; k++, va += PAGE)
            page_note(va, (frame + k) | PG_SHARED);
        if (server(LX_OP_COPY, 0, frame, n) < 0) return -ENOMEM;
    }
    return 0;
}

static long map(struct vma *vma, uint64_t hint, uint64_t length, uint64_t flags)
{
    bool fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
    uint64_t va = hint;
    if (fixed && (!range_good(hint, length) || hint < PAGE)) return -EINVAL;
    if (flags & MAP_FIXED_NOREPLACE)
        for (uint32_t i = 0; i < lx.vmas; i++)
            if (lx.vma[i].start < hint + length && lx.vma[i].end > hint) return -EEXIST;
    if (flags & MAP_FIXED) {
        long r = unmap(hint, hint + length);
        if (r < 0) return r;
    }
    if (!fixed) va = vma_room(length);
    if (!va) return -ENOMEM;
    vma->start = va;
    vma->end = va + length;
    if (vma->flags & MAP_SHARED) lx.shares = true;
    long r = vma_add(vma);
    if (r == 0 && vma->flags & MAP_SHARED && vma->handle < 0) {
        r = shared_fill(va, va + length);
        if (r < 0) unmap(va, va + length);
    }
    return r < 0 ? r : (long)va;
}

long mm_map(uint64_t va, uint64_t length, int prot, int flags, int fd, uint64_t offset)
{
    unsigned type = flags & MAP_TYPE;
    struct vma vma = {.prot = (uint32_t)prot & (PROT_READ | PROT_WRITE | PROT_EXEC),
                      .flags = (uint32_t)flags & (MAP_TYPE | MAP_ANONYMOUS),
                      .handle = -1,
                      .offset = offset / PAGE};
    if (!length || offset % PAGE ||
        (type != MAP_PRIVATE && type != MAP_SHARED && type != MAP_SHARED_VALIDATE))
        return -EINVAL;
    if (type == MAP_SHARED_VALIDATE) vma.flags = (vma.flags & ~MAP_TYPE) | MAP_SHARED;
    if (length > LX_USER_END) return -ENOMEM;
    length = page_up(length);
    if (!(flags & MAP_ANONYMOUS)) {
        bool writes = vma.flags & MAP_SHARED && prot & PROT_WRITE;
        if (writes) vma.flags |= VMA_WRITES;
        long handle = handle_get(fd, writes);
        if (handle < 0) return handle;
        vma.handle = (int32_t)handle;
    } else {
        vma.offset = 0;
        lock();
    }
    long r = map(&vma, va, length, (uint64_t)flags);
    if (r < 0 && vma.handle >= 0) handle_put(vma.handle);
    unlock();
    return r;
}

long leaf_mmap(uint64_t va, uint64_t length, uint64_t prot, uint64_t flags, uint64_t fd,
               uint64_t offset)
{
    return mm_map(va, length, (int)prot, (int)flags, (int)fd, offset);
}

long leaf_munmap(uint64_t va, uint64_t length, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)c, (void)d, (void)e, (void)f;
    if (!length || !range_good(va, length)) return -EINVAL;
    lock();
    long result = unmap(va, va + page_up(length));
    unlock();
    return result;
}

/* ---- rights ---------------------------------------------------------------------------- */

/* Pages lose what they may no longer do; what they may now do comes with a fault. */
static void protect_pages(const struct vma *vma)
{
    unsigned rights = EXO_R | (vma->prot & PROT_EXEC ? EXO_X : 0);
    for (uint64_t va = vma->start; (va = page_next(va, vma->end)) < vma->end; va += PAGE) {
        uint32_t *entry = page_entry(va, false);
        bool writable = *entry & PG_W && vma->prot & PROT_WRITE;
        long r = 0;
        if (!vma->prot)
            page_unmap(va);
        else
            do
                r = exo_page_protect(EXO_SELF, va, 1, rights | (writable ? EXO_W : 0));
            while (r == -EXO_E_AGAIN);
        if (!writable) page_note(va, *entry & ~PG_W);
    }
}

static long protect(uint64_t va, uint64_t end, uint32_t prot)
{
    uint64_t at = va;
    while (at < end) {
        struct vma *vma = vma_find(at);
        if (!vma) return -ENOMEM;
        at = vma->end;
    }
    long r = vma_cut(va);
    if (r == 0) r = vma_cut(end);
    if (r < 0) return r;
    for (uint32_t i = 0; i < lx.vmas; i++) {
        struct vma *vma = &lx.vma[i];
        if (vma->start < va || vma->end > end || vma->prot == prot) continue;
        if (vma->handle >= 0 && vma->flags & MAP_SHARED && !(vma->flags & VMA_WRITES) &&
            prot & PROT_WRITE)
            return -EACCES;
        vma->prot = prot;
        protect_pages(vma);
    }
    vma_join(va, end);
    return 0;
}

long sys_mprotect(struct thread_state *t, struct regs *r)
{
    (void)t;
    if (r->rdi % PAGE || r->rdx & ~(uint64_t)(PROT_READ | PROT_WRITE | PROT_EXEC)) return -EINVAL;
    if (!r->rsi) return 0;
    if (!range_good(r->rdi, r->rsi)) return -ENOMEM;
    lock();
    long result = protect(r->rdi, r->rdi + page_up(r->rsi), (uint32_t)r->rdx);
    unlock();
    return result;
}

/* ---- the heap --------------------------------------------------------------------------------- */

static uint64_t brk_set(uint64_t want)
{
    uint64_t old = page_up(lx.brk), new = page_up(want);
    if (want < lx.brk_start || want >= LX_MMAP_TOP) return lx.brk;
    if (new > old) {
        for (uint32_t i = 0; i < lx.vmas; i++)
            if (lx.vma[i].start < new &&lx.vma[i].end > old) return lx.brk;
        struct vma vma = {.start = old,
                          .end = new,
                          .prot = PROT_READ | PROT_WRITE,
                          .flags = MAP_PRIVATE | MAP_ANONYMOUS | VMA_HEAP,
                          .handle = -1};
        if (vma_add(&vma) < 0) return lx.brk;
    } else if (new < old && unmap(new, old) < 0) {
        return lx.brk;
    }
    return lx.brk = want;
}

long sys_brk(struct thread_state *t, struct regs *r)
{
    (void)t;
    lock();
    uint64_t brk = brk_set(r->rdi);
    unlock();
    return (long)brk;
}

/* ---- the rest ------------------------------------------------------------------------------------ */

/* The pages go to where there is room; their frames stay. */
static long remap_move(struct vma *old, uint64_t to, uint64_t length)
{
    struct vma vma = *old;
    uint64_t start = old->start, end = old->end;
    vma.start = to;
    vma.end = to + length;
    long r = vma_add(&vma);
    if (r < 0) return r;
    for (uint64_t va = start; (va = page_next(va, end)) < end; va += PAGE) {
        uint32_t entry = *page_entry(va, false);
        if (va - start < length) {
            page_unmap(va);
            page_note(va, 0);
            page_note(to + (va - start), entry & ~PG_W);
        }
    }
    pages_drop(start, end);
    /* The new area may have joined the old one. */
    if (vma_cut(start) == 0 && vma_cut(end) == 0) vma_remove(start, end);
    return (long)to;
}

static bool room_behind(const struct vma *vma, uint64_t length)
{
    uint64_t end = vma->start + length;
    uint32_t i = (uint32_t)(vma - lx.vma) + 1;
    return end <= LX_USER_END && (i == lx.vmas || lx.vma[i].start >= end);
}

static long remap(uint64_t va, uint64_t old, uint64_t new, uint64_t flags, uint64_t to)
{
    struct vma *vma = vma_find(va);
    if (!vma || va + old > vma->end) return -EFAULT;
    if (vma_cut(va) < 0 || vma_cut(va + old) < 0) return -ENOMEM;
    vma = vma_find(va);
    if (text_area(vma)) text_end();
    if (flags & MREMAP_FIXED) {
        if (!range_good(to, new) || (to < va + old && va < to + new)) return -EINVAL;
        long r = unmap(to, to + new);
        return r < 0 ? r : remap_move(vma_find(va), to, new);
    }
    if (new <= old) {
        long r = new < old ? unmap(va + new, va + old) : 0;
        return r < 0 ? r : (long)va;
    }
    if (vma->flags & MAP_SHARED && vma->handle < 0) return -EINVAL; /* its frames are counted */
    if (room_behind(vma, new)) {
        vma->end = va + new;
        return (long)va;
    }
    if (!(flags & MREMAP_MAYMOVE)) return -ENOMEM;
    to = vma_room(new);
    return to ? remap_move(vma, to, new) : -ENOMEM;
}

long sys_mremap(struct thread_state *t, struct regs *r)
{
    (void)t;
    uint64_t old = page_up(r->rsi), new = page_up(r->rdx);
    if (!new || !old || !range_good(r->rdi, r->rsi) || new > LX_USER_END ||
        r->r10 & ~(uint64_t)(MREMAP_MAYMOVE | MREMAP_FIXED))
        return -EINVAL;
    lock();
    long result = remap(r->rdi, old, new, r->r10, r->r8);
    unlock();
    return result;
}

static void forget(uint64_t va, uint64_t end)
{
    for (uint32_t i = 0; i < lx.vmas; i++) {
        struct vma *vma = &lx.vma[i];
        uint64_t first = vma->start > va ? vma->start : va, last = vma->end < end ? vma->end : end;
        if (first < last && !(vma->flags & MAP_SHARED)) pages_drop(first, last);
    }
}

/* Flags of the areas of [va, va + length) are set and cleared. -ENOMEM: it has holes. */
static long flags_range(uint64_t va, uint64_t length, uint32_t set, uint32_t clear)
{
    uint64_t end = page_up(va + length), at = va &= -PAGE;
    if (!range_good(va, end - va)) return -ENOMEM;
    lock();
    long r = vma_cut(va);
    if (r == 0) r = vma_cut(end);
    bool cut = r == 0;
    while (cut && at < end) {
        struct vma *vma = vma_after(at);
        if (!vma || vma->start > at) r = -ENOMEM;
        if (!vma || vma->start >= end) break;
        vma->flags = (vma->flags & ~clear) | set;
        at = vma->end;
    }
    if (cut) vma_join(va, end);
    unlock();
    return r;
}

long sys_madvise(struct thread_state *t, struct regs *r)
{
    (void)t;
    uint64_t end = r->rdi + page_up(r->rsi);
    if (!range_good(r->rdi, r->rsi)) return -EINVAL;
    switch (r->rdx) {
    case MADV_DONTNEED:
    case MADV_FREE:
        lock();
        forget(r->rdi, end);
        unlock();
        return 0;
    case MADV_PAGEOUT:
        lock();
        replace_range(r->rdi, end);
        unlock();
        return 0;
    case MADV_NORMAL:
        return flags_range(r->rdi, r->rsi, 0, VMA_RANDOM | VMA_SEQUENTIAL);
    case MADV_RANDOM:
        return flags_range(r->rdi, r->rsi, VMA_RANDOM, VMA_SEQUENTIAL);
    case MADV_SEQUENTIAL:
        return flags_range(r->rdi, r->rsi, VMA_SEQUENTIAL, VMA_RANDOM);
    case MADV_COLD:
    case MADV_WILLNEED:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
        return 0;
    default:
        return -EINVAL;
    }
}

long sys_mincore(struct thread_state *t, struct regs *r)
{
    (void)t;
    if (r->rdi % PAGE) return -EINVAL;
    if (!range_good(r->rdi, r->rsi)) return -ENOMEM;
    for (uint64_t i = 0; i < page_up(r->rsi) / PAGE; i++) {
        uint64_t va = r->rdi + i * PAGE;
        if (!vma_find(va)) return -ENOMEM;
        uint32_t *entry = page_entry(va, false);
        uint8_t there = entry && *entry && !(*entry & PG_SWAP);
        if (user_put(r->rdx + i, &there, 1) < 0) return -EFAULT;
    }
    return 0;
}

/* Files are changed through calls only: nothing is to be written back. */
long sys_msync(struct thread_state *t, struct regs *r)
{
    (void)t;
    if (r->rdi % PAGE || r->rdx & ~(uint64_t)(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) return -EINVAL;
    return vma_find(r->rdi) ? 0 : -ENOMEM;
}

long sys_mlock(struct thread_state *t, struct regs *r)
{
    (void)t;
    long error = flags_range(r->rdi, r->rsi, VMA_LOCKED, 0);
    if (error < 0) return error;
    return user_touch(r->rdi, r->rsi, false) < 0 ? -ENOMEM : 0;
}

long sys_munlock(struct thread_state *t, struct regs *r)
{
    (void)t;
    return flags_range(r->rdi, r->rsi, 0, VMA_LOCKED);
}
