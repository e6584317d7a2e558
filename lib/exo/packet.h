/* SPDX-License-Identifier: MIT
 *
 * What a channel of network packets carries: an Ethernet frame without its checksum, after
 * a header that says what the sender left to be done. Whoever hands a frame on only moves
 * both; whoever takes it does the rest, or knows a guest that can. (The header is that of
 * virtio network devices: "VIRTIO Version 1.2", section 5.1.6.) */
#ifndef EXO_PACKET_H
#define EXO_PACKET_H

#include <stdint.h>

struct exo_packet {
    uint8_t flags; /* EXO_PACKET_CHECKSUM */
    uint8_t segments; /* EXO_PACKET_TCP4, TCP6: to be cut; 0: not */
    uint16_t headers; /* bytes of all headers; a hint */
    uint16_t segment_bytes; /* of TCP data in each segment */
    uint16_t checksum_start; /* offsets in the frame: sum from here on to the end ... */
    uint16_t checksum_at; /* ... and put it here, after checksum_start */
    uint16_t spare;
    uint8_t frame[];
};
#define EXO_PACKET_CHECKSUM 1 /* the checksum's field holds the pseudo-header's sum */
#define EXO_PACKET_TCP4 1
#define EXO_PACKET_TCP6 4
#define EXO_FRAME_MIN 14 /* bytes of a frame: its addresses and type */
#define EXO_FRAME_MAX 65553 /* a VLAN's tag, and an IP packet as long as it can be */
#define EXO_PACKET_MAX (sizeof(struct exo_packet) + EXO_FRAME_MAX)
_Static_assert(sizeof(struct exo_packet) == 12, "header of packets");

#endif
