/* SPDX-License-Identifier: MIT
 *
 * Hardware virtualization below vm.c: one table of operations, svm.c's or vmx.c's, chosen
 * once at boot. t is a virtual CPU of this CPU that is not in guest mode, v its struct
 * vcpu. While it is not, t->regs has its general registers, rip, rflags, rsp; the control
 * block, in frame t->self + 3, all that is not in struct vcpu.
 */
#ifndef BACKEND_H
#define BACKEND_H

#include "x86.h"

struct backend {
    /* Can this CPU do it? Fills caps; else false, and has said why. Boot CPU only. */
    bool (*probe)(struct vm_caps *caps);
    /* Each CPU, at the end of its cpu_init: p->guest_pages are two pages for it. False: the
     * firmware has turned it off on this one. */
    bool (*cpu_start)(struct percpu *p);
    /* Makes the control block, anew if there was one, all but what `set` places. */
    void (*init)(struct thread *t, struct vcpu *v);
    /* Writes what this CPU caches of the control block back; NULL: nothing. */
    void (*forget)(struct thread *t, struct vcpu *v);
    /* Into the guest: XCR0, FPU, v->asid are as they must be. Loads t->regs, v->inject,
     * v->window, v->shadow, v->tsc_offset, v->dr. flush: first drops all translations of
     * all guests on this CPU, whatever their tag. Does not return. */
    void (*enter)(struct thread *t, struct vcpu *v, bool flush);
    /* As vcpu_reason, vcpu_get (vm.h). value has the parts that are v's own already. */
    uint32_t (*reason)(struct thread *t, struct vcpu *v, struct exo_vm_exit *exit);
    void (*get)(struct thread *t, struct vcpu *v, uint32_t group, union vcpu_group *value);
    /* As vcpu_set. v has the parts that are its own, and v->flush, already. */
    void (*set)(struct thread *t, struct vcpu *v, uint32_t group, const union vcpu_group *value);
    /* The MSR bitmap, in bits: how many an MSR; where those from c000_0000 on begin; how far
     * a write's bit is behind the read's. */
    uint32_t msr_bits, msr_high, msr_write;
};

extern const struct backend svm_backend;
extern const struct backend vmx_backend;

/* vm.c: for the backends */
void dr_load(const struct vcpu *v); /* DR0..3 */

static inline void xcr0_load(uint64_t value)
{
    __asm__ volatile("xsetbv" : : "c"(0), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

/* Exits that a monitor may be told of by vmenter.S. */
#define REASONS_QUICK                                                                              \
    (1u << EXO_VX_CPUID | 1u << EXO_VX_HLT | 1u << EXO_VX_PIO | 1u << EXO_VX_MSR_READ |            \
     1u << EXO_VX_MSR_WRITE | 1u << EXO_VX_CR | 1u << EXO_VX_NESTED)

/* After an exit. QEMU 7.2 lets guests execute XSETBV: what one made of XCR0 is its own from now
 * on, less what the kernel does not switch. */
static inline void xcr0_leave(struct vcpu *v)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    v->xcr0 = low & xcr0;
    if (low != xcr0 || high != 0) xcr0_load(xcr0);
}

/* In the tables of exits that say it all: the reason, and detail 0 in the upper bits. */
#define DETAIL 5
#define INSTR(which) (EXO_VX_INSTR | EXO_IX_##which << DETAIL)
/* A probe's answer. */
static inline bool vm_none(const char *why)
{
    kprintf("virtualization: none (%s)\n", why);
    return false;
}

static inline void *control_block(const struct thread *t) { return &tables[t->self + 3]; }

static inline uint64_t control_block_phys(const struct thread *t)
{
    return (uint64_t)(t->self + 3) * EXO_PAGE;
}

#endif
