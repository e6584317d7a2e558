/* SPDX-License-Identifier: MIT
 *
 * Changing the rights of what is bound: within those of the capability that each page was
 * bound through. No count changes, no binding goes; so there is no second phase but the
 * flush that lost rights need; in a virtual machine's env rights gained need it as well:
 * a translation with the old rights could make the guest fault again without end.
 *
 * Entries of a table that differ in nothing but frame, accessed and dirty bits are a
 * run: what may be done with the first may be done with all, but for the frame's type.
 * The rights of a run are flipped in place by an atomic exclusive-or each, so that the
 * processor's own accessed and dirty bits are never lost.
 *
 * Locking: the env's lock.
 */
#include "core.h"

/*@ predicate rights_ok(integer r) = r == 0 || r == 1 || r == 3 || r == 5 || r == 7; */

#define PTE_RIGHTS (PTE_W | PTE_U | PTE_NX)
#define PTE_VARIES (0x000ffffffffff000ull | PTE_A | PTE_D) /* within a run */
#define EPT_VARIES (0x000ffffffffff000ull | PTE_EPT_A | PTE_EPT_D)

/* What has to be flipped in entry e for it to have `rights`. */
/*@ assigns \nothing;
    ensures \result == p_flip(format, e, rights); */
HOT uint64_t rights_flip(uint32_t format, uint64_t e, unsigned rights)
{
    uint64_t bits = e ^ pte_leaf(format, 0, rights, 0, 1, 0);
    return bits & (format != 0 ? PTE_EPT_RIGHTS : PTE_RIGHTS);
}

/*@ assigns \nothing;
    ensures \result == p_varies(format); */
HOT uint64_t run_varies(uint32_t format) { return format != 0 ? EPT_VARIES : PTE_VARIES; }

/*@ assigns \nothing;
    ensures \result == p_unlike(varies, a, b); */
HOT uint64_t entry_unlike(uint64_t varies, uint64_t a, uint64_t b) { return (a ^ b) & ~varies; }

/*@ assigns \nothing;
    ensures \result == p_lost(had, rights); */
HOT unsigned rights_lost(unsigned had, unsigned rights) { return had & ~rights; }

/* Flips `bits` in the entries of a run, which differ in `varies`, from entry i of table t
 * on, at most up to entry `end`; typed: only onto frames that may be writable. How many. */
/*@ requires machine && t < nframes && i < end <= 512;
    assigns tables[t].e[0 .. 511];
    ensures 0 <= \result <= end - i;
    ensures flipped: \forall integer j; i <= j < i + \result ==>
            tables[t].e[j] == p_xor(\old(tables[t].e[j]), bits) &&
            p_unlike(varies, \old(tables[t].e[j]), \old(tables[t].e[i])) == 0;
    ensures kept: \forall integer j; 0 <= j < 512 && (j < i || i + \result <= j) ==>
            tables[t].e[j] == \old(tables[t].e[j]);
    ensures safe: typed != 0 ==> \forall integer j; i <= j < i + \result &&
            counted(p_frame(\old(tables[t].e[j]))) ==>
            w_type(words[p_frame(\old(tables[t].e[j]))]) == EXO_FT_PLAIN; */
HOT unsigned run_flip(frame_t t, unsigned i, unsigned end, uint64_t bits, uint64_t varies,
                      bool typed)
{
    const uint64_t *const word = words;
    const frame_t frames = nframes;
    uint64_t first = tables[t].e[i];
    unsigned start = i;
    /*@ loop invariant start <= i <= end;
        loop invariant \forall integer j; start <= j < i ==>
            tables[t].e[j] == p_xor(\at(tables[t].e[j], Pre), bits) &&
            p_unlike(varies, \at(tables[t].e[j], Pre), first) == 0;
        loop invariant \forall integer j; 0 <= j < 512 && (j < start || i <= j) ==>
            tables[t].e[j] == \at(tables[t].e[j], Pre);
        loop invariant typed != 0 ==> \forall integer j; start <= j < i &&
            counted(p_frame(\at(tables[t].e[j], Pre))) ==>
            w_type(words[p_frame(\at(tables[t].e[j], Pre))]) == EXO_FT_PLAIN;
        loop assigns i, tables[t].e[0 .. 511];
        loop variant end - i; */
    for (; i < end; i++) {
        uint64_t old = tables[t].e[i];
        if (entry_unlike(varies, old, first) != 0) break;
        frame_t f = (frame_t)(old >> 12); /* pte_frame; what is above is cut off */
        if (typed && f < frames && EXO_FW_TYPE(word[f]) != EXO_FT_PLAIN &&
            EXO_FW_TYPE(word[f]) != EXO_FT_DEVICE)
            break;
        entry_flip(&tables[t].e[i], bits);
    }
    return i - start;
}

/* Env lock held: the run that begins with the present entry i of table t gets `rights`.
 * How many entries, or an error. */
/*@ requires invariants && env_ok(env) && 1 <= level <= 3 && is_table(t, level, env);
    requires i < end <= 512 && p_present(tables[t].e[i]);
    requires level > 1 ==> end == i + 1 && p_large(tables[t].e[i]);
    requires rights_ok(rights) && (e_format(env) != 0 ==> rights != 0);
    assigns tables[t].e[0 .. 511], the_cpu.pend_count, the_cpu.pend[0];
    ensures invariants;
    ensures -EXO_E_NOVM <= \result <= end - i && \result != 0;
    ensures within: \result > 0 ==>
            SUBSET(rights, caps[entry_cap(env, \old(tables[t].e[i]))].rights);
    ensures refused: \result < 0 ==> \forall integer j; 0 <= j < 512 ==>
            tables[t].e[j] == \old(tables[t].e[j]);
    ensures kept: \forall integer j; 0 <= j < 512 && (j < i || i + \result <= j) ==>
            tables[t].e[j] == \old(tables[t].e[j]);
    ensures bound: \result > 0 ==> \forall integer j; i <= j < i + \result ==> p_present(tables[t].e[j]) &&
            p_rights(e_format(env), tables[t].e[j]) == rights &&
            p_frame(tables[t].e[j]) == p_frame(\old(tables[t].e[j])) &&
            e_sel(env, tables[t].e[j]) == e_sel(env, \old(tables[t].e[j])) &&
            e_sel(env, tables[t].e[j]) == e_sel(env, \old(tables[t].e[i])) &&
            (p_large(tables[t].e[j]) <==> p_large(\old(tables[t].e[j])));
    ensures safe: \result > 0 && (rights & EXO_W) != 0 && level == 1 ==>
            \forall integer j; i <= j < i + \result && counted(p_frame(tables[t].e[j])) ==>
            w_type(words[p_frame(tables[t].e[j])]) == EXO_FT_PLAIN;
    ensures flushed: \result > 0 &&
            p_lost(p_rights(e_format(env), \old(tables[t].e[i])), rights) != 0 ==>
            the_cpu.pend_count != 0; */
static long run_protect(frame_t env, frame_t t, unsigned i, unsigned end, unsigned level,
                        unsigned rights)
{
    uint64_t old = tables[t].e[i];
    uint32_t format = pte_format(env);
    const struct cap *c = &caps[env_caps(env) + pte_sel(format, old)];
    if ((rights & ~(unsigned)c->rights) != 0) return -EXO_E_RIGHTS;
    uint64_t bits = rights_flip(format, old, rights), varies = run_varies(format);
    unsigned n = (rights & EXO_W) != 0 && level == 1 ? run_flip(t, i, end, bits, varies, true)
                                                     : run_flip(t, i, end, bits, varies, false);
    /*@ assert format: format == e_format(env) && (format != 0 ==> rights != 0); */
    /*@ assert run: \forall integer j; i <= j < i + n ==>
        tables[t].e[j] == p_xor(\at(tables[t].e[j], Pre), p_flip(format, old, rights)) &&
        p_unlike(p_varies(format), \at(tables[t].e[j], Pre), old) == 0; */
    /*@ assert typed: \forall integer j; 0 <= j < 512 ==>
        0 <= \at(tables[t].e[j], Pre) < 0x10000000000000000; */
    /*@ assert other: rights == 1 || rights == 3 || rights == 5 || rights == 7 ||
        (rights == 0 && format == 0); */
    /*@ assert frames: \forall integer j; i <= j < i + n ==> p_present(tables[t].e[j]) &&
        p_frame(tables[t].e[j]) == p_frame(\at(tables[t].e[j], Pre)); */
    /*@ assert bound: \forall integer j; i <= j < i + n ==> p_present(tables[t].e[j]) &&
        p_rights(format, tables[t].e[j]) == rights &&
        p_frame(tables[t].e[j]) == p_frame(\at(tables[t].e[j], Pre)) &&
        p_sel(format, tables[t].e[j]) == p_sel(format, \at(tables[t].e[j], Pre)) &&
        p_sel(format, tables[t].e[j]) == p_sel(format, old) &&
        (p_large(tables[t].e[j]) <==> p_large(\at(tables[t].e[j], Pre))); */
    /*@ assert large: level > 1 ==> n <= 1 && p_large(tables[t].e[i]); */
    /*@ assert same: \forall integer x, k; 0 <= x < nframes && 0 <= k < 512 &&
        (x != t || (level > 1 && k != i)) ==> tables[x].e[k] == \at(tables[x].e[k], Pre); */
    /*@ assert tree: tree; */
    if (n == 0) return -EXO_E_TYPE;
    if (rights_lost(pte_rights(format, old), rights) != 0 || (envs[env].flags & ENV_VM) != 0)
        pend_flush(env, level);
    return n;
}

/*@ requires invariants && env_ok(env) && 1 <= n <= EXO_RANGE_MAX;
    requires rights_ok(rights) && (e_format(env) != 0 ==> rights != 0);
    assigns tables[0 .. PROOF_FRAMES - 1], the_cpu.pend_count, the_cpu.pend[0];
    ensures invariants;
    ensures -EXO_E_NOVM <= \result <= n; */
static long protect_range(frame_t env, uint64_t va, uint64_t n, unsigned rights)
{
    uint64_t done = 0;
    long r = 0;
    /*@ loop invariant 0 <= done <= n && -EXO_E_NOVM <= r <= 512 && invariants;
        loop assigns done, r, va, tables[0 .. PROOF_FRAMES - 1], the_cpu.pend_count,
            the_cpu.pend[0];
        loop variant n - done; */
    while (done < n) {
        frame_t t;
        unsigned level;
        r = va_user(env, va, 1) ? leaf_any(env, va, &t, &level) : -EXO_E_VA;
        if (r != 0) break;
        uint64_t bytes = 4096ull << 9 * (level - 1);
        unsigned i = va_index(va, level);
        unsigned end = level == 1 && n - done < 512 - i ? i + (unsigned)(n - done)
                       : level == 1                     ? 512
                                                        : i + 1;
        if ((va & (bytes - 1)) != 0) return done != 0 ? (long)done : -EXO_E_VA;
        /*@ loop invariant 0 <= i <= end <= 512 && -EXO_E_NOVM <= r <= 512 && invariants;
            loop invariant 0 <= done && end - i <= n - done;
            loop invariant level > 1 ==> i + 1 >= end;
            loop invariant level > 1 && i < end ==> p_present(tables[t].e[i]) &&
                p_large(tables[t].e[i]);
            loop invariant ahead: done - i == \at(done - i, LoopEntry);
            loop invariant first: \at(i, LoopEntry) < end;
            loop assigns i, done, r, va, tables[0 .. PROOF_FRAMES - 1], the_cpu.pend_count,
                the_cpu.pend[0];
            loop variant end - i; */
        while (i < end) {
            if ((tables[t].e[i] & PTE_P) != 0)
                r = run_protect(env, t, i, end, level, rights);
            else
                r = done == 0 ? -EXO_E_NONE : 1;
            if (r < 0) return done != 0 ? (long)done : r;
            i += (unsigned)r;
            done += (uint64_t)r;
            va += bytes * (uint64_t)r;
        }
    }
    return done != 0 ? (long)done : r;
}

/*@ requires invariants && env_ok(env) && 1 <= n <= EXO_LIST_MAX;
    requires rights_ok(rights) && (e_format(env) != 0 ==> rights != 0);
    assigns tables[0 .. PROOF_FRAMES - 1], the_cpu.pend_count, the_cpu.pend[0];
    ensures invariants;
    ensures -EXO_E_NOVM <= \result <= n; */
static long protect_list(frame_t env, uint64_t n, unsigned rights)
{
    const struct exo_batch *list = upcalls[this_thread()->upcall].list;
    uint64_t done = 0;
    long r = 0;
    /*@ loop invariant 0 <= done <= n && -EXO_E_NOVM <= r <= 512 && invariants;
        loop assigns done, r, tables[0 .. PROOF_FRAMES - 1], the_cpu.pend_count,
            the_cpu.pend[0];
        loop variant n - done; */
    for (; done < n; done++) {
        uint64_t va = fetch(&list[done].va);
        frame_t t;
        r = leaf_find(env, va, &t);
        /*@ assert leaf: r == 0 ==> is_table(t, 1, env); */
        if (r == 0 && (tables[t].e[va_index(va, 1)] & PTE_P) == 0) r = -EXO_E_NONE;
        if (r == 0) r = run_protect(env, t, va_index(va, 1), va_index(va, 1) + 1, 1, rights);
        /*@ assert kept: invariants; */
        if (r < 0) break;
    }
    return done != 0 ? (long)done : r;
}

/*@ assigns \nothing;
    ensures \result != 0 <==> rights_ok(rights); */
static bool rights_valid(uint64_t rights)
{
    return (rights & ~(uint64_t)(EXO_R | EXO_W | EXO_X)) == 0 &&
           (rights == 0 || (rights & EXO_R) != 0);
}

/* The env, in which pages may have these rights: EPT has none that are present without. */
/*@ requires invariants && formats && \valid(e) && local(e);
    assigns *e;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures \result == 0 ==> env_ok(*e) && (e_format(*e) != 0 ==> rights != 0); */
static long protect_env(uint64_t env, uint64_t rights, frame_t *e)
{
    long r = env_find(env, EXO_ENV_BIND, e);
    return r == 0 && rights == 0 && (envs[*e].flags & ENV_VM) != 0 ? -EXO_E_ARG : r;
}

/*@ requires invariants && formats && the_cpu.pend_count == 0;
    assigns tables[0 .. PROOF_FRAMES - 1], the_cpu.pend_count, the_cpu.pend[0];
    ensures invariants;
    ensures -EXO_E_NOVM <= \result <= n; */
long sys_page_protect(uint64_t env, uint64_t va, uint64_t n, uint64_t rights)
{
    frame_t e;
    if (!rights_valid(rights) || n == 0 || n > EXO_RANGE_MAX) return -EXO_E_ARG;
    if ((va & 4095) != 0) return -EXO_E_VA;
    long r = protect_env(env, rights, &e);
    if (r != 0) return r;
    lock_env(e);
    r = protect_range(e, va, n, (unsigned)rights);
    unlock_env(e);
    return r;
}

/*@ requires invariants && formats && the_cpu.pend_count == 0;
    assigns tables[0 .. PROOF_FRAMES - 1], the_cpu.pend_count, the_cpu.pend[0];
    ensures invariants;
    ensures -EXO_E_NOVM <= \result <= n; */
long sys_page_protect_list(uint64_t env, uint64_t n, uint64_t rights)
{
    frame_t e;
    if (!rights_valid(rights) || n == 0 || n > EXO_LIST_MAX) return -EXO_E_ARG;
    long r = protect_env(env, rights, &e);
    if (r != 0) return r;
    lock_env(e);
    r = protect_list(e, n, (unsigned)rights);
    unlock_env(e);
    return r;
}
