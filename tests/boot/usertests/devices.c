/* SPDX-License-Identifier: MIT
 *
 * Time slots, interrupts and ports: bindings and their refusals. */
#include "tests.h"

static void test_ports(void)
{
    uint64_t con = exo.start.sel_console, a = (uint64_t)exo_sel_alloc();
    CHECK(exo_port_in(con, 0x3fd, 1) >= 0);
    EXPECT(exo_port_in(con, 0x3fd, 3), -EXO_E_ARG);
    EXPECT(exo_port_in(con, 0x3fd, 8), -EXO_E_ARG);
    EXPECT(exo_port_in(con, 0x3f7, 1), -EXO_E_RANGE);
    EXPECT(exo_port_in(con, 0x400, 1), -EXO_E_RANGE);
    EXPECT(exo_port_in(con, 0x3ff, 2), -EXO_E_RANGE); /* the second byte is outside */
    EXPECT(exo_port_in(con, 0x103fd, 1), -EXO_E_RANGE);
    EXPECT(exo_port_out(con, UINT64_MAX, 4, 0), -EXO_E_RANGE);
    EXPECT(exo_port_out(con, 0xcf8, 4, 0), -EXO_E_RANGE);
    EXPECT(exo_port_out(MEM, 0x3f8, 1, 0), -EXO_E_KIND);
    EXPECT(exo_cap_derive(con, a, 0, 0x3f8, 8), 0);
    EXPECT(exo_port_in(a, 0x3fd, 1), -EXO_E_RIGHTS);
    EXPECT(exo_drop((uint32_t)a), 0);
}

static void test_slots(void)
{
    const struct exo_range *s = &exo.start.slots[exo.start.cpu];
    uint64_t self = exo.start.sel_thread;
    if (s->count < 2) {
        test_skip("no slots given");
        return;
    }
    uint64_t last = s->first + s->count - 1;
    exo_thread_info(self);
    uint64_t frame = exo_page()->list[0].va;
    EXPECT(exo.slots[last].thread, frame);
    EXPECT(exo_slot_bind(s->sel, last, self, 0), -EXO_E_BOUND);
    EXPECT(exo_slot_unbind(s->sel, last), 0);
    EXPECT(exo.slots[last].thread, 0);
    EXPECT(exo_slot_unbind(s->sel, last), -EXO_E_NONE);
    EXPECT(exo_slot_bind(s->sel, last + 1, self, 0), -EXO_E_RANGE);
    EXPECT(exo_slot_bind(s->sel, UINT64_MAX, self, 0), -EXO_E_RANGE);
    EXPECT(exo_slot_bind(s->sel, last, self, 2), -EXO_E_ARG);
    EXPECT(exo_slot_bind(s->sel, last, MEM, 0), -EXO_E_KIND);
    EXPECT(exo_slot_bind(MEM, last, self, 0), -EXO_E_KIND);
    EXPECT(exo_slot_bind(s->sel, last, self, EXO_SLOT_FIRM), 0);
    EXPECT(exo.slots[last].flags, EXO_SLOT_FIRM);
    EXPECT(exo_slot_unbind(s->sel, last), 0);
    EXPECT(exo_slot_bind(s->sel, last, self, 0), 0);
}

static void test_slot_cpu(void)
{
    NEED_CPUS(2);
    const struct exo_range *s = &exo.start.slots[1];
    if (!s->count) {
        test_skip("no slots given on the other CPU");
        return;
    }
    EXPECT(exo_slot_bind(s->sel, s->first, exo.start.sel_thread, 0), -EXO_E_CPU);
}

/* The serial port's transmitter interrupt: line 4 of the ISA bus. */
#define COM1_IRQ 4
#define COM1_IER 0x3f9 /* 16550 data sheet: bit 1, holding register empty */
#define COM1_IIR 0x3fa
#define COM1_MCR 0x3fc /* bit 3, OUT2: lets the interrupt through on a PC */

static void test_irq(void)
{
    const struct exo_range *q = &exo.start.irqs;
    uint64_t con = exo.start.sel_console;
    if (!q->sel || q->first > COM1_IRQ) {
        test_skip("no interrupts given");
        return;
    }
    uint64_t e = (uint64_t)exo_event_new(exo.start.sel_thread, 0x100);
    EXPECT(exo_irq_ack(q->sel, COM1_IRQ), -EXO_E_NONE);
    EXPECT(exo_irq_unbind(q->sel, COM1_IRQ), -EXO_E_NONE);
    EXPECT(exo_irq_bind(q->sel, q->first + q->count, e), -EXO_E_RANGE);
    EXPECT(exo_irq_bind(q->sel, UINT64_MAX, e), -EXO_E_RANGE);
    EXPECT(exo_irq_bind(q->sel, COM1_IRQ, q->sel), -EXO_E_KIND);
    EXPECT(exo_irq_bind(q->sel, COM1_IRQ, e), 0);
    EXPECT(exo_irq_bind(q->sel, COM1_IRQ, e), -EXO_E_BOUND);
    EXPECT(exo.irqs[COM1_IRQ].bits, 0x100);
    long mcr = exo_port_in(con, COM1_MCR, 1);
    exo_port_out(con, COM1_MCR, 1, (uint64_t)mcr | 8);
    for (int i = 0; i < 3; i++) {
        uint64_t before = exo.irqs[COM1_IRQ].count;
        exo_port_out(con, COM1_IER, 1, 0);
        exo_port_out(con, COM1_IER, 1, 2); /* empty: it interrupts at once */
        EXPECT(exo_event_wait(0x100, exo_in_us(1000000)), 0x100);
        EXPECT(exo.irqs[COM1_IRQ].masked != 0, 1);
        CHECK(exo.irqs[COM1_IRQ].count > before);
        exo_port_in(con, COM1_IIR, 1);
        exo_port_out(con, COM1_IER, 1, 0);
        EXPECT(exo_irq_ack(q->sel, COM1_IRQ), 0);
    }
    exo_port_out(con, COM1_MCR, 1, (uint64_t)mcr);
    EXPECT(exo_irq_unbind(q->sel, COM1_IRQ), 0);
    EXPECT(exo.irqs[COM1_IRQ].thread, 0);
    EXPECT(exo_drop((uint32_t)e), 0);
}

const struct test device_tests[] = {
    {"ports", test_ports}, {"slots", test_slots}, {"slot_cpu", test_slot_cpu},
    {"irq", test_irq},     {NULL, NULL},
};
