/* SPDX-License-Identifier: MIT
 *
 * The functions of the machine layer, by the file that has them, and the registers
 * of the CPU that it works with.
 */
#ifndef X86_H
#define X86_H

#include "../core/vm.h"
#include "percpu.h"

/* ---- registers ------------------------------------------------------------- */
/* Model-specific registers: Intel SDM vol. 4; AMD APM vol. 2, appendix A. */
#define MSR_APIC_BASE 0x1b
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2APIC 0x800
#define MSR_EFER 0xc0000080
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_CSTAR 0xc0000083
#define MSR_FMASK 0xc0000084
#define MSR_SYSENTER_CS 0x174 /* then ESP, EIP */
#define MSR_PAT 0x277
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102

#define EFER_SCE 0x001ul
#define EFER_NXE 0x800ul

/* Control registers: Intel SDM vol. 3, 2.5; more of them in core/vm.h. */
#define CR0_MP 0x2ul
#define CR0_EM 0x4ul
#define CR0_TS 0x8ul
#define CR0_ET 0x10ul
#define CR0_NE 0x20ul
#define CR0_WP 0x10000ul
#define CR0_AM 0x40000ul
#define CR4_MCE 0x40ul
#define CR4_PGE 0x80ul
#define CR4_OSFXSR 0x200ul
#define CR4_OSXMMEXCPT 0x400ul
#define CR4_UMIP 0x800ul
#define CR4_FSGSBASE 0x10000ul
#define CR4_OSXSAVE 0x40000ul
#define CR4_SMEP 0x100000ul
#define CR4_SMAP 0x200000ul

#define RFLAGS_TF 0x100ul
#define RFLAGS_DF 0x400ul
#define RFLAGS_NT 0x4000ul
#define RFLAGS_AC 0x40000ul

/* Page-table entries of the kernel's own part, besides core.h's: Intel SDM vol. 3, 4.5. */
#define PTE_UNCACHED 0x18ul /* PWT, PCD */
#define PTE_GLOBAL 0x100ul
#define PTE_FRAME 0x000ffffffffff000ul

static inline void invlpg(uint64_t va) { __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory"); }

static inline uint64_t msr_read(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}

static inline void msr_write(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr"
                     :
                     : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
}

struct cpuid {
    uint32_t a, b, c, d;
};

static inline struct cpuid cpuid(uint32_t leaf, uint32_t sub)
{
    struct cpuid r;
    __asm__ volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(sub));
    return r;
}

#define CR_ACCESS(n)                                                                               \
    static inline uint64_t cr##n##_read(void)                                                      \
    {                                                                                              \
        uint64_t v;                                                                                \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v));                                          \
        return v;                                                                                  \
    }                                                                                              \
    static inline void cr##n##_write(uint64_t v)                                                   \
    {                                                                                              \
        __asm__ volatile("mov %0, %%cr" #n : : "r"(v) : "memory");                                 \
    }
CR_ACCESS(0)
CR_ACCESS(2)
CR_ACCESS(3)
CR_ACCESS(4)

static inline struct percpu *percpu(void)
{
    struct percpu *p;
    __asm__("movq %%gs:0, %0" : "=r"(p));
    return p;
}

__attribute__((noreturn)) static inline void cpu_halt(void) /* forever */
{
    for (;;)
        __asm__ volatile("cli; hlt");
}

/* What LGDT, LIDT, SIDT take. */
struct table_pointer {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

/* Where a physical address below nframes * 4096 is seen by the kernel. */
static inline void *phys_ptr(uint64_t phys) { return (void *)(WINDOW_TABLES + phys); }

/* ---- boot.c: what the boot loader told, copied ------------------------------- */
#define BOOT_RANGES 64
#define BOOT_RAM 1 /* usable */
struct boot_range {
    uint64_t base, end; /* bytes */
    uint32_t type; /* as in E820 */
};
struct boot {
    struct boot_range range[BOOT_RANGES];
    unsigned ranges;
    uint64_t archive, archive_bytes; /* physical */
    uint8_t rsdp[36]; /* a copy; ACPI 1.0's has 20 bytes */
    char command_line[512];
};
extern struct boot boot;

/* ---- start.S: physical addresses of the boot tables --------------------------- */
extern const struct boot_tables {
    uint64_t root, windows, image, mmio; /* top table, and one third-level table each */
    uint64_t trampoline, trampoline_bytes;
} boot_tables;

/* ---- memory.c ------------------------------------------------------------------ */
extern uint64_t kernel_cr3; /* top page table with the kernel's part only */
void memory_init(void); /* windows, image, tables; then memory_take works */
void memory_words(void); /* types all frames: no memory_take afterwards */
void memory_seal(void); /* ends the identity map: the windows are as they stay */
uint64_t memory_take(uint64_t pages); /* early RAM below 4 GiB, cleared: physical */
uint32_t memory_take_top(uint32_t count); /* frames from the top of plain RAM */
void *mmio_map(uint64_t phys); /* one uncached page */
void memory_cpu(unsigned cpu); /* maps the CPU's stacks, and takes its guest_pages */
uint64_t stack_top(unsigned cpu, unsigned ist); /* ist 0: the kernel stack */
/* Plain RAM that the kernel did not take, in frames. */
struct ram {
    uint32_t base, count;
};
extern struct ram ram[EXO_RAM_MAX];
extern unsigned ram_count;
extern uint32_t exposed_frame, exposed_count; /* info page and exposed tables */

/* ---- acpi.c ---------------------------------------------------------------------- */
struct acpi_override {
    uint32_t gsi;
    bool set, low, level;
};
struct acpi {
    uint32_t apic_id[EXO_MAX_CPUS];
    unsigned cpus, ioapics, skipped; /* skipped: CPUs beyond EXO_MAX_CPUS */
    struct {
        uint64_t base;
        uint32_t gsi;
    } ioapic[8];
    struct acpi_override isa[16];
};
extern struct acpi acpi;
void acpi_init(void);

/* ---- apic.c ------------------------------------------------------------------------ */
extern uint64_t tsc_hz;
void apic_init(void); /* once: 8259 off, I/O APICs, TSC and timer measured */
void lapic_init(void); /* each CPU */
uint32_t lapic_id(void);
void lapic_eoi(void);
/* Has what is pending looked at again. QEMU can lose, when VMRUN asks for an interrupt window
 * (helper_vmrun changes interrupt_request without a lock), that an interrupt just came. */
void lapic_look(void);
/* One interrupt VECTOR_TIMER at about the TSC value; it may come early when that is
 * far away. A time that has passed: at once. 0: none. */
void lapic_timer_set(uint64_t deadline);
void ipi_send(unsigned cpu, unsigned vector);
void ipi_nmi_others(void); /* for panic */
void ipi_start(uint32_t apic_id, unsigned page); /* INIT, SIPI, SIPI */
void tsc_wait(uint64_t microseconds);

/* ---- cpu.c -------------------------------------------------------------------------- */
extern struct percpu percpus[EXO_MAX_CPUS];
extern uint64_t xcr0; /* FPU state components in use */
extern bool fpu_eager; /* the CPU leaks registers under CR0.TS (LazyFP): switch always */
void cpu_check(void); /* stops with a message if something needed is missing */
bool cpu_has(uint32_t leaf, unsigned reg, unsigned bit); /* CPUID; reg: 0 a .. 3 d */
void cpu_init(unsigned id);
void cpu_enter(void) __attribute__((noreturn)); /* on its own stack to sched_start */

/* ---- vm.c ------------------------------------------------------------------------------ */
void vm_probe(void); /* once, before the CPUs: is there hardware virtualization? */
void vm_cpu_init(struct percpu *p);
/* Into the guest: t is this CPU's current thread. */
void vm_enter(struct percpu *p, struct thread *t) __attribute__((noreturn));

/* ---- smp.c ---------------------------------------------------------------------------- */
void smp_init(void); /* starts the others, which then wait */
void smp_go(void); /* lets them in */

/* ---- serial.c, print.c ------------------------------------------------------------------ */
void serial_init(void);
void serial_put(char c);
void kprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- load.c -------------------------------------------------------------------------------- */
void load_root(void);

/* ---- elsewhere: entry.S, trap.c, sched.c ----------------------------------------------------- */
extern const uint8_t trap_entry[256][16];
void syscall_entry(void);
void sched_start(void) __attribute__((noreturn));
extern volatile uint32_t panicking; /* set before the other CPUs are stopped */

void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int byte, size_t n);
int memcmp(const void *a, const void *b, size_t n);
#endif
