/* SPDX-License-Identifier: MIT
 *
 * Guest memory: nested faults, bindings changed under running guests, translations that
 * have to go. */
#include "monitor.h"

GUEST(touch);
GUEST(watch);
GUEST(count);
GUEST(remap);

static struct guest g;

#define TOUCHED 1000

/* One frame again and again: it is the bindings that count. */
static void test_nested(void)
{
    EXPECT(guest_make(&g, 0, &touch, true), 0);
    long frame = exo_frames_alloc(&g.vm.pool, 1, 1);
    CHECK(frame > 0);
    g.page->b.rsi = GUEST_FAR;
    g.page->a.rcx = TOUCHED;
    EXPECT(exo_vcpu_mask(&g.cpu, EXO_VX_NESTED, 0), 0);
    uint64_t set = GROUPS_START;
    for (uint64_t i = 0; i < TOUCHED; i++) {
        uint64_t address = GUEST_FAR + i * EXO_PAGE;
        EXPECT(guest_run(&g, set, 0), EXO_VX_NESTED);
        EXPECT(g.w.detail[0], address);
        EXPECT(g.w.detail[1] & (EXO_NX_BOUND | EXO_NX_WRITE | EXO_NX_FETCH), 0);
        bool only_read = i % 4 == 3;
        EXPECT(guest_bind(&g, address, 1, (uint64_t)frame, only_read ? EXO_R : EXO_R | EXO_W), 0);
        set = 0;
        if (!only_read) continue;
        EXPECT(guest_run(&g, 0, 0), EXO_VX_NESTED);
        EXPECT(g.w.detail[0], address);
        EXPECT(g.w.detail[1] & (EXO_NX_BOUND | EXO_NX_WRITE), EXO_NX_BOUND | EXO_NX_WRITE);
        EXPECT(exo_page_protect(g.vm.env, address, 1, EXO_R | EXO_W), 1);
    }
    EXPECT(guest_run(&g, 0, 0), EXO_VX_HLT);
    EXPECT(g.page->a.rbx, TOUCHED);
    EXPECT(guest_end(&g), 0);
}

/* 2 MiB at once, and code that may not be executed. */
static void test_rights(void)
{
    EXPECT(guest_make(&g, 0, &count, true), 0);
    long r;
    for (uint64_t done = 0; done < 1; done++)
        r = exo_page_protect(g.vm.env, GUEST_CODE, 1, EXO_R | EXO_W);
    EXPECT(r, 1);
    EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_NESTED);
    EXPECT(g.w.detail[0], GUEST_CODE);
    EXPECT(g.w.detail[1] & (EXO_NX_FETCH | EXO_NX_BOUND), EXO_NX_FETCH | EXO_NX_BOUND);
    EXPECT(exo_page_protect(g.vm.env, GUEST_CODE, 1, EXO_R | EXO_X), 1);
    EXPECT(exo_page_protect(g.vm.env, GUEST_DATA, 1, EXO_R), 1);
    EXPECT(guest_run(&g, 0, 0), EXO_VX_NESTED);
    EXPECT(g.w.detail[0], GUEST_DATA);
    EXPECT(exo_page_unbind(g.vm.env, GUEST_ROOT, 1), 1);
    g.page->cr.cr3 = GUEST_ROOT;
    EXPECT(guest_run(&g, EXO_VG_CR, 0), EXO_VX_NESTED);
    EXPECT(g.w.detail[0] & ~0xffful, GUEST_ROOT);
    EXPECT(guest_end(&g), 0);
}

/* The guest's own tables, changed by itself (INVLPG) and by its monitor (CR3). */
static void test_linear(void)
{
    EXPECT(guest_make(&g, 0, &remap, true), 0);
    *guest_word(&g, GUEST_DATA) = 0xaaaa;
    *guest_word(&g, GUEST_DATA + 0x1000) = 0xbbbb;
    uint64_t other = GUEST_ROOT + 0x2000, table = 0x9000;
    *guest_word(&g, other + 8) = table | 3; /* 2 MiB: one table, one page */
    *guest_word(&g, table) = GUEST_DATA | 3;
    *guest_word(&g, 0xa000) = (GUEST_DATA + 0x1000) | 3;
    g.page->b.rdi = 0xa000 | 3;
    EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_HLT);
    EXPECT(g.page->a.rax, 0xaaaa);
    EXPECT(g.page->a.rbx, 0xbbbb);
    *guest_word(&g, other + 8) = table | 3;
    guest_skip(&g, 1);
    EXPECT(guest_run(&g, 0, EXO_VG_CR), EXO_VX_MORE);
    EXPECT(guest_run(&g, EXO_VG_RIP | EXO_VG_CR, 0), EXO_VX_HLT);
    EXPECT(g.page->a.rcx, 0xaaaa);
    EXPECT(guest_end(&g), 0);
}

/* ---- while it runs on another CPU -------------------------------------------------------- */

static struct exo_task far;
static volatile long far_reason;
static volatile uint64_t far_address, far_told;
static volatile uint32_t far_exits, far_go;

/* The monitor there: starts it, then answers faults by waiting for far_go. */
static void far_monitor(void *argument)
{
    uint64_t *start = argument;
    far_reason = guest_run(&g, 0, 0);
    if (far_reason != EXO_VX_FORCED) return;
    guest_state(&g, true);
    g.page->b.rsi = start[0];
    g.page->b.rdi = start[1];
    uint64_t set = GROUPS_START;
    for (;;) {
        far_reason = guest_run(&g, set, 0);
        set = 0;
        far_address = g.w.detail[0];
        far_exits++;
        if (far_reason == EXO_VX_PIO) far_told++;
        if (far_reason != EXO_VX_NESTED) return;
        while (!far_go)
            __builtin_ia32_pause();
        far_go = 0;
    }
}

static bool far_wait(volatile uint32_t *counter, uint32_t value)
{
    for (uint64_t end = exo_in_us(RUN_US); *counter < value;) {
        if (exo_tsc() > end) return false;
        __builtin_ia32_pause();
    }
    return true;
}

static long far_start(const struct guest_code *code, uint64_t *start)
{
    unsigned cpu = exo.start.cpu == 0 ? 1 : 0;
    far_exits = far_go = 0;
    far_told = 0;
    long r = exo_task_make(&far, cpu);
    if (r == 0) r = guest_make_on(&g, 0, code, cpu, far.sel);
    if (r == 0) r = exo_task_start(&far, far_monitor, start);
    if (r == 0) r = exo_vcpu_start(&g.cpu);
    return r;
}

/* As soon as unbind is back, nobody sees the page: what is written there then must never
 * be read by the guest. */
static void test_unbind(void)
{
    uint64_t start[2] = {GUEST_FAR, 0xdead};
    NEED_CPUS(2);
    EXPECT(far_start(&watch, start), 0);
    uint64_t *seen = guest_word(&g, 0xf000); /* the frame that it watches */
    EXPECT(far_wait(&far_exits, 1), true);
    for (uint32_t i = 1; i <= 50; i++) {
        EXPECT(far_address, GUEST_FAR);
        *seen = 0;
        EXPECT(guest_bind(&g, GUEST_FAR, 1, g.frame + 15, EXO_R), 0);
        uint64_t before = *(volatile uint64_t *)guest_word(&g, GUEST_DATA);
        far_go = 1;
        for (uint64_t end = exo_in_us(RUN_US);
             *(volatile uint64_t *)guest_word(&g, GUEST_DATA) < before + 20 && exo_tsc() < end;)
            __builtin_ia32_pause();
        EXPECT(exo_page_unbind(g.vm.env, GUEST_FAR, 1), 1);
        *(volatile uint64_t *)seen = 0xdead;
        EXPECT(far_wait(&far_exits, i + 1), true);
        EXPECT(far_reason, EXO_VX_NESTED);
        EXPECT(far_told, 0);
    }
    EXPECT(guest_end(&g), 0);
    EXPECT(exo_task_destroy(&far), 0);
}

/* The env goes, with its memory, while the guest runs on another CPU. */
static void test_far_destroy(void)
{
    uint64_t start[2] = {0, 0};
    NEED_CPUS(2);
    for (unsigned i = 0; i < 6; i++) {
        EXPECT(far_start(&count, start), 0);
        volatile uint64_t *counter = guest_word(&g, GUEST_DATA);
        for (uint64_t end = exo_in_us(RUN_US); *counter < 10 && exo_tsc() < end;)
            __builtin_ia32_pause();
        CHECK(*counter >= 10);
        EXPECT(i % 2 == 0 ? guest_raze(&g) : guest_end(&g), 0);
        EXPECT(exo_task_destroy(&far), 0);
    }
}

const struct test memory_tests[] = {
    {"a thousand nested faults", test_nested},
    {"rights of guest memory", test_rights},
    {"a guest's own translations", test_linear},
    {"unbound while it runs on another CPU", test_unbind},
    {"destroyed while it runs on another CPU", test_far_destroy},
    {NULL, NULL},
};
