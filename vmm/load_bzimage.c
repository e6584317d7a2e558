/* SPDX-License-Identifier: MIT
 *
 * Linux' bzImage by its 64-bit boot protocol (Linux: Documentation/arch/x86/boot.rst):
 * the kernel at the address it prefers, long mode, one-to-one page tables, and a zero page
 * with its own header, the memory map, command line and ramdisk.
 */
#include "load.h"

#define SETUP 0x1f1 /* the setup header in the file and in the zero page */
#define SETUP_SECTORS 0x1f1
#define MAGIC 0x202 /* "HdrS" */
#define VERSION 0x206
#define LOADER_TYPE 0x210
#define LOAD_FLAGS 0x211
#define RAMDISK 0x218
#define RAMDISK_BYTES 0x21c
#define COMMAND 0x228
#define RAMDISK_MAX 0x22c
#define ALIGNMENT 0x230
#define XLOAD_FLAGS 0x236
#define COMMAND_MAX 0x238
#define PREFERRED 0x258
#define INIT_BYTES 0x260
#define SETUP_LEAST 0x264 /* the file has at least this */
#define RSDP 0x70 /* in the zero page */
#define MAP_COUNT 0x1e8
#define MAP 0x2d0
#define MAP_ENTRY 20
#define ENTRY_64 0x200
#define HEADER_MAGIC 0x53726448
#define VERSION_LEAST 0x20c
#define XLOAD_KERNEL_64 1
#define LOADED_HIGH 1
#define LOADER_UNKNOWN 0xff

struct bzimage {
    const uint8_t *file;
    uint64_t bytes; /* of the file */
    uint64_t code; /* offset of what is loaded */
    uint64_t address, memory; /* where, and how much it needs there */
};

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, 4);
    return value;
}

static void put32(uint8_t *at, uint64_t value)
{
    uint32_t low = (uint32_t)value;
    memcpy(at, &low, 4);
}

static long refuse(const char *why)
{
    exo_printf("the kernel is no bzImage that can be started: %s\n", why);
    return -EXO_E_ARG;
}

static long header_read(const struct vm_image *kernel, struct bzimage *b)
{
    const uint8_t *file = b->file = kernel->data;
    b->bytes = kernel->bytes;
    if (b->bytes < SETUP_LEAST || get32(file + MAGIC) != HEADER_MAGIC)
        return refuse("it has no setup header");
    if ((get32(file + VERSION) & 0xffff) < VERSION_LEAST)
        return refuse("it is older than boot protocol 2.12");
    if (!(file[XLOAD_FLAGS] & XLOAD_KERNEL_64)) return refuse("it has no 64-bit entry");
    unsigned sectors = file[SETUP_SECTORS] ? file[SETUP_SECTORS] : 4;
    b->code = (sectors + 1) * 512ull;
    if (b->code >= b->bytes) return refuse("it is cut off");
    memcpy(&b->address, file + PREFERRED, 8);
    b->memory = get32(file + INIT_BYTES);
    if (b->memory < b->bytes - b->code) return refuse("its sizes contradict each other");
    if (b->address < LOAD_HIGH || b->address > UINT32_MAX)
        return refuse("it wants to be where it cannot");
    return 0;
}

static void map_write(uint8_t *zero)
{
    struct load_range range[LOAD_RANGES];
    unsigned n = load_map(range);
    for (unsigned i = 0; i < n; i++) {
        memcpy(zero + MAP + i * MAP_ENTRY, &range[i].base, 8);
        memcpy(zero + MAP + i * MAP_ENTRY + 8, &range[i].bytes, 8);
        memcpy(zero + MAP + i * MAP_ENTRY + 16, &range[i].type, 4);
    }
    zero[MAP_COUNT] = (uint8_t)n;
}

long load_bzimage(const struct vm_image *kernel, const struct vm_image *ramdisk,
                  const char *command, uint64_t acpi, struct vm_start *start)
{
    struct bzimage b;
    uint64_t disk = 0, header = SETUP;
    long r = header_read(kernel, &b);
    if (r < 0) return r;
    uint64_t code_bytes = b.bytes - b.code;
    r = load_copy("the kernel", b.address, b.file + b.code, code_bytes, code_bytes);
    if (r == 0 && !guest_ptr(b.address, b.memory)) {
        exo_printf("the kernel needs %lu MiB of memory at %lx to unpack itself\n", b.memory >> 20,
                   b.address);
        r = -EXO_E_RANGE;
    }
    if (r == 0)
        r = load_ramdisk(ramdisk, b.address + b.memory, get32(b.file + RAMDISK_MAX) + 1ull, &disk);
    if (r == 0) r = load_command(command, get32(b.file + COMMAND_MAX));
    if (r < 0) return r;
    uint8_t *zero = guest_ptr(LOAD_INFO, EXO_PAGE);
    uint64_t end = MAGIC + (uint64_t)b.file[0x201];
    memset(zero, 0, EXO_PAGE);
    memcpy(zero + header, b.file + header, EXO_MIN(end, SETUP_LEAST + 8ull) - header);
    zero[LOADER_TYPE] = LOADER_UNKNOWN;
    zero[LOAD_FLAGS] |= LOADED_HIGH;
    put32(zero + RAMDISK, disk);
    put32(zero + RAMDISK_BYTES, ramdisk->bytes);
    put32(zero + COMMAND, LOAD_COMMAND);
    memcpy(zero + RSDP, &acpi, 8);
    map_write(zero);
    load_gdt(true);
    *start = (struct vm_start){.paging = true,
                               .rip = b.address + ENTRY_64,
                               .rsp = LOAD_LOW_END,
                               .rsi = LOAD_INFO,
                               .cr3 = load_tables(),
                               .gdt = LOAD_GDT};
    return 0;
}
