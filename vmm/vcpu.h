/* SPDX-License-Identifier: MIT
 *
 * The monitor's side of a virtual CPU: what its run loop (vcpu.c) and the parts that
 * answer exits (exit.c, emulate.c, cpuid.c, msr.c, report.c) share. Not for device
 * models: vmm.h is theirs.
 */
#ifndef VMM_VCPU_H
#define VMM_VCPU_H

#include "../lib/exo/vm.h"
#include "vmm.h"

/* What a virtual CPU does, as others see it. Changed under the device lock, but for
 * GUEST -> MONITOR at an exit (who misses that kicks once for nothing). */
enum vcpu_state {
    VCPU_MONITOR, /* its exit is being answered */
    VCPU_GUEST, /* runs, or could */
    VCPU_HALTED, /* HLT: waits for an interrupt */
    VCPU_WAIT, /* waits for a SIPI */
    VCPU_PARKED, /* stopped for a reset or the end */
};

/* What the processor itself is at. */
enum vcpu_activity { VCPU_NEW, VCPU_RUNS, VCPU_HLT, VCPU_SIPI };

struct vcpu {
    struct exo_vcpu_page *page;
    uint32_t index;
    volatile uint32_t state; /* enum vcpu_state */
    volatile bool attention; /* something came: look before the reply */
    /* its own thread's: */
    uint32_t activity; /* enum vcpu_activity; others read it under the device lock */
    struct exo_vm_words exit; /* being answered; filled: what the page shows as it is */
    uint32_t length; /* of the instruction, 0 unknown; both as in the page's exit block */
    uint32_t flags; /* EXO_XF_* when it happened; a skipped instruction ends a shadow */
    uint32_t set; /* groups changed in the page, for the reply */
    uint32_t event, event_error, event_length; /* to inject, EXO_VE_*; 0 none */
    uint32_t window, wanted; /* EXO_WINDOW_*: asked for, to be asked for */
    uint64_t armed; /* nanosecond that the thread's timer is set for, 0 off */
    uint64_t tsc_offset;
    /* under the device lock: signals that came */
    bool nmi, init, sipi;
    uint8_t sipi_vector;
    /* constant */
    uint32_t window_event, force_event, wake_event; /* selectors */
    struct exo_vcpu cpu;
    struct exo_task task;
};
extern struct vcpu vcpus[VM_CPUS];

/* Asks the kernel for groups that the page does not show yet. */
void vcpu_need(struct vcpu *v, uint32_t groups);
/* Gives the kernel these groups now. False: refused, and nothing of the last one taken. */
bool vcpu_try(struct vcpu *v, uint32_t groups);
/* The instruction is done: `length` bytes, where the hardware did not tell. */
static inline void vcpu_skip(struct vcpu *v, unsigned length)
{
    struct exo_vm_rip *rip = &v->page->rip;
    rip->rip += v->length ? v->length : length;
    rip->shadow = 0;
    v->flags &= ~EXO_XF_SHADOW;
    v->set |= EXO_VG_RIP;
}
/* An exception for the guest, with an error code, or without. */
void vcpu_fault(struct vcpu *v, unsigned vector, uint32_t error);
void vcpu_fault_plain(struct vcpu *v, unsigned vector);
uint64_t vcpu_tsc_offset(unsigned cpu);
/* Its earliest timer is another one. Under the device lock. */
void vcpu_timer_changed(unsigned cpu);
/* The virtual CPU whose thread calls, NULL: the first thread. */
struct vcpu *vcpu_current(void);

/* vcpu.c, for main.c. Makes virtual CPU number index, on a CPU; in order of number. */
#define EV_WAKE 1ul /* to a virtual CPU's thread: look again */
#define EV_TIMER 2ul
#define EV_MAIN (1ul << 39) /* to the first thread: the machine's state changed */
long vcpu_make(unsigned index, unsigned cpu);
/* Starts all, or starts them anew after an end for which all have parked. */
long vcpus_start(const struct vm_start *start);
bool vcpus_parked(void);
enum vm_end { VM_RUNS, VM_OFF, VM_RESET, VM_FAILED };
enum vm_end vm_end(void);
void vm_ended(enum vm_end how); /* all virtual CPUs park, then EV_MAIN */

/* state.c: registers in the page, and in v->set. all: of power-on, not of INIT. */
void state_reset(struct vcpu *v, bool all);
void state_sipi(struct vcpu *v, uint8_t vector);
void state_start(struct vcpu *v, const struct vm_start *start);

/* main.c: what the monitor itself has to say, where the guest's output goes. */
void monitor_write(const char *text, size_t length);

/* exit.c: answers the exit in v; true when the guest halts. */
bool exit_handle(struct vcpu *v);
/* emulate.c */
void emulate_memory(struct vcpu *v); /* an access to device memory */
void emulate_string_io(struct vcpu *v);
void emulate_cr(struct vcpu *v);
/* The instruction at rip: bytes there are; fills bytes[INSN_MAX]. */
unsigned emulate_fetch(struct vcpu *v, uint8_t bytes[]);

/* cpuid.c, msr.c */
void cpuid_init(unsigned cpus);
void cpuid_exit(struct vcpu *v);
/* True where the guest may see this feature: leaf, register (0 eax..3 edx), bit. */
bool cpuid_has(uint32_t leaf, unsigned reg, unsigned bit);
void msr_reset(void);
void msr_read_exit(struct vcpu *v);
void msr_write_exit(struct vcpu *v);

/* report.c: registers and the instruction of a virtual CPU, for a guest that ends. */
void report_vcpu(struct vcpu *v);
const char *reason_name(uint32_t reason);

/* memory.c */
extern struct exo_vm memory_vm; /* the VM's env, and frames for its virtual CPUs */
long memory_init(uint64_t bytes, unsigned cpus);
void memory_clear(void); /* all RAM zero again */
long memory_fault(uint64_t address); /* 0: bound now; -EXO_E_RANGE: no RAM there */
/* Image, visible read-only at that address besides; up to 4 GiB, once. */
long memory_rom(uint64_t address, const void *data, uint64_t bytes);
uint64_t memory_given(void); /* pages that the balloon took */

/* timer.c */
void time_init(uint64_t hz, uint64_t wall);
void time_wall_set(uint64_t wall);
uint64_t time_base(void); /* host's counter when the machine was made */
uint64_t time_host_tsc(uint64_t at); /* the host's counter at that nanosecond */
uint64_t timer_next(unsigned cpu); /* nanosecond of its earliest timer, 0 none */
void timers_run(unsigned cpu);

/* io.c: nobody is anywhere again. */
void io_reset(void);
#endif
