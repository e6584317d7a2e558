/* SPDX-License-Identifier: MIT
 *
 * The machine's console as a terminal: the channel with the tag "console", or, where the
 * configuration gives none, output alone to wherever the server's own text goes. Owner: the
 * server; no locks, it is one thread. Bytes that one side has and the other does not take
 * yet stay in typed and shown; nothing is lost while the channel lives. */
#include "tty.h"
#include "../files/files.h"
#include "../../../../lib/exo/channel.h"

#define CONSOLE_ROWS 24
#define CONSOLE_COLUMNS 80

struct tty console;

static struct exo_channel channel;
static bool has_channel, reading, writing;
static struct staged {
    uint8_t bytes[512];
    size_t at, end;
} typed, shown;

/* Everything of `shown`, and whether it is gone. */
static bool console_show(void)
{
    size_t n = shown.end - shown.at;
    if (!has_channel)
        exo_write((char *)shown.bytes + shown.at, n);
    else if (!exo_channel_broken(&channel) && !exo_channel_closed(&channel))
        n = exo_channel_write(&channel, shown.bytes + shown.at, n);
    shown.at += n;
    return shown.at == shown.end;
}

static void console_output(struct tty *tty)
{
    if (writing) return; /* tty_take woke somebody who writes */
    writing = true;
    while (console_show()) {
        shown.at = 0;
        shown.end = tty_take(tty, shown.bytes, sizeof(shown.bytes));
        if (!shown.end) break;
    }
    writing = false;
}

static void console_input(struct tty *tty)
{
    if (reading || !has_channel) return; /* a typed character made room for itself */
    reading = true;
    for (;;) {
        typed.at += tty_input(tty, typed.bytes + typed.at, typed.end - typed.at);
        if (typed.at != typed.end) break;
        typed.at = 0;
        typed.end = exo_channel_read(&channel, typed.bytes, sizeof(typed.bytes));
        if (!typed.end) break;
    }
    reading = false;
}

uint64_t console_events(void) { return has_channel ? channel.event : 0; }

void console_poll(void)
{
    console_input(&console);
    console_output(&console);
}

void console_init(void)
{
    static const struct {
        const char *name;
        unsigned major, minor;
    } names[] = {{"console", 5, 1}, {"tty1", 4, 1}, {"ttyS0", 4, 64}};
    tty_init(&console);
    console.size.ws_row = CONSOLE_ROWS;
    console.size.ws_col = CONSOLE_COLUMNS;
    console.device = LX_DEV(names[0].major, names[0].minor);
    console.output = console_output;
    console.resume = console_input;
    has_channel = exo_channel_find(&channel, NULL, "console") == 0;
    for (unsigned i = 0; i < EXO_COUNT(names); i++) {
        long r = dev_register(names[i].name, S_IFCHR | 0620, LX_DEV(names[i].major, names[i].minor),
                              &tty_dev_ops, &console);
        if (r < 0) log_line("/dev/%s: error %ld", names[i].name, -r);
    }
}
