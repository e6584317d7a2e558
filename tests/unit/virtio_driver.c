/* SPDX-License-Identifier: MIT
 *
 * See virtio_driver.h. Offsets are those of "VIRTIO Version 1.2", sections 2.7 and 4.1,
 * written down here once more so that a mistake in the device's does not agree with them. */
#include <string.h>
#include "virtio_driver.h"

#define main exo_main
#include "../../vmm/vmm.h"
#undef main

#define FEATURE_EVENT 29

static uint16_t get16(uint64_t address)
{
    uint16_t value = 0;
    guest_read(address, &value, sizeof(value));
    return value;
}
static void put16(uint64_t address, uint16_t value) { guest_write(address, &value, 2); }

uint32_t driver_pci_read(unsigned slot, unsigned offset)
{
    port_out(0xcf8, 4, 0x80000000u | slot << 11 | (offset & 0xfc));
    return (uint32_t)port_in(0xcfc, 4);
}

void driver_pci_write(unsigned slot, unsigned offset, uint32_t value)
{
    port_out(0xcf8, 4, 0x80000000u | slot << 11 | (offset & 0xfc));
    port_out(0xcfc, 4, value);
}

static uint8_t pci_byte(unsigned slot, unsigned offset)
{
    return (uint8_t)(driver_pci_read(slot, offset) >> 8 * (offset % 4));
}

/* The base that a BAR has. */
static uint64_t bar(unsigned slot, unsigned index)
{
    uint32_t low = driver_pci_read(slot, 0x10 + 4 * index);
    if (low & 1) return low & ~3u;
    uint64_t high = (low & 6) == 4 ? driver_pci_read(slot, 0x14 + 4 * index) : 0;
    return high << 32 | (low & ~15u);
}

static void capability(struct driver *d, unsigned at, bool *notify)
{
    uint64_t base = bar(d->slot, pci_byte(d->slot, at + 4)) + driver_pci_read(d->slot, at + 8);
    switch (pci_byte(d->slot, at + 3)) {
    case 1:
        d->common = base;
        break;
    case 2:
        d->notify = (uint32_t)base;
        *notify = true;
        break;
    case 3:
        d->isr = base;
        break;
    case 4:
        d->config = base;
        break;
    }
}

/* All messages of the table, unmasked; then the table as a whole. */
static void msix_enable(struct driver *d, unsigned at)
{
    uint32_t control = driver_pci_read(d->slot, at), place = driver_pci_read(d->slot, at + 4);
    uint64_t table = bar(d->slot, place & 7) + (place & ~7u);
    for (unsigned i = 0; i <= (control >> 16 & 0x7ff); i++) {
        mmio_write(table + 16 * i, 4, DRIVER_MSIX);
        mmio_write(table + 16 * i + 4, 4, 0);
        mmio_write(table + 16 * i + 8, 4, 0x40 + i);
        mmio_write(table + 16 * i + 12, 4, 0);
    }
    driver_pci_write(d->slot, at, control | 0x80000000u);
}

static unsigned pci_capability(struct driver *d, unsigned id, unsigned after)
{
    unsigned at = after ? pci_byte(d->slot, after + 1) : pci_byte(d->slot, 0x34);
    for (unsigned i = 0; at && i < 48; i++, at = pci_byte(d->slot, at + 1))
        if (pci_byte(d->slot, at) == id) return at;
    return 0;
}

bool driver_find(struct driver *d, unsigned id, unsigned nth)
{
    memset(d, 0, sizeof(*d));
    for (d->slot = 0; d->slot < 32; d->slot++) {
        if (driver_pci_read(d->slot, 0) != ((0x1040 + id) << 16 | 0x1af4)) continue;
        if (nth--) continue;
        bool notify = false;
        driver_pci_write(d->slot, 4, 7); /* ports, memory, bus master */
        for (unsigned at = 0; (at = pci_capability(d, 9, at));)
            capability(d, at, &notify);
        return notify && d->common && d->isr;
    }
    return false;
}

uint64_t driver_common(struct driver *d, unsigned offset, unsigned size)
{
    uint64_t value;
    mmio_read(d->common + offset, size, &value);
    return value;
}

void driver_common_set(struct driver *d, unsigned offset, unsigned size, uint64_t value)
{
    mmio_write(d->common + offset, size, value);
}

static bool features(struct driver *d, uint64_t wanted)
{
    for (unsigned half = 0; half < 2; half++) {
        driver_common_set(d, 0, 4, half);
        d->offered |= driver_common(d, 4, 4) << 32 * half;
    }
    d->accepted = d->offered & wanted;
    for (unsigned half = 0; half < 2; half++) {
        driver_common_set(d, 8, 4, half);
        driver_common_set(d, 12, 4, (uint32_t)(d->accepted >> 32 * half));
    }
    driver_common_set(d, 20, 1, 11);
    return driver_common(d, 20, 1) == 11;
}

static bool queue_start(struct driver *d, unsigned index, uint16_t size)
{
    struct driver_queue *q = &d->queue[index];
    driver_common_set(d, 22, 2, index);
    if (size) driver_common_set(d, 24, 2, size);
    memset(q, 0, sizeof(*q));
    q->size = (uint16_t)driver_common(d, 24, 2);
    q->desc = d->next_page;
    q->avail = q->desc + 16ull * q->size;
    q->used = (q->avail + 6 + 2ull * q->size + 3) & ~3ull;
    d->next_page = (q->used + 6 + 8ull * q->size + 4095) & ~4095ull;
    void *ring = guest_ptr(q->desc, d->next_page - q->desc);
    if (!ring) return false;
    memset(ring, 0, d->next_page - q->desc);
    driver_common_set(d, 26, 2, index + 1);
    uint64_t part[3] = {q->desc, q->avail, q->used};
    for (unsigned i = 0; i < 3; i++) {
        driver_common_set(d, 32 + 8 * i, 4, (uint32_t)part[i]);
        driver_common_set(d, 36 + 8 * i, 4, part[i] >> 32);
    }
    driver_common_set(d, 28, 2, 1);
    return driver_common(d, 28, 2) == 1 && driver_common(d, 26, 2) == index + 1;
}

bool driver_start(struct driver *d, uint64_t wanted, uint16_t size, uint64_t ring_base)
{
    d->offered = 0;
    d->next_page = ring_base;
    driver_common_set(d, 20, 1, 0);
    if (driver_common(d, 20, 1)) return false;
    driver_common_set(d, 20, 1, 3);
    if (!features(d, wanted)) return false;
    unsigned at = pci_capability(d, 0x11, 0);
    if (!at) return false;
    msix_enable(d, at);
    driver_common_set(d, 16, 2, 0);
    for (unsigned i = 0; i < driver_common(d, 18, 2); i++)
        if (!queue_start(d, i, size)) return false;
    driver_common_set(d, 20, 1, 15);
    return driver_common(d, 20, 1) == 15;
}

void driver_desc(struct driver *d, unsigned queue, unsigned index, uint64_t address, uint32_t bytes,
                 uint16_t flags, uint16_t next)
{
    struct {
        uint64_t address;
        uint32_t bytes;
        uint16_t flags, next;
    } desc = {address, bytes, flags, next};
    guest_write(d->queue[queue].desc + 16ull * index, &desc, sizeof(desc));
}

void driver_offer(struct driver *d, unsigned queue, uint16_t head)
{
    struct driver_queue *q = &d->queue[queue];
    put16(q->avail + 4 + 2ull * (q->added % q->size), head);
    put16(q->avail + 2, ++q->added);
}

void driver_add(struct driver *d, unsigned queue, const struct driver_part *part, unsigned n,
                uint64_t table)
{
    struct driver_queue *q = &d->queue[queue];
    struct driver in_table = {.queue = {{.desc = table}}};
    uint16_t head = q->free;
    for (unsigned i = 0; i < n; i++) {
        uint16_t next = table ? (uint16_t)(i + 1) : (uint16_t)((q->free + 1) % q->size);
        uint16_t flags = (i + 1 < n ? 1 : 0) | (part[i].write ? 2 : 0);
        driver_desc(table ? &in_table : d, table ? 0 : queue, table ? i : q->free, part[i].address,
                    part[i].bytes, flags, next);
        if (!table) q->free = next;
    }
    if (table) {
        driver_desc(d, queue, head, table, 16 * n, 4, 0);
        q->free = (uint16_t)((q->free + 1) % q->size);
    }
    driver_offer(d, queue, head);
}

bool driver_kick(struct driver *d, unsigned queue)
{
    struct driver_queue *q = &d->queue[queue];
    if (d->accepted >> FEATURE_EVENT & 1) {
        uint16_t event = get16(q->used + 4 + 8ull * q->size), kicked = q->kicked;
        q->kicked = q->added;
        if ((uint16_t)(q->added - event - 1) >= (uint16_t)(q->added - kicked)) return false;
    } else if (get16(q->used) & 1) {
        return false;
    }
    port_out(d->notify, 2, queue);
    return true;
}

int64_t driver_done(struct driver *d, unsigned queue)
{
    struct driver_queue *q = &d->queue[queue];
    uint32_t bytes = 0;
    if (get16(q->used + 2) == q->seen) return -1;
    guest_read(q->used + 4 + 8ull * (q->seen % q->size) + 4, &bytes, 4);
    q->seen++;
    if (d->accepted >> FEATURE_EVENT & 1)
        put16(q->avail + 4 + 2ull * q->size, q->seen); /* tell me of the next one */
    return bytes;
}
