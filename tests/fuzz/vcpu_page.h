/* SPDX-License-Identifier: MIT
 *
 * Hostile monitors: random pages of virtual CPUs, half of the values near allowed ones.
 * For the core's fuzzer and the one inside the system; whoever includes this has
 * uint64_t pick(uint64_t n), a number below n, and bool chance(uint64_t n), one in n.
 */
#ifndef VCPU_PAGE_H
#define VCPU_PAGE_H

#include "../../abi/vm.h"

#define PICK(...)                                                                                  \
    ((const uint64_t[]){__VA_ARGS__}[pick(sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))])

static inline uint64_t address(void)
{
    return PICK(0, 0xfff0, 0x7fffffffffff, 0x800000000000, 0xffff800000000000, ~0ull, pick(~0ull));
}

static inline void cr_write(struct exo_vm_cr *cr)
{
    cr->cr0 = PICK(0x10, 0x60000010, 0x80000011, 0x80050033, 0x80000000, 0x20000010, pick(~0ull));
    cr->cr3 = PICK(0, 0x1000, 0xfffffff000, 0x10000000000, pick(~0ull));
    cr->cr4 = PICK(0, 0x20, 0x2020, 0x20020, 0x6b0, pick(~0ull));
    cr->efer = PICK(0, 0x100, 0x500, 0xd01, 0x400, pick(~0ull));
    cr->xcr0 = PICK(1, 3, 7, 0xe7, 5, 0x67, 0, pick(~0ull));
    if (chance(2)) return;
    *cr = (struct exo_vm_cr){0x80000011, 0, 0x1000, 0x20, chance(2) ? 0x500 : 0, 0x67 | 0x80};
}

static inline void segs_write(struct exo_vm_segs *s)
{
    for (unsigned i = 0; i < EXO_SEGS; i++) {
        s->seg[i].selector = (uint16_t)pick(64);
        s->seg[i].attributes = (uint16_t)PICK(0x93, 0xc93, 0xf3, 0, 0x12, pick(~0ull));
        s->seg[i].limit = (uint32_t)PICK(0xffff, 0xffffffff, 0, pick(~0ull));
        s->seg[i].base = chance(3) ? address() : 0;
    }
    s->seg[EXO_CS].attributes = (uint16_t)PICK(0x9b, 0xa9b, 0xe9b, 0x1b);
    s->seg[EXO_LDTR].attributes = (uint16_t)PICK(0x82, 0, 0x92);
    s->seg[EXO_TR].attributes = (uint16_t)PICK(0x8b, 0x83, 0);
    s->gdtr.limit = PICK(0xffff, 0x10000, 0);
    s->gdtr.base = address();
    s->idtr = s->gdtr;
}

/* Real mode, flat: what runs on any CPU. */
static inline void real_mode_write(struct exo_vcpu_page *p)
{
    p->rip = (struct exo_vm_rip){pick(0x8000), 2, 0x8000, 0, 0};
    p->cr = (struct exo_vm_cr){.cr0 = 0x10, .xcr0 = 1};
    p->segs = (struct exo_vm_segs){.gdtr = {0xffff, 0}, .idtr = {0xffff, 0}};
    for (unsigned i = 0; i < EXO_SEGS; i++)
        p->segs.seg[i] = (struct exo_vm_seg){0, 0x93, 0xffff, 0};
    p->segs.seg[EXO_CS].attributes = 0x9b;
    p->segs.seg[EXO_LDTR].attributes = 0x82;
    p->segs.seg[EXO_TR].attributes = 0x8b;
}

/* The monitor writes something that may be allowed or not, and chooses the groups to set and
 * to get of its reply. */
static inline void vcpu_page_write(struct exo_vcpu_page *p, uint64_t *set, uint64_t *get)
{
    p->event_mask = chance(3) ? pick(~0ull) : 0;
    /* Without TF: after a nested fault of such a guest Bochs 2.7 traps in the host (AMD-V). */
    p->rip = (struct exo_vm_rip){address(), pick(~0ull) & ~0x100ull, pick(~0ull), chance(8), 0};
    p->inject.event =
        (uint32_t)PICK(0, 0x80000020, 0x80000202, 0x80000b0d, 0x80000403, pick(~0ull));
    p->inject.error = (uint32_t)PICK(0, 2, 0x8000);
    p->inject.length = (uint32_t)pick(17);
    p->inject.window = (uint32_t)pick(chance(8) ? 9 : 4);
    cr_write(&p->cr);
    for (int i = 0; i < 4; i++)
        p->pdpte[i] = PICK(0, 1, 0x1001, 0x1003, pick(~0ull));
    p->dr.dr6 = PICK(0, 0xffff0ff0, 1ull << 32);
    p->dr.dr7 = PICK(0x400, 0x2400, 1ull << 40);
    if (chance(2)) segs_write(&p->segs);
    p->msr.lstar = p->msr.cstar = p->msr.sysenter_eip = address();
    p->msr.pat = PICK(0x0007040600070406, 0x0707070707070707, 2, pick(~0ull));
    ((uint64_t *)p->fpu)[64] = PICK(0, 3, 7, 0xe7, 8, pick(~0ull));
    ((uint64_t *)p->fpu)[72] = pick(~0ull); /* behind the header: any is allowed */
    ((uint64_t *)p->fpu)[65] = chance(8);
    ((uint64_t *)p->fpu)[3] = PICK(0x1f80, 0xffff, 0x10000);
    if (chance(4)) {
        real_mode_write(p);
        *set = EXO_VG_RIP | EXO_VG_CR | EXO_VG_SEG;
        *get = 0;
        return;
    }
    *set = chance(3) ? 1ull << pick(12) : chance(2) ? EXO_VG_ALL : pick(EXO_VG_ALL + 1);
    *get = chance(2) ? 0 : chance(20) ? pick(~0ull) : 1ull << pick(11);
}

#endif
