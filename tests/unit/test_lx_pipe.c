/* SPDX-License-Identifier: MIT
 *
 * Pipes, fifos and socket pairs of linuxd: every byte arrives once and in order, small
 * writes whole; ends, errors and waking as POSIX says; nothing is lost when memory, files or
 * waiters run out. */
#include "lx_host.h"
#include "../../libos/linux/server/waiting/wait.c"
#include "../../libos/linux/server/waiting/timer.c"
#include "../../libos/linux/server/waiting/pipe.c"
#include "../../libos/linux/server/waiting/socket.c"

void epoll_forget(struct file *file) { (void)file; }

static void fds(unsigned thread, uint32_t fd[2]) { memcpy(fd, host_bytes(thread), 8); }

static void test_bytes(void)
{
    static uint8_t data[200000], back[200000];
    uint32_t fd[2];
    size_t in = 0, out = 0;
    host_process(0);
    host_process(1);
    EXPECT(HOST_CALL(0, call_pipe2, 0, O_NONBLOCK) == 0);
    fds(0, fd);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)next(256);
    while (out < sizeof(data)) {
        size_t n = next(8) ? next(100) + 1 : next(80000) + 1;
        if (next(2) && in < sizeof(data)) {
            if (n > sizeof(data) - in) n = sizeof(data) - in;
            size_t room = LX_PIPE_BYTES - (in - out);
            long r = host_write(0, fd[1], data + in, n);
            long expected = n <= LX_PIPE_ATOMIC ? (room >= n ? (long)n : -EAGAIN)
                            : room              ? (long)(n < room ? n : room)
                                                : -EAGAIN;
            EXPECT(r == expected);
            in += r > 0 ? (size_t)r : 0;
        } else {
            long r = host_read(0, fd[0], back + out, EXO_MIN(n, sizeof(back) - out));
            size_t there = in - out;
            EXPECT(r == (there ? (long)EXO_MIN(EXO_MIN(n, sizeof(back) - out), there) : -EAGAIN));
            out += r > 0 ? (size_t)r : 0;
        }
    }
    EXPECT(!memcmp(data, back, sizeof(data)));
    host_close_all(0);
    EXPECT(pipe_count() == 0 && pages_used == 0 && files_open == 0);
}

/* The indices count on while it never becomes empty: also past 2^32. */
static void test_indices(void)
{
    uint8_t data[3000], back[3000];
    uint32_t fd[2];
    host_process(0);
    EXPECT(HOST_CALL(0, call_pipe) == 0);
    fds(0, fd);
    struct pipe *pipe = fd_file(&host_threads[0], fd[0])->data;
    pipe->head = pipe->tail = 0u - 5000u;
    for (unsigned i = 0; i < 10; i++) {
        memset(data, (int)i + 1, sizeof(data));
        EXPECT(host_write(0, fd[1], data, sizeof(data)) == sizeof(data));
        if (i == 0) EXPECT(host_write(0, fd[1], data, sizeof(data)) == sizeof(data));
        EXPECT(host_read(0, fd[0], back, sizeof(back)) == sizeof(back));
        EXPECT(back[0] == (i ? i : 1) && back[2999] == back[0]);
    }
    EXPECT(pipe->head < 100000); /* it went round */
    host_close_all(0);
    EXPECT(pipe_count() == 0 && pages_used == 0);
}

static void test_ends(void)
{
    uint32_t fd[2];
    char c;
    host_process(0);
    EXPECT(HOST_CALL(0, call_pipe2, 0, O_CLOEXEC) == 0);
    fds(0, fd);
    EXPECT(processes[0].fds[fd[0]].cloexec && processes[0].fds[fd[1]].cloexec);
    EXPECT(host_read(0, fd[1], &c, 1) == -EBADF && host_write(0, fd[0], "x", 1) == -EBADF);
    EXPECT(host_read(0, fd[0], &c, 0) == 0 && host_write(0, fd[1], "", 0) == 0);
    struct file *reader = fd_file(&host_threads[0], fd[0]),
                *writer = fd_file(&host_threads[0], fd[1]);
    EXPECT(reader->ops->poll(reader) == 0);
    EXPECT(writer->ops->poll(writer) == (POLLOUT | POLLWRNORM));
    EXPECT(host_write(0, fd[1], "ab", 2) == 2);
    EXPECT(reader->ops->poll(reader) == (POLLIN | POLLRDNORM));
    HOST_CALL(0, call_close, fd[1]);
    EXPECT(reader->ops->poll(reader) == (POLLIN | POLLRDNORM | POLLHUP));
    EXPECT(host_read(0, fd[0], &c, 1) == 1 && c == 'a');
    EXPECT(host_read(0, fd[0], &c, 1) == 1 && c == 'b');
    EXPECT(host_read(0, fd[0], &c, 1) == 0);
    HOST_CALL(0, call_close, fd[0]);
    EXPECT(pipe_count() == 0 && pages_used == 0);
    /* No reader left. */
    EXPECT(HOST_CALL(0, call_pipe) == 0);
    fds(0, fd);
    writer = fd_file(&host_threads[0], fd[1]);
    HOST_CALL(0, call_close, fd[0]);
    EXPECT(writer->ops->poll(writer) == (POLLOUT | POLLWRNORM | POLLERR));
    EXPECT(host_write(0, fd[1], "x", 1) == -EPIPE);
    EXPECT(signalled[0] == LX_SIGNAL_BIT(SIGPIPE));
    host_close_all(0);
    EXPECT(HOST_CALL(0, call_pipe2, 0, 1) == -EINVAL);
    EXPECT(HOST_CALL(0, call_pipe2, 0, O_DIRECT) == -EINVAL);
    EXPECT(pipe_count() == 0 && files_open == 0);
}

/* The second process has the same files. */
static void share(void)
{
    host_process(1);
    for (unsigned i = 0; i < LX_FDS; i++) {
        processes[1].fds[i] = processes[0].fds[i];
        if (processes[1].fds[i].file) file_get(processes[1].fds[i].file);
    }
}

static void test_waking(void)
{
    static char data[LX_PIPE_BYTES];
    uint32_t fd[2];
    char c;
    host_process(0);
    EXPECT(HOST_CALL(0, call_pipe) == 0);
    fds(0, fd);
    share();
    EXPECT(host_read(1, fd[0], &c, 1) == -LX_WAIT && woken[1] == 0);
    EXPECT(host_write(0, fd[1], "x", 1) == 1 && woken[1] == 1);
    EXPECT(host_write(0, fd[1], "y", 1) == 1 && woken[1] == 1); /* told once */
    EXPECT(host_read(1, fd[0], &c, 1) == 1 && c == 'x');
    EXPECT(host_read(1, fd[0], &c, 1) == 1 && c == 'y');
    /* A writer waits for room for all of a small write. */
    EXPECT(host_write(0, fd[1], data, LX_PIPE_BYTES - 10) == LX_PIPE_BYTES - 10);
    EXPECT(host_write(0, fd[1], data, 11) == -LX_WAIT);
    EXPECT(host_read(1, fd[0], data, 4000) == 4000 && woken[0] == 0);
    EXPECT(host_read(1, fd[0], data, 100) == 100 && woken[0] == 1);
    EXPECT(host_write(0, fd[1], data, 11) == 11);
    /* The end wakes who waits. */
    while (host_read(1, fd[0], data, sizeof(data)) > 0)
        ;
    HOST_CALL(1, call_close, fd[1]);
    EXPECT(host_read(1, fd[0], &c, 1) == -LX_WAIT);
    woken[1] = 0;
    HOST_CALL(0, call_close, fd[1]);
    EXPECT(woken[1] == 1 && host_read(1, fd[0], &c, 1) == 0);
    host_close_all(0);
    host_close_all(1);
    EXPECT(pipe_count() == 0 && pages_used == 0 && files_open == 0);
}

/* As read does when it waits: who writes can put it there. */
static void read_waits(unsigned thread, uint64_t fd, uint64_t where, uint64_t n)
{
    struct thread *t = host_thread(thread);
    struct file *file = fd_file(t, fd);
    EXPECT(wait_on(file->ops->queue(file), t) == -LX_WAIT);
    t->reading = file->ops->queue(file);
    t->reading_where = where;
    t->reading_length = n;
    t->window->result = 0;
}

static void test_handing(void)
{
    static char big[40000], to[40000];
    uint32_t fd[2];
    char text[16] = "";
    const uint64_t here = (uint64_t)text;
    volatile uint64_t *result = &host_windows[1].result;
    host_process(0);
    EXPECT(HOST_CALL(0, call_pipe2, 0, O_NONBLOCK) == 0);
    fds(0, fd);
    share();
    processes[1].thread_count = 1;
    read_waits(1, fd[0], here, 4);
    EXPECT(host_write(0, fd[1], "abcdef", 6) == 6 && woken[1] == 1);
    EXPECT(*result == 5 && !strcmp(text, "abcd") && !host_threads[1].reading);
    EXPECT(host_write(0, fd[1], "gh", 2) == 2 && *result == 5); /* once */
    EXPECT(host_read(1, fd[0], text, 16) == 4 && !memcmp(text, "efgh", 4));
    /* In the window; nothing is left for the pipe, which takes no page. */
    read_waits(1, fd[0], LX_INLINE | 8, 4);
    EXPECT(host_write(0, fd[1], "xyz", 3) == 3 && *result == 4);
    EXPECT(!memcmp(host_bytes(1) + 8, "xyz", 3) && host_read(1, fd[0], text, 16) == -EAGAIN);
    /* Other threads may have changed where it lies: not there, but in the window. */
    processes[1].thread_count = 2;
    read_waits(1, fd[0], here, 4);
    EXPECT(host_write(0, fd[1], "1", 1) == 1 && *result == 0 && host_read(1, fd[0], text, 4) == 1);
    read_waits(1, fd[0], LX_INLINE, 4);
    EXPECT(host_write(0, fd[1], "2", 1) == 1 && *result == 2);
    processes[1].thread_count = 1;
    /* What cannot be written, and who has gone on, gets nothing. */
    read_waits(1, fd[0], 0, 4);
    EXPECT(host_write(0, fd[1], "3", 1) == 1 && *result == 0 && host_read(1, fd[0], text, 4) == 1);
    read_waits(1, fd[0], here, 4);
    EXPECT(!host_thread(1)->reading && host_write(0, fd[1], "4", 1) == 1 && *result == 0);
    EXPECT(host_read(1, fd[0], text, 4) == 1);
    memset(big, 'q', sizeof(big));
    read_waits(1, fd[0], (uint64_t)to, sizeof(to));
    EXPECT(host_write(0, fd[1], big, sizeof(big)) == sizeof(big) && *result == sizeof(big) + 1);
    EXPECT(!memcmp(big, to, sizeof(big)));
    host_close_all(0);
    host_close_all(1);
    EXPECT(pipe_count() == 0 && pages_used == 0 && files_open == 0);
}

static void test_size(void)
{
    static char data[LX_PIPE_BYTES];
    uint32_t fd[2];
    host_process(0);
    EXPECT(HOST_CALL(0, call_pipe2, 0, O_NONBLOCK) == 0);
    fds(0, fd);
    struct file *file = fd_file(&host_threads[0], fd[1]);
    EXPECT(pipe_size(file) == LX_PIPE_BYTES);
    EXPECT(pipe_resize(file, 1) == 4096 && pipe_resize(file, 5000) == 8192);
    EXPECT(pipe_resize(file, 0) == -EINVAL && pipe_resize(file, LX_PIPE_BYTES + 1) == -EPERM);
    EXPECT(host_write(0, fd[1], data, 20000) == 8192);
    EXPECT(host_write(0, fd[1], data, 1) == -EAGAIN);
    EXPECT(pipe_resize(file, 4096) == -EBUSY);
    EXPECT(pipe_resize(file, 16384) == 16384 && host_write(0, fd[1], data, 20000) == 8192);
    int fill = 0;
    struct iobuf io;
    iobuf_own(&io, &fill, sizeof(fill));
    EXPECT(file->ops->ioctl(file, &host_threads[0], FIONREAD, 0, &io) == 0 && fill == 16384);
    EXPECT(file->ops->ioctl(file, &host_threads[0], TCGETS, 0, &io) == -ENOTTY);
    EXPECT(!file->ops->seek && file_is_pipe(file) && !file_is_socket(file));
    host_close_all(0);
    EXPECT(pages_used == 0);
}

static void test_exhaustion(void)
{
    static char data[LX_PIPE_BYTES];
    uint32_t fd[2];
    host_process(0);
    page_limit = 3;
    EXPECT(HOST_CALL(0, call_pipe2, 0, O_NONBLOCK) == 0);
    fds(0, fd);
    EXPECT(host_write(0, fd[1], data, 20000) == 3 * 4096); /* what there are pages for */
    EXPECT(host_write(0, fd[1], data, 20000) == -ENOMEM);
    EXPECT(host_write(0, fd[1], data, 100) == -ENOMEM);
    EXPECT(host_read(0, fd[0], data, 20000) == 3 * 4096);
    EXPECT(host_write(0, fd[1], data, 4096) == 4096); /* they are kept */
    host_close_all(0);
    page_limit = HOST_PAGES;
    EXPECT(pages_used == 0);
    for (file_limit = 0; file_limit < 2; file_limit++) {
        EXPECT(HOST_CALL(0, call_pipe) == -ENFILE);
        EXPECT(HOST_CALL(0, call_socketpair, 1, 1, 0) == -ENFILE);
        EXPECT(files_open == 0 && pipe_count() == 0);
    }
    file_limit = HOST_FILES;
    /* Descriptors: an odd number is left, so that one of two can be had. */
    EXPECT(HOST_CALL(0, call_pipe) == 0);
    HOST_CALL(0, call_close, 0);
    unsigned made = 0;
    while (HOST_CALL(0, call_pipe) == 0)
        made++;
    EXPECT(made == LX_FDS / 2 - 1 && HOST_CALL(0, call_pipe) == -EMFILE);
    EXPECT(HOST_CALL(0, call_socketpair, 1, 1, 0) == -EMFILE);
    EXPECT(files_open == LX_FDS - 1 && pipe_count() == LX_FDS / 2);
    host_close_all(0);
    EXPECT(pipe_count() == 0 && files_open == 0 && pages_used == 0);
}

static void test_waiters(void)
{
    struct waitq queue[2] = {{0}};
    host_process(0);
    host_process(1);
    struct thread *t = host_thread(0);
    for (unsigned i = 0; i <= LX_WAITERS; i++) /* its own one and all that there are */
        EXPECT(wait_on(&queue[i & 1], t) == -LX_WAIT);
    EXPECT(wait_on(&queue[0], t) == -ENOMEM && wait_on(&queue[1], &host_threads[1]) == -LX_WAIT);
    EXPECT(wait_on(&queue[1], &host_threads[1]) == -ENOMEM);
    wake(&queue[0]);
    EXPECT(woken[0] == LX_WAITERS / 2 + 1 && queue[0].wakes == 1 && !queue[0].first);
    wait_end(t);
    wait_end(&host_threads[1]);
    EXPECT(!queue[1].first && !t->waiting);
    wake(&queue[1]);
    EXPECT(woken[0] == LX_WAITERS / 2 + 1);
    for (unsigned i = 0; i < LX_WAITERS; i++)
        EXPECT(wait_on(&queue[0], &host_threads[i & 1]) == -LX_WAIT);
    wait_end(&host_threads[0]);
    wake(&queue[0]);
    EXPECT(woken[1] == LX_WAITERS / 2 && woken[0] == LX_WAITERS / 2 + 1);
    wait_end(&host_threads[1]);
}

/* Opens as open would: a descriptor or an error. */
static long fifo(unsigned thread, struct pipe **home, uint32_t flags)
{
    struct file *file;
    struct thread *t = host_thread(thread);
    long r = fifo_open(home, flags, &file);
    return r < 0 ? r : fd_install(t->process, file, false, 0);
}

static void test_fifo(void)
{
    struct pipe *home = NULL;
    char text[8];
    host_process(0);
    host_process(1);
    EXPECT(fifo(0, &home, O_WRONLY | O_NONBLOCK) == -ENXIO && !home);
    EXPECT(fifo(0, &home, O_ACCMODE) == -EINVAL && !home);
    EXPECT(fifo(0, &home, O_RDONLY | O_NONBLOCK) == 0 && home);
    struct file *file = fd_file(&host_threads[0], 0);
    EXPECT(host_read(0, 0, text, 1) == 0 && file->ops->poll(file) == 0); /* no writer yet */
    EXPECT(fifo(1, &home, O_WRONLY) == 0 && host_read(0, 0, text, 1) == -EAGAIN);
    HOST_CALL(1, call_close, 0);
    EXPECT(file->ops->poll(file) == POLLHUP);
    host_close_all(0);
    EXPECT(!home && pipe_count() == 0);
    EXPECT(fifo(0, &home, O_RDWR) == 0 && host_write(0, 0, "ab", 2) == 2);
    EXPECT(host_read(0, 0, text, 8) == 2);
    host_close_all(0);
    EXPECT(!home && pipe_count() == 0 && pages_used == 0);
    file_limit = 0;
    EXPECT(fifo(0, &home, O_RDWR) == -ENFILE && !home);
    EXPECT(fifo(0, &home, O_RDONLY | O_NONBLOCK) == -ENFILE && !home);
    file_limit = HOST_FILES;
}

/* One side waits; the other comes, writes and is gone before it runs again. */
static void test_fifo_meeting(void)
{
    struct pipe *home = NULL;
    char text[8];
    host_process(0);
    host_process(1);
    EXPECT(fifo(0, &home, O_RDONLY) == -LX_WAIT && home);
    EXPECT(fifo(1, &home, O_WRONLY | O_NONBLOCK) == 0 && woken[0] == 1);
    EXPECT(host_write(1, 0, "hallo", 5) == 5);
    host_close_all(1);
    EXPECT(fifo(0, &home, O_RDONLY) == 0);
    EXPECT(host_read(0, 0, text, 8) == 5 && host_read(0, 0, text, 8) == 0);
    host_close_all(0);
    EXPECT(!home && pipe_count() == 0 && pages_used == 0);
    EXPECT(fifo(0, &home, O_WRONLY) == -LX_WAIT);
    EXPECT(fifo(1, &home, O_RDONLY) == 0);
    EXPECT(host_read(1, 0, text, 1) == -LX_WAIT); /* the writer is there already */
    EXPECT(fifo(0, &home, O_WRONLY) == 0);
    host_close_all(0);
    EXPECT(host_read(1, 0, text, 1) == 0);
    host_close_all(1);
    EXPECT(!home && pipe_count() == 0);
    /* Who waits goes away: at the second call that is another one. */
    EXPECT(fifo(0, &home, O_WRONLY) == -LX_WAIT);
    host_thread(0);
    host_thread(0);
    EXPECT(!home && pipe_count() == 0 && !fifo_openers);
    /* It was let in, and goes away: the reader sees an end. */
    EXPECT(fifo(0, &home, O_WRONLY) == -LX_WAIT && fifo(1, &home, O_RDONLY) == 0);
    EXPECT(host_read(1, 0, text, 1) == -LX_WAIT);
    host_thread(0);
    host_thread(0);
    EXPECT(host_read(1, 0, text, 1) == 0);
    host_close_all(1);
    EXPECT(!home && pipe_count() == 0 && !fifo_openers);
    /* It waits for one fifo and then opens another. */
    struct pipe *second = NULL;
    EXPECT(fifo(0, &home, O_WRONLY) == -LX_WAIT && fifo(0, &second, O_WRONLY) == -LX_WAIT);
    EXPECT(!home && second && pipe_count() == 1);
    host_thread(0);
    host_thread(0);
    EXPECT(pipe_count() == 0);
}

static void test_socketpair(void)
{
    uint32_t fd[2];
    char text[8];
    host_process(0);
    EXPECT(HOST_CALL(0, call_socketpair, 2, 1, 0) == -EAFNOSUPPORT);
    EXPECT(HOST_CALL(0, call_socketpair, 1, 2, 0) == -ESOCKTNOSUPPORT);
    EXPECT(HOST_CALL(0, call_socketpair, 1, 1 | 0x100, 0) == -EINVAL);
    EXPECT(HOST_CALL(0, call_socketpair, 1, 1, 6) == -EPROTONOSUPPORT);
    EXPECT(HOST_CALL(0, call_socketpair, 1, 1, 0) == 0);
    fds(0, fd);
    struct file *a = fd_file(&host_threads[0], fd[0]), *b = fd_file(&host_threads[0], fd[1]);
    EXPECT(file_is_socket(a) && !file_is_pipe(a));
    EXPECT(host_write(0, fd[0], "ab", 2) == 2 && host_write(0, fd[1], "cde", 3) == 3);
    EXPECT(a->ops->poll(a) == (POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM));
    EXPECT(host_read(0, fd[1], text, 8) == 2 && !memcmp(text, "ab", 2));
    EXPECT(host_read(0, fd[0], text, 8) == 3 && !memcmp(text, "cde", 3));
    EXPECT(host_read(0, fd[0], text, 8) == -LX_WAIT);
    woken[0] = 0;
    EXPECT(HOST_CALL(0, call_shutdown, fd[0], 3) == -EINVAL);
    EXPECT(HOST_CALL(0, call_shutdown, fd[0], 1) == 0);
    EXPECT(host_write(0, fd[0], "x", 1) == -EPIPE && host_read(0, fd[1], text, 1) == 0);
    EXPECT(b->ops->poll(b) == (POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLRDHUP));
    EXPECT(host_write(0, fd[1], "xyz", 3) == 3 && host_read(0, fd[0], text, 8) == 3);
    HOST_CALL(0, call_close, fd[1]);
    EXPECT(host_read(0, fd[0], text, 8) == 0 && (a->ops->poll(a) & POLLHUP));
    host_close_all(0);
    EXPECT(pipe_count() == 0 && pages_used == 0 && files_open == 0);
    EXPECT(HOST_CALL(0, call_shutdown, 5, 0) == -EBADF);
}

static void test_send(void)
{
    uint32_t fd[2];
    char text[8] = "abcdefg";
    const uint64_t where = (uint64_t)text;
    host_process(0);
    EXPECT(HOST_CALL(0, call_socketpair, 1, 1, 0) == 0);
    fds(0, fd);
    EXPECT(HOST_CALL(0, call_sendto, 9, where, 1) == -EBADF);
    EXPECT(HOST_CALL(0, call_sendto, fd[0], 0, 1) == -EFAULT);
    EXPECT(HOST_CALL(0, call_sendto, fd[0], where, 1, 2) == -EOPNOTSUPP);
    EXPECT(HOST_CALL(0, call_sendto, fd[0], where, 1, 0, 5) == -EISCONN);
    EXPECT(HOST_CALL(0, call_recvfrom, fd[0], where, 8, SOCKET_DONTWAIT) == -EAGAIN);
    EXPECT(HOST_CALL(0, call_recvfrom, fd[0], where, 8) == -LX_WAIT);
    EXPECT(HOST_CALL(0, call_sendto, fd[1], where, 3) == 3);
    EXPECT(HOST_CALL(0, call_recvfrom, fd[0], where + 4, 4) == 3 && !memcmp(text + 4, "abc", 3));
    HOST_CALL(0, call_close, fd[1]);
    EXPECT(HOST_CALL(0, call_sendto, fd[0], where, 3, SOCKET_NOSIGNAL) == -EPIPE && !signalled[0]);
    EXPECT(HOST_CALL(0, call_sendto, fd[0], where, 3) == -EPIPE && signalled[0]);
    EXPECT(HOST_CALL(0, call_recvfrom, fd[0], where, 8) == 0);
    EXPECT(HOST_CALL(0, call_pipe) == 0);
    fds(0, fd);
    EXPECT(HOST_CALL(0, call_sendto, fd[1], where, 1) == -ENOTSOCK);
    host_close_all(0);
    EXPECT(pipe_count() == 0 && files_open == 0 && pages_used == 0);
}

int main(void)
{
    static const struct unit_test tests[] = {
        {"bytes arrive in order", test_bytes},
        {"indices wrap", test_indices},
        {"ends and errors", test_ends},
        {"waking", test_waking},
        {"handing to who waits", test_handing},
        {"sizes", test_size},
        {"exhaustion", test_exhaustion},
        {"waiters", test_waiters},
        {"fifos", test_fifo},
        {"fifos: two sides meet", test_fifo_meeting},
        {"pairs of sockets", test_socketpair},
        {"sending and receiving", test_send},
    };
    return TESTS_RUN("lx-pipe", tests);
}
