/* SPDX-License-Identifier: MIT
 *
 * A driver of virtio devices over PCI, as a guest has one, for tests on this machine: it
 * finds its device by configuration space, reaches it through ports and device memory, and
 * has its rings in the guest's RAM. Well behaved where it is not asked to be otherwise. */
#ifndef VIRTIO_DRIVER_H
#define VIRTIO_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DRIVER_QUEUES 3
#define DRIVER_MSIX 0xfee01000u /* where its messages go: entry i has data 0x40 + i */

struct driver_queue {
    uint16_t size;
    uint64_t desc, avail, used; /* guest-physical */
    uint16_t added, kicked, seen; /* chains made available, told of; used entries looked at */
    uint16_t free; /* next descriptor to take, in turn */
};
struct driver {
    unsigned slot; /* PCI device number on bus 0 */
    uint64_t common, isr, config; /* addresses in device memory */
    uint32_t notify; /* port */
    uint64_t offered, accepted;
    uint64_t next_page; /* guest memory for rings, from here up */
    struct driver_queue queue[DRIVER_QUEUES];
};
struct driver_part { /* of a request */
    uint64_t address;
    uint32_t bytes;
    bool write; /* by the device */
};

uint32_t driver_pci_read(unsigned slot, unsigned offset);
void driver_pci_write(unsigned slot, unsigned offset, uint32_t value);
/* Finds the nth device with that virtio id and everything it says of itself. */
bool driver_find(struct driver *d, unsigned id, unsigned nth);
/* Reset, features (those offered of `wanted`), rings with `size` entries (0: the device's
 * number) from ring_base up, MSI-X, DRIVER_OK; false when the device disagrees. */
bool driver_start(struct driver *d, uint64_t wanted, uint16_t size, uint64_t ring_base);
uint64_t driver_common(struct driver *d, unsigned offset, unsigned size);
void driver_common_set(struct driver *d, unsigned offset, unsigned size, uint64_t value);

/* Makes one chain available, as a table of its own at `table` (guest-physical) if that is
 * not 0. */
void driver_add(struct driver *d, unsigned queue, const struct driver_part *part, unsigned n,
                uint64_t table);
/* Writes one descriptor. */
void driver_desc(struct driver *d, unsigned queue, unsigned index, uint64_t address, uint32_t bytes,
                 uint16_t flags, uint16_t next);
/* Makes descriptor `head` available as it is. */
void driver_offer(struct driver *d, unsigned queue, uint16_t head);
/* Rings the doorbell unless the device wants none; whether it did. */
bool driver_kick(struct driver *d, unsigned queue);
/* The next used entry's length, or -1: none. */
int64_t driver_done(struct driver *d, unsigned queue);
#endif
