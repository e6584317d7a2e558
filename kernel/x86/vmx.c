/* SPDX-License-Identifier: MIT
 *
 * VT-x with EPT, VPID and unrestricted guest. A virtual CPU's control block (VMCS) is a
 * frame that only VMREAD and VMWRITE look into; what of it a monitor may set has been
 * checked by core, and the CPU checks the guest's state once more at every entry.
 * Intel SDM vol. 3, chapters 24-30 and appendices A (capabilities), B (fields), C (exit
 * reasons), throughout.
 *
 * Owner: the virtual CPU's own CPU. `loaded` says which VMCS is current there; another
 * CPU's is never touched: virtual CPUs do not move. What the hardware does not switch is
 * in struct vmx: the MSRs of two lists, CR2 and DR6 (#DB and MOV DR always exit, so the
 * guest's DR6 is never in the register).
 */
#include "vmx.h"

#define MSR_FEATURE_CONTROL 0x3a
#define FEATURE_LOCK 1u
#define FEATURE_VMX 4u
#define MSR_VMX_BASIC 0x480
#define BASIC_TRUE (1ul << 55) /* the TRUE control MSRs exist */
#define MSR_VMX_MISC 0x485
#define MISC_TIMER_RATE 31u /* mask: log2 of TSC ticks for each of the preemption timer */
#define MSR_VMX_EPT_VPID 0x48c
#define MSR_VMX_CR4_FIXED1 0x489
#define CR4_VMXE 0x2000ul
#define CR0_CACHES (CR0_CD | CR0_NW)

/* EPT and VPID capabilities: walks of 4 levels, write-back tables, 2 MiB pages, INVEPT of
 * all contexts. */
#define EPT_NEEDED 0x4114040ul
#define EPT_1G (1ul << 17)
#define EPT_AD (1ul << 21)
#define EPTP_WB_4 0x1eul /* write-back tables, 4 levels */
#define EPTP_AD 0x40ul
#define INVEPT_ALL 2ul

/* Controls: SDM 25.6-25.8. */
#define PIN_WANTED 0x29u /* external interrupts, NMIs, virtual NMIs */
#define PIN_OPTIONAL 0x40u /* preemption timer */
#define PRIMARY_INTERRUPT_WINDOW 0x4u
#define PRIMARY_NMI_WINDOW 0x400000u
#define PRIMARY_MONITOR 0x20000400u /* MONITOR, MWAIT */
/* TSC offset, HLT, RDPMC, CR8, DR, I/O bitmaps, MSR bitmaps, secondary controls */
#define PRIMARY_WANTED 0x92980888u
#define SECONDARY_WANTED 0xe2u /* EPT, VPID, WBINVD, unrestricted guest */
#define SECONDARY_OPTIONAL 0x1008u /* RDTSCP, INVPCID */
/* debug controls, 64-bit host, PAT and EFER saved and loaded */
#define EXIT_WANTED 0x3c0204u
#define ENTRY_WANTED 0xc004u /* debug controls, PAT, EFER */
#define ENTRY_LONG 0x200u
#define EXCEPTIONS ((1u << 1) | (1u << 17) | (1u << 18)) /* #DB, #AC, #MC */

/* Fields: appendix B. Those of segments stand for ES; CS, SS, DS, FS, GS, LDTR, TR follow, two
 * apart. A line, or a few, for each width and kind. */
/* clang-format off */
enum field {
    VPID = 0x0000,
    GUEST_SELECTOR = 0x0800,
    HOST_ES = 0x0c00, HOST_CS = 0x0c02, HOST_SS = 0x0c04, HOST_DS = 0x0c06, HOST_FS = 0x0c08,
    HOST_GS = 0x0c0a, HOST_TR = 0x0c0c,
    IO_BITMAP_A = 0x2000, IO_BITMAP_B = 0x2002, MSR_BITMAP = 0x2004, EXIT_STORE = 0x2006,
    EXIT_LOAD = 0x2008, ENTRY_LOAD = 0x200a, TSC_OFFSET = 0x2010, EPTP = 0x201a,
    GUEST_PHYSICAL = 0x2400,
    LINK = 0x2800, DEBUGCTL = 0x2802, GUEST_PAT = 0x2804, GUEST_EFER = 0x2806,
    GUEST_PDPTE = 0x280a,
    HOST_PAT = 0x2c00, HOST_EFER = 0x2c02,
    PIN = 0x4000, PRIMARY = 0x4002, EXCEPTION_BITMAP = 0x4004, PAGE_FAULT_MASK = 0x4006,
    PAGE_FAULT_MATCH = 0x4008, CR3_TARGETS = 0x400a, EXIT_CONTROLS = 0x400c, EXIT_STORE_COUNT = 0x400e, EXIT_LOAD_COUNT = 0x4010, ENTRY_CONTROLS = 0x4012,
    ENTRY_LOAD_COUNT = 0x4014, ENTRY_EVENT = 0x4016, ENTRY_ERROR = 0x4018, ENTRY_LENGTH = 0x401a,
    SECONDARY = 0x401e,
    INSTRUCTION_ERROR = 0x4400, EXIT_REASON = 0x4402, EXIT_EVENT = 0x4404, EXIT_ERROR = 0x4406,
    VECTORING_EVENT = 0x4408, VECTORING_ERROR = 0x440a, EXIT_LENGTH = 0x440c,
    GUEST_LIMIT = 0x4800, GDTR_LIMIT = 0x4810, IDTR_LIMIT = 0x4812, GUEST_RIGHTS = 0x4814,
    INTERRUPTIBILITY = 0x4824, ACTIVITY = 0x4826, GUEST_SYSENTER_CS = 0x482a,
    PREEMPTION_TIMER = 0x482e,
    CR0_MASK = 0x6000, CR4_MASK = 0x6002, CR0_SHADOW = 0x6004, CR4_SHADOW = 0x6006,
    QUALIFICATION = 0x6400, GUEST_LINEAR = 0x640a,
    GUEST_CR0 = 0x6800, GUEST_CR3 = 0x6802, GUEST_CR4 = 0x6804, GUEST_BASE = 0x6806,
    GDTR_BASE = 0x6816, IDTR_BASE = 0x6818, GUEST_DR7 = 0x681a, PENDING_DEBUG = 0x6822, GUEST_SYSENTER_ESP = 0x6824,
    GUEST_SYSENTER_EIP = 0x6826,
    HOST_CR0 = 0x6c00, HOST_CR3 = 0x6c02, HOST_CR4 = 0x6c04, HOST_FS_BASE = 0x6c06,
    HOST_GS_BASE = 0x6c08,
    HOST_TR_BASE = 0x6c0a, HOST_GDTR_BASE = 0x6c0c, HOST_IDTR_BASE = 0x6c0e, HOST_RSP = 0x6c14,
    HOST_RIP = 0x6c16,
};
/* clang-format on */

/* Bits of INTERRUPTIBILITY and PENDING_DEBUG. */
#define BLOCKED_STI 1u
#define BLOCKED_SHADOW 3u /* by STI or MOV SS */
#define BLOCKED_NMI 8u
#define PENDING_STEP 0x4000u
#define NMI_UNBLOCKED 0x1000u /* EXIT_EVENT, qualification: by the IRET that faulted */

#define EVENT_TYPE 0x700u
#define EVENT_SOFT_EXCEPTION 0x600u /* INT3, INTO: EXO_VE_EXCEPTION for everybody else */

/* Exit reasons. */
#define X_FAILED 0x80000000u /* the entry */
#define X_EXCEPTION 0
#define X_INTERRUPT 1
#define X_CR 28
#define X_DR 29
#define X_IO 30
#define X_MSR_READ 31
#define X_MSR_WRITE 32
#define X_EPT 48
#define X_MACHINE_CHECK 41 /* of an entry that failed */
#define X_TIMER 52

/* The words of controls, by where what is allowed stands. */
enum { PIN_WORD, PRIMARY_WORD, SECONDARY_WORD, EXIT_WORD, ENTRY_WORD, CONTROLS };
static const struct {
    enum field field;
    uint32_t msr, wanted, optional;
} control_words[CONTROLS] = {
    {PIN, 0x48d, PIN_WANTED, PIN_OPTIONAL},
    {PRIMARY, 0x48e, PRIMARY_WANTED, PRIMARY_MONITOR},
    {SECONDARY, 0x48b, SECONDARY_WANTED, SECONDARY_OPTIONAL},
    {EXIT_CONTROLS, 0x48f, EXIT_WANTED, 0},
    {ENTRY_CONTROLS, 0x490, ENTRY_WANTED, 0},
};

_Static_assert(sizeof(struct vmx) <= sizeof((struct vcpu *)0)->machine, "vcpu.machine");
_Static_assert(offsetof(struct vcpu, machine) % 16 == 0, "alignment of MSR lists");
static const uint32_t switched_msrs[GUEST_MSRS] = {MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_FMASK,
                                                   MSR_KERNEL_GS_BASE};

static struct {
    uint32_t revision, word[CONTROLS];
    uint64_t eptp;
} controls;
static const struct thread *loaded[EXO_MAX_CPUS]; /* whose VMCS is current */

/* vmenter.S */
void vmx_run(struct thread *t) __attribute__((noreturn));
void vmx_exited(void);
/* ... calls these, on the kernel stack */
int vmx_exit(struct thread *t);
void vmx_failed(struct thread *t);

static struct vmx *vmx_of(struct vcpu *v) { return (struct vmx *)v->machine; }

static uint64_t vmread(unsigned field)
{
    uint64_t value;
    __asm__ volatile("vmread %1, %0" : "=rm"(value) : "r"((uint64_t)field) : "cc");
    return value;
}

static void vmwrite(unsigned field, uint64_t value)
{
    __asm__ volatile("vmwrite %1, %0" : : "r"((uint64_t)field), "rm"(value) : "cc");
}

/* Makes t's VMCS the current one of this CPU. */
static void vmcs_load(const struct thread *t)
{
    uint64_t phys = control_block_phys(t);
    const struct thread **current = &loaded[percpu()->id];
    if (*current == t) return;
    __asm__ volatile("vmptrld %0" : : "m"(phys) : "cc", "memory");
    *current = t;
    if (percpu()->guest_in != t) percpu()->guest_in = NULL;
}

/* ---- at boot ------------------------------------------------------------------------------ */

/* Each word: what is wanted, what is optional and there, what must be. False, with a
 * message, when something wanted is missing. */
static bool controls_find(void)
{
    for (unsigned i = 0; i < CONTROLS; i++) {
        uint64_t allowed = msr_read(control_words[i].msr);
        uint32_t ones = (uint32_t)(allowed >> 32), *word = &controls.word[i];
        *word = control_words[i].wanted | (control_words[i].optional & ones) | (uint32_t)allowed;
        if ((*word & ~ones) != 0) {
            kprintf("VT-x lacks controls %x of MSR %x\n", *word & ~ones, control_words[i].msr);
            return vm_none("this VT-x lacks what is needed");
        }
    }
    return true;
}

static bool vmx_probe(struct vm_caps *caps)
{
    if (!cpu_has(1, 2, 5)) return vm_none("this CPU has neither AMD-V nor VT-x");
    uint64_t basic = msr_read(MSR_VMX_BASIC);
    controls.revision = (uint32_t)basic & 0x7fffffff;
    if ((basic & BASIC_TRUE) == 0) return vm_none("this VT-x is too old: no unrestricted guest");
    if (!controls_find()) return false;
    uint64_t ept = msr_read(MSR_VMX_EPT_VPID);
    if ((ept & EPT_NEEDED) != EPT_NEEDED) return vm_none("this EPT lacks what is needed");
    if ((ept & EPT_1G) == 0) huge_pages = false;
    caps->kind = EXO_VM_VMX;
    caps->asids = 0x10000;
    caps->cr4_allowed &= msr_read(MSR_VMX_CR4_FIXED1) & ~CR4_VMXE;
    caps->ept = true;
    bool marks = (ept & EPT_AD) != 0;
    controls.eptp = EPTP_WB_4 | (marks ? EPTP_AD : 0);
    kprintf("virtualization: VT-x with EPT%s, %u VPIDs\n",
            marks ? " (accessed and dirty bits)" : "", caps->asids);
    return true;
}

static bool vmx_cpu_start(struct percpu *p)
{
    uint64_t feature = msr_read(MSR_FEATURE_CONTROL);
    if ((feature & FEATURE_LOCK) == 0)
        msr_write(MSR_FEATURE_CONTROL, feature | FEATURE_LOCK | FEATURE_VMX);
    else if ((feature & FEATURE_VMX) == 0)
        return false;
    *(uint32_t *)phys_ptr(p->guest_pages) = controls.revision;
    cr4_write(cr4_read() | CR4_VMXE);
    __asm__ volatile("vmxon %0" : : "m"(p->guest_pages) : "cc", "memory");
    return true;
}

/* ---- the control block: constant parts ------------------------------------------------------ */

/* The preemption timer ends guest mode after part of a time slot. The host's interrupts do
 * that anyway, but not in Bochs 2.7 in a guest that was entered with interrupts off and
 * leaves them off. */
#define TIMER_PARTS 8

static void controls_write(const struct thread *t)
{
    const struct env *e = &envs[t->env];
    uint64_t maps = (uint64_t)(t->env + 3 + e->tables) * EXO_PAGE;
    uint64_t lists = (uint64_t)(t->self + 2) * EXO_PAGE + offsetof(struct vcpu, machine);
    static const uint16_t zeros[] = {
        PAGE_FAULT_MASK, PAGE_FAULT_MATCH, CR3_TARGETS, DEBUGCTL, INTERRUPTIBILITY, ACTIVITY,
        PENDING_DEBUG,   HOST_ES,          HOST_DS,     HOST_FS,  HOST_GS,          HOST_FS_BASE};
    for (unsigned i = 0; i < sizeof zeros / sizeof *zeros; i++)
        vmwrite(zeros[i], 0);
    for (unsigned i = 0; i < CONTROLS; i++)
        vmwrite(control_words[i].field, controls.word[i]);
    vmwrite(EXCEPTION_BITMAP, EXCEPTIONS);
    vmwrite(IO_BITMAP_A, maps);
    vmwrite(IO_BITMAP_B, maps + EXO_PAGE);
    vmwrite(MSR_BITMAP, maps + 3ul * EXO_PAGE);
    vmwrite(EPTP, (uint64_t)e->root * EXO_PAGE | controls.eptp);
    vmwrite(LINK, UINT64_MAX);
    if ((controls.word[PIN_WORD] & PIN_OPTIONAL) != 0)
        vmwrite(PREEMPTION_TIMER,
                slot_ticks / TIMER_PARTS >> (msr_read(MSR_VMX_MISC) & MISC_TIMER_RATE));
    vmwrite(CR0_MASK, CR0_CACHES | CR0_NE);
    vmwrite(CR4_MASK, ~vm_caps.cr4_allowed);
    vmwrite(EXIT_STORE, lists + offsetof(struct vmx, guest));
    vmwrite(ENTRY_LOAD, lists + offsetof(struct vmx, guest));
    vmwrite(EXIT_LOAD, lists + offsetof(struct vmx, host));
    vmwrite(EXIT_STORE_COUNT, GUEST_MSRS);
    vmwrite(ENTRY_LOAD_COUNT, GUEST_MSRS);
    vmwrite(EXIT_LOAD_COUNT, HOST_MSRS);
}

/* What the CPU finds after an exit. CR3 is written when it is another one; CR0.TS as trap.c
 * has it after a guest. */
static void host_write(const struct thread *t)
{
    struct percpu *p = percpu();
    struct table_pointer idtr;
    __asm__ volatile("sidt %0" : "=m"(idtr));
    vmwrite(HOST_CS, SEL_KERNEL_CODE);
    vmwrite(HOST_SS, SEL_KERNEL_DATA);
    vmwrite(HOST_TR, SEL_TSS);
    vmwrite(HOST_PAT, msr_read(MSR_PAT));
    vmwrite(HOST_EFER, msr_read(MSR_EFER));
    vmwrite(HOST_CR0, cr0_read() | CR0_TS);
    vmwrite(HOST_CR4, cr4_read());
    vmwrite(HOST_GS_BASE, (uint64_t)p);
    vmwrite(HOST_TR_BASE, (uint64_t)&p->tss);
    vmwrite(HOST_GDTR_BASE, (uint64_t)p->gdt);
    vmwrite(HOST_IDTR_BASE, idtr.base);
    vmwrite(HOST_RSP, (uint64_t)&t->regs.vector); /* the exit pushes the registers there */
    vmwrite(HOST_RIP, (uint64_t)vmx_exited);
}

/* ---- the control block: the guest's state ------------------------------------------------------ */

/* AMD's packed attributes and VT-x's access rights: bits 8-11 there are 12-15 here. */
#define RIGHTS_UNUSABLE 0x10000u

static void segs_get(struct exo_vm_segs *s)
{
    for (unsigned i = 0; i < EXO_SEGS; i++) {
        uint64_t rights = vmread(GUEST_RIGHTS + 2 * i);
        uint64_t present = (rights & RIGHTS_UNUSABLE) != 0 ? 0x7f : 0xff;
        s->seg[i].selector = (uint16_t)vmread(GUEST_SELECTOR + 2 * i);
        s->seg[i].attributes = (uint16_t)((rights & present) | (rights >> 4 & 0xf00));
        s->seg[i].limit = (uint32_t)vmread(GUEST_LIMIT + 2 * i);
        s->seg[i].base = vmread(GUEST_BASE + 2 * i);
    }
}

static void segs_set(const struct exo_vm_segs *s)
{
    for (unsigned i = 0; i < EXO_SEGS; i++) {
        uint64_t a = s->seg[i].attributes;
        vmwrite(GUEST_SELECTOR + 2 * i, s->seg[i].selector);
        vmwrite(GUEST_RIGHTS + 2 * i,
                (a & 0xff) | (a & 0xf00) << 4 | ((a & 0x80) == 0 ? RIGHTS_UNUSABLE : 0));
        vmwrite(GUEST_LIMIT + 2 * i, s->seg[i].limit);
        vmwrite(GUEST_BASE + 2 * i, s->seg[i].base);
    }
}

static void cr_set(struct vmx *x, const struct exo_vm_cr *cr)
{
    vmwrite(GUEST_CR0, (cr->cr0 | vm_caps.cr0_set) & ~vm_caps.cr0_clear);
    vmwrite(CR0_SHADOW, cr->cr0);
    vmwrite(GUEST_CR4, cr->cr4 | CR4_VMXE);
    vmwrite(CR4_SHADOW, cr->cr4);
    vmwrite(ENTRY_CONTROLS,
            controls.word[ENTRY_WORD] | ((cr->efer & EFER_LMA) != 0 ? ENTRY_LONG : 0));
    x->cr2 = cr->cr2;
}

/* Fields that are words of a group as they are. */
#define WORD(structure, member) offsetof(struct structure, member) / 8
static const struct {
    uint32_t group;
    uint16_t field, word;
} plain[] = {{EXO_VG_CR, GUEST_CR3, WORD(exo_vm_cr, cr3)},
             {EXO_VG_CR, GUEST_EFER, WORD(exo_vm_cr, efer)},
             {EXO_VG_PDPTE, GUEST_PDPTE, 0},
             {EXO_VG_PDPTE, GUEST_PDPTE + 2, 1},
             {EXO_VG_PDPTE, GUEST_PDPTE + 4, 2},
             {EXO_VG_PDPTE, GUEST_PDPTE + 6, 3},
             {EXO_VG_SEG, GDTR_LIMIT, WORD(exo_vm_segs, gdtr.limit)},
             {EXO_VG_SEG, GDTR_BASE, WORD(exo_vm_segs, gdtr.base)},
             {EXO_VG_SEG, IDTR_LIMIT, WORD(exo_vm_segs, idtr.limit)},
             {EXO_VG_SEG, IDTR_BASE, WORD(exo_vm_segs, idtr.base)},
             {EXO_VG_DR, GUEST_DR7, WORD(exo_vm_dr, dr7)},
             {EXO_VG_MSR, GUEST_SYSENTER_CS, WORD(exo_vm_msr, sysenter_cs)},
             {EXO_VG_MSR, GUEST_SYSENTER_ESP, WORD(exo_vm_msr, sysenter_esp)},
             {EXO_VG_MSR, GUEST_SYSENTER_EIP, WORD(exo_vm_msr, sysenter_eip)},
             {EXO_VG_MSR, GUEST_PAT, WORD(exo_vm_msr, pat)}};
#define PLAINS (sizeof plain / sizeof *plain)

/* CR0's bits that the kernel forces are as the monitor last set them, to it and to the guest. */
static void vmx_get(struct thread *t, struct vcpu *v, uint32_t group, union vcpu_group *value)
{
    const struct vmx *x = vmx_of(v);
    const uint64_t mask = CR0_CACHES | CR0_NE;
    vmcs_load(t);
    for (unsigned i = 0; i < PLAINS; i++)
        if (plain[i].group == group) ((uint64_t *)value)[plain[i].word] = vmread(plain[i].field);
    if (group == EXO_VG_CR) {
        value->cr.cr0 = (vmread(GUEST_CR0) & ~mask) | (vmread(CR0_SHADOW) & mask);
        value->cr.cr2 = x->cr2;
        value->cr.cr4 = vmread(GUEST_CR4) & vm_caps.cr4_allowed;
    }
    if (group == EXO_VG_DR) value->dr.dr6 = x->dr6;
    if (group == EXO_VG_SEG) segs_get(&value->segs);
    for (unsigned i = 0; i < GUEST_MSRS && group == EXO_VG_MSR; i++)
        (&value->msr.star)[i] = x->guest[i].value;
}

static void vmx_set(struct thread *t, struct vcpu *v, uint32_t group, const union vcpu_group *value)
{
    struct vmx *x = vmx_of(v);
    vmcs_load(t);
    for (unsigned i = 0; i < PLAINS; i++)
        if (plain[i].group == group)
            vmwrite(plain[i].field, ((const uint64_t *)value)[plain[i].word]);
    if (group == EXO_VG_CR) cr_set(x, &value->cr);
    if (group == EXO_VG_DR) x->dr6 = value->dr.dr6;
    if (group == EXO_VG_SEG) segs_set(&value->segs);
    for (unsigned i = 0; i < GUEST_MSRS && group == EXO_VG_MSR; i++)
        x->guest[i] = (struct msr_entry){switched_msrs[i], (&value->msr.star)[i]};
}

_Static_assert(offsetof(struct exo_vm_msr, sysenter_cs) == GUEST_MSRS * 8ul, "as switched_msrs");

static void vmcs_clear(const struct thread *t)
{
    uint64_t phys = control_block_phys(t);
    __asm__ volatile("vmclear %0" : : "m"(phys) : "cc", "memory");
}

static void vmx_init(struct thread *t, struct vcpu *v)
{
    struct vmx *x = vmx_of(v);
    *(uint32_t *)control_block(t) = controls.revision;
    vmcs_clear(t);
    vmcs_load(t);
    controls_write(t);
    host_write(t);
    x->primary = controls.word[PRIMARY_WORD];
    for (unsigned i = 0; i < HOST_MSRS; i++)
        x->host[i] = (struct msr_entry){switched_msrs[i], msr_read(switched_msrs[i])};
    v->flush = 1;
}

static void vmx_forget(struct thread *t, struct vcpu *v)
{
    (void)v;
    vmcs_clear(t);
    if (loaded[percpu()->id] == t) loaded[percpu()->id] = NULL;
}

/* ---- entry ------------------------------------------------------------------------------------------ */

/* In the format that the CPU wants: INT3 and INTO are no hardware exceptions. */
static void event_write(const struct exo_vm_inject *e)
{
    uint32_t event = e->event, kind = event & (EVENT_TYPE | 0xff);
    if ((event & EXO_VE_VALID) == 0) event = 0;
    if (kind == (EXO_VE_EXCEPTION | 3) || kind == (EXO_VE_EXCEPTION | 4))
        event = (event & ~EVENT_TYPE) | EVENT_SOFT_EXCEPTION;
    vmwrite(ENTRY_EVENT, event);
    if (event == 0) return;
    vmwrite(ENTRY_ERROR, e->error);
    vmwrite(ENTRY_LENGTH, e->length);
}

/* What the guest cannot take yet. The trap of a single step is pending exactly when its
 * shadow says so: SDM 27.3.1.5. An NMI is injected behind STI and MOV SS. */
static void blocked_write(const struct thread *t, const struct vcpu *v, struct vmx *x)
{
    bool nmi = (v->inject.event & (EXO_VE_VALID | EVENT_TYPE)) == (EXO_VE_VALID | EXO_VE_NMI);
    bool shadow = v->shadow != 0 && v->shadow_rip == t->regs.rip && !nmi;
    uint32_t blocked = v->nmi_blocked != 0 ? BLOCKED_NMI : 0;
    if (shadow) {
        uint32_t by = x->blocked & BLOCKED_SHADOW;
        blocked |= by != 0 ? by : BLOCKED_STI;
    }
    if (blocked == x->blocked && !shadow) return;
    x->blocked = blocked;
    vmwrite(INTERRUPTIBILITY, blocked);
    vmwrite(PENDING_DEBUG, shadow && (t->regs.rflags & RFLAGS_TF) != 0 ? PENDING_STEP : 0);
}

static void __attribute__((noreturn)) vmx_enter(struct thread *t, struct vcpu *v, bool flush)
{
    struct vmx *x = vmx_of(v);
    const uint64_t cr3 = percpu()->cr3, none[2] = {0, 0};
    vmcs_load(t);
    if (flush) __asm__ volatile("invept %0, %1" : : "m"(none), "r"(INVEPT_ALL) : "cc", "memory");
    if (x->vpid != v->asid) vmwrite(VPID, x->vpid = v->asid);
    if (x->host_cr3 != cr3) vmwrite(HOST_CR3, x->host_cr3 = cr3);
    uint32_t primary = controls.word[PRIMARY_WORD];
    if ((v->window & EXO_WINDOW_INTERRUPT) != 0) primary |= PRIMARY_INTERRUPT_WINDOW;
    if ((v->window & EXO_WINDOW_NMI) != 0) primary |= PRIMARY_NMI_WINDOW;
    if (x->primary != primary) vmwrite(PRIMARY, x->primary = primary);
    vmwrite(GUEST_RIP, t->regs.rip);
    vmwrite(GUEST_RFLAGS, t->regs.rflags);
    vmwrite(GUEST_RSP, t->regs.rsp);
    vmwrite(TSC_OFFSET, v->tsc_offset);
    blocked_write(t, v, x);
    event_write(&v->inject);
    if ((v->dr[5] & 0xff) != 0) dr_load(v);
    cr2_write(x->cr2);
    vmx_run(t);
}

/* ---- exit --------------------------------------------------------------------------------------------- */

/* An event whose delivery the exit interrupted is pending again. A guest's own INT n, INT3,
 * INTO or INT1 is not: the instruction runs again. */
static void event_keep(struct vcpu *v)
{
    struct exo_vm_inject was = v->inject;
    uint32_t event = (uint32_t)vmread(VECTORING_EVENT);
    v->inject = (struct exo_vm_inject){0};
    if ((event & EXO_VE_VALID) == 0) return;
    if ((event & EVENT_TYPE) >= EXO_VE_SOFT) {
        if ((was.event & EXO_VE_VALID) != 0) v->inject = was;
        return;
    }
    v->inject.event = event & (EXO_VE_VALID | EXO_VE_ERROR | EVENT_TYPE | 0xff);
    if ((event & EXO_VE_ERROR) != 0) v->inject.error = (uint32_t)vmread(VECTORING_ERROR);
    if ((event & EVENT_TYPE) == EXO_VE_NMI) v->nmi_blocked = 0;
}

/* An IRET that faulted has unblocked NMIs nevertheless: SDM 28.2.3. */
static void nmi_block_again(struct vcpu *v, uint32_t reason)
{
    uint64_t told = 0;
    if (reason == X_EXCEPTION) told = vmread(EXIT_EVENT);
    if (reason == X_EPT) told = vmread(QUALIFICATION);
    if ((told & NMI_UNBLOCKED) != 0 && (v->inject.event & EXO_VE_VALID) == 0) v->nmi_blocked = 1;
}

/* The host's own NMI or machine check came while the guest ran: the end, as anywhere. */
static void host_exceptions(void)
{
    uint64_t event = vmread(EXIT_EVENT);
    if ((event & EVENT_TYPE) == EXO_VE_NMI) __asm__ volatile("int $2");
    if ((event & 0xff) == 18) __asm__ volatile("int $18");
}

/* An exit leaves limits of 64 KiB; behind the GDT lies what is no descriptor. */
static void gdt_limit(void)
{
    struct percpu *p = percpu();
    struct table_pointer gdtr = {sizeof p->gdt - 1, (uint64_t)p->gdt};
    __asm__ volatile("lgdt %0" : : "m"(gdtr));
}

/* Exits whose number says it all: appendix C. */
static const uint8_t simple[] = {
    [2] = EXO_VX_SHUTDOWN,     [7] = EXO_VX_WINDOW, [8] = EXO_VX_NMI_WINDOW,
    [9] = EXO_VX_TASK,         [10] = EXO_VX_CPUID, [12] = EXO_VX_HLT,
    [13] = INSTR(INVD),        [15] = INSTR(RDPMC), [18] = EXO_VX_HYPERCALL,
    [19 ... 27] = INSTR(VIRT), [36] = INSTR(MWAIT), [39] = INSTR(MONITOR),
    [50] = INSTR(VIRT),        [53] = INSTR(VIRT),  [54] = INSTR(WBINVD),
    [55] = EXO_VX_XSETBV};

/* Table 28-5. */
static uint32_t decode_io(const struct thread *t, uint64_t q, struct exo_vm_exit *exit)
{
    exit->detail[0] = q >> 16 & 0xffff;
    exit->detail[1] = ((q & 7) + 1) | ((q & 8) != 0 ? EXO_PIO_IN : 0) |
                      ((q & 0x10) != 0 ? EXO_PIO_STRING : 0) | ((q & 0x20) != 0 ? EXO_PIO_REP : 0);
    exit->detail[2] = t->regs.rip + exit->length;
    return EXO_VX_PIO;
}

/* Table 28-7: accessed, allowed, linear address known, of the access itself. */
static uint32_t decode_nested(uint64_t q, struct exo_vm_exit *exit)
{
    exit->detail[0] = vmread(GUEST_PHYSICAL);
    exit->detail[1] = (q & 7) | ((q & 0x38) != 0 ? EXO_NX_BOUND : 0);
    if ((q & 0x80) != 0) {
        exit->detail[1] |= EXO_NX_LINEAR | ((q & 0x100) == 0 ? EXO_NX_WALK : 0);
        exit->detail[2] = vmread(GUEST_LINEAR);
    }
    return EXO_VX_NESTED;
}

/* Tables 28-3, 28-4. CLTS and LMSW change nothing that exits. */
static uint32_t decode_register(bool debug, uint64_t q, struct exo_vm_exit *exit)
{
    exit->detail[0] = (q & (debug ? 7 : 15)) | ((q & 0x10) == 0 ? EXO_CRX_WRITE : 0) |
                      EXO_CRX_KNOWN | (q >> 8 & 15) << EXO_CRX_GPR_SHIFT;
    return debug ? EXO_VX_DR : EXO_VX_CR;
}

/* #DB, #AC. DR6 is not written by an exit: its bits are in the qualification. */
static uint32_t decode_exception(struct vmx *x, uint64_t q, struct exo_vm_exit *exit)
{
    uint64_t event = vmread(EXIT_EVENT);
    exit->detail[0] = event & 0xff;
    exit->detail[1] = (event & EXO_VE_ERROR) != 0 ? vmread(EXIT_ERROR) : 0;
    if (exit->detail[0] == 1) x->dr6 = (x->dr6 & ~0xful) | (q & 0x600f);
    return EXO_VX_EXCEPTION;
}

static uint32_t decode(const struct thread *t, struct vmx *x, struct exo_vm_exit *exit)
{
    uint64_t q = vmread(QUALIFICATION);
    if (x->reason == X_EXCEPTION) return decode_exception(x, q, exit);
    if (x->reason == X_EPT) return decode_nested(q, exit);
    if (x->reason >= 10) exit->length = (uint32_t)vmread(EXIT_LENGTH); /* an instruction's */
    if (x->reason == X_CR || x->reason == X_DR) return decode_register(x->reason == X_DR, q, exit);
    if (x->reason == X_IO) return decode_io(t, q, exit);
    if (x->reason == X_MSR_READ || x->reason == X_MSR_WRITE) {
        exit->detail[0] = (uint32_t)t->regs.rcx;
        return x->reason == X_MSR_READ ? EXO_VX_MSR_READ : EXO_VX_MSR_WRITE;
    }
    if (x->reason < sizeof simple / sizeof *simple && simple[x->reason] != 0) {
        exit->detail[0] = simple[x->reason] >> DETAIL;
        return simple[x->reason] & 31;
    }
    exit->detail[0] = x->reason;
    return EXO_VX_OTHER;
}

/* A refused entry left the guest's state as it was. */
static uint32_t vmx_reason(struct thread *t, struct vcpu *v, struct exo_vm_exit *exit)
{
    struct vmx *x = vmx_of(v);
    exit->detail[0] = exit->detail[1] = exit->detail[2] = 0;
    exit->length = 0;
    exit->interrupted = v->inject.event;
    exit->interrupted_error = v->inject.error;
    v->inject = (struct exo_vm_inject){0};
    if ((x->reason & X_FAILED) == 0) return decode(t, x, exit);
    exit->detail[0] = x->reason & ~X_FAILED;
    exit->detail[1] = vmread(QUALIFICATION);
    return EXO_VX_INVALID;
}

/* The reason, for vmenter.S to tell, if nothing special happened or is to happen. */
static uint32_t reason_quick(struct thread *t, struct vcpu *v, const struct vmx *x)
{
    struct exo_vm_exit *exit = &vcpu_page(t)->exit;
    if ((v->shadow | v->nmi_blocked | v->inject.event | v->window | (v->dr[5] & 0xff)) != 0 ||
        v->xcr0 != xcr0 || x->primary != controls.word[PRIMARY_WORD])
        return 0;
    exit->flags = (t->regs.rflags & RFLAGS_IF) != 0 ? EXO_XF_IF : 0;
    uint32_t reason = vmx_reason(t, v, exit);
    if (reason == EXO_VX_HYPERCALL && v->hyper_count == 0) return reason;
    return (REASONS_QUICK >> reason & 1) != 0 ? reason : 0;
}

/* 0: it was an interrupt of the host, which is pending; -1: core has decided; else the reason. */
int vmx_exit(struct thread *t)
{
    struct vcpu *v = vcpu_of(t);
    struct vmx *x = vmx_of(v);
    x->cr2 = cr2_read();
    gdt_limit();
    xcr0_leave(v);
    x->reason = (uint32_t)vmread(EXIT_REASON);
    if (x->reason == (X_FAILED | X_MACHINE_CHECK)) __asm__ volatile("int $18"); /* the host's own */
    if ((x->reason & X_FAILED) != 0) {
        vm_exit(t);
        return -1;
    }
    t->regs.rip = vmread(GUEST_RIP);
    t->regs.rflags = vmread(GUEST_RFLAGS);
    t->regs.rsp = vmread(GUEST_RSP);
    x->blocked = (uint32_t)vmread(INTERRUPTIBILITY);
    v->shadow = x->blocked & BLOCKED_SHADOW;
    v->shadow_rip = t->regs.rip;
    v->nmi_blocked = x->blocked & BLOCKED_NMI;
    event_keep(v);
    if (x->reason == X_INTERRUPT || x->reason == X_TIMER) return 0;
    nmi_block_again(v, x->reason);
    if (x->reason == X_EXCEPTION) host_exceptions();
    uint32_t reason = reason_quick(t, v, x);
    if (reason != 0) return (int)reason;
    vm_exit(t);
    return -1;
}

/* VMLAUNCH or VMRESUME did not try: a control or the host's state is wrong. */
void vmx_failed(struct thread *t)
{
    struct vcpu *v = vcpu_of(t);
    xcr0_leave(v);
    vmx_of(v)->reason = X_FAILED | (uint32_t)vmread(INSTRUCTION_ERROR) << 16;
    vm_exit(t);
}

const struct backend vmx_backend = {
    .probe = vmx_probe,
    .cpu_start = vmx_cpu_start,
    .init = vmx_init,
    .forget = vmx_forget,
    .enter = vmx_enter,
    .reason = vmx_reason,
    .get = vmx_get,
    .set = vmx_set,
    .msr_bits = 1, /* first for reads, then for writes, two blocks of 1 KiB each: SDM 25.6.9 */
    .msr_high = 0x400 * 8,
    .msr_write = 0x800 * 8,
};
