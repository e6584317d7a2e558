/* SPDX-License-Identifier: MIT
 *
 * Frames, bindings and selectors. A pool hands out the frames of one capability,
 * lowest first; page tables that a binding needs come from the pool as well and
 * stay (they are counted in pool->tables). */
#include "exo.h"

void exo_pool_init(struct exo_pool *pool, uint32_t env, uint32_t sel, uint64_t base, uint64_t count,
                   uint64_t used, uint64_t *bits)
{
    memset(bits, 0, EXO_POOL_WORDS(count) * 8);
    *pool = (struct exo_pool){
        .env = env, .sel = sel, .base = base, .count = count, .free = count - used, .used = bits};
    for (uint64_t i = 0; i < used; i++)
        bits[i / 64] |= 1ul << i % 64;
    pool->hint = used;
}

static bool pool_used(const struct exo_pool *pool, uint64_t i)
{
    return pool->used[i / 64] >> i % 64 & 1;
}

long exo_frames_alloc(struct exo_pool *pool, uint64_t n, uint64_t align)
{
    uint64_t run = 0;
    if (!n || n > pool->free) return -EXO_E_LIMIT;
    for (uint64_t i = pool->hint; i < pool->count; i++) {
        if (pool_used(pool, i) || (!run && (pool->base + i) % align)) {
            run = 0;
            continue;
        }
        if (++run < n) continue;
        uint64_t first = i + 1 - n;
        for (uint64_t k = first; k <= i; k++)
            pool->used[k / 64] |= 1ul << k % 64;
        pool->free -= n;
        if (first == pool->hint) pool->hint = i + 1;
        return (long)(pool->base + first);
    }
    return -EXO_E_LIMIT;
}

void exo_frames_free(struct exo_pool *pool, uint64_t frame, uint64_t n)
{
    uint64_t first = frame - pool->base;
    for (uint64_t i = first; i < first + n; i++)
        pool->used[i / 64] &= ~(1ul << i % 64);
    pool->free += n;
    pool->hint = EXO_MIN(pool->hint, first);
}

long exo_tables(struct exo_pool *pool, uint64_t va, unsigned level)
{
    unsigned at = level;
    long frame = exo_frames_alloc(pool, 1, 1);
    if (frame < 0) return frame;
    for (;;) {
        long r = exo_pt_make(pool->env, va, at, pool->sel, (uint64_t)frame);
        if (r == -EXO_E_AGAIN) continue;
        if (r == -EXO_E_NOPT && at < 3) {
            at++;
            continue;
        }
        if (r < 0 && !(r == -EXO_E_BOUND && at > level)) {
            exo_frames_free(pool, (uint64_t)frame, 1);
            return r;
        }
        if (r == 0) pool->tables++;
        if (at == level) return 0;
        at--;
        if (r == 0 && (frame = exo_frames_alloc(pool, 1, 1)) < 0) return frame;
    }
}

long exo_bind(struct exo_pool *pool, uint64_t va, uint64_t n, uint32_t sel, uint64_t frame,
              unsigned rights)
{
    unsigned shift = rights & EXO_LARGE_2M ? 9 : rights & EXO_LARGE_1G ? 18 : 0;
    while (n) {
        long r = exo_page_bind(pool->env, va, EXO_MIN(n, EXO_RANGE_MAX), sel, frame, rights);
        if (r == -EXO_E_AGAIN) continue;
        if (r == -EXO_E_NOPT) {
            r = exo_tables(pool, va, 1 + shift / 9);
            if (r < 0) return r;
            continue;
        }
        if (r <= 0) return r < 0 ? r : -EXO_E_ARG;
        va += (uint64_t)r << shift << 12;
        frame += (uint64_t)r << shift;
        n -= (uint64_t)r;
    }
    return 0;
}

long exo_unbind(struct exo_pool *pool, uint64_t va, uint64_t n)
{
    while (n) {
        long r = exo_page_unbind(pool->env, va, EXO_MIN(n, EXO_RANGE_MAX));
        if (r == -EXO_E_AGAIN) continue;
        if (r <= 0) return r < 0 ? r : -EXO_E_ARG;
        va += (uint64_t)r * EXO_PAGE;
        n -= (uint64_t)r;
    }
    return 0;
}

long exo_map(uint64_t va, uint64_t n, unsigned rights)
{
    long frame = exo_frames_alloc(&exo.pool, n, 1);
    if (frame < 0) return frame;
    long r = exo_bind(&exo.pool, va, n, exo.pool.sel, (uint64_t)frame, EXO_R | EXO_W);
    if (r == 0) {
        memset((void *)va, 0, n * EXO_PAGE);
        for (uint64_t done = 0; rights != (EXO_R | EXO_W) && done < n && r >= 0;
             done += (uint64_t)r)
            r = exo_page_protect(EXO_SELF, va + done * EXO_PAGE, EXO_MIN(n - done, EXO_RANGE_MAX),
                                 rights);
    }
    if (r >= 0) return frame;
    exo_unbind(&exo.pool, va, n);
    exo_frames_free(&exo.pool, (uint64_t)frame, n);
    return r;
}

long exo_unmap(uint64_t va, uint64_t n, uint64_t frame)
{
    long r = exo_unbind(&exo.pool, va, n);
    if (r == 0) exo_frames_free(&exo.pool, frame, n);
    return r;
}

long exo_sel_alloc(void)
{
    uint32_t limit = EXO_MIN(exo.start.nsel, EXO_SELECTORS);
    for (uint32_t sel = exo.start.sel_free; sel < limit; sel++)
        if (!(exo.sels[sel / 64] >> sel % 64 & 1)) {
            exo.sels[sel / 64] |= 1ul << sel % 64;
            return sel;
        }
    return -EXO_E_LIMIT;
}

void exo_sel_free(uint32_t sel) { exo.sels[sel / 64] &= ~(1ul << sel % 64); }

long exo_drop(uint32_t sel)
{
    long r;
    do
        r = exo_cap_revoke(sel, 0, 0);
    while (r == -EXO_E_AGAIN);
    if (r >= 0 || r == -EXO_E_DYING) do
            r = exo_cap_delete(sel);
        while (r == -EXO_E_AGAIN);
    if (r >= 0 || r == -EXO_E_SEL) /* gone with its source is gone as well */
        exo_sel_free(sel);
    return r == -EXO_E_SEL ? 0 : r;
}
