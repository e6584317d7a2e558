/* SPDX-License-Identifier: MIT
 *
 * Page faults: demand zero, pages of files, copy on write, the stack's growth. */
#include "library.h"
#include <asm/signal.h>
#include <linux/mman.h>
#include "../../../lib/exo/text.h"

#define FAULT_PRESENT 1 /* error code, Intel SDM vol. 3, 4.7 */
#define FAULT_WRITE 2
#define FAULT_FETCH 16
#define AHEAD REPLACE_FAULT /* fresh pages of memory that is gone through */
#define AROUND 4 /* pages that are bound at once */

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

/* How many pages from va on are taken at once, at most: the program goes through its memory
 * when the two before it have one of these flags. */
static uint32_t run_room(const struct vma *vma, uint64_t va, const uint32_t *entry, uint32_t flags)
{
    unsigned i = va >> 12 & 511;
    if (i < 2 || !(entry[-1] & flags) || !(entry[-2] & flags) || vma->flags & VMA_RANDOM) return 1;
    uint64_t room = (vma->end - va) / PAGE;
    if (room > 512 - i) room = 512 - i;
    return room < AHEAD ? (uint32_t)room : AHEAD;
}

/* As many where nothing lies. */
static uint32_t zero_run(const struct vma *vma, uint64_t va, const uint32_t *entry)
{
    uint32_t n = 1, room = run_room(vma, va, entry, PG_FRAME);
    while (n < room && !entry[n])
        n++;
    return n;
}

/* As many that lie in a row from the first one's entry on. */
static uint32_t copy_run(const struct vma *vma, uint64_t va, const uint32_t *entry)
{
    uint32_t n = 1, room = run_room(vma, va, entry, PG_W);
    while (n < room && entry[n] == entry[0] + n)
        n++;
    return n;
}

/* Of n fresh frames that go to va so many are bound; what lay there before (0: nothing) and
 * what is left over is free. */
static void run_note(uint64_t va, uint32_t entry, uint32_t n, uint32_t bound, uint32_t before)
{
    for (uint32_t k = 0; k < bound; k++) {
        if (before && !(before & PG_FILE)) frame_free((before & PG_FRAME) + k);
        page_note(va + k * PAGE, entry + k);
    }
    for (uint32_t k = bound; k < n; k++)
        frame_free((entry & PG_FRAME) + k);
}

/* Fresh frames at va, filled with zeroes; the page's entries are there. */
static int fault_zero(struct vma *vma, uint64_t va, const uint32_t *entry)
{
    bool write = vma->prot & PROT_WRITE, alone = write && lx.threads == 1;
    uint32_t n = alone ? zero_run(vma, va, entry) : 1, frame = frames_alloc(&n);
    if (!frame) return SIGBUS;
    if (!alone && server(LX_OP_COPY, 0, frame, n) < 0) return SIGBUS;
    long bound = pages_map(va, frame, n, rights_of(vma, write));
    if (bound < 0) return SIGBUS;
    run_note(va, frame | (write ? PG_W : 0), n, (uint32_t)bound, 0);
    if (alone) {
        uint64_t quads = (uint64_t)bound * PAGE / 8, to = va;
        __asm__ volatile("cld; rep stosq" : "+D"(to), "+c"(quads) : "a"(0ul) : "memory");
    }
    return 0;
}

/* The server is to see each page that is touched. */
static bool learning(const struct vma *vma)
{
    return lx.learning && vma->handle == lx.learning - 1;
}

/* The neighbours of va that are bound with it: within its area and 2 MiB. */
static uint64_t around(const struct vma *vma, uint64_t va, uint64_t *first)
{
    uint64_t size = (learning(vma) || vma->flags & VMA_RANDOM ? 1 : AROUND) * PAGE,
             end = (va & -size) + size;
    *first = va & -size;
    if (*first < vma->start) *first = vma->start;
    return end > vma->end ? vma->end : end;
}

/* Binds pages [i, end) of a block, as long as they are what an extent or a file has in a row, and
 * nothing is bound there: how many. */
static unsigned run_bind(struct pages *p, unsigned i, unsigned end, unsigned rights)
{
    uint32_t entry = p->entry[i];
    unsigned n = 1;
    struct extent *e = entry & PG_FILE ? NULL : extent_of(entry & PG_FRAME);
    uint32_t left = e ? e->first + e->count - (entry & PG_FRAME) : end - i; /* of its extent */
    if (end - i > left) end = i + left;
    while (i + n < end && p->entry[i + n] == entry + n &&
           !(p->bound[(i + n) / 64] >> (i + n) % 64 & 1))
        n++;
    long r = pages_map(p->va + i * PAGE, entry, n, rights);
    return r < 0 ? n : (unsigned)r;
}

static int around_bind(const struct vma *vma, uint64_t va)
{
    uint64_t first, end = around(vma, va, &first);
    struct pages *p = pages_at(va, false);
    unsigned at = va >> 12 & 511, stop = at + (unsigned)((end - va) / PAGE);
    for (unsigned i = at - (unsigned)((va - first) / PAGE); i < stop;) {
        bool bound = p->bound[i / 64] >> i % 64 & 1;
        i += p->entry[i] && !bound && !(p->entry[i] & (PG_W | PG_SHARED | PG_SWAP))
                 ? run_bind(p, i, stop, rights_of(vma, false))
                 : 1;
    }
    return p->bound[at / 64] >> at % 64 & 1 ? 0 : SIGBUS;
}

/* Pages of the file around va that nothing lies on yet are noted, and bound. */
static int fault_file(struct vma *vma, uint64_t va)
{
    uint64_t first, end = around(vma, va, &first);
    uint32_t frame[AROUND];
    uint64_t page = vma->offset + (first - vma->start) / PAGE;
    const uint64_t text = text_area(vma) ? LX_PAGES_TEXT : 0;
    const uint64_t a[4] = {(uint64_t)vma->handle, page, (end - first) / PAGE | text,
                           page + (va - first) / PAGE + 1};
    long n = server_aside(LX_OP_PAGES, a, frame, sizeof(frame));
    struct pages *p = pages_at(va, true);
    if (n < 0 || !p) return SIGBUS;
    unsigned i = first >> 12 & 511;
    for (unsigned k = 0; k < (end - first) / PAGE; k++, i++) {
        if (p->entry[i] || !(frame[k] & PG_FRAME)) continue;
        p->entry[i] = (frame[k] & PG_FRAME) | PG_FILE;
        p->used[i / 64] |= 1ul << i % 64;
    }
    return around_bind(vma, va);
}

/* ---- a new program ------------------------------------------------------------------------- */

static void seen_bind(const struct vma *vma, const struct lx_seen *seen, uint32_t n)
{
    struct exo_batch *list = upcall_page()->list;
    for (uint32_t i = 0; i < n;) {
        unsigned k = 0;
        for (; i < n && k < EXO_LIST_MAX; i++, k++)
            list[k] =
                (struct exo_batch){vma->start + (seen[i].page - vma->offset) * PAGE, seen[i].frame};
        pages_map_list(k, rights_of(vma, false));
    }
}

/* Copies of those that lie in a row, in memory and in the file. */
static void seen_copy(const struct vma *vma, const struct lx_seen *seen, uint32_t n)
{
    while (n) {
        uint32_t run = 1;
        uint64_t va = vma->start + (seen->page - vma->offset) * PAGE, room = 512 - (va >> 12 & 511);
        while (run < n && run < room && run < 64 && seen[run].page == seen->page + run &&
               seen[run].frame == seen->frame + run)
            run++;
        uint32_t frame = frames_alloc(&run);
        if (!frame) return;
        long bound = server(LX_OP_COPY, seen->frame, frame, run);
        if (bound == 0) bound = pages_map(va, frame, run, rights_of(vma, true));
        run_note(va, frame | PG_W, run, bound < 0 ? 0 : (uint32_t)bound, 0);
        if (bound <= 0) return;
        seen += bound;
        n -= (uint32_t)bound;
    }
}

void program_bind(int32_t handle)
{
    long n = server(LX_OP_SEEN, (uint64_t)handle, 0, 0);
    const struct lx_seen *seen = (const struct lx_seen *)this_thread()->window->bytes;
    lx.learning = n > 0 ? 0 : handle + 1;
    for (uint32_t i = 0; i < lx.vmas; i++) { /* their places in the file rise, too */
        const struct vma *vma = &lx.vma[i];
        if (vma->handle != handle) continue;
        uint64_t end = vma->offset + (vma->end - vma->start) / PAGE;
        for (; n > 0 && seen->page < vma->offset; n--)
            seen++;
        uint32_t here = 0;
        while (here < n && seen[here].page < end)
            here++;
        (vma->prot & PROT_WRITE ? seen_copy : seen_bind)(vma, seen, here);
    }
}

/* ---- what is shared, inherited, swapped out ------------------------------------------------ */

/* Pages of a file that are shared and written: bound with that right, as many as lie in a row. */
static int fault_shared(struct vma *vma, uint64_t va)
{
    struct pages *p = pages_at(va, true);
    unsigned at = va >> 12 & 511;
    if (!p) return SIGBUS;
    uint64_t room = (vma->end - va) / PAGE;
    if (room > BLOCK_PAGES - at) room = BLOCK_PAGES - at;
    if (room > LX_SHARE_MAX) room = LX_SHARE_MAX;
    long i = extent_share(vma->handle, vma->offset + (va - vma->start) / PAGE, (uint32_t)room);
    if (i < 0) return SIGBUS;
    const struct extent *e = &lx.extent[i];
    unsigned n = 1;
    while (n < e->count && !p->entry[at + n])
        n++;
    for (unsigned k = 0; k < n; k++)
        page_note(va + k * PAGE, (e->first + k) | PG_SHARED);
    unsigned rights = rights_of(vma, vma->prot & PROT_WRITE);
    return pages_map(va, p->entry[at], n < AHEAD ? n : AHEAD, rights) < 0 ? SIGBUS : 0;
}

/* The first touch of a page that a fork left, and of its neighbours; or of one that was taken, which we
 * were told and have not yet looked at. */
static int fault_inherited(struct vma *vma, uint64_t va, uint32_t entry)
{
    if (!(entry & (PG_W | PG_SHARED))) return around_bind(vma, va);
    if (process_window()->start.asked & LX_TAKEN) {
        replace_answer();
        return 0;
    }
    return page_map(va, entry, rights_of(vma, vma->prot & PROT_WRITE)) < 0 ? SIGBUS : 0;
}

/* A page that was given up comes back. */
static int fault_swapped(struct vma *vma, uint64_t va, uint32_t entry)
{
    bool write = vma->prot & PROT_WRITE;
    uint32_t frame = entry & PG_FRAME ? frame_alloc() : 0; /* else it was taken by force */
    if (!frame) return SIGBUS;
    if (server(LX_OP_SWAP_IN, entry & PG_FRAME, frame, 0) < 0) {
        frame_free(frame);
        return SIGBUS;
    }
    lx.replace.majors++;
    page_note(va, frame | (write ? PG_W : 0));
    return page_map(va, frame, rights_of(vma, write)) < 0 ? SIGBUS : 0;
}

/* May the frame be written where it is? */
static bool frame_writable(uint32_t entry)
{
    if (entry & PG_FILE) return false;
    if (entry & PG_SHARED) return true;
    struct extent *e = extent_of(entry & PG_FRAME);
    return e && (e->own == EXTENT_LENT || (e->own == EXTENT_OWN && shared->holders[e->id] == 1));
}

static int fault_write(struct vma *vma, uint64_t va, const uint32_t *at, bool present)
{
    uint32_t entry = *at;
    if (frame_writable(entry)) {
        long r = -1;
        if (present) r = exo_page_protect(EXO_SELF, va, 1, rights_of(vma, true));
        if (r != 1 && page_map(va, entry, rights_of(vma, true)) < 0) return SIGBUS;
        page_note(va, entry | PG_W);
        return 0;
    }
    uint32_t n = copy_run(vma, va, at), frame = frames_alloc(&n);
    if (!frame) return SIGBUS;
    if (server(LX_OP_COPY, entry & PG_FRAME, frame, n) < 0) return SIGBUS;
    long bound = pages_map(va, frame, n, rights_of(vma, true));
    if (bound < 0) return SIGBUS;
    run_note(va, frame | PG_W, n, (uint32_t)bound, entry);
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
    lx.replace.faulting = va;
    if (*entry & PG_SWAP) return fault_swapped(vma, va, *entry);
    if (!*entry) {
        int signal = vma->flags & VMA_WRITES ? fault_shared(vma, va)
                     : vma->handle < 0       ? fault_zero(vma, va, entry)
                                             : fault_file(vma, va);
        if (signal || !(error & FAULT_WRITE) || *entry & PG_W) return signal;
        present = true;
    }
    if (error & FAULT_WRITE) return fault_write(vma, va, entry, present);
    return present ? 0 : fault_inherited(vma, va, *entry);
}

int fault_handle(uint64_t va, uint64_t error)
{
    if (va >= LX_USER_END) return SIGSEGV;
    lock();
    int signal = fault_locked(va, error);
    lx.replace.faulting = 0;
    unlock();
    return signal;
}
