/* SPDX-License-Identifier: MIT
 *
 * A learning Ethernet switch between channels (lib/exo/channel.h, lib/exo/packet.h): a
 * port is a channel. Which ports belong together says the configuration; nothing goes
 * from one group to another. No port is trusted: what it can do to others is to send them
 * frames, as on any wire, and never more than their channels hold. */
#ifndef SWITCH_H
#define SWITCH_H
#include "../../lib/exo/channel.h"
#include "../../lib/exo/packet.h"

#define SWITCH_PORTS EXO_CHANNELS
#define SWITCH_ADDRESSES 64 /* learned of one port at most */
#define SWITCH_BUCKETS 128
#define SWITCH_WAYS 8 /* addresses in a bucket */
#define SWITCH_AGE_US 300000000ul /* then an address is forgotten: IEEE 802.1D 7.9.2 */
#define SWITCH_HOLD_US 1000000ul /* so long an address does not move to another port */

struct switch_address {
    uint8_t mac[6];
    uint8_t group, port;
    uint64_t seen; /* ticks; 0: empty */
};

struct ethernet_switch {
    uint64_t age, hold; /* ticks */
    uint8_t group[SWITCH_PORTS]; /* of each port; 0: none, it is connected to nobody */
    uint32_t members[SWITCH_PORTS + 1]; /* ports of each group, a bit each */
    uint32_t learned[SWITCH_PORTS]; /* addresses of each port in the table */
    struct switch_address table[SWITCH_BUCKETS][SWITCH_WAYS];
};

/* groups.c: reads the program's arguments,
 *   [GROUP=]PEER.TAG,PEER.TAG,... [GROUP=...]
 * the ports of each group by their channels' peers and tags. Without arguments all ports
 * are one group. Says what is wrong; false then: what was right stays. */
bool groups_read(struct ethernet_switch *s, const char *text,
                 const struct exo_channel_given ports[SWITCH_PORTS]);

/* forward.c: the ports (a bit each) that a packet of n bytes from that port goes to, at
 * the time now (ticks, above 0); learns where its sender is. 0: it is dropped. */
uint32_t switch_forward(struct ethernet_switch *s, unsigned port, const struct exo_packet *packet,
                        size_t n, uint64_t now);
/* The port belongs to that group (0: to none) from now on. */
void switch_join(struct ethernet_switch *s, unsigned port, unsigned group);
/* The port is gone. */
void switch_forget(struct ethernet_switch *s, unsigned port);
#endif
