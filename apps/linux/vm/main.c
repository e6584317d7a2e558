/* SPDX-License-Identifier: MIT
 *
 * The commands of vm. */
#include "vm.h"
#include <string.h>
#include <unistd.h>

static void usage(FILE *to)
{
    fputs("vm COMMAND: virtual machines, in the words of xl\n"
          "  create [-c] FILE [KEY=VALUE ...]  make one from a configuration (xl.cfg)\n"
          "  run [-b] [-m MIB] [-n NAME] FILE [ARGUMENT ...]\n"
          "                                    a program of the exokernel's own, in an env\n"
          "                                    beside the machines; -b: without its console\n"
          "  list                              those that run\n"
          "  console NAME                      its console; Ctrl-] leaves\n"
          "  pause | unpause NAME              its virtual CPUs stand still, go on\n"
          "  shutdown | reboot NAME            the power button; the reset button\n"
          "  destroy NAME                      end it at once\n"
          "  mem-set NAME MIB                  what its balloon is to leave it\n"
          "  top [-b] [-d SECONDS] [-n TIMES]  time, exits, memory, input and output, live\n"
          "  info                              what the host is\n"
          "  dmesg                             the log of the manager and its monitors\n",
          to);
}

static int list(void)
{
    static struct stats stats;
    char state[7];
    if (!stats_get(&stats)) return 1;
    printf("Name                                        ID   Mem VCPUs\tState\tTime(s)\n");
    for (unsigned i = 0; i < stats.count; i++) {
        const struct machine *m = &stats.machine[i];
        state_text(m->state, state);
        printf("%-40s %5u %5llu %5u     %s  %8.1f\n", m->name, m->id, m->kib >> 10, m->vcpus, state,
               (double)m->ticks / (double)stats.hz);
    }
    return 0;
}

/* A request with a plain reply, which is printed. */
static int plain(const char *request, const char *name, const char *value)
{
    struct vm_link link;
    bool good = vm_open(&link, "vm") &&
                vm_send(&link, "%s%s%s%s%s\n", request, name ? " " : "", name ? name : "",
                        value ? " " : "", value ? value : "") &&
                vm_reply(&link, NULL);
    vm_close(&link);
    return !good;
}

static int wrong(void)
{
    usage(stderr);
    return 2;
}

int main(int argc, char **argv)
{
    static const char *const named[] = {"pause", "unpause", "shutdown", "reboot", "destroy"};
    const char *command = argc > 1 ? argv[1] : "";
    if (!strcmp(command, "help")) {
        usage(stdout);
        return 0;
    }
    if (!strcmp(command, "create")) return argc > 2 ? create(argc - 2, argv + 2) : wrong();
    if (!strcmp(command, "run")) return run(argc - 1, argv + 1);
    if (!strcmp(command, "top")) return top(argc - 1, argv + 1);
    if (!strcmp(command, "list")) return argc == 2 ? list() : wrong();
    if (!strcmp(command, "console")) return argc == 3 ? console(argv[2]) : wrong();
    if (!strcmp(command, "mem-set")) return argc == 4 ? plain(command, argv[2], argv[3]) : wrong();
    if (!strcmp(command, "info") || !strcmp(command, "dmesg"))
        return argc == 2 ? plain(command, NULL, NULL) : wrong();
    for (size_t i = 0; i < sizeof(named) / sizeof(*named); i++)
        if (!strcmp(command, named[i])) return argc == 3 ? plain(command, argv[2], NULL) : wrong();
    return wrong();
}
