/* SPDX-License-Identifier: MIT
 *
 * Virtual CPUs: what core keeps of them, and what it asks of the machine.
 *
 * A virtual CPU is a thread of an env with ENV_VM, in four consecutive frames: the
 * thread, the page shared with its monitor (abi/vm.h, in the place of an upcall page),
 * struct vcpu (window `vcpus`), and its control block (VMCB or VMCS), which only the
 * machine layer looks into.
 *
 * While it is not in guest mode, thread.regs has all its general registers, rip, rflags
 * and rsp, thread.fpu (or the CPU's FPU registers) its FPU state, the vcpu what is
 * listed below, the control block all else.
 *
 * Whoever may run, a virtual CPU's thread.slow has SLOW_VM: no path of a native thread
 * resumes it. Locking: as a thread's run state, all of it belongs to its CPU.
 */
#ifndef VM_H
#define VM_H

#include "../../abi/vm.h"
#include "core.h"

/* What the CPU allows; set once at boot, the same on all CPUs. */
struct vm_caps {
    uint32_t kind; /* EXO_VM_* */
    uint32_t asids; /* tags for translations, 0 included */
    uint64_t cr0_set, cr0_clear; /* bits forced whatever the monitor asks (not PE, PG) */
    uint64_t cr4_allowed; /* bits a guest may set; what the hardware needs is forced, hidden */
    uint64_t efer_allowed;
    uint64_t xcr0_allowed;
    uint64_t phys_mask; /* address bits of a page frame that exist */
    bool ept; /* nested tables have EPT's format */
};
extern struct vm_caps vm_caps;

/* CR0, CR4, EFER, RFLAGS: Intel SDM vol. 3, 2.5, 2.2.1, 2.3; AMD64 APM vol. 2, 3.1. */
#define CR0_PE 0x1ull
#define CR0_NW (1ull << 29)
#define CR0_CD (1ull << 30)
#define CR0_PG (1ull << 31)
#define CR4_PAE 0x20ull
#define CR4_PCIDE (1ull << 17)
#define EFER_LME 0x100ull
#define EFER_LMA 0x400ull
#define RFLAGS_IF 0x200ull
#define RFLAGS_GUEST 0x3f7fd5ull /* the flags that exist */
#define RFLAGS_ONE 2ull
#define WINDOW_EVENTS (EXO_EVENT_WINDOW | EXO_EVENT_NMI_WINDOW)
/* Of thread.slow, besides core.h's: its exit was quick (vmenter.S), and nothing was set since. */
#define SLOW_QUICK 16
#define VCPU_NEW 0x80000000u /* must_set: it has no control block yet */

struct vcpu {
    _Alignas(4096) uint32_t masks[EXO_VX_COUNT]; /* groups filled in, by reason */
    uint32_t window; /* EXO_WINDOW_*, asked for */
    uint32_t shadow; /* in an interrupt shadow since shadow_rip */
    uint64_t shadow_rip;
    uint32_t nmi_blocked;
    uint32_t must_set; /* groups the monitor has to set before the guest runs again; VCPU_NEW */
    struct exo_vm_inject inject; /* event for the next entry, which clears it; window unused */
    uint64_t tsc_offset;
    uint64_t xcr0;
    uint64_t dr[6]; /* 0-3, 6, 7 as last set; the machine layer has 6 */
    uint32_t hyper_first, hyper_count; /* EXO_SET_VHYPER */
    uint32_t asid; /* tag of its translations, of that generation of its CPU */
    uint64_t asid_generation;
    uint32_t flush; /* its own translations have to go before it runs */
    /* the machine layer's own: VT-x MSR lists and what VMREAD would cost */
    _Alignas(16) uint64_t machine[64];
};
_Static_assert(sizeof(struct vcpu) == 4096, "a frame");

/* ---- the machine layer: kernel/x86/vm.c with svm.c or vmx.c; tests/host has arrays ------
 * t is a virtual CPU of this CPU that is not in guest mode. */

/* Makes the control block that of a CPU after reset: before its first entry, on its CPU. The
 * block's frame is clear then, and what is the machine layer's of struct vcpu is 0. */
void vcpu_init(struct thread *t);
/* Nothing of it is left in this CPU (its control block is written back). */
void vcpu_forget(struct thread *t);
union vcpu_group {
    struct exo_vm_cr cr;
    uint64_t pdpte[4];
    struct exo_vm_dr dr;
    struct exo_vm_segs segs;
    struct exo_vm_msr msr;
};
/* Takes a group (one EXO_VG_ bit: CR, PDPTE, DR, SEG, MSR) out of the control block: of value no
 * more than that group is written. */
void vcpu_get(struct thread *t, uint32_t group, union vcpu_group *value);
/* Places a group (one EXO_VG_ bit: CR, PDPTE, DR, SEG, MSR), from a copy that core has fetched
 * and checked. Bits that vm_caps forces are forced here. */
void vcpu_set(struct thread *t, uint32_t group, const union vcpu_group *value);
/* The FPU state is in thread.fpu afterwards, and in no register. */
void vcpu_fpu_flush(struct thread *t);
/* Passes exactly these MSRs (EXO_VP_*) to the guests of an env, writing its bitmaps. */
void msr_pass(frame_t env, uint32_t mask);
/* Fills an exit's block (details, length, interrupted, bytes; of flags EXO_XF_BYTES) from
 * the control block, after an exit that was not a host interrupt; returns the reason. An
 * event whose delivery a host interrupt cut off goes back to vcpu.inject instead. */
uint32_t vcpu_reason(struct thread *t, struct exo_vm_exit *exit);

/* ---- core/vm.c ------------------------------------------------------------------------- */

/*@ requires a_thread(t);
    assigns \nothing;
    ensures \valid(\result); */
static inline struct vcpu *vcpu_of(const struct thread *t) { return &vcpus[t->self + 2]; }
/*@ requires a_thread(t);
    assigns \nothing;
    ensures \valid(\result); */
static inline struct exo_vcpu_page *vcpu_page(const struct thread *t)
{
    return (struct exo_vcpu_page *)&upcalls[t->upcall];
}
/* Is the guest in an interrupt shadow: behind STI or a load of SS? */
/*@ requires a_thread(t);
    assigns \nothing; */
static inline bool vcpu_shadow(const struct thread *t)
{
    const struct vcpu *v = vcpu_of(t);
    return v->shadow != 0 && v->shadow_rip == t->regs.rip;
}

/* Makes t, cleared, a virtual CPU; forgets it where its CPU forgets a thread. */
void vm_init(struct thread *t);
void vm_forget(struct thread *t);
/* thread_set of one of EXO_SET_VMASK, VPASS, VHYPER. -EXO_E_ARG. */
long vm_set(struct thread *t, uint64_t what, uint64_t a, uint64_t b);
/* After an exit that is the monitor's: decodes it, fills the groups of its mask, makes
 * the call. cpu.cur and resched are set as by any call. */
void vm_exit(struct thread *t);
/* Before an entry: false when the guest must not run now because the monitor was called
 * instead (events, a window that is open): decide anew who runs. */
bool vm_enter_check(struct thread *t);
/* Groups A (0 to GENERAL_A) and B (to GENERALS) into the page, and out of it: VM_FINE. */
#define GENERAL_A 4
#define GENERALS 15
void general_get(const struct thread *t, uint64_t *page, unsigned first, unsigned end);
int general_set(struct thread *t, const uint64_t *page, unsigned first, unsigned end);
/* The reply to a virtual CPU's call: sets and fills groups (any values). True: the guest
 * may go on; false: the monitor has to be called again, reason and groups are set. */
bool vm_reply(struct thread *t, uint64_t set, uint64_t get);
/* Words of the call that t makes (s is its monitor's thread): reason, groups, details. */
void vm_words(struct thread *s, const struct thread *t);

/* ---- core/vm_check.c: may the monitor set these? The first field that is not allowed, ------
 * counted from 0, or VM_FINE. No side effects. */
#define VM_FINE (-1)
int group_check(uint32_t group, const union vcpu_group *value);
/* flags: EXO_XF_* as they are now; cr0: the guest's. */
int inject_check(const struct exo_vm_inject *inject, uint32_t flags, uint64_t cr0);
/* The header of an XSAVE area and MXCSR. */
int fpu_check(const uint64_t header[8], uint32_t mxcsr);
#endif
