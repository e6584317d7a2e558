/* SPDX-License-Identifier: MIT
 *
 * What a CPU must have, and how each is set up: segments, interrupt gates, control
 * registers, system-call registers. percpus[i] is CPU i's own, but for cr3 and
 * apic_id, which others read.
 */
#include "x86.h"

#define GATE_INTERRUPT 0x8e00ul /* present, 64-bit interrupt gate: SDM vol. 3, 6.14.1 */
#define GATE_USER 0x6000ul /* DPL 3: int3 and into are the user's */
#define FPU_AVX512 0xe0ul
#define FPU_WANTED 0xe7ul /* x87, SSE, AVX, AVX-512: SDM vol. 1, 13.1 */

struct percpu percpus[EXO_MAX_CPUS];
uint64_t xcr0;
bool fpu_eager, huge_pages;
static uint64_t idt[256][2] __attribute__((aligned(16)));
static uint64_t cr4_optional;

/* ---- what is needed ---------------------------------------------------------------- */
static const struct {
    uint32_t leaf;
    uint8_t reg, bit; /* reg: 0 a .. 3 d; CPUID: SDM vol. 2, APM vol. 3 */
    const char *name;
} needed[] = {
    {1, 3, 4, "a time-stamp counter (TSC)"},
    {1, 3, 9, "a local APIC"},
    {1, 2, 26, "XSAVE"},
    {7, 1, 0, "FSGSBASE (Intel: since Ivy Bridge; AMD: since Steamroller)"},
    {0x80000001, 3, 11, "SYSCALL"},
    {0x80000001, 3, 20, "no-execute pages (NX)"},
};

bool cpu_has(uint32_t leaf, unsigned reg, unsigned bit)
{
    if (cpuid(leaf & 0x80000000, 0).a < leaf) return false;
    struct cpuid r = cpuid(leaf, 0);
    const uint32_t regs[] = {r.a, r.b, r.c, r.d};
    return regs[reg] >> bit & 1;
}

void cpu_check(void)
{
    bool good = true;
    for (unsigned i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!cpu_has(needed[i].leaf, needed[i].reg, needed[i].bit)) {
            kprintf("exovisor: this CPU lacks %s\n", needed[i].name);
            good = false;
        }
    if (!good) panic("the kernel cannot run on this CPU");
    xcr0 = ((uint64_t)cpuid(13, 0).d << 32 | cpuid(13, 0).a) & FPU_WANTED;
    if ((xcr0 & FPU_AVX512) != FPU_AVX512) xcr0 &= ~FPU_AVX512;
    huge_pages = cpu_has(0x80000001, 3, 26);
    fpu_eager = cpuid(0, 0).b == 0x756e6547; /* "Genu": Intel, CVE-2018-3665 */
    cr4_optional = (cpu_has(7, 1, 7) ? CR4_SMEP : 0) | (cpu_has(7, 1, 20) ? CR4_SMAP : 0) |
                   (cpu_has(7, 2, 2) ? CR4_UMIP : 0);
}

/* ---- segments and gates ---------------------------------------------------------------- */
static void idt_fill(void)
{
    static const uint8_t ist[256] = {[2] = 1, [8] = 2, [18] = 3, [1] = 4};
    for (unsigned v = 0; v < 256; v++) {
        uint64_t entry = (uint64_t)trap_entry[v];
        uint64_t kind = GATE_INTERRUPT | (v == 3 || v == 4 ? GATE_USER : 0) | ist[v];
        idt[v][0] = (entry & 0xffff) | (uint64_t)SEL_KERNEL_CODE << 16 | kind << 32 |
                    (entry >> 16 & 0xffff) << 48;
        idt[v][1] = entry >> 32;
    }
}

static void segments_load(struct percpu *p)
{
    uint64_t tss = (uint64_t)&p->tss;
    p->gdt[SEL_KERNEL_CODE / 8] = 0x00af9b000000ffff; /* SDM vol. 3, 3.4.5 */
    p->gdt[SEL_KERNEL_DATA / 8] = 0x00cf93000000ffff;
    p->gdt[SEL_USER_DATA / 8] = 0x00cff3000000ffff;
    p->gdt[SEL_USER_CODE / 8] = 0x00affb000000ffff;
    p->gdt[SEL_TSS / 8] =
        (sizeof p->tss - 1) | (tss & 0xffffff) << 16 | 0x89ul << 40 | (tss >> 24 & 0xff) << 56;
    p->gdt[SEL_TSS / 8 + 1] = tss >> 32;
    struct table_pointer gdtr = {sizeof p->gdt - 1, (uint64_t)p->gdt};
    struct table_pointer idtr = {sizeof idt - 1, (uint64_t)idt};
    __asm__ volatile("lgdt %0; lidt %1" : : "m"(gdtr), "m"(idtr));
    __asm__ volatile("pushq %0; leaq 1f(%%rip), %%rax; pushq %%rax; lretq; 1:"
                     :
                     : "i"(SEL_KERNEL_CODE)
                     : "rax", "memory");
    __asm__ volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%ss; mov %1, %%fs; mov %1, %%gs"
                     :
                     : "r"(SEL_KERNEL_DATA), "r"(0));
    __asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
}

static void control_load(void)
{
    cr0_write((cr0_read() | CR0_MP | CR0_NE | CR0_WP) & ~(CR0_EM | CR0_TS | CR0_AM));
    cr4_write(CR4_PAE | CR4_MCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_FSGSBASE | CR4_OSXSAVE |
              cr4_optional);
    __asm__ volatile("xsetbv" : : "c"(0), "a"((uint32_t)xcr0), "d"(0));
    if (cpuid(13, 0).b > sizeof threads->fpu)
        panic("the FPU state of this CPU has %u bytes", cpuid(13, 0).b);
    msr_write(MSR_EFER, msr_read(MSR_EFER) | EFER_SCE | EFER_NXE);
    msr_write(MSR_STAR, (uint64_t)(SEL_KERNEL_DATA | 3) << 48 | (uint64_t)SEL_KERNEL_CODE << 32);
    msr_write(MSR_LSTAR, (uint64_t)syscall_entry);
    msr_write(MSR_CSTAR, 0); /* no 32-bit code segment is ever made */
    msr_write(MSR_SYSENTER_CS, 0); /* SYSENTER: #GP, whatever firmware left there */
    msr_write(MSR_FMASK, RFLAGS_IF | RFLAGS_TF | RFLAGS_DF | RFLAGS_AC | RFLAGS_NT);
}

void cpu_init(unsigned id)
{
    struct percpu *p = &percpus[id];
    if (id == 0) idt_fill();
    p->self = p;
    p->id = id;
    p->stack_top = stack_top(id, 0);
    p->cr3 = kernel_cr3;
    p->tss.rsp[0] = p->stack_top;
    for (unsigned ist = 1; ist <= 4; ist++)
        p->tss.ist[ist - 1] = stack_top(id, ist);
    p->tss.iopb = sizeof p->tss;
    segments_load(p);
    msr_write(MSR_GS_BASE, (uint64_t)p);
    msr_write(MSR_KERNEL_GS_BASE, 0);
    control_load();
    vm_cpu_init(p);
}

/* Leaves the boot tables' translations and the boot stack behind. */
void cpu_enter(void)
{
    struct percpu *p = percpu();
    cr3_write(kernel_cr3);
    cr4_write(cr4_read() | CR4_PGE);
    counters[p->id].online = 1;
    __asm__ volatile("mov %0, %%rsp; xor %%ebp, %%ebp; call sched_start"
                     :
                     : "r"(p->stack_top)
                     : "memory");
    __builtin_unreachable();
}
