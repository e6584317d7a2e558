/* SPDX-License-Identifier: MIT
 *
 * The I/O APIC (Intel 82093AA data sheet; version 20h's EOI register): 24 pins. `level` is
 * whether a line is asserted, whatever polarity the guest believes it has.
 *
 * Invariant: a pin with remote IRR set has sent its level interrupt and waits for its EOI,
 * at which it sends again if the line is still asserted. Under the device lock.
 */
#include "vmm.h"

#define PINS 24
#define VERSION (0x20 | (PINS - 1) << 16)

/* The page: 3.1. */
#define AT_SELECT 0x00
#define AT_WINDOW 0x10
#define AT_EOI 0x40
/* Registers: 3.2. */
#define REG_ID 0
#define REG_VERSION 1
#define REG_ARBITRATION 2
#define REG_PINS 0x10

/* A redirection entry: 3.2.4. */
#define PIN_LOGICAL 0x800ull
#define PIN_REMOTE_IRR 0x4000ull
#define PIN_LEVEL 0x8000ull
#define PIN_MASKED 0x10000ull
#define PIN_READ_ONLY 0x5000ull /* delivery status, remote IRR */
#define PIN_BITS 0xff0000000001ffffull
#define PIN_VECTOR(pin) ((unsigned)(pin)&0xff)
#define PIN_MODE(pin) ((unsigned)((pin) >> 8) & 7)

static uint64_t pins[PINS];
static uint32_t asserted; /* a bit a line */
static uint8_t selected;
static uint32_t id;

static void send(unsigned pin)
{
    uint64_t entry = pins[pin];
    if (entry & PIN_LEVEL) pins[pin] |= PIN_REMOTE_IRR;
    lapic_message((uint32_t)(entry >> 56), entry & PIN_LOGICAL, PIN_MODE(entry), PIN_VECTOR(entry),
                  entry & PIN_LEVEL);
}

/* A level-triggered line that is asserted and free to send does so. */
static void level_check(unsigned pin)
{
    uint64_t entry = pins[pin];
    if (asserted & 1u << pin && entry & PIN_LEVEL && !(entry & (PIN_MASKED | PIN_REMOTE_IRR)))
        send(pin);
}

void ioapic_set(unsigned pin, bool level)
{
    if (pin >= PINS) return;
    bool rises = level && !(asserted & 1u << pin);
    asserted = level ? asserted | 1u << pin : asserted & ~(1u << pin);
    if (pins[pin] & PIN_LEVEL)
        level_check(pin);
    else if (rises && !(pins[pin] & PIN_MASKED))
        send(pin);
}

void ioapic_eoi(unsigned vector)
{
    for (unsigned i = 0; i < PINS; i++) {
        if (!(pins[i] & PIN_REMOTE_IRR) || PIN_VECTOR(pins[i]) != vector) continue;
        pins[i] &= ~PIN_REMOTE_IRR;
        level_check(i);
    }
}

static uint32_t register_read(void)
{
    if (selected == REG_ID || selected == REG_ARBITRATION) return id;
    if (selected == REG_VERSION) return VERSION;
    unsigned pin = (selected - REG_PINS) / 2u;
    if (selected < REG_PINS || pin >= PINS) return 0;
    return (uint32_t)(selected & 1 ? pins[pin] >> 32 : pins[pin]);
}

static void register_write(uint32_t value)
{
    unsigned pin = (selected - REG_PINS) / 2u;
    if (selected == REG_ID) id = value & 0x0f000000;
    if (selected < REG_PINS || pin >= PINS) return;
    uint64_t old = pins[pin], entry = selected & 1 ? (old & 0xffffffff) | (uint64_t)value << 32
                                                   : (old & ~0xffffffffull) | value;
    entry = (entry & PIN_BITS & ~PIN_READ_ONLY) | (old & PIN_REMOTE_IRR);
    /* As edge-triggered it waits for nothing: how Linux clears a stuck remote IRR. */
    if (!(entry & PIN_LEVEL)) entry &= ~PIN_REMOTE_IRR;
    pins[pin] = entry;
    level_check(pin);
}

static uint64_t ioapic_read(void *device, uint64_t offset, unsigned size)
{
    (void)device, (void)size;
    if (offset == AT_SELECT) return selected;
    return offset == AT_WINDOW ? register_read() : 0;
}

static void ioapic_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    (void)device, (void)size;
    if (offset == AT_SELECT)
        selected = (uint8_t)value;
    else if (offset == AT_WINDOW)
        register_write((uint32_t)value);
    else if (offset == AT_EOI)
        ioapic_eoi((unsigned)value & 0xff);
}

void ioapic_init(void)
{
    for (unsigned i = 0; i < PINS; i++)
        pins[i] = PIN_MASKED;
    asserted = 0;
    selected = 0;
    id = 0;
    struct io_range range = {VM_IOAPIC, EXO_PAGE, NULL, ioapic_read, ioapic_write, false};
    mmio_add(&range);
}
