/* SPDX-License-Identifier: MIT
 *
 * Terminals, by a pseudo-terminal: line discipline, signals from keys, job control. */
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <termios.h>
#include "test.h"

static int master = -1;
static char slave_name[32];

static bool open_pair(void)
{
    int unlock = 0, number = -1;
    master = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0 ||
        ioctl(master, TIOCGPTN, &number) < 0)
        return false;
    snprintf(slave_name, sizeof slave_name, "/dev/pts/%d", number);
    return true;
}

/* What the master shows within a short time. */
static int shown(char *data, size_t size)
{
    struct pollfd p = {master, POLLIN, 0};
    size_t n = 0;
    while (n < size - 1 && poll(&p, 1, 60) == 1 && (p.revents & POLLIN)) {
        ssize_t got = read(master, data + n, size - 1 - n);
        if (got <= 0) break;
        n += (size_t)got;
    }
    data[n] = 0;
    return (int)n;
}

static void type(const char *keys)
{
    if (write(master, keys, strlen(keys)) != (ssize_t)strlen(keys))
        dprintf(1, "FAIL tty.type errno %d\n", errno);
}

static void test_lines(void)
{
    char data[256];
    struct termios t;
    int fd = open(slave_name, O_RDWR | O_NOCTTY);
    CHECK("open_slave", fd >= 0 && isatty(fd));
    CHECK("getattr", tcgetattr(fd, &t) == 0 && (t.c_lflag & ICANON) && (t.c_lflag & ECHO) &&
                         (t.c_lflag & ISIG));
    type("hello\r");
    CHECK("canonical_line", read(fd, data, sizeof data) == 6 && memcmp(data, "hello\n", 6) == 0);
    CHECK("echo", shown(data, sizeof data) == 7 && strcmp(data, "hello\r\n") == 0);
    type("abc\177\177x\r");
    CHECK("erase", read(fd, data, sizeof data) == 3 && memcmp(data, "ax\n", 3) == 0);
    CHECK("erase_echo", shown(data, sizeof data) > 0 && strcmp(data, "abc\b \b\b \bx\r\n") == 0);
    type("gone\025kept\n");
    CHECK("kill_line", read(fd, data, sizeof data) == 5 && memcmp(data, "kept\n", 5) == 0);
    shown(data, sizeof data);
    type("part\004");
    CHECK("end_of_file_gives_part", read(fd, data, sizeof data) == 4);
    type("\004");
    CHECK("end_of_file", read(fd, data, sizeof data) == 0);
    shown(data, sizeof data);
    CHECK("output", write(fd, "a\nb", 3) == 3 && shown(data, sizeof data) == 4 &&
                        strcmp(data, "a\r\nb") == 0);
    type("one\ntwo\n");
    CHECK("line_at_a_time",
          read(fd, data, sizeof data) == 4 && read(fd, data, 2) == 2 && read(fd, data, 10) == 2);
    shown(data, sizeof data);
    t.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    CHECK("setattr", tcsetattr(fd, TCSANOW, &t) == 0);
    type("r");
    CHECK("raw_key", read(fd, data, sizeof data) == 1 && data[0] == 'r');
    CHECK("no_echo", shown(data, sizeof data) == 0);
    t.c_cc[VMIN] = 0;
    t.c_cc[VTIME] = 1;
    tcsetattr(fd, TCSANOW, &t);
    int64_t before = test_now_ms();
    CHECK("raw_time", read(fd, data, sizeof data) == 0 && test_now_ms() - before >= 90);
    t.c_oflag &= ~(tcflag_t)OPOST;
    tcsetattr(fd, TCSADRAIN, &t);
    CHECK("raw_output", write(fd, "a\nb", 3) == 3 && shown(data, sizeof data) == 3);
    struct winsize size = {.ws_row = 33, .ws_col = 99}, now;
    CHECK("window_size", ioctl(master, TIOCSWINSZ, &size) == 0 &&
                             ioctl(fd, TIOCGWINSZ, &now) == 0 && now.ws_row == 33 &&
                             now.ws_col == 99);
    CHECK_ERROR("ioctl_odd", ioctl(fd, 0x54ff, &now), ENOTTY);
    CHECK_ERROR("not_a_tty", tcgetattr(open("/dev/null", O_RDONLY), &t), ENOTTY);
    close(fd);
}

static volatile sig_atomic_t got;

static void note(int number) { got = number; }

static pid_t start_session(void (*child)(int))
{
    pid_t pid = fork();
    if (pid != 0) return pid;
    setsid();
    close(master);
    int fd = open(slave_name, O_RDWR);
    if (fd < 0 || tcgetsid(fd) != getpid()) _exit(90);
    child(fd);
    _exit(91);
}

static void wait_for_keys(int fd)
{
    signal(SIGINT, note);
    signal(SIGWINCH, note);
    if (write(fd, "ready\n", 6) != 6) _exit(1);
    for (int i = 0; i < 400 && got != SIGINT; i++)
        test_sleep_ms(5);
    if (got != SIGINT) _exit(2);
    if (write(fd, "again\n", 6) != 6) _exit(3);
    for (int i = 0; i < 400 && got != SIGWINCH; i++)
        test_sleep_ms(5);
    _exit(got == SIGWINCH ? 0 : 4);
}

/* A background group that reads is stopped; brought forward, it reads. */
static void job_control(int fd)
{
    int status;
    signal(SIGTTOU, SIG_IGN);
    if (tcgetpgrp(fd) != getpgrp()) _exit(1);
    pid_t job = fork();
    if (job == 0) {
        char line[32];
        setpgid(0, 0);
        signal(SIGTTOU, SIG_DFL);
        _exit(read(fd, line, sizeof line) == 5 ? 55 : 1);
    }
    setpgid(job, job);
    if (waitpid(job, &status, WUNTRACED) != job || !WIFSTOPPED(status) ||
        WSTOPSIG(status) != SIGTTIN)
        _exit(2);
    if (tcsetpgrp(fd, job) < 0 || tcgetpgrp(fd) != job || kill(-job, SIGCONT) < 0) _exit(3);
    if (write(fd, "ready\n", 6) != 6) _exit(4);
    if (waitpid(job, &status, 0) != job || !WIFEXITED(status) || WEXITSTATUS(status) != 55)
        _exit(5);
    if (tcsetpgrp(fd, getpgrp()) < 0) _exit(6);
    job = fork();
    if (job == 0) {
        setpgid(0, 0);
        tcsetpgrp(fd, getpid());
        if (write(fd, "stopme\n", 7) != 7) _exit(1);
        for (;;)
            test_sleep_ms(1000);
    }
    if (waitpid(job, &status, WUNTRACED) != job || !WIFSTOPPED(status) ||
        WSTOPSIG(status) != SIGTSTP)
        _exit(7);
    kill(-job, SIGKILL);
    _exit(waitpid(job, &status, 0) == job && WIFSIGNALED(status) ? 0 : 8);
}

static void read_until_hangup(int fd)
{
    char line[32];
    signal(SIGHUP, note);
    if (write(fd, "ready\n", 6) != 6) _exit(1);
    ssize_t n;
    while ((n = read(fd, line, sizeof line)) > 0 || (n < 0 && errno == EINTR && got != SIGHUP))
        ;
    for (int i = 0; i < 400 && got != SIGHUP; i++) /* Linux ends the read first */
        test_sleep_ms(5);
    _exit(got == SIGHUP ? 0 : 2);
}

static bool wait_for(const char *word)
{
    char data[512];
    size_t n = 0;
    for (int i = 0; i < 100 && n < 400; i++) {
        n += (size_t)shown(data + n, sizeof data - n);
        if (strstr(data, word)) return true;
    }
    return false;
}

static int status_of(pid_t pid)
{
    int status = -1;
    for (int i = 0; i < 600 && waitpid(pid, &status, WNOHANG) == 0; i++)
        test_sleep_ms(5);
    kill(pid, SIGKILL);
    return status;
}

static void test_sessions(void)
{
    open_pair();
    pid_t pid = start_session(wait_for_keys);
    CHECK("controlling", wait_for("ready"));
    type("\003");
    CHECK("interrupt_key", wait_for("again"));
    struct winsize size = {.ws_row = 10, .ws_col = 20};
    ioctl(master, TIOCSWINSZ, &size);
    CHECK("winch", status_of(pid) == 0);
    close(master);
    open_pair();
    pid = start_session(job_control);
    CHECK("job_ready", wait_for("ready"));
    type("line\n");
    CHECK("job_second", wait_for("stopme"));
    type("\032");
    CHECK("job_control", status_of(pid) == 0);
    close(master);
    open_pair();
    pid = start_session(read_until_hangup);
    wait_for("ready");
    close(master);
    CHECK("hangup", status_of(pid) == 0);
}

/* The names of terminals are nobody's to make or remove: none can be in a terminal's way. */
static void test_names(void)
{
    struct statfs fs;
    struct stat status;
    CHECK_ERROR("name_made", open("/dev/pts/9", O_CREAT | O_WRONLY, 0666), EACCES);
    CHECK_ERROR("name_directory", mkdir("/dev/pts/9", 0777), EPERM);
    CHECK_ERROR("name_fifo", mkfifo("/dev/pts/9", 0666), EPERM);
    CHECK_ERROR("name_removed", unlink(slave_name), EPERM);
    CHECK_ERROR("name_moved", rename(slave_name, "/dev/pts/9"), EPERM);
    CHECK("name_chmod", chmod(slave_name, 0600) == 0 && stat(slave_name, &status) == 0 &&
                            S_ISCHR(status.st_mode) && (status.st_mode & 0777) == 0600);
    CHECK_ERROR("name_in_proc", open("/proc/new", O_CREAT | O_WRONLY, 0600), ENOENT);
    CHECK_ERROR("directory_in_proc", mkdir("/proc/new", 0700), ENOENT);
    CHECK("name_statfs", statfs("/dev/pts", &fs) == 0 && fs.f_type == 0x1cd1);
}

int main(void)
{
    test_begin("tty");
    signal(SIGTTOU, SIG_IGN);
    CHECK("open_pair", open_pair());
    if (master >= 0) {
        test_lines();
        test_names();
        close(master);
        test_sessions();
    }
    return test_end();
}
