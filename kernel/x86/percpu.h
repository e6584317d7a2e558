/* SPDX-License-Identifier: MIT
 *
 * What each CPU keeps for itself, reached through GS in the kernel. The map of the
 * kernel's part of the address space is in platform.h.
 */
#ifndef PERCPU_H
#define PERCPU_H

#include "platform.h"

/* Interrupt vectors: interrupt name n has vector VECTOR_IRQ + n. */
#define VECTOR_IRQ 0x20
#define VECTOR_TIMER 0xe0
#define VECTOR_IPI 0xe1 /* look at requests and resched */
#define VECTOR_QUIESCE 0xe2 /* take part in a quiesce round */
#define VECTOR_SPURIOUS 0xff

#define SEL_KERNEL_CODE 0x08
#define SEL_KERNEL_DATA 0x10
#define SEL_USER_DATA 0x1b /* STAR wants data before code for SYSRET */
#define SEL_USER_CODE 0x23
#define SEL_TSS 0x28

#ifndef __ASSEMBLER__
#ifdef EXO_COUNTING
#define COUNTED(counter, n) ((counter) += (n)) /* counting builds only */
#else
#define COUNTED(counter, n) ((void)(n))
#endif

#include "../core/core.h"

struct tss { /* Intel SDM vol. 3, 8.7 */
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7]; /* 1 NMI, 2 #DF, 3 #MC, 4 #DB */
    uint64_t reserved2;
    uint16_t reserved3, iopb;
} __attribute__((packed));

struct percpu {
    struct percpu *self;
    uint64_t scratch; /* the user's stack pointer, while the entry path runs */
    struct thread *cur; /* running thread, NULL idle; mirrors core->cur */
    uint64_t stack_top; /* of this CPU's one kernel stack */
    uint64_t cr3; /* the address space loaded; read by other CPUs */
    struct thread *fpu_owner;
    struct cpu *core; /* cpus[id] */
    uint32_t id, apic_id;
    uint32_t ts_set; /* CR0.TS is set */
    uint32_t slow_only; /* debug builds, slow=1: the fast paths are not taken */
    uint64_t round_seen; /* the last quiesce round this CPU took part in */
    struct exo_cpu *shown; /* counters[id]: counting builds */
    /* constants of the assembly paths: thread.state, cpu, slow as one word */
    uint64_t wait_here; /* EXO_T_WAIT on this CPU */
    uint64_t calling_here; /* EXO_T_CALLING on this CPU, nothing slow */
    uint64_t exited_here; /* the same of a virtual CPU that left its guest by the quick path */
    uint64_t window_threads, window_caps, window_upcalls, va_end;
    /* guests: see vm.c */
    uint64_t guest_root; /* thread.cr3 of the virtual CPU last entered; read by other CPUs */
    struct thread *guest_in; /* the virtual CPU last entered, while the FPU state is its own */
    uint64_t guest_pages; /* physical: two pages of the hardware's own */
    uint64_t host_vmcb; /* physical: what AMD-V does not switch of the host's state */
    uint64_t asid_generation;
    uint32_t asid_next;
    uint32_t nested_stale; /* nested translations have to go: set by other CPUs */
    uint64_t tss_pad;
    struct tss tss;
    uint64_t gdt[7];
};
_Static_assert(offsetof(struct percpu, core) == PERCPU_CORE, "this_cpu()");
_Static_assert(offsetof(struct percpu, cur) == PERCPU_CUR, "this_thread()");
_Static_assert(offsetof(struct env, lock) == 0, "lock_env()");
#endif
#endif
