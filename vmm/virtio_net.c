/* SPDX-License-Identifier: MIT
 *
 * Network devices: "VIRTIO Version 1.2", section 5.1; one pair of queues each. A packet's
 * header in a queue has the layout of struct exo_packet, so what the guest leaves to be
 * done (checksums, cutting large TCP packets) travels with the packet to whoever takes it,
 * and is done here only for a guest that did not offer to.
 *
 * A packet that came from the peer waits in `pending` until the guest has room for it; one
 * that the peer has no room for waits in the guest's queue. Nothing is lost between.
 *
 * What was sent is given back at once, but told a moment later: by then a driver that goes on
 * sending has taken it back by itself, and wants no interrupt for it (event index). */
#include "packet.h"
#include "virtio.h"

/* Section 5.1.3. */
#define NET_F_CSUM (1u << 0)
#define NET_F_GUEST_CSUM (1u << 1)
#define NET_F_MAC (1u << 5)
#define NET_F_GUEST_TSO4 (1u << 7)
#define NET_F_GUEST_TSO6 (1u << 8)
#define NET_F_HOST_TSO4 (1u << 11)
#define NET_F_HOST_TSO6 (1u << 12)
#define NET_F_MRG_RXBUF (1u << 15)

#define TOLD_DELAY 200000 /* nanoseconds: of the interrupt */

enum { RECEIVE, TRANSMIT };

/* A packet with its memory. */
union net_packet {
    struct exo_packet packet;
    uint8_t bytes[EXO_PACKET_MAX];
};

static struct net {
    struct virtio virtio;
    uint8_t config[6]; /* the MAC address */
    struct vm_timer sent; /* the driver is told then */
    uint32_t pending_bytes; /* 0: nothing waits */
    size_t cut; /* bytes of TCP data of it that the guest has, where it is to be cut */
    union net_packet pending;
} nets[VM_CARDS];
static union net_packet work; /* one packet under way, within a function */
static struct virtio_chain chain;

/* ---- to the guest ------------------------------------------------------------------------ */

/* One packet into the guest's buffers: several of them where it agreed to that. False:
 * there are too few now; they are untouched. A packet that cannot ever fit is dropped. */
static bool net_deliver(struct virtio *device, const uint8_t *packet, size_t n)
{
    struct virtio_queue *queue = &device->queue[RECEIVE];
    uint16_t next = queue->next, done = queue->done, buffers = 0;
    uint32_t most = virtio_has(device, NET_F_MRG_RXBUF) ? queue->size / 2 : 1;
    uint8_t *first = NULL;
    size_t at = 0;
    while (at < n && buffers < most && virtio_next(queue, &chain)) {
        if (chain.out || !chain.all || chain.segment[0].bytes < sizeof(struct exo_packet)) {
            virtio_broken(device, "a buffer to receive that has no room for a header");
            return false;
        }
        if (!buffers++) first = chain.segment[0].at;
        uint32_t put = virtio_push(&chain, packet + at, (uint32_t)(n - at));
        virtio_put(queue, chain.head, put);
        at += put;
    }
    if (first && at == n) {
        memcpy(first + offsetof(struct exo_packet, spare), &buffers, sizeof(buffers));
        return true;
    }
    queue->next = next;
    queue->done = done;
    return buffers >= most;
}

/* The packet is one that the guest understands as it is. */
static bool net_understood(const struct net *net, const struct exo_packet *packet)
{
    if (packet->segments == EXO_PACKET_TCP4) return virtio_has(&net->virtio, NET_F_GUEST_TSO4);
    if (packet->segments == EXO_PACKET_TCP6) return virtio_has(&net->virtio, NET_F_GUEST_TSO6);
    return !packet->flags || virtio_has(&net->virtio, NET_F_GUEST_CSUM);
}

/* Gives the pending packet to the guest; true when nothing of it is left. */
static bool net_give(struct net *net)
{
    struct exo_packet *packet = &net->pending.packet;
    if (!net_understood(net, packet) && !packet->segments)
        packet_checksum(packet, net->pending_bytes);
    if (net_understood(net, packet)) {
        if (!net_deliver(&net->virtio, net->pending.bytes, net->pending_bytes)) return false;
        net->pending_bytes = 0;
        return true;
    }
    size_t done = net->cut, n;
    while ((n = packet_segment(packet, net->pending_bytes, &done, &work.packet))) {
        if (!net_deliver(&net->virtio, work.bytes, n)) return false;
        net->cut = done;
    }
    net->pending_bytes = 0;
    return true;
}

static void net_receive(struct net *net)
{
    struct card *card = net->virtio.self;
    struct virtio_queue *queue = &net->virtio.queue[RECEIVE];
    while (queue->enabled && virtio_live(&net->virtio)) {
        if (!net->pending_bytes) {
            size_t n = card->receive(card->peer, net->pending.bytes, sizeof(net->pending));
            if (!n) break;
            if (!packet_check(&net->pending.packet, n)) continue;
            net->pending_bytes = (uint32_t)n;
            net->cut = 0;
        }
        if (!net_give(net)) break;
    }
    virtio_publish(queue);
}

/* ---- from the guest -------------------------------------------------------------------------- */

static void sent_tell(void *argument) { virtio_publish(argument); }

/* A driver whose queue is half full of them may have stopped: it is told now. */
static void net_sent(struct net *net, struct virtio_queue *queue)
{
    uint16_t sent = queue->done - queue->told;
    if (!sent) return;
    virtio_show(queue);
    if (sent >= queue->size / 2) {
        virtio_publish(queue);
    } else if (!net->sent.at) {
        net->sent.cpu = vcpu_here();
        timer_arm(&net->sent, vm_now() + TOLD_DELAY);
    }
}

static void net_transmit(struct net *net)
{
    struct card *card = net->virtio.self;
    struct virtio_queue *queue = &net->virtio.queue[TRANSMIT];
    while (virtio_next(queue, &chain)) {
        uint32_t n = chain.out_bytes;
        if (n >= sizeof(struct exo_packet) + EXO_FRAME_MIN && n <= card->max) {
            const uint8_t *packet = chain.segment[0].at;
            if (chain.out > 1) {
                virtio_pull(&chain, work.bytes, n);
                packet = work.bytes;
            }
            if (!card->send(card->peer, packet, n)) {
                virtio_undo(queue);
                break;
            }
        }
        virtio_put(queue, chain.head, 0);
    }
    net_sent(net, queue);
}

static void net_work(struct virtio *device, unsigned queue)
{
    struct net *net = (struct net *)device;
    if (queue == TRANSMIT)
        net_transmit(net);
    else
        net_receive(net);
}

static void net_reset(struct virtio *device)
{
    struct net *net = (struct net *)device;
    timer_cancel(&net->sent);
    net->sent = (struct vm_timer){.fire = sent_tell, .argument = &device->queue[TRANSMIT]};
    net->pending_bytes = 0;
}

static const struct virtio_kind net_kind = {
    .name = "network",
    .id = 1,
    .pci_class = 0x020000,
    .queues = 2,
    .features = NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_MAC | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 |
                NET_F_MRG_RXBUF,
    .config_bytes = 6,
    .work = net_work,
    .reset = net_reset,
};

void virtio_net_add(struct card *card)
{
    struct net *net = nets;
    while (net->virtio.self && net->virtio.self != card)
        if (++net == nets + VM_CARDS) return;
    memcpy(net->config, card->mac, sizeof(net->config));
    net->virtio.self = card;
    net->virtio.config = net->config;
    card->max = EXO_MIN(card->max, EXO_PACKET_MAX);
    /* Large packets are for a peer that takes them at all. */
    bool large = card->max == EXO_PACKET_MAX;
    virtio_add(&net->virtio, &net_kind, large ? NET_F_HOST_TSO4 | NET_F_HOST_TSO6 : 0);
}

void virtio_net_ready(struct card *card)
{
    for (struct net *net = nets; net < nets + VM_CARDS; net++)
        if (net->virtio.self == card) {
            virtio_run(&net->virtio, RECEIVE);
            virtio_run(&net->virtio, TRANSMIT);
        }
}
