/* SPDX-License-Identifier: MIT
 *
 * /proc/exo: the exokernel's exposed tables, which are bound read-only here, as lines of
 * words for programs to read (`exo` shows them). Envs and threads are the numbers of their
 * frames, in hexadecimal. */
#include "../../../../lib/exo/tables.h"
#include "../manage.h"
#include "../process/process.h"

static void info(struct text *text)
{
    static const char *const vm[] = {"none", "AMD-V", "VT-x"};
    const struct exo_info *i = exo.info;
    char name[EXO_CPU_NAME];
    text_add(text, "abi %u\ncpus %u\ncpu_model %s\ntsc_hz %lu\nuptime_ticks %lu\n", i->abi, i->cpus,
             exo_cpu_name(name), i->tsc_hz, exo_tsc() - i->boot_tsc);
    text_add(text, "frames %u\nslots_per_cpu %u\nslot_us %u\nvirtualization %s\n", i->frames,
             EXO_SLOTS_PER_CPU, EXO_SLOT_US, i->vm < EXO_COUNT(vm) ? vm[i->vm] : "unknown");
    text_add(text, "checks %u\ncounting %u\ncommand_line %s\n", i->debug, i->counting,
             i->command_line);
}

static void memory(struct text *text)
{
    static struct exo_memory m;
    exo_memory_count(&m);
    text_add(text, "frames %u\nfree %lu\nbound %lu\nbindings %lu\n", exo.info->frames, m.free,
             m.bound, m.bindings);
    text_add(text, "typed %lu\nkernel %lu\nexposed %lu\ndevice %lu\n", m.typed, m.kernel, m.exposed,
             m.device);
    for (uint32_t i = 0; i < m.nenvs; i++)
        text_add(text, "env %x tables %u threads %u caps %u\n", m.envs[i].env, m.envs[i].tables,
                 m.envs[i].threads, m.envs[i].caps);
    if (m.more) text_add(text, "more %lu\n", m.more);
}

/* Frames of a range that somebody has bound, or typed. */
static uint32_t used(uint32_t first, uint32_t frames)
{
    uint32_t n = 0;
    for (uint32_t f = first; f < first + frames && f < exo.info->frames; f++)
        n += EXO_FW_TYPE(exo.words[f]) != EXO_FT_PLAIN || EXO_FW_BINDINGS(exo.words[f]);
    return n;
}

/* Those pieces of a program's loan that it has, a line for each row of them. */
static void loan(struct text *text, uint32_t first, uint32_t frames, uint32_t held,
                 const char *name)
{
    uint32_t piece = frames / EXO_LOAN_PIECES;
    for (uint32_t i = 0, n; i < EXO_LOAN_PIECES; i += n + 1) {
        for (n = 0; i + n < EXO_LOAN_PIECES && held >> (i + n) & 1; n++)
            ;
        uint32_t from = first + i * piece;
        if (n)
            text_add(text, "range %x %u %u %s-loan\n", from, n * piece, used(from, n * piece),
                     name);
    }
}

/* Who has which env and which memory: as root says, and our own processes. */
static void owners(struct text *text)
{
    const struct exo_names *names = exo_names_map();
    for (uint32_t i = 0; names && i < names->count && i < EXO_NAMES; i++) {
        char name[32];
        exo_strcpy(name, names->program[i].name, sizeof(name));
        if (!names->program[i].env) continue;
        text_add(text, "program %x %s\n", names->program[i].env, name);
        uint32_t first = names->program[i].first, n = names->program[i].frames;
        text_add(text, "range %x %u %u %s\n", first, n, used(first, n), name);
        first = names->program[i].block, n = names->program[i].block_frames;
        if (n) text_add(text, "range %x %u %u %s\n", first, n, used(first, n), name);
        loan(text, names->program[i].loan, names->program[i].loan_frames,
             names->program[i].loan_held, name);
    }
    for (unsigned i = 0; i < LX_PROCESSES; i++) {
        const struct process *p = &processes[i];
        if (!p->memory || !p->memory->env) continue;
        text_add(text, "process %lx %d %s\n", p->memory->env_frame, p->pid, p->name);
    }
}

static void slots(struct text *text)
{
    for (uint32_t cpu = 0; cpu < exo.info->cpus; cpu++)
        for (uint32_t first = 0, last; first < EXO_SLOTS_PER_CPU; first = last + 1) {
            const struct exo_slot *s = exo.slots + cpu * EXO_SLOTS_PER_CPU + first;
            last = exo_slots_run(cpu, first);
            text_add(text, "%u %u %u %x %x %s\n", cpu, first, last, s->thread, s->env,
                     s->flags & EXO_SLOT_FIRM ? "firm" : "-");
        }
}

static void irqs(struct text *text)
{
    for (uint32_t i = 0; i < EXO_IRQ_COUNT; i++) {
        const struct exo_irq *q = &exo.irqs[i];
        if (!q->thread) continue;
        text_add(text, "%u %x %x %lx %u %lu\n", i, q->thread, q->env, q->bits, q->masked, q->count);
    }
}

static void cpus(struct text *text)
{
    for (uint32_t i = 0; i < exo.info->cpus; i++) {
        const struct exo_cpu *c = &exo.cpus[i];
        text_add(text, "%u %u %x %lu %lu %lu %lu %lu %lu\n", i, c->online, c->current, c->slices,
                 c->idle, c->switches, c->crossings, c->flushes, c->worlds);
    }
}

void proc_exo_init(void)
{
    static const struct {
        const char *path;
        proc_generator *generator;
    } files[] = {{"exo/info", info},   {"exo/memory", memory}, {"exo/owners", owners},
                 {"exo/slots", slots}, {"exo/irqs", irqs},     {"exo/cpus", cpus}};
    if (!exo.info) return;
    for (unsigned i = 0; i < EXO_COUNT(files); i++) {
        long r = proc_register(files[i].path, files[i].generator);
        if (r < 0) log_line("/proc/%s: error %ld", files[i].path, -r);
    }
}
