/* SPDX-License-Identifier: MIT
 *
 * The server's heap (EXO_HEAP_PAGES) in parts: what one kind of memory may take of it, and one
 * process of that. Who fills a part leaves the others theirs, and other processes their share.
 * All parts together are less than the heap; the rest is for what is bounded by its number: open
 * files (FILES_MAX) and what belongs to them. */
#ifndef LX_BUDGET_H
#define LX_BUDGET_H
#include "../../../lib/exo/exo.h"
#include "server.h"

struct budget {
    uint32_t most, each; /* bytes; of one process */
    uint32_t used, by[LX_PROCESSES];
};

/* What malloc takes for n bytes: a power of two, 16 bytes of it for itself. */
static inline uint32_t budget_size(size_t n) { return 1u << (64 - __builtin_clzl(n + 15)); }

/* malloc; NULL also when the part, or the share of the process of that place in the table, is
 * full. */
static inline void *budget_take(struct budget *budget, unsigned owner, size_t n)
{
    uint32_t size = budget_size(n);
    if (size > budget->most - budget->used || size > budget->each - budget->by[owner]) return NULL;
    void *memory = malloc(n);
    if (!memory) return NULL;
    budget->used += size;
    budget->by[owner] += size;
    return memory;
}

/* free of what was taken so. */
static inline void budget_give(struct budget *budget, unsigned owner, void *memory, size_t n)
{
    if (!memory) return;
    budget->used -= budget_size(n);
    budget->by[owner] -= budget_size(n);
    free(memory);
}
#endif
