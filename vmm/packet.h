/* SPDX-License-Identifier: MIT
 *
 * Packets from a peer that is not trusted: checked, and completed for a guest that cannot
 * do so itself. Works on memory that nobody else writes to. */
#ifndef VMM_PACKET_H
#define VMM_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "../lib/exo/packet.h"

/* The packet of n bytes, header included, is whole and its header makes sense; clears what
 * a guest need not see of the header, and sets `headers` right. */
bool packet_check(struct exo_packet *packet, size_t n);
/* Fills in the checksum that the sender left out, if it did. The packet is checked, and
 * not to be cut. */
void packet_checksum(struct exo_packet *packet, size_t n);
/* Cuts the next segment out of a checked packet whose `segments` is set: writes it, with
 * its checksums, to `to` (room for n bytes), moves *done (0 at first; bytes of TCP data)
 * on; its length with header, 0 when there is none left. */
size_t packet_segment(const struct exo_packet *packet, size_t n, size_t *done,
                      struct exo_packet *to);
#endif
