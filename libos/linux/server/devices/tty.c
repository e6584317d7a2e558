/* SPDX-License-Identifier: MIT
 *
 * Terminals as files: reading and writing, who may do so (job control), and whose terminal
 * it is. Owner: the server; no locks, it is one thread. Invariants: a process's tty is the
 * one that its session has; a terminal without a session has no foreground group.
 *
 * A process in the background that may not go on gets its signal and -LX_WAIT without being
 * in a queue: the signal is what wakes it, and when it was stopped and continued it makes
 * the same call again. */
#include "tty.h"
#include "../files/files.h"
#include "../../signals.h"
#include "../../../../lib/exo/exo.h"
#include <asm/poll.h>

#define TENTH 100000000ul /* VTIME's unit in nanoseconds */
#define PIECE 256u /* bytes of output at once */

/* ---- job control ---- */

static bool refused(int signal)
{
    volatile struct lx_window *window = thread_current->window;
    return window->refused & LX_SIGNAL_BIT(signal);
}

/* No process of the group has a parent elsewhere in the session who could continue it. */
static bool group_orphaned(int pgid, int sid)
{
    for (unsigned i = 0; i < LX_PROCESSES; i++) {
        const struct process *p = &processes[i], *parent = p->parent;
        if (p->state == PROCESS_FREE || p->state == PROCESS_ZOMBIE || p->pgid != pgid) continue;
        if (parent && parent->sid == sid && parent->pgid != pgid) return false;
    }
    return true;
}

/* Whether the calling process may use the terminal now: 0, -EIO, -LX_WAIT. */
static long tty_check(const struct tty *tty, int signal)
{
    const struct process *process = thread_current->process;
    if (process->tty != tty || !tty->foreground || process->pgid == tty->foreground) return 0;
    if (refused(signal)) return signal == SIGTTIN ? -EIO : 0;
    if (group_orphaned(process->pgid, process->sid)) return -EIO;
    signal_group(process->pgid, signal);
    return -LX_WAIT;
}

static void tty_own(struct tty *tty, struct process *process)
{
    tty->session = process->sid;
    tty->foreground = process->pgid;
    process->tty = tty;
}

/* Nobody's terminal any more. */
static void tty_disown(struct tty *tty)
{
    for (unsigned i = 0; i < LX_PROCESSES; i++)
        if (processes[i].tty == tty) processes[i].tty = NULL;
    tty->session = tty->foreground = 0;
}

static void tty_signal_over(const struct tty *tty)
{
    if (!tty->foreground) return;
    signal_group(tty->foreground, SIGHUP);
    signal_group(tty->foreground, SIGCONT);
}

/* Its session loses it. */
static void tty_leave(struct tty *tty)
{
    tty_signal_over(tty);
    tty_disown(tty);
    wake(&tty->wait);
}

void tty_detach(struct process *process) { process->tty = NULL; }

void tty_process_end(struct process *process)
{
    struct tty *tty = process->tty;
    process->tty = NULL;
    if (!tty || process->pid != process->sid || tty->session != process->sid) return;
    tty_leave(tty);
}

void tty_hangup(struct tty *tty)
{
    struct process *leader = tty->session ? process_by_pid(tty->session) : NULL;
    tty->hung = true;
    if (leader) {
        signal_process(leader, SIGHUP);
        signal_process(leader, SIGCONT);
    }
    timer_cancel(&tty->timer);
    tty_leave(tty);
}

void tty_resize(struct tty *tty, const struct winsize *size)
{
    if (!memcmp(&tty->size, size, sizeof(*size))) return;
    tty->size = *size;
    if (tty->foreground) signal_group(tty->foreground, SIGWINCH);
}

/* ---- reading and writing ---- */

static void tty_timer(struct timer *timer)
{
    struct tty *tty = (struct tty *)((char *)timer - offsetof(struct tty, timer));
    tty->timer_over = true;
    wake(&tty->wait);
}

static void tty_timer_end(struct tty *tty)
{
    timer_cancel(&tty->timer);
    tty->timer_for = NULL;
    tty->timer_over = false;
}

/* Whether this reader's VTIME is over. It runs from his first try; when there are bytes
 * already, from the last of them. */
static bool tty_timed_out(struct tty *tty, uint32_t count)
{
    uint64_t tenths = tty->settings.c_cc[VTIME];
    if (tty->timer_for == thread_current && tty->timer_count == count) return tty->timer_over;
    tty_timer_end(tty);
    tty->timer_for = thread_current;
    tty->timer_count = count;
    tty->timer.run = tty_timer;
    timer_set(&tty->timer, time_boot() + tenths * TENTH);
    return false;
}

/* Without lines: VMIN and VTIME (termios(3)). Whether what is there is to be returned, which
 * may be nothing at all; else the reader waits. */
static bool tty_read_now(struct tty *tty, size_t wanted, bool nonblock)
{
    uint32_t count = tty->head - tty->read;
    uint8_t least = tty->settings.c_cc[VMIN], tenths = tty->settings.c_cc[VTIME];
    if (count >= EXO_MIN(wanted, (size_t)(least ? least : 1))) return true;
    if (!least && !tenths) return true;
    if (nonblock) return count != 0;
    return tenths && (count || !least) && tty_timed_out(tty, count);
}

static long dev_read(struct file *file, struct iobuf *io, uint64_t *pos)
{
    struct tty *tty = file->data;
    (void)pos;
    if (tty->hung) return 0;
    long r = tty_check(tty, SIGTTIN);
    if (r < 0) return r;
    if (io->left == 0) return 0;
    if (!(tty->settings.c_lflag & ICANON)) {
        if (!tty_read_now(tty, io->left, file->flags & O_NONBLOCK)) return -EAGAIN;
        tty_timer_end(tty);
        return tty->head == tty->read ? 0 : tty_read(tty, io);
    }
    return tty_read(tty, io);
}

static long dev_write(struct file *file, struct iobuf *io, uint64_t *pos)
{
    struct tty *tty = file->data;
    uint8_t piece[PIECE];
    size_t done = 0;
    (void)pos;
    if (tty->hung) return -EIO;
    if (tty->settings.c_lflag & TOSTOP) {
        long r = tty_check(tty, SIGTTOU);
        if (r < 0) return r;
    }
    while (io->left) {
        size_t n = iobuf_get(io, piece, EXO_MIN(io->left, sizeof(piece)));
        size_t taken = tty_output(tty, piece, n);
        done += taken;
        if (taken < n) return done ? (long)done : -EAGAIN;
    }
    return (long)done;
}

static unsigned dev_poll(struct file *file)
{
    const struct tty *tty = file->data;
    if (tty->hung) return POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLERR | POLLHUP;
    unsigned events = tty_readable(tty, true) ? POLLIN | POLLRDNORM : 0;
    bool room = tty_out_count(tty) < LX_TTY_RING / 2 && !tty->stopped;
    return room ? events | POLLOUT | POLLWRNORM : events;
}

static struct waitq *dev_queue(struct file *file) { return &((struct tty *)file->data)->wait; }

static void dev_close(struct file *file)
{
    struct tty *tty = file->data;
    if (--tty->opened) return;
    tty_timer_end(tty);
    if (tty->closed) tty->closed(tty);
}

static long dev_ioctl(struct file *file, struct thread *thread, uint32_t command, uint64_t argument,
                      struct iobuf *io)
{
    return tty_ioctl(file->data, false, thread, command, argument, io);
}

static const struct file_ops tty_ops = {.read = dev_read,
                                        .write = dev_write,
                                        .ioctl = dev_ioctl,
                                        .poll = dev_poll,
                                        .queue = dev_queue,
                                        .close = dev_close};

bool file_is_tty(const struct file *file) { return file->ops == &tty_ops; }

long tty_open(struct tty *tty, uint32_t flags, struct file **file)
{
    struct process *process = thread_current ? thread_current->process : NULL;
    if (tty->hung) return -EIO;
    *file = file_new(&tty_ops, flags);
    if (!*file) return -ENFILE;
    (*file)->data = tty;
    tty->opened++;
    bool leader = process && process->pid == process->sid && !process->tty;
    bool readable = (flags & O_ACCMODE) != O_WRONLY;
    if (leader && readable && !tty->session && !(flags & O_NOCTTY)) tty_own(tty, process);
    return 0;
}

long tty_open_own(uint32_t flags, struct file **file)
{
    struct tty *tty = thread_current->process->tty;
    return tty ? tty_open(tty, flags, file) : -ENXIO;
}

static long open_tty(void *data, uint32_t flags, struct file **file)
{
    return tty_open(data, flags, file);
}
const struct dev_ops tty_dev_ops = {.open = open_tty};

static long open_own(void *data, uint32_t flags, struct file **file)
{
    (void)data;
    return tty_open_own(flags, file);
}
static const struct dev_ops own_dev_ops = {.open = open_own};

void tty_start_all(void)
{
    long r = dev_register("tty", S_IFCHR | 0666, LX_DEV(5, 0), &own_dev_ops, NULL);
    if (r < 0) log_line("/dev/tty: error %ld", -r);
    console_init();
    pty_init();
}

/* ---- whose terminal it is ---- */

static long tty_take_over(struct tty *tty, struct process *process, bool steal)
{
    bool leader = process->pid == process->sid;
    if (leader && tty->session == process->sid) return 0;
    if (!leader || process->tty) return -EPERM;
    if (tty->session && !steal) return -EPERM;
    if (tty->session) tty_disown(tty);
    tty_own(tty, process);
    return 0;
}

static long tty_give_up(struct tty *tty, struct process *process)
{
    if (process->tty != tty) return -ENOTTY;
    if (process->pid != process->sid) {
        process->tty = NULL;
        return 0;
    }
    tty_leave(tty);
    return 0;
}

static long tty_group(const struct tty *tty, bool master, const struct process *process,
                      uint32_t command, struct iobuf *io)
{
    int id = command == TIOCGSID ? tty->session : tty->foreground;
    if (!master && process->tty != tty) return -ENOTTY;
    if (command == TIOCGSID && !id) return -ENOTTY;
    iobuf_put(io, &id, sizeof(id));
    return 0;
}

static long tty_group_set(struct tty *tty, const struct process *process, struct iobuf *io)
{
    int pgid = 0;
    bool there = false, ours = false;
    long r = tty_check(tty, SIGTTOU);
    if (r < 0) return r == -EIO ? -ENOTTY : r;
    iobuf_get(io, &pgid, sizeof(pgid));
    if (pgid < 0) return -EINVAL;
    if (process->tty != tty || tty->session != process->sid) return -ENOTTY;
    for (unsigned i = 0; i < LX_PROCESSES; i++) {
        if (processes[i].state == PROCESS_FREE || processes[i].pgid != pgid) continue;
        there = true;
        ours |= processes[i].sid == process->sid;
    }
    if (!there) return -ESRCH;
    if (!ours) return -EPERM;
    tty->foreground = pgid;
    return 0;
}

/* ---- ioctls ---- */

/* Says once for each command that nobody here knows it. */
static void ioctl_unknown(const struct thread *thread, uint32_t command)
{
    static uint32_t said[32];
    static unsigned count;
    for (unsigned i = 0; i < count; i++)
        if (said[i] == command) return;
    if (count == EXO_COUNT(said)) return;
    said[count++] = command;
    log_line("%s: ioctl 0x%x of a terminal is not known", thread->process->name, command);
}

static long tty_set(struct tty *tty, uint32_t command, struct iobuf *io)
{
    bool longer = command == TCSETS2 || command == TCSETSW2 || command == TCSETSF2;
    struct termios2 settings = tty->settings;
    long r = tty_check(tty, SIGTTOU);
    if (r < 0) return r;
    /* struct termios is the beginning of struct termios2. */
    iobuf_get(io, &settings, longer ? sizeof(struct termios2) : sizeof(struct termios));
    if (command == TCSETSF || command == TCSETSF2) tty_flush(tty, true, false);
    tty_settings(tty, &settings);
    return 0;
}
_Static_assert(offsetof(struct termios2, c_ispeed) == offsetof(struct termios, c_cc) + NCCS,
               "termios");

static long tty_flow(struct tty *tty, uint64_t argument)
{
    long r = tty_check(tty, SIGTTOU);
    if (r < 0) return r;
    switch (argument) {
    case TCOOFF:
        tty->held = true;
        tty_stop(tty);
        return 0;
    case TCOON:
        tty->held = false;
        tty_start(tty);
        return 0;
    case TCIOFF:
    case TCION: { /* the other end is sent a STOP or START character */
        uint8_t c = tty->settings.c_cc[argument == TCIOFF ? VSTOP : VSTART];
        if (c) tty_output(tty, &c, 1);
        return 0;
    }
    default:
        return -EINVAL;
    }
}

static long tty_flush_call(struct tty *tty, uint64_t argument)
{
    long r = tty_check(tty, SIGTTOU);
    if (r < 0) return r;
    if (argument > TCIOFLUSH) return -EINVAL;
    tty_flush(tty, argument != TCOFLUSH, argument != TCIFLUSH);
    return 0;
}

/* tcdrain: waits until all output has gone. A break is none here. */
static long tty_drain(struct tty *tty, struct thread *thread)
{
    long r = tty_check(tty, SIGTTOU);
    if (r < 0) return r;
    return tty_out_count(tty) && tty->output ? wait_on(&tty->wait, thread) : 0;
}

static long tty_type(struct tty *tty, struct iobuf *io)
{
    uint8_t c = 0;
    iobuf_get(io, &c, 1);
    tty_input(tty, &c, 1);
    return 0;
}

static long tty_answer(struct iobuf *io, size_t value)
{
    int answer = (int)value;
    iobuf_put(io, &answer, sizeof(answer));
    return 0;
}

/* Those of sessions and groups; 1: none of them. */
static long ioctl_session(struct tty *tty, bool master, struct process *process, uint32_t command,
                          uint64_t argument, struct iobuf *io)
{
    switch (command) {
    case TIOCSCTTY:
        return tty_take_over(tty, process, argument == 1);
    case TIOCNOTTY:
        return tty_give_up(tty, process);
    case TIOCGPGRP:
    case TIOCGSID:
        return tty_group(tty, master, process, command, io);
    case TIOCSPGRP:
        return tty_group_set(tty, process, io);
    default:
        return 1;
    }
}

static long ioctl_size_set(struct tty *tty, struct iobuf *io)
{
    struct winsize size = {0};
    iobuf_get(io, &size, sizeof(size));
    tty_resize(tty, &size);
    return 0;
}

long tty_ioctl(struct tty *tty, bool master, struct thread *thread, uint32_t command,
               uint64_t argument, struct iobuf *io)
{
    if (tty->hung) return -EIO;
    long r = ioctl_session(tty, master, thread->process, command, argument, io);
    if (r <= 0) return r;
    switch (command) {
    case TCGETS:
        iobuf_put(io, &tty->settings, sizeof(struct termios));
        return 0;
    case TCGETS2:
        iobuf_put(io, &tty->settings, sizeof(struct termios2));
        return 0;
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
    case TCSETS2:
    case TCSETSW2:
    case TCSETSF2:
        return tty_set(tty, command, io);
    case TIOCGWINSZ:
        iobuf_put(io, &tty->size, sizeof(tty->size));
        return 0;
    case TIOCSWINSZ:
        return ioctl_size_set(tty, io);
    case TCXONC:
        return tty_flow(tty, argument);
    case TCFLSH:
        return tty_flush_call(tty, argument);
    case TCSBRK:
    case TCSBRKP:
        return tty_drain(tty, thread);
    case FIONREAD:
        return tty_answer(io, tty_in_count(tty));
    case TIOCOUTQ:
        return tty_answer(io, tty_out_count(tty));
    case TIOCGETD:
        return tty_answer(io, 0);
    case TIOCSTI:
        return tty_type(tty, io);
    default:
        ioctl_unknown(thread, command);
        return -ENOTTY;
    }
}

long call_vhangup(struct thread *thread, const uint64_t a[6])
{
    (void)a;
    if (thread->process->tty) tty_leave(thread->process->tty);
    return 0;
}
