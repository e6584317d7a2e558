/* SPDX-License-Identifier: MIT
 *
 * Address spaces: page tables, bound by virtual address. Every present entry names
 * the selector (of the env whose address space it is) that it was bound through, and
 * is counted on that capability and in the frame's word.
 *
 * Locking: the env's lock for its tables and counts. Taking a binding away has two
 * phases: under the lock the entry is cleared and recorded in the CPU's pend list;
 * after the quiesce round core_commit gives the counts back. Until then the frame
 * still counts as bound and the capability as in use, so neither can change its use
 * while a CPU may hold a translation.
 *
 * Sweeps look only where something was bound: lines[t] has a bit for each cache line of
 * table t, set before an entry of it becomes present, cleared when none was found.
 *
 * An entry whose accessed bit is clear was never cached by any CPU (Intel SDM vol. 3,
 * 4.8: the processor sets the bit before it caches the translation).
 */
#include "core.h"

#define PTE_ADDR 0x000ffffffffff000ull
#define PTE_SOFT_LOW 9 /* 3 ignored bits */
#define PTE_SOFT_HIGH 52 /* 11 ignored bits, in EPT 12 */
#define EPT_SOFT_LOW 10 /* 2 ignored bits */
#define EPT_WB (6ull << 3) /* memory type; 0 is uncacheable */
#define EPT_IGNORE_PAT 0x40ull
#define UPPER_START 0xffff880000000000ull /* user space above the kernel's slots */
#define RIGHTS_BITS (EXO_R | EXO_W | EXO_X)

/*@ assigns \nothing;
    ensures \result == p_sel_bits(sel); */
static uint64_t sel_bits(uint32_t sel)
{
    return (uint64_t)(sel & 7) << PTE_SOFT_LOW | (uint64_t)(sel >> 3) << PTE_SOFT_HIGH;
}

/*@ assigns \nothing;
    ensures \result == p_ept_sel_bits(sel); */
static uint64_t ept_sel_bits(uint32_t sel)
{
    return (uint64_t)(sel & 3) << EPT_SOFT_LOW | (uint64_t)(sel >> 2) << PTE_SOFT_HIGH;
}

/*@ assigns \nothing;
    ensures \result == p_ept_leaf(f, rights, sel, level, cache); */
static __attribute__((noinline)) uint64_t ept_leaf(frame_t f, unsigned rights, uint32_t sel,
                                                   unsigned level, uint64_t cache)
{
    uint64_t e = (uint64_t)f << 12 | (rights & PTE_EPT_RIGHTS) | ept_sel_bits(sel) | EPT_IGNORE_PAT;
    if (cache == CACHE_WB) e |= EPT_WB;
    if (level > 1) e |= PTE_PS;
    return e;
}
_Static_assert(EXO_R == PTE_P && EXO_W == PTE_W, "ept_leaf");

uint64_t pte_leaf(uint32_t format, frame_t f, unsigned rights, uint32_t sel, unsigned level,
                  uint64_t cache)
{
    if (format != 0) return ept_leaf(f, rights, sel, level, cache);
    uint64_t e = (uint64_t)f << 12 | PTE_P | sel_bits(sel) | cache;
    e |= rights & EXO_W; /* the same bit */
    if (rights != 0) e |= PTE_U;
    if ((rights & EXO_X) == 0) e |= PTE_NX;
    if (level > 1) e |= PTE_PS;
    return e;
}
_Static_assert(EXO_W == PTE_W, "pte_leaf");

uint64_t pte_table(uint32_t format, frame_t f, uint32_t sel)
{
    if (format != 0) return (uint64_t)f << 12 | PTE_EPT_RIGHTS | ept_sel_bits(sel);
    return (uint64_t)f << 12 | PTE_P | PTE_W | PTE_U | sel_bits(sel);
}

frame_t pte_frame(uint64_t e) { return (frame_t)((e & PTE_ADDR) >> 12); }

uint32_t pte_sel(uint32_t format, uint64_t e)
{
    if (format != 0) return (uint32_t)(e >> EPT_SOFT_LOW & 3) | (uint32_t)(e >> PTE_SOFT_HIGH) << 2;
    return (uint32_t)(e >> PTE_SOFT_LOW & 7) | (uint32_t)(e >> PTE_SOFT_HIGH & 0x7ff) << 3;
}

unsigned pte_rights(uint32_t format, uint64_t e)
{
    if (format != 0) return (unsigned)(e & PTE_EPT_RIGHTS);
    if ((e & PTE_U) == 0) return 0;
    return EXO_R | ((e & PTE_W) != 0 ? EXO_W : 0) | ((e & PTE_NX) == 0 ? EXO_X : 0);
}

/* The leaf entry of frame f, made from that of frame 0. */
/*@ assigns \nothing;
    ensures \result == p_at(bits, f); */
static inline uint64_t pte_at(uint64_t bits, frame_t f) { return bits | (uint64_t)f << 12; }

bool va_user(frame_t e, uint64_t va, uint64_t bytes)
{
    if (va < EXO_VA_END) return bytes <= EXO_VA_END - va;
    return va >= UPPER_START && bytes - 1 <= ~va && (envs[e].flags & ENV_VM) == 0;
}

/* The table of `level` that holds va's entry. */
/*@ requires invariants && env_ok(env) && 1 <= level <= 4 && va_ok(va);
    requires \valid(out) && local(out);
    assigns *out;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures \result == 0 ==> is_table(*out, level, env); */
HOT long table_find(frame_t env, uint64_t va, unsigned level, frame_t *out)
{
    frame_t t = env + 1; /* its top table */
    /*@ loop invariant level <= l <= 4 && is_table(t, l, env);
        loop assigns l, t;
        loop variant l; */
    for (unsigned l = 4; l > level; l--) {
        uint64_t e = tables[t].e[va_index(va, l)];
        if ((e & PTE_P) == 0) return -EXO_E_NOPT;
        if (l < 4 && (e & PTE_PS) != 0) return -EXO_E_BOUND;
        t = pte_frame(e);
    }
    *out = t;
    return 0;
}

void pend_add(frame_t env, uint64_t va, uint64_t entry, unsigned level)
{
    struct cpu *cpu = this_cpu();
    KASSERT(cpu->pend_count < PEND_MAX);
    cpu->pend[cpu->pend_count++] = (struct pend){va, entry, env, level};
}

void pend_flush(frame_t env, unsigned level)
{
    struct cpu *cpu = this_cpu();
    if (cpu->pend_count == 0) pend_add(env, PEND_ANYWHERE, 0, level);
}

/* ---- bind --------------------------------------------------------------------------- */

struct span { /* what a bind call asks for, checked */
    frame_t env;
    uint64_t sel;
    unsigned rights; /* EXO_R.. */
    unsigned level; /* of the leaf */
    uint64_t cache;
    uint64_t bits; /* an entry's, all but the frame */
};

/*@ predicate span_ok(struct span *s) = 1 <= s->level <= 3 && s->sel < 16384 &&
      (s->cache == 0 || s->cache == CACHE_UC) &&
      s->bits == p_leaf(e_format(s->env), 0, s->rights, s->sel, s->level, s->cache) &&
      (s->rights == 1 || s->rights == 3 || s->rights == 5 || s->rights == 7); */

/*@ requires \valid(level);
    assigns *level;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures \result == 0 ==> 1 <= *level <= 3; */
static long size_level(uint64_t rights, unsigned *level)
{
    if ((rights & ~(uint64_t)(RIGHTS_BITS | EXO_LARGE_2M | EXO_LARGE_1G)) != 0) return -EXO_E_ARG;
    if ((rights & EXO_LARGE_1G) != 0 && !huge_pages) return -EXO_E_ARG;
    *level = 1;
    if ((rights & (EXO_LARGE_2M | EXO_LARGE_1G)) != 0)
        *level = (rights & EXO_LARGE_1G) != 0 ? 3 : 2;
    return 0;
}

/* Env lock held: may `sel` be bound through with these rights? */
/*@ requires invariants && env_ok(s->env) && \valid(s) && \valid(out) && local(out);
    requires \separated(s, out);
    assigns s->cache, s->bits, *out;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures \result == 0 ==> *out == cap_at(s->env, s->sel) && s->sel < envs[s->env].nsel &&
            caps[*out].kind == EXO_FRAMES && SUBSET(s->rights, caps[*out].rights) &&
            s->cache == caps[*out].badge && (s->cache == 0 || s->cache == CACHE_UC) &&
            s->bits == p_leaf(e_format(s->env), 0, s->rights, s->sel, s->level, s->cache);
    ensures alive: \result == 0 ==> (caps[*out].flags & CAP_DYING) == 0 &&
            (envs[s->env].flags & ENV_DYING) == 0; */
HOT long bind_check(struct span *s, cref_t *out)
{
    if ((envs[s->env].flags & ENV_DYING) != 0) return -EXO_E_DYING;
    long r = cap_find(s->env, s->sel, EXO_FRAMES, s->rights, out);
    if (r != 0) return r;
    if ((caps[*out].flags & CAP_DYING) != 0) return -EXO_E_DYING;
    s->cache = caps[*out].badge;
    s->bits = pte_leaf(pte_format(s->env), 0, s->rights, (uint32_t)s->sel, s->level, s->cache);
    return 0;
}

/*@ requires \valid_read(c);
    assigns \nothing;
    ensures \result != 0 <==> covers(c->base, c->count, first, n); */
HOT bool cap_covers(const struct cap *c, uint64_t first, uint64_t n)
{
    if (first < c->base || first - c->base >= c->count) return false;
    return n == 1 || n <= c->count - (first - c->base);
}

/* One leaf entry of table t. Env lock held, frame inside the capability. */
/*@ requires invariants && \valid_read(s) && apart(s) && span_ok(s) && is_table(t, level, s->env) && i < 512;
    requires level == s->level && s->env < PROOF_FRAMES;
    requires s->level > 1 ==> f % (s->level == 2 ? 512 : 262144) == 0;
    assigns tables[t].e[i], words[f], blocks2m[f >> 9], blocks1g[f >> 18];
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures tree;
    ensures refused: \result != 0 ==> tables[t].e[i] == \old(tables[t].e[i]) &&
            (f < nframes ==> words[f] == \old(words[f]));
    ensures empty: \result == 0 ==> !p_present(\old(tables[t].e[i]));
    ensures bound: \result == 0 ==> p_present(tables[t].e[i]) &&
            p_frame(tables[t].e[i]) == f && e_sel(s->env, tables[t].e[i]) == s->sel &&
            p_rights(e_format(s->env), tables[t].e[i]) == s->rights;
    ensures safe: \result == 0 && s->level == 1 && counted(f) ==>
            bindable(words[f], (s->rights & EXO_W) != 0 ? 1 : 0);
    ensures exact: s->level == 1 && \old(counted(f)) ==>
            words[f] == \old(words[f]) + (\result == 0 ? 1 : 0);
    ensures type: f < nframes ==> w_type(words[f]) == w_type(\old(words[f])) &&
            w_owner(words[f]) == w_owner(\old(words[f]));
    ensures number: \forall integer e, sel; through(e, sel) == \old(through(e, sel)) +
            (\result == 0 && e == s->env && sel == s->sel ? 1 : 0); */
HOT long bind_one(const struct span *s, unsigned level, frame_t t, unsigned i, frame_t f)
{
    uint64_t *entry = &tables[t].e[i];
    if ((*entry & PTE_P) != 0) return -EXO_E_BOUND;
    long r = level == 1 ? word_bind(f, (s->rights & EXO_W) != 0) : word_bind_large(f, level);
    /*@ assert types: \forall integer x; 0 <= x < nframes ==>
        w_type(words[x]) == w_type(\at(words[x], Pre)) &&
        w_owner(words[x]) == w_owner(\at(words[x], Pre)); */
    /*@ assert before: tree; */
    if (r == 0) *entry = pte_at(s->bits, f);
    /*@ assert entry: r == 0 ==> tables[t].e[i] ==
        p_leaf(e_format(s->env), f, s->rights, s->sel, s->level, s->cache); */
    /*@ assert kind: w_type(words[t]) == EXO_FT_PT1 + level - 1; */
    /*@ assert others: \forall integer x, k; 0 <= x < nframes && 0 <= k < 512 &&
        (x != t || k != i) ==> tables[x].e[k] == \at(tables[x].e[k], Pre); */
    /*@ assert large: r == 0 && level > 1 ==> p_large(tables[t].e[i]); */
    /*@ assert wrote: wrote_one{Pre,Here}(t, i); */
    /*@ assert only: renamed{Pre,Here}(t, i); */
    /*@ assert empty: r == 0 ==> \forall integer e, sel; !names{Pre}(t, i, e, sel); */
    /*@ assert named: r == 0 ==> p_present(tables[t].e[i]) &&
        e_sel(s->env, tables[t].e[i]) == s->sel; */
    /*@ assert made: r == 0 ==> names{Here}(t, i, s->env, s->sel); */
    /*@ assert nothing_else: \forall integer e, sel; r == 0 && names{Here}(t, i, e, sel) ==>
        e == s->env && sel == s->sel; */
    /*@ assert none: r != 0 ==> \forall integer e, sel; names{Pre}(t, i, e, sel) <==>
        names{Here}(t, i, e, sel); */
    return r;
}

/* Env lock held: the n entries of table t from i on, as far as it goes, may be present now. */
/*@ requires t < nframes && machine && i < 512 && 1 <= n <= EXO_RANGE_MAX;
    assigns lines[t];
    ensures marked: lines[t] ==
            l_marked(\old(lines[t]), i, (i + n - 1 < 512 ? i + n - 1 : 511)); */
HOT void lines_mark(frame_t t, uint64_t i, uint64_t n)
{
    uint64_t last = i + n - 1;
    if (n > 1 && last > 511) last = 511;
    lines[t] |= ((2ull << (last / TABLE_LINE - i / TABLE_LINE)) - 1) << i / TABLE_LINE;
}

/* The frames that n leaves of a level map. */
/*@ requires 1 <= level <= 3 && n <= EXO_RANGE_MAX;
    assigns \nothing;
    ensures level == 1 ==> \result == n;
    ensures level == 2 ==> \result == n * 512;
    ensures level == 3 ==> \result == n * 262144; */
HOT uint64_t level_frames(uint64_t n, unsigned level)
{
    return level == 1 ? n : level == 2 ? n * 512 : n * 262144;
}

/*@ requires invariants && \valid_read(s) && apart(s) && span_ok(s) && env_ok(s->env);
    requires caps[cref].kind == EXO_FRAMES && SUBSET(s->rights, caps[cref].rights);
    requires caps[cref].env == s->env && cref == cap_at(s->env, s->sel);
    requires 1 <= n <= EXO_RANGE_MAX && level == s->level;
    requires level == 1 ==> va_range(va, n * 0x1000) && f + n <= 0xffffffff;
    requires level == 2 ==> va_range(va, n * 0x200000) && f + n * 512 <= 0xffffffff && f % 512 == 0;
    requires level == 3 ==> va_range(va, n * 0x40000000) && f + n * 262144 <= 0xffffffff &&
             f % 262144 == 0;
    assigns BINDS, caps[cref].bindings;
    ensures invariants;
    ensures exact: caps[cref].bindings == \old(caps[cref].bindings) + (\result > 0 ? \result : 0);
    ensures -EXO_E_NOVM <= \result <= n;
    ensures made: made{Pre,Here}(s->env, level, cref, s->sel, s->rights);
    ensures owed: owed_kept{Pre,Here}; */
HOT long bind_range(const struct span *s, unsigned level, cref_t cref, uint64_t va, uint64_t n,
                    frame_t f)
{
    struct cap *c = &caps[cref];
    uint64_t pages = level_frames(1, level), all = level_frames(n, level);
    if (!cap_covers(c, f, all)) return -EXO_E_RANGE;
    if (c->bindings > UINT32_MAX - n) return -EXO_E_LIMIT;
    frame_t t = 0;
    uint64_t done = 0;
    long r = 0;
    /*@ assert sizes: (level == 1 ==> pages == 1) && (level == 2 ==> pages == 512) &&
        (level == 3 ==> pages == 262144); */
    /*@ ghost uint64_t left = all; */
    /*@ assert all: f + left <= 0xffffffff; */
    /*@ loop invariant 0 <= done <= n && r == 0 && machine && tree;
        loop invariant t == 0 || is_table(t, level, s->env);
        loop invariant left: (level == 1 ==> left == n - done) &&
            (level == 2 ==> left == (n - done) * 512) && (level == 3 ==> left == (n - done) * 262144);
        loop invariant user: done < n ==> va_range(va, left * 4096);
        loop invariant frames: f + left <= 0xffffffff;
        loop invariant aligned: (level == 2 ==> f % 512 == 0) && (level == 3 ==> f % 262144 == 0);
        loop invariant rest: done < n ==>
            covers(caps[cref].base, caps[cref].count, f, left);
        loop invariant kept: types_kept{Pre,Here} && names_kept{Pre,Here};
        loop invariant made: made{Pre,Here}(s->env, level, cref, s->sel, s->rights);
        loop invariant number: \forall integer e, sel; through(e, sel) ==
            \at(through(e, sel), Pre) + (e == s->env && sel == s->sel ? done : 0);
        loop assigns done, r, t, va, f, left, BINDS;
        loop variant n - done; */
    while (done < n) {
        if (t == 0 || va_index(va, level) == 0) {
            r = table_find(s->env, va, level, &t);
            if (r != 0) break;
            lines_mark(t, va_index(va, level), n - done);
        }
        /*@ assert unmoved: unmoved{LoopCurrent,Here}; */
        /*@ assert through: through_kept{LoopCurrent,Here}; */
        /*@ assert enough: pages <= left; */
        /*@ assert same: types_kept{Pre,Here} && names_kept{Pre,Here}; */
        /*@ assert envs: \forall integer e; 0 <= e && \at(env_ok(e), Pre) ==> env_ok(e); */
        /*@ assert threads: \forall integer x; \at(thread_ok(x), Pre) ==> thread_ok(x); */
        /*@ assert caps: \forall integer x; 0 <= x < 0x100000000 ==> \at(cap_ok(x), Pre) && cap_ok(x); */
        /*@ assert objects: objects; */
        /*@ assert env: env_ok(s->env); */
        /*@ assert thread: thread_ok(the_cpu.cur); */
        /*@ ghost One: ; */
        /*@ assert covered: covers(caps[cref].base, caps[cref].count, f, pages); */
        r = bind_one(s, level, t, va_index(va, level), f);
        /*@ assert kinds: types_kept{Pre,Here}; */
        /*@ assert names: names_kept{Pre,Here}; */
        /*@ assert here: tables[t].e[v_index(va, level)] != \at(tables[t].e[v_index(va, level)], One) ==>
            r == 0; */
        /*@ assert others: \forall integer x, k; 0 <= x < nframes && 0 <= k < 512 &&
            (x != t || k != v_index(va, level)) ==> tables[x].e[k] == \at(tables[x].e[k], One); */
        /*@ assert writable: (s->rights & EXO_W) != 0 <==> s->rights == 3 || s->rights == 7; */
        /*@ assert safe: r == 0 && level == 1 ==> may_bind(f, s->rights); */
        /*@ assert right: made{Pre,Here}(s->env, level, cref, s->sel, s->rights); */
        if (r != 0) break;
        /*@ assert goes_on: done + 1 < n ==> 2 * pages <= left && va_range(va + pages * 4096, (left - pages) * 4096); */
        /*@ assert below: done + 1 < n ==> va + pages * 4096 < 0x10000000000000000; */
        /*@ ghost left -= pages; */
        done++;
        va += pages * 4096;
        f += (frame_t)pages;
    }
    /*@ assert total: \forall integer e, sel; through(e, sel) ==
        \at(through(e, sel), Pre) + (e == s->env && sel == s->sel ? done : 0); */
    /*@ ghost Done: ; */
    c->bindings += (uint32_t)done;
    /*@ assert unmoved: unmoved{Done,Here} && through_kept{Done,Here}; */
    /*@ assert names: names_kept{Pre,Here}; */
    /*@ assert types: types_kept{Pre,Here}; */
    /*@ assert counts: \forall integer x; 0 <= x < 0x100000000 && x != cref ==>
        caps[x].bindings == \at(caps[x].bindings, Pre) && caps[x].env == \at(caps[x].env, Pre); */
    /*@ assert tree: tree; */
    /*@ assert envs: \forall integer e; 0 <= e && \at(env_ok(e), Pre) ==> env_ok(e); */
    /*@ assert threads: \forall integer x; \at(thread_ok(x), Pre) ==> thread_ok(x); */
    /*@ assert caps: \forall integer x; 0 <= x < 0x100000000 ==> \at(cap_ok(x), Pre) && cap_ok(x); */
    /*@ assert objects: objects; */
    /*@ assert thread: thread_ok(the_cpu.cur); */
    /*@ assert mine: owed(cref) == \at(owed(cref), Pre); */
    /*@ assert apart: \forall integer x; 0 <= x < 0x100000000 && x != cref ==>
        caps[x].env != s->env || sel_at(x) != s->sel; */
    /*@ assert others: \forall integer e, sel; e != s->env || sel != s->sel ==>
        through(e, sel) == \at(through(e, sel), Pre); */
    /*@ assert selectors: \forall integer x; 0 <= x < 0x100000000 ==> sel_at(x) == \at(sel_at(x), Pre); */
    /*@ assert yours: \forall integer x; 0 <= x < 0x100000000 && x != cref ==>
        owed(x) == \at(owed(x), Pre); */
    return done != 0 ? (long)done : r;
}

/* The call, for pages of one size; `level` is a constant where it is called from. */
/*@ requires 1 <= level <= 3 && rights <= 7; BINDS_EXACTLY */
HOT long bind_pages(uint64_t env, uint64_t va, uint64_t n, uint64_t sel, uint64_t frame,
                    unsigned rights, unsigned level)
{
    frame_t e;
    cref_t c;
    if ((rights & EXO_R) == 0 || n == 0 || n > EXO_RANGE_MAX) return -EXO_E_ARG;
    uint64_t one = level_frames(1, level), all = level_frames(n, level);
    if (va % (one * 4096) != 0) return -EXO_E_VA;
    if (frame % one != 0) return -EXO_E_ARG;
    /*@ assert middle: level == 2 ==> frame % 512 == 0; */
    /*@ assert large: level == 3 ==> frame % 262144 == 0; */
    if (frame > UINT32_MAX - all) return -EXO_E_RANGE;
    long r = env_find(env, EXO_ENV_BIND, &e);
    if (r != 0) return r;
    if (!va_user(e, va, all == 1 ? 1 : all * 4096)) return -EXO_E_VA; /* it is aligned */
    struct span s = {.env = e, .sel = sel, .rights = rights, .level = level};
    lock_env(e);
    r = bind_check(&s, &c);
    if (r == 0) r = bind_range(&s, level, c, va, n, (frame_t)frame);
    unlock_env(e);
    return r;
}

/* By size and number, each compiled on its own. */
/*@ requires rights <= 7; BINDS_EXACTLY */
static FLATTEN NOINLINE long bind_small(uint64_t env, uint64_t va, uint64_t n, uint64_t sel,
                                        uint64_t frame, unsigned rights)
{
    return bind_pages(env, va, n, sel, frame, rights, 1);
}

/*@ BINDS_EXACTLY */
static NOINLINE long bind_large(uint64_t env, uint64_t va, uint64_t n, uint64_t sel, uint64_t frame,
                                uint64_t rights)
{
    unsigned level;
    long r = size_level(rights, &level);
    if (r != 0) return r;
    return bind_pages(env, va, n, sel, frame, (unsigned)rights & RIGHTS_BITS, level);
}

/*@ BINDS_EXACTLY */
FLATTEN long sys_page_bind(uint64_t env, uint64_t va, uint64_t n, uint64_t sel, uint64_t frame,
                           uint64_t rights)
{
    if (rights > RIGHTS_BITS) return bind_large(env, va, n, sel, frame, rights);
    if (n != 1) return bind_small(env, va, n, sel, frame, (unsigned)rights);
    return bind_pages(env, va, 1, sel, frame, (unsigned)rights, 1);
}

/*@ requires invariants;
    assigns \result \from the_cpu.cur, threads[0 .. PROOF_FRAMES - 1].upcall;
    ensures \result == &upcalls[threads[the_cpu.cur].upcall].list[0]; */
static struct exo_batch *cur_list(void) { return upcalls[this_thread()->upcall].list; }

/* Env lock held: the table that holds the entry of a 4 KiB page. */
long leaf_find(frame_t env, uint64_t va, frame_t *out)
{
    if ((va & 4095) != 0 || !va_user(env, va, 4096)) return -EXO_E_VA;
    return table_find(env, va, 1, out);
}

/*@ requires invariants && \valid_read(s) && apart(s) && span_ok(s) && s->level == 1 && env_ok(s->env);
    requires caps[cref].kind == EXO_FRAMES && SUBSET(s->rights, caps[cref].rights);
    requires 1 <= n <= EXO_LIST_MAX;
    assigns BINDS, caps[cref].bindings;
    ensures invariants;
    ensures exact: caps[cref].bindings == \old(caps[cref].bindings) + (\result > 0 ? \result : 0);
    ensures -EXO_E_NOVM <= \result <= n; */
static long bind_list(const struct span *s, cref_t cref, uint64_t n)
{
    struct cap *c = &caps[cref];
    const struct exo_batch *list = cur_list();
    uint64_t done = 0;
    frame_t t;
    long r = 0;
    if (c->bindings > UINT32_MAX - n) return -EXO_E_LIMIT;
    /*@ loop invariant 0 <= done <= n && r == 0 && invariants;
        loop assigns done, r, t, BINDS;
        loop variant n - done; */
    for (; done < n; done++) {
        uint64_t f = fetch(&list[done].frame);
        uint64_t va = fetch(&list[done].va);
        if (!cap_covers(c, f, 1)) {
            r = -EXO_E_RANGE;
            break;
        }
        r = leaf_find(s->env, va, &t);
        if (r != 0) break;
        lines_mark(t, va_index(va, 1), 1);
        r = bind_one(s, 1, t, va_index(va, 1), (frame_t)f);
        if (r != 0) break;
    }
    c->bindings += (uint32_t)done;
    return done != 0 ? (long)done : r;
}

/*@ requires invariants;
    assigns BINDS, caps[0 .. 0xffffffff].bindings;
    ensures -EXO_E_NOVM <= \result <= n; */
long sys_page_bind_list(uint64_t env, uint64_t n, uint64_t sel, uint64_t rights)
{
    struct span s = {.sel = sel, .rights = (unsigned)rights & RIGHTS_BITS, .level = 1};
    cref_t c;
    if ((rights & ~(uint64_t)RIGHTS_BITS) != 0 || (rights & EXO_R) == 0 || n == 0 ||
        n > EXO_LIST_MAX)
        return -EXO_E_ARG;
    long r = env_find(env, EXO_ENV_BIND, &s.env);
    if (r != 0) return r;
    lock_env(s.env);
    r = bind_check(&s, &c);
    if (r == 0) r = bind_list(&s, c, n);
    unlock_env(s.env);
    return r;
}

/* ---- unbind ------------------------------------------------------------------------------ */

#define FLUSH_AT_ONCE 16 /* more are flushed together */

/* Takes away one present leaf entry of table t at `level`, env lock held: recorded for the
 * second phase; or both in one where this CPU alone can have the translation of the page,
 * of a native env; if not `few` are unbound in this call, the caller flushes them together. */
/*@ requires invariants && env_ok(env) && 1 <= level <= 3 && is_table(t, level, env);
    requires pend_room;
    requires ready: pend_ok(tables[t].e[v_index(va, level)], level);
    assigns tables[t].e[v_index(va, level)], the_cpu.pend_count,
            the_cpu.pend[the_cpu.pend_count], words[0 .. 0xffffffff],
            caps[0 .. 0xffffffff].bindings, blocks2m[0 .. 0xffffffff], blocks1g[0 .. 0xffffffff];
    ensures invariants;
    ensures gone: tables[t].e[v_index(va, level)] == 0;
    ensures types: \forall integer x; 0 <= x < nframes ==>
            w_type(words[x]) == w_type(\old(words[x])) &&
            w_owner(words[x]) == w_owner(\old(words[x]));
    ensures round: level > 1 || (envs[env].flags & ENV_VM) != 0 ==>
            the_cpu.pend_count == \old(the_cpu.pend_count) + 1;
    ensures recorded: the_cpu.pend_count == \old(the_cpu.pend_count) ||
            (the_cpu.pend_count == \old(the_cpu.pend_count) + 1 &&
             the_cpu.pend[\old(the_cpu.pend_count)].env == env &&
             the_cpu.pend[\old(the_cpu.pend_count)].level == level &&
             the_cpu.pend[\old(the_cpu.pend_count)].entry ==
             \old(tables[t].e[v_index(va, level)])); */
HOT void entry_release(frame_t env, uint64_t va, frame_t t, unsigned level, bool few)
{
    uint64_t old = entry_swap(&tables[t].e[va_index(va, level)], 0);
    struct pend p = {.va = va, .entry = old, .env = env, .level = level};
    /*@ assert still: invariants; */
    if (level == 1 && (envs[env].flags & ENV_VM) == 0 && flush_alone(va, old, few))
        commit_entry(&p);
    else
        pend_add(env, va, old, level);
    /*@ assert kinds: types_kept{Pre,Here}; */
    /*@ assert names: names_kept{Pre,Here}; */
    /*@ assert shape: tree; */
    /*@ assert objects: objects; */
}

/* The table that holds va's leaf, and its level. */
long leaf_any(frame_t env, uint64_t va, frame_t *out, unsigned *level)
{
    frame_t t = envs[env].root;
    unsigned l = 4;
    /*@ loop invariant 1 <= l <= 4 && is_table(t, l, env);
        loop assigns l, t;
        loop variant l; */
    for (; l > 1; l--) {
        uint64_t e = tables[t].e[va_index(va, l)];
        if ((e & PTE_P) == 0) return -EXO_E_NOPT;
        if (l < 4 && (e & PTE_PS) != 0) break;
        t = pte_frame(e);
    }
    *out = t;
    *level = l;
    return 0;
}

/*@ requires env_ok(env) && 1 <= n <= EXO_RANGE_MAX; UNBINDS
    ensures bounded: the_cpu.pend_count <= n; */
HOT long unbind_range(frame_t env, uint64_t va, uint64_t n)
{
    bool few = n <= FLUSH_AT_ONCE;
    frame_t t = 0;
    unsigned level = 0;
    uint64_t done = 0;
    long r = 0;
    /*@ loop invariant 0 <= done <= n && r == 0 && the_cpu.pend_count <= done;
        loop invariant invariants && env_ok(env) && level <= 3;
        loop invariant level == 1 ==> is_table(t, 1, env);
        loop assigns done, r, t, level, va, BINDS, caps[0 .. 0xffffffff].bindings,
            the_cpu.pend_count, the_cpu.pend[0 .. PEND_MAX - 1];
        loop variant n - done; */
    while (done < n) {
        if (!va_user(env, va, 1)) {
            r = -EXO_E_VA;
            break;
        }
        if (level != 1 || va_index(va, 1) == 0) r = leaf_any(env, va, &t, &level);
        if (r != 0) break;
        uint64_t bytes = 4096ull << 9 * (level - 1);
        if ((va & (bytes - 1)) != 0)
            r = -EXO_E_VA;
        else if ((tables[t].e[va_index(va, level)] & PTE_P) != 0)
            entry_release(env, va, t, level, few);
        else if (done == 0)
            r = -EXO_E_NONE;
        if (r != 0) break;
        done++;
        va += bytes;
    }
    if (!few) flush_all();
    return done != 0 ? (long)done : r;
}

/*@ requires env_ok(env) && 1 <= n <= EXO_LIST_MAX; UNBINDS
    ensures bounded: the_cpu.pend_count <= n; */
static long unbind_list(frame_t env, uint64_t n)
{
    const struct exo_batch *list = cur_list();
    frame_t t;
    uint64_t done = 0;
    long r = 0;
    /*@ loop invariant 0 <= done <= n && r == 0 && the_cpu.pend_count <= done;
        loop invariant invariants && env_ok(env);
        loop assigns done, r, t, BINDS, caps[0 .. 0xffffffff].bindings, the_cpu.pend_count,
            the_cpu.pend[0 .. PEND_MAX - 1];
        loop variant n - done; */
    for (; done < n; done++) {
        uint64_t va = fetch(&list[done].va);
        r = leaf_find(env, va, &t);
        if (r == 0 && (tables[t].e[va_index(va, 1)] & PTE_P) == 0) r = -EXO_E_NONE;
        if (r != 0) break;
        entry_release(env, va, t, 1, n <= FLUSH_AT_ONCE);
    }
    if (n > FLUSH_AT_ONCE) flush_all();
    return done != 0 ? (long)done : r;
}

/*@ UNBINDS */
FLATTEN long sys_page_unbind(uint64_t env, uint64_t va, uint64_t n)
{
    frame_t e;
    if (n == 0 || n > EXO_RANGE_MAX) return -EXO_E_ARG;
    if ((va & 4095) != 0) return -EXO_E_VA;
    long r = env_find(env, EXO_ENV_BIND, &e);
    if (r != 0) return r;
    lock_env(e);
    r = n == 1 ? unbind_range(e, va, 1) : unbind_range(e, va, n);
    unlock_env(e);
    return r;
}

/*@ UNBINDS */
long sys_page_unbind_list(uint64_t env, uint64_t n)
{
    frame_t e;
    if (n == 0 || n > EXO_LIST_MAX) return -EXO_E_ARG;
    long r = env_find(env, EXO_ENV_BIND, &e);
    if (r != 0) return r;
    lock_env(e);
    r = unbind_list(e, n);
    unlock_env(e);
    return r;
}

/* ---- page tables -------------------------------------------------------------------------- */

/* Env lock held. */
/*@ requires invariants && env_ok(env) && 1 <= level <= 3 && va_ok(va) && frame <= 0xffffffff;
    assigns BINDS, caps[0 .. 0xffffffff].bindings;
    ensures tree: invariants;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures was: \result == 0 ==> 0 < frame < nframes &&
            w_type(\old(words[frame])) == EXO_FT_PLAIN && w_bindings(\old(words[frame])) == 0;
    ensures is: \result == 0 ==> is_table(frame, level, env) && w_bindings(words[frame]) == 0;
    ensures empty: \result == 0 ==> \forall integer i; 0 <= i < 512 ==> tables[frame].e[i] == 0;
    ensures inside: \result == 0 ==> sel < envs[env].nsel &&
            caps[cap_at(env, sel)].kind == EXO_FRAMES &&
            covers(caps[cap_at(env, sel)].base, caps[cap_at(env, sel)].count, frame, 1) &&
            SUBSET(EXO_OBJECT, caps[cap_at(env, sel)].rights);
    ensures exact: \result == 0 ==> caps[cap_at(env, sel)].bindings ==
            \old(caps[cap_at(env, sel)].bindings) + 1; */
static long table_make(frame_t env, uint64_t va, unsigned level, uint64_t sel, uint64_t frame)
{
    struct span s = {.env = env, .sel = sel, .rights = EXO_OBJECT};
    cref_t c;
    frame_t up;
    long r = bind_check(&s, &c);
    if (r != 0) return r;
    if (!cap_covers(&caps[c], frame, 1)) return -EXO_E_RANGE;
    r = table_find(env, va, level + 1, &up);
    if (r != 0) return r;
    uint64_t *entry = &tables[up].e[va_index(va, level + 1)];
    if ((*entry & PTE_P) != 0) return -EXO_E_BOUND;
    if (caps[c].bindings == UINT32_MAX) return -EXO_E_LIMIT;
    r = word_type((frame_t)frame, EXO_FT_PT1 + level - 1, env);
    if (r != 0) return r;
    /*@ assert only: \forall integer x; 0 <= x < nframes && x != frame ==>
        words[x] == \at(words[x], Pre); */
    /*@ assert plain: w_type(\at(words[frame], Pre)) == EXO_FT_PLAIN; */
    table_clear((frame_t)frame);
    lines_mark(up, va_index(va, level + 1), 1);
    /*@ assert clear: \forall integer k; 0 <= k < 512 ==> !p_present(tables[frame].e[k]); */
    /*@ assert others: \forall integer x, k; 0 <= x < nframes && 0 <= k < 512 && x != frame ==>
        tables[x].e[k] == \at(tables[x].e[k], Pre); */
    /*@ assert hung: hung{Pre,Here}(frame); */
    /*@ assert cleared: tree; */
    /*@ assert named: objects && env_ok(env) && thread_ok(the_cpu.cur); */
    /*@ ghost Cleared: ; */
    *entry = pte_table(pte_format(env), (frame_t)frame, (uint32_t)s.sel);
    /*@ assert wrote: wrote{Cleared,Here}(up, v_index(va, level + 1)); */
    /*@ assert tree: tree; */
    caps[c].bindings++;
    /*@ assert kept: types_kept{Cleared,Here} && names_kept{Cleared,Here}; */
    /*@ assert still: invariants; */
    return 0;
}

/*@ requires invariants;
    assigns BINDS, caps[0 .. 0xffffffff].bindings;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures invariants; */
long sys_pt_make(uint64_t env, uint64_t va, uint64_t level, uint64_t sel, uint64_t frame)
{
    frame_t e;
    if (level < 1 || level > 3) return -EXO_E_ARG;
    if (frame > UINT32_MAX) return -EXO_E_RANGE;
    long r = env_find(env, EXO_ENV_BIND, &e);
    if (r != 0) return r;
    if (!va_user(e, va, 1)) return -EXO_E_VA;
    lock_env(e);
    r = table_make(e, va, (unsigned)level, sel, frame);
    unlock_env(e);
    return r;
}

/* i, or where the next line begins that x marks; 512: there is none. */
/*@ requires i < 512;
    assigns \nothing;
    ensures i <= \result <= 512 && (\result == i || \result % 8 == 0);
    ensures unmarked: \forall integer j; i <= j < \result ==> l_at(x, j) == 0; */
static unsigned line_next(uint64_t x, unsigned i)
{
    uint64_t left = x >> i / TABLE_LINE;
    if (left == 0) return 512;
    if ((left & 1) != 0) return i;
    return (i / TABLE_LINE + (unsigned)__builtin_ctzll(left)) * TABLE_LINE;
}

/* x without the line of i. */
/*@ requires i < 512;
    assigns \nothing;
    ensures \result == l_without(x, i); */
static uint64_t line_drop(uint64_t x, unsigned i) { return x & ~(1ull << i / TABLE_LINE); }

unsigned table_next(frame_t t, unsigned i, unsigned end)
{
    /*@ loop invariant \at(i, Pre) <= i <= 512 && lined(t);
        loop invariant \forall integer j; \at(i, Pre) <= j < i && j < end ==>
            !p_present(tables[t].e[j]);
        loop assigns i, lines[t];
        loop variant 512 - i; */
    while (i < end && (i = line_next(lines[t], i)) < end) {
        unsigned from = i;
        /*@ loop invariant from <= i <= from / 8 * 8 + 7 && from < 512;
            loop invariant \forall integer j; from <= j < i ==> !p_present(tables[t].e[j]);
            loop assigns i;
            loop variant 512 - i; */
        do {
            if ((tables[t].e[i] & PTE_P) != 0) return i;
        } while (++i % TABLE_LINE != 0);
        if (i - from == TABLE_LINE) lines[t] = line_drop(lines[t], from);
    }
    return end;
}

/* Env lock held. */
/*@ requires invariants && env_ok(env) && 1 <= level <= 3 && va_ok(va) && pend_room;
    assigns tables[0 .. PROOF_FRAMES - 1], lines[0 .. PROOF_FRAMES - 1], the_cpu.pend_count,
            the_cpu.pend[the_cpu.pend_count];
    ensures invariants;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures refused: \result != 0 ==> the_cpu.pend_count == \old(the_cpu.pend_count);
    ensures empty: \result == 0 ==> the_cpu.pend_count == \old(the_cpu.pend_count) + 1 &&
            the_cpu.pend[\old(the_cpu.pend_count)].level == PEND_TABLE + level &&
            \forall integer i; 0 <= i < 512 ==> !p_present(
            tables[p_frame(the_cpu.pend[\old(the_cpu.pend_count)].entry)].e[i]); */
static long table_unmake(frame_t env, uint64_t va, unsigned level)
{
    frame_t up;
    long r = table_find(env, va, level + 1, &up);
    if (r != 0) return r;
    uint64_t *entry = &tables[up].e[va_index(va, level + 1)];
    if ((*entry & PTE_P) == 0 || (*entry & PTE_PS) != 0) return -EXO_E_NONE;
    /*@ assert slot: level == 3 ==> user_slot(v_index(va, 4)); */
    /*@ assert upper: is_table(up, level + 1, env) && p_present(tables[up].e[v_index(va, level + 1)]) &&
        !p_large(tables[up].e[v_index(va, level + 1)]) && tree; */
    /*@ assert below: is_table(p_frame(*entry), level, env); */
    if (table_next(pte_frame(*entry), 0, 512) != 512) return -EXO_E_BUSY;
    /*@ assert nothing: table_empty(p_frame(*entry), level); */
    pend_add(env, va, entry_swap(entry, 0), level | PEND_TABLE);
    /*@ assert wrote: wrote{Pre,Here}(up, v_index(va, level + 1)); */
    /*@ assert kept: names_kept{Pre,Here}; */
    /*@ assert shape: tree && objects; */
    return 0;
}

/*@ requires invariants && pend_room;
    assigns tables[0 .. PROOF_FRAMES - 1], lines[0 .. PROOF_FRAMES - 1], the_cpu.pend_count,
            the_cpu.pend[the_cpu.pend_count];
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures invariants; */
long sys_pt_unmake(uint64_t env, uint64_t va, uint64_t level)
{
    frame_t e;
    if (level < 1 || level > 3) return -EXO_E_ARG;
    long r = env_find(env, EXO_ENV_BIND, &e);
    if (r != 0) return r;
    if (!va_user(e, va, 1)) return -EXO_E_VA;
    lock_env(e);
    r = table_unmake(e, va, (unsigned)level);
    unlock_env(e);
    return r;
}
