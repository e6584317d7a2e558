/* SPDX-License-Identifier: MIT
 *
 * What a monitor shows of its virtual machine to whoever started it: one page, written by
 * the monitor at any moment and by nobody else. Whoever reads it believes it as far as
 * showing it: the monitor may write what it likes. Ticks are the time-stamp counter's. */
#ifndef VMM_SHARED_H
#define VMM_SHARED_H

#include "../abi/vm.h"

#define VM_CPUS 8

/* Requests and bytes: out of the machine (disk writes, packets sent), and into it. */
struct vm_io {
    uint64_t out, out_bytes;
    uint64_t in, in_bytes;
};
struct vm_shared_cpu {
    uint64_t since; /* it runs, or could, since then; 0: it waits for something */
    uint64_t ticks; /* that it ran or could, before `since` */
    uint64_t exits[EXO_VX_COUNT]; /* by reason */
};
struct vm_shared {
    uint32_t cpus; /* virtual CPUs; 0: the machine is being made */
    uint32_t paused;
    uint64_t memory; /* bytes */
    uint64_t ballooned; /* bytes of it that the balloon has */
    struct vm_io disk, net;
    struct vm_shared_cpu cpu[VM_CPUS];
};
_Static_assert(sizeof(struct vm_shared) <= 4096, "one page");
#endif
