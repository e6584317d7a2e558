/* SPDX-License-Identifier: MIT
 *
 * AMD-V's control block, for svm.c and the offsets in vmenter.S: AMD64 APM vol. 2, appendix B.
 */
#ifndef SVM_H
#define SVM_H

#include "backend.h"

struct vmcb {
    uint16_t cr_read, cr_write, dr_read, dr_write;
    uint32_t exceptions, intercept3, intercept4;
    uint8_t spare0[0x40 - 0x14];
    uint64_t iopm, msrpm, tsc_offset;
    uint32_t asid;
    uint8_t tlb_control, spare1[3];
    uint64_t vintr, shadow, exit_code, exit_info1, exit_info2, exit_event, nested;
    uint8_t spare2[0xa8 - 0x98];
    uint32_t event, event_error;
    uint64_t nested_root;
    uint8_t spare3[0xc8 - 0xb8];
    uint64_t next_rip;
    uint8_t bytes_count, bytes[15];
    uint8_t spare4[0x400 - 0xe0];
    struct exo_vm_seg es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
    uint8_t spare5[0x4cb - 0x4a0], cpl, spare6[4];
    uint64_t efer;
    uint8_t spare7[0x548 - 0x4d8];
    uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;
    uint8_t spare8[0x5d8 - 0x580];
    uint64_t rsp;
    uint8_t spare9[0x5f8 - 0x5e0];
    uint64_t rax, star, lstar, cstar, fmask, kernel_gs, sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t cr2;
    uint8_t spare10[0x668 - 0x648];
    uint64_t pat;
    uint8_t spare11[0x1000 - 0x670];
};
_Static_assert(offsetof(struct vmcb, nested) == 0x90, "VMCB");
_Static_assert(offsetof(struct vmcb, bytes_count) == 0xd0, "VMCB");
_Static_assert(offsetof(struct vmcb, efer) == 0x4d0, "VMCB");
_Static_assert(offsetof(struct vmcb, rax) == 0x5f8, "VMCB");
_Static_assert(offsetof(struct vmcb, pat) == 0x668, "VMCB");
_Static_assert(sizeof(struct vmcb) == 4096, "VMCB");
extern uint32_t length_known; /* mask: an exit leaves next_rip */
#endif
