/* SPDX-License-Identifier: MIT
 *
 * The contract between the exokernel and everything above it: types, constants
 * and the layout of the pages that both sides touch. The calls themselves are
 * listed in abi/calls.list, from which numbers, table, stubs, names, the
 * fuzzer's grammar and the reference page are made.
 *
 * This header is plain C11 (and, above the line "C only", plain assembler). It
 * includes nothing of the kernel.
 */
#ifndef EXO_ABI_H
#define EXO_ABI_H

#define EXO_ABI_VERSION 1

/* Call numbers are EXO_CALL_BASE + index: neither Linux (0..600, and the x32
 * bit 0x40000000) nor Xen (0..63) has any number here. Every other value of RAX
 * is reflected to the thread's own upcall handler. */
#define EXO_CALL_BASE 0x45580000

/* ---- kinds of capability --------------------------------------------- */
#define EXO_NONE 0
#define EXO_FRAMES 1 /* names: physical page numbers */
#define EXO_SLOTS 2 /* names: cpu * EXO_SLOTS_PER_CPU + position */
#define EXO_IRQS 3 /* names: interrupt lines, EXO_IRQ_* */
#define EXO_PORTS 4 /* names: x86 I/O ports */
#define EXO_DEVICES 5 /* names: PCI functions (reserved: no call takes it yet) */
#define EXO_ENV 6 /* object: protection domain */
#define EXO_THREAD 7 /* object: execution context */
#define EXO_GATE 8 /* (thread, entry, badge) */
#define EXO_EVENT 9 /* (thread, bit mask) */
#define EXO_KINDS 10

/* ---- rights, by kind --------------------------------------------------- */
/* frames */
#define EXO_R 0x01 /* may be bound readable */
#define EXO_W 0x02 /* may be bound writable */
#define EXO_X 0x04 /* may be bound executable */
#define EXO_OBJECT 0x08 /* may become page tables and kernel objects */
#define EXO_LARGE_2M 0x100 /* page_bind: not a right but a size */
#define EXO_LARGE_1G 0x200
/* env */
#define EXO_ENV_BIND 0x01 /* bind into its address space, make threads in it */
#define EXO_ENV_INTO 0x02 /* put capabilities into its empty selectors */
#define EXO_ENV_FROM 0x04 /* use capabilities of its table as a source */
#define EXO_ENV_DESTROY 0x08 /* delete and revoke in its table */
/* thread */
#define EXO_THREAD_CONTROL 0x01 /* start, stop, read, write, make gates and events */
#define EXO_THREAD_YIELD 0x02 /* yield_to */
#define EXO_THREAD_SLOT 0x04 /* bind time slots to it */
/* gate, event */
#define EXO_GATE_CALL 0x01
#define EXO_EVENT_SIGNAL 0x01
/* slots, irqs, ports */
#define EXO_USE 0x01
#define EXO_RIGHTS_ALL 0x0f

/* ---- limits ------------------------------------------------------------ */
#define EXO_MAX_CPUS 32
#define EXO_SLOTS_PER_CPU 64
#define EXO_SLOT_US 1000 /* length of a time slot, microseconds */
#define EXO_SEL_MAX 16384 /* selectors of one env: what a PTE can remember */
#define EXO_TAB_MAX 256 /* capability-table frames of one env */
#define EXO_TAB_CAPS 64 /* capabilities in one table frame */
#define EXO_LIST_MAX 64 /* entries of a batch */
#define EXO_RANGE_MAX 512 /* pages of one range call; more is done in steps */
#define EXO_CHAIN_MAX 8 /* depth of a chain of calls */
#define EXO_DEPTH_MAX 65000 /* depth of derivation */
#define EXO_VA_END 0x00007ffffffff000 /* lower half; its last page is never bound */
#define EXO_PAGE 4096

/* Selectors that mean something by convention of the kernel */
#define EXO_SELF 0 /* as an env argument: the caller's own env. Selector 0 is never used. */

/* A reference names a selector in a table: low half the selector, high half a
 * selector of the caller that holds the env (EXO_SELF: its own table). */
#define EXO_REF(env, sel) (((unsigned long)(env) << 32) | (unsigned long)(sel))

/* ---- interrupt names ---------------------------------------------------- */
/* 0..23 (and up): global system interrupts of the I/O APICs. */
#define EXO_IRQ_COUNT 192

/* ---- events -------------------------------------------------------------- */
/* Bits 0..59 are the owner's to give meaning. */
#define EXO_EVENT_SLICE (1ul << 61) /* the slice ends soon (asked for by thread_set) */
#define EXO_EVENT_REVOKE (1ul << 62) /* a record was put into the repossession vector */
#define EXO_EVENT_KERNEL (3ul << 61) /* bits that no event capability may carry */

/* ---- vectors in an upcall frame -------------------------------------------- */
/* 0..31: the CPU's exceptions (Intel SDM vol. 3, 6.15). Then ours: */
#define EXO_UP_SYSCALL 32 /* a system call that is not ours; its number in frame->rax */
#define EXO_UP_EVENT 33 /* events & event_mask is not zero */

/* thread_set: what */
#define EXO_SET_UPCALL 0 /* a = entry, b = stack pointer; 0 entry: no handler */
#define EXO_SET_FAULT                                                                              \
    1 /* a = selector of the target's own table: a gate or event
                               of the target env told of faults the thread cannot take */
#define EXO_SET_RECEIVE 2 /* a = selector where a handed-over capability goes, 0 none */
#define EXO_SET_REVOKE 3 /* this thread takes its env's EXO_EVENT_REVOKE */
#define EXO_SET_SLICE                                                                              \
    4 /* a = microseconds of warning before a slice ends, 0 none;
                               at most EXO_SLOT_US / 2 */
/* of a virtual CPU (abi/vm.h): */
#define EXO_SET_VMASK 5 /* a = reason, b = groups filled in when it exits for it */
#define EXO_SET_VPASS 6 /* a = MSRs passed to the guest, EXO_VP_* */
#define EXO_SET_VHYPER                                                                             \
    7 /* a = first selector, b = count: gates and events of
                               its env that the guest may use by hypercall; count 0: none */

/* thread states, as thread_info and the exposed tables show them */
#define EXO_T_STOPPED 0 /* not started, or stopped */
#define EXO_T_READY 1 /* runs or could run */
#define EXO_T_EVENT 2 /* in event_wait */
#define EXO_T_WAIT 3 /* in reply_wait: its gates can be called */
#define EXO_T_CALLING 4 /* called, being served */
#define EXO_T_QUEUED 5 /* called a busy gate */
#define EXO_T_FAULTED 6 /* stopped by a fault that its event was told of */

/* slot_bind flags */
#define EXO_SLOT_FIRM 1 /* never displaced by a woken thread's credit */

/* env_make flags */
#define EXO_ENV_VM 1 /* a virtual machine: see abi/vm.h */

/* ---- errors ------------------------------------------------------------------ */
/* Every call returns a value >= 0, or the negative of one of these. */
#define EXO_E_CALL 1 /* no such call */
#define EXO_E_SEL 2 /* selector out of the table, or empty */
#define EXO_E_KIND 3 /* capability of another kind */
#define EXO_E_RIGHTS 4 /* the capability lacks a right this needs */
#define EXO_E_RANGE 5 /* names outside the capability, or a range that overflows */
#define EXO_E_ARG 6 /* an argument outside its documented values */
#define EXO_E_VA 7 /* virtual address not the user's, or not aligned */
#define EXO_E_FULL 8 /* the destination selector is not empty */
#define EXO_E_BUSY 9 /* has children or bindings, or is in other use */
#define EXO_E_TYPE 10 /* the frame's type does not allow this */
#define EXO_E_NOPT 11 /* a page table on the way is missing */
#define EXO_E_BOUND 12 /* something is bound there already */
#define EXO_E_NONE 13 /* nothing is bound there */
#define EXO_E_AGAIN 14 /* a bounded step was done, more remain: call again */
#define EXO_E_DYING 15 /* being revoked or destroyed */
#define EXO_E_CPU 16 /* the thread belongs to another CPU */
#define EXO_E_DEPTH 17 /* chain of calls or derivations too deep */
#define EXO_E_LOOP 18 /* the call would wait for itself */
#define EXO_E_TIME 19 /* the deadline passed */
#define EXO_E_DEAD 20 /* the peer died before it replied */
#define EXO_E_STATE 21 /* the thread is in a state that does not allow this */
#define EXO_E_LIMIT 22 /* a counter or table would overflow */
#define EXO_E_NOVM 23 /* this CPU has no hardware virtualization that the kernel can use */

#ifndef __ASSEMBLER__
/* ==== C only ======================================================================= */
#include <stddef.h>
#include <stdint.h>

/* What an interrupted context needs besides the registers that the handler
 * finds untouched. rax is stored by the handler and loaded by upcall_return. */
struct exo_frame {
    uint64_t rip;
    uint64_t rflags;
    uint64_t rsp;
    uint64_t rcx;
    uint64_t r11;
    uint64_t rax;
    uint64_t vector; /* 0..31, EXO_UP_* */
    uint64_t error; /* the CPU's error code, or 0 */
    uint64_t addr; /* CR2 of a page fault; events taken by EXO_UP_EVENT; else 0 */
};

/* All of a thread's user registers, for thread_read and thread_write. */
struct exo_regs {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint64_t rip, rflags, rsp;
    uint64_t fs_base, gs_base;
    uint64_t vector, error, addr; /* of the fault that stopped it; not written */
};

struct exo_batch {
    uint64_t va;
    uint64_t frame; /* page_bind_list only */
};

/* The upcall page: one a thread, shared between it and the kernel. The kernel
 * trusts nothing in it: every field is fetched once and checked. */
struct exo_upcall_page {
    uint64_t events; /* pending bits: set by the kernel, cleared by the owner
                            (atomically) or by being waited for */
    uint64_t event_mask; /* bits that are taken as upcalls */
    uint64_t spare0[6];
    struct exo_frame frame; /* offset 64 */
    uint64_t spare1[7];
    struct exo_regs regs; /* offset 192 */
    uint64_t spare2[17];
    struct exo_batch list[EXO_LIST_MAX]; /* offset 512 */
    uint8_t user[2560]; /* offset 1536: the owner's own */
};

/* A record of the repossession vector. */
#define EXO_TAKEN 1 /* the capability is gone */
#define EXO_ASKED 2 /* give back `amount` names by `deadline` or it is taken */
struct exo_record {
    uint32_t what; /* EXO_TAKEN, EXO_ASKED */
    uint32_t kind;
    uint32_t sel;
    uint32_t spare;
    uint64_t base;
    uint64_t count;
    uint64_t amount;
    uint64_t deadline; /* time-stamp counter */
};
#define EXO_RECORDS 84
/* The repossession vector: one page an env, written by the kernel, cleared by
 * the env (which sets `used` back to 0 when it has read the records). */
struct exo_vector {
    uint32_t used; /* records filled */
    uint32_t overflow; /* nonzero: records were lost, the exposed tables are the truth */
    uint64_t spare[7];
    struct exo_record rec[EXO_RECORDS];
};

/* ---- exposed tables -------------------------------------------------------------- */
/* Frame word: one 64-bit word per RAM frame.
 *  bits 0..31  bindings (page-table entries and registered pages)
 *  bits 32..35 type, EXO_FT_*
 *  bits 38..63 owner: frame number of the env it belongs to (typed frames)
 */
#define EXO_FT_PLAIN 0 /* RAM that can be bound */
#define EXO_FT_KERNEL 1 /* the kernel's own: never bound */
#define EXO_FT_TABLE 2 /* a kernel table: bound read-only at most */
#define EXO_FT_DEVICE 3 /* no RAM: device memory or a hole */
#define EXO_FT_PT1 4 /* page tables, by level */
#define EXO_FT_PT2 5
#define EXO_FT_PT3 6
#define EXO_FT_PT4 7
#define EXO_FT_ENV 8
#define EXO_FT_THREAD 9
#define EXO_FT_CAPS 10
#define EXO_FT_VM 11 /* bitmaps and control blocks of virtual machines */
#define EXO_FT_VCPU 12
#define EXO_FW_BINDINGS(w) ((uint32_t)(w))
#define EXO_FW_TYPE(w) ((unsigned)((w) >> 32) & 15u)
#define EXO_FW_OWNER(w) ((uint32_t)((w) >> 38))

/* Time-slot table: cpu * EXO_SLOTS_PER_CPU + position. */
struct exo_slot {
    uint32_t thread; /* frame number of the thread bound here, 0 none */
    uint32_t env; /* the env through whose capability it was bound */
    uint32_t sel;
    uint32_t flags; /* EXO_SLOT_FIRM */
};

/* Interrupt table: one entry an interrupt name. */
struct exo_irq {
    uint32_t thread; /* frame number of the thread told, 0 none */
    uint32_t env;
    uint32_t sel;
    uint32_t masked; /* nonzero: delivered, not yet acknowledged */
    uint64_t bits; /* event bits it sets */
    uint64_t count; /* times delivered */
};

/* Per-CPU counters. */
struct exo_cpu {
    uint32_t online;
    uint32_t current; /* frame number of the running thread, 0 idle */
    uint64_t slices; /* time slots begun */
    uint64_t idle; /* of them with nobody to run */
    uint64_t switches; /* address spaces switched (counting builds only) */
    uint64_t crossings; /* entries into the kernel (counting builds only) */
    uint64_t flushes; /* INVLPG and reloads of CR3 (counting builds only) */
    uint64_t worlds; /* entries into a guest (counting builds only) */
    uint64_t spare;
};

#define EXO_RAM_MAX 32
/* The first page of the exposed tables: mapped at EXO_INFO_VA in root. */
struct exo_info {
    uint32_t magic; /* EXO_INFO_MAGIC */
    uint32_t abi; /* EXO_ABI_VERSION */
    uint64_t tsc_hz;
    uint32_t cpus;
    uint32_t frames; /* RAM frame numbers are below this */
    uint32_t debug; /* nonzero: built with checks */
    uint32_t counting; /* nonzero: built to count switches and crossings */
    uint64_t boot_tsc;
    uint32_t vm; /* EXO_VM_*: abi/vm.h */
    uint32_t vm_spare;
    /* frame numbers and frame counts of the exposed tables */
    uint32_t words_frame, words_count;
    uint32_t slots_frame, slots_count;
    uint32_t irqs_frame, irqs_count;
    uint32_t cpus_frame, cpus_count;
    /* the boot archive (cpio newc), in frames that root holds */
    uint32_t archive_frame, archive_count;
    uint64_t archive_bytes;
    /* root's capabilities at boot: see root/ */
    uint32_t sel_free; /* the first empty selector */
    uint32_t ram_count;
    struct {
        uint32_t sel, base, count, spare;
    } ram[EXO_RAM_MAX]; /* plain RAM, a frames capability each */
    char command_line[512];
};
#define EXO_INFO_MAGIC 0x4f584578u /* "xEXO" */

/* Root's selectors at boot. */
#define EXO_ROOT_ENV 1 /* its own env, all rights */
#define EXO_ROOT_THREAD 2 /* its first thread */
#define EXO_ROOT_MEMORY 3 /* the frames that the kernel used to make and load root */
#define EXO_ROOT_TABLES 4 /* the exposed tables, read-only */
#define EXO_ROOT_SLOTS 5 /* all time slots */
#define EXO_ROOT_IRQS 6 /* all interrupt lines but the kernel's */
#define EXO_ROOT_PORTS 7 /* 7..13: the port ranges that are not the kernel's */
#define EXO_ROOT_ARCHIVE 14 /* the frames of the boot archive */
#define EXO_ROOT_DEVMEM 15 /* device memory below 4 GiB that is not the kernel's */
#define EXO_ROOT_RAM 16 /* EXO_ROOT_RAM + i: plain RAM, exo_info.ram[i] */

/* Where the kernel maps things in root. Root's own image lies where it was linked. */
#define EXO_INFO_VA 0x00007f0000000000 /* exo_info and the exposed tables, in order */
#define EXO_UPCALL_VA 0x00007f8000000000 /* root's first upcall page */
#define EXO_VECTOR_VA 0x00007f8000001000 /* root's repossession vector */
#define EXO_STACK_VA 0x00007f8000010000 /* root's first stack: 16 pages from here */
#define EXO_STACK_PAGES 16

_Static_assert(sizeof(struct exo_frame) == 72, "frame");
_Static_assert(sizeof(struct exo_regs) == 184, "regs");
_Static_assert(offsetof(struct exo_upcall_page, frame) == 64, "upcall page");
_Static_assert(offsetof(struct exo_upcall_page, regs) == 192, "upcall page");
_Static_assert(offsetof(struct exo_upcall_page, list) == 512, "upcall page");
_Static_assert(sizeof(struct exo_upcall_page) == 4096, "upcall page");
_Static_assert(sizeof(struct exo_record) == 48, "record");
_Static_assert(sizeof(struct exo_vector) == 4096, "vector");
_Static_assert(sizeof(struct exo_slot) == 16, "slot");
_Static_assert(sizeof(struct exo_irq) == 32, "irq");
_Static_assert(sizeof(struct exo_cpu) == 64, "cpu");
_Static_assert(sizeof(struct exo_info) <= 4096, "info");
#endif
#endif
