/* SPDX-License-Identifier: MIT
 *
 * Guest memory: the startup page's `block`, or where there is none, part of our own memory.
 * Bound once in our own space by large pages, and in the VM's address space at the first nested fault in each 2 MiB. A
 * region is cleared before anybody, guest or device model, sees it: frames come from root
 * as somebody else left them.
 *
 * A page that the balloon gave up splits its region: it is unbound, and what the guest
 * touches there later comes back by single pages, this one cleared.
 *
 * Page tables and objects of the VM are frames of our own memory, which the VM's table
 * has a capability of. All of this under the device lock, but for guest_ptr on regions
 * that are clean.
 */
#include "vcpu.h"

#define RAM_VA 0x0000100000000000ul
#define REGION (2ul << 20)
#define REGION_PAGES (REGION / EXO_PAGE)
#define HIGH_BASE (4ull << 30)
#define ENV_TABLES 1

#define CLEAN 1 /* flags of a region */
#define SPLIT 2

static uint64_t ram_low, ram_high;
static uint64_t ram_first; /* frame */
struct exo_vm memory_vm;
static uint32_t sel_own, sel_ram; /* the VM's selectors: our memory, guest memory */
static uint8_t *regions; /* one a 2 MiB */
static uint64_t *given; /* a bit a page; NULL until the balloon gives one */
static uint64_t given_count;
static uint64_t rom_base, rom_bytes, rom_frame;

uint64_t guest_ram_low(void) { return ram_low; }
uint64_t guest_ram_high(void) { return ram_high; }
uint64_t memory_given(void) { return given_count; }

/* The place in RAM of a guest-physical address; false: not `bytes` of RAM there. */
static bool ram_offset(uint64_t address, uint64_t bytes, uint64_t *offset)
{
    if (address < ram_low) {
        *offset = address;
        return bytes <= ram_low - address;
    }
    if (address < HIGH_BASE || address - HIGH_BASE >= ram_high) return false;
    *offset = ram_low + (address - HIGH_BASE);
    return bytes <= ram_high - (address - HIGH_BASE);
}

static void clear(void *at, uint64_t bytes)
{
    uint64_t words = bytes / 8;
    __asm__ volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(0ul) : "memory");
}

static void region_clean(uint64_t region)
{
    if (regions[region] & CLEAN) return;
    uint64_t bytes = EXO_MIN(REGION, ram_low + ram_high - region * REGION);
    clear((void *)(RAM_VA + region * REGION), bytes);
    regions[region] |= CLEAN;
}

void *guest_ptr(uint64_t address, uint64_t bytes)
{
    uint64_t offset;
    if (!ram_offset(address, bytes, &offset)) return NULL;
    uint64_t last = bytes ? offset + bytes - 1 : offset;
    for (uint64_t region = offset / REGION; region <= last / REGION; region++)
        region_clean(region);
    return (void *)(RAM_VA + offset);
}

bool guest_read(uint64_t address, void *to, uint64_t bytes)
{
    const void *from = guest_ptr(address, bytes);
    if (from) memcpy(to, from, bytes);
    return from != NULL;
}

bool guest_write(uint64_t address, const void *from, uint64_t bytes)
{
    void *to = guest_ptr(address, bytes);
    if (to) memcpy(to, from, bytes);
    return to != NULL;
}

/* ---- the VM's address space -------------------------------------------------------------- */

/* Makes the tables down to `level` for an address; 0 also where they are there. */
static long tables_make(uint64_t address, unsigned level)
{
    for (unsigned at = 3; at >= level; at--) {
        long frame = exo_frames_alloc(&exo.pool, 1, 1);
        if (frame < 0) return frame;
        long r;
        do
            r = exo_pt_make(memory_vm.env, address, at, sel_own, (uint64_t)frame);
        while (r == -EXO_E_AGAIN);
        if (r < 0) exo_frames_free(&exo.pool, (uint64_t)frame, 1);
        if (r < 0 && r != -EXO_E_BOUND) return r;
    }
    return 0;
}

/* 0 also where something is bound. */
static long bind(uint64_t address, uint32_t sel, uint64_t frame, unsigned rights)
{
    bool tables = false;
    for (;;) {
        long r = exo_page_bind(memory_vm.env, address, 1, sel, frame, rights);
        if (r == -EXO_E_AGAIN) continue;
        if (r == -EXO_E_NOPT && !tables) {
            r = tables_make(address, rights & EXO_LARGE_2M ? 2 : 1);
            if (r < 0) return r;
            tables = true;
            continue;
        }
        return r > 0 || r == -EXO_E_BOUND ? 0 : r;
    }
}

/* A page of a split region comes (back): cleared if the balloon had given it up. */
static long bind_single(uint64_t address, uint64_t offset)
{
    uint64_t page = offset / EXO_PAGE, bit = 1ul << page % 64;
    if (given && given[page / 64] & bit) {
        clear((void *)(RAM_VA + page * EXO_PAGE), EXO_PAGE);
        given[page / 64] &= ~bit;
        given_count--;
        vm_shared->ballooned -= EXO_PAGE;
    }
    return bind(address & -(uint64_t)EXO_PAGE, sel_ram, ram_first + page, EXO_R | EXO_W | EXO_X);
}

long memory_fault(uint64_t address)
{
    uint64_t offset, start;
    if (!ram_offset(address, 1, &offset)) return -EXO_E_RANGE;
    uint64_t region = offset / REGION, base = address & -REGION;
    region_clean(region);
    if (regions[region] & SPLIT || !ram_offset(base, REGION, &start))
        return bind_single(address, offset);
    return bind(base, sel_ram, ram_first + start / EXO_PAGE, EXO_R | EXO_W | EXO_X | EXO_LARGE_2M);
}

static void unbind(uint64_t address)
{
    long r;
    do
        r = exo_page_unbind(memory_vm.env, address, 1);
    while (r == -EXO_E_AGAIN);
}

void guest_page_give(uint64_t page)
{
    uint64_t offset;
    uint64_t address = page * EXO_PAGE;
    if (page > UINT64_MAX / EXO_PAGE || !ram_offset(address, EXO_PAGE, &offset)) return;
    if (!given) {
        uint64_t words = ((ram_low + ram_high) / EXO_PAGE + 63) / 64;
        given = malloc(words * 8);
        if (!given) return; /* the page stays: nothing is promised */
        memset(given, 0, words * 8);
    }
    page = offset / EXO_PAGE;
    uint64_t bit = 1ul << page % 64;
    if (given[page / 64] & bit) return;
    given[page / 64] |= bit;
    given_count++;
    vm_shared->ballooned += EXO_PAGE;
    /* The whole region goes; its other pages come back as they are touched. */
    regions[offset / REGION] |= SPLIT;
    unbind(address);
}

/* ---- making it --------------------------------------------------------------------------------- */

static long env_build(unsigned cpus)
{
    static uint64_t bits[EXO_POOL_WORDS(VM_CPUS * EXO_VCPU_FRAMES)];
    const struct exo_startup *s = &exo.start;
    long r = exo_vm_make(&memory_vm, &exo.pool, cpus * EXO_VCPU_FRAMES, 1, ENV_TABLES, bits);
    if (r < 0) return r;
    r = exo_vm_give(&memory_vm, s->sel_memory, EXO_RIGHTS_ALL, s->memory_base, s->memory_count);
    if (r < 0) return r;
    sel_own = sel_ram = (uint32_t)r;
    if (!s->block.count) return 0;
    r = exo_vm_give(&memory_vm, s->block.sel, EXO_R | EXO_W | EXO_X, s->block.first,
                    s->block.count);
    if (r < 0) return r;
    sel_ram = (uint32_t)r;
    return 0;
}

static long ram_bind(uint32_t sel, uint64_t bytes)
{
    uint64_t large = ram_first % REGION_PAGES ? 0 : bytes / REGION;
    long r = 0;
    if (large) r = exo_bind(&exo.pool, RAM_VA, large, sel, ram_first, EXO_R | EXO_W | EXO_LARGE_2M);
    uint64_t rest = (bytes - large * REGION) / EXO_PAGE;
    if (r == 0 && rest)
        r = exo_bind(&exo.pool, RAM_VA + large * REGION, rest, sel,
                     ram_first + large * REGION_PAGES, EXO_R | EXO_W);
    return r;
}

long memory_init(uint64_t bytes, unsigned cpus)
{
    const struct exo_range *block = &exo.start.block;
    uint32_t sel = block->count ? block->sel : exo.start.sel_memory;
    if (block->count) {
        if (bytes > (uint64_t)block->count * EXO_PAGE) return -EXO_E_RANGE;
        ram_first = block->first;
    } else {
        long frame = exo_frames_alloc(&exo.pool, bytes / EXO_PAGE, REGION_PAGES);
        if (frame < 0) return frame;
        ram_first = (uint64_t)frame;
    }
    uint64_t count = (bytes + REGION - 1) / REGION;
    regions = malloc(count);
    if (!regions) return -EXO_E_LIMIT;
    /* Without alignment there are no large pages. */
    memset(regions, ram_first % REGION_PAGES ? SPLIT : 0, count);
    ram_low = EXO_MIN(bytes, VM_RAM_HOLE);
    ram_high = bytes - ram_low;
    long r = ram_bind(sel, bytes);
    return r < 0 ? r : env_build(cpus);
}

void memory_clear(void)
{
    uint64_t bytes = ram_low + ram_high;
    for (uint64_t region = 0; region * REGION < bytes; region++)
        regions[region] &= ~CLEAN & 0xff;
    /* What is bound stays bound: cleared here. */
    for (uint64_t region = 0; region * REGION < bytes; region++)
        region_clean(region);
}

long memory_rom(uint64_t address, const void *data, uint64_t bytes)
{
    uint64_t n = (bytes + EXO_PAGE - 1) / EXO_PAGE;
    if (rom_frame) return rom_base == address && rom_bytes == bytes ? 0 : -EXO_E_BOUND;
    long frame = exo_frames_alloc(&exo.pool, n, 1);
    if (frame < 0) return frame;
    long r = 0;
    for (uint64_t i = 0; i < n && r == 0; i++) {
        r = exo_bind(&exo.pool, EXO_WINDOW_VA, 1, exo.start.sel_memory, (uint64_t)frame + i,
                     EXO_R | EXO_W);
        if (r < 0) break;
        uint64_t step = EXO_MIN(bytes - i * EXO_PAGE, EXO_PAGE);
        memset((char *)EXO_WINDOW_VA + step, 0, EXO_PAGE - step);
        memcpy((void *)EXO_WINDOW_VA, (const char *)data + i * EXO_PAGE, step);
        exo_unbind(&exo.pool, EXO_WINDOW_VA, 1);
        r = bind(address + i * EXO_PAGE, sel_own, (uint64_t)frame + i, EXO_R | EXO_X);
    }
    rom_base = address;
    rom_bytes = bytes;
    rom_frame = (uint64_t)frame;
    return r;
}
