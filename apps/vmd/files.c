/* SPDX-License-Identifier: MIT
 *
 * Writing cpio archives (newc: lib/exo/archive.c reads them). */
#include "vmd.h"

#define HEADER 110
#define FIELDS 13
#define FIELD_MODE 1
#define FIELD_LINKS 4
#define FIELD_SIZE 6
#define FIELD_NAME 11
#define REGULAR 0100644
#define BYTES_MAX (1ul << 30)
#define END "TRAILER!!!"

static uint64_t align(uint64_t n) { return (n + 3) & ~3ul; }

/* Names are stored with "./" before them, which readers leave out. */
static uint64_t head_size(const char *name) { return align(HEADER + strlen(name) + 3); }

uint64_t cpio_size(const char *name, uint64_t bytes)
{
    return bytes > BYTES_MAX ? 0 : head_size(name) + align(bytes);
}

uint64_t cpio_end_size(void) { return cpio_size(END, 0); }

uint64_t cpio_begin(char *to, const char *name, uint64_t bytes)
{
    uint64_t field[FIELDS] = {0}, size = head_size(name);
    field[FIELD_MODE] = REGULAR;
    field[FIELD_LINKS] = 1;
    field[FIELD_SIZE] = bytes;
    field[FIELD_NAME] = strlen(name) + 3;
    memset(to, 0, size);
    memcpy(to, "070701", 6);
    for (unsigned i = 0; i < FIELDS; i++) {
        char digits[9];
        exo_format(digits, sizeof(digits), "%08lx", field[i]);
        memcpy(to + 6 + 8 * i, digits, 8);
    }
    memcpy(to + HEADER, "./", 2);
    memcpy(to + HEADER + 2, name, strlen(name));
    return size;
}

uint64_t cpio_pad(char *to, uint64_t bytes)
{
    uint64_t n = align(bytes) - bytes;
    memset(to, 0, n);
    return n;
}

uint64_t cpio_end(char *to) { return cpio_begin(to, END, 0); }
