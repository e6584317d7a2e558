/* SPDX-License-Identifier: MIT
 *
 * A driver of the virtio disk ("VIRTIO Version 1.2", sections 2.7, 4.1, 5.2) that breaks the
 * rules of its queue, and one whose other CPU changes descriptors while the device reads
 * them. The device has to say that it needs a reset, no more, and works after one. */
#include "guest.h"

#define ENTRIES 16
#define BLOCK 0x10421af4u
#define CAP_VENDOR 9
#define CAP_COMMON 1
#define CAP_NOTIFY 2
#define RUNS 15 /* acknowledged, driver, driver OK, features OK */
#define NEEDS_RESET 64
#define NEXT 1
#define WRITE 2
#define INDIRECT 4
#define RAM_END 0x1000000u /* memory = 16 */
#define NOWHERE 0xf0000000u
#define BUFFER 8192u
#define RACE_MS 300
#define RACE_LONGEST_MS 4000 /* where the other CPU hardly gets on; below the timer's 24 bits */

/* Offsets in the common configuration: section 4.1.4.3. */
enum { ACCEPT_SELECT = 8, ACCEPT = 12, STATUS = 20, QUEUE = 22, SIZE = 24, ENABLE = 28, DESC = 32 };

struct desc {
    uint64_t address;
    uint32_t bytes;
    uint16_t flags, next;
};
static volatile struct {
    struct desc desc[ENTRIES];
    struct {
        uint16_t flags, index, ring[ENTRIES], event;
    } avail;
    struct {
        uint16_t flags, index;
        uint32_t ring[ENTRIES][2];
        uint16_t event;
    } used __attribute__((aligned(4)));
} queue __attribute__((aligned(4096)));
static volatile struct {
    uint32_t type, reserved;
    uint64_t sector;
    uint8_t data[BUFFER];
} buffer __attribute__((aligned(4096)));
static volatile struct desc table[300] __attribute__((aligned(16)));
static uint32_t common, notify;

static uint32_t address32(const volatile void *at) { return (uint32_t)at; }

/* Where the device's registers are. */
static bool disk_find(void)
{
    uint32_t slot = 1;
    while (slot < 32 && pci_get(slot, 0) != BLOCK)
        slot++;
    if (slot == 32) return false;
    pci_set(slot, 4, 7);
    for (uint32_t at = pci_get(slot, 0x34) & 0xff; at; at = pci_get(slot, at) >> 8 & 0xff) {
        uint32_t head = pci_get(slot, at), bar = pci_get(slot, at + 4) & 7;
        uint32_t place = (pci_get(slot, 0x10 + 4 * bar) & ~15u) + pci_get(slot, at + 8);
        if ((head & 0xff) != CAP_VENDOR) continue;
        if (head >> 24 == CAP_COMMON) common = place;
        if (head >> 24 == CAP_NOTIFY) notify = pci_get(slot, 0x10 + 4 * bar) & ~3u;
    }
    return common && notify;
}

static void set8(uint32_t at, uint8_t v) { *(volatile uint8_t *)at = v; }
static void set16(uint32_t at, uint16_t v) { *(volatile uint16_t *)at = v; }
static uint8_t status(void) { return *(volatile uint8_t *)(common + STATUS); }

static bool disk_start(void)
{
    set8(common + STATUS, 0);
    queue.avail.index = queue.used.index = 0;
    queue.avail.flags = 1; /* no interrupts */
    for (uint32_t half = 0; half < 2; half++) {
        set32(common + ACCEPT_SELECT, half);
        set32(common + ACCEPT, half ? 1 : 1u << 28); /* VERSION_1, INDIRECT_DESC */
    }
    set8(common + STATUS, RUNS & ~4);
    set16(common + QUEUE, 0);
    set16(common + SIZE, ENTRIES);
    const uint32_t parts[] = {address32(queue.desc), address32(&queue.avail),
                              address32(&queue.used)};
    for (unsigned i = 0; i < 3; i++) {
        set32(common + DESC + 8 * i, parts[i]);
        set32(common + DESC + 8 * i + 4, 0);
    }
    set16(common + ENABLE, 1);
    set8(common + STATUS, RUNS);
    return status() == RUNS;
}

static void desc_set(unsigned i, uint64_t address, uint32_t bytes, unsigned flags, unsigned next)
{
    queue.desc[i] = (struct desc){address, bytes, (uint16_t)flags, (uint16_t)next};
}

/* Three descriptors that read a sector. */
static void request_make(void)
{
    buffer.type = buffer.reserved = 0;
    buffer.sector = 1;
    buffer.data[512] = 0xff;
    desc_set(0, address32(&buffer), 16, NEXT, 1);
    desc_set(1, address32(buffer.data), 512, NEXT | WRITE, 2);
    desc_set(2, address32(buffer.data + 512), 1, WRITE, 0);
}

static void offer(uint16_t head)
{
    queue.avail.ring[queue.avail.index % ENTRIES] = head;
    queue.avail.index++;
    out16((uint16_t)notify, 0);
}

static bool disk_works(void)
{
    if (!disk_start()) return false;
    request_make();
    offer(0);
    return queue.used.index == 1 && buffer.data[512] == 0 && status() == RUNS;
}

/* One way to break the rules. */
static void break_rule(unsigned way)
{
    static const uint64_t beyond[] = {NOWHERE, RAM_END - 8, ~0ull - 8, 1ull << 52, 0xfee00000};
    uint16_t head = 0;
    if (way < 5) desc_set(1, beyond[way], 512, NEXT | WRITE, 2);
    if (way == 5) desc_set(1, address32(buffer.data), ~0u, NEXT | WRITE, 2);
    if (way == 6) desc_set(0, address32(&buffer), 16, NEXT, 0); /* a loop of one */
    if (way == 7) desc_set(2, address32(buffer.data), 1, NEXT | WRITE, 1); /* of two */
    if (way == 8) desc_set(1, address32(buffer.data), 512, NEXT | WRITE, ENTRIES);
    if (way == 9) desc_set(2, address32(&buffer), 1, 0, 0); /* to read, after one to write */
    if (way == 10) head = ENTRIES;
    if (way == 11) queue.avail.index = 2 * ENTRIES;
    if (way == 12) desc_set(0, address32(table), sizeof(table), INDIRECT, 0); /* overlong */
    if (way == 13) desc_set(0, address32(table), 17, INDIRECT, 0);
    if (way == 14) desc_set(0, NOWHERE, 160, INDIRECT, 0);
    if (way == 15) desc_set(0, address32(table), 160, INDIRECT | NEXT, 1);
    if (way == 16) {
        desc_set(0, address32(table), 160, INDIRECT, 0);
        table[0].flags = INDIRECT;
    }
    if (way == 17) desc_set(0, address32(&buffer), 8, NEXT, 1); /* no whole header */
    if (way == 18) desc_set(0, address32(&buffer), 16, 0, 0); /* no status */
    offer(head);
}
#define WAYS 19

bool test_queues(void)
{
    if (!disk_find()) return false;
    for (unsigned way = 0; way < WAYS; way++) {
        for (unsigned i = 0; i < 300; i++)
            table[i] = (struct desc){address32(&buffer), 1, NEXT, (uint16_t)(i + 1)};
        if (!disk_works()) return false;
        request_make();
        break_rule(way);
        if (!(status() & NEEDS_RESET) || queue.used.index != 1) return false;
        offer(0); /* a broken one does nothing */
        if (queue.used.index != 1) return false;
    }
    return disk_works();
}

/* On the second CPU: descriptors and indices change at any moment, between what is right and
 * what is not. Never to other memory of ours: the device would write there. */
static void scribble(void)
{
    static const uint32_t bytes[] = {16, 512, 1, 0, 4096, BUFFER, ~0u, 0x4000001};
    static const uint32_t places[] = {NOWHERE, RAM_END - 8, 0xffffffff, 0xfee00000};
    static uint32_t random = 1;
    for (unsigned i = 0; i < 100; i++) {
        random = random * 1664525 + 1013904223;
        uint32_t r = random >> 8;
        volatile struct desc *d = &queue.desc[r % 4];
        d->address = r & 0x70 ? address32(&buffer) : places[r >> 8 & 3];
        d->bytes = bytes[r >> 10 & 7];
        d->flags = (uint16_t)(r >> 13 & (r & 0x10000 ? 3 : 7));
        d->next = (uint16_t)(r >> 18 & 3);
        if (r % 61 == 0) queue.avail.ring[r >> 8 & 15] = (uint16_t)(r >> 16);
        if (r % 97 == 0) queue.avail.index = (uint16_t)r;
    }
}

bool test_queues_raced(void)
{
    unsigned broken = 0, served = 0;
    second_hook = scribble;
    for (uint32_t then = pm_now(), past = 0;
         past < RACE_MS || (past < RACE_LONGEST_MS && !(broken && served)); past = pm_since(then)) {
        request_make();
        buffer.type = random32() % 2 ? 0 : 8; /* a sector, or the disk's name */
        uint16_t before = queue.used.index;
        offer(0);
        served += queue.used.index != before;
        if (!(status() & NEEDS_RESET)) continue;
        broken++;
        disk_start();
    }
    second_hook = 0;
    uint32_t rounds = second_rounds;
    for (uint32_t then = pm_now(); second_rounds - rounds < 2 && pm_since(then) < RACE_LONGEST_MS;)
        ; /* it is through with its last round */
    return broken && served && disk_works();
}
