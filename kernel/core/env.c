/* SPDX-License-Identifier: MIT
 *
 * Objects made out of frames: envs, threads; and of threads: gates, events. Each new
 * capability is a child of the one that its frames (its thread) came from, so revoking
 * that one destroys the object.
 *
 * Locking: the tree lock; a new object is nobody else's until its capability is in.
 */
#include "vm.h"

void env_init(frame_t f, uint32_t n, uint32_t flags, cref_t owner)
{
    struct env *e = &envs[f];
    e->root = f + 1;
    e->tables = n;
    e->nsel = n * EXO_TAB_CAPS;
    e->owner = owner;
    e->flags = flags;
    if ((flags & ENV_VM) == 0) root_init(f + 1);
    /*@ loop invariant 0 <= i <= ((flags & ENV_VM) != 0 ? EXO_VM_ENV_FRAMES : 0) * 512;
        loop assigns i, tables[0 .. PROOF_FRAMES - 1];
        loop variant EXO_VM_ENV_FRAMES * 512 - i; */
    for (uint32_t i = 0; i < env_extra(flags) * 512; i++)
        tables[f + 3 + n + i / 512].e[i % 512] = UINT64_MAX;
}

void object_untype(frame_t f, uint32_t n, uint32_t registered)
{
    /*@ loop invariant 0 <= n <= \at(n, Pre);
        loop assigns n, words[0 .. 0xffffffff], blocks2m[0 .. 0xffffffff],
            blocks1g[0 .. 0xffffffff];
        loop variant n; */
    while (n-- > 0)
        if (n == registered)
            word_unbind(f + n);
        else
            word_untype(f + n);
}

/* The type of frame i of an env with so many table frames, or of a thread. */
/*@ requires n <= EXO_TAB_MAX;
    assigns \nothing;
    ensures \result <= 15; */
static unsigned env_frame_type(uint32_t i, uint32_t n)
{
    if (i < 3) return i == 0 ? EXO_FT_ENV : EXO_FT_PT4;
    return i < 3 + n ? EXO_FT_CAPS : EXO_FT_VM;
}

/*@ assigns \nothing;
    ensures \result <= 15; */
static unsigned thread_frame_type(uint32_t i)
{
    return i == 0 ? EXO_FT_THREAD : i == 2 ? EXO_FT_VCPU : EXO_FT_VM;
}

long object_type(frame_t f, uint32_t frames, frame_t owner, uint32_t n)
{
    uint32_t registered = n != 0 ? ENV_VECTOR : THREAD_PAGE;
    /*@ loop invariant 0 <= i <= frames && (i != 0 ==> 0 < f && f + i <= nframes);
        loop assigns i, words[0 .. 0xffffffff], blocks2m[0 .. 0xffffffff],
            blocks1g[0 .. 0xffffffff];
        loop variant frames - i; */
    for (uint32_t i = 0; i < frames; i++) {
        long r;
        if (i == registered)
            r = f + i < nframes ? word_bind(f + i, true) : -EXO_E_TYPE;
        else
            r = word_type(f + i, n != 0 ? env_frame_type(i, n) : thread_frame_type(i), owner);
        if (r != 0) {
            object_untype(f, i, registered);
            return r;
        }
    }
    /*@ loop invariant 0 <= i <= frames;
        loop invariant ok: core_ok;
        loop assigns i, STATE;
        loop variant frames - i; */
    for (uint32_t i = 0; i < frames; i++)
        page_clear(f + i);
    return 0;
}

/* Finds capability sel of env e as the source of an object of n frames from f on. */
/*@ requires invariants && env_ok(e) && \valid(out) && local(out);
    assigns *out;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures source: \result == 0 ==> *out == cap_at(e, sel) && sel < envs[e].nsel &&
            caps[*out].kind == EXO_FRAMES && covers(caps[*out].base, caps[*out].count, f, n) &&
            SUBSET(EXO_OBJECT | EXO_R | EXO_W, caps[*out].rights); */
static long source_find(frame_t e, uint64_t sel, uint64_t f, uint64_t n, cref_t *out)
{
    long r = cap_find(e, sel, EXO_FRAMES, EXO_OBJECT | EXO_R | EXO_W, out);
    if (r != 0) return r;
    const struct cap *c = &caps[*out];
    if (f < c->base || f - c->base >= c->count || n > c->count - (f - c->base)) return -EXO_E_RANGE;
    return 0;
}

/* Tree lock held: a child of src at (holder, sel). */
/*@ requires \valid_read(contents) && \separated(contents, &caps[0 .. 0xffffffff]);
    requires ok: core_ok && env_ok(holder) && sel < envs[holder].nsel;
    assigns caps[0 .. 0xffffffff];
    ensures still: core_ok;
    ensures -EXO_E_NOVM <= \result <= 0; */
static long object_insert(cref_t src, frame_t holder, uint32_t sel, const struct cap *contents)
{
    lock_env(holder);
    long r = cap_insert(src, env_caps(holder) + sel, holder, false, contents);
    unlock_env(holder);
    return r;
}

/*@ requires env_ok(holder) && dst < envs[holder].nsel && 1 <= n <= EXO_TAB_MAX;
    requires frame <= 0xffffffff - 3 - EXO_TAB_MAX - EXO_VM_ENV_FRAMES; ALL
    ensures -EXO_E_NOVM <= \result <= 0; */
static long env_make(frame_t holder, uint32_t dst, uint64_t sel, uint64_t frame, uint32_t n,
                     uint32_t flags)
{
    cref_t src;
    uint32_t frames = 3 + n + env_extra(flags);
    long r = source_find(threads[this_cpu()->cur].env, sel, frame, frames, &src);
    if (r != 0) return r;
    frame_t f = (frame_t)frame;
    struct cap contents = {
        .kind = EXO_ENV, .rights = EXO_RIGHTS_ALL, .flags = CAP_OWNER, .base = f, .count = 1};
    if (caps[env_caps(holder) + dst].kind != EXO_NONE) return -EXO_E_FULL;
    r = object_type(f, frames, f, n);
    if (r != 0) return r;
    env_init(f, n, flags, env_caps(holder) + dst);
    r = object_insert(src, holder, dst, &contents);
    if (r != 0) object_untype(f, frames, ENV_VECTOR);
    return r;
}

/*@ ALL
    ensures -EXO_E_NOVM <= \result <= 0; */
long sys_env_make(uint64_t dst, uint64_t sel, uint64_t frame, uint64_t count, uint64_t flags)
{
    frame_t holder;
    uint32_t d, vm = 0;
    if (count == 0 || count > EXO_TAB_MAX || (flags & ~(uint64_t)EXO_ENV_VM) != 0)
        return -EXO_E_ARG;
    if (flags != 0) {
        if (vm_caps.kind == EXO_VM_NONE) return -EXO_E_NOVM;
        vm = ENV_VM | (vm_caps.ept ? ENV_EPT : 0);
    }
    if (frame > UINT32_MAX - 3 - EXO_TAB_MAX - EXO_VM_ENV_FRAMES) return -EXO_E_RANGE;
    long r = ref_find(dst, EXO_ENV_INTO, &holder, &d);
    if (r != 0) return r;
    lock_tree();
    r = env_make(holder, d, sel, frame, (uint32_t)count, vm);
    unlock_tree();
    return r;
}

void env_free(frame_t e)
{
    this_cpu()->pend_all = 1;
    pend_add(e, 0, e, PEND_ENV);
}

/*@ ALL
    ensures -EXO_E_NOVM <= \result <= 0; */
long sys_env_revoker(uint64_t env, uint64_t thread)
{
    frame_t e, t = 0;
    long r = env_find(env, EXO_ENV_BIND, &e);
    if (r == 0 && thread != 0) r = thread_find(thread, EXO_THREAD_CONTROL, &t);
    if (r != 0) return r;
    if (t != 0 && threads[t].env != e) return -EXO_E_ARG;
    return revoker_set(e, t);
}

/* ---- threads ------------------------------------------------------------------------------- */

/*@ requires env_ok(holder) && dst < envs[holder].nsel && env_ok(e) && cpu < EXO_MAX_CPUS;
    requires frame <= 0xffffffff - EXO_VCPU_FRAMES; ALL
    ensures -EXO_E_NOVM <= \result <= 0; */
static long thread_make(frame_t holder, uint32_t dst, frame_t e, uint64_t sel, uint64_t frame,
                        unsigned cpu)
{
    cref_t src;
    if ((envs[e].flags & ENV_DYING) != 0) return -EXO_E_DYING;
    uint32_t frames = (envs[e].flags & ENV_VM) != 0 ? EXO_VCPU_FRAMES : 2;
    long r = source_find(e, sel, frame, frames, &src);
    if (r != 0) return r;
    frame_t f = (frame_t)frame;
    struct cap contents = {
        .kind = EXO_THREAD, .rights = EXO_RIGHTS_ALL, .flags = CAP_OWNER, .base = f, .count = 1};
    if (caps[env_caps(holder) + dst].kind != EXO_NONE) return -EXO_E_FULL;
    r = object_type(f, frames, e, 0);
    if (r != 0) return r;
    thread_init(f, e, cpu, env_caps(holder) + dst);
    r = object_insert(src, holder, dst, &contents);
    if (r != 0)
        object_untype(f, frames, THREAD_PAGE);
    else
        envs[e].threads++;
    return r;
}

/*@ ALL
    ensures -EXO_E_NOVM <= \result <= 0; */
long sys_thread_make(uint64_t dst, uint64_t env, uint64_t sel, uint64_t frame, uint64_t cpu)
{
    frame_t holder, e;
    uint32_t d;
    if (cpu >= ncpus) return -EXO_E_ARG;
    if (frame > UINT32_MAX - EXO_VCPU_FRAMES) return -EXO_E_RANGE;
    long r = ref_find(dst, EXO_ENV_INTO, &holder, &d);
    if (r != 0) return r;
    r = env_find(env, EXO_ENV_BIND, &e);
    if (r != 0) return r;
    lock_tree();
    r = thread_make(holder, d, e, sel, frame, (unsigned)cpu);
    unlock_tree();
    return r;
}

void thread_free(frame_t t)
{
    frame_t e = threads[t].env;
    if (envs[e].revoker == t) envs[e].revoker = 0;
    envs[e].threads--;
    this_cpu()->pend_all = 1;
    pend_add(e, 0, t, PEND_THREAD);
}

/* ---- gates and events ------------------------------------------------------------------------- */

/* A child of the thread's capability `thread` (0: the caller's own) at dst. */
/*@ requires \valid(contents) && apart(contents);
    requires contents->kind == EXO_GATE || contents->kind == EXO_EVENT;
    requires ok: core_ok;
    assigns caps[0 .. 0xffffffff], contents->base;
    ensures still: core_ok;
    ensures -EXO_E_NOVM <= \result <= 0; */
static long handle_make(uint64_t dst, uint64_t thread, struct cap *contents)
{
    frame_t holder;
    uint32_t d;
    const struct thread *me = &threads[this_cpu()->cur];
    cref_t src = me->owner;
    /*@ assert me: env_ok(me->env) && caps[src].base < OBJECT_END; */
    long r = ref_find(dst, EXO_ENV_INTO, &holder, &d);
    if (r != 0) return r;
    /*@ assert after: invariants; */
    /*@ assert mine: env_ok(me->env); */
    lock_tree();
    if (thread != 0) r = cap_find(me->env, thread, EXO_THREAD, EXO_THREAD_CONTROL, &src);
    /*@ assert base: r == 0 ==> caps[src].base < OBJECT_END; */
    if (r == 0 && contents->kind == EXO_GATE && (threads[caps[src].base].slow & SLOW_VM) != 0)
        r = -EXO_E_TYPE;
    if (r == 0) {
        contents->base = caps[src].base;
        r = object_insert(src, holder, d, contents);
    }
    unlock_tree();
    return r;
}

/*@ requires ok: core_ok;
    assigns caps[0 .. 0xffffffff];
    ensures still: core_ok;
    ensures -EXO_E_NOVM <= \result <= 0; */
long sys_gate_make(uint64_t dst, uint64_t thread, uint64_t entry, uint64_t badge)
{
    struct cap contents = {
        .kind = EXO_GATE, .rights = EXO_GATE_CALL, .count = entry, .badge = badge};
    if (entry >= EXO_VA_END) return -EXO_E_VA;
    return handle_make(dst, thread, &contents);
}

/*@ requires ok: core_ok;
    assigns caps[0 .. 0xffffffff];
    ensures still: core_ok;
    ensures -EXO_E_NOVM <= \result <= 0; */
long sys_event_make(uint64_t dst, uint64_t thread, uint64_t bits)
{
    struct cap contents = {.kind = EXO_EVENT, .rights = EXO_EVENT_SIGNAL, .count = bits};
    if (bits == 0 || (bits & EXO_EVENT_KERNEL) != 0) return -EXO_E_ARG;
    return handle_make(dst, thread, &contents);
}
