/* SPDX-License-Identifier: MIT
 *
 * Random accesses of a hostile guest to the monitor's devices: ports, device memory, MSRs,
 * configuration space, guest memory, time. The sanitizers watch; and after each step no
 * CPU may have an interrupt that it can take now and was not told of.
 *
 * Built with -DFUZZ_LIBFUZZER the choices come from libFuzzer's bytes; otherwise from a
 * seeded generator: fuzz_vmm SEED RUNS STEPS.
 */
#define HOST_IRQ_REAL
#include "../unit/vmm_host.c"
#include "fuzz_vmm.h"

#define CPUS 3

/* ---- choices ------------------------------------------------------------------------------ */

static const uint8_t *input;
static size_t input_left;
static uint64_t random_state;

static uint64_t random64(void)
{
    if (input) {
        uint64_t v = 0;
        for (int i = 0; i < 2 && input_left > 0; i++, input_left--)
            v = v << 8 | *input++;
        return v * 0x9e3779b97f4a7c15u >> 7;
    }
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state >> 3;
}

uint64_t fuzz_pick(uint64_t below) { return random64() % below; }

uint64_t fuzz_wild(void)
{
    switch (fuzz_pick(6)) {
    case 0:
        return fuzz_pick(16);
    case 1:
        return 1ull << fuzz_pick(64);
    case 2:
        return (1ull << fuzz_pick(64)) - 1;
    case 3:
        return ~fuzz_pick(0x10000);
    case 4:
        return fuzz_pick(HOST_RAM);
    default:
        return random64() << 32 ^ random64();
    }
}

/* ---- the machine ------------------------------------------------------------------------------ */

static unsigned seen[CPUS]; /* kicks when the CPU was last looked at */
static bool waiting[CPUS]; /* it had an interrupt then */

static void machine_start(void)
{
    uint64_t now = host.now;
    io_reset();
    host.timers = NULL;
    host = (struct vm_host){.now = now ? now : 1000000000, .cpus = CPUS};
    for (unsigned i = 0; i < CPUS; i++) {
        lapic_reset(i);
        seen[i] = 0;
        waiting[i] = false;
    }
    ioapic_init();
    pic_init();
    pit_init();
    cmos_init(HOST_RAM, 5ull << 30);
    i8042_init();
    uart_init(0x3f8, 4);
    acpi_pm_init();
    debug_port_init();
    pci_init();
    fuzz_virtio_start();
}

static bool can_take(unsigned cpu)
{
    return lapic_pending(cpu) >= 0 || (lapic_takes_pic(cpu) && pic_pending() >= 0);
}

static void check_told(void)
{
    for (unsigned i = 0; i < CPUS; i++) {
        bool now = can_take(i);
        if (now && !waiting[i] && host.kicks[i] == seen[i]) {
            printf("FAIL fuzz_vmm: CPU %u was not told of its interrupt\n", i);
            fflush(stdout);
            abort();
        }
        waiting[i] = now;
        seen[i] = host.kicks[i];
    }
}

/* ---- steps ----------------------------------------------------------------------------------------- */

static void step_port(void)
{
    static const uint16_t known[] = {0x20,  0x21,  0xa0,  0xa1,  0x4d0, 0x40,  0x41,  0x42,
                                     0x43,  0x61,  0x60,  0x64,  0x70,  0x71,  0x3f8, 0x3f9,
                                     0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x600, 0x602, 0x604, 0x608,
                                     0xcf8, 0xcf9, 0xcfc, 0xcfe, 0x402, 0xc000};
    uint64_t port = known[fuzz_pick(EXO_COUNT(known))] + (fuzz_pick(4) ? 0 : fuzz_pick(8));
    unsigned size = 1u << fuzz_pick(3);
    if (fuzz_pick(16) == 0) port = fuzz_pick(0x10000);
    if (fuzz_pick(3))
        port_out(port, size, fuzz_pick(2) ? fuzz_pick(256) : fuzz_wild());
    else
        port_in(port, size);
}

static void step_memory(void)
{
    uint64_t value, at = fuzz_pick(2) ? VM_IOAPIC : VM_PCI_HOLE + fuzz_pick(64) * 0x1000;
    unsigned size = 1u << fuzz_pick(4);
    at += fuzz_pick(3) ? fuzz_pick(20) * 4 : fuzz_pick(4096);
    if (fuzz_pick(8) == 0) at = fuzz_wild();
    if (fuzz_pick(3) == 0)
        mmio_read(at, size, &value);
    else
        mmio_write(at, size, fuzz_pick(2) ? fuzz_pick(0x20000) : fuzz_wild());
}

static void step_ioapic(void)
{
    mmio_write(VM_IOAPIC, 4, 0x10 + fuzz_pick(48));
    mmio_write(VM_IOAPIC + 0x10, 4, fuzz_pick(2) ? fuzz_pick(0x20000) : fuzz_wild());
}

static void step_lapic(void)
{
    unsigned cpu = (unsigned)fuzz_pick(CPUS), reg = (unsigned)fuzz_pick(0x42);
    uint64_t value = fuzz_pick(2) ? fuzz_pick(0x80000) : fuzz_wild();
    switch (fuzz_pick(8)) {
    case 0:
        lapic_msr_write(cpu, 0x1b, VM_LAPIC | fuzz_pick(4) << 10);
        break;
    case 1:
        lapic_msr_write(cpu, 0x6e0, fuzz_pick(2) ? vm_tsc(cpu) + fuzz_pick(1u << 20) : value);
        break;
    case 2:
        lapic_msr_read(cpu, 0x800 + reg, &value);
        lapic_mmio_read(cpu, reg * 16 + fuzz_pick(16), 1u << fuzz_pick(4));
        break;
    case 3:
        lapic_tpr_set(cpu, fuzz_pick(16));
        break;
    case 4:
        lapic_pv_eoi_set(cpu, fuzz_pick(2) ? fuzz_pick(HOST_RAM) | 1 : fuzz_wild());
        break;
    case 5:
        lapic_mmio_write(cpu, 0xf0, 4, 0x1ff);
        lapic_mmio_write(cpu, reg * 16, 4, value);
        break;
    case 6:
        lapic_msr_write(cpu, 0x80b, 0);
        break;
    default:
        lapic_msr_write(cpu, 0x800 + reg, value);
    }
}

static void step_config(void)
{
    port_out(0xcf8, 4, 0x80000000u | fuzz_pick(9) << 11 | (fuzz_pick(256) & 0xfc));
    unsigned size = 1u << fuzz_pick(3);
    uint64_t port = 0xcfc + (fuzz_pick(4) & ~(uint64_t)(size - 1));
    if (fuzz_pick(4) == 0)
        port_in(port, size);
    else
        port_out(port, size, fuzz_pick(2) ? fuzz_pick(8) : fuzz_wild());
}

/* The CPU takes what it can, as the run loop does. */
static void step_take(void)
{
    unsigned cpu = (unsigned)fuzz_pick(CPUS);
    int vector = lapic_pending(cpu);
    if (vector >= 0)
        lapic_take(cpu, (unsigned)vector);
    else if (lapic_takes_pic(cpu) && pic_pending() >= 0)
        pic_take();
}

static void step_outside(void)
{
    char keys[16];
    for (unsigned i = 0; i < sizeof(keys); i++)
        keys[i] = (char)fuzz_pick(256);
    switch (fuzz_pick(4)) {
    case 0:
        uart_receive(keys, fuzz_pick(sizeof(keys)));
        break;
    case 1:
        i8042_type(keys[0]);
        break;
    case 2:
        acpi_power_button();
        break;
    default:
        msi_send(VM_LAPIC + (fuzz_pick(256) << 12), (uint32_t)fuzz_wild());
    }
}

static void step(void)
{
    static void (*const kinds[])(void) = {
        step_port,   step_port, step_memory, step_ioapic,  step_lapic,       step_lapic,
        step_config, step_take, step_take,   step_outside, fuzz_virtio_step, fuzz_virtio_step};
    kinds[fuzz_pick(EXO_COUNT(kinds))]();
    if (fuzz_pick(8) == 0) host_advance(fuzz_pick(4) ? fuzz_pick(1u << 16) : fuzz_pick(1u << 24));
    if (fuzz_pick(16) == 0) host_ram[fuzz_pick(HOST_RAM)] = (uint8_t)fuzz_pick(256);
    if (host.resets && fuzz_pick(8) == 0) machine_start();
    check_told();
}

static void run(unsigned steps)
{
    memset(host_ram, 0, sizeof(host_ram));
    host.now = 0;
    machine_start();
    for (unsigned i = 0; i < steps && (!input || input_left); i++)
        step();
}

#ifdef FUZZ_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input = data;
    input_left = size;
    run(4000);
    return 0;
}
#else
int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    unsigned runs = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 20;
    unsigned steps = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 0) : 4000;
    for (unsigned i = 0; i < runs; i++) {
        random_state = (seed + i) * 0x9e3779b97f4a7c15u | 1;
        run(steps);
    }
    printf("PASS fuzz_vmm seeds %lu..%lu, %u steps each\n", seed, seed + runs - 1, steps);
    return 0;
}
#endif
