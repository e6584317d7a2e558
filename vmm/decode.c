/* SPDX-License-Identifier: MIT
 *
 * The instruction decoder: prefixes, opcode, ModRM, SIB, displacement, immediate, for
 * the instructions listed in `forms`. Everything else is refused. Pure: looks at the bytes
 * given, and at nothing else. Intel SDM vol. 2, chapter 2 and appendix A.
 */
#include "decode.h"

/* What follows an opcode, and how large its operand is. */
#define F_MODRM 0x01
#define F_BYTE 0x02 /* the operand is one byte; else by prefixes */
#define F_IMM8 0x04
#define F_IMMZ 0x08 /* 2 or 4 bytes, as the operand, at most 4 */
#define F_MOFFS 0x10
#define F_NONE 0x20 /* known, nothing follows */
#define F_GROUP3 0x40 /* /0 and /1 have an immediate */
#define F_REGISTER 0x80 /* ModRM's r/m is a register whatever mod says */

struct form {
    uint8_t first, last; /* opcodes */
    uint8_t flags;
};

/* ADD OR ADC SBB AND SUB XOR CMP each in four forms (x0..x3, x8..xb) are found by rule. */
static const struct form one_byte[] = {
    {0x63, 0x63, F_MODRM}, /* MOVSXD */
    {0x6c, 0x6c, F_NONE | F_BYTE}, /* INS */
    {0x6d, 0x6d, F_NONE},
    {0x6e, 0x6e, F_NONE | F_BYTE}, /* OUTS */
    {0x6f, 0x6f, F_NONE},
    {0x80, 0x80, F_MODRM | F_BYTE | F_IMM8}, /* arithmetic with an immediate */
    {0x81, 0x81, F_MODRM | F_IMMZ},
    {0x83, 0x83, F_MODRM | F_IMM8},
    {0x84, 0x84, F_MODRM | F_BYTE}, /* TEST */
    {0x85, 0x85, F_MODRM},
    {0x86, 0x86, F_MODRM | F_BYTE}, /* XCHG */
    {0x87, 0x87, F_MODRM},
    {0x88, 0x88, F_MODRM | F_BYTE}, /* MOV */
    {0x89, 0x89, F_MODRM},
    {0x8a, 0x8a, F_MODRM | F_BYTE},
    {0x8b, 0x8b, F_MODRM},
    {0xa0, 0xa0, F_MOFFS | F_BYTE},
    {0xa1, 0xa1, F_MOFFS},
    {0xa2, 0xa2, F_MOFFS | F_BYTE},
    {0xa3, 0xa3, F_MOFFS},
    {0xa4, 0xa4, F_NONE | F_BYTE}, /* MOVS */
    {0xa5, 0xa5, F_NONE},
    {0xaa, 0xaa, F_NONE | F_BYTE}, /* STOS */
    {0xab, 0xab, F_NONE},
    {0xac, 0xac, F_NONE | F_BYTE}, /* LODS */
    {0xad, 0xad, F_NONE},
    {0xc6, 0xc6, F_MODRM | F_BYTE | F_IMM8}, /* MOV immediate */
    {0xc7, 0xc7, F_MODRM | F_IMMZ},
    {0xe4, 0xe4, F_IMM8 | F_BYTE}, /* IN, OUT */
    {0xe5, 0xe5, F_IMM8},
    {0xe6, 0xe6, F_IMM8 | F_BYTE},
    {0xe7, 0xe7, F_IMM8},
    {0xec, 0xec, F_NONE | F_BYTE},
    {0xed, 0xed, F_NONE},
    {0xee, 0xee, F_NONE | F_BYTE},
    {0xef, 0xef, F_NONE},
    {0xf4, 0xf4, F_NONE}, /* HLT */
    {0xf6, 0xf6, F_MODRM | F_BYTE | F_GROUP3}, /* TEST NOT NEG */
    {0xf7, 0xf7, F_MODRM | F_GROUP3},
    {0xfe, 0xfe, F_MODRM | F_BYTE}, /* INC DEC */
    {0xff, 0xff, F_MODRM},
};

static const struct form two_byte[] = {
    {0x01, 0x01, F_MODRM}, /* VMCALL VMMCALL XSETBV MONITOR MWAIT RDTSCP SMSW LMSW INVLPG */
    {0x06, 0x06, F_NONE}, /* CLTS */
    {0x08, 0x09, F_NONE}, /* INVD WBINVD */
    {0x20, 0x23, F_MODRM | F_REGISTER}, /* MOV CR, DR */
    {0x30, 0x33, F_NONE}, /* WRMSR RDTSC RDMSR RDPMC */
    {0xa2, 0xa2, F_NONE}, /* CPUID */
    {0xa3, 0xa3, F_MODRM}, /* BT */
    {0xab, 0xab, F_MODRM}, /* BTS */
    {0xb0, 0xb0, F_MODRM | F_BYTE}, /* CMPXCHG */
    {0xb1, 0xb1, F_MODRM},
    {0xb3, 0xb3, F_MODRM}, /* BTR */
    {0xb6, 0xb7, F_MODRM}, /* MOVZX */
    {0xba, 0xba, F_MODRM | F_IMM8}, /* BT BTS BTR BTC immediate */
    {0xbb, 0xbb, F_MODRM}, /* BTC */
    {0xbe, 0xbf, F_MODRM}, /* MOVSX */
    {0xc0, 0xc0, F_MODRM | F_BYTE}, /* XADD */
    {0xc1, 0xc1, F_MODRM},
    {0xc3, 0xc3, F_MODRM}, /* MOVNTI */
};

struct reader {
    const uint8_t *at;
    unsigned left;
    bool good;
};

static uint8_t next_byte(struct reader *r)
{
    if (r->left == 0) {
        r->good = false;
        return 0;
    }
    r->left--;
    return *r->at++;
}

/* n bytes, little endian, sign-extended. */
static int64_t next_signed(struct reader *r, unsigned n)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < n; i++)
        value |= (uint64_t)next_byte(r) << 8 * i;
    unsigned shift = (8 - n) % 8 * 8;
    return (int64_t)(value << shift) >> shift;
}

static bool form_find(unsigned map, uint8_t opcode, uint8_t *flags)
{
    if (map == 0 && opcode < 0x40 && (opcode & 7) < 4) {
        *flags = F_MODRM | ((opcode & 1) == 0 ? F_BYTE : 0);
        return true;
    }
    const struct form *form = map == 0 ? one_byte : two_byte;
    unsigned count = map == 0 ? sizeof one_byte / sizeof *form : sizeof two_byte / sizeof *form;
    for (unsigned i = 0; i < count; i++)
        if (form[i].first <= opcode && opcode <= form[i].last) {
            *flags = form[i].flags;
            return true;
        }
    return false;
}

/* Legacy prefixes and REX (only the last byte before the opcode is one); returns the first
 * byte that is neither. */
static uint8_t prefixes_read(struct insn *insn, struct reader *r, bool *override)
{
    for (;; insn->rex = 0) {
        uint8_t byte = next_byte(r);
        while (r->good && insn->mode == 8 && (byte & 0xf0) == 0x40) {
            insn->rex = byte;
            byte = next_byte(r);
        }
        if (!r->good) return 0;
        switch (byte) {
        case 0x26:
            insn->segment = EXO_ES;
            break;
        case 0x2e:
            insn->segment = EXO_CS;
            break;
        case 0x36:
            insn->segment = EXO_SS;
            break;
        case 0x3e:
            insn->segment = EXO_DS;
            break;
        case 0x64:
            insn->segment = EXO_FS;
            break;
        case 0x65:
            insn->segment = EXO_GS;
            break;
        case 0x66:
            *override = true;
            break;
        case 0x67:
            insn->address = insn->mode == 8 || insn->mode == 2 ? 4 : 2;
            break;
        case 0xf0:
            insn->lock = true;
            break;
        case 0xf2:
        case 0xf3:
            insn->repeat = byte;
            break;
        default:
            return byte;
        }
    }
}

static void operand_size(struct insn *insn, uint8_t flags, bool override)
{
    insn->operand = (insn->mode == 2) != override ? 2 : 4;
    if ((insn->rex & 8) != 0) insn->operand = 8;
    if ((flags & F_BYTE) != 0) insn->operand = 1;
    if (insn->map == 1 && insn->opcode == 0xc3 && insn->operand == 2)
        insn->operand = 4; /* MOVNTI */
}

/* Intel SDM vol. 2, table 2-1. */
static void modrm_16(struct insn *insn, struct reader *r)
{
    static const uint8_t base[8] = {3, 3, 5, 5, INSN_NONE, INSN_NONE, 5, 3};
    static const uint8_t index[8] = {6, 7, 6, 7, 6, 7, INSN_NONE, INSN_NONE};
    bool absolute = insn->mod == 0 && insn->rm == 6;
    insn->base = absolute ? INSN_NONE : base[insn->rm];
    insn->index = index[insn->rm];
    if (insn->mod == 1) insn->displacement = next_signed(r, 1);
    if (insn->mod == 2 || absolute) insn->displacement = next_signed(r, 2);
}

/* Tables 2-2 and 2-3; in 64-bit mode section 2.2.1. */
static void modrm_32(struct insn *insn, struct reader *r)
{
    unsigned low = insn->rm;
    insn->rm |= (uint8_t)((insn->rex & 1) << 3);
    insn->base = insn->rm;
    unsigned bytes = insn->mod == 1 ? 1 : insn->mod == 2 ? 4 : 0;
    if (low == 4) {
        uint8_t sib = next_byte(r);
        unsigned index = (sib >> 3 & 7) | (insn->rex & 2) << 2;
        insn->scale = sib >> 6;
        if (index != 4) insn->index = (uint8_t)index;
        low = sib & 7;
        insn->base = (uint8_t)(low | (insn->rex & 1) << 3);
        if (insn->mod == 0 && low == 5) {
            insn->base = INSN_NONE;
            bytes = 4;
        }
    } else if (insn->mod == 0 && low == 5) {
        insn->base = INSN_NONE;
        insn->rip_relative = insn->mode == 8;
        bytes = 4;
    }
    if (bytes != 0) insn->displacement = next_signed(r, bytes);
}

static void modrm_read(struct insn *insn, struct reader *r, uint8_t flags)
{
    uint8_t modrm = next_byte(r);
    insn->has_modrm = true;
    insn->mod = modrm >> 6;
    insn->reg = (uint8_t)((modrm >> 3 & 7) | (insn->rex & 4) << 1);
    insn->rm = modrm & 7;
    insn->memory = insn->mod != 3 && (flags & F_REGISTER) == 0;
    if (!insn->memory)
        insn->rm |= (uint8_t)((insn->rex & 1) << 3);
    else if (insn->address == 2)
        modrm_16(insn, r);
    else
        modrm_32(insn, r);
}

/* Where no prefix said: SS for addresses by rSP or rBP, else DS. */
static void segment_default(struct insn *insn)
{
    if (insn->segment != INSN_NONE) return;
    bool stack = insn->base == 4 || insn->base == 5;
    insn->segment = insn->memory && stack ? EXO_SS : EXO_DS;
}

bool insn_decode(struct insn *insn, const uint8_t *bytes, unsigned n, unsigned mode)
{
    struct reader r = {bytes, n < INSN_MAX ? n : INSN_MAX, true};
    bool override = false;
    *insn = (struct insn){.mode = (uint8_t)mode,
                          .address = (uint8_t)mode,
                          .segment = INSN_NONE,
                          .base = INSN_NONE,
                          .index = INSN_NONE};
    insn->opcode = prefixes_read(insn, &r, &override);
    if (insn->opcode == 0x0f) {
        insn->map = 1;
        insn->opcode = next_byte(&r);
    }
    uint8_t flags;
    if (!r.good || !form_find(insn->map, insn->opcode, &flags)) return false;
    if (insn->map == 0 && insn->opcode == 0x63 && mode != 8) return false;
    operand_size(insn, flags, override);
    if ((flags & F_MODRM) != 0) modrm_read(insn, &r, flags);
    if ((flags & F_GROUP3) != 0 && (insn->reg & 7) < 2)
        flags |= insn->operand == 1 ? F_IMM8 : F_IMMZ;
    if ((flags & F_MOFFS) != 0) {
        insn->memory = true;
        insn->displacement = next_signed(&r, insn->address);
    }
    if ((flags & F_IMM8) != 0) insn->immediate = (uint64_t)next_signed(&r, 1);
    if ((flags & F_IMMZ) != 0)
        insn->immediate = (uint64_t)next_signed(&r, insn->operand == 2 ? 2 : 4);
    segment_default(insn);
    insn->length = (uint8_t)(r.at - bytes);
    return r.good;
}

bool insn_is_move_cr(const struct insn *insn)
{
    if (insn->map != 1) return false;
    if (insn->opcode == 0x06 || (insn->opcode >= 0x20 && insn->opcode <= 0x23)) return true;
    return insn->opcode == 0x01 && ((insn->reg & 7) == 4 || (insn->reg & 7) == 6);
}

uint64_t insn_linear(const struct insn *insn, const struct insn_cpu *cpu)
{
    uint64_t offset = (uint64_t)insn->displacement;
    if (insn->rip_relative) offset += cpu->rip + insn->length;
    if (insn->base != INSN_NONE) offset += cpu->gpr[insn->base];
    if (insn->index != INSN_NONE) offset += cpu->gpr[insn->index] << insn->scale;
    if (insn->address == 2) offset &= 0xffff;
    if (insn->address == 4) offset &= 0xffffffff;
    if (insn->mode == 8)
        return insn->segment >= EXO_FS ? offset + cpu->base[insn->segment] : offset;
    return (offset + cpu->base[insn->segment]) & 0xffffffff;
}
