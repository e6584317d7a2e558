/* SPDX-License-Identifier: MIT
 *
 * The one ACPI table that the kernel needs: MADT, which lists CPUs, I/O APICs and
 * how the ISA interrupts are wired. Read once at boot; lengths are checked, and
 * tables that do not lie below 4 GiB are not found.
 * ACPI specification 6.4: 5.2.5 (RSDP), 5.2.6 (headers), 5.2.12 (MADT).
 */
#include "x86.h"

struct acpi acpi;

/* Offsets of fields; a table begins with a header of 36 bytes. */
enum { RSDP_REVISION = 15, RSDP_RSDT = 16, RSDP_XSDT = 24 };
enum { TABLE_LENGTH = 4, TABLE_HEADER = 36, MADT_ENTRIES = 44 };
enum { MADT_CPU, MADT_IOAPIC, MADT_OVERRIDE, MADT_X2APIC_CPU = 9 };
#define CPU_ENABLED 1u
#define POLARITY_LOW 3u /* of the two low bits of an override's flags */
#define TRIGGER_LEVEL 12u /* of the next two */

typedef uint64_t anywhere64 __attribute__((aligned(1), may_alias));
static uint64_t read64(const uint8_t *p) { return *(const anywhere64 *)p; }
static uint32_t read32(const uint8_t *p) { return (uint32_t)read64(p); }

static const uint8_t *table_at(uint64_t phys)
{
    if (!phys || phys >= 0xfffff000u) return NULL;
    const uint8_t *table = phys_ptr(phys);
    uint32_t length = read32(table + TABLE_LENGTH);
    uint8_t sum = 0;
    if (length < TABLE_HEADER || length > 0x100000) return NULL;
    for (uint32_t i = 0; i < length; i++)
        sum += table[i];
    return sum ? NULL : table;
}

static const uint8_t *table_find(const char *signature)
{
    bool newer = boot.rsdp[RSDP_REVISION] >= 2 && read64(boot.rsdp + RSDP_XSDT) != 0;
    uint32_t entry = newer ? 8 : 4;
    const uint8_t *root =
        table_at(newer ? read64(boot.rsdp + RSDP_XSDT) : read32(boot.rsdp + RSDP_RSDT));
    if (!root) return NULL;
    for (uint32_t at = TABLE_HEADER; at + entry <= read32(root + TABLE_LENGTH); at += entry) {
        const uint8_t *table = table_at(newer ? read64(root + at) : read32(root + at));
        if (table && !memcmp(table, signature, 4)) return table;
    }
    return NULL;
}

static void cpu_add(uint32_t apic_id, uint32_t flags)
{
    if (!(flags & CPU_ENABLED)) return;
    if (acpi.cpus == EXO_MAX_CPUS)
        acpi.skipped++;
    else
        acpi.apic_id[acpi.cpus++] = apic_id;
}

static void override_add(const uint8_t *e)
{
    if (e[3] >= 16) return;
    acpi.isa[e[3]] = (struct acpi_override){.gsi = read32(e + 4),
                                            .set = true,
                                            .low = (e[8] & 3) == POLARITY_LOW,
                                            .level = (e[8] & 12) == TRIGGER_LEVEL};
}

/* e points to an entry of `length` bytes. */
static void entry_read(const uint8_t *e, unsigned length)
{
    if (e[0] == MADT_CPU && length >= 8) {
        cpu_add(e[3], read32(e + 4));
    } else if (e[0] == MADT_X2APIC_CPU && length >= 16) {
        cpu_add(read32(e + 4), read32(e + 8));
    } else if (e[0] == MADT_IOAPIC && length >= 12 && acpi.ioapics < 8) {
        acpi.ioapic[acpi.ioapics].base = read32(e + 4);
        acpi.ioapic[acpi.ioapics++].gsi = read32(e + 8);
    } else if (e[0] == MADT_OVERRIDE && length >= 10) {
        override_add(e);
    }
}

void acpi_init(void)
{
    const uint8_t *madt = table_find("APIC");
    if (!madt) panic("the firmware has no ACPI table of CPUs (MADT)");
    uint32_t length = read32(madt + TABLE_LENGTH);
    for (uint32_t at = MADT_ENTRIES; at + 2 <= length;) {
        const uint8_t *e = madt + at;
        if (e[1] < 2 || at + e[1] > length) break;
        entry_read(e, e[1]);
        at += e[1];
    }
    if (!acpi.cpus || !acpi.ioapics)
        panic("the ACPI table of CPUs (MADT) names no CPU or no I/O APIC");
    if (acpi.skipped)
        kprintf("exovisor: %u CPUs beyond %d are not used\n", acpi.skipped, EXO_MAX_CPUS);
}
