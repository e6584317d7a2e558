/* SPDX-License-Identifier: MIT
 *
 * What the boot loader tells (PVH or Multiboot2), copied before its memory is used
 * for something else; and the order in which the machine is set up.
 */
#include "x86.h"

#define MULTIBOOT2_MAGIC 0x36d76289 /* Multiboot2 specification 2.0, 3.5 */
#define PVH_MAGIC 0x336ec578 /* Xen: xen/include/public/arch-x86/hvm/start_info.h */

struct boot boot;

struct pvh_info {
    uint32_t magic, version, flags, modules;
    uint64_t module_list, command_line, rsdp, map;
    uint32_t map_entries, reserved;
};
struct pvh_module {
    uint64_t base, bytes, command_line, reserved;
};
struct pvh_range {
    uint64_t base, bytes;
    uint32_t type, reserved;
};

struct tag { /* Multiboot2 specification 2.0, 3.6 */
    uint32_t type, bytes;
};
enum { TAG_END, TAG_COMMAND = 1, TAG_MODULE = 3, TAG_MAP = 6, TAG_RSDP1 = 14, TAG_RSDP2 = 15 };

static void range_add(uint64_t base, uint64_t bytes, uint32_t type)
{
    if (boot.ranges == BOOT_RANGES) {
        kprintf("exovisor: memory map longer than %d entries, the rest is not used\n", BOOT_RANGES);
        return;
    }
    if (bytes && base + bytes > base)
        boot.range[boot.ranges++] = (struct boot_range){base, base + bytes, type};
}

static void command_copy(const char *from)
{
    for (unsigned i = 0; i < sizeof boot.command_line - 1 && from[i]; i++)
        boot.command_line[i] = from[i];
}

static void pvh_read(const struct pvh_info *pvh)
{
    if (pvh->magic != PVH_MAGIC || pvh->version < 1)
        panic("neither Multiboot2 nor PVH version 1 started the kernel");
    const struct pvh_range *map = phys_ptr(pvh->map);
    for (uint32_t i = 0; i < pvh->map_entries; i++)
        range_add(map[i].base, map[i].bytes, map[i].type);
    if (pvh->modules) {
        const struct pvh_module *module = phys_ptr(pvh->module_list);
        boot.archive = module->base;
        boot.archive_bytes = module->bytes;
    }
    if (pvh->command_line) command_copy(phys_ptr(pvh->command_line));
    if (pvh->rsdp) memcpy(boot.rsdp, phys_ptr(pvh->rsdp), sizeof boot.rsdp);
}

static void tag_map(const struct tag *tag)
{
    const uint32_t *head = (const uint32_t *)tag;
    uint32_t entry = head[2];
    for (uint32_t at = 16; entry && at + entry <= tag->bytes; at += entry) {
        const uint64_t *range = (const uint64_t *)((const char *)tag + at);
        range_add(range[0], range[1], (uint32_t)range[2]);
    }
}

static void multiboot_read(const uint32_t *start)
{
    const char *at = (const char *)(start + 2), *end = (const char *)start + start[0];
    bool newer = false; /* an ACPI 2.0 pointer wins over an older one */
    while (at + sizeof(struct tag) <= end) {
        const struct tag *tag = (const struct tag *)at;
        const uint32_t *body = (const uint32_t *)(tag + 1);
        if (tag->type == TAG_END || tag->bytes < sizeof *tag) break;
        if (tag->type == TAG_COMMAND) command_copy((const char *)body);
        if (tag->type == TAG_MODULE && !boot.archive) {
            boot.archive = body[0];
            boot.archive_bytes = body[1] - body[0];
        }
        if (tag->type == TAG_MAP) tag_map(tag);
        if (tag->type == TAG_RSDP2 || (tag->type == TAG_RSDP1 && !newer)) {
            uint32_t bytes = tag->bytes - sizeof *tag;
            memcpy(boot.rsdp, body, bytes < sizeof boot.rsdp ? bytes : sizeof boot.rsdp);
            newer = tag->type == TAG_RSDP2;
        }
        at += (tag->bytes + 7u) & ~7u;
    }
}

static void info_fill(void)
{
    info->magic = EXO_INFO_MAGIC;
    info->abi = EXO_ABI_VERSION;
    info->tsc_hz = tsc_hz;
    info->cpus = ncpus;
    info->frames = nframes;
#ifdef EXO_DEBUG
    info->debug = 1;
#endif
    COUNTED(info->counting, 1);
    info->boot_tsc = now();
    info->vm = vm_caps.kind;
    info->archive_frame = (uint32_t)(boot.archive >> 12);
    info->archive_count = (uint32_t)((boot.archive_bytes + EXO_PAGE - 1) >> 12);
    info->archive_bytes = boot.archive_bytes;
    memcpy(info->command_line, boot.command_line, sizeof info->command_line);
}

void boot_main(uint32_t magic, uint32_t start) __attribute__((noreturn));
void boot_main(uint32_t magic, uint32_t start)
{
    serial_init();
    if (magic == MULTIBOOT2_MAGIC)
        multiboot_read(phys_ptr(start));
    else
        pvh_read(phys_ptr(start));
    cpu_check();
    memory_init();
    acpi_init();
    memory_cpu(0);
    vm_probe();
    cpu_init(0);
    apic_init();
    lapic_init();
    smp_init();
    memory_seal();
    memory_words();
    info_fill();
    kprintf("exovisor %d: %u CPUs, TSC %lu MHz\n", EXO_ABI_VERSION, ncpus, tsc_hz / 1000000);
    load_root();
    smp_go();
    cpu_enter();
}
