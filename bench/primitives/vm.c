/* SPDX-License-Identifier: MIT
 *
 * What exits of a virtual machine cost, seen by the guest: from the instruction before the
 * one that exits to the one behind it, a small monitor's work included. */
#include "../../tests/vmboot/vmtests/monitor.h"
#include "bench.h"

#define EMULATED_PORT 0x60
#define LOAD_EAX 0x25048b /* mov disp32, %eax: Intel SDM vol. 2, MOV, ModRM, SIB */
#define LOAD_LENGTH 7
#define NESTED_PAGES RUNS
#define FIRST_EVERY 10

GUEST(bench_empty);
GUEST(bench_cpuid);
GUEST(bench_hypercall);
GUEST(bench_pio);
GUEST(bench_mmio);
GUEST(bench_touch);
GUEST(bench_inject);
GUEST(bench_handler);
GUEST(bench_first);

static struct guest g;
static uint64_t nested_frame, guest_empty;

/* ---- the monitor: what it answers to each reason -------------------------------------------- */

/* What the guest is told its CPU is, by leaf. */
static const struct leaf {
    uint32_t a, b, c, d;
} leaves[4] = {{3, 0x68747541, 0x444d4163, 0x69746e65}, {0x800f11, 0, 1, 0x100}};

static uint32_t port_value(uint64_t port) { return port == EMULATED_PORT ? 0x5a : 0xff; }

typedef uint64_t answer(struct exo_vcpu_page *page, const struct exo_vm_words *w);

static uint64_t answer_cpuid(struct exo_vcpu_page *page, const struct exo_vm_words *w)
{
    const struct leaf *leaf = &leaves[page->a.rax & 3];
    (void)w;
    page->a = (struct exo_vm_a){leaf->a, leaf->c, leaf->d, leaf->b};
    page->rip.rip += 2;
    return EXO_VG_A | EXO_VG_RIP;
}

static uint64_t answer_hypercall(struct exo_vcpu_page *page, const struct exo_vm_words *w)
{
    (void)w;
    page->rip.rip += 3;
    return EXO_VG_RIP;
}

static uint64_t answer_pio(struct exo_vcpu_page *page, const struct exo_vm_words *w)
{
    page->a.rax = (page->a.rax & ~0xfful) | port_value(w->detail[0]);
    page->rip.rip = w->detail[2];
    return EXO_VG_A | EXO_VG_RIP;
}

/* Reads the instruction from the guest's memory and decodes as much as it must. */
static uint64_t answer_mmio(struct exo_vcpu_page *page, const struct exo_vm_words *w)
{
    uint64_t bytes = *(const uint64_t *)(g.memory + (page->rip.rip & 0xffff));
    if ((bytes & 0xffffff) != LOAD_EAX || (bytes >> 24 & 0xffffffff) != w->detail[0]) return 0;
    page->a.rax = 0x12345678;
    page->rip.rip += LOAD_LENGTH;
    return EXO_VG_A | EXO_VG_RIP;
}

static uint64_t answer_nested(struct exo_vcpu_page *page, const struct exo_vm_words *w)
{
    (void)page;
    exo_page_bind(g.vm.env, w->detail[0] & ~0xffful, 1, EXO_VM_MEMORY, nested_frame, EXO_R | EXO_W);
    return 0;
}

static uint64_t answer_inject(struct exo_vcpu_page *page, const struct exo_vm_words *w)
{
    (void)w;
    page->rip.rip += 3;
    page->inject.event = EXO_VE_VALID | GUEST_TICK;
    *guest_word(&g, GUEST_STACK - EXO_PAGE) = exo_tsc();
    return EXO_VG_RIP | EXO_VG_INJECT;
}

/* ---- running and reporting ----------------------------------------------------------------------- */

/* Runs the guest to its HLT; groups are those it is asked to fill in. */
static void run(const struct guest_code *code, uint32_t reason, uint32_t groups, answer *to)
{
    struct exo_vm_words w;
    MUST(guest_make(&g, 0, code, true), 0);
    guest_gate(&g, GUEST_TICK, guest_more(&g, &bench_handler, 0x100));
    MUST(exo_vcpu_mask(&g.cpu, reason, groups), 0);
    nested_frame = (uint64_t)exo_frames_alloc(&g.vm.pool, 1, 1);
    MUST(guest_bind(&g, GUEST_FAR - EXO_PAGE, 1, nested_frame, EXO_R), 0); /* page tables */
    g.page->a.rcx = RUNS;
    g.page->b.rdi = to == answer_inject ? GUEST_STACK - EXO_PAGE : GUEST_FAR;
    if (to == answer_inject) g.page->rip.rflags |= 0x200; /* IF */
    uint64_t set = GROUPS_START;
    begin();
    for (;;) {
        MUST(exo_vm_wait(0, set, 0, &w), 0);
        if (w.reason != reason) break;
        set = to(g.page, &w);
    }
    end(RUNS);
    MUST(w.reason, EXO_VX_HLT);
}

static void take(uint64_t address)
{
    memcpy(sample, g.memory + address, sizeof sample);
    MUST(guest_end(&g), 0);
}

static void bench_exit(const char *name, const struct guest_code *code, uint32_t reason,
                       uint32_t groups, answer *to)
{
    run(code, reason, groups, to);
    take(GUEST_DATA);
    report(name, median_over(guest_empty), "instructions");
}

/* From the first call to the guest's RDTSC; few runs, as they are long. */
static void bench_first_instruction(void)
{
    for (unsigned i = 0; i < RUNS; i++) {
        if (i % FIRST_EVERY != 0) {
            sample[i] = sample[i - 1];
            continue;
        }
        begin();
        uint64_t start = exo_tsc();
        MUST(guest_make(&g, 0, &bench_first, true), 0);
        MUST(guest_run(&g, GROUPS_START, 0), EXO_VX_HLT);
        end(1);
        sample[i] = g.page->a.rax - start;
        MUST(guest_end(&g), 0);
    }
    report("vm_create_to_first_instruction", median_over(0), "instructions");
}

void bench_vms(void)
{
    if (exo.info->vm == EXO_VM_NONE) return;
    MUST(guest_make(&g, 0, &bench_empty, true), 0); /* our own page tables */
    MUST(guest_end(&g), 0);
    run(&bench_empty, EXO_VX_CPUID, 0, answer_cpuid);
    take(GUEST_DATA);
    guest_empty = median_over(0);
    bench_exit("vmexit_cpuid", &bench_cpuid, EXO_VX_CPUID, EXO_VG_A | EXO_VG_RIP, answer_cpuid);
    bench_exit("vmexit_hypercall", &bench_hypercall, EXO_VX_HYPERCALL, EXO_VG_RIP,
               answer_hypercall);
    bench_exit("vmexit_pio_in", &bench_pio, EXO_VX_PIO, EXO_VG_A | EXO_VG_RIP, answer_pio);
    bench_exit("vmexit_mmio_read", &bench_mmio, EXO_VX_NESTED, GROUPS_GENERAL, answer_mmio);
    bench_exit("nested_fault_map", &bench_touch, EXO_VX_NESTED, 0, answer_nested);
    run(&bench_inject, EXO_VX_HYPERCALL, EXO_VG_RIP, answer_inject);
    take(GUEST_DATA + EXO_PAGE);
    report("inject_interrupt", median_over(0), "instructions");
    bench_first_instruction();
}
