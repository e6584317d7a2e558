/* SPDX-License-Identifier: MIT
 *
 * Configuration space of PCI bus 0 by configuration mechanism 1 (PCI Local Bus
 * Specification 3.0, 3.2.2.3.2), the host bridge in slot 0, BARs, and MSI-X. Every
 * register is bytes in config[] with a mask of those bits that the guest can change: the
 * size of a BAR comes out of its mask.
 *
 * Invariant: a BAR with `mapped` has a range of ports or device memory at `address`, and
 * no other has. A guest may put BARs over each other: the first one there answers, the
 * others do as soon as the place is free.
 */
#include "pci.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define CONFIG_ENABLE 0x80000000u

/* PCI 3.0, 6.1: the header. */
#define COMMAND 0x04
#define COMMAND_PORTS 1
#define COMMAND_MEMORY 2
#define COMMAND_MASTER 4
#define COMMAND_NO_INTX 0x400
#define STATUS 0x06
#define STATUS_INTX 0x08
#define STATUS_CAPABILITIES 0x10
#define BAR_FIRST 0x10
#define BAR_END 0x28
#define BAR_PORTS 1
#define BAR_WIDE 4
#define CAPABILITIES 0x34
#define INTERRUPT_LINE 0x3c
#define INTERRUPT_PIN 0x3d
#define HEADER_END 0x40

/* PCI 3.0, 6.8.2: MSI-X. */
#define MSIX_ID 0x11
#define MSIX_CONTROL 2 /* offset in the capability */
#define MSIX_MASKED 0x4000
#define MSIX_ENABLE 0x8000
#define MSIX_PENDING 0x800 /* offset in the BAR; the table is at 0 */
#define MSIX_ENTRY 16

#define PORTS_FIRST 0xc000 /* where BARs are before the guest moves them */

/* The host bridge: what firmware for virtual machines knows. */
#define BRIDGE_VENDOR 0x8086
#define BRIDGE_DEVICE 0x1237 /* 82441FX */
#define BRIDGE_CLASS 0x060000

static struct pci_function *slots[PCI_SLOTS];
static struct pci_function bridge;
static uint32_t config_address;
static uint64_t next_memory, next_ports;
static unsigned line_count[2]; /* functions that drive GSI 10, 11 */
static uint8_t reset_control;

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] | at[1] << 8); }
static uint32_t get32(const uint8_t *at) { return get16(at) | (uint32_t)get16(at + 2) << 16; }
static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}
static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value);
    put16(at + 2, value >> 16);
}

/* ---- interrupts ------------------------------------------------------------------------ */

unsigned pci_gsi(unsigned slot) { return 10 + slot % 2; }

bool pci_msix_enabled(const struct pci_function *function)
{
    return function->msix && get16(function->config + function->msix + MSIX_CONTROL) & MSIX_ENABLE;
}

/* The line as it leaves the function; counted, for slots share it. */
static void line_drive(struct pci_function *function, bool level)
{
    bool allowed = !(get16(function->config + COMMAND) & COMMAND_NO_INTX) &&
                   !pci_msix_enabled(function) && function->intx;
    bool drive = level && allowed;
    if (drive == function->driven) return;
    function->driven = drive;
    unsigned *count = &line_count[function->slot % 2];
    *count += drive ? 1u : -1u;
    if (*count == drive) irq_set(pci_gsi(function->slot), drive);
}

void pci_intx_set(struct pci_function *function, bool level)
{
    function->line = level;
    line_drive(function, level);
}

void pci_msix_send(struct pci_function *function, unsigned vector)
{
    if (vector >= function->vectors || !pci_msix_enabled(function)) return;
    bool masked = get16(function->config + function->msix + MSIX_CONTROL) & MSIX_MASKED;
    if (masked || function->entry[vector].control & 1) {
        function->pending |= (uint16_t)(1u << vector);
        return;
    }
    function->pending &= (uint16_t) ~(1u << vector);
    if (get16(function->config + COMMAND) & COMMAND_MASTER)
        msi_send(function->entry[vector].address, function->entry[vector].data);
}

/* Something was unmasked: what came meanwhile goes out. */
static void msix_resend(struct pci_function *function)
{
    for (unsigned i = 0; i < function->vectors; i++)
        if (function->pending & 1u << i) pci_msix_send(function, i);
}

static uint32_t table_read(const struct pci_function *function, uint64_t offset)
{
    if (offset >= MSIX_PENDING) return offset == MSIX_PENDING ? function->pending : 0;
    uint64_t index = offset / MSIX_ENTRY;
    if (index >= function->vectors) return 0;
    switch (offset % MSIX_ENTRY) {
    case 0:
        return (uint32_t)function->entry[index].address;
    case 4:
        return (uint32_t)(function->entry[index].address >> 32);
    case 8:
        return function->entry[index].data;
    default:
        return function->entry[index].control;
    }
}

static void table_write(struct pci_function *function, uint64_t offset, uint32_t value)
{
    uint64_t index = offset / MSIX_ENTRY;
    if (index >= function->vectors) return;
    uint64_t *address = &function->entry[index].address;
    switch (offset % MSIX_ENTRY) {
    case 0:
        *address = (*address & ~0xffffffffull) | (value & ~3u);
        break;
    case 4:
        *address = (*address & 0xffffffff) | (uint64_t)value << 32;
        break;
    case 8:
        function->entry[index].data = value;
        break;
    default:
        function->entry[index].control = value & 1;
        msix_resend(function);
    }
}

/* Only aligned accesses of 4 and 8 bytes are defined: PCI 3.0, 6.8.2. */
static uint64_t msix_read(void *device, uint64_t offset, unsigned size)
{
    if (size < 4 || offset % size) return 0;
    uint64_t value = table_read(device, offset);
    if (size == 8) value |= (uint64_t)table_read(device, offset + 4) << 32;
    return value;
}

static void msix_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    if (size < 4 || offset % size) return;
    table_write(device, offset, (uint32_t)value);
    if (size == 8) table_write(device, offset + 4, (uint32_t)(value >> 32));
}

/* ---- BARs --------------------------------------------------------------------------------- */

static void *bar_device(struct pci_function *function, unsigned i)
{
    return function->vectors && i == PCI_MSIX_BAR ? (void *)function : function->self;
}

/* Where the guest wants the BAR; 0: nowhere. */
static uint64_t bar_wanted(const struct pci_function *function, unsigned i)
{
    const struct pci_bar *bar = &function->bar[i];
    uint16_t command = get16(function->config + COMMAND);
    if (!bar->size || !(command & (bar->ports ? COMMAND_PORTS : COMMAND_MEMORY))) return 0;
    const uint8_t *at = function->config + BAR_FIRST + 4 * i;
    uint64_t address = get32(at) & (bar->ports ? ~3u : ~15u);
    if (bar->wide) address |= (uint64_t)get32(at + 4) << 32;
    return bar->ports ? address & 0xffff : address;
}

static void bar_unmap(struct pci_function *function, unsigned i)
{
    struct pci_bar *bar = &function->bar[i];
    if (!bar->mapped) return;
    if (bar->ports)
        port_remove(bar_device(function, i), bar->address);
    else
        mmio_remove(bar_device(function, i), bar->address);
    bar->mapped = false;
}

static void bar_map(struct pci_function *function, unsigned i)
{
    struct pci_bar *bar = &function->bar[i];
    struct io_range range = {.base = bar_wanted(function, i),
                             .count = bar->size,
                             .device = bar_device(function, i),
                             .read = bar->read,
                             .write = bar->write};
    if (bar->mapped || !range.base) return;
    bar->address = range.base;
    bar->mapped = (bar->ports ? port_add(&range) : mmio_add(&range)) == 0;
}

/* A function's BARs or its command register changed. */
static void bars_place(struct pci_function *changed)
{
    for (unsigned i = 0; i < PCI_BARS; i++)
        if (changed->bar[i].address != bar_wanted(changed, i)) bar_unmap(changed, i);
    for (unsigned s = 0; s < PCI_SLOTS; s++)
        for (unsigned i = 0; slots[s] && i < PCI_BARS; i++)
            if (slots[s]->bar[i].size) bar_map(slots[s], i);
}

/* ---- configuration space ---------------------------------------------------------------------- */

/* The function that config_address names, NULL: none. */
static struct pci_function *config_function(void)
{
    bool here = config_address & CONFIG_ENABLE && !(config_address & 0x7fff0700);
    return here ? slots[config_address >> 11 & 31] : NULL;
}

static uint64_t data_read(void *device, uint64_t offset, unsigned size)
{
    (void)device;
    struct pci_function *f = config_function();
    if (!f) return ~0ull;
    unsigned at = (config_address & 0xfc) + (unsigned)offset;
    if (at >= HEADER_END && f->config_read) f->config_read(f->self, at, size);
    f->config[STATUS] = (uint8_t)((f->config[STATUS] & ~STATUS_INTX) | (f->line ? STATUS_INTX : 0));
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)f->config[at + i] << 8 * i;
    return value;
}

static void data_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    (void)device;
    struct pci_function *f = config_function();
    if (!f) return;
    unsigned at = (config_address & 0xfc) + (unsigned)offset;
    for (unsigned i = 0; i < size; i++, value >>= 8) {
        uint8_t mask = f->writable[at + i];
        f->config[at + i] = (uint8_t)((f->config[at + i] & ~mask) | (value & mask));
    }
    if (at < BAR_END && at + size > COMMAND) bars_place(f);
    if (at < COMMAND + 2 || (f->msix && at >= f->msix && at < f->msix + 4)) {
        line_drive(f, f->line);
        msix_resend(f);
    }
    if (at >= HEADER_END && f->config_written) f->config_written(f->self, at, size);
}

static uint64_t address_read(void *device, uint64_t offset, unsigned size)
{
    (void)device;
    if (offset == VM_RESET_PORT - CONFIG_ADDRESS && size == 1) return reset_control;
    return size == 4 ? config_address : ~0ull;
}

/* Narrow writes are not to the address register; one is the reset control register. */
static void address_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    (void)device;
    if (size == 4) {
        config_address = (uint32_t)value & (CONFIG_ENABLE | 0xfffffc);
    } else if (offset == VM_RESET_PORT - CONFIG_ADDRESS && size == 1) {
        bool rises = value & ~(uint64_t)reset_control & 4;
        reset_control = value & 6;
        if (rises) vm_reset();
    }
}

/* ---- adding ---------------------------------------------------------------------------------------- */

static bool bars_good(const struct pci_function *function)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        const struct pci_bar *bar = &function->bar[i];
        if (!bar->size) continue;
        uint64_t least = bar->ports ? 4 : 4096, most = bar->ports ? 256 : 1u << 28;
        if (bar->size & (bar->size - 1) || bar->size < least || bar->size > most) return false;
        if (bar->wide && (bar->ports || i + 1 == PCI_BARS || function->bar[i + 1].size))
            return false;
        if (i == PCI_MSIX_BAR && function->vectors && bar->read != msix_read) return false;
    }
    return function->vectors <= PCI_VECTORS;
}

/* An address of its own, as firmware would give it, and the mask that tells the size. */
static void bar_set_up(struct pci_function *function, unsigned i)
{
    struct pci_bar *bar = &function->bar[i];
    uint64_t *next = bar->ports ? &next_ports : &next_memory;
    uint64_t address = (*next + bar->size - 1) & ~(bar->size - 1);
    *next = address + bar->size;
    bar->mapped = false;
    bar->address = 0;
    uint8_t *at = function->config + BAR_FIRST + 4 * i;
    uint8_t *mask = function->writable + BAR_FIRST + 4 * i;
    put32(at, (uint32_t)address | (bar->ports ? BAR_PORTS : bar->wide ? BAR_WIDE : 0));
    put32(mask, (uint32_t)(0 - bar->size));
    if (bar->wide) put32(mask + 4, 0xffffffff);
}

static void header_set_up(struct pci_function *f)
{
    memset(f->config, 0, sizeof(f->config));
    memset(f->writable, 0, sizeof(f->writable));
    put16(f->config + 0x00, f->vendor);
    put16(f->config + 0x02, f->device);
    put32(f->config + 0x08, f->class_code << 8 | f->revision);
    put16(f->config + 0x2c, f->subsystem_vendor);
    put16(f->config + 0x2e, f->subsystem);
    put16(f->writable + COMMAND,
          COMMAND_PORTS | COMMAND_MEMORY | COMMAND_MASTER | (f->intx ? COMMAND_NO_INTX : 0));
    f->config[INTERRUPT_PIN] = f->intx;
    f->config[INTERRUPT_LINE] = (uint8_t)(f->intx ? pci_gsi(f->slot) : 0);
    f->writable[INTERRUPT_LINE] = 0xff;
    f->writable[0x0c] = 0xff; /* cache line size: kept, without effect */
    for (unsigned i = 0; i < PCI_BARS; i++)
        if (f->bar[i].size) bar_set_up(f, i);
}

static void msix_set_up(struct pci_function *f)
{
    memset(f->entry, 0, sizeof(f->entry));
    for (unsigned i = 0; i < PCI_VECTORS; i++)
        f->entry[i].control = 1;
    f->pending = 0;
    if (!f->vectors) return;
    uint8_t bytes[12] = {MSIX_ID};
    put16(bytes + MSIX_CONTROL, f->vectors - 1);
    put32(bytes + 4, PCI_MSIX_BAR);
    put32(bytes + 8, MSIX_PENDING | PCI_MSIX_BAR);
    f->msix = (unsigned)pci_capability(f, bytes, sizeof(bytes));
    put16(f->writable + f->msix + MSIX_CONTROL, MSIX_MASKED | MSIX_ENABLE);
}

long pci_capability(struct pci_function *function, const void *bytes, unsigned n)
{
    unsigned at = (function->capability_end + 3) & ~3u;
    if (n < 4 || n > sizeof(function->config) - at) return -EXO_E_LIMIT;
    memcpy(function->config + at, bytes, n);
    function->config[at + 1] = 0;
    unsigned link = function->capability_last ? function->capability_last + 1 : CAPABILITIES;
    function->config[link] = (uint8_t)at;
    function->config[STATUS] |= STATUS_CAPABILITIES;
    function->capability_last = at;
    function->capability_end = at + n;
    return at;
}

long pci_add(struct pci_function *function)
{
    unsigned slot = 0;
    while (slot < PCI_SLOTS && slots[slot])
        slot++;
    if (slot == PCI_SLOTS) return -EXO_E_LIMIT;
    if (function->vectors)
        function->bar[PCI_MSIX_BAR] =
            (struct pci_bar){.size = 4096, .read = msix_read, .write = msix_write};
    if (!bars_good(function)) return -EXO_E_BOUND;
    function->slot = slot;
    function->line = function->driven = false;
    function->msix = function->capability_last = 0;
    function->capability_end = HEADER_END;
    header_set_up(function);
    msix_set_up(function);
    slots[slot] = function;
    return 0;
}

void pci_init(void)
{
    memset(slots, 0, sizeof(slots));
    memset(line_count, 0, sizeof(line_count));
    config_address = 0;
    reset_control = 0;
    next_memory = VM_PCI_HOLE;
    next_ports = PORTS_FIRST;
    struct io_range address = {CONFIG_ADDRESS, 4, NULL, address_read, address_write, false};
    struct io_range data = {CONFIG_DATA, 4, NULL, data_read, data_write, false};
    port_add(&address);
    port_add(&data);
    bridge = (struct pci_function){
        .vendor = BRIDGE_VENDOR, .device = BRIDGE_DEVICE, .class_code = BRIDGE_CLASS};
    pci_add(&bridge);
    /* Memory attributes and the like: firmware writes and reads them; all is RAM anyhow. */
    memset(bridge.writable + HEADER_END, 0xff, sizeof(bridge.writable) - HEADER_END);
}
