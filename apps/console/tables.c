/* SPDX-License-Identifier: MIT
 *
 * Shows the kernel's exposed tables, which are bound read-only here: no call is made for
 * them. Envs and threads have no names but the numbers of their frames. */
#include "../../lib/exo/tables.h"
#include "console.h"

static uint64_t own_env(void)
{
    exo_thread_info(0);
    return exo_page()->list[0].frame;
}

/* ---- frames --------------------------------------------------------------------------- */
void show_memory(void)
{
    static struct exo_memory m;
    uint32_t self = (uint32_t)own_env();
    exo_memory_count(&m);
    exo_printf("%8u frames of 4 KiB below the end of RAM, of which\n", exo.info->frames);
    exo_printf("%8lu plain and bound nowhere\n", m.free);
    exo_printf("%8lu plain and bound, %lu times in all\n", m.bound, m.bindings);
    exo_printf("%8lu page tables and objects of %u envs, below\n", m.typed, m.nenvs);
    exo_printf("%8lu the kernel's own\n", m.kernel);
    exo_printf("%8lu exposed tables, bound read-only at most\n", m.exposed);
    exo_printf("%8lu device memory and holes\n", m.device);
    exo_printf("     env  page tables  threads  capability tables\n");
    for (uint32_t i = 0; i < m.nenvs; i++) {
        const struct exo_env_frames *e = &m.envs[i];
        exo_printf("%8x  %11u  %7u  %17u%s\n", e->env, e->tables, e->threads, e->caps,
                   e->env == self ? "  this console" : "");
    }
    if (m.more) exo_printf("and %lu frames of more envs\n", m.more);
}

/* ---- time slots, interrupts, CPUs ---------------------------------------------------------- */

static void show_run(uint32_t first, uint32_t last, const struct exo_slot *s, uint32_t self)
{
    if (!s->thread)
        exo_printf("  %2u-%2u  nobody's: whoever can run, in turn\n", first, last);
    else
        exo_printf("  %2u-%2u  thread %x of env %x%s%s\n", first, last, s->thread, s->env,
                   s->flags & EXO_SLOT_FIRM ? ", firm" : "",
                   s->env == self ? "  this console" : "");
}

void show_slots(void)
{
    uint32_t self = (uint32_t)own_env();
    for (uint32_t cpu = 0; cpu < exo.info->cpus; cpu++) {
        const struct exo_slot *s = exo.slots + cpu * EXO_SLOTS_PER_CPU;
        exo_printf("CPU %u: %u slots of %u us\n", cpu, EXO_SLOTS_PER_CPU, EXO_SLOT_US);
        for (uint32_t first = 0, last; first < EXO_SLOTS_PER_CPU; first = last + 1) {
            last = exo_slots_run(cpu, first);
            show_run(first, last, &s[first], self);
        }
    }
}

void show_irqs(void)
{
    uint32_t bound = 0;
    for (uint32_t i = 0; i < EXO_IRQ_COUNT; i++) {
        const struct exo_irq *q = &exo.irqs[i];
        if (!q->thread) continue;
        bound++;
        exo_printf("line %3u  %8lu times  thread %x of env %x, event bits %lx%s\n", i, q->count,
                   q->thread, q->env, q->bits, q->masked ? ", masked until acknowledged" : "");
    }
    exo_printf("%u of %u lines bound\n", bound, EXO_IRQ_COUNT);
}

void show_cpus(void)
{
    for (uint32_t i = 0; i < exo.info->cpus; i++) {
        const struct exo_cpu *c = &exo.cpus[i];
        uint64_t slices = c->slices, idle = c->idle;
        exo_printf("CPU %u: %s, thread %x runs, %lu slices begun, %lu %% of them idle\n", i,
                   c->online ? "up" : "down", c->current, slices,
                   slices ? EXO_MIN(idle, slices) * 100 / slices : 0);
        if (exo.info->counting)
            exo_printf("       %lu address spaces switched, %lu times in the kernel\n", c->switches,
                       c->crossings);
    }
}

/* ---- our own capabilities -------------------------------------------------------------------- */

void show_caps(void)
{
    static const char *const kinds[EXO_KINDS] = {"none",    "frames", "slots",  "irqs", "ports",
                                                 "devices", "env",    "thread", "gate", "event"};
    exo_printf(" sel  kind     rights      first      count  bindings\n");
    for (uint32_t s = 1; s < exo.start.nsel; s++) {
        long info = exo_cap_info(s);
        if (info <= 0) continue;
        const struct exo_batch *list = exo_page()->list;
        exo_printf("%4u  %-7s  %6lx  %9lx  %9lx  %8lu%s\n", s, kinds[info & 0xff], info >> 8 & 0xff,
                   list[0].va, list[0].frame, list[1].va, info >> 16 & 1 ? "  has children" : "");
    }
}
