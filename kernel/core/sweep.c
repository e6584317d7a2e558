/* SPDX-License-Identifier: MIT
 *
 * Taking bindings away by force, in bounded steps.
 *
 * sweep_step walks an env's tree round and round, one leaf table a step, and unbinds
 * what dying capabilities hold. A page table that is itself bound through a dying
 * capability is detached from the tree at once, with all below it, so that nobody can
 * fill it again; it is then drained, bottom first, before the walk goes on. A dying
 * env is drained the same way from its top table.
 *
 * Locking: tree and env lock. Everything taken goes to the pend list (page.c).
 */
#include "core.h"

#define USER_TOP 256 /* entries of a top table below the kernel's slots */
#define KERNEL_SLOTS 16
#define SWEEP_HOPS 64 /* tables looked at in one step, as long as nothing was taken */

static bool sel_dying(frame_t e, uint32_t sel)
{
    return (caps[env_caps(e) + sel].flags & CAP_DYING) != 0;
}

/* Unbinds the entries of a leaf table, all or only the dying ones. va: of its first page. */
static void leaf_sweep(frame_t e, frame_t t, uint64_t va, bool all)
{
    for (unsigned i = 0; i < 512; i++) {
        uint64_t *entry = &tables[t].e[i];
        if ((*entry & PTE_P) != 0 && (all || sel_dying(e, pte_sel(pte_format(e), *entry))))
            pend_add(e, va + ((uint64_t)i << 12), entry_swap(entry, 0), 1);
    }
}

/* Where va's neighbour at `level` begins; past the end of a half, the other one. */
static uint64_t va_after(uint64_t va, unsigned level)
{
    uint64_t step = 1ull << (12 + 9 * (level - 1));
    va = (va & ~(step - 1)) + step;
    if (va == 0x0000800000000000ull) return 0xffff880000000000ull;
    return va;
}

/* One step down a detached subtree: the deepest first table is emptied and given back.
 * True when the table `top` itself has become empty. va is unknown by now: the round
 * flushes everything when a table is among what was taken. */
static bool drain_step(frame_t e, frame_t top, unsigned level, bool user_only)
{
    frame_t t = top;
    uint64_t *up = NULL;
    for (unsigned l = level; l > 1; l--) {
        unsigned end = l == 4 && user_only ? USER_TOP : 512;
        unsigned i = table_next(t, end);
        if (i == end && end == USER_TOP) {
            i = USER_TOP + KERNEL_SLOTS;
            while (i < 512 && (tables[t].e[i] & PTE_P) == 0)
                i++;
            end = 512;
        }
        if (i == end) {
            if (up == NULL) return true;
            pend_add(e, PEND_ANYWHERE, entry_swap(up, 0), l | PEND_TABLE);
            return false;
        }
        uint64_t *entry = &tables[t].e[i];
        if (l < 4 && (*entry & PTE_PS) != 0) {
            pend_add(e, PEND_ANYWHERE, entry_swap(entry, 0), l);
            return false;
        }
        up = entry;
        t = pte_frame(*entry);
    }
    if (table_next(t, 512) != 512) {
        leaf_sweep(e, t, PEND_ANYWHERE, true);
        return false;
    }
    if (up == NULL) return true;
    pend_add(e, PEND_ANYWHERE, entry_swap(up, 0), 1 | PEND_TABLE);
    return false;
}

/* Goes on with the detached subtree; gives its root back when it is empty. */
static void doomed_step(frame_t e)
{
    struct env *v = &envs[e];
    if (!drain_step(e, v->doomed, v->doomed_level, false)) return;
    pend_add(e, PEND_ANYWHERE, pte_table(pte_format(e), v->doomed, v->doomed_sel),
             v->doomed_level | PEND_TABLE);
    v->doomed = 0;
}

/* Moves the walk on by one table, present or not. */
static void sweep_hop(frame_t e)
{
    struct env *v = &envs[e];
    if (v->doomed != 0) {
        doomed_step(e);
        return;
    }
    frame_t t = v->root;
    uint64_t va = v->sweep_va;
    for (unsigned l = 4; l > 1; l--) {
        uint64_t *entry = &tables[t].e[va_index(va, l)];
        if ((*entry & PTE_P) == 0) {
            v->sweep_va = va_after(va, l);
            return;
        }
        bool dying = sel_dying(e, pte_sel(pte_format(e), *entry));
        if (l < 4 && (*entry & PTE_PS) != 0) {
            if (dying) pend_add(e, va, entry_swap(entry, 0), l);
            v->sweep_va = va_after(va, l);
            return;
        }
        if (dying) {
            v->doomed_sel = pte_sel(pte_format(e), *entry);
            v->doomed_level = l - 1;
            v->doomed = pte_frame(entry_swap(entry, 0));
            return;
        }
        t = pte_frame(*entry);
    }
    leaf_sweep(e, t, va & ~0x1fffffull, false);
    v->sweep_va = va_after(va, 2);
}

void sweep_step(frame_t e)
{
    for (unsigned i = 0; i < SWEEP_HOPS && this_cpu()->pend_count == 0; i++)
        sweep_hop(e);
}

bool sweep_all_step(frame_t e)
{
    if (envs[e].doomed != 0) {
        doomed_step(e);
        return false;
    }
    return drain_step(e, envs[e].root, 4, true);
}

/* ---- the second phase ------------------------------------------------------------------------ */

void commit_entry(const struct pend *p)
{
    frame_t f = pte_frame(p->entry);
    unsigned level = p->level & 7;
    if ((p->level & PEND_TABLE) != 0)
        word_untype(f);
    else if (level == 1)
        word_unbind(f);
    else
        word_unbind_large(f, level);
    struct cap *c = &caps[env_caps(p->env) + pte_sel(pte_format(p->env), p->entry)];
    KASSERT(c->bindings != 0);
    c->bindings--;
}

static void object_commit(frame_t f, uint32_t level)
{
    if (level == PEND_ENV)
        object_untype(f, 3 + envs[f].tables + env_extra(envs[f].flags), ENV_VECTOR);
    else
        object_untype(f, (threads[f].slow & SLOW_VM) != 0 ? EXO_VCPU_FRAMES : 2, THREAD_PAGE);
}

void core_commit(void)
{
    struct cpu *cpu = this_cpu();
    frame_t locked = 0;
    for (uint32_t i = 0; i < cpu->pend_count; i++) {
        const struct pend *p = &cpu->pend[i];
        if (p->level == PEND_THREAD || p->level == PEND_ENV) {
            if (locked != 0) unlock_env(locked);
            locked = 0;
            object_commit((frame_t)p->entry, p->level);
            continue;
        }
        if (p->entry == 0) continue;
        if (locked != p->env) {
            if (locked != 0) unlock_env(locked);
            lock_env(p->env);
            locked = p->env;
        }
        if (p->level == PEND_PORTS)
            caps[env_caps(p->env) + p->entry].bindings = 0;
        else
            commit_entry(p);
    }
    if (locked != 0) unlock_env(locked);
    cpu->pend_count = 0;
    cpu->pend_all = 0;
}
