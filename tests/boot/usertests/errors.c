/* SPDX-License-Identifier: MIT
 *
 * Documented refusals that no other test meets: rights that are missing, arguments,
 * capabilities and envs that are being taken away, limits. */
#include "tests.h"

#define RW (EXO_R | EXO_W)

/* Every call that takes a capability, with one that lacks the right. */
static void test_missing_rights(void)
{
    uint64_t self = exo.start.sel_thread, env = exo.start.sel_env, f = frames(4);
    uint64_t none = (uint64_t)exo_sel_alloc(), dst = (uint64_t)exo_sel_alloc(), w[4] = {0};
    uint64_t gate = (uint64_t)exo_gate_new((uint32_t)self, 0);
    uint64_t event = (uint64_t)exo_event_new((uint32_t)self, 1);
    EXPECT(exo_cap_derive(gate, none, 0, 0, 1), 0);
    EXPECT(exo_call(none, w), -EXO_E_RIGHTS);
    EXPECT(exo_call_x(none, w, 0, 0), -EXO_E_RIGHTS);
    EXPECT(exo_cap_delete(none), 0);
    EXPECT(exo_cap_derive(event, none, 0, 1, 1), 0);
    EXPECT(exo_event_signal(none), -EXO_E_RIGHTS);
    EXPECT(exo_cap_delete(none), 0);
    EXPECT(exo_cap_derive(self, none, 0, 0, 1), 0);
    EXPECT(exo_reply_give(none), -EXO_E_RIGHTS);
    EXPECT(exo_yield_to(none), -EXO_E_RIGHTS);
    EXPECT(exo_thread_set(none, EXO_SET_RECEIVE, 0, 0), -EXO_E_RIGHTS);
    EXPECT(exo_thread_start(none, 0, 0, 0), -EXO_E_RIGHTS);
    EXPECT(exo_thread_stop(none), -EXO_E_RIGHTS);
    EXPECT(exo_thread_read(none), -EXO_E_RIGHTS);
    EXPECT(exo_thread_write(none), -EXO_E_RIGHTS);
    EXPECT(exo_env_revoker(EXO_SELF, none), -EXO_E_RIGHTS);
    EXPECT(exo_gate_make(dst, none, 0, 0), -EXO_E_RIGHTS);
    EXPECT(exo_event_make(dst, none, 1), -EXO_E_RIGHTS);
    EXPECT(exo_cap_delete(none), 0);
    EXPECT(exo_cap_derive(MEM, none, EXO_R, f, 4), 0);
    EXPECT(exo_pt_make(EXO_SELF, FAR_VA, 3, none, f), -EXO_E_RIGHTS);
    EXPECT(exo_env_make(dst, none, f, 1, 0), -EXO_E_RIGHTS);
    EXPECT(exo_thread_make(dst, EXO_SELF, none, f, 0), -EXO_E_RIGHTS);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, none, f, RW), -EXO_E_RIGHTS);
    exo_page()->list[0] = (struct exo_batch){TEST_VA, f};
    EXPECT(exo_page_bind_list(EXO_SELF, 1, none, RW), -EXO_E_RIGHTS);
    EXPECT(exo_cap_delete(none), 0);
    EXPECT(exo_cap_derive(env, none, 0, 0, 1), 0);
    EXPECT(exo_page_bind(none, TEST_VA, 1, MEM, f, RW), -EXO_E_RIGHTS);
    EXPECT(exo_page_bind_list(none, 1, MEM, RW), -EXO_E_RIGHTS);
    EXPECT(exo_page_unbind(none, TEST_VA, 1), -EXO_E_RIGHTS);
    EXPECT(exo_page_unbind_list(none, 1), -EXO_E_RIGHTS);
    EXPECT(exo_page_protect(none, TEST_VA, 1, EXO_R), -EXO_E_RIGHTS);
    EXPECT(exo_page_protect_list(none, 1, EXO_R), -EXO_E_RIGHTS);
    EXPECT(exo_pt_make(none, FAR_VA, 3, MEM, f), -EXO_E_RIGHTS);
    EXPECT(exo_pt_unmake(none, FAR_VA, 3), -EXO_E_RIGHTS);
    EXPECT(exo_env_revoker(none, 0), -EXO_E_RIGHTS);
    EXPECT(exo_thread_make(dst, none, MEM, f, 0), -EXO_E_RIGHTS);
    EXPECT(exo_cap_info(EXO_REF(none, MEM)), -EXO_E_RIGHTS);
    EXPECT(exo_cap_copy(EXO_REF(none, MEM), dst, EXO_R, f, 1), -EXO_E_RIGHTS);
    EXPECT(exo_drop((uint32_t)none), 0);
    EXPECT(exo_drop((uint32_t)gate), 0);
    EXPECT(exo_drop((uint32_t)event), 0);
    exo_sel_free((uint32_t)dst);
    give_back(f, 4);
}

static void test_missing_rights_devices(void)
{
    const struct exo_range *s = &exo.start.slots[exo.start.cpu], *q = &exo.start.irqs;
    uint64_t none = (uint64_t)exo_sel_alloc();
    uint64_t event = (uint64_t)exo_event_new(exo.start.sel_thread, 1);
    if (!s->count || !q->count) {
        test_skip("no slots or interrupts given");
        return;
    }
    EXPECT(exo_cap_derive(s->sel, none, 0, s->first, 1), 0);
    EXPECT(exo_slot_bind(none, s->first, 0, 0), -EXO_E_RIGHTS);
    EXPECT(exo_slot_unbind(none, s->first), -EXO_E_RIGHTS);
    EXPECT(exo_cap_delete(none), 0);
    EXPECT(exo_slot_unbind(s->sel, s->first + s->count), -EXO_E_RANGE);
    EXPECT(exo_slot_unbind(MEM, s->first), -EXO_E_KIND);
    EXPECT(exo_slot_unbind(0, s->first), -EXO_E_SEL);
    EXPECT(exo_cap_derive(exo.start.sel_thread, none, EXO_THREAD_CONTROL, 0, 1), 0);
    EXPECT(exo_slot_bind(s->sel, s->first, none, 0), -EXO_E_RIGHTS);
    EXPECT(exo_cap_delete(none), 0);
    EXPECT(exo_cap_derive(q->sel, none, 0, q->first, q->count), 0);
    EXPECT(exo_irq_bind(none, q->first, event), -EXO_E_RIGHTS);
    EXPECT(exo_irq_ack(none, q->first), -EXO_E_RIGHTS);
    EXPECT(exo_irq_unbind(none, q->first), -EXO_E_RIGHTS);
    EXPECT(exo_cap_delete(none), 0);
    EXPECT(exo_irq_ack(q->sel, q->first + q->count), -EXO_E_RANGE);
    EXPECT(exo_irq_unbind(q->sel, q->first + q->count), -EXO_E_RANGE);
    EXPECT(exo_irq_ack(MEM, q->first), -EXO_E_KIND);
    EXPECT(exo_irq_unbind(0, q->first), -EXO_E_SEL);
    EXPECT(exo_cap_derive(event, none, 0, 1, 1), 0);
    EXPECT(exo_irq_bind(q->sel, q->first, none), -EXO_E_RIGHTS);
    EXPECT(exo_drop((uint32_t)none), 0);
    EXPECT(exo_drop((uint32_t)event), 0);
}

static void test_call_x_errors(void)
{
    uint64_t w[4] = {0};
    EXPECT(exo_call_x(0, w, 0, 0), -EXO_E_SEL);
    EXPECT(exo_call_x(exo.start.nsel, w, 0, 0), -EXO_E_SEL);
    EXPECT(exo_call_x(1ul << 32 | MEM, w, 0, 0), -EXO_E_SEL);
    EXPECT(exo_call_x(MEM, w, 0, 0), -EXO_E_KIND);
    uint64_t gate = (uint64_t)exo_gate_new(exo.start.sel_thread, 0);
    EXPECT(exo_call_x(gate, w, 0, 0), -EXO_E_LOOP);
    EXPECT(exo_drop((uint32_t)gate), 0);
    static struct exo_task t;
    EXPECT(exo_task_make(&t, exo.start.cpu), 0);
    gate = (uint64_t)exo_gate_new(t.sel, 0);
    EXPECT(exo_call_x(gate, w, 0, 0), -EXO_E_STATE);
    EXPECT(exo_drop((uint32_t)gate), 0);
    EXPECT(exo_task_destroy(&t), 0);
    EXPECT(exo_reply_give(MEM), -EXO_E_KIND);
    EXPECT(exo_reply_give(exo.start.nsel), -EXO_E_SEL);
    EXPECT(exo_yield_to(MEM), -EXO_E_KIND);
    EXPECT(exo_yield_to(exo.start.nsel), -EXO_E_SEL);
}

/* What only a thread of another CPU is refused. */
static void spin(void *stop)
{
    while (!*(volatile uint32_t *)stop)
        continue;
}

static void test_other_cpu_errors(void)
{
    NEED_CPUS(2);
    static struct exo_task t;
    static volatile uint32_t stop;
    uint64_t w[4] = {0};
    stop = 0;
    EXPECT(exo_task_make(&t, exo.start.cpu == 0), 0);
    uint64_t gate = (uint64_t)exo_gate_new(t.sel, 0);
    EXPECT(exo_task_start(&t, spin, (void *)&stop), 0);
    while (exo_thread_info(t.sel) != EXO_T_READY)
        exo_yield();
    EXPECT(exo_call_x(gate, w, 0, 0), -EXO_E_CPU);
    EXPECT(exo_reply_give(t.sel), -EXO_E_CPU);
    EXPECT(exo_thread_set(t.sel, EXO_SET_RECEIVE, 0, 0), -EXO_E_STATE);
    EXPECT(exo_thread_read(t.sel), -EXO_E_STATE);
    EXPECT(exo_thread_start(t.sel, 0x400000, 0, 0), -EXO_E_STATE);
    EXPECT(exo_thread_stop(t.sel), -EXO_E_AGAIN);
    for (uint64_t end = exo_in_us(KID_TIME); exo_thread_stop(t.sel) != 0;)
        CHECK(exo_tsc() < end);
    EXPECT(exo_thread_read(t.sel), EXO_T_STOPPED);
    EXPECT(exo_thread_set(t.sel, EXO_SET_RECEIVE, 0, 0), 0);
    EXPECT(exo_drop((uint32_t)gate), 0);
    EXPECT(exo_task_destroy(&t), 0);
}

static void test_list_errors(void)
{
    uint64_t f = frames(2);
    struct exo_batch *list = exo_page()->list;
    EXPECT(exo_page_unbind_list(EXO_SELF, 0), -EXO_E_ARG);
    EXPECT(exo_page_unbind_list(EXO_SELF, EXO_LIST_MAX + 1), -EXO_E_ARG);
    EXPECT(exo_page_protect_list(EXO_SELF, 0, EXO_R), -EXO_E_ARG);
    EXPECT(exo_page_protect_list(EXO_SELF, EXO_LIST_MAX + 1, EXO_R), -EXO_E_ARG);
    list[0] = (struct exo_batch){EXO_VA_END, f};
    EXPECT(exo_page_bind_list(EXO_SELF, 1, MEM, RW), -EXO_E_VA);
    EXPECT(exo_page_unbind_list(EXO_SELF, 1), -EXO_E_VA);
    EXPECT(exo_page_protect_list(EXO_SELF, 1, EXO_R), -EXO_E_VA);
    list[0].va = FAR_VA;
    EXPECT(exo_page_unbind_list(EXO_SELF, 1), -EXO_E_NOPT);
    EXPECT(exo_page_protect_list(EXO_SELF, 1, EXO_R), -EXO_E_NOPT);
    list[0].va = TEST_VA;
    EXPECT(exo_page_protect_list(EXO_SELF, 1, EXO_R), -EXO_E_NONE);
    EXPECT(exo_page_bind_list(EXO_SELF, 1, 0, RW), -EXO_E_SEL);
    EXPECT(exo_page_bind_list(EXO_SELF, 1, exo.start.sel_thread, RW), -EXO_E_KIND);
    EXPECT(exo_page_bind_list(MEM, 1, MEM, RW), -EXO_E_KIND);
    EXPECT(exo_page_unbind_list(MEM, 1), -EXO_E_KIND);
    EXPECT(exo_page_protect_list(MEM, 1, EXO_R), -EXO_E_KIND);
    EXPECT(exo_pt_make(EXO_SELF, FAR_VA, 3, MEM, f), 0);
    list[0].frame = f; /* a page table now */
    EXPECT(exo_page_bind_list(EXO_SELF, 1, MEM, RW), -EXO_E_TYPE);
    EXPECT(exo_page_bind_list(EXO_SELF, 1, MEM, EXO_R), 1);
    EXPECT(exo_page_protect_list(EXO_SELF, 1, RW), -EXO_E_TYPE);
    EXPECT(exo_page_unbind_list(EXO_SELF, 1), 1);
    EXPECT(exo_env_make(200, MEM, f, 1, 0) == -EXO_E_TYPE || exo.start.nsel <= 200, 1);
    EXPECT(exo_thread_make(200, EXO_SELF, MEM, f, 0), -EXO_E_TYPE);
    EXPECT(exo_pt_unmake(EXO_SELF, FAR_VA, 3), 0);
    uint64_t a = (uint64_t)exo_sel_alloc();
    EXPECT(exo_cap_derive(MEM, a, EXO_R, f + 1, 1), 0);
    list[0] = (struct exo_batch){TEST_VA, f + 1};
    EXPECT(exo_page_bind_list(EXO_SELF, 1, a, EXO_R), 1);
    EXPECT(exo_page_protect_list(EXO_SELF, 1, RW), -EXO_E_RIGHTS);
    EXPECT(exo_page_unbind_list(EXO_SELF, 1), 1);
    EXPECT(exo_drop((uint32_t)a), 0);
    give_back(f, 2);
}

static void test_range_errors(void)
{
    uint64_t f = frames(1);
    EXPECT(exo_page_protect(EXO_SELF, TEST_VA, 0, EXO_R), -EXO_E_ARG);
    EXPECT(exo_page_protect(EXO_SELF, TEST_VA, EXO_RANGE_MAX + 1, EXO_R), -EXO_E_ARG);
    EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, EXO_RANGE_MAX + 1), -EXO_E_ARG);
    EXPECT(exo_page_unbind(MEM, TEST_VA, 1), -EXO_E_KIND);
    EXPECT(exo_page_unbind(exo.start.nsel, TEST_VA, 1), -EXO_E_SEL);
    EXPECT(exo_page_protect(MEM, TEST_VA, 1, EXO_R), -EXO_E_KIND);
    EXPECT(exo_page_protect(exo.start.nsel, TEST_VA, 1, EXO_R), -EXO_E_SEL);
    EXPECT(exo_pt_unmake(EXO_SELF, 0xffff800000000000, 1), -EXO_E_VA);
    EXPECT(exo_pt_unmake(EXO_SELF, TEST_VA, 0), -EXO_E_ARG);
    EXPECT(exo_pt_unmake(EXO_SELF, TEST_VA, 4), -EXO_E_ARG);
    EXPECT(exo_pt_unmake(MEM, TEST_VA, 1), -EXO_E_KIND);
    EXPECT(exo_pt_unmake(exo.start.nsel, TEST_VA, 1), -EXO_E_SEL);
    EXPECT(exo_pt_make(MEM, FAR_VA, 3, MEM, f), -EXO_E_KIND);
    EXPECT(exo_pt_make(EXO_SELF, FAR_VA, 3, exo.start.sel_thread, f), -EXO_E_KIND);
    EXPECT(exo_pt_make(EXO_SELF, FAR_VA, 3, 0, f), -EXO_E_SEL);
    EXPECT(exo_thread_make(200, MEM, MEM, f, 0), -EXO_E_KIND);
    EXPECT(exo_thread_make(200, EXO_SELF, exo.start.sel_thread, f, 0), -EXO_E_KIND);
    EXPECT(exo_thread_make(200, EXO_SELF, 0, f, 0), -EXO_E_SEL);
    EXPECT(exo_thread_set(MEM, EXO_SET_RECEIVE, 0, 0), -EXO_E_KIND);
    EXPECT(exo_thread_start(MEM, 0, 0, 0), -EXO_E_KIND);
    EXPECT(exo_thread_stop(MEM), -EXO_E_KIND);
    EXPECT(exo_thread_read(MEM), -EXO_E_KIND);
    EXPECT(exo_thread_write(MEM), -EXO_E_KIND);
    EXPECT(exo_thread_write(exo.start.sel_thread), -EXO_E_STATE);
    EXPECT(exo_thread_info(MEM), -EXO_E_KIND);
    EXPECT(exo_thread_info(exo.start.nsel), -EXO_E_SEL);
    EXPECT(exo_gate_make(200, MEM, 0, 0), -EXO_E_KIND);
    EXPECT(exo_gate_make(MEM, exo.start.sel_thread, 0, 0), -EXO_E_FULL);
    EXPECT(exo_gate_make(200, exo.start.nsel, 0, 0), -EXO_E_SEL);
    EXPECT(exo_gate_make(exo.start.nsel, exo.start.sel_thread, 0, 0), -EXO_E_SEL);
    EXPECT(exo_event_make(200, exo.start.nsel, 1), -EXO_E_SEL);
    EXPECT(exo_env_revoker(exo.start.nsel, 0), -EXO_E_SEL);
    EXPECT(exo_page_unbind_list(exo.start.nsel, 1), -EXO_E_SEL);
    EXPECT(exo_page_protect_list(exo.start.nsel, 1, EXO_R), -EXO_E_SEL);
    EXPECT(exo_thread_set(exo.start.nsel, EXO_SET_RECEIVE, 0, 0), -EXO_E_SEL);
    EXPECT(exo_thread_start(exo.start.nsel, 0, 0, 0), -EXO_E_SEL);
    EXPECT(exo_thread_stop(exo.start.nsel), -EXO_E_SEL);
    EXPECT(exo_thread_read(exo.start.nsel), -EXO_E_SEL);
    EXPECT(exo_thread_write(exo.start.nsel), -EXO_E_SEL);
    EXPECT(exo_cap_delete(EXO_REF(MEM, 5)), -EXO_E_KIND);
    EXPECT(exo_cap_revoke(EXO_REF(MEM, 5), 0, 0), -EXO_E_KIND);
    EXPECT(exo_cap_revoke(exo.start.nsel, 0, 0), -EXO_E_SEL);
    EXPECT(exo_cap_info(EXO_REF(MEM, 5)), -EXO_E_KIND);
    EXPECT(exo_slot_bind(exo.start.nsel, 0, 0, 0), -EXO_E_SEL);
    EXPECT(exo_irq_bind(exo.start.nsel, 4, 0), -EXO_E_SEL);
    EXPECT(exo_irq_ack(exo.start.nsel, 4), -EXO_E_SEL);
    EXPECT(exo_irq_unbind(MEM, 4), -EXO_E_KIND);
    EXPECT(exo_port_in(MEM, 0x3f8, 1), -EXO_E_KIND);
    EXPECT(exo_port_out(exo.start.nsel, 0x3f8, 1, 0), -EXO_E_SEL);
    EXPECT(exo_cap_copy(0, 200, EXO_R, f, 1), -EXO_E_SEL);
    EXPECT(exo_port_in(exo.start.nsel, 0x3f8, 1), -EXO_E_SEL);
    EXPECT(exo_port_out(exo.start.sel_console, 0x3f8, 3, 0), -EXO_E_ARG);
    EXPECT(exo_page_bind(EXO_SELF, 1ul << 40, 1, MEM, f, RW | EXO_LARGE_1G) < 0, 1);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, exo.start.memory_base, RW | EXO_LARGE_1G) < 0,
           1);
    give_back(f, 1);
}

/* An interrupt is bound to an event of one's own env only. */
static void test_irq_other_env(void)
{
    static struct kid k;
    const struct exo_range *q = &exo.start.irqs;
    if (!q->count) {
        test_skip("no interrupts given");
        return;
    }
    EXPECT(kid_make(&k, "exit7", exo.start.cpu), 0);
    uint64_t event = (uint64_t)exo_event_new(k.child.thread, 1);
    EXPECT(exo_irq_bind(q->sel, q->first, event), -EXO_E_ARG);
    EXPECT(exo.irqs[q->first].thread, 0);
    EXPECT(exo_drop((uint32_t)event), 0);
    EXPECT(kid_end(&k), 0);
}

/* A server that dies in the middle of a call with a deadline. */
static struct exo_task dying_server;
static void die_serving(uint64_t badge, uint64_t word[4], uint64_t item)
{
    (void)badge;
    (void)word;
    (void)item;
    exo_event_wait(1ul << 40, 0);
}
static void serve_dying(void *unused)
{
    (void)unused;
    exo_serve(die_serving, 1);
}
static uint64_t dying_gate;
static volatile long dying_result;
static void call_dying(void *unused)
{
    uint64_t w[4] = {0};
    (void)unused;
    dying_result = exo_call_x(dying_gate, w, 0, exo_in_us(KID_TIME));
}

static void test_call_x_dead(void)
{
    static struct exo_task client;
    dying_result = 1;
    EXPECT(exo_task_make(&dying_server, exo.start.cpu), 0);
    EXPECT(exo_task_make(&client, exo.start.cpu), 0);
    dying_gate = (uint64_t)exo_gate_new(dying_server.sel, 0);
    EXPECT(exo_task_start(&dying_server, serve_dying, NULL), 0);
    while (exo_thread_info(dying_server.sel) != EXO_T_WAIT)
        exo_yield();
    EXPECT(exo_task_start(&client, call_dying, NULL), 0);
    while (exo_thread_info(client.sel) != EXO_T_CALLING)
        exo_yield();
    EXPECT(exo_drop((uint32_t)dying_gate), 0); /* the call goes on without its gate */
    EXPECT(exo_thread_info(client.sel), EXO_T_CALLING);
    EXPECT(exo_task_destroy(&dying_server), 0);
    exo_task_join(&client);
    EXPECT(dying_result, -EXO_E_DEAD);
    EXPECT(exo_task_destroy(&client), 0);
}

/* ---- being taken away -------------------------------------------------------------------- */
#define MANY 300 /* descendants: more than one step of cap_revoke takes */

static void test_dying(void)
{
    static uint64_t child[MANY];
    uint64_t f = frames(4), a = (uint64_t)exo_sel_alloc(), dst = (uint64_t)exo_sel_alloc();
    EXPECT(exo_cap_derive(MEM, a, RW | EXO_OBJECT, f, 4), 0);
    for (unsigned i = 0; i < MANY; i++) {
        child[i] = (uint64_t)exo_sel_alloc();
        EXPECT(exo_cap_derive(a, child[i], RW | EXO_OBJECT, f, 4), 0);
    }
    uint64_t last = child[MANY - 1]; /* the first that is marked */
    EXPECT(exo_cap_revoke(a, 0, 0), -EXO_E_AGAIN);
    EXPECT(exo_cap_info(last) >> 17 & 1, 1);
    EXPECT(exo_cap_derive(last, dst, EXO_R, f, 1), -EXO_E_DYING);
    EXPECT(exo_cap_copy(last, dst, EXO_R, f, 1), -EXO_E_DYING);
    EXPECT(exo_cap_delete(last), -EXO_E_DYING);
    EXPECT(exo_cap_revoke(last, 0, 0), -EXO_E_DYING);
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, last, f, RW), -EXO_E_DYING);
    exo_page()->list[0] = (struct exo_batch){TEST_VA, f};
    EXPECT(exo_page_bind_list(EXO_SELF, 1, last, RW), -EXO_E_DYING);
    EXPECT(exo_pt_make(EXO_SELF, FAR_VA, 3, last, f), -EXO_E_DYING);
    EXPECT(exo_env_make(dst, last, f, 1, 0), -EXO_E_DYING);
    EXPECT(exo_thread_make(dst, EXO_SELF, last, f, 0), -EXO_E_DYING);
    EXPECT(EXO_FW_TYPE(exo.words[f]), EXO_FT_PLAIN);
    EXPECT(exo_drop((uint32_t)a), 0);
    exo_vector_read(NULL);
    for (unsigned i = 0; i < MANY; i++) {
        EXPECT(exo_cap_info(child[i]), 0);
        exo_sel_free((uint32_t)child[i]);
    }
    exo_sel_free((uint32_t)dst);
    give_back(f, 4);
}

/* The same for a thread's capability, and for slots and interrupts. */
static void test_dying_devices(void)
{
    static uint64_t child[MANY];
    const struct exo_range *s = &exo.start.slots[exo.start.cpu], *q = &exo.start.irqs;
    if (!s->count || !q->count) {
        test_skip("no slots or interrupts given");
        return;
    }
    const uint32_t source[] = {exo.start.sel_thread, s->sel, q->sel};
    const uint64_t base[] = {0, s->first, q->first};
    uint64_t dst = (uint64_t)exo_sel_alloc(), event;
    event = (uint64_t)exo_event_new(exo.start.sel_thread, 1);
    for (unsigned kind = 0; kind < EXO_COUNT(source); kind++) {
        uint64_t a = (uint64_t)exo_sel_alloc();
        EXPECT(exo_cap_derive(source[kind], a, EXO_RIGHTS_ALL, base[kind], 1), 0);
        for (unsigned i = 0; i < MANY; i++) {
            child[i] = (uint64_t)exo_sel_alloc();
            EXPECT(exo_cap_derive(a, child[i], EXO_RIGHTS_ALL, base[kind], 1), 0);
        }
        uint64_t last = child[MANY - 1];
        EXPECT(exo_cap_revoke(a, 0, 0), -EXO_E_AGAIN);
        if (kind == 0) {
            EXPECT(exo_gate_make(dst, last, 0x400000, 0), -EXO_E_DYING);
            EXPECT(exo_event_make(dst, last, 1), -EXO_E_DYING);
            EXPECT(exo_slot_bind(s->sel, s->first, last, 0), -EXO_E_DYING);
        } else if (kind == 1) {
            EXPECT(exo_slot_bind(last, s->first, 0, 0), -EXO_E_DYING);
        } else {
            EXPECT(exo_irq_bind(last, q->first, event), -EXO_E_DYING);
        }
        EXPECT(exo_drop((uint32_t)a), 0);
        exo_vector_read(NULL);
        for (unsigned i = 0; i < MANY; i++)
            exo_sel_free((uint32_t)child[i]);
    }
    EXPECT(exo_drop((uint32_t)event), 0);
    exo_sel_free((uint32_t)dst);
}

/* An env that is being destroyed takes nothing any more. */
static void test_dying_env(void)
{
    uint64_t f = frames(8), e = (uint64_t)exo_sel_alloc(), dst = (uint64_t)exo_sel_alloc();
    long r;
    EXPECT(exo_env_make(e, MEM, f, 1, 0), 0);
    EXPECT(exo_cap_derive(MEM, EXO_REF(e, 1), RW | EXO_OBJECT, f + 4, 4), 0);
    EXPECT(exo_pt_make(e, TEST_VA, 3, 1, f + 4), 0);
    EXPECT(exo_cap_delete(e), -EXO_E_AGAIN);
    EXPECT(exo_cap_derive(MEM, EXO_REF(e, 2), EXO_R, f + 4, 1), -EXO_E_DYING);
    EXPECT(exo_cap_copy(EXO_REF(e, 1), EXO_REF(e, 2), EXO_R, f + 4, 1), -EXO_E_DYING);
    EXPECT(exo_page_bind(e, TEST_VA, 1, 1, f + 5, RW), -EXO_E_DYING);
    EXPECT(exo_pt_make(e, TEST_VA, 2, 1, f + 5), -EXO_E_DYING);
    EXPECT(exo_thread_make(dst, e, 1, f + 5, 0), -EXO_E_DYING);
    do
        r = exo_cap_delete(e);
    while (r == -EXO_E_AGAIN);
    EXPECT(r, 0);
    exo_vector_read(NULL);
    for (unsigned i = 0; i < 8; i++)
        EXPECT(EXO_FW_TYPE(exo.words[f + i]), EXO_FT_PLAIN);
    exo_sel_free((uint32_t)e);
    exo_sel_free((uint32_t)dst);
    give_back(f, 8);
}

/* Nobody takes away what it runs on. */
static uint64_t under; /* what the task's thread was made of */
static long own_delete, own_revoke;
static void take_oneself(void *task)
{
    own_delete = exo_cap_delete(((struct exo_task *)task)->sel);
    do
        own_revoke = exo_cap_revoke(under, 0, 0);
    while (own_revoke == -EXO_E_AGAIN);
}

static void test_take_oneself(void)
{
    static struct exo_task t;
    uint32_t before = exo.pool.sel;
    long r;
    under = (uint64_t)exo_sel_alloc();
    own_delete = own_revoke = 1;
    EXPECT(exo_cap_derive(MEM, under, RW | EXO_OBJECT, exo.pool.base, exo.pool.count), 0);
    exo.pool.sel = (uint32_t)under; /* only for what the task is made of */
    r = exo_task_make(&t, exo.start.cpu);
    exo.pool.sel = before;
    EXPECT(r, 0);
    EXPECT(exo_task_start(&t, take_oneself, &t), 0);
    exo_task_join(&t);
    EXPECT(own_delete, -EXO_E_STATE);
    EXPECT(own_revoke, -EXO_E_STATE);
    EXPECT(exo_thread_info(t.sel) >= 0, 1);
    do
        r = exo_cap_revoke(under, 0, 0);
    while (r == -EXO_E_AGAIN);
    EXPECT(r, 0);
    exo_vector_read(NULL);
    EXPECT(exo_task_destroy(&t), 0);
    EXPECT(exo_drop((uint32_t)under), 0);
}

/* ---- limits ---------------------------------------------------------------------------------- */
#define COUNTED 4096 /* descendants that cap_revoke looks at to count names */

static void test_revoke_limit(void)
{
    uint64_t tables = COUNTED / EXO_TAB_CAPS + 1, f = frames(3 + tables);
    uint64_t e = (uint64_t)exo_sel_alloc(), a = (uint64_t)exo_sel_alloc();
    EXPECT(exo_env_make(e, MEM, f, tables, 0), 0);
    EXPECT(exo_cap_derive(MEM, a, EXO_R, f, 1), 0);
    for (uint64_t s = 1; s < COUNTED; s++)
        EXPECT(exo_cap_derive(a, EXO_REF(e, s), EXO_R, f, 1), 0);
    EXPECT(exo_cap_revoke(a, COUNTED, 0), COUNTED - 1);
    EXPECT(exo_cap_derive(a, EXO_REF(e, COUNTED), EXO_R, f, 1), 0);
    EXPECT(exo_cap_derive(a, EXO_REF(e, COUNTED + 1), EXO_R, f, 1), 0);
    EXPECT(exo_cap_revoke(a, COUNTED, 0), -EXO_E_LIMIT);
    EXPECT(exo_drop((uint32_t)a), 0);
    EXPECT(exo_drop((uint32_t)e), 0);
    exo_vector_read(NULL);
    give_back(f, 3 + tables);
}

/* Derivations one of the other, as deep as they go: through the tables of some envs. */
#define DEEP_ENVS 4

/* From a capability of ours down to the deepest that can be, which goes to `last`. */
static long derive_deep(uint64_t from, const uint64_t *e, uint64_t last, uint64_t base,
                        uint64_t count)
{
    uint64_t before = from, n = 0;
    long r = 0;
    for (unsigned i = 0; i < DEEP_ENVS && r == 0; i++)
        for (uint64_t s = 1; s < EXO_SEL_MAX && r == 0; s++) {
            r = exo_cap_derive(from, EXO_REF(e[i], s), EXO_RIGHTS_ALL, base, count);
            if (r == 0) {
                before = from;
                from = EXO_REF(e[i], s);
                n++;
            }
        }
    if (r != -EXO_E_DEPTH || n <= EXO_DEPTH_MAX - 100 || n > EXO_DEPTH_MAX) return r < 0 ? r : 1;
    r = exo_cap_delete(from);
    return r < 0 ? r : exo_cap_derive(before, last, EXO_RIGHTS_ALL, base, count);
}

static void test_depth(void)
{
    uint64_t size = 3 + EXO_TAB_MAX, f = frames(DEEP_ENVS * size), e[DEEP_ENVS], g = frames(4);
    uint64_t dst = (uint64_t)exo_sel_alloc(), last = (uint64_t)exo_sel_alloc();
    CHECK(f && g);
    for (unsigned turn = 0; turn < 2; turn++) {
        for (unsigned i = 0; i < DEEP_ENVS; i++) {
            e[i] = (uint64_t)exo_sel_alloc();
            EXPECT(exo_env_make(e[i], MEM, f + i * size, EXO_TAB_MAX, 0), 0);
        }
        EXPECT(derive_deep(turn ? exo.start.sel_thread : MEM, e, last, g, 4), 0);
        EXPECT(exo_cap_derive(last, dst, EXO_R, g, 1), -EXO_E_DEPTH);
        if (turn) {
            EXPECT(exo_gate_make(dst, last, 0x400000, 0), -EXO_E_DEPTH);
            EXPECT(exo_event_make(dst, last, 1), -EXO_E_DEPTH);
        } else {
            EXPECT(exo_env_make(dst, last, g, 1, 0), -EXO_E_DEPTH);
            EXPECT(exo_thread_make(dst, EXO_SELF, last, g, exo.start.cpu), -EXO_E_DEPTH);
            for (unsigned i = 0; i < 4; i++)
                EXPECT(EXO_FW_TYPE(exo.words[g + i]), EXO_FT_PLAIN);
        }
        for (unsigned i = 0; i < DEEP_ENVS; i++)
            EXPECT(exo_drop((uint32_t)e[i]), 0);
        EXPECT(exo_cap_info(last), 0);
        exo_vector_read(NULL);
    }
    exo_sel_free((uint32_t)dst);
    exo_sel_free((uint32_t)last);
    give_back(g, 4);
    give_back(f, DEEP_ENVS * size);
}

const struct test error_tests[] = {
    {"missing_rights", test_missing_rights},
    {"missing_rights_devices", test_missing_rights_devices},
    {"call_x_errors", test_call_x_errors},
    {"other_cpu_errors", test_other_cpu_errors},
    {"list_errors", test_list_errors},
    {"range_errors", test_range_errors},
    {"irq_other_env", test_irq_other_env},
    {"call_x_dead", test_call_x_dead},
    {"dying", test_dying},
    {"dying_devices", test_dying_devices},
    {"dying_env", test_dying_env},
    {"take_oneself", test_take_oneself},
    {"revoke_limit", test_revoke_limit},
    {"depth", test_depth},
    {NULL, NULL},
};
