/* SPDX-License-Identifier: MIT
 *
 * Channels: byte rings between two programs. Owner of the frames: root; of each index:
 * one side, which keeps it in its own memory and only shows it to the other. An index of
 * the peer is fetched once, compared with ours, and refused when it cannot be.
 *
 * No wakeup is lost, with sequentially consistent fences:
 *   reader: sets reader_waits, fence, looks at head;   writer: moves head, fence, looks at
 *   reader_waits.
 * Either the reader sees the new head, or the writer sees the flag and signals; the same
 * for writer_waits and tail. A peer that does otherwise only harms itself. */
#include "channel.h"

static void fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/* Tells the peer, if it has asked for it; *waits is its flag. */
static void wake(struct exo_channel *c, volatile uint32_t *waits)
{
    fence();
    if (!*waits) return;
    *waits = 0;
    while (exo_event_signal(c->signal) == -EXO_E_AGAIN)
        ; /* another CPU is changing capabilities near it */
}

static size_t broken(struct exo_channel *c)
{
    c->broken = true;
    return 0;
}

/* Bytes in the ring towards us, as its writer says. */
static size_t used_in(struct exo_channel *c)
{
    uint32_t used = __atomic_load_n(&c->in->head, __ATOMIC_ACQUIRE) - c->tail;
    if (c->broken || used > c->size) return broken(c);
    return used;
}

/* Room in the ring from us, as its reader says. */
static size_t room_out(struct exo_channel *c)
{
    uint32_t used = c->head - __atomic_load_n(&c->out->tail, __ATOMIC_ACQUIRE);
    if (c->broken || used > c->size) return broken(c);
    return c->size - used;
}

/* The same, but who finds less than it wants will be told of more. */
static size_t wait_in(struct exo_channel *c, size_t wanted)
{
    size_t used = used_in(c);
    if (used >= wanted) return used;
    c->in->reader_waits = 1;
    fence();
    return used_in(c);
}

static size_t wait_out(struct exo_channel *c, size_t wanted)
{
    size_t room = room_out(c);
    if (room >= wanted) return room;
    c->out->writer_waits = 1;
    fence();
    return room_out(c);
}

/* Copies at our head without showing it: the room is there. */
static void put(struct exo_channel *c, const void *data, size_t n)
{
    uint32_t at = c->head & (c->size - 1);
    size_t first = EXO_MIN(n, c->size - at);
    memcpy(c->out_data + at, data, first);
    memcpy(c->out_data, (const uint8_t *)data + first, n - first);
    c->head += (uint32_t)n;
}

static void get(struct exo_channel *c, void *data, size_t n)
{
    uint32_t at = c->tail & (c->size - 1);
    size_t first = EXO_MIN(n, c->size - at);
    memcpy(data, c->in_data + at, first);
    memcpy((uint8_t *)data + first, c->in_data, n - first);
    c->tail += (uint32_t)n;
}

static void show_head(struct exo_channel *c)
{
    __atomic_store_n(&c->out->head, c->head, __ATOMIC_RELEASE);
    wake(c, &c->out->reader_waits);
}

static void show_tail(struct exo_channel *c)
{
    __atomic_store_n(&c->in->tail, c->tail, __ATOMIC_RELEASE);
    wake(c, &c->in->writer_waits);
}

size_t exo_channel_write(struct exo_channel *c, const void *data, size_t n)
{
    n = EXO_MIN(n, wait_out(c, n));
    if (!n) return 0;
    put(c, data, n);
    show_head(c);
    return n;
}

size_t exo_channel_read(struct exo_channel *c, void *data, size_t n)
{
    n = EXO_MIN(n, wait_in(c, 1));
    if (!n) return 0;
    get(c, data, n);
    show_tail(c);
    return n;
}

size_t exo_channel_readable(struct exo_channel *c) { return wait_in(c, 1); }
size_t exo_channel_writable(struct exo_channel *c) { return wait_out(c, 1); }
size_t exo_channel_room(struct exo_channel *c, size_t wanted) { return wait_out(c, wanted); }

bool exo_channel_send(struct exo_channel *c, const void *packet, size_t n)
{
    uint32_t length = (uint32_t)n;
    if (!n || n > exo_channel_packet_max(c)) return false;
    if (wait_out(c, n + sizeof(length)) < n + sizeof(length)) return false;
    put(c, &length, sizeof(length));
    put(c, packet, n);
    show_head(c);
    return true;
}

/* A packet's bytes become visible together, so what is there must hold all of it. */
size_t exo_channel_receive(struct exo_channel *c, void *packet, size_t max)
{
    uint32_t length;
    size_t used = wait_in(c, 1);
    if (!used) return 0;
    if (used < sizeof(length)) return broken(c);
    get(c, &length, sizeof(length));
    if (!length || length > used - sizeof(length) || length > max) return broken(c);
    get(c, packet, length);
    show_tail(c);
    return length;
}

void exo_channel_init(struct exo_channel *c, void *memory, uint32_t size, unsigned side)
{
    struct exo_channel_head *head = memory;
    uint8_t *data = (uint8_t *)memory + EXO_PAGE;
    *c = (struct exo_channel){
        .out = &head->ring[side],
        .in = &head->ring[!side],
        .closed = &head->closed,
        .out_data = data + (side ? size : 0),
        .in_data = data + (side ? 0 : size),
        .size = size,
    };
}

long exo_channel_open(struct exo_channel *c, unsigned index)
{
    if (index >= EXO_CHANNELS) return -EXO_E_NONE;
    const struct exo_channel_given *given = &exo.start.channels[index];
    if (!given->peer[0]) return -EXO_E_NONE;
    uint64_t size = (uint64_t)(given->count - 1) / 2 * EXO_PAGE;
    if (given->count % 2 == 0 || !size || size > EXO_CHANNEL_RING_MAX || size & (size - 1))
        return -EXO_E_ARG;
    uint64_t va = EXO_CHANNEL_VA + index * (uint64_t)EXO_CHANNEL_SPAN;
    long r = exo_bind(&exo.pool, va, given->count, given->sel, given->first, EXO_R | EXO_W);
    if (r < 0) return r;
    exo_channel_init(c, (void *)va, (uint32_t)size, given->side);
    c->signal = given->event;
    c->event = 1ul << given->bit;
    exo_strcpy(c->peer, given->peer, sizeof(c->peer));
    exo_strcpy(c->tag, given->tag, sizeof(c->tag));
    return 0;
}

long exo_channel_find(struct exo_channel *c, const char *peer, const char *tag)
{
    for (unsigned i = 0; i < EXO_CHANNELS; i++) {
        const struct exo_channel_given *given = &exo.start.channels[i];
        if (!given->peer[0]) break;
        if ((peer && strcmp(given->peer, peer)) || (tag && strcmp(given->tag, tag))) continue;
        long r = exo_channel_open(c, i);
        if (r != -EXO_E_BOUND) return r;
    }
    return -EXO_E_NONE;
}
