/* SPDX-License-Identifier: MIT
 *
 * The serial port's receiver: its interrupt is an event of ours. Registers as in the
 * 16550 data sheet.
 *
 * The line's edges are lost while it is masked, from the interrupt to irq_ack; so the
 * receiver is looked at before and after irq_ack, and only then waited for. */
#include "console.h"

#define COM1_IRQ 4 /* of the ISA bus */
#define COM1_DATA 0x3f8
#define COM1_IER 0x3f9 /* bit 0: received data */
#define COM1_IIR 0x3fa
#define COM1_MCR 0x3fc /* bits 0, 1: DTR, RTS; bit 3: OUT2, lets the interrupt through */
#define COM1_LSR 0x3fd /* bit 0: there is data */

long serial_open(void)
{
    uint64_t port = exo.start.sel_console;
    const struct exo_range *irqs = &exo.start.irqs;
    if (!port || !irqs->sel || irqs->first > COM1_IRQ || irqs->first + irqs->count <= COM1_IRQ)
        return -EXO_E_SEL;
    long event = exo_event_new(exo.start.sel_thread, EV_INPUT);
    if (event < 0) return event;
    long r = exo_irq_bind(irqs->sel, COM1_IRQ, (uint64_t)event);
    if (r < 0) return r;
    exo_port_out(port, COM1_MCR, 1, 0x0b);
    return exo_port_out(port, COM1_IER, 1, 1);
}

/* A character, or -1 when there is none. */
static int receive(void)
{
    uint64_t port = exo.start.sel_console;
    return exo_port_in(port, COM1_LSR, 1) & 1 ? (int)exo_port_in(port, COM1_DATA, 1) : -1;
}

int serial_poll(void)
{
    int c = receive();
    if (c >= 0) return c;
    exo_port_in(exo.start.sel_console, COM1_IIR, 1);
    exo_irq_ack(exo.start.irqs.sel, COM1_IRQ);
    return receive();
}
