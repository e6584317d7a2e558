/* SPDX-License-Identifier: MIT
 *
 * Instructions that the monitor executes for a virtual CPU: accesses to device memory,
 * string I/O, and moves to and from control and debug registers. The guest can change the
 * bytes at any moment, so they are fetched once; what they turn out to be can only do what
 * the same virtual CPU could do itself.
 */
#include "decode.h"
#include "vcpu.h"
#include "walk.h"

#define CR0_TS 8ull
#define CR0_ET 0x10ull
#define CR0_PG (1ull << 31)
#define CR4_DE 8ull
#define CR4_PAE 0x20ull
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)
#define SEG_L 0x200
#define SEG_D 0x400
#define VECTOR_GP 13
#define VECTOR_PF 14
#define GROUPS (EXO_VG_A | EXO_VG_B | EXO_VG_RIP | EXO_VG_CR | EXO_VG_SEG)

struct context {
    struct vcpu *v;
    struct walk walk;
    uint32_t error; /* of the page fault that a function noted */
    uint64_t address;
};

/* ---- registers ------------------------------------------------------------------------- */

static uint64_t *gpr(struct vcpu *v, unsigned i)
{
    struct exo_vcpu_page *p = v->page;
    uint64_t *const list[8] = {&p->a.rax,   &p->a.rcx, &p->a.rdx, &p->a.rbx,
                               &p->rip.rsp, &p->b.rbp, &p->b.rsi, &p->b.rdi};
    return i < 8 ? list[i] : &p->b.r8 + (i - 8);
}

static uint32_t gpr_group(unsigned i) { return i < 4 ? EXO_VG_A : i == 4 ? EXO_VG_RIP : EXO_VG_B; }

/* Bytes of the code segment's default: 2, 4 or 8. */
static unsigned code_mode(const struct vcpu *v)
{
    unsigned attributes = v->page->segs.seg[EXO_CS].attributes;
    if (v->page->cr.efer & EFER_LMA && attributes & SEG_L) return 8;
    return attributes & SEG_D ? 4 : 2;
}

static void cpu_fill(struct vcpu *v, struct insn_cpu *cpu)
{
    for (unsigned i = 0; i < 16; i++)
        cpu->gpr[i] = *gpr(v, i);
    cpu->rip = v->page->rip.rip;
    cpu->rflags = v->page->rip.rflags;
    bool flat = code_mode(v) == 8;
    for (unsigned i = 0; i <= EXO_GS; i++)
        cpu->base[i] = flat && i < EXO_FS ? 0 : v->page->segs.seg[i].base;
}

static void cpu_store(struct vcpu *v, const struct insn_cpu *cpu)
{
    for (unsigned i = 0; i < 16; i++)
        *gpr(v, i) = cpu->gpr[i];
    v->page->rip.rip = cpu->rip;
    v->page->rip.rflags = cpu->rflags;
    v->page->rip.shadow = 0;
    v->flags &= ~EXO_XF_SHADOW;
    v->set |= EXO_VG_A | EXO_VG_B | EXO_VG_RIP;
}

/* ---- the guest's memory ------------------------------------------------------------------ */

static void context_fill(struct context *c, struct vcpu *v)
{
    const struct exo_vm_cr *cr = &v->page->cr;
    *c = (struct context){.v = v};
    c->walk = (struct walk){cr->cr0,
                            cr->cr3,
                            cr->cr4,
                            cr->efer,
                            v->page->rip.rflags,
                            (v->page->segs.seg[EXO_SS].attributes >> 5 & 3) == 3};
}

static bool translate(struct context *c, uint64_t linear, unsigned access, uint64_t *physical)
{
    if (walk_translate(&c->walk, linear, access, physical, &c->error)) return true;
    c->address = linear;
    return false;
}

static uint64_t load(const volatile void *at, unsigned size)
{
    switch (size) {
    case 1:
        return *(const volatile uint8_t *)at;
    case 2:
        return *(const volatile uint16_t *)at;
    case 4:
        return *(const volatile uint32_t *)at;
    default:
        return *(const volatile uint64_t *)at;
    }
}

static void store(volatile void *at, unsigned size, uint64_t value)
{
    switch (size) {
    case 1:
        *(volatile uint8_t *)at = (uint8_t)value;
        break;
    case 2:
        *(volatile uint16_t *)at = (uint16_t)value;
        break;
    case 4:
        *(volatile uint32_t *)at = (uint32_t)value;
        break;
    default:
        *(volatile uint64_t *)at = value;
        break;
    }
}

/* Physical accesses inside one page: RAM, the local APIC, a device, or nobody. */
static uint64_t physical_read(struct vcpu *v, uint64_t address, unsigned size)
{
    uint64_t value;
    const void *ram = guest_ptr(address, size);
    if (ram) return load(ram, size);
    if ((address & -(uint64_t)EXO_PAGE) == lapic_base(v->index))
        return lapic_mmio_read(v->index, address % EXO_PAGE, size);
    if (!mmio_read(address, size, &value)) vm_note("read at %lx: nothing is there", address);
    return value;
}

static void physical_write(struct vcpu *v, uint64_t address, unsigned size, uint64_t value)
{
    void *ram = guest_ptr(address, size);
    if (ram)
        store(ram, size, value);
    else if ((address & -(uint64_t)EXO_PAGE) == lapic_base(v->index))
        lapic_mmio_write(v->index, address % EXO_PAGE, size, value);
    else if (!mmio_write(address, size, value))
        vm_note("write at %lx: nothing is there", address);
}

static bool crosses(uint64_t linear, unsigned size) { return linear % EXO_PAGE + size > EXO_PAGE; }

static bool linear_read(void *context, uint64_t linear, unsigned size, uint64_t *value)
{
    struct context *c = context;
    uint64_t physical, byte;
    if (crosses(linear, size)) {
        *value = 0;
        for (unsigned i = 0; i < size; i++) {
            if (!linear_read(c, linear + i, 1, &byte)) return false;
            *value |= byte << 8 * i;
        }
        return true;
    }
    if (!translate(c, linear, 0, &physical)) return false;
    *value = physical_read(c->v, physical, size);
    return true;
}

static bool linear_write(void *context, uint64_t linear, unsigned size, uint64_t value)
{
    struct context *c = context;
    uint64_t physical;
    if (crosses(linear, size)) {
        /* both pages before the first byte */
        if (!translate(c, linear + size - 1, WALK_WRITE, &physical)) return false;
        for (unsigned i = 0; i < size; i++)
            if (!linear_write(c, linear + i, 1, value >> 8 * i & 0xff)) return false;
        return true;
    }
    if (!translate(c, linear, WALK_WRITE, &physical)) return false;
    physical_write(c->v, physical, size, value);
    return true;
}

static void page_fault(struct context *c)
{
    struct vcpu *v = c->v;
    v->page->cr.cr2 = c->address;
    v->set |= EXO_VG_CR;
    vcpu_fault(v, VECTOR_PF, c->error);
}

static unsigned fetch(struct context *c, uint8_t bytes[])
{
    struct vcpu *v = c->v;
    uint64_t linear = v->page->rip.rip, physical;
    if (code_mode(v) != 8) linear = (uint32_t)(linear + v->page->segs.seg[EXO_CS].base);
    unsigned n = 0;
    while (n < INSN_MAX) {
        if (!translate(c, linear + n, WALK_FETCH, &physical)) break;
        unsigned step = EXO_MIN(INSN_MAX - n, EXO_PAGE - (unsigned)(physical % EXO_PAGE));
        const volatile uint8_t *from = guest_ptr(physical, step);
        if (!from) break;
        for (unsigned i = 0; i < step; i++)
            bytes[n++] = from[i];
    }
    return n;
}

unsigned emulate_fetch(struct vcpu *v, uint8_t bytes[])
{
    struct context c;
    vcpu_need(v, GROUPS);
    context_fill(&c, v);
    return fetch(&c, bytes);
}

/* Fetches and decodes. False: the guest got a fault or was ended. */
static bool decode(struct context *c, struct insn *insn)
{
    uint8_t bytes[INSN_MAX];
    unsigned n = fetch(c, bytes);
    if (n && insn_decode(insn, bytes, n, code_mode(c->v))) return true;
    if (n == INSN_MAX)
        vm_fail("an instruction that is not emulated");
    else if (c->error)
        page_fault(c);
    else
        vm_fail("an instruction outside of memory");
    return false;
}

/* ---- accesses to device memory -------------------------------------------------------------- */

void emulate_memory(struct vcpu *v)
{
    struct context c;
    struct insn insn;
    struct insn_cpu cpu;
    vcpu_need(v, GROUPS);
    context_fill(&c, v);
    if (!decode(&c, &insn)) return;
    cpu_fill(v, &cpu);
    cpu.context = &c;
    cpu.read = linear_read;
    cpu.write = linear_write;
    switch (insn_execute(&insn, &cpu)) {
    case INSN_DONE:
    case INSN_AGAIN:
        cpu_store(v, &cpu);
        break;
    case INSN_FAULT:
        page_fault(&c);
        break;
    case INSN_UNKNOWN:
        vm_fail("an instruction that is not emulated");
        break;
    }
}

/* ---- string I/O: INS, OUTS ---------------------------------------------------------------------- */

static uint64_t address_mask(const struct insn *insn)
{
    return insn->address == 8 ? ~0ull : (1ull << 8 * insn->address) - 1;
}

static void register_add(const struct insn *insn, uint64_t *reg, uint64_t by)
{
    uint64_t mask = address_mask(insn), value = (*reg + by) & mask;
    *reg = insn->address == 2 ? (*reg & ~mask) | value : value;
}

/* One element; false: a page fault was noted. */
static bool string_once(struct context *c, const struct insn *insn, struct insn_cpu *cpu,
                        uint64_t port, unsigned size)
{
    uint64_t step = cpu->rflags & 0x400 ? -(uint64_t)size : size, value;
    bool in = insn->opcode < 0x6e;
    unsigned reg = in ? 7 : 6;
    uint64_t linear = cpu->base[in ? EXO_ES : insn->segment] + (cpu->gpr[reg] & address_mask(insn));
    if (insn->mode != 8) linear = (uint32_t)linear;
    if (in) {
        uint64_t physical;
        if (!translate(c, linear, WALK_WRITE, &physical)) return false;
        if (!linear_write(c, linear, size, port_in(port, size))) return false;
    } else {
        if (!linear_read(c, linear, size, &value)) return false;
        port_out(port, size, value);
    }
    register_add(insn, &cpu->gpr[reg], step);
    return true;
}

void emulate_string_io(struct vcpu *v)
{
    struct context c;
    struct insn insn;
    struct insn_cpu cpu;
    unsigned size = v->exit.detail[1] & EXO_PIO_SIZE;
    vcpu_need(v, GROUPS);
    context_fill(&c, v);
    if (!decode(&c, &insn)) return;
    if (insn.map || insn.opcode < 0x6c || insn.opcode > 0x6f)
        return vm_fail("an I/O instruction that changed meanwhile");
    cpu_fill(v, &cpu);
    for (unsigned i = 0; i < INSN_REPEAT; i++) {
        if (insn.repeat && !(cpu.gpr[1] & address_mask(&insn))) break;
        if (!string_once(&c, &insn, &cpu, v->exit.detail[0], size)) {
            cpu_store(v, &cpu);
            return page_fault(&c);
        }
        if (!insn.repeat) break;
        register_add(&insn, &cpu.gpr[1], -1ull);
    }
    if (!insn.repeat || !(cpu.gpr[1] & address_mask(&insn))) cpu.rip += insn.length;
    cpu_store(v, &cpu);
}

/* ---- control and debug registers ------------------------------------------------------------------- */

/* VT-x wants the four entries where PAE paging outside of long mode begins. */
static void pdpte_load(struct vcpu *v)
{
    const struct exo_vm_cr *cr = &v->page->cr;
    if (!(cr->cr0 & CR0_PG) || !(cr->cr4 & CR4_PAE) || cr->efer & EFER_LMA) return;
    const volatile uint64_t *table = guest_ptr((uint32_t)cr->cr3 & ~31u, 32);
    for (unsigned i = 0; i < 4; i++)
        v->page->pdpte[i] = table ? table[i] : 0;
    v->set |= EXO_VG_PDPTE;
}

/* Tells the kernel of changed control registers; false: not allowed, and as before. */
static bool cr_commit(struct vcpu *v, const struct exo_vm_cr *old)
{
    uint32_t set = v->set;
    pdpte_load(v);
    if (vcpu_try(v, EXO_VG_CR | (v->set & EXO_VG_PDPTE))) return true;
    v->page->cr = *old;
    v->set = set;
    return false;
}

static bool cr0_write(struct vcpu *v, uint64_t value)
{
    struct exo_vm_cr old = v->page->cr, *cr = &v->page->cr;
    cr->cr0 = value | CR0_ET;
    if (cr->efer & EFER_LME) cr->efer = value & CR0_PG ? cr->efer | EFER_LMA : cr->efer & ~EFER_LMA;
    return cr_commit(v, &old);
}

static bool cr_write(struct vcpu *v, unsigned number, uint64_t value)
{
    struct exo_vm_cr old = v->page->cr;
    switch (number) {
    case 0:
        return cr0_write(v, value);
    case 3:
        v->page->cr.cr3 = value & ~(1ull << 63);
        return cr_commit(v, &old);
    case 4:
        v->page->cr.cr4 = value;
        return cr_commit(v, &old);
    case 8:
        if (value > 15) return false;
        lapic_tpr_set(v->index, value);
        return true;
    }
    return false;
}

static uint64_t cr_read(struct vcpu *v, unsigned number)
{
    const struct exo_vm_cr *cr = &v->page->cr;
    switch (number) {
    case 0:
        return cr->cr0;
    case 2:
        return cr->cr2;
    case 3:
        return cr->cr3;
    case 4:
        return cr->cr4;
    default:
        return lapic_tpr(v->index);
    }
}

static uint64_t *debug_register(struct vcpu *v, unsigned number)
{
    struct exo_vm_dr *dr = &v->page->dr;
    uint64_t *const list[8] = {&dr->dr0, &dr->dr1, &dr->dr2, &dr->dr3, NULL, NULL, NULL, NULL};
    if (number >= 4) /* 4 and 5 mean 6 and 7: Intel SDM vol. 3, 18.2.2 */
        return number & 1 ? &dr->dr7 : &dr->dr6;
    return list[number];
}

static bool dr_write(struct vcpu *v, unsigned number, uint64_t value)
{
    vcpu_need(v, EXO_VG_DR);
    struct exo_vm_dr old = v->page->dr;
    if (number >= 4 && value >> 32) return false;
    if (number >= 4) value = number & 1 ? (value & ~0x2000ull) | 0x400 : value | 0xffff0ff0;
    *debug_register(v, number) = value;
    if (vcpu_try(v, EXO_VG_DR)) return true;
    v->page->dr = old;
    return false;
}

/* LMSW sets TS, EM, MP and PE, and never clears PE. */
static bool lmsw(struct vcpu *v, uint64_t value)
{
    uint64_t cr0 = v->page->cr.cr0;
    return cr0_write(v, (cr0 & ~0xeull) | (value & 0xf));
}

/* The operand of LMSW or SMSW. */
static bool machine_status(struct vcpu *v, struct context *c, const struct insn *insn)
{
    struct insn_cpu cpu;
    bool write = (insn->reg & 7) == 6;
    uint64_t value = v->page->cr.cr0;
    cpu_fill(v, &cpu);
    uint64_t linear = insn->memory ? insn_linear(insn, &cpu) : 0;
    if (write) {
        if (!insn->memory)
            value = *gpr(v, insn->rm);
        else if (!linear_read(c, linear, 2, &value))
            return page_fault(c), true;
        return lmsw(v, value);
    }
    if (insn->memory) {
        if (!linear_write(c, linear, 2, value & 0xffff)) page_fault(c);
    } else {
        *gpr(v, insn->rm) =
            insn->operand == 2 ? (*gpr(v, insn->rm) & ~0xffffull) | (value & 0xffff) : value;
        v->set |= gpr_group(insn->rm);
    }
    return true;
}

/* A move that is known: between register `reg` and control or debug register `number`. */
static bool move(struct vcpu *v, bool debug, bool write, unsigned number, unsigned reg)
{
    uint64_t *general = gpr(v, reg);
    if (debug) {
        vcpu_need(v, EXO_VG_DR);
        if ((number == 4 || number == 5) && v->page->cr.cr4 & CR4_DE) return false;
    }
    uint64_t mask = code_mode(v) == 8 ? ~0ull : 0xffffffff;
    if (write) {
        return debug ? dr_write(v, number, *general & mask) : cr_write(v, number, *general & mask);
    }
    *general = (debug ? *debug_register(v, number) : cr_read(v, number)) & mask;
    v->set |= gpr_group(reg);
    return true;
}

/* What the hardware did not tell is found in the instruction. */
static bool decoded(struct vcpu *v, struct context *c, const struct insn *insn)
{
    if (insn->map != 1) return false;
    switch (insn->opcode) {
    case 0x01:
        return machine_status(v, c, insn);
    case 0x06:
        return cr0_write(v, v->page->cr.cr0 & ~CR0_TS);
    case 0x20:
    case 0x22:
        return move(v, false, insn->opcode == 0x22, insn->reg, insn->rm);
    case 0x21:
    case 0x23:
        return insn->reg < 8 && move(v, true, insn->opcode == 0x23, insn->reg, insn->rm);
    }
    return false;
}

void emulate_cr(struct vcpu *v)
{
    uint64_t detail = v->exit.detail[0];
    bool good;
    unsigned length = v->length;
    vcpu_need(v, GROUPS);
    if (!(detail & EXO_CRX_KNOWN) || !length) {
        struct context c;
        struct insn insn;
        context_fill(&c, v);
        if (!decode(&c, &insn)) return;
        length = insn.length;
        good = decoded(v, &c, &insn);
    } else if (detail & EXO_CRX_CLTS) {
        good = cr0_write(v, v->page->cr.cr0 & ~CR0_TS);
    } else if (detail & EXO_CRX_LMSW) {
        good = lmsw(v, v->exit.detail[1]);
    } else {
        good = move(v, v->exit.reason == EXO_VX_DR, detail & EXO_CRX_WRITE, detail & EXO_CRX_NUMBER,
                    detail >> EXO_CRX_GPR_SHIFT & 15);
    }
    if (v->event) return; /* a page fault came of it */
    if (good)
        vcpu_skip(v, length);
    else
        vcpu_fault(v, VECTOR_GP, 0);
}
