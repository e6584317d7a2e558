/* SPDX-License-Identifier: MIT
 *
 * The one ACPI table that the kernel needs: MADT, which lists CPUs, I/O APICs and
 * how the ISA interrupts are wired. Read once at boot; lengths are checked, and
 * tables that do not lie below 4 GiB are not found.
 * ACPI specification 6.4: 5.2.5 (RSDP), 5.2.6 (headers), 5.2.12 (MADT).
 */
#include "x86.h"

struct acpi acpi;

struct rsdp {
    char signature[8];
    uint8_t checksum;
    char oem[6];
    uint8_t revision;
    uint32_t rsdt, length;
    uint64_t xsdt;
} __attribute__((packed));

struct header {
    char signature[4];
    uint32_t length;
    uint8_t revision, checksum;
    char oem[26];
} __attribute__((packed));
_Static_assert(sizeof(struct header) == 36, "table header");

struct madt {
    struct header header;
    uint32_t lapic, flags;
    uint8_t entries[];
} __attribute__((packed));

enum { MADT_CPU, MADT_IOAPIC, MADT_OVERRIDE, MADT_X2APIC_CPU = 9 };
#define CPU_ENABLED 1u
#define POLARITY_LOW 3u /* of the two low bits of an override's flags */
#define TRIGGER_LEVEL 12u /* of the next two */

static uint32_t read32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static const struct header *table_at(uint64_t phys)
{
    if (!phys || phys >= 0xfffff000u) return NULL;
    const struct header *h = phys_ptr(phys);
    uint8_t sum = 0;
    if (h->length < sizeof *h || h->length > 0x100000) return NULL;
    for (uint32_t i = 0; i < h->length; i++)
        sum += ((const uint8_t *)h)[i];
    return sum ? NULL : h;
}

static const struct header *table_find(const char *signature)
{
    const struct rsdp *rsdp = (const struct rsdp *)boot.rsdp;
    bool newer = rsdp->revision >= 2 && rsdp->xsdt;
    const struct header *root = table_at(newer ? rsdp->xsdt : rsdp->rsdt);
    if (!root) return NULL;
    uint32_t entry = newer ? 8 : 4;
    for (uint32_t at = sizeof *root; at + entry <= root->length; at += entry) {
        const uint8_t *p = (const uint8_t *)root + at;
        uint64_t phys = read32(p) | (newer ? (uint64_t)read32(p + 4) << 32 : 0);
        const struct header *h = table_at(phys);
        if (h && !memcmp(h->signature, signature, 4)) return h;
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
    const struct madt *madt = (const struct madt *)table_find("APIC");
    if (!madt) panic("the firmware has no ACPI table of CPUs (MADT)");
    uint32_t bytes = madt->header.length - sizeof *madt;
    for (uint32_t at = 0; at + 2 <= bytes;) {
        const uint8_t *e = madt->entries + at;
        if (e[1] < 2 || at + e[1] > bytes) break;
        entry_read(e, e[1]);
        at += e[1];
    }
    if (!acpi.cpus || !acpi.ioapics)
        panic("the ACPI table of CPUs (MADT) names no CPU or no I/O APIC");
    if (acpi.skipped)
        kprintf("exovisor: %u CPUs beyond %d are not used\n", acpi.skipped, EXO_MAX_CPUS);
}
