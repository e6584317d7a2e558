/* SPDX-License-Identifier: MIT
 *
 * libexo's malloc on this machine: blocks lie apart and keep what is in them, and what was freed
 * in one size can be had in another when nothing more can be mapped. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define main exo_main /* a program's own takes its startup page */
#define malloc exo_malloc
#define free exo_free
#include "../../lib/exo/exo.h"

struct exo exo;
static long map_host(uint64_t va, uint64_t pages)
{
    void *at = mmap((void *)va, pages * EXO_PAGE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    return at == (void *)va ? 0 : -EXO_E_LIMIT;
}
#define exo_map(va, pages, rights) map_host(va, pages)
#include "../../lib/exo/heap.c"
#undef main
#undef malloc
#undef free

#include "unit.h"

#define ALL (EXO_HEAP_PAGES * (uint64_t)EXO_PAGE)
#define MOST 600000
static uint8_t *blocks[MOST], *others[MOST];

static int compare(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return x < y ? -1 : x > y;
}

/* Takes blocks of that size until there are none: how many. In the order they lie in. */
static unsigned fill(uint8_t **to, size_t size)
{
    unsigned n = 0;
    while (n < MOST && (to[n] = exo_malloc(size)))
        n++;
    qsort(to, n, sizeof(*to), compare);
    return n;
}

/* Gives back every `step`-th of n. */
static void drop(uint8_t **from, unsigned n, unsigned first, unsigned step)
{
    for (unsigned i = first; i < n; i += step)
        exo_free(from[i]);
}

static void test_sizes(void)
{
    static const size_t sizes[] = {16, 48, 200, 1000, 5000, 1 << 20};
    for (unsigned i = 0; i < EXO_COUNT(sizes); i++) { /* each time all of the heap */
        size_t taken = 32;
        while (taken < sizes[i] + 16)
            taken *= 2;
        unsigned n = fill(blocks, sizes[i]);
        EXPECT(n == ALL / taken);
        for (unsigned k = 1; k < n; k++)
            if (blocks[k] - blocks[k - 1] < (long)taken) failures++;
        drop(blocks, n, 0, 1);
    }
    EXPECT(!exo_malloc((2ul << 20) + 1) && !exo_malloc(SIZE_MAX));
    exo_free(NULL);
}

/* Every second block stays: no two of the others lie side by side. */
static void test_holes(void)
{
    unsigned n = fill(blocks, 48);
    drop(blocks, n, 0, 2);
    EXPECT(!exo_malloc(49));
    unsigned small = fill(others, 16); /* two in each hole */
    EXPECT(small == n);
    drop(others, small, 0, 1);
    EXPECT(!exo_malloc(49));
    drop(blocks, n, 1, 2);
    uint8_t *large = exo_malloc(2ul << 20);
    EXPECT(large != NULL);
    exo_free(large);
}

/* Blocks of any size come and go, at the limit: none loses what is in it. */
static void test_random(void)
{
    static struct {
        uint8_t *at, value;
        size_t size;
    } slot[3000];
    unsigned refused = 0;
    for (unsigned turn = 0; turn < 300000; turn++) {
        unsigned i = (unsigned)next(EXO_COUNT(slot));
        for (size_t k = 0; slot[i].at && k < slot[i].size; k += 61)
            if (slot[i].at[k] != slot[i].value) failures++;
        exo_free(slot[i].at);
        size_t size = next(1ul << (4 + next(13)));
        slot[i].size = size;
        slot[i].value = (uint8_t)turn;
        slot[i].at = exo_malloc(size);
        refused += !slot[i].at;
        if (slot[i].at) memset(slot[i].at, slot[i].value, size);
    }
    EXPECT(refused > 0 && refused < 100000);
    for (unsigned i = 0; i < EXO_COUNT(slot); i++)
        exo_free(slot[i].at);
    EXPECT(fill(blocks, 2ul << 20) == ALL >> 22);
}

int main(void)
{
    static const struct unit_test tests[] = {
        {"sizes", test_sizes}, {"holes", test_holes}, {"random", test_random}};
    return TESTS_RUN("heap", tests);
}
