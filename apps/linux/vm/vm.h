/* SPDX-License-Identifier: MIT
 *
 * vm: virtual machines from the shell, in the words of xl(1). */
#ifndef VM_H
#define VM_H
#include "../common/text.h"
#include <stdint.h>

#define REASONS 32
#define MACHINES_MAX 64

struct io {
    unsigned long long count, out, out_bytes, in, in_bytes;
};
struct machine {
    char name[64];
    unsigned id, vcpus;
    char state;
    unsigned long long ticks, kib, balloon_kib;
    struct io disk, net;
    unsigned long long exits[REASONS];
};
struct stats {
    unsigned long long now, hz, kib, free_kib;
    unsigned cpus;
    unsigned count;
    struct machine machine[MACHINES_MAX];
};

/* stats.c: asks for the numbers; false, with a message, where that fails. */
bool stats_get(struct stats *stats);
/* The state in xl's form: "r-----". text: of 7 bytes. */
void state_text(char state, char *text);

/* create.c: each ends with an exit status. */
int create(int argc, char **argv);
int run(int argc, char **argv); /* a program of the exokernel's own */
/* console.c: until Ctrl-] or the machine's end. */
int console(const char *name);
/* The same for a conversation that shows one already. */
int console_show(struct vm_link *link, const char *name);
/* top.c */
int top(int argc, char **argv);
#endif
