/* SPDX-License-Identifier: MIT
 *
 * Hostile guests and hostile monitors for the core's fuzzer: a guest changes its registers
 * and exits with random reasons; a monitor writes random pages (vcpu_page.h). Whatever they
 * do, the state that core has placed passes its own predicates.
 */
#include "exo_calls.h"
#include "fuzz.h"
#include "vcpu_page.h"

void machine_choose(bool vmx)
{
    vm_caps.kind = vmx ? EXO_VM_VMX : EXO_VM_SVM;
    vm_caps.ept = vmx;
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

void monitor_write(const struct thread *t, uint64_t *set, uint64_t *get)
{
    vcpu_page_write(vcpu_page(t), set, get);
}

void vcpu_check_allowed(struct thread *t)
{
    union vcpu_group value;
    const struct vcpu *v = vcpu_of(t);
    unsigned cpu = host_cpu;
    if ((v->must_set & VCPU_NEW) != 0) return;
    host_cpu = t->cpu;
    for (uint32_t g = EXO_VG_CR; g <= EXO_VG_MSR; g <<= 1) {
        if (g == EXO_VG_TIME) continue;
        vcpu_get(t, g, &value);
        KASSERT(group_check(g, &value) == VM_FINE);
    }
    host_cpu = cpu;
    KASSERT(fpu_check((const uint64_t *)t->fpu + 64, ((const uint32_t *)t->fpu)[6]) == VM_FINE);
}
