/* SPDX-License-Identifier: MIT
 *
 * Events that end guest mode, windows, and what is injected. */
#include "monitor.h"

GUEST(count);
GUEST(halt);
GUEST(toggle);
GUEST(tick_handler);
GUEST(error_handler);
GUEST(nmi_handler);
GUEST(sleep);
GUEST(sleep_handler);

#define HANDLER 0x100 /* offset of a handler behind the guest's code */
#define TICK (EXO_VE_VALID | GUEST_TICK)
#define TICKS 1000
#define RFLAGS_IF 0x200

static struct guest g;

/* By an event capability, by the page, while it runs and while it does not. */
static void test_forced(void)
{
    EXPECT(guest_make(&g, 0, &count, true), 0);
    long event = exo_event_new(g.cpu.thread, 6);
    CHECK(event > 0);
    g.page->event_mask |= 6;
    EXPECT(exo_event_signal((uint64_t)event), 0);
    EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_FORCED);
    EXPECT(g.w.detail[0], 6);
    EXPECT(*guest_word(&g, GUEST_DATA), 0);
    EXPECT(guest_run_for(&g, 0, 0, 3000), TIMED_OUT);
    CHECK(*guest_word(&g, GUEST_DATA) > 0);
    EXPECT(exo_event_signal((uint64_t)event), 0);
    EXPECT(guest_run(&g, 0, 0), EXO_VX_FORCED);
    EXPECT(g.page->events & 6, 0);
    g.page->event_mask &= ~6ul; /* not taken: it goes on */
    EXPECT(exo_event_signal((uint64_t)event), 0);
    EXPECT(guest_run_for(&g, 0, 0, 3000), TIMED_OUT);
    EXPECT(exo_drop((uint32_t)event), 0);
    EXPECT(guest_end(&g), 0);
}

static struct exo_task far;
static volatile uint32_t far_exits;
static volatile long far_reason;

static void far_monitor(void *argument)
{
    (void)argument;
    far_reason = guest_run(&g, 0, 0);
    guest_state(&g, true);
    for (uint64_t set = GROUPS_START;; set = 0) {
        far_reason = guest_run(&g, set, 0);
        if (far_reason != EXO_VX_FORCED) return;
        __atomic_fetch_add(&far_exits, 1, __ATOMIC_SEQ_CST);
    }
}

/* Each signal from another CPU comes through, soon. */
static void test_forced_far(void)
{
    unsigned cpu = exo.start.cpu == 0 ? 1 : 0;
    NEED_CPUS(2);
    far_exits = 0;
    EXPECT(exo_task_make(&far, cpu), 0);
    EXPECT(guest_make_on(&g, 0, &count, cpu, far.sel), 0);
    long event = exo_event_new(g.cpu.thread, 1);
    CHECK(event > 0);
    g.page->event_mask = 1;
    EXPECT(exo_task_start(&far, far_monitor, NULL), 0);
    EXPECT(exo_vcpu_start(&g.cpu), 0);
    volatile uint64_t *counter = guest_word(&g, GUEST_DATA);
    for (uint32_t i = 1; i <= 100; i++) {
        uint64_t before = *counter, end = exo_in_us(RUN_US);
        while (*counter < before + 5 && exo_tsc() < end)
            __builtin_ia32_pause();
        EXPECT(exo_event_signal((uint64_t)event), 0);
        while (far_exits < i && exo_tsc() < end)
            __builtin_ia32_pause();
        EXPECT(far_exits, i);
    }
    EXPECT(exo_drop((uint32_t)event), 0);
    EXPECT(guest_end(&g), 0);
    EXPECT(exo_task_destroy(&far), 0);
}

/* A guest that turns interrupts on and off gets each tick, when it has turned them on. */
static void test_ticks(void)
{
    EXPECT(guest_make(&g, 0, &toggle, true), 0);
    guest_gate(&g, GUEST_TICK, guest_more(&g, &tick_handler, HANDLER));
    g.page->a.rcx = TICKS;
    EXPECT(exo_vcpu_mask(&g.cpu, EXO_VX_WINDOW, 0), 0);
    uint64_t set = GROUPS_START | EXO_VG_INJECT;
    g.page->inject = (struct exo_vm_inject){.window = EXO_WINDOW_INTERRUPT};
    for (uint64_t i = 0; i < TICKS; i++) {
        EXPECT(guest_run(&g, set, 0), EXO_VX_WINDOW);
        CHECK((g.page->exit.flags & EXO_XF_IF) != 0 && (g.page->exit.flags & EXO_XF_SHADOW) == 0);
        g.page->inject = (struct exo_vm_inject){.event = TICK, .window = EXO_WINDOW_INTERRUPT};
        if (i == TICKS - 1) g.page->inject.window = 0;
        set = EXO_VG_INJECT;
    }
    EXPECT(guest_run(&g, set, 0), EXO_VX_HLT);
    uint64_t ticks = *guest_word(&g, GUEST_DATA); /* QEMU 7.2 may deliver one twice */
    CHECK(ticks >= TICKS && ticks <= TICKS + TICKS / 100);
    CHECK(*guest_word(&g, GUEST_DATA + 8) < 3 * TICKS); /* times that it did */
    EXPECT(guest_end(&g), 0);
}

/* The window by an event bit, from outside. */
static void test_window_event(void)
{
    EXPECT(guest_make(&g, 0, &toggle, true), 0);
    g.page->a.rcx = 1ul << 60;
    __atomic_fetch_or(&g.page->events, EXO_EVENT_WINDOW, __ATOMIC_SEQ_CST);
    EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_WINDOW);
    EXPECT(g.page->events & EXO_EVENT_WINDOW, 0);
    CHECK((g.page->exit.flags & EXO_XF_IF) != 0);
    EXPECT(guest_end(&g), 0);
}

/* STI; HLT: no interrupt between the two, even if an exit comes there. */
static void test_sleep(void)
{
    for (unsigned i = 0; i < 2; i++) {
        EXPECT(guest_make(&g, 0, &sleep, false), 0);
        *guest_word(&g, GUEST_TICK * 4) = guest_more(&g, &sleep_handler, HANDLER);
        g.page->inject = (struct exo_vm_inject){.window = i == 0 ? EXO_WINDOW_INTERRUPT : 0};
        EXPECT(guest_run(&g, GROUPS_START | EXO_VG_INJECT, 0), EXO_VX_HLT);
        CHECK((g.page->exit.flags & (EXO_XF_IF | EXO_XF_SHADOW)) == (EXO_XF_IF | EXO_XF_SHADOW));
        g.page->inject = (struct exo_vm_inject){.event = TICK};
        EXPECT(guest_run(&g, EXO_VG_INJECT, 0), EXO_VX_REFUSED); /* in the shadow */
        g.page->inject = (struct exo_vm_inject){.window = EXO_WINDOW_INTERRUPT};
        EXPECT(guest_run(&g, EXO_VG_INJECT, 0), EXO_VX_HLT); /* still in it: HLT again */
        g.page->inject = (struct exo_vm_inject){.event = 0};
        EXPECT(guest_run(&g, EXO_VG_INJECT, EXO_VG_RIP), EXO_VX_MORE);
        g.page->inject = (struct exo_vm_inject){.event = TICK};
        guest_skip(&g, 1);
        EXPECT(guest_run(&g, EXO_VG_RIP, EXO_VG_RIP), EXO_VX_MORE);
        EXPECT(guest_run(&g, EXO_VG_INJECT, 0), EXO_VX_HLT);
        EXPECT(*guest_word(&g, GUEST_DATA) & 0xffffffff, 1);
        EXPECT(*guest_word(&g, GUEST_DATA) >> 32, 1);
        EXPECT(guest_end(&g), 0);
    }
}

/* A second NMI waits until the first one's handler is left. */
static void test_nmi(void)
{
    const struct exo_vm_inject nmi = {.event = EXO_VE_VALID | EXO_VE_NMI | 2,
                                      .window = EXO_WINDOW_NMI};
    EXPECT(guest_make(&g, 0, &count, true), 0);
    guest_gate(&g, 2, guest_more(&g, &nmi_handler, HANDLER));
    g.memory[GUEST_CODE] = 0xeb; /* jmp to itself */
    g.memory[GUEST_CODE + 1] = 0xfe;
    g.page->inject = nmi;
    g.page->inject.window = 0;
    EXPECT(guest_run(&g, GROUPS_START | EXO_VG_INJECT, 0), EXO_VX_PIO);
    CHECK((g.page->exit.flags & EXO_XF_NMI) != 0);
    g.page->inject = nmi;
    EXPECT(guest_run(&g, EXO_VG_INJECT, 0), EXO_VX_REFUSED);
    g.page->inject.event = 0;
    guest_skip(&g, 2);
    EXPECT(guest_run(&g, EXO_VG_INJECT | EXO_VG_RIP, 0), EXO_VX_NMI_WINDOW);
    CHECK((g.page->exit.flags & EXO_XF_NMI) == 0);
    g.page->inject = nmi;
    g.page->inject.window = 0;
    EXPECT(guest_run(&g, EXO_VG_INJECT, 0), EXO_VX_PIO);
    EXPECT(*guest_word(&g, GUEST_DATA), 2);
    EXPECT(guest_end(&g), 0);
}

static void test_exception(void)
{
    EXPECT(guest_make(&g, 0, &halt, true), 0);
    uint64_t handler = guest_more(&g, &error_handler, HANDLER);
    guest_gate(&g, 13, handler);
    guest_gate(&g, 14, handler);
    guest_gate(&g, 3, handler);
    EXPECT(guest_run(&g, GROUPS_START, EXO_VG_CR), EXO_VX_MORE);
    for (uint32_t vector = 13; vector <= 14; vector++) {
        g.page->inject =
            (struct exo_vm_inject){.event = EXO_VE_VALID | EXO_VE_EXCEPTION | EXO_VE_ERROR | vector,
                                   .error = 0x1230 + vector};
        g.page->cr.cr2 = 0x123456000;
        EXPECT(guest_run(&g, EXO_VG_INJECT | EXO_VG_CR, 0), EXO_VX_HLT);
        EXPECT(*guest_word(&g, GUEST_DATA), 0x1230 + vector);
        EXPECT(*guest_word(&g, GUEST_DATA + 8), 0x123456000);
    }
    g.page->rip.rip = GUEST_CODE; /* a software interrupt comes back behind its instruction */
    g.page->inject = (struct exo_vm_inject){.event = EXO_VE_VALID | EXO_VE_SOFT | 3, .length = 2};
    EXPECT(guest_run(&g, EXO_VG_INJECT | EXO_VG_RIP, 0), EXO_VX_HLT);
    EXPECT(*guest_word(&g, GUEST_DATA), GUEST_CODE + 2);
    g.page->rip.rip = GUEST_CODE; /* a break point, at its instruction or behind it */
    g.page->inject =
        (struct exo_vm_inject){.event = EXO_VE_VALID | EXO_VE_EXCEPTION | 3, .length = 1};
    EXPECT(guest_run(&g, EXO_VG_INJECT | EXO_VG_RIP, 0), EXO_VX_HLT);
    CHECK(*guest_word(&g, GUEST_DATA) - GUEST_CODE <= 1);
    EXPECT(guest_end(&g), 0);
}

/* A fault of ours while an interrupt is delivered: it is told, injected again, and comes once. */
static void test_interrupted(void)
{
    EXPECT(guest_make(&g, 0, &count, true), 0);
    guest_gate(&g, GUEST_TICK, guest_more(&g, &error_handler, HANDLER));
    EXPECT(exo_page_unbind(g.vm.env, GUEST_IDT, 1), 1);
    g.page->rip.rflags |= RFLAGS_IF;
    EXPECT(guest_run(&g, GROUPS_START, EXO_VG_RIP), EXO_VX_MORE);
    g.page->inject = (struct exo_vm_inject){.event = TICK};
    EXPECT(guest_run(&g, EXO_VG_INJECT, 0), EXO_VX_NESTED);
    EXPECT(g.w.detail[0] & ~0xffful, GUEST_IDT);
    EXPECT(g.page->exit.interrupted, TICK);
    EXPECT(g.page->rip.rip, GUEST_CODE);
    EXPECT(guest_bind(&g, GUEST_IDT, 1, g.frame + GUEST_IDT / EXO_PAGE, EXO_R | EXO_W), 0);
    g.page->inject = (struct exo_vm_inject){.event = g.page->exit.interrupted};
    EXPECT(guest_run(&g, EXO_VG_INJECT, 0), EXO_VX_HLT);
    EXPECT(*guest_word(&g, GUEST_DATA), GUEST_CODE);
    EXPECT(g.page->exit.interrupted, 0);
    EXPECT(guest_end(&g), 0);
}

/* Bits that are there when the monitor replies: its own end its wait, the guest's its run. */
static void test_before_reply(void)
{
    EXPECT(guest_make(&g, 0, &halt, true), 0);
    EXPECT(guest_run(&g, GROUPS_START, 0), EXO_VX_HLT);
    g.page->event_mask |= 4;
    __atomic_fetch_or(&g.page->events, 4, __ATOMIC_SEQ_CST);
    EXPECT(guest_run(&g, EXO_VG_RIP, 0), EXO_VX_FORCED);
    EXPECT(g.w.detail[0], 4);
    EXPECT(guest_run(&g, 0, 0), EXO_VX_HLT);
    __atomic_fetch_or(&exo_page()->events, 8, __ATOMIC_SEQ_CST);
    EXPECT(exo_vm_wait(8, EXO_VG_RIP, 0, &g.w), 8);
    EXPECT(guest_run(&g, 0, 0), EXO_VX_HLT);
    EXPECT(guest_end(&g), 0);
}

/* An exit that is forced before the guest is entered hands back what was to be injected. */
static void test_handed_back(void)
{
    EXPECT(guest_make(&g, 0, &halt, true), 0);
    guest_gate(&g, GUEST_TICK, guest_more(&g, &error_handler, HANDLER));
    g.page->rip.rflags |= RFLAGS_IF;
    EXPECT(guest_run(&g, GROUPS_START, EXO_VG_RIP), EXO_VX_MORE);
    g.page->inject = (struct exo_vm_inject){.event = TICK};
    g.page->event_mask |= 1;
    __atomic_fetch_or(&g.page->events, 1, __ATOMIC_SEQ_CST);
    EXPECT(guest_run(&g, EXO_VG_INJECT, 0), EXO_VX_FORCED);
    EXPECT(g.page->exit.interrupted, TICK);
    EXPECT(guest_run(&g, 0, EXO_VG_INJECT), EXO_VX_MORE);
    EXPECT(g.page->inject.event, 0);
    g.page->inject.event = TICK;
    EXPECT(guest_run(&g, EXO_VG_INJECT, 0), EXO_VX_HLT);
    EXPECT(*guest_word(&g, GUEST_DATA), GUEST_CODE);
    EXPECT(guest_end(&g), 0);
}

const struct test event_tests[] = {
    {"events force an exit", test_forced},
    {"events from another CPU force an exit", test_forced_far},
    {"a thousand ticks", test_ticks},
    {"a window asked for by an event", test_window_event},
    {"no interrupt between STI and HLT", test_sleep},
    {"NMIs one after the other", test_nmi},
    {"exceptions are injected", test_exception},
    {"an interrupted delivery", test_interrupted},
    {"what was not injected is handed back", test_handed_back},
    {"events that are there at the reply", test_before_reply},
    {NULL, NULL},
};
