/* SPDX-License-Identifier: MIT
 *
 * What clients show: numbers, as lines of words. docs/manage.md says which word is what.
 * What monitors say of themselves is fetched once and passed on as it is. */
#include "../../vmm/vcpu.h"
#include "vmd.h"

static char state_of(const struct machine *m)
{
    const volatile struct vm_shared *s = machine_shared(m);
    if (machine_is_program(m)) return '-';
    if (s->paused) return 'p';
    for (unsigned i = 0; i < m->config.cpus && i < VM_CPUS; i++)
        if (s->cpu[i].since) return 'r';
    return 'b';
}

static void report_machine(struct text *text, const struct machine *m)
{
    const volatile struct vm_shared *s = machine_shared(m);
    const struct vm_config *c = &m->config;
    text_add(text, " vm %s %u %c %lu %lu %lu %u", c->name, m->id, state_of(m), machine_ticks(m),
             c->memory >> 10, s->ballooned >> 10, c->cpus);
    text_add(text, " %u %lu %lu %lu %lu", c->disks, s->disk.out, s->disk.out_bytes, s->disk.in,
             s->disk.in_bytes);
    text_add(text, " %u %lu %lu %lu %lu", c->cards, s->net.out, s->net.out_bytes, s->net.in,
             s->net.in_bytes);
    for (unsigned reason = 0; reason < EXO_VX_COUNT; reason++) {
        uint64_t sum = 0;
        for (unsigned i = 0; i < c->cpus && i < VM_CPUS; i++)
            sum += s->cpu[i].exits[reason];
        text_add(text, " %lu", sum);
    }
    text_add(text, "\n");
}

static uint64_t memory_kib(uint64_t frames) { return frames * (EXO_PAGE >> 10); }

void report_stats(struct text *text)
{
    text_add(text, " host %lu %lu %u %lu %lu\n", exo_tsc(), exo.start.tsc_hz, exo.start.cpus,
             memory_kib(exo.pool.count), memory_kib(exo.pool.free));
    for (const struct machine *m = machines; m < machines + MACHINES; m++)
        if (m->state == MACHINE_RUNS) report_machine(text, m);
}

void report_reasons(struct text *text)
{
    text_add(text, " ");
    for (uint32_t reason = 0; reason < EXO_VX_COUNT; reason++)
        text_add(text, "%s%s", reason ? "\t" : "", reason_name(reason));
    text_add(text, "\n");
}

static void report_range(struct text *text, uint64_t env, uint64_t first, uint64_t frames,
                         const char *name, const char *what)
{
    text_add(text, " env %lx %lx %lu %lu %s%s\n", env, first, frames, frames_in_use(first, frames),
             name, what);
}

void report_envs(struct text *text)
{
    for (const struct machine *m = machines; m < machines + MACHINES; m++) {
        if (m->state != MACHINE_RUNS) continue;
        report_range(text, m->made.env, m->made.memory, m->made.count, m->config.name, "");
        report_range(text, 0, m->ram, m->ram_count, m->config.name, "-guest");
    }
    const struct made *made;
    for (unsigned i = 0; (made = bridge_made(i)); i++)
        report_range(text, made->env, made->memory, made->count, made->child.start.name, "-bridge");
}

void report_info(struct text *text)
{
    static const char *const caps[] = {"none", "svm npt", "vmx ept"};
    unsigned running = 0;
    char name[EXO_CPU_NAME];
    for (const struct machine *m = machines; m < machines + MACHINES; m++)
        running += m->state == MACHINE_RUNS;
    text_add(text, " host                   : exovisor\n");
    text_add(text, " nr_cpus                : %u\n", exo.start.cpus);
    text_add(text, " cpu_mhz                : %lu\n", exo.start.tsc_hz / 1000000);
    text_add(text, " cpu_model              : %s\n", exo_cpu_name(name));
    if (exo.info) {
        text_add(text, " virt_caps              : %s\n",
                 exo.info->vm < EXO_COUNT(caps) ? caps[exo.info->vm] : "unknown");
        text_add(text, " abi                    : %u\n", exo.info->abi);
    }
    text_add(text, " total_memory           : %lu\n", memory_kib(exo.pool.count) >> 10);
    text_add(text, " free_memory            : %lu\n", memory_kib(exo.pool.free) >> 10);
    text_add(text, " nr_machines            : %u of %u\n", running, MACHINES);
}
