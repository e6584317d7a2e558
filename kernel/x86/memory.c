/* SPDX-License-Identifier: MIT
 *
 * Physical memory at boot: which of it is RAM, what the kernel takes of it, and the
 * kernel's own part of the address space (platform.h). After boot the kernel never
 * allocates: what is left belongs to root.
 *
 * Invariants: `ram` lists the frames that nobody has taken, disjoint, never one
 * below 1 MiB; a frame leaves it when it is taken. Only the boot CPU runs here.
 */
#include "x86.h"

#define FIRST_FRAME 256u /* the first MiB is the kernel's: trampoline, firmware */
#define FRAMES_4G 0x100000u
#define FRAMES_MAX 0x4000000u /* 256 GiB: what a cref_t and a frame word can name */
#define BLOCK_2M 0x200000ul
#define STACKS (KERNEL_IMAGE + 0x40000000)
#define STACK_STRIDE 16u /* pages a CPU: guard, kernel stack, then guard + page by IST */
#define STACK_PAGES 4u
#define IST_STACKS 4u

uint64_t *words, *blocks2m, *blocks1g, *lines;
struct exo_slot *slots;
struct exo_irq *irqs;
struct exo_cpu *counters;
struct exo_info *info;
struct cpu *cpus;
uint32_t nframes, ncpus = 1, tree_lock;
uint64_t kernel_cr3;
struct ram ram[EXO_RAM_MAX];
unsigned ram_count;
uint32_t exposed_frame, exposed_count;

static unsigned early; /* ram[] that memory_take takes from */
static uint64_t *mmio_table, *stack_table; /* one page table each: 2 MiB */
static unsigned mmio_used;
extern const char image_text[], image_rodata[], image_data[], image_end[];

/* Takes [base, end) out of the list, rounded outwards to whole frames by the caller. */
static void ram_cut(uint64_t base, uint64_t end)
{
    for (unsigned i = 0; i < ram_count; i++) {
        uint64_t b = ram[i].base, e = b + ram[i].count;
        if (end <= b || e <= base) continue;
        ram[i].count = base > b ? (uint32_t)(base - b) : 0;
        if (end < e && ram_count < EXO_RAM_MAX)
            ram[ram_count++] = (struct ram){(uint32_t)end, (uint32_t)(e - end)};
    }
    for (unsigned i = 0; i < ram_count;)
        if (ram[i].count)
            i++;
        else
            ram[i] = ram[--ram_count];
}

static void ram_find(void)
{
    for (unsigned i = 0; i < boot.ranges && ram_count < EXO_RAM_MAX; i++) {
        struct boot_range *r = &boot.range[i];
        uint64_t base = (r->base + EXO_PAGE - 1) >> 12, end = r->end >> 12;
        if (end > FRAMES_MAX) end = FRAMES_MAX;
        if (r->type != BOOT_RAM || base >= end) continue;
        ram[ram_count++] = (struct ram){(uint32_t)base, (uint32_t)(end - base)};
        if (end > nframes) nframes = (uint32_t)end;
    }
    for (unsigned i = 0; i < boot.ranges; i++)
        if (boot.range[i].type != BOOT_RAM)
            ram_cut(boot.range[i].base >> 12, (boot.range[i].end + EXO_PAGE - 1) >> 12);
    ram_cut(0, FIRST_FRAME);
    ram_cut(FIRST_FRAME, ((uint64_t)image_end - KERNEL_IMAGE) >> 12);
    ram_cut(boot.archive >> 12, (boot.archive + boot.archive_bytes + EXO_PAGE - 1) >> 12);
    for (unsigned i = 0; i < ram_count; i++)
        if (ram[i].base + ram[i].count <= FRAMES_4G &&
            (ram[early].base >= FRAMES_4G || ram[i].count > ram[early].count))
            early = i;
    if (!ram_count || ram[early].base >= FRAMES_4G) panic("no RAM found below 4 GiB");
}

uint64_t memory_take(uint64_t pages)
{
    struct ram *r = &ram[early];
    if (pages >= r->count) panic("not enough RAM: %lu KiB more are needed", pages * 4);
    uint64_t phys = (uint64_t)r->base << 12;
    r->base += (uint32_t)pages;
    r->count -= (uint32_t)pages;
    memset(phys_ptr(phys), 0, pages << 12);
    return phys;
}

/* From the highest range that holds so many. */
uint32_t memory_take_top(uint32_t count)
{
    struct ram *best = NULL;
    for (unsigned i = 0; i < ram_count; i++)
        if (ram[i].count > count && (!best || ram[i].base > best->base)) best = &ram[i];
    if (!best) panic("not enough RAM for root: %u KiB in one piece are needed", count * 4);
    best->count -= count;
    return best->base + best->count;
}

/* The table that entry i of `table` leads to, made if it is missing. */
static uint64_t *table_below(uint64_t *table, unsigned i)
{
    if (!(table[i] & PTE_P)) table[i] = memory_take(1) | PTE_P | PTE_W;
    return phys_ptr(table[i] & PTE_FRAME);
}

/* The image, page by page, each section with its own rights. */
static void image_map(void)
{
    uint64_t *directory = phys_ptr(memory_take(1));
    for (uint64_t va = (uint64_t)image_text; va < (uint64_t)image_end; va += EXO_PAGE) {
        uint64_t rights = PTE_P | PTE_W | PTE_NX;
        if (va < (uint64_t)image_rodata)
            rights = PTE_P;
        else if (va < (uint64_t)image_data)
            rights = PTE_P | PTE_NX;
        uint64_t phys = va - KERNEL_IMAGE;
        table_below(directory, (unsigned)(phys >> 21))[phys >> 12 & 511] =
            phys | rights | PTE_GLOBAL;
    }
    uint64_t *image = phys_ptr(boot_tables.image);
    image[0] = ((uint64_t)directory - WINDOW_TABLES) | PTE_P | PTE_W;
    stack_table = table_below(table_below(image, (STACKS >> 30) & 511), 0);
    mmio_table = table_below(table_below(phys_ptr(boot_tables.mmio), 0), 0);
}

/* The windows beyond the 4 GiB that start.S mapped. */
static void windows_extend(void)
{
    uint64_t *pdpt = phys_ptr(boot_tables.windows);
    for (unsigned i = 0; i < ram_count; i++) {
        uint64_t at = (uint64_t)ram[i].base << 12 & ~(BLOCK_2M - 1);
        uint64_t end = ((uint64_t)ram[i].base + ram[i].count) << 12;
        for (; at < end; at += BLOCK_2M)
            if (at >> 12 >= FRAMES_4G)
                table_below(pdpt, (unsigned)(at >> 30))[at >> 21 & 511] =
                    at | PTE_P | PTE_W | PTE_PS | PTE_GLOBAL;
    }
}

static uint64_t pages_for(uint64_t bytes) { return (bytes + EXO_PAGE - 1) >> 12; }

/* One stretch of RAM for all that is exposed: info, words, slots, irqs, counters. */
static void exposed_place(void)
{
    void **tables_at[] = {(void **)&words, (void **)&slots, (void **)&irqs, (void **)&counters};
    const uint64_t pages[] = {pages_for(nframes * sizeof *words),
                              pages_for(sizeof *slots * EXO_MAX_CPUS * EXO_SLOTS_PER_CPU),
                              pages_for(sizeof *irqs * EXO_IRQ_COUNT),
                              pages_for(sizeof *counters * EXO_MAX_CPUS)};
    uint64_t at = memory_take(1 + pages[0] + pages[1] + pages[2] + pages[3]);
    info = phys_ptr(at);
    exposed_frame = (uint32_t)(at >> 12);
    exposed_count = 1;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t *told = &info->words_frame + (size_t)2 * i; /* frame, count; four of them */
        told[0] = exposed_frame + exposed_count;
        told[1] = (uint32_t)pages[i];
        *tables_at[i] = phys_ptr((uint64_t)told[0] << 12);
        exposed_count += told[1];
    }
    lines = phys_ptr(memory_take(pages[0]));
    blocks2m = phys_ptr(memory_take(pages_for(((nframes >> 9) + 1) * sizeof *blocks2m)));
    blocks1g = phys_ptr(memory_take(pages_for(((nframes >> 18) + 1) * sizeof *blocks1g)));
}

void memory_init(void)
{
    kernel_cr3 = boot_tables.root;
    ram_find();
    image_map();
    windows_extend();
    exposed_place();
    cr3_write(kernel_cr3);
}

void *mmio_map(uint64_t phys)
{
    if (mmio_used == 512) panic("too many I/O APICs");
    mmio_table[mmio_used] = (phys & PTE_FRAME) | PTE_P | PTE_W | PTE_NX | PTE_UNCACHED | PTE_GLOBAL;
    return (void *)(KERNEL_MMIO + ((uint64_t)mmio_used++ << 12) + (phys & (EXO_PAGE - 1)));
}

/* First page and number of pages of a stack within its CPU's stride. */
static unsigned stack_place(unsigned ist, unsigned *pages)
{
    *pages = ist ? 1 : STACK_PAGES;
    return ist ? STACK_PAGES + 2 * ist : 1;
}

uint64_t stack_top(unsigned cpu, unsigned ist)
{
    unsigned pages, first = stack_place(ist, &pages);
    return STACKS + ((uint64_t)(cpu * STACK_STRIDE + first + pages) << 12);
}

void memory_cpu(unsigned cpu)
{
    percpus[cpu].guest_pages = memory_take(2);
    for (unsigned ist = 0; ist <= IST_STACKS; ist++) {
        unsigned pages, first = stack_place(ist, &pages);
        for (unsigned i = 0; i < pages; i++)
            stack_table[cpu * STACK_STRIDE + first + i] =
                memory_take(1) | PTE_P | PTE_W | PTE_NX | PTE_GLOBAL;
    }
}

static void words_set(uint64_t base, uint64_t end, unsigned type)
{
    for (uint64_t f = base; f < end && f < nframes; f++)
        words[f] = (uint64_t)type << 32;
}

/* Types all frames and counts the typed ones of each block. */
void memory_words(void)
{
    words_set(0, nframes, EXO_FT_DEVICE);
    for (unsigned i = 0; i < boot.ranges; i++)
        if (boot.range[i].type == BOOT_RAM)
            words_set(boot.range[i].base >> 12, boot.range[i].end >> 12, EXO_FT_KERNEL);
    for (unsigned i = 0; i < boot.ranges; i++)
        if (boot.range[i].type != BOOT_RAM)
            words_set(boot.range[i].base >> 12, (boot.range[i].end + EXO_PAGE - 1) >> 12,
                      EXO_FT_DEVICE);
    words_set(0, FIRST_FRAME, EXO_FT_KERNEL);
    words_set(exposed_frame, exposed_frame + exposed_count, EXO_FT_TABLE);
    words_set(boot.archive >> 12, (boot.archive + boot.archive_bytes + EXO_PAGE - 1) >> 12,
              EXO_FT_PLAIN);
    for (unsigned i = 0; i < ram_count; i++)
        words_set(ram[i].base, (uint64_t)ram[i].base + ram[i].count, EXO_FT_PLAIN);
    for (uint32_t f = 0; f < nframes; f++)
        if (EXO_FW_TYPE(words[f]) != EXO_FT_PLAIN) {
            blocks1g[f >> 18] += 1ul << 32;
            blocks2m[f >> 9] += 1ul << 32;
        }
}

/* Nothing but RAM and firmware tables stays in the windows, nothing executable. */
void memory_seal(void)
{
    uint64_t *pdpt = phys_ptr(boot_tables.windows), *root = phys_ptr(boot_tables.root);
    for (uint64_t at = 0; at >> 12 < FRAMES_4G; at += BLOCK_2M) {
        bool used = false;
        for (unsigned i = 0; i < boot.ranges; i++)
            used |= boot.range[i].type == BOOT_RAM && boot.range[i].base < at + BLOCK_2M &&
                    at < boot.range[i].end;
        uint64_t *directory = phys_ptr(pdpt[at >> 30] & PTE_FRAME);
        directory[at >> 21 & 511] = used ? at | PTE_P | PTE_W | PTE_PS | PTE_GLOBAL : 0;
    }
    for (unsigned i = 256; i < 256 + 7; i++)
        root[i] |= PTE_NX;
    root[0] = 0;
}

/* The kernel's part is the same in all address spaces. */
void root_init(uint32_t frame)
{
    for (unsigned i = 256; i < 272; i++)
        tables[frame].e[i] = tables[kernel_cr3 >> 12].e[i];
}
