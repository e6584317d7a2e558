/* SPDX-License-Identifier: MIT
 *
 * Pseudo-terminals: /dev/ptmx gives a master, whose slave is /dev/pts/N. Owner: the server;
 * no locks, it is one thread. One lives until its master and all files on its slave are
 * closed; its name goes with the master. Packet mode (TIOCPKT) is not there. */
#include "tty.h"
#include "../files/files.h"
#include "../../../../lib/exo/exo.h"
#include <asm/poll.h>

#define PIECE 256u /* bytes moved at once */
#define PTS_MAJOR 136

struct pty {
    struct tty tty; /* the slave */
    struct waitq wait; /* of the master */
    unsigned number;
    bool master, locked, opened; /* its slave was open once */
};
static struct pty *ptys[LX_PTYS];

unsigned pty_count(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < LX_PTYS; i++)
        n += ptys[i] != NULL;
    return n;
}

const struct tty *pty_slave(unsigned number) { return ptys[number] ? &ptys[number]->tty : NULL; }

static void pty_check(struct pty *pty)
{
    if (pty->master || pty->tty.opened) return;
    ptys[pty->number] = NULL;
    wake(&pty->tty.wait);
    wake(&pty->wait);
    free(pty);
}

static void pty_wake(struct tty *tty) { wake(&((struct pty *)tty->other)->wait); }

static void pty_slave_closed(struct tty *tty)
{
    pty_wake(tty);
    pty_check(tty->other);
}

/* ---- the master ---- */

static bool slave_gone(const struct pty *pty) { return pty->opened && !pty->tty.opened; }

static long master_read(struct file *file, struct iobuf *io, uint64_t *pos)
{
    struct pty *pty = file->data;
    uint8_t piece[PIECE];
    size_t done = 0, n;
    (void)pos;
    if (io->left == 0) return 0;
    while (io->left && (n = tty_take(&pty->tty, piece, EXO_MIN(io->left, sizeof(piece)))))
        done += iobuf_put(io, piece, n);
    if (done) return (long)done;
    return slave_gone(pty) ? -EIO : -EAGAIN;
}

static long master_write(struct file *file, struct iobuf *io, uint64_t *pos)
{
    struct pty *pty = file->data;
    uint8_t piece[PIECE];
    size_t done = 0;
    (void)pos;
    while (io->left) {
        size_t n = iobuf_get(io, piece, EXO_MIN(io->left, sizeof(piece)));
        size_t taken = tty_input(&pty->tty, piece, n);
        done += taken;
        if (taken < n) return done ? (long)done : -EAGAIN;
    }
    return (long)done;
}

static long open_slave(void *data, uint32_t flags, struct file **file)
{
    struct pty *pty = data;
    if (pty->locked) return -EIO;
    long r = tty_open(&pty->tty, flags, file);
    if (r == 0) pty->opened = true;
    return r;
}
static const struct dev_ops slave_dev_ops = {.open = open_slave};

/* TIOCGPTPEER: a descriptor of the slave, which may be locked. */
static long master_peer(struct pty *pty, struct thread *thread, uint32_t flags)
{
    struct file *file;
    long r = tty_open(&pty->tty, flags & ~(uint32_t)O_CLOEXEC, &file);
    if (r < 0) return r;
    pty->opened = true;
    return fd_install(thread->process, file, flags & O_CLOEXEC, 0);
}

static long master_ioctl(struct file *file, struct thread *thread, uint32_t command,
                         uint64_t argument, struct iobuf *io)
{
    struct pty *pty = file->data;
    int value = 0;
    switch (command) {
    case TIOCGPTN:
        iobuf_put(io, &pty->number, sizeof(pty->number));
        return 0;
    case TIOCSPTLCK:
        iobuf_get(io, &value, sizeof(value));
        pty->locked = value != 0;
        return 0;
    case TIOCGPTLCK:
        value = pty->locked;
        iobuf_put(io, &value, sizeof(value));
        return 0;
    case TIOCGPTPEER:
        return master_peer(pty, thread, (uint32_t)argument);
    case FIONREAD:
        value = (int)tty_out_count(&pty->tty);
        iobuf_put(io, &value, sizeof(value));
        return 0;
    case TIOCSCTTY:
    case TIOCNOTTY:
        return -ENOTTY;
    default:
        return tty_ioctl(&pty->tty, true, thread, command, argument, io);
    }
}

static unsigned master_poll(struct file *file)
{
    const struct pty *pty = file->data;
    bool bytes = tty_out_count(&pty->tty) && !pty->tty.stopped;
    unsigned events = bytes ? POLLIN | POLLRDNORM : 0;
    if (!pty->tty.throttled) events |= POLLOUT | POLLWRNORM;
    return slave_gone(pty) ? events | POLLHUP : events;
}

static struct waitq *master_queue(struct file *file) { return &((struct pty *)file->data)->wait; }

static void master_close(struct file *file)
{
    struct pty *pty = file->data;
    char name[16];
    exo_format(name, sizeof(name), "pts/%u", pty->number);
    dev_unregister(name, S_IFCHR, pty->tty.device);
    tty_hangup(&pty->tty);
    pty->master = false;
    pty_check(pty);
}

static const struct file_ops master_ops = {.read = master_read,
                                           .write = master_write,
                                           .ioctl = master_ioctl,
                                           .poll = master_poll,
                                           .queue = master_queue,
                                           .close = master_close};

static long pty_register(struct pty *pty)
{
    char name[16];
    exo_format(name, sizeof(name), "pts/%u", pty->number);
    return dev_register(name, S_IFCHR | 0620, pty->tty.device, &slave_dev_ops, pty);
}

static long open_master(void *data, uint32_t flags, struct file **file)
{
    (void)data;
    unsigned number = 0;
    while (number < LX_PTYS && ptys[number])
        number++;
    if (number == LX_PTYS) return -ENOSPC;
    struct pty *pty = malloc(sizeof(*pty));
    if (!pty) return -ENOMEM;
    memset(pty, 0, sizeof(*pty));
    tty_init(&pty->tty);
    pty->tty.output = pty->tty.resume = pty_wake;
    pty->tty.closed = pty_slave_closed;
    pty->tty.other = pty;
    pty->tty.device = LX_DEV(PTS_MAJOR, number);
    pty->number = number;
    pty->locked = true;
    long r = pty_register(pty);
    *file = r == 0 ? file_new(&master_ops, flags) : NULL;
    if (!*file) {
        char name[16];
        exo_format(name, sizeof(name), "pts/%u", number);
        if (r == 0) dev_unregister(name, S_IFCHR, pty->tty.device);
        free(pty);
        return r < 0 ? r : -ENFILE;
    }
    (*file)->data = pty;
    pty->master = true;
    ptys[number] = pty;
    return 0;
}
static const struct dev_ops master_dev_ops = {.open = open_master};

void pty_init(void)
{
    long r = dev_register("ptmx", S_IFCHR | 0666, LX_DEV(5, 2), &master_dev_ops, NULL);
    if (r < 0) log_line("/dev/ptmx: error %ld", -r);
}
