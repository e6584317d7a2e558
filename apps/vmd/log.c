/* SPDX-License-Identifier: MIT
 *
 * The log: what we say, and what monitors and switches say, the last bytes of it. Other
 * programs' words are shown as text: nothing but characters and ends of lines. */
#include "vmd.h"

#define LOG_SIZE 16384u

static struct exo_kept kept;
static struct exo_channel console;
static bool has_console;
static struct text *captured;
static bool captured_alone;

void log_write(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c != '\n' && (c < ' ' || c > '~')) continue;
        exo_kept_put(&kept, &c, 1);
        if (has_console) exo_channel_write(&console, &c, 1);
    }
}

static void say(const char *text, size_t n)
{
    if (!captured_alone) log_write(text, n);
    if (captured) text_body(captured, text, n);
}

void log_open(void)
{
    if (exo_kept_make(&kept, LOG_SIZE) < 0) exo_exit(-EXO_E_LIMIT);
    has_console = exo_channel_find(&console, NULL, "log") == 0;
    exo_writer = say;
}

void log_capture(struct text *text, bool alone)
{
    captured = text;
    captured_alone = alone;
}

void log_read(struct text *text)
{
    struct exo_kept_reader reader;
    char piece[512];
    exo_kept_begin(&kept, &reader);
    for (size_t n; (n = exo_kept_read(&kept, &reader, piece, sizeof(piece)));)
        text_body(text, piece, n);
}
