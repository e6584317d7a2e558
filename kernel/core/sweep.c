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

/*@ requires e < PROOF_FRAMES - 3;
    assigns \nothing;
    ensures \result != 0 <==> dying(e, sel); */
static bool sel_dying(frame_t e, uint32_t sel)
{
    return (caps[env_caps(e) + sel].flags & CAP_DYING) != 0;
}

/* Unbinds the entries of a leaf table, all or only the dying ones. va: of its first page. */
/*@ requires invariants && env_ok(e) && is_table(t, 1, e) && the_cpu.pend_count == 0;
    assigns tables[t].e[0 .. 511], lines[t], the_cpu.pend_count, the_cpu.pend[0 .. PEND_MAX - 1];
    ensures invariants;
    ensures bounded: the_cpu.pend_count <= 512;
    ensures gone: \forall integer i; 0 <= i < 512 && p_present(tables[t].e[i]) ==>
            all == 0 && !dying(e, e_sel(e, tables[t].e[i]));
    ensures kept: \forall integer i; 0 <= i < 512 && all == 0 &&
            !(p_present(\old(tables[t].e[i])) && dying(e, e_sel(e, \old(tables[t].e[i])))) ==>
            tables[t].e[i] == \old(tables[t].e[i]);
    ensures cleared: \forall integer i; 0 <= i < 512 ==> tables[t].e[i] == 0 ||
            tables[t].e[i] == \old(tables[t].e[i]);
    ensures recorded: \forall integer i; 0 <= i < 512 &&
            tables[t].e[i] != \old(tables[t].e[i]) ==> \exists integer k;
            0 <= k < the_cpu.pend_count && the_cpu.pend[k].entry == \old(tables[t].e[i]);
    ensures taken: \forall integer k; 0 <= k < the_cpu.pend_count ==>
            the_cpu.pend[k].env == e && the_cpu.pend[k].level == 1; */
static FLATTEN void leaf_sweep(frame_t e, frame_t t, uint64_t va, bool all)
{
    /*@ loop invariant 0 <= i <= 512 && the_cpu.pend_count <= i && invariants;
        loop invariant \forall integer j; 0 <= j < i && p_present(tables[t].e[j]) ==>
            all == 0 && !dying(e, e_sel(e, tables[t].e[j]));
        loop invariant kept: \forall integer j; 0 <= j < 512 && all == 0 &&
            !(p_present(\at(tables[t].e[j], Pre)) && dying(e, e_sel(e, \at(tables[t].e[j], Pre)))) ==>
            tables[t].e[j] == \at(tables[t].e[j], Pre);
        loop invariant cleared: \forall integer j; 0 <= j < 512 ==> tables[t].e[j] == 0 ||
            tables[t].e[j] == \at(tables[t].e[j], Pre);
        loop invariant recorded: \forall integer j; 0 <= j < 512 &&
            tables[t].e[j] != \at(tables[t].e[j], Pre) ==> \exists integer k;
            0 <= k < the_cpu.pend_count && the_cpu.pend[k].entry == \at(tables[t].e[j], Pre);
        loop invariant ahead: \forall integer j; i <= j < 512 ==>
            tables[t].e[j] == \at(tables[t].e[j], Pre);
        loop invariant taken: \forall integer k; 0 <= k < the_cpu.pend_count ==>
            the_cpu.pend[k].env == e && the_cpu.pend[k].level == 1;
        loop assigns i, tables[t].e[0 .. 511], lines[t], the_cpu.pend_count, the_cpu.pend[0 .. PEND_MAX - 1];
        loop variant 512 - i; */
    for (unsigned i = table_next(t, 0, 512); i < 512; i = table_next(t, i + 1, 512)) {
        uint64_t *entry = &tables[t].e[i];
        if (all || sel_dying(e, pte_sel(pte_format(e), *entry)))
            pend_add(e, va + ((uint64_t)i << 12), entry_swap(entry, 0), 1);
    }
}

/* Where va's neighbour at `level` begins; past the end of a half, the other one. */
/*@ requires 1 <= level <= 4;
    assigns \nothing;
    ensures \result == v_next(va, level); */
static uint64_t va_after(uint64_t va, unsigned level)
{
    uint64_t step = 1ull << (12 + 9 * (level - 1));
    va = (va & ~(step - 1)) + step;
    if (va == 0x0000800000000000ull) return 0xffff880000000000ull;
    return va;
}

/* Takes away one entry of a subtree that is being drained. */
/*@ requires invariants && env_ok(e) && 0 < t < nframes && i < 512 && the_cpu.pend_count == 0;
    assigns tables[t].e[i], the_cpu.pend_count, the_cpu.pend[0];
    ensures invariants;
    ensures tables[t].e[i] == 0 && the_cpu.pend_count == 1;
    ensures the_cpu.pend[0].env == e && the_cpu.pend[0].level == level &&
            the_cpu.pend[0].entry == \old(tables[t].e[i]); */
static void entry_take(frame_t e, frame_t t, unsigned i, unsigned level)
{
    pend_add(e, PEND_ANYWHERE, entry_swap(&tables[t].e[i], 0), level);
}

/* One step down a detached subtree: the deepest first table is emptied and given back.
 * True when the table `top` itself has become empty. va is unknown by now: the round
 * flushes everything when a table is among what was taken. */
/*@ requires invariants && env_ok(e) && is_table(top, level, e) && 1 <= level <= 4;
    requires the_cpu.pend_count == 0;
    assigns tables[0 .. PROOF_FRAMES - 1], lines[0 .. PROOF_FRAMES - 1], the_cpu.pend_count,
            the_cpu.pend[0 .. PEND_MAX - 1];
    ensures invariants;
    ensures only_cleared: \forall integer t, i; 0 <= t < nframes && 0 <= i < 512 ==>
            tables[t].e[i] == 0 || tables[t].e[i] == \old(tables[t].e[i]);
    ensures empty: \result != 0 ==> the_cpu.pend_count == 0 && table_empty(top, level);
    ensures progress: \result == 0 ==> the_cpu.pend_count > 0;
    ensures returned: the_cpu.pend_count > 0 && the_cpu.pend[0].level >= PEND_TABLE ==>
            the_cpu.pend_count == 1 && the_cpu.pend[0].level < PEND_TABLE + level &&
            is_table(p_frame(the_cpu.pend[0].entry), the_cpu.pend[0].level - PEND_TABLE, e) &&
            table_empty(p_frame(the_cpu.pend[0].entry), the_cpu.pend[0].level - PEND_TABLE); */
static bool drain_step(frame_t e, frame_t top, unsigned level)
{
    frame_t t = top, above = 0, at = 0; /* entry `at` of `above` leads to t; 0 none */
    /*@ loop invariant 1 <= l <= level && is_table(t, l, e);
        loop invariant l == level ==> above == 0 && t == top;
        loop invariant l < level ==> at < 512 && is_table(above, l + 1, e) &&
            p_present(tables[above].e[at]) && p_frame(tables[above].e[at]) == t;
        loop assigns l, t, above, at, lines[0 .. PROOF_FRAMES - 1];
        loop variant l; */
    for (unsigned l = level; l > 1; l--) {
        unsigned i = table_next(t, 0, l == 4 ? USER_TOP : 512);
        if (l == 4 && i == USER_TOP) i = table_next(t, USER_TOP + KERNEL_SLOTS, 512);
        if (i == 512) {
            /*@ assert empty: table_empty(t, l); */
            if (above == 0) return true;
            entry_take(e, above, at, l | PEND_TABLE);
            /*@ assert still: table_empty(t, l) && is_table(t, l, e); */
            return false;
        }
        if (l < 4 && (tables[t].e[i] & PTE_PS) != 0) {
            entry_take(e, t, i, l);
            return false;
        }
        above = t;
        at = i;
        t = pte_frame(tables[t].e[i]);
    }
    leaf_sweep(e, t, PEND_ANYWHERE, true);
    if (this_cpu()->pend_count != 0) return false;
    /*@ assert bottom: table_empty(t, 1); */
    if (above == 0) return true;
    entry_take(e, above, at, 1 | PEND_TABLE);
    /*@ assert rest: table_empty(t, 1) && is_table(t, 1, e); */
    return false;
}

/* Goes on with the detached subtree; gives its root back when it is empty. */
/*@ requires invariants && env_ok(e) && sweep_ok(e) && envs[e].doomed != 0;
    requires the_cpu.pend_count == 0;
    assigns envs[e].doomed, tables[0 .. PROOF_FRAMES - 1], lines[0 .. PROOF_FRAMES - 1], the_cpu.pend_count,
            the_cpu.pend[0 .. PEND_MAX - 1];
    ensures invariants;
    ensures env: env_ok(e);
    ensures walk: sweep_ok(e);
    ensures only_cleared: \forall integer t, i; 0 <= t < nframes && 0 <= i < 512 ==>
            tables[t].e[i] == 0 || tables[t].e[i] == \old(tables[t].e[i]);
    ensures progress: the_cpu.pend_count > 0;
    ensures over: envs[e].doomed == 0 || envs[e].doomed == \old(envs[e].doomed);
    ensures empty: envs[e].doomed == 0 ==> the_cpu.pend_count == 1 &&
            table_empty(\old(envs[e].doomed), envs[e].doomed_level) &&
            the_cpu.pend[0].level == PEND_TABLE + envs[e].doomed_level &&
            p_frame(the_cpu.pend[0].entry) == \old(envs[e].doomed) &&
            e_sel(e, the_cpu.pend[0].entry) == envs[e].doomed_sel; */
static void doomed_step(frame_t e)
{
    if (!drain_step(e, envs[e].doomed, envs[e].doomed_level)) return;
    pend_add(e, PEND_ANYWHERE, pte_table(pte_format(e), envs[e].doomed, envs[e].doomed_sel),
             envs[e].doomed_level | PEND_TABLE);
    envs[e].doomed = 0;
    /*@ assert envs: \forall integer x; 0 <= x < PROOF_FRAMES && \at(env_ok(x), Pre) ==> env_ok(x); */
}

/* Detaches the table of level l - 1 that entry i of table t leads to: it is drained next. */
/*@ requires invariants && env_ok(e) && sweep_ok(e) && envs[e].doomed == 0 && 2 <= l <= 4;
    requires is_table(t, l, e) && i < 512 && (l == 4 ==> user_slot(i));
    requires p_present(tables[t].e[i]) && (l < 4 ==> !p_large(tables[t].e[i]));
    assigns envs[e].doomed, envs[e].doomed_sel, envs[e].doomed_level, tables[t].e[i];
    ensures invariants;
    ensures env: env_ok(e);
    ensures walk: sweep_ok(e);
    ensures tables[t].e[i] == 0 && envs[e].doomed != 0; */
static void table_detach(frame_t e, frame_t t, unsigned i, unsigned l)
{
    uint64_t entry = entry_swap(&tables[t].e[i], 0);
    /*@ assert tree: invariants; */
    envs[e].doomed_sel = pte_sel(pte_format(e), entry);
    /*@ assert envs: \forall integer x; 0 <= x < PROOF_FRAMES && \at(env_ok(x), Pre) ==> env_ok(x); */
    envs[e].doomed_level = l - 1;
    /*@ assert envs: \forall integer x; 0 <= x < PROOF_FRAMES && \at(env_ok(x), Pre) ==> env_ok(x); */
    envs[e].doomed = pte_frame(entry);
    /*@ assert envs: \forall integer x; 0 <= x < PROOF_FRAMES && \at(env_ok(x), Pre) ==> env_ok(x); */
}

/* The walk of sweep_va came to an entry of table t, at level l, that leads no further, or
 * not for long: moves it on behind what that entry maps, or detaches the table below. */
/*@ requires invariants && env_ok(e) && sweep_ok(e) && the_cpu.pend_count == 0;
    requires envs[e].doomed == 0 && 2 <= l <= 4 && is_table(t, l, e);
    requires path(e, envs[e].sweep_va, l, t);
    requires stops(e, tables[t].e[v_index(envs[e].sweep_va, l)], l);
    assigns envs[e].sweep_va, envs[e].doomed, envs[e].doomed_sel, envs[e].doomed_level,
            tables[t].e[v_index(envs[e].sweep_va, l)], the_cpu.pend_count, the_cpu.pend[0];
    ensures invariants;
    ensures env: env_ok(e);
    ensures walk: sweep_ok(e);
    ensures only_cleared: tables[t].e[v_index(\old(envs[e].sweep_va), l)] == 0 ||
            tables[t].e[v_index(\old(envs[e].sweep_va), l)] ==
            \old(tables[t].e[v_index(envs[e].sweep_va, l)]);
    ensures behind: envs[e].doomed == 0 ==>
            envs[e].sweep_va == v_next(\old(envs[e].sweep_va), l) &&
            part_clean(e, \old(envs[e].sweep_va), l); */
static void entry_sweep(frame_t e, frame_t t, unsigned l)
{
    unsigned i = va_index(envs[e].sweep_va, l);
    uint64_t entry = tables[t].e[i];
    if ((entry & PTE_P) != 0 && sel_dying(e, pte_sel(pte_format(e), entry))) {
        if (l == 4 || (entry & PTE_PS) == 0) {
            table_detach(e, t, i, l);
            return;
        }
        pend_add(e, envs[e].sweep_va, entry_swap(&tables[t].e[i], 0), l);
    }
    /*@ assert tree: invariants; */
    /*@ assert still: path(e, envs[e].sweep_va, l, t); */
    envs[e].sweep_va = va_after(envs[e].sweep_va, l);
    /*@ assert envs: \forall integer x; 0 <= x < PROOF_FRAMES && \at(env_ok(x), Pre) ==> env_ok(x); */
}

/* Moves the walk on by one table, present or not. */
/*@ requires invariants && env_ok(e) && sweep_ok(e) && the_cpu.pend_count == 0;
    requires envs[e].doomed == 0;
    assigns envs[e].sweep_va, envs[e].doomed, envs[e].doomed_sel, envs[e].doomed_level,
            tables[0 .. PROOF_FRAMES - 1], lines[0 .. PROOF_FRAMES - 1], the_cpu.pend_count, the_cpu.pend[0 .. PEND_MAX - 1];
    ensures invariants;
    ensures env: env_ok(e);
    ensures walk: sweep_ok(e);
    ensures only_cleared: \forall integer t, i; 0 <= t < nframes && 0 <= i < 512 ==>
            tables[t].e[i] == 0 || tables[t].e[i] == \old(tables[t].e[i]);
    ensures behind: envs[e].doomed == 0 ==>
            (envs[e].sweep_va == v_next(\old(envs[e].sweep_va), 4) &&
             part_clean(e, \old(envs[e].sweep_va), 4)) ||
            (envs[e].sweep_va == v_next(\old(envs[e].sweep_va), 3) &&
             part_clean(e, \old(envs[e].sweep_va), 3)) ||
            (envs[e].sweep_va == v_next(\old(envs[e].sweep_va), 2) &&
             part_clean(e, \old(envs[e].sweep_va), 2)); */
static void sweep_hop(frame_t e)
{
    frame_t t = envs[e].root;
    uint64_t va = envs[e].sweep_va;
    /*@ loop invariant 1 <= l <= 4 && is_table(t, l, e) && path(e, va, l, t);
        loop assigns l, t;
        loop variant l; */
    for (unsigned l = 4; l > 1; l--) {
        uint64_t entry = tables[t].e[va_index(va, l)];
        if ((entry & PTE_P) == 0 || (l < 4 && (entry & PTE_PS) != 0) ||
            sel_dying(e, pte_sel(pte_format(e), entry))) {
            entry_sweep(e, t, l);
            return;
        }
        t = pte_frame(entry);
    }
    leaf_sweep(e, t, va & ~0x1fffffull, false);
    /*@ assert still: path(e, va, 1, t); */
    /*@ assert leaf: \forall integer i; 0 <= i < 512 ==> clean(e, tables[t].e[i]); */
    /*@ assert index: \forall integer x; 0 <= x < 0x10000000000000000 ==> 0 <= v_index(x, 1) < 512; */
    /*@ assert same: \forall integer x; 0 <= x < 0x10000000000000000 && v_index(x, 4) == v_index(va, 4) &&
        v_index(x, 3) == v_index(va, 3) && v_index(x, 2) == v_index(va, 2) ==>
        entry4(e, x) == entry4(e, va) && entry3(e, x) == entry3(e, va) &&
        entry2(e, x) == entry2(e, va) && clean(e, entry1(e, x)); */
    /*@ assert leaf_clean: part_clean(e, va, 2); */
    envs[e].sweep_va = va_after(va, 2);
}

void sweep_step(frame_t e)
{
    /*@ loop invariant 0 <= i <= SWEEP_HOPS && invariants;
        loop invariant env_ok(e);
        loop invariant sweep_ok(e);
        loop invariant \forall integer t, k; 0 <= t < nframes && 0 <= k < 512 ==>
            tables[t].e[k] == 0 || tables[t].e[k] == \at(tables[t].e[k], Pre);
        loop assigns i, envs[e].sweep_va, envs[e].doomed, envs[e].doomed_sel, envs[e].doomed_level,
            tables[0 .. PROOF_FRAMES - 1], lines[0 .. PROOF_FRAMES - 1], the_cpu.pend_count, the_cpu.pend[0 .. PEND_MAX - 1];
        loop variant SWEEP_HOPS - i; */
    for (unsigned i = 0; i < SWEEP_HOPS && this_cpu()->pend_count == 0; i++)
        envs[e].doomed != 0 ? doomed_step(e) : sweep_hop(e);
}

bool sweep_all_step(frame_t e)
{
    if (envs[e].doomed == 0) return drain_step(e, envs[e].root, 4);
    doomed_step(e);
    return false;
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

/*@ requires machine && f < nframes && (level == PEND_THREAD || level == PEND_ENV);
    requires level == PEND_THREAD ==> f + EXO_VCPU_FRAMES <= nframes;
    requires level == PEND_ENV ==> f + 3 + envs[f].tables + EXO_VM_ENV_FRAMES <= nframes;
    assigns words[0 .. 0xffffffff], blocks2m[0 .. 0xffffffff], blocks1g[0 .. 0xffffffff]; */
static void object_commit(frame_t f, uint32_t level)
{
    if (level == PEND_ENV)
        object_untype(f, 3 + envs[f].tables + env_extra(envs[f].flags), ENV_VECTOR);
    else
        object_untype(f, (threads[f].slow & SLOW_VM) != 0 ? EXO_VCPU_FRAMES : 2, THREAD_PAGE);
}

FLATTEN void core_commit(void)
{
    struct cpu *cpu = this_cpu();
    frame_t locked = 0;
    /*@ loop invariant 0 <= i <= the_cpu.pend_count && locked < PROOF_FRAMES && machine;
        loop invariant ok: invariants;
        loop assigns i, locked, words[0 .. 0xffffffff], blocks2m[0 .. 0xffffffff],
            blocks1g[0 .. 0xffffffff], caps[0 .. 0xffffffff].bindings;
        loop variant the_cpu.pend_count - i; */
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
