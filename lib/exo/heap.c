/* SPDX-License-Identifier: MIT
 *
 * malloc: free lists of powers of two on top of pages that are mapped as needed and
 * kept. A block begins with its class. First thread only. */
#include "exo.h"

#define SMALLEST 5 /* 32 bytes */
#define LARGEST 22 /* 4 MiB: a block of 2 MiB and its head */
#define CHUNK 16 /* pages mapped at a time at least */

struct block {
    uint64_t class;
    struct block *next;
};

static struct block *lists[LARGEST + 1];
static uint64_t fresh, fresh_end;

static struct block *heap_extend(uint64_t size)
{
    if (!fresh) fresh = fresh_end = EXO_HEAP_VA;
    if (fresh + size > fresh_end) {
        uint64_t pages = (fresh + size - fresh_end + EXO_PAGE - 1) / EXO_PAGE;
        pages = pages < CHUNK ? CHUNK : pages;
        if (fresh_end + pages * EXO_PAGE > EXO_HEAP_VA + EXO_HEAP_PAGES * EXO_PAGE ||
            exo_map(fresh_end, pages, EXO_R | EXO_W) < 0)
            return NULL;
        fresh_end += pages * EXO_PAGE;
        exo.heap_pages += pages;
    }
    struct block *block = (struct block *)fresh;
    fresh += size;
    return block;
}

void *malloc(size_t size)
{
    unsigned class = SMALLEST;
    if (size > (1ul << (LARGEST - 1))) return NULL;
    while ((1ul << class) < size + 16)
        class ++;
    struct block *block = lists[class];
    if (block)
        lists[class] = block->next;
    else if (!(block = heap_extend(1ul << class)))
        return NULL;
    block->class = class;
    return (char *)block + 16;
}

void free(void *memory)
{
    if (!memory) return;
    struct block *block = (struct block *)((char *)memory - 16);
    block->next = lists[block->class];
    lists[block->class] = block;
}
