/* SPDX-License-Identifier: MIT
 *
 * Two processes that write to each other in turns, through pipes: what they send comes
 * whole and in order, whatever else one of them does with the pipe in between, and the end
 * is seen by who waits. (After some turns such a pipe may be served in another way.) */
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include "test.h"

#define TURNS 60 /* after so many a pipe is used in the way that is tested */
#define SIZE_MOST 6000

static int there[2], back[2]; /* to the child, from it */
static uint64_t state;

static unsigned below(unsigned n) { return (unsigned)(random_next(&state) >> 20) % n; }

static bool pipes_make(void) { return pipe(there) == 0 && pipe(back) == 0; }

static void pipes_end(void)
{
    for (int i = 0; i < 2; i++) {
        close(there[i]);
        close(back[i]);
    }
}

static int ended(pid_t pid)
{
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The child's side: n turns, each a byte and the one after it back. */
static bool answer(int n)
{
    for (unsigned char byte; n-- > 0;) {
        if (read(there[0], &byte, 1) != 1) return false;
        byte++;
        if (write(back[1], &byte, 1) != 1) return false;
    }
    return true;
}

static bool ask(int n)
{
    for (unsigned char byte, reply; n-- > 0;) {
        byte = (unsigned char)n;
        if (write(there[1], &byte, 1) != 1 || read(back[0], &reply, 1) != 1) return false;
        if (reply != (unsigned char)(byte + 1)) return false;
    }
    return true;
}

/* ---- all sizes, and other uses in between ---------------------------------------------- */

static unsigned char out[SIZE_MOST], in[SIZE_MOST];

static unsigned size_of(void)
{
    switch (below(12)) {
    case 0:
        return 1 + below(SIZE_MOST);
    case 1:
        return 1024 - 2 + below(4);
    case 2:
        return 512 - 2 + below(4);
    default:
        return 1 + below(300);
    }
}

static bool send_all(int fd, unsigned n)
{
    struct iovec two[2] = {{out, n / 2}, {out + n / 2, n - n / 2}};
    if (below(20) == 0) return writev(fd, two, 2) == (ssize_t)n;
    for (unsigned done = 0; done < n;) {
        unsigned piece = 1 + below(n - done);
        if (write(fd, out + done, piece) != (ssize_t)piece) return false;
        done += piece;
    }
    return true;
}

/* Something else with the pipe, now and then. */
static bool look_at(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    int fill = -1, copy;
    switch (below(40)) {
    case 0:
        return poll(&ready, 1, -1) == 1 && ready.revents & POLLIN;
    case 1:
        return ioctl(fd, FIONREAD, &fill) == 0 && fill >= 0;
    case 2:
        copy = dup(fd);
        return copy >= 0 && dup2(copy, fd) == fd && close(copy) == 0;
    case 3:
        return fcntl(fd, F_SETFL, O_NONBLOCK) == 0 && fcntl(fd, F_SETFL, 0) == 0;
    default:
        return true;
    }
}

static bool take_all(int fd, unsigned n)
{
    for (unsigned done = 0; done < n;) {
        if (!look_at(fd)) return false;
        ssize_t got = read(fd, in + done, below(2) ? n - done : 1 + below(n - done));
        if (got <= 0) return false;
        done += (unsigned)got;
    }
    return memcmp(in, out, n) == 0;
}

/* Both sides make the same sizes; the pieces are their own. */
static bool exchange(bool child, uint64_t seed)
{
    uint64_t sizes = seed, own = seed + child + 1;
    for (unsigned turn = 0; turn < 1200; turn++) {
        state = sizes;
        unsigned n = turn < TURNS ? 1 : size_of(), m = turn < TURNS ? 1 : size_of();
        for (unsigned i = 0; i < n || i < m; i++)
            out[i] = (unsigned char)(turn + i * 7);
        sizes = state;
        state = own;
        bool good = child ? take_all(there[0], n) && send_all(back[1], m)
                          : send_all(there[1], n) && take_all(back[0], m);
        own = state;
        if (!good) return false;
    }
    return true;
}

static bool exchange_all(uint64_t seed)
{
    if (!pipes_make()) return false;
    pid_t pid = fork();
    if (pid == 0) _exit(exchange(true, seed) ? 7 : 8);
    bool good = exchange(false, seed);
    pipes_end();
    return ended(pid) == 7 && good;
}

/* ---- ends -------------------------------------------------------------------------------- */

/* The child ends, by itself or killed, while the parent waits for it. */
static bool end_seen(bool killed)
{
    char byte = 1;
    if (!pipes_make()) return false;
    pid_t pid = fork();
    if (pid == 0) {
        close(there[1]);
        close(back[0]);
        if (!answer(TURNS)) _exit(8);
        test_sleep_ms(30);
        if (killed) kill(getpid(), SIGKILL);
        _exit(7);
    }
    close(there[0]);
    close(back[1]);
    bool good = ask(TURNS) && read(back[0], &byte, 1) == 0;
    good = good && ended(pid) == (killed ? -1 : 7);
    signal(SIGPIPE, SIG_IGN);
    good = good && write(there[1], &byte, 1) < 0 && errno == EPIPE;
    close(there[1]);
    close(back[0]);
    return good;
}

static bool take(int fd, char *to, int n)
{
    for (int got; n > 0; n -= got, to += got)
        if ((got = (int)read(fd, to, (size_t)n)) <= 0) return false;
    return true;
}

/* What was written is read by somebody else, who came later; then its end. */
static bool third_reads(void)
{
    char text[16];
    if (!pipes_make()) return false;
    pid_t pid = fork();
    if (pid == 0) {
        close(there[1]);
        bool good = answer(TURNS);
        test_sleep_ms(30); /* "left" is there by then */
        pid_t third = fork();
        if (third == 0) {
            good = good && take(there[0], text, 4) && !memcmp(text, "left", 4);
            _exit(good && write(back[1], "x", 1) == 1 ? 7 : 8);
        }
        _exit(ended(third));
    }
    bool good = ask(TURNS) && write(there[1], "left", 4) == 4;
    good = good && read(back[0], text, 1) == 1 && ended(pid) == 7;
    pipes_end();
    return good;
}

/* A copy of the descriptor, and the program after exec: the same stream. */
static bool other_descriptor(void)
{
    char text[16] = "";
    if (!pipes_make()) return false;
    pid_t pid = fork();
    if (pid == 0) {
        bool good = answer(TURNS) && take(there[0], text, 2);
        int copy = dup(there[0]);
        good = good && take(copy, text + 2, 2) && take(there[0], text + 4, 2);
        good = good && memcmp(text, "abcdef", 6) == 0 && dup2(back[1], 1) == 1;
        if (good) execl("/bin/echo", "echo", "ran", NULL);
        _exit(8);
    }
    bool good = ask(TURNS) && write(there[1], "abc", 3) == 3;
    int copy = dup(there[1]);
    good = good && write(copy, "d", 1) == 1 && write(there[1], "ef", 2) == 2;
    close(back[1]);
    close(copy);
    good = good && take(back[0], text, 4) && memcmp(text, "ran\n", 4) == 0;
    good = good && read(back[0], text, 1) == 0 && ended(pid) == 0;
    close(back[0]);
    close(there[0]);
    close(there[1]);
    return good;
}

/* A writer that is ahead, up to where the pipe is full. */
static bool writer_ahead(void)
{
    char word[8];
    if (!pipes_make()) return false;
    pid_t pid = fork();
    if (pid == 0) {
        bool good = answer(TURNS);
        test_sleep_ms(30);
        for (int i = 0; i < 20000 && good; i++) {
            good = take(there[0], word, sizeof word);
            good = good && atoi(word) == i;
        }
        _exit(good ? 7 : 8);
    }
    bool good = ask(TURNS);
    for (int i = 0; i < 20000 && good; i++) {
        snprintf(word, sizeof word, "%d", i);
        good = write(there[1], word, sizeof word) == sizeof word;
    }
    good = ended(pid) == 7 && good;
    pipes_end();
    return good;
}

/* ---- signals -------------------------------------------------------------------------------- */

static volatile sig_atomic_t taken;
static void on_signal(int number) { taken += number != 0; }

static bool interrupted(bool restart)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = restart ? SA_RESTART : 0};
    char byte = 0;
    if (!pipes_make()) return false;
    sigaction(SIGUSR1, &action, NULL);
    taken = 0;
    pid_t pid = fork();
    if (pid == 0) {
        bool good = answer(TURNS);
        test_sleep_ms(20);
        kill(getppid(), SIGUSR1);
        test_sleep_ms(20);
        _exit(good && write(back[1], "z", 1) == 1 && answer(TURNS) ? 7 : 8);
    }
    bool good = ask(TURNS);
    ssize_t got = read(back[0], &byte, 1);
    if (restart)
        good = good && got == 1 && byte == 'z' && taken == 1;
    else
        good = good && got < 0 && errno == EINTR && taken == 1 && read(back[0], &byte, 1) == 1;
    good = good && ask(TURNS);
    pipes_end();
    return ended(pid) == 7 && good;
}

/* More such pipes than one process and another can have at once. */
static bool many_pipes(void)
{
    enum { PIPES = 9 };
    int to[PIPES][2], from[PIPES][2];
    for (int i = 0; i < PIPES; i++)
        if (pipe(to[i]) < 0 || pipe(from[i]) < 0) return false;
    pid_t pid = fork();
    if (pid == 0) {
        bool good = true;
        for (int i = 0; i < PIPES * TURNS && good; i++) {
            there[0] = to[i % PIPES][0];
            back[1] = from[i % PIPES][1];
            good = answer(1);
        }
        _exit(good ? 7 : 8);
    }
    bool good = true;
    for (int i = 0; i < PIPES * TURNS && good; i++) {
        there[1] = to[i % PIPES][1];
        back[0] = from[i % PIPES][0];
        good = ask(1);
    }
    for (int i = 0; i < PIPES; i++)
        for (int k = 0; k < 2; k++) {
            close(to[i][k]);
            close(from[i][k]);
        }
    return ended(pid) == 7 && good;
}

int main(void)
{
    test_begin("turns");
    CHECK("exchange", exchange_all(12345));
    CHECK("exchange_again", exchange_all(987654321));
    CHECK("end_seen", end_seen(false));
    CHECK("end_seen_killed", end_seen(true));
    CHECK("third_reads", third_reads());
    CHECK("other_descriptor", other_descriptor());
    CHECK("writer_ahead", writer_ahead());
    CHECK("interrupted", interrupted(false));
    CHECK("interrupted_restart", interrupted(true));
    CHECK("many_pipes", many_pipes());
    bool good = true;
    for (int i = 0; i < 20; i++)
        good = good && end_seen(false);
    CHECK("ends_again", good);
    return test_end();
}
