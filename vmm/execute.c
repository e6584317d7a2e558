/* SPDX-License-Identifier: MIT
 *
 * Execution of decoded instructions on a processor given as registers and two functions.
 * A memory operand is read once and written once; registers and flags change only after
 * all accesses went well. Intel SDM vol. 2 per instruction; flags: vol. 1, 3.4.3.
 */
#include "decode.h"

#define FLAG_CF 0x001ull
#define FLAG_PF 0x004ull
#define FLAG_AF 0x010ull
#define FLAG_ZF 0x040ull
#define FLAG_SF 0x080ull
#define FLAG_DF 0x400ull
#define FLAG_OF 0x800ull
#define FLAGS_ALL (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)
#define RCX 1
#define RSI 6
#define RDI 7

static uint64_t mask_of(unsigned size) { return size == 8 ? ~0ull : (1ull << 8 * size) - 1; }

static uint64_t sign_extend(uint64_t value, unsigned size)
{
    unsigned shift = 64 - 8 * size;
    return (uint64_t)((int64_t)(value << shift) >> shift);
}

/* ---- operands --------------------------------------------------------------------- */

/* AH CH DH BH: encodings 4..7 of a byte register without REX. */
static bool high_byte(const struct insn *i, unsigned size, unsigned reg)
{
    return size == 1 && i->rex == 0 && reg >= 4 && reg < 8;
}

static uint64_t reg_get(const struct insn *i, const struct insn_cpu *cpu, unsigned reg,
                        unsigned size)
{
    if (high_byte(i, size, reg)) return cpu->gpr[reg - 4] >> 8 & 0xff;
    return cpu->gpr[reg] & mask_of(size);
}

/* A 4-byte write clears the upper half; smaller ones leave the rest. */
static void reg_put(const struct insn *i, struct insn_cpu *cpu, unsigned reg, unsigned size,
                    uint64_t value)
{
    if (high_byte(i, size, reg)) {
        cpu->gpr[reg - 4] = (cpu->gpr[reg - 4] & ~0xff00ull) | (value & 0xff) << 8;
        return;
    }
    if (size >= 4)
        cpu->gpr[reg] = value & mask_of(size);
    else
        cpu->gpr[reg] = (cpu->gpr[reg] & ~mask_of(size)) | (value & mask_of(size));
}

static bool rm_get(const struct insn *i, struct insn_cpu *cpu, unsigned size, uint64_t *value)
{
    if (!i->memory) {
        *value = reg_get(i, cpu, i->rm, size);
        return true;
    }
    if (!cpu->read(cpu->context, insn_linear(i, cpu), size, value)) return false;
    *value &= mask_of(size);
    return true;
}

static bool rm_put(const struct insn *i, struct insn_cpu *cpu, unsigned size, uint64_t value)
{
    if (!i->memory) {
        reg_put(i, cpu, i->rm, size, value);
        return true;
    }
    return cpu->write(cpu->context, insn_linear(i, cpu), size, value & mask_of(size));
}

/* ---- flags ----------------------------------------------------------------------------- */

static uint64_t flags_result(uint64_t result, unsigned size)
{
    uint64_t flags = 0;
    if ((result & mask_of(size)) == 0) flags |= FLAG_ZF;
    if ((result >> (8 * size - 1) & 1) != 0) flags |= FLAG_SF;
    if ((__builtin_popcount((unsigned)result & 0xff) & 1) == 0) flags |= FLAG_PF;
    return flags;
}

static void flags_set(struct insn_cpu *cpu, uint64_t which, uint64_t flags)
{
    cpu->rflags = (cpu->rflags & ~which) | (flags & which);
}

/* Carries out of, and into, each bit tell CF, AF and OF. */
static uint64_t flags_carry(uint64_t carries, uint64_t overflows, unsigned size)
{
    unsigned top = 8 * size - 1;
    return (carries >> top & 1 ? FLAG_CF : 0) | (carries >> 3 & 1 ? FLAG_AF : 0) |
           (overflows >> top & 1 ? FLAG_OF : 0);
}

static uint64_t add(struct insn_cpu *cpu, uint64_t a, uint64_t b, uint64_t carry, unsigned size,
                    uint64_t which)
{
    uint64_t r = (a + b + carry) & mask_of(size);
    uint64_t carries = (a & b) | ((a | b) & ~r);
    uint64_t overflows = (a ^ r) & (b ^ r);
    flags_set(cpu, which, flags_result(r, size) | flags_carry(carries, overflows, size));
    return r;
}

static uint64_t subtract(struct insn_cpu *cpu, uint64_t a, uint64_t b, uint64_t borrow,
                         unsigned size, uint64_t which)
{
    uint64_t r = (a - b - borrow) & mask_of(size);
    uint64_t borrows = (~a & b) | ((~a | b) & r);
    uint64_t overflows = (a ^ b) & (a ^ r);
    flags_set(cpu, which, flags_result(r, size) | flags_carry(borrows, overflows, size));
    return r;
}

/* AF is undefined after these; the processors clear it. */
static uint64_t logic(struct insn_cpu *cpu, uint64_t r, unsigned size)
{
    flags_set(cpu, FLAGS_ALL, flags_result(r, size));
    return r;
}

/* Operation 0..7: ADD OR ADC SBB AND SUB XOR CMP. */
static uint64_t arithmetic(struct insn_cpu *cpu, unsigned operation, uint64_t a, uint64_t b,
                           unsigned size)
{
    uint64_t carry = cpu->rflags & FLAG_CF;
    switch (operation) {
    case 0:
        return add(cpu, a, b, 0, size, FLAGS_ALL);
    case 1:
        return logic(cpu, a | b, size);
    case 2:
        return add(cpu, a, b, carry, size, FLAGS_ALL);
    case 3:
        return subtract(cpu, a, b, carry, size, FLAGS_ALL);
    case 4:
        return logic(cpu, a & b, size);
    case 6:
        return logic(cpu, a ^ b, size);
    default:
        return subtract(cpu, a, b, 0, size, FLAGS_ALL);
    }
}

/* ---- instructions ------------------------------------------------------------------------ */

/* r/m = r/m op value, or for CMP only the flags. */
static bool arithmetic_rm(const struct insn *i, struct insn_cpu *cpu, unsigned operation,
                          uint64_t value)
{
    uint64_t a, flags = cpu->rflags;
    if (!rm_get(i, cpu, i->operand, &a)) return false;
    uint64_t r = arithmetic(cpu, operation, a, value & mask_of(i->operand), i->operand);
    if (operation == 7 || rm_put(i, cpu, i->operand, r)) return true;
    cpu->rflags = flags;
    return false;
}

static bool arithmetic_reg(const struct insn *i, struct insn_cpu *cpu, unsigned operation)
{
    uint64_t b;
    if (!rm_get(i, cpu, i->operand, &b)) return false;
    uint64_t a = reg_get(i, cpu, i->reg, i->operand);
    uint64_t r = arithmetic(cpu, operation, a, b, i->operand);
    if (operation != 7) reg_put(i, cpu, i->reg, i->operand, r);
    return true;
}

static bool load(const struct insn *i, struct insn_cpu *cpu, unsigned from, bool is_signed)
{
    uint64_t value;
    if (!rm_get(i, cpu, from, &value)) return false;
    if (is_signed) value = sign_extend(value, from);
    reg_put(i, cpu, i->reg, i->operand, value);
    return true;
}

static bool exchange(const struct insn *i, struct insn_cpu *cpu)
{
    uint64_t old, new = reg_get(i, cpu, i->reg, i->operand);
    if (!rm_get(i, cpu, i->operand, &old) || !rm_put(i, cpu, i->operand, new)) return false;
    reg_put(i, cpu, i->reg, i->operand, old);
    return true;
}

static bool exchange_add(const struct insn *i, struct insn_cpu *cpu)
{
    uint64_t old, flags = cpu->rflags;
    if (!rm_get(i, cpu, i->operand, &old)) return false;
    uint64_t sum = add(cpu, old, reg_get(i, cpu, i->reg, i->operand), 0, i->operand, FLAGS_ALL);
    if (i->memory && !rm_put(i, cpu, i->operand, sum)) {
        cpu->rflags = flags;
        return false;
    }
    reg_put(i, cpu, i->reg, i->operand, old);
    if (!i->memory) reg_put(i, cpu, i->rm, i->operand, sum);
    return true;
}

/* In memory the operand is written whatever the comparison says. */
static bool compare_exchange(const struct insn *i, struct insn_cpu *cpu)
{
    uint64_t old, accumulator = reg_get(i, cpu, 0, i->operand), flags = cpu->rflags;
    if (!rm_get(i, cpu, i->operand, &old)) return false;
    (void)subtract(cpu, accumulator, old, 0, i->operand, FLAGS_ALL);
    bool equal = accumulator == old;
    uint64_t new = equal ? reg_get(i, cpu, i->reg, i->operand) : old;
    if (!rm_put(i, cpu, i->operand, new)) {
        cpu->rflags = flags;
        return false;
    }
    if (!equal) reg_put(i, cpu, 0, i->operand, old);
    return true;
}

/* TEST, NOT, NEG: group 3. */
static enum insn_result unary(const struct insn *i, struct insn_cpu *cpu)
{
    uint64_t a, flags = cpu->rflags;
    unsigned operation = i->reg & 7;
    if (operation > 3) return INSN_UNKNOWN;
    if (!rm_get(i, cpu, i->operand, &a)) return INSN_FAULT;
    if (operation < 2) {
        (void)logic(cpu, a & i->immediate & mask_of(i->operand), i->operand);
        return INSN_DONE;
    }
    uint64_t r = operation == 2 ? ~a : subtract(cpu, 0, a, 0, i->operand, FLAGS_ALL);
    if (rm_put(i, cpu, i->operand, r)) return INSN_DONE;
    cpu->rflags = flags;
    return INSN_FAULT;
}

/* INC, DEC: groups 4 and 5; CF stays. */
static enum insn_result increment(const struct insn *i, struct insn_cpu *cpu)
{
    uint64_t a, flags = cpu->rflags;
    unsigned operation = i->reg & 7;
    if (operation > 1) return INSN_UNKNOWN;
    if (!rm_get(i, cpu, i->operand, &a)) return INSN_FAULT;
    uint64_t r = operation == 0 ? add(cpu, a, 1, 0, i->operand, FLAGS_ALL & ~FLAG_CF)
                                : subtract(cpu, a, 1, 0, i->operand, FLAGS_ALL & ~FLAG_CF);
    if (rm_put(i, cpu, i->operand, r)) return INSN_DONE;
    cpu->rflags = flags;
    return INSN_FAULT;
}

/* BT BTS BTR BTC (operation 0..3). A register's bit number reaches beyond the operand. */
static bool bit_test(const struct insn *i, struct insn_cpu *cpu, unsigned operation, bool immediate)
{
    uint64_t value, number = immediate ? i->immediate : reg_get(i, cpu, i->reg, i->operand);
    struct insn at = *i;
    unsigned bits = 8u * i->operand;
    if (i->memory && !immediate) {
        int64_t offset = (int64_t)sign_extend(number, i->operand);
        at.displacement += (offset >> (i->operand == 2 ? 4 : i->operand == 4 ? 5 : 6)) * i->operand;
    }
    unsigned bit = (unsigned)number & (bits - 1);
    if (!rm_get(&at, cpu, i->operand, &value)) return false;
    uint64_t new = operation == 1   ? value | 1ull << bit
                   : operation == 2 ? value & ~(1ull << bit)
                                    : value ^ 1ull << bit;
    if (operation != 0 && !rm_put(&at, cpu, i->operand, new)) return false;
    flags_set(cpu, FLAG_CF, value >> bit & 1);
    return true;
}

/* ---- strings ----------------------------------------------------------------------------------- */

static void address_step(const struct insn *i, uint64_t *reg, int64_t by)
{
    uint64_t new = *reg + (uint64_t)by, mask = mask_of(i->address);
    *reg = i->address == 2 ? (*reg & ~mask) | (new &mask) : new &mask;
}

static uint64_t string_linear(const struct insn *i, const struct insn_cpu *cpu, unsigned reg,
                              unsigned segment)
{
    uint64_t offset = cpu->gpr[reg] & mask_of(i->address);
    if (i->mode == 8) return segment >= EXO_FS ? offset + cpu->base[segment] : offset;
    return (offset + cpu->base[segment]) & 0xffffffff;
}

/* One iteration of MOVS (0xa4), STOS (0xaa), LODS (0xac). */
static bool string_once(const struct insn *i, struct insn_cpu *cpu)
{
    int64_t by = (cpu->rflags & FLAG_DF) != 0 ? -(int64_t)i->operand : i->operand;
    unsigned kind = i->opcode & 0xfe;
    uint64_t value = reg_get(i, cpu, 0, i->operand);
    if (kind != 0xaa) {
        uint64_t from = string_linear(i, cpu, RSI, i->segment);
        if (!cpu->read(cpu->context, from, i->operand, &value)) return false;
    }
    if (kind == 0xac) {
        reg_put(i, cpu, 0, i->operand, value);
    } else {
        uint64_t to = string_linear(i, cpu, RDI, EXO_ES);
        if (!cpu->write(cpu->context, to, i->operand, value & mask_of(i->operand))) return false;
        address_step(i, &cpu->gpr[RDI], by);
    }
    if (kind != 0xaa) address_step(i, &cpu->gpr[RSI], by);
    return true;
}

static enum insn_result string(const struct insn *i, struct insn_cpu *cpu)
{
    if (i->repeat == 0) return string_once(i, cpu) ? INSN_DONE : INSN_FAULT;
    uint64_t mask = mask_of(i->address);
    for (unsigned n = 0; n < INSN_REPEAT; n++) {
        if ((cpu->gpr[RCX] & mask) == 0) return INSN_DONE;
        if (!string_once(i, cpu)) return INSN_FAULT;
        address_step(i, &cpu->gpr[RCX], -1);
    }
    return (cpu->gpr[RCX] & mask) == 0 ? INSN_DONE : INSN_AGAIN;
}

/* ---- all ----------------------------------------------------------------------------------------- */

static enum insn_result done(bool good) { return good ? INSN_DONE : INSN_FAULT; }

static enum insn_result execute_one_byte(const struct insn *i, struct insn_cpu *cpu)
{
    uint64_t value;
    unsigned size = i->operand;
    if (i->opcode < 0x40 && (i->opcode & 7) < 2)
        return done(arithmetic_rm(i, cpu, i->opcode >> 3, reg_get(i, cpu, i->reg, size)));
    if (i->opcode < 0x40) return done(arithmetic_reg(i, cpu, i->opcode >> 3));
    switch (i->opcode) {
    case 0x63:
        return done(load(i, cpu, size < 4 ? size : 4, true));
    case 0x80:
    case 0x81:
    case 0x83:
        return done(arithmetic_rm(i, cpu, i->reg & 7, i->immediate));
    case 0x84:
    case 0x85:
        if (!rm_get(i, cpu, size, &value)) return INSN_FAULT;
        (void)logic(cpu, value & reg_get(i, cpu, i->reg, size), size);
        return INSN_DONE;
    case 0x86:
    case 0x87:
        return done(exchange(i, cpu));
    case 0x88:
    case 0x89:
        return done(rm_put(i, cpu, size, reg_get(i, cpu, i->reg, size)));
    case 0x8a:
    case 0x8b:
        return done(load(i, cpu, size, false));
    case 0xa0:
    case 0xa1:
        if (!rm_get(i, cpu, size, &value)) return INSN_FAULT;
        reg_put(i, cpu, 0, size, value);
        return INSN_DONE;
    case 0xa2:
    case 0xa3:
        return done(rm_put(i, cpu, size, reg_get(i, cpu, 0, size)));
    case 0xa4:
    case 0xa5:
    case 0xaa:
    case 0xab:
    case 0xac:
    case 0xad:
        return string(i, cpu);
    case 0xc6:
    case 0xc7:
        return (i->reg & 7) != 0 ? INSN_UNKNOWN : done(rm_put(i, cpu, size, i->immediate));
    case 0xf6:
    case 0xf7:
        return unary(i, cpu);
    case 0xfe:
    case 0xff:
        return increment(i, cpu);
    default:
        return INSN_UNKNOWN;
    }
}

static enum insn_result execute_two_byte(const struct insn *i, struct insn_cpu *cpu)
{
    switch (i->opcode) {
    case 0xa3:
        return done(bit_test(i, cpu, 0, false));
    case 0xab:
        return done(bit_test(i, cpu, 1, false));
    case 0xb3:
        return done(bit_test(i, cpu, 2, false));
    case 0xbb:
        return done(bit_test(i, cpu, 3, false));
    case 0xba:
        return (i->reg & 7) < 4 ? INSN_UNKNOWN : done(bit_test(i, cpu, i->reg & 3, true));
    case 0xb0:
    case 0xb1:
        return done(compare_exchange(i, cpu));
    case 0xb6:
    case 0xb7:
        return done(load(i, cpu, i->opcode == 0xb6 ? 1 : 2, false));
    case 0xbe:
    case 0xbf:
        return done(load(i, cpu, i->opcode == 0xbe ? 1 : 2, true));
    case 0xc0:
    case 0xc1:
        return done(exchange_add(i, cpu));
    case 0xc3:
        return i->memory ? done(rm_put(i, cpu, i->operand, reg_get(i, cpu, i->reg, i->operand)))
                         : INSN_UNKNOWN;
    default:
        return INSN_UNKNOWN;
    }
}

enum insn_result insn_execute(const struct insn *insn, struct insn_cpu *cpu)
{
    enum insn_result r = insn->map == 0 ? execute_one_byte(insn, cpu) : execute_two_byte(insn, cpu);
    if (r == INSN_DONE) {
        cpu->rip += insn->length;
        if (insn->mode == 4) cpu->rip &= 0xffffffff;
        if (insn->mode == 2) cpu->rip &= 0xffff;
    }
    return r;
}
