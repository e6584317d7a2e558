/* SPDX-License-Identifier: MIT
 *
 * The first serial port, as the kernel uses it: output by polling, at boot and in a
 * panic. Afterwards the port belongs to whom root gives it.
 * Registers: National Semiconductor PC16550D data sheet, 8.
 */
#include "x86.h"

#define COM1 0x3f8
enum { DATA = COM1, INTERRUPTS, FIFO, LINE, MODEM, LINE_STATUS };
#define LINE_DIVISOR 0x80
#define LINE_8N1 0x03
#define STATUS_EMPTY 0x20
#define PATIENCE 100000 /* polls; without a port the status reads as ready (0xff) */

void serial_init(void)
{
    port_write(INTERRUPTS, 1, 0);
    port_write(LINE, 1, LINE_DIVISOR);
    port_write(DATA, 1, 1); /* 115200 baud */
    port_write(INTERRUPTS, 1, 0);
    port_write(LINE, 1, LINE_8N1);
    port_write(FIFO, 1, 0x07);
    port_write(MODEM, 1, 0x03);
}

void serial_put(char c)
{
    if (c == '\n') serial_put('\r');
    for (unsigned i = 0; i < PATIENCE && !(port_read(LINE_STATUS, 1) & STATUS_EMPTY); i++)
        __builtin_ia32_pause();
    port_write(DATA, 1, (uint8_t)c);
}
