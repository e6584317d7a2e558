/* SPDX-License-Identifier: MIT
 *
 * AMD-V with nested paging. A virtual CPU's control block (VMCB) is a frame that nobody but
 * the CPU and this file ever sees; what of it a monitor may set has been checked by core.
 * AMD64 APM vol. 2, chapter 15 and appendices B (VMCB) and C (exit codes), throughout.
 *
 * Neither clean bits nor decode assists nor next-RIP save are needed: where CPUID has the
 * latter two they are passed on. VMRUN does not switch all of the host's state; the rest
 * is stored in a second VMCB of each CPU once, and loaded from there after each exit.
 */
#include "svm.h"

#define MSR_VM_CR 0xc0010114
#define VM_CR_SVMDIS 0x10
#define MSR_VM_HSAVE_PA 0xc0010117
#define EFER_SVME 0x1000ul
#define EFER_FFXSR 0x4000ul
#define CPUID_SVM 0x8000000a
#define SVM_NPT 0x1 /* CPUID_SVM, EDX */
#define SVM_NRIP 0x8
#define SVM_DECODE 0x80

/* Intercepts: word 3 (VMCB offset 0xc) and 4 (0x10). Always: INTR NMI SMI INIT, CR0 but for TS
 * and MP, RDPMC CPUID INVD HLT INVLPGA IOIO MSR, task switch, SHUTDOWN; VMRUN VMMCALL VMLOAD
 * VMSAVE STGI CLGI SKINIT, WBINVD MONITOR MWAIT XSETBV. */
#define I3_ALWAYS 0xbd44802fu
#define I3_VINTR 0x10u
#define I3_IRET 0x100000u
#define I4_ALWAYS 0x3e7fu
#define I_EXCEPTIONS ((1u << 1) | (1u << 17) | (1u << 18)) /* #DB, #AC, #MC */
#define I_CR4 0x10u
#define I_CR8 0x100u

#define V_IRQ 0x100ul
#define V_VECTOR_SHIFT 32
#define V_IGN_TPR 0x100000ul
#define V_INTR_MASKING 0x1000000ul
#define TLB_FLUSH_ALL 1

/* Exit codes. */
#define X_DR_READ 0x20
#define X_EXCEPTION 0x40
#define X_INTR 0x60
#define X_SMI 0x62
#define X_CR0_SELECTIVE 0x65
#define X_IRET 0x74
#define X_IOIO 0x7b
#define X_MSR 0x7c
#define X_NPF 0x400
#define X_INVALID UINT64_MAX

uint32_t length_known;
static bool has_decode, event_twice;

/* vmenter.S: into the guest. */
void svm_run(struct thread *t, uint64_t vmcb) __attribute__((noreturn));
/* ... calls these, on the kernel stack */
uint32_t svm_decode(struct thread *t);
int svm_exit(struct thread *t);

/* ---- at boot ----------------------------------------------------------------------------- */

static bool svm_probe(struct vm_caps *caps)
{
    struct cpuid r = cpuid(CPUID_SVM, 0);
    if ((r.d & SVM_NPT) == 0 || r.b < 2) return vm_none("this AMD-V has no nested paging");
    length_known = (r.d & SVM_NRIP) != 0 ? 15 : 0;
    has_decode = (r.d & SVM_DECODE) != 0;
    event_twice = cpu_has(1, 2, 31) && cpuid(0x40000000, 0).b == 0x54474354; /* "TCGT" */
    caps->kind = EXO_VM_SVM;
    caps->asids = r.b;
    if (cpu_has(0x80000001, 3, 25)) caps->efer_allowed |= EFER_FFXSR;
    kprintf("virtualization: AMD-V with nested paging, %u ASIDs\n", caps->asids);
    return true;
}

static bool svm_cpu_start(struct percpu *p)
{
    if ((msr_read(MSR_VM_CR) & VM_CR_SVMDIS) != 0) return false;
    msr_write(MSR_EFER, msr_read(MSR_EFER) | EFER_SVME);
    msr_write(MSR_VM_HSAVE_PA, p->guest_pages);
    p->host_vmcb = p->guest_pages + EXO_PAGE;
    __asm__ volatile("vmsave %0" : : "a"(p->host_vmcb) : "memory");
    return true;
}

/* ---- the control block ----------------------------------------------------------------------- */

static void svm_init(struct thread *t, struct vcpu *v)
{
    struct vmcb *b = control_block(t);
    const struct env *e = &envs[t->env];
    uint64_t maps = (uint64_t)(t->env + 3 + e->tables) * EXO_PAGE;
    *b = (struct vmcb){
        .cr_read = I_CR8,
        .cr_write = I_CR8 | I_CR4,
        .dr_read = 0xffff,
        .dr_write = 0xffff,
        .exceptions = I_EXCEPTIONS,
        .intercept4 = I4_ALWAYS,
        .iopm = maps,
        .msrpm = maps + 3ul * EXO_PAGE,
        .nested = 1,
        .nested_root = (uint64_t)e->root * EXO_PAGE,
    };
    v->flush = 1;
    v->machine[0] = 1;
    t->regs.ss = percpu()->host_vmcb; /* for the exit, before it has GS */
}

static void cr_get(const struct vmcb *b, struct exo_vm_cr *cr)
{
    cr->cr0 = b->cr0;
    cr->cr2 = b->cr2;
    cr->cr3 = b->cr3;
    cr->cr4 = b->cr4;
    cr->efer = b->efer & ~EFER_SVME;
}

static void cr_set(struct vmcb *b, const struct exo_vm_cr *cr)
{
    b->cr0 = (cr->cr0 | vm_caps.cr0_set) & ~vm_caps.cr0_clear;
    b->cr2 = cr->cr2;
    b->cr3 = cr->cr3;
    b->cr4 = cr->cr4;
    b->efer = cr->efer | EFER_SVME;
}

/* The CPU keeps the privilege level apart, and nothing useful in the attributes of a null
 * SS: the two are one to the monitor. */
static void segs_get(const struct vmcb *b, struct exo_vm_segs *s)
{
    memcpy(s->seg, &b->es, 6 * sizeof b->es);
    s->seg[EXO_SS].attributes &= (uint16_t)~0x60u;
    s->seg[EXO_SS].attributes |= (uint16_t)(b->cpl << 5);
    s->seg[EXO_LDTR] = b->ldtr;
    s->seg[EXO_TR] = b->tr;
    s->gdtr = (struct exo_vm_dtr){b->gdtr.limit, b->gdtr.base};
    s->idtr = (struct exo_vm_dtr){b->idtr.limit, b->idtr.base};
}

static void segs_set(struct vmcb *b, const struct exo_vm_segs *s)
{
    memcpy(&b->es, s->seg, 6 * sizeof b->es);
    b->cpl = s->seg[EXO_SS].attributes >> 5 & 3;
    b->ldtr = s->seg[EXO_LDTR];
    b->tr = s->seg[EXO_TR];
    b->gdtr = (struct exo_vm_seg){.limit = (uint32_t)s->gdtr.limit, .base = s->gdtr.base};
    b->idtr = (struct exo_vm_seg){.limit = (uint32_t)s->idtr.limit, .base = s->idtr.base};
}

_Static_assert(offsetof(struct exo_vm_msr, pat) == 64, "eight MSRs as in the VMCB, then PAT");

static void svm_get(struct thread *t, struct vcpu *v, uint32_t group, union vcpu_group *value)
{
    const struct vmcb *b = control_block(t);
    (void)v;
    if (group == EXO_VG_CR) cr_get(b, &value->cr);
    if (group == EXO_VG_SEG) segs_get(b, &value->segs);
    if (group == EXO_VG_DR) value->dr.dr6 = b->dr6;
    if (group == EXO_VG_MSR) {
        memcpy(&value->msr, &b->star, offsetof(struct exo_vm_msr, pat));
        value->msr.pat = b->pat;
    }
}

static void svm_set(struct thread *t, struct vcpu *v, uint32_t group, const union vcpu_group *value)
{
    struct vmcb *b = control_block(t);
    (void)v;
    if (group == EXO_VG_CR) cr_set(b, &value->cr);
    if (group == EXO_VG_SEG) segs_set(b, &value->segs);
    if (group == EXO_VG_DR) {
        b->dr6 = value->dr.dr6;
        b->dr7 = value->dr.dr7;
    }
    if (group == EXO_VG_MSR) {
        memcpy(&b->star, &value->msr, offsetof(struct exo_vm_msr, pat));
        b->pat = value->msr.pat;
    }
}

/* ---- entry --------------------------------------------------------------------------------------- */

/* QEMU can deliver again, at any time up to the next exit, what EVENTINJ held. There an
 * interrupt is a virtual one (APM vol. 2, 15.21.4), taken at once; its handler's IRET is then
 * where the next window can be armed. */
static bool is_virtual(uint32_t event)
{
    return event_twice && (event & (EXO_VE_VALID | 0x700)) == (EXO_VE_VALID | EXO_VE_INTERRUPT);
}

/* What an entry may need besides. QEMU does not load the interrupt shadow, so no interrupt
 * is asked for in it; what ends it comes soon: HLT, which exits, or anything else, and then
 * the slice's end. */
static void special_place(struct thread *t, struct vcpu *v, struct vmcb *b, bool flush)
{
    bool shadow = vcpu_shadow(t);
    b->tlb_control = flush ? TLB_FLUSH_ALL : 0;
    b->shadow = shadow;
    b->vintr = V_INTR_MASKING;
    b->intercept3 = I3_ALWAYS;
    b->event = is_virtual(v->inject.event) ? 0 : v->inject.event;
    if (is_virtual(v->inject.event)) {
        b->vintr |= V_IRQ | V_IGN_TPR | (uint64_t)(v->inject.event & 0xff) << V_VECTOR_SHIFT;
        if ((v->window & EXO_WINDOW_INTERRUPT) != 0) b->intercept3 |= I3_IRET;
    } else if ((v->window & EXO_WINDOW_INTERRUPT) != 0 && !shadow) {
        b->vintr |= V_IRQ | V_IGN_TPR;
        b->intercept3 |= I3_VINTR;
    }
    if ((b->event & EXO_VE_VALID) != 0) {
        b->event_error = v->inject.error;
        if ((b->event & 0x700) == EXO_VE_NMI) v->nmi_blocked = 1;
        if ((b->event & 0x700) == EXO_VE_SOFT) b->rip += v->inject.length;
    }
    if (v->nmi_blocked != 0) b->intercept3 |= I3_IRET;
    b->next_rip = b->rip;
}

/* v->machine[0]: the last entry had something special, which is in the VMCB yet. */
static void svm_enter(struct thread *t, struct vcpu *v, bool flush)
{
    struct vmcb *b = control_block(t);
    uint32_t special = flush | v->shadow | v->window | v->inject.event | v->nmi_blocked |
                       (v->xcr0 != xcr0) | (b->dr7 & 0xff);
    b->asid = v->asid;
    b->tsc_offset = v->tsc_offset;
    b->rip = t->regs.rip;
    b->rflags = t->regs.rflags;
    b->rsp = t->regs.rsp;
    b->rax = t->regs.rax;
    if ((special | v->machine[0]) != 0) {
        v->machine[0] = special;
        special_place(t, v, b, flush);
    }
    if ((b->dr7 & 0xff) != 0) dr_load(v);
    cr2_write(b->cr2); /* Bochs 2.7's VMRUN does not */
    svm_run(t, control_block_phys(t));
}

/* ---- exit ------------------------------------------------------------------------------------------ */

/* An event whose delivery the exit interrupted is pending again. A guest's own INT n, INT3
 * or INTO is not: the instruction runs again. */
static void event_keep(struct thread *t, struct vcpu *v, const struct vmcb *b)
{
    struct exo_vm_inject was = v->inject;
    uint32_t event = (uint32_t)b->exit_event & (EXO_VE_VALID | EXO_VE_ERROR | 0x7ff);
    uint32_t kind = event & 0x7ff;
    bool waits = is_virtual(was.event) && (b->vintr & V_IRQ) != 0; /* exit_event is wrong then */
    v->inject = waits ? was : (struct exo_vm_inject){0};
    if (waits || (event & EXO_VE_VALID) == 0) return;
    bool soft = (event & 0x700) == EXO_VE_SOFT;
    if (soft || kind == (EXO_VE_EXCEPTION | 3) || kind == (EXO_VE_EXCEPTION | 4)) {
        uint64_t ours = t->regs.rip + (soft ? was.length : 0);
        if (event != was.event || b->rip != ours) return;
    }
    v->inject.event = event;
    v->inject.error = (event & EXO_VE_ERROR) != 0 ? (uint32_t)(b->exit_event >> 32) : 0;
    v->inject.length = soft ? was.length : 0;
    if ((event & 0x700) == EXO_VE_NMI) v->nmi_blocked = 0; /* it did not come */
}

/* Exits whose code says it all (APM vol. 2, appendix C), from X_INTR on. */
static const uint8_t simple[] = {
    [0x04] = EXO_VX_WINDOW,     [0x0f] = INSTR(RDPMC),     [0x12] = EXO_VX_CPUID,
    [0x14] = EXO_VX_NMI_WINDOW, [0x16] = INSTR(INVD),      [0x18] = EXO_VX_HLT,
    [0x1a] = INSTR(VIRT),       [0x1d] = EXO_VX_TASK,      [0x1f] = EXO_VX_SHUTDOWN,
    [0x20] = INSTR(VIRT),       [0x21] = EXO_VX_HYPERCALL, [0x22 ... 0x26] = INSTR(VIRT),
    [0x29] = INSTR(WBINVD),     [0x2a] = INSTR(MONITOR),   [0x2b ... 0x2c] = INSTR(MWAIT),
    [0x2d] = EXO_VX_XSETBV};

/* APM vol. 2, 15.10.2. */
static uint32_t decode_io(const struct vmcb *b, struct exo_vm_exit *exit)
{
    const uint64_t info = b->exit_info1;
    exit->detail[0] = info >> 16 & 0xffff;
    exit->detail[1] = (info >> 4 & EXO_PIO_SIZE) | (info << 3 & EXO_PIO_IN) |
                      (info << 2 & (EXO_PIO_STRING | EXO_PIO_REP));
    exit->detail[2] = b->exit_info2;
    exit->length = (uint32_t)(b->exit_info2 - b->rip);
    return EXO_VX_PIO;
}

/* APM vol. 2, 15.25.6. */
static void decode_nested(const struct vmcb *b, struct exo_vm_exit *exit)
{
    uint64_t info = b->exit_info1;
    exit->detail[0] = b->exit_info2;
    exit->detail[1] = ((info & 0x10) != 0 ? EXO_NX_FETCH
                       : (info & 2) != 0  ? EXO_NX_WRITE
                                          : EXO_NX_READ) |
                      ((info & 1) != 0 ? EXO_NX_BOUND : 0) |
                      ((info >> 33 & 1) != 0 ? EXO_NX_WALK : 0);
    if (has_decode && b->bytes_count != 0 && b->bytes_count <= sizeof b->bytes) {
        memcpy(exit->bytes, b->bytes, b->bytes_count);
        exit->flags |= EXO_XF_BYTES;
    }
}

/* MOV to or from a control or debug register: APM vol. 2, 15.8.1. */
static void decode_register(const struct vmcb *b, struct exo_vm_exit *exit)
{
    uint64_t code = b->exit_code, known = has_decode ? EXO_CRX_KNOWN : 0;
    bool write = code == X_CR0_SELECTIVE || (code & 0x10) != 0;
    if (code < X_DR_READ || code == X_CR0_SELECTIVE) known &= b->exit_info1 >> 63 << 7;
    exit->detail[0] = (code == X_CR0_SELECTIVE ? 0 : code & EXO_CRX_NUMBER) |
                      (write ? EXO_CRX_WRITE : 0) | known |
                      (known != 0 ? (b->exit_info1 & 15) << EXO_CRX_GPR_SHIFT : 0);
}

/* The block but what was interrupted. */
static uint32_t decode(const struct thread *t, const struct vmcb *b, struct exo_vm_exit *exit)
{
    uint64_t code = b->exit_code, at = code - X_INTR;
    exit->flags = 0;
    if (code == X_IOIO) return decode_io(b, exit);
    exit->detail[1] = exit->detail[2] = 0;
    uint64_t length = b->next_rip - b->rip;
    exit->length = length < 16 ? (uint32_t)length & length_known : 0;
    if (at < sizeof simple / sizeof *simple && simple[at] != 0) {
        exit->detail[0] = simple[at] >> 5;
        return simple[at] & 31;
    }
    exit->detail[0] = code;
    switch (code) {
    case X_NPF:
        decode_nested(b, exit);
        return EXO_VX_NESTED;
    case X_MSR:
        exit->detail[0] = (uint32_t)t->regs.rcx;
        return (b->exit_info1 & 1) != 0 ? EXO_VX_MSR_WRITE : EXO_VX_MSR_READ;
    case X_EXCEPTION ... X_INTR - 1:
        exit->detail[0] = code - X_EXCEPTION;
        exit->detail[1] = b->exit_info1;
        return EXO_VX_EXCEPTION;
    case X_DR_READ ... X_EXCEPTION - 1:
        decode_register(b, exit);
        return EXO_VX_DR;
    case 0 ... X_DR_READ - 1:
    case X_CR0_SELECTIVE:
        decode_register(b, exit);
        return EXO_VX_CR;
    default:
        return EXO_VX_OTHER;
    }
}

/* After VMEXIT_INVALID the VMCB need not hold the guest's state any more (QEMU stores the
 * host's): all of it is made anew, and the monitor has to set everything. */
static uint32_t svm_reason(struct thread *t, struct vcpu *v, struct exo_vm_exit *exit)
{
    struct vmcb *b = control_block(t);
    if (b->exit_code == X_INVALID) {
        vcpu_init(t);
        t->regs.rip = t->regs.rsp = t->regs.rax = 0;
        v->inject = (struct exo_vm_inject){0};
        *exit = (struct exo_vm_exit){0};
        return EXO_VX_INVALID;
    }
    exit->interrupted = v->inject.event;
    exit->interrupted_error = v->inject.error;
    v->inject = (struct exo_vm_inject){0};
    return decode(t, b, exit);
}

/* An exit that was quick so far: fills its block and returns the reason, 0 if it is none of those. */
uint32_t svm_decode(struct thread *t)
{
    struct vmcb *b = control_block(t);
    struct exo_vm_exit *exit = &vcpu_page(t)->exit;
    uint32_t reason = decode(t, b, exit);
    exit->interrupted = exit->interrupted_error = 0;
    exit->flags |= (t->regs.rflags & RFLAGS_IF) != 0 ? EXO_XF_IF : 0;
    return (REASONS_QUICK >> reason & 1) != 0 ? reason : 0;
}

/* 0: it was an interrupt of the host, which is pending; else -1, core has decided. */
int svm_exit(struct thread *t)
{
    struct vcpu *v = vcpu_of(t);
    struct vmcb *b = control_block(t);
    xcr0_leave(v);
    if ((v->window & EXO_WINDOW_INTERRUPT) != 0) lapic_look();
    if (b->exit_code != X_INVALID) {
        event_keep(t, v, b);
        if ((v->inject.event & 0x700) == EXO_VE_SOFT) t->regs.rip -= v->inject.length;
        v->shadow = (b->shadow & 1) != 0 || vcpu_shadow(t); /* nothing ran: QEMU forgets it */
        v->shadow_rip = t->regs.rip;
        if (b->exit_code >= X_INTR && b->exit_code <= X_SMI) return 0;
        if (b->exit_code == X_EXCEPTION + 18) __asm__ volatile("int $18"); /* the host's own */
        if (b->exit_code == X_IRET) {
            v->nmi_blocked = 0;
            if ((v->window & EXO_WINDOW_NMI) == 0) return -1;
        }
    }
    vm_exit(t);
    return -1;
}

const struct backend svm_backend = {
    .probe = svm_probe,
    .cpu_start = svm_cpu_start,
    .init = svm_init,
    .enter = svm_enter,
    .reason = svm_reason,
    .get = svm_get,
    .set = svm_set,
    .msr_bits = 2, /* in three blocks of 2 KiB: APM vol. 2, 15.11 */
    .msr_high = 0x800 * 8,
    .msr_write = 1,
};
