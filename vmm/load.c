/* SPDX-License-Identifier: MIT
 *
 * What the loaders share. Images come from the boot archive and may be anything: every
 * offset is checked against the file, every address against the guest's memory.
 */
#include "load.h"

#define ROM_AREA 0xa0000 /* display, firmware, the ACPI tables: to 1 MiB */
#define HIGH_BASE (4ull << 30)
#define PAGE_PRESENT_WRITE 3ull
#define PAGE_LARGE 0x80ull

unsigned load_map(struct load_range ranges[LOAD_RANGES])
{
    unsigned n = 0;
    ranges[n++] = (struct load_range){0, LOAD_LOW_END, 1};
    ranges[n++] = (struct load_range){LOAD_LOW_END, LOAD_HIGH - LOAD_LOW_END, 2};
    if (guest_ram_low() > LOAD_HIGH)
        ranges[n++] = (struct load_range){LOAD_HIGH, guest_ram_low() - LOAD_HIGH, 1};
    if (guest_ram_high()) ranges[n++] = (struct load_range){HIGH_BASE, guest_ram_high(), 1};
    return n;
}

long load_copy(const char *what, uint64_t address, const void *from, uint64_t bytes,
               uint64_t memory)
{
    uint8_t *to = memory < bytes ? NULL : guest_ptr(address, memory);
    if (!to) {
        exo_printf("%s: %lu KiB at %lx do not fit into the guest's memory\n", what, memory >> 10,
                   address);
        return -EXO_E_RANGE;
    }
    memcpy(to, from, bytes);
    memset(to + bytes, 0, memory - bytes);
    return 0;
}

void load_gdt(bool wide)
{
    /* Intel SDM vol. 3, 3.4.5: null, null, code, data; flat. */
    const uint64_t gdt[] = {0, 0, wide ? 0x00af9b000000ffff : 0x00cf9b000000ffff,
                            0x00cf93000000ffff};
    guest_write(LOAD_GDT, gdt, sizeof(gdt));
}

uint64_t load_tables(void)
{
    uint64_t *table = guest_ptr(LOAD_TABLES, 6 * EXO_PAGE);
    if (!table) return 0;
    memset(table, 0, 6 * EXO_PAGE);
    table[0] = (LOAD_TABLES + EXO_PAGE) | PAGE_PRESENT_WRITE;
    for (uint64_t i = 0; i < 4; i++)
        table[512 + i] = (LOAD_TABLES + (2 + i) * EXO_PAGE) | PAGE_PRESENT_WRITE;
    for (uint64_t i = 0; i < 4 * 512; i++)
        table[1024 + i] = i << 21 | PAGE_PRESENT_WRITE | PAGE_LARGE;
    return LOAD_TABLES;
}

long load_command(const char *command, uint64_t most)
{
    size_t n = strlen(command);
    if (n > most || n >= LOAD_COMMAND_MAX) {
        exo_printf("the command line has %lu characters, and this kernel takes %lu\n", n, most);
        return -EXO_E_LIMIT;
    }
    return load_copy("the command line", LOAD_COMMAND, command, n + 1, n + 1);
}

long load_ramdisk(const struct vm_image *ramdisk, uint64_t floor, uint64_t limit, uint64_t *address)
{
    uint64_t end = EXO_MIN(limit, guest_ram_low());
    *address = 0;
    if (!ramdisk->bytes) return 0;
    if (ramdisk->bytes > end || ((end - ramdisk->bytes) & -(uint64_t)EXO_PAGE) < floor) {
        exo_printf("the ramdisk (%lu KiB) does not fit into the guest's memory beside its kernel\n",
                   ramdisk->bytes >> 10);
        return -EXO_E_RANGE;
    }
    *address = (end - ramdisk->bytes) & -(uint64_t)EXO_PAGE;
    return load_copy("the ramdisk", *address, ramdisk->data, ramdisk->bytes, ramdisk->bytes);
}

/* ---- ELF: System V gABI, chapters 4 and 5 ---------------------------------------------------- */

#define ELF_LOAD 1
#define ELF_NOTE 4
#define SEGMENTS_MAX 64

struct segment { /* what ELF32 and ELF64 have in common */
    uint32_t type;
    uint64_t offset, address, file_bytes, memory_bytes;
};
struct program { /* an ELF file's header */
    bool wide;
    uint64_t entry, table;
    unsigned count, size;
};

/* True if the file has all of it. */
static bool file_get(const struct vm_image *image, uint64_t offset, void *to, uint64_t bytes)
{
    if (offset > image->bytes || bytes > image->bytes - offset) return false;
    memcpy(to, (const char *)image->data + offset, bytes);
    return true;
}

static bool program_read(const struct vm_image *image, struct program *p)
{
    uint8_t h[64];
    uint32_t magic;
    uint16_t count, size;
    if (!file_get(image, 0, h, sizeof(h))) return false;
    memcpy(&magic, h, 4);
    p->wide = h[4] == 2;
    if (magic != 0x464c457f || (h[4] != 1 && h[4] != 2) || h[5] != 1) return false;
    p->entry = p->table = 0;
    memcpy(&p->entry, h + 24, p->wide ? 8 : 4);
    memcpy(&p->table, h + (p->wide ? 32 : 28), p->wide ? 8 : 4);
    memcpy(&size, h + (p->wide ? 54 : 42), 2);
    memcpy(&count, h + (p->wide ? 56 : 44), 2);
    p->count = count;
    p->size = size;
    return size == (p->wide ? 56 : 32) && count <= SEGMENTS_MAX;
}

static bool segment_read(const struct vm_image *image, const struct program *p, unsigned i,
                         struct segment *s)
{
    uint64_t at = p->table + (uint64_t)i * p->size;
    *s = (struct segment){0};
    if (p->table > image->bytes) return false;
    if (p->wide) {
        uint64_t w[7];
        if (!file_get(image, at, w, sizeof(w))) return false;
        *s = (struct segment){(uint32_t)w[0], w[1], w[3], w[4], w[5]};
    } else {
        uint32_t w[8];
        if (!file_get(image, at, w, sizeof(w))) return false;
        *s = (struct segment){w[0], w[1], w[3], w[4], w[5]};
    }
    if (s->type != ELF_LOAD && s->type != ELF_NOTE) return true;
    return s->offset <= image->bytes && s->file_bytes <= image->bytes - s->offset;
}

long load_elf(const struct vm_image *image, struct load_elf *elf)
{
    struct program p;
    struct segment s;
    if (!program_read(image, &p)) {
        exo_printf("the kernel is no ELF file for this machine\n");
        return -EXO_E_ARG;
    }
    *elf = (struct load_elf){.entry = p.entry};
    for (unsigned i = 0; i < p.count; i++) {
        if (!segment_read(image, &p, i, &s)) {
            exo_printf("the kernel's ELF segment %u lies outside the file\n", i);
            return -EXO_E_ARG;
        }
        if (s.type != ELF_LOAD || !s.memory_bytes) continue;
        long r = load_copy("an ELF segment", s.address, (const char *)image->data + s.offset,
                           s.file_bytes, s.memory_bytes);
        if (r < 0) return r;
        if (s.address + s.memory_bytes > elf->end) elf->end = s.address + s.memory_bytes;
    }
    return 0;
}

#define PVH_NOTE 18 /* XEN_ELFNOTE_PHYS32_ENTRY */

/* The note's entry in [at, end) of the file. */
static uint32_t notes_search(const struct vm_image *image, uint64_t at, uint64_t end)
{
    uint32_t note[3], entry;
    char name[4];
    while (end - at >= sizeof(note) && file_get(image, at, note, sizeof(note))) {
        uint64_t names = at + sizeof(note), data = names + ((note[0] + 3ull) & ~3ull);
        uint64_t next = data + ((note[1] + 3ull) & ~3ull);
        if (next > end) return 0;
        if (note[2] == PVH_NOTE && note[0] == 4 && note[1] >= 4 &&
            file_get(image, names, name, 4) && !memcmp(name, "Xen", 4) &&
            file_get(image, data, &entry, 4))
            return entry;
        at = next;
    }
    return 0;
}

uint32_t load_pvh_entry(const struct vm_image *image)
{
    struct program p;
    struct segment s;
    if (!program_read(image, &p)) return 0;
    for (unsigned i = 0; i < p.count; i++) {
        if (!segment_read(image, &p, i, &s)) return 0;
        if (s.type != ELF_NOTE) continue;
        uint32_t entry = notes_search(image, s.offset, s.offset + s.file_bytes);
        if (entry) return entry;
    }
    return 0;
}
