/* SPDX-License-Identifier: MIT
 *
 * What the programs `vm` and `exo` share: ordinary Linux programs with a C library. */
#ifndef TEXT_H
#define TEXT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* The lines of a text, in memory of their own. */
struct lines {
    char *text;
    char **line; /* without their ends */
    size_t count;
};
void lines_add(struct lines *lines, const char *line);
void lines_free(struct lines *lines);
/* Reads a whole file; false, and a message, where that fails. */
bool lines_read(struct lines *lines, const char *path);

/* Asks vmd through /dev/vm (docs/manage.md): the body's lines, without their space. False,
 * with a message to standard error after `program: `, when it refused or is not there. */
struct vm_link {
    int fd;
    const char *program;
    char buffer[4096]; /* read, and not taken yet: [at, end) */
    size_t at, end;
};
bool vm_open(struct vm_link *link, const char *program);
/* Sends a request's line, or any bytes. */
bool vm_send(struct vm_link *link, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool vm_write(struct vm_link *link, const void *data, size_t n);
/* The next line, without its end; false: there are no more. line: of `size` bytes. */
bool vm_line(struct vm_link *link, char *line, size_t size);
/* Reads a reply up to its last line; body may be NULL: it is printed to standard output. */
bool vm_reply(struct vm_link *link, struct lines *body);
void vm_close(struct vm_link *link);

/* Waits so many seconds, or until a key is pressed when standard input is a terminal in raw
 * mode (tty_raw): the key, or -1. */
int key_wait(double seconds);
bool tty_raw(void); /* until the program's end */
void tty_restore(void);
#endif
