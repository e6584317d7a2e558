/* SPDX-License-Identifier: MIT
 *
 * Rings: a page in which the only writer of a pipe puts bytes for its only reader, without the
 * server (library/ring.c). A pipe gets one when small writes were handed to a waiting reader
 * again and again, both processes have one thread, and nobody else has the pipe open. While it is
 * open the pipe itself is empty, and has the page that the ring's bytes go to when it closes,
 * which it does as soon as anybody asks the server for anything else of the pipe. The window of
 * each side shows which descriptor the ring is for, and how far it had come when it closed: a
 * side that was in the midst of something knows by that whether it counts.
 *
 * The page is believed by nobody: what a side spoils in it is lost between the two, who could as
 * well write nonsense to the pipe or empty it. It stays bound until a side's slot is needed again
 * or its process ends: the library may be in the midst of using it. A slot is taken while the
 * writer is in a call and the reader waits in one.
 *
 * Owner: the server; no locks, it is one thread, on the CPU of all its processes. */
#include "ring.h"
#include "../process/memory.h"
#include "../process/process.h"
#include "../files/files.h"

#define RINGS 64
#define OFFER_LAST 65536u /* hand-overs before one is offered again, at most */

struct side {
    struct process *process; /* NULL: it has let go */
    uint32_t slot, fd;
};
enum { WRITER, READER };
struct ring {
    struct pipe *pipe; /* NULL: none any more */
    bool open;
    uint16_t extent; /* 0: the entry is free */
    struct lx_ring *shared;
    struct side side[2];
};
static struct ring rings[RINGS];

bool ring_is_open(const struct ring *ring) { return ring->open; }

/* ---- opening and closing ---- */

static void side_open(const struct side *side)
{
    struct lx_window *window = side->process->threads[0]->window;
    window->ring[side->slot].number = side->fd + 1;
    fd_ring_show(side->process, side->fd, true);
    side->process->rings_open++;
}

/* `end`: how far it had come. */
static void side_close(const struct side *side, uint32_t end)
{
    struct lx_window *window = side->process->threads[0]->window;
    window->ring[side->slot].end = end;
    fd_ring_show(side->process, side->fd, false);
    side->process->rings_open--;
}

/* What is there becomes the pipe's. */
static void bytes_take(struct ring *ring, uint32_t tail, uint32_t head)
{
    while (tail != head) {
        uint32_t at = tail % LX_RING_BYTES, n = EXO_MIN(head - tail, LX_RING_BYTES - at);
        struct iobuf io;
        iobuf_own(&io, ring->shared->bytes + at, n);
        pipe_append(ring->pipe, &io, n);
        tail += n;
    }
}

void ring_close(struct ring *ring)
{
    uint32_t head = __atomic_load_n(&ring->shared->head, __ATOMIC_RELAXED);
    uint32_t tail = __atomic_load_n(&ring->shared->tail, __ATOMIC_RELAXED);
    ring->open = false;
    side_close(&ring->side[WRITER], head);
    side_close(&ring->side[READER], tail);
    if (head - tail <= LX_RING_BYTES) bytes_take(ring, tail, head);
    struct thread *reader = ring->side[READER].process->threads[0];
    if (reader != thread_current) thread_wake(reader);
}

static void ring_open(struct ring *ring)
{
    ring->open = true;
    ring->shared->head = ring->shared->tail = ring->shared->waits = 0;
    side_open(&ring->side[WRITER]);
    side_open(&ring->side[READER]);
}

/* ---- whose ---- */

static void side_release(struct ring *ring, struct side *side)
{
    struct process *process = side->process;
    side->process = NULL;
    process->ring[side->slot] = NULL;
    ring_unbind(process, side->slot, ring->extent);
    if (!ring->side[WRITER].process && !ring->side[READER].process) ring->extent = 0;
}

void ring_forget(struct ring *ring)
{
    if (ring->open) ring_close(ring);
    ring->pipe->ring = NULL;
    ring->pipe = NULL;
}

/* A slot of the process for the ring: one that is free, or whose ring's pipe is gone. */
static bool slot_take(struct ring *ring, struct side *side, struct process *process)
{
    for (uint32_t i = 0; i < LX_RINGS; i++) {
        struct ring *old = process->ring[i];
        if (old && old->pipe) continue;
        if (old) side_release(old, &old->side[old->side[READER].process == process]);
        if (ring_bind(process, i, ring->extent) < 0) continue;
        *side = (struct side){.process = process, .slot = i};
        process->ring[i] = ring;
        return true;
    }
    return false;
}

static struct ring *ring_new(struct pipe *pipe, struct process *writer, struct process *reader)
{
    struct ring *ring = rings;
    while (ring < rings + RINGS && ring->extent)
        ring++;
    if (ring == rings + RINGS) return NULL;
    long extent = extent_new(writer, LX_UNIT, LX_FOR_SHARED, false);
    if (extent < 0) return NULL;
    *ring = (struct ring){.extent = (uint16_t)extent,
                          .shared = frame_data(extent_first((uint16_t)extent))};
    memset(ring->shared, 0, EXO_PAGE);
    if (!slot_take(ring, &ring->side[WRITER], writer)) {
        extent_put(writer, ring->extent);
        ring->extent = 0;
        return NULL;
    }
    if (!slot_take(ring, &ring->side[READER], reader)) {
        side_release(ring, &ring->side[WRITER]);
        return NULL;
    }
    ring->pipe = pipe;
    return pipe->ring = ring;
}

/* The process's only descriptor for that end of the pipe, which its library knows; LX_FDS: none,
 * or several. */
static uint32_t fd_of(const struct process *process, const struct pipe *pipe, uint32_t mode)
{
    uint32_t found = LX_FDS;
    for (uint32_t fd = 0; fd < process->fds_top; fd++) {
        const struct file *file = process->fds[fd].file;
        if (!file || !file_is_pipe(file) || file->data != pipe) continue;
        if ((file->flags & O_ACCMODE) != mode) continue;
        if (found != LX_FDS) return LX_FDS;
        found = fd;
    }
    return found < LX_DIRECT_FDS ? found : LX_FDS;
}

/* Whether the file is all theirs, and blocks, and nobody watches it. */
static bool file_theirs(const struct file *file, const struct process *a, const struct process *b)
{
    uint32_t n = 0;
    for (uint32_t fd = 0; fd < a->fds_top || fd < b->fds_top; fd++)
        n += (a->fds[fd].file == file) + (b->fds[fd].file == file);
    return n == file->references && !(file->flags & O_NONBLOCK) && !file->watchers;
}

static bool process_simple(const struct process *process)
{
    return process->thread_count == 1 && process->threads[0] && !process->vfork;
}

void ring_offer(struct pipe *pipe, struct thread *reader)
{
    struct process *w = thread_current->process, *r = reader->process;
    pipe->handed = 0;
    pipe->offer_after = EXO_MIN(pipe->offer_after * 2, OFFER_LAST);
    if (w == r || !process_simple(w) || !process_simple(r)) return;
    if (pipe->home || pipe->readers != 1 || pipe->writers != 1 || pipe_fill(pipe) ||
        pipe->size != LX_PIPE_BYTES || pipe->readable->first || pipe->writable->first)
        return;
    uint32_t from = fd_of(w, pipe, O_WRONLY), to = fd_of(r, pipe, O_RDONLY);
    if (from == LX_FDS || to == LX_FDS) return;
    if (!file_theirs(w->fds[from].file, w, r) || !file_theirs(r->fds[to].file, w, r)) return;
    struct ring *ring = pipe->ring;
    if (ring && (ring->side[WRITER].process != w || ring->side[READER].process != r)) {
        ring_forget(ring);
        ring = NULL;
    }
    if (!pipe_pages(pipe, LX_RING_BYTES) || (!ring && !(ring = ring_new(pipe, w, r)))) return;
    ring->side[WRITER].fd = from;
    ring->side[READER].fd = to;
    ring_open(ring);
}

/* ---- what processes do ---- */

void rings_close_fd(struct process *process, unsigned fd)
{
    for (uint32_t i = 0; i < LX_RINGS; i++) {
        struct ring *ring = process->ring[i];
        if (ring && ring->open && ring->side[ring->side[READER].process == process].fd == fd)
            ring_close(ring);
    }
}

void rings_close(struct process *process)
{
    for (uint32_t i = 0; i < LX_RINGS; i++)
        if (process->ring[i] && process->ring[i]->open) ring_close(process->ring[i]);
}

void rings_end(struct process *process)
{
    for (uint32_t i = 0; i < LX_RINGS; i++) {
        struct ring *ring = process->ring[i];
        if (!ring) continue;
        if (ring->pipe) ring_forget(ring);
        side_release(ring, &ring->side[ring->side[READER].process == process]);
    }
}

long op_ring(struct thread *thread, const uint64_t a[6])
{
    const struct ring *ring = a[0] < LX_RINGS ? thread->process->ring[a[0]] : NULL;
    if (!ring || !ring->open || ring->side[WRITER].process != thread->process) return -EINVAL;
    thread_wake(ring->side[READER].process->threads[0]);
    return 0;
}
