/* SPDX-License-Identifier: MIT
 *
 * Where instructions of x86-64 programs end, and what must be known to move one. */
#ifndef LX_LENGTH_H
#define LX_LENGTH_H
#include <stdbool.h>
#include <stdint.h>

#define CODE_INSN_MAX 15 /* bytes of an instruction: Intel SDM vol. 2, 2.3.11 */

struct code_insn {
    uint8_t length;
    uint8_t rip_disp; /* offset of a displacement relative to RIP, 4 bytes; 0: none */
    bool branches; /* a jump, call or return: not to be moved */
    bool stops; /* what follows is reached by jumps only: RET, JMP, UD2, HLT */
    bool pads; /* NOP of any length, INT3 */
};

/* Decodes the instruction at `code`, of which `available` bytes may be read. False: not
 * known, or longer than that. */
bool code_decode(struct code_insn *insn, const uint8_t *code, unsigned available);
#endif
