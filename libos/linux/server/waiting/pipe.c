/* SPDX-License-Identifier: MIT
 *
 * Pipes and fifos: 64 KiB rings of pages, which are taken as they are needed and kept until
 * the pipe ends. Owner: the server; no locks, it is one thread. Invariants: tail <= head <=
 * tail + size; every byte between them has its page; a reader waits only while there is
 * nothing, a writer only while less is free than it needs.
 *
 * A write of up to LX_PIPE_ATOMIC bytes is done whole or not at all. A longer one takes what
 * fits: the library asks again for the rest when its file may block.
 *
 * Who opens a fifo waits for the other side. The one that comes second opens it for all who
 * wait: they are counted as open from then on, so that nothing is lost when it has written
 * and closed before they run again. */
#include "ring.h"
#include "../files/files.h"
#include "../../signals.h"
#include "../../../../lib/exo/exo.h"
#include <asm/ioctls.h>
#include <asm/poll.h>

#define PIPE_PAGE 4096u
#define HAND_LOOK 4u /* waiters that a write looks at */
#define RING_AFTER 16u /* a ring is offered first after so many small writes ... */
#define RING_WRITE 512u /* ... of at most so many bytes that were handed over */
/* A thread that waits to open a fifo. */
struct opener {
    struct opener *next;
    struct thread *thread;
    struct pipe *pipe;
    bool write; /* it wants to write; else to read */
    bool granted; /* the other side came: it is counted as open */
    bool back; /* it made one more call since */
};
struct opener *fifo_openers;
static unsigned pipes;

unsigned pipe_count(void) { return pipes; }

void pipe_init(struct pipe *pipe)
{
    memset(pipe, 0, sizeof(*pipe));
    pipe->size = LX_PIPE_BYTES;
    pipe->readable = &pipe->wait[0];
    pipe->writable = &pipe->wait[1];
    pipe->offer_after = RING_AFTER;
    pipes++;
}

void pipe_end(struct pipe *pipe)
{
    if (pipe->ring) ring_forget(pipe->ring);
    wake(pipe->readable);
    wake(pipe->writable);
    wake(&pipe->opening);
    for (unsigned i = 0; i < LX_PIPE_PAGES; i++)
        if (pipe->page[i]) page_free(pipe->page[i]);
    pipes--;
}

/* ---- bytes ---- */

long pipe_get(struct pipe *pipe, struct iobuf *io)
{
    size_t fill = pipe_fill(pipe);
    if (io->left == 0) return 0;
    if (fill == 0) return pipe->writers ? -EAGAIN : 0;
    size_t n = EXO_MIN(fill, io->left);
    for (size_t left = n; left;) {
        uint32_t at = pipe->tail & (LX_PIPE_BYTES - 1), offset = at & (PIPE_PAGE - 1);
        size_t piece = EXO_MIN(left, (size_t)(PIPE_PAGE - offset));
        iobuf_put(io, pipe->data[at / PIPE_PAGE] + offset, piece);
        pipe->tail += (uint32_t)piece;
        left -= piece;
    }
    if (pipe->tail == pipe->head) pipe->tail = pipe->head = 0;
    if (pipe_room(pipe) >= LX_PIPE_ATOMIC) {
        wake(pipe->writable);
        if (pipe->both) wake(pipe->readable);
    }
    return (long)n;
}

static bool pipe_page(struct pipe *pipe, uint32_t index)
{
    if (pipe->data[index]) return true;
    pipe->page[index] = page_take();
    if (pipe->page[index]) pipe->data[index] = page_data(pipe->page[index]);
    return pipe->data[index] != NULL;
}

bool pipe_pages(struct pipe *pipe, uint32_t n)
{
    uint32_t last = pipe->head + n - 1;
    return pipe_page(pipe, pipe->head / PIPE_PAGE % LX_PIPE_PAGES) &&
           pipe_page(pipe, last / PIPE_PAGE % LX_PIPE_PAGES);
}

size_t pipe_append(struct pipe *pipe, struct iobuf *io, size_t n)
{
    size_t left = n;
    while (left) {
        uint32_t at = pipe->head & (LX_PIPE_BYTES - 1), offset = at & (PIPE_PAGE - 1);
        size_t piece = EXO_MIN(left, (size_t)(PIPE_PAGE - offset));
        if (!pipe_page(pipe, at / PIPE_PAGE)) break;
        iobuf_get(io, pipe->data[at / PIPE_PAGE] + offset, piece);
        pipe->head += (uint32_t)piece;
        left -= piece;
    }
    return n - left;
}

/* Into the buffer of a thread that waits in read: how many bytes. Not where other threads of
 * its process could have changed meanwhile what lies in its frames. Its place in the window
 * was checked when it began to wait. */
static size_t pipe_fill_buffer(struct thread *t, struct iobuf *io)
{
    struct iobuf to;
    if (t->reading_where & LX_INLINE)
        return iobuf_get(io, t->window->bytes + (t->reading_where & ~LX_INLINE), t->reading_length);
    if (t->process->thread_count != 1) return 0;
    if (iobuf_from(&to, t, t->reading_where, t->reading_length, true) < 0) return 0;
    return iobuf_move(&to, io);
}

/* To somebody who waits in read and gets it where he wants it: one copy instead of two. */
static size_t pipe_hand(struct pipe *pipe, struct iobuf *io, struct thread **reader)
{
    unsigned looked = 0;
    for (struct waiter *w = pipe->readable->first; w && looked < HAND_LOOK; w = w->next, looked++) {
        struct thread *t = w->thread;
        size_t n = t->reading == pipe->readable ? pipe_fill_buffer(t, io) : 0;
        if (!n) continue;
        t->reading = NULL;
        t->handed = n + 1;
        __atomic_store_n(&t->window->result, n + 1, __ATOMIC_RELEASE);
        *reader = t;
        return n;
    }
    return 0;
}

long pipe_put(struct pipe *pipe, struct iobuf *io)
{
    size_t n = io->left, room = pipe_room(pipe), handed = 0;
    struct thread *reader = NULL;
    if (n == 0) return 0;
    if (pipe->readers == 0) {
        signal_process(thread_current->process, SIGPIPE);
        return -EPIPE;
    }
    if (n <= LX_PIPE_ATOMIC ? room < n : room == 0) return -EAGAIN;
    if (pipe->readable->first && pipe_fill(pipe) == 0) handed = pipe_hand(pipe, io, &reader);
    if (!io->left) {
        wake(pipe->readable);
        if (handed <= RING_WRITE && ++pipe->handed >= pipe->offer_after) ring_offer(pipe, reader);
        return (long)handed;
    }
    n = EXO_MIN(n - handed, room);
    if (n <= LX_PIPE_ATOMIC && !pipe_pages(pipe, (uint32_t)n)) n = 0;
    n = pipe_append(pipe, io, n);
    if (handed + n == 0) return -ENOMEM;
    wake(pipe->readable);
    return (long)(handed + n);
}

/* ---- files ---- */

/* The server's from here on. */
static struct pipe *pipe_of(struct file *file)
{
    struct pipe *pipe = file->data;
    if (pipe->ring && ring_is_open(pipe->ring)) ring_close(pipe->ring);
    return pipe;
}

static long pipe_read(struct file *file, struct iobuf *io, uint64_t *pos)
{
    (void)pos;
    return pipe_get(pipe_of(file), io);
}

static long pipe_write(struct file *file, struct iobuf *io, uint64_t *pos)
{
    (void)pos;
    return pipe_put(pipe_of(file), io);
}

static long pipe_ioctl(struct file *file, struct thread *thread, uint32_t command,
                       uint64_t argument, struct iobuf *io)
{
    (void)thread, (void)argument;
    if (command != FIONREAD) return -ENOTTY;
    int fill = (int)pipe_fill(pipe_of(file));
    iobuf_put(io, &fill, sizeof(fill));
    return 0;
}

/* file->position: pipe->writers_ever when it was opened. Who has not had a writer yet is
 * not told of its end. */
static unsigned pipe_poll_read(struct file *file)
{
    const struct pipe *pipe = pipe_of(file);
    unsigned events = pipe_fill(pipe) ? POLLIN | POLLRDNORM : 0;
    if (!pipe->writers && file->position != pipe->writers_ever) events |= POLLHUP;
    return events;
}

static unsigned pipe_poll_write(struct file *file)
{
    const struct pipe *pipe = pipe_of(file);
    unsigned events = pipe_room(pipe) >= LX_PIPE_ATOMIC ? POLLOUT | POLLWRNORM : 0;
    return pipe->readers ? events : events | POLLERR;
}

static unsigned pipe_poll_both(struct file *file)
{
    return pipe_poll_read(file) | pipe_poll_write(file);
}

static struct waitq *pipe_queue_read(struct file *file)
{
    return ((struct pipe *)file->data)->readable;
}

static struct waitq *pipe_queue_write(struct file *file)
{
    return ((struct pipe *)file->data)->writable;
}

/* Ends it when nobody has it open or waits to open it. */
static void pipe_check(struct pipe *pipe)
{
    if (pipe->held) return;
    if (!pipe->readers) wake(pipe->writable);
    if (!pipe->writers) wake(pipe->readable);
    if (pipe->readers || pipe->writers || pipe->opening_readers || pipe->opening_writers) return;
    if (pipe->home) *pipe->home = NULL;
    pipe_end(pipe);
    free(pipe);
}

/* One file less of this access mode. */
static void fifo_leave(struct pipe *pipe, uint32_t flags)
{
    uint32_t mode = flags & O_ACCMODE;
    if (mode != O_WRONLY) pipe->readers--;
    if (mode != O_RDONLY) pipe->writers--;
    if (mode == O_RDWR) pipe->both--;
}

static void pipe_close(struct file *file)
{
    fifo_leave(file->data, file->flags);
    pipe_check(file->data);
}

static const struct file_ops read_ops = {.read = pipe_read,
                                         .ioctl = pipe_ioctl,
                                         .poll = pipe_poll_read,
                                         .queue = pipe_queue_read,
                                         .close = pipe_close};
static const struct file_ops write_ops = {.write = pipe_write,
                                          .ioctl = pipe_ioctl,
                                          .poll = pipe_poll_write,
                                          .queue = pipe_queue_write,
                                          .close = pipe_close};
static const struct file_ops both_ops = {.read = pipe_read,
                                         .write = pipe_write,
                                         .ioctl = pipe_ioctl,
                                         .poll = pipe_poll_both,
                                         .queue = pipe_queue_read,
                                         .close = pipe_close};

bool file_is_pipe(const struct file *file)
{
    return file->ops == &read_ops || file->ops == &write_ops || file->ops == &both_ops;
}

void pipe_settle(struct file *file)
{
    if (file_is_pipe(file)) pipe_of(file);
}

long pipe_size(struct file *file)
{
    return file_is_pipe(file) ? (long)((struct pipe *)file->data)->size : -EBADF;
}

long pipe_resize(struct file *file, uint64_t size)
{
    if (!file_is_pipe(file)) return -EBADF;
    struct pipe *pipe = pipe_of(file);
    if (size == 0) return -EINVAL;
    if (size > LX_PIPE_BYTES) return -EPERM;
    uint32_t rounded = PIPE_PAGE;
    while (rounded < size)
        rounded *= 2;
    if (rounded < pipe_fill(pipe)) return -EBUSY;
    pipe->size = rounded;
    if (pipe_room(pipe) >= LX_PIPE_ATOMIC) wake(pipe->writable);
    return rounded;
}

/* ---- calls ---- */

long pipe_install(struct thread *thread, struct file *first, struct file *second, uint32_t flags)
{
    bool cloexec = flags & O_CLOEXEC;
    long fd[2] = {fd_install(thread->process, first, cloexec, 0), 0};
    if (fd[0] < 0) {
        file_put(second);
    } else {
        fd[1] = fd_install(thread->process, second, cloexec, 0);
        if (fd[1] < 0) {
            call_close(thread, (uint64_t[6]){(uint64_t)fd[0]});
        }
    }
    if (fd[0] < 0 || fd[1] < 0) return fd[0] < 0 ? fd[0] : fd[1];
    uint32_t both[2] = {(uint32_t)fd[0], (uint32_t)fd[1]};
    return window_put(thread, 0, both, sizeof(both));
}

static struct file *pipe_file(struct pipe *pipe, uint32_t flags)
{
    static const struct file_ops *const ops[] = {
        [O_RDONLY] = &read_ops, [O_WRONLY] = &write_ops, [O_RDWR] = &both_ops};
    struct file *file = file_new(ops[flags & O_ACCMODE], flags);
    if (file) file->data = pipe;
    return file;
}

static long pipe_new(struct thread *thread, uint32_t flags)
{
    if (flags & ~(uint32_t)(O_CLOEXEC | O_NONBLOCK | O_DIRECT)) return -EINVAL;
    if (flags & O_DIRECT) return -EINVAL; /* packets: no */
    struct pipe *pipe = malloc(sizeof(*pipe));
    if (!pipe) return -ENOMEM;
    pipe_init(pipe);
    struct file *reader = pipe_file(pipe, O_RDONLY | (flags & O_NONBLOCK));
    struct file *writer = pipe_file(pipe, O_WRONLY | (flags & O_NONBLOCK));
    pipe->readers = reader != NULL;
    pipe->writers = writer != NULL;
    pipe->writers_ever = 1;
    if (reader && writer) return pipe_install(thread, reader, writer, flags);
    if (reader) file_put(reader);
    if (writer) file_put(writer);
    if (!reader && !writer) pipe_check(pipe);
    return -ENFILE;
}

long call_pipe(struct thread *thread, const uint64_t a[6])
{
    (void)a;
    return pipe_new(thread, 0);
}

long call_pipe2(struct thread *thread, const uint64_t a[6])
{
    return pipe_new(thread, (uint32_t)a[1]);
}

/* ---- fifos ---- */

static struct opener *opener_of(const struct thread *thread)
{
    struct opener *o = fifo_openers;
    while (o && o->thread != thread)
        o = o->next;
    return o;
}

static void opener_free(struct opener *o)
{
    struct opener **at = &fifo_openers;
    while (*at != o)
        at = &(*at)->next;
    *at = o->next;
    free(o);
}

/* Opens it for all who wait to read, or to write. */
static void fifo_grant(struct pipe *pipe, bool write)
{
    for (struct opener *o = fifo_openers; o; o = o->next) {
        if (o->pipe != pipe || o->granted || o->write != write) continue;
        o->granted = true;
        *(write ? &pipe->opening_writers : &pipe->opening_readers) -= 1;
        *(write ? &pipe->writers : &pipe->readers) += 1;
        pipe->writers_ever += write;
    }
    wake(&pipe->opening);
}

/* The thread waits no more, and was not let in, or does not come. */
static void fifo_forget(struct opener *o)
{
    struct pipe *pipe = o->pipe;
    if (o->granted)
        *(o->write ? &pipe->writers : &pipe->readers) -= 1;
    else
        *(o->write ? &pipe->opening_writers : &pipe->opening_readers) -= 1;
    opener_free(o);
    pipe_check(pipe);
}

void fifo_back(struct thread *thread)
{
    struct opener *o = opener_of(thread);
    if (o && o->back)
        fifo_forget(o);
    else if (o)
        o->back = true;
}

void fifo_end(struct thread *thread)
{
    struct opener *o = opener_of(thread);
    if (o) fifo_forget(o);
}

/* Joins those who wait for the other side. */
static long fifo_wait(struct pipe *pipe, bool write)
{
    struct opener *o = malloc(sizeof(*o));
    if (!o) return -ENOMEM;
    long r = wait_on(&pipe->opening, thread_current);
    if (r != -LX_WAIT) {
        free(o);
        return r;
    }
    *o = (struct opener){fifo_openers, thread_current, pipe, write, false, false};
    fifo_openers = o;
    *(write ? &pipe->opening_writers : &pipe->opening_readers) += 1;
    return r;
}

/* Whether the thread, which waited, was let in: it is counted already. */
static bool fifo_granted(struct pipe *pipe, bool write)
{
    struct opener *o = opener_of(thread_current);
    if (!o) return false;
    if (o->pipe == pipe && o->granted && o->write == write) {
        opener_free(o);
        return true;
    }
    fifo_forget(o);
    return false;
}

/* Counts a new reader or writer, or waits. */
static long fifo_enter(struct pipe *pipe, uint32_t flags)
{
    bool write = (flags & O_ACCMODE) == O_WRONLY, both = (flags & O_ACCMODE) == O_RDWR;
    if (fifo_granted(pipe, write)) return 0;
    bool there =
        write ? pipe->readers || pipe->opening_readers : pipe->writers || pipe->opening_writers;
    if (!both && !there) {
        if (!(flags & O_NONBLOCK)) return fifo_wait(pipe, write);
        if (write) return -ENXIO;
    }
    if (both || !write) pipe->readers++;
    if (both || write) pipe->writers++, pipe->writers_ever++;
    if (both) pipe->both++;
    if (both || !write) fifo_grant(pipe, true);
    if (both || write) fifo_grant(pipe, false);
    return 0;
}

long fifo_open(struct pipe **home, uint32_t flags, struct file **file)
{
    if ((flags & O_ACCMODE) == O_ACCMODE) return -EINVAL;
    struct pipe *pipe = *home;
    if (!pipe) {
        pipe = malloc(sizeof(*pipe));
        if (!pipe) return -ENOMEM;
        pipe_init(pipe);
        pipe->home = home;
        *home = pipe;
    }
    pipe->held = true;
    uint32_t ever = pipe->writers_ever;
    long r = fifo_enter(pipe, flags);
    if (r == 0) {
        *file = pipe_file(pipe, flags);
        if (!*file) {
            fifo_leave(pipe, flags);
            r = -ENFILE;
        }
    }
    pipe->held = false;
    if (r == 0) {
        bool met = (flags & O_ACCMODE) != O_RDONLY || pipe->writers;
        (*file)->position = met ? UINT64_MAX : ever;
    } else {
        pipe_check(pipe);
    }
    return r;
}
