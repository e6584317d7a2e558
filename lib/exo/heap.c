/* SPDX-License-Identifier: MIT
 *
 * malloc: free lists of powers of two on top of pages that are mapped as needed and kept.
 * A block begins with its class; blocks lie one behind the other from EXO_HEAP_VA to `fresh`.
 * When no more can be mapped, a larger block is cut; when there is none, free neighbours are
 * joined, so that what was freed in one size can be had in another. First thread only. */
#include "exo.h"

#define SMALLEST 5 /* 32 bytes */
#define LARGEST 22 /* 4 MiB: a block of 2 MiB and its head */
#define CHUNK 16 /* pages mapped at a time at least */
#define JOIN_AFTER 256 /* calls of free: joining looks at all blocks */

#define FREE 0x100u /* in a block's class */
struct block {
    uint64_t class;
    struct block *next; /* of its list, when it is free */
};

static struct block *lists[LARGEST + 1];
static uint64_t fresh = EXO_HEAP_VA, fresh_end = EXO_HEAP_VA;
static uint64_t frees; /* since blocks were joined */

static void block_free(struct block *block, uint64_t class)
{
    block->class = class | FREE;
    block->next = lists[class];
    lists[class] = block;
}

/* A multiple of the smallest block's size becomes free blocks, the largest first. */
static void range_free(uint64_t at, uint64_t size)
{
    for (unsigned class = LARGEST; size; class --)
        for (; size >= 1ul << class; at += 1ul << class, size -= 1ul << class)
            block_free((struct block *)at, class);
}

static void heap_join(void)
{
    uint64_t from = EXO_HEAP_VA; /* all from here up to `at` is free */
    memset(lists, 0, sizeof(lists));
    frees = 0;
    for (uint64_t at = from, end; at < fresh; at = end) {
        uint64_t class = ((struct block *)at)->class;
        end = at + (1ul << (class & ~FREE));
        if (class & FREE) continue;
        range_free(from, at - from);
        from = end;
    }
    fresh = from;
}

static struct block *heap_extend(uint64_t size)
{
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

/* The first part of the smallest free block that is large enough. */
static struct block *heap_cut(unsigned class)
{
    uint64_t size = 1ul << class;
    for (unsigned larger = class; larger <= LARGEST; larger++) {
        struct block *block = lists[larger];
        if (!block) continue;
        lists[larger] = block->next;
        range_free((uint64_t)block + size, (1ul << larger) - size);
        return block;
    }
    return NULL;
}

static struct block *heap_more(unsigned class)
{
    struct block *block = heap_extend(1ul << class);
    if (!block) block = heap_cut(class);
    if (block || frees < JOIN_AFTER) return block;
    heap_join();
    block = heap_extend(1ul << class);
    return block ? block : heap_cut(class);
}

void *malloc(size_t size)
{
    unsigned class = SMALLEST;
    if (size > (1ul << (LARGEST - 1))) return NULL;
    while ((1ul << class) < size + sizeof(struct block))
        class ++;
    struct block *block = lists[class];
    if (block)
        lists[class] = block->next;
    else if (!(block = heap_more(class)))
        return NULL;
    block->class = class;
    return block + 1;
}

void free(void *memory)
{
    if (!memory) return;
    struct block *block = (struct block *)memory - 1;
    frees++;
    block_free(block, block->class);
}
