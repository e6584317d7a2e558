/* SPDX-License-Identifier: MIT
 *
 * See text.h. */
#include "text.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define DEVICE "/dev/vm"
#define LINE 4096

static void *checked(void *memory)
{
    if (memory) return memory;
    fprintf(stderr, "no memory\n");
    exit(1);
}

void lines_add(struct lines *lines, const char *line)
{
    lines->line = checked(realloc(lines->line, (lines->count + 1) * sizeof(char *)));
    lines->line[lines->count++] = checked(strdup(line));
}

void lines_free(struct lines *lines)
{
    for (size_t i = 0; i < lines->count; i++)
        free(lines->line[i]);
    free(lines->line);
    *lines = (struct lines){0};
}

static bool line_get(FILE *file, char *line, size_t size)
{
    if (!fgets(line, (int)size, file)) return false;
    line[strcspn(line, "\n")] = 0;
    return true;
}

bool lines_read(struct lines *lines, const char *path)
{
    char line[LINE];
    FILE *file = fopen(path, "r");
    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    while (line_get(file, line, sizeof(line)))
        lines_add(lines, line);
    fclose(file);
    return true;
}

bool vm_open(struct vm_link *link, const char *program)
{
    *link = (struct vm_link){.fd = open(DEVICE, O_RDWR | O_CLOEXEC), .program = program};
    if (link->fd < 0) fprintf(stderr, "%s: %s: %s\n", program, DEVICE, strerror(errno));
    return link->fd >= 0;
}

void vm_close(struct vm_link *link)
{
    if (link->fd >= 0) close(link->fd);
    link->fd = -1;
}

bool vm_write(struct vm_link *link, const void *data, size_t n)
{
    while (n) {
        ssize_t done = write(link->fd, data, n);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            fprintf(stderr, "%s: the manager of machines does not listen\n", link->program);
            return false;
        }
        data = (const char *)data + done;
        n -= (size_t)done;
    }
    return true;
}

bool vm_send(struct vm_link *link, const char *format, ...)
{
    char line[LINE];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(line, sizeof(line), format, list);
    va_end(list);
    return n >= 0 && (size_t)n < sizeof(line) && vm_write(link, line, (size_t)n);
}

bool vm_line(struct vm_link *link, char *line, size_t size)
{
    for (size_t n = 0;;) {
        if (link->at == link->end) {
            ssize_t got = read(link->fd, link->buffer, sizeof(link->buffer));
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) return false;
            link->at = 0;
            link->end = (size_t)got;
        }
        char c = link->buffer[link->at++];
        if (c == '\n') {
            line[n] = 0;
            return true;
        }
        if (n + 1 < size) line[n++] = c;
    }
}

bool vm_reply(struct vm_link *link, struct lines *body)
{
    char line[LINE];
    while (vm_line(link, line, sizeof(line))) {
        if (!strcmp(line, "ok")) return true;
        if (line[0] == ' ' && body)
            lines_add(body, line + 1);
        else if (line[0] == ' ')
            puts(line + 1);
        else
            break;
    }
    bool told = !strncmp(line, "error ", 6);
    fprintf(stderr, "%s: %s\n", link->program, told ? line + 6 : "the manager has ended");
    return false;
}

/* ---- the terminal ------------------------------------------------------------------------- */

static struct termios before;
static bool changed;

void tty_restore(void)
{
    if (changed) tcsetattr(STDIN_FILENO, TCSANOW, &before);
    changed = false;
}

bool tty_raw(void)
{
    if (tcgetattr(STDIN_FILENO, &before) < 0) return false;
    struct termios raw = before;
    raw.c_iflag &= ~(tcflag_t)(BRKINT | ICRNL | INLCR | IGNCR | INPCK | ISTRIP | IXON);
    raw.c_oflag &= ~(tcflag_t)OPOST;
    raw.c_lflag &= ~(tcflag_t)(ECHO | ICANON | IEXTEN | ISIG);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0) return false;
    changed = true;
    atexit(tty_restore);
    return true;
}

int key_wait(double seconds)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    unsigned char key;
    int timeout = (int)(seconds * 1000);
    if (!changed) {
        poll(NULL, 0, timeout);
        return -1;
    }
    if (poll(&input, 1, timeout) <= 0) return -1;
    return read(STDIN_FILENO, &key, 1) == 1 ? key : -1;
}
