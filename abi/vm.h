/* SPDX-License-Identifier: MIT
 *
 * The virtualization fault protocol: the page that a virtual CPU shares with its
 * monitor, register groups, reasons, and the format of injected events. The same for
 * AMD-V and VT-x; no control block and no host-physical address is visible in it.
 *
 * A virtual CPU is a thread in an env made with EXO_ENV_VM. Each VM exit is a call that
 * it makes to the gate named by EXO_SET_FAULT. At the gate's entry:
 *   rdi badge, rsi reason (EXO_VX_*), rdx groups filled in, r8 r9 r10 details 0, 1, 2
 * The monitor answers with reply_wait (rdi its event mask, as ever), where
 *   rsi = groups to set from the page, rdx = groups to fill in
 * With groups to fill in the guest is not resumed: the monitor is called again with
 * EXO_VX_MORE. A group with a value that is not allowed is not loaded, nor any after
 * it (lowest bit first): the monitor is called again with EXO_VX_REFUSED. A monitor that
 * keeps the reply keeps the virtual CPU stopped.
 *
 * The kernel trusts nothing in the page: it fetches a group once and checks the copy.
 */
#ifndef EXO_ABI_VM_H
#define EXO_ABI_VM_H

/* ---- objects ------------------------------------------------------------------ */
/* env_make with EXO_ENV_VM takes 3 + tables + EXO_VM_ENV_FRAMES consecutive frames; its
 * address space is the guest's physical memory, bound by page_bind as any other.
 * thread_make in such an env takes EXO_VCPU_FRAMES frames; the second is the page below. */
#define EXO_VM_ENV_FRAMES 5
#define EXO_VCPU_FRAMES 4

/* exo_info.vm */
#define EXO_VM_NONE 0
#define EXO_VM_SVM 1 /* AMD-V with nested paging */
#define EXO_VM_VMX 2 /* VT-x with EPT, VPID, unrestricted guest */

/* ---- groups of registers ---------------------------------------------------------- */
#define EXO_VG_A 0x001 /* rax rcx rdx rbx */
#define EXO_VG_B 0x002 /* rsi rdi rbp r8..r15 */
#define EXO_VG_RIP 0x004 /* rip rflags rsp; shadow can be cleared, not set */
#define EXO_VG_INJECT 0x008 /* event to inject, windows; always reads as what is pending */
#define EXO_VG_CR 0x010 /* control registers, EFER, XCR0 */
#define EXO_VG_PDPTE 0x020 /* VT-x: needed with CR when PAE paging outside long mode changes */
#define EXO_VG_DR 0x040
#define EXO_VG_TIME 0x080 /* offset of the time-stamp counter */
#define EXO_VG_SEG 0x100 /* segment and descriptor-table registers */
#define EXO_VG_MSR 0x200
#define EXO_VG_FPU 0x400 /* XSAVE area, standard format */
#define EXO_VG_ALL 0x7ff
#define EXO_VG_COUNT 11

/* ---- reasons ------------------------------------------------------------------------- */
#define EXO_VX_CPUID 1
#define EXO_VX_HLT 2
#define EXO_VX_PIO 3 /* port; EXO_PIO_*; next rip, 0 unknown */
#define EXO_VX_MSR_READ 4 /* number */
#define EXO_VX_MSR_WRITE 5 /* number; the value is in rdx:rax */
#define EXO_VX_CR 6 /* EXO_CRX_*; LMSW's operand */
#define EXO_VX_DR 7 /* EXO_CRX_*, as for control registers */
#define EXO_VX_NESTED 8 /* guest-physical address; EXO_NX_*; linear address */
#define EXO_VX_HYPERCALL 9
#define EXO_VX_WINDOW 10 /* an interrupt can be taken now */
#define EXO_VX_NMI_WINDOW 11
#define EXO_VX_FORCED 12 /* event bits, cleared from the page */
#define EXO_VX_XSETBV 13
#define EXO_VX_EXCEPTION 14 /* vector; error code; address: #DB, #AC, #MC only */
#define EXO_VX_SHUTDOWN 15 /* triple fault */
#define EXO_VX_INSTR 16 /* EXO_IX_* */
#define EXO_VX_TASK 17 /* task switch */
#define EXO_VX_INVALID 18 /* the CPU refused the guest's state; its code. See must_set */
#define EXO_VX_REFUSED                                                                             \
    19 /* group (a bit number); field, counted from 0 in the group, or ~0: the group
                             itself has to be set first */
#define EXO_VX_MORE 20
#define EXO_VX_OTHER 21 /* an exit that nobody asked for; the CPU's code */
#define EXO_VX_COUNT 32

/* EXO_VX_PIO, detail 1 */
#define EXO_PIO_SIZE 7 /* mask: 1, 2 or 4 */
#define EXO_PIO_IN 8
#define EXO_PIO_STRING 16 /* INS, OUTS: decode the instruction for the rest */
#define EXO_PIO_REP 32

/* EXO_VX_CR and DR, detail 0 */
#define EXO_CRX_NUMBER 15 /* mask: which control or debug register */
#define EXO_CRX_WRITE 16
#define EXO_CRX_CLTS 32
#define EXO_CRX_LMSW 64 /* detail 1: the operand, where EXO_CRX_KNOWN */
#define EXO_CRX_KNOWN 128 /* bits 8..11 name the general register; else decode */
#define EXO_CRX_GPR_SHIFT 8

/* EXO_VX_NESTED, detail 1 */
#define EXO_NX_READ 1
#define EXO_NX_WRITE 2
#define EXO_NX_FETCH 4
#define EXO_NX_BOUND 8 /* something is bound there, with fewer rights */
#define EXO_NX_WALK 16 /* the guest's own page-table walk did it */
#define EXO_NX_LINEAR 32 /* detail 2 is the linear address */

/* EXO_VX_INSTR, detail 0 */
#define EXO_IX_INVD 1
#define EXO_IX_WBINVD 2
#define EXO_IX_MONITOR 3
#define EXO_IX_MWAIT 4
#define EXO_IX_RDPMC 5
#define EXO_IX_VIRT 6 /* an instruction of the virtualization extension itself */
#define EXO_IX_RDTSCP 7
#define EXO_IX_INVPCID 8

/* exit.flags */
#define EXO_XF_SHADOW 1 /* in an interrupt shadow */
#define EXO_XF_IF 2 /* rflags.IF */
#define EXO_XF_NMI 4 /* NMIs are blocked */
#define EXO_XF_BYTES 8 /* exit.bytes holds the instruction */

/* ---- events to inject -------------------------------------------------------------------- */
/* bits 0-7 vector, 8-10 type, 11 an error code is pushed, 31 valid: AMD APM vol. 2, 15.20;
 * Intel SDM vol. 3, 25.8.3. */
#define EXO_VE_VALID 0x80000000u
#define EXO_VE_ERROR 0x800u
#define EXO_VE_INTERRUPT 0x000u /* needs IF and no shadow */
#define EXO_VE_NMI 0x200u /* vector 2 */
#define EXO_VE_EXCEPTION 0x300u
#define EXO_VE_SOFT 0x400u /* INT n; length is that of the instruction */

/* inject.window */
#define EXO_WINDOW_INTERRUPT 1
#define EXO_WINDOW_NMI 2

/* Event bits of a virtual CPU (events of its page) that ask for a window from outside. */
#define EXO_EVENT_WINDOW (1ul << 58)
#define EXO_EVENT_NMI_WINDOW (1ul << 59)

/* ---- MSRs that can be passed (EXO_SET_VPASS): read and written by the guest itself --------- */
#define EXO_VP_STAR 0x001
#define EXO_VP_LSTAR 0x002
#define EXO_VP_CSTAR 0x004
#define EXO_VP_FMASK 0x008
#define EXO_VP_KERNEL_GS 0x010
#define EXO_VP_SYSENTER 0x020 /* CS, ESP, EIP */
#define EXO_VP_PAT 0x040
#define EXO_VP_FS 0x080
#define EXO_VP_GS 0x100
#define EXO_VP_ALL 0x1ff

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

/* ---- segments ------------------------------------------------------------------------------- */
enum { EXO_ES, EXO_CS, EXO_SS, EXO_DS, EXO_FS, EXO_GS, EXO_LDTR, EXO_TR, EXO_SEGS };
/* attributes: type 0-3, S 4, DPL 5-6, P 7, AVL 8, L 9, D/B 10, G 11 (AMD APM vol. 2,
 * 15.5.1, packed form). Not present (bit 7 clear): unusable. */

struct exo_vm_exit {
    uint32_t reason; /* EXO_VX_* */
    uint32_t filled; /* groups */
    uint64_t detail[3];
    uint32_t length; /* of the instruction, 0 unknown */
    uint32_t flags; /* EXO_XF_* */
    uint32_t interrupted; /* event whose delivery was interrupted: inject it again */
    uint32_t interrupted_error;
    uint8_t bytes[16];
};
struct exo_vm_a {
    uint64_t rax, rcx, rdx, rbx;
};
struct exo_vm_b {
    uint64_t rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
};
struct exo_vm_rip {
    uint64_t rip, rflags, rsp;
    uint32_t shadow, spare;
};
struct exo_vm_inject {
    uint32_t event, error, length;
    uint32_t window; /* EXO_WINDOW_* */
};
struct exo_vm_cr {
    uint64_t cr0, cr2, cr3, cr4, efer, xcr0;
};
struct exo_vm_dr {
    uint64_t dr0, dr1, dr2, dr3, dr6, dr7;
};
struct exo_vm_seg {
    uint16_t selector, attributes;
    uint32_t limit;
    uint64_t base;
};
struct exo_vm_dtr {
    uint64_t limit, base;
};
struct exo_vm_segs {
    struct exo_vm_seg seg[EXO_SEGS];
    struct exo_vm_dtr gdtr, idtr;
};
struct exo_vm_msr {
    uint64_t star, lstar, cstar, fmask, kernel_gs, sysenter_cs, sysenter_esp, sysenter_eip, pat;
};

/* The page of a virtual CPU, in the place of an upcall page. */
struct exo_vcpu_page {
    uint64_t events; /* as in an upcall page */
    uint64_t event_mask; /* bits that make the virtual CPU exit at once: EXO_VX_FORCED */
    uint64_t spare0[6];
    struct exo_vm_exit exit; /* offset 64 */
    struct exo_vm_a a; /* 128 */
    struct exo_vm_b b; /* 160 */
    uint64_t spare1;
    struct exo_vm_rip rip; /* 256 */
    struct exo_vm_inject inject; /* 288 */
    uint64_t spare2[2];
    struct exo_vm_cr cr; /* 320 */
    uint64_t spare3[2];
    uint64_t pdpte[4]; /* 384 */
    struct exo_vm_dr dr; /* 416 */
    uint64_t spare4[2];
    uint64_t tsc_offset; /* 480 */
    uint64_t spare5[3];
    struct exo_vm_segs segs; /* 512 */
    uint64_t spare6[4];
    struct exo_vm_msr msr; /* 704 */
    uint64_t spare7[31];
    uint8_t fpu[3072]; /* 1024 */
};

_Static_assert(offsetof(struct exo_vcpu_page, exit) == 64, "vcpu page");
_Static_assert(sizeof(struct exo_vm_exit) == 64, "vcpu page");
_Static_assert(offsetof(struct exo_vcpu_page, b) == 160, "vcpu page");
_Static_assert(offsetof(struct exo_vcpu_page, rip) == 256, "vcpu page");
_Static_assert(offsetof(struct exo_vcpu_page, inject) == 288, "vcpu page");
_Static_assert(offsetof(struct exo_vcpu_page, cr) == 320, "vcpu page");
_Static_assert(offsetof(struct exo_vcpu_page, pdpte) == 384, "vcpu page");
_Static_assert(offsetof(struct exo_vcpu_page, dr) == 416, "vcpu page");
_Static_assert(offsetof(struct exo_vcpu_page, tsc_offset) == 480, "vcpu page");
_Static_assert(offsetof(struct exo_vcpu_page, segs) == 512, "vcpu page");
_Static_assert(offsetof(struct exo_vcpu_page, msr) == 704, "vcpu page");
_Static_assert(offsetof(struct exo_vcpu_page, fpu) == 1024, "vcpu page");
_Static_assert(sizeof(struct exo_vcpu_page) == 4096, "vcpu page");
#endif
#endif
