/* SPDX-License-Identifier: MIT
 *
 * What modules of linuxd (libos/linux/server) find around them when they run here: one
 * process or a few with one thread each, windows, descriptors, pages, a clock that the test
 * sets, and records of what they did to others. Included once, before the modules. */
#ifndef LX_HOST_H
#define LX_HOST_H
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define main exo_main /* a program's own takes its startup page */
#include "../../lib/exo/exo.h"
#undef main
#include "../../libos/linux/server/files/files.h"
#include "../../libos/linux/server/waiting/ring.h"
#include "../../libos/linux/server/waiting/timer.h"
#include "../../libos/linux/signals.h"
#include "unit.h"

#define HOST_THREADS 4
#define HOST_FILES 1200
#define HOST_PAGES 4096

struct process processes[LX_PROCESSES];
struct thread *thread_current;
static struct thread host_threads[HOST_THREADS];
static struct lx_window host_windows[HOST_THREADS];
static unsigned woken[HOST_THREADS]; /* times that it was */
static uint64_t signalled[LX_PROCESSES]; /* bits of what it was sent */
static unsigned pages_used, page_limit = HOST_PAGES;
static uint64_t clock_now = 1000000000ul, timer_at;

/* Process i with thread i: pid 100 + i, alone in its session and group. */
static inline void host_process(unsigned i)
{
    struct process *p = &processes[i];
    memset(p, 0, sizeof(*p));
    p->state = PROCESS_RUNNING;
    p->pid = p->pgid = p->sid = 100 + (int)i;
    host_threads[i] = (struct thread){.process = p, .tid = p->pid, .window = &host_windows[i]};
    memset(&host_windows[i], 0, sizeof(host_windows[i]));
    woken[i] = 0;
    signalled[i] = 0;
}
/* Thread i makes its next call. */
static inline struct thread *host_thread(unsigned i)
{
    thread_current = &host_threads[i];
    wait_end(thread_current);
    return thread_current;
}
#define HOST_CALL(i, function, ...) function(host_thread(i), (const uint64_t[6]){__VA_ARGS__})
static inline uint8_t *host_bytes(unsigned i) { return host_windows[i].bytes; }

void thread_wake(struct thread *thread) { woken[thread - host_threads]++; }
uint64_t process_signals(const struct process *process)
{
    (void)process;
    return 0;
}
uint64_t process_used(const struct process *process) { return process->used; }
void process_actions(const struct process *process, uint64_t *ignored, uint64_t *handled,
                     uint64_t *blocked)
{
    (void)process;
    *ignored = *handled = *blocked = 0;
}
struct process *process_by_pid(int pid)
{
    for (unsigned i = 0; i < LX_PROCESSES; i++)
        if (processes[i].state != PROCESS_FREE && processes[i].pid == pid) return &processes[i];
    return NULL;
}
long signal_process(struct process *process, int signal)
{
    signalled[process - processes] |= LX_SIGNAL_BIT(signal);
    return 0;
}
long signal_group(int pgid, int signal)
{
    long r = -ESRCH;
    for (unsigned i = 0; i < LX_PROCESSES; i++)
        if (processes[i].state != PROCESS_FREE && processes[i].pgid == pgid)
            r = signal_process(&processes[i], signal);
    return r;
}

/* ---- memory ---- */
void iobuf_own(struct iobuf *io, void *memory, size_t length)
{
    memset(io, 0, sizeof(*io));
    io->run[0].base = memory;
    io->run[0].length = io->left = length;
    io->runs = 1;
}
/* A buffer that a call names: `where` is its address here. */
long iobuf_from(struct iobuf *io, struct thread *thread, uint64_t where, uint64_t length,
                bool write)
{
    (void)write;
    if (where & LX_INLINE) where = (uint64_t)thread->window->bytes + (where & ~LX_INLINE);
    if (where < 0x100000) return -EFAULT;
    iobuf_own(io, (void *)where, length);
    return 0;
}
static inline size_t host_iobuf(struct iobuf *io, void *to, const void *from, size_t n)
{
    if (n > io->left) n = io->left;
    if (to)
        memcpy(to, io->run[0].base + io->offset, n);
    else
        memcpy(io->run[0].base + io->offset, from, n);
    io->offset += n;
    io->left -= n;
    return n;
}
size_t iobuf_put(struct iobuf *io, const void *from, size_t n)
{
    return host_iobuf(io, NULL, from, n);
}
size_t iobuf_move(struct iobuf *to, struct iobuf *from)
{
    size_t n = EXO_MIN(to->left, from->left);
    iobuf_put(to, from->run[0].base + from->offset, n);
    from->offset += n;
    from->left -= n;
    return n;
}
size_t iobuf_get(struct iobuf *io, void *to, size_t n) { return host_iobuf(io, to, NULL, n); }
#include "../../libos/linux/server/window.c"
static void *host_pages[HOST_PAGES];
uint32_t page_take(void)
{
    for (uint32_t i = 1; i < HOST_PAGES && pages_used < page_limit; i++) {
        if (host_pages[i]) continue;
        host_pages[i] = malloc(4096);
        memset(host_pages[i], 0xa5, 4096);
        pages_used++;
        return i;
    }
    return 0;
}
uint32_t page_new(void)
{
    uint32_t frame = page_take();
    if (frame) memset(host_pages[frame], 0, 4096);
    return frame;
}
void page_free(uint32_t frame)
{
    free(host_pages[frame]);
    host_pages[frame] = NULL;
    pages_used--;
}
void *page_data(uint32_t frame) { return host_pages[frame]; }

/* ---- files ----
 * Those of a test that does not have linuxd's own. */
#ifndef LX_HOST_OWN_FILES
static unsigned files_open, file_limit = HOST_FILES;
void epoll_forget(struct file *file);
struct file *file_new(const struct file_ops *ops, uint32_t flags)
{
    if (files_open == file_limit) return NULL;
    struct file *file = calloc(1, sizeof(*file));
    file->ops = ops;
    file->references = 1;
    file->flags = flags;
    files_open++;
    return file;
}
void file_get(struct file *file) { file->references++; }
void file_put(struct file *file)
{
    if (--file->references) return;
    if (file->watchers) epoll_forget(file);
    if (file->ops->close) file->ops->close(file);
    files_open--;
    free(file);
}
struct file *fd_file(struct thread *thread, uint64_t fd)
{
    return fd < LX_FDS ? thread->process->fds[fd].file : NULL;
}
long fd_install(struct process *process, struct file *file, bool cloexec, unsigned from)
{
    for (unsigned fd = from; fd < LX_FDS; fd++) {
        if (process->fds[fd].file) continue;
        process->fds[fd] = (struct descriptor){file, cloexec};
        return fd;
    }
    file_put(file);
    return -EMFILE;
}
long call_close(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]);
    if (!file) return -EBADF;
    thread->process->fds[a[0]].file = NULL;
    file_put(file);
    return 0;
}
#endif
/* Reads and writes as linuxd's own do: the result, or -LX_WAIT in the file's queue. */
static inline long host_move(unsigned thread, uint64_t fd, void *data, size_t n, bool write)
{
    struct thread *t = host_thread(thread);
    struct file *file = fd_file(t, fd);
    struct iobuf io;
    if (!file) return -EBADF;
    iobuf_own(&io, data, n);
    long (*op)(struct file *, struct iobuf *, uint64_t *) =
        write ? file->ops->write : file->ops->read;
    if ((file->flags & O_ACCMODE) == (write ? O_RDONLY : O_WRONLY)) return -EBADF;
    if (!op) return -EINVAL;
    long r = op(file, &io, NULL);
    if (r != -EAGAIN || (file->flags & O_NONBLOCK)) return r;
    return wait_on(file->ops->queue(file), t);
}
static inline long host_read(unsigned thread, uint64_t fd, void *data, size_t n)
{
    return host_move(thread, fd, data, n, false);
}
static inline long host_write(unsigned thread, uint64_t fd, const void *data, size_t n)
{
    return host_move(thread, fd, (void *)data, n, true);
}
static inline void host_close_all(unsigned thread)
{
    for (uint64_t fd = 0; fd < LX_FDS; fd++)
        HOST_CALL(thread, call_close, fd);
}

/* ---- rings: those of a test that does not have linuxd's own ---- */
#ifndef LX_HOST_RINGS
void ring_offer(struct pipe *pipe, struct thread *reader) { (void)pipe, (void)reader; }
void ring_close(struct ring *ring) { (void)ring; }
bool ring_is_open(const struct ring *ring) { return ring != NULL; }
void ring_forget(struct ring *ring) { (void)ring; }
void rings_close_fd(struct process *process, unsigned fd) { (void)process, (void)fd; }
void rings_close(struct process *process) { (void)process; }
#endif

/* ---- the rest ---- */
uint64_t time_boot(void) { return clock_now; }
uint64_t time_real(void) { return clock_now + 1000000000000ul; }
void server_timer(uint64_t deadline) { timer_at = deadline; }
static unsigned logged;
void log_line(const char *format, ...)
{
    (void)format;
    logged++;
}
#endif
