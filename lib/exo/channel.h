/* SPDX-License-Identifier: MIT
 *
 * Channels: two byte rings between two programs, one each way, in frames that root
 * gives to both of them, and an event each way. Root's configuration says who talks
 * to whom; a program finds its channels in its startup page. The peer is not
 * trusted: what it writes can spoil the bytes that it sends, and nothing else.
 *
 * Waiting: whoever got less than asked (a read, receive or readable of 0; a write or
 * send that did not take everything) is signalled through `event` when there is more.
 * So: look until there is nothing, then exo_event_wait(c->event | ..., 0), then look
 * again. A signal can come without a reason; none is missed.
 *
 * A channel is for one thread at a time: others need a lock of their own. */
#ifndef EXO_CHANNEL_H
#define EXO_CHANNEL_H
#include "exo.h"

#define EXO_CHANNEL_SPAN 0x400000 /* address space of one channel */
#define EXO_CHANNEL_RING_MAX 0x100000 /* bytes of a ring at most; at least a page */

/* One direction, in the shared head. Each index counts bytes since the beginning,
 * modulo 2^32; only its own side ever uses it, the other side only compares. */
struct exo_channel_ring {
    uint32_t head; /* bytes put in: the writer's */
    uint32_t writer_waits; /* the writer wants to hear of room */
    uint32_t spare0[14];
    uint32_t tail; /* bytes taken out: the reader's */
    uint32_t reader_waits; /* the reader wants to hear of bytes */
    uint32_t spare1[14];
};
/* The first page of a channel's frames; both rings follow it. */
struct exo_channel_head {
    struct exo_channel_ring ring[2]; /* ring[side] is filled by that side */
    uint32_t closed; /* not 0: one side has ended (root says so) */
};

struct exo_channel {
    volatile struct exo_channel_ring *out, *in;
    volatile uint32_t *closed;
    uint8_t *out_data, *in_data;
    uint32_t size; /* of each ring: a power of two */
    uint32_t head, tail; /* of out and of in: never read back from what is shared */
    uint32_t signal; /* selector */
    bool broken;
    uint64_t event; /* bit of our first thread's events that says: look again */
    char peer[32];
    char tag[16];
};

/* Opens the index-th channel of the startup page and maps its frames.
 * -EXO_E_NONE: there is none of that index; -EXO_E_BOUND: it is open already;
 * -EXO_E_ARG: what was given is no channel; else as exo_bind. */
long exo_channel_open(struct exo_channel *c, unsigned index);
/* Opens the first channel to that peer (NULL: any) with that tag (NULL: any, "": none)
 * which is not open yet. -EXO_E_NONE when there is none; else as exo_channel_open. */
long exo_channel_find(struct exo_channel *c, const char *peer, const char *tag);
/* Sets one up over memory: a zeroed head, then side 0's ring and side 1's, of `size`
 * bytes each (a power of two). exo_channel_open does this. */
void exo_channel_init(struct exo_channel *c, void *memory, uint32_t size, unsigned side);

/* One end of a channel, for whoever starts a program: `count` frames from `first` on of our
 * capability sel (a head and two rings), and our selector of the event that tells the other
 * end. The peer's name and the tag are those that the program sees. */
struct exo_channel_end {
    const char *peer, *tag;
    uint32_t sel, event;
    uint64_t first, count;
    unsigned side;
};
/* The index of the next channel that a program not yet started is given: its first thread is
 * told of it by bit EXO_EV_CHANNEL + index. -EXO_E_LIMIT: it has EXO_CHANNELS. */
long exo_channel_next(const struct exo_startup *start);
/* Gives it. -EXO_E_LIMIT as above; else as exo_child_give. */
long exo_channel_give(struct exo_child *child, const struct exo_channel_end *end);

/* From now on exo_write and exo_printf go to the first channel with that tag; what does not
 * fit is lost. Errors as exo_channel_find. */
long exo_channel_printf(const char *tag);

/* Bytes: as many as fit, or as there are; how many it was. 0 when broken. */
size_t exo_channel_write(struct exo_channel *c, const void *data, size_t n);
size_t exo_channel_read(struct exo_channel *c, void *data, size_t n);
/* Bytes that can be read or written at once now. */
size_t exo_channel_readable(struct exo_channel *c);
size_t exo_channel_writable(struct exo_channel *c);
/* The same for who wants that many bytes: with less room the channel's event tells of more. */
size_t exo_channel_room(struct exo_channel *c, size_t wanted);

/* Packets: a whole one or nothing (a channel carries packets or bytes, not both).
 * send: false when there is no room now, and always when n is 0 or above
 * exo_channel_packet_max. receive: the packet's length, 0 when there is none. A packet
 * of impossible length, or longer than max, breaks the channel. */
bool exo_channel_send(struct exo_channel *c, const void *packet, size_t n);
size_t exo_channel_receive(struct exo_channel *c, void *packet, size_t max);
static inline size_t exo_channel_packet_max(const struct exo_channel *c) { return c->size - 4; }

/* The peer wrote what cannot be: nothing goes through any more. */
static inline bool exo_channel_broken(const struct exo_channel *c) { return c->broken; }
/* The peer has ended; what it sent can still be read. */
static inline bool exo_channel_closed(const struct exo_channel *c) { return *c->closed != 0; }
#endif
