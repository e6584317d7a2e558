/* SPDX-License-Identifier: MIT
 *
 * Virtual CPUs: the virtualization fault protocol (abi/vm.h). A VM exit is a call that the
 * virtual CPU makes to its monitor's gate; the reply sets and asks for groups of registers,
 * and then the guest goes on, or the monitor is called again at once.
 *
 *   READY --exit--> CALLING or QUEUED --reply--> READY
 *                      CALLING --reply that asks for groups, or is refused--> CALLING
 *   READY --exit, and no gate--> FAULTED
 *
 * Owner: the thread's CPU, as of all run state. The page is shared with the monitor: each
 * value is fetched once into a copy, the copy is checked (vm_check.c) and placed. What is
 * written to the page the kernel does not rely on later, but to hand it out as words, and for
 * the privilege of a hypercall, which is the monitor's to grant.
 *
 * Events: bits stay pending in the page while the guest cannot run; vm_enter_check looks at
 * them before every entry, and whoever raises one for a guest that runs on another CPU
 * makes it leave guest mode. So none is lost.
 */
#include "vm.h"

#include "exo_calls.h"
#include "thread.h"

#define RESET_RIP 0xfff0 /* Intel SDM vol. 3, 10.1.1 */
#define XCR0_RESET 1
#define HYPERCALL_LENGTH 3 /* VMCALL, VMMCALL */
#define WINDOW_SHIFT 58 /* from EXO_WINDOW_* to the events */
_Static_assert((1ul << WINDOW_SHIFT) * EXO_WINDOW_INTERRUPT == EXO_EVENT_WINDOW, "window");
_Static_assert((1ul << WINDOW_SHIFT) * EXO_WINDOW_NMI == EXO_EVENT_NMI_WINDOW, "window");
/* What a control block loses when the CPU refuses it (AMD-V), so that it is rebuilt. */
#define INVALID_SETS                                                                               \
    (EXO_VG_A | EXO_VG_B | EXO_VG_RIP | EXO_VG_CR | EXO_VG_DR | EXO_VG_SEG | EXO_VG_MSR)

void vm_init(struct thread *t)
{
    struct vcpu *v = vcpu_of(t);
    t->slow = SLOW_VM;
    t->regs.rip = RESET_RIP;
    t->regs.rflags = RFLAGS_ONE;
    v->must_set = VCPU_NEW;
    v->xcr0 = XCR0_RESET;
}

void vm_forget(struct thread *t)
{
    if ((vcpu_of(t)->must_set & VCPU_NEW) == 0) vcpu_forget(t);
}

long vm_set(struct thread *t, uint64_t what, uint64_t a, uint64_t b)
{
    struct vcpu *v = vcpu_of(t);
    switch (what) {
    case EXO_SET_VMASK:
        if (a >= EXO_VX_COUNT || (b & ~(uint64_t)EXO_VG_ALL) != 0) return -EXO_E_ARG;
        v->masks[a] = (uint32_t)b;
        return 0;
    case EXO_SET_VPASS:
        if ((a & ~(uint64_t)EXO_VP_ALL) != 0) return -EXO_E_ARG;
        lock_env(t->env);
        msr_pass(t->env, (uint32_t)a);
        unlock_env(t->env);
        return 0;
    case EXO_SET_VHYPER:
        if (a > t->nsel || b > t->nsel - a) return -EXO_E_ARG;
        v->hyper_first = (uint32_t)a;
        v->hyper_count = (uint32_t)b;
        return 0;
    default:
        return -EXO_E_ARG;
    }
}

/* ---- groups into the page ------------------------------------------------------------------ */

/*@ requires a_thread(t);
    assigns \nothing; */
static uint32_t flags_now(const struct thread *t)
{
    return (vcpu_shadow(t) ? EXO_XF_SHADOW : 0) |
           ((t->regs.rflags & RFLAGS_IF) != 0 ? EXO_XF_IF : 0) |
           (vcpu_of(t)->nmi_blocked != 0 ? EXO_XF_NMI : 0);
}

/* The general registers in the order of groups A and B, which follow each other in the page. */
#define REG(name) (offsetof(struct kregs, name) / 8)
static const uint8_t general[GENERALS] = {REG(rax), REG(rcx), REG(rdx), REG(rbx), REG(rsi),
                                          REG(rdi), REG(rbp), REG(r8),  REG(r9),  REG(r10),
                                          REG(r11), REG(r12), REG(r13), REG(r14), REG(r15)};
#define GENERAL_WORD (offsetof(struct exo_vcpu_page, a) / 8)

/*@ requires a_thread(t); KEEPS */
void general_get(const struct thread *t, uint64_t *page, unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++)
        page[GENERAL_WORD + i] = (&t->regs.r15)[general[i]];
}

/*@ requires a_thread(t); KEEPS */
int general_set(struct thread *t, const uint64_t *page, unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++)
        (&t->regs.r15)[general[i]] = fetch(&page[GENERAL_WORD + i]);
    return VM_FINE;
}

/*@ requires a_thread(t); KEEPS */
static void fpu_get(struct thread *t, struct exo_vcpu_page *page)
{
    const uint64_t *from = (const uint64_t *)t->fpu;
    uint64_t *to = (uint64_t *)page->fpu;
    vcpu_fpu_flush(t);
    for (unsigned i = 0; i < sizeof t->fpu / sizeof *to; i++)
        to[i] = from[i];
}

#define AT(member) offsetof(struct exo_vcpu_page, member)
/* Where the groups lie that the machine layer places, by bit. */
static const uint16_t places[] = {
    [4] = AT(cr), [5] = AT(pdpte), [6] = AT(dr), [8] = AT(segs), [9] = AT(msr)};

static union vcpu_group *group_at(struct exo_vcpu_page *page, uint32_t group)
{
    return (union vcpu_group *)((uint8_t *)page + places[__builtin_ctz(group)]);
}

/*@ requires a_thread(t); KEEPS */
static void groups_get(struct thread *t, uint32_t groups)
{
    const uint32_t machine = EXO_VG_CR | EXO_VG_PDPTE | EXO_VG_DR | EXO_VG_SEG | EXO_VG_MSR;
    struct exo_vcpu_page *page = vcpu_page(t);
    const struct vcpu *v = vcpu_of(t);
    page->exit.filled = groups;
    if ((groups & EXO_VG_A) != 0) general_get(t, (uint64_t *)page, 0, GENERAL_A);
    if ((groups & EXO_VG_B) != 0) general_get(t, (uint64_t *)page, GENERAL_A, GENERALS);
    if ((groups & EXO_VG_RIP) != 0)
        page->rip =
            (struct exo_vm_rip){t->regs.rip, t->regs.rflags, t->regs.rsp, vcpu_shadow(t), 0};
    if ((groups & EXO_VG_INJECT) != 0) {
        page->inject = v->inject;
        page->inject.window = v->window;
    }
    if ((groups & EXO_VG_TIME) != 0) page->tsc_offset = v->tsc_offset;
    if ((groups & EXO_VG_FPU) != 0) fpu_get(t, page);
    for (uint32_t left = groups & machine; left != 0; left &= left - 1)
        vcpu_get(t, left & -left, group_at(page, left & -left));
}

/* ---- groups from the page: the first field refused, or VM_FINE ----------------------------------- */

static void copy_in(void *to, const void *from, size_t bytes)
{
    for (size_t i = 0; i < bytes / 8; i++)
        ((uint64_t *)to)[i] = fetch((const uint64_t *)from + i);
}

/*@ requires a_thread(t) && \valid_read(page); KEEPS */
static int rip_set(struct thread *t, const struct exo_vcpu_page *page)
{
    struct vcpu *v = vcpu_of(t);
    struct exo_vm_rip rip;
    copy_in(&rip, &page->rip, sizeof rip);
    if (!canonical(rip.rip)) return 0;
    if (rip.shadow != 0 && !vcpu_shadow(t)) return 3;
    t->regs.rip = rip.rip;
    t->regs.rflags = (rip.rflags & RFLAGS_GUEST) | RFLAGS_ONE;
    t->regs.rsp = rip.rsp;
    v->shadow = rip.shadow != 0;
    v->shadow_rip = rip.rip;
    return VM_FINE;
}

/*@ requires a_thread(t) && \valid_read(page); KEEPS */
static int inject_set(struct thread *t, const struct exo_vcpu_page *page)
{
    struct vcpu *v = vcpu_of(t);
    const struct exo_vm_inject *from = &page->inject;
    struct exo_vm_inject inject = {fetch32(&from->event), fetch32(&from->error),
                                   fetch32(&from->length), fetch32(&from->window)};
    union vcpu_group now;
    vcpu_get(t, EXO_VG_CR, &now);
    int field = inject_check(&inject, flags_now(t), now.cr.cr0);
    if (field != VM_FINE) return field;
    v->window = inject.window;
    v->inject = inject;
    if ((inject.event & EXO_VE_VALID) == 0) v->inject.event = 0;
    return VM_FINE;
}

static int fpu_set(struct thread *t, const struct exo_vcpu_page *page)
{
    const uint64_t *from = (const uint64_t *)page->fpu;
    uint64_t *to = (uint64_t *)t->fpu, header[8];
    copy_in(header, from + 512 / 8, sizeof header);
    uint64_t mxcsr = fetch(from + 24 / 8);
    int field = fpu_check(header, (uint32_t)mxcsr);
    if (field != VM_FINE) return field;
    vcpu_fpu_flush(t);
    copy_in(to, from, sizeof t->fpu);
    to[24 / 8] = mxcsr;
    for (unsigned i = 0; i < 8; i++)
        to[512 / 8 + i] = header[i];
    return VM_FINE;
}

/* Under VT-x PAE paging outside long mode needs the PDPTEs too: nobody else loads them. */
/*@ requires \valid(v) && \valid_read(cr);
    assigns v->must_set, v->xcr0; */
static void cr_loaded(struct vcpu *v, const struct exo_vm_cr *cr)
{
    bool pae = (cr->cr0 & CR0_PG) != 0 && (cr->cr4 & CR4_PAE) != 0 && (cr->efer & EFER_LMA) == 0;
    v->must_set &= ~(uint32_t)EXO_VG_PDPTE;
    if (pae && vm_caps.kind == EXO_VM_VMX) v->must_set |= EXO_VG_PDPTE;
    v->xcr0 = cr->xcr0;
}

static int machine_set(struct thread *t, struct exo_vcpu_page *page, uint32_t group)
{
    union vcpu_group value; /* more than the group, of the same page */
    copy_in(&value, group_at(page, group), sizeof value);
    int field = group_check(group, &value);
    if (field != VM_FINE) return field;
    if (group == EXO_VG_CR) cr_loaded(vcpu_of(t), &value.cr);
    vcpu_set(t, group, &value);
    return VM_FINE;
}

/*@ requires a_thread(t); KEEPS */
static int group_set(struct thread *t, uint32_t group)
{
    struct exo_vcpu_page *page = vcpu_page(t);
    switch (group) {
    case EXO_VG_A:
        return general_set(t, (const uint64_t *)page, 0, GENERAL_A);
    case EXO_VG_B:
        return general_set(t, (const uint64_t *)page, GENERAL_A, GENERALS);
    case EXO_VG_RIP:
        return rip_set(t, page);
    case EXO_VG_INJECT:
        return inject_set(t, page);
    case EXO_VG_TIME:
        vcpu_of(t)->tsc_offset = fetch(&page->tsc_offset);
        return VM_FINE;
    case EXO_VG_FPU:
        return fpu_set(t, page);
    default:
        return machine_set(t, page, group);
    }
}

/* ---- the monitor is called --------------------------------------------------------------------------- */

/* Fills what goes with a reason that the kernel itself gives. */
/*@ requires a_thread(t) && reason < EXO_VX_COUNT; KEEPS */
static void exit_fill(struct thread *t, uint32_t reason, uint64_t a, uint64_t b)
{
    struct exo_vm_exit *exit = &vcpu_page(t)->exit;
    *exit = (struct exo_vm_exit){.reason = reason, .detail = {a, b, 0}, .flags = flags_now(t)};
    groups_get(t, vcpu_of(t)->masks[reason]);
}

void vm_words(struct thread *s, const struct thread *t)
{
    const struct exo_vm_exit *exit = &vcpu_page(t)->exit;
    s->regs.rsi = exit->reason;
    s->regs.rdx = exit->filled;
    s->regs.r8 = exit->detail[0];
    s->regs.r9 = exit->detail[1];
    s->regs.r10 = exit->detail[2];
}

/* A window of which the monitor is told, if that is the reason, is asked for no more. */
/*@ requires a_thread(t); KEEPS */
static void window_close(struct thread *t, uint32_t reason)
{
    if (reason != EXO_VX_WINDOW && reason != EXO_VX_NMI_WINDOW) return;
    uint32_t which = reason == EXO_VX_WINDOW ? EXO_WINDOW_INTERRUPT : EXO_WINDOW_NMI;
    vcpu_of(t)->window &= ~which;
    clear_shared(&vcpu_page(t)->events, (uint64_t)which << WINDOW_SHIFT);
}

/* Has the monitor set all that it must? Else it is told of the first group. */
/*@ requires a_thread(t); KEEPS */
static bool complete(struct thread *t)
{
    uint32_t missing = vcpu_of(t)->must_set;
    if (missing != 0) exit_fill(t, EXO_VX_REFUSED, (uint64_t)__builtin_ctz(missing), UINT64_MAX);
    return missing == 0;
}

bool vm_reply(struct thread *t, uint64_t set, uint64_t get)
{
    struct exo_vm_exit *exit = &vcpu_page(t)->exit;
    /*@ loop invariant ok: sched_ok;
        loop assigns left, STATE;
        loop variant left; */
    for (uint64_t left = set | (get & ~(uint64_t)EXO_VG_ALL); left != 0; left &= left - 1) {
        uint64_t group = left & -left;
        int field = (group & EXO_VG_ALL) != 0 ? group_set(t, (uint32_t)group) : 0;
        if (field != VM_FINE) {
            exit_fill(t, EXO_VX_REFUSED, (uint64_t)__builtin_ctzl(group), (uint64_t)field);
            return false;
        }
        vcpu_of(t)->must_set &= ~(uint32_t)group;
    }
    if (get == 0) return complete(t);
    exit->reason = EXO_VX_MORE;
    groups_get(t, (uint32_t)get);
    return false;
}

/* ---- exits and entries ------------------------------------------------------------------------------------ */

/* A hypercall by the kernel of the guest that is a call of ours, to what it may use. */
/*@ requires a_thread(t); KEEPS_ALL */
static bool hypercall(struct thread *t)
{
    const struct vcpu *v = vcpu_of(t);
    union vcpu_group now;
    uint64_t number = t->regs.rax;
    if (t->regs.rdi - v->hyper_first >= v->hyper_count ||
        (number != EXO_CALL_call && number != EXO_CALL_event_signal))
        return false;
    vcpu_get(t, EXO_VG_SEG, &now);
    if ((now.segs.seg[EXO_SS].attributes >> 5 & 3) != 0) return false;
    t->regs.rip += HYPERCALL_LENGTH;
    if (number == EXO_CALL_call)
        sys_call(t);
    else
        thread_result(t, sys_event_signal(t->regs.rdi));
    return true;
}

/*@ requires a_thread(t); KEEPS_ALL */
void vm_exit(struct thread *t)
{
    struct vcpu *v = vcpu_of(t);
    struct exo_vm_exit *exit = &vcpu_page(t)->exit;
    exit->flags = 0;
    uint32_t reason = vcpu_reason(t, exit);
    KASSERT(reason < EXO_VX_COUNT);
    if (reason == EXO_VX_HYPERCALL && v->hyper_count != 0 && hypercall(t)) return;
    window_close(t, reason);
    if (reason == EXO_VX_INVALID) v->must_set |= INVALID_SETS;
    exit->reason = reason;
    exit->flags |= flags_now(t);
    groups_get(t, v->masks[reason]);
    fault_call(t);
}

/* Which window that is asked for is open; the reason to tell, 0 none. */
/*@ requires a_thread(t); READS
    ensures \result == 0 || \result == EXO_VX_NMI_WINDOW || \result == EXO_VX_WINDOW; */
static uint32_t window_open(const struct thread *t)
{
    const struct vcpu *v = vcpu_of(t);
    uint32_t flags = flags_now(t);
    if ((v->inject.event & EXO_VE_VALID) != 0 || (flags & EXO_XF_SHADOW) != 0) return 0;
    if ((v->window & EXO_WINDOW_NMI) != 0 && (flags & EXO_XF_NMI) == 0) return EXO_VX_NMI_WINDOW;
    if ((v->window & EXO_WINDOW_INTERRUPT) != 0 && (flags & EXO_XF_IF) != 0) return EXO_VX_WINDOW;
    return 0;
}

/* The reason for which the guest must not be entered now, filled in; 0: it may be. */
/*@ requires a_thread(t); KEEPS
    ensures \result < EXO_VX_COUNT; */
static uint32_t entry_reason(struct thread *t)
{
    struct vcpu *v = vcpu_of(t);
    struct exo_vcpu_page *page = vcpu_page(t);
    if ((v->must_set & VCPU_NEW) != 0) {
        vcpu_init(t);
        v->must_set &= ~VCPU_NEW;
    }
    if (!complete(t)) return EXO_VX_REFUSED;
    uint64_t mask = fetch(&page->event_mask), events = fetch(&page->events);
    uint64_t got = (events & mask) != 0 ? clear_shared(&page->events, mask) & mask : 0;
    v->window |= (uint32_t)(events >> WINDOW_SHIFT) & (EXO_WINDOW_INTERRUPT | EXO_WINDOW_NMI);
    uint32_t reason = got != 0 ? EXO_VX_FORCED : window_open(t);
    window_close(t, reason);
    if (reason == 0) return 0;
    exit_fill(t, reason, got, 0);
    page->exit.interrupted = v->inject.event; /* it did not come */
    page->exit.interrupted_error = v->inject.error;
    v->inject.event = 0;
    return reason;
}

/*@ requires a_thread(t); KEEPS_ALL */
bool vm_enter_check(struct thread *t)
{
    const struct vcpu *v = vcpu_of(t);
    const struct exo_vcpu_page *page = vcpu_page(t);
    if ((v->must_set | v->window) == 0 &&
        (fetch(&page->events) & (fetch(&page->event_mask) | WINDOW_EVENTS)) == 0)
        return true;
    if (entry_reason(t) == 0) return true;
    fault_call(t);
    return false;
}
