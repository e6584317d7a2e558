/* SPDX-License-Identifier: MIT
 *
 * What one step of the core's fuzzer may do, beside keeping the invariants of each state:
 * what a dying capability may not gain, what calls that take back may report, and that no
 * CPU goes on with a translation that is no more.
 *
 * Translations: a processor caches leaf entries whose accessed bit it sets; some of them are
 * remembered here, by the place of the entry. One whose entry went, leads elsewhere or has
 * lost rights must wait for the round of the CPU whose step did that.
 */
#include "fuzz.h"

/* ---- capabilities ------------------------------------------------------------------------ */

#define KEPT_MAX 4096

static struct kept {
    cref_t c;
    bool env_dying;
    struct cap was;
} kept[KEPT_MAX];
static unsigned kept_count;
static uint64_t seen[FRAMES * EXO_TAB_CAPS], calls_made; /* which call found it there */

/* The capability that a call takes back from. */
static struct {
    cref_t c; /* 0: there is none */
    bool in_use; /* neither dying nor an object's own, and it has children or bindings */
} target;

static void env_keep(frame_t e)
{
    for (uint32_t sel = 1; sel < envs[e].nsel && kept_count < KEPT_MAX; sel++) {
        cref_t c = env_caps(e) + sel;
        if (caps[c].kind == EXO_NONE) continue;
        seen[c] = calls_made;
        kept[kept_count++] = (struct kept){c, (envs[e].flags & ENV_DYING) != 0, caps[c]};
    }
}

static void target_keep(uint64_t ref)
{
    frame_t e;
    uint32_t sel;
    target.c = 0;
    if (ref_find(ref, EXO_ENV_DESTROY, &e, &sel) != 0) return;
    target.c = env_caps(e) + sel;
    const struct cap *c = &caps[target.c];
    target.in_use = (c->flags & (CAP_DYING | CAP_OWNER)) == 0 &&
                    (cap_has_children(target.c) || c->bindings != 0);
}

void rules_before(const char *call, const uint64_t *a)
{
    kept_count = 0;
    calls_made++;
    for (frame_t f = 1; f < nframes; f++)
        if (EXO_FW_TYPE(words[f]) == EXO_FT_ENV) env_keep(f);
    target.c = 0;
    if (strcmp(call, "cap_delete") == 0 || strcmp(call, "cap_revoke") == 0) target_keep(a[0]);
}

static const struct cap *parent_of(const struct cap *c)
{
    cref_t up = c->prev;
    while (up != 0 && caps[up].depth >= c->depth)
        up = caps[up].prev;
    return &caps[up];
}

/* An event names no bits, a gate no entry and no other badge than the one it came from; and
 * nothing comes from what is dying. */
static void new_check(const struct cap *c)
{
    const struct cap *parent = parent_of(c);
    KASSERT((parent->flags & CAP_DYING) == 0 && (envs[c->env].flags & ENV_DYING) == 0);
    if (parent->kind != c->kind) return;
    if (c->kind == EXO_EVENT) KASSERT((c->count & ~parent->count) == 0);
    if (c->kind == EXO_GATE)
        KASSERT(c->count == parent->count && (parent->badge == 0 || c->badge == parent->badge));
}

static void kept_check(const struct kept *k)
{
    const struct cap *c = &caps[k->c];
    if (c->kind == EXO_NONE) return;
    KASSERT(c->kind == k->was.kind && c->base == k->was.base && c->rights == k->was.rights);
    bool dying = (k->was.flags & CAP_DYING) != 0 || k->env_dying;
    if (dying && c->kind != EXO_PORTS) /* of ports it is no count */
        KASSERT(c->bindings <= k->was.bindings);
}

static void caps_check(frame_t e)
{
    for (uint32_t sel = 1; sel < envs[e].nsel; sel++) {
        cref_t c = env_caps(e) + sel;
        if (caps[c].kind != EXO_NONE && seen[c] != calls_made) new_check(&caps[c]);
    }
}

void rules_after(const char *call, const uint64_t *a, long r)
{
    for (unsigned i = 0; i < kept_count; i++)
        kept_check(&kept[i]);
    for (frame_t f = 1; f < nframes; f++)
        if (EXO_FW_TYPE(words[f]) == EXO_FT_ENV) caps_check(f);
    if (target.c == 0) return;
    if (strcmp(call, "cap_delete") == 0)
        KASSERT(!target.in_use || r == -EXO_E_BUSY);
    else if (r == 0 && a[1] == 0)
        KASSERT(!cap_has_children(target.c) && this_cpu()->pend_count == 0);
}

/* ---- translations -------------------------------------------------------------------------- */

#define CACHED_MAX 64

static struct cached {
    frame_t table; /* 0: none */
    unsigned index;
    uint64_t entry;
    unsigned waits; /* 1 + the CPU whose round it waits for, 0: none */
} cached[CACHED_MAX];

void translations_forget(void) { memset(cached, 0, sizeof cached); }

void translation_cache(frame_t table, unsigned index)
{
    cached[pick(CACHED_MAX)] = (struct cached){table, index, tables[table].e[index], 0};
}

/* Of large pages and of guests nobody says so but the round. */
void translation_drop(uint64_t entry)
{
    for (struct cached *c = cached; c < cached + CACHED_MAX; c++) {
        uint64_t w = words[c->table];
        if (EXO_FW_TYPE(w) == EXO_FT_PT1 && (envs[EXO_FW_OWNER(w)].flags & ENV_VM) == 0 &&
            pte_frame(c->entry) == pte_frame(entry) && pte_sel(0, c->entry) == pte_sel(0, entry))
            c->table = 0;
    }
}

void translations_round(unsigned cpu)
{
    for (struct cached *c = cached; c < cached + CACHED_MAX; c++)
        if (c->waits == 1 + cpu) *c = (struct cached){0};
}

static bool holds(const struct cached *c)
{
    unsigned type = EXO_FW_TYPE(words[c->table]);
    uint64_t entry = tables[c->table].e[c->index];
    if (type < EXO_FT_PT1 || type > EXO_FT_PT4 || (entry & PTE_P) == 0) return false;
    uint32_t format = pte_format(EXO_FW_OWNER(words[c->table]));
    return pte_frame(entry) == pte_frame(c->entry) &&
           (pte_rights(format, c->entry) & ~pte_rights(format, entry)) == 0;
}

void translations_check(void)
{
    for (struct cached *c = cached; c < cached + CACHED_MAX; c++) {
        if (c->table == 0 || c->waits != 0 || holds(c)) continue;
        KASSERT(this_cpu()->pend_count != 0);
        c->waits = 1 + host_cpu;
    }
}
