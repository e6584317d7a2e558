/* SPDX-License-Identifier: MIT
 *
 * Terminals of linuxd. The line discipline against this machine's own: a pseudo-terminal of
 * Linux and one of ours get the same settings, the same typed bytes, the same output and the
 * same reads, at random; what their masters see and what reads give must be the same. Then
 * what needs processes: job control, sessions, hanging up, time-outs, the console. */
#include "lx_host.h"
#include <sys/syscall.h>

long syscall(long number, ...); /* unistd.h has it only beside what clashes with Linux' own */

/* The console's channel: rings of the test. */
#define EXO_CHANNEL_H
struct exo_channel {
    uint64_t event;
};
static bool host_channel, host_channel_closed;
static size_t host_room;
static char host_shown[20000], host_typed[20000];
static size_t host_shown_at, host_typed_at, host_typed_end;
static long exo_channel_find(struct exo_channel *c, const char *peer, const char *tag)
{
    (void)peer;
    c->event = 1ul << 40;
    return host_channel && !strcmp(tag, "console") ? 0 : -EXO_E_NONE;
}
static bool exo_channel_broken(const struct exo_channel *c) { return !c; }
static bool exo_channel_closed(const struct exo_channel *c) { return !c || host_channel_closed; }
static size_t exo_channel_write(struct exo_channel *c, const void *data, size_t n)
{
    (void)c;
    n = EXO_MIN(n, host_room);
    memcpy(host_shown + host_shown_at, data, n);
    host_shown_at += n;
    host_room -= n;
    return n;
}
static size_t exo_channel_read(struct exo_channel *c, void *data, size_t n)
{
    (void)c;
    n = EXO_MIN(n, host_typed_end - host_typed_at);
    memcpy(data, host_typed + host_typed_at, n);
    host_typed_at += n;
    return n;
}
void exo_write(const char *text, size_t n)
{
    memcpy(host_shown + host_shown_at, text, n);
    host_shown_at += n;
}

#include "../../libos/linux/server/waiting/wait.c"
#include "../../libos/linux/server/waiting/timer.c"
#include "../../libos/linux/server/devices/ldisc.c"
#undef I
#undef O
#undef L
#undef CC
#include "../../libos/linux/server/devices/tty.c"
#undef PIECE
#include "../../libos/linux/server/devices/console.c"
#include "../../libos/linux/server/devices/pty.c"
#include "../../libos/linux/server/devices/ioctl.c"

struct opener;
struct opener *fifo_openers;
void pipe_settle(struct file *file) { (void)file; }
void fifo_back(struct thread *thread) { (void)thread; }
void epoll_forget(struct file *file) { (void)file; }
long call_fcntl(struct thread *thread, const uint64_t a[6])
{
    if (!fd_file(thread, a[0])) return -EBADF;
    thread->process->fds[a[0]].cloexec = a[2];
    return 0;
}

/* ---- /dev ---- */
static struct {
    char name[16];
    const struct dev_ops *ops;
    void *data;
} devices[32];
static unsigned device_limit = 32;
static int device_at(const char *name)
{
    for (unsigned i = 0; i < device_limit; i++)
        if (!strcmp(devices[i].name, name)) return (int)i;
    return -1;
}
long dev_register(const char *name, uint32_t mode, uint64_t rdev, const struct dev_ops *ops,
                  void *data)
{
    (void)mode, (void)rdev;
    int i = device_at("");
    if (device_at(name) >= 0) return -EEXIST;
    if (i < 0) return -ENOMEM;
    strcpy(devices[i].name, name);
    devices[i].ops = ops;
    devices[i].data = data;
    return 0;
}
long dev_unregister(const char *name, uint32_t mode, uint64_t rdev)
{
    (void)mode, (void)rdev;
    int i = device_at(name);
    if (i < 0) return -ENOENT;
    devices[i].name[0] = 0;
    return 0;
}
/* Opens /dev/name: a descriptor or an error. */
static long dev_open(unsigned thread, const char *name, uint32_t flags)
{
    int i = device_at(name);
    struct thread *t = host_thread(thread);
    struct file *file;
    long r = i < 0 ? -ENOENT : devices[i].ops->open(devices[i].data, flags, &file);
    return r < 0 ? r : fd_install(t->process, file, false, 0);
}

/* An ioctl with its structure or number. */
static long control(unsigned thread, uint64_t fd, uint32_t command, const void *in, void *out)
{
    struct ioctl_size size = ioctl_size(command);
    uint64_t a[6] = {fd, command, 64};
    if (size.in) memcpy(host_bytes(thread) + 64, in, size.in);
    if (!size.in) a[2] = in ? *(const uint64_t *)in : 0;
    long r = call_ioctl(host_thread(thread), a);
    if (r >= 0 && out) memcpy(out, host_bytes(thread), size.out);
    return r;
}

/* A pseudo-terminal of ours: master 0 and slave 1, which do not wait, of process 0. */
static void pty_ours(uint32_t flags)
{
    int unlock = 0;
    EXPECT(dev_open(0, "ptmx", O_RDWR | flags) == 0);
    EXPECT(dev_open(0, "pts/0", O_RDWR) == -EIO);
    EXPECT(control(0, 0, TIOCSPTLCK, &unlock, NULL) == 0);
    EXPECT(dev_open(0, "pts/0", O_RDWR | O_NOCTTY | flags) == 1);
}

/* ---- against this machine's ---- */

static int host_master = -1, host_slave = -1;

static int sys_open(const char *name)
{
    return (int)syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_NOCTTY | O_NONBLOCK, 0);
}
static long sys_ioctl(int fd, uint64_t command, void *argument)
{
    long r = syscall(SYS_ioctl, fd, command, argument);
    return r;
}
static bool pty_host(void)
{
    int unlock = 0, number = 0;
    char name[32];
    host_master = sys_open("/dev/ptmx");
    if (host_master < 0) return false;
    if (sys_ioctl(host_master, TIOCSPTLCK, &unlock) || sys_ioctl(host_master, TIOCGPTN, &number))
        return false;
    snprintf(name, sizeof(name), "/dev/pts/%d", number);
    host_slave = sys_open(name);
    return host_slave >= 0;
}

static struct termios settings;

/* What was typed has been seen to: poll looks after it when nothing can be read, and settings
 * wait for whoever is at work. */
static void host_settle(void)
{
    struct pollfd p[2] = {{host_slave, POLLIN, 0}, {host_master, POLLIN, 0}};
    syscall(SYS_poll, p, 2, 0);
    sys_ioctl(host_slave, TCSETS, &settings);
    syscall(SYS_poll, p, 2, 0);
}

static unsigned differences;
static void differ(const char *what, const uint8_t *ours, long n, const uint8_t *host, long m)
{
    if (n == m && (n <= 0 || !memcmp(ours, host, (size_t)n))) return;
    if (differences++ < 5) {
        printf("  %s: iflag %x oflag %x lflag %x ours %ld:", what, settings.c_iflag,
               settings.c_oflag, settings.c_lflag, n);
        for (long i = 0; i < n; i++)
            printf(" %02x", ours[i]);
        printf("\n    host %ld:", m);
        for (long i = 0; i < m; i++)
            printf(" %02x", host[i]);
        printf("\n");
    }
    failures++;
}
static long errno_of(long r)
{
    extern int *__errno_location(void);
    return r < 0 ? -*__errno_location() : r;
}

/* Of 10 ms, for what the host's kernel does later. */
#define TRIES 300

/* Waits until the host has as much to be read as we have. */
static void host_catch_up(void)
{
    for (int tries = 0; tries < TRIES; tries++) {
        int ours = 0, host = 0;
        struct pollfd none = {-1, 0, 0};
        control(0, 1, FIONREAD, NULL, &ours);
        sys_ioctl(host_slave, FIONREAD, &host);
        if (ours == host) return;
        host_settle();
        if (tries) syscall(SYS_poll, &none, 1, 10);
    }
}

/* Everything that the masters see now. */
static void compare_output(const char *what)
{
    static uint8_t ours[9000], host[9000];
    long n = 0, m = 0, r;
    while ((r = host_read(0, 0, ours + n, 4096)) > 0)
        n += r;
    for (int tries = 0; tries < TRIES; tries++) {
        struct pollfd p = {host_master, POLLIN, 0};
        while ((r = syscall(SYS_read, host_master, host + m, 4096)) > 0)
            m += r;
        if (m >= n) break;
        syscall(SYS_poll, &p, 1, 10); /* it comes when the host's kernel has the time */
    }
    differ(what, ours, n, host, m);
}

static void compare_read(size_t n)
{
    static uint8_t ours[5000], host[5000];
    host_catch_up();
    long a = host_read(0, 1, ours, n);
    differ("read", ours, a, host, errno_of(syscall(SYS_read, host_slave, host, n)));
}

static void compare_count(void)
{
    int ours = 0, host = 0;
    host_catch_up();
    EXPECT(control(0, 1, FIONREAD, NULL, &ours) == 0);
    sys_ioctl(host_slave, FIONREAD, &host);
    if (ours != host && differences++ < 5)
        printf("  FIONREAD: ours %d host %d iflag %x lflag %x\n", ours, host, settings.c_iflag,
               settings.c_lflag);
    EXPECT(ours == host);
}

static uint32_t flags_of(const uint32_t *flags, unsigned n)
{
    uint32_t all = 0;
    for (unsigned i = 0; i < n; i++)
        if (next(3) == 0) all |= flags[i];
    return all;
}

static void settings_new(bool usual)
{
    static const uint32_t in[] = {ISTRIP,  INLCR, IGNCR,  ICRNL,  IUCLC,  IXON,  IXANY,
                                  IMAXBEL, IUTF8, PARMRK, IGNBRK, BRKINT, IGNPAR};
    static const uint32_t out[] = {OPOST, OPOST, ONLCR, OCRNL, ONOCR, ONLRET, XTABS, OLCUC};
    static const uint32_t local[] = {ICANON,  ICANON, ISIG,   ECHO,   ECHO,
                                     ECHOE,   ECHOK,  ECHONL, NOFLSH, ECHOCTL,
                                     ECHOPRT, ECHOKE, IEXTEN, IEXTEN, TOSTOP};
    tty_init(&(struct tty){0});
    memcpy(&settings, &((struct pty *)ptys[0])->tty.settings, sizeof(settings));
    if (!usual) {
        settings.c_iflag = flags_of(in, EXO_COUNT(in));
        settings.c_oflag = flags_of(out, EXO_COUNT(out));
        settings.c_lflag = flags_of(local, EXO_COUNT(local));
        settings.c_cc[VMIN] = (uint8_t)next(4);
        settings.c_cc[VTIME] = (uint8_t)next(2);
        settings.c_cc[VEOL] = next(2) ? 0 : ';';
        settings.c_cc[VEOL2] = next(2) ? 0 : '!';
        if (next(4) == 0) settings.c_cc[VERASE] = 0;
    }
    EXPECT(control(0, 1, TCSETS, &settings, NULL) == 0);
    sys_ioctl(host_slave, TCSETS, &settings);
    struct termios ours, host;
    EXPECT(control(0, 1, TCGETS, NULL, &ours) == 0);
    sys_ioctl(host_slave, TCGETS, &host);
    EXPECT(!memcmp(&ours, &host, offsetof(struct termios, c_cc) + NCCS));
}

/* Bytes that mean something. Linux gives the echo to the master when it likes, at the end of
 * what was typed at the latest, so that two things are chance: whether a signal throws away
 * echo before a START, and what a STOP still lets out. START and signals do not come
 * together here, and STOP comes last, behind a few plain ones. */
static size_t typed_new(uint8_t *to, size_t most)
{
    static const uint8_t usual[] =
        "ab \t\n\r\177\025\027\026\022\004;!_9Z\001\303\244\342\202\254\377\b";
    static const uint8_t signals[] = "\003\034", start[] = "\021";
    bool signal = next(2);
    bool stop = next(10) == 0 && !((struct pty *)ptys[0])->tty.stopped;
    size_t n = 1 + next(stop ? 8 : most);
    for (size_t i = 0; i < n; i++) {
        uint8_t c = usual[next(sizeof(usual) - 1)];
        if (next(15) == 0 && !stop) c = signal ? signals[next(2)] : start[0];
        to[i] = next(3) ? c : (uint8_t)('a' + next(26));
    }
    if (stop) to[n - 1] = settings.c_cc[VSTOP];
    return n;
}

static void one_step(unsigned step)
{
    uint8_t bytes[64];
    size_t n;
    switch (step) {
    case 0:
    case 1:
    case 2:
        n = typed_new(bytes, next(4) ? 12 : sizeof(bytes));
        EXPECT(host_write(0, 0, bytes, n) == (long)n);
        EXPECT(syscall(SYS_write, host_master, bytes, n) == (long)n);
        host_settle();
        compare_output("echo");
        compare_count();
        break;
    case 3: {
        n = typed_new(bytes, 20);
        long r = host_write(0, 1, bytes, n);
        EXPECT(r == errno_of(syscall(SYS_write, host_slave, bytes, n)));
        host_settle();
        compare_output("output");
        break;
    }
    case 4:
        /* Linux lets out what was echoed while it was stopped with the new settings. */
        if (!((struct pty *)ptys[0])->tty.stopped) settings_new(false);
        host_settle();
        compare_output("settings");
        compare_count();
        break;
    default:
        break;
    }
    /* Nothing is left to be read, so that poll sees to what comes next. */
    for (unsigned i = 0; i < 200; i++) {
        int left = 0;
        struct pollfd p = {host_slave, POLLIN, 0};
        compare_read(1 + next(next(2) ? 4 : 70));
        compare_count();
        sys_ioctl(host_slave, FIONREAD, &left);
        if (!left && !syscall(SYS_poll, &p, 1, 0)) break;
    }
}

static void test_against_host(void)
{
    host_process(0);
    processes[0].sid = 1; /* not the leader: nobody's terminal */
    for (unsigned round = 0; round < 400 && failures < 20; round++) {
        if (!pty_host()) {
            printf("SKIP lx-tty: no /dev/ptmx here\n");
            return;
        }
        pty_ours(O_NONBLOCK);
        settings_new(round % 4 == 0);
        for (unsigned i = 0; i < 30; i++)
            one_step((unsigned)next(5));
        syscall(SYS_close, host_slave);
        syscall(SYS_close, host_master);
        host_close_all(0);
    }
    EXPECT(pty_count() == 0 && files_open == 0);
}

/* A line that is too long: its last byte is replaced, and its end still comes. */
static void test_long_line(void)
{
    static uint8_t line[6000], back[6000];
    host_process(0);
    processes[0].sid = 1;
    pty_ours(O_NONBLOCK);
    memset(line, 'x', sizeof(line));
    for (size_t at = 0; at < sizeof(line);) {
        long r = host_write(0, 0, line + at, EXO_MIN((size_t)500, sizeof(line) - at));
        EXPECT(r > 0);
        at += (size_t)r;
        while (host_read(0, 0, back, sizeof(back)) > 0)
            ;
    }
    EXPECT(host_write(0, 0, "y\n", 2) == 2);
    EXPECT(host_read(0, 1, back, sizeof(back)) == LX_TTY_RING && back[LX_TTY_RING - 1] == '\n');
    EXPECT(back[LX_TTY_RING - 2] == 'x');
    /* Without lines it fills, and the writer waits until some of it was read. */
    struct termios raw = {.c_cc[VMIN] = 1};
    EXPECT(control(0, 1, TCSETS, &raw, NULL) == 0);
    EXPECT(host_write(0, 0, line, sizeof(line)) == LX_TTY_RING - 1);
    EXPECT(host_write(0, 0, line, 1) == -EAGAIN);
    EXPECT(host_read(0, 1, back, 100) == 100 && host_write(0, 0, line, sizeof(line)) == 100);
    /* So does the other way. */
    while (host_read(0, 0, back, sizeof(back)) > 0)
        ;
    EXPECT(host_write(0, 1, line, sizeof(line)) == LX_TTY_RING - 7);
    EXPECT(host_write(0, 1, line, 1) == -EAGAIN);
    EXPECT(host_read(0, 0, back, 4000) == 4000 && host_write(0, 1, line, 1000) == 1000);
    host_close_all(0);
    EXPECT(pty_count() == 0);
}

/* ---- processes ---- */

/* Process 0 leads the session of a terminal, with process 1 in another group of it. */
static void session_start(void)
{
    host_process(0);
    host_process(1);
    pty_ours(0);
    EXPECT(control(0, 1, TIOCSCTTY, NULL, NULL) == 0 && processes[0].tty);
    processes[1].sid = 100;
    processes[1].tty = processes[0].tty;
    processes[1].parent = &processes[0];
    for (unsigned fd = 0; fd < 2; fd++) {
        processes[1].fds[fd] = processes[0].fds[fd];
        file_get(processes[1].fds[fd].file);
    }
}
static void session_end(void)
{
    host_close_all(0);
    host_close_all(1);
    EXPECT(pty_count() == 0 && files_open == 0 && !processes[0].tty && !processes[1].tty);
}

static void test_job_control(void)
{
    char text[8];
    int pgid = 0, bad = -1, none = 55;
    session_start();
    EXPECT(control(1, 1, TIOCGPGRP, NULL, &pgid) == 0 && pgid == 100);
    EXPECT(host_write(0, 0, "hallo\n", 6) == 6);
    EXPECT(host_read(1, 1, text, 8) == -LX_WAIT && signalled[1] == LX_SIGNAL_BIT(SIGTTIN));
    host_windows[1].refused = LX_SIGNAL_BIT(SIGTTIN) | LX_SIGNAL_BIT(SIGTTOU);
    EXPECT(host_read(1, 1, text, 8) == -EIO);
    host_windows[1].refused = 0;
    processes[1].parent = NULL;
    EXPECT(host_read(1, 1, text, 8) == -EIO); /* nobody would continue it */
    processes[1].parent = &processes[0];
    EXPECT(host_read(0, 1, text, 8) == 6 && !memcmp(text, "hallo\n", 6));
    /* Output from the background only where TOSTOP is not set. */
    signalled[1] = 0;
    EXPECT(host_write(1, 1, "x", 1) == 1 && !signalled[1]);
    struct termios t;
    EXPECT(control(0, 1, TCGETS, NULL, &t) == 0);
    t.c_lflag |= TOSTOP;
    EXPECT(control(1, 1, TCSETS, &t, NULL) == -LX_WAIT && signalled[1] == LX_SIGNAL_BIT(SIGTTOU));
    EXPECT(control(0, 1, TCSETS, &t, NULL) == 0);
    EXPECT(host_write(1, 1, "x", 1) == -LX_WAIT);
    host_windows[1].refused = LX_SIGNAL_BIT(SIGTTOU);
    EXPECT(host_write(1, 1, "x", 1) == 1);
    /* The background takes the foreground, as a shell's child does. */
    EXPECT(control(1, 1, TIOCSPGRP, &bad, NULL) == -EINVAL);
    EXPECT(control(1, 1, TIOCSPGRP, &none, NULL) == -ESRCH);
    pgid = 101;
    EXPECT(control(1, 1, TIOCSPGRP, &pgid, NULL) == 0);
    signalled[0] = signalled[1] = 0;
    EXPECT(host_write(0, 0, "\003", 1) == 1);
    EXPECT(signalled[1] == LX_SIGNAL_BIT(SIGINT) && !signalled[0]);
    EXPECT(host_write(0, 0, "\032\034", 2) == 2);
    EXPECT(signalled[1] ==
           (LX_SIGNAL_BIT(SIGINT) | LX_SIGNAL_BIT(SIGTSTP) | LX_SIGNAL_BIT(SIGQUIT)));
    host_process(2);
    pgid = 102;
    EXPECT(control(1, 1, TIOCSPGRP, &pgid, NULL) == -EPERM);
    /* The window's size. */
    struct winsize size = {50, 132, 0, 0};
    signalled[1] = 0;
    EXPECT(control(0, 0, TIOCSWINSZ, &size, NULL) == 0 && signalled[1] == LX_SIGNAL_BIT(SIGWINCH));
    size = (struct winsize){0};
    EXPECT(control(0, 1, TIOCGWINSZ, NULL, &size) == 0 && size.ws_row == 50 && size.ws_col == 132);
    signalled[1] = 0;
    EXPECT(control(0, 0, TIOCSWINSZ, &size, NULL) == 0 && signalled[1] == 0);
    session_end();
}

static void test_sessions(void)
{
    int id = 0;
    uint64_t steal = 1;
    session_start();
    EXPECT(control(0, 1, TIOCGSID, NULL, &id) == 0 && id == 100);
    EXPECT(control(0, 1, TIOCSCTTY, NULL, NULL) == 0);
    EXPECT(control(1, 1, TIOCSCTTY, NULL, NULL) == -EPERM);
    host_process(2);
    processes[2].fds[1] = processes[0].fds[1];
    file_get(processes[2].fds[1].file);
    EXPECT(control(2, 1, TIOCSCTTY, NULL, NULL) == -EPERM);
    EXPECT(control(2, 1, TIOCGPGRP, NULL, &id) == -ENOTTY);
    EXPECT(control(2, 1, TIOCNOTTY, NULL, NULL) == -ENOTTY);
    EXPECT(control(2, 1, TIOCSCTTY, &steal, NULL) == 0);
    EXPECT(processes[2].tty && !processes[0].tty && !processes[1].tty);
    EXPECT(dev_open(0, "tty", O_RDWR) == -ENXIO && dev_open(2, "tty", O_RDWR) == 0);
    EXPECT(control(2, 0, TIOCNOTTY, NULL, NULL) == 0 && !processes[2].tty);
    EXPECT(signalled[2] == (LX_SIGNAL_BIT(SIGHUP) | LX_SIGNAL_BIT(SIGCONT)));
    /* A leader that opens a free one gets it, unless he does not want it. */
    EXPECT(dev_open(2, "pts/0", O_RDWR | O_NOCTTY) == 2 && !processes[2].tty);
    EXPECT(dev_open(2, "pts/0", O_WRONLY) == 3 && !processes[2].tty);
    EXPECT(dev_open(2, "pts/0", O_RDWR) == 4 && processes[2].tty);
    EXPECT(pty_slave(0) == processes[2].tty && pty_slave(0)->session == processes[2].sid);
    EXPECT(!pty_slave(1));
    EXPECT(dev_open(0, "pts/0", O_RDWR) == 2 && !processes[0].tty);
    /* It ends: the terminal is free, whoever is left is told. */
    processes[1].sid = processes[1].pgid = 102;
    processes[1].tty = processes[2].tty;
    signalled[1] = signalled[2] = 0;
    tty_process_end(&processes[2]);
    EXPECT(signalled[1] == (LX_SIGNAL_BIT(SIGHUP) | LX_SIGNAL_BIT(SIGCONT)) && !processes[1].tty);
    EXPECT(control(0, 2, TIOCSCTTY, NULL, NULL) == 0);
    EXPECT(HOST_CALL(0, call_vhangup) == 0 && !processes[0].tty);
    host_close_all(2);
    session_end();
}

static void test_hangup(void)
{
    char text[8];
    session_start();
    struct file *slave = processes[0].fds[1].file, *master = processes[0].fds[0].file;
    EXPECT(host_read(0, 1, text, 8) == -LX_WAIT);
    HOST_CALL(1, call_close, 0);
    woken[0] = 0;
    host_windows[0].refused = 0;
    struct thread *t = &host_threads[0];
    EXPECT(wait_on(&processes[0].tty->wait, t) == -LX_WAIT);
    processes[0].fds[0].file = NULL;
    thread_current = &host_threads[1];
    file_put(master);
    EXPECT(woken[0] >= 1 && device_at("pts/0") < 0);
    EXPECT(signalled[0] == (LX_SIGNAL_BIT(SIGHUP) | LX_SIGNAL_BIT(SIGCONT)));
    EXPECT(host_read(0, 1, text, 8) == 0 && host_write(0, 1, "x", 1) == -EIO);
    EXPECT(slave->ops->poll(slave) & POLLHUP);
    EXPECT(control(0, 1, TCGETS, NULL, text) == -EIO);
    session_end();
    /* The other way: the master is told when the slave is closed, and when it is there again. */
    host_process(0);
    processes[0].sid = 1;
    pty_ours(O_NONBLOCK);
    master = processes[0].fds[0].file;
    EXPECT(host_write(0, 1, "bye", 3) == 3);
    HOST_CALL(0, call_close, 1);
    EXPECT(master->ops->poll(master) == (POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLHUP));
    EXPECT(host_read(0, 0, text, 8) == 3 && host_read(0, 0, text, 8) == -EIO);
    EXPECT(dev_open(0, "pts/0", O_RDWR) == 1 && host_read(0, 0, text, 8) == -EAGAIN);
    uint64_t flags = O_RDWR | O_CLOEXEC;
    EXPECT(control(0, 0, TIOCGPTPEER, &flags, NULL) == 2 && processes[0].fds[2].cloexec);
    host_close_all(0);
    EXPECT(pty_count() == 0 && files_open == 0);
}

/* Time passes. */
static void advance(uint64_t ns)
{
    clock_now += ns;
    if (timer_at && timer_at <= clock_now) timers_run();
}

static void test_time(void)
{
    char text[8];
    struct termios raw = {.c_cc[VMIN] = 0, .c_cc[VTIME] = 5};
    host_process(0);
    processes[0].sid = 1;
    pty_ours(0);
    EXPECT(control(0, 1, TCSETS, &raw, NULL) == 0);
    EXPECT(host_read(0, 1, text, 8) == -LX_WAIT && timer_at == clock_now + 5 * TENTH);
    advance(4 * TENTH);
    EXPECT(host_read(0, 1, text, 8) == -LX_WAIT && woken[0] == 0);
    advance(TENTH);
    EXPECT(woken[0] == 1 && host_read(0, 1, text, 8) == 0 && timer_at == 0);
    EXPECT(host_read(0, 1, text, 8) == -LX_WAIT && host_write(0, 0, "ab", 2) == 2);
    EXPECT(host_read(0, 1, text, 8) == 2 && timer_at == 0);
    /* Between bytes only. */
    raw.c_cc[VMIN] = 4;
    EXPECT(control(0, 1, TCSETS, &raw, NULL) == 0);
    EXPECT(host_read(0, 1, text, 8) == -LX_WAIT && timer_at == 0);
    EXPECT(host_write(0, 0, "a", 1) == 1 && host_read(0, 1, text, 8) == -LX_WAIT && timer_at);
    advance(4 * TENTH);
    EXPECT(host_write(0, 0, "b", 1) == 1 && host_read(0, 1, text, 8) == -LX_WAIT);
    advance(4 * TENTH);
    EXPECT(host_read(0, 1, text, 8) == -LX_WAIT);
    advance(TENTH);
    EXPECT(host_read(0, 1, text, 8) == 2 && !memcmp(text, "ab", 2));
    EXPECT(host_write(0, 0, "abcde", 5) == 5 && host_read(0, 1, text, 3) == 3);
    EXPECT(host_read(0, 1, text, 8) == -LX_WAIT);
    host_close_all(0);
    EXPECT(timer_at == 0 && pty_count() == 0);
}

static void test_console(void)
{
    char text[64];
    host_process(0);
    host_channel = true;
    memset(devices, 0, sizeof(devices));
    console_init();
    pty_init();
    EXPECT(console_events() == 1ul << 40);
    EXPECT(dev_open(0, "console", O_RDWR) == 0 && processes[0].tty == &console);
    host_room = 5;
    host_shown_at = host_typed_at = 0;
    EXPECT(host_write(0, 0, "hello\nworld\n", 12) == 12);
    EXPECT(host_shown_at == 5);
    EXPECT(control(0, 0, TCSBRK, &(uint64_t){1}, NULL) == -LX_WAIT || !tty_out_count(&console));
    host_room = sizeof(host_shown) - 5;
    console_poll();
    EXPECT(host_shown_at == 14 && !memcmp(host_shown, "hello\r\nworld\r\n", 14));
    memcpy(host_typed, "ls -l\rsecond\r", 13);
    host_typed_end = 13;
    EXPECT(host_read(0, 0, text, 64) == -LX_WAIT);
    woken[0] = 0;
    EXPECT(wait_on(&console.wait, &host_threads[0]) == -LX_WAIT);
    console_poll();
    EXPECT(woken[0] >= 1 && host_read(0, 0, text, 64) == 6 && !memcmp(text, "ls -l\n", 6));
    EXPECT(host_read(0, 0, text, 64) == 7);
    EXPECT(!memcmp(host_shown + 14, "ls -l\r\nsecond\r\n", 15));
    /* More is typed than there is room for: the rest waits in the channel. */
    for (unsigned i = 0; i < 10000; i += 10)
        memcpy(host_typed + i, "123456789\r", 10);
    host_typed_at = 0;
    host_typed_end = 10000;
    host_shown_at = 0;
    host_room = sizeof(host_shown);
    console_poll();
    EXPECT(host_typed_end - host_typed_at > 5000);
    unsigned lines = 0;
    while (host_read(0, 0, text, 64) == 10)
        lines++;
    EXPECT(lines == 1000 && host_typed_at == 10000);
    host_close_all(0);
    processes[0].tty = NULL;
    console.session = 0;
    /* The other end is gone: nobody is kept waiting. */
    host_channel_closed = true;
    EXPECT(dev_open(0, "console", O_RDWR) == 0 && host_write(0, 0, text, 10) == 10);
    EXPECT(tty_out_count(&console) == 0);
    host_close_all(0);
    tty_process_end(&processes[0]);
    EXPECT(files_open == 0);
}

static void test_exhaustion(void)
{
    host_process(0);
    processes[0].sid = 1;
    for (unsigned i = 0; i < LX_PTYS; i++)
        EXPECT(dev_open(0, "ptmx", O_RDWR) == (long)i);
    EXPECT(dev_open(0, "ptmx", O_RDWR) == -ENOSPC && pty_count() == LX_PTYS);
    host_close_all(0);
    EXPECT(pty_count() == 0);
    file_limit = 0;
    EXPECT(dev_open(0, "ptmx", O_RDWR) == -ENFILE && pty_count() == 0);
    EXPECT(device_at("pts/0") < 0);
    file_limit = HOST_FILES;
    device_limit = 4;
    EXPECT(dev_open(0, "ptmx", O_RDWR) == -ENOMEM && pty_count() == 0 && files_open == 0);
    device_limit = 32;
}

/* Random ioctls, settings, reads and writes by three processes: nothing breaks. */
static void test_hostile(void)
{
    static const uint32_t known[] = {
        TCGETS,     TCSETS,     TCSETSF,    TCSETSW,     TCGETS2,   TCSETS2,  TIOCGWINSZ,
        TIOCSWINSZ, TIOCSCTTY,  TIOCNOTTY,  TIOCGPGRP,   TIOCSPGRP, TIOCGSID, TCXONC,
        TCFLSH,     TCSBRK,     TCSBRKP,    FIONREAD,    TIOCOUTQ,  TIOCGETD, TIOCSTI,
        TIOCGPTN,   TIOCSPTLCK, TIOCGPTLCK, TIOCGPTPEER, FIONBIO,   FIOCLEX,  FIONCLEX};
    static uint8_t data[9000];
    for (unsigned i = 0; i < 3; i++)
        host_process(i);
    for (unsigned i = 0; i < 200000; i++) {
        unsigned who = (unsigned)next(3);
        uint64_t fd = next(6);
        if (next(40) == 0) {
            char name[8];
            snprintf(name, sizeof(name),
                     next(2)   ? "pts/%u"
                     : next(2) ? "ptmx"
                               : "tty",
                     (unsigned)next(3));
            if (pty_count() < 4) (void)dev_open(who, name, (uint32_t)next(4096));
        } else if (next(40) == 0) {
            HOST_CALL(who, call_close, fd);
        } else if (next(3) == 0) {
            for (unsigned k = 0; k < 200; k++)
                data[next(sizeof(data))] = (uint8_t)next(256);
            (void)host_move(who, fd, data, next(next(3) ? 50 : sizeof(data)), next(2));
        } else {
            uint64_t a[6] = {fd, next(8) ? known[next(EXO_COUNT(known))] : next(~0ul),
                             next(3)   ? next(LX_WINDOW_BYTES)
                             : next(4) ? next(6)
                                       : next(~0ul)};
            for (unsigned k = 0; k < 64; k++)
                host_bytes(who)[next(4096)] = (uint8_t)next(next(2) ? 256 : 8);
            (void)call_ioctl(host_thread(who), a);
        }
        if (next(100) == 0) advance(next(1000000000));
    }
    for (unsigned i = 0; i < 3; i++) {
        tty_process_end(&processes[i]);
        host_close_all(i);
    }
    EXPECT(pty_count() == 0 && files_open == 0 && timer_at == 0);
}

int main(void)
{
    static const struct unit_test tests[] = {
        {"line discipline as this machine's", test_against_host},
        {"long lines, full rings", test_long_line},
        {"job control", test_job_control},
        {"sessions", test_sessions},
        {"hanging up", test_hangup},
        {"time-outs of reads", test_time},
        {"console", test_console},
        {"exhaustion", test_exhaustion},
        {"random calls", test_hostile},
    };
    tty_start_all();
    EXPECT(device_at("tty1") >= 0 && device_at("ptmx") >= 0 && device_at("tty") >= 0);
    return TESTS_RUN("lx-tty", tests);
}
