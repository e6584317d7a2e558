/* SPDX-License-Identifier: MIT
 *
 * What the loaders share: where things lie in the guest's first MiB, the map of its
 * memory, and copying into it with a message when it does not fit.
 */
#ifndef VMM_LOAD_H
#define VMM_LOAD_H

#include "vmm.h"

/* Guest-physical addresses below 640 KiB, free for whoever runs there next. */
#define LOAD_GDT 0x1000
#define LOAD_TABLES 0x2000 /* page tables: 6 pages */
#define LOAD_INFO 0x8000 /* the boot protocol's own structure */
#define LOAD_COMMAND 0x10000 /* command line */
#define LOAD_COMMAND_MAX 0x8000
#define LOAD_LOW_END 0x9fc00 /* conventional memory ends */
#define LOAD_HIGH 0x100000

/* The memory map: base, bytes, type (1 RAM, 2 reserved). Returns how many, at most 4. */
#define LOAD_RANGES 4
struct load_range {
    uint64_t base, bytes;
    uint32_t type;
};
unsigned load_map(struct load_range ranges[LOAD_RANGES]);

/* Copies into guest memory, and clears what follows up to `memory` bytes. -EXO_E_RANGE,
 * explained: it does not fit. */
long load_copy(const char *what, uint64_t address, const void *from, uint64_t bytes,
               uint64_t memory);
/* Flat segments for 0x10 (code; 64-bit if wide) and 0x18 (data) at LOAD_GDT. */
void load_gdt(bool wide);
/* Tables at LOAD_TABLES that map the first 4 GiB one to one; their CR3. */
uint64_t load_tables(void);
/* The command line at LOAD_COMMAND; -EXO_E_LIMIT, explained: longer than `most`. */
long load_command(const char *command, uint64_t most);
/* Places the ramdisk as high as it fits below `limit`, not below `floor`. */
long load_ramdisk(const struct vm_image *ramdisk, uint64_t floor, uint64_t limit,
                  uint64_t *address);

/* An ELF executable's segments at their physical addresses. ELF32 or ELF64. */
struct load_elf {
    uint64_t entry; /* the header's: a linear address */
    uint64_t end; /* of the highest segment */
};
long load_elf(const struct vm_image *image, struct load_elf *elf);
/* The 32-bit entry of the PVH note of an ELF64 file, 0 none. */
uint32_t load_pvh_entry(const struct vm_image *image);
#endif
