/* SPDX-License-Identifier: MIT
 *
 * Programs that fill what one server, or kernel, keeps for all: names of files of every length,
 * links, watched descriptors, texts of /proc. Who runs out gets an error; neighbours go on, and
 * what was given back in one size is there in another. */
#include <sys/epoll.h>
#include <sys/socket.h>
#include "hostile.h"

#define NAMES 24000 /* more than exovisor has room for, few enough for Linux */
#define LINKS 3000
#define EPOLLS 100
#define WATCHED 100
#define TEXTS 200

static bool neighbours_well(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    char text[512];
    int e = epoll_create1(0), proc = open("/proc/self/stat", O_RDONLY), ends[2];
    bool good = e >= 0 && pipe(ends) == 0 && epoll_ctl(e, EPOLL_CTL_ADD, ends[0], &event) == 0;
    good = good && read(proc, text, sizeof text) > 20 && hostile_all_well();
    close(ends[0]);
    close(ends[1]);
    close(proc);
    close(e);
    return good;
}

static void name_of(char name[256], unsigned i, size_t length)
{
    memset(name, 'n', length);
    snprintf(name + length, 256 - length, "%u", i);
}

/* Makes files with long names until there is no room. */
static unsigned names_make(size_t length)
{
    char name[256];
    unsigned made = 0;
    for (; made < NAMES; made++) {
        name_of(name, made, length);
        if (mknod(name, S_IFREG | 0600, 0) < 0) break;
    }
    return made;
}

static bool names_remove(unsigned made, size_t length)
{
    char name[256];
    bool good = true;
    for (unsigned i = 0; i < made; i++) {
        name_of(name, i, length);
        good &= unlink(name) == 0;
    }
    return good;
}

static void test_names(void)
{
    static char target[900];
    char name[16];
    unsigned made = names_make(200);
    CHECK("names", made == NAMES || (made > 1000 && errno == ENOSPC));
    CHECK("names_well", neighbours_well());
    CHECK("names_removed", names_remove(made, 200));
    memset(target, 't', sizeof target - 1);
    bool good = true;
    for (unsigned i = 0; i < LINKS && good; i++) {
        snprintf(name, sizeof name, "l%u", i);
        good = symlink(target, name) == 0;
    }
    CHECK("links_after_names", good);
    CHECK("links_well", neighbours_well());
    for (unsigned i = 0; i < LINKS && good; i++) {
        snprintf(name, sizeof name, "l%u", i);
        good = unlink(name) == 0;
    }
    CHECK("links_removed", good);
    made = names_make(20);
    CHECK("names_after_links", made == NAMES || (made > 5000 && errno == ENOSPC));
    CHECK("names_removed_again", names_remove(made, 20));
}

/* Watches a descriptor by many epolls, as often as it can, and stays. */
static void watch_all(int told)
{
    struct epoll_event event = {.events = EPOLLIN};
    int fds[WATCHED];
    for (unsigned i = 0; i < WATCHED; i++)
        fds[i] = dup(told);
    bool room = true;
    for (unsigned n = 0; n < EPOLLS && room; n++) {
        int e = epoll_create1(0);
        for (unsigned i = 0; i < WATCHED && room; i++)
            room = epoll_ctl(e, EPOLL_CTL_ADD, fds[i], &event) == 0 || errno != ENOSPC;
    }
    char byte = 'r';
    if (write(told, &byte, 1) == 1 && read(told, &byte, 1) == 1) _exit(7);
    _exit(1);
}

/* Opens texts as often as it can, and stays. */
static void read_all(int told)
{
    char byte = 'r';
    for (unsigned i = 0; i < TEXTS; i++)
        if (open("/proc/mounts", O_RDONLY) < 0 || open("/proc/self/status", O_RDONLY) < 0) break;
    if (write(told, &byte, 1) == 1 && read(told, &byte, 1) == 1) _exit(7);
    _exit(1);
}

static bool beside(void (*child)(int))
{
    int ends[2], status = -1;
    char byte;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0) return false;
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        child(ends[1]);
    }
    close(ends[1]);
    bool good = read(ends[0], &byte, 1) == 1 && neighbours_well() && write(ends[0], "e", 1) == 1;
    close(ends[0]);
    return waitpid(pid, &status, 0) == pid && status == 7 << 8 && good;
}

int main(void)
{
    test_begin("names");
    test_directory();
    CHECK("well", neighbours_well());
    test_names();
    CHECK("watches", beside(watch_all));
    CHECK("texts", beside(read_all));
    CHECK("all_well", neighbours_well());
    return test_end();
}
