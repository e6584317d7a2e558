/* SPDX-License-Identifier: MIT
 *
 * Virtual CPUs on this machine: what AMD-V and VT-x have in common. Which of them there
 * is, is found once at boot; core asks here (core/vm.h), and the backend does it.
 *
 * FPU: a guest's state is loaded before it runs, and CR0.TS is set for the host whenever a
 * virtual CPU is current, so that the next native thread's use of the FPU switches (trap.c).
 * XCR0 is the guest's only between entry and exit.
 *
 * Translations: guest_root and nested_stale are explained in quiesce.c. Each virtual CPU has
 * a tag (ASID, VPID) of its CPU's current generation; when they are used up, a new
 * generation begins and all translations of guests go. A change that old linear translations
 * must not survive takes a new tag.
 *
 * A virtual CPU runs with the address space of the thread before it in CR3: percpu.cr3.
 */
#include "backend.h"
#include "entry.h"

struct vm_caps vm_caps;
static const struct backend *backend;

/* The MSRs behind each bit of EXO_VP_*. */
#define PASSABLES 11
static const struct passable {
    uint32_t bit, msr;
} passables[PASSABLES] = {{EXO_VP_STAR, MSR_STAR},
                          {EXO_VP_LSTAR, MSR_LSTAR},
                          {EXO_VP_CSTAR, MSR_CSTAR},
                          {EXO_VP_FMASK, MSR_FMASK},
                          {EXO_VP_KERNEL_GS, MSR_KERNEL_GS_BASE},
                          {EXO_VP_SYSENTER, MSR_SYSENTER_CS},
                          {EXO_VP_SYSENTER, MSR_SYSENTER_CS + 1},
                          {EXO_VP_SYSENTER, MSR_SYSENTER_CS + 2},
                          {EXO_VP_PAT, MSR_PAT},
                          {EXO_VP_FS, MSR_FS_BASE},
                          {EXO_VP_GS, MSR_GS_BASE}};

/* ---- at boot ------------------------------------------------------------------------ */

/* What a guest may set of CR4: what every 64-bit CPU has, the kernel demands, or CPUID tells of.
 * Never VMXE, SMXE, PKE, PKS, CET, LA57, nor SMAP, which QEMU does wrong: Intel SDM vol. 3,
 * 2.5. */
#define CR4_ALWAYS 0x507fcul /* TSD .. OSXMMEXCPT, FSGSBASE, OSXSAVE */
#define CR4_VME_PVI 0x3ul

static uint64_t cr4_guest(void)
{
    return CR4_ALWAYS | (cpu_has(1, 3, 1) ? CR4_VME_PVI : 0) | (cpu_has(1, 2, 17) ? CR4_PCIDE : 0) |
           (cpu_has(7, 2, 2) ? CR4_UMIP : 0) | (cpu_has(7, 1, 7) ? CR4_SMEP : 0);
}

void vm_probe(void)
{
    uint32_t width = cpuid(0x80000000, 0).a >= 0x80000008 ? cpuid(0x80000008, 0).a & 0xff : 36;
    vm_caps = (struct vm_caps){
        .cr0_set = CR0_ET | CR0_NE,
        .cr0_clear = CR0_CD | CR0_NW,
        .cr4_allowed = cr4_guest(),
        .efer_allowed = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE,
        .xcr0_allowed = xcr0,
        .phys_mask = ((1ul << width) - 1) & PTE_FRAME,
    };
    const struct backend *b = cpu_has(0x80000001, 2, 2) ? &svm_backend : &vmx_backend;
    if (b->probe(&vm_caps))
        backend = b;
    else
        vm_caps.kind = EXO_VM_NONE;
}

void vm_cpu_init(struct percpu *p)
{
    if (backend == NULL) return;
    p->asid_generation = 1; /* no virtual CPU has a tag of it */
    p->asid_next = 1;
    if (backend->cpu_start(p)) return;
    kprintf("virtualization: none (turned off on CPU %u: enable it in the firmware)\n", p->id);
    vm_caps.kind = EXO_VM_NONE;
}

/* ---- what core asks ------------------------------------------------------------------- */

void vcpu_forget(struct thread *t)
{
    if (backend->forget != NULL) backend->forget(t, vcpu_of(t));
}

uint32_t vcpu_reason(struct thread *t, struct exo_vm_exit *exit)
{
    return backend->reason(t, vcpu_of(t), exit);
}

void vcpu_get(struct thread *t, uint32_t group, union vcpu_group *value)
{
    struct vcpu *v = vcpu_of(t);
    if (group == EXO_VG_CR) value->cr.xcr0 = v->xcr0;
    if (group == EXO_VG_DR) memcpy(&value->dr, v->dr, sizeof v->dr);
    backend->get(t, v, group, value);
}

/* Linear translations depend on CR, PDPTE and, in MSR, on PAT. */
void vcpu_set(struct thread *t, uint32_t group, const union vcpu_group *value)
{
    struct vcpu *v = vcpu_of(t);
    if ((group & (EXO_VG_CR | EXO_VG_PDPTE | EXO_VG_MSR)) != 0) v->flush = 1;
    if (group == EXO_VG_DR) memcpy(v->dr, &value->dr, sizeof v->dr);
    backend->set(t, v, group, value);
}

/* Of a CPU after reset: Intel SDM vol. 3, 10.1.1; AMD64 APM vol. 2, 14.1.3. The rest is 0. */
void vcpu_init(struct thread *t)
{
    union vcpu_group value = {.segs = {.gdtr.limit = 0xffff, .idtr.limit = 0xffff}};
    struct exo_vm_seg *seg = value.segs.seg;
    backend->init(t, vcpu_of(t));
    for (unsigned i = EXO_ES; i < EXO_LDTR; i++)
        seg[i] = (struct exo_vm_seg){0, 0x93, 0xffff, 0};
    seg[EXO_CS] = (struct exo_vm_seg){0xf000, 0x9b, 0xffff, 0xffff0000};
    seg[EXO_LDTR] = (struct exo_vm_seg){0, 0x82, 0xffff, 0};
    seg[EXO_TR] = (struct exo_vm_seg){0, 0x8b, 0xffff, 0};
    vcpu_set(t, EXO_VG_SEG, &value);
    vcpu_set(t, EXO_VG_CR, &(union vcpu_group){.cr.cr0 = CR0_CD | CR0_NW | CR0_ET});
    vcpu_set(t, EXO_VG_DR, &(union vcpu_group){.dr = {.dr6 = 0xffff0ff0, .dr7 = 0x400}});
    vcpu_set(t, EXO_VG_MSR, &(union vcpu_group){.msr.pat = 0x0007040600070406});
}

/* Two bits an MSR, for reads and for writes: set, the access exits. */
void msr_pass(frame_t env, uint32_t mask)
{
    uint8_t *map = (uint8_t *)&tables[env + 3 + envs[env].tables + 3];
    for (unsigned i = 0; i < 2 * PASSABLES; i++) {
        const struct passable *p = &passables[i / 2];
        uint32_t bit = (p->msr & 0x1fff) * backend->msr_bits + i % 2 * backend->msr_write +
                       (p->msr >= 0xc0000000 ? backend->msr_high : 0);
        map[bit / 8] |= (uint8_t)(1u << bit % 8);
        if ((mask & p->bit) != 0) map[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

/* ---- entry and exit ---------------------------------------------------------------------- */

void dr_load(const struct vcpu *v)
{
    __asm__ volatile("mov %0, %%dr0; mov %1, %%dr1; mov %2, %%dr2; mov %3, %%dr3"
                     :
                     : "r"(v->dr[0]), "r"(v->dr[1]), "r"(v->dr[2]), "r"(v->dr[3]));
}

/* Gives it a tag if it needs one: true when all translations have to go first. */
static bool tag_renew(struct percpu *p, struct vcpu *v)
{
    bool wrapped = p->asid_next >= vm_caps.asids;
    if (wrapped) {
        p->asid_generation++;
        p->asid_next = 1; /* 0 is the host */
    }
    v->asid = p->asid_next++;
    v->asid_generation = p->asid_generation;
    v->flush = 0;
    return wrapped;
}

void vm_enter(struct percpu *p, struct thread *t)
{
    struct vcpu *v = vcpu_of(t);
    bool flush = false;
    if (p->cur != NULL && p->cur != t) bases_save(p->cur);
    p->cur = t;
    if (p->fpu_owner != t || p->ts_set == 0) fpu_lend(p, t);
    if (v->xcr0 != xcr0) xcr0_load(v->xcr0);
    if (p->guest_root != t->cr3) __atomic_store_n(&p->guest_root, t->cr3, __ATOMIC_SEQ_CST);
    if (v->flush != 0 || v->asid_generation != p->asid_generation) flush = tag_renew(p, v);
    if (__atomic_load_n(&p->nested_stale, __ATOMIC_SEQ_CST) != 0) {
        __atomic_store_n(&p->nested_stale, 0, __ATOMIC_SEQ_CST);
        flush = true;
    }
    p->guest_in = t;
    COUNTED(p->shown->worlds, 1);
    COUNTED(p->shown->flushes, flush);
    backend->enter(t, v, flush);
    __builtin_unreachable();
}
