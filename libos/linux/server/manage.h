/* SPDX-License-Identifier: MIT
 *
 * The machine as processes see it: /dev/vm, a conversation with the program that manages
 * virtual machines (docs/manage.md), and /proc/exo, the exokernel's exposed tables as text. */
#ifndef LX_MANAGE_H
#define LX_MANAGE_H
#include "files/files.h"

/* Registers /dev/vm, where the configuration gives a channel with the tag vm. At the start;
 * then vm_dev_poll at every one of vm_dev_events (bits of the first thread). */
void vm_dev_init(void);
uint64_t vm_dev_events(void);
void vm_dev_poll(void);

/* Registers the files of /proc/exo, where the configuration gives the tables. */
void proc_exo_init(void);
#endif
