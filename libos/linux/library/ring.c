/* SPDX-License-Identifier: MIT
 *
 * Pipes that this process shares with just one other (server/ring.c): a page in which the
 * writer puts bytes and the reader finds them, without the server. The window says which
 * descriptors have one, in memory that the other side does not reach; what the page says is
 * checked here and used once. The server may take the ring back at any moment: who then was in
 * the midst of something compares how far the server saw it come. All that is not done here is
 * done by the server's way (LEAF_FULL).
 *
 * A reader that finds nothing stays ready and gives its turn away; then it says that it wants
 * to be told, and waits. */
#include "library.h"
#include "../../../lib/exo/text.h"

#define WRITE_MAX (LX_RING_BYTES / 2)

static struct lx_ring *ring_at(uint32_t slot)
{
    return (struct lx_ring *)(LX_RING_VA + slot * PAGE);
}

static bool is_open(uint64_t fd) { return direct_of(fd) & LX_DIRECT_RING; }

/* The slot of a descriptor that has one; LX_RINGS: the window is spoiled. */
static uint32_t slot_of(uint64_t fd)
{
    uint32_t slot = 0;
    while (slot < LX_RINGS && process_window()->ring[slot].number != (uint32_t)fd + 1)
        slot++;
    return slot;
}

/* What was done up to `end` counts: the ring is open, or was when the server saw that. */
static bool counts(uint64_t fd, uint32_t slot, uint32_t end)
{
    return is_open(fd) || process_window()->ring[slot].end == end;
}

static uint32_t fill_of(const struct lx_ring *ring)
{
    return __atomic_load_n(&ring->head, __ATOMIC_SEQ_CST) -
           __atomic_load_n(&ring->tail, __ATOMIC_SEQ_CST);
}

/* Waits until there is something; false: the server's way. */
static __attribute__((noinline)) bool ring_wait(struct lx_ring *ring, uint64_t fd)
{
    struct thread_state *t = this_thread();
    turn_give(t);
    while (!fill_of(ring)) {
        if (!is_open(fd) || signals_pending(t)) return false;
        __atomic_store_n(&ring->waits, 1, __ATOMIC_SEQ_CST);
        if (!fill_of(ring) && is_open(fd)) event_wait(t, 0);
        __atomic_store_n(&ring->waits, 0, __ATOMIC_RELAXED);
    }
    event_keep(t);
    return true;
}

long ring_read(uint64_t fd, uint64_t to, uint64_t n)
{
    uint32_t slot = slot_of(fd);
    struct lx_ring *ring = ring_at(slot);
    if (slot == LX_RINGS || n == 0) return LEAF_FULL;
    if (!fill_of(ring) && !ring_wait(ring, fd)) return LEAF_FULL;
    uint32_t tail = __atomic_load_n(&ring->tail, __ATOMIC_RELAXED);
    uint32_t fill = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE) - tail;
    uint32_t at = tail % LX_RING_BYTES, first = LX_RING_BYTES - at;
    if (fill - 1 >= LX_RING_BYTES) return LEAF_FULL;
    if (n > fill) n = fill;
    if (first > n) first = (uint32_t)n;
    if (user_put(to, ring->bytes + at, first) < 0) return LEAF_FULL;
    if (n > first && user_put(to + first, ring->bytes, n - first) < 0) return LEAF_FULL;
    tail += (uint32_t)n;
    __atomic_store_n(&ring->tail, tail, __ATOMIC_SEQ_CST);
    return counts(fd, slot, tail) ? (long)n : LEAF_FULL;
}

long ring_write(uint64_t fd, uint64_t from, uint64_t n)
{
    uint32_t slot = slot_of(fd);
    struct lx_ring *ring = ring_at(slot);
    if (slot == LX_RINGS || n - 1 >= WRITE_MAX) return LEAF_FULL;
    if (LX_RING_BYTES - fill_of(ring) < n) turn_give(this_thread());
    uint32_t head = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
    uint32_t fill = head - __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
    uint32_t at = head % LX_RING_BYTES, first = LX_RING_BYTES - at;
    if (fill > LX_RING_BYTES || LX_RING_BYTES - fill < n) return LEAF_FULL;
    if (first > n) first = (uint32_t)n;
    if (user_get(ring->bytes + at, from, first) < 0) return LEAF_FULL;
    if (n > first && user_get(ring->bytes, from + first, n - first) < 0) return LEAF_FULL;
    head += (uint32_t)n;
    __atomic_store_n(&ring->head, head, __ATOMIC_SEQ_CST);
    if (!counts(fd, slot, head)) return LEAF_FULL;
    if (__atomic_load_n(&ring->waits, __ATOMIC_SEQ_CST) && is_open(fd))
        server(LX_OP_RING, slot, 0, 0);
    return (long)n;
}
