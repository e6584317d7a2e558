/* SPDX-License-Identifier: MIT
 *
 * Packets of the monitor's network devices on this machine: headers from a hostile peer,
 * checksums, and segments that must be what one would have sent without offload. Every
 * packet lies in memory of exactly its size, watched by the sanitizers. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define main exo_main
#include "../../vmm/packet.c"
#undef main

#define MUTATIONS 200000

#include "unit.h"

/* The Internet checksum as RFC 1071 has it first: byte by byte, big endian. 0 when the
 * field in the data is right. */
static uint32_t sum_bytes(uint32_t sum, const uint8_t *at, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum += i % 2 ? at[i] : (uint32_t)at[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

/* Address bytes, protocol and length, as TCP's and UDP's checksums count them. */
static uint32_t pseudo(const uint8_t *network, bool ip6, unsigned protocol, size_t bytes)
{
    uint32_t sum = ip6 ? sum_bytes(0, network + 8, 32) : sum_bytes(0, network + 12, 8);
    sum += protocol + (uint32_t)bytes;
    return sum_bytes(sum, NULL, 0);
}

struct shape {
    bool ip6, vlan;
    size_t options; /* bytes of TCP options */
    size_t data;
    uint16_t segment;
};

/* A TCP packet as a guest with offload sends it. */
static struct exo_packet *tcp_make(const struct shape *shape, size_t *n)
{
    size_t network = shape->vlan ? 18 : 14, tcp = network + (shape->ip6 ? 40 : 20);
    size_t header = 20 + shape->options, bytes = tcp + header + shape->data;
    *n = sizeof(struct exo_packet) + bytes;
    struct exo_packet *p = malloc(*n);
    uint8_t *f = p->frame;
    for (size_t i = 0; i < bytes; i++)
        f[i] = (uint8_t)next(256);
    *p = (struct exo_packet){.flags = EXO_PACKET_CHECKSUM,
                             .segments = shape->ip6 ? EXO_PACKET_TCP6 : EXO_PACKET_TCP4,
                             .segment_bytes = shape->segment,
                             .checksum_start = (uint16_t)tcp,
                             .checksum_at = 16};
    put16(f + 12, shape->vlan ? 0x8100 : shape->ip6 ? 0x86dd : 0x0800);
    if (shape->ip6) {
        put16(f + network + 4, (uint32_t)(bytes - network - 40));
        f[network + 6] = 6;
    } else {
        f[network] = 0x45;
        put16(f + network + 2, (uint32_t)(bytes - network));
        f[network + 9] = 6;
    }
    f[tcp + 12] = (uint8_t)(header / 4 << 4);
    f[tcp + 13] = 0x99; /* CWR ACK PSH FIN */
    put16(f + tcp + 16, pseudo(f + network, shape->ip6, 6, bytes - tcp));
    return p;
}

/* One segment: lengths, checksums, flags, and its part of the data. */
static void segment_expect(const struct exo_packet *whole, const struct shape *shape,
                           const struct exo_packet *part, size_t got, size_t done)
{
    size_t tcp = whole->checksum_start, network = shape->vlan ? 18 : 14;
    size_t headers = tcp + 20 + shape->options, bytes = got - sizeof(*part);
    size_t data = bytes - headers, index = done / shape->segment;
    const uint8_t *f = part->frame, *w = whole->frame;
    bool last = done + data == shape->data;
    EXPECT(data == (last ? shape->data - done : shape->segment));
    EXPECT(!part->flags && !part->segments);
    EXPECT(!memcmp(f + headers, w + headers + done, data));
    EXPECT(!memcmp(f, w, network));
    EXPECT(sum_bytes(pseudo(f + network, shape->ip6, 6, bytes - tcp), f + tcp, bytes - tcp) ==
           0xffff);
    if (shape->ip6) {
        EXPECT(get16(f + network + 4) == bytes - tcp);
    } else {
        EXPECT(get16(f + network + 2) == bytes - network);
        EXPECT(sum_bytes(0, f + network, 20) == 0xffff);
        EXPECT(get16(f + network + 4) == ((get16(w + network + 4) + index) & 0xffff));
    }
    uint32_t sequence = get16(f + tcp + 4) << 16 | get16(f + tcp + 6);
    EXPECT(sequence == (get16(w + tcp + 4) << 16 | get16(w + tcp + 6)) + (uint32_t)done);
    EXPECT((f[tcp + 13] & 0x09) == (last ? 0x09 : 0));
    EXPECT((f[tcp + 13] & 0x80) == (done ? 0 : 0x80));
}

static void test_segments(void)
{
    static const size_t data[] = {1, 7, 1448, 1449, 2896, 40000, 65000};
    for (unsigned i = 0; i < 4 * EXO_COUNT(data); i++) {
        struct shape shape = {.ip6 = i & 1,
                              .vlan = i & 2,
                              .options = 4 * next(11),
                              .data = data[i / 4],
                              .segment = (uint16_t)(1 + next(3000))};
        size_t n, got, done = 0, before = 0, all = 0;
        struct exo_packet *p = tcp_make(&shape, &n), *to = malloc(n);
        EXPECT(packet_check(p, n));
        while ((got = packet_segment(p, n, &done, to))) {
            segment_expect(p, &shape, to, got, before);
            all += done - before;
            before = done;
        }
        EXPECT(all == shape.data);
        free(p);
        free(to);
    }
}

static void test_checksum(void)
{
    for (unsigned i = 0; i < 200; i++) {
        struct shape shape = {.ip6 = i & 1, .vlan = i & 2, .data = next(1500), .segment = 1};
        size_t n;
        struct exo_packet *p = tcp_make(&shape, &n);
        size_t tcp = p->checksum_start, bytes = n - sizeof(*p), network = shape.vlan ? 18 : 14;
        p->segments = 0;
        EXPECT(packet_check(p, n));
        packet_checksum(p, n);
        EXPECT(!p->flags);
        EXPECT(sum_bytes(pseudo(p->frame + network, shape.ip6, 6, bytes - tcp), p->frame + tcp,
                         bytes - tcp) == 0xffff);
        free(p);
    }
}

static void test_refused(void)
{
    struct shape shape = {.data = 100, .segment = 50};
    size_t n;
    struct exo_packet *p = tcp_make(&shape, &n), good = *p;
    EXPECT(packet_check(p, n));
    EXPECT(!packet_check(p, sizeof(*p) + EXO_FRAME_MIN - 1));
    EXPECT(!packet_check(p, EXO_PACKET_MAX + 1));
    EXPECT(!packet_check(p, 0));
#define REFUSED(field, value)                                                                      \
    do {                                                                                           \
        *p = good;                                                                                 \
        p->field = (value);                                                                        \
        EXPECT(!packet_check(p, n));                                                               \
    } while (0)
    REFUSED(segments, 3); /* UDP: not ours */
    REFUSED(segments, 0x81); /* ECN */
    REFUSED(segment_bytes, 0);
    REFUSED(checksum_start, 13);
    REFUSED(checksum_start, 0xffff);
    REFUSED(checksum_start, 20); /* no room for an IP header */
    REFUSED(checksum_at, 0xffff);
    REFUSED(checksum_at, 6); /* UDP's */
    REFUSED(flags, 0);
    *p = good;
    p->frame[good.checksum_start + 12] = 0x40; /* a TCP header of 16 bytes */
    EXPECT(!packet_check(p, n));
    p->frame[good.checksum_start + 12] = 0xf0;
    EXPECT(packet_check(p, n) && p->headers == good.checksum_start + 60);
    EXPECT(!packet_check(p, sizeof(*p) + good.checksum_start + 60)); /* no data */
    free(p);
}

/* Whatever the peer sends: nothing outside the packet is touched, and it ends. */
static void test_mutations(void)
{
    for (unsigned i = 0; i < MUTATIONS; i++) {
        size_t n = next(200), got, done = 0, steps = 0;
        struct exo_packet *p = malloc(n ? n : 1), *to = malloc(n ? n : 1);
        for (size_t k = 0; k < n; k++)
            ((uint8_t *)p)[k] = (uint8_t)(next(4) ? next(256) : 0);
        if (n >= sizeof(*p) && next(4)) {
            p->flags = 1;
            p->segments = next(2) ? EXO_PACKET_TCP4 : EXO_PACKET_TCP6;
            p->checksum_at = 16;
            p->checksum_start = (uint16_t)next(n);
        }
        if (packet_check(p, n)) {
            if (!p->segments)
                packet_checksum(p, n);
            else
                while ((got = packet_segment(p, n, &done, to)) && steps++ <= n)
                    EXPECT(got <= n);
            EXPECT(steps <= n);
        }
        free(p);
        free(to);
    }
}

int main(void)
{
    static const struct unit_test tests[] = {{"segments", test_segments},
                                             {"checksums", test_checksum},
                                             {"refused headers", test_refused},
                                             {"mutations", test_mutations}};
    return TESTS_RUN("packets", tests);
}
