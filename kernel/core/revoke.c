/* SPDX-License-Identifier: MIT
 *
 * Deleting, revoking, reaping.
 *
 * A revocation of c first marks every descendant (nothing is derived, bound or deleted
 * by its holder through a marked one), walking the derivation list forward; the last
 * one marked is the end of the list's stretch, so it is a leaf. Then it destroys the
 * marked ones backward, each a leaf when its turn comes. `hint` of c is how far either
 * walk came; it is valid while the capability it names still carries c as mark_root,
 * else the walk starts again at c.
 *
 * Destroying the capability that an env was made with puts the env into the reap queue.
 * Whoever needs it gone works on the queue: first every capability of its table loses
 * its descendants (its threads among them), then its address space is drained, then its
 * table is emptied. An env that waits for another goes to the queue's end. Envs wait
 * for envs that were made later only, so some env of the queue can always go on.
 *
 * Every call does a bounded step and returns -EXO_E_AGAIN while there is more.
 * Locking: the tree lock, all through; env locks for what lies in them.
 */
#include "core.h"

#define HOPS 256 /* capabilities walked over in one step */
#define COUNT_HOPS 4096

enum { REAP_ALIVE, REAP_KILL, REAP_DRAIN, REAP_DELETE };

static frame_t reap_head, reap_tail;
/*@ predicate queue_ok = reap_head < OBJECT_END && reap_tail < OBJECT_END &&
      (\forall integer e; 0 <= e < PROOF_FRAMES ==> envs[e].reap_next < OBJECT_END) &&
      (reap_head != 0 ==> env_ok(reap_head)); */

void vector_record(frame_t e, unsigned what, const struct cap *c, uint32_t sel, uint64_t amount,
                   uint64_t deadline)
{
    struct exo_vector *v = &vectors[e + 2];
    uint32_t n = fetch32(&v->used);
    if (n < EXO_RECORDS) {
        v->rec[n] = (struct exo_record){what, c->kind, sel, 0, c->base, c->count, amount, deadline};
        v->used = n + 1;
    } else {
        v->overflow = 1;
    }
    if (envs[e].revoker != 0) event_raise(envs[e].revoker, EXO_EVENT_REVOKE);
}

/*@ requires caps[c].env < OBJECT_END;
    assigns \nothing; */
static uint32_t sel_of(cref_t c) { return c - env_caps(caps[c].env); }

/*@ requires \valid_read(c);
    assigns \nothing; */
static bool is_range(const struct cap *c) { return c->kind <= EXO_DEVICES; }

/* ---- destroying one leaf -------------------------------------------------------------- */

/*@ requires listed: caps[c].kind != EXO_NONE; requires pend_room; ALL
    ensures -EXO_E_AGAIN <= \result <= 0;
    ensures done: \result == 0 ==> the_cpu.pend_count == \old(the_cpu.pend_count); */
static long bindings_drop(cref_t c)
{
    frame_t e = caps[c].env;
    switch (caps[c].kind) {
    case EXO_SLOTS:
        slots_forget_cap(c);
        break;
    case EXO_IRQS:
        irqs_forget_cap(c);
        break;
    case EXO_PORTS:
        return ports_forget_cap(c) ? 0 : -EXO_E_AGAIN;
    default:
        lock_env(e);
        sweep_step(e);
        unlock_env(e);
        return -EXO_E_AGAIN;
    }
    return 0;
}

/*@ requires e < OBJECT_END;
    requires ok: core_ok && queue_ok && env_ok(e);
    assigns envs[0 .. PROOF_FRAMES - 1].reap_next, reap_head, reap_tail;
    ensures still: core_ok && queue_ok; */
static void reap_enqueue(frame_t e)
{
    envs[e].reap_next = 0;
    if (reap_tail != 0)
        envs[reap_tail].reap_next = e;
    else
        reap_head = e;
    reap_tail = e;
}

/*@ requires ok: core_ok && queue_ok;
    assigns reap_head, reap_tail;
    ensures still: core_ok && queue_ok; */
static void reap_dequeue(void)
{
    reap_head = envs[reap_head].reap_next;
    if (reap_head == 0) reap_tail = 0;
}

/*@ requires env_ok(e);
    requires ok: core_ok && queue_ok;
    assigns envs[0 .. PROOF_FRAMES - 1], reap_head, reap_tail;
    ensures still: core_ok && queue_ok; */
static void env_condemn(frame_t e)
{
    lock_env(e);
    envs[e].flags |= ENV_DYING;
    unlock_env(e);
    envs[e].reap_state = REAP_KILL;
    envs[e].reap_sel = 1;
    reap_enqueue(e);
}

/* -EXO_E_AGAIN: another CPU has just bound something through it. */
/*@ requires ok: core_ok;
    assigns caps[0 .. 0xffffffff];
    ensures still: core_ok;
    ensures \result == 0 || \result == -EXO_E_AGAIN;
    ensures unbound: \result == 0 ==> \old(caps[c].bindings) == 0;
    ensures gone: \result == 0 ==> caps[c].kind == EXO_NONE; */
static long leaf_remove(cref_t c)
{
    frame_t e = caps[c].env;
    lock_env(e);
    long r = caps[c].bindings == 0 ? 0 : -EXO_E_AGAIN;
    if (r == 0) cap_remove(c);
    unlock_env(e);
    return r;
}

/* One step of destroying a dying capability without children: 0 when it is gone. An env
 * is only condemned here; the calls work on the reap queue. */
/*@ requires listed: caps[c].kind != EXO_NONE; requires pend_room; ALL_QUEUE
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures gone: \result == 0 ==> caps[c].kind == EXO_NONE;
    ensures pending: \result == 0 ==> the_cpu.pend_count <= \old(the_cpu.pend_count) + 1; */
static long leaf_destroy(cref_t c)
{
    struct cap *p = &caps[c];
    long r;
    if (p->bindings != 0) {
        r = bindings_drop(c);
        if (r != 0) return r;
    }
    /*@ assert named: cap_ok(c) && (p->kind == EXO_THREAD ==> p->base < OBJECT_END); */
    frame_t obj = (frame_t)p->base;
    if ((p->flags & CAP_OWNER) != 0 && p->kind == EXO_ENV) {
        if (envs[obj].reap_state == REAP_ALIVE) env_condemn(obj);
        return -EXO_E_AGAIN;
    }
    if ((p->flags & CAP_OWNER) != 0 && p->kind == EXO_THREAD) {
        r = thread_detach(obj);
        if (r != 0) return r;
        thread_free(obj);
    }
    return leaf_remove(c);
}

/* ---- the walks ------------------------------------------------------------------------------ */

/*@ requires ok: core_ok;
    assigns caps[c].flags, caps[c].mark_root;
    ensures still: core_ok;
    ensures (caps[c].flags & CAP_DYING) != 0 && caps[c].mark_root == root; */
static void cap_mark(cref_t c, cref_t root)
{
    caps[c].flags |= CAP_DYING;
    caps[c].mark_root = root;
}

/*@ assigns \nothing; */
static bool hint_valid(cref_t root)
{
    cref_t h = caps[root].hint;
    return h != 0 && caps[h].kind != EXO_NONE && caps[h].mark_root == root &&
           (caps[h].flags & CAP_DYING) != 0;
}

/* Marks forward; true when the end of c's descendants is reached, *last being the last. */
/*@ requires \valid(last) && apart(last); requires ok: core_ok;
    assigns caps[0 .. 0xffffffff], *last;
    ensures still: core_ok;
    ensures end: \result != 0 ==> caps[*last].next == 0 ||
            caps[caps[*last].next].depth <= caps[c].depth; */
static bool mark_forward(cref_t c, cref_t *last)
{
    cref_t h = hint_valid(c) ? caps[c].hint : c;
    /*@ loop invariant 0 <= i <= HOPS;
        loop invariant ok: core_ok;
        loop assigns i, h, caps[0 .. 0xffffffff];
        loop variant HOPS - i; */
    for (unsigned i = 0; i < HOPS; i++) {
        cref_t n = caps[h].next;
        if (n == 0 || caps[n].depth <= caps[c].depth) {
            *last = h;
            caps[c].hint = h == c ? 0 : h;
            return true;
        }
        cap_mark(n, c);
        h = n;
    }
    caps[c].hint = h;
    return false;
}

/* Who lost what: written down for a holder that goes on living. */
/*@ requires \valid_read(copy) && copy->env < OBJECT_END; requires ok: core_ok;
    assigns STATE, vectors[0 .. PROOF_FRAMES - 1];
    ensures still: core_ok && the_cpu.pend_count == \old(the_cpu.pend_count); */
static void record_taken(const struct cap *copy, uint32_t sel)
{
    if ((envs[copy->env].flags & ENV_DYING) == 0)
        vector_record(copy->env, EXO_TAKEN, copy, sel, 0, 0);
}

/* One bounded step of taking back all descendants of c: 0 when there are none. */
/*@ requires the_cpu.pend_count == 0; ALL_QUEUE
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures over: \result == 0 ==> !has_children(c) && the_cpu.pend_count == 0; */
static long revoke_step(cref_t c)
{
    cref_t h;
    if (!cap_has_children(c)) return 0;
    if (!mark_forward(c, &h)) return -EXO_E_AGAIN;
    /*@ loop invariant 0 <= i <= HOPS;
        loop invariant ok: core_ok && queue_ok;
        loop assigns i, h, STATE, OBJECTS, reap_head, reap_tail;
        loop variant HOPS - i; */
    for (unsigned i = 0; i < HOPS && h != c; i++) {
        if (this_cpu()->pend_count != 0) return -EXO_E_AGAIN;
        cref_t before = caps[h].prev;
        cap_mark(h, c);
        struct cap copy = caps[h];
        uint32_t sel = sel_of(h);
        long r = leaf_destroy(h);
        if (r != 0) return r;
        record_taken(&copy, sel);
        h = before;
        caps[c].hint = h == c ? 0 : h;
    }
    return cap_has_children(c) || this_cpu()->pend_count != 0 ? -EXO_E_AGAIN : 0;
}

/* ---- reaping ----------------------------------------------------------------------------------- */

/* Goes through e's table: first each capability loses its descendants, then (`last`) all are
 * removed. 0 at its end. */
/*@ requires env_ok(e) && the_cpu.pend_count == 0; ALL_QUEUE
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures pending: \result == 0 ==> the_cpu.pend_count <= HOPS;
    ensures none: \result == 0 && last == 0 ==> the_cpu.pend_count == 0; */
static long reap_table(frame_t e, bool last)
{
    struct env *v = &envs[e];
    /*@ loop invariant 0 <= i <= HOPS && v == &envs[e];
        loop invariant pending: the_cpu.pend_count <= i;
        loop invariant none: last == 0 ==> the_cpu.pend_count == 0;
        loop invariant ok: core_ok && queue_ok && env_ok(e);
        loop assigns i, STATE, OBJECTS, reap_head, reap_tail;
        loop variant HOPS - i; */
    for (unsigned i = 0; i < HOPS; i++, v->reap_sel++) {
        if (v->reap_sel >= v->nsel) return 0;
        cref_t c = env_caps(e) + v->reap_sel;
        if (caps[c].kind == EXO_NONE) continue;
        if (!last) cap_mark(c, 0);
        long r = last ? leaf_destroy(c) : revoke_step(c);
        if (r != 0) return r;
    }
    return -EXO_E_AGAIN;
}

/*@ ALL
    ensures still: the_cpu.pend_count == \old(the_cpu.pend_count); */
static void owner_remove(cref_t c)
{
    struct cap copy = caps[c];
    uint32_t sel = sel_of(c);
    leaf_remove(c);
    record_taken(&copy, sel);
}

/* One step on env e at the queue's head. 0 when it is reaped. */
/*@ requires env_ok(e) && the_cpu.pend_count == 0; ALL_QUEUE
    ensures -EXO_E_NOVM <= \result <= 0; */
static long reap_one(frame_t e)
{
    struct env *v = &envs[e];
    long r = 0;
    switch (v->reap_state) {
    case REAP_KILL:
        r = reap_table(e, false);
        if (r == 0) v->reap_state = REAP_DRAIN;
        return r != 0 ? r : -EXO_E_AGAIN;
    case REAP_DRAIN:
        lock_env(e);
        if (sweep_all_step(e)) {
            v->reap_state = REAP_DELETE;
            v->reap_sel = 1;
        }
        unlock_env(e);
        return -EXO_E_AGAIN;
    default:
        r = reap_table(e, true);
        if (r != 0) return r;
        reap_dequeue();
        owner_remove(v->owner);
        env_free(e);
        return 0;
    }
}

/* One step on the queue, whose head goes to the end if it has to wait. */
/*@ ALL_QUEUE */
static void reap_step(void)
{
    frame_t e = reap_head;
    if (e == 0 || this_cpu()->pend_count != 0) return;
    if (reap_one(e) != 0 && this_cpu()->pend_count == 0) {
        reap_dequeue();
        reap_enqueue(e);
    }
}

/* ---- the calls --------------------------------------------------------------------------------- */

/* Asks every holder of a child of c for `amount` names by the deadline, once. */
/*@ ALL */
static void children_ask(cref_t c, uint64_t amount, uint64_t deadline)
{
    cref_t n = caps[c].next;
    /*@ loop invariant 0 <= i <= COUNT_HOPS;
        loop invariant ok: core_ok;
        loop assigns i, n, STATE, OBJECTS;
        loop variant COUNT_HOPS - i; */
    for (unsigned i = 0; i < COUNT_HOPS && n != 0 && caps[n].depth > caps[c].depth; i++) {
        struct cap *p = &caps[n];
        if (p->depth == caps[c].depth + 1 && p->asked != (uint32_t)deadline) {
            p->asked = (uint32_t)deadline;
            vector_record(p->env, EXO_ASKED, p, sel_of(n), amount, deadline);
        }
        n = p->next;
    }
}

/* The names that c's children hold; -EXO_E_LIMIT if there are too many to look at. */
/*@ requires \valid(names) && apart(names);
    assigns *names;
    ensures \result == 0 || \result == -EXO_E_LIMIT; */
static long children_names(cref_t c, uint64_t *names)
{
    uint64_t sum = 0;
    cref_t n = caps[c].next;
    /*@ loop invariant 0 <= i <= COUNT_HOPS;
        loop assigns i, n, sum;
        loop variant COUNT_HOPS - i; */
    for (unsigned i = 0; i < COUNT_HOPS; i++) {
        if (n == 0 || caps[n].depth <= caps[c].depth) {
            *names = sum;
            return 0;
        }
        if (caps[n].depth == caps[c].depth + 1) sum += is_range(&caps[n]) ? caps[n].count : 1;
        n = caps[n].next;
    }
    return -EXO_E_LIMIT;
}

/* By force: the youngest child, or the one begun with, and what came from it. */
/*@ requires the_cpu.pend_count == 0; ALL_QUEUE
    ensures -EXO_E_NOVM <= \result <= 0; */
static long youngest_take(cref_t c)
{
    cref_t n = caps[c].next;
    if (hint_valid(c) && caps[caps[c].hint].depth == caps[c].depth + 1) n = caps[c].hint;
    cap_mark(n, c);
    caps[c].hint = n;
    long r = revoke_step(n);
    if (r != 0) return r;
    if (this_cpu()->pend_count != 0) return -EXO_E_AGAIN;
    struct cap copy = caps[n];
    uint32_t sel = sel_of(n);
    r = leaf_destroy(n);
    if (r == 0) record_taken(&copy, sel);
    return r;
}

/*@ requires the_cpu.pend_count == 0; ALL_QUEUE
    ensures over: keep == 0 && \result == 0 ==> !has_children(c) && the_cpu.pend_count == 0; */
static long revoke_keep(cref_t c, uint64_t keep, uint64_t deadline)
{
    uint64_t names = 0;
    long r = keep == 0 ? 0 : children_names(c, &names);
    if (r != 0) return r;
    if (keep == 0 ? !cap_has_children(c) : names <= keep) return (long)names;
    if (deadline > now()) {
        children_ask(c, keep == 0 ? UINT64_MAX : names - keep, deadline);
        return -EXO_E_AGAIN;
    }
    r = keep == 0 ? revoke_step(c) : youngest_take(c);
    return r != 0 ? r : keep == 0 ? 0 : -EXO_E_AGAIN;
}

/*@ requires the_cpu.pend_count == 0; ALL_QUEUE */
long sys_cap_revoke(uint64_t ref, uint64_t keep, uint64_t deadline)
{
    frame_t e;
    uint32_t sel;
    long r = ref_find(ref, EXO_ENV_DESTROY, &e, &sel);
    if (r != 0) return r;
    lock_tree();
    cref_t c = env_caps(e) + sel;
    if (caps[c].kind == EXO_NONE)
        r = -EXO_E_SEL;
    else if ((caps[c].flags & CAP_DYING) != 0)
        r = -EXO_E_DYING;
    else
        r = revoke_keep(c, keep, deadline);
    if (r == -EXO_E_AGAIN) reap_step();
    unlock_tree();
    return r;
}

/* Is c the capability that the caller itself, or its env, was made with? */
/*@ requires ok: core_ok;
    assigns \nothing; */
static bool is_own(cref_t c)
{
    const struct thread *t = &threads[this_cpu()->cur];
    return c == t->owner || c == envs[t->env].owner;
}

/*@ requires the_cpu.pend_count == 0; ALL_QUEUE
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures gone: \result == 0 ==> caps[c].kind == EXO_NONE;
    ensures kept: \old(caps[c].flags & CAP_OWNER) == 0 && \result == 0 ==>
            !\old(has_children(c)) && \old(caps[c].bindings) == 0; */
static long delete_locked(cref_t c)
{
    struct cap *p = &caps[c];
    if (p->kind == EXO_NONE) return -EXO_E_SEL;
    if ((p->flags & CAP_DYING) != 0 && p->mark_root != c) return -EXO_E_DYING;
    if ((p->flags & CAP_OWNER) == 0) {
        if (cap_has_children(c) || p->bindings != 0) return -EXO_E_BUSY;
        return leaf_remove(c);
    }
    if (is_own(c)) return -EXO_E_STATE;
    cap_mark(c, c);
    long r = revoke_step(c);
    return r != 0 ? r : leaf_destroy(c);
}

/*@ requires the_cpu.pend_count == 0; ALL_QUEUE */
long sys_cap_delete(uint64_t ref)
{
    frame_t e;
    uint32_t sel;
    long r = ref_find(ref, EXO_ENV_DESTROY, &e, &sel);
    if (r != 0) return r;
    lock_tree();
    cref_t c = env_caps(e) + sel;
    r = delete_locked(c);
    if (r == -EXO_E_AGAIN) {
        reap_step();
        r = caps[c].kind == EXO_NONE ? 0 : -EXO_E_AGAIN;
    }
    unlock_tree();
    return r;
}
