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
    bool nested_ad; /* nested tables have accessed and dirty bits */
};
extern struct vm_caps vm_caps;

struct vcpu {
    _Alignas(4096) uint32_t masks[EXO_VX_COUNT]; /* groups filled in, by reason */
    uint32_t window; /* EXO_WINDOW_*, asked for */
    uint32_t shadow; /* in an interrupt shadow since shadow_rip */
    uint64_t shadow_rip;
    uint32_t nmi_blocked;
    uint32_t must_set; /* groups the monitor has to set before the guest runs again */
    struct exo_vm_inject inject; /* event for the next entry; window unused */
    uint64_t forced; /* event bits to tell, EXO_VX_FORCED */
    uint64_t tsc_offset;
    uint64_t xcr0;
    uint64_t dr[4];
    uint32_t passed; /* EXO_VP_* */
    uint32_t hyper_first, hyper_count; /* EXO_SET_VHYPER */
    uint32_t asid; /* tag of its translations, of that generation of its CPU */
    uint64_t asid_generation;
    uint32_t flush; /* its own translations have to go before it runs */
    uint32_t launched; /* VT-x */
    uint64_t machine[64]; /* the machine layer's own: VT-x MSR lists and what VMREAD would cost */
};
_Static_assert(sizeof(struct vcpu) == 4096, "a frame");

/* ---- the machine layer: kernel/x86/vm.c with svm.c or vmx.c; tests/host has arrays ------
 * t is a virtual CPU of this CPU that is not in guest mode. */

/* Makes the control block that of a CPU after reset; all of struct vcpu is 0 before. */
void vcpu_init(frame_t t);
/* Nothing of it is left in this CPU (its control block is written back). */
void vcpu_forget(frame_t t);
/* Group (a single EXO_VG_ bit, CR to MSR) from the control block into the page. */
void vcpu_get(struct thread *t, uint32_t group, struct exo_vcpu_page *page);
/* Places a group, from a copy that core has fetched and checked. */
void vcpu_set_cr(struct thread *t, const struct exo_vm_cr *cr);
void vcpu_set_pdpte(struct thread *t, const uint64_t pdpte[4]);
void vcpu_set_dr(struct thread *t, const struct exo_vm_dr *dr);
void vcpu_set_segs(struct thread *t, const struct exo_vm_segs *segs);
void vcpu_set_msr(struct thread *t, const struct exo_vm_msr *msr);
void vcpu_set_time(struct thread *t, uint64_t offset);
/* The FPU state is in thread.fpu afterwards, and in no register. */
void vcpu_fpu_flush(struct thread *t);
/* What the guest has of CR0, CR4, EFER now: checks of other groups depend on them. */
void vcpu_modes(struct thread *t, uint64_t *cr0, uint64_t *cr4, uint64_t *efer);
/* Passes exactly these MSRs (EXO_VP_*) to the guests of an env, writing its bitmaps. */
void msr_pass(frame_t env, uint32_t mask);
/* Fills an exit's block (reason, details, length, flags, interrupted, bytes) from the
 * control block, after an exit that was not a host interrupt; returns the reason. */
uint32_t vcpu_reason(struct thread *t, struct exo_vm_exit *exit);

/* ---- core/vm.c ------------------------------------------------------------------------- */

/* After an exit that is the monitor's: decodes it, fills the groups of its mask, makes
 * the call. cpu.cur and resched are set as by any call. */
void vm_exit(struct thread *t);
/* Before an entry: false when the guest must not run now because the monitor was called
 * instead (events, a window that is open): decide anew who runs. */
bool vm_enter_check(struct thread *t);
/* A reply to a virtual CPU's call: sets and fills groups. True: the guest may go on;
 * false: the monitor has to be called again, with the words in s's registers. */
bool vm_reply(struct thread *t, struct thread *s, uint64_t set, uint64_t get);
/* Words of the call that t makes (s is its monitor's thread). */
void vm_words(struct thread *s, const struct thread *t);
#endif
