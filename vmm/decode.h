/* SPDX-License-Identifier: MIT
 *
 * Instructions that the hardware leaves to the monitor: accesses to device memory,
 * moves to and from control and debug registers, and the lengths of others that exit.
 * Decoding has no side effects; execution reads and writes through the caller's functions
 * and changes its registers only when all of it succeeded. Intel SDM vol. 2.
 */
#ifndef VMM_DECODE_H
#define VMM_DECODE_H

#include <stdbool.h>
#include <stdint.h>
#include "../abi/vm.h"

#define INSN_MAX 15 /* bytes of an instruction */
#define INSN_NONE 0xff /* no such register */

struct insn {
    uint8_t length;
    uint8_t mode; /* 2, 4, 8: bytes of the code segment's default */
    uint8_t operand; /* bytes of the operand: 1, 2, 4, 8 */
    uint8_t address; /* bytes of an address: 2, 4, 8 */
    uint8_t map; /* 0 one-byte opcodes, 1 those behind 0x0f */
    uint8_t opcode;
    uint8_t rex; /* the prefix, 0 none */
    uint8_t repeat; /* 0, 0xf2, 0xf3 */
    bool lock;
    bool has_modrm;
    bool memory; /* the r/m operand is in memory */
    uint8_t mod, reg, rm; /* registers with the REX bits */
    uint8_t segment; /* EXO_ES.. of the memory operand */
    uint8_t base, index, scale; /* INSN_NONE: not used; scale is a shift */
    bool rip_relative;
    int64_t displacement; /* or a moffs address */
    uint64_t immediate; /* sign-extended */
};

/* Decodes the instruction at bytes, of which n are there. False: not one of those listed in
 * decode.c, or longer than n. */
bool insn_decode(struct insn *insn, const uint8_t *bytes, unsigned n, unsigned mode);

/* An exit's instruction by what it is: no operand to execute. */
bool insn_is_move_cr(const struct insn *insn); /* MOV CR/DR, CLTS, LMSW, SMSW */

/* A processor as execution sees it. Functions return false for a fault (they have noted
 * which): the instruction then had no effect on registers. linear is an address of the
 * guest's, size 1, 2, 4, 8. */
struct insn_cpu {
    uint64_t gpr[16]; /* rax rcx rdx rbx rsp rbp rsi rdi r8.. */
    uint64_t rip, rflags;
    uint64_t base[6]; /* of segments EXO_ES.. EXO_GS */
    void *context;
    bool (*read)(void *context, uint64_t linear, unsigned size, uint64_t *value);
    bool (*write)(void *context, uint64_t linear, unsigned size, uint64_t value);
};

enum insn_result {
    INSN_DONE, /* rip is behind it */
    INSN_AGAIN, /* REP: some iterations are done, rip is still at it */
    INSN_UNKNOWN, /* decoded, but not one that is executed here */
    INSN_FAULT, /* a function returned false */
};
#define INSN_REPEAT 256 /* iterations at a time */
enum insn_result insn_execute(const struct insn *insn, struct insn_cpu *cpu);

/* The linear address of its memory operand. */
uint64_t insn_linear(const struct insn *insn, const struct insn_cpu *cpu);
#endif
