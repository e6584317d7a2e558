/* SPDX-License-Identifier: MIT
 *
 * signalfd: pending signals as a file. It has a mask and nothing else; what is pending is the
 * reading thread's and its process's, as sigwaitinfo would take it. Owner: the server; no
 * locks, it is one thread. All who wait are in one queue: process.c wakes it with each
 * signal. */
#include "poll.h"
#include "../../signals.h"
#include "../../../../lib/exo/exo.h"
#include <asm/poll.h>
#include <linux/signalfd.h>

#define SIGNALS 64
#define CODE_TKILL (-6) /* si_code: the process's own (asm-generic/siginfo.h) */
#define UNBLOCKABLE (LX_SIGNAL_BIT(SIGKILL) | LX_SIGNAL_BIT(SIGSTOP))

struct signalfd {
    uint64_t mask;
};
struct waitq signalfd_queue;
static unsigned signalfds;

unsigned signalfd_count(void) { return signalfds; }

static uint64_t signal_ready(const struct file *file)
{
    return signals_pending(thread_current) & ((const struct signalfd *)file->data)->mask;
}

static void signal_describe(int signal, struct signalfd_siginfo *to)
{
    struct lx_siginfo info;
    memset(to, 0, sizeof(*to));
    to->ssi_signo = (uint32_t)signal;
    if (!signal_take(thread_current, signal, &info)) {
        to->ssi_code = CODE_TKILL;
        to->ssi_pid = (uint32_t)thread_current->process->pid;
        return;
    }
    to->ssi_code = info.code;
    to->ssi_pid = (uint32_t)info.pid;
    to->ssi_uid = (uint32_t)info.uid;
    to->ssi_status = info.status;
    to->ssi_int = (int32_t)info.value;
    to->ssi_ptr = info.value;
}

static long signalfd_read(struct file *file, struct iobuf *io, uint64_t *pos)
{
    size_t done = 0;
    (void)pos;
    if (io->left < sizeof(struct signalfd_siginfo)) return -EINVAL;
    for (int signal = 1; signal <= SIGNALS; signal++) {
        struct signalfd_siginfo info;
        if (io->left < sizeof(info)) break;
        if (!(signal_ready(file) & LX_SIGNAL_BIT(signal))) continue;
        signal_describe(signal, &info);
        done += iobuf_put(io, &info, sizeof(info));
    }
    return done ? (long)done : -EAGAIN;
}

static unsigned signalfd_poll(struct file *file)
{
    return signal_ready(file) ? POLLIN | POLLRDNORM : 0;
}

static struct waitq *signalfd_wait(struct file *file)
{
    (void)file;
    return &signalfd_queue;
}

static void signalfd_close(struct file *file)
{
    free(file->data);
    signalfds--;
}

static const struct file_ops signalfd_ops = {
    .read = signalfd_read, .poll = signalfd_poll, .queue = signalfd_wait, .close = signalfd_close};

static long signalfd_new(struct thread *thread, uint64_t mask, uint32_t flags)
{
    struct signalfd *s = malloc(sizeof(*s));
    if (!s) return -ENOMEM;
    struct file *file = file_new(&signalfd_ops, O_RDWR | (flags & O_NONBLOCK));
    if (!file) {
        free(s);
        return -ENFILE;
    }
    s->mask = mask;
    file->data = s;
    signalfds++;
    return fd_install(thread->process, file, flags & O_CLOEXEC, 0);
}

long call_signalfd4(struct thread *thread, const uint64_t a[6])
{
    uint64_t mask;
    uint32_t flags = (uint32_t)a[3];
    if (flags & ~(uint32_t)(SFD_CLOEXEC | SFD_NONBLOCK) || a[2] != sizeof(mask)) return -EINVAL;
    if (window_get(thread, a[1], &mask, sizeof(mask)) < 0) return -EFAULT;
    mask &= ~UNBLOCKABLE;
    if ((int)a[0] == -1) return signalfd_new(thread, mask, flags);
    struct file *file = fd_file(thread, a[0]);
    if (!file) return -EBADF;
    if (file->ops != &signalfd_ops) return -EINVAL;
    ((struct signalfd *)file->data)->mask = mask;
    wake(&signalfd_queue);
    return (long)a[0];
}

long call_signalfd(struct thread *thread, const uint64_t a[6])
{
    return call_signalfd4(thread, (const uint64_t[6]){a[0], a[1], a[2]});
}
