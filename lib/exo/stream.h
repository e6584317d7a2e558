/* SPDX-License-Identifier: MIT
 *
 * Streams: several conversations over one channel, each two streams of bytes with a window,
 * so that one that nobody reads holds up no other. One side opens them. The peer is not
 * trusted: it can spoil its own conversations, and get the channel broken, nothing else.
 *
 * For one thread. Waiting: as for channels (channel.h); look at the streams after each
 * event of the channel. */
#ifndef EXO_STREAM_H
#define EXO_STREAM_H
#include "channel.h"

#define EXO_STREAMS 16 /* at once, of one channel */
#define EXO_STREAM_WINDOW 32768u /* bytes under way, each direction */

struct exo_stream {
    struct exo_streams *of; /* NULL: this one is free */
    uint32_t id;
    bool fresh; /* exo_stream_accept has not given it out */
    bool ended; /* the peer sends no more */
    bool closed; /* by us: only the peer is to be told */
    uint32_t credit; /* bytes that we may send */
    uint32_t owed; /* bytes taken out of `in` that the peer does not know of */
    uint32_t head, tail; /* of in */
    uint8_t *in; /* EXO_STREAM_WINDOW bytes */
};
struct exo_streams {
    struct exo_channel *channel;
    bool opener; /* our side opens */
    uint32_t next; /* id */
    uint32_t refused; /* id: the peer is to be told, 0 none */
    struct exo_stream stream[EXO_STREAMS];
};

/* opener: only our side opens streams; else only the peer does. */
void exo_streams_init(struct exo_streams *streams, struct exo_channel *channel, bool opener);
/* Takes what came, sends what had no room. True when something came. */
bool exo_streams_look(struct exo_streams *streams);
/* The peer has ended or breaks the rules: all streams have ended. */
bool exo_streams_ended(const struct exo_streams *streams);

/* A new stream; NULL: all are in use, there is no memory, or no room in the channel now. */
struct exo_stream *exo_stream_open(struct exo_streams *streams);
/* One that the peer has opened; NULL: none. */
struct exo_stream *exo_stream_accept(struct exo_streams *streams);
/* Bytes: as many as fit, or as there are. */
size_t exo_stream_write(struct exo_stream *stream, const void *data, size_t n);
size_t exo_stream_read(struct exo_stream *stream, void *data, size_t n);
/* Bytes that can be read, or written by one call, now. */
size_t exo_stream_readable(const struct exo_stream *stream);
size_t exo_stream_writable(const struct exo_stream *stream);
/* The peer has closed it, and all that it sent was read. */
bool exo_stream_ended(const struct exo_stream *stream);
/* We are done with it: nothing more is read, what was written arrives. The structure is
 * not to be used afterwards. */
void exo_stream_close(struct exo_stream *stream);
#endif
