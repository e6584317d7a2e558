/* SPDX-License-Identifier: MIT
 *
 * Terminals: the line discipline (ldisc.c), the device that programs open (tty.c), and
 * what is behind it: the machine's console (console.c) or a pseudo-terminal (pty.c).
 *
 * One terminal has two rings: `in`, what was typed, edited, and not read yet; `out`, what
 * was written or echoed, processed, and not taken by the other end yet. The other end
 * calls tty_input when it has something, and is called by `output` when there is something
 * to take with tty_take, and by `resume` when there is room again after tty_input took
 * less than it was given. */
#ifndef LX_TTY_H
#define LX_TTY_H
#include "../server.h"
#include "../waiting/timer.h"
#include <asm/termios.h>

#define LX_TTY_RING 4096u /* both rings; a line is at most one less */
#define LX_PTYS 16

struct tty {
    struct termios2 settings;
    struct winsize size;
    int session, foreground; /* 0: none */
    unsigned opened; /* files on it */
    bool stopped; /* by XOFF: nothing goes out */
    bool held; /* the same by TCOOFF, which XON does not end */
    bool hung; /* its other end is gone for good: reads end, writes fail */
    /* Line discipline. Indices count on; their low bits say where. read <= line <= head. */
    bool literal, erasing; /* after LNEXT; in the middle of ECHOPRT's \.../ */
    uint32_t read, line, head; /* next to be read, end of complete lines, end of all */
    uint32_t column, line_column; /* of the output; where the edited line began */
    uint32_t shown_column, shown_line_column; /* the same before what is being typed now */
    uint8_t in[LX_TTY_RING];
    uint64_t ends[LX_TTY_RING / 64]; /* bits: a line ends with this byte */
    uint32_t out_read, out_head;
    uint8_t out[LX_TTY_RING];
    bool throttled; /* tty_input took less than it was given */
    struct timer timer; /* of reads with VTIME: ... */
    struct thread *timer_for; /* ... who reads, */
    uint32_t timer_count; /* how many bytes there were, */
    bool timer_over; /* and its time has come */
    struct waitq wait; /* for input, for room */
    void (*output)(struct tty *tty); /* there is output; may be called at any time */
    void (*resume)(struct tty *tty); /* there is room for input again */
    void (*closed)(struct tty *tty); /* the last file on it; NULL: nobody minds */
    void *other; /* the other end's */
    uint64_t device; /* its number as st_rdev */
};

/* ---- line discipline (ldisc.c) ---- */
/* Sane settings, as Linux gives a new terminal; everything else zero. */
void tty_init(struct tty *tty);
/* Bytes from the other end: how many were taken. */
size_t tty_input(struct tty *tty, const void *data, size_t n);
/* Takes at most n bytes of output; 0 when stopped. */
size_t tty_take(struct tty *tty, void *data, size_t n);
/* A program's output: how many bytes of it were taken; none while it is stopped. */
size_t tty_output(struct tty *tty, const void *data, size_t n);
/* Whether a read would give something (a whole line; VMIN bytes for `many`), and what it
 * gives: bytes, 0 at end of file, -EAGAIN when there is nothing. */
bool tty_readable(const struct tty *tty, bool many);
long tty_read(struct tty *tty, struct iobuf *io);
/* FIONREAD; bytes of output not taken yet. */
size_t tty_in_count(const struct tty *tty);
static inline size_t tty_out_count(const struct tty *tty) { return tty->out_head - tty->out_read; }
void tty_settings(struct tty *tty, const struct termios2 *settings);
void tty_flush(struct tty *tty, bool in, bool out);
/* Stops and restarts output. */
void tty_stop(struct tty *tty);
void tty_start(struct tty *tty);

/* ---- device (tty.c) ---- */
/* Opens it: one reference. -EIO when hung up, -ENFILE, -EBUSY. Becomes the controlling
 * terminal of a session leader that has none, unless O_NOCTTY. */
long tty_open(struct tty *tty, uint32_t flags, struct file **file);
/* /dev/tty: -ENXIO without a controlling terminal. */
long tty_open_own(uint32_t flags, struct file **file);
bool file_is_tty(const struct file *file);
/* For dev_register: data is the struct tty. */
struct dev_ops;
extern const struct dev_ops tty_dev_ops;
/* An ioctl of a terminal: as file_ops' ioctl. master: from its other end. */
long tty_ioctl(struct tty *tty, bool master, struct thread *thread, uint32_t command,
               uint64_t argument, struct iobuf *io);
/* /dev/tty is registered. */
void tty_start_all(void);
/* process.c: a process ends: a session leader's terminal is free again, its foreground group
 * gets SIGHUP and SIGCONT. */
void tty_process_end(struct process *process);
/* setsid: the process has no terminal any more. */
void tty_detach(struct process *process);
/* The other end is gone: SIGHUP and SIGCONT to the session, reads end, writes give -EIO. */
void tty_hangup(struct tty *tty);
/* Sets the size; the foreground group gets SIGWINCH when it is another one. */
void tty_resize(struct tty *tty, const struct winsize *size);

/* ---- behind it ---- */
/* console.c: the terminal on the channel with the tag "console", or on the serial port where
 * there is none: /dev/console, /dev/tty1, /dev/ttyS0. At the start; then console_poll at
 * every one of console_events() (bits of the first thread). */
void console_init(void);
void console_poll(void);
uint64_t console_events(void);
extern struct tty console;
/* pty.c: /dev/ptmx and /dev/pts/N are registered. */
void pty_init(void);
unsigned pty_count(void); /* in use */
/* The slave of that number, below LX_PTYS; NULL: there is none. */
const struct tty *pty_slave(unsigned number);

/* ioctl(fd, command, argument or offset): see ../ioctl.h. */
call_function call_ioctl;
/* vhangup(): the session loses its terminal, which goes on for the next one. */
call_function call_vhangup;
#endif
