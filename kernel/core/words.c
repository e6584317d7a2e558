/* SPDX-License-Identifier: MIT
 *
 * Frame words: what each frame of RAM is, and how many bindings it has.
 *
 * Invariants: a frame that is not plain is never bound writable; a bound frame never
 * becomes page table or kernel object; a large binding of a block and a typed frame
 * in it exclude each other.
 * Concurrency: a word changes by one compare-and-swap, or by an atomic subtraction
 * of what its caller added before. A typed frame first enters the count of its
 * blocks, then changes its word; a large binding first checks that count: whichever
 * of two racing CPUs comes second sees the other's change and gives up.
 */
#include "core.h"

#define BINDINGS_MAX 0xffffffffu
#define TYPE_SHIFT 32
#define OWNER_SHIFT 38
#define TYPED_ONE (1ull << 32) /* block word: one typed frame */

long word_bind(frame_t f, bool writable)
{
    if (f >= nframes) return 0;
    uint64_t w = words[f];
    unsigned type = EXO_FW_TYPE(w);
    if (type != EXO_FT_PLAIN) {
        if (type == EXO_FT_DEVICE) return 0;
        if (writable || type == EXO_FT_KERNEL || type > EXO_FT_PT4) return -EXO_E_TYPE;
    }
    if (EXO_FW_BINDINGS(w) == BINDINGS_MAX) return -EXO_E_LIMIT;
    return word_cas(&words[f], w, w + 1) ? 0 : -EXO_E_AGAIN;
}

void word_unbind(frame_t f)
{
    if (f >= nframes || EXO_FW_TYPE(words[f]) == EXO_FT_DEVICE) return;
    KASSERT(EXO_FW_BINDINGS(words[f]) != 0);
    word_add(&words[f], -1ull);
}

/* Counts one more typed frame in a block that has no large binding. */
/*@ requires \valid(block) && *block < 0xffffffff00000000;
    assigns *block;
    ensures \result == 0 || \result == -EXO_E_BUSY || \result == -EXO_E_AGAIN;
    ensures \result == 0 ==> w_bindings(\old(*block)) == 0 &&
            *block == \old(*block) + TYPED_ONE;
    ensures \result != 0 ==> *block == \old(*block); */
static long block_enter(uint64_t *block)
{
    uint64_t b = *block;
    if (EXO_FW_BINDINGS(b) != 0) return -EXO_E_BUSY;
    return word_cas(block, b, b + TYPED_ONE) ? 0 : -EXO_E_AGAIN;
}

/*@ requires \valid(block) && *block >= TYPED_ONE;
    assigns *block;
    ensures *block == \old(*block) - TYPED_ONE; */
static void block_leave(uint64_t *block)
{
    KASSERT(*block >> 32 != 0);
    word_add(block, -TYPED_ONE);
}

/* The word of an unbound frame of this type. */
/*@ requires type <= 15 && owner < 0x4000000;
    assigns \nothing;
    ensures \result == w_typed(type, owner); */
static uint64_t word_typed(unsigned type, frame_t owner)
{
    return (uint64_t)type << TYPE_SHIFT | (uint64_t)owner << OWNER_SHIFT;
}

long word_type(frame_t f, unsigned type, frame_t owner)
{
    if (f == 0 || f >= nframes) return -EXO_E_TYPE;
    uint64_t w = words[f];
    if (EXO_FW_TYPE(w) != EXO_FT_PLAIN) return -EXO_E_TYPE;
    if (EXO_FW_BINDINGS(w) != 0) return -EXO_E_BUSY;
    long r = block_enter(&blocks2m[f >> 9]);
    if (r != 0) return r;
    r = block_enter(&blocks1g[f >> 18]);
    if (r == 0) {
        if (word_cas(&words[f], w, word_typed(type, owner))) return 0;
        block_leave(&blocks1g[f >> 18]);
        r = -EXO_E_AGAIN;
    }
    block_leave(&blocks2m[f >> 9]);
    return r;
}

void word_untype(frame_t f)
{
    KASSERT(f < nframes && EXO_FW_TYPE(words[f]) >= EXO_FT_PT1);
    uint64_t typed = words[f] & ~(uint64_t)BINDINGS_MAX;
    word_add(&words[f], -typed);
    block_leave(&blocks1g[f >> 18]);
    block_leave(&blocks2m[f >> 9]);
}

/* One more large binding of a block without typed frames. */
/*@ requires \valid(block);
    assigns *block;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures \result == 0 ==> \old(*block) >> 32 == 0 && *block == \old(*block) + 1;
    ensures \result != 0 ==> *block == \old(*block); */
static long block_bind(uint64_t *block)
{
    uint64_t b = *block;
    if (b >> 32 != 0) return -EXO_E_TYPE;
    if (EXO_FW_BINDINGS(b) == BINDINGS_MAX) return -EXO_E_LIMIT;
    return word_cas(block, b, b + 1) ? 0 : -EXO_E_AGAIN;
}

/*@ requires \valid(block) && w_bindings(*block) != 0;
    assigns *block;
    ensures *block == \old(*block) - 1; */
static void block_unbind(uint64_t *block)
{
    KASSERT(EXO_FW_BINDINGS(*block) != 0);
    word_add(block, -1ull);
}

long word_bind_large(frame_t f, unsigned level)
{
    frame_t last = f + ((1u << 9 * (level - 1)) - 1);
    if (f >= nframes) return 0;
    if (last >= nframes) return -EXO_E_TYPE;
    if (level == 2) return block_bind(&blocks2m[f >> 9]);
    return block_bind(&blocks1g[f >> 18]);
}

void word_unbind_large(frame_t f, unsigned level)
{
    if (f >= nframes) return;
    if (level == 2)
        block_unbind(&blocks2m[f >> 9]);
    else
        block_unbind(&blocks1g[f >> 18]);
}
