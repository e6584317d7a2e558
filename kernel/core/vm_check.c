/* SPDX-License-Identifier: MIT
 *
 * What a monitor may set of a virtual CPU's state: pure functions over copies. They refuse
 * what could hurt the host (a value that an instruction of the kernel would fault on, a
 * control block that the CPU refuses) and what the hardware would take but the guest could
 * never have reached. What remains inconsistent between groups a VT-x entry refuses
 * (EXO_VX_INVALID), leaving the state as it was.
 */
#include "vm.h"

#include "thread.h"

/* CR0, XCR0: as in vm.h; Intel SDM vol. 3, 2.6. */
#define CR0_DEFINED 0xe005003full
#define XCR0_X87 1ull
#define XCR0_SSE 2ull
#define XCR0_AVX 4ull
#define XCR0_AVX512 0xe0ull

/*@ assigns \nothing; */
static bool xcr0_allowed(uint64_t v)
{
    if ((v & ~vm_caps.xcr0_allowed) != 0 || (v & XCR0_X87) == 0) return false;
    if ((v & XCR0_AVX) != 0 && (v & XCR0_SSE) == 0) return false;
    if ((v & XCR0_AVX512) == 0) return true;
    return (v & XCR0_AVX512) == XCR0_AVX512 && (v & XCR0_AVX) != 0;
}

/*@ requires \valid_read(cr);
    assigns \nothing; */
static int cr_check(const struct exo_vm_cr *cr)
{
    bool paging = (cr->cr0 & CR0_PG) != 0, wide = paging && (cr->efer & EFER_LME) != 0;
    if ((cr->cr0 & ~CR0_DEFINED) != 0 || (cr->cr0 & (CR0_NW | CR0_CD)) == CR0_NW) return 0;
    if (paging && (cr->cr0 & CR0_PE) == 0) return 0;
    if ((cr->cr3 & ~(vm_caps.phys_mask | 0xfff)) != 0) return 2;
    if ((cr->cr4 & ~vm_caps.cr4_allowed) != 0) return 3;
    if (wide ? (cr->cr4 & CR4_PAE) == 0 : (cr->cr4 & CR4_PCIDE) != 0) return 3;
    if ((cr->efer & ~vm_caps.efer_allowed) != 0 || ((cr->efer & EFER_LMA) != 0) != wide) return 4;
    return xcr0_allowed(cr->xcr0) ? VM_FINE : 5;
}

/* Present ones: P, PWT, PCD, ignored bits 9-11 (Intel SDM vol. 3, 4.4.1). */
/*@ requires \valid_read(pdpte + (0 .. 3));
    assigns \nothing; */
static int pdpte_check(const uint64_t pdpte[4])
{
    /*@ loop invariant 0 <= i <= 4;
        loop assigns i;
        loop variant 4 - i; */
    for (int i = 0; i < 4; i++)
        if ((pdpte[i] & 1) != 0 && (pdpte[i] & ~(vm_caps.phys_mask | 0xe19)) != 0) return i;
    return VM_FINE;
}

/* DR6, DR7: upper halves 0 (Intel SDM vol. 3, 18.2.6); general detect is the kernel's. */
/*@ requires \valid_read(dr);
    assigns \nothing; */
static int dr_check(const struct exo_vm_dr *dr)
{
    if (dr->dr6 >> 32 != 0) return 4;
    return dr->dr7 >> 32 != 0 || (dr->dr7 & 1u << 13) != 0 ? 5 : VM_FINE;
}

/* ---- segments: Intel SDM vol. 3, 27.3.1.2 ---------------------------------------------------- */

#define SEG_TYPE 0xfu
#define SEG_S 0x10u
#define SEG_P 0x80u
#define SEG_L 0x200u
#define SEG_DB 0x400u
#define SEG_G 0x800u

/* The types, a bit each, that a usable segment of each name can have: accessed data and
 * readable code; accessed code or (unrestricted) data; writable data; LDT; busy TSS. */
static const uint16_t types[EXO_SEGS] = {0x88aa, 0xaa08, 0x0088, 0x88aa,
                                         0x88aa, 0x88aa, 0x0004, 0x0808};

/*@ requires \valid_read(s) && name < EXO_SEGS;
    assigns \nothing; */
static bool segment_allowed(unsigned name, const struct exo_vm_seg *s)
{
    bool wide = name == EXO_FS || name == EXO_GS || name >= EXO_LDTR;
    if (s->attributes >> 12 != 0 || !canonical(s->base)) return false;
    if ((s->attributes & SEG_P) == 0) return name != EXO_TR && name != EXO_CS;
    if (!wide && s->base >> 32 != 0) return false;
    if (name == EXO_CS && (s->attributes & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB)) return false;
    if (name >= EXO_LDTR && (s->selector & 4) != 0) return false;
    if ((s->attributes & SEG_G) != 0 ? (s->limit & 0xfff) != 0xfff : s->limit >> 20 != 0)
        return false;
    return ((s->attributes & SEG_S) != 0) == (name < EXO_LDTR) &&
           (types[name] >> (s->attributes & SEG_TYPE) & 1) != 0;
}

/*@ requires \valid_read(segs);
    assigns \nothing; */
static int segs_check(const struct exo_vm_segs *segs)
{
    /*@ loop invariant 0 <= i <= EXO_SEGS;
        loop assigns i;
        loop variant EXO_SEGS - i; */
    for (unsigned i = 0; i < EXO_SEGS; i++)
        if (!segment_allowed(i, &segs->seg[i])) return (int)i;
    if (segs->gdtr.limit > 0xffff || !canonical(segs->gdtr.base)) return EXO_SEGS;
    if (segs->idtr.limit > 0xffff || !canonical(segs->idtr.base)) return EXO_SEGS + 1;
    return VM_FINE;
}

/* ---- MSRs, events, FPU --------------------------------------------------------------------------- */

/* Each byte a memory type: 0, 1, 4..7 (Intel SDM vol. 3, 12.12.2). */
/*@ assigns \nothing; */
static bool pat_allowed(uint64_t v)
{
    /*@ loop invariant 0 <= i <= 8;
        loop assigns i, v;
        loop variant 8 - i; */
    for (unsigned i = 0; i < 8; i++, v >>= 8)
        if ((v & 0xff) > 7 || (v & 0xff) == 2 || (v & 0xff) == 3) return false;
    return true;
}

#define MSRS_CANONICAL 0xd6u /* by field: LSTAR, CSTAR, KERNEL_GS, SYSENTER_ESP, EIP */
#define MSRS_NARROW 0x28u /* FMASK, SYSENTER_CS: 32 bits */

/*@ requires \valid_read(msr);
    assigns \nothing; */
static int msr_check(const struct exo_vm_msr *msr)
{
    const uint64_t *value = &msr->star;
    /*@ loop invariant 0 <= i <= 8;
        loop assigns i;
        loop variant 8 - i; */
    for (int i = 0; i < 8; i++) {
        if ((MSRS_CANONICAL >> i & 1) != 0 && !canonical(value[i])) return i;
        if ((MSRS_NARROW >> i & 1) != 0 && value[i] >> 32 != 0) return i;
    }
    return pat_allowed(msr->pat) ? VM_FINE : 8;
}

int group_check(uint32_t group, const union vcpu_group *value)
{
    return group == EXO_VG_CR      ? cr_check(&value->cr)
           : group == EXO_VG_PDPTE ? pdpte_check(value->pdpte)
           : group == EXO_VG_DR    ? dr_check(&value->dr)
           : group == EXO_VG_SEG   ? segs_check(&value->segs)
                                   : msr_check(&value->msr);
}

/* The exceptions that push an error code: #DF #TS #NP #SS #GP #PF #AC. */
#define ERROR_VECTORS 0x27d00u
#define EVENT_DEFINED (EXO_VE_VALID | EXO_VE_ERROR | 0x7ff)

/* Of a valid event: AMD64 APM vol. 2, 15.20; Intel SDM vol. 3, 27.2.1.3. */
/*@ requires \valid_read(e);
    assigns \nothing; */
static int event_check_one(const struct exo_vm_inject *e, uint32_t flags, uint64_t cr0)
{
    uint32_t vector = e->event & 0xff, type = e->event & 0x700;
    bool error = (e->event & EXO_VE_ERROR) != 0, push = false;
    if ((e->event & ~EVENT_DEFINED) != 0) return 0;
    switch (type) {
    case EXO_VE_INTERRUPT:
        if ((flags & EXO_XF_IF) == 0 || (flags & EXO_XF_SHADOW) != 0) return 0;
        break;
    case EXO_VE_NMI:
        if (vector != 2 || (flags & EXO_XF_NMI) != 0) return 0;
        break;
    case EXO_VE_EXCEPTION:
        if (vector > 30 || vector == 2) return 0;
        push = (ERROR_VECTORS >> vector & 1) != 0 && (cr0 & CR0_PE) != 0;
        if (vm_caps.kind == EXO_VM_VMX && (vector == 3 || vector == 4) && e->length == 0) return 2;
        break;
    case EXO_VE_SOFT:
        if (e->length == 0) return 2;
        break;
    default:
        return 0;
    }
    if (error != push) return 0;
    if (error && e->error >> 15 != 0) return 1;
    return e->length > 15 ? 2 : VM_FINE;
}

int inject_check(const struct exo_vm_inject *inject, uint32_t flags, uint64_t cr0)
{
    if ((inject->event & EXO_VE_VALID) != 0) {
        int field = event_check_one(inject, flags, cr0);
        if (field != VM_FINE) return field;
    }
    return (inject->window & ~(uint32_t)(EXO_WINDOW_INTERRUPT | EXO_WINDOW_NMI)) != 0 ? 3 : VM_FINE;
}

/* Standard format: XSTATE_BV, then XCOMP_BV and reserved words (Intel SDM vol. 1, 13.4.2). */
int fpu_check(const uint64_t header[8], uint32_t mxcsr)
{
    if ((header[0] & ~vm_caps.xcr0_allowed) != 0) return 0;
    /*@ loop invariant 1 <= i <= 8;
        loop assigns i;
        loop variant 8 - i; */
    for (int i = 1; i < 8; i++)
        if (header[i] != 0) return i;
    return mxcsr >> 16 != 0 ? 8 : VM_FINE;
}
