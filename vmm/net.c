/* SPDX-License-Identifier: MIT
 *
 * Network cards whose packets go through channels: the other end is a switch, or another
 * guest's monitor. The channel keeps packets in order and whole; what does not fit waits
 * in the guest's queue until the channel's event comes. Under the device lock, which also
 * serves as the channels' own. */
#include "../lib/exo/channel.h"
#include "../lib/exo/packet.h"
#include "vmm.h"

static struct link {
    struct card card;
    struct exo_channel channel;
    bool open;
} links[VM_CARDS];

static bool link_send(void *peer, const void *packet, size_t n)
{
    struct exo_channel *channel = peer;
    /* Nobody will take it any more: as with a cable that was pulled, it is lost. */
    if (exo_channel_closed(channel) || exo_channel_broken(channel)) return true;
    if (!exo_channel_send(channel, packet, n)) return false;
    vm_shared->net.out++;
    vm_shared->net.out_bytes += n - sizeof(struct exo_packet);
    return true;
}

static size_t link_receive(void *peer, void *packet, size_t max)
{
    size_t n = exo_channel_receive(peer, packet, max);
    if (n <= sizeof(struct exo_packet)) return n;
    vm_shared->net.in++;
    vm_shared->net.in_bytes += n - sizeof(struct exo_packet);
    return n;
}

static void link_add(struct link *link, const struct vm_card_config *config)
{
    if (!link->open) {
        long r = exo_channel_find(&link->channel, NULL, config->bridge);
        if (r < 0) {
            exo_printf("no channel with tag '%s' for a network card: %s\n", config->bridge,
                       exo_strerror(r));
            return;
        }
        link->open = true;
    }
    link->card = (struct card){.peer = &link->channel,
                               .max = exo_channel_packet_max(&link->channel),
                               .send = link_send,
                               .receive = link_receive};
    memcpy(link->card.mac, config->mac, sizeof(link->card.mac));
    virtio_net_add(&link->card);
}

void net_add(const struct vm_config *config)
{
    for (uint32_t i = 0; i < config->cards; i++)
        link_add(&links[i], &config->card[i]);
}

uint64_t net_events(void)
{
    uint64_t events = 0;
    for (struct link *link = links; link < links + VM_CARDS; link++)
        if (link->open) events |= link->channel.event;
    return events;
}

void net_look(uint64_t events)
{
    for (struct link *link = links; link < links + VM_CARDS; link++)
        if (link->open && link->channel.event & events) virtio_net_ready(&link->card);
}
