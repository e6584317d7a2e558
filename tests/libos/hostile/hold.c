/* SPDX-License-Identifier: MIT
 *
 * A process that holds on to the pages of files that are made short meanwhile, mapped to be read
 * and to be written: what is written to other files must never show in what it holds, and when it
 * has gone the pages are there for others again, as often as this is done. */
#include <sys/socket.h>
#include "hostile.h"

#define PAGE 4096ul
#define PAGES 1024ul /* of the file */
#define SHARED 32ul /* of them are mapped to be written */
#define ROUNDS 6
#define OLD 0x5a
#define NEW 0x33

static volatile unsigned char *held[2]; /* read-only, private; shared, writable */

/* On Linux what lies behind a file's end is a signal. */
static void gone(int signal)
{
    (void)signal;
    _exit(7);
}

/* Waits until it is told, looks at all that it holds: 7 nothing new is in it. */
static void hold(int fd, int told)
{
    char byte;
    signal(SIGBUS, gone);
    held[0] = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    held[1] = mmap(NULL, SHARED * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (held[0] == MAP_FAILED || held[1] == MAP_FAILED) _exit(1);
    for (unsigned long i = 0; i < PAGES; i++) {
        if (held[0][i * PAGE] != OLD) _exit(2);
        if (i < SHARED) held[1][i * PAGE] = OLD;
    }
    if (write(told, "r", 1) != 1 || read(told, &byte, 1) != 1) _exit(3);
    for (unsigned long i = 0; i < PAGES; i++)
        if (held[0][i * PAGE + 1] == NEW || (i < SHARED && held[1][i * PAGE + 1] == NEW)) _exit(4);
    _exit(7);
}

static bool fill(int fd, int value)
{
    static char page[PAGE];
    memset(page, value, PAGE);
    for (unsigned long i = 0; i < PAGES; i++)
        if (pwrite(fd, page, PAGE, (off_t)(i * PAGE)) != (ssize_t)PAGE) return false;
    return true;
}

/* One such process; others' files are written while it looks. */
static bool round_good(void)
{
    int ends[2], status = -1, fd = open("held", O_RDWR | O_CREAT | O_TRUNC, 0644);
    int other = open("other", O_RDWR | O_CREAT | O_TRUNC, 0644);
    char byte;
    if (fd < 0 || other < 0 || !fill(fd, OLD) || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        hold(fd, ends[1]);
    }
    close(ends[1]);
    bool good = read(ends[0], &byte, 1) == 1 && ftruncate(fd, 0) == 0 && fill(other, NEW);
    good = write(ends[0], "l", 1) == 1 && good;
    good = waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7 && good;
    close(ends[0]);
    close(fd);
    close(other);
    return good && unlink("held") == 0 && unlink("other") == 0;
}

int main(void)
{
    test_begin("hold");
    test_directory();
    hostile_all_well();
    long before = hostile_free_kib();
    for (int i = 0; i < ROUNDS; i++)
        CHECK("round", round_good());
    CHECK("given_back", hostile_given_back(before, 4096));
    CHECK("all_well", hostile_all_well());
    return test_end();
}
