/* SPDX-License-Identifier: MIT
 *
 * Guests that do anything, and monitors that set anything: whatever they do, they hurt
 * only themselves. The kernel goes on, and we do. */
#include "monitor.h"

#define ROUNDS 60
#define EXITS 40

GUEST(halt);

static struct guest g;
static uint64_t seed;

static uint64_t random(void) /* xorshift */
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void noise(void *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)to)[i] = (uint8_t)(random() >> 23);
}

/* Instructions worth meeting more often than chance would have it. */
static const uint8_t pieces[][6] = {
    {2, 0x0f, 0x30}, /* length, then WRMSR */
    {2, 0x0f, 0x32},
    {3, 0x0f, 0x22, 0xc0},
    {3, 0x0f, 0x22, 0xd8},
    {3, 0x0f, 0x22, 0xe0}, /* MOV CR0, CR3, CR4 */
    {3, 0x0f, 0x23, 0xf8}, /* MOV DR7 */
    {3, 0x0f, 0x01, 0xd8},
    {3, 0x0f, 0x01, 0xda},
    {3, 0x0f, 0x01, 0xdd}, /* VMRUN, VMLOAD, CLGI */
    {3, 0x0f, 0x01, 0xd1},
    {3, 0x0f, 0x01, 0xd9},
    {3, 0x0f, 0x01, 0xc1}, /* XSETBV, VMMCALL, VMCALL */
    {1, 0xee},
    {1, 0xec},
    {1, 0xf4},
    {1, 0xfa},
    {1, 0xfb},
    {1, 0xcf},
    {1, 0xcc},
    {2, 0xcd, 0x40},
    {2, 0x0f, 0x05},
    {2, 0x0f, 0x34},
    {2, 0x0f, 0x07}, /* SYSCALL, SYSENTER, SYSRET */
    {3, 0x0f, 0x01, 0xf8}, /* SWAPGS */
    {4, 0x0f, 0x01, 0x1c, 0x24}, /* LIDT */
    {3, 0x0f, 0x00, 0xd8}, /* LTR */
    {2, 0x0f, 0x08},
    {2, 0x0f, 0x09},
    {1, 0xf1},
    {5, 0xb9, 0x80, 0, 0, 0xc0}, /* ECX = EFER */
};

static void code_fill(uint8_t *to)
{
    uint8_t *end = to + EXO_PAGE - 8;
    while (to < end) {
        const uint8_t *piece = pieces[random() % EXO_COUNT(pieces)];
        if (random() % 2 == 0) {
            noise(to, 4);
            to += 4;
        } else {
            memcpy(to, piece + 1, piece[0]);
            to += piece[0];
        }
    }
}

/* Answers as a bad monitor would: any page, any groups. */
static long wild_reply(void)
{
    uint64_t set = random() & EXO_VG_ALL, get = random() % 4 == 0 ? random() & EXO_VG_ALL : 0;
    if (random() % 3 == 0) noise(&g.page->a, 512 - offsetof(struct exo_vcpu_page, a));
    if (random() % 8 == 0) noise(&g.page->segs, 1024);
    if (random() % 2 == 0) guest_state(&g, random() % 2 == 0);
    g.page->event_mask = random() % 4 == 0 ? random() : 0;
    __atomic_fetch_or(&g.page->events, random() & random() & random(), __ATOMIC_SEQ_CST);
    return guest_run_for(&g, set, get, 2000);
}

static void test_wild(void)
{
    NEED_INTERRUPTS();
    seed = 0x9e3779b97f4a7c15;
    for (unsigned i = 0; i < ROUNDS; i++) {
        EXPECT(guest_make(&g, 0, &halt, i % 2 != 0), 0);
        code_fill(g.memory + GUEST_CODE);
        exo_thread_set(g.cpu.thread, EXO_SET_VPASS, random() & EXO_VP_ALL, 0);
        noise(&g.page->a, sizeof g.page->a + sizeof g.page->b);
        g.page->a.rcx = 0xc0000080 + random() % 16;
        long r = guest_run(&g, GROUPS_START, 0);
        for (unsigned k = 0; k < EXITS && r != TIMED_OUT; k++)
            r = wild_reply();
        EXPECT(guest_end(&g), 0);
    }
}

/* Random code alone, the monitor skipping whatever exits. */
static void test_code(void)
{
    NEED_INTERRUPTS();
    seed = 0x2545f4914f6cdd1d;
    for (unsigned i = 0; i < ROUNDS; i++) {
        EXPECT(guest_make(&g, 0, &halt, i % 2 != 0), 0);
        code_fill(g.memory + GUEST_CODE);
        uint64_t set = GROUPS_START;
        for (unsigned k = 0; k < EXITS; k++) {
            if (guest_run_for(&g, set, 0, 2000) == TIMED_OUT) break;
            guest_state(&g, i % 2 != 0);
            g.page->rip.rip = GUEST_CODE + random() % 4000;
            g.page->a.rax = random();
            g.page->a.rcx = 0xc0000080 + random() % 0x90;
            g.page->a.rdx = random() & 0xffff;
            set = GROUPS_START;
        }
        EXPECT(guest_end(&g), 0);
    }
}

const struct test wild_tests[] = {
    {"random guests", test_code},
    {"random guests with random monitors", test_wild},
    {NULL, NULL},
};
