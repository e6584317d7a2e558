/* SPDX-License-Identifier: MIT
 *
 * The PCI transport of virtio devices: "VIRTIO Version 1.2", section 4.1, without its
 * legacy interface. Each device is one function: an I/O BAR of one port word where queues
 * are notified (its exits need no decoding), a memory BAR of one page for the rest, and
 * the MSI-X table. Only the configuration is touched here; rings are virtio_ring.c's. */
#include "virtio.h"

#define VENDOR 0x1af4
#define DEVICE_BASE 0x1040 /* section 4.1.2 */
#define NO_VECTOR 0xffff

/* BARs, and offsets in the memory one. */
#define BAR_NOTIFY 0
#define BAR_MEMORY 2 /* 1 has the MSI-X table: pci.h */
#define NOTIFY_BYTES 4
#define MEMORY_BYTES 0x1000
#define AT_COMMON 0
#define AT_ISR 0x400
#define AT_DEVICE 0x800
#define AT_DEVICE_BYTES 0x800

/* Section 4.1.4: capabilities that say where things are. */
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_WINDOW = 5 };
struct virtio_cap {
    uint8_t id, next, length, type, bar, more, padding[2];
    uint32_t offset, bytes;
    uint32_t data; /* CAP_NOTIFY: multiplier of queue numbers; CAP_WINDOW: what is accessed */
};
#define CAP_BYTES 16 /* without data */
#define CAP_VENDOR 9 /* PCI 3.0, appendix H */
_Static_assert(sizeof(struct virtio_cap) == CAP_BYTES + 4, "capability");

/* Section 4.1.4.3. */
struct virtio_common {
    uint32_t offer_select, offer, accept_select, accept;
    uint16_t config_vector, queues;
    uint8_t status, generation;
    uint16_t queue_select, queue_size, queue_vector, queue_enable, notify_offset;
    uint64_t desc, avail, used;
    uint16_t notify_data, queue_reset;
};
_Static_assert(sizeof(struct virtio_common) == 64, "common configuration, padded");
_Static_assert(offsetof(struct virtio_common, desc) == 32, "common configuration");

#define ISR_QUEUE 1
#define ISR_CONFIG 2

static struct virtio *devices;

/* ---- interrupts and state -------------------------------------------------------------------- */

void virtio_interrupt(struct virtio *device, uint16_t vector)
{
    if (pci_msix_enabled(&device->pci)) {
        if (vector != NO_VECTOR) pci_msix_send(&device->pci, vector);
        return;
    }
    device->isr |= ISR_QUEUE;
    pci_intx_set(&device->pci, true);
}

void virtio_config_changed(struct virtio *device)
{
    device->generation++;
    if (!(device->status & VIRTIO_DRIVER_OK)) return;
    device->isr |= ISR_CONFIG;
    if (!pci_msix_enabled(&device->pci))
        pci_intx_set(&device->pci, true);
    else if (device->config_vector != NO_VECTOR)
        pci_msix_send(&device->pci, device->config_vector);
}

void virtio_broken(struct virtio *device, const char *what)
{
    vm_note("virtio %s device: the driver gave %s; it needs a reset", device->kind->name, what);
    device->status |= VIRTIO_NEEDS_RESET;
    virtio_config_changed(device);
}

static void device_reset(struct virtio *device)
{
    timer_cancel(&device->again);
    device->accepted = 0;
    device->offer_select = device->accept_select = 0;
    device->queue_select = 0;
    device->config_vector = NO_VECTOR;
    device->status = device->isr = 0;
    pci_intx_set(&device->pci, false);
    for (unsigned i = 0; i < device->kind->queues; i++)
        device->queue[i] =
            (struct virtio_queue){.device = device, .size = VIRTIO_QUEUE_SIZE, .vector = NO_VECTOR};
    if (device->kind->reset) device->kind->reset(device);
}

void virtio_run(struct virtio *device, unsigned queue)
{
    if (queue >= device->kind->queues || !device->queue[queue].enabled || !virtio_live(device))
        return;
    device->queue[queue].budget = VIRTIO_QUEUE_SIZE;
    device->kind->work(device, queue);
}

/* Looks at all queues; the timer's function: a turn's budget did not suffice. */
static void run_again(void *argument)
{
    struct virtio *device = argument;
    for (unsigned i = 0; i < device->kind->queues; i++)
        virtio_run(device, i);
}

/* Section 3.1.1: FEATURES_OK sticks only where the driver's choice is one that we can serve. */
static void status_write(struct virtio *device, uint8_t status)
{
    if (!status) {
        device_reset(device);
        return;
    }
    bool served = virtio_has(device, VIRTIO_F_VERSION_1) && !(device->accepted & ~device->offered);
    if (!served) status &= (uint8_t) ~(VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
    bool lived = virtio_live(device);
    device->status |= status & (uint8_t)~VIRTIO_NEEDS_RESET;
    if (!lived) run_again(device); /* something may have waited for the driver */
}

static bool page_in(uint64_t page, uint64_t address, uint64_t bytes)
{
    return page >= address / EXO_PAGE && page <= (address + bytes - 1) / EXO_PAGE;
}

bool virtio_holds(uint64_t page)
{
    for (struct virtio *device = devices; device; device = device->others)
        for (unsigned i = 0; i < device->kind->queues; i++) {
            const struct virtio_queue *queue = &device->queue[i];
            if (queue->enabled &&
                (page_in(page, queue->desc_at, VIRTIO_DESC_BYTES(queue->size)) ||
                 page_in(page, queue->avail_at, VIRTIO_AVAIL_BYTES(queue->size)) ||
                 page_in(page, queue->used_at, VIRTIO_USED_BYTES(queue->size))))
                return true;
        }
    return false;
}

/* ---- the common configuration ----------------------------------------------------------------- */

static uint32_t features_half(uint64_t features, uint32_t select)
{
    return select < 2 ? (uint32_t)(features >> 32 * select) : 0;
}

/* As the driver would read it now. */
static struct virtio_common common_state(const struct virtio *device)
{
    struct virtio_common common = {
        .offer_select = device->offer_select,
        .offer = features_half(device->offered, device->offer_select),
        .accept_select = device->accept_select,
        .accept = features_half(device->accepted, device->accept_select),
        .config_vector = device->config_vector,
        .queues = (uint16_t)device->kind->queues,
        .status = device->status,
        .generation = device->generation,
        .queue_select = device->queue_select,
    };
    if (device->queue_select < device->kind->queues) {
        const struct virtio_queue *queue = &device->queue[device->queue_select];
        common.queue_size = queue->size;
        common.queue_vector = queue->vector;
        common.queue_enable = queue->enabled;
        common.desc = queue->desc_at;
        common.avail = queue->avail_at;
        common.used = queue->used_at;
    }
    return common;
}

static void accept_write(struct virtio *device, uint32_t half)
{
    if (device->accept_select > 1 || device->status & VIRTIO_FEATURES_OK) return;
    unsigned shift = 32 * device->accept_select;
    device->accepted = (device->accepted & ~(0xffffffffull << shift)) | (uint64_t)half << shift;
}

/* A vector that the MSI-X table does not have reads back as none. */
static uint16_t vector_checked(const struct virtio *device, uint64_t vector)
{
    return vector <= device->kind->queues ? (uint16_t)vector : NO_VECTOR;
}

/* One half, or all, of a ring's address. */
static void address_write(uint64_t *address, unsigned part, unsigned size, uint64_t value)
{
    if (size == 8)
        *address = value;
    else if (part)
        *address = (*address & 0xffffffff) | value << 32;
    else
        *address = (*address & ~0xffffffffull) | (uint32_t)value;
}

static void queue_write(struct virtio *device, uint64_t offset, unsigned size, uint64_t value)
{
    if (device->queue_select >= device->kind->queues) return;
    struct virtio_queue *queue = &device->queue[device->queue_select];
    if (offset == offsetof(struct virtio_common, queue_vector))
        queue->vector = vector_checked(device, value);
    if (queue->enabled) return; /* the rest is fixed until a reset */
    switch (offset) {
    case offsetof(struct virtio_common, queue_size):
        queue->size = (uint16_t)value;
        break;
    case offsetof(struct virtio_common, queue_enable):
        if (!(value & 1)) break;
        queue->enabled = virtio_ring_place(queue);
        if (!queue->enabled) virtio_broken(device, "a queue that is no power of two, or no RAM");
        break;
    case offsetof(struct virtio_common, desc):
    case offsetof(struct virtio_common, desc) + 4:
        address_write(&queue->desc_at, offset & 4, size, value);
        break;
    case offsetof(struct virtio_common, avail):
    case offsetof(struct virtio_common, avail) + 4:
        address_write(&queue->avail_at, offset & 4, size, value);
        break;
    case offsetof(struct virtio_common, used):
    case offsetof(struct virtio_common, used) + 4:
        address_write(&queue->used_at, offset & 4, size, value);
        break;
    }
}

static void common_write(struct virtio *device, uint64_t offset, unsigned size, uint64_t value)
{
    switch (offset) {
    case offsetof(struct virtio_common, offer_select):
        device->offer_select = (uint32_t)value;
        break;
    case offsetof(struct virtio_common, accept_select):
        device->accept_select = (uint32_t)value;
        break;
    case offsetof(struct virtio_common, accept):
        accept_write(device, (uint32_t)value);
        break;
    case offsetof(struct virtio_common, config_vector):
        device->config_vector = vector_checked(device, value);
        break;
    case offsetof(struct virtio_common, status):
        status_write(device, (uint8_t)value);
        break;
    case offsetof(struct virtio_common, queue_select):
        device->queue_select = (uint16_t)value;
        break;
    default:
        queue_write(device, offset, size, value);
    }
}

/* ---- the BARs -------------------------------------------------------------------------------------- */

static uint64_t bytes_read(const void *from, uint64_t bytes, uint64_t offset, unsigned size)
{
    uint64_t value = 0;
    if (offset < bytes)
        memcpy(&value, (const uint8_t *)from + offset, EXO_MIN((uint64_t)size, bytes - offset));
    return value;
}

static uint64_t memory_read(void *argument, uint64_t offset, unsigned size)
{
    struct virtio *device = argument;
    if (offset >= AT_DEVICE)
        return bytes_read(device->config, device->kind->config_bytes, offset - AT_DEVICE, size);
    if (offset == AT_ISR) { /* reading acknowledges: section 4.1.4.5 */
        uint8_t isr = device->isr;
        device->isr = 0;
        pci_intx_set(&device->pci, false);
        return isr;
    }
    struct virtio_common common = common_state(device);
    return bytes_read(&common, sizeof(common), offset, size);
}

static void memory_write(void *argument, uint64_t offset, unsigned size, uint64_t value)
{
    struct virtio *device = argument;
    if (offset < sizeof(struct virtio_common))
        common_write(device, offset, size, value);
    else if (offset >= AT_DEVICE && device->kind->config_write)
        device->kind->config_write(device, offset - AT_DEVICE, size, value);
}

static uint64_t notify_read(void *argument, uint64_t offset, unsigned size)
{
    (void)argument, (void)offset, (void)size;
    return 0;
}

static void notify_write(void *argument, uint64_t offset, unsigned size, uint64_t value)
{
    (void)offset, (void)size;
    virtio_run(argument, (unsigned)(value & 0xffff));
}

/* ---- the function ----------------------------------------------------------------------------------- */

/* Section 4.1.4.9: BARs through configuration space, for who cannot reach them otherwise.
 * True when the window's fields name a place that is there. */
static bool window_place(struct virtio *device, struct virtio_cap *cap)
{
    memcpy(cap, device->pci.config + device->window, sizeof(*cap));
    if (cap->bytes != 1 && cap->bytes != 2 && cap->bytes != 4) return false;
    if (cap->bar != BAR_NOTIFY && cap->bar != BAR_MEMORY) return false;
    uint64_t size = device->pci.bar[cap->bar].size;
    return cap->offset % cap->bytes == 0 && cap->offset < size;
}

static bool window_touched(const struct virtio *device, unsigned offset, unsigned size)
{
    unsigned data = device->window + (unsigned)offsetof(struct virtio_cap, data);
    return offset < data + 4 && offset + size > data;
}

static void window_read(void *self, unsigned offset, unsigned size)
{
    struct virtio *device = self;
    struct virtio_cap cap;
    if (!window_touched(device, offset, size) || !window_place(device, &cap)) return;
    uint32_t value = (uint32_t)device->pci.bar[cap.bar].read(device, cap.offset, cap.bytes);
    memcpy(device->pci.config + device->window + offsetof(struct virtio_cap, data), &value, 4);
}

static void window_written(void *self, unsigned offset, unsigned size)
{
    struct virtio *device = self;
    struct virtio_cap cap;
    if (window_touched(device, offset, size) && window_place(device, &cap))
        device->pci.bar[cap.bar].write(device, cap.offset, cap.bytes, cap.data);
}

static long cap_add(struct virtio *device, uint8_t type, uint8_t bar, uint32_t offset,
                    uint32_t bytes)
{
    bool data = type == CAP_NOTIFY || type == CAP_WINDOW;
    uint8_t length = CAP_BYTES + (data ? 4 : 0);
    struct virtio_cap cap = {.id = CAP_VENDOR,
                             .length = length,
                             .type = type,
                             .bar = bar,
                             .offset = offset,
                             .bytes = bytes};
    return pci_capability(&device->pci, &cap, length);
}

static void caps_add(struct virtio *device)
{
    cap_add(device, CAP_COMMON, BAR_MEMORY, AT_COMMON, sizeof(struct virtio_common));
    cap_add(device, CAP_NOTIFY, BAR_NOTIFY, 0, NOTIFY_BYTES);
    cap_add(device, CAP_ISR, BAR_MEMORY, AT_ISR, 1);
    if (device->kind->config_bytes)
        cap_add(device, CAP_DEVICE, BAR_MEMORY, AT_DEVICE, device->kind->config_bytes);
    long window = cap_add(device, CAP_WINDOW, 0, 0, 0);
    if (window < 0) return;
    device->window = (unsigned)window;
    uint8_t *writable = device->pci.writable + window;
    memset(writable + offsetof(struct virtio_cap, bar), 0xff, 1);
    memset(writable + offsetof(struct virtio_cap, offset), 0xff, sizeof(uint32_t) * 3);
}

void virtio_add(struct virtio *device, const struct virtio_kind *kind, uint64_t features)
{
    device->kind = kind;
    device->offered = kind->features | features | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
                      VIRTIO_F_VERSION_1;
    device->pci = (struct pci_function){
        .vendor = VENDOR,
        .device = (uint16_t)(DEVICE_BASE + kind->id),
        .subsystem_vendor = VENDOR,
        .subsystem = (uint16_t)(DEVICE_BASE + kind->id),
        .class_code = kind->pci_class,
        .revision = 1,
        .intx = true,
        .vectors = kind->queues + 1,
        .self = device,
        .config_read = window_read,
        .config_written = window_written,
    };
    device->pci.bar[BAR_NOTIFY] = (struct pci_bar){
        .size = NOTIFY_BYTES, .ports = true, .read = notify_read, .write = notify_write};
    device->pci.bar[BAR_MEMORY] =
        (struct pci_bar){.size = MEMORY_BYTES, .read = memory_read, .write = memory_write};
    timer_cancel(&device->again);
    device->again = (struct vm_timer){.fire = run_again, .argument = device};
    if (pci_add(&device->pci) < 0) {
        vm_note("no PCI slot for a virtio %s device", kind->name);
        return;
    }
    caps_add(device);
    device_reset(device);
    struct virtio **link = &devices;
    while (*link && *link != device)
        link = &(*link)->others;
    if (!*link) {
        *link = device;
        device->others = NULL;
    }
}
