/* SPDX-License-Identifier: MIT
 *
 * Processes: fork, exec, wait, ends, groups and sessions. Run with arguments it is its own
 * exec target. */
#include <pthread.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include "test.h"

#define SELF "/proc/self/exe"
extern char **environ;
static int global = 1;

/* What `exec` starts: checks what it was given; its exit status says what was right. */
static bool comm_is(pid_t pid, const char *name)
{
    char path[32], line[64] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, line, sizeof line - 1);
    close(fd);
    return n > 0 && line[n - 1] == '\n' && (size_t)n == strlen(name) + 1 &&
           !memcmp(line, name, strlen(name));
}

static int exec_target(int argc, char **argv)
{
    const char *value = getenv("TEST_VALUE");
    if (strcmp(argv[1], "name") == 0) {
        char name[16] = "";
        prctl(PR_GET_NAME, name);
        return !comm_is(getpid(), "exe") || strcmp(name, "exe") != 0;
    }
    bool good =
        argc == 4 && strcmp(argv[2], "two words") == 0 && argv[3][0] == 0 && argv[4] == NULL;
    if (strcmp(argv[1], "environment") == 0)
        good = good && value && strcmp(value, "a=b c") == 0 && !getenv("HOME");
    if (strcmp(argv[1], "descriptors") == 0)
        good = good && fcntl(70, F_GETFD) == 0 && fcntl(71, F_GETFD) == -1;
    if (strcmp(argv[1], "signals") == 0) {
        struct sigaction ignored, handled;
        sigset_t mask;
        sigaction(SIGUSR1, NULL, &ignored);
        sigaction(SIGUSR2, NULL, &handled);
        sigprocmask(SIG_SETMASK, NULL, &mask);
        good = good && ignored.sa_handler == SIG_IGN && handled.sa_handler == SIG_DFL &&
               sigismember(&mask, SIGHUP);
    }
    return good ? 42 : 13;
}

static char *target_environment[] = {"TEST_VALUE=a=b c", "PATH=/bin", NULL};

static void exec_self(const char *what)
{
    char *arguments[] = {"odd name", (char *)what, "two words", "", NULL};
    execve(SELF, arguments, target_environment);
    _exit(14);
}

static void exec_environment(void) { exec_self("environment"); }

static void exec_descriptors(void)
{
    dup2(1, 70);
    dup3(1, 71, O_CLOEXEC);
    exec_self("descriptors");
}

static void ignore_signal(int number) { (void)number; }

static void exec_signals(void)
{
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, ignore_signal);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGHUP);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    exec_self("signals");
}

static void exit_low_byte(void) { _exit(0x1234); }

static void end_by_signal(void)
{
    kill(getpid(), SIGTERM);
    test_sleep_ms(5000);
}

static void end_by_fault(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    volatile int *volatile nowhere = (volatile int *)8;
    *nowhere = 1;
}

static void end_by_abort(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    abort();
}

static void child_memory(void)
{
    global = 7;
    _exit(global == 7 ? 3 : 4);
}

static void nested(void)
{
    int status = test_child(exit_low_byte);
    _exit(WIFEXITED(status) && WEXITSTATUS(status) == 0x34 ? 5 : 6);
}

static void test_ends(void)
{
    int status = test_child(exit_low_byte);
    CHECK("exit_low_byte", WIFEXITED(status) && WEXITSTATUS(status) == 0x34);
    status = test_child(end_by_signal);
    CHECK("end_by_signal", WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    status = test_child(end_by_fault);
    CHECK("end_by_fault", WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    status = test_child(end_by_abort);
    CHECK("end_by_abort", WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    status = test_child(child_memory);
    CHECK("memory_is_copied", WIFEXITED(status) && WEXITSTATUS(status) == 3 && global == 1);
    status = test_child(nested);
    CHECK("grandchild", WIFEXITED(status) && WEXITSTATUS(status) == 5);
}

static void test_exec(void)
{
    int status = test_child(exec_environment);
    CHECK("exec_arguments", WIFEXITED(status) && WEXITSTATUS(status) == 42);
    status = test_child(exec_descriptors);
    CHECK("exec_descriptors", WIFEXITED(status) && WEXITSTATUS(status) == 42);
    status = test_child(exec_signals);
    CHECK("exec_signals", WIFEXITED(status) && WEXITSTATUS(status) == 42);
    char *arguments[] = {"x", NULL};
    CHECK_ERROR("exec_missing", execve("/no/such", arguments, environ), ENOENT);
    CHECK_ERROR("exec_directory", execve("/tmp", arguments, environ), EACCES);
    int fd = open("garbage", O_CREAT | O_WRONLY, 0755);
    bool written = write(fd, "\1\2\3\4 not a program", 18) == 18;
    close(fd);
    CHECK_ERROR("exec_garbage", written ? execve("garbage", arguments, environ) : 0, ENOEXEC);
    chmod("garbage", 0644);
    CHECK_ERROR("exec_no_permission", execve("garbage", arguments, environ), EACCES);
    fd = open("script", O_CREAT | O_WRONLY, 0755);
    static const char text[] = "#!/bin/sh\ntest \"$1\" = argument && exit 21\nexit 22\n";
    written = write(fd, text, sizeof text - 1) == sizeof text - 1;
    close(fd);
    status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        execl("./script", "script", "argument", (char *)NULL);
        _exit(23);
    }
    waitpid(pid, &status, 0);
    CHECK("exec_script", written && WIFEXITED(status) && WEXITSTATUS(status) == 21);
    CHECK("exec_script_name", system("printf '#!/bin/sh\\nread name </proc/$$/comm; "
                                     "test $name = a-script\\n' >a-script; chmod 755 a-script; "
                                     "./a-script") == 0);
    char *spawned[] = {"x", "environment", "two words", "", NULL};
    status = posix_spawn(&pid, SELF, NULL, NULL, spawned, target_environment);
    CHECK("spawn", status == 0);
    CHECK("spawn_wait", waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 42);
    CHECK("spawn_missing", posix_spawn(&pid, "/no/such", NULL, NULL, spawned, environ) == ENOENT);
    volatile int lent = 0;
    pid = vfork();
    if (pid == 0) {
        lent = 9;
        _exit(8);
    }
    CHECK("vfork", waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 8 && lent == 9);
}

#define LENT_PAGES 4
static volatile uint8_t lent_zero[LENT_PAGES * 4096];
static volatile uint8_t lent_data[LENT_PAGES * 4096] = {7};
static volatile uint8_t *volatile lent_mapped, *volatile lent_more;

/* What a child of vfork does to memory that nobody had touched; returns in the child. */
static void lent_write(uint8_t value)
{
    for (int i = 0; i < LENT_PAGES; i++)
        lent_zero[i * 4096 + value] = lent_data[i * 4096 + value] = value;
    lent_mapped = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    lent_more = (uint8_t *)syscall(SYS_brk, 0);
    syscall(SYS_brk, lent_more + 65536);
    lent_mapped[50000] = lent_more[60000] = value;
}

static bool lent_there(uint8_t value)
{
    bool good = lent_mapped[50000] == value && lent_more[60000] == value && !lent_more[1] &&
                (uint8_t *)syscall(SYS_brk, 0) == lent_more + 65536;
    for (int i = 0; i < LENT_PAGES; i++)
        good &= lent_zero[i * 4096 + value] == value && lent_data[i * 4096 + value] == value;
    lent_mapped[100] = 1; /* and can be written */
    return good && lent_data[0] == 7;
}

static void test_lent(void)
{
    static char *arguments[] = {"x", "environment", "two words", "", NULL};
    int status;
    pid_t pid = vfork();
    if (pid == 0) {
        lent_write(3);
        _exit(0);
    }
    CHECK("vfork_exit", waitpid(pid, &status, 0) == pid && lent_there(3));
    pid = vfork();
    if (pid == 0) {
        lent_write(4);
        execl("/no/such", "such", NULL);
        lent_zero[5] = 5;
        execve(SELF, arguments, target_environment);
        _exit(1);
    }
    CHECK("vfork_exec", waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 42 &&
                            lent_there(4) && lent_zero[3] == 3 && lent_zero[5] == 5);
}

static void test_wait(void)
{
    int status;
    CHECK_ERROR("wait_no_child", waitpid(-1, &status, 0), ECHILD);
    CHECK_ERROR("wait_not_mine", waitpid(1, &status, 0), ECHILD);
    pid_t pid = fork();
    if (pid == 0) {
        test_sleep_ms(200);
        _exit(9);
    }
    CHECK("wait_nohang", waitpid(pid, &status, WNOHANG) == 0);
    CHECK_ERROR("wait_odd", waitpid(pid, &status, 0x1000), EINVAL);
    siginfo_t info;
    CHECK("waitid_nowait", waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0 &&
                               info.si_pid == pid && info.si_code == CLD_EXITED &&
                               info.si_status == 9);
    struct rusage usage;
    CHECK("wait4", wait4(-1, &status, 0, &usage) == pid && WEXITSTATUS(status) == 9);
    pid = fork();
    if (pid == 0)
        for (;;)
            test_sleep_ms(1000);
    CHECK("stop", kill(pid, SIGSTOP) == 0 && waitpid(pid, &status, WUNTRACED) == pid &&
                      WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK("continue", kill(pid, SIGCONT) == 0 && waitpid(pid, &status, WCONTINUED) == pid &&
                          WIFCONTINUED(status));
    CHECK("kill", kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid &&
                      WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK_ERROR("kill_gone", kill(pid, 0), ESRCH);
    CHECK("kill_self_check", kill(getpid(), 0) == 0);
    CHECK_ERROR("kill_odd", kill(getpid(), 99), EINVAL);
    pid_t many[20];
    for (int i = 0; i < 20; i++) {
        many[i] = fork();
        if (many[i] == 0) _exit(i);
    }
    int sum = 0, n = 0;
    while (wait(&status) > 0) {
        sum += WEXITSTATUS(status);
        n++;
    }
    CHECK("wait_many", n == 20 && sum == 190);
    signal(SIGCHLD, SIG_IGN);
    pid = fork();
    if (pid == 0) _exit(1);
    CHECK_ERROR("no_zombie_when_ignored", waitpid(pid, &status, 0), ECHILD);
    signal(SIGCHLD, SIG_DFL);
}

static void orphan_parent(void)
{
    int ends[2];
    if (pipe(ends) < 0) _exit(1);
    pid_t middle = fork();
    if (middle == 0) {
        if (fork() == 0) {
            pid_t parent = getppid();
            for (int i = 0; i < 100 && getppid() == parent; i++)
                test_sleep_ms(10);
            char answer = getppid() != parent;
            _exit(write(ends[1], &answer, 1) != 1);
        }
        test_sleep_ms(50);
        _exit(0);
    }
    waitpid(middle, NULL, 0);
    char answer = 0;
    _exit(read(ends[0], &answer, 1) == 1 && answer ? 0 : 1);
}

static void session_child(void)
{
    pid_t me = getpid();
    if (setsid() != me || getsid(0) != me || getpgrp() != me) _exit(1);
    if (setsid() != -1 || errno != EPERM) _exit(2);
    if (setpgid(0, 0) != -1 || errno != EPERM) _exit(3);
}

static void test_groups(void)
{
    CHECK("pids", getpid() > 0 && getppid() > 0 && getpgid(0) == getpgrp());
    CHECK("setsid", test_child(session_child) == 0);
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            test_sleep_ms(1000);
    CHECK("setpgid", setpgid(pid, pid) == 0 && getpgid(pid) == pid);
    CHECK_ERROR("setpgid_odd", setpgid(pid, 99999), EPERM);
    CHECK_ERROR("setpgid_missing", setpgid(99999, 0), ESRCH);
    pid_t second = fork();
    if (second == 0)
        for (;;)
            test_sleep_ms(1000);
    CHECK("setpgid_join", setpgid(second, pid) == 0 && getpgid(second) == pid);
    int status = 0, ended = 0;
    CHECK("kill_group", kill(-pid, SIGTERM) == 0);
    while (waitpid(-pid, &status, 0) > 0)
        ended += WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM;
    CHECK("wait_group", ended == 2);
    CHECK_ERROR("kill_no_group", kill(-99999, SIGTERM), ESRCH);
    CHECK("orphan_gets_parent", test_child(orphan_parent) == 0);
}

static void limit_child(void)
{
    struct rlimit limit = {20, 20};
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) _exit(1);
    int fd, last = -1;
    while ((fd = dup(1)) >= 0)
        last = fd;
    _exit(errno == EMFILE && last == 19 ? 0 : 2);
}

/* Whether process 1 is neither stopped nor gone. */
static bool first_goes_on(void)
{
    char line[256] = "";
    int fd = open("/proc/1/stat", O_RDONLY);
    ssize_t n = read(fd, line, sizeof line - 1);
    close(fd);
    const char *state = n > 0 ? strrchr(line, ')') : NULL;
    return state && state[1] == ' ' && state[2] && !strchr("TtZX", state[2]) && kill(1, 0) == 0;
}

static void named_child(void) { _exit(!comm_is(getpid(), "a (name) of 15.")); }

static void *thread_named(void *unused)
{
    prctl(PR_SET_NAME, "a thread");
    return unused;
}

static void executes_named(void)
{
    char *arguments[] = {(char *)"x", (char *)"name", NULL};
    execve("/proc/self/exe", arguments, environ);
    _exit(9);
}

static void test_name(void)
{
    pthread_t thread;
    CHECK("name_set", prctl(PR_SET_NAME, "a (name) of 15.s!") == 0);
    CHECK("name", comm_is(getpid(), "a (name) of 15."));
    CHECK("name_of_child", test_child(named_child) == 0);
    char line[32] = "";
    prctl(PR_SET_NAME, "a\nPid:\\1");
    int fd = open("/proc/self/status", O_RDONLY);
    CHECK("name_escaped", read(fd, line, 18) == 18 && !strcmp(line, "Name:\ta\\nPid:\\\\1\nU"));
    close(fd);
    prctl(PR_SET_NAME, "a (name) of 15.");
    pthread_create(&thread, NULL, thread_named, NULL);
    pthread_join(thread, NULL);
    CHECK("name_of_thread", comm_is(getpid(), "a (name) of 15."));
    CHECK("name_executed", test_child(executes_named) == 0);
    int status = -1;
    pid_t pid = vfork();
    if (pid == 0) executes_named();
    CHECK("name_of_vfork", waitpid(pid, &status, 0) == pid && status == 0);
}

static pid_t clone_with(int signal) { return (pid_t)syscall(SYS_clone, signal, 0, 0, 0, 0); }

static void killed_by_child(void)
{
    if (clone_with(SIGKILL) == 0) _exit(0);
    pause();
}

/* The signal that a child's end tells its parent with: any, and SIGCHLD once it has executed. */
static void test_told(void)
{
    sigset_t set, before, pending;
    int status = test_child(killed_by_child);
    CHECK("told_by_sigkill", WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, &before);
    pid_t pid = clone_with(SIGUSR2);
    if (pid == 0) _exit(0);
    CHECK_ERROR("told_not_so", waitpid(pid, NULL, 0), ECHILD);
    CHECK("told_clone", waitpid(pid, NULL, __WCLONE) == pid);
    sigpending(&pending);
    CHECK("told_by_other", sigismember(&pending, SIGUSR2) && !sigismember(&pending, SIGCHLD));
    sigwaitinfo(&set, NULL);
    char *arguments[] = {(char *)"x", (char *)"y", NULL};
    pid = clone_with(SIGUSR2);
    if (pid == 0) {
        execve("/proc/self/exe", arguments, environ);
        _exit(1);
    }
    waitpid(pid, NULL, __WALL);
    sigpending(&pending);
    CHECK("told_after_exec", !sigismember(&pending, SIGUSR2) && sigismember(&pending, SIGCHLD));
    sigwaitinfo(&set, NULL);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

/* What the first process has no handler for is kept from it. */
static void test_first(void)
{
    static const int signals[] = {SIGHUP,  SIGQUIT, SIGKILL, SIGUSR1, SIGSEGV,
                                  SIGALRM, SIGTERM, SIGSTOP, SIGTSTP, 40};
    for (size_t i = 0; i < COUNT(signals); i++) {
        char name[32];
        bool sent = kill(1, signals[i]) == 0;
        test_sleep_ms(20);
        snprintf(name, sizeof name, "first_goes_on_%d", signals[i]);
        CHECK(name, sent && first_goes_on());
    }
}

static void test_misc(void)
{
    struct rlimit limit;
    CHECK("getrlimit", getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= 64);
    CHECK("setrlimit", test_child(limit_child) == 0);
    CHECK("ids", getuid() == 0 && geteuid() == 0 && getgid() == 0 && getegid() == 0);
    CHECK("getpriority", getpriority(PRIO_PROCESS, 0) == 0);
    struct rusage usage;
    CHECK("getrusage", getrusage(RUSAGE_SELF, &usage) == 0);
}

int main(int argc, char **argv)
{
    if (argc > 1) return exec_target(argc, argv);
    test_begin("process");
    test_directory();
    test_ends();
    test_exec();
    test_lent();
    test_wait();
    test_told();
    test_name();
    test_groups();
    test_first();
    test_misc();
    return test_end();
}
