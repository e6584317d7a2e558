/* SPDX-License-Identifier: MIT
 *
 * What is true between any two calls, as predicates that run: after every step in the
 * fuzzers, and on demand in debug boots. They look at everything, so they are slow, and
 * need every CPU outside of the kernel (or its pend list consistent: what is recorded
 * there still counts).
 *
 *  1. A frame's bindings are its page-table entries, pend entries and registrations.
 *  2. A capability's bindings are its page-table entries, pend entries, slots, irqs.
 *  3. Every entry is covered by a capability of its env, kind frames, with the rights it
 *     shows; writable only onto plain frames; table entries lead to tables of that env.
 *  4. Typed frames and large bindings of a block exclude each other; block counts exact.
 *  5. The derivation list is one, in depth-first order; a child lies within its parent.
 *  6. Every env and thread object has the capability it was made with.
 *  7. Whom a time slot, an interrupt or an env's revoker names is a thread that lives.
 *  8. Every entry is what its env's format makes of frame, rights, selector, cache type.
 *  9. A virtual machine's env has its bitmaps, its root no entry above user space; its
 *     threads are virtual CPUs, with all their frames; other envs have none.
 * 10. A bit of a port bitmap is clear exactly if one ports capability with the binding
 *     "passed" covers it; one with the binding "taken" has an entry in a pend list.
 * 11. What core keeps of a virtual CPU is allowed.
 * 12. The line that a present entry lies in is marked in lines[].
 */
#include "vm.h"

#ifdef EXO_DEBUG

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) return __LINE__;                                                              \
    } while (0)

#define CHUNK EXO_SEL_MAX
static uint32_t count[CHUNK]; /* of one chunk of frames, or of one env's selectors */
static frame_t chunk_base;
static uint32_t large_count;

static bool user_slot(unsigned i) { return i < 256 || i >= 272; }
static bool counted(frame_t f) { return f < nframes && EXO_FW_TYPE(words[f]) != EXO_FT_DEVICE; }

typedef int visit_fn(frame_t e, uint64_t entry, unsigned level, bool leaf);

/* Visits one table's entries, and says which of them lead to further tables. */
static int visit_entry(frame_t e, uint64_t entry, unsigned level, visit_fn *fn, frame_t *below)
{
    *below = 0;
    if ((entry & PTE_P) == 0) return 0;
    bool leaf = level == 1 || (level < 4 && (entry & PTE_PS) != 0);
    if (!leaf) *below = pte_frame(entry);
    return fn(e, entry, level, leaf);
}

/* All entries of a subtree, iteratively. */
static int visit_tree(frame_t e, frame_t top, unsigned top_level, visit_fn *fn)
{
    frame_t at[5] = {0};
    unsigned i[5] = {0};
    unsigned level = top_level;
    at[level] = top;
    while (level <= top_level) {
        if (i[level] == 512) {
            level++;
            continue;
        }
        unsigned n = i[level]++;
        frame_t below;
        if (level == 4 && !user_slot(n)) continue;
        CHECK((tables[at[level]].e[n] & PTE_P) == 0 ||
              (lines[at[level]] >> n / TABLE_LINE & 1) != 0); /* 12 */
        int r = visit_entry(e, tables[at[level]].e[n], level, fn, &below);
        if (r != 0) return r;
        if (below != 0) {
            level--;
            at[level] = below;
            i[level] = 0;
        }
    }
    return 0;
}

static int visit_env(frame_t e, visit_fn *fn)
{
    int r = visit_tree(e, envs[e].root, 4, fn);
    if (r != 0 || envs[e].doomed == 0) return r;
    r = fn(e, pte_table(pte_format(e), envs[e].doomed, envs[e].doomed_sel),
           envs[e].doomed_level + 1, false);
    return r != 0 ? r : visit_tree(e, envs[e].doomed, envs[e].doomed_level, fn);
}

static int visit_pend(frame_t e, visit_fn *fn)
{
    for (unsigned c = 0; c < ncpus; c++)
        for (uint32_t i = 0; i < cpus[c].pend_count; i++) {
            const struct pend *p = &cpus[c].pend[i];
            if (p->env != e || p->entry == 0 || p->level >= PEND_THREAD) continue;
            bool table = (p->level & PEND_TABLE) != 0;
            int r = fn(e, p->entry, table ? (p->level & 7) + 1 : p->level, !table);
            if (r != 0) return r;
        }
    return 0;
}

/* ---- 1, 4: frames ------------------------------------------------------------------------ */

static int frame_add(frame_t e, uint64_t entry, unsigned level, bool leaf)
{
    frame_t f = pte_frame(entry);
    (void)e;
    if (leaf && level == 1 && f >= chunk_base && f - chunk_base < CHUNK) count[f - chunk_base]++;
    return 0;
}

static bool env_pending(frame_t f)
{
    for (unsigned c = 0; c < ncpus; c++)
        for (uint32_t i = 0; i < cpus[c].pend_count; i++)
            if (cpus[c].pend[i].level >= PEND_THREAD && cpus[c].pend[i].entry == f) return true;
    return false;
}

static int frames_chunk(void)
{
    for (unsigned i = 0; i < CHUNK; i++)
        count[i] = 0;
    for (frame_t f = 1; f < nframes; f++) {
        unsigned type = EXO_FW_TYPE(words[f]);
        frame_t registered = type == EXO_FT_ENV ? f + 2 : type == EXO_FT_THREAD ? f + 1 : 0;
        if (registered != 0 && registered >= chunk_base && registered - chunk_base < CHUNK)
            count[registered - chunk_base]++;
        if (type == EXO_FT_ENV && !env_pending(f)) {
            int r = visit_env(f, frame_add);
            if (r == 0) r = visit_pend(f, frame_add);
            if (r != 0) return r;
        }
    }
    for (frame_t f = chunk_base; f < nframes && f - chunk_base < CHUNK; f++)
        if (counted(f)) CHECK(EXO_FW_BINDINGS(words[f]) == count[f - chunk_base]);
    return 0;
}

static frame_t block_base, block_size;
static unsigned block_level;

static int large_add(frame_t e, uint64_t entry, unsigned level, bool leaf)
{
    (void)e;
    large_count += leaf && level == block_level && pte_frame(entry) == block_base;
    return 0;
}

static int block_check(uint64_t block)
{
    uint32_t typed = 0;
    for (frame_t f = block_base; f < nframes && f - block_base < block_size; f++)
        typed += EXO_FW_TYPE(words[f]) != EXO_FT_PLAIN;
    CHECK(block >> 32 == typed);
    CHECK((uint32_t)block == 0 || typed == 0);
    large_count = 0;
    if ((uint32_t)block == 0) return 0;
    for (frame_t f = 1; f < nframes; f++)
        if (EXO_FW_TYPE(words[f]) == EXO_FT_ENV && !env_pending(f)) {
            visit_env(f, large_add);
            visit_pend(f, large_add);
        }
    CHECK((uint32_t)block == large_count);
    return 0;
}

static int frames_check(void)
{
    for (chunk_base = 0; chunk_base < nframes; chunk_base += CHUNK) {
        int r = frames_chunk();
        if (r != 0) return r;
    }
    for (block_level = 2; block_level <= 3; block_level++) {
        unsigned shift = 9 * (block_level - 1);
        block_size = 1u << shift;
        for (uint32_t b = 0; b <= (nframes - 1) >> shift; b++) {
            block_base = b << shift;
            int r = block_check(block_level == 2 ? blocks2m[b] : blocks1g[b]);
            if (r != 0) return r;
        }
    }
    return 0;
}

/* ---- 2, 3: envs ----------------------------------------------------------------------------- */

static bool covers(const struct cap *c, uint64_t f, uint64_t n)
{
    return f >= c->base && f - c->base < c->count && n <= c->count - (f - c->base);
}

/* 8: accessed and dirty bits are the processor's. */
static bool format_check(frame_t e, uint64_t entry, unsigned level, bool leaf, uint64_t cache)
{
    uint32_t format = pte_format(e), sel = pte_sel(format, entry);
    uint64_t own = format != 0 ? PTE_EPT_A : PTE_A;
    if (leaf) own |= format != 0 ? PTE_EPT_D : PTE_D;
    frame_t f = pte_frame(entry);
    unsigned rights = pte_rights(format, entry);
    return (entry & ~own) ==
           (leaf ? pte_leaf(format, f, rights, sel, level, cache) : pte_table(format, f, sel));
}

static int entry_check(frame_t e, uint64_t entry, unsigned level, bool leaf)
{
    uint32_t sel = pte_sel(pte_format(e), entry);
    frame_t f = pte_frame(entry);
    CHECK(sel != 0 && sel < envs[e].nsel);
    const struct cap *c = &caps[env_caps(e) + sel];
    CHECK(c->kind == EXO_FRAMES);
    CHECK(format_check(e, entry, level, leaf, c->badge));
    count[sel]++;
    if (!leaf) {
        CHECK(covers(c, f, 1) && (c->rights & EXO_OBJECT) != 0);
        CHECK(f < nframes && EXO_FW_TYPE(words[f]) == EXO_FT_PT1 + level - 2);
        CHECK(EXO_FW_OWNER(words[f]) == e);
        return 0;
    }
    CHECK(covers(c, f, 1ull << 9 * (level - 1)));
    CHECK((pte_rights(pte_format(e), entry) & ~(unsigned)c->rights) == 0);
    if (counted(f)) {
        unsigned type = EXO_FW_TYPE(words[f]);
        CHECK(type == EXO_FT_PLAIN || type == EXO_FT_TABLE ||
              (type >= EXO_FT_PT1 && type <= EXO_FT_PT4));
        CHECK((entry & PTE_W) == 0 || type == EXO_FT_PLAIN);
    }
    return 0;
}

/* 5: c's place in the list, and that it lies within its parent. */
static int list_check(cref_t c)
{
    const struct cap *p = &caps[c];
    CHECK(p->next == 0 || (caps[p->next].kind != EXO_NONE && caps[p->next].prev == c));
    CHECK(p->prev == 0 || (caps[p->prev].kind != EXO_NONE && caps[p->prev].next == c));
    CHECK(p->next == 0 || caps[p->next].depth <= p->depth + 1);
    CHECK(p->prev != 0 || p->depth == 0);
    cref_t up = p->prev;
    while (up != 0 && caps[up].depth >= p->depth)
        up = caps[up].prev;
    if (p->depth == 0) return 0;
    CHECK(up != 0 && caps[up].depth == p->depth - 1);
    const struct cap *parent = &caps[up];
    if (p->kind == parent->kind && p->kind <= EXO_DEVICES)
        return covers(parent, p->base, p->count) && (p->rights & ~parent->rights) == 0 ? 0
                                                                                       : __LINE__;
    if (p->kind == parent->kind)
        return p->base == parent->base && (p->rights & ~parent->rights) == 0 ? 0 : __LINE__;
    if (p->kind == EXO_GATE || p->kind == EXO_EVENT)
        return parent->kind == EXO_THREAD && p->base == parent->base ? 0 : __LINE__;
    CHECK((p->flags & CAP_OWNER) != 0 && parent->kind == EXO_FRAMES && covers(parent, p->base, 2));
    return 0;
}

static int cap_check(frame_t e, uint32_t sel)
{
    cref_t r = env_caps(e) + sel;
    const struct cap *c = &caps[r];
    CHECK((c->seq & 1) == 0);
    if (c->kind == EXO_NONE)
        return c->bindings == 0 && count[sel] == 0 && c->prev == 0 && c->next == 0 ? 0 : __LINE__;
    CHECK(sel != 0 && c->kind < EXO_KINDS && c->rights <= EXO_RIGHTS_ALL && c->env == e);
    CHECK(c->bindings == count[sel]);
    if (c->kind >= EXO_ENV) {
        frame_t obj = (frame_t)c->base;
        CHECK(obj < nframes);
        CHECK(EXO_FW_TYPE(words[obj]) == (c->kind == EXO_ENV ? EXO_FT_ENV : EXO_FT_THREAD));
        if ((c->flags & CAP_OWNER) != 0)
            CHECK((c->kind == EXO_ENV ? envs[obj].owner : threads[obj].owner) == r);
    }
    return list_check(r);
}

/* 10: what is passed or taken counts as a binding; *passed: how many ports. */
static int ports_count(frame_t e, uint32_t *passed)
{
    const struct env *v = &envs[e];
    for (uint32_t sel = 1; sel < v->nsel; sel++) {
        const struct cap *c = &caps[env_caps(e) + sel];
        if (c->kind != EXO_PORTS || c->bindings != PORTS_PASSED) continue;
        count[sel] = PORTS_PASSED;
        for (uint64_t port = c->base; port < c->base + c->count; port++)
            CHECK((tables[e + 3 + v->tables + (port >> 15)].e[port >> 6 & 511] >> (port & 63) &
                   1) == 0);
        *passed += (uint32_t)c->count;
    }
    for (unsigned c = 0; c < ncpus; c++)
        for (uint32_t i = 0; i < cpus[c].pend_count; i++) {
            const struct pend *p = &cpus[c].pend[i];
            if (p->env != e || p->level != PEND_PORTS) continue;
            CHECK(caps[env_caps(e) + p->entry].kind == EXO_PORTS && count[p->entry] == 0);
            count[p->entry] = PORTS_TAKEN;
        }
    return 0;
}

/* 9, 10 */
static int machine_check(frame_t e)
{
    const struct env *v = &envs[e];
    uint32_t passed = 0, clear = 0;
    if ((v->flags & ENV_VM) == 0) return (v->flags & ENV_EPT) == 0 ? 0 : __LINE__;
    frame_t bitmaps = e + 3 + v->tables;
    for (unsigned i = 0; i < EXO_VM_ENV_FRAMES; i++)
        CHECK(EXO_FW_TYPE(words[bitmaps + i]) == EXO_FT_VM &&
              EXO_FW_OWNER(words[bitmaps + i]) == e);
    for (unsigned i = 256; i < 512; i++)
        CHECK(tables[v->root].e[i] == 0);
    int r = ports_count(e, &passed);
    if (r != 0) return r;
    for (unsigned i = 0; i < 3 * 512; i++)
        for (uint64_t w = ~tables[bitmaps + i / 512].e[i % 512]; w != 0; w &= w - 1)
            clear++;
    CHECK(clear == passed);
    return 0;
}

/* 9, 11 */
static int vcpu_check(frame_t f)
{
    const struct thread *t = &threads[f];
    const struct vcpu *v = vcpu_of(t);
    bool vm = (envs[t->env].flags & ENV_VM) != 0;
    CHECK(((t->slow & SLOW_VM) != 0) == vm);
    if (!vm) return 0;
    CHECK(EXO_FW_TYPE(words[f + 2]) == EXO_FT_VCPU && EXO_FW_OWNER(words[f + 2]) == t->env);
    CHECK(EXO_FW_TYPE(words[f + 3]) == EXO_FT_VM && EXO_FW_OWNER(words[f + 3]) == t->env);
    CHECK(t->upcall_entry == 0 && t->state != EXO_T_EVENT && t->state != EXO_T_WAIT);
    CHECK((v->xcr0 & ~(vm_caps.xcr0_allowed | 1)) == 0 && (v->xcr0 & 1) != 0);
    CHECK(v->window <= (EXO_WINDOW_INTERRUPT | EXO_WINDOW_NMI));
    CHECK((v->must_set & ~(VCPU_NEW | EXO_VG_ALL)) == 0);
    for (unsigned i = 0; i < EXO_VX_COUNT; i++)
        CHECK((v->masks[i] & ~EXO_VG_ALL) == 0);
    return 0;
}

/* 7 */
static bool thread_lives(frame_t t)
{
    return t < nframes && EXO_FW_TYPE(words[t]) == EXO_FT_THREAD && !env_pending(t);
}

/* Its counts are those of the tables: what is destroyed looks only where there is something. */
static bool thread_bound(frame_t f)
{
    uint32_t slot_count = 0, irq_count = 0;
    for (unsigned i = 0; i < ncpus * EXO_SLOTS_PER_CPU; i++)
        slot_count += slots[i].thread == f;
    for (unsigned i = 0; i < EXO_IRQ_COUNT; i++)
        irq_count += irqs[i].thread == f;
    return threads[f].slots == slot_count && threads[f].irqs == irq_count;
}

static int names_check(void)
{
    for (frame_t f = 1; f < nframes; f++)
        if (thread_lives(f)) CHECK(thread_bound(f));
    for (unsigned i = 0; i < ncpus * EXO_SLOTS_PER_CPU; i++) {
        frame_t t = slots[i].thread;
        CHECK(t == 0 || (thread_lives(t) && threads[t].cpu == i / EXO_SLOTS_PER_CPU));
    }
    for (unsigned i = 0; i < EXO_IRQ_COUNT; i++) {
        frame_t t = irqs[i].thread;
        CHECK(t == 0 || (thread_lives(t) && threads[t].env == irqs[i].env));
    }
    return 0;
}

static int env_check(frame_t e)
{
    const struct env *v = &envs[e];
    CHECK(v->revoker == 0 || (thread_lives(v->revoker) && threads[v->revoker].env == e));
    CHECK(v->lock == 0 && v->root == e + 1 && v->nsel == v->tables * EXO_TAB_CAPS);
    CHECK(caps[v->owner].kind == EXO_ENV && caps[v->owner].base == e); /* 6 */
    for (unsigned i = 0; i < CHUNK; i++)
        count[i] = 0;
    int r = visit_env(e, entry_check);
    if (r == 0) r = visit_pend(e, entry_check);
    if (r != 0) return r;
    for (unsigned i = 0; i < ncpus * EXO_SLOTS_PER_CPU; i++)
        if (slots[i].thread != 0 && slots[i].env == e) count[slots[i].sel]++;
    for (unsigned i = 0; i < EXO_IRQ_COUNT; i++)
        if (irqs[i].thread != 0 && irqs[i].env == e) count[irqs[i].sel]++;
    r = machine_check(e);
    for (uint32_t sel = 0; sel < v->nsel && r == 0; sel++)
        r = cap_check(e, sel);
    return r;
}

static int object_check(frame_t f)
{
    unsigned type = EXO_FW_TYPE(words[f]);
    if (env_pending(f)) return 0;
    if (type == EXO_FT_ENV) return env_check(f);
    if (type == EXO_FT_THREAD) {
        const struct thread *t = &threads[f];
        CHECK(t->self == f && t->upcall == f + 1 && t->cpu < ncpus);
        CHECK(EXO_FW_TYPE(words[t->env]) == EXO_FT_ENV);
        CHECK(caps[t->owner].kind == EXO_THREAD && caps[t->owner].base == f); /* 6 */
        return vcpu_check(f);
    }
    return 0;
}

int core_invariants(void)
{
    int r = frames_check();
    if (r == 0) r = names_check();
    for (frame_t f = 1; f < nframes && r == 0; f++)
        r = object_check(f);
    return r;
}
#endif
