/* SPDX-License-Identifier: MIT
 *
 * Checks, checksums and segments of packets: see packet.h. Offsets come from the peer:
 * packet_check bounds all that the other functions use. Fields of frames are big endian
 * (RFC 791, 8200, 9293). */
#include "packet.h"
#include "../lib/exo/exo.h"

#define ETHER_TYPE 12 /* offset; the network header follows it */
#define TCP_CHECKSUM 16 /* offsets in the TCP header */
#define TCP_SEQUENCE 4
#define TCP_OFFSET 12
#define TCP_FLAGS 13
#define TCP_FIN_PSH 0x09
#define TCP_CWR 0x80
#define TCP_LEAST 20
#define IP4_LENGTH 2 /* offsets in the IP headers */
#define IP4_ID 4
#define IP4_CHECKSUM 10
#define IP4_LEAST 20
#define IP6_LENGTH 4
#define IP6_LEAST 40

static uint32_t get16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }
static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* Where the network header begins: behind the Ethernet header and one VLAN tag. */
static size_t network_start(const uint8_t *frame)
{
    return ETHER_TYPE + 2 + (get16(frame + ETHER_TYPE) == 0x8100 ? 4 : 0);
}

static bool segments_check(struct exo_packet *packet, size_t bytes)
{
    size_t tcp = packet->checksum_start, least;
    if (packet->segments == EXO_PACKET_TCP4)
        least = IP4_LEAST;
    else if (packet->segments == EXO_PACKET_TCP6)
        least = IP6_LEAST;
    else
        return false;
    if (!(packet->flags & EXO_PACKET_CHECKSUM) || packet->checksum_at != TCP_CHECKSUM) return false;
    if (!packet->segment_bytes || bytes < tcp + TCP_LEAST) return false;
    if (tcp < network_start(packet->frame) + least) return false;
    size_t header = (size_t)(packet->frame[tcp + TCP_OFFSET] >> 4) * 4;
    if (header < TCP_LEAST || bytes <= tcp + header) return false;
    packet->headers = (uint16_t)(tcp + header);
    return true;
}

bool packet_check(struct exo_packet *packet, size_t n)
{
    if (n < sizeof(*packet) + EXO_FRAME_MIN || n > EXO_PACKET_MAX) return false;
    size_t bytes = n - sizeof(*packet);
    packet->flags &= EXO_PACKET_CHECKSUM;
    packet->spare = packet->headers = 0;
    if (!packet->flags)
        packet->checksum_start = packet->checksum_at = 0;
    else if (packet->checksum_start < EXO_FRAME_MIN ||
             (size_t)packet->checksum_start + packet->checksum_at + 2 > bytes)
        return false;
    if (packet->segments) return segments_check(packet, bytes);
    packet->segment_bytes = 0;
    return true;
}

/* The Internet checksum's sum, of 16-bit words as they lie in memory (RFC 1071, 2.B). */
static uint64_t sum_add(uint64_t sum, const uint8_t *at, size_t n)
{
    for (; n >= 4; n -= 4, at += 4) {
        uint32_t word;
        memcpy(&word, at, sizeof(word));
        sum += word;
    }
    uint8_t last[4] = {0};
    memcpy(last, at, n);
    uint32_t word;
    memcpy(&word, last, sizeof(word));
    return sum + word;
}

/* Its 16 bits, to be stored as they are. */
static uint16_t sum_fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* Sums [start, bytes) of the frame into the field at `at`, which holds the pseudo-header's
 * sum. 0 is sent as its other form: to UDP it would mean that there is none (RFC 768). */
static void checksum_fill(uint8_t *frame, size_t bytes, size_t start, size_t at)
{
    uint16_t sum = sum_fold(sum_add(0, frame + start, bytes - start));
    if (!sum) sum = 0xffff;
    memcpy(frame + at, &sum, sizeof(sum));
}

void packet_checksum(struct exo_packet *packet, size_t n)
{
    if (!(packet->flags & EXO_PACKET_CHECKSUM)) return;
    checksum_fill(packet->frame, n - sizeof(*packet), packet->checksum_start,
                  (size_t)packet->checksum_start + packet->checksum_at);
    packet->flags = 0;
    packet->checksum_start = packet->checksum_at = 0;
}

/* The network header of a segment: its length, and what depends on it. */
static void network_adjust(uint8_t *network, bool ip6, size_t bytes, size_t header, uint32_t index)
{
    if (ip6) {
        put16(network + IP6_LENGTH, (uint32_t)(bytes - IP6_LEAST));
        return;
    }
    put16(network + IP4_LENGTH, (uint32_t)bytes);
    put16(network + IP4_ID, get16(network + IP4_ID) + index);
    put16(network + IP4_CHECKSUM, 0);
    uint16_t sum = sum_fold(sum_add(0, network, header));
    memcpy(network + IP4_CHECKSUM, &sum, sizeof(sum));
}

/* The pseudo-header's sum in the TCP checksum counts the whole packet's length: it is
 * replaced by the segment's. */
static void tcp_adjust(uint8_t *tcp, uint32_t whole, uint32_t bytes, size_t done, bool first,
                       bool last)
{
    uint32_t sequence = get16(tcp + TCP_SEQUENCE) << 16 | get16(tcp + TCP_SEQUENCE + 2);
    sequence += (uint32_t)done;
    put16(tcp + TCP_SEQUENCE, sequence >> 16);
    put16(tcp + TCP_SEQUENCE + 2, sequence);
    if (!last) tcp[TCP_FLAGS] &= (uint8_t)~TCP_FIN_PSH;
    if (!first) tcp[TCP_FLAGS] &= (uint8_t)~TCP_CWR;
    uint32_t sum = get16(tcp + TCP_CHECKSUM) + (0xffff - (whole & 0xffff)) + bytes;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    put16(tcp + TCP_CHECKSUM, sum);
}

size_t packet_segment(const struct exo_packet *packet, size_t n, size_t *done,
                      struct exo_packet *to)
{
    size_t headers = packet->headers, tcp = packet->checksum_start;
    size_t all = n - sizeof(*packet) - headers; /* bytes of TCP data */
    if (*done >= all) return 0;
    size_t data = EXO_MIN(all - *done, (size_t)packet->segment_bytes);
    size_t bytes = headers + data, network = network_start(packet->frame);
    memset(to, 0, sizeof(*to));
    memcpy(to->frame, packet->frame, headers);
    memcpy(to->frame + headers, packet->frame + headers + *done, data);
    network_adjust(to->frame + network, packet->segments == EXO_PACKET_TCP6, bytes - network,
                   tcp - network, (uint32_t)(*done / packet->segment_bytes));
    tcp_adjust(to->frame + tcp, (uint32_t)(headers - tcp + all), (uint32_t)(bytes - tcp), *done,
               !*done, *done + data == all);
    checksum_fill(to->frame, bytes, tcp, tcp + TCP_CHECKSUM);
    *done += data;
    return sizeof(*to) + bytes;
}
