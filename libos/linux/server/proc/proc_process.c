/* SPDX-License-Identifier: MIT
 *
 * The texts of /proc/PID, in the form of proc(5). What nobody knows here (faults, addresses of
 * memory) is 0; times of processors are a program's own. */
#include "../process/memory.h"
#include "proc.h"
#include "../process/swap.h"
#include "../devices/tty.h"
#include "../../../../lib/exo/exo.h"

#define NICE 20 /* priority of nice 0 */

/* In a call of ours, or in its library. */
static bool thread_sleeps(const struct thread *thread)
{
    const struct lx_window *window = thread->window;
    return thread->waiting || (window && __atomic_load_n(&window->since, __ATOMIC_RELAXED));
}

static char state_letter(const struct process *process)
{
    if (process->state == PROCESS_ZOMBIE) return 'Z';
    if (process->state == PROCESS_STOPPED) return 'T';
    for (unsigned i = 0; i < LX_THREADS; i++)
        if (process->threads[i] && !thread_sleeps(process->threads[i])) return 'R';
    return 'S';
}

/* Frames that it can use, shared ones too. What it has of them in use, and which files it
 * has mapped, its library alone knows. */
static uint64_t process_frames(const struct process *process)
{
    const struct process_memory *memory = process->memory;
    uint64_t frames = 0;
    if (process->state == PROCESS_ZOMBIE || !memory) return 0;
    for (uint32_t i = 0; i < memory->extents; i++)
        if (memory->extent[i] && memory->extent[i] != LX_EXTENT_OBJECTS)
            frames += extent_count(memory->extent[i]);
    for (uint32_t i = 0; i < memory->data_count; i++)
        frames += extent_count(memory->data[i]);
    return frames;
}

static int parent_pid(const struct process *process)
{
    return process->parent ? process->parent->pid : 0;
}

/* Who lends his env has a thread still. */
static uint32_t threads_of(const struct process *process)
{
    return process->thread_count + (process->state != PROCESS_ZOMBIE && process->borrower);
}

static uint64_t clock_ticks(uint64_t tsc_ticks)
{
    return (uint64_t)((__uint128_t)tsc_ticks * lx_shared->ns_mult >> 32) / NS_PER_TICK;
}

static void process_stat_text(struct text *text, const struct process *process)
{
    const struct tty *tty = process->tty;
    text_add(text, "%d (%s) %c %d %d %d %u %d 0 0 0 0 0 ", process->pid, process->name,
             state_letter(process), parent_pid(process), process->pgid, process->sid,
             tty ? (uint32_t)tty->device : 0, tty ? tty->foreground : -1);
    text_add(text, "%lu 0 %lu 0 %d 0 %u 0 %lu %lu %lu 18446744073709551615 ",
             clock_ticks(process_used(process)), clock_ticks(process->used_children), NICE,
             threads_of(process), process->started / NS_PER_TICK,
             process_frames(process) * KIB_PER_PAGE * 1024, process_frames(process));
    text_add(text, "0 0 0 0 0 %lu 0 0 0 0 0 0 %d 0 0 0 0 0 0 0 0 0 0 0 0 0 %d\n",
             process_signals(process) & 0x7fffffff, process->exit_signal, process->status);
}

static const char *state_name(char letter)
{
    return letter == 'Z'   ? "zombie"
           : letter == 'T' ? "stopped"
           : letter == 'R' ? "running"
                           : "sleeping";
}

/* A program gives itself any name: it makes no lines. */
static void name_text(struct text *text, const char *name)
{
    for (; *name; name++)
        text_add(text, *name == '\n' ? "\\n" : *name == '\\' ? "\\\\" : "%c", *name);
}

static void status_text(struct text *text, const struct process *process)
{
    char state = state_letter(process);
    text_add(text, "Name:\t");
    name_text(text, process->name);
    text_add(text, "\nUmask:\t%04x\nState:\t%c (%s)\n",
             (process->umask & 7) | (process->umask & 070) << 1 | (process->umask & 0700) << 2,
             state, state_name(state));
    text_add(text, "Tgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t0\n", process->pid,
             process->pid, parent_pid(process));
    text_add(text, "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t%u\nGroups:\t0 \n", LX_FDS);
    if (process->state != PROCESS_ZOMBIE)
        text_add(text, "VmSize:\t%8lu kB\nVmRSS:\t%8lu kB\nVmSwap:\t%8lu kB\n",
                 (process_frames(process) + swap_held(process)) * KIB_PER_PAGE,
                 process_frames(process) * KIB_PER_PAGE,
                 (uint64_t)swap_held(process) * KIB_PER_PAGE);
    uint64_t ignored, handled, blocked;
    process_actions(process, &ignored, &handled, &blocked);
    text_add(text, "Threads:\t%u\nSigPnd:\t%016x\nShdPnd:\t%016lx\n", threads_of(process), 0,
             process_signals(process));
    text_add(text, "SigBlk:\t%016lx\nSigIgn:\t%016lx\nSigCgt:\t%016lx\n", blocked, ignored,
             handled);
}

static void statm_text(struct text *text, const struct process *process)
{
    text_add(text, "%lu %lu 0 0 0 0 0\n", process_frames(process), process_frames(process));
}

/* Text with zeroes in it. */
static void text_bytes(struct text *text, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        text_add(text, "%c", bytes[i]);
}

static void process_cmdline_text(struct text *text, const struct process *process)
{
    if (process->state == PROCESS_ZOMBIE) return;
    text_bytes(text, process->cmdline, EXO_MIN(process->cmdline_length, LX_CMDLINE));
}

static void comm_text(struct text *text, const struct process *process)
{
    text_add(text, "%s\n", process->name);
}

static void mounts_text(struct text *text, const struct process *process)
{
    (void)process;
    proc_mounts(text);
}

static void nothing_text(struct text *text, const struct process *process)
{
    (void)text, (void)process;
}

static void limits_text(struct text *text, const struct process *process)
{
    (void)process;
    text_add(text,
             "Limit                     Soft Limit           Hard Limit           Units     \n");
    text_add(text, "Max stack size            %-20lu %-20lu bytes     \n", LX_STACK_MAX,
             LX_STACK_MAX);
    text_add(text, "Max open files            %-20u %-20u files     \n", LX_FDS, LX_FDS);
    text_add(text, "Max processes             %-20u %-20u processes \n", LX_PROCESSES,
             LX_PROCESSES);
}

#define TEXT (S_IFREG | 0444)
#define PRIVATE (S_IFREG | 0400)
#define LINK (S_IFLNK | 0777)
const struct proc_node proc_entries[PROC_ENTRIES] = {
    {"fd", PROC_FDS, S_IFDIR | 0500, NULL, NULL},
    {"cwd", PROC_CWD, LINK, NULL, NULL},
    {"root", PROC_ROOT, LINK, NULL, NULL},
    {"exe", PROC_EXE, LINK, NULL, NULL},
    {"stat", PROC_TEXT, TEXT, NULL, process_stat_text},
    {"status", PROC_TEXT, TEXT, NULL, status_text},
    {"statm", PROC_TEXT, TEXT, NULL, statm_text},
    {"cmdline", PROC_TEXT, TEXT, NULL, process_cmdline_text},
    {"comm", PROC_TEXT, TEXT, NULL, comm_text},
    {"mounts", PROC_TEXT, TEXT, NULL, mounts_text},
    {"limits", PROC_TEXT, TEXT, NULL, limits_text},
    /* The library alone knows these. */
    {"maps", PROC_TEXT, TEXT, NULL, nothing_text},
    {"smaps", PROC_TEXT, TEXT, NULL, nothing_text},
    {"environ", PROC_TEXT, PRIVATE, NULL, nothing_text},
    {"auxv", PROC_TEXT, PRIVATE, NULL, nothing_text},
    {"wchan", PROC_TEXT, TEXT, NULL, nothing_text},
};
