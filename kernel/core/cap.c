/* SPDX-License-Identifier: MIT
 *
 * Capabilities: ranges of physical names with rights, in tables of 64 a frame.
 *
 * All capabilities that come from one another stand in one doubly linked list, in
 * depth-first order:
 *
 *      P(0) -> a(1) -> a1(2) -> a2(2) -> c(1) -> c1(2)        (depth in brackets)
 *
 * so the descendants of a capability are those that follow it and are deeper. A
 * child goes in right behind its source; a copy (a sibling) right before it.
 *
 * Locking: contents and links change under the tree lock and the holder's env lock;
 * `seq` is odd while they change, so whoever reads without a lock reads twice.
 */
#include "core.h"

/*@ requires the_cpu.cur < PROOF_FRAMES;
    assigns \nothing;
    ensures \result == threads[the_cpu.cur].env && (invariants ==> env_ok(\result)); */
static frame_t cur_env(void) { return threads[this_cpu()->cur].env; }

long cap_read(frame_t e, uint64_t sel, unsigned kind, unsigned rights, struct cap *out)
{
    if (sel >= envs[e].nsel) return -EXO_E_SEL;
    const struct cap *c = &caps[env_caps(e) + (cref_t)sel];
    uint32_t seq = fetch32(&c->seq);
    barrier();
    *out = *c;
    /*@ assert copy: out->base == c->base && out->kind == c->kind; */
    /*@ assert there: caps_in && EXO_THREAD <= c->kind <= EXO_EVENT ==> c->base < OBJECT_END; */
    barrier();
    if ((seq & 1) != 0 || fetch32(&c->seq) != seq) return -EXO_E_AGAIN;
    if (out->kind != kind) return out->kind == EXO_NONE ? -EXO_E_SEL : -EXO_E_KIND;
    if ((rights & ~(unsigned)out->rights) != 0) return -EXO_E_RIGHTS;
    return 0;
}

long cap_find(frame_t e, uint64_t sel, unsigned kind, unsigned rights, cref_t *out)
{
    if (sel >= envs[e].nsel) return -EXO_E_SEL;
    cref_t c = env_caps(e) + (cref_t)sel;
    if (caps[c].kind != kind) return caps[c].kind == EXO_NONE ? -EXO_E_SEL : -EXO_E_KIND;
    if ((rights & ~(unsigned)caps[c].rights) != 0) return -EXO_E_RIGHTS;
    *out = c;
    return 0;
}

long env_find_cap(uint64_t sel, unsigned rights, frame_t *out)
{
    struct cap c;
    *out = cur_env();
    long r = cap_read(*out, sel, EXO_ENV, rights, &c);
    /*@ assert r == 0 ==> cap_ok(cap_at(threads[the_cpu.cur].env, sel)); */
    if (r == 0) *out = (frame_t)c.base;
    return r;
}

long thread_find(uint64_t sel, unsigned rights, frame_t *out)
{
    *out = this_cpu()->cur;
    if (sel == 0) return 0;
    struct cap c;
    long r = cap_read(cur_env(), sel, EXO_THREAD, rights, &c);
    /*@ assert invariants && r == 0 ==> cap_ok(cap_at(threads[the_cpu.cur].env, sel)); */
    if (r == 0) *out = (frame_t)c.base;
    return r;
}

long ref_find(uint64_t ref, unsigned rights, frame_t *env, uint32_t *sel)
{
    long r = env_find(ref >> 32, rights, env);
    if (r != 0) return r;
    *sel = (uint32_t)ref;
    if (*sel == 0 || *sel >= envs[*env].nsel) return -EXO_E_SEL;
    return 0;
}

bool cap_has_children(cref_t c)
{
    cref_t n = caps[c].next;
    return n != 0 && caps[n].depth > caps[c].depth;
}

/*@ requires c != prev && c != next;
    assigns caps[c].prev, caps[c].next, caps[prev].next, caps[next].prev;
    ensures caps[c].prev == prev && caps[c].next == next;
    ensures prev != 0 ==> caps[prev].next == c;
    ensures next != 0 ==> caps[next].prev == c;
    ensures prev != 0 && prev != next ==> caps[prev].prev == \old(caps[prev].prev);
    ensures next != 0 && prev != next ==> caps[next].next == \old(caps[next].next); */
static void link_between(cref_t prev, cref_t c, cref_t next)
{
    caps[c].prev = prev;
    caps[c].next = next;
    if (prev != 0) caps[prev].next = c;
    if (next != 0) caps[next].prev = c;
}

long cap_insert(cref_t src, cref_t dst, frame_t holder, bool sibling, const struct cap *contents)
{
    struct cap *d = &caps[dst];
    if (d->kind != EXO_NONE) return -EXO_E_FULL;
    if ((caps[src].flags & CAP_DYING) != 0 || (envs[holder].flags & ENV_DYING) != 0)
        return -EXO_E_DYING;
    if (caps[src].depth >= EXO_DEPTH_MAX) return -EXO_E_DEPTH;
    d->seq++;
    barrier();
    d->rights = contents->rights;
    d->flags = contents->flags;
    d->base = contents->base;
    d->count = contents->count;
    d->badge = contents->badge;
    d->bindings = 0;
    d->hint = 0;
    d->mark_root = 0;
    d->asked = 0;
    d->env = holder;
    if (sibling) {
        d->depth = caps[src].depth;
        link_between(caps[src].prev, dst, src);
    } else {
        d->depth = (uint16_t)(caps[src].depth + 1);
        link_between(src, dst, caps[src].next);
    }
    barrier(); /* who reads without a lock sees the kind last */
    d->kind = contents->kind;
    barrier();
    d->seq++;
    return 0;
}

void cap_remove(cref_t c)
{
    struct cap *d = &caps[c];
    KASSERT(d->kind != EXO_NONE && d->bindings == 0);
    d->seq++;
    barrier();
    if (d->prev != 0) caps[d->prev].next = d->next;
    if (d->next != 0) caps[d->next].prev = d->prev;
    d->prev = d->next = 0;
    d->kind = EXO_NONE;
    d->flags = 0;
    d->hint = 0;
    d->mark_root = 0;
    barrier();
    d->seq++;
}

/* What a derivation of s, narrowed, contains. */
/*@ requires \valid_read(s) && \valid(out) && \separated(s, out);
    assigns *out;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures kind: \result == 0 ==> out->kind == s->kind && out->flags == 0;
    ensures rights: \result == 0 ==> SUBSET(out->rights, \old(s->rights));
    ensures range: \result == 0 && s->kind <= EXO_DEVICES ==> 0 < out->count &&
            covers(s->base, s->count, out->base, out->count) && out->badge == s->badge;
    ensures object: \result == 0 && (s->kind == EXO_ENV || s->kind == EXO_THREAD) ==>
            out->base == s->base;
    ensures gate: \result == 0 && s->kind == EXO_GATE ==> out->base == s->base &&
            out->count == s->count && (s->badge != 0 ==> out->badge == s->badge);
    ensures event: \result == 0 && s->kind == EXO_EVENT ==> out->base == s->base &&
            out->count == (s->count & base) && out->count != 0; */
static long cap_narrow(const struct cap *s, unsigned rights, uint64_t base, uint64_t count,
                       struct cap *out)
{
    out->kind = s->kind;
    uint8_t kept = (uint8_t)(s->rights & rights);
    /*@ assert narrowed: SUBSET(kept, s->rights); */
    out->rights = kept;
    out->flags = 0;
    out->base = s->base;
    out->count = s->count;
    out->badge = s->badge;
    switch (s->kind) {
    case EXO_ENV:
    case EXO_THREAD:
        return 0;
    case EXO_GATE:
        if (s->badge == 0)
            out->badge = base;
        else if (base != 0 && base != s->badge)
            return -EXO_E_RANGE;
        return 0;
    case EXO_EVENT:
        out->count = s->count & base;
        return out->count != 0 ? 0 : -EXO_E_RANGE;
    default:
        if (count == 0) return -EXO_E_ARG;
        if (base < s->base || base - s->base >= s->count || count > s->count - (base - s->base))
            return -EXO_E_RANGE;
        out->base = base;
        out->count = count;
        return 0;
    }
}

/* Tree lock held: derives or copies (from, src) to (to, dst). */
/*@ requires env_ok(from) && env_ok(to) && src < envs[from].nsel && dst < envs[to].nsel;
    requires invariants;
    assigns caps[0 .. 0xffffffff];
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures narrowed: \result == 0 ==> caps[cap_at(to, dst)].kind ==
            \old(caps[cap_at(from, src)].kind) &&
            SUBSET(caps[cap_at(to, dst)].rights, \old(caps[cap_at(from, src)].rights)); */
static long derive_locked(frame_t from, uint32_t src, frame_t to, uint32_t dst, unsigned rights,
                          uint64_t base, uint64_t count, bool sibling)
{
    cref_t s = env_caps(from) + src;
    struct cap contents;
    if (caps[s].kind == EXO_NONE) return -EXO_E_SEL;
    if (sibling && (caps[s].flags & CAP_OWNER) != 0) return -EXO_E_KIND;
    long r = cap_narrow(&caps[s], rights, base, count, &contents);
    if (r != 0) return r;
    /*@ assert narrowed: contents.kind == \at(caps[cap_at(from, src)].kind, Pre) &&
        SUBSET(contents.rights, \at(caps[cap_at(from, src)].rights, Pre)); */
    lock_env(to);
    r = cap_insert(s, env_caps(to) + dst, to, sibling, &contents);
    /*@ assert inserted: r == 0 ==> caps[cap_at(to, dst)].kind == contents.kind &&
        caps[cap_at(to, dst)].rights == contents.rights; */
    unlock_env(to);
    return r;
}

/*@ requires invariants;
    assigns caps[0 .. 0xffffffff];
    ensures -EXO_E_NOVM <= \result <= 0; */
static long derive(uint64_t src, uint64_t dst, uint64_t rights, uint64_t base, uint64_t count,
                   bool sibling)
{
    frame_t from, to;
    uint32_t s, d;
    long r = ref_find(src, EXO_ENV_FROM, &from, &s);
    if (r != 0) return r;
    r = ref_find(dst, EXO_ENV_INTO, &to, &d);
    if (r != 0) return r;
    lock_tree();
    r = derive_locked(from, s, to, d, (unsigned)rights, base, count, sibling);
    unlock_tree();
    return r;
}

/*@ requires invariants;
    assigns caps[0 .. 0xffffffff];
    ensures -EXO_E_NOVM <= \result <= 0; */
FLATTEN long sys_cap_derive(uint64_t src, uint64_t dst, uint64_t rights, uint64_t base,
                            uint64_t count)
{
    return derive(src, dst, rights, base, count, false);
}

/*@ requires invariants;
    assigns caps[0 .. 0xffffffff];
    ensures -EXO_E_NOVM <= \result <= 0; */
long sys_cap_copy(uint64_t src, uint64_t dst, uint64_t rights, uint64_t base, uint64_t count)
{
    return derive(src, dst, rights, base, count, true);
}

long cap_hand_over(frame_t from, uint64_t src, frame_t to, uint64_t dst)
{
    if (src == 0 || src >= envs[from].nsel || dst == 0 || dst >= envs[to].nsel) return -EXO_E_SEL;
    lock_tree();
    const struct cap *s = &caps[env_caps(from) + (cref_t)src];
    uint64_t base = s->kind == EXO_EVENT ? s->count : s->kind == EXO_GATE ? 0 : s->base;
    long r = derive_locked(from, (uint32_t)src, to, (uint32_t)dst, EXO_RIGHTS_ALL, base, s->count,
                           false);
    unlock_tree();
    return r;
}

/*@ requires invariants;
    assigns upcalls[0 .. PROOF_FRAMES - 1]; */
long sys_cap_info(uint64_t ref)
{
    frame_t e;
    uint32_t sel;
    long r = ref_find(ref, EXO_ENV_FROM, &e, &sel);
    if (r != 0) return r;
    lock_tree();
    cref_t ref_c = env_caps(e) + sel;
    const struct cap *c = &caps[ref_c];
    struct exo_batch *list = upcalls[threads[this_cpu()->cur].upcall].list;
    list[0].va = c->base;
    list[0].frame = c->count;
    list[1].va = c->bindings;
    r = c->kind | (unsigned)c->rights << 8 | (cap_has_children(ref_c) ? 1u << 16 : 0) |
        ((c->flags & CAP_DYING) != 0 ? 1u << 17 : 0);
    if (c->kind == EXO_NONE) r = 0;
    unlock_tree();
    return r;
}
