/* SPDX-License-Identifier: MIT
 *
 * The console: an ordinary program with the serial port, its interrupt and the exposed
 * tables, in which one can look at who owns the machine. */
#ifndef CONSOLE_H
#define CONSOLE_H
#include "../../lib/exo/exo.h"

/* serial.c: the driver of the serial port's receiver. */
long serial_open(void);
char serial_read(void); /* waits */

/* line.c: reads a line with editing; at most size - 1 characters. */
void line_read(const char *prompt, char *line, size_t size);

/* tables.c: what the exposed tables say. */
void show_memory(void);
void show_slots(void);
void show_irqs(void);
void show_cpus(void);
void show_caps(void);

/* child.c */
void fault_in_child(void);
_Noreturn void fault_on_purpose(void);
#define CHILD_ARGS "fault"
#endif
