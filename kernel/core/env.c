/* SPDX-License-Identifier: MIT
 *
 * Objects made out of frames: envs, threads; and of threads: gates, events. Each new
 * capability is a child of the one that its frames (its thread) came from, so revoking
 * that one destroys the object.
 *
 * Locking: the tree lock; a new object is nobody else's until its capability is in.
 */
#include "core.h"

void env_init(frame_t f, uint32_t tables, cref_t owner)
{
    struct env *e = &envs[f];
    e->root = f + 1;
    e->tables = tables;
    e->nsel = tables * EXO_TAB_CAPS;
    e->owner = owner;
    root_init(f + 1);
}

/* Takes back the typing of the first n frames of an env that could not be made. */
static void env_untype(frame_t f, uint32_t n)
{
    while (n-- > 0)
        if (n == 2)
            word_unbind(f + 2);
        else
            word_untype(f + n);
}

/* Types the frames of an env: env, top table, vector (registered, stays plain), table. */
static long env_type(frame_t f, uint32_t tables)
{
    for (uint32_t i = 0; i < 3 + tables; i++) {
        long r;
        if (i == 2)
            r = f + 2 < nframes ? word_bind(f + 2, true) : -EXO_E_TYPE;
        else
            r = word_type(f + i, i == 0 ? EXO_FT_ENV : i == 1 ? EXO_FT_PT4 : EXO_FT_CAPS, f);
        if (r != 0) {
            env_untype(f, i);
            return r;
        }
    }
    for (uint32_t i = 0; i < 3 + tables; i++)
        page_clear(f + i);
    return 0;
}

/* Finds capability sel of env e as the source of an object of n frames from f on. */
static long source_find(frame_t e, uint64_t sel, uint64_t f, uint64_t n, cref_t *out)
{
    long r = cap_find(e, sel, EXO_FRAMES, EXO_OBJECT | EXO_R | EXO_W, out);
    if (r != 0) return r;
    const struct cap *c = &caps[*out];
    if (f < c->base || f - c->base >= c->count || n > c->count - (f - c->base)) return -EXO_E_RANGE;
    return 0;
}

/* Tree lock held: a child of src at (holder, sel). */
static long object_insert(cref_t src, frame_t holder, uint32_t sel, const struct cap *contents)
{
    lock_env(holder);
    long r = cap_insert(src, env_caps(holder) + sel, holder, false, contents);
    unlock_env(holder);
    return r;
}

static long env_make(frame_t holder, uint32_t dst, uint64_t sel, uint64_t frame, uint32_t tables)
{
    cref_t src;
    long r = source_find(threads[this_cpu()->cur].env, sel, frame, 3 + tables, &src);
    if (r != 0) return r;
    frame_t f = (frame_t)frame;
    struct cap contents = {
        .kind = EXO_ENV, .rights = EXO_RIGHTS_ALL, .flags = CAP_OWNER, .base = f, .count = 1};
    if (caps[env_caps(holder) + dst].kind != EXO_NONE) return -EXO_E_FULL;
    r = env_type(f, tables);
    if (r != 0) return r;
    env_init(f, tables, env_caps(holder) + dst);
    r = object_insert(src, holder, dst, &contents);
    if (r != 0) env_untype(f, 3 + tables);
    return r;
}

long sys_env_make(uint64_t dst, uint64_t sel, uint64_t frame, uint64_t count, uint64_t flags)
{
    frame_t holder;
    uint32_t d;
    if (count == 0 || count > EXO_TAB_MAX || (flags & ~(uint64_t)EXO_ENV_VM) != 0)
        return -EXO_E_ARG;
    if (flags != 0) return -EXO_E_NOVM;
    if (frame > UINT32_MAX - 3 - EXO_TAB_MAX) return -EXO_E_RANGE;
    long r = ref_find(dst, EXO_ENV_INTO, &holder, &d);
    if (r != 0) return r;
    lock_tree();
    r = env_make(holder, d, sel, frame, (uint32_t)count);
    unlock_tree();
    return r;
}

void env_free(frame_t e)
{
    this_cpu()->pend_all = 1;
    pend_add(e, 0, e, PEND_ENV);
}

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

static long thread_make(frame_t holder, uint32_t dst, frame_t e, uint64_t sel, uint64_t frame,
                        unsigned cpu)
{
    cref_t src;
    if ((envs[e].flags & ENV_DYING) != 0) return -EXO_E_DYING;
    long r = source_find(e, sel, frame, 2, &src);
    if (r != 0) return r;
    frame_t f = (frame_t)frame;
    struct cap contents = {
        .kind = EXO_THREAD, .rights = EXO_RIGHTS_ALL, .flags = CAP_OWNER, .base = f, .count = 1};
    if (f + 1 >= nframes) return -EXO_E_TYPE;
    if (caps[env_caps(holder) + dst].kind != EXO_NONE) return -EXO_E_FULL;
    r = word_type(f, EXO_FT_THREAD, e);
    if (r != 0) return r;
    r = word_bind(f + 1, true);
    if (r == 0) {
        page_clear(f);
        page_clear(f + 1);
        thread_init(f, e, cpu, env_caps(holder) + dst);
        r = object_insert(src, holder, dst, &contents);
        if (r != 0) word_unbind(f + 1);
    }
    if (r != 0)
        word_untype(f);
    else
        envs[e].threads++;
    return r;
}

long sys_thread_make(uint64_t dst, uint64_t env, uint64_t sel, uint64_t frame, uint64_t cpu)
{
    frame_t holder, e;
    uint32_t d;
    if (cpu >= ncpus) return -EXO_E_ARG;
    if (frame > UINT32_MAX - 2) return -EXO_E_RANGE;
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
static long handle_make(uint64_t dst, uint64_t thread, struct cap *contents)
{
    frame_t holder;
    uint32_t d;
    const struct thread *me = &threads[this_cpu()->cur];
    cref_t src = me->owner;
    long r = ref_find(dst, EXO_ENV_INTO, &holder, &d);
    if (r != 0) return r;
    lock_tree();
    if (thread != 0) r = cap_find(me->env, thread, EXO_THREAD, EXO_THREAD_CONTROL, &src);
    if (r == 0) {
        contents->base = caps[src].base;
        r = object_insert(src, holder, d, contents);
    }
    unlock_tree();
    return r;
}

long sys_gate_make(uint64_t dst, uint64_t thread, uint64_t entry, uint64_t badge)
{
    struct cap contents = {
        .kind = EXO_GATE, .rights = EXO_GATE_CALL, .count = entry, .badge = badge};
    if (entry >= EXO_VA_END) return -EXO_E_VA;
    return handle_make(dst, thread, &contents);
}

long sys_event_make(uint64_t dst, uint64_t thread, uint64_t bits)
{
    struct cap contents = {.kind = EXO_EVENT, .rights = EXO_EVENT_SIGNAL, .count = bits};
    if (bits == 0 || (bits & EXO_EVENT_KERNEL) != 0) return -EXO_E_ARG;
    return handle_make(dst, thread, &contents);
}
