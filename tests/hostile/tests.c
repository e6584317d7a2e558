/* SPDX-License-Identifier: MIT
 *
 * What a hostile guest can do and must survive, and what it relies on meanwhile: its
 * interrupts come in order, each exactly once, and time goes on. */
#include "guest.h"

/* So many interrupts came. QEMU 7.2 takes one that it injects twice if another thread of
 * its own calls it at that very moment: a few more are not the monitor's. */
static bool came(uint32_t count, uint32_t expected)
{
    return count >= expected && count <= expected + 2 + expected / 500;
}

/* ---- registers that are not there ----------------------------------------------------------- */

static uint32_t random_msr(void)
{
    static const uint32_t bases[] = {0,          0x40,       0x174,      0x200,      0x400,
                                     0x1000,     0x40000000, 0x4b564d00, 0xc0000080, 0xc0000100,
                                     0xc0010000, 0xc0010110, 0xc0011020, 0x800};
    if (random32() % 8 == 0) return random32();
    return bases[random32() % (sizeof(bases) / sizeof(*bases))] + random32() % 64;
}

static bool test_msrs(void)
{
    uint32_t refused = 0, rounds = 5000;
    for (uint32_t i = 0; i < rounds; i++) {
        uint32_t msr = random_msr();
        uint64_t value, wild = (uint64_t)random32() << 32 | random32();
        if (random32() % 2) wild = random32() % 2 ? 1ull << random32() % 64 : ~wild >> 40;
        bool clock = (msr >= 0x4b564d00 && msr < 0x4b564d10) || msr == 0x11 || msr == 0x12;
        if (clock) wild |= 0xffff0000; /* not into our own memory */
        if (msr == MSR_APIC_BASE) continue;
        int vector = random32() % 2 ? try_wrmsr(msr, wild) : try_rdmsr(msr, &value);
        if (vector != -1 && vector != 13) return false;
        refused += vector == 13;
    }
    try_wrmsr(0x4b564d04, 0);
    return refused > rounds / 4 && refused < rounds;
}

static bool test_apic_base(void)
{
    uint64_t base, value;
    if (try_rdmsr(MSR_APIC_BASE, &base) != -1) return false;
    bool good = try_wrmsr(MSR_APIC_BASE, base & ~0x800ull) == -1;
    good = good && try_wrmsr(MSR_APIC_BASE, base | 0x400) == 13; /* off to x2APIC */
    good = good && get32(LAPIC + LAPIC_ID) == 0xffffffff; /* nobody there */
    good = good && try_wrmsr(MSR_APIC_BASE, base) == -1;
    good = good && try_rdmsr(0x802, &value) == 13;
    good = good && try_wrmsr(MSR_APIC_BASE, base | 0x400) == -1;
    good = good && try_wrmsr(MSR_APIC_BASE, base) == 13; /* back in one step */
    good = good && try_rdmsr(0x802, &value) == -1 && value == 0;
    good = good && try_wrmsr(0x80f, 0x1ff) == -1 && try_wrmsr(0x803, 0) == 13;
    good = good && get32(LAPIC + LAPIC_ID) == 0xffffffff;
    use_x2apic = true;
    interrupts[0x60] = 0;
    irqs_on();
    for (unsigned i = 0; good && i < 100; i++)
        good = try_wrmsr(0x83f, 0x60) == -1;
    irqs_off();
    use_x2apic = false;
    good = good && came(interrupts[0x60], 100);
    good = good && try_wrmsr(MSR_APIC_BASE, base & ~0x800ull) == -1;
    good = good && try_wrmsr(MSR_APIC_BASE, base) == -1;
    lapic_set(LAPIC_SVR, 0x1ff);
    return good && lapic(LAPIC_SVR) == 0x1ff;
}

static bool test_control(void)
{
    uint32_t cr0, cr4;
    __asm__("mov %%cr0, %0; mov %%cr4, %1" : "=r"(cr0), "=r"(cr4));
    if (try_ud() != 6) return false;
    if (try_cr0(0x80000000) != 13 || try_cr0(cr0 | 0x20000000) != 13) return false;
    for (unsigned bit = 0; bit < 32; bit++) { /* each bit alone, refused or not */
        int vector = try_cr4(cr4 | 1u << bit);
        if (vector != -1 && vector != 13) return false;
        if ((bit == 13 || bit == 15 || bit == 31) && vector != 13) return false;
        if (try_cr4(cr4) != -1) return false;
        vector = bit == 31 || bit == 0 ? -1 : try_cr0(cr0 ^ 1u << bit);
        if ((vector != -1 && vector != 13) || try_cr0(cr0) != -1) return false;
    }
    return true;
}

/* ---- ports and device memory ------------------------------------------------------------------- */

static bool is_spared(uint32_t port)
{
    return (port >= 0x5d && port < 0x65) || /* reset by the keyboard controller: 60, 64 */
           (port >= 0x3f5 && port < 0x403) || /* our own words */
           (port >= 0x5fe && port < 0x606) || /* power off */
           (port >= 0xcf6 && port < 0xcfc); /* reset */
}

static bool test_ports(void)
{
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t port = i < 4096 ? i : random32() & 0xffff;
        if (is_spared(port)) continue;
        switch (random32() % 6) {
        case 0:
            out8((uint16_t)port, (uint8_t)random32());
            break;
        case 1:
            out16((uint16_t)port, (uint16_t)random32());
            break;
        case 2:
            out32((uint16_t)port, random32());
            break;
        case 3:
            in8((uint16_t)port);
            break;
        case 4:
            in16((uint16_t)port);
            break;
        default:
            in32((uint16_t)port);
        }
    }
    uint8_t words[64];
    uint8_t *to = words;
    uint32_t count = sizeof(words);
    __asm__ volatile("cld; rep insb" : "+D"(to), "+c"(count) : "d"(0x71) : "memory");
    return count == 0 && to == words + sizeof(words);
}

void pci_set(uint32_t slot, uint32_t at, uint32_t value)
{
    out32(0xcf8, 0x80000000 | slot << 11 | at);
    out32(0xcfc, value);
}
uint32_t pci_get(uint32_t slot, uint32_t at)
{
    out32(0xcf8, 0x80000000 | slot << 11 | at);
    return in32(0xcfc);
}

/* BARs over RAM, over the APICs, over each other and over the serial port. */
static bool test_bars(void)
{
    static const uint32_t places[] = {0,          0x100000,   0xfee00000, 0xfec00000,
                                      0xe0000000, 0x3f9,      0xcf9,      0xfffff000,
                                      0x80000000, 0xe0000001, 0xc001,     0xe0000004};
    static volatile uint32_t own = 0x12345678;
    for (unsigned i = 0; i < 2000; i++) {
        uint32_t slot = random32() % 8, place = places[random32() % 12];
        pci_set(slot, 0x10 + 4 * (random32() % 6), place);
        pci_set(slot, 4, random32() & 7);
        if (own != 0x12345678 || lapic(LAPIC_SVR) != 0x1ff) return false;
    }
    for (uint32_t slot = 1; slot < 8; slot++)
        if (pci_get(slot, 0) != 0xffffffff) pci_set(slot, 4, 0);
    return pci_get(0, 0) == 0x12378086;
}

/* Instructions on device memory in all the forms that compilers make of them. */
static bool test_memory_forms(void)
{
    uint32_t words[8], *to = words, from = LAPIC + LAPIC_SVR, count = 1, eax;
    set32(IOAPIC, 1);
    *(volatile uint8_t *)IOAPIC = 0;
    if (*(volatile uint8_t *)IOAPIC != 0 || *(volatile uint16_t *)IOAPIC != 0) return false;
    __asm__ volatile("cld; rep movsl" : "+D"(to), "+S"(from), "+c"(count)::"memory");
    if (words[0] != 0x1ff) return false;
    __asm__ volatile("movzbl (%1), %0" : "=r"(eax) : "r"(LAPIC + LAPIC_SVR));
    if (eax != 0xff) return false;
    __asm__ volatile("orl $0x20, (%0); andl $0xf0, (%0)" ::"r"(LAPIC + LAPIC_TPR) : "memory", "cc");
    if (lapic(LAPIC_TPR) != 0x20) return false;
    __asm__ volatile("movl $0, (%0)" ::"r"(LAPIC + LAPIC_TPR) : "memory");
    __asm__ volatile("mov (%%eax), %%eax" : "=a"(eax) : "a"(0xe8000000)); /* nobody there */
    return lapic(LAPIC_TPR) == 0 && eax == 0xffffffff;
}

/* ---- interrupts ------------------------------------------------------------------------------------ */

static void self(uint32_t vector) { lapic_set(LAPIC_ICR, 0x44000 | vector); }

/* Each one sent is one taken; those of one vector that wait become one. */
static bool test_self(void)
{
    uint32_t before = interrupts[0x40];
    irqs_on();
    for (unsigned i = 0; i < 5000; i++)
        self(0x40);
    irqs_off();
    if (!came(interrupts[0x40] - before, 5000)) return false;
    for (unsigned i = 0; i < 100; i++)
        self(0x41);
    before = interrupts[0x41];
    irqs_on();
    irqs_off();
    return came(interrupts[0x41] - before, 1);
}

/* With all vectors waiting they are taken from the highest on; priority holds back. */
static bool test_order(void)
{
    for (unsigned v = VECTOR_FIRST; v <= VECTOR_LAST; v++)
        self(v);
    interrupt_orders = 0;
    lapic_set(LAPIC_TPR, 0x80);
    irqs_on();
    irqs_off();
    if (interrupt_orders != VECTOR_LAST - 0x8f) return false;
    lapic_set(LAPIC_TPR, 0);
    irqs_on();
    irqs_off();
    for (unsigned i = 0; i < VECTOR_LAST - VECTOR_FIRST + 1; i++)
        if (interrupt_order[i] != VECTOR_LAST - i) return false;
    return interrupt_orders == VECTOR_LAST - VECTOR_FIRST + 1;
}

static bool test_nmi(void)
{
    nmis = nmi_depth_most = 0;
    lapic_set(LAPIC_ICR, 0x44400);
    if (nmis != 1) return false;
    nmi_again = true; /* the second one waits for the first one's end */
    lapic_set(LAPIC_ICR, 0x44400);
    return nmis == 3 && nmi_depth_most == 1;
}

static bool test_timer(void)
{
    lapic_set(LAPIC_DIVIDE, 0xb);
    lapic_set(LAPIC_TIMER, 0x70);
    uint32_t before = interrupts[0x70], then = pm_now();
    lapic_set(LAPIC_INITIAL, 20000000); /* 20 ms: a tick is a nanosecond */
    while (interrupts[0x70] == before)
        halt();
    irqs_off();
    if (pm_since(then) < 19) return false;
    lapic_set(LAPIC_TIMER, 0x20071);
    lapic_set(LAPIC_INITIAL, 1000000);
    before = interrupts[0x71];
    for (then = pm_now(); pm_since(then) < 200;)
        halt();
    irqs_off();
    uint32_t ticks = interrupts[0x71] - before, passed = pm_since(then);
    lapic_set(LAPIC_INITIAL, 1); /* the fastest there is */
    for (then = pm_now(); pm_since(then) < 50;)
        irqs_on();
    irqs_off();
    lapic_set(LAPIC_INITIAL, 0);
    return ticks >= 20 && ticks <= passed + 3;
}

static bool test_deadline(void)
{
    lapic_set(LAPIC_TIMER, 0x40072);
    for (unsigned i = 0; i < 200; i++) {
        uint32_t before = interrupts[0x72];
        uint64_t due = tsc() + (i % 2 ? 100000 : 0);
        if (i % 5 == 0) try_wrmsr(MSR_DEADLINE, ~0ull), try_wrmsr(MSR_DEADLINE, 0);
        if (try_wrmsr(MSR_DEADLINE, due) != -1) return false;
        while (interrupts[0x72] == before)
            halt();
        irqs_off();
        if (tsc() < due || !came(interrupts[0x72] - before, 1)) return false;
    }
    return true;
}

static void ioapic_set(uint32_t pin, uint32_t low)
{
    set32(IOAPIC, 0x11 + 2 * pin);
    set32(IOAPIC + 0x10, 0);
    set32(IOAPIC, 0x10 + 2 * pin);
    set32(IOAPIC + 0x10, low);
}

/* Nothing but the handler runs while a line stays asserted: it has to end that. */
static void mask_line(unsigned vector)
{
    if (vector == 0x81 && interrupts[0x81] % 1000 == 0) ioapic_set(4, 0x10000);
}

/* The 8254 by the I/O APIC; then the serial port's line, level-triggered and never served. */
static bool test_lines(void)
{
    uint32_t then, before = interrupts[0x80];
    ioapic_set(2, 0x80);
    out8(0x43, 0x34), out8(0x40, 11932 & 255), out8(0x40, 11932 >> 8);
    for (then = pm_now(); pm_since(then) < 300;)
        halt();
    irqs_off();
    uint32_t ticks = interrupts[0x80] - before, passed = pm_since(then);
    out8(0x43, 0x30); /* stops */
    ioapic_set(2, 0x10000);
    if (ticks < 3 || ticks > passed / 10 + 3) return false;
    interrupts[0x81] = 0;
    interrupt_hook = mask_line;
    ioapic_set(4, 0x8081);
    out8(0x3fc, 0x0b), out8(0x3f9, 2); /* transmitter empty: for ever */
    irqs_on();
    for (then = pm_now(); pm_since(then) < 1000 && interrupts[0x81] < 1000;)
        ;
    irqs_off();
    interrupt_hook = NULL;
    out8(0x3f9, 0);
    return came(interrupts[0x81], 1000);
}

/* EOI words and clocks in memory that is not there, or not aligned. */
static bool test_paravirtual(void)
{
    static volatile uint32_t word;
    static const uint32_t places[] = {0xfffffff1, 0xe0000001, 0x80000003, 0xfee00001, 0xffffffff};
    for (unsigned i = 0; i < 5; i++) {
        int vector = try_wrmsr(0x4b564d04, places[i] | (uint64_t)random32() << 32);
        if (vector != -1 && vector != 13) return false;
        uint32_t before = interrupts[0x90];
        irqs_on();
        self(0x90);
        self(0x90);
        irqs_off();
        if (!came(interrupts[0x90] - before, 2)) return false;
        vector = try_wrmsr(0x4b564d01, places[i]);
        if (vector != -1 && vector != 13) return false;
    }
    if (try_wrmsr(0x4b564d04, (uint32_t)&word | 1) != -1) return false;
    uint32_t before = interrupts[0x91];
    irqs_on();
    for (unsigned i = 0; i < 1000; i++) {
        word = random32(); /* what it says of EOIs is a lie */
        self(0x91);
    }
    irqs_off();
    return try_wrmsr(0x4b564d04, 0) == -1 && interrupts[0x91] > before;
}

/* What an EOI word may have swallowed is over after the APIC is turned off and on. */
static bool test_afterwards(void)
{
    uint64_t base;
    try_rdmsr(MSR_APIC_BASE, &base);
    try_wrmsr(MSR_APIC_BASE, base & ~0x800ull);
    try_wrmsr(MSR_APIC_BASE, base);
    lapic_set(LAPIC_SVR, 0x1ff);
    lapic_set(LAPIC_LINT0, 0x10000);
    return test_self();
}

const struct test tests[] = {
    {"interrupts to itself", test_self},
    {"interrupts in order of priority", test_order},
    {"NMIs", test_nmi},
    {"timer of the APIC", test_timer},
    {"deadlines", test_deadline},
    {"lines, and one that is never served", test_lines},
    {"forms of access to devices", test_memory_forms},
    {"modes of the APIC", test_apic_base},
    {"CR0 and CR4, each bit", test_control},
    {"a second CPU", test_second},
    {"both CPUs under a storm", test_second_storm},
    {"INIT at any moment", test_second_resets},
    {"malformed virtqueues", test_queues},
    {"virtqueues that the other CPU changes", test_queues_raced},
    {"paravirtual words anywhere", test_paravirtual},
    {"after that", test_afterwards},
    {"MSRs at random", test_msrs},
    {"BARs anywhere", test_bars},
    {"ports at random", test_ports},
    {"after all that", test_afterwards},
};
const unsigned test_count = sizeof(tests) / sizeof(*tests);
