/* SPDX-License-Identifier: MIT
 *
 * Streams through pipes, fifos and socket pairs: reads and writes of all sizes, while signals
 * interrupt both sides. Each byte is known by its place in the stream, so that one that is
 * lost, doubled or out of order is seen. */
#include <sys/socket.h>
#include <sys/time.h>
#include "test.h"

#define BYTES 400000
#define SIZE_MAX_AT_ONCE 9000

static uint64_t state;

static unsigned below(unsigned n) { return (unsigned)(random_next(&state) >> 20) % n; }

static unsigned char byte_at(unsigned place)
{
    return (unsigned char)(place * 31 + (place >> 8) * 7);
}

/* Few bytes, many, or around the sizes where something else is done with them. */
static unsigned size_next(void)
{
    static const unsigned edges[] = {1, 2, 511, 512, 513, 4095, 4096, 4097, 8192};
    switch (below(3)) {
    case 0:
        return 1 + below(600);
    case 1:
        return edges[below(COUNT(edges))];
    default:
        return 1 + below(SIZE_MAX_AT_ONCE);
    }
}

static volatile sig_atomic_t alarms;
static void on_alarm(int number)
{
    (void)number;
    alarms = alarms + 1;
}

static void alarms_start(bool restart)
{
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = restart ? SA_RESTART : 0};
    struct itimerval often = {{0, 1500}, {0, 1500}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
}

static void alarms_stop(void)
{
    struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &never, NULL);
}

static int stream_out(int fd)
{
    static unsigned char data[SIZE_MAX_AT_ONCE];
    for (unsigned place = 0; place < BYTES;) {
        unsigned n = size_next();
        if (n > BYTES - place) n = BYTES - place;
        for (unsigned i = 0; i < n; i++)
            data[i] = byte_at(place + i);
        ssize_t done = write(fd, data, n);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return 1;
        place += (unsigned)done;
        if (below(40) == 0) test_sleep_ms(1);
    }
    return 0;
}

/* How many bytes came and were right, up to the end of the stream. */
static unsigned stream_in(int fd)
{
    static unsigned char data[SIZE_MAX_AT_ONCE];
    unsigned place = 0;
    for (;;) {
        ssize_t n = read(fd, data, size_next());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n == 0 ? place : 0;
        for (ssize_t i = 0; i < n; i++)
            if (data[i] != byte_at(place + (unsigned)i)) return place + (unsigned)i;
        place += (unsigned)n;
        if (below(40) == 0) test_sleep_ms(1);
    }
}

/* A child writes the stream, this process reads it; timers as said. */
static bool stream(int in, int out, bool alarms_here, bool alarms_there, bool restart)
{
    pid_t pid = fork();
    int status = 1;
    state = pid ? 88172645463325252u : 2463534242u;
    if (pid == 0) {
        close(in);
        if (alarms_there) alarms_start(restart);
        _exit(stream_out(out));
    }
    close(out);
    if (alarms_here) alarms_start(restart);
    unsigned n = stream_in(in);
    alarms_stop();
    close(in);
    return waitpid(pid, &status, 0) == pid && status == 0 && n == BYTES;
}

static bool stream_by_pipe(bool here, bool there, bool restart)
{
    int ends[2];
    return pipe(ends) == 0 && stream(ends[0], ends[1], here, there, restart);
}

static bool stream_by_socket(void)
{
    int ends[2];
    return socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 &&
           stream(ends[0], ends[1], true, true, true);
}

static bool stream_by_fifo(void)
{
    int status = 1;
    if (mkfifo("fifo", 0600) < 0) return false;
    pid_t pid = fork();
    state = pid ? 88172645463325252u : 2463534242u;
    if (pid == 0) _exit(stream_out(open("fifo", O_WRONLY)));
    int fd = open("fifo", O_RDONLY);
    unsigned n = stream_in(fd);
    close(fd);
    return waitpid(pid, &status, 0) == pid && status == 0 && n == BYTES;
}

/* Two readers and two writers: as many bytes of each kind come out as went in. */
static bool stream_shared(void)
{
    int ends[2], counts[2];
    unsigned seen[2] = {0, 0};
    if (pipe(ends) < 0 || pipe(counts) < 0) return false;
    for (int i = 0; i < 4; i++) {
        if (fork() != 0) continue;
        state = 88172645463325252u + (unsigned)i;
        if (i < 2) {
            close(ends[0]);
            char data[100];
            memset(data, 'a' + i, sizeof data);
            for (int k = 0; k < 300; k++)
                if (write(ends[1], data, sizeof data) != (ssize_t)sizeof data) _exit(1);
            _exit(0);
        }
        close(ends[1]);
        unsigned here[2] = {0, 0};
        char data[700];
        for (ssize_t n; (n = read(ends[0], data, 1 + below(sizeof data))) > 0;)
            for (ssize_t k = 0; k < n; k++)
                here[data[k] == 'b']++;
        _exit(write(counts[1], here, sizeof here) != (ssize_t)sizeof here);
    }
    close(ends[0]);
    close(ends[1]);
    for (int i = 0; i < 2; i++) {
        unsigned here[2];
        if (read(counts[0], here, sizeof here) != (ssize_t)sizeof here) return false;
        seen[0] += here[0];
        seen[1] += here[1];
    }
    while (wait(NULL) > 0)
        ;
    close(counts[0]);
    close(counts[1]);
    return seen[0] == 30000 && seen[1] == 30000;
}

int main(void)
{
    test_begin("pipes");
    test_directory();
    CHECK("stream", stream_by_pipe(false, false, true));
    CHECK("stream_reader_interrupted", stream_by_pipe(true, false, false));
    CHECK("stream_writer_interrupted", stream_by_pipe(false, true, false));
    CHECK("stream_both_interrupted", stream_by_pipe(true, true, false));
    CHECK("stream_restarted", stream_by_pipe(true, true, true));
    CHECK("stream_alarms_came", alarms > 0);
    CHECK("stream_socket", stream_by_socket());
    CHECK("stream_fifo", stream_by_fifo());
    CHECK("stream_shared", stream_shared());
    return test_end();
}
