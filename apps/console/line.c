/* SPDX-License-Identifier: MIT
 *
 * Line editing: backspace (or delete), ctrl-U and ctrl-C for the whole line. */
#include "console.h"

#define CTRL(c) ((c)&0x1f)
#define DELETE 0x7f

static void rub_out(size_t n)
{
    while (n--)
        exo_write("\b \b", 3);
}

void line_read(const char *prompt, char *line, size_t size)
{
    size_t used = 0;
    if (commands_shown()) exo_write(prompt, strlen(prompt));
    for (;;) {
        int key = key_read();
        char c = (char)key;
        if (key == REDRAW) {
            exo_write(prompt, strlen(prompt));
            exo_write(line, used);
        } else if (c == '\r' || c == '\n') {
            break;
        } else if (c == CTRL('H') || c == DELETE) {
            rub_out(used != 0);
            used -= used != 0;
        } else if (c == CTRL('U') || c == CTRL('C')) {
            rub_out(used);
            used = 0;
        } else if (c < ' ' || used + 1 == size) {
            exo_write("\a", 1);
        } else {
            line[used++] = c;
            exo_write(&c, 1);
        }
    }
    line[used] = 0;
    exo_write("\n", 1);
}
