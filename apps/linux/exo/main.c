/* SPDX-License-Identifier: MIT
 *
 * exo: the exokernel's own tables, from /proc/exo, with names where somebody gives some: root
 * for its programs, the Linux server for its processes, the manager for its machines. */
#include "../common/text.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OWNERS 512
#define CPUS 32
#define IRQS 192

static struct owner {
    unsigned long env; /* 0: only a range */
    unsigned long first, frames; /* of memory, in which nameless envs are its children */
    unsigned long used;
    char name[48];
} owners[OWNERS];
static unsigned owner_count;

static struct owner *owner_new(void)
{
    static struct owner lost;
    return owner_count < OWNERS ? &owners[owner_count++] : &lost;
}

/* What the manager's machines and bridges are. It may not be there: then nothing is known. */
static void machines_read(void)
{
    struct vm_link link;
    struct lines body = {0};
    if (access("/dev/vm", F_OK) < 0) return;
    if (vm_open(&link, "exo") && vm_send(&link, "envs\n")) vm_reply(&link, &body);
    vm_close(&link);
    for (size_t i = 0; i < body.count; i++) {
        struct owner o = {0};
        if (sscanf(body.line[i], "env %lx %lx %lu %lu %47s", &o.env, &o.first, &o.frames, &o.used,
                   o.name) == 5)
            *owner_new() = o;
    }
    lines_free(&body);
}

static bool owners_read(void)
{
    struct lines lines = {0};
    machines_read(); /* first: their ranges lie in the manager's */
    if (!lines_read(&lines, "/proc/exo/owners")) return false;
    for (size_t i = 0; i < lines.count; i++) {
        struct owner o = {0};
        int pid, n = 0;
        const char *line = lines.line[i];
        if (sscanf(line, "process %lx %d %n", &o.env, &pid, &n) == 2)
            snprintf(o.name, sizeof(o.name), "%.31s[%d]", line + n, pid);
        else if (sscanf(line, "program %lx %47s", &o.env, o.name) != 2 &&
                 sscanf(line, "range %lx %lu %lu %47s", &o.first, &o.frames, &o.used, o.name) != 4)
            continue;
        *owner_new() = o;
    }
    lines_free(&lines);
    return true;
}

/* The name of an env; text: of 64 bytes. */
static const char *env_name(unsigned long env, char *text)
{
    for (unsigned i = 0; i < owner_count; i++)
        if (owners[i].env && owners[i].env == env) return owners[i].name;
    for (unsigned i = 0; i < owner_count; i++)
        if (env - owners[i].first < owners[i].frames) {
            snprintf(text, 64, "(of %s)", owners[i].name);
            return text;
        }
    return env ? "root" : "-";
}

/* A word's number in a file of "WORD NUMBER" lines. */
static unsigned long number(const struct lines *lines, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i < lines->count; i++)
        if (!strncmp(lines->line[i], word, n) && lines->line[i][n] == ' ')
            return strtoul(lines->line[i] + n, NULL, 10);
    return 0;
}

/* ---- ps: envs ----------------------------------------------------------------------------- */

static int ps(void)
{
    struct lines memory = {0}, slots = {0};
    char text[64];
    if (!owners_read() || !lines_read(&memory, "/proc/exo/memory") ||
        !lines_read(&slots, "/proc/exo/slots"))
        return 1;
    printf("     ENV THREADS  PTABLES  CTABLES  SLOTS  NAME\n");
    for (size_t i = 0; i < memory.count; i++) {
        unsigned long env, tables, threads, caps, owned = 0;
        if (sscanf(memory.line[i], "env %lx tables %lu threads %lu caps %lu", &env, &tables,
                   &threads, &caps) != 4)
            continue;
        for (size_t k = 0; k < slots.count; k++) {
            unsigned long first, last, by;
            if (sscanf(slots.line[k], "%*u %lu %lu %*x %lx", &first, &last, &by) == 3 && by == env)
                owned += last - first + 1;
        }
        printf("%8lx %7lu %8lu %8lu %6lu  %s\n", env, threads, tables, caps, owned,
               env_name(env, text));
    }
    return 0;
}

/* ---- mem: frames ------------------------------------------------------------------------------ */

static int mem(void)
{
    struct lines memory = {0};
    if (!owners_read() || !lines_read(&memory, "/proc/exo/memory")) return 1;
    printf("%8lu frames of 4 KiB below the end of RAM, of which\n", number(&memory, "frames"));
    printf("%8lu plain and bound nowhere\n", number(&memory, "free"));
    printf("%8lu plain and bound, %lu times in all\n", number(&memory, "bound"),
           number(&memory, "bindings"));
    printf("%8lu page tables and objects of envs\n", number(&memory, "typed"));
    printf("%8lu the kernel's own\n", number(&memory, "kernel"));
    printf("%8lu exposed tables\n", number(&memory, "exposed"));
    printf("%8lu device memory and holes\n", number(&memory, "device"));
    printf("\n   FIRST   FRAMES   IN USE  WHO GOT THEM\n");
    for (unsigned i = 0; i < owner_count; i++) {
        const struct owner *o = &owners[i];
        if (o->frames) printf("%8lx %8lu %8lu  %s\n", o->first, o->frames, o->used, o->name);
    }
    return 0;
}

/* ---- slots, and interrupts ----------------------------------------------------------------------- */

static int slots(void)
{
    struct lines lines = {0}, irqs = {0};
    char text[64];
    if (!owners_read() || !lines_read(&lines, "/proc/exo/slots") ||
        !lines_read(&irqs, "/proc/exo/irqs"))
        return 1;
    printf("CPU  SLOTS  THREAD      ENV  OWNER\n");
    for (size_t i = 0; i < lines.count; i++) {
        unsigned cpu, first, last;
        unsigned long thread, env;
        char flags[8];
        if (sscanf(lines.line[i], "%u %u %u %lx %lx %7s", &cpu, &first, &last, &thread, &env,
                   flags) != 6)
            continue;
        if (!thread)
            printf("%3u  %2u-%2u       -        -  nobody: whoever can run, in turn\n", cpu, first,
                   last);
        else
            printf("%3u  %2u-%2u  %6lx %8lx  %s%s\n", cpu, first, last, thread, env,
                   env_name(env, text), strcmp(flags, "-") ? ", firm" : "");
    }
    printf("\nIRQ  THREAD      ENV  BITS      COUNT  OWNER\n");
    for (size_t i = 0; i < irqs.count; i++) {
        unsigned line, masked;
        unsigned long thread, env, bits, count;
        if (sscanf(irqs.line[i], "%u %lx %lx %lx %u %lu", &line, &thread, &env, &bits, &masked,
                   &count) == 6)
            printf("%3u  %6lx %8lx %5lx %10lu  %s%s\n", line, thread, env, bits, count,
                   env_name(env, text), masked ? ", waits for its acknowledgement" : "");
    }
    return 0;
}

/* ---- trace: what counts, live ------------------------------------------------------------------------ */

enum { SLICES, IDLE, SWITCHES, CROSSINGS, FLUSHES, WORLDS, COUNTERS };
struct counters {
    unsigned cpus;
    unsigned long ticks, hz, counting;
    unsigned long cpu[CPUS][COUNTERS];
    unsigned long irq[IRQS];
};

static bool counters_read(struct counters *c)
{
    struct lines info = {0}, cpus = {0}, irqs = {0};
    *c = (struct counters){0};
    bool good = lines_read(&info, "/proc/exo/info") && lines_read(&cpus, "/proc/exo/cpus") &&
                lines_read(&irqs, "/proc/exo/irqs");
    c->ticks = number(&info, "uptime_ticks");
    c->hz = number(&info, "tsc_hz");
    c->counting = number(&info, "counting");
    for (size_t i = 0; i < cpus.count && i < CPUS; i++, c->cpus++)
        sscanf(cpus.line[i], "%*u %*u %*x %lu %lu %lu %lu %lu %lu", &c->cpu[i][SLICES],
               &c->cpu[i][IDLE], &c->cpu[i][SWITCHES], &c->cpu[i][CROSSINGS], &c->cpu[i][FLUSHES],
               &c->cpu[i][WORLDS]);
    for (size_t i = 0; i < irqs.count; i++) {
        unsigned line;
        unsigned long count;
        if (sscanf(irqs.line[i], "%u %*x %*x %*x %*u %lu", &line, &count) == 2 && line < IRQS)
            c->irq[line] = count;
    }
    lines_free(&info);
    lines_free(&cpus);
    lines_free(&irqs);
    return good && c->hz;
}

static void trace_show(const struct counters *now, const struct counters *old, const char *end)
{
    double seconds = (double)(now->ticks - old->ticks) / (double)now->hz;
    if (seconds <= 0) return;
    printf("CPU  SLICES/S  IDLE(%%)%s%s\n",
           now->counting ? "  SWITCHES/S  CROSSINGS/S  FLUSHES/S  GUESTS/S" : "", end);
    for (unsigned i = 0; i < now->cpus; i++) {
        double rate[COUNTERS];
        for (unsigned k = 0; k < COUNTERS; k++)
            rate[k] = (double)(now->cpu[i][k] - old->cpu[i][k]) / seconds;
        printf("%3u  %8.0f  %7.1f", i, rate[SLICES],
               rate[SLICES] > 0 ? rate[IDLE] * 100 / rate[SLICES] : 0);
        if (now->counting)
            printf("  %10.0f  %11.0f  %9.0f  %8.0f", rate[SWITCHES], rate[CROSSINGS], rate[FLUSHES],
                   rate[WORLDS]);
        printf("%s\n", end);
    }
    for (unsigned i = 0; i < IRQS; i++)
        if (now->irq[i] != old->irq[i])
            printf("interrupt %u: %.0f/s%s\n", i, (double)(now->irq[i] - old->irq[i]) / seconds,
                   end);
    if (!now->counting)
        printf("(switches, crossings and flushes are counted by the counting kernel only)%s\n",
               end);
    fflush(stdout);
}

static int trace(int argc, char **argv)
{
    static struct counters c[2];
    double delay = 1;
    long times = -1;
    for (int option; (option = getopt(argc, argv, "d:n:")) != -1;) {
        if (option == 'd') delay = atof(optarg);
        if (option == 'n') times = atol(optarg);
        if (option == '?') return 2;
    }
    if (delay < 0.1) delay = 0.1;
    bool live = isatty(STDOUT_FILENO) && tty_raw();
    if (!counters_read(&c[0])) return 1;
    for (unsigned turn = 1; times < 0 || turn <= (unsigned long)times; turn++) {
        int key = key_wait(delay);
        if (key == 'q' || key == 3) break;
        if (!counters_read(&c[turn % 2])) return 1;
        trace_show(&c[turn % 2], &c[(turn + 1) % 2], live ? "\r" : "");
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    if (!strcmp(command, "trace")) return trace(argc - 1, argv + 1);
    if (!strcmp(command, "ps") && argc == 2) return ps();
    if (!strcmp(command, "mem") && argc == 2) return mem();
    if (!strcmp(command, "slots") && argc == 2) return slots();
    fputs("exo COMMAND: the exokernel's tables\n"
          "  ps     envs: whose they are, their threads, page tables, capability tables, slots\n"
          "  mem    frames: what they are, and who got them\n"
          "  slots  time slots and interrupts: who owns them\n"
          "  trace [-d SECONDS] [-n TIMES]  what is counted, live: slices, idle ones, interrupts;\n"
          "         in the counting kernel switches, crossings, flushes, entries into guests\n",
          stderr);
    return 2;
}
