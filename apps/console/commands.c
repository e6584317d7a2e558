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
};

static void help(void);

static const struct command commands[] = {
    {"help", help, "this list"},
    {"mem", show_memory, "what each frame of RAM is, and whose page tables and objects"},
    {"slots", show_slots, "who owns which time slots"},
    {"irqs", show_irqs, "who is told of which interrupts, and how many there were"},
    {"cpus", show_cpus, "what runs, and how many slices began with nobody to run"},
    {"caps", show_caps, "the capabilities of this console itself"},
    {"bench-null", time_null, "times a system call that does nothing"},
    {"fault", fault_in_child, "makes a child env, which faults; nothing else is hurt"},
    {"quit", NULL, "ends this console, and with it the emulator"},
};

static void help(void)
{
    for (size_t i = 0; i < EXO_COUNT(commands); i++)
        exo_printf("  %-10s  %s\n", commands[i].name, commands[i].help);
}

/* The first word alone: no command takes an argument. */
static char *first_word(char *line)
{
    while (*line == ' ')
        line++;
    char *end = strchr(line, ' ');
    if (end) *end = 0;
    return line;
}

/* False: it was quit. */
static bool obey(const char *name)
{
    if (!*name) return true;
    for (size_t i = 0; i < EXO_COUNT(commands); i++) {
        if (strcmp(commands[i].name, name)) continue;
        if (!commands[i].run) return false;
        commands[i].run();
        return true;
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
    while (obey(first_word(line)));
    exo_printf("bye\n");
}
