/* SPDX-License-Identifier: MIT
 *
 * What the console shows, for its tests: echoes each key with the program's argument in
 * front of it, and knows a few keys: f writes more than the console keeps, t asks the
 * terminal where its cursor is, x ends the program, d dies. */
#include "../../../lib/exo/channel.h"

#define FLOOD 20000 /* lines of 8 characters */

static struct exo_channel channel;

static void say(const char *text, size_t n)
{
    while (n && !exo_channel_closed(&channel)) {
        size_t done = exo_channel_write(&channel, text, n);
        if (!done) exo_event_wait(channel.event, 0);
        text += done;
        n -= done;
    }
}

static char key(void)
{
    char c;
    while (!exo_channel_read(&channel, &c, 1))
        exo_event_wait(channel.event, 0);
    return c;
}

static void flood(void)
{
    char line[16];
    for (unsigned i = 0; i < FLOOD; i++)
        say(line, (size_t)exo_format(line, sizeof(line), "%06u\r\n", i));
}

int main(struct exo_startup *start)
{
    long r = exo_channel_find(&channel, "console", NULL);
    if (r < 0) return 1;
    exo_writer = say;
    exo_printf("talker %s is here\r\n", start->args);
    for (;;) {
        char c = key();
        exo_printf("%s: %x\r\n", start->args, (unsigned)(unsigned char)c);
        if (c == 'f') flood();
        if (c == 't') exo_printf("<\033[6n>\r\n");
        if (c == 'd') __asm__ volatile("ud2");
        if (c == 'x') return 3;
    }
}
