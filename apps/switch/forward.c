/* SPDX-License-Identifier: MIT
 *
 * Where a frame goes: IEEE 802.1D, without the spanning tree (a channel has two ends).
 * Pure functions over the table, which is of fixed size and searched SWITCH_WAYS entries
 * at most.
 *
 * What a port cannot do: learn for another group; fill the table (SWITCH_ADDRESSES each);
 * push out addresses of other ports before they are old; take an address over that its
 * owner has used within the hold time. */
#include "switch.h"

#define MAC 6
#define DESTINATION 0 /* offsets in a frame: IEEE 802.3 3.1.1 */
#define SOURCE 6
#define MULTICAST 1 /* in the first byte of an address */

static struct switch_address *bucket_of(struct ethernet_switch *s, unsigned group,
                                        const uint8_t *mac)
{
    uint32_t hash = 2166136261u ^ group; /* FNV-1a */
    for (int i = 0; i < MAC; i++)
        hash = (hash ^ mac[i]) * 16777619u;
    return s->table[(hash ^ hash >> 16) % SWITCH_BUCKETS];
}

static bool is_old(const struct ethernet_switch *s, const struct switch_address *a, uint64_t now)
{
    return !a->seen || now - a->seen > s->age;
}

static struct switch_address *find(struct ethernet_switch *s, unsigned group, const uint8_t *mac,
                                   uint64_t now)
{
    struct switch_address *a = bucket_of(s, group, mac);
    for (int i = 0; i < SWITCH_WAYS; i++, a++)
        if (!is_old(s, a, now) && a->group == group && !memcmp(a->mac, mac, MAC)) return a;
    return NULL;
}

static void place(struct ethernet_switch *s, struct switch_address *a, unsigned port,
                  const uint8_t *mac, uint64_t now)
{
    if (a->seen) s->learned[a->port]--;
    s->learned[port]++;
    a->group = s->group[port];
    a->port = (uint8_t)port;
    a->seen = now;
    memcpy(a->mac, mac, MAC);
}

/* An entry that the port may use for one more address: an old one, while it has less than
 * its share, or else the one of its own that was seen longest ago. */
static struct switch_address *victim(struct ethernet_switch *s, unsigned port, const uint8_t *mac,
                                     uint64_t now)
{
    struct switch_address *a = bucket_of(s, s->group[port], mac), *own = NULL;
    for (int i = 0; i < SWITCH_WAYS; i++, a++) {
        if (is_old(s, a, now) &&
            (s->learned[port] < SWITCH_ADDRESSES || (a->seen && a->port == port)))
            return a;
        if (a->seen && a->port == port && (!own || a->seen < own->seen)) own = a;
    }
    return own;
}

static void learn(struct ethernet_switch *s, unsigned port, const uint8_t *mac, uint64_t now)
{
    struct switch_address *a = find(s, s->group[port], mac, now);
    if (a && a->port == port) {
        a->seen = now;
        return;
    }
    if (a && now - a->seen <= s->hold) return;
    if (a && s->learned[port] >= SWITCH_ADDRESSES) return;
    if (!a) a = victim(s, port, mac, now);
    if (a) place(s, a, port, mac, now);
}

uint32_t switch_forward(struct ethernet_switch *s, unsigned port, const struct exo_packet *packet,
                        size_t n, uint64_t now)
{
    unsigned group = s->group[port];
    if (!group || n < sizeof(*packet) + EXO_FRAME_MIN || n > EXO_PACKET_MAX) return 0;
    const uint8_t *source = packet->frame + SOURCE, *destination = packet->frame + DESTINATION;
    static const uint8_t none[MAC];
    if (source[0] & MULTICAST || !memcmp(source, none, MAC)) return 0;
    learn(s, port, source, now);
    uint32_t others = s->members[group] & ~(1u << port);
    if (destination[0] & MULTICAST) return others;
    const struct switch_address *a = find(s, group, destination, now);
    return a ? others & 1u << a->port : others;
}

void switch_forget(struct ethernet_switch *s, unsigned port)
{
    for (int b = 0; b < SWITCH_BUCKETS; b++)
        for (int i = 0; i < SWITCH_WAYS; i++)
            if (s->table[b][i].seen && s->table[b][i].port == port) s->table[b][i].seen = 0;
    s->learned[port] = 0;
    s->members[s->group[port]] &= ~(1u << port);
    s->group[port] = 0;
}

void switch_join(struct ethernet_switch *s, unsigned port, unsigned group)
{
    s->group[port] = (uint8_t)group;
    s->members[group] |= group ? 1u << port : 0;
}
