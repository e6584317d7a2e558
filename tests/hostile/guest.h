/* SPDX-License-Identifier: MIT
 *
 * What the parts of the hostile guest share: its serial port, its interrupts, its APIC. */
#ifndef HOSTILE_GUEST_H
#define HOSTILE_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRAMPOLINE 0x7000
#define LAPIC 0xfee00000u
#define IOAPIC 0xfec00000u
#define LAPIC_ID 0x20
#define LAPIC_TPR 0x80
#define LAPIC_EOI 0xb0
#define LAPIC_SVR 0xf0
#define LAPIC_ICR 0x300
#define LAPIC_ICR_HIGH 0x310
#define LAPIC_TIMER 0x320
#define LAPIC_LINT0 0x350
#define LAPIC_INITIAL 0x380
#define LAPIC_DIVIDE 0x3e0
#define MSR_APIC_BASE 0x1b
#define MSR_DEADLINE 0x6e0

static inline void out8(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}
static inline void out16(uint16_t port, uint16_t v)
{
    __asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(port));
}
static inline void out32(uint16_t port, uint32_t v)
{
    __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port));
}
static inline uint8_t in8(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint16_t in16(uint16_t port)
{
    uint16_t v;
    __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint32_t in32(uint16_t port)
{
    uint32_t v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint32_t get32(uint32_t at) { return *(volatile uint32_t *)at; }
static inline void set32(uint32_t at, uint32_t v) { *(volatile uint32_t *)at = v; }
static inline uint32_t lapic(uint32_t reg) { return get32(LAPIC + reg); }
static inline void lapic_set(uint32_t reg, uint32_t v) { set32(LAPIC + reg, v); }
static inline uint64_t tsc(void)
{
    uint64_t v;
    __asm__ volatile("rdtsc" : "=A"(v));
    return v;
}
static inline void irqs_on(void) { __asm__ volatile("sti; nop" ::: "memory"); }
static inline void irqs_off(void) { __asm__ volatile("cli" ::: "memory"); }
static inline void halt(void) { __asm__ volatile("sti; hlt" ::: "memory"); }

/* base.c */
void put(const char *text);
void put_number(uint32_t n);
void put_hex(uint32_t n);
uint32_t random32(void);
/* Milliseconds that passed since *then, a value of pm_now(); up to 4 s. */
uint32_t pm_now(void);
uint32_t pm_since(uint32_t then);
void idt_set(unsigned vector, void *handler);
void idt_make(void); /* on the first CPU */
void idt_load(void); /* on any */
/* The exception that the instruction raised, -1 none. */
int try_wrmsr(uint32_t msr, uint64_t value);
int try_rdmsr(uint32_t msr, uint64_t *value);
int try_cr0(uint32_t value);
int try_cr4(uint32_t value);
int try_ud(void);
/* Interrupts of vectors 0x30..0xef are counted, and noted in order. */
#define VECTOR_FIRST 0x30
#define VECTOR_LAST 0xef
extern volatile uint32_t interrupts[256];
extern volatile uint8_t interrupt_order[256];
extern volatile uint32_t interrupt_orders; /* noted there, modulo 256 */
extern volatile uint32_t nmis, nmi_depth_most;
extern volatile bool nmi_again; /* the handler sends itself another one */
extern volatile bool use_x2apic; /* how handlers write EOI */
extern void (*volatile interrupt_hook)(unsigned vector); /* called before EOI, if any */

/* tests.c, second.c, queues.c */
struct test {
    const char *name;
    bool (*run)(void);
};
extern const struct test tests[];
extern const unsigned test_count;
void pci_set(uint32_t slot, uint32_t at, uint32_t value);
uint32_t pci_get(uint32_t slot, uint32_t at);
extern void (*volatile second_hook)(void); /* the second CPU calls it again and again */
extern volatile uint32_t second_rounds; /* how often it was through */
bool test_second(void);
bool test_second_storm(void);
bool test_second_resets(void);
bool test_queues(void);
bool test_queues_raced(void);
void second_main(void);
extern const char second_begin[], second_end[];
/* die.c: what must end the guest; does not come back if it knows the word. */
void die(const char *how);
#endif
