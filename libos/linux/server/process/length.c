/* SPDX-License-Identifier: MIT
 *
 * Lengths of 64-bit instructions: prefixes, opcode map, ModRM, SIB, displacement, immediate
 * (Intel SDM vol. 2, chapter 2 and appendix A). What is not certain on all processors is
 * unknown: undefined opcodes, moves to and from control registers, XOP and 3DNow!, near
 * branches and immediates with a prefix that may change their size. */
#include "length.h"

/* A bit an opcode: word opcode / 64. */
typedef uint64_t opcode_set[4];

static bool in_set(const opcode_set set, uint8_t opcode)
{
    return set[opcode / 64] >> opcode % 64 & 1;
}

/* One-byte opcodes, tables A-2. */
static const opcode_set one_modrm = {0x0f0f0f0f0f0f0f0f, 0x00000a0800000000, 0x000000000000fffb,
                                     0xc0c00000ff0f00c3};
static const opcode_set one_imm8 = {0x1010101010101010, 0x00000c0000000000, 0x00ff010000000009,
                                    0x000000f000002043};
static const opcode_set one_imm32 = {0x2020202020202020, 0x0000030000000000, 0xff00020000000002,
                                     0x0000000000000080};
static const opcode_set one_none = {0, 0x0000f000ffff0000, 0x0000fcf0fbff0000, 0x3f32f00000801200};
/* Two-byte opcodes (behind 0F), table A-3. */
static const opcode_set two_none = {0x00bf000000000be0, 0x0080000000000000, 0x0000070700000000,
                                    0x000000000000ff00};
static const opcode_set two_imm8 = {0, 0x000f000000000000, 0x0400101000000000, 0x0000000000000074};
static const opcode_set two_unknown = {0xfa4000ff0000d410, 0x0300000000000000, 0x020000c000000000,
                                       0x8000000000000000};

struct decoder {
    const uint8_t *code;
    unsigned at, end;
    bool operand16, address32, repeat, wide; /* prefixes 66, 67, F2 or F3, REX.W */
    uint8_t rex; /* 0: none */
};

static bool skip(struct decoder *d, unsigned n)
{
    if (d->end - d->at < n) return false;
    d->at += n;
    return true;
}

/* ModRM, SIB and displacement: SDM vol. 2, tables 2-2 and 2-3. */
static bool skip_modrm(struct decoder *d, struct code_insn *insn)
{
    if (!skip(d, 1)) return false;
    uint8_t modrm = d->code[d->at - 1], mod = modrm >> 6, rm = modrm & 7;
    if (mod == 3) return true;
    bool none = false;
    if (rm == 4) {
        if (!skip(d, 1)) return false;
        none = (d->code[d->at - 1] & 7) == 5;
    }
    if (mod == 1) return skip(d, 1);
    if (mod == 2 || (mod == 0 && none)) return skip(d, 4);
    if (rm != 5) return true;
    insn->rip_disp = (uint8_t)d->at;
    return skip(d, 4);
}

static unsigned immediate_size(const struct decoder *d) { return d->operand16 && !d->wide ? 2 : 4; }

/* Near jumps, calls and returns; false: none of them. */
static bool branch(struct code_insn *insn, uint8_t opcode, unsigned *immediate)
{
    insn->stops = opcode == 0xeb || opcode == 0xe9 || opcode == 0xc3 || opcode == 0xc2 ||
                  opcode == 0xcb || opcode == 0xca || opcode == 0xcf;
    insn->branches =
        insn->stops || (opcode & 0xf0) == 0x70 || (opcode & 0xfc) == 0xe0 || opcode == 0xe8;
    *immediate = opcode == 0xe8 || opcode == 0xe9                     ? 4
                 : opcode == 0xc2 || opcode == 0xca                   ? 2
                 : opcode == 0xc3 || opcode == 0xcb || opcode == 0xcf ? 0
                                                                      : 1;
    return insn->branches;
}

static bool decode_one(struct decoder *d, struct code_insn *insn, uint8_t opcode)
{
    unsigned immediate;
    if (branch(insn, opcode, &immediate)) {
        if (immediate != 0 && (d->operand16 || (d->address32 && d->rex != 0))) return false;
        return skip(d, immediate);
    }
    if (opcode >= 0xa0 && opcode <= 0xa3) return skip(d, d->address32 ? 4 : 8);
    if (opcode >= 0xb8 && opcode <= 0xbf && d->wide) return skip(d, 8);
    if (opcode == 0xc8) return skip(d, 3);
    insn->stops = opcode == 0xf4;
    insn->pads = (opcode == 0x90 && !d->repeat && d->rex == 0) || opcode == 0xcc;
    if (in_set(one_none, opcode)) return true;
    bool known = false;
    uint8_t reg = d->at < d->end ? d->code[d->at] >> 3 & 7 : 0;
    if (in_set(one_modrm, opcode)) {
        if (!skip_modrm(d, insn)) return false;
        known = true;
        if (opcode == 0x8f && reg != 0) return false; /* XOP */
        if ((opcode == 0xc6 || opcode == 0xc7) && reg != 0) return false; /* XABORT, XBEGIN */
        if (opcode == 0xfe && reg > 1) return false;
        if (opcode == 0xff && reg == 7) return false;
        if (opcode == 0xff && reg >= 2 && reg <= 5) insn->branches = true;
        if (opcode == 0xff && (reg == 4 || reg == 5)) insn->stops = true;
        if ((opcode == 0xf6 || opcode == 0xf7) && reg <= 1)
            return skip(d, opcode == 0xf6 ? 1 : immediate_size(d));
    }
    if (in_set(one_imm8, opcode)) return skip(d, 1);
    if (in_set(one_imm32, opcode) && d->operand16 && d->repeat) return false;
    if (in_set(one_imm32, opcode)) return skip(d, immediate_size(d));
    return known;
}

static bool decode_two(struct decoder *d, struct code_insn *insn)
{
    if (!skip(d, 1)) return false;
    uint8_t opcode = d->code[d->at - 1];
    if (opcode == 0x38) return skip(d, 1) && skip_modrm(d, insn);
    if (opcode == 0x3a) return skip(d, 1) && skip_modrm(d, insn) && skip(d, 1);
    if ((opcode & 0xf0) == 0x80) {
        insn->branches = true;
        return !d->operand16 && skip(d, 4);
    }
    if (in_set(two_unknown, opcode)) return false;
    insn->stops = opcode == 0x0b;
    insn->branches = opcode == 0x05 || opcode == 0x07 || opcode == 0x34 || opcode == 0x35;
    if (in_set(two_none, opcode)) return true;
    insn->pads = opcode == 0x1f;
    return skip_modrm(d, insn) && skip(d, in_set(two_imm8, opcode));
}

/* VEX and EVEX: the map is the low bits of the byte behind C4 or 62; C5 is map 1. */
static bool decode_vector(struct decoder *d, struct code_insn *insn, uint8_t prefix)
{
    unsigned payload = prefix == 0xc5 ? 1 : prefix == 0xc4 ? 2 : 3;
    if (!skip(d, payload + 1)) return false;
    const uint8_t *p = d->code + d->at - payload - 1;
    unsigned map = prefix == 0xc5 ? 1 : p[0] & (prefix == 0xc4 ? 31 : 7);
    uint8_t opcode = p[payload];
    if (map == 0 || map > 3) return false;
    if (prefix == 0x62 && ((p[0] & 8) != 0 || (p[1] & 4) == 0)) return false;
    if (map == 1 && opcode == 0x77) return prefix != 0x62;
    if (!skip_modrm(d, insn)) return false;
    return skip(d, map == 3 || (map == 1 && in_set(two_imm8, opcode)));
}

bool code_decode(struct code_insn *insn, const uint8_t *code, unsigned available)
{
    *insn = (struct code_insn){0};
    struct decoder d = {.code = code, .end = available < CODE_INSN_MAX ? available : CODE_INSN_MAX};
    uint8_t byte;
    for (;; d.rex = (byte & 0xf0) == 0x40 ? byte : 0) {
        if (!skip(&d, 1)) return false;
        byte = code[d.at - 1];
        if (byte == 0x66)
            d.operand16 = true;
        else if (byte == 0x67)
            d.address32 = true;
        else if (byte == 0xf2 || byte == 0xf3)
            d.repeat = true;
        else if (byte != 0x26 && byte != 0x2e && byte != 0x36 && byte != 0x3e && byte != 0x64 &&
                 byte != 0x65 && byte != 0xf0 && (byte & 0xf0) != 0x40)
            break;
    }
    d.wide = d.rex & 8;
    bool plain = d.rex == 0 && !d.operand16;
    bool known = byte == 0x0f ? decode_two(&d, insn)
                 : byte == 0xc4 || byte == 0xc5 || byte == 0x62
                     ? plain && decode_vector(&d, insn, byte)
                     : decode_one(&d, insn, byte);
    insn->length = (uint8_t)d.at;
    return known;
}
