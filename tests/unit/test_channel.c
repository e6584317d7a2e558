/* SPDX-License-Identifier: MIT
 *
 * Channels on this machine: bytes and packets arrive as they were sent, nobody who must
 * be told is left out, and a peer that writes anything into the shared memory makes us
 * neither read nor write outside of it (which the sanitizers watch). */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define main exo_main /* a program's own takes its startup page */
#include "../../lib/exo/exo.h"
#undef main

/* What the kernel and libexo do in the system: selector i tells side i. */
static uint32_t signals[2];
static long signalled(uint64_t sel)
{
    __atomic_fetch_add(&signals[sel], 1, __ATOMIC_SEQ_CST);
    return 0;
}
static void *bound;
static uint64_t bound_pages;
static long bind_fake(uint64_t va, uint64_t n)
{
    bound = (void *)va;
    bound_pages = n;
    return -EXO_E_BOUND; /* the memory is not there on this machine */
}
struct exo exo;
#define exo_event_signal(sel) signalled(sel)
#define exo_bind(pool, va, n, sel, frame, rights) bind_fake(va, n)
#include "../../lib/exo/channel.c"

#define RING 4096u
#define BYTES (EXO_PAGE + 2 * RING)

#include "unit.h"

static uint8_t *memory; /* of exactly the channel's size */
static struct exo_channel side[2];

static void open_both(void)
{
    memset(memory, 0, BYTES);
    signals[0] = signals[1] = 0;
    for (unsigned i = 0; i < 2; i++) {
        exo_channel_init(&side[i], memory, RING, i);
        side[i].signal = !i;
    }
}

static void test_bytes(void)
{
    static uint8_t data[3 * RING], back[3 * RING];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)next(256);
    open_both();
    EXPECT(exo_channel_readable(&side[1]) == 0 && exo_channel_writable(&side[0]) == RING);
    EXPECT(exo_channel_write(&side[0], data, sizeof(data)) == RING);
    EXPECT(exo_channel_write(&side[0], data, 1) == 0 && exo_channel_writable(&side[0]) == 0);
    EXPECT(exo_channel_read(&side[1], back, sizeof(back)) == RING && !memcmp(data, back, RING));
    EXPECT(exo_channel_read(&side[1], back, sizeof(back)) == 0);
    for (int way = 0; way < 2; way++) { /* many laps, both ways, of any length */
        size_t in = 0, out = 0;
        for (int i = 0; i < 20000; i++) {
            size_t n = next(RING + 100), at = in % sizeof(data);
            in += exo_channel_write(&side[way], data + at, EXO_MIN(n, sizeof(data) - at));
            n = exo_channel_read(&side[!way], back, next(RING + 100));
            for (size_t k = 0; k < n; k++, out++)
                if (back[k] != data[out % sizeof(data)]) failures++;
            EXPECT(out <= in && in - out <= RING);
        }
        EXPECT(in > 100 * RING);
    }
}

static void test_packets(void)
{
    static uint8_t packet[RING], back[RING];
    uint64_t sent = 0, received = 0;
    open_both();
    EXPECT(!exo_channel_send(&side[0], packet, 0) && !exo_channel_send(&side[0], packet, RING - 3));
    EXPECT(exo_channel_packet_max(&side[0]) == RING - 4);
    EXPECT(exo_channel_send(&side[0], packet, RING - 4));
    EXPECT(exo_channel_receive(&side[1], back, RING) == RING - 4);
    EXPECT(exo_channel_receive(&side[1], back, RING) == 0 && !exo_channel_broken(&side[1]));
    for (int i = 0; i < 100000; i++) {
        size_t n = 1 + next(next(8) ? 100 : RING - 4);
        memset(packet, (int)(uint8_t)sent, n);
        if (next(2)) sent += exo_channel_send(&side[0], packet, n);
        if (next(2) || !(n = exo_channel_receive(&side[1], back, RING))) continue;
        for (size_t k = 0; k < n; k++)
            if (back[k] != (uint8_t)received) failures++;
        received++;
    }
    EXPECT(sent >= received && sent - received < RING / 5 && received > 10000);
    EXPECT(!exo_channel_broken(&side[1]));
}

/* A signal exactly when the other side has found nothing, or no room. */
static void test_signals(void)
{
    static uint8_t data[2 * RING];
    open_both();
    exo_channel_write(&side[0], data, 10);
    EXPECT(signals[1] == 0); /* the reader has not looked yet */
    EXPECT(exo_channel_read(&side[1], data, 10) == 10);
    EXPECT(exo_channel_readable(&side[1]) == 0);
    exo_channel_write(&side[0], data, 1);
    EXPECT(signals[1] == 1);
    exo_channel_write(&side[0], data, 1);
    EXPECT(signals[1] == 1); /* told once */
    EXPECT(exo_channel_read(&side[1], data, 2) == 2 && signals[0] == 0);
    EXPECT(exo_channel_write(&side[0], data, sizeof(data)) == RING);
    EXPECT(exo_channel_read(&side[1], data, 1) == 1 && signals[0] == 1);
    EXPECT(exo_channel_read(&side[1], data, 1) == 1 && signals[0] == 1);
    EXPECT(!exo_channel_send(&side[0], data, 100));
    EXPECT(exo_channel_read(&side[1], data, 1) == 1 && signals[0] == 2);
}

/* Two threads, each sleeping only while it has not been told: no wakeup is lost. */
#define SENT 200000u
static bool sleep_until_told(unsigned me, uint32_t *seen)
{
    for (uint64_t turns = 0; turns < 1ul << 30; turns++) {
        uint32_t now = __atomic_load_n(&signals[me], __ATOMIC_SEQ_CST);
        if (now != *seen) {
            *seen = now;
            return true;
        }
        if (turns % 1024 == 1023) sched_yield();
    }
    return false;
}

static void *sender(void *argument)
{
    uint32_t seen = 0;
    (void)argument;
    for (uint32_t i = 0; i < SENT;)
        if (exo_channel_send(&side[0], &i, sizeof(i)))
            i++;
        else if (!sleep_until_told(0, &seen))
            return argument;
    return NULL;
}

static void test_wakeups(void)
{
    pthread_t thread;
    uint32_t seen = 0, got;
    void *stuck = NULL;
    open_both();
    pthread_create(&thread, NULL, sender, &seen);
    for (uint32_t i = 0; i < SENT;)
        if (exo_channel_receive(&side[1], &got, sizeof(got))) {
            if (got != i++) failures++;
        } else if (!sleep_until_told(1, &seen)) {
            EXPECT(!"the receiver was never told");
            break;
        }
    pthread_join(thread, &stuck);
    EXPECT(!stuck);
}

/* A peer that goes on while we look: no more is read, or written, than was asked for. */
#define PIECE 512u
static bool over;
static void *other_side(void *argument)
{
    uint8_t piece[64];
    memset(piece, 0xa5, sizeof(piece));
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        exo_channel_write(&side[0], piece, 1 + next(sizeof(piece)));
        exo_channel_read(&side[0], piece, sizeof(piece));
    }
    return argument;
}

static void test_at_once(void)
{
    pthread_t thread;
    uint8_t *data = calloc(1, PIECE);
    uint64_t in = 0, out = 0;
    open_both();
    over = false;
    pthread_create(&thread, NULL, other_side, NULL);
    for (uint64_t turns = 0; (in < 300 * RING || out < 300 * RING) && turns < 1ul << 28; turns++) {
        size_t n = 1 + turns % PIECE, r = exo_channel_read(&side[1], data, n);
        size_t w = exo_channel_write(&side[1], data, n);
        if (r > n || w > n) failures++;
        in += r;
        out += w;
        if (!r && !w) sched_yield();
    }
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    EXPECT(in >= 300 * RING && out >= 300 * RING && !exo_channel_broken(&side[1]));
    free(data);
}

/* Lengths and indexes that cannot be. */
static void test_lies(void)
{
    static uint8_t data[RING];
    struct exo_channel_head *head = (struct exo_channel_head *)memory;
    static const uint32_t indexes[] = {RING + 1, 0x80000000, 2 * RING, 3 * RING};
    for (size_t i = 0; i < EXO_COUNT(indexes); i++) {
        open_both();
        head->ring[0].head = indexes[i];
        EXPECT(exo_channel_read(&side[1], data, RING) == 0 && exo_channel_broken(&side[1]));
        EXPECT(exo_channel_write(&side[1], data, 1) == 0);
        open_both();
        head->ring[0].tail = indexes[i];
        EXPECT(exo_channel_write(&side[0], data, 1) == 0 && exo_channel_broken(&side[0]));
    }
    static const uint32_t lengths[] = {0, 97, 0xffffffff, 0xfffffffc, 0x80000000, RING};
    for (size_t i = 0; i < EXO_COUNT(lengths); i++) {
        open_both();
        exo_channel_write(&side[0], &lengths[i], 4);
        exo_channel_write(&side[0], data, 96);
        EXPECT(exo_channel_receive(&side[1], data, RING) == 0 && exo_channel_broken(&side[1]));
    }
    open_both();
    exo_channel_send(&side[0], data, 100);
    EXPECT(exo_channel_receive(&side[1], data, 99) == 0 && exo_channel_broken(&side[1]));
    open_both();
    exo_channel_write(&side[0], data, 3); /* not even a length */
    EXPECT(exo_channel_receive(&side[1], data, RING) == 0 && exo_channel_broken(&side[1]));
    open_both();
    head->closed = 1; /* the peer has ended, and what it sent is still there */
    exo_channel_write(&side[0], data, 3);
    EXPECT(exo_channel_closed(&side[1]) && exo_channel_read(&side[1], data, RING) == 3);
}

/* A peer that writes anything anywhere, at any time. */
static void test_hostile(void)
{
    uint8_t *data = malloc(RING);
    uint32_t *head = (uint32_t *)memory;
    open_both();
    for (int i = 0; i < 1000000; i++) {
        size_t at = next(sizeof(struct exo_channel_head) / 4);
        if (next(3))
            head[at] += (uint32_t)next(64);
        else
            head[at] = (uint32_t)next(1ul << 32) >> next(32);
        memory[EXO_PAGE + next(2 * RING)] = (uint8_t)next(8);
        struct exo_channel *c = &side[next(2)];
        size_t n = next(RING + 1), r = 0;
        switch (next(4)) {
        case 0:
            r = exo_channel_read(c, data, n);
            break;
        case 1:
            r = exo_channel_write(c, data, n);
            break;
        case 2:
            r = exo_channel_receive(c, data, n);
            break;
        case 3:
            exo_channel_send(c, data, n);
            break;
        }
        if (r > n) failures++;
        if (exo_channel_broken(c) && !next(20)) open_both();
    }
    free(data);
}

static void test_open(void)
{
    struct exo_channel c;
    struct exo_channel_given *given = exo.start.channels;
    EXPECT(exo_channel_open(&c, 0) == -EXO_E_NONE);
    EXPECT(exo_channel_open(&c, EXO_CHANNELS) == -EXO_E_NONE);
    given[0] = (struct exo_channel_given){.peer = "b", .count = 3, .bit = 40};
    given[1] = (struct exo_channel_given){.peer = "c", .tag = "net0", .count = 513, .bit = 41};
    EXPECT(exo_channel_find(&c, "x", NULL) == -EXO_E_NONE && !bound);
    EXPECT(exo_channel_find(&c, "c", "") == -EXO_E_NONE && !bound);
    EXPECT(exo_channel_find(&c, "c", "net0") == -EXO_E_NONE);
    EXPECT(bound == (void *)(EXO_CHANNEL_VA + EXO_CHANNEL_SPAN) && bound_pages == 513);
    static const uint32_t counts[] = {0, 1, 2, 4, 7, 515, 1025, 0xffffffff};
    for (size_t i = 0; i < EXO_COUNT(counts); i++) {
        given[0].count = counts[i];
        EXPECT(exo_channel_open(&c, 0) == -EXO_E_ARG);
    }
}

int main(void)
{
    static const struct unit_test tests[] = {
        {"bytes", test_bytes},          {"packets", test_packets},
        {"signals", test_signals},      {"no wakeup is lost", test_wakeups},
        {"both at once", test_at_once}, {"lies", test_lies},
        {"hostile peer", test_hostile}, {"open", test_open},
    };
    memory = aligned_alloc(EXO_PAGE, BYTES);
    int failed = TESTS_RUN("channel", tests);
    free(memory);
    return failed;
}
