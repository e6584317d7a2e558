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

#define PTE_RIGHTS (PTE_W | PTE_U | PTE_NX)
#define PTE_VARIES (0x000ffffffffff000ull | PTE_A | PTE_D) /* within a run */
#define EPT_VARIES (0x000ffffffffff000ull | PTE_EPT_A | PTE_EPT_D)

/* Flips `bits` in the entries of a run, which differ in `varies`, from entry i of table t
 * on, at most up to entry `end`; typed: only onto frames that may be writable. How many. */
HOT unsigned run_flip(frame_t t, unsigned i, unsigned end, uint64_t bits, uint64_t varies,
                      bool typed)
{
    const uint64_t *const word = words;
    const frame_t frames = nframes;
    uint64_t first = tables[t].e[i];
    unsigned start = i;
    for (; i < end; i++) {
        uint64_t old = tables[t].e[i];
        if (((old ^ first) & ~varies) != 0) break;
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
static long run_protect(frame_t env, frame_t t, unsigned i, unsigned end, unsigned level,
                        unsigned rights)
{
    uint64_t old = tables[t].e[i];
    uint32_t format = pte_format(env);
    const struct cap *c = &caps[env_caps(env) + pte_sel(format, old)];
    if ((rights & ~(unsigned)c->rights) != 0) return -EXO_E_RIGHTS;
    uint64_t bits = old ^ pte_leaf(format, 0, rights, 0, 1, 0);
    uint64_t varies = format != 0 ? EPT_VARIES : PTE_VARIES;
    bits &= format != 0 ? PTE_EPT_RIGHTS : PTE_RIGHTS;
    unsigned n = (rights & EXO_W) != 0 && level == 1 ? run_flip(t, i, end, bits, varies, true)
                                                     : run_flip(t, i, end, bits, varies, false);
    if (n == 0) return -EXO_E_TYPE;
    if ((pte_rights(format, old) & ~rights) != 0 || (envs[env].flags & ENV_VM) != 0)
        pend_flush(env, level);
    return n;
}

static long protect_range(frame_t env, uint64_t va, uint64_t n, unsigned rights)
{
    uint64_t done = 0;
    long r = 0;
    while (done < n && r >= 0) {
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
        while (i < end && r >= 0) {
            if ((tables[t].e[i] & PTE_P) != 0)
                r = run_protect(env, t, i, end, level, rights);
            else
                r = done == 0 ? -EXO_E_NONE : 1;
            if (r > 0) {
                i += (unsigned)r;
                done += (uint64_t)r;
                va += bytes * (uint64_t)r;
            }
        }
    }
    return done != 0 ? (long)done : r;
}

static long protect_list(frame_t env, uint64_t n, unsigned rights)
{
    const struct exo_batch *list = upcalls[this_thread()->upcall].list;
    uint64_t done = 0;
    long r = 0;
    for (; done < n; done++) {
        uint64_t va = fetch(&list[done].va);
        frame_t t;
        r = leaf_find(env, va, &t);
        if (r == 0 && (tables[t].e[va_index(va, 1)] & PTE_P) == 0) r = -EXO_E_NONE;
        if (r == 0) r = run_protect(env, t, va_index(va, 1), va_index(va, 1) + 1, 1, rights);
        if (r < 0) break;
    }
    return done != 0 ? (long)done : r;
}

static bool rights_valid(uint64_t rights)
{
    return (rights & ~(uint64_t)(EXO_R | EXO_W | EXO_X)) == 0 &&
           (rights == 0 || (rights & EXO_R) != 0);
}

/* The env, in which pages may have these rights: EPT has none that are present without. */
static long protect_env(uint64_t env, uint64_t rights, frame_t *e)
{
    long r = env_find(env, EXO_ENV_BIND, e);
    return r == 0 && rights == 0 && (envs[*e].flags & ENV_VM) != 0 ? -EXO_E_ARG : r;
}

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
