/* SPDX-License-Identifier: MIT
 *
 * ACPI's fixed hardware (ACPI 6.4, 4.8): PM1a event and control registers, the timer of
 * 3.58 MHz, the power button. ACPI mode is always on. Under the device lock.
 */
#include "vmm.h"

#define PM_HZ 3579545ull
#define NS 1000000000ull

/* PM1 status and enable: 4.8.3.1. */
#define PM_BUTTON 0x100
#define PM_ENABLE_BITS 0x0721
/* PM1 control: 4.8.3.2. */
#define PM_SCI_ENABLE 0x0001
#define PM_SLEEP_TYPE(v) ((v) >> 10 & 7)
#define PM_SLEEP 0x2000
#define PM_CONTROL_BITS 0x1c07

static uint16_t status, enable, control;

static void sci_update(void) { irq_set(VM_PM_SCI, (status & enable) != 0); }

void acpi_power_button(void)
{
    status |= PM_BUTTON;
    sci_update();
}

/* A register of 2 bytes, written as a whole or a byte of it. */
static uint16_t merged(uint16_t old, uint64_t offset, unsigned size, uint64_t value)
{
    if (size > 1) return (uint16_t)value;
    unsigned shift = 8 * (offset & 1);
    return (uint16_t)((old & ~(0xffu << shift)) | (value & 0xff) << shift);
}

static uint64_t event_read(void *device, uint64_t offset, unsigned size)
{
    (void)device, (void)size;
    uint32_t both = status | (uint32_t)enable << 16;
    return both >> 8 * offset;
}

static void event_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    (void)device;
    if (size == 4) {
        enable = (uint16_t)(value >> 16) & PM_ENABLE_BITS;
        size = 2;
    }
    if (offset < 2)
        status &= (uint16_t)~merged(0, offset, size, value);
    else
        enable = merged(enable, offset, size, value) & PM_ENABLE_BITS;
    sci_update();
}

static uint64_t control_read(void *device, uint64_t offset, unsigned size)
{
    (void)device, (void)size;
    return control >> 8 * offset;
}

static void control_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    (void)device;
    uint16_t all = merged(control, offset, size, value);
    control = (all & PM_CONTROL_BITS) | PM_SCI_ENABLE;
    if (!(all & PM_SLEEP)) return;
    if (PM_SLEEP_TYPE(all) == VM_PM_S5)
        vm_power_off();
    else
        vm_note("ACPI: sleep type %u is none of ours", PM_SLEEP_TYPE(all));
}

/* 24 bits: 4.8.3.3. */
static uint64_t timer_read(void *device, uint64_t offset, unsigned size)
{
    (void)device, (void)size;
    uint64_t now = vm_now();
    uint64_t ticks = now / NS * PM_HZ + now % NS * PM_HZ / NS;
    return (ticks & 0xffffff) >> 8 * offset;
}

static void timer_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    (void)device, (void)offset, (void)size, (void)value; /* read-only */
}

void acpi_pm_init(void)
{
    status = enable = 0;
    control = PM_SCI_ENABLE;
    struct io_range event = {VM_PM_PORT, 4, NULL, event_read, event_write, false};
    struct io_range sleep = {VM_PM_PORT + 4, 2, NULL, control_read, control_write, false};
    struct io_range timer = {VM_PM_PORT + 8, 4, NULL, timer_read, timer_write, false};
    port_add(&event);
    port_add(&sleep);
    port_add(&timer);
}
