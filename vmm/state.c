/* SPDX-License-Identifier: MIT
 *
 * Registers of a virtual CPU at its beginnings: reset, INIT and SIPI (Intel SDM vol. 3,
 * 10.1.1 and 10.4.4.1), and where a loader wants the first one.
 */
#include "vcpu.h"

#define CR0_PE 1ull
#define CR0_ET 0x10ull
#define CR0_NE 0x20ull
#define CR0_WP 0x10000ull
#define CR0_PG (1ull << 31)
#define CR4_PAE 0x20ull
#define EFER_LME_LMA 0x500ull
#define SIGNATURE 0x00000f61ull /* rdx after reset: a family, no matter which */
#define PAT_RESET 0x0007040600070406ull
#define FCW_RESET 0x037f
#define MXCSR_RESET 0x1f80
#define MXCSR_AT 24

/* Attributes: abi/vm.h. */
#define SEG_CODE16 0x009b
#define SEG_DATA16 0x0093
#define SEG_LDT 0x0082
#define SEG_TSS 0x008b
#define SEG_CODE32 0x0c9b
#define SEG_CODE64 0x0a9b
#define SEG_DATA32 0x0c93

void state_reset(struct vcpu *v, bool all)
{
    struct exo_vcpu_page *p = v->page;
    p->a = (struct exo_vm_a){.rdx = SIGNATURE};
    p->b = (struct exo_vm_b){0};
    p->rip = (struct exo_vm_rip){.rip = 0xfff0, .rflags = 2};
    p->cr = (struct exo_vm_cr){.cr0 = CR0_ET, .xcr0 = 1};
    p->dr = (struct exo_vm_dr){.dr6 = 0xffff0ff0, .dr7 = 0x400};
    for (unsigned i = 0; i < EXO_SEGS; i++)
        p->segs.seg[i] = (struct exo_vm_seg){0, SEG_DATA16, 0xffff, 0};
    p->segs.seg[EXO_CS] = (struct exo_vm_seg){0xf000, SEG_CODE16, 0xffff, 0xffff0000};
    p->segs.seg[EXO_LDTR].attributes = SEG_LDT;
    p->segs.seg[EXO_TR].attributes = SEG_TSS;
    p->segs.gdtr = p->segs.idtr = (struct exo_vm_dtr){0xffff, 0};
    v->set |= EXO_VG_A | EXO_VG_B | EXO_VG_RIP | EXO_VG_CR | EXO_VG_DR | EXO_VG_SEG;
    v->flags = 0;
    v->event = 0;
    if (!all) return;
    p->tsc_offset = v->tsc_offset;
    p->msr = (struct exo_vm_msr){.pat = PAT_RESET};
    memset(p->fpu, 0, sizeof(p->fpu));
    *(uint16_t *)p->fpu = FCW_RESET;
    *(uint32_t *)(p->fpu + MXCSR_AT) = MXCSR_RESET;
    v->set |= EXO_VG_TIME | EXO_VG_MSR | EXO_VG_FPU;
}

void state_sipi(struct vcpu *v, uint8_t vector)
{
    struct exo_vcpu_page *p = v->page;
    p->segs.seg[EXO_CS].selector = (uint16_t)(vector << 8);
    p->segs.seg[EXO_CS].base = (uint64_t)vector << 12;
    p->rip.rip = 0;
    v->set |= EXO_VG_SEG | EXO_VG_RIP;
}

void state_start(struct vcpu *v, const struct vm_start *start)
{
    struct exo_vcpu_page *p = v->page;
    if (start->real_mode) return;
    for (unsigned i = 0; i <= EXO_GS; i++)
        p->segs.seg[i] = (struct exo_vm_seg){0x18, SEG_DATA32, 0xffffffff, 0};
    p->segs.seg[EXO_CS] =
        (struct exo_vm_seg){0x10, start->paging ? SEG_CODE64 : SEG_CODE32, 0xffffffff, 0};
    p->segs.seg[EXO_TR].limit = 0x67;
    p->segs.gdtr = (struct exo_vm_dtr){start->gdt ? 0x1f : 0, start->gdt};
    p->segs.idtr = (struct exo_vm_dtr){0, 0};
    p->cr.cr0 = CR0_PE | CR0_ET;
    if (start->paging) {
        p->cr.cr0 |= CR0_PG | CR0_NE | CR0_WP;
        p->cr.cr3 = start->cr3;
        p->cr.cr4 = CR4_PAE;
        p->cr.efer = EFER_LME_LMA;
    }
    p->a = (struct exo_vm_a){.rax = start->rax, .rbx = start->rbx};
    p->b.rsi = start->rsi;
    p->rip = (struct exo_vm_rip){.rip = start->rip, .rflags = 2, .rsp = start->rsp};
}
