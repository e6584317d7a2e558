/* SPDX-License-Identifier: MIT
 *
 * Pairs of stream sockets: two pipes, one each way, in one piece of memory that lives until
 * both ends are closed. Owner: the server; no locks. An end waits in one queue of its own,
 * for bytes and for room. There is no network and there are no names here: other sockets
 * are refused. */
#include "pipe.h"
#include "../../signals.h"
#include "../../../../lib/exo/exo.h"
#include <asm/ioctls.h>
#include <asm/poll.h>

/* As every program's <sys/socket.h> has them; Linux exports no header with them. */
#define SOCKET_AF_UNIX 1
#define SOCKET_STREAM 1
#define SOCKET_TYPE_MASK 0xfu
#define SOCKET_SHUT_RD 0
#define SOCKET_SHUT_WR 1
#define SOCKET_SHUT_RDWR 2
#define SOCKET_DONTWAIT 0x40u
#define SOCKET_NOSIGNAL 0x4000u

struct socket_pair;
struct socket {
    struct socket_pair *pair;
    struct pipe *in, *out;
    struct waitq wait;
    bool read_shut, write_shut;
};
struct socket_pair {
    struct pipe pipe[2];
    struct socket end[2];
    unsigned open;
};

static long socket_read(struct file *file, struct iobuf *io, uint64_t *pos)
{
    struct socket *socket = file->data;
    (void)pos;
    if (socket->read_shut && !pipe_fill(socket->in)) return 0;
    return pipe_get(socket->in, io);
}

static long socket_write(struct file *file, struct iobuf *io, uint64_t *pos)
{
    struct socket *socket = file->data;
    (void)pos;
    if (!socket->write_shut) return pipe_put(socket->out, io);
    signal_process(thread_current->process, SIGPIPE);
    return -EPIPE;
}

static long socket_ioctl(struct file *file, struct thread *thread, uint32_t command,
                         uint64_t argument, struct iobuf *io)
{
    struct socket *socket = file->data;
    (void)thread, (void)argument;
    if (command != FIONREAD) return -ENOTTY;
    int fill = (int)pipe_fill(socket->in);
    iobuf_put(io, &fill, sizeof(fill));
    return 0;
}

static unsigned socket_poll(struct file *file)
{
    const struct socket *socket = file->data;
    bool over = socket->read_shut || !socket->in->writers;
    bool full = pipe_room(socket->out) < LX_PIPE_ATOMIC && socket->out->readers;
    unsigned events = pipe_fill(socket->in) || over ? POLLIN | POLLRDNORM : 0;
    if (!full) events |= POLLOUT | POLLWRNORM;
    if (over) events |= POLLRDHUP;
    if (over && (socket->write_shut || !socket->out->readers)) events |= POLLHUP;
    return events;
}

static struct waitq *socket_queue(struct file *file)
{
    return &((struct socket *)file->data)->wait;
}

static void socket_shut(struct socket *socket, bool read, bool write)
{
    if (read && !socket->read_shut) {
        socket->read_shut = true;
        socket->in->readers--;
    }
    if (write && !socket->write_shut) {
        socket->write_shut = true;
        socket->out->writers--;
    }
    wake(&socket->pair->end[0].wait);
    wake(&socket->pair->end[1].wait);
}

static void socket_close(struct file *file)
{
    struct socket *socket = file->data;
    struct socket_pair *pair = socket->pair;
    socket_shut(socket, true, true);
    if (--pair->open) return;
    pipe_end(&pair->pipe[0]);
    pipe_end(&pair->pipe[1]);
    free(pair);
}

static const struct file_ops socket_ops = {.read = socket_read,
                                           .write = socket_write,
                                           .ioctl = socket_ioctl,
                                           .poll = socket_poll,
                                           .queue = socket_queue,
                                           .close = socket_close};

bool file_is_socket(const struct file *file) { return file->ops == &socket_ops; }

static struct socket_pair *socket_pair_new(void)
{
    struct socket_pair *pair = malloc(sizeof(*pair));
    if (!pair) return NULL;
    memset(pair, 0, sizeof(*pair));
    for (unsigned i = 0; i < 2; i++) {
        struct socket *socket = &pair->end[i];
        pipe_init(&pair->pipe[i]);
        pair->pipe[i].readers = pair->pipe[i].writers = 1;
        socket->pair = pair;
        socket->in = &pair->pipe[i];
        socket->out = &pair->pipe[!i];
        socket->in->readable = socket->out->writable = &socket->wait;
    }
    return pair;
}

long call_socketpair(struct thread *thread, const uint64_t a[6])
{
    uint32_t type = (uint32_t)a[1];
    uint32_t flags = type & (O_CLOEXEC | O_NONBLOCK);
    if (a[0] != SOCKET_AF_UNIX) return -EAFNOSUPPORT;
    if ((type & ~flags) != SOCKET_STREAM)
        return (type & ~flags & ~SOCKET_TYPE_MASK) ? -EINVAL : -ESOCKTNOSUPPORT;
    if (a[2] != 0 && a[2] != SOCKET_AF_UNIX) return -EPROTONOSUPPORT;
    struct socket_pair *pair = socket_pair_new();
    if (!pair) return -ENOMEM;
    struct file *file[2];
    for (unsigned i = 0; i < 2; i++) {
        file[i] = file_new(&socket_ops, O_RDWR | (flags & O_NONBLOCK));
        if (!file[i]) continue;
        file[i]->data = &pair->end[i];
        pair->open++;
    }
    if (file[0] && file[1]) return pipe_install(thread, file[0], file[1], flags);
    for (unsigned i = 0; i < 2; i++)
        if (file[i]) file_put(file[i]);
    if (!file[0] && !file[1]) {
        pair->open = 1;
        socket_close(&(struct file){.data = &pair->end[0]});
    }
    return -ENFILE;
}

long call_shutdown(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]);
    if (!file) return -EBADF;
    if (!file_is_socket(file)) return -ENOTSOCK;
    if (a[1] > SOCKET_SHUT_RDWR) return -EINVAL;
    socket_shut(file->data, a[1] != SOCKET_SHUT_WR, a[1] != SOCKET_SHUT_RD);
    return 0;
}

/* The socket of a call that moves bytes, and its buffer. */
static long socket_begin(struct thread *thread, const uint64_t a[6], bool read, struct file **file,
                         struct iobuf *io)
{
    *file = fd_file(thread, a[0]);
    if (!*file) return -EBADF;
    if (!file_is_socket(*file)) return -ENOTSOCK;
    if (a[3] & ~(uint64_t)(SOCKET_DONTWAIT | SOCKET_NOSIGNAL)) return -EOPNOTSUPP;
    return iobuf_from(io, thread, a[1], a[2], read);
}

static long socket_end(struct thread *thread, struct file *file, uint64_t flags, long r)
{
    bool wait = !(file->flags & O_NONBLOCK) && !(flags & SOCKET_DONTWAIT);
    return r == -EAGAIN && wait ? wait_on(socket_queue(file), thread) : r;
}

long call_sendto(struct thread *thread, const uint64_t a[6])
{
    struct file *file;
    struct iobuf io;
    long r = socket_begin(thread, a, false, &file, &io);
    if (r < 0) return r;
    if (a[4]) return -EISCONN;
    const struct socket *socket = file->data;
    bool ended = socket->write_shut || !socket->out->readers;
    if (ended && (a[3] & SOCKET_NOSIGNAL)) return -EPIPE;
    return socket_end(thread, file, a[3], socket_write(file, &io, NULL));
}

/* No address comes back: a socket of a pair has none. */
long call_recvfrom(struct thread *thread, const uint64_t a[6])
{
    struct file *file;
    struct iobuf io;
    long r = socket_begin(thread, a, true, &file, &io);
    if (r < 0) return r;
    return socket_end(thread, file, a[3], socket_read(file, &io, NULL));
}
