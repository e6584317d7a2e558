/* SPDX-License-Identifier: MIT
 *
 * CPUID policy. The host's leaves, less everything that the monitor or the kernel does not
 * give a guest, plus KVM's paravirtual leaves. The table is made once; an exit is a look
 * into it. Intel SDM vol. 2, CPUID; AMD APM vol. 3, appendix E; Linux
 * Documentation/virt/kvm/x86/cpuid.rst.
 *
 * Everything is hidden unless listed: a feature of a later CPU has state or instructions
 * that nobody here switches or intercepts.
 */
#include "vcpu.h"
#include <cpuid.h>

#define LEAF_LIST 48
#define EXTENDED 0x80000000u
#define HYPERVISOR 0x40000000u
#define KVM_SIGNATURE "KVMKVMKVM\0\0\0"

/* Bits that a guest may see. */
#define ONE_ECX                                                                                    \
    (1u << 0 | 1u << 1 | 1u << 9 | 1u << 12 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 22 |          \
     1u << 23 | 1u << 25 | 1u << 26 | 1u << 28 | 1u << 29 | 1u << 30)
#define ONE_ECX_SET (1u << 21 | 1u << 24 | 1u << 31) /* x2APIC, TSC-deadline, hypervisor */
#define ONE_ECX_OSXSAVE (1u << 27)
#define ONE_EDX                                                                                    \
    (1u << 0 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 8 | 1u << 11 | 1u << 12 |   \
     1u << 13 | 1u << 14 | 1u << 15 | 1u << 16 | 1u << 17 | 1u << 19 | 1u << 23 | 1u << 24 |       \
     1u << 25 | 1u << 26 | 1u << 27)
#define ONE_EDX_SET (1u << 7 | 1u << 9) /* MCE without a bank, APIC */
#define ONE_EDX_HTT (1u << 28)
/* FSGSBASE BMI1 AVX2 SMEP BMI2 ERMS RDSEED ADX CLFLUSHOPT CLWB SHA */
#define SEVEN_EBX                                                                                  \
    (1u << 0 | 1u << 3 | 1u << 5 | 1u << 7 | 1u << 8 | 1u << 9 | 1u << 18 | 1u << 19 | 1u << 23 |  \
     1u << 24 | 1u << 29)
/* UMIP GFNI VAES VPCLMULQDQ */
#define SEVEN_ECX (1u << 2 | 1u << 8 | 1u << 9 | 1u << 10)
#define SEVEN_EDX (1u << 4) /* FSRM */
#define EXT_ECX (1u << 0 | 1u << 5 | 1u << 6 | 1u << 7 | 1u << 8)
/* SYSCALL NX pages of 1 GiB LM, and what repeats leaf 1 */
#define EXT_EDX (1u << 11 | 1u << 20 | 1u << 26 | 1u << 29 | (ONE_EDX & 0x0183f3ff))
#define POWER_INVARIANT (1u << 8) /* 8000_0007 EDX */
#define XCR0_MASK 7u /* x87, SSE, AVX */
/* CLOCKSOURCE NOP_IO_DELAY CLOCKSOURCE2 PV_EOI, stable clock: kvm_para.h */
#define KVM_FEATURES (1u << 0 | 1u << 1 | 1u << 3 | 1u << 6 | 1u << 24)

struct leaf {
    uint32_t leaf, subleaf;
    uint32_t reg[4]; /* eax ebx ecx edx */
};
static struct leaf leaves[LEAF_LIST];
static unsigned leaf_count;
static unsigned cpu_count;
static uint32_t basic_most, extended_most;

static struct leaf *leaf_find(uint32_t number, uint32_t subleaf)
{
    for (unsigned i = 0; i < leaf_count; i++)
        if (leaves[i].leaf == number && leaves[i].subleaf == subleaf) return &leaves[i];
    return NULL;
}

static struct leaf *leaf_add(uint32_t number, uint32_t subleaf)
{
    if (leaf_count == LEAF_LIST) return &leaves[LEAF_LIST - 1];
    struct leaf *l = &leaves[leaf_count++];
    *l = (struct leaf){.leaf = number, .subleaf = subleaf};
    return l;
}

/* The host's leaf as it is. */
static struct leaf *leaf_host(uint32_t number, uint32_t subleaf)
{
    struct leaf *l = leaf_add(number, subleaf);
    __cpuid_count(number, subleaf, l->reg[0], l->reg[1], l->reg[2], l->reg[3]);
    return l;
}

static void leaf_one(void)
{
    struct leaf *l = leaf_host(1, 0);
    l->reg[1] = (l->reg[1] & 0xff00) | cpu_count << 16; /* CLFLUSH size, CPUs; APIC ID later */
    l->reg[2] = (l->reg[2] & ONE_ECX) | ONE_ECX_SET;
    l->reg[3] = (l->reg[3] & ONE_EDX) | ONE_EDX_SET | (cpu_count > 1 ? ONE_EDX_HTT : 0);
}

/* XSAVE's leaf, for the components that the kernel switches; the size for XCR0 as it is at
 * the moment is put in at the exit. No XSAVES, no XFD. */
static void leaf_xsave(void)
{
    struct leaf *zero = leaf_host(13, 0);
    uint32_t mask = zero->reg[0] & XCR0_MASK, most = 576;
    for (uint32_t i = 2; i < 3; i++) {
        struct leaf *l = leaf_host(13, i);
        if (!(mask >> i & 1)) memset(l->reg, 0, sizeof(l->reg));
        l->reg[2] = l->reg[3] = 0;
        if (l->reg[0] && l->reg[0] + l->reg[1] > most) most = l->reg[0] + l->reg[1];
    }
    zero->reg[0] = mask;
    zero->reg[1] = zero->reg[2] = most;
    zero->reg[3] = 0;
    struct leaf *one = leaf_host(13, 1);
    one->reg[0] &= 1; /* XSAVEOPT */
    one->reg[1] = one->reg[2] = one->reg[3] = 0;
}

/* Each virtual CPU is a core of one package: Intel SDM vol. 2, leaf 0bh. */
static void leaf_topology(void)
{
    uint32_t shift = 0;
    while (1u << shift < cpu_count)
        shift++;
    struct leaf *thread = leaf_add(11, 0);
    thread->reg[1] = 1;
    thread->reg[2] = 1 << 8;
    struct leaf *core = leaf_add(11, 1);
    core->reg[0] = shift;
    core->reg[1] = cpu_count;
    core->reg[2] = 2 << 8 | 1;
}

static void leaves_basic(void)
{
    uint32_t a, b, c, d;
    __cpuid(0, a, b, c, d);
    basic_most = a < 13 ? a : 13;
    struct leaf *l = leaf_host(0, 0);
    l->reg[0] = basic_most < 11 ? basic_most = 11 : basic_most;
    leaf_one();
    if (a >= 2) leaf_host(2, 0);
    for (uint32_t i = 0; a >= 4 && i < 4; i++) {
        l = leaf_host(4, i);
        /* no cache is shared, one core a package: leaf 0bh tells of the CPUs */
        if (l->reg[0] & 0x1f) l->reg[0] &= 0x3ff;
    }
    leaf_add(6, 0)->reg[0] = 4; /* ARAT: the APIC's timer never stops */
    if (a >= 7) {
        l = leaf_host(7, 0);
        l->reg[0] = 0;
        l->reg[1] &= SEVEN_EBX;
        l->reg[2] &= SEVEN_ECX;
        l->reg[3] &= SEVEN_EDX;
    }
    leaf_topology();
    if (basic_most >= 13) leaf_xsave();
}

static void leaves_extended(void)
{
    uint32_t a, b, c, d;
    __cpuid(EXTENDED, a, b, c, d);
    extended_most = a < EXTENDED + 8 ? a : EXTENDED + 8;
    struct leaf *l = leaf_host(EXTENDED, 0);
    l->reg[0] = extended_most;
    l = leaf_host(EXTENDED + 1, 0);
    l->reg[1] = 0;
    l->reg[2] &= EXT_ECX;
    l->reg[3] &= EXT_EDX;
    for (uint32_t i = 2; i <= 6 && EXTENDED + i <= extended_most; i++)
        leaf_host(EXTENDED + i, 0);
    if (extended_most >= EXTENDED + 7) leaf_add(EXTENDED + 7, 0)->reg[3] = POWER_INVARIANT;
    if (extended_most >= EXTENDED + 8) {
        l = leaf_host(EXTENDED + 8, 0);
        l->reg[1] = l->reg[3] = 0;
        l->reg[2] = cpu_count - 1;
    }
}

void cpuid_init(unsigned cpus)
{
    leaf_count = 0;
    cpu_count = cpus;
    leaves_basic();
    leaves_extended();
    struct leaf *l = leaf_add(HYPERVISOR, 0);
    l->reg[0] = HYPERVISOR + 1;
    memcpy(&l->reg[1], KVM_SIGNATURE, 12);
    leaf_add(HYPERVISOR + 1, 0)->reg[0] = KVM_FEATURES;
}

bool cpuid_has(uint32_t leaf, unsigned reg, unsigned bit)
{
    const struct leaf *l = leaf_find(leaf, 0);
    return l && (l->reg[reg] >> bit & 1);
}

/* Leaves whose subleaf in ECX counts, and those that leaf_own changes: a bit each. */
#define SUBLEAVES (1u << 4 | 1u << 7 | 1u << 11 | 1u << 13)
#define OWN (1u << 1 | 1u << 11 | 1u << 13)

/* What depends on the virtual CPU's own registers. */
static void leaf_own(struct vcpu *v, uint32_t number, uint32_t subleaf, uint32_t reg[4])
{
    switch (number) {
    case 1:
        vcpu_need(v, EXO_VG_CR);
        reg[1] |= v->index << 24;
        if (v->page->cr.cr4 >> 18 & 1) reg[2] |= ONE_ECX_OSXSAVE;
        break;
    case 11:
        reg[2] = (reg[2] & ~0xffu) | (subleaf & 0xff);
        reg[3] = v->index;
        break;
    case 13:
        vcpu_need(v, EXO_VG_CR);
        if (subleaf == 0 && !(v->page->cr.xcr0 >> 2 & 1)) reg[1] = 576; /* legacy area, header */
        break;
    }
}

static inline void leaf_give(struct exo_vm_a *a, const struct leaf *l)
{
    a->rax = l->reg[0];
    a->rbx = l->reg[1];
    a->rcx = l->reg[2];
    a->rdx = l->reg[3];
}

/* What was given last, if it is the same for all: often what is asked for next. */
static const struct leaf nothing = {.leaf = UINT32_MAX};
static const struct leaf *last = &nothing;

static __attribute__((noinline)) void leaf_look(struct vcpu *v, struct exo_vm_a *a)
{
    uint32_t number = (uint32_t)a->rax, bit = number < 32 ? 1u << number : 0;
    const struct leaf *l = leaf_find(number, bit & SUBLEAVES ? (uint32_t)a->rcx : 0);
    struct leaf own = l ? *l : nothing;
    if (bit & OWN) leaf_own(v, number, (uint32_t)a->rcx, own.reg);
    leaf_give(a, &own);
    if (l && !(bit & (OWN | SUBLEAVES))) last = l;
}

void cpuid_exit(struct vcpu *v)
{
    struct exo_vm_a *a = &v->page->a;
    v->set |= EXO_VG_A;
    vcpu_skip(v, 2);
    if (last->leaf == (uint32_t)a->rax)
        leaf_give(a, last);
    else
        leaf_look(v, a);
}
