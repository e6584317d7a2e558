/* SPDX-License-Identifier: MIT
 *
 * The texts of /proc about the whole, in the form of proc(5). Memory is what linuxd has to
 * give; processor time is counted in time slots, of which the kernel's exposed tables say
 * how many were idle. */
#include "../process/memory.h"
#include "proc.h"
#include "../process/swap.h"
#include "../../../../lib/exo/exo.h"
#include <linux/sysinfo.h>

#define NS 1000000000ul

/* Pages that there are, that can still be had, and that files have. */
static void memory_count(uint64_t *total, uint64_t *available, uint64_t *files)
{
    uint64_t all, unused;
    page_count(&all, &unused);
    *total = all + lx_shared->memory_frames;
    *available = unused + lx_shared->memory_free;
    *files = all - unused;
}

long call_sysinfo(struct thread *thread, const uint64_t a[6])
{
    uint64_t total, available, files, swap, used;
    (void)a;
    memory_count(&total, &available, &files);
    swap_count(&swap, &used);
    struct sysinfo info = {.uptime = (long)(time_boot() / NS),
                           .totalram = total * KIB_PER_PAGE * 1024,
                           .freeram = available * KIB_PER_PAGE * 1024,
                           .sharedram = files * KIB_PER_PAGE * 1024,
                           .totalswap = swap * KIB_PER_PAGE * 1024,
                           .freeswap = (swap - used) * KIB_PER_PAGE * 1024,
                           .procs = (uint16_t)lx_shared->processes,
                           .mem_unit = 1};
    return window_put(thread, 0, &info, sizeof(info));
}

static void meminfo_text(struct text *text)
{
    uint64_t total, available, files, swap, used;
    memory_count(&total, &available, &files);
    swap_count(&swap, &used);
    total *= KIB_PER_PAGE;
    available *= KIB_PER_PAGE;
    files *= KIB_PER_PAGE;
    text_add(text, "MemTotal:       %8lu kB\nMemFree:        %8lu kB\n", total, available);
    text_add(text, "MemAvailable:   %8lu kB\nBuffers:               0 kB\n", available);
    text_add(text, "Cached:         %8lu kB\nSwapCached:            0 kB\n", files);
    text_add(text, "SwapTotal:      %8lu kB\nSwapFree:       %8lu kB\n", swap * KIB_PER_PAGE,
             (swap - used) * KIB_PER_PAGE);
    text_add(text, "Dirty:                 0 kB\nWriteback:             0 kB\n");
    text_add(text, "Shmem:          %8lu kB\nSlab:                  0 kB\n", files);
}

/* Ticks of a CPU: busy and idle, by its slots. */
static void cpu_ticks(unsigned cpu, uint64_t *busy, uint64_t *idle)
{
    uint64_t ticks = time_boot() / NS_PER_TICK;
    uint64_t slices = exo.info ? exo.cpus[cpu].slices : 0,
             empty = exo.info ? exo.cpus[cpu].idle : 0;
    *idle = slices ? ticks * empty / slices : 0;
    *busy = ticks > *idle ? ticks - *idle : 0;
}

static unsigned cpu_count(void) { return exo.info ? exo.info->cpus : 1; }

static void stat_text(struct text *text)
{
    uint64_t busy, idle, all_busy = 0, all_idle = 0;
    unsigned running = 0;
    for (unsigned i = 0; i < cpu_count(); i++) {
        cpu_ticks(i, &busy, &idle);
        all_busy += busy;
        all_idle += idle;
    }
    text_add(text, "cpu  %lu 0 0 %lu 0 0 0 0 0 0\n", all_busy, all_idle);
    for (unsigned i = 0; i < cpu_count(); i++) {
        cpu_ticks(i, &busy, &idle);
        text_add(text, "cpu%u %lu 0 0 %lu 0 0 0 0 0 0\n", i, busy, idle);
    }
    for (unsigned i = 0; i < LX_PROCESSES; i++)
        running += processes[i].state == PROCESS_RUNNING;
    text_add(text, "intr 0\nctxt 0\nbtime %lu\nprocesses %u\nprocs_running 1\nprocs_blocked 0\n",
             (time_real() - time_boot()) / NS, running);
}

static void uptime_text(struct text *text)
{
    uint64_t ns = time_boot(), busy, idle;
    cpu_ticks(0, &busy, &idle);
    text_add(text, "%lu.%02lu %lu.%02lu\n", ns / NS, ns % NS / NS_PER_TICK, idle / TICKS,
             idle % TICKS);
}

static void loadavg_text(struct text *text)
{
    unsigned there = 0;
    int last = 0;
    for (unsigned i = 0; i < LX_PROCESSES; i++) {
        if (processes[i].state == PROCESS_FREE) continue;
        there++;
        if (processes[i].pid > last) last = processes[i].pid;
    }
    text_add(text, "0.00 0.00 0.00 1/%u %d\n", there, last);
}

/* A space, tab, newline or backslash in a field is \ooo. */
static void mount_field(struct text *text, const char *field)
{
    for (; *field; field++)
        if (*field == ' ' || *field == '\t' || *field == '\n' || *field == '\\')
            text_add(text, "\\%u%u%u", *field >> 6, *field >> 3 & 7, *field & 7);
        else
            text_add(text, "%c", *field);
    text_add(text, " ");
}

void proc_mounts(struct text *text)
{
    for (const struct filesystem *fs = &root_fs; fs; fs = fs->next) {
        mount_field(text, fs->source);
        mount_field(text, fs->path);
        text_add(text, "%s %s,relatime 0 0\n", fs->type, fs->read_only ? "ro" : "rw");
    }
}

static void version_text(struct text *text)
{
    text_add(text, "Linux version %s (exovisor) #1 exovisor\n", LX_RELEASE);
}

static void cpuinfo_text(struct text *text)
{
    char name[EXO_CPU_NAME];
    for (unsigned i = 0; i < cpu_count(); i++) {
        text_add(text, "processor\t: %u\nmodel name\t: %s\n", i, exo_cpu_name(name));
        text_add(text, "cpu MHz\t\t: %lu.%03lu\n\n", exo.start.tsc_hz / 1000000,
                 exo.start.tsc_hz / 1000 % 1000);
    }
}

static void filesystems_text(struct text *text)
{
    text_add(text, "nodev\ttmpfs\nnodev\tfuse\n\text4\nnodev\tproc\nnodev\tdevtmpfs\n");
}

static void cmdline_text(struct text *text) { text_add(text, "%s\n", exo.start.args); }

static void swaps_text(struct text *text)
{
    uint64_t all, used;
    swap_count(&all, &used);
    text_add(text, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
    text_add(text, "(memory)\t\t\t\tfile\t\t%lu\t\t%lu\t\t-2\n", all * KIB_PER_PAGE,
             used * KIB_PER_PAGE);
}

static void devices_text(struct text *text)
{
    text_add(text,
             "Character devices:\n  1 mem\n  4 tty\n  5 /dev/tty\n136 pts\n\nBlock devices:\n");
}

static void hostname_text(struct text *text) { text_add(text, "%s\n", system_hostname()); }
static void osrelease_text(struct text *text) { text_add(text, "%s\n", LX_RELEASE); }
static void ostype_text(struct text *text) { text_add(text, "Linux\n"); }
static void pid_max_text(struct text *text) { text_add(text, "32768\n"); }
static void file_max_text(struct text *text) { text_add(text, "%u\n", LX_FDS * LX_PROCESSES); }
static void overcommit_text(struct text *text) { text_add(text, "1\n"); }
static void empty_text(struct text *text) { (void)text; }

const struct proc_file proc_files[] = {
    {"meminfo", meminfo_text},
    {"stat", stat_text},
    {"uptime", uptime_text},
    {"loadavg", loadavg_text},
    {"version", version_text},
    {"cpuinfo", cpuinfo_text},
    {"filesystems", filesystems_text},
    {"cmdline", cmdline_text},
    {"swaps", swaps_text},
    {"devices", devices_text},
    {"partitions", empty_text},
    {"modules", empty_text},
    {"diskstats", empty_text},
    {"sys/kernel/hostname", hostname_text},
    {"sys/kernel/osrelease", osrelease_text},
    {"sys/kernel/ostype", ostype_text},
    {"sys/kernel/pid_max", pid_max_text},
    {"sys/fs/file-max", file_max_text},
    {"sys/vm/overcommit_memory", overcommit_text},
};
const unsigned proc_file_count = EXO_COUNT(proc_files);
