/* SPDX-License-Identifier: MIT
 *
 * The parts of ELF64 that loading needs (System V gABI, chapters 4 and 5). */
#ifndef LIBEXO_ELF_H
#define LIBEXO_ELF_H
#include <stdint.h>

#define ELF_MAGIC 0x464c457fu /* 0x7f 'E' 'L' 'F' */
#define ELF_CLASS64 2
#define ELF_EXEC 2
#define ELF_X86_64 62
#define ELF_LOAD 1
#define ELF_X 1
#define ELF_W 2

struct elf_header {
    uint32_t magic;
    uint8_t class, data, version, abi[9];
    uint16_t type, machine;
    uint32_t version2;
    uint64_t entry, phoff, shoff;
    uint32_t flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct elf_segment {
    uint32_t type, flags;
    uint64_t offset, va, pa, filesz, memsz, align;
};
_Static_assert(sizeof(struct elf_header) == 64, "gABI");
_Static_assert(sizeof(struct elf_segment) == 56, "gABI");
#endif
