/* SPDX-License-Identifier: MIT
 *
 * The monitor's virtio devices on this machine, behind a driver model: what they do for a
 * well-behaved driver, and that a malformed queue breaks its device, nothing else, until
 * the driver resets it. */
#include "vmm_host.c"
#include "virtio_driver.c"
#include "../../vmm/packet.h"

#define RINGS 0x100000u /* guest memory for rings, tables and data */
#define TABLE 0x180000u
#define DATA 0x200000u
#define COMMON_FEATURES (1ull << 28 | 1ull << 29 | 1ull << 32)
#define ALL_FEATURES (~0ull)
#define NEEDS_RESET 64

enum { NET = 1, BLOCK = 2, CONSOLE = 3, ENTROPY = 4, BALLOON = 5 };

/* ---- what the devices act on --------------------------------------------------------------- */

#define DISK_BYTES (1u << 20)
static uint8_t image[DISK_BYTES], image_ro[4096 + 100];
static struct vm_io counted;
static struct disk disk = {image, sizeof(image), false, "first", &counted};
static struct disk disk_ro = {image_ro, sizeof(image_ro), true, "second", NULL};

/* The peer of a card: keeps what was sent, gives what it is told to. */
static struct peer {
    uint8_t sent[EXO_PACKET_MAX];
    size_t sent_bytes, sends;
    bool full;
    _Alignas(8) uint8_t given[EXO_PACKET_MAX];
    size_t given_bytes;
} peer;
static bool peer_send(void *self, const void *packet, size_t n)
{
    struct peer *p = self;
    if (p->full) return false;
    memcpy(p->sent, packet, n);
    p->sent_bytes = n;
    p->sends++;
    return true;
}
static size_t peer_receive(void *self, void *packet, size_t max)
{
    struct peer *p = self;
    size_t n = p->given_bytes;
    EXPECT(n <= max);
    memcpy(packet, p->given, n);
    p->given_bytes = 0;
    return n;
}
static struct card card = {{2, 0, 0, 1, 2, 3}, &peer, 0, peer_send, peer_receive};

static void devices_make(void)
{
    host_reset();
    pci_init();
    virtio_blk_add(&disk);
    virtio_blk_add(&disk_ro);
    virtio_net_add(&card);
    virtio_rng_add();
    virtio_console_add();
    virtio_balloon_add();
}

/* ---- the block device ------------------------------------------------------------------------ */

static void blk_add(struct driver *d, uint32_t type, uint64_t sector, uint32_t bytes, bool in,
                    uint64_t table)
{
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header = {type, 0, sector};
    guest_write(DATA, &header, sizeof(header));
    memset(guest_ptr(DATA + 16, 1), 0xee, 1);
    struct driver_part part[] = {{DATA, 16, false}, {DATA + 4096, bytes, in}, {DATA + 16, 1, true}};
    driver_add(d, 0, part, 3, table);
}

static int blk_do(struct driver *d, uint32_t type, uint64_t sector, uint32_t bytes, bool in)
{
    blk_add(d, type, sector, bytes, in, TABLE);
    driver_kick(d, 0);
    EXPECT(driver_done(d, 0) >= 0);
    return *(uint8_t *)guest_ptr(DATA + 16, 1);
}

static void test_block(void)
{
    struct driver d;
    devices_make();
    for (unsigned i = 0; i < DISK_BYTES; i++)
        image[i] = (uint8_t)(i * 7 + i / 512);
    EXPECT(driver_find(&d, BLOCK, 0) && driver_start(&d, ALL_FEATURES, 0, RINGS));
    EXPECT(d.queue[0].size == 256);
    EXPECT((d.accepted & COMMON_FEATURES) == COMMON_FEATURES);
    uint64_t sectors;
    mmio_read(d.config, 8, &sectors);
    EXPECT(sectors == DISK_BYTES / 512);
    uint8_t *data = guest_ptr(DATA + 4096, 65536);
    EXPECT(blk_do(&d, 0, 8, 8192, true) == 0 && !memcmp(data, image + 4096, 8192));
    EXPECT(host.sent[0x41] == 1);
    memset(data, 0x5a, 1024);
    EXPECT(blk_do(&d, 1, 2, 1024, false) == 0 && image[1024] == 0x5a && image[2047] == 0x5a);
    EXPECT(image[1023] != 0x5a && image[2048] != 0x5a);
    EXPECT(counted.in == 1 && counted.in_bytes == 8192);
    EXPECT(counted.out == 1 && counted.out_bytes == 1024);
    EXPECT(blk_do(&d, 4, 0, 0, false) == 0); /* flush */
    EXPECT(blk_do(&d, 8, 0, 20, true) == 0 && !strcmp((char *)data, "first"));
    struct {
        uint64_t sector;
        uint32_t sectors, flags;
    } range = {4, 2, 0};
    memcpy(data, &range, sizeof(range));
    EXPECT(blk_do(&d, 13, 0, sizeof(range), false) == 0 && !image[2048] && !image[3071]);
    EXPECT(image[3072]);
    EXPECT(blk_do(&d, 0, sectors, 512, true) == 1); /* beyond the end */
    EXPECT(blk_do(&d, 0, sectors - 1, 1024, true) == 1);
    EXPECT(blk_do(&d, 0, ~0ull, 512, true) == 1);
    EXPECT(blk_do(&d, 0, 0, 100, true) == 1); /* no whole sector */
    EXPECT(blk_do(&d, 99, 0, 512, true) == 2);
    EXPECT(host.sent[0x41] == 10);
}

static void test_block_read_only(void)
{
    struct driver d;
    devices_make();
    EXPECT(driver_find(&d, BLOCK, 1) && driver_start(&d, ALL_FEATURES, 0, RINGS));
    EXPECT(d.offered & 1u << 5);
    uint64_t sectors;
    mmio_read(d.config, 8, &sectors);
    EXPECT(sectors == 8); /* 100 bytes are no sector */
    memset(guest_ptr(DATA + 4096, 512), 0x77, 512);
    EXPECT(blk_do(&d, 1, 0, 512, false) == 1 && image_ro[0] != 0x77);
    EXPECT(blk_do(&d, 13, 0, 16, false) == 1);
    EXPECT(blk_do(&d, 0, 7, 512, true) == 0);
    EXPECT(blk_do(&d, 0, 8, 512, true) == 1);
}

/* Many requests, small queues, chains without tables, with and without the event index:
 * every request is answered, whatever the indices' wrap-around. */
static void test_block_many(void)
{
    static const uint64_t features[] = {COMMON_FEATURES, 1ull << 32, 1ull << 32 | 1ull << 28};
    struct driver d;
    for (unsigned f = 0; f < 3; f++) {
        devices_make();
        EXPECT(driver_find(&d, BLOCK, 0) && driver_start(&d, features[f], 8, RINGS));
        unsigned bad = 0;
        for (unsigned i = 0; i < 70000; i++) {
            blk_add(&d, 0, i % 1024, 512, true, d.accepted >> 28 & 1 ? TABLE : 0);
            driver_kick(&d, 0);
            bad += driver_done(&d, 0) != 513 || *(uint8_t *)guest_ptr(DATA + 16, 1) != 0 ||
                   memcmp(guest_ptr(DATA + 4096, 512), image + 512 * (i % 1024), 512) != 0;
        }
        EXPECT(!bad && driver_done(&d, 0) == -1);
        EXPECT(host.sent[0x41] == 70000);
        EXPECT(driver_common(&d, 20, 1) == 15);
    }
}

/* Interrupts that the driver does not want are not sent; one is for a whole batch. */
static void test_event_index(void)
{
    struct driver d;
    devices_make();
    EXPECT(driver_find(&d, BLOCK, 0) && driver_start(&d, COMMON_FEATURES, 0, RINGS));
    for (unsigned i = 0; i < 5; i++)
        blk_add(&d, 0, i, 512, true, 0);
    EXPECT(driver_kick(&d, 0));
    EXPECT(host.sent[0x41] == 1);
    for (unsigned i = 0; i < 5; i++)
        EXPECT(driver_done(&d, 0) == 513);
    uint16_t never = 100;
    guest_write(d.queue[0].avail + 4 + 2ull * d.queue[0].size, &never, 2);
    blk_add(&d, 0, 0, 512, true, 0);
    EXPECT(driver_kick(&d, 0) && host.sent[0x41] == 1);
}

/* ---- malformed queues -------------------------------------------------------------------------- */

enum { D_NEXT = 1, D_WRITE = 2, D_INDIRECT = 4 };

static struct driver bad;
static void bad_start(void)
{
    devices_make();
    EXPECT(driver_find(&bad, BLOCK, 0) && driver_start(&bad, COMMON_FEATURES, 16, RINGS));
}

/* The device says that it needs a reset, has told the driver, has answered nothing, does
 * nothing more, and works again after a reset. */
static void bad_expect(const char *what)
{
    driver_offer(&bad, 0, 0);
    port_out(bad.notify, 2, 0);
    if (!(driver_common(&bad, 20, 1) & NEEDS_RESET) || driver_done(&bad, 0) != -1 ||
        !host.sent[0x40]) {
        printf("  not refused: %s\n", what);
        host_failures++;
    }
    EXPECT(driver_start(&bad, COMMON_FEATURES, 16, RINGS));
    EXPECT(blk_do(&bad, 0, 8, 512, true) == 0);
    bad_start();
}

static void test_malformed(void)
{
    uint64_t end = guest_ram_low();
    bad_start();
    driver_desc(&bad, 0, 0, DATA, 16, D_NEXT, 1);
    driver_desc(&bad, 0, 1, DATA, 16, D_NEXT, 0);
    bad_expect("a loop");
    driver_desc(&bad, 0, 0, DATA, 16, D_NEXT, 0);
    bad_expect("a descriptor that is its own next");
    driver_desc(&bad, 0, 0, DATA, 0, D_NEXT, 0);
    bad_expect("a loop of no bytes");
    driver_desc(&bad, 0, 0, DATA, 16, D_NEXT, 16);
    bad_expect("a next one beyond the queue");
    driver_desc(&bad, 0, 0, end - 8, 16, 0, 0);
    bad_expect("an address across the end of memory");
    driver_desc(&bad, 0, 0, ~0ull - 7, 16, 0, 0);
    bad_expect("an address that wraps");
    driver_desc(&bad, 0, 0, VM_LAPIC, 16, 0, 0);
    bad_expect("an address of a device");
    driver_desc(&bad, 0, 0, 0, 0xffffffff, 0, 0);
    bad_expect("a length of 4 GiB");
    driver_desc(&bad, 0, 0, DATA, 16, D_WRITE | D_NEXT, 1);
    driver_desc(&bad, 0, 1, DATA, 16, 0, 0);
    bad_expect("to be read after to be written");
    driver_desc(&bad, 0, 0, DATA, 16, 0, 0);
    bad_expect("a request without a status");
    driver_desc(&bad, 0, 0, DATA, 16, D_WRITE, 0);
    bad_expect("a request without a header");
    driver_desc(&bad, 0, 0, TABLE, 24, D_INDIRECT, 0);
    bad_expect("a table of no whole descriptors");
    driver_desc(&bad, 0, 0, TABLE, 0, D_INDIRECT, 0);
    bad_expect("an empty table");
    driver_desc(&bad, 0, 0, end - 16, 32, D_INDIRECT, 0);
    bad_expect("a table beyond memory");
    driver_desc(&bad, 0, 0, TABLE, 16, D_INDIRECT | D_NEXT, 1);
    bad_expect("a table that goes on");
    driver_desc(&bad, 0, 0, bad.queue[0].desc, 16, D_INDIRECT, 0);
    bad_expect("a table in a table");
    driver_offer(&bad, 0, 16);
    bad_expect("a head beyond the queue");
    bad.queue[0].added += 1000;
    bad_expect("an index too far");
}

/* A table with more entries than any queue has, each of them good. */
static void test_overlong(void)
{
    bad_start();
    struct driver in_table = {.queue = {{.desc = TABLE}}};
    for (unsigned i = 0; i < 300; i++)
        driver_desc(&in_table, 0, i, DATA, 1, i < 299 ? D_NEXT : 0, (uint16_t)(i + 1));
    driver_desc(&bad, 0, 0, TABLE, 16 * 300, D_INDIRECT, 0);
    bad_expect("an overlong chain");
    for (unsigned i = 0; i < 16; i++)
        driver_desc(&bad, 0, i, 0, 0x4000000, i < 15 ? D_NEXT : 0, (uint16_t)(i + 1));
    bad_expect("more bytes than a request may have");
}

static void test_refused_setup(void)
{
    struct driver d;
    devices_make();
    EXPECT(driver_find(&d, BLOCK, 0));
    EXPECT(!driver_start(&d, 1ull << 28, 0, RINGS)); /* no VERSION_1 */
    EXPECT(!driver_start(&d, COMMON_FEATURES, 24, RINGS)); /* no power of two */
    EXPECT(driver_common(&d, 20, 1) & NEEDS_RESET);
    EXPECT(!driver_start(&d, COMMON_FEATURES, 512, RINGS));
    EXPECT(!driver_start(&d, COMMON_FEATURES, 0, guest_ram_low() - 4096));
    driver_common_set(&d, 20, 1, 0);
    driver_common_set(&d, 20, 1, 3);
    driver_common_set(&d, 8, 4, 1); /* a feature that was not offered */
    driver_common_set(&d, 12, 4, 0x81);
    driver_common_set(&d, 20, 1, 11);
    EXPECT(driver_common(&d, 20, 1) == 3);
    driver_common_set(&d, 22, 2, 7); /* a queue that is not there */
    EXPECT(driver_common(&d, 24, 2) == 0);
    driver_common_set(&d, 28, 2, 1);
    port_out(d.notify, 2, 7);
    EXPECT(driver_start(&d, COMMON_FEATURES, 0, RINGS));
    EXPECT(blk_do(&d, 0, 0, 512, true) == 0);
    /* Rings cannot move while they are used. */
    driver_common_set(&d, 32, 4, 0);
    EXPECT(driver_common(&d, 32, 4) == (uint32_t)d.queue[0].desc);
}

/* ---- entropy, console, balloon ---------------------------------------------------------------------- */

static void test_entropy(void)
{
    struct driver d;
    devices_make();
    EXPECT(driver_find(&d, ENTROPY, 0) && driver_start(&d, ALL_FEATURES, 0, RINGS));
    struct driver_part part[] = {{DATA, 1000, true}, {DATA + 5000, 1001, true}};
    memset(guest_ptr(DATA, 8192), 0, 8192);
    driver_add(&d, 0, part, 2, 0);
    EXPECT(driver_kick(&d, 0) && driver_done(&d, 0) == 2001);
    const uint8_t *data = guest_ptr(DATA, 8192);
    unsigned ones = 0, outside = 0;
    for (unsigned i = 0; i < 8192; i++) {
        bool inside = i < 1000 || (i >= 5000 && i < 6001);
        ones += inside ? (unsigned)__builtin_popcount(data[i]) : 0;
        outside += !inside && data[i];
    }
    EXPECT(ones > 7600 && ones < 8400 && !outside);
    EXPECT(memcmp(data, data + 5000, 64) != 0);
    part[0].bytes = 1 << 20; /* more than is given at once */
    driver_add(&d, 0, part, 1, 0);
    driver_kick(&d, 0);
    int64_t n = driver_done(&d, 0);
    EXPECT(n >= 1 && n < 1 << 20);
}

static void test_console(void)
{
    struct driver d;
    devices_make();
    virtio_console_receive("lost", 4); /* nobody is there yet */
    EXPECT(!virtio_console_live());
    EXPECT(driver_find(&d, CONSOLE, 0) && driver_start(&d, ALL_FEATURES, 0, RINGS));
    size_t room = virtio_console_room();
    EXPECT(virtio_console_live() && room);
    struct driver_part in[] = {{DATA, 3, true}};
    driver_add(&d, 0, in, 1, 0);
    driver_kick(&d, 0);
    EXPECT(driver_done(&d, 0) == -1);
    virtio_console_receive("hello", 5);
    EXPECT(driver_done(&d, 0) == 3 && !memcmp(guest_ptr(DATA, 3), "hel", 3));
    EXPECT(virtio_console_room() == room - 2);
    in[0].bytes = 10;
    driver_add(&d, 0, in, 1, 0);
    driver_kick(&d, 0);
    EXPECT(driver_done(&d, 0) == 2 && !memcmp(guest_ptr(DATA, 2), "lo", 2));
    struct driver_part out[] = {{DATA, 4, false}, {DATA + 100, 4, false}};
    guest_write(DATA, "abcd", 4);
    guest_write(DATA + 100, "efg\n", 4);
    driver_add(&d, 1, out, 2, 0);
    EXPECT(driver_kick(&d, 1) && driver_done(&d, 1) == 0);
    EXPECT(host.console_bytes == 8 && !memcmp(host.console, "abcdefg\n", 8));
}

static void test_balloon(void)
{
    struct driver d;
    devices_make();
    EXPECT(driver_find(&d, BALLOON, 0) && driver_start(&d, ALL_FEATURES, 0, RINGS));
    balloon_target(50);
    uint64_t wanted;
    mmio_read(d.config, 4, &wanted);
    EXPECT(wanted == 50 && host.sent[0x40] == 1);
    uint32_t page[] = {0x300, 0x301, RINGS >> 12, 0xfee00, 0xffffffff};
    guest_write(DATA, page, sizeof(page));
    struct driver_part part[] = {{DATA, sizeof(page), false}};
    host.given = 0;
    driver_add(&d, 0, part, 1, 0);
    driver_kick(&d, 0);
    EXPECT(driver_done(&d, 0) == 0 && host.given == 2); /* no rings, nothing beyond memory */
    mmio_write(d.config + 4, 4, 2);
    EXPECT(balloon_pages() == 2);
    driver_add(&d, 1, part, 1, 0);
    driver_kick(&d, 1);
    EXPECT(driver_done(&d, 1) == 0 && host.given == 2);
}

/* ---- the network device ------------------------------------------------------------------------------ */

#define NET_FEATURES (COMMON_FEATURES | 1ull << 5)
#define F_CSUM (1ull << 0 | 1ull << 1)
#define F_GUEST_TSO (1ull << 7 | 1ull << 8)
#define F_MRG (1ull << 15)
#define HEADER 12u

static void peer_give(const struct exo_packet *header, size_t frame_bytes)
{
    struct exo_packet *packet = (struct exo_packet *)peer.given;
    *packet = *header;
    for (size_t i = 0; i < frame_bytes; i++)
        packet->frame[i] = (uint8_t)(i * 3 + 1);
    peer.given_bytes = sizeof(*packet) + frame_bytes;
}

static void net_start(struct driver *d, uint64_t features)
{
    memset(&peer, 0, sizeof(peer));
    card.max = EXO_PACKET_MAX;
    devices_make();
    EXPECT(driver_find(d, NET, 0) && driver_start(d, features, 0, RINGS));
}

static void rx_add(struct driver *d, uint64_t address, uint32_t bytes)
{
    struct driver_part part = {address, bytes, true};
    driver_add(d, 0, &part, 1, 0);
    driver_kick(d, 0);
}

static void test_net_send(void)
{
    struct driver d;
    net_start(&d, ALL_FEATURES);
    uint8_t mac[6];
    for (unsigned i = 0; i < 6; i++) {
        uint64_t byte;
        mmio_read(d.config + i, 1, &byte);
        mac[i] = (uint8_t)byte;
    }
    EXPECT(!memcmp(mac, card.mac, 6));
    uint8_t *data = guest_ptr(DATA, 70000);
    for (unsigned i = 0; i < 70000; i++)
        data[i] = (uint8_t)(i < HEADER ? 0 : i * 5);
    struct driver_part whole[] = {{DATA, HEADER + 60, false}};
    struct driver_part parts[] = {
        {DATA, HEADER, false}, {DATA + HEADER, 14, false}, {DATA + HEADER + 14, 65000, false}};
    driver_add(&d, 1, whole, 1, 0);
    EXPECT(driver_kick(&d, 1) && driver_done(&d, 1) == 0);
    EXPECT(peer.sent_bytes == HEADER + 60 && !memcmp(peer.sent, data, HEADER + 60));
    driver_add(&d, 1, parts, 3, TABLE);
    driver_kick(&d, 1);
    EXPECT(driver_done(&d, 1) == 0 && peer.sent_bytes == HEADER + 65014);
    EXPECT(!memcmp(peer.sent, data, HEADER + 65014));
    whole[0].bytes = HEADER + 13; /* no frame: passed over */
    driver_add(&d, 1, whole, 1, 0);
    whole[0].bytes = EXO_PACKET_MAX + 1;
    driver_add(&d, 1, whole, 1, 0);
    driver_kick(&d, 1);
    EXPECT(driver_done(&d, 1) == 0 && driver_done(&d, 1) == 0 && peer.sends == 2);
    /* A peer without room: packets wait, in order, until there is some. */
    peer.full = true;
    whole[0].bytes = HEADER + 20;
    driver_add(&d, 1, whole, 1, 0);
    whole[0].bytes = HEADER + 21;
    driver_add(&d, 1, whole, 1, 0);
    driver_kick(&d, 1);
    EXPECT(driver_done(&d, 1) == -1);
    peer.full = false;
    virtio_net_ready(&card);
    EXPECT(driver_done(&d, 1) == 0 && driver_done(&d, 1) == 0 && peer.sends == 4);
    EXPECT(peer.sent_bytes == HEADER + 21);
}

static void net_send(struct driver *d)
{
    struct driver_part part = {DATA, HEADER + 60, false};
    driver_add(d, 1, &part, 1, 0);
    EXPECT(driver_kick(d, 1));
}

/* The interrupt for what was sent comes late, once, or not at all; but it comes. */
static void test_net_told(void)
{
    struct driver d;
    net_start(&d, NET_FEATURES);
    net_send(&d);
    EXPECT(driver_done(&d, 1) == 0);
    host_advance(1000000);
    EXPECT(!host.sent[0x42]); /* taken back before */
    net_send(&d), net_send(&d);
    EXPECT(!host.sent[0x42]);
    host_advance(1000000);
    EXPECT(host.sent[0x42] == 1);
    EXPECT(driver_done(&d, 1) == 0 && driver_done(&d, 1) == 0);
    for (unsigned i = 0; i < d.queue[1].size / 2; i++)
        net_send(&d);
    EXPECT(host.sent[0x42] == 2); /* at once: the queue is half full */
    while (driver_done(&d, 1) == 0)
        ;
    net_send(&d);
    driver_common_set(&d, 20, 1, 0);
    host_advance(1000000);
    EXPECT(host.sent[0x42] == 2); /* a reset device tells nothing */
}

static void test_net_receive(void)
{
    static const struct exo_packet plain;
    struct driver d;
    net_start(&d, NET_FEATURES | F_MRG);
    uint8_t *data = guest_ptr(DATA, 65536);
    peer_give(&plain, 1000); /* waits for a buffer */
    virtio_net_ready(&card);
    EXPECT(driver_done(&d, 0) == -1);
    rx_add(&d, DATA, 2048);
    EXPECT(driver_done(&d, 0) == HEADER + 1000);
    EXPECT(!memcmp(data + HEADER, peer.given + HEADER, 1000) && data[10] == 1 && !data[11]);
    for (unsigned i = 0; i < 3; i++) /* one packet over three buffers */
        rx_add(&d, DATA + 4096 * i, 500);
    peer_give(&plain, 1400);
    virtio_net_ready(&card);
    EXPECT(driver_done(&d, 0) == 500 && driver_done(&d, 0) == 500 && driver_done(&d, 0) == 412);
    EXPECT(data[10] == 3 && !memcmp(data + 4096, peer.given + 500, 500));
    EXPECT(!memcmp(data + 8192, peer.given + 1000, 412));
    rx_add(&d, DATA, 500); /* too few: nothing is given out, then all of it */
    peer_give(&plain, 600);
    virtio_net_ready(&card);
    EXPECT(driver_done(&d, 0) == -1);
    rx_add(&d, DATA + 4096, 500);
    EXPECT(driver_done(&d, 0) == 500 && driver_done(&d, 0) == 112 && data[10] == 2);
    EXPECT(driver_common(&d, 20, 1) == 15);
}

/* Without buffers that can be joined, a packet that does not fit is dropped. */
static void test_net_receive_plain(void)
{
    static const struct exo_packet plain;
    struct driver d;
    net_start(&d, NET_FEATURES);
    rx_add(&d, DATA, 1024);
    peer_give(&plain, 2000);
    virtio_net_ready(&card);
    EXPECT(driver_done(&d, 0) == -1);
    peer_give(&plain, 100);
    virtio_net_ready(&card);
    EXPECT(driver_done(&d, 0) == HEADER + 100);
    struct exo_packet wrong = {.flags = 1, .checksum_start = 99, .checksum_at = 0};
    rx_add(&d, DATA, 1024);
    peer_give(&wrong, 100); /* a header that cannot be: dropped */
    virtio_net_ready(&card);
    EXPECT(driver_done(&d, 0) == -1);
    rx_add(&d, DATA, 4); /* no room for a header */
    peer_give(&plain, 100);
    virtio_net_ready(&card);
    EXPECT(driver_done(&d, 0) == HEADER + 100);
    peer_give(&plain, 100);
    virtio_net_ready(&card);
    EXPECT(driver_common(&d, 20, 1) & NEEDS_RESET);
}

/* A large TCP packet: as it is for a guest that takes it, in segments for another. */
static void test_net_large(void)
{
    struct exo_packet large = {.flags = EXO_PACKET_CHECKSUM,
                               .segments = EXO_PACKET_TCP4,
                               .segment_bytes = 1448,
                               .checksum_start = 34,
                               .checksum_at = 16};
    for (unsigned offload = 0; offload < 2; offload++) {
        struct driver d;
        net_start(&d, NET_FEATURES | F_MRG | (offload ? F_CSUM | F_GUEST_TSO : 0));
        for (unsigned i = 0; i < 40; i++)
            rx_add(&d, DATA + 4096 * i, 2048);
        peer_give(&large, 34 + 20 + 10000);
        struct exo_packet *packet = (struct exo_packet *)peer.given;
        packet->frame[12] = 8;
        packet->frame[13] = 0;
        packet->frame[34 + 12] = 0x50;
        virtio_net_ready(&card);
        const uint8_t *data = guest_ptr(DATA, 4096);
        int64_t bytes = 0, n;
        unsigned buffers = 0;
        for (; (n = driver_done(&d, 0)) >= 0; buffers++)
            bytes += n;
        EXPECT(buffers == (offload ? 5 : 7));
        EXPECT(bytes == (offload ? HEADER + 54 + 10000 : 10000 + 7 * (HEADER + 54)));
        EXPECT(data[1] == (offload ? EXO_PACKET_TCP4 : 0) && data[10] == (offload ? 5 : 1));
    }
}

/* ---- the transport ------------------------------------------------------------------------------------- */

/* A queue longer than one turn is worked off by the timer; the lock is not held for ever. */
static void test_turns(void)
{
    struct driver d;
    net_start(&d, NET_FEATURES);
    struct driver_part part = {DATA, HEADER + 20, false};
    for (unsigned i = 0; i < 256; i++)
        driver_add(&d, 1, &part, 1, 0);
    /* Another virtual CPU adds more while we work: as if it had, before we began. */
    driver_kick(&d, 1);
    EXPECT(peer.sends == 256);
    unsigned done = 0;
    while (driver_done(&d, 1) == 0)
        done++;
    EXPECT(done == 256);
}

/* Without MSI-X the line rises, and reading the ISR lowers it. */
static void test_line(void)
{
    struct driver d;
    devices_make();
    EXPECT(driver_find(&d, ENTROPY, 0) && driver_start(&d, 1ull << 32, 0, RINGS));
    for (unsigned at = 0x40; at < 0x100; at += 4) /* MSI-X off again */
        if ((driver_pci_read(d.slot, at) & 0xff) == 0x11 &&
            driver_pci_read(d.slot, at) & 0x80000000u)
            driver_pci_write(d.slot, at, driver_pci_read(d.slot, at) & 0x7fffffff);
    struct driver_part part = {DATA, 8, true};
    driver_add(&d, 0, &part, 1, 0);
    EXPECT(driver_kick(&d, 0) && driver_done(&d, 0) == 8);
    unsigned gsi = driver_pci_read(d.slot, 0x3c) & 0xff;
    EXPECT(host.line[gsi] && !host.sent[0x41]);
    uint64_t isr;
    mmio_read(d.isr, 1, &isr);
    EXPECT((isr & 0xff) == 1 && !host.line[gsi]);
    mmio_read(d.isr, 1, &isr);
    EXPECT((isr & 0xff) == 0);
}

/* The BARs through configuration space: section 4.1.4.9. */
static void test_window(void)
{
    struct driver d;
    devices_make();
    EXPECT(driver_find(&d, BLOCK, 0));
    unsigned at = driver_pci_read(d.slot, 0x34) & 0xff;
    while (at && (driver_pci_read(d.slot, at) & 0xff0000ff) != 0x05000009)
        at = driver_pci_read(d.slot, at) >> 8 & 0xff;
    EXPECT(at != 0);
    driver_pci_write(d.slot, at + 4, 2); /* the memory BAR */
    driver_pci_write(d.slot, at + 8, 20); /* the status */
    driver_pci_write(d.slot, at + 12, 1);
    driver_pci_write(d.slot, at + 16, 3);
    EXPECT(driver_common(&d, 20, 1) == 3 && driver_pci_read(d.slot, at + 16) == 3);
    driver_pci_write(d.slot, at + 8, 0xfffffffe); /* outside: nothing happens */
    driver_pci_write(d.slot, at + 16, 0);
    driver_pci_write(d.slot, at + 4, 9);
    driver_pci_write(d.slot, at + 16, 0);
    EXPECT(driver_common(&d, 20, 1) == 3);
}

/* All devices are as new after the machine was reset. */
static void test_reset(void)
{
    struct driver d;
    net_start(&d, ALL_FEATURES);
    rx_add(&d, DATA, 2048);
    devices_make();
    EXPECT(driver_find(&d, NET, 0) && driver_common(&d, 20, 1) == 0);
    EXPECT(driver_common(&d, 28, 2) == 0 && driver_common(&d, 32, 8) == 0);
    virtio_net_ready(&card);
    EXPECT(driver_start(&d, ALL_FEATURES, 0, RINGS));
    struct driver other;
    EXPECT(driver_find(&other, BLOCK, 1) && !driver_find(&other, BLOCK, 2));
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
        {"virtio: block", test_block},
        {"virtio: block, read-only", test_block_read_only},
        {"virtio: block, 70000 requests", test_block_many},
        {"virtio: event index", test_event_index},
        {"virtio: malformed queues", test_malformed},
        {"virtio: overlong chains", test_overlong},
        {"virtio: refused set-up", test_refused_setup},
        {"virtio: entropy", test_entropy},
        {"virtio: console", test_console},
        {"virtio: balloon", test_balloon},
        {"virtio: network, send", test_net_send},
        {"virtio: network, told what was sent", test_net_told},
        {"virtio: network, receive", test_net_receive},
        {"virtio: network, receive into single buffers", test_net_receive_plain},
        {"virtio: network, large packets", test_net_large},
        {"virtio: turns", test_turns},
        {"virtio: interrupt line", test_line},
        {"virtio: window in configuration space", test_window},
        {"virtio: reset", test_reset},
    };
    for (unsigned i = 0; i < EXO_COUNT(tests); i++)
        host_test(tests[i].name, tests[i].run);
    return host_status();
}
