/* SPDX-License-Identifier: MIT
 *
 * Kernels with a Multiboot header, version 1 (0.6.96) or 2 (2.0): an ELF file, or a flat
 * image whose header says where it goes; entered in flat 32-bit mode with the magic number
 * in EAX and the information in EBX. The ramdisk is the one module.
 */
#include "load.h"

/* Version 1: sections 3.1 and 3.3. */
#define MB1_MAGIC 0x1badb002u
#define MB1_LOADED 0x2badb002u
#define MB1_SEARCH 8192
#define MB1_ADDRESSES 0x10000u /* flags: where it goes is in the header */
#define MB1_REFUSED 0xfff8u /* required features that we do not have: all but 0..2 */
#define MB1_INFO 0x4du /* memory, command line, modules, map */

/* Version 2: 3.1 and 3.6. */
#define MB2_MAGIC 0xe85250d6u
#define MB2_LOADED 0x36d76289u
#define MB2_SEARCH 32768
#define MB2_HEADER_MAX 4096
#define MB2_ADDRESS 2
#define MB2_ENTRY 3
#define MB2_OPTIONAL 1

struct header { /* what both say */
    bool version2, flat, entry_given;
    uint64_t offset; /* of the header in the file */
    uint32_t header, load, load_end, bss_end, entry;
};

static uint32_t get(const struct vm_image *k, uint64_t offset)
{
    uint32_t value = 0;
    if (offset + 4 <= k->bytes) memcpy(&value, (const char *)k->data + offset, 4);
    return value;
}

static long refuse(const char *why)
{
    exo_printf("the kernel cannot be started by Multiboot: %s\n", why);
    return -EXO_E_ARG;
}

static bool header1_find(const struct vm_image *k, struct header *h)
{
    for (uint64_t at = 0; at + 12 <= k->bytes && at < MB1_SEARCH; at += 4)
        if (get(k, at) == MB1_MAGIC && get(k, at) + get(k, at + 4) + get(k, at + 8) == 0) {
            *h = (struct header){.offset = at,
                                 .flat = get(k, at + 4) & MB1_ADDRESSES,
                                 .entry_given = get(k, at + 4) & MB1_ADDRESSES,
                                 .header = get(k, at + 12),
                                 .load = get(k, at + 16),
                                 .load_end = get(k, at + 20),
                                 .bss_end = get(k, at + 24),
                                 .entry = get(k, at + 28)};
            return true;
        }
    return false;
}

static bool header2_find(const struct vm_image *k, struct header *h)
{
    for (uint64_t at = 0; at + 16 <= k->bytes && at < MB2_SEARCH; at += 8)
        if (get(k, at) == MB2_MAGIC &&
            get(k, at) + get(k, at + 4) + get(k, at + 8) + get(k, at + 12) == 0) {
            *h = (struct header){.version2 = true, .offset = at};
            return true;
        }
    return false;
}

/* The tags of version 2. */
static long header2_read(const struct vm_image *k, struct header *h)
{
    uint64_t end = h->offset + get(k, h->offset + 8);
    if (get(k, h->offset + 8) > MB2_HEADER_MAX || end > k->bytes)
        return refuse("its header's size");
    for (uint64_t at = h->offset + 16; at + 8 <= end;) {
        uint32_t type = get(k, at) & 0xffff, flags = get(k, at) >> 16, size = get(k, at + 4);
        if (type == 0) break;
        if (size < 8 || size > MB2_HEADER_MAX) return refuse("a tag of its header");
        if (type == MB2_ADDRESS) {
            h->flat = true;
            h->header = get(k, at + 8);
            h->load = get(k, at + 12);
            h->load_end = get(k, at + 16);
            h->bss_end = get(k, at + 20);
        } else if (type == MB2_ENTRY) {
            h->entry_given = true;
            h->entry = get(k, at + 8);
        } else if (type > 6 && !(flags & MB2_OPTIONAL)) {
            return refuse("it requires a feature that is not here");
        }
        at += (size + 7u) & ~7u;
    }
    return 0;
}

/* A flat image; *end is behind it in memory. */
static long flat_load(const struct vm_image *k, const struct header *h, uint64_t *end)
{
    if (h->load > h->header || h->header - h->load > h->offset) return refuse("its load address");
    uint64_t from = h->offset - (h->header - h->load), bytes = k->bytes - from;
    if (h->load_end) {
        if (h->load_end < h->load || h->load_end - h->load > bytes) return refuse("its end");
        bytes = h->load_end - h->load;
    }
    uint64_t memory = bytes;
    if (h->bss_end) {
        if (h->bss_end < h->load + bytes) return refuse("its end");
        memory = h->bss_end - h->load;
    }
    *end = h->load + memory;
    return load_copy("the kernel", h->load, (const char *)k->data + from, bytes, memory);
}

/* ---- what the kernel is told: at LOAD_INFO --------------------------------------------------- */

struct info1 { /* version 1, 3.3, as far as used */
    uint32_t flags, memory_low, memory_high, device, command, modules, module_list, symbols[4];
    uint32_t map_bytes, map;
};
struct module1 {
    uint32_t start, end, text, reserved;
};
struct map1 {
    uint32_t size;
    uint64_t base, bytes;
    uint32_t type;
} __attribute__((packed));
struct layout1 {
    struct info1 info;
    struct module1 module;
    struct map1 map[LOAD_RANGES];
};

static void info1_write(uint64_t disk, uint64_t disk_bytes)
{
    struct load_range range[LOAD_RANGES];
    unsigned n = load_map(range);
    struct layout1 l = {
        .info = {.flags = MB1_INFO,
                 .memory_low = LOAD_LOW_END >> 10,
                 .memory_high = (uint32_t)((guest_ram_low() - LOAD_HIGH) >> 10),
                 .command = LOAD_COMMAND,
                 .modules = disk_bytes != 0,
                 .module_list = LOAD_INFO + offsetof(struct layout1, module),
                 .map_bytes = n * (uint32_t)sizeof(struct map1),
                 .map = LOAD_INFO + offsetof(struct layout1, map)},
        .module = {(uint32_t)disk, (uint32_t)(disk + disk_bytes), LOAD_COMMAND, 0},
    };
    for (unsigned i = 0; i < n; i++)
        l.map[i] =
            (struct map1){sizeof(struct map1) - 4, range[i].base, range[i].bytes, range[i].type};
    guest_write(LOAD_INFO, &l, sizeof(l));
}

/* Version 2: tags, each at a multiple of 8. */
#define TAG_COMMAND_MAX 1536 /* longer command lines are refused; the others are 240 bytes */
struct tags {
    uint8_t bytes[2048];
    uint32_t at;
};

static void tag_put(struct tags *t, uint32_t type, const void *body, uint32_t bytes)
{
    uint32_t head[2] = {type, 8 + bytes};
    memcpy(t->bytes + t->at, head, 8);
    if (bytes) memcpy(t->bytes + t->at + 8, body, bytes);
    t->at = (t->at + 8 + bytes + 7) & ~7u;
}

static void info2_write(uint64_t disk, uint64_t disk_bytes, const char *command, uint64_t acpi)
{
    struct load_range range[LOAD_RANGES];
    struct {
        uint32_t size, version;
        struct {
            uint64_t base, bytes;
            uint32_t type, reserved;
        } entry[LOAD_RANGES];
    } map = {24, 0, {{0}}};
    struct tags t = {.at = 8};
    unsigned n = load_map(range);
    for (unsigned i = 0; i < n; i++) {
        map.entry[i].base = range[i].base;
        map.entry[i].bytes = range[i].bytes;
        map.entry[i].type = range[i].type;
    }
    const struct {
        uint32_t start, end;
        char text[8];
    } module = {(uint32_t)disk, (uint32_t)(disk + disk_bytes), "ramdisk"};
    uint32_t memory[2] = {LOAD_LOW_END >> 10, (uint32_t)((guest_ram_low() - LOAD_HIGH) >> 10)};
    tag_put(&t, 1, command, (uint32_t)strlen(command) + 1);
    if (disk_bytes) tag_put(&t, 3, &module, sizeof(module));
    tag_put(&t, 4, memory, sizeof(memory));
    tag_put(&t, 6, &map, 8 + n * 24);
    const void *rsdp = guest_ptr(acpi, 36);
    if (rsdp) tag_put(&t, 15, rsdp, 36);
    tag_put(&t, 0, NULL, 0);
    memcpy(t.bytes, &t.at, 4);
    guest_write(LOAD_INFO, t.bytes, t.at);
}

long load_multiboot(const struct vm_image *kernel, const struct vm_image *ramdisk,
                    const char *command, uint64_t acpi, struct vm_start *start)
{
    struct header h;
    struct load_elf elf = {0};
    uint64_t disk, end;
    long r = 0;
    if (header2_find(kernel, &h))
        r = header2_read(kernel, &h);
    else if (!header1_find(kernel, &h))
        return refuse("it has no Multiboot header, no PVH note, and is no bzImage");
    else if (get(kernel, h.offset + 4) & MB1_REFUSED)
        return refuse("it requires a feature that is not here");
    if (r == 0) r = h.flat ? flat_load(kernel, &h, &end) : load_elf(kernel, &elf);
    if (r < 0) return r;
    if (!h.flat) end = elf.end;
    if (h.flat && !h.entry_given) return refuse("it has no entry");
    r = load_ramdisk(ramdisk, end, UINT32_MAX, &disk);
    if (r == 0) r = load_command(command, h.version2 ? TAG_COMMAND_MAX : LOAD_COMMAND_MAX - 1);
    if (r < 0) return r;
    if (h.version2)
        info2_write(disk, ramdisk->bytes, command, acpi);
    else
        info1_write(disk, ramdisk->bytes);
    load_gdt(false);
    *start = (struct vm_start){.rip = h.entry_given ? h.entry : (uint32_t)elf.entry,
                               .rax = h.version2 ? MB2_LOADED : MB1_LOADED,
                               .rbx = LOAD_INFO,
                               .gdt = LOAD_GDT};
    return 0;
}
