/* SPDX-License-Identifier: MIT
 *
 * eventfd, a counter as a file, and timerfd, a timer as one. Owner: the server; no locks, it
 * is one thread. A timerfd counts by the clock when it is asked; the server's timer only
 * wakes those who wait for it, at most every PERIOD_MIN. */
#include "epoll.h"
#include "timer.h"
#include "../../../../lib/exo/exo.h"
#include <asm/poll.h>
#include <linux/timerfd.h>

/* Of eventfd2: as every program's <sys/eventfd.h> has them; Linux exports no header. */
#define EVENTFD_SEMAPHORE 1u
/* Clocks (include/uapi/linux/time.h, whose structures clash with a C library's). */
#define CLOCK_OF_DAY 0
#define CLOCK_OF_BOOT 1
#define CLOCK_OF_BOOT_TOO 7

#define SECOND 1000000000l
#define SECONDS_MAX 4000000000l /* 126 years: longer ones are as good as this */
#define PERIOD_MIN 50000ul /* nanoseconds */

struct eventfd {
    uint64_t count;
    bool semaphore;
    struct waitq wait;
};
struct timerfd {
    struct timer timer;
    uint64_t clock, period;
    uint64_t due; /* when it is next: nanoseconds since boot; 0: it does not run */
    uint64_t count; /* not read yet */
    struct waitq wait;
};
static unsigned files;

unsigned poll_files_count(void) { return files + epoll_count(); }

/* A file with this state (NULL: there was no memory for it), as a descriptor. */
static long counter_file(struct thread *thread, const struct file_ops *ops, uint32_t flags,
                         void *state)
{
    struct file *file = state ? file_new(ops, O_RDWR | (flags & O_NONBLOCK)) : NULL;
    if (!file) {
        free(state);
        return state ? -ENFILE : -ENOMEM;
    }
    file->data = state;
    files++;
    return fd_install(thread->process, file, flags & O_CLOEXEC, 0);
}

/* ---- eventfd ---- */

static long event_read(struct file *file, struct iobuf *io, uint64_t *pos)
{
    struct eventfd *event = file->data;
    (void)pos;
    if (io->left < sizeof(uint64_t)) return -EINVAL;
    if (!event->count) return -EAGAIN;
    uint64_t value = event->semaphore ? 1 : event->count;
    event->count -= value;
    iobuf_put(io, &value, sizeof(value));
    wake(&event->wait);
    return sizeof(value);
}

static long event_write(struct file *file, struct iobuf *io, uint64_t *pos)
{
    struct eventfd *event = file->data;
    uint64_t value = 0;
    (void)pos;
    if (io->left < sizeof(value)) return -EINVAL;
    iobuf_get(io, &value, sizeof(value));
    if (value == UINT64_MAX) return -EINVAL;
    if (value > UINT64_MAX - 1 - event->count) return -EAGAIN;
    event->count += value;
    wake(&event->wait);
    return sizeof(value);
}

static unsigned event_poll(struct file *file)
{
    const struct eventfd *event = file->data;
    unsigned events = event->count ? POLLIN | POLLRDNORM : 0;
    return event->count < UINT64_MAX - 1 ? events | POLLOUT | POLLWRNORM : events;
}

static struct waitq *event_queue(struct file *file)
{
    return &((struct eventfd *)file->data)->wait;
}

static void event_close(struct file *file)
{
    struct eventfd *event = file->data;
    wake(&event->wait);
    free(event);
    files--;
}

static const struct file_ops event_ops = {.read = event_read,
                                          .write = event_write,
                                          .poll = event_poll,
                                          .queue = event_queue,
                                          .close = event_close};

static long event_new(struct thread *thread, uint64_t count, uint32_t flags)
{
    if (flags & ~(uint32_t)(O_CLOEXEC | O_NONBLOCK | EVENTFD_SEMAPHORE)) return -EINVAL;
    struct eventfd *event = malloc(sizeof(*event));
    if (event) {
        memset(event, 0, sizeof(*event));
        event->count = (uint32_t)count;
        event->semaphore = flags & EVENTFD_SEMAPHORE;
    }
    return counter_file(thread, &event_ops, flags, event);
}

long call_eventfd(struct thread *thread, const uint64_t a[6]) { return event_new(thread, a[0], 0); }

long call_eventfd2(struct thread *thread, const uint64_t a[6])
{
    return event_new(thread, a[0], (uint32_t)a[1]);
}

/* ---- timerfd ---- */

/* Counts what came due until now. */
static void timerfd_count(struct timerfd *t)
{
    uint64_t now = time_boot();
    if (!t->due || now < t->due) return;
    uint64_t n = t->period ? (now - t->due) / t->period + 1 : 1;
    t->count += n;
    t->due = t->period ? t->due + n * t->period : 0;
}

static void timerfd_arm(struct timerfd *t)
{
    uint64_t soonest = time_boot() + PERIOD_MIN;
    if (t->due)
        timer_set(&t->timer, t->due > soonest ? t->due : soonest);
    else
        timer_cancel(&t->timer);
}

static void timerfd_run(struct timer *timer)
{
    struct timerfd *t = (struct timerfd *)((char *)timer - offsetof(struct timerfd, timer));
    timerfd_count(t);
    timerfd_arm(t);
    wake(&t->wait);
}

static long timerfd_read(struct file *file, struct iobuf *io, uint64_t *pos)
{
    struct timerfd *t = file->data;
    (void)pos;
    if (io->left < sizeof(t->count)) return -EINVAL;
    timerfd_count(t);
    if (!t->count) return -EAGAIN;
    iobuf_put(io, &t->count, sizeof(t->count));
    t->count = 0;
    return sizeof(t->count);
}

static unsigned timerfd_poll(struct file *file)
{
    struct timerfd *t = file->data;
    timerfd_count(t);
    return t->count ? POLLIN | POLLRDNORM : 0;
}

static struct waitq *timerfd_queue(struct file *file)
{
    return &((struct timerfd *)file->data)->wait;
}

static void timerfd_close(struct file *file)
{
    struct timerfd *t = file->data;
    timer_cancel(&t->timer);
    wake(&t->wait);
    free(t);
    files--;
}

static const struct file_ops timerfd_ops = {
    .read = timerfd_read, .poll = timerfd_poll, .queue = timerfd_queue, .close = timerfd_close};

long call_timerfd_create(struct thread *thread, const uint64_t a[6])
{
    uint32_t flags = (uint32_t)a[1];
    if (flags & ~(uint32_t)(TFD_CLOEXEC | TFD_NONBLOCK)) return -EINVAL;
    if (a[0] != CLOCK_OF_DAY && a[0] != CLOCK_OF_BOOT && a[0] != CLOCK_OF_BOOT_TOO) return -EINVAL;
    struct timerfd *t = malloc(sizeof(*t));
    if (t) {
        memset(t, 0, sizeof(*t));
        t->timer.run = timerfd_run;
        t->clock = a[0];
    }
    return counter_file(thread, &timerfd_ops, flags, t);
}

/* Nanoseconds, or -EINVAL. */
static long time_from(const struct lx_timespec *t)
{
    if (t->tv_sec < 0 || t->tv_nsec < 0 || t->tv_nsec >= SECOND) return -EINVAL;
    return EXO_MIN(t->tv_sec, SECONDS_MAX) * SECOND + t->tv_nsec;
}

static struct lx_timespec time_to(uint64_t ns)
{
    return (struct lx_timespec){(int64_t)(ns / SECOND), (int64_t)(ns % SECOND)};
}

/* What timerfd_gettime says: period, and the time until it is due. */
static long timerfd_say(struct thread *thread, struct timerfd *t)
{
    timerfd_count(t);
    uint64_t now = time_boot();
    struct lx_timespec setting[2] = {time_to(t->due ? t->period : 0),
                                     time_to(t->due > now ? t->due - now : 0)};
    return window_put(thread, 0, setting, sizeof(setting));
}

/* When a time given to settime is, since boot; never 0. */
static uint64_t timerfd_due(const struct timerfd *t, uint64_t value, bool absolute)
{
    uint64_t now = time_boot();
    if (!absolute) return now + value;
    if (t->clock != CLOCK_OF_DAY) return value;
    uint64_t real = time_real();
    return value > real ? now + (value - real) : now;
}

static struct file *timerfd_file(struct thread *thread, uint64_t fd, long *error)
{
    struct file *file = fd_file(thread, fd);
    *error = !file ? -EBADF : file->ops != &timerfd_ops ? -EINVAL : 0;
    return *error ? NULL : file;
}

long call_timerfd_settime(struct thread *thread, const uint64_t a[6])
{
    long error;
    struct file *file = timerfd_file(thread, a[0], &error);
    struct lx_timespec setting[2];
    if (!file) return error;
    if (a[1] & ~(uint64_t)(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)) return -EINVAL;
    if (window_get(thread, a[2], setting, sizeof(setting)) < 0) return -EFAULT;
    long period = time_from(&setting[0]), value = time_from(&setting[1]);
    if (period < 0 || value < 0) return -EINVAL;
    struct timerfd *t = file->data;
    if (a[3] && timerfd_say(thread, t) < 0) return -EFAULT;
    t->count = 0;
    t->period = (uint64_t)period;
    t->due = value ? timerfd_due(t, (uint64_t)value, a[1] & TFD_TIMER_ABSTIME) : 0;
    timerfd_arm(t);
    wake(&t->wait);
    return 0;
}

long call_timerfd_gettime(struct thread *thread, const uint64_t a[6])
{
    long error;
    struct file *file = timerfd_file(thread, a[0], &error);
    return file ? timerfd_say(thread, file->data) : error;
}
