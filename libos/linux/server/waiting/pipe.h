/* SPDX-License-Identifier: MIT
 *
 * Pipes, fifos and pairs of stream sockets. */
#ifndef LX_PIPE_H
#define LX_PIPE_H
#include "../server.h"

#define LX_PIPE_BYTES 65536u /* in one, at most; a new one takes as many */
#define LX_PIPE_ATOMIC 4096u /* PIPE_BUF: writes up to here are not mixed with others */
#define LX_PIPE_PAGES (LX_PIPE_BYTES / 4096)

/* One direction. Indices count on, and begin anew when it is empty. */
struct pipe {
    uint32_t head, tail; /* bytes put in, taken out */
    uint32_t size; /* it is full with so many */
    uint32_t readers, writers; /* open */
    uint32_t both; /* files that are readers and writers */
    uint32_t writers_ever; /* counts on */
    struct waitq *readable, *writable; /* these two, or those of a socket */
    struct waitq wait[2];
    uint8_t *data[LX_PIPE_PAGES]; /* NULL: not needed yet */
    uint32_t page[LX_PIPE_PAGES];
    /* A fifo */
    struct pipe **home; /* its inode's pointer to this */
    struct waitq opening; /* threads that wait for the other side */
    uint32_t opening_readers, opening_writers;
    bool held; /* somebody looks at it: it does not end meanwhile */
    struct ring *ring; /* NULL: it has none (ring.h) */
    uint32_t handed; /* small writes that a waiting reader was given since one was offered ... */
    uint32_t offer_after; /* ... which is done after so many */
};

/* Opens a fifo: *home is the inode's pointer, set here and NULL again when the last file on
 * it closes. flags: O_RDONLY, O_WRONLY or O_RDWR, and O_NONBLOCK. 0 with *file (one
 * reference; the caller sets file->inode); -LX_WAIT until the other side is there (the
 * thread has joined the queue; the same call comes again); -ENXIO, -ENOMEM, -ENFILE. */
long fifo_open(struct pipe **home, uint32_t flags, struct file **file);
/* Threads that wait to open a fifo. When one of them makes another call than that one
 * again, the next but one ends the waiting: wait_end says so for each call. */
extern struct opener *fifo_openers;
void fifo_back(struct thread *thread);
/* The thread ends. */
void fifo_end(struct thread *thread);

/* pipe, pipe2 (-, flags): two descriptors (uint32_t, reader first) at the window's start.
 * -EMFILE, -ENFILE, -ENOMEM, -EINVAL. */
call_function call_pipe, call_pipe2;
/* F_GETPIPE_SZ and F_SETPIPE_SZ of fcntl: the size; -EBADF when it is no pipe; -EBUSY when
 * more lies in it, -EPERM above LX_PIPE_BYTES, -EINVAL for 0. */
long pipe_size(struct file *file);
long pipe_resize(struct file *file, uint64_t size);
/* An end of a pipe or fifo (for stat of one that has no name). */
bool file_is_pipe(const struct file *file);
/* Pipes there are, of all kinds: for leak checks. */
unsigned pipe_count(void);

/* ---- sockets (socket.c) ---- */
/* socketpair(AF_UNIX, SOCK_STREAM, 0): two descriptors at the window's start. Others:
 * -EAFNOSUPPORT, -ESOCKTNOSUPPORT, -EPROTONOSUPPORT; and as pipe. */
call_function call_socketpair;
/* shutdown(fd, how): -ENOTSOCK, -EINVAL. */
call_function call_shutdown;
/* sendto (fd, buffer, flags, address) and recvfrom: as write and read. Flags: MSG_DONTWAIT,
 * MSG_NOSIGNAL; others -EOPNOTSUPP. -ENOTSOCK, -EISCONN with an address to send to. */
call_function call_sendto, call_recvfrom;
bool file_is_socket(const struct file *file);

/* ---- what socket.c builds on ---- */
void pipe_init(struct pipe *pipe);
/* Gives its pages back, wakes everybody. */
void pipe_end(struct pipe *pipe);
/* As file_ops' read and write. */
long pipe_get(struct pipe *pipe, struct iobuf *io);
long pipe_put(struct pipe *pipe, struct iobuf *io);
/* The pages for n more bytes, at most LX_PIPE_ATOMIC: false: no memory. */
bool pipe_pages(struct pipe *pipe, uint32_t n);
/* n more bytes, for which there is room: how many of them there was memory for. */
size_t pipe_append(struct pipe *pipe, struct iobuf *io, size_t n);
/* Of a file that may be a pipe's: a ring that it has is closed. */
void pipe_settle(struct file *file);
static inline uint32_t pipe_fill(const struct pipe *pipe) { return pipe->head - pipe->tail; }
static inline uint32_t pipe_room(const struct pipe *pipe)
{
    uint32_t fill = pipe_fill(pipe);
    return fill < pipe->size ? pipe->size - fill : 0;
}
/* Two files as descriptors, at the window's start; drops both on an error. */
long pipe_install(struct thread *thread, struct file *first, struct file *second, uint32_t flags);
#endif
