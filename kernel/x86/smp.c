/* SPDX-License-Identifier: MIT
 *
 * Starting the other CPUs, one at a time: start.S's trampoline is copied below
 * 1 MiB, each CPU comes through it to smp_main on its own stack, sets itself up and
 * waits until root is loaded. A CPU that does not come is left out.
 */
#include "x86.h"

#define PATIENCE_US 1000000

uint64_t smp_stack; /* of the CPU being started; start.S reads it */
void smp_main(void) __attribute__((noreturn));
static volatile uint32_t arrived, go; /* CPUs that are up; they may begin */

void smp_main(void)
{
    cpu_init(arrived);
    lapic_init();
    kprintf("exovisor: CPU %u up\n", arrived);
    __atomic_store_n(&arrived, arrived + 1, __ATOMIC_RELEASE);
    while (!go)
        __builtin_ia32_pause();
    cpu_enter();
}

/* The highest page of RAM below 640 KiB. */
static unsigned trampoline_page(void)
{
    for (uint64_t page = 0x9f; page; page--)
        for (unsigned i = 0; i < boot.ranges; i++)
            if (boot.range[i].type == BOOT_RAM && boot.range[i].base <= page << 12 &&
                (page + 1) << 12 <= boot.range[i].end)
                return (unsigned)page;
    panic("no RAM below 640 KiB to start the other CPUs from");
}

static bool cpu_start(uint32_t apic_id, unsigned page)
{
    uint32_t before = arrived;
    memory_cpu(before);
    smp_stack = stack_top(before, 0);
    ipi_start(apic_id, page);
    for (unsigned us = 0; us < PATIENCE_US && arrived == before; us += 100)
        tsc_wait(100);
    if (arrived == before) kprintf("exovisor: the CPU with APIC id %u does not start\n", apic_id);
    return arrived != before;
}

void smp_init(void)
{
    unsigned page = trampoline_page();
    arrived = 1;
    kprintf("exovisor: CPU 0 up\n");
    memcpy(phys_ptr((uint64_t)page << 12), phys_ptr(boot_tables.trampoline),
           boot_tables.trampoline_bytes);
    for (unsigned i = 0; i < acpi.cpus; i++)
        if (acpi.apic_id[i] != lapic_id() && !cpu_start(acpi.apic_id[i], page))
            break; /* it may still come: nothing may be changed under it */
    ncpus = arrived;
    cpus = phys_ptr(memory_take((ncpus * sizeof *cpus + EXO_PAGE - 1) >> 12));
    for (unsigned i = 0; i < ncpus; i++) {
        cpus[i].id = i;
        percpus[i].core = &cpus[i];
    }
}

void smp_go(void) { __atomic_store_n(&go, 1, __ATOMIC_RELEASE); }
