/* SPDX-License-Identifier: MIT
 *
 * Two ways, which both leave the address of the `syscall` and the one behind it what they
 * were, so that whoever jumps to them, restarts a call or returns from a signal handler
 * finds what he expects:
 *
 *  1. The instruction before the `syscall` has five bytes or more and can be moved: its
 *     first five become a jump to the stub, which does what it did. The `syscall` stays.
 *  2. The `syscall` becomes a short jump to padding that no code reaches, and that a long
 *     jump to the stub.
 *
 * A stub ends with rcx = the address behind the `syscall`, as the instruction leaves it, and
 * a jump to the library: it uses no stack, and changes no other register.
 *
 * Where instructions begin is found by decoding from every byte some way before: as a rule
 * all of these decodings meet. Where one does not, the site stays. */
#include "length.h"
#include "site.h"

#define BACK 64 /* bytes that decoding begins before an address, at most */
#define VOTES 8 /* decodings that must agree, at least */
#define JUMP_LONG 5
#define PAD_MAX 16

static const uint8_t *bytes_at(const struct site_text *text, uint64_t va)
{
    return text->bytes + (va - text->va);
}

static bool inside(const struct site_text *text, uint64_t va, unsigned n)
{
    return va >= text->va && va - text->va <= text->length && text->length - (va - text->va) >= n;
}

/* What decodings from BACK places and fewer before an address say of it. */
struct before {
    bool begins; /* an instruction begins there: they come there, none passes over it */
    unsigned length; /* of the instruction that ends there; 0: not certain */
};
#define PASSES 255 /* in place of a length */

static struct before look_before(const struct site_text *text, uint64_t va)
{
    uint8_t last[BACK + 1] = {
        0}; /* from k bytes before: the last instruction's length; 0: unknown */
    unsigned back = va - text->va < BACK ? (unsigned)(va - text->va) : BACK, votes = 0;
    struct before before = {false, 0};
    bool same = true;
    for (unsigned k = 1; k <= back; k++) {
        struct code_insn insn;
        if (!code_decode(&insn, bytes_at(text, va - k),
                         text->length - (unsigned)(va - k - text->va)))
            continue;
        last[k] = insn.length > k ? PASSES : insn.length == k ? insn.length : last[k - insn.length];
        if (k < back / 2 || !last[k]) continue;
        if (last[k] == PASSES) return (struct before){false, 0};
        same &= !votes++ || last[k] == before.length;
        before.length = last[k];
    }
    before.begins = votes >= VOTES;
    if (!before.begins || !same) before.length = 0;
    return before;
}

static void put32(uint8_t *to, int64_t value)
{
    for (unsigned i = 0; i < 4; i++)
        to[i] = (uint8_t)((uint64_t)value >> 8 * i);
}

static bool fits32(int64_t value) { return value == (int32_t)value; }

/* A jump from va to `to`. */
static bool jump_long(struct site_write *write, uint64_t va, uint64_t to)
{
    int64_t distance = (int64_t)(to - va - JUMP_LONG);
    write->va = va;
    write->length = JUMP_LONG;
    write->bytes[0] = 0xe9; /* JMP rel32 */
    put32(write->bytes + 1, distance);
    return fits32(distance);
}

/* The stub's end from stub[at] on: lea back(%rip), %rcx; jmp *pointer(%rip). */
static bool stub_end(uint8_t *stub, unsigned at, uint64_t va, uint64_t back, uint64_t pointer)
{
    static const uint8_t lea[3] = {0x48, 0x8d, 0x0d}, jump[2] = {0xff, 0x25};
    int64_t to_back = (int64_t)(back - (va + at + 7));
    int64_t to_pointer = (int64_t)(pointer - (va + at + 13));
    for (unsigned i = 0; i < 3; i++)
        stub[at + i] = lea[i];
    put32(stub + at + 3, to_back);
    for (unsigned i = 0; i < 2; i++)
        stub[at + 7 + i] = jump[i];
    put32(stub + at + 9, to_pointer);
    return fits32(to_back) && fits32(to_pointer);
}

/* The first way. */
static bool plan_before(struct site_plan *plan, const struct site_text *text, uint64_t site,
                        unsigned length, uint64_t stub_va, uint64_t pointer_va)
{
    struct code_insn insn;
    if (length < JUMP_LONG) return false;
    uint64_t va = site - length;
    const uint8_t *code = bytes_at(text, va);
    if (!code_decode(&insn, code, length) || insn.branches || insn.stops) return false;
    for (unsigned i = 0; i < length; i++)
        plan->stub[i] = code[i];
    if (insn.rip_disp != 0) {
        const uint8_t *d = code + insn.rip_disp;
        int32_t old =
            (int32_t)(d[0] | (uint32_t)d[1] << 8 | (uint32_t)d[2] << 16 | (uint32_t)d[3] << 24);
        int64_t moved = old + (int64_t)(va - stub_va);
        if (!fits32(moved)) return false;
        put32(plan->stub + insn.rip_disp, moved);
    }
    plan->writes = 1;
    return jump_long(&plan->write[0], va, stub_va) &&
           stub_end(plan->stub, length, stub_va, site + 2, pointer_va);
}

/* Whether what may be an instruction that control does not pass ends at va. */
static bool stop_ends(const struct site_text *text, uint64_t va)
{
    if (!inside(text, va - JUMP_LONG, JUMP_LONG)) return false;
    const uint8_t *end = bytes_at(text, va);
    if (end[-1] != 0xc3 && end[-1] != 0xf4 && end[-2] != 0xeb && end[-5] != 0xe9 &&
        !(end[-2] == 0x0f && end[-1] == 0x0b))
        return false;
    unsigned length = look_before(text, va).length;
    struct code_insn insn;
    return length != 0 && code_decode(&insn, end - length, length) && insn.stops;
}

/* Bytes of padding from va on that can be overwritten: whole instructions, none of which
 * is where a function may begin. */
static unsigned padding_at(const struct site_text *text, uint64_t va)
{
    unsigned length = 0;
    struct code_insn insn;
    while (length < JUMP_LONG && inside(text, va + length, CODE_INSN_MAX)) {
        if ((va + length) % 16 == 0) return 0;
        if (!code_decode(&insn, bytes_at(text, va + length), CODE_INSN_MAX) || !insn.pads) return 0;
        length += insn.length;
    }
    return length >= JUMP_LONG && length <= PAD_MAX ? length : 0;
}

/* The second way. */
static bool plan_padding(struct site_plan *plan, const struct site_text *text, uint64_t site,
                         uint64_t stub_va, uint64_t pointer_va)
{
    for (int distance = -128; distance <= 127; distance++) {
        uint64_t va = site + 2 + (uint64_t)(int64_t)distance;
        if (!inside(text, va, CODE_INSN_MAX)) continue;
        unsigned length = padding_at(text, va);
        if (length == 0 || !stop_ends(text, va)) continue;
        if (!jump_long(&plan->write[0], va, stub_va)) return false;
        plan->write[0].length = (uint8_t)length;
        for (unsigned i = JUMP_LONG; i < length; i++)
            plan->write[0].bytes[i] = 0xcc; /* INT3: room for another one */
        plan->write[1] = (struct site_write){site, 2, {0xeb, (uint8_t)distance}}; /* JMP rel8 */
        plan->writes = 2;
        return stub_end(plan->stub, 0, stub_va, site + 2, pointer_va);
    }
    return false;
}

bool site_plan(struct site_plan *plan, const struct site_text *text, uint64_t site,
               uint64_t stub_va, uint64_t pointer_va)
{
    *plan = (struct site_plan){0};
    if (!inside(text, site, 2)) return false;
    const uint8_t *code = bytes_at(text, site);
    if (code[0] != 0x0f || code[1] != 0x05) return false; /* SYSCALL */
    const struct before before = look_before(text, site);
    if (!before.begins) return false;
    return plan_before(plan, text, site, before.length, stub_va, pointer_va) ||
           plan_padding(plan, text, site, stub_va, pointer_va);
}
