/* SPDX-License-Identifier: MIT
 *
 * Console device: "VIRTIO Version 1.2", section 5.3, one port without controls. What the
 * guest prints goes where its serial port's output goes; what the user typed waits here
 * until the guest has given room for it. */
#include "virtio.h"

#define CONSOLE_TYPED 256 /* a power of two */

enum { RECEIVE, TRANSMIT };

static struct virtio console;
static struct virtio_chain chain;
static uint8_t typed[CONSOLE_TYPED]; /* a ring */
static uint32_t typed_in, typed_out; /* bytes so far, modulo 2^32 */

static void console_receive(struct virtio *device)
{
    struct virtio_queue *queue = &device->queue[RECEIVE];
    while (typed_in != typed_out && virtio_next(queue, &chain)) {
        uint32_t written = 0;
        while (typed_in != typed_out && virtio_push(&chain, &typed[typed_out % CONSOLE_TYPED], 1)) {
            typed_out++;
            written++;
        }
        virtio_put(queue, chain.head, written);
    }
    virtio_publish(queue);
}

static void console_transmit(struct virtio *device)
{
    struct virtio_queue *queue = &device->queue[TRANSMIT];
    while (virtio_next(queue, &chain)) {
        const uint8_t *piece;
        uint32_t got;
        while ((piece = virtio_piece(&chain, UINT32_MAX, &got)))
            console_write(piece, got);
        virtio_put(queue, chain.head, 0);
    }
    virtio_publish(queue);
}

static void console_work(struct virtio *device, unsigned queue)
{
    if (queue == TRANSMIT)
        console_transmit(device);
    else
        console_receive(device);
}

static const struct virtio_kind console_kind = {
    .name = "console", .id = 3, .pci_class = 0x078000, .queues = 2, .work = console_work};

void virtio_console_add(void)
{
    typed_in = typed_out = 0;
    virtio_add(&console, &console_kind, 0);
}

bool virtio_console_live(void) { return virtio_live(&console); }

size_t virtio_console_room(void) { return CONSOLE_TYPED - (typed_in - typed_out); }

void virtio_console_receive(const void *data, size_t n)
{
    const uint8_t *from = data;
    if (!virtio_live(&console)) return;
    for (; n && typed_in - typed_out < CONSOLE_TYPED; n--)
        typed[typed_in++ % CONSOLE_TYPED] = *from++;
    virtio_run(&console, RECEIVE);
}
