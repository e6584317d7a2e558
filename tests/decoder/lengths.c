/* SPDX-License-Identifier: MIT
 *
 * The Linux library's instruction lengths (libos/linux/server/process/length.c) against Capstone:
 * over this program's own text, which is linked statically and so holds the C library, and
 * over random bytes. Whatever code_decode knows must have Capstone's length, and all but a
 * few of real instructions must be known.
 */
#include <capstone/capstone.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../libos/linux/server/process/length.h"

extern const uint8_t _start[], etext[];

static csh capstone;
static cs_insn *peer;
static unsigned long compared, unknown, failed;

static uint64_t random64(uint64_t *state) /* splitmix64's mixing of a counter */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static void complain(const char *what, const uint8_t *code, unsigned ours)
{
    if (failed++ >= 20) return;
    printf("lengths: %s: ours %u, Capstone %u (%s %s):", what, ours, peer->size, peer->mnemonic,
           peer->op_str);
    for (unsigned i = 0; i < CODE_INSN_MAX; i++)
        printf(" %02x", code[i]);
    printf("\n");
}

/* A displacement relative to RIP lies where Capstone says, if there is one. */
static bool same_displacement(const struct code_insn *insn)
{
    const cs_x86 *x = &peer->detail->x86;
    bool relative = false;
    for (unsigned i = 0; i < x->op_count; i++)
        if (x->operands[i].type == X86_OP_MEM && x->operands[i].mem.base == X86_REG_RIP)
            relative = true;
    return relative ? insn->rip_disp == x->encoding.disp_offset : true;
}

static bool branches(void)
{
    return cs_insn_group(capstone, peer, CS_GRP_JUMP) ||
           cs_insn_group(capstone, peer, CS_GRP_CALL) || cs_insn_group(capstone, peer, CS_GRP_RET);
}

/* One instruction; its length as Capstone sees it, 0: it knows none. */
static unsigned compare(const uint8_t *code, size_t left, uint64_t address, bool real)
{
    const uint8_t *at = code;
    if (!cs_disasm_iter(capstone, &at, &left, &address, peer)) return 0;
    struct code_insn insn;
    if (!code_decode(&insn, code, CODE_INSN_MAX)) {
        unknown += real;
        return peer->size;
    }
    compared++;
    if (insn.length != peer->size)
        complain("length", code, insn.length);
    else if (!same_displacement(&insn))
        complain("displacement", code, insn.rip_disp);
    else if (branches() && !insn.branches)
        complain("branch not seen", code, insn.length);
    return peer->size;
}

static void compare_text(void)
{
    const uint8_t *at = _start;
    while (etext - at > CODE_INSN_MAX) {
        unsigned length = compare(at, (size_t)(etext - at), (uint64_t)(uintptr_t)at, true);
        at += length ? length : 1;
    }
}

/* Random bytes, mostly with a common prefix or escape before them. Capstone 4 knows neither
 * all of EVEX (it wants a displacement where there are only registers) nor what is only a
 * hint, so only what both know is compared. */
static void compare_random(uint64_t seed, unsigned long count)
{
    static const uint8_t heads[][2] = {{0x48},       {0x66},       {0x0f}, {0x48, 0x0f},
                                       {0x66, 0x0f}, {0xf3, 0x0f}, {0xc5}, {0x41}};
    for (unsigned long i = 0; i < count; i++) {
        uint8_t code[CODE_INSN_MAX + 1];
        for (unsigned b = 0; b < sizeof(code); b++)
            code[b] = (uint8_t)random64(&seed);
        unsigned head = random64(&seed) % 16;
        if (head < 8) {
            code[0] = heads[head][0];
            if (heads[head][1]) code[1] = heads[head][1];
        }
        if (code[0] != 0x62) compare(code, CODE_INSN_MAX, 0x400000, false);
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 0) : 1000000;
    if (cs_open(CS_ARCH_X86, CS_MODE_64, &capstone) != CS_ERR_OK) return 1;
    cs_option(capstone, CS_OPT_DETAIL, CS_OPT_ON);
    peer = cs_malloc(capstone);
    compare_text();
    unsigned long text = compared;
    bool known = unknown * 1000 < text;
    if (!known) printf("lengths: %lu instructions of real code are not known\n", unknown);
    compare_random(seed, count);
    bool good = failed == 0 && known && text >= 10000;
    printf("%s lengths: %lu of text (%lu unknown), %lu random, %lu wrong\n", good ? "PASS" : "FAIL",
           text, unknown, compared - text, failed);
    return !good;
}
