/* SPDX-License-Identifier: MIT
 *
 * /dev/vm: each open is a conversation of its own, a stream (lib/exo/stream.h) of the channel
 * with the tag vm. What is written is the request, what is read the reply; at the end of the
 * other side reads give 0 and writes EPIPE. Owner: the server; no locks. */
#include "../../../../lib/exo/stream.h"
#include "../manage.h"
#include <asm/poll.h>

#define AT_ONCE 4096
#define LOOKS 64 /* at the channel, for one event; what is left signals again */

static struct exo_channel channel;
static struct exo_streams streams;
static bool has_channel;
static struct conversation {
    struct exo_stream *stream; /* NULL: free */
    struct waitq wait;
} conversations[EXO_STREAMS];

static struct exo_stream *stream_of(struct file *file)
{
    return ((struct conversation *)file->data)->stream;
}

static long vm_read(struct file *file, struct iobuf *io, uint64_t *pos)
{
    struct exo_stream *stream = stream_of(file);
    uint8_t bytes[AT_ONCE];
    long done = 0;
    (void)pos;
    if (!io->left) return 0;
    while (io->left) {
        size_t n = exo_stream_read(stream, bytes, EXO_MIN(io->left, sizeof(bytes)));
        if (!n) break;
        iobuf_put(io, bytes, n);
        done += (long)n;
    }
    return done || exo_stream_ended(stream) ? done : -EAGAIN;
}

static bool over(const struct exo_stream *stream)
{
    return stream->ended || exo_streams_ended(stream->of);
}

static long vm_write(struct file *file, struct iobuf *io, uint64_t *pos)
{
    struct exo_stream *stream = stream_of(file);
    uint8_t bytes[AT_ONCE];
    long done = 0;
    (void)pos;
    if (over(stream)) return -EPIPE;
    while (io->left) {
        size_t n = EXO_MIN(exo_stream_writable(stream), sizeof(bytes));
        n = iobuf_get(io, bytes, EXO_MIN(io->left, n));
        if (!n) break;
        exo_stream_write(stream, bytes, n);
        done += (long)n;
    }
    return done || !io->left ? done : -EAGAIN;
}

static unsigned vm_poll(struct file *file)
{
    const struct exo_stream *stream = stream_of(file);
    unsigned events = 0;
    if (exo_stream_readable(stream)) events |= POLLIN | POLLRDNORM;
    if (over(stream)) return events | POLLIN | POLLRDNORM | POLLHUP;
    return exo_stream_writable(stream) ? events | POLLOUT | POLLWRNORM : events;
}

static struct waitq *vm_queue(struct file *file)
{
    return &((struct conversation *)file->data)->wait;
}

static void vm_close(struct file *file)
{
    struct conversation *c = file->data;
    exo_stream_close(c->stream);
    c->stream = NULL;
    wake(&c->wait);
}

static const struct file_ops vm_ops = {
    .read = vm_read, .write = vm_write, .poll = vm_poll, .queue = vm_queue, .close = vm_close};

static long vm_open(void *data, uint32_t flags, struct file **file)
{
    struct conversation *c = conversations;
    (void)data;
    if (exo_streams_ended(&streams)) return -ENXIO;
    while (c < conversations + EXO_STREAMS && c->stream)
        c++;
    if (c == conversations + EXO_STREAMS) return -EBUSY;
    c->stream = exo_stream_open(&streams);
    if (!c->stream) return -EBUSY;
    *file = file_new(&vm_ops, flags);
    if (!*file) {
        exo_stream_close(c->stream);
        c->stream = NULL;
        return -ENFILE;
    }
    (*file)->data = c;
    return 0;
}

uint64_t vm_dev_events(void) { return has_channel ? channel.event : 0; }

void vm_dev_poll(void)
{
    if (!has_channel) return;
    for (unsigned i = 0; i < LOOKS && exo_streams_look(&streams); i++)
        ;
    for (unsigned i = 0; i < EXO_STREAMS; i++)
        if (conversations[i].stream) wake(&conversations[i].wait);
}

void vm_dev_init(void)
{
    static const struct dev_ops ops = {.open = vm_open};
    has_channel = exo_channel_find(&channel, NULL, "vm") == 0;
    if (!has_channel) return;
    exo_streams_init(&streams, &channel, true);
    exo_streams_look(&streams); /* from now on its event comes */
    long r = dev_register("vm", S_IFCHR | 0600, LX_DEV(10, 241), &ops, NULL);
    if (r < 0) log_line("/dev/vm: error %ld", -r);
}
