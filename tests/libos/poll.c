/* SPDX-License-Identifier: MIT
 *
 * Pipes, and waiting for several things: poll, select, epoll, eventfd, timerfd. */
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include "test.h"

static int ends[2];

static void write_later(void)
{
    test_sleep_ms(40);
    _exit(write(ends[1], "late", 4) != 4);
}

static void write_much(void)
{
    char data[1000];
    close(ends[0]);
    for (int i = 0; i < 300; i++) {
        memset(data, i, sizeof data);
        if (write(ends[1], data, sizeof data) != sizeof data) _exit(1);
    }
}

static pid_t start(void (*child)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        child();
        _exit(0);
    }
    return pid;
}

static void test_pipe(void)
{
    char data[70000] = "";
    CHECK("pipe", pipe(ends) == 0);
    CHECK("pipe_write", write(ends[1], "hello", 5) == 5);
    int ready = 0;
    CHECK("fionread", ioctl(ends[0], FIONREAD, &ready) == 0 && ready == 5);
    CHECK("pipe_read_part", read(ends[0], data, 2) == 2 && read(ends[0], data + 2, 100) == 3 &&
                                memcmp(data, "hello", 5) == 0);
    CHECK_ERROR("pipe_seek", lseek(ends[0], 0, SEEK_SET), ESPIPE);
    CHECK_ERROR("pipe_write_reader", write(ends[0], "x", 1), EBADF);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    CHECK_ERROR("pipe_empty", read(ends[0], data, 1), EAGAIN);
    long total = 0;
    for (ssize_t n; (n = write(ends[1], data, 4096)) > 0;)
        total += n;
    CHECK("pipe_capacity", errno == EAGAIN && total == 65536);
    CHECK("pipe_size", fcntl(ends[0], F_GETPIPE_SZ) == 65536);
    CHECK("pipe_read_all", read(ends[0], data, sizeof data) == 65536);
    fcntl(ends[0], F_SETFL, 0);
    fcntl(ends[1], F_SETFL, 0);
    pid_t pid = start(write_later);
    CHECK("pipe_blocks", read(ends[0], data, 100) == 4);
    waitpid(pid, NULL, 0);
    pid = start(write_much);
    close(ends[1]);
    long sum = 0, n = 0;
    for (ssize_t got; (got = read(ends[0], data, 777)) > 0; n += got)
        for (ssize_t i = 0; i < got; i++)
            sum += (unsigned char)data[i] == (unsigned char)((n + i) / 1000);
    int status = -1;
    waitpid(pid, &status, 0);
    CHECK("pipe_300k", n == 300000 && sum == 300000 && status == 0);
    CHECK("pipe_end", read(ends[0], data, 1) == 0);
    close(ends[0]);
    CHECK("pipe2_flags", pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0 &&
                             fcntl(ends[0], F_GETFD) == FD_CLOEXEC &&
                             (fcntl(ends[1], F_GETFL) & O_NONBLOCK));
    close(ends[0]);
    close(ends[1]);
    CHECK_ERROR("pipe2_odd", pipe2(ends, 0x40000000), EINVAL);
}

static void fifo_writer(void)
{
    int fd = open("fifo", O_WRONLY);
    _exit(fd < 0 || write(fd, "through", 7) != 7);
}

static void test_fifo(void)
{
    char data[16];
    CHECK("mkfifo", mkfifo("fifo", 0600) == 0);
    CHECK_ERROR("fifo_nobody_reads", open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
    pid_t pid = start(fifo_writer);
    int fd = open("fifo", O_RDONLY);
    CHECK("fifo", read(fd, data, sizeof data) == 7 && read(fd, data, 1) == 0);
    close(fd);
    waitpid(pid, NULL, 0);
}

static void test_poll(void)
{
    pipe(ends);
    struct pollfd p[3] = {{ends[0], POLLIN, 0}, {ends[1], POLLOUT, 0}, {-1, POLLIN, 7}};
    CHECK("poll_writable",
          poll(p, 3, 0) == 1 && p[0].revents == 0 && p[1].revents == POLLOUT && p[2].revents == 0);
    int64_t before = test_now_ms();
    CHECK("poll_time", poll(p, 1, 50) == 0 && test_now_ms() - before >= 48);
    pid_t pid = start(write_later);
    CHECK("poll_wakes", poll(p, 1, 5000) == 1 && p[0].revents == POLLIN);
    waitpid(pid, NULL, 0);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    struct timeval brief = {0, 20000};
    CHECK("select_ready",
          select(ends[0] + 1, &set, NULL, NULL, &brief) == 1 && FD_ISSET(ends[0], &set));
    char data[16];
    if (read(ends[0], data, 16) != 4) dprintf(1, "FAIL poll.late_bytes\n");
    CHECK("select_time",
          select(ends[0] + 1, &set, NULL, NULL, &brief) == 0 && !FD_ISSET(ends[0], &set));
    FD_SET(40, &set);
    CHECK_ERROR("select_bad", select(41, &set, NULL, NULL, &brief), EBADF);
    p[2].fd = 199;
    CHECK("poll_bad", poll(p, 3, 0) == 2 && p[2].revents == POLLNVAL);
    close(ends[1]);
    CHECK("poll_hangup", poll(p, 1, 1000) == 1 && p[0].revents == POLLHUP);
    close(ends[0]);
    pipe(ends);
    close(ends[0]);
    p[0] = (struct pollfd){ends[1], POLLOUT, 0};
    CHECK("poll_error", poll(p, 1, 0) == 1 && p[0].revents == (POLLOUT | POLLERR));
    close(ends[1]);
    int fd = open("regular", O_CREAT | O_RDWR, 0644);
    p[0] = (struct pollfd){fd, POLLIN | POLLOUT, 0};
    CHECK("poll_file", poll(p, 1, 0) == 1 && p[0].revents == (POLLIN | POLLOUT));
    close(fd);
}

static void test_epoll(void)
{
    pipe(ends);
    int e = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x123456789abcul}, got[4];
    CHECK("epoll_create", e >= 0);
    CHECK("epoll_add", epoll_ctl(e, EPOLL_CTL_ADD, ends[0], &event) == 0);
    CHECK_ERROR("epoll_add_twice", epoll_ctl(e, EPOLL_CTL_ADD, ends[0], &event), EEXIST);
    CHECK_ERROR("epoll_add_self", epoll_ctl(e, EPOLL_CTL_ADD, e, &event), EINVAL);
    CHECK_ERROR("epoll_mod_unknown", epoll_ctl(e, EPOLL_CTL_MOD, ends[1], &event), ENOENT);
    int fd = open("regular", O_RDONLY);
    CHECK_ERROR("epoll_file", epoll_ctl(e, EPOLL_CTL_ADD, fd, &event), EPERM);
    close(fd);
    CHECK("epoll_time", epoll_wait(e, got, 4, 20) == 0);
    pid_t pid = start(write_later);
    CHECK("epoll_wakes", epoll_wait(e, got, 4, 5000) == 1 && got[0].events == EPOLLIN &&
                             got[0].data.u64 == 0x123456789abcul);
    waitpid(pid, NULL, 0);
    CHECK("epoll_level", epoll_wait(e, got, 4, 0) == 1);
    event.events = EPOLLIN | EPOLLET;
    CHECK("epoll_edge", epoll_ctl(e, EPOLL_CTL_MOD, ends[0], &event) == 0 &&
                            epoll_wait(e, got, 4, 0) == 1 && epoll_wait(e, got, 4, 0) == 0);
    CHECK("epoll_edge_again", write(ends[1], "x", 1) == 1 && epoll_wait(e, got, 4, 0) == 1);
    event.events = EPOLLIN | EPOLLONESHOT;
    epoll_ctl(e, EPOLL_CTL_MOD, ends[0], &event);
    CHECK("epoll_oneshot", epoll_wait(e, got, 4, 0) == 1 && epoll_wait(e, got, 4, 0) == 0);
    CHECK("epoll_delete",
          epoll_ctl(e, EPOLL_CTL_DEL, ends[0], NULL) == 0 && epoll_wait(e, got, 4, 0) == 0);
    CHECK_ERROR("epoll_wait_bad", epoll_wait(ends[0], got, 4, 0), EINVAL);
    CHECK_ERROR("epoll_wait_none", epoll_wait(e, got, 0, 0), EINVAL);
    event.events = EPOLLIN;
    epoll_ctl(e, EPOLL_CTL_ADD, ends[0], &event);
    close(ends[0]);
    CHECK("epoll_forgets_closed", epoll_wait(e, got, 4, 0) == 0);
    close(ends[1]);
    close(e);
}

static void test_descriptors(void)
{
    uint64_t value = 0;
    int fd = eventfd(3, EFD_NONBLOCK);
    CHECK("eventfd", fd >= 0 && read(fd, &value, 8) == 8 && value == 3);
    CHECK_ERROR("eventfd_empty", read(fd, &value, 8), EAGAIN);
    value = 5;
    CHECK("eventfd_adds", write(fd, &value, 8) == 8 && write(fd, &value, 8) == 8 &&
                              read(fd, &value, 8) == 8 && value == 10);
    value = UINT64_MAX;
    CHECK_ERROR("eventfd_too_much", write(fd, &value, 8), EINVAL);
    CHECK_ERROR("eventfd_short", read(fd, &value, 4), EINVAL);
    close(fd);
    fd = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    CHECK("eventfd_semaphore", read(fd, &value, 8) == 8 && value == 1 && read(fd, &value, 8) == 8 &&
                                   read(fd, &value, 8) < 0);
    close(fd);
    fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec every = {{0, 10000000}, {0, 20000000}}, left;
    CHECK("timerfd", fd >= 0 && timerfd_settime(fd, 0, &every, NULL) == 0);
    CHECK_ERROR("timerfd_early", read(fd, &value, 8), EAGAIN);
    CHECK("timerfd_gettime",
          timerfd_gettime(fd, &left) == 0 && left.it_interval.tv_nsec == 10000000);
    struct pollfd p = {fd, POLLIN, 0};
    CHECK("timerfd_poll", poll(&p, 1, 2000) == 1);
    test_sleep_ms(30);
    CHECK("timerfd_counts", read(fd, &value, 8) == 8 && value >= 3);
    close(fd);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    fd = signalfd(-1, &mask, SFD_NONBLOCK);
    struct signalfd_siginfo info;
    CHECK("signalfd", fd >= 0 && raise(SIGUSR1) == 0 &&
                          read(fd, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR1);
    CHECK_ERROR("signalfd_empty", read(fd, &info, sizeof info), EAGAIN);
    close(fd);
}

static int to_child[2], from_child[2];

static void ping_pong(void)
{
    char byte;
    while (read(to_child[0], &byte, 1) == 1 && byte)
        if (write(from_child[1], &byte, 1) != 1) _exit(1);
}

static void test_neighbours(void)
{
    pipe(to_child);
    pipe(from_child);
    pid_t pid = start(ping_pong);
    bool good = true;
    for (int i = 0; i < 500; i++) {
        char byte = (char)(i % 100 + 1), answer = 0;
        good = good && write(to_child[1], &byte, 1) == 1 && read(from_child[0], &answer, 1) == 1 &&
               answer == byte;
    }
    CHECK("ping_pong", good);
    close(to_child[0]);
    close(from_child[1]);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    char byte = 0;
    CHECK("dead_reader",
          (signal(SIGPIPE, SIG_IGN), write(to_child[1], &byte, 1)) < 0 && errno == EPIPE);
    CHECK("dead_writer", read(from_child[0], &byte, 1) == 0);
}

int main(void)
{
    test_begin("poll");
    test_directory();
    test_pipe();
    test_fifo();
    test_poll();
    test_epoll();
    test_descriptors();
    test_neighbours();
    return test_end();
}
