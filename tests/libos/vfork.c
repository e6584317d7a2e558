/* SPDX-License-Identifier: MIT
 *
 * vfork: what a child has for itself although it runs in its parent's memory, and what becomes of
 * the two when one is killed. All of it twice: the second time the process has a timer, with which
 * exovisor's library gives the child an env of its own (docs/linux.md). Run with arguments it is its
 * own exec target. */
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include "test.h"

#define SELF "/proc/self/exe"
#define ARGUMENTS 3000
#define LENGTH 100

static struct shared { /* with other processes */
    volatile pid_t child, parent;
    volatile int step;
} * shared;
static volatile int handled, handled_in, written;
static volatile pid_t self, parent;
static void *volatile nowhere = (void *)8;
static char directory[128];

static void handler(int number)
{
    (void)number;
    handled++;
    handled_in = (int)syscall(SYS_getpid);
}

/* What a child executes: 42 when what it was named finds is right. */
static int exec_target(int argc, char **argv)
{
    struct sigaction one, two;
    struct rlimit limit;
    sigset_t set;
    if (!strcmp(argv[1], "signals")) {
        sigaction(SIGUSR1, NULL, &one);
        sigaction(SIGUSR2, NULL, &two);
        sigprocmask(SIG_SETMASK, NULL, &set);
        return one.sa_handler == SIG_IGN && two.sa_handler == SIG_DFL &&
                       sigismember(&set, SIGHUP) && !sigismember(&set, SIGTERM)
                   ? 42
                   : 13;
    }
    if (!strcmp(argv[1], "pending"))
        return sigpending(&set) == 0 && sigismember(&set, SIGHUP) && !sigismember(&set, SIGUSR1)
                   ? 42
                   : 13;
    if (!strcmp(argv[1], "limits"))
        return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur == 12345 &&
                       getpriority(PRIO_PROCESS, 0) == 5
                   ? 42
                   : 13;
    if (!strcmp(argv[1], "descriptors"))
        return fcntl(60, F_GETFD) == 0 && fcntl(61, F_GETFD) == -1 && getpgrp() == getpid() ? 42
                                                                                            : 13;
    if (!strcmp(argv[1], "orphan")) {
        char name[4] = "";
        return readlink(SELF, name, 3) == 3 && name[0] == '/' && mkdir("vfork-orphan", 0755) == 0
                   ? 42
                   : 13;
    }
    if (!strcmp(argv[1], "pause"))
        for (;;)
            pause();
    for (int i = 2; i < argc; i++)
        if (strspn(argv[i], "x") != LENGTH || argv[i][LENGTH]) return 13;
    return argc == atoi(argv[1]) ? 42 : 13;
}

static void execute(const char *what)
{
    char *const arguments[] = {"vfork", (char *)what, NULL};
    execve(SELF, arguments, (char *[]){NULL});
}

/* The wait status of a child of vfork that does this and exits with 0. */
static __attribute__((noinline)) int child_runs(void (*child)(void))
{
    int status = -1;
    pid_t pid = vfork();
    if (pid == 0) {
        child();
        _exit(0);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

static bool exits(void (*child)(void), int code)
{
    int status = child_runs(child);
    return status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == code;
}

static bool dies(void (*child)(void), int signal)
{
    int status = child_runs(child);
    return status != -1 && WIFSIGNALED(status) && WTERMSIG(status) == signal;
}

/* ---- what is the child's own ---------------------------------------------------------------- */

static int file, zero;

static void change_descriptors(void)
{
    close(file);
    dup2(zero, file);
    dup2(1, zero);
    dup2(1, 50);
    fcntl(1, F_SETFD, FD_CLOEXEC);
}

static bool descriptors_same(void)
{
    char text[4] = "";
    return pread(file, text, 3, 0) == 3 && !strcmp(text, "own") && read(zero, text, 3) == 3 &&
           !text[0] && fcntl(50, F_GETFD) == -1 && fcntl(1, F_GETFD) == 0;
}

static void test_descriptors(void)
{
    file = open("vfork-file", O_RDWR | O_CREAT | O_TRUNC, 0644);
    zero = open("/dev/zero", O_RDONLY);
    bool good = write(file, "own", 3) == 3 && descriptors_same();
    CHECK("descriptors", good && exits(change_descriptors, 0) && descriptors_same());
    close(file);
    close(zero);
}

static void change_identity(void)
{
    self = getpid();
    parent = getppid();
    setpgid(0, 0);
    written = getpgrp() == self;
}

static void test_identity(void)
{
    pid_t pid = getpid(), group = getpgrp(), above = getppid();
    bool good = exits(change_identity, 0) && self > 0 && self != pid && parent == pid && written;
    CHECK("identity", good && getpid() == pid && getpgrp() == group && getppid() == above &&
                          syscall(SYS_gettid) == pid);
}

/* Not raise(3), which knows the caller by what lies in the memory of both. */
static void send(int signal) { kill((pid_t)syscall(SYS_getpid), signal); }

static void block(int signal)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

static void change_signals(void)
{
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, handler);
    signal(SIGCHLD, SIG_IGN);
    block(SIGHUP);
}

static void exec_signals(void)
{
    change_signals();
    execute("signals");
}

static void exec_pending(void)
{
    block(SIGHUP);
    send(SIGHUP);
    kill(getppid(), SIGUSR1);
    execute("pending");
}

static bool signals_same(void)
{
    struct sigaction one, two;
    sigset_t mask;
    sigaction(SIGUSR1, NULL, &one);
    sigaction(SIGUSR2, NULL, &two);
    sigprocmask(SIG_SETMASK, NULL, &mask);
    return one.sa_handler == handler && two.sa_handler == SIG_DFL && !sigismember(&mask, SIGHUP);
}

static void test_signals(void)
{
    signal(SIGUSR1, handler);
    CHECK("signals", exits(change_signals, 0) && signals_same());
    CHECK("signals_exec", exits(exec_signals, 42) && signals_same());
    handled = 0;
    CHECK("signals_pending", exits(exec_pending, 42) && handled == 1 && handled_in == getpid());
}

static void tell_parent(void) { kill(getppid(), SIGUSR1); }

static void tell_self(void)
{
    signal(SIGUSR1, SIG_DFL);
    signal(SIGUSR2, handler);
    kill(getpid(), SIGUSR2);
    self = getpid();
    _exit(handled == 1 && handled_in == self ? 7 : 8);
}

static void test_told(void)
{
    signal(SIGUSR1, handler);
    handled = 0;
    CHECK("parent_told", exits(tell_parent, 0) && handled == 1 && handled_in == getpid());
    handled = 0;
    CHECK("self_told", exits(tell_self, 7) && signals_same());
}

static void change_directory(void)
{
    if (chdir("/") == 0) umask(0);
}

static void exec_limits(void)
{
    const struct rlimit limit = {12345, 99999};
    setrlimit(RLIMIT_FSIZE, &limit);
    setpriority(PRIO_PROCESS, 0, 5);
    execute("limits");
}

static void test_surroundings(void)
{
    char now[128] = "";
    struct rlimit before, after;
    umask(022);
    bool good = exits(change_directory, 0) && getcwd(now, sizeof now) && !strcmp(now, directory);
    CHECK("directory", good && umask(022) == 022);
    getrlimit(RLIMIT_FSIZE, &before);
    CHECK("limits", exits(exec_limits, 42) && getrlimit(RLIMIT_FSIZE, &after) == 0 &&
                        before.rlim_cur == after.rlim_cur && before.rlim_max == after.rlim_max &&
                        getpriority(PRIO_PROCESS, 0) == 0);
}

#define ROUND_UP 0x5f80 /* MXCSR: Intel SDM vol. 1, 10.2.3 */
#define ROUND_NEAREST 0x1f80

static void change_rounding(void) { __builtin_ia32_ldmxcsr(ROUND_NEAREST | 0x6000); }

static void test_registers(void)
{
    __builtin_ia32_ldmxcsr(ROUND_UP);
    CHECK("registers",
          exits(change_rounding, 0) && (__builtin_ia32_stmxcsr() & 0xffc0) == ROUND_UP);
    __builtin_ia32_ldmxcsr(ROUND_NEAREST);
}

/* ---- exec ----------------------------------------------------------------------------------- */

static void exec_nothing(void)
{
    char *const arguments[] = {"x", NULL}, *const none[] = {NULL};
    bool good = execve("/no/such", arguments, none) < 0 && errno == ENOENT;
    good = good && execve("vfork-file", arguments, none) < 0 && errno == EACCES;
    good = good && execve("vfork-text", arguments, none) < 0 && errno == ENOEXEC;
    good = good && execve(SELF, (char **)nowhere, none) < 0 && errno == EFAULT;
    _exit(good ? 9 : 10);
}

static int count;

static void exec_many(void)
{
    static char *arguments[ARGUMENTS + 1], text[LENGTH + 1], number[16];
    memset(text, 'x', LENGTH);
    snprintf(number, sizeof number, "%d", count);
    arguments[0] = arguments[1] = number;
    for (int i = 2; i < count; i++)
        arguments[i] = text;
    arguments[count] = NULL;
    execve(SELF, arguments, (char *[]){NULL});
}

/* Stacks of all sizes. */
static bool exec_sizes(void)
{
    for (count = 2; count < 60; count++)
        if (!exits(exec_many, 42)) return false;
    for (count = 100; count < ARGUMENTS; count *= 2)
        if (!exits(exec_many, 42)) return false;
    return true;
}

static void exec_script(void)
{
    char *const arguments[] = {"script", "21", NULL};
    execve("./vfork-script", arguments, (char *[]){"PATH=/bin", NULL});
}

static void exec_descriptors(void)
{
    dup2(1, 60);
    dup3(1, 61, O_CLOEXEC);
    setpgid(0, 0);
    execute("descriptors");
}

static void exec_alarm(void)
{
    const struct itimerval soon = {.it_value = {0, 50000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    execute("pause");
}

static bool file_make(const char *name, const char *text, mode_t mode)
{
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, mode);
    bool good = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    return close(fd) == 0 && good;
}

static void test_exec(void)
{
    struct itimerval left;
    CHECK("files", file_make("vfork-text", "exit 5\n", 0755) &&
                       file_make("vfork-script", "#!/bin/sh\nexit $1\n", 0755));
    CHECK("exec_nothing", exits(exec_nothing, 9));
    CHECK("exec_sizes", exec_sizes());
    CHECK("exec_script", exits(exec_script, 21));
    CHECK("exec_descriptors", exits(exec_descriptors, 42) && fcntl(60, F_GETFD) == -1);
    CHECK("exec_alarm", dies(exec_alarm, SIGALRM));
    CHECK("exec_alarm_parent",
          getitimer(ITIMER_REAL, &left) == 0 && !left.it_value.tv_sec && !left.it_value.tv_usec);
}

static void test_spawn(void)
{
    extern char **environ;
    char *const arguments[] = {"sh", "-c", "echo spawned; exit 3", NULL};
    char text[32] = "";
    int ends[2], status = -1;
    pid_t pid;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    bool good = pipe(ends) == 0 && posix_spawn_file_actions_adddup2(&actions, ends[1], 1) == 0 &&
                posix_spawn(&pid, "/bin/sh", &actions, NULL, arguments, environ) == 0;
    close(ends[1]);
    CHECK("spawn", good && read(ends[0], text, sizeof text) == 8 && !strcmp(text, "spawned\n") &&
                       waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3);
    CHECK("spawn_error", posix_spawn(&pid, "/no/such", NULL, NULL, arguments, environ) == ENOENT);
    close(ends[0]);
}

/* ---- in the child's child ----------------------------------------------------------------- */

static void write_seven(void) { written = 7; }

static void vfork_again(void)
{
    int status = child_runs(write_seven);
    _exit(status == 0 && written == 7 ? 4 : 5);
}

static void fork_again(void)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        written = 8;
        _exit(getppid() == self ? 0 : 1);
    }
    _exit(waitpid(pid, &status, 0) == pid && status == 0 && written == 1 ? 4 : 5);
}

static void fork_here(void)
{
    self = getpid();
    fork_again();
}

static void test_deeper(void)
{
    written = 0;
    CHECK("vfork_in_child", exits(vfork_again, 4) && written == 7);
    written = 1;
    CHECK("fork_in_child", exits(fork_here, 4) && written == 1);
    written = 2;
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) _exit(written == 2 ? 0 : 1);
    CHECK("fork_after", waitpid(pid, &status, 0) == pid && status == 0);
}

/* ---- ends ------------------------------------------------------------------------------------- */

static void die_by_signal(void) { send(SIGTERM); }
static void die_by_kill(void) { send(SIGKILL); }
static void die_by_fault(void) { *(volatile int *)nowhere = 1; }

static void run_for_ever(void)
{
    shared->child = getpid();
    for (;;)
        ;
}

static void pause_for_ever(void)
{
    shared->child = getpid();
    for (;;)
        pause();
}

static void read_for_ever(void)
{
    static int ends[2];
    char byte;
    if (pipe(ends) == 0) shared->child = getpid();
    (void)!read(ends[0], &byte, 1);
}

static void stop_for_ever(void)
{
    shared->child = getpid();
    send(SIGSTOP);
}

static void stop_once(void)
{
    stop_for_ever();
    _exit(6);
}

/* A process that sends the child of vfork this signal, `ms` after it is there. */
static pid_t killer(int signal, long ms)
{
    shared->child = 0;
    pid_t pid = fork();
    if (pid) return pid;
    while (!shared->child)
        test_sleep_ms(1);
    test_sleep_ms(ms);
    kill(shared->child, signal);
    _exit(0);
}

static bool killed(void (*child)(void), int signal)
{
    pid_t pid = killer(signal, 5);
    int status = child_runs(child), other;
    waitpid(pid, &other, 0);
    return status != -1 && WIFSIGNALED(status) && WTERMSIG(status) == signal;
}

static void test_ends(void)
{
    int status;
    signal(SIGTERM, SIG_DFL);
    CHECK("by_signal", dies(die_by_signal, SIGTERM));
    CHECK("by_kill", dies(die_by_kill, SIGKILL));
    CHECK("by_fault", dies(die_by_fault, SIGSEGV));
    CHECK("killed_running", killed(run_for_ever, SIGKILL));
    CHECK("killed_pausing", killed(pause_for_ever, SIGKILL));
    CHECK("killed_reading", killed(read_for_ever, SIGKILL));
    CHECK("killed_stopped", killed(stop_for_ever, SIGKILL));
    CHECK("terminated", killed(run_for_ever, SIGTERM));
    pid_t pid = killer(SIGCONT, 30);
    CHECK("continued", exits(stop_once, 6));
    waitpid(pid, &status, 0);
}

static void wait_then_tell(void)
{
    shared->child = getpid();
    for (int i = 0; i < 2000 && shared->step != 1; i++)
        test_sleep_ms(1);
    test_sleep_ms(10);
    shared->parent = getppid();
    shared->step = 2;
}

static void wait_then_exec(void)
{
    wait_then_tell();
    execute("orphan");
}

/* A process with a child of vfork that waits; the child's pid is there when it returns. */
static pid_t parent_of(void (*child)(void))
{
    shared->child = 0;
    shared->step = 0;
    pid_t pid = fork();
    if (pid == 0) {
        child_runs(child);
        _exit(0);
    }
    while (!shared->child)
        test_sleep_ms(1);
    return pid;
}

static bool is_gone(pid_t pid)
{
    for (int i = 0; i < 2000; i++, test_sleep_ms(1))
        if (kill(pid, 0) < 0 && errno == ESRCH) return true;
    return false;
}

static void test_parent(void)
{
    int status = -1;
    pid_t pid = parent_of(wait_then_tell);
    kill(pid, SIGKILL);
    CHECK("parent_killed", waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
    shared->step = 1;
    for (int i = 0; i < 5000 && shared->step != 2; i++)
        test_sleep_ms(1);
    CHECK("child_goes_on", shared->step == 2 && shared->parent != pid && is_gone(shared->child));
    pid = parent_of(wait_then_exec);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    shared->step = 1;
    CHECK("child_executes", is_gone(shared->child) && rmdir("vfork-orphan") == 0);
    pid = parent_of(run_for_ever);
    kill(shared->child, SIGKILL);
    kill(pid, SIGKILL);
    status = -1;
    CHECK("both_killed", waitpid(pid, &status, 0) == pid && is_gone(shared->child));
    pid = parent_of(run_for_ever);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    CHECK("child_stays", kill(shared->child, 0) == 0);
    kill(shared->child, SIGKILL);
    CHECK("child_killed", is_gone(shared->child));
}

static void test_all(void)
{
    test_descriptors();
    test_identity();
    test_signals();
    test_told();
    test_surroundings();
    test_registers();
    test_exec();
    test_spawn();
    test_deeper();
    test_ends();
    test_parent();
}

int main(int argc, char **argv)
{
    if (argc > 1) return exec_target(argc, argv);
    test_begin("vfork");
    test_directory();
    if (!getcwd(directory, sizeof directory)) return 1;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    test_all();
    timer_t timer;
    test_begin("vfork.timer");
    CHECK("timer", timer_create(CLOCK_MONOTONIC, NULL, &timer) == 0);
    test_all();
    test_begin("vfork");
    return test_end();
}
