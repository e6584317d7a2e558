/* SPDX-License-Identifier: MIT
 *
 * Interrupt controllers of the virtual machine together: local APICs, I/O APIC, 8259s,
 * their timers, and how a message finds its CPUs.
 */
#define HOST_IRQ_REAL
#include "vmm_host.c"

#define MS 1000000ull
#define X2 0x800
#define EOI 0x80b
#define ICR 0x830
#define BASE 0x1b
#define DEADLINE 0x6e0

static void start(unsigned cpus)
{
    host.cpus = cpus;
    for (unsigned i = 0; i < cpus; i++)
        lapic_reset(i);
    ioapic_init();
    pic_init();
}

static uint64_t rd(unsigned cpu, uint32_t msr)
{
    uint64_t value = 0;
    EXPECT(lapic_msr_read(cpu, msr, &value));
    return value;
}
static bool wr(unsigned cpu, uint32_t msr, uint64_t value)
{
    return lapic_msr_write(cpu, msr, value);
}
static void x2apic(unsigned cpus)
{
    start(cpus);
    for (unsigned i = 0; i < cpus; i++) {
        EXPECT(wr(i, BASE, rd(i, BASE) | 0xc00));
        EXPECT(wr(i, X2 + 0xf, 0x1ff));
    }
}
static void take(unsigned cpu, int vector)
{
    EXPECT(lapic_pending(cpu) == vector);
    if (vector >= 0) lapic_take(cpu, (unsigned)vector);
}

/* ---- local APIC -------------------------------------------------------------------------- */

static void test_modes(void)
{
    uint64_t value;
    start(2);
    EXPECT(rd(0, BASE) == 0xfee00900 && rd(1, BASE) == 0xfee00800);
    EXPECT(lapic_base(0) == 0xfee00000);
    EXPECT(!lapic_msr_read(0, X2 + 2, &value)); /* not in x2APIC mode */
    EXPECT(!wr(0, BASE, 0xfee00400)); /* x2APIC without enable */
    EXPECT(!wr(0, BASE, 1ull << 50 | 0xfee00800));
    EXPECT(wr(1, BASE, 0xfee00c00) && lapic_base(1) == 0);
    EXPECT(rd(1, X2 + 2) == 1 && rd(1, X2 + 0xd) == 2 && (rd(1, X2 + 3) & 0xff) == 0x14);
    EXPECT(!wr(1, BASE, 0xfee00800)); /* back: only by way of off */
    EXPECT(!lapic_msr_read(1, X2 + 0xe, &value) && !lapic_msr_read(1, X2 + 0x31, &value));
    EXPECT(!lapic_msr_read(1, EOI, &value) && !wr(1, EOI, 1) && !wr(1, X2 + 3, 0));
    EXPECT(!wr(1, X2 + 8, 0x100) && !wr(1, X2 + 0x32, 1ull << 32) && !wr(1, X2 + 0x28, 1));
    EXPECT(wr(1, BASE, 0xfee00000) && lapic_base(1) == 0 && wr(1, BASE, 0xfee00800));
    EXPECT(wr(0, BASE, 0xd0000900) && lapic_base(0) == 0xd0000000);
}

static void test_priority(void)
{
    x2apic(1);
    take(0, -1);
    lapic_message(0, false, 0, 0x41, false);
    lapic_message(0, false, 0, 0x81, false);
    lapic_message(0, false, 0, 0x45, false);
    EXPECT(host.kicks[0] >= 3);
    take(0, 0x81);
    take(0, -1); /* lower ones wait */
    EXPECT(rd(0, X2 + 0xa) == 0x80 && rd(0, X2 + 0x14) == 2 && rd(0, X2 + 0x22) == 0x22);
    lapic_message(0, false, 0, 0x92, false);
    take(0, 0x92);
    unsigned kicks = host.kicks[0];
    EXPECT(wr(0, EOI, 0));
    EXPECT(host.kicks[0] > kicks); /* others wait: looked at again */
    take(0, -1);
    EXPECT(wr(0, EOI, 0));
    lapic_tpr_set(0, 4);
    take(0, -1);
    EXPECT(lapic_tpr(0) == 4 && rd(0, X2 + 8) == 0x40);
    kicks = host.kicks[0];
    lapic_tpr_set(0, 3);
    EXPECT(host.kicks[0] > kicks);
    take(0, 0x45);
    EXPECT(wr(0, EOI, 0));
    take(0, 0x41);
    EXPECT(wr(0, EOI, 0) && wr(0, EOI, 0)); /* one too many: nothing */
    take(0, -1);
    EXPECT(wr(0, X2 + 0xf, 0xff)); /* off by software: takes nothing */
    lapic_message(0, false, 0, 0x55, false);
    take(0, -1);
}

static void test_errors(void)
{
    x2apic(1);
    EXPECT(wr(0, X2 + 0x37, 0xfe));
    lapic_message(0, false, 0, 5, false);
    take(0, 0xfe);
    EXPECT(rd(0, X2 + 0x28) == 0 && wr(0, X2 + 0x28, 0) && rd(0, X2 + 0x28) == 0x40);
    EXPECT(wr(0, X2 + 0x28, 0) && rd(0, X2 + 0x28) == 0);
    EXPECT(wr(0, X2 + 0x37, 3)); /* an error vector that is an error itself */
    EXPECT(wr(0, ICR, 7) && wr(0, X2 + 0x3f, 9));
    EXPECT(!wr(0, ICR, 1u << 31) && !wr(0, X2 + 0x3f, 256));
    EXPECT(wr(0, X2 + 0x28, 0) && rd(0, X2 + 0x28) == 0x20);
    for (unsigned offset = 0; offset < 4096; offset++) { /* every byte of the page */
        lapic_mmio_write(0, offset, 1u << offset % 4, ~0ull);
        lapic_mmio_read(0, offset, 1u << offset % 4);
    }
}

static void test_xapic(void)
{
    start(2);
    lapic_mmio_write(0, 0xf0, 4, 0x1ff);
    lapic_mmio_write(1, 0xf0, 4, 0x1ff);
    EXPECT(lapic_mmio_read(1, 0x20, 4) == 1u << 24 && lapic_mmio_read(1, 0x23, 1) == 1);
    lapic_mmio_write(0, 0x310, 4, 1u << 24);
    lapic_mmio_write(0, 0x300, 4, 0xc1);
    take(1, 0xc1);
    lapic_mmio_write(1, 0xb0, 4, 0);
    lapic_mmio_write(0, 0x310, 4, 0xffu << 24);
    lapic_mmio_write(0, 0x300, 4, 0xc2);
    take(0, 0xc2);
    take(1, 0xc2);
    lapic_mmio_write(1, 0xb0, 4, 0);
    lapic_mmio_write(1, 0xd0, 4, 2u << 24); /* flat logical */
    lapic_message(2, true, 0, 0xc3, false);
    take(1, 0xc3);
    lapic_mmio_write(1, 0xb0, 4, 0);
    lapic_mmio_write(1, 0xe0, 4, 0); /* clusters */
    lapic_mmio_write(1, 0xd0, 4, 0x31u << 24);
    lapic_message(0x21, true, 0, 0xc4, false);
    take(1, -1);
    lapic_message(0x33, true, 0, 0xc4, false);
    take(1, 0xc4);
}

static void test_ipi(void)
{
    x2apic(4);
    EXPECT(wr(0, ICR, 2ull << 32 | 0xa0));
    take(2, 0xa0);
    EXPECT(wr(0, ICR, 3 << 18 | 0xa1)); /* all but itself */
    take(0, -1), take(1, 0xa1), take(3, 0xa1);
    EXPECT(wr(2, EOI, 0));
    take(2, 0xa1);
    EXPECT(wr(1, EOI, 0) && wr(3, EOI, 0));
    EXPECT(wr(1, ICR, 1 << 18 | 0xa2) && wr(1, X2 + 0x3f, 0xb2)); /* itself */
    take(1, 0xb2);
    EXPECT(wr(3, ICR, 10ull << 32 | 0x800 | 0xa3)); /* logical: CPUs 1 and 3 */
    take(3, 0xa3), take(0, -1);
    EXPECT(wr(0, ICR, 0xffull << 32 | 0xa4)); /* nobody has that ID */
    take(0, -1);
    EXPECT(wr(0, ICR, 3 << 18 | 0x4500) && wr(0, ICR, 3 << 18 | 0x8500)); /* INIT, de-assert */
    EXPECT(host.inits[0] == 0 && host.inits[1] == 1 && host.inits[3] == 1);
    EXPECT(wr(0, ICR, 3ull << 32 | 0x4600 | 0x9a));
    EXPECT(host.sipis[3] == 1 && host.sipi_vector == 0x9a && host.sipis[1] == 0);
    EXPECT(wr(2, ICR, 0x4400 | 1ull << 32) && host.nmis[1] == 1);
    EXPECT(wr(2, ICR, 0x4200) && host.notes == 1); /* SMI: said, nothing else */
}

static void test_lowest(void)
{
    x2apic(3);
    lapic_tpr_set(0, 5), lapic_tpr_set(1, 2), lapic_tpr_set(2, 9);
    lapic_message(7, true, 1, 0xd0, false);
    take(0, -1), take(2, -1), take(1, 0xd0);
    lapic_message(0x50000, true, 1, 0xd1, false); /* a cluster that is not there */
    take(0, -1);
}

/* ---- its timer ---------------------------------------------------------------------------------- */

static void test_timer(void)
{
    x2apic(1);
    EXPECT(wr(0, X2 + 0x3e, 0xb) && wr(0, X2 + 0x32, 0x30) && wr(0, X2 + 0x38, MS));
    host_advance(MS / 2);
    EXPECT(rd(0, X2 + 0x39) == MS / 2);
    take(0, -1);
    host_advance(MS / 2);
    take(0, 0x30);
    EXPECT(rd(0, X2 + 0x39) == 0 && wr(0, EOI, 0));
    host_advance(10 * MS);
    take(0, -1);
    EXPECT(wr(0, X2 + 0x3e, 0) && wr(0, X2 + 0x32, 0x20031) && wr(0, X2 + 0x38, MS)); /* by 2 */
    unsigned ticks = 0;
    for (unsigned i = 0; i < 40; i++) {
        host_advance(MS / 2);
        if (lapic_pending(0) < 0) continue;
        take(0, 0x31);
        wr(0, EOI, 0);
        ticks++;
    }
    EXPECT(ticks == 10);
    EXPECT(wr(0, X2 + 0x38, 1)); /* a storm is slowed down */
    unsigned kicks = host.kicks[0];
    host_advance(MS);
    EXPECT(host.kicks[0] - kicks <= 60);
    EXPECT(wr(0, X2 + 0x38, 0) && !host.timers);
}

static void test_deadline(void)
{
    x2apic(1);
    EXPECT(wr(0, DEADLINE, 1) && !host.timers); /* in another mode: ignored */
    EXPECT(wr(0, X2 + 0x32, 0x400ec));
    uint64_t due = vm_tsc(0) + HOST_TSC_HZ / 1000;
    EXPECT(wr(0, DEADLINE, due) && rd(0, DEADLINE) == due);
    host_advance(MS - 1);
    take(0, -1);
    host_advance(1);
    EXPECT(vm_tsc(0) >= due && rd(0, DEADLINE) == 0);
    take(0, 0xec);
    EXPECT(wr(0, EOI, 0) && wr(0, DEADLINE, 5)); /* past */
    host_advance(1);
    take(0, 0xec);
    EXPECT(wr(0, EOI, 0) && wr(0, DEADLINE, ~0ull));
    host_advance(1000000 * MS);
    take(0, -1);
    EXPECT(wr(0, DEADLINE, 0) && !host.timers);
    EXPECT(wr(0, X2 + 0x38, 100) && !host.timers); /* counts nothing in this mode */
    EXPECT(wr(0, DEADLINE, ~0ull) && host.timers && wr(0, X2 + 0x32, 0xec) && !host.timers);
    EXPECT(wr(0, X2 + 0x38, 100) && host.timers);
    lapic_init(0);
    EXPECT(!host.timers && rd(0, X2 + 0x32) == 0x10000);
}

/* ---- EOI without an exit ----------------------------------------------------------------------------- */

static void test_pv_eoi(void)
{
    uint8_t *word = host_ram + 0x1000;
    x2apic(1);
    lapic_pv_eoi_set(0, 0x1001);
    lapic_message(0, false, 0, 0x40, false);
    take(0, 0x40);
    EXPECT(*word == 1);
    *word = 0; /* the guest's EOI */
    take(0, -1);
    EXPECT(rd(0, X2 + 0x12) == 0);
    lapic_message(0, false, 0, 0x41, false);
    lapic_message(0, false, 0, 0x42, false);
    take(0, 0x42);
    EXPECT(*word == 0); /* another one waits */
    EXPECT(wr(0, EOI, 0));
    take(0, 0x41);
    EXPECT(*word == 1);
    lapic_message(0, false, 0, 0x35, false); /* one comes while the word is set */
    take(0, -1);
    EXPECT(*word == 0);
    EXPECT(wr(0, EOI, 0));
    take(0, 0x35);
    *word = 0;
    lapic_message(0, false, 0, 0x36, true); /* a level interrupt: its EOI is needed */
    take(0, 0x36);
    EXPECT(*word == 0);
    lapic_pv_eoi_set(0, 0xfffffffffffff001);
    lapic_message(0, false, 0, 0x96, false);
    take(0, 0x96); /* no memory there: as if it were off */
    EXPECT(wr(0, EOI, 0) && wr(0, EOI, 0));
    take(0, -1);
}

/* ---- I/O APIC ---------------------------------------------------------------------------------------- */

static void io_write(unsigned reg, uint32_t value)
{
    mmio_write(VM_IOAPIC, 4, reg);
    mmio_write(VM_IOAPIC + 0x10, 4, value);
}
static uint32_t io_read(unsigned reg)
{
    uint64_t value;
    mmio_write(VM_IOAPIC, 4, reg);
    EXPECT(mmio_read(VM_IOAPIC + 0x10, 4, &value));
    return (uint32_t)value;
}

static void test_ioapic_edge(void)
{
    x2apic(2);
    EXPECT((io_read(1) >> 16 & 0xff) == 23 && io_read(0x10) == 0x10000);
    irq_set(4, true), irq_set(4, false);
    take(0, -1);
    io_write(0x11 + 2 * 4, 1u << 24), io_write(0x10 + 2 * 4, 0x34); /* to CPU 1 */
    irq_set(4, true);
    take(1, 0x34);
    irq_set(4, true); /* no edge */
    EXPECT(wr(1, EOI, 0));
    take(1, -1);
    irq_set(4, false), irq_set(4, true);
    take(1, 0x34);
    io_write(0x10 + 2 * 2, 0x30); /* the 8254 is at pin 2 */
    irq_set(0, true), irq_set(0, false);
    take(0, 0x30);
    io_write(255, 0xffffffff), io_write(0x40, 0xffffffff), io_write(0x0f, 0xffffffff);
    EXPECT(io_read(255) == 0 && io_read(0x40) == 0);
    irq_set(23, true);
    ioapic_set(24, true), ioapic_set(~0u, true);
}

static void test_ioapic_level(void)
{
    x2apic(1);
    io_write(0x10 + 2 * 10, 0x8050);
    irq_set(10, true);
    take(0, 0x50);
    EXPECT(io_read(0x10 + 2 * 10) == 0xc050);
    irq_set(10, false), irq_set(10, true);
    take(0, -1);
    EXPECT(wr(0, EOI, 0)); /* still asserted: again */
    take(0, 0x50);
    irq_set(10, false);
    EXPECT(wr(0, EOI, 0) && io_read(0x10 + 2 * 10) == 0x8050);
    take(0, -1);
    io_write(0x10 + 2 * 10, 0x18050);
    irq_set(10, true);
    take(0, -1);
    io_write(0x10 + 2 * 10, 0x8050); /* unmasked while asserted */
    take(0, 0x50);
    io_write(0x10 + 2 * 10, 0x18050), io_write(0x10 + 2 * 10, 0x10050); /* as Linux unsticks it */
    EXPECT(io_read(0x10 + 2 * 10) == 0x10050);
    io_write(0x10 + 2 * 10, 0x8050);
    mmio_write(VM_IOAPIC + 0x40, 4, 0x50); /* the EOI register */
    EXPECT(io_read(0x10 + 2 * 10) == 0xc050);
}

/* ---- 8259s -------------------------------------------------------------------------------------------- */

static void pic_start(void)
{
    static const uint16_t words[][2] = {{0x20, 0x11}, {0x21, 0x20}, {0x21, 4}, {0x21, 1},
                                        {0xa0, 0x11}, {0xa1, 0x28}, {0xa1, 2}, {0xa1, 1},
                                        {0x21, 0},    {0xa1, 0}};
    start(1);
    for (unsigned i = 0; i < EXO_COUNT(words); i++)
        port_out(words[i][0], 1, words[i][1]);
    EXPECT(lapic_takes_pic(0));
}
static void pic_is(int vector)
{
    EXPECT(pic_pending() == vector);
    if (vector >= 0) EXPECT(pic_take() == (unsigned)vector);
}

static void test_pic(void)
{
    pic_start();
    pic_is(-1);
    EXPECT(pic_take() == 0x27); /* nothing asked: spurious */
    irq_set(4, true), irq_set(4, false), irq_set(0, true), irq_set(0, false);
    EXPECT(host.kicks[0] > 0);
    pic_is(0x20);
    pic_is(-1);
    port_out(0x20, 1, 0x20);
    pic_is(0x24);
    irq_set(1, true);
    pic_is(0x21); /* a higher one nests */
    port_out(0x20, 1, 0x61), port_out(0x20, 1, 0x64);
    pic_is(-1);
    irq_set(8, true);
    pic_is(0x28);
    port_out(0x20, 1, 0x0b);
    EXPECT(port_in(0x20, 1) == 4);
    port_out(0xa0, 1, 0x20), port_out(0x20, 1, 0x20);
    port_out(0x21, 1, 0xfb);
    irq_set(3, true);
    pic_is(-1);
    EXPECT(port_in(0x21, 1) == 0xfb && port_in(0xa0, 2) == 0x0000);
    port_out(0x21, 1, 0);
    pic_is(0x23);
}

static void test_pic_level(void)
{
    pic_start();
    EXPECT(port_in(0x4d0, 2) == 0x0e00);
    port_out(0x4d0, 2, 0xffff);
    EXPECT(port_in(0x4d0, 2) == 0xdef8);
    irq_set(10, true);
    pic_is(0x2a);
    port_out(0xa0, 1, 0x62), port_out(0x20, 1, 0x62);
    pic_is(0x2a); /* still asserted */
    irq_set(10, false);
    port_out(0xa0, 1, 0x62), port_out(0x20, 1, 0x62);
    pic_is(-1);
    irq_set(11, true), irq_set(11, false); /* withdrawn before it was taken */
    pic_is(-1);
}

static void test_pic_way(void)
{
    start(2);
    EXPECT(lapic_takes_pic(0) && !lapic_takes_pic(1));
    lapic_mmio_write(0, 0xf0, 4, 0x1ff);
    lapic_mmio_write(0, 0x350, 4, 0x10700);
    EXPECT(!lapic_takes_pic(0));
    lapic_mmio_write(0, 0x350, 4, 0x700);
    EXPECT(lapic_takes_pic(0));
    EXPECT(wr(0, BASE, 0xfee00000) && lapic_takes_pic(0));
}

static void test_messages(void)
{
    x2apic(2);
    msi_send(0xfee01000, 0x4055);
    take(1, 0x55);
    msi_send(0xfeeff000, 0x66);
    take(1, 0x66), take(0, 0x66);
    msi_send(0x1000, 0x77);
    msi_send(~0ull, 0x77);
    take(0, -1);
    EXPECT(host.notes == 2);
}

int main(void)
{
    host_test("local APIC: modes", test_modes);
    host_test("local APIC: priorities", test_priority);
    host_test("local APIC: errors", test_errors);
    host_test("local APIC: its page", test_xapic);
    host_test("local APIC: between CPUs", test_ipi);
    host_test("local APIC: lowest priority", test_lowest);
    host_test("local APIC: timer", test_timer);
    host_test("local APIC: deadline", test_deadline);
    host_test("local APIC: EOI without an exit", test_pv_eoi);
    host_test("I/O APIC: edges", test_ioapic_edge);
    host_test("I/O APIC: levels", test_ioapic_level);
    host_test("8259: order, nesting, masks", test_pic);
    host_test("8259: levels", test_pic_level);
    host_test("8259: how it reaches the CPU", test_pic_way);
    host_test("messages", test_messages);
    return host_status();
}
