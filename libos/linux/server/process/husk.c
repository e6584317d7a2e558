/* SPDX-License-Identifier: MIT
 *
 * Husks: see husk.h. Nothing that the ended process says is believed. Its env is clean when
 *  - it holds what it was given and nothing else: each of those capabilities is at its place
 *    as it was, and the only child of its guard, and has no children but the thread, which has
 *    none but our event. All that a process can hold comes from these and from its extents,
 *    whose capabilities are gone by then;
 *  - as many bindings are counted on each as were then, and the known page-table entries are
 *    what they were: so nothing else is bound anywhere;
 *  - the frames for its objects are what they were. Page tables that it made besides may stay:
 *    they are empty, and the next process is told from where on frames are free.
 * What is left of its thread is set anew: handlers, pending events, and registers when it starts.
 * But not what does nothing to the next process: a timer, a warning of the slice's end, being the
 * env's revoker are at most spurious events, and nobody hands capabilities over.
 *
 * exo_cap_revoke with a limit above what there can be takes nothing: it counts. */
#include "husk.h"
#include "../files/files.h"
#include "process.h"

#define HUSKS 16 /* at most */
#define HUSK_VA 0x180000000000ul /* of ours: VIEW_PAGES for each place of the process table */
#define VIEW_PAGES 8
enum { VIEW_UPCALL, VIEW_TOP, VIEW_TABLES }; /* upcall page; top table; those of levels 3, 2, 1 */
#define USED_BITS 0x60ul /* accessed, dirty: Intel SDM vol. 3A, 4.8 */
#define SPARE_FRAMES 12 /* for page tables, that a husk has to have */
#define INDEX(va, level) ((va) >> (3 + 9 * (level)) & 511)

static const uint32_t selectors[GUARDS] = {LX_SEL_FILES, LX_SEL_FAULT, LX_SEL_OBJECTS, LX_SEL_DATA,
                                           LX_SEL_THREAD};
/* The entries that a new env has, in VIEW_TOP and what follows it. */
static const struct {
    uint16_t page, first, count;
} parts[] = {{VIEW_TOP, INDEX(LX_OWN_VA, 4), 1},
             {VIEW_TABLES, INDEX(LX_OWN_VA, 3), 1},
             {VIEW_TABLES + 1, INDEX(LX_OWN_VA, 2), 2},
             {VIEW_TABLES + 2, INDEX(LX_SHARED_VA, 1), 2 + LX_PRIVATE_DATA},
             {VIEW_TABLES + 2, INDEX(LX_DATA_VA, 1), LX_DATA_CHUNK}};
#define ENTRIES (1 + 1 + 2 + 2 + LX_PRIVATE_DATA + LX_DATA_CHUNK)
_Static_assert(LX_SHARED_VA + EXO_PAGE == LX_THREAD_VA, "parts");
_Static_assert(INDEX(LX_OWN_VA, 2) + 1 == INDEX(LX_LIB_VA, 2), "parts");

struct cap { /* as exo_cap_info tells */
    uint64_t info, base, count, bindings;
};
struct look { /* how an env looked when it was new */
    struct cap cap[GUARDS];
    uint64_t entry[ENTRIES];
    uint64_t word[LX_OBJECT_FRAMES];
};
static struct look looks[LX_PROCESSES];
static uint32_t guards; /* our selector of the env, in which nothing runs, that has the guards */
static uint32_t kept; /* husks */
#define GUARD_TABLES (LX_PROCESSES * 8 / EXO_TAB_CAPS)
_Static_assert(GUARDS < 8, "a selector for each guard of each process; none is 0");

static unsigned place(const struct process *p) { return (unsigned)(p - processes); }

static uint64_t guard_ref(const struct process *p, enum guard k)
{
    return EXO_REF(guards, place(p) * 8 + k + 1);
}

static void *view(const struct process *p, unsigned page)
{
    return (char *)HUSK_VA + (place(p) * (uint64_t)VIEW_PAGES + page) * EXO_PAGE;
}

long husk_init(void) { return memory_env(GUARD_TABLES, &guards); }

long husk_give(const struct process *p, enum guard k, uint64_t from, unsigned rights, uint64_t base,
               uint64_t count)
{
    uint64_t guard = guard_ref(p, k);
    long r = exo_cap_derive(from, guard, rights, base, count);
    if (r < 0) return r;
    return exo_cap_derive(guard, EXO_REF(p->memory->env, selectors[k]), rights, base, count);
}

/* ---- how an env looks ------------------------------------------------------------------------ */

static struct cap cap_look(const struct process *p, enum guard k)
{
    const struct exo_batch *list = exo_page()->list;
    uint64_t info = (uint64_t)exo_cap_info(EXO_REF(p->memory->env, selectors[k]));
    return (struct cap){info, list[0].va, list[0].frame, list[1].va};
}

long husk_note(const struct process *p)
{
    const struct process_memory *m = p->memory;
    struct look *look = &looks[place(p)];
    if (!exo.words) return 0;
    long r = exo_bind(&exo.pool, (uint64_t)view(p, VIEW_UPCALL), 1, exo.pool.sel, m->objects + 1,
                      EXO_R | EXO_W);
    if (r == 0)
        r = exo_bind(&exo.pool, (uint64_t)view(p, VIEW_TOP), 1, exo.pool.sel, m->env_frame + 1,
                     EXO_R);
    if (r == 0)
        r = exo_bind(&exo.pool, (uint64_t)view(p, VIEW_TABLES), 3, exo.pool.sel, m->objects + 2,
                     EXO_R);
    if (r < 0) return r;
    for (unsigned k = 0; k < GUARDS; k++)
        look->cap[k] = cap_look(p, k);
    uint64_t *entry = look->entry;
    for (unsigned i = 0; i < EXO_COUNT(parts); i++)
        for (unsigned j = 0; j < parts[i].count; j++)
            *entry++ = ((uint64_t *)view(p, parts[i].page))[parts[i].first + j] & ~USED_BITS;
    memcpy(look->word, &exo.words[m->objects], sizeof(look->word));
    return 0;
}

static bool entries_same(const struct process *p)
{
    const uint64_t *entry = looks[place(p)].entry;
    uint64_t differ = 0;
    for (unsigned i = 0; i < EXO_COUNT(parts); i++) {
        const uint64_t *now = (const uint64_t *)view(p, parts[i].page) + parts[i].first;
        for (unsigned j = 0; j < parts[i].count; j++)
            differ |= now[j] ^ *entry++;
    }
    return !(differ & ~USED_BITS);
}

/* Frames of objects as they were, but for page tables more: how many, -1: otherwise. *used:
 * from there on they are free. */
static int tables_more(const struct process *p, uint32_t *used)
{
    const uint64_t *now = &exo.words[p->memory->objects], *then = looks[place(p)].word;
    uint32_t i = LX_OBJECT_FRAMES;
    int more = 0;
    while (i > LX_OBJECTS_USED && now[i - 1] == then[i - 1])
        i--;
    *used = i;
    while (i-- > 0) {
        if (now[i] == then[i]) continue;
        unsigned type = EXO_FW_TYPE(now[i]);
        if (i < LX_OBJECTS_USED || EXO_FW_BINDINGS(now[i]) || type < EXO_FT_PT1 ||
            type > EXO_FT_PT3)
            return -1;
        more++;
    }
    return *used + SPARE_FRAMES <= LX_OBJECT_FRAMES ? more : -1;
}

static uint64_t names(uint64_t ref) { return (uint64_t)exo_cap_revoke(ref, UINT64_MAX, 0); }

static bool cap_same(const struct process *p, enum guard k, unsigned tables)
{
    struct cap now = cap_look(p, k), *then = &looks[place(p)].cap[k];
    bool range = k != GUARD_FAULT && k != GUARD_GATE;
    if (k == GUARD_OBJECTS) now.bindings -= tables;
    return now.info == then->info && now.base == then->base && now.count == then->count &&
           now.bindings == then->bindings && names(guard_ref(p, k)) == (range ? now.count : 1);
}

static bool caps_same(const struct process *p, unsigned tables)
{
    for (unsigned k = 0; k < GUARDS; k++)
        if (!cap_same(p, k, tables)) return false;
    return names(EXO_REF(p->memory->env, LX_SEL_OBJECTS)) == 1 && names(p->threads[0]->sel) == 1;
}

/* ---- keeping and waking ---------------------------------------------------------------------- */

bool husk_keep(struct process *p)
{
    struct process_memory *m = p->memory;
    struct thread *t = p->threads[0];
    uint32_t used;
    if (!exo.words || kept == HUSKS || p->thread_count != 1 || !t || m->more_count || m->odd)
        return false;
    if (exo_thread_stop(t->sel) < 0 || !data_leave(p) || !extents_leave(p)) return false;
    int tables = tables_more(p, &used);
    if (tables < 0 || !entries_same(p) || !caps_same(p, (unsigned)tables)) return false;
    m->objects_used = used;
    m->husk = t;
    kept++;
    lx_shared->memory_free += LX_PRIVATE_FRAMES;
    return true;
}

struct thread *husk_wake(struct process *p)
{
    struct process_memory *m = p->memory;
    struct thread *t = m->husk;
    struct exo_upcall_page *page = view(p, VIEW_UPCALL);
    m->husk = NULL;
    kept--;
    lx_shared->memory_free -= LX_PRIVATE_FRAMES;
    page->events = page->event_mask = 0;
    return t;
}

void husk_unbind(const struct process *p)
{
    if (!exo.words) return;
    exo_unbind(&exo.pool, (uint64_t)view(p, 0), VIEW_TABLES + 3);
}

void husk_forget(const struct process *p)
{
    for (unsigned k = 0; k < GUARDS; k++)
        cap_end(guard_ref(p, k));
}

bool husks_drop(void)
{
    uint32_t before = kept;
    for (unsigned i = 0; i < LX_PROCESSES && kept; i++) {
        struct process *p = &processes[i];
        if (p->memory && p->memory->husk) spawn_drop(p);
    }
    return before != 0;
}

long husk_frames(uint64_t n)
{
    long frame = exo_frames_alloc(&exo.pool, n, 1);
    if (frame < 0 && husks_drop()) frame = exo_frames_alloc(&exo.pool, n, 1);
    return frame;
}
