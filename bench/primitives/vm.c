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
#define FEW 10 /* of long operations: RUNS / FEW */
#define SHARED (GUEST_FAR - EXO_PAGE)
#define STAMP (GUEST_STACK - EXO_PAGE) /* the monitor's time, for the guest */
#define EV_DONE 1ul

GUEST(bench_empty);
GUEST(bench_cpuid);
GUEST(bench_hypercall);
GUEST(bench_pio);
GUEST(bench_mmio);
GUEST(bench_touch);
GUEST(bench_inject);
GUEST(bench_handler);
GUEST(bench_switch);
GUEST(bench_first);

static struct guest g, other;
static uint64_t nested_frame, guest_empty;
static bool injects, emulates; /* what the guest is for */

/* ---- the monitor: what it answers to each reason -------------------------------------------- */

/* What the guest is told its CPU is, by leaf. */
static const struct leaf {
    uint32_t a, b, c, d;
} leaves[4] = {{3, 0x68747541, 0x444d4163, 0x69746e65}, {0x800f11, 0, 1, 0x100}};

static uint32_t port_value(uint64_t port) { return port == EMULATED_PORT ? 0x5a : 0xff; }

static struct exo_vm_reply answer_cpuid(void)
{
    struct exo_vcpu_page *page = g.page;
    const struct leaf *leaf = &leaves[page->a.rax & 3];
    page->a = (struct exo_vm_a){leaf->a, leaf->c, leaf->d, leaf->b};
    page->rip.rip += 2;
    return (struct exo_vm_reply){EXO_VG_A | EXO_VG_RIP, 0};
}

static struct exo_vm_reply answer_pio(uint64_t port, uint64_t next)
{
    g.page->a.rax = (g.page->a.rax & ~0xfful) | port_value(port);
    g.page->rip.rip = next;
    return (struct exo_vm_reply){EXO_VG_A | EXO_VG_RIP, 0};
}

/* Injects where the guest has a handler. */
static struct exo_vm_reply answer_hypercall(void)
{
    g.page->rip.rip += 3;
    if (!injects) return (struct exo_vm_reply){EXO_VG_RIP, 0};
    g.page->inject.event = EXO_VE_VALID | GUEST_TICK;
    *guest_word(&g, STAMP) = exo_tsc();
    return (struct exo_vm_reply){EXO_VG_RIP | EXO_VG_INJECT, 0};
}

/* Reads the instruction from the guest's memory and decodes as much as it must. */
static struct exo_vm_reply answer_mmio(uint64_t address)
{
    uint64_t bytes = *(const uint64_t *)(g.memory + (g.page->rip.rip & 0xffff));
    if ((bytes & 0xffffff) != LOAD_EAX || (bytes >> 24 & 0xffffffff) != address)
        return (struct exo_vm_reply){0, 0};
    g.page->a.rax = 0x12345678;
    g.page->rip.rip += LOAD_LENGTH;
    return (struct exo_vm_reply){EXO_VG_A | EXO_VG_RIP, 0};
}

static struct exo_vm_reply answer_nested(uint64_t address)
{
    if (emulates) return answer_mmio(address);
    exo_page_bind(g.vm.env, address & ~0xffful, 1, EXO_VM_MEMORY, nested_frame, EXO_R | EXO_W);
    return (struct exo_vm_reply){0, 0};
}

static struct exo_vm_reply serve(uint64_t badge, uint64_t reason, uint64_t filled, uint64_t detail2,
                                 uint64_t detail0, uint64_t detail1)
{
    (void)badge, (void)filled, (void)detail1;
    switch (reason) {
    case EXO_VX_CPUID:
        return answer_cpuid();
    case EXO_VX_PIO:
        return answer_pio(detail0, detail2);
    case EXO_VX_HYPERCALL:
        return answer_hypercall();
    case EXO_VX_NESTED:
        return answer_nested(detail0);
    case EXO_VX_HLT:
        exo_page()->events |= EV_DONE;
        return (struct exo_vm_reply){0, 0};
    default:
        must((long)reason, EXO_VX_HLT, "an exit");
        return (struct exo_vm_reply){0, 0};
    }
}

/* ---- running and reporting ----------------------------------------------------------------------- */

/* VMMCALL becomes VMCALL where VT-x runs the guest: Intel SDM vol. 3, 31.3. */
static void hypercall_patch(uint8_t *code, size_t bytes)
{
    for (size_t i = 0; exo.info->vm == EXO_VM_VMX && i + 3 <= bytes; i++)
        if (!memcmp(code + i, "\x0f\x01\xd9", 3)) code[i + 2] = 0xc1;
}

/* Runs the guest to its HLT; groups are those it is asked to fill in. */
static void run(const struct guest_code *code, uint32_t reason, uint32_t groups)
{
    MUST(guest_make(&g, 0, code, true), 0);
    hypercall_patch(g.memory + GUEST_CODE, (size_t)(code->end - code->start));
    guest_gate(&g, GUEST_TICK, guest_more(&g, &bench_handler, 0x100));
    MUST(exo_vcpu_mask(&g.cpu, reason, groups), 0);
    nested_frame = (uint64_t)exo_frames_alloc(&g.vm.pool, 1, 1);
    MUST(guest_bind(&g, GUEST_FAR - EXO_PAGE, 1, nested_frame, EXO_R), 0); /* page tables */
    g.page->a.rcx = RUNS;
    g.page->b.rdi = injects ? STAMP : GUEST_FAR;
    if (injects) g.page->rip.rflags |= 0x200; /* IF */
    MUST(guest_run(&g, GROUPS_START, EXO_VG_RIP), EXO_VX_MORE);
    begin();
    MUST(exo_vm_serve(EV_DONE, serve), EV_DONE);
    end(RUNS);
}

static void take(uint64_t address)
{
    memcpy(sample, g.memory + address, sizeof sample);
    MUST(guest_end(&g), 0);
}

static void bench_exit(const char *name, const struct guest_code *code, uint32_t reason,
                       uint32_t groups)
{
    run(code, reason, groups);
    take(GUEST_DATA);
    report(name, median_over(guest_empty), "instructions");
}

/* With a word that both have, at SHARED. */
static void switching_start(struct guest *guest, unsigned index, uint64_t frame)
{
    MUST(guest_make(guest, index, &bench_switch, true), 0);
    long sel = exo_vm_give(&guest->vm, exo.pool.sel, EXO_R | EXO_W, frame, 1);
    must(sel > 0, true, "a frame given to a guest");
    MUST(exo_bind(&guest->vm.pool, SHARED, 1, (uint32_t)sel, frame, EXO_R | EXO_W), 0);
    guest->page->a.rcx = RUNS / FEW;
    guest->page->b.rdi = SHARED;
    MUST(guest_run(guest, GROUPS_START, EXO_VG_RIP), EXO_VX_MORE);
}

/* Virtual CPUs of two machines share this CPU, and neither exits by itself: the end of a time
 * slot interrupts the one and lets the other go on. From the last time stamp of the one to
 * the first of the other; few runs, as each takes a slot. */
static void bench_switching(void)
{
    long frame = exo_frames_alloc(&exo.pool, 1, 1);
    must(frame > 0, true, "a frame for both");
    switching_start(&g, 0, (uint64_t)frame);
    switching_start(&other, 1, (uint64_t)frame); /* the first runs meanwhile */
    begin();
    MUST(exo_vm_serve(EV_DONE, serve), EV_DONE);
    end(2 * (RUNS / FEW)); /* those of both */
    for (unsigned i = 0; i < RUNS; i++)
        sample[i] = ((const uint64_t *)(g.memory + GUEST_DATA))[i % (RUNS / FEW)];
    MUST(guest_end(&other), 0);
    MUST(guest_end(&g), 0);
    report("vcpu_switch", median_over(0), "instructions");
    exo_frames_free(&exo.pool, (uint64_t)frame, 1);
}

/* From the first call to the guest's RDTSC; few runs, as they are long. */
static void bench_first_instruction(void)
{
    for (unsigned i = 0; i < RUNS; i++) {
        if (i % FEW != 0) {
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
    run(&bench_empty, EXO_VX_CPUID, 0);
    take(GUEST_DATA);
    guest_empty = median_over(0);
    bench_exit("vmexit_cpuid", &bench_cpuid, EXO_VX_CPUID, EXO_VG_A | EXO_VG_RIP);
    bench_exit("vmexit_hypercall", &bench_hypercall, EXO_VX_HYPERCALL, EXO_VG_RIP);
    bench_exit("vmexit_pio_in", &bench_pio, EXO_VX_PIO, EXO_VG_A | EXO_VG_RIP);
    emulates = true;
    bench_exit("vmexit_mmio_read", &bench_mmio, EXO_VX_NESTED, GROUPS_GENERAL);
    emulates = false;
    bench_exit("nested_fault_map", &bench_touch, EXO_VX_NESTED, 0);
    injects = true;
    run(&bench_inject, EXO_VX_HYPERCALL, EXO_VG_RIP);
    injects = false;
    take(GUEST_DATA + EXO_PAGE);
    report("inject_interrupt", median_over(0), "instructions");
    bench_switching();
    bench_first_instruction();
}
