/* SPDX-License-Identifier: MIT
 *
 * How processes with several threads end, stop and become other programs, whichever thread
 * begins it; who takes their signals; and a signal every 130 microseconds while calls are
 * made that turn from reflected ones into jumps. */
#include <pthread.h>
#include <sys/time.h>
#include "test.h"

#define EXECUTED 17 /* what the program ends with when it was executed anew */

static volatile bool stop;
static int ends[2];

static void *spin(void *argument)
{
    while (!stop)
        ;
    return argument;
}

static void *sleep_long(void *argument)
{
    while (!stop)
        usleep(500);
    return argument;
}

static void *read_end(void *argument)
{
    char byte;
    (void)!read(ends[0], &byte, 1);
    return argument;
}

static void threads_begin(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, spin, NULL) ||
        pthread_create(&thread, NULL, sleep_long, NULL) ||
        pthread_create(&thread, NULL, read_end, NULL))
        _exit(99);
    usleep(3000);
}

static void *execute(void *argument)
{
    execl("/proc/self/exe", "ends", "anew", NULL);
    _exit(98);
    return argument;
}

static void exit_first(void)
{
    threads_begin();
    exit(33);
}

static void *exit_late(void *argument)
{
    usleep(20000);
    _exit(42);
    return argument;
}

static void exit_other(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, exit_late, NULL);
    pthread_exit(NULL);
}

static void killed(void)
{
    threads_begin();
    kill(getpid(), SIGKILL);
    pause();
}

static void terminated(void)
{
    threads_begin();
    kill(getpid(), SIGTERM);
    for (;;)
        pause();
}

static void faulted(void)
{
    threads_begin();
    static volatile int *volatile nowhere = (volatile int *)8;
    *nowhere = 1;
}

static void alarmed(void)
{
    static const struct itimerval soon = {.it_value = {.tv_usec = 5000}};
    threads_begin();
    setitimer(ITIMER_REAL, &soon, NULL);
    for (;;)
        pause();
}

static void executed_first(void)
{
    threads_begin();
    execute(NULL);
}

static void executed_other(void)
{
    pthread_t thread;
    threads_begin();
    pthread_create(&thread, NULL, execute, NULL);
    for (;;)
        pause();
}

static bool ended(void (*child)(void), int code)
{
    int status = test_child(child);
    return WIFEXITED(status) && WEXITSTATUS(status) == code;
}

static bool ended_by(void (*child)(void), int signal)
{
    int status = test_child(child);
    return WIFSIGNALED(status) && WTERMSIG(status) == signal;
}

static void test_ends(void)
{
    CHECK("exit_first", ended(exit_first, 33));
    CHECK("exit_other", ended(exit_other, 42));
    CHECK("killed", ended_by(killed, SIGKILL));
    CHECK("terminated", ended_by(terminated, SIGTERM));
    CHECK("faulted", ended_by(faulted, SIGSEGV));
    CHECK("alarmed", ended_by(alarmed, SIGALRM));
    CHECK("executed_first", ended(executed_first, EXECUTED));
    CHECK("executed_other", ended(executed_other, EXECUTED));
}

static void test_stopped(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        threads_begin();
        raise(SIGSTOP);
        _exit(3);
    }
    CHECK("stopped", waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
    kill(pid, SIGCONT);
    CHECK("continued", waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3);
}

static void take_signal(int signal) { _exit(signal == SIGUSR1 ? 61 : 1); }

static void *wait_signals(void *argument)
{
    for (;;)
        pause();
    return argument;
}

/* The first thread is gone: another one takes the process's signals. */
static void test_other_takes(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        signal(SIGUSR1, take_signal);
        pthread_create(&thread, NULL, wait_signals, NULL);
        pthread_exit(NULL);
    }
    usleep(20000);
    kill(pid, SIGUSR1);
    CHECK("other_takes", waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 61);
}

static volatile long ticks;

static void tick(int signal)
{
    char byte;
    (void)signal;
    ticks++;
    (void)!read(ends[0], &byte, 1);
    syscall(SYS_getppid);
}

static bool calls_right(void)
{
    static const char text[] = "abcdefg";
    char data[sizeof text];
    uint64_t sum = 1, same = 1;
    pid_t parent = getppid(), self = getpid();
    bool right = true;
    for (uint64_t i = 0; i < 20000; i++) {
        sum = (sum ^ i) * 31;
        right = right && getppid() == parent && syscall(SYS_getpid) == self;
        if (i % 8 == 0)
            right = right && write(ends[1], text, sizeof text) == sizeof text &&
                    syscall(SYS_gettid) == self;
        while (i % 64 == 0 && read(ends[0], data, sizeof data) > 0)
            ;
    }
    for (uint64_t i = 0; i < 20000; i++)
        same = (same ^ i) * 31;
    return right && sum == same;
}

static void test_storm(void)
{
    static const struct itimerval often = {{0, 130}, {0, 130}}, never;
    struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    if (pipe2(ends, O_NONBLOCK) < 0) _exit(2);
    setitimer(ITIMER_REAL, &often, NULL);
    bool right = calls_right();
    setitimer(ITIMER_REAL, &never, NULL);
    CHECK("storm", right && ticks > 0);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "anew")) {
        pthread_t thread;
        void *result;
        stop = true;
        bool good = !pthread_create(&thread, NULL, spin, ends) && !pthread_join(thread, &result);
        return good && result == ends ? EXECUTED : 1;
    }
    test_begin("ends");
    if (pipe(ends) < 0) return 1;
    test_ends();
    test_stopped();
    test_other_takes();
    test_storm();
    return test_end();
}
