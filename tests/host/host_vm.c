/* SPDX-License-Identifier: MIT
 *
 * The host's side of virtual CPUs (kernel/core/vm.h): a control block is a structure in the
 * virtual CPU's fourth frame, and what a guest does is what the test sets.
 */
#include "../../kernel/core/vm.h"

struct vm_caps vm_caps = {
    .kind = EXO_VM_SVM,
    .asids = 16,
    .cr4_allowed = 0x7ffff & ~0x2000,
    .efer_allowed = 0xd01,
    .xcr0_allowed = 0xe7,
    .phys_mask = 0xfffffff000,
};
struct exo_vm_exit host_exit;
unsigned host_vcpus;
uint32_t host_passed;

/* The control block: in the same memory as page tables, as in the kernel. */
struct block {
    uint64_t made;
    struct exo_vm_cr cr;
    uint64_t pdpte[4];
    struct exo_vm_dr dr;
    struct exo_vm_segs segs;
    struct exo_vm_msr msr;
};
_Static_assert(sizeof(struct block) <= 4096, "a frame");

static struct block *block_of(const struct thread *t)
{
    struct block *b = (struct block *)&tables[t->self + 3];
    KASSERT(EXO_FW_TYPE(words[t->self + 3]) == EXO_FT_VM && t->cpu == this_cpu()->id);
    KASSERT(b->made == t->self);
    return b;
}

void vcpu_init(struct thread *t)
{
    struct block *b = (struct block *)&tables[t->self + 3];
    KASSERT(b->made == 0 && t->cpu == this_cpu()->id);
    b->made = t->self;
    host_vcpus++;
    b->cr.cr0 = 0x60000010;
    b->cr.xcr0 = 1;
    b->dr.dr6 = 0xffff0ff0;
    b->dr.dr7 = 0x400;
    b->msr.pat = 0x0007040600070406;
    for (unsigned i = 0; i < EXO_SEGS; i++)
        b->segs.seg[i] = (struct exo_vm_seg){.attributes = 0x93, .limit = 0xffff};
    b->segs.seg[EXO_CS].attributes = 0x9b;
    b->segs.seg[EXO_LDTR].attributes = 0x82;
    b->segs.seg[EXO_TR].attributes = 0x8b;
    b->segs.gdtr.limit = b->segs.idtr.limit = 0xffff;
}

void vcpu_forget(struct thread *t)
{
    block_of(t)->made = 0;
    host_vcpus--;
}

void vcpu_get(struct thread *t, uint32_t group, union vcpu_group *value)
{
    const struct block *b = block_of(t);
    switch (group) {
    case EXO_VG_CR:
        value->cr = b->cr;
        value->cr.xcr0 = vcpu_of(t)->xcr0;
        break;
    case EXO_VG_PDPTE:
        memcpy(value->pdpte, b->pdpte, sizeof b->pdpte);
        break;
    case EXO_VG_DR:
        value->dr = b->dr;
        break;
    case EXO_VG_SEG:
        value->segs = b->segs;
        break;
    default:
        KASSERT(group == EXO_VG_MSR);
        value->msr = b->msr;
        break;
    }
}

void vcpu_set(struct thread *t, uint32_t group, const union vcpu_group *value)
{
    struct block *b = block_of(t);
    switch (group) {
    case EXO_VG_CR:
        b->cr = value->cr;
        break;
    case EXO_VG_PDPTE:
        memcpy(b->pdpte, value->pdpte, sizeof b->pdpte);
        break;
    case EXO_VG_DR:
        b->dr = value->dr;
        break;
    case EXO_VG_SEG:
        b->segs = value->segs;
        break;
    default:
        KASSERT(group == EXO_VG_MSR);
        b->msr = value->msr;
        break;
    }
}
void vcpu_fpu_flush(struct thread *t) { KASSERT(EXO_FW_TYPE(words[t->self]) == EXO_FT_THREAD); }

void msr_pass(frame_t env, uint32_t mask)
{
    KASSERT((envs[env].flags & ENV_VM) != 0 && envs[env].lock == 1);
    host_passed = mask;
}

uint32_t vcpu_reason(struct thread *t, struct exo_vm_exit *exit)
{
    block_of(t);
    *exit = host_exit;
    return host_exit.reason;
}
