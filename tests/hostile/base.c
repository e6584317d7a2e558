/* SPDX-License-Identifier: MIT
 *
 * What the hostile guest stands on. Interrupt handlers are made for each vector, so that a
 * wrong one is seen; exceptions that a test expects continue where it says. */
#include "guest.h"

#define COM1 0x3f8
#define PM_TIMER 0x608
#define PM_PER_MS 3579u

volatile uint32_t interrupts[256];
volatile uint8_t interrupt_order[256];
volatile uint32_t interrupt_orders;
volatile uint32_t nmis, nmi_depth_most;
volatile bool nmi_again;
volatile bool use_x2apic;
void (*volatile interrupt_hook)(unsigned vector);

/* ---- words ------------------------------------------------------------------------------- */

void put(const char *text)
{
    for (; *text; text++)
        out8(COM1, (uint8_t)*text);
}

void put_number(uint32_t n)
{
    char digits[11] = {0};
    unsigned at = 10;
    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n);
    put(digits + at);
}

void put_hex(uint32_t n)
{
    for (int shift = 28; shift >= 0; shift -= 4)
        out8(COM1, (uint8_t) "0123456789abcdef"[n >> shift & 15]);
}

uint32_t random32(void)
{
    static uint32_t state = 2463534242u;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

uint32_t pm_now(void) { return in32(PM_TIMER); }
uint32_t pm_since(uint32_t then) { return ((pm_now() - then) & 0xffffff) / PM_PER_MS; }

/* ---- exceptions and interrupts --------------------------------------------------------------- */

struct frame {
    uint32_t ip, cs, flags;
};
struct gate {
    uint16_t low, selector, type, high;
};
static struct gate idt[256];
static uint32_t volatile expected; /* where to go on after an exception, 0: none is expected */
static int volatile raised;

static void exception(struct frame *frame, int vector, uint32_t error)
{
    if (expected) {
        raised = vector;
        frame->ip = expected;
        return;
    }
    put("FAIL an exception that nobody expected: ");
    put_number((uint32_t)vector);
    put(" error ");
    put_hex(error);
    put(" at ");
    put_hex(frame->ip);
    put("\n");
    for (;;)
        __asm__ volatile("cli; hlt");
}

#define PLAIN(n)                                                                                   \
    __attribute__((interrupt)) static void exception_##n(struct frame *f) { exception(f, n, 0); }  \
    struct frame
#define CODED(n)                                                                                   \
    __attribute__((interrupt)) static void exception_##n(struct frame *f, uint32_t error)          \
    {                                                                                              \
        exception(f, n, error);                                                                    \
    }                                                                                              \
    struct frame
PLAIN(0);
PLAIN(1);
PLAIN(3);
PLAIN(4);
PLAIN(5);
PLAIN(6);
PLAIN(7);
CODED(8);
CODED(10);
CODED(11);
CODED(12);
CODED(13);
CODED(14);

__attribute__((interrupt)) static void nmi(struct frame *frame)
{
    static uint32_t depth;
    (void)frame;
    if (++depth > nmi_depth_most) nmi_depth_most = depth;
    nmis++;
    if (nmi_again) {
        nmi_again = false;
        lapic_set(LAPIC_ICR, 0x44400); /* NMI to itself */
        for (volatile unsigned i = 0; i < 1000; i++)
            ;
    }
    depth--;
}

static void interrupt(unsigned vector)
{
    interrupts[vector]++;
    if (interrupt_hook) interrupt_hook(vector);
    if (!interrupt_orders || interrupt_order[(interrupt_orders - 1) & 255] != vector)
        interrupt_order[interrupt_orders++ & 255] = (uint8_t)vector;
    if (use_x2apic)
        __asm__ volatile("wrmsr" ::"c"(0x80b), "a"(0), "d"(0));
    else
        lapic_set(LAPIC_EOI, 0);
}

/* A stub for each vector: pushes it, and calls with all registers kept. */
__asm__(".pushsection .text\n"
        "interrupt_stubs:\n"
        ".set vector, 0x30\n"
        ".rept 0xc0\n"
        ".balign 16\n"
        "push $vector\n"
        "jmp interrupt_common\n"
        ".set vector, vector + 1\n"
        ".endr\n"
        "interrupt_common:\n"
        "pusha\n"
        "cld\n"
        "push 32(%esp)\n"
        "call interrupt_c\n"
        "add $4, %esp\n"
        "popa\n"
        "add $4, %esp\n"
        "iret\n"
        ".popsection\n");
extern char interrupt_stubs[];
void interrupt_c(unsigned vector);
void interrupt_c(unsigned vector) { interrupt(vector); }

void idt_set(unsigned vector, void *handler)
{
    uint32_t at = (uint32_t)handler;
    uint16_t cs;
    __asm__("mov %%cs, %0" : "=r"(cs));
    idt[vector] = (struct gate){(uint16_t)at, 8, 0x8e00, (uint16_t)(at >> 16)};
}

void idt_load(void)
{
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) idtr = {sizeof(idt) - 1, (uint32_t)idt};
    __asm__ volatile("lidt %0" ::"m"(idtr));
}

/* The boot loader's segments are its own affair: from here on ours. */
static void gdt_load(void)
{
    static const uint64_t gdt[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) gdtr = {sizeof(gdt) - 1, (uint32_t)gdt};
    __asm__ volatile(
        "lgdt %0\n"
        "ljmp $8, $1f\n"
        "1: mov %1, %%ds; mov %1, %%es; mov %1, %%ss; mov %1, %%fs; mov %1, %%gs" ::"m"(gdtr),
        "r"(16)
        : "memory");
}

void idt_make(void)
{
    static void *const handlers[] = {exception_0,  exception_1,  nmi,          exception_3,
                                     exception_4,  exception_5,  exception_6,  exception_7,
                                     exception_8,  NULL,         exception_10, exception_11,
                                     exception_12, exception_13, exception_14};
    gdt_load();
    for (unsigned i = 0; i < sizeof(handlers) / sizeof(*handlers); i++)
        if (handlers[i]) idt_set(i, handlers[i]);
    for (unsigned v = VECTOR_FIRST; v <= VECTOR_LAST; v++)
        idt_set(v, interrupt_stubs + 16 * (v - VECTOR_FIRST));
    idt_load();
}

/* ---- instructions that may fault ------------------------------------------------------------------ */

#define TRY(instruction, ...)                                                                      \
    raised = -1;                                                                                   \
    __asm__ volatile("movl $1f, %[expected]\n\t" instruction "\n1:\tmovl $0, %[expected]"          \
                     : [expected] "+m"(expected)__VA_ARGS__);                                      \
    return raised

int try_wrmsr(uint32_t msr, uint64_t value) { TRY("wrmsr", : "c"(msr), "A"(value) : "memory"); }

int try_rdmsr(uint32_t msr, uint64_t *value)
{
    uint64_t v = 0;
    raised = -1;
    __asm__ volatile("movl $1f, %[expected]\n\trdmsr\n1:\tmovl $0, %[expected]"
                     : [expected] "+m"(expected), "+A"(v)
                     : "c"(msr));
    *value = v;
    return raised;
}

int try_cr0(uint32_t value) { TRY("mov %[value], %%cr0", : [value] "r"(value) : "memory"); }

int try_cr4(uint32_t value) { TRY("mov %[value], %%cr4", : [value] "r"(value) : "memory"); }

int try_ud(void) { TRY("ud2", ::"memory"); }
