/* SPDX-License-Identifier: MIT
 *
 * Where interrupts of devices go: lines to the I/O APIC and the 8259s at once (the guest
 * masks those that it does not use), messages to the local APICs. Under the device lock.
 */
#include "vmm.h"

#define ISA_LINES 16
#define TIMER_PIN 2 /* of the I/O APIC: the 8254, as the MADT's override says */

void irq_set(unsigned gsi, bool level)
{
    if (gsi < ISA_LINES) pic_set(gsi, level);
    ioapic_set(gsi == 0 ? TIMER_PIN : gsi, level);
}

/* Intel SDM vol. 3, 11.11: address bits 12..19 destination, 2 logical; data bits 0..7
 * vector, 8..10 delivery mode, 15 level. */
void msi_send(uint64_t address, uint32_t data)
{
    if (address >> 20 != VM_LAPIC >> 20) {
        vm_note("interrupt message to address 0x%lx", (unsigned long)address);
        return;
    }
    lapic_message((uint32_t)(address >> 12 & 0xff), address & 4, data >> 8 & 7, data & 0xff,
                  data & 0x8000);
}
