/* SPDX-License-Identifier: MIT
 *
 * Memory balloon: "VIRTIO Version 1.2", section 5.5. The driver names pages that the guest
 * does without, and names those that it takes back; such a page is filled anew when it is
 * touched, so that nothing has to be done for it. Pages that are no RAM, and those that
 * hold a device's rings, are passed over. */
#include "virtio.h"

#define BALLOON_AT_ONCE 256 /* page numbers copied at a time */

/* Section 5.5.3. */
#define BALLOON_F_DEFLATE_ON_OOM (1u << 2)

enum { INFLATE, DEFLATE };

static struct balloon {
    struct virtio virtio;
    struct {
        uint32_t wanted, actual; /* pages of 4 KiB; section 5.5.4 */
    } config;
} balloon;
static struct virtio_chain chain;

static void balloon_inflate(void)
{
    uint32_t page[BALLOON_AT_ONCE];
    uint32_t bytes;
    while ((bytes = virtio_pull(&chain, page, sizeof(page)))) {
        for (uint32_t i = 0; i < bytes / sizeof(page[0]); i++)
            if (guest_ptr((uint64_t)page[i] * EXO_PAGE, EXO_PAGE) && !virtio_holds(page[i]))
                guest_page_give(page[i]);
    }
}

static void balloon_work(struct virtio *device, unsigned index)
{
    struct virtio_queue *queue = &device->queue[index];
    while (virtio_next(queue, &chain)) {
        if (index == INFLATE) balloon_inflate();
        virtio_put(queue, chain.head, 0);
    }
    virtio_publish(queue);
}

static void balloon_config_write(struct virtio *device, uint64_t offset, unsigned size,
                                 uint64_t value)
{
    (void)device;
    if (offset == 4 && size == 4) balloon.config.actual = (uint32_t)value;
}

static void balloon_reset(struct virtio *device)
{
    (void)device;
    balloon.config.actual = 0;
}

static const struct virtio_kind balloon_kind = {
    .name = "balloon",
    .id = 5,
    .pci_class = 0xff0000,
    .queues = 2,
    .features = BALLOON_F_DEFLATE_ON_OOM,
    .config_bytes = sizeof(balloon.config),
    .work = balloon_work,
    .config_write = balloon_config_write,
    .reset = balloon_reset,
};

void virtio_balloon_add(void)
{
    balloon.virtio.config = (uint8_t *)&balloon.config;
    virtio_add(&balloon.virtio, &balloon_kind, 0);
}

void balloon_target(uint64_t pages)
{
    balloon.config.wanted = (uint32_t)EXO_MIN(pages, UINT32_MAX);
    virtio_config_changed(&balloon.virtio);
}

uint64_t balloon_pages(void) { return balloon.config.actual; }
