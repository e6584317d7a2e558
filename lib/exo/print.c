/* SPDX-License-Identifier: MIT
 *
 * Formatted text to the console, which is COM1 through the ports capability that
 * the startup page names, or to the program's own writer. Nothing is printed by a program
 * that has neither. */
#include "exo.h"

#define COM1_DATA 0x3f8 /* 16550 data sheet: transmitter holding register */
#define COM1_LINE 0x3fd /* line status; bit 5: the holding register is empty */
#define COM1_EMPTY 0x20
#define COM1_TRIES 10000 /* then the character is sent anyway */

void (*exo_writer)(const char *text, size_t length);

void exo_write(const char *text, size_t length)
{
    uint32_t sel = exo.start.sel_console;
    if (exo_writer) return exo_writer(text, length);
    if (!sel) return;
    for (size_t i = 0; i < length; i++) {
        for (int tries = 0; tries < COM1_TRIES; tries++) {
            long status = exo_port_in(sel, COM1_LINE, 1);
            if (status < 0) return;
            if (status & COM1_EMPTY) break;
        }
        exo_port_out(sel, COM1_DATA, 1, (uint8_t)text[i]);
    }
}

int exo_printf(const char *format, ...)
{
    char line[512];
    va_list list;
    va_start(list, format);
    int n = exo_vformat(line, sizeof(line), format, list);
    va_end(list);
    exo_write(line, strlen(line));
    return n;
}
