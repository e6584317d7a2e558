/* SPDX-License-Identifier: MIT
 *
 * The commands of the console. */
#include "console.h"

#define LINE_SIZE 80
#define CALLS 100000

static void time_null(void)
{
    uint64_t start = exo_tsc();
    for (int i = 0; i < CALLS; i++)
        exo_null();
    uint64_t ticks = exo_tsc() - start;
    exo_printf("%u calls that do nothing: %lu ticks, %lu ns each\n", CALLS, ticks / CALLS,
               ticks * 1000 / (exo.start.tsc_hz / 1000000) / CALLS);
}

struct command {
    const char *name;
    void (*run)(void);
    const char *help;
    void (*order)(char *arguments); /* instead of run: what takes arguments */
};

static void help(void);

static const struct command commands[] = {
    {"help", help, "this list", NULL},
    {"mem", show_memory, "what each frame of RAM is, and whose page tables and objects", NULL},
    {"slots", show_slots, "who owns which time slots", NULL},
    {"irqs", show_irqs, "who is told of which interrupts, and how many there were", NULL},
    {"cpus", show_cpus, "what runs, and how many slices began with nobody to run", NULL},
    {"caps", show_caps, "the capabilities of this console itself", NULL},
    {"bench-null", time_null, "times a system call that does nothing", NULL},
    {"vm", NULL, "NAME info | mem-set MIB | pause | unpause | shutdown | reboot | destroy",
     vm_order},
    {"fault", fault_in_child, "makes a child env, which faults; nothing else is hurt", NULL},
    {"quit", NULL, "ends this console, and with it the emulator", NULL},
};

static void help(void)
{
    for (size_t i = 0; i < EXO_COUNT(commands); i++)
        exo_printf("  %-10s  %s\n", commands[i].name, commands[i].help);
}

/* The line's first word; *rest is what follows it. */
static char *first_word(char *line, char **rest)
{
    while (*line == ' ')
        line++;
    char *end = strchr(line, ' ');
    *rest = end ? end + 1 : line + strlen(line);
    if (end) *end = 0;
    return line;
}

/* False: it was quit. */
static bool obey(char *line)
{
    char *rest, *name = first_word(line, &rest);
    if (!*name) return true;
    for (size_t i = 0; i < EXO_COUNT(commands); i++) {
        if (strcmp(commands[i].name, name)) continue;
        if (commands[i].order)
            commands[i].order(rest);
        else if (commands[i].run)
            commands[i].run();
        return commands[i].order || commands[i].run;
    }
    exo_printf("there is no command '%s'; 'help' lists what there is\n", name);
    return true;
}

void commands_run(void)
{
    char line[LINE_SIZE];
    if (commands_shown())
        exo_printf(
            "\nThis is exovisor, an exokernel, on %u CPU%s. You are in a program of its; it can "
            "see\nwho owns the machine, and owns little of it. Type 'help', or 'quit' to end.\n",
            exo.start.cpus, exo.start.cpus == 1 ? "" : "s");
    do
        line_read("exo> ", line, sizeof(line));
    while (obey(line));
    exo_printf("bye\n");
}
