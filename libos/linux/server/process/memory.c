/* SPDX-License-Identifier: MIT
 *
 * Memory: see memory.h. The block is cut in half: pages of files (pages.c), then memory of
 * processes. */
#include "husk.h"
#include "../../signals.h"
#include "../files/data.h"
#include "../files/files.h"
#include "process.h"
#include "swap.h"
#include "units.h"

#define MAP_VA 0x100000000000ul /* of the block; other frames before and behind it in their order */
#define SHARE_MAKE 4u /* pages that a process's first touch of one of them makes */
#define RESERVE 64 /* one part of so many is not handed out for growth */
#define OBJECTS_SURE 64u /* frames of objects, and extents, that each process can have ... */
#define EXTENTS_SURE 16u
#define SHARE 4 /* ... more up to one part of so many of what is free */

struct extent {
    uint32_t first, count; /* frames; count 0: free */
    uint8_t kind; /* LX_FOR_* */
    uint8_t owner; /* process index + 1 who may write; 0: he is gone */
    uint16_t holders;
    uint64_t held[LX_PROCESSES / 64]; /* by whom, a bit each */
};

struct lx_shared *lx_shared;
uint64_t library_frame;
uint64_t files_first, files_count_frames;
static struct extent extents[LX_EXTENTS_ALL];
static uint16_t extent_free[LX_EXTENTS_ALL], extents_free; /* numbers that are free */

/* Two envs in which nothing runs: our selectors of them. In `store`, number i is the selector of
 * extent i's capability: all that processes have of the extent, and what they made of it, is
 * derived from that one, and goes with it, whatever they copied it to. In `holds` each process has
 * LX_EXTENTS selectors: what a child inherited is derived from the capability there, and goes
 * with it when the child gives it back, though others have the extent still. The first process
 * inherits nothing: no selector is 0. */
static uint32_t store, holds;
#define STORE_TABLES ((LX_EXTENTS_ALL + EXO_TAB_CAPS - 1) / EXO_TAB_CAPS)
#define HOLD_TABLES (LX_PROCESSES * LX_EXTENTS / EXO_TAB_CAPS)
_Static_assert(HOLD_TABLES <= EXO_TAB_MAX, "a selector for each extent of each process");

static inline uint8_t *block_va(uint64_t frame)
{
    return (uint8_t *)MAP_VA + (frame - exo.start.block.first) * EXO_PAGE;
}

void *frame_data(uint32_t frame) { return block_va(frame); }
void *page_data(uint32_t frame) { return block_va(frame); }

long memory_env(uint32_t tables, uint32_t *made)
{
    long frame = exo_frames_alloc(&exo.pool, 3 + tables, 1), sel = exo_sel_alloc();
    if (frame < 0 || sel < 0) return frame < 0 ? frame : sel;
    *made = (uint32_t)sel;
    return exo_env_make(*made, exo.pool.sel, (uint64_t)frame, tables, 0);
}

long memory_init(void)
{
    const struct exo_range *b = &exo.start.block;
    if (b->count < 2048) {
        exo_printf("%s: needs a block of at least 8M (block= in the configuration)\n",
                   exo.start.name);
        return -EXO_E_ARG;
    }
    long r = exo_bind(&exo.pool, MAP_VA, b->count, b->sel, b->first, EXO_R | EXO_W);
    if (r < 0) {
        exo_printf("%s: cannot map its block: %s\n", exo.start.name, exo_strerror(r));
        return r;
    }
    files_first = b->first;
    files_count_frames = EXO_MIN(b->count / 2, FILE_PAGES_MAX);
    uint64_t memory_first = files_first + files_count_frames;
    library_frame = (memory_first - LX_LIB_PAGES) / LX_LIB_PAGES * LX_LIB_PAGES;
    pages_init();
    lx_shared = frame_data((uint32_t)library_frame - 1);
    memset(lx_shared, 0, EXO_PAGE);
    units_init(memory_first, b->count - files_count_frames, &exo.start.loan);
    for (uint16_t i = LX_EXTENTS_ALL - 1; i; i--)
        extent_free[extents_free++] = i;
    r = memory_env(STORE_TABLES, &store);
    return r < 0 ? r : memory_env(HOLD_TABLES, &holds);
}

/* ---- extents ------------------------------------------------------------------------------ */

/* A capability goes with all that was derived from it. */
static long cap_delete(uint64_t ref)
{
    long r;
    do
        r = exo_cap_delete(ref);
    while (r == -EXO_E_AGAIN);
    return r;
}

void cap_end(uint64_t ref)
{
    if (cap_delete(ref) != -EXO_E_BUSY) return;
    while (exo_cap_revoke(ref, 0, 0) == -EXO_E_AGAIN)
        ;
    cap_delete(ref);
}

static void held_set(struct extent *e, const struct process *p, bool on)
{
    uint64_t bit = 1ul << memory_place(p) % 64, *word = &e->held[memory_place(p) / 64];
    if (on == !!(*word & bit)) return;
    *word ^= bit;
    e->holders = (uint16_t)(e->holders + (on ? 1 : -1));
    lx_shared->holders[e - extents] = (uint8_t)EXO_MIN(e->holders, 255);
}

/* Whether the process may have one more extent. */
static bool extents_fair(const struct process *process)
{
    const struct process_memory *m = process->memory;
    uint32_t held = 0;
    if (extents_free > LX_EXTENTS * SHARE) return extents_free;
    for (uint32_t i = 0; i < m->extents; i++)
        held += m->extent[i] && m->extent[i] != LX_EXTENT_OBJECTS;
    return held < EXTENTS_SURE + extents_free / SHARE && extents_free;
}

/* An extent's number, the next that is free, and its capability in the store. */
static long extent_make(struct process *process, uint32_t sel, uint32_t first, uint32_t count,
                        unsigned kind)
{
    if (!extents_fair(process)) return -ENOMEM;
    uint16_t number = extent_free[extents_free - 1];
    if (exo_cap_derive(sel, EXO_REF(store, number), EXO_R | EXO_W | EXO_X, first, count) < 0)
        return -ENOMEM;
    extents_free--;
    extents[number] = (struct extent){.first = first,
                                      .count = count,
                                      .kind = (uint8_t)kind,
                                      .owner = (uint8_t)(memory_place(process) + 1)};
    held_set(&extents[number], process, true);
    return number;
}

long extent_new(struct process *process, uint32_t frames, unsigned purpose, bool movable)
{
    uint32_t n = (frames + LX_UNIT - 1) / LX_UNIT;
    if (!extents_free) return -ENOMEM;
    uint32_t unit = units_take(n, extent_free[extents_free - 1], movable);
    if (unit == UNITS_NONE && husks_drop() && extents_free)
        unit = units_take(n, extent_free[extents_free - 1], movable);
    if (unit == UNITS_NONE) return -ENOMEM;
    long number =
        extent_make(process, unit_selector(unit), (uint32_t)unit_frame(unit), n * LX_UNIT, purpose);
    if (number < 0) units_put(unit, n);
    return number;
}

uint32_t extent_first(uint16_t number) { return extents[number].first; }
uint32_t extent_count(uint16_t number) { return extents[number].count; }

void extent_put(struct process *process, uint16_t number)
{
    struct extent *e = &extents[number];
    held_set(e, process, false);
    if (e->owner == memory_place(process) + 1) e->owner = 0;
    if (e->holders) return;
    cap_end(EXO_REF(store, number));
    extent_free[extents_free++] = number;
    if (e->kind == LX_FOR_FILE) {
        runs_count(e->first, e->count, -1);
    } else {
        units_put(unit_of(e->first), e->count / LX_UNIT);
    }
    e->count = 0;
}

uint64_t extent_ref(uint16_t number) { return EXO_REF(store, number); }

long extent_derive(struct process *process, uint16_t number, uint32_t sel, unsigned rights)
{
    const struct extent *e = &extents[number];
    return exo_cap_derive(EXO_REF(store, number), EXO_REF(process->memory->env, sel), rights,
                          e->first, e->count);
}

long ring_bind(struct process *process, uint32_t slot, uint16_t number)
{
    const struct extent *e = &extents[number];
    uint32_t env = process->memory->env;
    long r = exo_cap_derive(EXO_REF(store, number), EXO_REF(env, LX_SEL_RING + slot), EXO_R | EXO_W,
                            e->first, 1);
    process->memory->odd = true; /* a copy of it would outlive this side of the ring */
    if (r < 0) return r;
    do
        r = exo_page_bind(env, LX_RING_VA + slot * EXO_PAGE, 1, LX_SEL_RING + slot, e->first,
                          EXO_R | EXO_W);
    while (r == -EXO_E_AGAIN);
    held_set(&extents[number], process, r == 1);
    if (r == 1) return 0;
    cap_end(EXO_REF(env, LX_SEL_RING + slot));
    return r;
}

void ring_unbind(struct process *process, uint32_t slot, uint16_t number)
{
    uint32_t env = process->memory->env;
    while (exo_page_unbind(env, LX_RING_VA + slot * EXO_PAGE, 1) == -EXO_E_AGAIN)
        ;
    cap_end(EXO_REF(env, LX_SEL_RING + slot));
    extent_put(process, number);
}

/* What a process may write it may lend: its own, and in vfork its parent's. */
static bool may_lend(const struct process *p, const struct extent *e)
{
    return e->owner == memory_place(p) + 1 ||
           (p->lender && e->owner == memory_place(p->lender) + 1);
}

static uint64_t hold_ref(const struct process *p, uint32_t i)
{
    return EXO_REF(holds, memory_place(p) * LX_EXTENTS + i);
}

/* What the process has of an extent that it inherited goes, copies too. False: it holds that up,
 * by a revocation that it does not finish. */
static bool hold_end(struct process *p, uint32_t i)
{
    uint64_t bit = 1ul << i % 64, *word = &p->memory->inherited[i / 64];
    if (!(*word & bit)) return true;
    if (exo_cap_delete(hold_ref(p, i)) < 0) { /* there are copies */
        cap_end(hold_ref(p, i));
        if (exo_cap_info(hold_ref(p, i)) > 0) return false;
    }
    *word &= ~bit;
    return true;
}

bool extents_exec(struct process *p)
{
    struct process_memory *m = p->memory;
    for (uint32_t i = 0; i < m->extents; i++) {
        if (!(m->inherited[i / 64] >> i % 64 & 1)) continue;
        if (!hold_end(p, i)) return false;
        extent_put(p, m->extent[i]);
        m->extent[i] = 0;
    }
    return true;
}

long extents_fork(struct process *parent, struct process *child, bool lend, const uint64_t keep[2])
{
    struct process_memory *from = parent->memory, *to = child->memory;
    for (uint32_t i = 0; i < from->extents; i++) {
        uint16_t number = from->extent[i];
        uint64_t bit = 1ul << i % 64, hold = hold_ref(child, i);
        if (!number || number == LX_EXTENT_OBJECTS || !(keep[i / 64] & bit)) continue;
        const struct extent *e = &extents[number];
        bool shared = e->kind == LX_FOR_SHARED || e->kind == LX_FOR_FILE;
        bool write = shared || (lend && may_lend(parent, e));
        unsigned rights = EXO_R | EXO_X | (write ? EXO_W : 0);
        long r = exo_cap_derive(EXO_REF(store, number), hold, rights, e->first, e->count);
        if (r < 0) return r;
        to->inherited[i / 64] |= bit;
        to->extents = i + 1;
        r = exo_cap_derive(hold, EXO_REF(to->env, LX_SEL_EXTENT + i), rights, e->first, e->count);
        if (r < 0) return r;
        to->extent[i] = number;
        held_set(&extents[number], child, true);
    }
    swap_fork(parent, child);
    return 0;
}

static bool extent_private(const struct process *p, uint16_t number)
{
    const struct extent *e = &extents[number];
    return number && number != LX_EXTENT_OBJECTS && e->kind == LX_FOR_MEMORY && e->holders == 1 &&
           e->owner == memory_place(p) + 1;
}

uint32_t extents_private(const struct process *p)
{
    uint32_t frames = 0;
    for (uint32_t i = 0; i < p->memory->extents; i++)
        if (extent_private(p, p->memory->extent[i])) frames += extents[p->memory->extent[i]].count;
    return frames;
}

/* An extent's selector index in the process, or LX_EXTENTS. */
static uint32_t extent_index(const struct process *p, uint16_t number)
{
    uint32_t i = 0;
    while (i < p->memory->extents && p->memory->extent[i] != number)
        i++;
    return i < p->memory->extents ? i : LX_EXTENTS;
}

static bool extent_held(uint16_t number, unsigned i)
{
    return extents[number].held[i / 64] >> i % 64 & 1;
}

/* All that have the extent lose it, and are told. Who holds that up, by a revocation that it does not
 * finish, ends, or (not end) still counts as a holder. */
static void extent_lose(uint16_t number, bool end)
{
    cap_end(EXO_REF(store, number));
    bool stays = exo_cap_info(EXO_REF(store, number)) > 0;
    for (unsigned k = 0; k < LX_PROCESSES; k++) {
        struct process *p = &processes[k];
        if (!extent_held(number, k)) continue;
        uint32_t i = extent_index(p, number);
        if (stays || i == LX_EXTENTS || !hold_end(p, i)) {
            if (end) process_end(p, SIGKILL);
            continue;
        }
        struct lx_window *window = process_window(p);
        p->memory->extent[i] = 0;
        __atomic_fetch_or(&window->start.taken[i / 64], 1ul << i % 64, __ATOMIC_RELAXED);
        process_ask(p, LX_TAKEN);
        extent_put(p, number);
    }
}

void extent_seize(uint16_t number) { extent_lose(number, true); }

void runs_cut(uint32_t frame)
{
    for (uint16_t number = 1; number < LX_EXTENTS_ALL; number++) {
        const struct extent *e = &extents[number];
        if (e->kind == LX_FOR_FILE && frame - e->first < e->count) extent_lose(number, false);
    }
}

uint32_t extents_take(struct process *p, uint32_t frames)
{
    struct process_memory *m = p->memory;
    uint32_t taken = 0;
    for (uint32_t i = m->extents; i-- && taken < frames;) {
        uint16_t number = m->extent[i];
        if (!extent_private(p, number)) continue;
        taken += extents[number].count;
        extent_seize(number);
        if (!process_alive(p)) break;
    }
    return taken;
}

void extent_want(uint16_t number)
{
    const struct extent *e = &extents[number];
    for (unsigned k = 0; k < LX_PROCESSES; k++) {
        struct process *p = &processes[k];
        uint32_t i = extent_held(number, k) ? extent_index(p, number) : LX_EXTENTS;
        bool owner = e->owner == k + 1;
        if (i == LX_EXTENTS || !process_alive(p) || (owner && e->holders > 1)) continue;
        __atomic_fetch_or(&process_window(p)->start.wanted[i / 64], 1ul << i % 64,
                          __ATOMIC_RELAXED);
        process_ask(p, LX_WANTED);
    }
}

/* Takes a process's own capability of an extent away; false: it is bound somewhere, or there may
 * be copies. Who inherited the extent has it through a child of the store's. */
static bool extent_leave(struct process *p, uint32_t i)
{
    struct process_memory *m = p->memory;
    uint16_t number = m->extent[i];
    if (!number) return true;
    long r = cap_delete(EXO_REF(m->env, LX_SEL_EXTENT + i));
    if (r < 0 && r != -EXO_E_SEL) return false;
    bool own = !(m->inherited[i / 64] >> i % 64 & 1);
    if (!hold_end(p, i)) return false;
    extent_put(p, number);
    m->extent[i] = 0;
    const struct extent *e = &extents[number];
    return !own || !e->holders ||
           exo_cap_revoke(EXO_REF(store, number), UINT64_MAX, 0) == (long)e->holders * e->count;
}

bool extents_leave(struct process *p)
{
    for (uint32_t i = 0; i < p->memory->extents; i++)
        if (!extent_leave(p, i)) return false;
    p->memory->extents = 0;
    return true;
}

bool data_leave(struct process *p)
{
    struct process_memory *m = p->memory;
    for (; m->data_count > 1; m->data_count--) {
        uint32_t i = m->data_count - 1;
        while (exo_page_unbind(m->env, lx_data_va(i), lx_data_pages(i)) == -EXO_E_AGAIN)
            ;
        if (cap_delete(EXO_REF(m->env, LX_SEL_DATA + i)) < 0) return false;
        extent_put(p, m->data[i]);
    }
    return true;
}

void memory_end(struct process *process)
{
    struct process_memory *m = process->memory;
    swap_end(process);
    for (uint32_t i = 0; i < m->extents; i++) {
        hold_end(process, i);
        if (m->extent[i] && m->extent[i] != LX_EXTENT_OBJECTS) extent_put(process, m->extent[i]);
    }
    for (uint32_t i = 0; i < m->more_count; i++)
        exo_frames_free(&exo.pool, m->more[i].first, m->more[i].count);
    for (uint32_t i = 0; i < m->data_count && !m->husk; i++)
        extent_put(process, m->data[i]);
    for (uint32_t i = 0; i < LX_THREADS && m->odd; i++) {
        if (m->thread[i].extent) extent_put(process, m->thread[i].extent);
        if (m->thread[i].frames) exo_frames_free(&exo.pool, m->thread[i].frames, 2);
        m->thread[i].extent = 0;
        m->thread[i].frames = 0;
    }
    for (uint32_t i = 0; i < m->handles; i++) {
        if (m->handle[i]) file_put(m->handle[i]);
        m->handle[i] = NULL;
    }
    memset(m->extent, 0, m->extents * sizeof(m->extent[0]));
    m->handles = 0;
    m->extents = m->more_count = 0;
    m->data_count = m->husk ? 1 : 0;
    m->odd = false;
}

/* ---- the user's buffers ---------------------------------------------------------------------- */

/* Whether the process may write [first, last] of the files' pages: it has mapped them so. */
static bool run_has(const struct process *p, uint64_t first, uint64_t last)
{
    const struct process_memory *m = p->memory;
    for (uint32_t i = 0; i < m->extents; i++) {
        if (!m->extent[i] || m->extent[i] == LX_EXTENT_OBJECTS) continue;
        const struct extent *e = &extents[m->extent[i]];
        if (e->kind == LX_FOR_FILE && first >= e->first && last < e->first + e->count) return true;
    }
    return false;
}

bool frames_allowed(const struct process *p, uint64_t first, uint64_t last, bool write)
{
    if (last < first) return false;
    if (first >= files_first && last < files_first + files_count_frames)
        return !write || run_has(p, first, last);
    uint32_t from = unit_of(first), to = unit_of(last);
    if (from == UNITS_NONE || to == UNITS_NONE || (last - unit_frame(from)) / LX_UNIT != to - from)
        return false;
    for (uint32_t u = from; u <= to; u++) {
        const struct extent *e = &extents[units_extent[u]];
        unsigned i = memory_place(p);
        if (!units_extent[u] || !(e->held[i / 64] >> i % 64 & 1)) return false;
        if (write && e->kind != LX_FOR_SHARED && !may_lend(p, e)) return false;
    }
    return true;
}

/* Bytes of one call at most: it cannot be interrupted. The rest is another call's. */
#define IO_MAX (4ul << 20)

static bool run_add(struct iobuf *io, const struct process *p, uint64_t address, uint64_t length,
                    bool write)
{
    uint64_t end;
    if (!length) return true;
    if (__builtin_add_overflow(address, length - 1, &end)) return false;
    if (!frames_allowed(p, address / EXO_PAGE, end / EXO_PAGE, write)) return false;
    io->run[io->runs].base = block_va(address / EXO_PAGE) + address % EXO_PAGE;
    io->run[io->runs++].length = length;
    io->left += length;
    return true;
}

static __attribute__((noinline)) long runs_add(struct iobuf *io, struct thread *thread,
                                               uint64_t where, uint64_t length, bool write)
{
    const struct process *p = thread->process;
    io->runs = io->at = 0;
    io->offset = io->left = 0;
    if (!length) return 0;
    if (!(where & LX_RUNS))
        return run_add(io, p, where, EXO_MIN(length, IO_MAX), write) ? 0 : -EFAULT;
    uint64_t n = where & ~LX_RUNS;
    if (n > LX_RUN_MAX) return -EFAULT;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t address = __atomic_load_n(&thread->window->run[i].address, __ATOMIC_RELAXED);
        uint64_t size = __atomic_load_n(&thread->window->run[i].length, __ATOMIC_RELAXED);
        size = EXO_MIN(size, EXO_MIN(length, IO_MAX) - io->left);
        if (!run_add(io, p, address, size, write)) return -EFAULT;
    }
    return io->left == EXO_MIN(length, IO_MAX) ? 0 : -EFAULT;
}

long iobuf_from(struct iobuf *io, struct thread *thread, uint64_t where, uint64_t length,
                bool write)
{
    if (!(where & LX_INLINE)) return runs_add(io, thread, where, length, write);
    where &= ~LX_INLINE;
    if (length > LX_WINDOW_BYTES || where > LX_WINDOW_BYTES - length) return -EFAULT;
    iobuf_own(io, thread->window->bytes + where, length);
    return 0;
}

void iobuf_own(struct iobuf *io, void *memory, size_t length)
{
    io->run[0].base = memory;
    io->run[0].length = length;
    io->runs = 1;
    io->at = 0;
    io->offset = 0;
    io->left = length;
}

/* The next piece, at most n bytes: its length; moves on. */
static size_t iobuf_piece(struct iobuf *io, size_t n, uint8_t **at)
{
    size_t room = io->run[io->at].length - io->offset;
    if (n > room) n = room;
    *at = io->run[io->at].base + io->offset;
    io->offset += n;
    io->left -= n;
    if (n == room) {
        io->at++;
        io->offset = 0;
    }
    return n;
}

/* Nearly always one piece is all. */
size_t iobuf_move(struct iobuf *to, struct iobuf *from)
{
    uint8_t *source, *target;
    size_t n = EXO_MIN(to->left, from->left);
    if (!n) return 0;
    size_t room = from->run[from->at].length - from->offset;
    size_t step = iobuf_piece(to, EXO_MIN(n, room), &target);
    iobuf_piece(from, step, &source);
    memcpy(target, source, step);
    return step == n ? n : step + iobuf_move(to, from);
}

size_t iobuf_put(struct iobuf *io, const void *from, size_t n)
{
    uint8_t *at;
    n = EXO_MIN(n, io->left);
    if (!n) return 0;
    size_t step = iobuf_piece(io, n, &at);
    memcpy(at, from, step);
    return step == n ? n : step + iobuf_put(io, (const uint8_t *)from + step, n - step);
}

size_t iobuf_get(struct iobuf *io, void *to, size_t n)
{
    uint8_t *at;
    n = EXO_MIN(n, io->left);
    if (!n) return 0;
    size_t step = iobuf_piece(io, n, &at);
    memcpy(to, at, step);
    return step == n ? n : step + iobuf_get(io, (uint8_t *)to + step, n - step);
}

size_t iobuf_zero(struct iobuf *io, size_t n)
{
    uint8_t *at;
    n = EXO_MIN(n, io->left);
    for (size_t done = 0, step; done < n; done += step) {
        step = iobuf_piece(io, n - done, &at);
        memset(at, 0, step);
    }
    return n;
}

/* ---- calls -------------------------------------------------------------------------------------- */

/* Frames for page tables and threads: of our own pool, and never looked at again until the
 * process's env is gone. */
static long objects_extent(struct process *p, uint32_t i, uint32_t frames)
{
    struct process_memory *m = p->memory;
    uint64_t held = frames;
    if (m->more_count == LX_OBJECTS_MORE) return -ENOMEM;
    for (uint32_t k = 0; k < m->more_count; k++)
        held += m->more[k].count;
    if (held > OBJECTS_SURE + exo.pool.free / SHARE) return -ENOMEM;
    long first = husk_frames(frames);
    if (first < 0) return -ENOMEM;
    if (exo_cap_derive(exo.pool.sel, EXO_REF(m->env, LX_SEL_EXTENT + i), EXO_R | EXO_W | EXO_OBJECT,
                       (uint64_t)first, frames) < 0) {
        exo_frames_free(&exo.pool, (uint64_t)first, frames);
        return -ENOMEM;
    }
    m->more[m->more_count].first = (uint32_t)first;
    m->more[m->more_count++].count = frames;
    m->extent[i] = LX_EXTENT_OBJECTS;
    if (i >= m->extents) m->extents = i + 1;
    return first;
}

/* Whether a part is left without so many frames, for what processes cannot do without: their
 * libraries' data, children. */
static bool memory_enough(uint32_t frames)
{
    return lx_shared->memory_free >= frames + lx_shared->memory_frames / RESERVE;
}

/* Leaves a part (memory_enough). Of memory it may be less, in halves. A small piece that is not there is asked for. */
static long extent_grant(struct process *p, uint32_t frames, unsigned purpose)
{
    for (uint32_t n = frames;; n = n > 2 * LX_EXTENT_FEW ? n / 2 : EXO_MIN(n, LX_EXTENT_FEW)) {
        long r = -ENOMEM;
        if (memory_enough(n))
            r = extent_new(p, n, purpose, purpose == LX_FOR_MEMORY && p != processes);
        if (r >= 0 || (n > LX_EXTENT_FEW && purpose != LX_FOR_MEMORY)) return r;
        if (n > LX_EXTENT_FEW) continue;
        r = frames > LX_EXTENT_FEW ? -ENOMEM : memory_ask(p, n);
        if (r < 0) return r;
    }
}

long op_extent(struct thread *thread, const uint64_t a[6])
{
    struct process *p = thread->process;
    struct process_memory *m = p->memory;
    uint64_t frames = a[0], i = a[1];
    if (!frames || frames > LX_EXTENT_MAX || i >= LX_EXTENTS || a[2] > LX_FOR_SHARED)
        return -EINVAL;
    if (m->extent[i]) return -EEXIST;
    if (a[2] == LX_FOR_OBJECTS) return objects_extent(p, (uint32_t)i, (uint32_t)frames);
    long number = extent_grant(p, (uint32_t)frames, (unsigned)a[2]);
    if (number < 0) return number;
    if (extent_derive(p, (uint16_t)number, LX_SEL_EXTENT + (uint32_t)i, EXO_R | EXO_W | EXO_X) <
        0) {
        extent_put(p, (uint16_t)number);
        return -ENOMEM;
    }
    m->extent[i] = (uint16_t)number;
    if (i >= m->extents) m->extents = (uint32_t)i + 1;
    uint64_t told = (uint64_t)number | (uint64_t)extents[number].count << 32;
    window_put(thread, 0, &told, sizeof(told));
    return extents[number].first;
}

/* Its capability goes, with all that was derived from it by a child that inherited it. */
static long extent_give(struct process *p, uint64_t i)
{
    struct process_memory *m = p->memory;
    if (i >= LX_EXTENTS || !m->extent[i] || m->extent[i] == LX_EXTENT_OBJECTS) return -EINVAL;
    long r = cap_delete(EXO_REF(m->env, LX_SEL_EXTENT + i));
    if (r < 0 && r != -EXO_E_SEL) return -EBUSY;
    if (!hold_end(p, (uint32_t)i)) {
        process_end(p, SIGKILL);
        return 0;
    }
    memory_given(p, extents[m->extent[i]].count);
    __atomic_fetch_and(&process_window(p)->start.wanted[i / 64], ~(1ul << i % 64),
                       __ATOMIC_RELAXED);
    extent_put(p, m->extent[i]);
    m->extent[i] = 0;
    return 0;
}

static void extents_shrink(struct process_memory *m)
{
    while (m->extents && !m->extent[m->extents - 1])
        m->extents--;
}

long op_give(struct thread *thread, const uint64_t a[6])
{
    long r = extent_give(thread->process, a[0]);
    extents_shrink(thread->process->memory);
    return r;
}

long op_give_all(struct thread *thread, const uint64_t a[6])
{
    struct process *p = thread->process;
    uint64_t left[LX_EXTENTS / 64] = {0};
    for (unsigned w = 0; w < LX_EXTENTS / 64; w++)
        for (uint64_t set = a[w]; set && process_alive(p); set &= set - 1)
            if (extent_give(p, w * 64 + (unsigned)__builtin_ctzl(set)) < 0) left[w] |= set & -set;
    if (!process_alive(p)) return 0;
    extents_shrink(p->memory);
    return window_put(thread, 0, left, sizeof(left));
}

long op_copy(struct thread *thread, const uint64_t a[6])
{
    const struct process *p = thread->process;
    uint64_t from = a[0], to = a[1], more = a[2] - 1;
    if (more >= LX_EXTENT_MAX) return -EINVAL;
    if (!frames_allowed(p, to, to + more, true)) return -EFAULT;
    if (from && !frames_allowed(p, from, from + more, false)) return -EFAULT;
    if (from)
        memmove(block_va(to), block_va(from), (more + 1) * EXO_PAGE);
    else
        memset(block_va(to), 0, (more + 1) * EXO_PAGE);
    return 0;
}

long op_data(struct thread *thread, const uint64_t a[6])
{
    (void)a;
    struct process *p = thread->process;
    struct process_memory *m = p->memory;
    uint32_t i = m->data_count, n = lx_data_pages(i);
    bool many = i >= LX_DATA_NEAR;
    if (i == LX_DATA_CHUNKS || (many && !memory_enough(n))) return -ENOMEM;
    long number = extent_new(p, n, LX_FOR_MEMORY, false);
    if (number < 0) return number;
    m->data[m->data_count++] = (uint16_t)number;
    long r = extent_derive(p, (uint16_t)number, LX_SEL_DATA + i, EXO_R | EXO_W);
    if (r == 0)
        r = exo_page_bind(m->env, lx_data_va(i), n, LX_SEL_DATA + i, extents[number].first,
                          EXO_R | EXO_W);
    return r == (long)n ? 0 : -ENOMEM;
}

/* ---- mapped files ---------------------------------------------------------------------------------- */

long op_share(struct thread *thread, const uint64_t a[6])
{
    struct process *p = thread->process;
    struct process_memory *m = p->memory;
    uint32_t frames[SHARE_MAKE];
    if (a[0] >= LX_HANDLES || !m->handle[a[0]]) return -EBADF;
    uint32_t wanted = (uint32_t)a[2], index = (uint32_t)(a[2] >> 32);
    if (!wanted || wanted > LX_SHARE_MAX || index >= LX_EXTENTS) return -EINVAL;
    if (m->extent[index]) return -EEXIST;
    uint32_t few = EXO_MIN(wanted, SHARE_MAKE);
    long r = file_pages(m->handle[a[0]], a[1], few, frames, true);
    if (r < 0) return r;
    if (!frames[0]) return -ENXIO;
    uint64_t n = 1;
    while (n < few && frames[n] == frames[0] + n)
        n++;
    if (n == few)
        while (n < wanted && data_frame(m->handle[a[0]], a[1] + n) == frames[0] + n)
            n++;
    long number = extent_make(p, exo.start.block.sel, frames[0], (uint32_t)n, LX_FOR_FILE);
    if (number < 0) return number;
    runs_count(frames[0], (uint32_t)n, 1);
    if (extent_derive(p, (uint16_t)number, LX_SEL_EXTENT + index, EXO_R | EXO_W) < 0) {
        extent_put(p, (uint16_t)number);
        return -ENOMEM;
    }
    m->extent[index] = (uint16_t)number;
    if (index >= m->extents) m->extents = index + 1;
    window_put(thread, 0, &n, sizeof(n));
    return frames[0];
}
