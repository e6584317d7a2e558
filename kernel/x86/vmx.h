/* SPDX-License-Identifier: MIT
 *
 * What vmx.c and the offsets in vmenter.S share.
 */
#ifndef VMX_H
#define VMX_H

#include "backend.h"

enum { GUEST_RSP = 0x681c, GUEST_RIP = 0x681e, GUEST_RFLAGS = 0x6820 }; /* SDM, appendix B */

/* In vcpu.machine. */
#define GUEST_MSRS 5
#define HOST_MSRS 4 /* the first of the guest's; KERNEL_GS goes with the threads */
struct msr_entry {
    uint64_t msr, value;
};
struct vmx {
    struct msr_entry guest[GUEST_MSRS], host[HOST_MSRS];
    uint64_t cr2, dr6;
    uint64_t host_cr3; /* these are as the VMCS has them */
    uint32_t vpid, primary, blocked;
    uint32_t reason; /* of the last exit */
};
#endif
