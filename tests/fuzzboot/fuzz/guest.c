/* SPDX-License-Identifier: MIT
 *
 * The virtual machine of a hostile env: a guest of random instructions, whose monitor is
 * one of the env's threads, which now and then answers with a random page, and otherwise
 * does what hostile threads do. All of it can be taken or destroyed at any time.
 */
#include "../../../lib/exo/vm.h"

#include "fuzz.h"

static uint64_t state;
static uint64_t pick(uint64_t n) { return random_next(&state) % n; }
static bool chance(uint64_t n) { return pick(n) == 0; }

#include "../../fuzz/vcpu_page.h"

#define GUEST_VA 0x0000000050000000ul /* the virtual CPU's page, then the guest's memory */
#define GUEST_PAGES 9
#define GUEST_FRAMES 32
#define BADGE 7
#define GATE 30 /* selector in its env */

static struct exo_vm vm;
static struct exo_vcpu vcpu;
static bool alive;

/* Instructions that exit, or that change what others do; none that can set TF (vcpu_page.h). */
static const struct {
    uint8_t length, bytes[7];
} snippets[] = {
    {2, {0x0f, 0xa2}}, /* cpuid */
    {1, {0xf4}}, /* hlt */
    {2, {0xe4, 0x80}}, /* in $0x80, %al */
    {5, {0x66, 0xba, 0xe8, 0x03, 0xec}}, /* mov $0x3e8, %dx; in %dx, %al */
    {3, {0x0f, 0x01, 0xd9}}, /* vmmcall */
    {3, {0x0f, 0x01, 0xc1}}, /* vmcall */
    {2, {0x0f, 0x30}}, /* wrmsr */
    {2, {0x0f, 0x32}}, /* rdmsr */
    {3, {0x0f, 0x22, 0xc0}}, /* mov %eax, %cr0 */
    {3, {0x0f, 0x22, 0xe0}}, /* mov %eax, %cr4 */
    {3, {0x0f, 0x23, 0xf8}}, /* mov %eax, %dr7 */
    {3, {0x0f, 0x01, 0xd1}}, /* xsetbv */
    {2, {0x0f, 0x09}}, /* wbinvd */
    {1, {0xfb}}, /* sti */
    {1, {0xfa}}, /* cli */
    {1, {0xcc}}, /* int3 */
    {2, {0xcd, 0x20}}, /* int $0x20 */
    {2, {0xeb, 0xfe}}, /* to itself */
    {4, {0x66, 0xa3, 0x00, 0x90}}, /* mov %eax, 0x9000: nothing is bound there */
    {3, {0x40, 0x89, 0x07}}, /* inc %ax; mov %ax, (%bx) */
    {3, {0x0f, 0x01, 0xd8}}, /* vmrun */
    {2, {0x31, 0xc9}}, /* xor %cx, %cx */
};

static void code_write(uint8_t *at, size_t n)
{
    for (size_t i = 0; i + sizeof(snippets->bytes) < n;) {
        unsigned s = (unsigned)pick(EXO_COUNT(snippets));
        memcpy(at + i, snippets[s].bytes, snippets[s].length);
        i += snippets[s].length;
        if (chance(8)) at[i++] = (uint8_t)(0x40 + pick(16)); /* inc, dec, or a prefix */
    }
}

void guest_make(uint64_t seed, uint32_t monitor, unsigned cpu)
{
    static uint64_t bits[EXO_POOL_WORDS(GUEST_FRAMES)];
    state = seed * 0x9e3779b97f4a7c15ul | 1;
    if (exo_vm_make(&vm, &exo.pool, GUEST_FRAMES, 1, 1, bits) < 0) return;
    long memory = exo_frames_alloc(&vm.pool, GUEST_PAGES, 1);
    if (memory < 0 ||
        exo_bind(&exo.pool, GUEST_VA + EXO_PAGE, GUEST_PAGES, exo.pool.sel, (uint64_t)memory,
                 EXO_R | EXO_W) < 0 ||
        exo_bind(&vm.pool, 0, GUEST_PAGES, EXO_VM_MEMORY, (uint64_t)memory, EXO_R | EXO_W | EXO_X) <
            0 ||
        exo_vcpu_make(&vcpu, &vm, GUEST_VA, cpu, monitor, BADGE) < 0)
        return;
    code_write((uint8_t *)GUEST_VA + EXO_PAGE, GUEST_PAGES * EXO_PAGE);
    exo_gate_make(EXO_REF(vm.env, GATE), monitor, (uint64_t)hostile_gate, BADGE);
    exo_thread_set(vcpu.thread, EXO_SET_FAULT, GATE, 0);
    exo_thread_set(vcpu.thread, EXO_SET_VHYPER, 1, GATE);
    for (uint32_t reason = 1; reason < EXO_VX_COUNT; reason++)
        exo_vcpu_mask(&vcpu, reason, (uint32_t)pick(EXO_VG_ALL + 1));
    long ports = exo_vm_give(&vm, GIVEN_PORTS, EXO_USE, 0x3e8, 4);
    if (ports > 0) exo_port_pass(vm.env, (uint64_t)ports);
    alive = true;
    exo_vcpu_start(&vcpu);
}

void guest_answer(uint64_t *set, uint64_t *get)
{
    if (!alive) return;
    uint32_t reason = vcpu.page->exit.reason;
    if (reason != 0 && reason < EXO_VX_REFUSED && reason != EXO_VX_FORCED)
        __atomic_add_fetch(&SHARED->exits, 1, __ATOMIC_RELAXED);
    if (reason == EXO_VX_INVALID) __atomic_add_fetch(&SHARED->invalid, 1, __ATOMIC_RELAXED);
    vcpu_page_write(vcpu.page, set, get);
}

void guest_poke(void)
{
    if (!alive) return;
    switch (pick(6)) {
    case 0:
        exo_thread_set(vcpu.thread, EXO_SET_VPASS, pick(EXO_VP_ALL + 1), 0);
        break;
    case 1:
        __atomic_fetch_or(&vcpu.page->events, 1ul << pick(64), __ATOMIC_RELAXED);
        break;
    case 2:
        exo_unbind(&vm.pool, pick(GUEST_PAGES) * EXO_PAGE, 1 + pick(3));
        break;
    case 3:
        exo_page_protect(vm.env, pick(GUEST_PAGES) * EXO_PAGE, 1 + pick(3), EXO_R | pick(8));
        break;
    case 4:
        exo_page_bind(vm.env, pick(GUEST_PAGES) * EXO_PAGE, 1, EXO_VM_MEMORY,
                      vm.pool.base + pick(GUEST_FRAMES), EXO_R | pick(8));
        break;
    default:
        exo_thread_start(vcpu.thread, 0, 0, 0);
    }
}
