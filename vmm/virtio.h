/* SPDX-License-Identifier: MIT
 *
 * What virtio devices have in common: the PCI transport and the split rings of "Virtual
 * I/O Device (VIRTIO) Version 1.2" (sections named below), for the device files only.
 *
 * A device is one struct virtio, static in its file. All functions run under the device
 * lock; what the driver writes into guest memory can change at any moment, so each value
 * is fetched once. A queue that breaks the rules sets DEVICE_NEEDS_RESET and is left alone
 * until the driver resets the device.
 */
#ifndef VMM_VIRTIO_H
#define VMM_VIRTIO_H

#include "vmm.h"
#include "pci.h"

#define VIRTIO_QUEUES 3
#define VIRTIO_QUEUE_SIZE 256 /* entries of a queue at most, a power of two */
#define VIRTIO_CHAIN_BYTES 0x4000000u /* of one chain at most, either way */

/* Feature bits of every device: section 6. */
#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX (1ull << 29)
#define VIRTIO_F_VERSION_1 (1ull << 32)

struct virtio;

/* What makes a device its kind. */
struct virtio_kind {
    const char *name;
    uint16_t id; /* section 5: 1 network, 2 block ... */
    uint32_t pci_class; /* class, subclass, interface: 24 bits */
    unsigned queues;
    uint64_t features; /* its own; the common ones are added */
    uint32_t config_bytes; /* of device->config that the driver can read */
    /* There may be chains in that queue. */
    void (*work)(struct virtio *device, unsigned queue);
    /* The driver wrote to the device's configuration; NULL: it cannot. */
    void (*config_write)(struct virtio *device, uint64_t offset, unsigned size, uint64_t value);
    /* The driver reset it; NULL: nothing of its own to forget. */
    void (*reset)(struct virtio *device);
};

struct virtio_desc;
struct virtio_used;
struct virtio_queue {
    struct virtio *device;
    bool enabled;
    uint16_t size; /* entries; a power of two while enabled */
    uint16_t vector; /* MSI-X */
    uint16_t next; /* chains taken so far: index of the available ring */
    uint16_t done; /* chains given back, published or not */
    uint16_t told; /* used index when an interrupt was last thought of */
    uint32_t budget; /* chains that this turn may still take */
    uint64_t desc_at, avail_at, used_at; /* guest-physical */
    /* The same in our space while enabled. A page of them is never given up: virtio_holds. */
    const volatile struct virtio_desc *desc;
    volatile uint16_t *avail; /* flags, index, ring[size], used_event */
    volatile struct virtio_used *used;
};

struct virtio {
    const struct virtio_kind *kind;
    void *self; /* the device file's */
    uint8_t *config; /* device-specific configuration, kind->config_bytes */
    uint64_t offered, accepted; /* features */
    uint32_t offer_select, accept_select;
    uint16_t queue_select, config_vector;
    uint8_t status, isr, generation;
    struct virtio_queue queue[VIRTIO_QUEUES];
    struct pci_function pci;
    unsigned window; /* offset of the capability through which BARs are reached, 0: none */
    struct vm_timer again; /* a turn's budget was used up */
    struct virtio *others; /* list of all devices */
};

/* Status bits: section 2.1. */
#define VIRTIO_DRIVER_OK 4
#define VIRTIO_FEATURES_OK 8
#define VIRTIO_NEEDS_RESET 64

/* One request: what the driver wrote for us (out), then room for our answer (in). */
struct virtio_segment {
    uint8_t *at;
    uint32_t bytes;
};
struct virtio_chain {
    uint16_t head;
    uint32_t out, all; /* segments [0, out) are to be read, [out, all) to be written */
    uint32_t out_bytes, in_bytes; /* not yet pulled, not yet pushed */
    uint32_t at_out, at_in; /* the segments to go on with ... */
    uint32_t into_out, into_in; /* ... and bytes of them that are done */
    struct virtio_segment segment[VIRTIO_QUEUE_SIZE];
};

/* Puts the device on PCI bus 0, as after power-on; also one that was there before
 * pci_init. features: more than its kind's. The caller has set `self` and `config`. */
void virtio_add(struct virtio *device, const struct virtio_kind *kind, uint64_t features);

/* The driver agreed to all of these features. */
static inline bool virtio_has(const struct virtio *device, uint64_t features)
{
    return (device->accepted & features) == features;
}
/* The driver runs, and the device is not broken. */
static inline bool virtio_live(const struct virtio *device)
{
    return (device->status & (VIRTIO_DRIVER_OK | VIRTIO_NEEDS_RESET)) == VIRTIO_DRIVER_OK;
}
/* The device's configuration changed: the driver is told. */
void virtio_config_changed(struct virtio *device);
/* The driver broke the rules: needs a reset. */
void virtio_broken(struct virtio *device, const char *what);
/* Lets the device look at a queue, as if the driver had notified it. */
void virtio_run(struct virtio *device, unsigned queue);
/* Interrupts the driver: through MSI-X entry `vector`, or the line where MSI-X is off. */
void virtio_interrupt(struct virtio *device, uint16_t vector);
/* The guest page lies in a ring that some device uses. */
bool virtio_holds(uint64_t page);

/* Bytes of a queue's three parts: section 2.7. */
#define VIRTIO_DESC_BYTES(size) (16 * (size))
#define VIRTIO_AVAIL_BYTES(size) (6 + 2 * (size))
#define VIRTIO_USED_BYTES(size) (6 + 8 * (size))
/* Finds the rings of a queue that is to be enabled; false: they break the rules. */
bool virtio_ring_place(struct virtio_queue *queue);

/* Takes the next chain; false: none now. */
bool virtio_next(struct virtio_queue *queue, struct virtio_chain *chain);
/* The chain last taken stays where it was. */
static inline void virtio_undo(struct virtio_queue *queue) { queue->next--; }
/* Gives a chain back, with so many bytes written into it. Seen by the driver after
 * virtio_publish, which also interrupts it if it wants that. */
void virtio_put(struct virtio_queue *queue, uint16_t head, uint32_t written);
void virtio_publish(struct virtio_queue *queue);
/* The driver sees them, but is not interrupted: virtio_publish has to follow. The queue is
 * enabled. */
void virtio_show(struct virtio_queue *queue);

/* Copies the next n bytes of what the driver wrote (to NULL: passes over them); how many
 * there were. */
uint32_t virtio_pull(struct virtio_chain *chain, void *to, uint32_t n);
/* Copies n bytes to where the driver wants the answer; how many fitted. from NULL: passes
 * over the room. */
uint32_t virtio_push(struct virtio_chain *chain, const void *from, uint32_t n);
/* The next piece of guest memory to be read (at most n bytes, *got); NULL: no more. */
const uint8_t *virtio_piece(struct virtio_chain *chain, uint32_t n, uint32_t *got);
#endif
