/* SPDX-License-Identifier: MIT
 *
 * The console: an ordinary program with the serial port, its interrupt and the exposed
 * tables. It shows one of several programs at a time: those that have a channel to it with
 * the tag console (virtual machines, usually), or its own commands, in which one can look
 * at who owns the machine. */
#ifndef CONSOLE_H
#define CONSOLE_H
#include "../../lib/exo/channel.h"

#define EV_INPUT 1ul /* event: the serial port has something */

/* serial.c: the driver of the serial port's receiver. */
long serial_open(void);
/* A character, or -1: there is none, and EV_INPUT will say when there is. */
int serial_poll(void);

/* guests.c: the programs shown, and the keys that switch between them. */
void guests_open(void);
/* Shows what is to be seen at the start: the guest, where there is just one, or the one of
 * that name ("": none). */
void guests_start(const char *first);
/* A key for the commands; waits, and serves the guests meanwhile. REDRAW: the commands
 * are shown again, so the line being typed is to be printed again. */
int key_read(void);
#define REDRAW (-1)

bool commands_shown(void);

/* line.c: reads a line with editing; at most size - 1 characters. */
void line_read(const char *prompt, char *line, size_t size);

/* commands.c: reads and obeys commands until quit. */
void commands_run(void);

/* control.c: an order to a virtual machine's monitor, and its answer. */
void vm_order(char *arguments);

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
