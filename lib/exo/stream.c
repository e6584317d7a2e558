/* SPDX-License-Identifier: MIT
 *
 * Streams over a channel of packets: a header, then up to DATA_MAX bytes. Each side may
 * send as much of a stream as the other has said that there is room for. Whoever closes
 * forgets the stream at once; what still comes for it is passed over. */
#include "stream.h"

enum { OPEN = 1, DATA, WINDOW, CLOSE };
#define DATA_MAX 4096u
#define ROOM_LEAST 64 /* bytes of data that are worth a packet of their own */
#define LOOK_MAX 64 /* packets taken at a time */

struct packet {
    uint32_t id, kind;
    union {
        uint32_t window; /* bytes that were read */
        uint8_t data[DATA_MAX];
    };
};
#define HEADER offsetof(struct packet, data)

void exo_streams_init(struct exo_streams *streams, struct exo_channel *channel, bool opener)
{
    memset(streams, 0, sizeof(*streams));
    streams->channel = channel;
    streams->opener = opener;
}

bool exo_streams_ended(const struct exo_streams *streams)
{
    return exo_channel_closed(streams->channel) || exo_channel_broken(streams->channel);
}

static bool send(struct exo_streams *streams, uint32_t id, uint32_t kind, uint32_t window)
{
    struct {
        uint32_t id, kind, window;
    } packet = {id, kind, window};
    return exo_channel_send(streams->channel, &packet, sizeof(packet));
}

static struct exo_stream *find(struct exo_streams *streams, uint32_t id)
{
    for (unsigned i = 0; i < EXO_STREAMS; i++) {
        struct exo_stream *s = &streams->stream[i];
        if (s->of && !s->closed && s->id == id) return s;
    }
    return NULL;
}

static struct exo_stream *make(struct exo_streams *streams, uint32_t id)
{
    for (unsigned i = 0; i < EXO_STREAMS; i++) {
        struct exo_stream *s = &streams->stream[i];
        if (s->of) continue;
        uint8_t *in = malloc(EXO_STREAM_WINDOW);
        if (!in) return NULL;
        *s = (struct exo_stream){
            .of = streams, .id = id, .credit = EXO_STREAM_WINDOW, .in = in, .fresh = true};
        return s;
    }
    return NULL;
}

static void forget(struct exo_stream *s)
{
    free(s->in);
    *s = (struct exo_stream){0};
}

struct exo_stream *exo_stream_open(struct exo_streams *streams)
{
    if (exo_streams_ended(streams)) return NULL;
    do
        streams->next++;
    while (!streams->next || find(streams, streams->next));
    struct exo_stream *s = make(streams, streams->next);
    if (s && !send(streams, s->id, OPEN, 0)) {
        forget(s);
        return NULL;
    }
    if (s) s->fresh = false;
    return s;
}

struct exo_stream *exo_stream_accept(struct exo_streams *streams)
{
    for (unsigned i = 0; i < EXO_STREAMS; i++) {
        struct exo_stream *s = &streams->stream[i];
        if (!s->of || !s->fresh) continue;
        s->fresh = false;
        return s;
    }
    return NULL;
}

size_t exo_stream_readable(const struct exo_stream *s) { return s->head - s->tail; }

size_t exo_stream_writable(const struct exo_stream *s)
{
    size_t header = HEADER + sizeof(uint32_t);
    size_t room = exo_channel_room(s->of->channel, header + ROOM_LEAST);
    if (s->ended || room < header + ROOM_LEAST) return 0;
    return EXO_MIN(EXO_MIN(s->credit, DATA_MAX), room - header);
}

bool exo_stream_ended(const struct exo_stream *s)
{
    return (s->ended || exo_streams_ended(s->of)) && s->head == s->tail;
}

size_t exo_stream_write(struct exo_stream *s, const void *data, size_t n)
{
    size_t done = 0;
    while (done < n && !s->ended) {
        struct packet packet = {.id = s->id, .kind = DATA};
        size_t most = EXO_MIN(DATA_MAX, exo_channel_packet_max(s->of->channel) - HEADER);
        size_t step = EXO_MIN(EXO_MIN(n - done, most), s->credit);
        memcpy(packet.data, (const char *)data + done, step);
        if (!step || !exo_channel_send(s->of->channel, &packet, HEADER + step)) break;
        s->credit -= (uint32_t)step;
        done += step;
    }
    return done;
}

/* Tells the peer of room, when that is much of the window or all there was is read. */
static void window_send(struct exo_stream *s)
{
    if (!s->owed || s->ended) return;
    if (s->owed < EXO_STREAM_WINDOW / 2 && s->head != s->tail) return;
    if (send(s->of, s->id, WINDOW, s->owed)) s->owed = 0;
}

size_t exo_stream_read(struct exo_stream *s, void *data, size_t n)
{
    n = EXO_MIN(n, exo_stream_readable(s));
    for (size_t done = 0; done < n;) {
        uint32_t at = s->tail & (EXO_STREAM_WINDOW - 1);
        size_t step = EXO_MIN(n - done, EXO_STREAM_WINDOW - at);
        memcpy((char *)data + done, s->in + at, step);
        s->tail += (uint32_t)step;
        done += step;
    }
    s->owed += (uint32_t)n;
    window_send(s);
    return n;
}

/* True when nothing is left to be said of it. */
static bool close_send(struct exo_stream *s)
{
    return s->ended || exo_streams_ended(s->of) || send(s->of, s->id, CLOSE, 0);
}

void exo_stream_close(struct exo_stream *s)
{
    s->closed = true;
    if (close_send(s)) forget(s);
}

/* ---- what comes -------------------------------------------------------------------------- */

/* False: the peer sent more than it may. */
static bool take_data(struct exo_stream *s, const uint8_t *data, size_t n)
{
    if (n > EXO_STREAM_WINDOW - (s->head - s->tail)) return false;
    for (size_t done = 0; done < n;) {
        uint32_t at = s->head & (EXO_STREAM_WINDOW - 1);
        size_t step = EXO_MIN(n - done, EXO_STREAM_WINDOW - at);
        memcpy(s->in + at, data + done, step);
        s->head += (uint32_t)step;
        done += step;
    }
    return true;
}

/* False: it breaks the rules. */
static bool take(struct exo_streams *streams, const struct packet *packet, size_t n)
{
    if (n < HEADER || packet->kind < OPEN || packet->kind > CLOSE) return false;
    if (packet->kind != DATA && n != HEADER + sizeof(uint32_t)) return false;
    struct exo_stream *s = find(streams, packet->id);
    if (packet->kind == OPEN) {
        if (streams->opener || s || !packet->id) return false;
        if (!make(streams, packet->id)) streams->refused = packet->id;
        return true;
    }
    if (!s) return true; /* we have closed it */
    if (packet->kind == DATA) return !s->ended && take_data(s, packet->data, n - HEADER);
    if (packet->kind == CLOSE) {
        s->ended = true;
        return true;
    }
    if (packet->window > EXO_STREAM_WINDOW - s->credit) return false;
    s->credit += packet->window;
    return true;
}

/* What had no room earlier. False: it still has none. */
static bool send_rest(struct exo_streams *streams)
{
    if (streams->refused && !send(streams, streams->refused, CLOSE, 0)) return false;
    streams->refused = 0;
    for (unsigned i = 0; i < EXO_STREAMS; i++) {
        struct exo_stream *s = &streams->stream[i];
        if (s->of && s->closed && close_send(s)) forget(s);
        if (s->of && !s->closed) window_send(s);
    }
    return true;
}

bool exo_streams_look(struct exo_streams *streams)
{
    struct packet packet;
    bool some = false;
    if (!send_rest(streams)) return false;
    for (int i = 0; i < LOOK_MAX && !streams->refused; i++) {
        size_t n = exo_channel_receive(streams->channel, &packet, sizeof(packet));
        if (!n) break;
        some = true;
        if (!take(streams, &packet, n)) streams->channel->broken = true;
    }
    return some | streams->refused;
}
