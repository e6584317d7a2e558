/* SPDX-License-Identifier: MIT
 *
 * poll, select, epoll, eventfd, timerfd, signalfd of linuxd: what they say, whom they wake, what they
 * refuse, and that nothing is left when files are closed in any order. */
#include "lx_host.h"
#include "../../libos/linux/server/waiting/wait.c"
#include "../../libos/linux/server/waiting/timer.c"
#include "../../libos/linux/server/waiting/pipe.c"
#include "../../libos/linux/server/waiting/socket.c"
#include "../../libos/linux/server/waiting/poll.c"
#include "../../libos/linux/server/waiting/epoll.c"
#include "../../libos/linux/server/waiting/eventfd.c"
#include "../../libos/linux/server/waiting/signalfd.c"

#define NEVER ~0ul

static uint32_t fd[2];

/* Pending: of processes; what a thread sent itself is in its window. */
static uint64_t pending[2];
uint64_t signals_pending(struct thread *thread)
{
    return thread->window->signals | pending[thread - host_threads];
}
bool signal_take(struct thread *thread, int signal, struct lx_siginfo *info)
{
    uint64_t bit = LX_SIGNAL_BIT(signal), *all = &pending[thread - host_threads];
    bool had = *all & bit;
    *info = (struct lx_siginfo){.code = 1, .pid = 77, .status = 3};
    if (!had) thread->window->signals &= ~bit;
    *all &= ~bit;
    return had;
}

static void start(void)
{
    host_process(0);
    host_process(1);
    EXPECT(HOST_CALL(0, call_pipe) == 0);
    memcpy(fd, host_bytes(0), 8);
}

static void finish(void)
{
    host_close_all(0);
    host_close_all(1);
    EXPECT(files_open == 0 && pipe_count() == 0 && poll_files_count() == 0 && pages_used == 0);
    EXPECT(!host_threads[0].waiting || (host_thread(0), !host_threads[0].waiting));
}

static struct pollfd *poll_set(unsigned i, uint32_t of, short events)
{
    struct pollfd *p = (struct pollfd *)host_bytes(0) + i;
    *p = (struct pollfd){(int)of, events, 0x7f};
    return p;
}

static void test_poll(void)
{
    start();
    struct pollfd *p = poll_set(0, fd[0], POLLIN), *q = poll_set(1, fd[1], POLLOUT);
    EXPECT(HOST_CALL(0, call_poll, 0, 2, 1) == 1 && p->revents == 0 && q->revents == POLLOUT);
    EXPECT(HOST_CALL(0, call_poll, 0, 1, 0) == 0 && p->revents == 0);
    EXPECT(HOST_CALL(0, call_poll, 0, 1, 1) == -LX_WAIT);
    EXPECT(host_write(1, fd[1], "x", 1) == -EBADF); /* not its own */
    processes[1].fds[9].file = fd_file(&host_threads[0], fd[1]);
    file_get(processes[1].fds[9].file);
    EXPECT(woken[0] == 0 && host_write(1, 9, "x", 1) == 1 && woken[0] == 1);
    EXPECT(HOST_CALL(0, call_poll, 0, 1, 1) == 1 && p->revents == POLLIN);
    poll_set(0, fd[0], POLLOUT);
    poll_set(1, ~0u, POLLIN);
    poll_set(2, 77, POLLIN);
    EXPECT(HOST_CALL(0, call_poll, 0, 3, 1) == 1 && p[0].revents == 0 && p[1].revents == 0);
    EXPECT(p[2].revents == POLLNVAL);
    EXPECT(HOST_CALL(0, call_poll, 0, 0, 0) == 0 && HOST_CALL(0, call_poll, 0, 0, 1) == -LX_WAIT);
    EXPECT(HOST_CALL(0, call_poll, 0, LX_POLL_MAX + 1, 1) == -EINVAL);
    EXPECT(HOST_CALL(0, call_poll, NEVER, 1, 1) == -EFAULT);
    EXPECT(HOST_CALL(0, call_poll, LX_WINDOW_BYTES - 7, 1, 1) == -EFAULT);
    EXPECT(HOST_CALL(0, call_poll, 0, NEVER, 1) == -EINVAL);
    /* The other end closes while it waits. */
    poll_set(0, fd[0], 0);
    host_read(0, fd[0], host_bytes(0) + 100, 5);
    EXPECT(HOST_CALL(0, call_poll, 0, 1, 1) == -LX_WAIT);
    HOST_CALL(1, call_close, 9);
    woken[0] = 0;
    poll_set(0, fd[0], 0);
    processes[1].fds[9].file = fd_file(&host_threads[0], fd[1]);
    processes[0].fds[fd[1]].file = NULL;
    EXPECT(HOST_CALL(0, call_poll, 0, 1, 1) == -LX_WAIT);
    HOST_CALL(1, call_close, 9);
    EXPECT(woken[0] == 1 && HOST_CALL(0, call_poll, 0, 1, 1) == 1 && p->revents == POLLHUP);
    finish();
}

static void test_select(void)
{
    start();
    uint64_t *set = (uint64_t *)host_bytes(0);
    const unsigned words = LX_SELECT_BYTES / 8;
    memset(set, 0, 3 * LX_SELECT_BYTES);
    set[0] = 1ul << fd[0];
    set[words] = 1ul << fd[1];
    EXPECT(HOST_CALL(0, call_select, 64, 0, 1) == 1 && set[0] == 0 && set[words] == 1ul << fd[1]);
    set[0] = 1ul << fd[0];
    set[words] = 0;
    EXPECT(HOST_CALL(0, call_select, 64, 0, 1) == -LX_WAIT && set[0] == 1ul << fd[0]);
    EXPECT(host_write(0, fd[1], "x", 1) == 1 && woken[0] == 0); /* its own call ended the wait */
    set[2 * words] = 1ul << fd[0];
    EXPECT(HOST_CALL(0, call_select, 64, 0, 1) == 1 && set[0] && !set[2 * words]);
    set[3] = 1;
    EXPECT(HOST_CALL(0, call_select, 1024, 0, 1) == -EBADF);
    EXPECT(HOST_CALL(0, call_select, 192, 0, 1) == 1); /* beyond what was asked for */
    EXPECT(HOST_CALL(0, call_select, NEVER, 0, 1) == -EINVAL);
    EXPECT(HOST_CALL(0, call_select, 64, LX_WINDOW_BYTES - 383, 1) == -EFAULT);
    memset(set, 0, 3 * LX_SELECT_BYTES);
    EXPECT(HOST_CALL(0, call_select, 0, 0, 0) == 0 &&
           HOST_CALL(0, call_select, 0, 0, 1) == -LX_WAIT);
    finish();
}

/* epoll_ctl with an event; the data is 1000 + target. */
static long ctl(uint64_t epfd, int op, uint64_t target, uint32_t events)
{
    struct epoll_event event = {events, 1000 + target};
    memcpy(host_bytes(0) + 64, &event, sizeof(event));
    return HOST_CALL(0, call_epoll_ctl, epfd, (uint64_t)op, target, 64);
}
static long ewait(uint64_t epfd, uint64_t most, bool wait)
{
    return HOST_CALL(0, call_epoll_wait, epfd, most, wait);
}
static struct epoll_event *event_at(unsigned i) { return (struct epoll_event *)host_bytes(0) + i; }

static void test_epoll(void)
{
    start();
    EXPECT(HOST_CALL(0, call_epoll_create, 0) == -EINVAL);
    EXPECT(HOST_CALL(0, call_epoll_create1, 1) == -EINVAL);
    long ep = HOST_CALL(0, call_epoll_create1, EPOLL_CLOEXEC);
    EXPECT(ep == 2 && processes[0].fds[2].cloexec);
    EXPECT(ctl(2, EPOLL_CTL_ADD, 2, EPOLLIN) == -EINVAL && ctl(2, EPOLL_CTL_ADD, 99, 0) == -EBADF);
    EXPECT(ctl(fd[0], EPOLL_CTL_ADD, fd[1], EPOLLIN) == -EINVAL);
    EXPECT(ctl(2, EPOLL_CTL_MOD, fd[0], EPOLLIN) == -ENOENT && ctl(2, 9, fd[0], 0) == -EINVAL);
    EXPECT(ctl(2, EPOLL_CTL_DEL, fd[0], 0) == -ENOENT);
    EXPECT(ctl(2, EPOLL_CTL_ADD, fd[0], EPOLLIN) == 0 &&
           ctl(2, EPOLL_CTL_ADD, fd[0], 0) == -EEXIST);
    EXPECT(ewait(2, 0, true) == -EINVAL && ewait(2, NEVER, true) == -EINVAL);
    EXPECT(ewait(fd[0], 1, true) == -EINVAL && ewait(88, 1, true) == -EBADF);
    EXPECT(ewait(2, 5, false) == 0 && ewait(2, 5, true) == -LX_WAIT);
    EXPECT(host_write(1, 0, "", 0) == -EBADF);
    struct iobuf io;
    iobuf_own(&io, "xy", 2);
    struct file *writer = fd_file(&host_threads[0], fd[1]);
    EXPECT(writer->ops->write(writer, &io, NULL) == 2 && woken[0] == 1);
    EXPECT(ewait(2, 5, true) == 1 && event_at(0)->events == EPOLLIN &&
           event_at(0)->data == 1000 + fd[0]);
    EXPECT(ewait(2, 5, true) == 1); /* a level */
    EXPECT(ctl(2, EPOLL_CTL_MOD, fd[0], EPOLLIN | EPOLLONESHOT) == 0);
    EXPECT(ewait(2, 5, true) == 1 && ewait(2, 5, false) == 0);
    EXPECT(ctl(2, EPOLL_CTL_MOD, fd[0], EPOLLIN | EPOLLET) == 0);
    EXPECT(ewait(2, 5, true) == 1 && ewait(2, 5, false) == 0); /* an edge */
    EXPECT(host_read(0, fd[0], host_bytes(0), 1) == 1 && ewait(2, 5, false) == 0);
    EXPECT(host_write(0, fd[1], "z", 1) == 1 && ewait(2, 5, false) == 1 && ewait(2, 5, false) == 0);
    EXPECT(ctl(2, EPOLL_CTL_DEL, fd[0], 0) == 0 && ewait(2, 5, false) == 0);
    finish();
}

static void test_epoll_ends(void)
{
    start();
    long a = HOST_CALL(0, call_epoll_create1, 0), b = HOST_CALL(0, call_epoll_create1, 0);
    long c = HOST_CALL(0, call_epoll_create1, 0);
    EXPECT(ctl(a, EPOLL_CTL_ADD, b, EPOLLIN) == 0);
    EXPECT(ctl(b, EPOLL_CTL_ADD, a, EPOLLIN) == -ELOOP && ctl(b, EPOLL_CTL_ADD, c, 1) == -ELOOP);
    EXPECT(ctl(c, EPOLL_CTL_ADD, a, EPOLLIN) == -ELOOP);
    EXPECT(ctl(b, EPOLL_CTL_ADD, fd[0], EPOLLIN) == 0 && ewait(a, 3, true) == -LX_WAIT);
    struct iobuf io;
    iobuf_own(&io, "x", 1);
    struct file *writer = fd_file(&host_threads[0], fd[1]);
    EXPECT(writer->ops->write(writer, &io, NULL) == 1 && woken[0] == 1);
    EXPECT(ewait(a, 3, true) == 1 && event_at(0)->data == 1000 + (uint64_t)b);
    EXPECT(HOST_CALL(0, call_close, fd[0]) == 0 && ewait(a, 3, false) == 0);
    EXPECT(HOST_CALL(0, call_close, (uint64_t)b) == 0 && poll_files_count() == 2);
    EXPECT(ctl(c, EPOLL_CTL_ADD, a, EPOLLIN) == 0); /* nothing is nested any more */
    /* A file with two names stays watched until both are closed. */
    file_get(writer);
    processes[0].fds[20].file = writer;
    EXPECT(ctl(a, EPOLL_CTL_ADD, 20, EPOLLOUT) == 0 && ctl(a, EPOLL_CTL_ADD, fd[1], EPOLLOUT) == 0);
    HOST_CALL(0, call_close, 20);
    EXPECT(ewait(a, 3, false) == 2 && poll_files_count() == 5);
    HOST_CALL(0, call_close, fd[1]);
    EXPECT(ewait(a, 3, false) == 0 && poll_files_count() == 3);
    finish();
}

/* More are ready than are asked for: all come in turn. */
static void test_epoll_turns(void)
{
    start();
    long ep = HOST_CALL(0, call_epoll_create1, 0);
    unsigned seen[40] = {0};
    for (unsigned i = 0; i < 40; i++) {
        long e = HOST_CALL(0, call_eventfd2, 1, 0);
        EXPECT(e >= 0 && ctl(ep, EPOLL_CTL_ADD, e, EPOLLIN) == 0);
    }
    for (unsigned round = 0; round < 12; round++) {
        EXPECT(ewait(ep, 7, true) == 7);
        for (unsigned i = 0; i < 7; i++)
            seen[event_at(i)->data - 1000 - (uint64_t)ep - 1]++;
    }
    for (unsigned i = 0; i < 40; i++)
        EXPECT(seen[i] >= 2 && seen[i] <= 3);
    finish();
}

static void test_eventfd(void)
{
    uint64_t value = 5;
    host_process(0);
    host_process(1);
    EXPECT(HOST_CALL(0, call_eventfd2, 0, 2) == -EINVAL);
    EXPECT(HOST_CALL(0, call_eventfd, 3) == 0 &&
           HOST_CALL(0, call_eventfd2, 0, 1 | O_NONBLOCK) == 1);
    EXPECT(host_read(0, 0, &value, 7) == -EINVAL && host_read(0, 0, &value, 8) == 8 && value == 3);
    EXPECT(host_read(0, 0, &value, 8) == -LX_WAIT);
    struct file *file = fd_file(&host_threads[0], 0);
    struct iobuf io;
    value = 4;
    iobuf_own(&io, &value, 8);
    EXPECT(file->ops->write(file, &io, NULL) == 8 && woken[0] == 1);
    value = ~0ul;
    EXPECT(host_write(0, 0, &value, 8) == -EINVAL && host_write(0, 0, &value, 3) == -EINVAL);
    value = ~0ul - 4;
    EXPECT(host_write(0, 0, &value, 8) == -LX_WAIT); /* one too many: there are 4 */
    value = ~0ul - 5;
    EXPECT(host_write(0, 0, &value, 8) == 8 && file->ops->poll(file) == (POLLIN | POLLRDNORM));
    EXPECT(host_read(0, 0, &value, 8) == 8 && value == ~0ul - 1);
    value = 2;
    EXPECT(host_write(0, 1, &value, 8) == 8);
    EXPECT(host_read(0, 1, &value, 8) == 8 && value == 1 && host_read(0, 1, &value, 8) == 8);
    EXPECT(value == 1 && host_read(0, 1, &value, 8) == -EAGAIN);
    finish();
}

/* it: period and first time in nanoseconds. */
static long settime(uint64_t tfd, uint64_t flags, uint64_t period, uint64_t value)
{
    const struct lx_timespec it[2] = {time_to(period), time_to(value)};
    memcpy(host_bytes(0), it, sizeof(it));
    return HOST_CALL(0, call_timerfd_settime, tfd, flags, 0, 1);
}
static void advance(uint64_t ns)
{
    clock_now += ns;
    if (timer_at && timer_at <= clock_now) timers_run();
}

static void test_timerfd(void)
{
    const struct lx_timespec *it = (const struct lx_timespec *)host_bytes(0);
    uint64_t n = 0;
    host_process(0);
    host_process(1);
    EXPECT(HOST_CALL(0, call_timerfd_create, 5, 0) == -EINVAL);
    EXPECT(HOST_CALL(0, call_timerfd_create, 1, 1) == -EINVAL);
    EXPECT(HOST_CALL(0, call_timerfd_create, 1, TFD_NONBLOCK) == 0);
    EXPECT(HOST_CALL(0, call_timerfd_create, 0, 0) == 1);
    EXPECT(host_read(0, 0, &n, 8) == -EAGAIN && host_write(0, 0, &n, 8) == -EINVAL);
    EXPECT(settime(9, 0, 0, 1) == -EBADF && settime(0, 8, 0, 1) == -EINVAL);
    EXPECT(settime(0, 0, 0, 5000000) == 0 && timer_at == clock_now + 5000000);
    EXPECT(HOST_CALL(0, call_timerfd_gettime, 0) == 0 && it[1].tv_nsec == 5000000 && !it[0].tv_sec);
    advance(4999999);
    EXPECT(host_read(0, 0, &n, 8) == -EAGAIN);
    EXPECT(host_read(0, 0, &n, 4) == -EINVAL);
    struct pollfd *p = poll_set(0, 0, POLLIN);
    EXPECT(HOST_CALL(0, call_poll, 0, 1, 1) == -LX_WAIT);
    advance(1);
    EXPECT(woken[0] == 1 && HOST_CALL(0, call_poll, 0, 1, 1) == 1 && p->revents == POLLIN);
    EXPECT(host_read(0, 0, &n, 8) == 8 && n == 1 && timer_at == 0);
    /* Periods are counted, also those that nobody looked at. */
    EXPECT(settime(0, 0, 1000, 1000) == 0);
    advance(1000000);
    EXPECT(host_read(0, 0, &n, 8) == 8 && n == 1000 && timer_at > clock_now);
    EXPECT(HOST_CALL(0, call_timerfd_gettime, 0) == 0 && it[0].tv_nsec == 1000);
    /* Set anew: the old setting is told. By the clock of the day. */
    EXPECT(settime(0, 0, 0, 0) == 0 && it[0].tv_nsec == 1000 && timer_at == 0);
    EXPECT(settime(1, TFD_TIMER_ABSTIME, 0, time_real() + 70000) == 0);
    EXPECT(timer_at == clock_now + 70000);
    EXPECT(host_read(0, 1, &n, 8) == -LX_WAIT);
    woken[0] = 0;
    advance(70000);
    EXPECT(woken[0] == 1 && host_read(0, 1, &n, 8) == 8 && n == 1);
    EXPECT(settime(1, TFD_TIMER_ABSTIME, 0, 5) == 0); /* long past */
    EXPECT(host_read(0, 1, &n, 8) == 8 && n == 1);
    /* What cannot be. */
    struct lx_timespec bad[2] = {{0, 0}, {0, 1000000000}};
    memcpy(host_bytes(0), bad, sizeof(bad));
    EXPECT(HOST_CALL(0, call_timerfd_settime, 0, 0, 0, 0) == -EINVAL);
    bad[1] = (struct lx_timespec){-1, 0};
    memcpy(host_bytes(0), bad, sizeof(bad));
    EXPECT(HOST_CALL(0, call_timerfd_settime, 0, 0, 0, 0) == -EINVAL);
    EXPECT(HOST_CALL(0, call_timerfd_settime, 0, 0, NEVER, 0) == -EFAULT);
    bad[1] = (struct lx_timespec){INT64_MAX, 999999999};
    bad[0] = bad[1];
    memcpy(host_bytes(0), bad, sizeof(bad));
    EXPECT(HOST_CALL(0, call_timerfd_settime, 0, 0, 0, 0) == 0 && timer_at > clock_now);
    EXPECT(settime(1, 0, 1, 1) == 0); /* as often as can be: no more than every 50 us */
    for (unsigned i = 0; i < 100; i++)
        advance(timer_at - clock_now);
    EXPECT(timer_at >= clock_now + PERIOD_MIN);
    finish();
    EXPECT(timer_at == 0);
}

static long signal_file(int64_t of, uint64_t mask, uint64_t flags)
{
    memcpy(host_bytes(0), &mask, sizeof(mask));
    return HOST_CALL(0, call_signalfd4, (uint64_t)of, 0, 8, flags);
}

static void test_signalfd(void)
{
    struct signalfd_siginfo info[3];
    host_process(0);
    host_process(1);
    EXPECT(signal_file(-1, 0, 1) == -EINVAL && signal_file(5, 0, 0) == -EBADF);
    EXPECT(HOST_CALL(0, call_signalfd4, ~0ul, 0, 4, 0) == -EINVAL);
    EXPECT(HOST_CALL(0, call_signalfd4, ~0ul, NEVER, 8, 0) == -EFAULT);
    EXPECT(signal_file(-1, LX_SIGNAL_BIT(SIGUSR1) | LX_SIGNAL_BIT(SIGKILL), SFD_CLOEXEC) == 0);
    EXPECT(host_read(0, 0, info, 100) == -EINVAL && host_write(0, 0, info, 128) == -EINVAL);
    EXPECT(host_read(0, 0, info, sizeof(info)) == -LX_WAIT);
    pending[0] = LX_SIGNAL_BIT(SIGUSR1) | LX_SIGNAL_BIT(SIGKILL) | LX_SIGNAL_BIT(SIGCHLD);
    wake(&signalfd_queue);
    EXPECT(woken[0] == 1 && host_read(0, 0, info, sizeof(info)) == 128);
    EXPECT(info[0].ssi_signo == SIGUSR1 && info[0].ssi_pid == 77 && info[0].ssi_status == 3);
    EXPECT(signal_file(0, ~0ul, 0) == 0 && signal_file(-1, 0, SFD_NONBLOCK) == 1);
    host_windows[0].signals = LX_SIGNAL_BIT(SIGUSR2);
    struct file *file = fd_file(&host_threads[0], 0);
    EXPECT(file->ops->poll(file) == (POLLIN | POLLRDNORM));
    EXPECT(host_read(0, 0, info, sizeof(info)) == 256 && info[0].ssi_signo == SIGUSR2);
    EXPECT(info[0].ssi_pid == 100 && info[1].ssi_signo == SIGCHLD && file->ops->poll(file) == 0);
    EXPECT(host_read(0, 1, info, sizeof(info)) == -EAGAIN && HOST_CALL(0, call_eventfd, 0) == 2);
    EXPECT(signal_file(2, 0, 0) == -EINVAL);
    pending[0] = 0;
    finish();
    EXPECT(signalfd_count() == 0);
}

/* Random calls with random arguments: nothing breaks, and nothing is left. */
static void test_hostile(void)
{
    static call_function *const calls[] = {call_pipe,
                                           call_pipe2,
                                           call_socketpair,
                                           call_shutdown,
                                           call_poll,
                                           call_select,
                                           call_epoll_create,
                                           call_epoll_create1,
                                           call_epoll_ctl,
                                           call_epoll_ctl,
                                           call_epoll_ctl,
                                           call_epoll_wait,
                                           call_eventfd,
                                           call_eventfd2,
                                           call_timerfd_create,
                                           call_timerfd_settime,
                                           call_timerfd_gettime,
                                           call_close,
                                           call_close};
    static uint8_t data[70000];
    host_process(0);
    host_process(1);
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t a[6];
        unsigned who = (unsigned)next(2);
        for (unsigned k = 0; k < 6; k++)
            a[k] = next(4) ? next(12) : next(2) ? next(1 << 14) : (next(~0ul) << 8);
        if (next(3) == 0)
            for (unsigned k = 0; k < 64; k++)
                host_bytes(who)[next(512)] = (uint8_t)next(next(4) ? 8 : 256);
        if (next(4) == 0) {
            (void)host_move(who, next(16), data, next(next(2) ? 9 : sizeof(data)), next(2));
        } else {
            long r = calls[next(EXO_COUNT(calls))](host_thread(who), a);
            EXPECT(r >= -LX_WAIT);
        }
        if (next(50) == 0) advance(next(100000));
    }
    finish();
    EXPECT(timer_at == 0 && !fifo_openers);
}

int main(void)
{
    static const struct unit_test tests[] = {
        {"poll", test_poll},
        {"select", test_select},
        {"epoll", test_epoll},
        {"epoll: nested, closed", test_epoll_ends},
        {"epoll: all come in turn", test_epoll_turns},
        {"eventfd", test_eventfd},
        {"timerfd", test_timerfd},
        {"signalfd", test_signalfd},
        {"random calls", test_hostile},
    };
    return TESTS_RUN("lx-poll", tests);
}
