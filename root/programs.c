/* SPDX-License-Identifier: MIT
 *
 * Programs: each an env of its own, made of a range of RAM that comes back when it
 * ends. A program ends by the service gate, or by a fault that nothing in it
 * handles, which its fault event tells root of. What it held is then destroyed, and
 * its frames are compared with how they were before it. */
#include "../lib/exo/tables.h"
#include "root.h"

#define COM1_FIRST 0x3f8
#define COM1_COUNT 8

struct running {
    const struct root_program *program;
    struct exo_child child;
    struct exo_pool *pool;
    uint64_t taken; /* frames of the pool */
    uint64_t *bits; /* of child.pool, until it is started */
    uint64_t frame, memory, count; /* of its env, and of its memory */
    struct exo_pool *block_pool; /* of its second range, NULL none */
    uint64_t block, block_count;
    uint32_t fault; /* our event, which its fault event is derived from */
    bool ended;
};

static struct running running[ROOT_PROGRAMS];
static uint32_t running_count;
static uint32_t service; /* gate without badge */
static uint32_t slots_next[EXO_MAX_CPUS]; /* positions given out so far */
static struct exo_names *names; /* who is who, for those with the tables; NULL: no memory */
static uint64_t names_frame;

/* ---- starting ---------------------------------------------------------------------- */

static long give_slots(struct running *r)
{
    const struct root_program *p = r->program;
    for (uint32_t cpu = 0; cpu < exo.info->cpus; cpu++) {
        uint32_t n = cpu == p->cpu ? p->slots : p->slots_other;
        if (!n) continue;
        if (slots_next[cpu] + n > EXO_SLOTS_PER_CPU) {
            exo_printf("root: %s: CPU %u has no %u slots left\n", p->name, cpu, n);
            return -EXO_E_LIMIT;
        }
        uint32_t first = cpu * EXO_SLOTS_PER_CPU + slots_next[cpu];
        long sel = exo_child_give(&r->child, EXO_ROOT_SLOTS, EXO_USE, first, n);
        if (sel < 0) return sel;
        slots_next[cpu] += n;
        r->child.start.slots[cpu] = (struct exo_range){(uint32_t)sel, first, n, 0};
    }
    return 0;
}

/* Ports [first, last] out of whichever capability of root has them all. */
static long give_ports(struct running *r, uint32_t first, uint32_t last)
{
    long sel = -EXO_E_RANGE;
    for (uint32_t src = EXO_ROOT_PORTS; src < EXO_ROOT_ARCHIVE && sel < 0; src++)
        sel = exo_child_give(&r->child, src, EXO_USE, first, last - first + 1);
    return sel;
}

static long give_resources(struct running *r, uint32_t index)
{
    const struct root_program *p = r->program;
    struct exo_startup *start = &r->child.start;
    long sel = exo_child_give(&r->child, service, EXO_GATE_CALL, index + 1, 1);
    if (sel < 0) return sel;
    start->sel_service = (uint32_t)sel;
    if (p->console) {
        sel = give_ports(r, COM1_FIRST, COM1_FIRST + COM1_COUNT - 1);
        start->sel_console = sel < 0 ? 0 : (uint32_t)sel;
    }
    if (p->tables && sel >= 0) {
        sel = exo_child_give(&r->child, EXO_ROOT_TABLES, EXO_R, exo.start.tables_base,
                             exo.start.tables_count);
        start->sel_tables = sel < 0 ? 0 : (uint32_t)sel;
        if (names && sel >= 0) sel = exo_child_give(&r->child, exo.pool.sel, EXO_R, names_frame, 1);
        if (names && sel >= 0)
            start->names = (struct exo_range){(uint32_t)sel, (uint32_t)names_frame, 1, 0};
    }
    for (uint32_t i = 0; i < p->nports && sel >= 0; i++) {
        sel = give_ports(r, p->ports[i].first, p->ports[i].last);
        if (!i && sel >= 0) start->sel_ports = (uint32_t)sel;
    }
    if (p->archive && sel >= 0) {
        const struct exo_range *range = &exo.start.archive;
        sel = exo_child_give(&r->child, range->sel, EXO_R, range->first, range->count);
        start->archive = (struct exo_range){(uint32_t)sel, range->first, range->count, 0};
        start->archive_bytes = exo.start.archive_bytes;
    }
    if (p->irqs && sel >= 0) {
        exo_cap_info(EXO_ROOT_IRQS);
        uint64_t first = exo_page()->list[0].va, count = exo_page()->list[0].frame;
        sel = exo_child_give(&r->child, EXO_ROOT_IRQS, EXO_USE, first, count);
        if (sel >= 0)
            start->irqs = (struct exo_range){(uint32_t)sel, (uint32_t)first, (uint32_t)count, 0};
    }
    return sel < 0 ? sel : give_slots(r);
}

/* Its second range, where some pool has one; it can see that it has none. */
static long give_block(struct running *r)
{
    uint64_t n = r->program->block / EXO_PAGE;
    for (uint32_t i = 0; i < root_ram_count && n; i++) {
        long frame = exo_frames_alloc(&root_ram[i], n, n);
        if (frame < 0) continue;
        r->block_pool = &root_ram[i];
        r->block = (uint64_t)frame;
        r->block_count = n;
        long sel = exo_child_give(&r->child, root_ram[i].sel, EXO_RIGHTS_ALL, r->block, n);
        if (sel < 0) return sel;
        r->child.start.block =
            (struct exo_range){(uint32_t)sel, (uint32_t)r->block, (uint32_t)n, 0};
        return 0;
    }
    if (n)
        exo_printf("root: %s: there is no block of %lu KiB\n", r->program->name,
                   r->program->block >> 10);
    return 0;
}

static void free_block(struct running *r)
{
    if (r->block_pool) exo_frames_free(r->block_pool, r->block, r->block_count);
}

static uint32_t program_tables(const struct root_program *p)
{
    return (p->selectors + EXO_TAB_CAPS - 1) / EXO_TAB_CAPS;
}

static long program_build(struct running *r, uint32_t index, const void *file, size_t size)
{
    const struct root_program *p = r->program;
    uint32_t tables = program_tables(p);
    uint64_t frames = p->memory / EXO_PAGE;
    r->pool = root_pool_for(frames + 3 + tables);
    r->bits = malloc(EXO_POOL_WORDS(frames) * 8);
    if (!r->pool || !r->bits) return -EXO_E_LIMIT;
    long fault = exo_event_new(exo.start.sel_thread, 1ul << index);
    if (fault < 0) return fault;
    r->fault = (uint32_t)fault;
    long error =
        exo_child_make(&r->child, r->pool, frames, tables, p->cpu, (uint32_t)fault, r->bits);
    if (error < 0) return error;
    r->taken = frames + 3 + tables;
    r->frame = r->child.frame;
    r->memory = r->child.pool.base;
    r->count = frames;
    error = exo_child_load(&r->child, file, size);
    if (error == 0) error = give_resources(r, index);
    if (error >= 0) error = give_block(r);
    if (error < 0) return error;
    loan_give(index, p->loan / EXO_PAGE);
    exo_strcpy(r->child.start.name, p->name, sizeof(r->child.start.name));
    exo_strcpy(r->child.start.args, p->args, sizeof(r->child.start.args));
    return 0;
}

static void not_started(const struct root_program *p, long error)
{
    exo_printf("root: config line %u: %s: not started: %s\n", p->line, p->name,
               exo_strerror(error));
}

static void program_make(const struct root_program *p)
{
    const void *file;
    size_t size;
    if (p->cpu >= exo.info->cpus) {
        exo_printf("root: config line %u: %s: there is no CPU %u\n", p->line, p->name, p->cpu);
        return;
    }
    if (exo_archive_find(p->file, &file, &size) < 0) {
        exo_printf("root: config line %u: %s: the archive has no file '%s'\n", p->line, p->name,
                   p->file);
        return;
    }
    struct running *r = &running[running_count];
    *r = (struct running){.program = p};
    long error = program_build(r, running_count, file, size);
    if (error < 0) {
        not_started(p, error);
        if (r->child.env) exo_child_destroy(&r->child);
        free_block(r);
        loan_end(running_count);
        free(r->bits);
        if (r->fault) exo_drop(r->fault);
        return;
    }
    running_count++;
}

struct exo_child *program_child(uint32_t index) { return &running[index].child; }

struct exo_child *program_named(const char *name, uint32_t *index)
{
    for (*index = 0; *index < running_count; ++*index)
        if (!strcmp(running[*index].program->name, name)) return &running[*index].child;
    return NULL;
}

/* ---- ending --------------------------------------------------------------------------- */

uint64_t frames_in_use(uint64_t frame, uint64_t n)
{
    uint64_t used = 0;
    for (uint64_t f = frame; f < frame + n; f++)
        used += EXO_FW_TYPE(exo.words[f]) != EXO_FT_PLAIN || EXO_FW_BINDINGS(exo.words[f]);
    return used;
}

/* Every frame of the program is plain and bound nowhere again, and the pool's. */
static void leak_check(const struct running *r, uint64_t given_back)
{
    uint64_t leaked = frames_in_use(r->frame, 3 + program_tables(r->program)) +
                      frames_in_use(r->memory, r->count) + frames_in_use(r->block, r->block_count);
    if (leaked || given_back != r->taken)
        exo_printf("root: LEAK %s: %lu frames still in use, %lu not given back\n", r->program->name,
                   leaked, r->taken - given_back);
}

/* A program that was made or has ended, in the page that others read. */
static void name_set(uint32_t index)
{
    const struct running *r = &running[index];
    if (!names) return;
    names->count = running_count;
    names->program[index].env = r->ended ? 0 : (uint32_t)r->frame;
    names->program[index].first = (uint32_t)r->memory;
    names->program[index].frames = (uint32_t)r->count;
    names->program[index].block = (uint32_t)r->block;
    names->program[index].block_frames = (uint32_t)r->block_count;
    loan_named(index, &names->program[index].loan, &names->program[index].loan_frames,
               &names->program[index].loan_held);
    exo_strcpy(names->program[index].name, r->program->name, sizeof(names->program[index].name));
}

void loan_changed(uint32_t index) { name_set(index); }

static void names_make(void)
{
    long frame = exo_map(EXO_NAMES_VA, 1, EXO_R | EXO_W);
    if (frame < 0) return;
    names_frame = (uint64_t)frame;
    names = (struct exo_names *)EXO_NAMES_VA;
}

static void program_end(struct running *r)
{
    uint64_t free_before = r->pool->free;
    long error = exo_child_destroy(&r->child);
    r->ended = true;
    exo_drop(r->fault);
    if (error < 0)
        exo_printf("root: %s: cannot be destroyed: %s\n", r->program->name, exo_strerror(error));
    else
        leak_check(r, r->pool->free - free_before);
    free_block(r);
    loan_end((uint32_t)(r - running));
    channels_end((uint32_t)(r - running));
    name_set((uint32_t)(r - running));
}

static void program_start(struct running *r)
{
    long error = exo_child_start(&r->child);
    free(r->bits);
    if (error >= 0) return;
    not_started(r->program, error);
    program_end(r);
}

static void report_fault(struct running *r)
{
    const struct exo_regs *regs = &exo_page()->regs;
    const char *name = r->program->name;
    long state = exo_thread_read(r->child.thread);
    if (state != EXO_T_FAULTED)
        exo_printf("root: %s: a thread of it died\n", name);
    else if (regs->rax == EXO_EXIT_MAGIC)
        exo_printf("root: %s: ended with %ld\n", name, (long)regs->rdi);
    else
        exo_printf("root: %s: died of exception %lu error %lx address %lx at rip %lx rsp %lx\n",
                   name, regs->vector, regs->error, regs->addr, regs->rip, regs->rsp);
}

static void serve(uint64_t badge, uint64_t word[4], uint64_t item)
{
    (void)item;
    struct running *r = &running[badge - 1];
    uint64_t operation = word[0];
    long status = (long)word[1];
    bool known = badge && badge <= running_count && !r->ended;
    if (known && operation >= EXO_SERVICE_BORROW && operation <= EXO_SERVICE_REFUSE)
        return loan_call((uint32_t)badge - 1, r->program->borrow, word);
    memset(word, 0, 4 * sizeof(*word));
    if (!known || operation != EXO_SERVICE_EXIT) {
        word[0] = (uint64_t)-EXO_E_ARG;
        return;
    }
    exo_printf("root: %s: ended with %ld\n", r->program->name, status);
    program_end(r); /* with the caller, who waits for this reply */
    exo_event_signal(exo.join_event); /* the loop below looks again */
}

static bool all_ended(void)
{
    for (uint32_t i = 0; i < running_count; i++)
        if (running[i].program->wait && !running[i].ended) return false;
    return true;
}

void programs_run(const struct root_config *config)
{
    long gate = exo_gate_new(exo.start.sel_thread, 0);
    if (gate < 0) {
        exo_printf("root: cannot serve programs: %s\n", exo_strerror(gate));
        return;
    }
    service = (uint32_t)gate;
    exo_slot_bind(EXO_ROOT_SLOTS, 0, EXO_ROOT_THREAD, 0);
    slots_next[0] = 1; /* root's own */
    names_make();
    for (uint32_t i = 0; i < config->count; i++)
        program_make(&config->programs[i]);
    for (uint32_t i = 0; i < running_count; i++)
        name_set(i);
    channels_make(config);
    for (uint32_t i = 0; i < running_count; i++)
        program_start(&running[i]);
    uint64_t mask = (1ul << ROOT_PROGRAMS) - 1;
    while (!all_ended()) {
        long events = exo_serve(serve, mask | EXO_EV_JOIN);
        for (uint32_t i = 0; i < running_count && events > 0; i++)
            if (events >> i & 1 && !running[i].ended) {
                report_fault(&running[i]);
                program_end(&running[i]);
            }
    }
}
