/* SPDX-License-Identifier: MIT
 *
 * A kernel with a PVH note: an ELF file entered in flat 32-bit mode, RBX pointing to the
 * start info (Xen: docs/misc/pvh.pandoc, public/arch-x86/hvm/start_info.h).
 */
#include "load.h"

#define MAGIC 0x336ec578
#define RANGE_RAM 1
#define RANGE_RESERVED 2

struct start_info {
    uint32_t magic, version, flags, modules;
    uint64_t module_list, command, rsdp, map;
    uint32_t map_entries, reserved;
};
struct module {
    uint64_t address, bytes, command, reserved;
};
struct map_entry {
    uint64_t base, bytes;
    uint32_t type, reserved;
};

struct layout { /* at LOAD_INFO */
    struct start_info info;
    struct module module;
    struct map_entry map[LOAD_RANGES];
};

long load_pvh(const struct vm_image *kernel, const struct vm_image *ramdisk, const char *command,
              uint64_t acpi, struct vm_start *start)
{
    struct load_elf elf;
    struct load_range range[LOAD_RANGES];
    uint64_t disk;
    uint32_t entry = load_pvh_entry(kernel);
    if (!entry) {
        exo_printf("the kernel has no PVH note\n");
        return -EXO_E_ARG;
    }
    long r = load_elf(kernel, &elf);
    if (r == 0) r = load_ramdisk(ramdisk, elf.end, UINT32_MAX, &disk);
    if (r == 0) r = load_command(command, LOAD_COMMAND_MAX - 1);
    if (r < 0) return r;
    struct layout layout = {
        .info = {.magic = MAGIC,
                 .version = 1,
                 .modules = ramdisk->bytes != 0,
                 .module_list = LOAD_INFO + offsetof(struct layout, module),
                 .command = LOAD_COMMAND,
                 .rsdp = acpi,
                 .map = LOAD_INFO + offsetof(struct layout, map),
                 .map_entries = load_map(range)},
        .module = {.address = disk, .bytes = ramdisk->bytes},
    };
    for (unsigned i = 0; i < layout.info.map_entries; i++)
        layout.map[i] = (struct map_entry){range[i].base, range[i].bytes,
                                           range[i].type == 1 ? RANGE_RAM : RANGE_RESERVED, 0};
    guest_write(LOAD_INFO, &layout, sizeof(layout));
    load_gdt(false);
    *start =
        (struct vm_start){.rip = entry, .rbx = LOAD_INFO, .rsp = LOAD_LOW_END, .gdt = LOAD_GDT};
    return 0;
}
