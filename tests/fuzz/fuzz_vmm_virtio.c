/* SPDX-License-Identifier: MIT
 *
 * Hostile drivers of the virtio devices: set up properly, or nearly; rings and descriptors
 * that are right, nearly right or noise; and a second virtual CPU that changes rings while
 * the device walks them (host.race). Beside the sanitizers' rules: a request never reaches
 * a byte outside the disk's image, which has exactly its own memory. */
#include "fuzz_vmm.h"
#include "../unit/virtio_driver.c"
#include "../../vmm/packet.h"

#define DEVICES 6
#define RINGS 0x100000u
#define DISK_BYTES 20000u

static struct driver drivers[DEVICES];
static bool found[DEVICES];
static struct disk disk, disk_ro;

static bool card_send(void *peer, const void *packet, size_t n)
{
    static uint8_t sent[EXO_PACKET_MAX];
    (void)peer;
    if (fuzz_pick(4) == 0) return false;
    memcpy(sent, packet, n);
    return true;
}

/* A hostile peer's packet: a header of small numbers, or noise. */
static size_t card_receive(void *peer, void *packet, size_t max)
{
    (void)peer;
    if (fuzz_pick(3) == 0) return 0;
    size_t n = fuzz_pick(4) ? fuzz_pick(300) : fuzz_pick(max + 1);
    uint8_t *bytes = packet;
    memset(bytes, (int)fuzz_pick(256), n);
    for (size_t i = 0; i < EXO_MIN(n, 80u); i++)
        bytes[i] = (uint8_t)(fuzz_pick(3) ? fuzz_pick(4) : fuzz_pick(256));
    if (n > 60 && fuzz_pick(2)) {
        struct exo_packet header = {.flags = 1,
                                    .segments = fuzz_pick(2) ? EXO_PACKET_TCP4 : EXO_PACKET_TCP6,
                                    .segment_bytes = (uint16_t)fuzz_pick(2000),
                                    .checksum_start = (uint16_t)fuzz_pick(80),
                                    .checksum_at = 16};
        memcpy(bytes, &header, sizeof(header));
    }
    return n;
}
static struct card card = {{2, 0, 0, 0, 0, 1}, NULL, EXO_PACKET_MAX, card_send, card_receive};

void fuzz_virtio_start(void)
{
    host.race = NULL;
    if (!disk.data) {
        disk = (struct disk){calloc(1, DISK_BYTES), DISK_BYTES, false, "disk", NULL};
        disk_ro = (struct disk){calloc(1, DISK_BYTES), DISK_BYTES, true, "a name of 15 ch", NULL};
    }
    virtio_blk_add(&disk);
    virtio_blk_add(&disk_ro);
    virtio_net_add(&card);
    virtio_rng_add();
    virtio_console_add();
    virtio_balloon_add();
    memset(found, 0, sizeof(found));
}

static void start(unsigned i)
{
    static const uint8_t id[DEVICES] = {1, 2, 3, 4, 5, 2};
    if (!driver_find(&drivers[i], id[i], i == 5)) return;
    uint64_t features = fuzz_pick(4) ? ~0ull : 1ull << 32 | fuzz_wild();
    uint16_t size = fuzz_pick(8) ? (uint16_t)(1u << fuzz_pick(9)) : (uint16_t)fuzz_wild();
    driver_start(&drivers[i], features, size, RINGS + i * 0x10000);
    found[i] = true;
}

static struct driver_queue *queue_pick(unsigned i)
{
    return &drivers[i].queue[fuzz_pick(i == 1 || i == 3 || i == 5 ? 1 : 2)];
}

static void ring_noise(struct driver_queue *q)
{
    uint64_t span = 16ull * q->size + 6 + 2ull * q->size + 8;
    uint16_t value = (uint16_t)(fuzz_pick(2) ? fuzz_pick(8) : fuzz_wild());
    guest_write(q->desc + (fuzz_pick(span) & ~1ull), &value, sizeof(value));
}

/* The second virtual CPU. */
static void race(void)
{
    host.race = NULL;
    if (fuzz_pick(4) == 0) {
        unsigned i = (unsigned)fuzz_pick(DEVICES);
        if (found[i]) ring_noise(queue_pick(i));
    }
    host.race = race;
}

static uint16_t flags_pick(bool last, bool write)
{
    uint16_t flags = (last ? 0 : 1) | (write ? 2 : 0);
    return fuzz_pick(16) ? flags : (uint16_t)(flags ^ fuzz_pick(8));
}

/* A chain of some parts: a block request's header in front, for all. */
static void chain(struct driver *d, unsigned queue)
{
    struct driver_queue *q = &d->queue[queue];
    struct driver in_table = {.queue = {{.desc = 0x80000 + fuzz_pick(4) * 0x1000}}};
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header = {(uint32_t)(fuzz_pick(4) ? fuzz_pick(2) : fuzz_pick(16)), 0, fuzz_pick(45)};
    uint64_t data = 0x200000 + fuzz_pick(256) * 0x1000;
    unsigned n = 1 + (unsigned)fuzz_pick(5), split = (unsigned)fuzz_pick(n + 1);
    bool table = fuzz_pick(2);
    uint16_t head = q->free;
    guest_write(data, &header, sizeof(header));
    for (unsigned i = 0; i < n; i++) {
        uint16_t next = table ? (uint16_t)(i + 1) : (uint16_t)((q->free + 1) % q->size);
        uint64_t address = fuzz_pick(24) ? data + 0x1000 * i : fuzz_wild();
        uint32_t bytes = i == 0 && split ? 16 : (uint32_t)(512 * fuzz_pick(9));
        if (i + 1 == n && n > 1) bytes = 1;
        if (fuzz_pick(24) == 0) bytes = (uint32_t)fuzz_wild();
        if (fuzz_pick(24) == 0) next = (uint16_t)fuzz_wild();
        driver_desc(table ? &in_table : d, table ? 0 : queue, table ? i : q->free, address, bytes,
                    flags_pick(i + 1 == n, i >= split), next);
        if (!table) q->free = (uint16_t)((q->free + 1) % q->size);
    }
    if (table) {
        driver_desc(d, queue, head, in_table.queue[0].desc,
                    fuzz_pick(16) ? 16 * n : (uint32_t)fuzz_wild(), flags_pick(true, false) | 4, 0);
        q->free = (uint16_t)((q->free + 1) % q->size);
    }
    driver_offer(d, queue, fuzz_pick(32) ? head : (uint16_t)fuzz_wild());
}

static void outside(void)
{
    static const char text[] = "typed";
    switch (fuzz_pick(4)) {
    case 0:
        virtio_console_receive(text, sizeof(text));
        break;
    case 1:
        balloon_target(fuzz_wild());
        break;
    default:
        virtio_net_ready(&card);
    }
}

void fuzz_virtio_step(void)
{
    unsigned i = (unsigned)fuzz_pick(DEVICES);
    struct driver *d = &drivers[i];
    if (!found[i] || !d->queue[0].size || fuzz_pick(64) == 0) {
        start(i);
        return;
    }
    unsigned queue = (unsigned)(queue_pick(i) - d->queue);
    if (!d->queue[queue].size) return;
    host.race = fuzz_pick(3) ? NULL : race;
    switch (fuzz_pick(10)) {
    case 0:
        ring_noise(&d->queue[queue]);
        break;
    case 1:
        driver_common_set(d, (unsigned)fuzz_pick(64), 1u << fuzz_pick(4), fuzz_wild());
        break;
    case 2:
        outside();
        break;
    case 3:
        driver_done(d, queue);
        break;
    case 4:
        mmio_write(d->config + fuzz_pick(64), 1u << fuzz_pick(4), fuzz_wild());
        break;
    default:
        chain(d, queue);
        port_out(d->notify, 2, fuzz_pick(16) ? queue : fuzz_wild());
    }
    host.race = NULL;
}
