/* SPDX-License-Identifier: MIT
 *
 * Interrupt controllers and time: local APICs, I/O APICs, the 8259 (off for good),
 * the time-stamp counter and the local APIC's timer, measured against the PIT.
 * An interrupt name n is a global system interrupt; it has vector VECTOR_IRQ + n,
 * goes to CPU 0, and is masked until somebody binds it.
 * Locking: ioapic_lock guards the index registers; everything else is the CPU's own.
 * Intel SDM vol. 3, chapter 10; 82093AA data sheet (I/O APIC); 8254 data sheet (PIT).
 */
#include "x86.h"

/* Registers; as MSR: MSR_X2APIC + (register >> 4). */
enum { LAPIC_ID = 0x20, LAPIC_TPR = 0x80, LAPIC_EOI = 0xb0, LAPIC_SPURIOUS = 0xf0 };
enum { LAPIC_ICR = 0x300, LAPIC_ICR_HIGH = 0x310, LAPIC_LVT_TIMER = 0x320 };
enum { LAPIC_LVT_LINT0 = 0x350, LAPIC_LVT_LINT1 = 0x360, LAPIC_LVT_ERROR = 0x370 };
enum { LAPIC_TIMER_COUNT = 0x380, LAPIC_TIMER_NOW = 0x390, LAPIC_TIMER_DIVIDE = 0x3e0 };
#define BASE_X2APIC 0x400ul
#define BASE_ENABLE 0x800ul
#define SPURIOUS_ENABLE 0x100u
#define LVT_MASKED 0x10000u
#define LVT_TSC_DEADLINE 0x40000u
#define DIVIDE_BY_1 0xbu
#define DELIVER_NMI 0x400u
#define DELIVER_INIT 0x500u
#define DELIVER_START 0x600u
#define ICR_PENDING 0x1000u
#define ICR_ASSERT 0x4000u
#define ICR_OTHERS 0xc0000u

#define IOAPIC_VERSION 1u
#define IOAPIC_PINS 0x10u /* two registers a pin */
#define PIN_LOW 0x2000u
#define PIN_LEVEL 0x8000u
#define PIN_MASKED 0x10000u

#define PIT_HZ 1193182u
#define PIT_TICKS (PIT_HZ / 100) /* 10 ms */
#define PIT_CHANNEL2 0x42
#define PIT_COMMAND 0x43
#define PIT_GATE 0x61 /* bit 0 gate, bit 1 speaker, bit 5 output of channel 2 */

uint64_t tsc_hz, slot_ticks;
static volatile uint32_t *lapic; /* NULL: x2APIC */
static bool tsc_deadline;
static uint64_t timer_ratio; /* timer ticks a TSC tick, 32.32 */

static struct ioapic {
    volatile uint32_t *at;
    uint32_t gsi, pins;
} ioapic[8];
static uint32_t ioapic_lock;
static uint32_t pin_low[EXO_IRQ_COUNT]; /* low word of each pin's entry, unmasked */

static uint32_t lapic_read(unsigned reg)
{
    return lapic ? lapic[reg / 4] : (uint32_t)msr_read(MSR_X2APIC + (reg >> 4));
}

static void lapic_write(unsigned reg, uint32_t value)
{
    if (lapic)
        lapic[reg / 4] = value;
    else
        msr_write(MSR_X2APIC + (reg >> 4), value);
}

uint32_t lapic_id(void) { return lapic ? lapic_read(LAPIC_ID) >> 24 : lapic_read(LAPIC_ID); }

void lapic_eoi(void) { lapic_write(LAPIC_EOI, 0); }
void lapic_look(void) { lapic_write(LAPIC_TPR, 0); }

static void icr_write(uint32_t apic_id, uint32_t command)
{
    if (!lapic) {
        __asm__ volatile("mfence; lfence" : : : "memory"); /* the write does not order */
        msr_write(MSR_X2APIC + (LAPIC_ICR >> 4), (uint64_t)apic_id << 32 | command);
        return;
    }
    while (lapic_read(LAPIC_ICR) & ICR_PENDING)
        __builtin_ia32_pause();
    lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
    lapic_write(LAPIC_ICR, command);
}

void ipi_send(unsigned cpu, unsigned vector)
{
    icr_write(percpus[cpu].apic_id, ICR_ASSERT | vector);
}

void ipi_cpu(unsigned cpu) { ipi_send(cpu, VECTOR_IPI); }

void ipi_nmi_others(void) { icr_write(0, ICR_OTHERS | ICR_ASSERT | DELIVER_NMI); }

/* Intel SDM vol. 3, 8.4.4.1. */
void ipi_start(uint32_t apic_id, unsigned page)
{
    icr_write(apic_id, ICR_ASSERT | DELIVER_INIT);
    tsc_wait(10000);
    for (int i = 0; i < 2; i++) {
        icr_write(apic_id, ICR_ASSERT | DELIVER_START | page);
        tsc_wait(200);
    }
}

void lapic_timer_set(uint64_t deadline)
{
    if (tsc_deadline) {
        msr_write(MSR_TSC_DEADLINE, deadline);
        return;
    }
    uint64_t count = 0;
    if (deadline) {
        uint64_t time = now(), delta = deadline > time ? deadline - time : 0;
        if (delta > 1ul << 31) delta = 1ul << 31; /* early */
        count = (delta * timer_ratio) >> 32;
        count = count < UINT32_MAX ? count + 1 : UINT32_MAX;
    }
    lapic_write(LAPIC_TIMER_COUNT, (uint32_t)count);
}

void tsc_wait(uint64_t microseconds)
{
    uint64_t start = now(), ticks = microseconds * (tsc_hz / 1000000);
    while (now() - start < ticks)
        __builtin_ia32_pause();
}

/* ---- each CPU ------------------------------------------------------------------- */
void lapic_init(void)
{
    if (!lapic) /* firmware may leave the others in xAPIC mode */
        msr_write(MSR_APIC_BASE, msr_read(MSR_APIC_BASE) | BASE_X2APIC);
    lapic_write(LAPIC_SPURIOUS, SPURIOUS_ENABLE | VECTOR_SPURIOUS);
    lapic_write(LAPIC_LVT_LINT0, LVT_MASKED);
    lapic_write(LAPIC_LVT_LINT1, DELIVER_NMI);
    lapic_write(LAPIC_LVT_ERROR, LVT_MASKED);
    lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
    lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER | (tsc_deadline ? LVT_TSC_DEADLINE : 0));
    __asm__ volatile("mfence" : : : "memory"); /* before the first deadline: SDM 10.5.4.1 */
    lapic_timer_set(0);
    percpu()->apic_id = lapic_id();
}

/* ---- interrupt lines -------------------------------------------------------------- */
static void ioapic_write(struct ioapic *io, uint32_t reg, uint32_t value)
{
    io->at[0] = reg;
    io->at[4] = value;
}

/* Edge and high for ISA lines, level and low for the others, unless overridden. */
static uint32_t pin_mode(uint32_t gsi)
{
    for (unsigned i = 0; i < 16; i++)
        if (acpi.isa[i].set && acpi.isa[i].gsi == gsi)
            return (acpi.isa[i].low ? PIN_LOW : 0) | (acpi.isa[i].level ? PIN_LEVEL : 0);
    return gsi < 16 ? 0 : PIN_LOW | PIN_LEVEL;
}

static void ioapic_init(unsigned i)
{
    struct ioapic *io = &ioapic[i];
    io->at = mmio_map(acpi.ioapic[i].base);
    io->gsi = acpi.ioapic[i].gsi;
    io->at[0] = IOAPIC_VERSION;
    io->pins = (io->at[4] >> 16 & 0xff) + 1;
    for (uint32_t pin = 0; pin < io->pins; pin++) {
        uint32_t gsi = io->gsi + pin;
        uint32_t low = pin_mode(gsi) | (gsi < EXO_IRQ_COUNT ? VECTOR_IRQ + gsi : VECTOR_SPURIOUS);
        if (gsi < EXO_IRQ_COUNT) pin_low[gsi] = low;
        ioapic_write(io, IOAPIC_PINS + 2 * pin, PIN_MASKED | low);
        ioapic_write(io, IOAPIC_PINS + 2 * pin + 1, lapic_id() << 24);
    }
}

static inline void pin_mask(unsigned irq, uint32_t masked)
{
    spin_lock(&ioapic_lock);
    for (unsigned i = 0; i < acpi.ioapics; i++) {
        struct ioapic *io = &ioapic[i];
        if (irq < io->gsi || irq - io->gsi >= io->pins) continue;
        ioapic_write(io, IOAPIC_PINS + 2 * (irq - io->gsi), pin_low[irq] | masked);
    }
    spin_unlock(&ioapic_lock);
}

void irq_mask(unsigned irq) { pin_mask(irq, PIN_MASKED); }

void irq_unmask(unsigned irq) { pin_mask(irq, 0); }

static void pic_disable(void) /* 8259A data sheet: vectors out of the way, all masked */
{
    static const uint8_t init[][2] = {{0x20, 0x11}, {0xa0, 0x11}, {0x21, 0xf0}, {0xa1, 0xf8},
                                      {0x21, 4},    {0xa1, 2},    {0x21, 1},    {0xa1, 1},
                                      {0x21, 0xff}, {0xa1, 0xff}};
    for (unsigned i = 0; i < sizeof init / sizeof *init; i++)
        port_write(init[i][0], 1, init[i][1]);
}

/* ---- time ------------------------------------------------------------------------------ */
/* 10 ms by the PIT: how far the TSC and the local APIC's timer came. */
static void pit_measure(uint64_t *tsc, uint64_t *timer)
{
    port_write(PIT_GATE, 1, (port_read(PIT_GATE, 1) & ~3u) | 1);
    port_write(PIT_COMMAND, 1, 0xb0); /* channel 2, both bytes, mode 0 */
    port_write(PIT_CHANNEL2, 1, PIT_TICKS & 0xff);
    lapic_write(LAPIC_TIMER_COUNT, UINT32_MAX);
    uint64_t start = now();
    port_write(PIT_CHANNEL2, 1, PIT_TICKS >> 8);
    uint32_t before = lapic_read(LAPIC_TIMER_NOW);
    while (!(port_read(PIT_GATE, 1) & 0x20))
        __builtin_ia32_pause();
    *timer = before - lapic_read(LAPIC_TIMER_NOW);
    *tsc = now() - start;
}

static void time_measure(void)
{
    uint64_t tsc = 0, timer = 0;
    for (int i = 0; i < 3; i++) { /* the shortest is the least disturbed */
        uint64_t a, b;
        pit_measure(&a, &b);
        if (!tsc || a < tsc) {
            tsc = a;
            timer = b;
        }
    }
    lapic_write(LAPIC_TIMER_COUNT, 0);
    if (!tsc || !timer) panic("the time-stamp counter or the APIC timer stands still");
    timer_ratio = (timer << 32) / tsc;
    tsc_hz = tsc * PIT_HZ / PIT_TICKS;
    slot_ticks = tsc_hz / 1000000 * EXO_SLOT_US;
}

void apic_init(void)
{
    uint64_t base = msr_read(MSR_APIC_BASE);
    pic_disable();
    if (!(base & BASE_ENABLE)) panic("the local APIC is disabled");
    if (!(base & BASE_X2APIC)) lapic = mmio_map(base & PTE_FRAME);
    tsc_deadline = cpuid(1, 0).c >> 24 & 1;
    for (unsigned i = 0; i < acpi.ioapics; i++)
        ioapic_init(i);
    lapic_write(LAPIC_SPURIOUS, SPURIOUS_ENABLE | VECTOR_SPURIOUS);
    lapic_write(LAPIC_LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
    lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
    time_measure();
}
