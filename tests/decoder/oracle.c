/* SPDX-License-Identifier: MIT
 *
 * Random instructions, in 16, 32 and 64-bit code. Whatever insn_decode accepts must have the
 * length that Capstone gives it, and every move that Capstone finds to or from memory must
 * be accepted. What insn_execute does must be what Unicorn does: registers, flags, and each
 * write to memory. Memory is a function of the address until it is written.
 */
#include <capstone/capstone.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unicorn/unicorn.h>

#include "../../vmm/decode.h"

#define CODE 0x7000ull
#define WRITES 64
#define PAGES 16
#define FLAGS_COMPARED 0x8d5ull /* CF PF AF ZF SF OF */

static uint64_t state;

static uint64_t random64(void) /* splitmix64's mixing of a counter */
{
    uint64_t z = state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static unsigned pick(unsigned n) { return (unsigned)(random64() % n); }

/* ---- memory that both sides see ------------------------------------------------------ */

struct access {
    uint64_t address, value;
    unsigned size;
};
struct memory {
    struct access writes[WRITES];
    unsigned count;
    bool outside; /* an address that the comparison cannot use */
    unsigned mode;
};

static uint8_t byte_at(uint64_t address)
{
    uint64_t z = address * 0x9e3779b97f4a7c15ull;
    return (uint8_t)(z >> 56 ^ z >> 17);
}

static bool usable(const struct memory *m, uint64_t address, unsigned size)
{
    if (address < 0x8000 || address + size < address) return false;
    uint64_t end = m->mode == 2 ? 0xfff0 : m->mode == 4 ? 0xfffffff0 : 0x7ffffffff000;
    return address + size <= end;
}

static uint8_t byte_now(const struct memory *m, uint64_t address)
{
    for (unsigned i = m->count; i-- > 0;)
        if (address - m->writes[i].address < m->writes[i].size)
            return (uint8_t)(m->writes[i].value >> 8 * (address - m->writes[i].address));
    return byte_at(address);
}

static bool memory_read(void *context, uint64_t linear, unsigned size, uint64_t *value)
{
    struct memory *m = context;
    if (!usable(m, linear, size)) {
        m->outside = true;
        return false;
    }
    *value = 0;
    for (unsigned i = 0; i < size; i++)
        *value |= (uint64_t)byte_now(m, linear + i) << 8 * i;
    return true;
}

static bool memory_write(void *context, uint64_t linear, unsigned size, uint64_t value)
{
    struct memory *m = context;
    if (!usable(m, linear, size) || m->count == WRITES) {
        m->outside = true;
        return false;
    }
    m->writes[m->count++] = (struct access){linear, value, size};
    return true;
}

/* ---- Unicorn --------------------------------------------------------------------------- */

static const int registers[16] = {UC_X86_REG_RAX, UC_X86_REG_RCX, UC_X86_REG_RDX, UC_X86_REG_RBX,
                                  UC_X86_REG_RSP, UC_X86_REG_RBP, UC_X86_REG_RSI, UC_X86_REG_RDI,
                                  UC_X86_REG_R8,  UC_X86_REG_R9,  UC_X86_REG_R10, UC_X86_REG_R11,
                                  UC_X86_REG_R12, UC_X86_REG_R13, UC_X86_REG_R14, UC_X86_REG_R15};
static const int registers_32[8] = {UC_X86_REG_EAX, UC_X86_REG_ECX, UC_X86_REG_EDX, UC_X86_REG_EBX,
                                    UC_X86_REG_ESP, UC_X86_REG_EBP, UC_X86_REG_ESI, UC_X86_REG_EDI};

static struct {
    uc_engine *uc[3]; /* 16, 32, 64 bits */
    uint64_t pages[PAGES];
    unsigned npages;
    struct access writes[WRITES];
    unsigned count;
} peer;

static bool page_missing(uc_engine *uc, uc_mem_type type, uint64_t address, int size, int64_t value,
                         void *user)
{
    (void)type, (void)value, (void)user;
    uint8_t bytes[4096];
    for (uint64_t page = address & ~4095ull; page < address + (uint64_t)size; page += 4096) {
        if (peer.npages == PAGES) return false;
        for (unsigned i = 0; i < 4096; i++)
            bytes[i] = byte_at(page + i);
        if (uc_mem_map(uc, page, 4096, UC_PROT_ALL) != UC_ERR_OK) continue;
        peer.pages[peer.npages++] = page;
        uc_mem_write(uc, page, bytes, 4096);
    }
    return true;
}

static void written(uc_engine *uc, uc_mem_type type, uint64_t address, int size, int64_t value,
                    void *user)
{
    (void)uc, (void)type, (void)user;
    if (peer.count < WRITES)
        peer.writes[peer.count++] = (struct access){address, (uint64_t)value, (unsigned)size};
}

static unsigned engine(unsigned mode) { return mode == 2 ? 0 : mode == 4 ? 1 : 2; }

static void peer_open(void)
{
    static const uc_mode modes[3] = {UC_MODE_16, UC_MODE_32, UC_MODE_64};
    uc_hook hook;
    for (unsigned i = 0; i < 3; i++) {
        uc_engine *uc;
        if (uc_open(UC_ARCH_X86, modes[i], &uc) != UC_ERR_OK) exit(2);
        peer.uc[i] = uc;
        uc_mem_map(uc, CODE, 4096, UC_PROT_ALL);
        uc_hook_add(uc, &hook, UC_HOOK_MEM_READ_UNMAPPED | UC_HOOK_MEM_WRITE_UNMAPPED,
                    (void *)page_missing, NULL, 1, 0);
        uc_hook_add(uc, &hook, UC_HOOK_MEM_WRITE, (void *)written, NULL, 1, 0);
    }
}

/* Runs one instruction there; false: it faulted. */
static bool peer_run(unsigned mode, const uint8_t *bytes, unsigned length, struct insn_cpu *cpu)
{
    uc_engine *uc = peer.uc[engine(mode)];
    const int *names = mode == 8 ? registers : registers_32;
    unsigned n = mode == 8 ? 16 : 8;
    peer.npages = peer.count = 0;
    uc_mem_write(uc, CODE, bytes, length);
    uc_ctl_remove_cache(uc, CODE, CODE + 4096);
    for (unsigned i = 0; i < n; i++)
        uc_reg_write(uc, names[i], &cpu->gpr[i]);
    uc_reg_write(uc, UC_X86_REG_EFLAGS, &cpu->rflags);
    if (mode == 8) {
        uc_reg_write(uc, UC_X86_REG_FS_BASE, &cpu->base[EXO_FS]);
        uc_reg_write(uc, UC_X86_REG_GS_BASE, &cpu->base[EXO_GS]);
    }
    uc_err error = uc_emu_start(uc, CODE, CODE + length, 1000000, 0);
    for (unsigned i = 0; i < n; i++)
        uc_reg_read(uc, names[i], &cpu->gpr[i]);
    uc_reg_read(uc, UC_X86_REG_EFLAGS, &cpu->rflags);
    return error == UC_ERR_OK;
}

static bool peer_byte_same(unsigned mode, const struct memory *m, uint64_t address)
{
    uint8_t byte;
    if (uc_mem_read(peer.uc[engine(mode)], address, &byte, 1) != UC_ERR_OK) return false;
    return byte == byte_now(m, address);
}

/* What we wrote is there, and it wrote nowhere else. */
static bool peer_memory_same(unsigned mode, const struct memory *m)
{
    for (unsigned i = 0; i < m->count; i++)
        for (unsigned j = 0; j < m->writes[i].size; j++)
            if (!peer_byte_same(mode, m, m->writes[i].address + j)) return false;
    for (unsigned i = 0; i < peer.count; i++)
        for (unsigned j = 0; j < peer.writes[i].size; j++)
            if (!peer_byte_same(mode, m, peer.writes[i].address + j)) return false;
    return true;
}

static void peer_clean(unsigned mode)
{
    for (unsigned i = 0; i < peer.npages; i++)
        uc_mem_unmap(peer.uc[engine(mode)], peer.pages[i], 4096);
}

/* ---- instructions ------------------------------------------------------------------------- */

static unsigned generate(uint8_t *bytes, unsigned mode)
{
    static const uint8_t prefixes[] = {0x66, 0x67, 0x2e, 0x3e, 0x64, 0x65, 0x26, 0x36, 0xf3};
    static const uint8_t common[] = {0x88, 0x89, 0x8a, 0x8b, 0xc6, 0xc7, 0xa0, 0xa1, 0xa2, 0xa3,
                                     0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0x80, 0x81, 0x83, 0x84,
                                     0x85, 0x86, 0x87, 0xf6, 0xf7, 0xfe, 0xff, 0x63};
    static const uint8_t common_0f[] = {0xb6, 0xb7, 0xbe, 0xbf, 0xa3, 0xab, 0xb3, 0xbb, 0xba,
                                        0xb0, 0xb1, 0xc0, 0xc1, 0xc3, 0x20, 0x22, 0x01};
    unsigned n = 0;
    while (pick(3) == 0 && n < 3)
        bytes[n++] = prefixes[pick(sizeof prefixes)];
    if (mode == 8 && pick(2)) bytes[n++] = (uint8_t)(0x40 | pick(16));
    switch (pick(4)) {
    case 0:
        bytes[n++] = common[pick(sizeof common)];
        break;
    case 1:
        bytes[n++] = (uint8_t)(pick(8) << 3 | pick(4));
        break;
    case 2:
        bytes[n++] = 0x0f;
        bytes[n++] = common_0f[pick(sizeof common_0f)];
        break;
    default:
        break;
    }
    while (n < 24)
        bytes[n++] = (uint8_t)random64();
    if (pick(2)) bytes[8 + pick(4)] = 0; /* smaller displacements */
    return n;
}

static bool memory_move(const cs_insn *c)
{
    if (strcmp(c->mnemonic, "mov") != 0 && strcmp(c->mnemonic, "movzx") != 0 &&
        strcmp(c->mnemonic, "movsx") != 0)
        return false;
    return strchr(c->op_str, '[') != NULL;
}

/* Segment registers are loaded by MOV too, never from device memory. */
static bool segment_move(const struct insn *i, const uint8_t *bytes, unsigned length)
{
    (void)i;
    for (unsigned k = 0; k < length && k < 6; k++)
        if (bytes[k] == 0x8c || bytes[k] == 0x8e) return true;
    return false;
}

struct tally {
    unsigned lengths, executed, unknown, failed;
};

static void complain(struct tally *tally, const char *what, const uint8_t *bytes, unsigned mode,
                     const cs_insn *c)
{
    if (tally->failed++ > 10) return;
    printf("%s, mode %u:", what, mode);
    for (unsigned i = 0; i < INSN_MAX; i++)
        printf(" %02x", bytes[i]);
    printf(" (%s %s, %u bytes)\n", c ? c->mnemonic : "?", c ? c->op_str : "",
           c ? (unsigned)c->size : 0);
}

static bool legacy_prefix(uint8_t byte)
{
    static const uint8_t all[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3};
    return memchr(all, byte, sizeof all) != NULL;
}

/* A REX prefix that is not the last one means nothing; Unicorn keeps it. */
static bool rex_dropped(const struct insn *i, const uint8_t *bytes)
{
    bool seen = false;
    for (unsigned k = 0; i->mode == 8; k++) {
        bool rex = (bytes[k] & 0xf0) == 0x40;
        if (!rex && !legacy_prefix(bytes[k])) break;
        if (seen) return true;
        seen = rex;
    }
    return false;
}

/* Not compared, since Unicorn refuses what processors take: TEST's second encoding (/1),
 * and MOV with an immediate and a REX.R that means nothing. */
static void compare_execution(struct tally *tally, const struct insn *i, const uint8_t *bytes,
                              const cs_insn *c)
{
    struct memory m = {.mode = i->mode};
    struct insn_cpu ours = {.rip = CODE, .context = &m, .read = memory_read, .write = memory_write};
    for (unsigned r = 0; r < 16; r++)
        ours.gpr[r] = i->mode == 8   ? (pick(4) ? random64() >> 20 : random64())
                      : i->mode == 4 ? random64() >> 36
                                     : random64() & 0x3fff;
    if (i->repeat != 0) ours.gpr[1] = pick(20);
    ours.rflags = 2 | (random64() & (FLAGS_COMPARED | 0x400));
    if (i->mode == 8) {
        ours.base[EXO_FS] = random64() >> 24;
        ours.base[EXO_GS] = random64() >> 24;
    }
    struct insn_cpu theirs = ours;
    enum insn_result r = insn_execute(i, &ours);
    if (m.outside || r == INSN_UNKNOWN || r == INSN_AGAIN) {
        tally->unknown += r == INSN_UNKNOWN;
        return;
    }
    if (rex_dropped(i, bytes)) return;
    if ((i->opcode & 0xfe) == 0xf6 && i->map == 0 && (i->reg & 7) == 1) return;
    if ((i->opcode & 0xfe) == 0xc6 && i->map == 0 && (i->reg & 8) != 0) return;
    bool ran = peer_run(i->mode, bytes, i->length, &theirs);
    bool same = ran && memcmp(ours.gpr, theirs.gpr, 8 * (i->mode == 8 ? 16 : 8)) == 0 &&
                ((ours.rflags ^ theirs.rflags) & FLAGS_COMPARED) == 0 &&
                peer_memory_same(i->mode, &m);
    peer_clean(i->mode);
    tally->executed++;
    if (same) return;
    complain(tally, ran ? "executed otherwise" : "executed, and must not be", bytes, i->mode, c);
    for (unsigned k = 0; k < 16 && tally->failed < 10; k++)
        if (ours.gpr[k] != theirs.gpr[k])
            printf("  r%u: %" PRIx64 ", expected %" PRIx64 "\n", k, ours.gpr[k], theirs.gpr[k]);
    if (tally->failed < 10)
        printf("  flags: %" PRIx64 ", expected %" PRIx64 "\n", ours.rflags, theirs.rflags);
}

static void one(struct tally *tally, const csh *capstone)
{
    static const unsigned modes[3] = {2, 4, 8};
    uint8_t bytes[32] = {0};
    unsigned mode = modes[pick(3)];
    unsigned n = generate(bytes, mode);
    struct insn i;
    cs_insn *c = NULL;
    bool ours = insn_decode(&i, bytes, n, mode);
    size_t theirs = cs_disasm(capstone[engine(mode)], bytes, n, CODE, 1, &c);
    if (theirs != 0 && ours) {
        tally->lengths++;
        if (i.length != c->size) complain(tally, "length", bytes, mode, c);
        if (i.length == c->size && !i.lock && i.repeat != 0xf2)
            compare_execution(tally, &i, bytes, c);
    }
    if (theirs != 0 && !ours && memory_move(c) && !segment_move(&i, bytes, (unsigned)c->size))
        complain(tally, "refused", bytes, mode, c);
    if (theirs != 0) cs_free(c, theirs);
}

/* Whatever lies behind the instruction's end must not matter, nor be needed. */
static void truncated(struct tally *tally)
{
    uint8_t bytes[32] = {0};
    struct insn whole, cut;
    unsigned n = generate(bytes, 8);
    if (!insn_decode(&whole, bytes, n, 8)) return;
    for (unsigned k = 0; k < whole.length; k++)
        if (insn_decode(&cut, bytes, k, 8)) complain(tally, "decoded when cut", bytes, 8, NULL);
    if (!insn_decode(&cut, bytes, whole.length, 8) || cut.length != whole.length)
        complain(tally, "not decoded when exact", bytes, 8, NULL);
}

int main(int argc, char **argv)
{
    static const cs_mode modes[3] = {CS_MODE_16, CS_MODE_32, CS_MODE_64};
    csh capstone[3];
    struct tally tally = {0};
    state = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    unsigned count = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 100000;
    for (unsigned i = 0; i < 3; i++)
        if (cs_open(CS_ARCH_X86, modes[i], &capstone[i]) != CS_ERR_OK) return 2;
    peer_open();
    for (unsigned k = 0; k < count; k++) {
        one(&tally, capstone);
        truncated(&tally);
    }
    bool enough = tally.lengths > count / 4 && tally.executed > count / 16;
    printf("%s decoder: %u lengths as Capstone, %u executions as Unicorn, %u wrong\n",
           tally.failed == 0 && enough ? "PASS" : "FAIL", tally.lengths, tally.executed,
           tally.failed);
    return tally.failed != 0 || !enough;
}
