/* SPDX-License-Identifier: MIT
 *
 * vm console: the terminal becomes the machine's, until Ctrl-]. */
#include "vm.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define LEAVE 0x1d /* Ctrl-] */

static bool show(const char *text, size_t n)
{
    while (n) {
        ssize_t done = write(STDOUT_FILENO, text, n);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        text += done;
        n -= (size_t)done;
    }
    return true;
}

/* What was typed goes to the machine; false: it was Ctrl-], or there is no more. */
static bool typed(struct vm_link *link)
{
    char text[256];
    ssize_t n = read(STDIN_FILENO, text, sizeof(text));
    if (n < 0 && errno == EINTR) return true;
    if (n <= 0) return false;
    char *leave = memchr(text, LEAVE, (size_t)n);
    size_t keep = leave ? (size_t)(leave - text) : (size_t)n;
    return vm_write(link, text, keep) && !leave;
}

static int carry(struct vm_link *link, const char *name)
{
    struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                            {.fd = link->fd, .events = POLLIN}};
    char text[4096];
    show(link->buffer + link->at, link->end - link->at);
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) return 1;
        if (fds[1].revents) {
            ssize_t n = read(link->fd, text, sizeof(text));
            if (n == 0) {
                printf("\r\n[%s has ended]\r\n", name);
                return 0;
            }
            if (n > 0) show(text, (size_t)n);
        }
        if (fds[0].revents && !typed(link)) return 0;
    }
}

int console_show(struct vm_link *link, const char *name)
{
    fprintf(stderr, "[%s: Ctrl-] leaves]\n", name);
    tty_raw();
    int status = carry(link, name);
    tty_restore();
    putchar('\n');
    return status;
}

int console(const char *name)
{
    struct vm_link link;
    int status = 1;
    if (vm_open(&link, "vm") && vm_send(&link, "console %s\n", name) && vm_reply(&link, NULL))
        status = console_show(&link, name);
    vm_close(&link);
    return status;
}
