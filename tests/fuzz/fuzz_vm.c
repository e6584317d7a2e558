/* SPDX-License-Identifier: MIT
 *
 * Hostile guests and hostile monitors for the core's fuzzer: a guest changes its registers
 * and exits with random reasons; a monitor writes random pages, half of the values near
 * allowed ones. Whatever they do, the state that core has placed passes its own predicates.
 */
#include "exo_calls.h"
#include "fuzz.h"

#define PICK(...)                                                                                  \
    ((const uint64_t[]){__VA_ARGS__}[pick(sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))])

void machine_choose(bool vmx)
{
    vm_caps.kind = vmx ? EXO_VM_VMX : EXO_VM_SVM;
    vm_caps.ept = vmx;
    vm_caps.nested_ad = !vmx;
}

static uint64_t address(void)
{
    return PICK(0, 0xfff0, 0x7fffffffffff, 0x800000000000, 0xffff800000000000, ~0ull, random64());
}

void guest_run(struct thread *t)
{
    static const uint32_t events[] = {0, 0x80000020, 0x80000202, 0x80000b0d, 0x80000403};
    uint64_t *r = &t->regs.r15;
    for (int i = 0; i < 3; i++)
        r[pick(15)] = chance(3) ? EXO_CALL_BASE + pick(16) : pick(32);
    t->regs.rip = address();
    t->regs.rflags = 2 | pick(1024);
    struct vcpu *v = vcpu_of(t);
    v->inject.event = chance(20) ? v->inject.event : 0; /* a host interrupt cut it off */
    v->shadow = chance(4);
    v->shadow_rip = t->regs.rip;
    v->nmi_blocked = chance(8);
    if (chance(4)) return; /* a host interrupt */
    host_exit = (struct exo_vm_exit){.reason = 1 + (uint32_t)pick(EXO_VX_COUNT - 1),
                                     .detail = {random64(), pick(64), address()},
                                     .interrupted = events[pick(5)]};
    if (chance(3)) {
        host_exit.reason = EXO_VX_HYPERCALL;
        t->regs.rax = chance(2) ? EXO_CALL_call : EXO_CALL_event_signal;
        t->regs.rdi = 4 + pick(5);
    }
    vm_exit(t);
}

static void cr_write(struct exo_vm_cr *cr)
{
    cr->cr0 = PICK(0x10, 0x60000010, 0x80000011, 0x80050033, 0x80000000, 0x20000010, random64());
    cr->cr3 = PICK(0, 0x1000, 0xfffffff000, 0x10000000000, random64());
    cr->cr4 = PICK(0, 0x20, 0x2020, 0x20020, 0x6b0, random64());
    cr->efer = PICK(0, 0x100, 0x500, 0xd01, 0x400, random64());
    cr->xcr0 = PICK(1, 3, 7, 0xe7, 5, 0x67, 0, random64());
    if (chance(2)) return;
    *cr = (struct exo_vm_cr){0x80000011, 0, 0x1000, 0x20, chance(2) ? 0x500 : 0, 0x67 | 0x80};
}

static void segs_write(struct exo_vm_segs *s)
{
    for (unsigned i = 0; i < EXO_SEGS; i++) {
        s->seg[i].selector = (uint16_t)pick(64);
        s->seg[i].attributes = (uint16_t)PICK(0x93, 0xc93, 0xf3, 0, 0x12, random64());
        s->seg[i].limit = (uint32_t)PICK(0xffff, 0xffffffff, 0, random64());
        s->seg[i].base = chance(3) ? address() : 0;
    }
    s->seg[EXO_CS].attributes = (uint16_t)PICK(0x9b, 0xa9b, 0xe9b, 0x1b);
    s->seg[EXO_LDTR].attributes = (uint16_t)PICK(0x82, 0, 0x92);
    s->seg[EXO_TR].attributes = (uint16_t)PICK(0x8b, 0x83, 0);
    s->gdtr.limit = PICK(0xffff, 0x10000, 0);
    s->gdtr.base = address();
    s->idtr = s->gdtr;
}

void monitor_write(const struct thread *t, uint64_t *set, uint64_t *get)
{
    struct exo_vcpu_page *p = vcpu_page(t);
    p->event_mask = chance(3) ? random64() : 0;
    p->rip = (struct exo_vm_rip){address(), random64(), random64(), chance(8), 0};
    p->inject.event = (uint32_t)PICK(0, 0x80000020, 0x80000202, 0x80000b0d, 0x80000403, random64());
    p->inject.error = (uint32_t)PICK(0, 2, 0x8000);
    p->inject.length = (uint32_t)pick(17);
    p->inject.window = (uint32_t)pick(chance(8) ? 9 : 4);
    cr_write(&p->cr);
    for (int i = 0; i < 4; i++)
        p->pdpte[i] = PICK(0, 1, 0x1001, 0x1003, random64());
    p->dr.dr6 = PICK(0, 0xffff0ff0, 1ull << 32);
    p->dr.dr7 = PICK(0x400, 0x2400, 1ull << 40);
    if (chance(2)) segs_write(&p->segs);
    p->msr.lstar = p->msr.cstar = p->msr.sysenter_eip = address();
    p->msr.pat = PICK(0x0007040600070406, 0x0707070707070707, 2, random64());
    ((uint64_t *)p->fpu)[64] = PICK(0, 3, 7, 0xe7, 8, random64());
    ((uint64_t *)p->fpu)[65] = chance(8);
    ((uint64_t *)p->fpu)[3] = PICK(0x1f80, 0xffff, 0x10000);
    *set = chance(3) ? 1ull << pick(12) : chance(2) ? EXO_VG_ALL : pick(EXO_VG_ALL + 1);
    *get = chance(2) ? 0 : chance(20) ? random64() : 1ull << pick(11);
}

void vcpu_check_allowed(struct thread *t)
{
    static struct exo_vcpu_page page;
    const struct vcpu *v = vcpu_of(t);
    unsigned cpu = host_cpu;
    if ((v->must_set & VCPU_NEW) != 0) return;
    host_cpu = t->cpu;
    for (uint32_t g = EXO_VG_CR; g <= EXO_VG_MSR; g <<= 1)
        if (g != EXO_VG_TIME) vcpu_get(t, g, &page);
    host_cpu = cpu;
    KASSERT(cr_check(&page.cr) == VM_FINE && pdpte_check(page.pdpte) == VM_FINE);
    KASSERT(dr_check(&page.dr) == VM_FINE && segs_check(&page.segs) == VM_FINE);
    KASSERT(msr_check(&page.msr) == VM_FINE);
    KASSERT(fpu_check((const uint64_t *)t->fpu + 64, ((const uint32_t *)t->fpu)[6]) == VM_FINE);
}
