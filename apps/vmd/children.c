/* SPDX-License-Identifier: MIT
 *
 * Programs that we start, and our time slots that they get. What a child is made of comes
 * from our own memory and goes back there when it has ended, however it did. */
#include "vmd.h"

#define OWN_SLOTS 2 /* that we keep on our own CPU */

static uint64_t slots_free[EXO_MAX_CPUS]; /* a bit each of exo.start.slots[cpu] */

void slots_init(void)
{
    for (unsigned cpu = 0; cpu < EXO_MAX_CPUS; cpu++) {
        const struct exo_range *range = &exo.start.slots[cpu];
        uint32_t own = cpu == exo.start.cpu ? OWN_SLOTS : 0;
        for (uint32_t i = own; i < range->count && i < EXO_SLOTS_PER_CPU; i++) {
            if (own) exo_slot_unbind(range->sel, range->first + i);
            slots_free[cpu] |= 1ul << i;
        }
    }
}

/* The first n free ones in a row, of a CPU; EXO_SLOTS_PER_CPU: there are none. */
static unsigned slots_find(unsigned cpu, unsigned n)
{
    unsigned run = 0;
    for (unsigned i = 0; i < EXO_SLOTS_PER_CPU; i++) {
        run = slots_free[cpu] >> i & 1 ? run + 1 : 0;
        if (run == n) return i + 1 - n;
    }
    return EXO_SLOTS_PER_CPU;
}

long slots_give(struct made *made, unsigned cpu, unsigned n)
{
    const struct exo_range *range = &exo.start.slots[cpu];
    unsigned at = EXO_SLOTS_PER_CPU;
    while (n && (at = slots_find(cpu, n)) == EXO_SLOTS_PER_CPU)
        n--;
    if (!n) return 0; /* it runs on what nobody uses */
    uint32_t first = range->first + at;
    long sel = exo_child_give(&made->child, range->sel, EXO_USE, first, n);
    if (sel < 0) return sel;
    made->child.start.slots[cpu] = (struct exo_range){(uint32_t)sel, first, n, 0};
    uint64_t mask = (n == EXO_SLOTS_PER_CPU ? 0 : 1ul << n) - 1;
    made->slots[cpu] = mask << at;
    slots_free[cpu] &= ~made->slots[cpu];
    return 0;
}

static long made_build(struct made *made, const struct exo_file *file, const char *name,
                       uint64_t frames, unsigned cpu, uint64_t fault_bit)
{
    made->bits = malloc(EXO_POOL_WORDS(frames) * 8);
    if (!made->bits) return -EXO_E_LIMIT;
    long r = exo_event_new(exo.start.sel_thread, fault_bit);
    if (r < 0) return r;
    made->fault = (uint32_t)r;
    r = exo_child_make(&made->child, &exo.pool, frames, (uint32_t)made->tables, cpu, made->fault,
                       made->bits);
    if (r < 0) return r;
    made->env = made->child.frame;
    made->memory = made->child.pool.base;
    made->count = frames;
    r = exo_child_load(&made->child, file->data, file->size);
    if (r < 0) return r;
    exo_strcpy(made->child.start.name, name, sizeof(made->child.start.name));
    const struct exo_range *archive = &exo.start.archive;
    r = exo_child_give(&made->child, archive->sel, EXO_R, archive->first, archive->count);
    if (r < 0) return r;
    made->child.start.archive = (struct exo_range){(uint32_t)r, archive->first, archive->count, 0};
    made->child.start.archive_bytes = exo.start.archive_bytes;
    return 0;
}

long made_make(struct made *made, const struct exo_file *file, const char *name, uint64_t frames,
               uint32_t selectors, unsigned cpu, uint64_t fault_bit)
{
    *made = (struct made){.tables = selectors / EXO_TAB_CAPS};
    long r = made_build(made, file, name, frames, cpu, fault_bit);
    if (r < 0) {
        exo_printf("%s: no program with %lu KiB can be made: %s\n", name, frames * (EXO_PAGE >> 10),
                   exo_strerror(r));
        made_end(made);
    }
    return r;
}

long made_start(struct made *made)
{
    long r = exo_child_start(&made->child);
    free(made->bits);
    made->bits = NULL;
    return r;
}

void made_fault(const struct made *made)
{
    const struct exo_regs *regs = &exo_page()->regs;
    const char *name = made->child.start.name;
    long state = exo_thread_read(made->child.thread);
    if (state != EXO_T_FAULTED)
        exo_printf("%s: a thread of it died\n", name);
    else if (regs->rax == EXO_EXIT_MAGIC)
        exo_printf("%s: ended with %ld\n", name, (long)regs->rdi);
    else
        exo_printf("%s: died of exception %lu error %lx address %lx at rip %lx\n", name,
                   regs->vector, regs->error, regs->addr, regs->rip);
}

uint64_t frames_in_use(uint64_t frame, uint64_t n)
{
    uint64_t used = 0;
    for (uint64_t f = frame; exo.words && f < frame + n; f++)
        used += EXO_FW_TYPE(exo.words[f]) != EXO_FT_PLAIN || EXO_FW_BINDINGS(exo.words[f]);
    return used;
}

void made_end(struct made *made)
{
    char name[NAME];
    exo_strcpy(name, made->child.start.name, sizeof(name));
    long r = made->child.env ? exo_child_destroy(&made->child) : 0;
    if (r < 0) exo_printf("%s: cannot be destroyed: %s\n", name, exo_strerror(r));
    uint64_t leaked = made->count ? frames_in_use(made->env, 3 + made->tables) +
                                        frames_in_use(made->memory, made->count)
                                  : 0;
    if (leaked) exo_printf("vmd: LEAK %s: %lu frames still in use\n", name, leaked);
    if (made->fault) exo_drop(made->fault);
    free(made->bits);
    for (unsigned cpu = 0; cpu < EXO_MAX_CPUS; cpu++)
        slots_free[cpu] |= made->slots[cpu];
    *made = (struct made){0};
}
