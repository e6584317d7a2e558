/* SPDX-License-Identifier: MIT
 *
 * Robust mutexes that processes share, when a process is killed that holds some: set_robust_list(2).
 * A process that ends by itself releases them in its library; of one that cannot any more we
 * read the lists ourselves, before its env goes, by the page tables that the kernel wrote for it:
 * exo.pool has their frames. Nothing else of what the process says is believed: an address that leads
 * to no memory of its own ends its list, and a word is changed only where the process could have
 * written it and it names the thread. */
#include <linux/futex.h>
#include "../process/memory.h"
#include "../process/process.h"
#include "futex.h"

#define VIEW_VA 0x1c0000000000ul /* of ours: a page table that is looked into */
#define ROBUST_MAX 256 /* mutexes that a process holds; more are not released */
#define PT_PRESENT 1ul /* Intel SDM vol. 3, 4.5 */
#define PT_WRITE 2ul
#define PT_LARGE 0x80ul
#define PT_FRAME 0x000ffffffffff000ul

static uint64_t table_entry(uint64_t table, uint64_t i)
{
    if (exo_bind(&exo.pool, VIEW_VA, 1, exo.pool.sel, table, EXO_R) < 0) return 0;
    uint64_t entry = ((const volatile uint64_t *)VIEW_VA)[i];
    exo_unbind(&exo.pool, VIEW_VA, 1);
    return entry;
}

/* The physical address of a word of 4 or 8 bytes of the process's memory; 0: it is not there, or not
 * its. */
static uint64_t user_place(const struct process *p, uint64_t va, unsigned size, bool write)
{
    uint64_t table = p->memory->env_frame + 1, entry;
    if (va % size || va >= LX_USER_END) return 0;
    for (unsigned level = 4;; level--) {
        entry = table_entry(table, va >> (3 + 9 * level) & 511);
        if (!(entry & PT_PRESENT) || (write && !(entry & PT_WRITE))) return 0;
        table = (entry & PT_FRAME) / EXO_PAGE;
        if (level == 1) break;
        if (entry & PT_LARGE) return 0;
    }
    return frames_allowed(p, table, table, write) ? table * EXO_PAGE + va % EXO_PAGE : 0;
}

static void *place_data(uint64_t place)
{
    return (uint8_t *)frame_data((uint32_t)(place / EXO_PAGE)) + place % EXO_PAGE;
}

static bool user_quad(const struct process *p, uint64_t va, uint64_t *value)
{
    uint64_t place = user_place(p, va, sizeof(*value), false);
    if (place) *value = *(const volatile uint64_t *)place_data(place);
    return place;
}

/* The futex at va, if the thread holds it: marked, and one who waits is told. */
static void release(const struct thread *t, uint64_t va)
{
    uint64_t place = user_place(t->process, va, sizeof(uint32_t), true);
    if (!place) return;
    uint32_t *at = place_data(place), word = __atomic_load_n(at, __ATOMIC_RELAXED), died;
    do {
        if ((word & FUTEX_TID_MASK) != (uint32_t)t->tid) return;
        died = (word & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
    } while (
        !__atomic_compare_exchange_n(at, &word, died, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    if (word & FUTEX_WAITERS) futex_wake(place, 1, FUTEX_BITSET_MATCH_ANY);
}

static void list_release(const struct thread *t, unsigned *left)
{
    const struct process *p = t->process;
    uint64_t head = __atomic_load_n(&t->window->robust, __ATOMIC_RELAXED);
    uint64_t at, offset, pending; /* struct robust_list_head */
    if (!head || !user_quad(p, head, &at) || !user_quad(p, head + 8, &offset) ||
        !user_quad(p, head + 16, &pending))
        return;
    for (; at != head && *left; --*left) {
        if (at != pending) release(t, (at & ~1ul) + offset);
        if (!user_quad(p, at & ~1ul, &at)) break;
    }
    if (pending) release(t, (pending & ~1ul) + offset);
}

void robust_end(const struct process *p)
{
    unsigned left = ROBUST_MAX;
    if (!p->memory->env) return;
    for (unsigned i = 0, threads = p->thread_count; threads; i++) {
        if (!p->threads[i]) continue;
        if (p->threads[i]->window) list_release(p->threads[i], &left);
        threads--;
    }
}
