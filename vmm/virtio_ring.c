/* SPDX-License-Identifier: MIT
 *
 * Split rings: "VIRTIO Version 1.2", section 2.7. The driver is not trusted, and may write
 * to the rings and to descriptors at any moment, from another virtual CPU too:
 * - an index, a ring entry and a descriptor are fetched once each; what is used is the copy
 * - a chain is followed for at most as many descriptors as the queue has, so loops end
 * - every address is turned into ours by guest_ptr, which knows what is RAM
 * - a turn takes a bounded number of chains; a timer goes on with the rest
 * A rule that is broken ends in virtio_broken; no chain is taken then any more. */
#include "virtio.h"

/* Section 2.7.5, 2.7.8. */
struct virtio_desc {
    uint64_t address;
    uint32_t bytes;
    uint16_t flags, next;
} __attribute__((packed)); /* an indirect table may lie anywhere */
#define DESC_NEXT 1
#define DESC_WRITE 2
#define DESC_INDIRECT 4
struct virtio_used {
    uint16_t flags, index;
    struct {
        uint32_t id, bytes;
    } ring[];
};
_Static_assert(sizeof(struct virtio_desc) == 16, "descriptor");
_Static_assert(sizeof(struct virtio_used) == 4, "used ring");

#define AVAIL_INDEX 1 /* in 16-bit words */
#define AVAIL_RING 2
#define AVAIL_NO_INTERRUPT 1

/* Our store before the fence is seen before what we load after it: the two sides look for
 * each other's last index this way, so that no notification is lost. */
static void ring_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

static uint16_t *avail_event(struct virtio_queue *queue)
{
    return (uint16_t *)&queue->used->ring[queue->size];
}

/* Section 2.7.13.3: whether the driver waits for the chains after `told`. */
static bool interrupt_wanted(struct virtio_queue *queue)
{
    uint16_t told = queue->told;
    queue->told = queue->done;
    if (!virtio_has(queue->device, VIRTIO_F_EVENT_IDX))
        return !(queue->avail[0] & AVAIL_NO_INTERRUPT);
    uint16_t event = queue->avail[AVAIL_RING + queue->size];
    return (uint16_t)(queue->done - event - 1) < (uint16_t)(queue->done - told);
}

/* Nothing is there: asks for a notification, then looks again. */
static uint16_t ring_wait(struct virtio_queue *queue)
{
    if (virtio_has(queue->device, VIRTIO_F_EVENT_IDX)) {
        *(volatile uint16_t *)avail_event(queue) = queue->next;
        ring_fence();
    }
    return (uint16_t)(queue->avail[AVAIL_INDEX] - queue->next);
}

static bool chain_add(struct virtio_queue *queue, struct virtio_chain *chain,
                      const struct virtio_desc *desc)
{
    bool write = desc->flags & DESC_WRITE;
    uint32_t *bytes = write ? &chain->in_bytes : &chain->out_bytes;
    if (!write && chain->all > chain->out) {
        virtio_broken(queue->device, "a descriptor to read after one to write");
        return false;
    }
    if (desc->bytes > VIRTIO_CHAIN_BYTES || desc->bytes + *bytes > VIRTIO_CHAIN_BYTES) {
        virtio_broken(queue->device, "a request of too many bytes");
        return false;
    }
    if (!desc->bytes) return true;
    if (chain->all == VIRTIO_QUEUE_SIZE) {
        virtio_broken(queue->device, "a chain longer than a queue");
        return false;
    }
    uint8_t *at = guest_ptr(desc->address, desc->bytes);
    if (!at) {
        virtio_broken(queue->device, "a descriptor beyond memory");
        return false;
    }
    chain->segment[chain->all++] = (struct virtio_segment){at, desc->bytes};
    chain->out += !write;
    *bytes += desc->bytes;
    return true;
}

static struct virtio_desc desc_fetch(const volatile struct virtio_desc *from)
{
    return (struct virtio_desc){from->address, from->bytes, from->flags, from->next};
}

/* The table that an indirect descriptor names; its entries in *count. Section 2.7.5.3. */
static const volatile struct virtio_desc *
indirect_table(struct virtio_queue *queue, const struct virtio_desc *desc, uint32_t *count)
{
    const char *wrong = NULL;
    const void *table = NULL;
    if (!virtio_has(queue->device, VIRTIO_F_INDIRECT_DESC))
        wrong = "an indirect descriptor";
    else if (desc->flags & DESC_NEXT)
        wrong = "an indirect descriptor that goes on";
    else if (!desc->bytes || desc->bytes % sizeof(*desc))
        wrong = "an indirect table's length";
    else if (!(table = guest_ptr(desc->address, desc->bytes)))
        wrong = "an indirect table beyond memory";
    if (wrong) virtio_broken(queue->device, wrong);
    *count = desc->bytes / sizeof(*desc);
    return table;
}

/* Follows the descriptors from the head on: those of the queue, then at most one indirect
 * table's. */
static bool chain_walk(struct virtio_queue *queue, struct virtio_chain *chain)
{
    const volatile struct virtio_desc *table = queue->desc;
    uint32_t count = queue->size, index = chain->head;
    for (uint32_t steps = 0; steps <= VIRTIO_QUEUE_SIZE; steps++) {
        struct virtio_desc desc = desc_fetch(&table[index]);
        if (desc.flags & DESC_INDIRECT) {
            if (table != queue->desc) {
                virtio_broken(queue->device, "an indirect descriptor in an indirect table");
                return false;
            }
            if (!(table = indirect_table(queue, &desc, &count))) return false;
            index = 0;
            continue;
        }
        if (!chain_add(queue, chain, &desc)) return false;
        if (!(desc.flags & DESC_NEXT)) return true;
        index = desc.next;
        if (index >= count) {
            virtio_broken(queue->device, "a descriptor that is not there");
            return false;
        }
    }
    virtio_broken(queue->device, "a chain longer than a queue");
    return false;
}

bool virtio_next(struct virtio_queue *queue, struct virtio_chain *chain)
{
    if (!queue->enabled || !virtio_live(queue->device)) return false;
    uint16_t waiting = (uint16_t)(queue->avail[AVAIL_INDEX] - queue->next);
    if (!waiting && !(waiting = ring_wait(queue))) return false;
    if (waiting > queue->size) {
        virtio_broken(queue->device, "more chains than its queue has entries");
        return false;
    }
    if (!queue->budget) {
        timer_arm(&queue->device->again, vm_now() + 1);
        return false;
    }
    queue->budget--;
    __atomic_thread_fence(__ATOMIC_ACQUIRE); /* the index before the entry */
    chain->head = queue->avail[AVAIL_RING + (queue->next & (queue->size - 1))];
    chain->out = chain->all = chain->out_bytes = chain->in_bytes = 0;
    chain->at_out = chain->into_out = chain->into_in = 0;
    if (chain->head >= queue->size) {
        virtio_broken(queue->device, "a head that is not there");
        return false;
    }
    if (!chain_walk(queue, chain)) return false;
    chain->at_in = chain->out;
    queue->next++;
    return true;
}

void virtio_put(struct virtio_queue *queue, uint16_t head, uint32_t written)
{
    uint16_t at = queue->done++ & (queue->size - 1);
    queue->used->ring[at].id = head;
    queue->used->ring[at].bytes = written;
}

void virtio_show(struct virtio_queue *queue)
{
    __atomic_thread_fence(__ATOMIC_RELEASE); /* entries and data before the index */
    queue->used->index = queue->done;
}

void virtio_publish(struct virtio_queue *queue)
{
    if (queue->done == queue->told) return;
    virtio_show(queue);
    ring_fence();
    if (interrupt_wanted(queue)) virtio_interrupt(queue->device, queue->vector);
}

bool virtio_ring_place(struct virtio_queue *queue)
{
    uint64_t size = queue->size;
    if (!size || (size & (size - 1)) || size > VIRTIO_QUEUE_SIZE) return false;
    if (queue->desc_at % 16 || queue->avail_at % 2 || queue->used_at % 4) return false;
    queue->desc = guest_ptr(queue->desc_at, VIRTIO_DESC_BYTES(size));
    queue->avail = guest_ptr(queue->avail_at, VIRTIO_AVAIL_BYTES(size));
    queue->used = guest_ptr(queue->used_at, VIRTIO_USED_BYTES(size));
    return queue->desc && queue->avail && queue->used;
}

/* ---- a chain's bytes ---------------------------------------------------------------------- */

/* The next piece of segments [*at, end), at most n bytes. */
static uint8_t *segment_piece(struct virtio_chain *chain, uint32_t end, uint32_t *at,
                              uint32_t *into, uint32_t n, uint32_t *got)
{
    if (*at >= end || !n) return NULL;
    struct virtio_segment *segment = &chain->segment[*at];
    uint8_t *piece = segment->at + *into;
    *got = EXO_MIN(n, segment->bytes - *into);
    *into += *got;
    if (*into == segment->bytes) {
        *into = 0;
        ++*at;
    }
    return piece;
}

const uint8_t *virtio_piece(struct virtio_chain *chain, uint32_t n, uint32_t *got)
{
    const uint8_t *piece =
        segment_piece(chain, chain->out, &chain->at_out, &chain->into_out, n, got);
    if (piece) chain->out_bytes -= *got;
    return piece;
}

uint32_t virtio_pull(struct virtio_chain *chain, void *to, uint32_t n)
{
    const uint8_t *piece;
    uint32_t done = 0, got;
    while ((piece = virtio_piece(chain, n - done, &got))) {
        if (to) memcpy((uint8_t *)to + done, piece, got);
        done += got;
    }
    return done;
}

uint32_t virtio_push(struct virtio_chain *chain, const void *from, uint32_t n)
{
    uint8_t *piece;
    uint32_t done = 0, got;
    while ((piece =
                segment_piece(chain, chain->all, &chain->at_in, &chain->into_in, n - done, &got))) {
        if (from) memcpy(piece, (const uint8_t *)from + done, got);
        done += got;
    }
    chain->in_bytes -= done;
    return done;
}
