/* SPDX-License-Identifier: MIT
 *
 * The common exit of a guest and the common reply to it, as the assembly of entry.S is for
 * calls between native threads: in the common case each does what core's functions named
 * beside it do, in one piece; in any other nothing, and core does it. Debug builds with
 * slow=1 always leave it to core.
 *
 * Common: only the groups A, B, RIP; no window, shadow, NMI, event or flush; the monitor
 * waits and its gate is as it was; FPU registers are switched lazily (else quick_wait and
 * exited_here are words that no thread has).
 */
#ifndef QUICK_H
#define QUICK_H

#include "backend.h"
#include "entry.h"

#define GROUPS_QUICK (EXO_VG_A | EXO_VG_B | EXO_VG_RIP)
#define REASONS_QUICK                                                                              \
    (1u << EXO_VX_CPUID | 1u << EXO_VX_HLT | 1u << EXO_VX_PIO | 1u << EXO_VX_MSR_READ |            \
     1u << EXO_VX_MSR_WRITE | 1u << EXO_VX_CR | 1u << EXO_VX_NESTED | 1u << EXO_VX_HYPERCALL)
#define GATE_CALLABLE (EXO_GATE | EXO_GATE_CALL << 8) /* cap.kind, cap.rights */

/* How an exit ends: its monitor is entered, with the words in its page; or s is one of these. */
#define EXIT_INTERRUPTED 0ul /* for a host's interrupt, which is pending */
#define EXIT_CORE 1ul /* core decided who runs */
struct quick {
    uint64_t s;
    struct exo_vcpu_page *page;
};

/* What belongs to a virtual CPU lies in the frames behind its thread's, seen in other windows. */
#define BEHIND(t, window, frames)                                                                  \
    ((void *)((uint64_t)(t)-WINDOW_THREADS + (window) + (frames) * (uint64_t)EXO_PAGE))
HOT struct vcpu *quick_vcpu(const struct thread *t) { return BEHIND(t, WINDOW_VCPUS, 2); }
HOT struct exo_vcpu_page *quick_page(const struct thread *t)
{
    return BEHIND(t, WINDOW_UPCALLS, 1);
}

/* state, cpu and slow of a thread in one word. */
HOT uint64_t state_word(const struct thread *t) { return *(const uint64_t *)&t->state; }

HOT void quick_fill(const struct thread *t, struct exo_vcpu_page *page, uint32_t groups)
{
    const struct kregs *r = &t->regs;
    if ((groups & EXO_VG_A) != 0) page->a = (struct exo_vm_a){r->rax, r->rcx, r->rdx, r->rbx};
    if ((groups & EXO_VG_B) != 0) general_get(t, (uint64_t *)page, GENERAL_A, GENERALS);
    if ((groups & EXO_VG_RIP) != 0)
        page->rip = (struct exo_vm_rip){r->rip, r->rflags, r->rsp, 0, 0};
}

/* rip_set's checks, in core/vm.c; with no shadow. */
HOT bool quick_set_rip(struct kregs *r, const struct exo_vm_rip *from)
{
    uint64_t rip = fetch(&from->rip);
    if (!canonical(rip) || fetch32(&from->shadow) != 0) return false;
    r->rip = rip;
    r->rflags = (fetch(&from->rflags) & RFLAGS_GUEST) | RFLAGS_ONE;
    r->rsp = fetch(&from->rsp);
    return true;
}

HOT void quick_set(struct thread *t, const struct exo_vcpu_page *page, uint64_t groups)
{
    struct kregs *r = &t->regs;
    if ((groups & EXO_VG_A) != 0) {
        r->rax = fetch(&page->a.rax);
        r->rcx = fetch(&page->a.rcx);
        r->rdx = fetch(&page->a.rdx);
        r->rbx = fetch(&page->a.rbx);
    }
    if ((groups & EXO_VG_B) != 0) general_set(t, (const uint64_t *)page, GENERAL_A, GENERALS);
}

/* vm_exit; call_make and call_enter in ipc.c; thread_switch. The page's exit is as
 * vcpu_reason, which gave the reason, left it. */
HOT struct quick exit_quick(struct thread *t, struct vcpu *v, struct exo_vcpu_page *page,
                            uint32_t reason)
{
    struct percpu *p = percpu();
    const struct quick none = {EXIT_CORE, NULL};
    uint32_t groups = v->masks[reason];
    uint64_t sel = t->fault_sel;
    const struct cap *gate = &caps[t->cap_first + sel];
    if ((groups & ~(uint32_t)GROUPS_QUICK) != 0 || sel >= t->nsel ||
        (REASONS_QUICK >> reason & 1) == 0 || (reason == EXO_VX_HYPERCALL && v->hyper_count != 0) ||
        t->depth >= EXO_CHAIN_MAX)
        return none;
    uint32_t seq = fetch32(&gate->seq);
    barrier();
    bool callable = (fetch32((const uint32_t *)gate) & (GATE_CALLABLE | 0xff)) == GATE_CALLABLE;
    struct thread *s = &threads[gate->base];
    uint64_t entry = gate->count, badge = gate->badge;
    barrier();
    if (!callable || fetch32(&gate->seq) != seq || state_word(s) != p->quick_wait) return none;
    page->exit.reason = reason;
    page->exit.filled = groups;
    page->exit.flags |= (t->regs.rflags & RFLAGS_IF) != 0 ? EXO_XF_IF : 0;
    quick_fill(t, page, groups);
    t->call_entry = s->regs.rip = entry;
    t->call_badge = s->regs.rdi = badge;
    t->slow = SLOW_VM | SLOW_FAULT;
    t->state = EXO_T_CALLING;
    t->callee = s->self;
    s->caller = t->self;
    s->depth = t->depth + 1;
    s->state = EXO_T_READY;
    p->core->cur = s->self;
    p->cur = s;
    p->tss.rsp[0] = (uint64_t)(&s->regs + 1);
    cr3_follow(p, s->cr3);
    bases_load_leaving(s);
    return (struct quick){(uint64_t)s, page};
}

#endif
