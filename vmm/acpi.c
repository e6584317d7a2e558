/* SPDX-License-Identifier: MIT
 *
 * The ACPI tables (ACPI 6.4, chapter 5): RSDP, XSDT, FADT, MADT, and a DSDT whose AML
 * (chapter 20) is put together here. They say no more than Linux needs: the PCI root with
 * its windows and interrupt lines, serial port, clock, keyboard, soft-off.
 */
#include "pci.h"

#define TABLES 0xe0000 /* guest-physical; reserved in the memory map */
#define TABLES_BYTES 0x10000
#define HEADER 36 /* bytes of a table's header */
#define OEM "EXOVIS"
#define FADT_BYTES 276
#define RSDP_BYTES 36

/* FADT: offsets and values, table 5.9. */
#define FADT_DSDT 40
#define FADT_SCI 46
#define FADT_PM1_EVENT 56
#define FADT_PM1_CONTROL 64
#define FADT_PM_TIMER 76
#define FADT_LENGTHS 88 /* PM1 event, PM1 control, PM2 control, timer */
#define FADT_LATENCIES 96
#define FADT_BOOT_ARCH 109
#define FADT_FLAGS 112
#define FADT_RESET 116
#define FADT_RESET_VALUE 128
#define FADT_X_DSDT 140
#define BOOT_ARCH 0x7 /* legacy devices, 8042, no VGA */
#define FLAGS 0x465 /* WBINVD, C1, no sleep button, no RTC wake bits, reset register */

/* A table being written: where, and how far. */
struct writer {
    uint8_t *base;
    uint32_t at, end;
};

static void put(struct writer *w, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes && w->at < w->end; i++)
        w->base[w->at++] = (uint8_t)(value >> 8 * i);
}

static void put_text(struct writer *w, const char *text, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        put(w, (uint8_t)text[i], 1);
}

static uint8_t sum(const uint8_t *bytes, unsigned n)
{
    uint8_t s = 0;
    while (n--)
        s = (uint8_t)(s + *bytes++);
    return s;
}

/* Begins a table at a multiple of 16; its offset. */
static uint32_t table_begin(struct writer *w, const char *signature, unsigned revision)
{
    w->at = (w->at + 15) & ~15u;
    uint32_t start = w->at;
    put_text(w, signature, 4);
    put(w, 0, 4); /* length: table_end */
    put(w, revision, 1);
    put(w, 0, 1); /* checksum: table_end */
    put_text(w, OEM "EXOVISOR", 14);
    put(w, 1, 4);
    put_text(w, "EXOV", 4);
    put(w, 1, 4);
    return start;
}

static uint64_t table_end(struct writer *w, uint32_t start)
{
    uint32_t length = w->at - start;
    memcpy(w->base + start + 4, &length, 4);
    w->base[start + 9] = (uint8_t)-sum(w->base + start, length);
    return TABLES + start;
}

/* ---- AML ----------------------------------------------------------------------------------- */

#define AML_NAME 0x08
#define AML_BYTE 0x0a
#define AML_DWORD 0x0c
#define AML_SCOPE 0x10
#define AML_BUFFER 0x11
#define AML_PACKAGE 0x12
#define AML_DEVICE 0x825b
#define EISA(id) ((id) << 16 | 0xd041u) /* "PNP" and four digits, swapped */

/* A term with a length: always the form of two bytes (20.2.4), up to 4095. */
static uint32_t aml_begin(struct writer *w, unsigned opcode)
{
    put(w, opcode, opcode > 0xff ? 2 : 1);
    put(w, 0, 2);
    return w->at - 2;
}

static void aml_end(struct writer *w, uint32_t begun)
{
    uint32_t length = w->at - begun;
    w->base[begun] = (uint8_t)(0x40 | (length & 15));
    w->base[begun + 1] = (uint8_t)(length >> 4);
}

static void aml_byte(struct writer *w, uint64_t value)
{
    put(w, AML_BYTE, 1);
    put(w, value, 1);
}

static void aml_dword(struct writer *w, uint64_t value)
{
    put(w, AML_DWORD, 1);
    put(w, value, 4);
}

static void aml_name(struct writer *w, const char *name)
{
    put(w, AML_NAME, 1);
    put_text(w, name, 4);
}

static uint32_t device_begin(struct writer *w, const char *name, uint32_t id)
{
    uint32_t begun = aml_begin(w, AML_DEVICE);
    put_text(w, name, 4);
    aml_name(w, "_HID");
    aml_dword(w, id);
    aml_name(w, "_UID");
    aml_byte(w, 0);
    return begun;
}

/* Resources are a buffer in _CRS: its term, and where its own size is. */
static uint32_t resources_begin(struct writer *w)
{
    aml_name(w, "_CRS");
    uint32_t begun = aml_begin(w, AML_BUFFER);
    aml_dword(w, 0);
    return begun;
}

static void resources_end(struct writer *w, uint32_t begun)
{
    put(w, 0x0079, 2); /* end tag */
    uint32_t size = w->at - (begun + 2 + 5);
    memcpy(w->base + begun + 3, &size, 4);
    aml_end(w, begun);
}

/* 6.4.2.5 and 6.4.2.1. */
static void resource_ports(struct writer *w, uint64_t first, unsigned count)
{
    put(w, 0x0147, 2);
    put(w, first, 2);
    put(w, first, 2);
    put(w, 1, 1);
    put(w, count, 1);
}

static void resource_irq(struct writer *w, unsigned irq)
{
    put(w, 0x22, 1);
    put(w, 1u << irq, 2);
}

/* A window of the bridge: 6.4.3.5. kind: 0 memory, 1 ports, 2 buses. */
static void resource_window(struct writer *w, unsigned kind, uint64_t first, uint64_t last)
{
    static const uint8_t flags[] = {1, 3, 0};
    unsigned bytes = kind == 0 ? 4 : 2;
    put(w, kind == 0 ? 0x87 : 0x88, 1);
    put(w, 3 + 5 * bytes, 2);
    put(w, kind, 1);
    put(w, 0x0c, 1); /* both ends fixed */
    put(w, flags[kind], 1);
    put(w, 0, bytes);
    put(w, first, bytes);
    put(w, last, bytes);
    put(w, 0, bytes);
    put(w, last - first + 1, bytes);
}

/* INTA# of each slot: 6.2.13. */
static void routes_write(struct writer *w)
{
    aml_name(w, "_PRT");
    uint32_t all = aml_begin(w, AML_PACKAGE);
    put(w, PCI_SLOTS, 1);
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
        uint32_t one = aml_begin(w, AML_PACKAGE);
        put(w, 4, 1);
        aml_dword(w, (uint64_t)slot << 16 | 0xffff);
        aml_byte(w, 0);
        aml_byte(w, 0);
        aml_byte(w, pci_gsi(slot));
        aml_end(w, one);
    }
    aml_end(w, all);
}

static void pci_write(struct writer *w)
{
    uint32_t device = device_begin(w, "PCI0", EISA(0x030au));
    uint32_t resources = resources_begin(w);
    resource_window(w, 2, 0, 0xff);
    resource_ports(w, 0xcf8, 8);
    resource_window(w, 1, 0, 0xcf7);
    resource_window(w, 1, 0xd00, 0xffff);
    resource_window(w, 0, VM_PCI_HOLE, VM_IOAPIC - 1);
    resources_end(w, resources);
    routes_write(w);
    aml_end(w, device);
}

static void legacy_write(struct writer *w)
{
    static const struct {
        const char *name;
        uint32_t id;
        uint16_t port[2];
        uint8_t count, irq;
    } devices[] = {
        {"COM1", EISA(0x0105u), {0x3f8, 0}, 8, 4},
        {"RTC0", EISA(0x000bu), {0x70, 0}, 2, 8},
        {"KBD0", EISA(0x0303u), {0x60, 0x64}, 1, 1},
    };
    for (unsigned i = 0; i < EXO_COUNT(devices); i++) {
        uint32_t device = device_begin(w, devices[i].name, devices[i].id);
        uint32_t resources = resources_begin(w);
        resource_ports(w, devices[i].port[0], devices[i].count);
        if (devices[i].port[1]) resource_ports(w, devices[i].port[1], devices[i].count);
        resource_irq(w, devices[i].irq);
        resources_end(w, resources);
        aml_end(w, device);
    }
}

static uint64_t dsdt_write(struct writer *w)
{
    uint32_t table = table_begin(w, "DSDT", 2);
    uint32_t scope = aml_begin(w, AML_SCOPE);
    put_text(w, "\\_SB_", 5);
    pci_write(w);
    legacy_write(w);
    aml_end(w, scope);
    aml_name(w, "_S5_"); /* 7.4.2: soft off */
    uint32_t sleep = aml_begin(w, AML_PACKAGE);
    put(w, 4, 1);
    aml_byte(w, VM_PM_S5);
    aml_byte(w, VM_PM_S5);
    aml_byte(w, 0);
    aml_byte(w, 0);
    aml_end(w, sleep);
    return table_end(w, table);
}

/* ---- tables ---------------------------------------------------------------------------------- */

static uint64_t fadt_write(struct writer *w, uint64_t dsdt)
{
    uint32_t table = table_begin(w, "FACP", 6);
    put(w, 0, 8);
    for (unsigned i = HEADER + 8; i < FADT_BYTES; i++)
        put(w, 0, 1);
    uint8_t *f = w->base + table;
    struct writer field = {f, 0, FADT_BYTES};
    const struct {
        uint16_t offset, bytes;
        uint64_t value;
    } fields[] = {
        {FADT_DSDT, 4, dsdt},
        {FADT_SCI, 2, VM_PM_SCI},
        {FADT_PM1_EVENT, 4, VM_PM_PORT},
        {FADT_PM1_CONTROL, 4, VM_PM_PORT + 4},
        {FADT_PM_TIMER, 4, VM_PM_PORT + 8},
        {FADT_LENGTHS, 4, 0x04000204},
        {FADT_LATENCIES, 4, 0xffffffff}, /* no C2, no C3 */
        {FADT_BOOT_ARCH, 2, BOOT_ARCH},
        {FADT_FLAGS, 4, FLAGS},
        {FADT_RESET, 4, 0x01000801}, /* a port, 8 bits */
        {FADT_RESET + 4, 8, VM_RESET_PORT},
        {FADT_RESET_VALUE, 1, VM_RESET_VALUE},
        {FADT_X_DSDT, 8, dsdt},
    };
    for (unsigned i = 0; i < EXO_COUNT(fields); i++) {
        field.at = fields[i].offset;
        put(&field, fields[i].value, fields[i].bytes);
    }
    return table_end(w, table);
}

/* 5.2.12. */
static uint64_t madt_write(struct writer *w, unsigned cpus)
{
    uint32_t table = table_begin(w, "APIC", 5);
    put(w, VM_LAPIC, 4);
    put(w, 1, 4); /* there are 8259s as well */
    for (unsigned i = 0; i < cpus; i++) {
        put(w, 0x0800, 2); /* local APIC */
        put(w, i, 1);
        put(w, i, 1);
        put(w, 1, 4);
    }
    put(w, 0x0c01, 2); /* I/O APIC */
    put(w, cpus, 1);
    put(w, 0, 1);
    put(w, VM_IOAPIC, 4);
    put(w, 0, 4);
    static const uint8_t overrides[][3] = {{0, 2, 0}, {VM_PM_SCI, VM_PM_SCI, 0xd}};
    for (unsigned i = 0; i < EXO_COUNT(overrides); i++) {
        put(w, 0x0a02, 2); /* interrupt source override */
        put(w, 0, 1);
        put(w, overrides[i][0], 1);
        put(w, overrides[i][1], 4);
        put(w, overrides[i][2], 2);
    }
    put(w, 0x0604, 2); /* NMI at LINT1 of all */
    put(w, 0xff, 1);
    put(w, 0, 2);
    put(w, 1, 1);
    return table_end(w, table);
}

uint64_t acpi_build(unsigned cpus)
{
    struct writer w = {guest_ptr(TABLES, TABLES_BYTES), 0, TABLES_BYTES};
    if (!w.base) return 0;
    memset(w.base, 0, TABLES_BYTES);
    w.at = RSDP_BYTES;
    uint64_t fadt = fadt_write(&w, dsdt_write(&w)), madt = madt_write(&w, cpus);
    uint32_t table = table_begin(&w, "XSDT", 1);
    put(&w, fadt, 8);
    put(&w, madt, 8);
    uint64_t xsdt = table_end(&w, table);
    w.at = 0; /* RSDP: 5.2.5.3 */
    put_text(&w, "RSD PTR ", 8);
    put(&w, 0, 1);
    put_text(&w, OEM, 6);
    put(&w, 2, 1);
    put(&w, 0, 4);
    put(&w, RSDP_BYTES, 4);
    put(&w, xsdt, 8);
    w.base[8] = (uint8_t)-sum(w.base, 20);
    w.base[32] = (uint8_t)-sum(w.base, RSDP_BYTES);
    return TABLES;
}
