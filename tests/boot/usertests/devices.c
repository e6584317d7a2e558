/* SPDX-License-Identifier: MIT
 *
 * Time slots, interrupts and ports: bindings and their refusals. */
#include "tests.h"

static void test_ports(void)
{
    uint64_t con = exo.start.sel_console, a = (uint64_t)exo_sel_alloc();
    CHECK(exo_port_in(con, 0x3fd, 1) >= 0);
    EXPECT(exo_port_in(con, 0x3fd, 3), -EXO_E_ARG);
    EXPECT(exo_port_in(con, 0x3fd, 8), -EXO_E_ARG);
    EXPECT(exo_port_in(con, 0x3f7, 1), -EXO_E_RANGE);
    EXPECT(exo_port_in(con, 0x400, 1), -EXO_E_RANGE);
    EXPECT(exo_port_in(con, 0x3ff, 2), -EXO_E_RANGE); /* the second byte is outside */
    EXPECT(exo_port_in(con, 0x103fd, 1), -EXO_E_RANGE);
    EXPECT(exo_port_out(con, UINT64_MAX, 4, 0), -EXO_E_RANGE);
    EXPECT(exo_port_out(con, 0xcf8, 4, 0), -EXO_E_RANGE);
    EXPECT(exo_port_out(MEM, 0x3f8, 1, 0), -EXO_E_KIND);
    EXPECT(exo_cap_derive(con, a, 0, 0x3f8, 8), 0);
    EXPECT(exo_port_in(a, 0x3fd, 1), -EXO_E_RIGHTS);
    EXPECT(exo_drop((uint32_t)a), 0);
}

static void test_slots(void)
{
    const struct exo_range *s = &exo.start.slots[exo.start.cpu];
    uint64_t self = exo.start.sel_thread;
    if (s->count < 2) {
        test_skip("no slots given");
        return;
    }
    uint64_t last = s->first + s->count - 1;
    exo_thread_info(self);
    uint64_t frame = exo_page()->list[0].va;
    EXPECT(exo.slots[last].thread, frame);
    EXPECT(exo_slot_bind(s->sel, last, self, 0), -EXO_E_BOUND);
    EXPECT(exo_slot_unbind(s->sel, last), 0);
    EXPECT(exo.slots[last].thread, 0);
    EXPECT(exo_slot_unbind(s->sel, last), -EXO_E_NONE);
    EXPECT(exo_slot_bind(s->sel, last + 1, self, 0), -EXO_E_RANGE);
    EXPECT(exo_slot_bind(s->sel, UINT64_MAX, self, 0), -EXO_E_RANGE);
    EXPECT(exo_slot_bind(s->sel, last, self, 2), -EXO_E_ARG);
    EXPECT(exo_slot_bind(s->sel, last, MEM, 0), -EXO_E_KIND);
    EXPECT(exo_slot_bind(MEM, last, self, 0), -EXO_E_KIND);
    EXPECT(exo_slot_bind(s->sel, last, self, EXO_SLOT_FIRM), 0);
    EXPECT(exo.slots[last].flags, EXO_SLOT_FIRM);
    EXPECT(exo_slot_unbind(s->sel, last), 0);
    EXPECT(exo_slot_bind(s->sel, last, self, 0), 0);
}

static void test_slot_cpu(void)
{
    NEED_CPUS(2);
    const struct exo_range *s = &exo.start.slots[1];
    if (!s->count) {
        test_skip("no slots given on the other CPU");
        return;
    }
    EXPECT(exo_slot_bind(s->sel, s->first, exo.start.sel_thread, 0), -EXO_E_CPU);
}

/* The serial port's transmitter interrupt: line 4 of the ISA bus. */
#define COM1_IRQ 4
#define COM1_IER 0x3f9 /* 16550 data sheet: bit 1, holding register empty */
#define COM1_IIR 0x3fa
#define COM1_MCR 0x3fc /* bit 3, OUT2: lets the interrupt through on a PC */

static void test_irq(void)
{
    const struct exo_range *q = &exo.start.irqs;
    uint64_t con = exo.start.sel_console;
    if (!q->sel || q->first > COM1_IRQ) {
        test_skip("no interrupts given");
        return;
    }
    uint64_t e = (uint64_t)exo_event_new(exo.start.sel_thread, 0x100);
    EXPECT(exo_irq_ack(q->sel, COM1_IRQ), -EXO_E_NONE);
    EXPECT(exo_irq_unbind(q->sel, COM1_IRQ), -EXO_E_NONE);
    EXPECT(exo_irq_bind(q->sel, q->first + q->count, e), -EXO_E_RANGE);
    EXPECT(exo_irq_bind(q->sel, UINT64_MAX, e), -EXO_E_RANGE);
    EXPECT(exo_irq_bind(q->sel, COM1_IRQ, q->sel), -EXO_E_KIND);
    EXPECT(exo_irq_bind(q->sel, COM1_IRQ, e), 0);
    EXPECT(exo_irq_bind(q->sel, COM1_IRQ, e), -EXO_E_BOUND);
    EXPECT(exo.irqs[COM1_IRQ].bits, 0x100);
    long mcr = exo_port_in(con, COM1_MCR, 1);
    exo_port_out(con, COM1_MCR, 1, (uint64_t)mcr | 8);
    for (int i = 0; i < 3; i++) {
        uint64_t before = exo.irqs[COM1_IRQ].count;
        exo_port_out(con, COM1_IER, 1, 0);
        exo_port_out(con, COM1_IER, 1, 2); /* empty: it interrupts at once */
        EXPECT(exo_event_wait(0x100, exo_in_us(1000000)), 0x100);
        EXPECT(exo.irqs[COM1_IRQ].masked != 0, 1);
        CHECK(exo.irqs[COM1_IRQ].count > before);
        exo_port_in(con, COM1_IIR, 1);
        exo_port_out(con, COM1_IER, 1, 0);
        EXPECT(exo_irq_ack(q->sel, COM1_IRQ), 0);
    }
    exo_port_out(con, COM1_MCR, 1, (uint64_t)mcr);
    EXPECT(exo_irq_unbind(q->sel, COM1_IRQ), 0);
    EXPECT(exo.irqs[COM1_IRQ].thread, 0);
    EXPECT(exo_drop((uint32_t)e), 0);
}

/* ---- an interrupt storm ------------------------------------------------------------- */
#define STORM_EVENT 0x200ul
#define STORM_SLOTS 2 /* of the driver: it may run on credit as soon as it is woken */
#define WORK_SLOTS 16 /* of the other env, firm */
#define STORM_GREEDY 40 /* who share the idle slots, so that little of them is the worker's */
#define REVOLUTIONS 10
#define GAP_US 40 /* a longer pause was somebody else's time */
#define DRIVER_GAP_US 300

/* Adds to *mine the time that the caller itself runs, in ticks of the time-stamp
 * counter: not what passes while others do. */
static void count_time(volatile uint64_t *mine, const volatile uint32_t *over)
{
    uint64_t gap = exo_us(GAP_US);
    for (uint64_t last = exo_tsc(); !over || !*over;) {
        uint64_t now = exo_tsc();
        if (now - last < gap) *mine += now - last;
        last = now;
    }
}

long kid_works(void)
{
    uint64_t frame = (uint64_t)cap_base(KID_GIVEN, NULL);
    if (exo_bind(&exo.pool, TEST_VA, 1, KID_GIVEN, frame, EXO_R | EXO_W) < 0) return -1;
    count_time((volatile uint64_t *)TEST_VA, NULL);
    return 0;
}

static volatile uint32_t storm_over;
static volatile uint64_t other_time[STORM_GREEDY + 1]; /* the last is the driver's */

static void storm(void *unused)
{
    const struct exo_range *q = &exo.start.irqs;
    uint64_t con = exo.start.sel_console, gap = exo_us(DRIVER_GAP_US);
    (void)unused;
    while (!storm_over) {
        uint64_t start = exo_tsc();
        exo_port_in(con, COM1_IIR, 1);
        exo_port_out(con, COM1_IER, 1, 0);
        exo_irq_ack(q->sel, COM1_IRQ);
        exo_port_out(con, COM1_IER, 1, 2); /* interrupts at once: the transmitter is empty */
        uint64_t used = exo_tsc() - start;
        if (used < gap) other_time[STORM_GREEDY] += used;
        exo_event_wait(STORM_EVENT, exo_in_us(100000));
    }
}

static void greedy(void *argument) { count_time(&other_time[(uint64_t)argument], &storm_over); }

static uint64_t others(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i <= STORM_GREEDY; i++)
        sum += other_time[i];
    return sum;
}

/* The worker's permille of the time while interrupts come as fast as they can. */
static uint64_t storm_share(volatile uint64_t *work, uint64_t *interrupts)
{
    uint64_t count = exo.irqs[COM1_IRQ].count, rest = others(), own = *work;
    sleep_us(REVOLUTIONS * EXO_SLOTS_PER_CPU * EXO_SLOT_US);
    *interrupts = exo.irqs[COM1_IRQ].count - count;
    own = *work - own;
    return own * 1000 / (own + others() - rest);
}

static struct exo_task storm_task, greedy_task[STORM_GREEDY];
static struct kid worker;

static void storm_slots(bool back)
{
    const struct exo_range *s = &exo.start.slots[exo.start.cpu];
    for (uint32_t i = 0; i < s->count; i++) {
        if (!back || i < WORK_SLOTS + STORM_SLOTS) EXPECT(exo_slot_unbind(s->sel, s->first + i), 0);
        if (back)
            EXPECT(exo_slot_bind(s->sel, s->first + i, exo.start.sel_thread, 0), 0);
        else if (i < WORK_SLOTS)
            EXPECT(exo_slot_bind(s->sel, s->first + i, worker.child.thread, EXO_SLOT_FIRM), 0);
        else if (i < WORK_SLOTS + STORM_SLOTS)
            EXPECT(exo_slot_bind(s->sel, s->first + i, storm_task.sel, 0), 0);
    }
}

static void storm_begin(uint64_t frame)
{
    EXPECT(exo_page_bind(EXO_SELF, TEST_VA, 1, MEM, frame, EXO_R | EXO_W), 1);
    *(volatile uint64_t *)TEST_VA = 0;
    EXPECT(kid_make(&worker, "works", exo.start.cpu), 0);
    EXPECT(kid_give(&worker, MEM, EXO_R | EXO_W, frame, 1), KID_GIVEN);
    EXPECT(kid_start(&worker), 0);
    EXPECT(exo_task_make(&storm_task, exo.start.cpu), 0);
    for (unsigned i = 0; i < STORM_GREEDY; i++) {
        EXPECT(exo_task_make(&greedy_task[i], exo.start.cpu), 0);
        EXPECT(exo_task_start(&greedy_task[i], greedy, (void *)(uint64_t)i), 0);
    }
    storm_slots(false);
}

static void storm_end(void)
{
    storm_over = 1;
    exo_task_join(&storm_task);
    storm_slots(true);
    EXPECT(exo_task_destroy(&storm_task), 0);
    for (unsigned i = 0; i < STORM_GREEDY; i++) {
        exo_task_join(&greedy_task[i]);
        EXPECT(exo_task_destroy(&greedy_task[i]), 0);
    }
    EXPECT(kid_end(&worker), 0);
    EXPECT(exo_page_unbind(EXO_SELF, TEST_VA, 1), 1);
}

/* Who owns slots keeps its share, whatever interrupts a driver provokes. The emulator
 * may lose time to its host in the middle: the best of three measurements counts. */
static void test_irq_storm(void)
{
    const struct exo_range *q = &exo.start.irqs;
    uint64_t con = exo.start.sel_console, f = frames(1), best = 0, most = 0;
    if (!q->sel || exo.start.slots[exo.start.cpu].count < WORK_SLOTS + STORM_SLOTS) {
        test_skip("no interrupts, or too few slots given");
        return;
    }
    storm_over = 0;
    storm_begin(f);
    uint64_t e = (uint64_t)exo_event_new(storm_task.sel, STORM_EVENT);
    EXPECT(exo_irq_bind(q->sel, COM1_IRQ, e), 0);
    long mcr = exo_port_in(con, COM1_MCR, 1);
    exo_port_out(con, COM1_MCR, 1, (uint64_t)mcr | 8);
    EXPECT(exo_task_start(&storm_task, storm, NULL), 0);
    const uint64_t own = WORK_SLOTS * 1000 / EXO_SLOTS_PER_CPU, least = own - own * 5 / 100;
    for (int i = 0; i < 3 && best < least; i++) {
        uint64_t interrupts, share = storm_share((volatile uint64_t *)TEST_VA, &interrupts);
        if (share > best) {
            best = share;
            most = interrupts;
        }
    }
    EXPECT(exo_irq_unbind(q->sel, COM1_IRQ), 0);
    exo_port_out(con, COM1_IER, 1, 0);
    exo_port_out(con, COM1_MCR, 1, (uint64_t)mcr);
    EXPECT(exo_drop((uint32_t)e), 0);
    storm_end();
    exo_port_out(con, COM1_IER, 1, 0); /* its last turn may have set it */
    give_back(f, 1);
    exo_printf("irq_storm: %lu permille with 16 of 64 slots during %lu interrupts\n", best, most);
    CHECK(best >= least);
    CHECK(most >= REVOLUTIONS * EXO_SLOTS_PER_CPU); /* more than one a slot */
}

/* ---- exposed tables: they agree with what an env owns ---------------------------------- */

/* Given: interrupts, and slots by the startup page. 0, or which disagreement. */
long kid_owns(void)
{
    const struct exo_range *s = &exo.start.slots[exo.start.cpu];
    uint64_t irq = (uint64_t)cap_base(KID_GIVEN, NULL), owned = 0;
    exo_thread_info(0);
    uint64_t self = exo_page()->list[0].va, env = exo_page()->list[0].frame;
    for (uint32_t i = 0; i < exo.start.cpus * EXO_SLOTS_PER_CPU; i++) {
        if (exo.slots[i].env != env || !exo.slots[i].thread) continue;
        owned++;
        if (i < s->first || i >= s->first + s->count || exo.slots[i].thread != self ||
            exo.slots[i].sel != s->sel)
            return 1;
    }
    if (owned != s->count) return 2;
    uint64_t event = 40;
    if (exo_event_make(event, exo.start.sel_thread, 0x30) < 0 ||
        exo_irq_bind(KID_GIVEN, irq, event) < 0)
        return 3;
    for (uint64_t i = 0; i < EXO_IRQ_COUNT; i++)
        if ((exo.irqs[i].thread != 0 && exo.irqs[i].env == env) != (i == irq)) return 4;
    if (exo.irqs[irq].thread != self || exo.irqs[irq].sel != KID_GIVEN ||
        exo.irqs[irq].bits != 0x30)
        return 5;
    if (exo_slot_unbind(s->sel, s->first) < 0 || exo.slots[s->first].thread != 0) return 6;
    if (exo_irq_unbind(KID_GIVEN, irq) < 0 || exo.irqs[irq].thread != 0) return 7;
    probe_init();
    return probe_write((uint64_t)exo.slots, 0) == 15 && probe_write((uint64_t)exo.irqs, 0) == 15
               ? 0
               : 8;
}

static void test_tables_owned(void)
{
    const struct exo_range *s = &exo.start.slots[exo.start.cpu], *q = &exo.start.irqs;
    static struct kid k;
    if (!q->sel || q->first > COM1_IRQ || s->count < 4) {
        test_skip("no interrupts, or too few slots given");
        return;
    }
    uint32_t first = s->first + s->count - 2;
    EXPECT(kid_make(&k, "owns", exo.start.cpu), 0);
    EXPECT(kid_give(&k, q->sel, EXO_USE, COM1_IRQ, 1), KID_GIVEN);
    long tables =
        kid_give(&k, exo.start.sel_tables, EXO_R, exo.start.tables_base, exo.start.tables_count);
    long slots = kid_give(&k, s->sel, EXO_USE, first, 2);
    EXPECT(tables, KID_GIVEN + 1);
    EXPECT(slots, KID_GIVEN + 2);
    k.child.start.sel_tables = (uint32_t)tables;
    k.child.start.slots[exo.start.cpu] = (struct exo_range){(uint32_t)slots, first, 2, 0};
    EXPECT(exo_slot_unbind(s->sel, first), 0);
    EXPECT(exo_slot_unbind(s->sel, first + 1), 0);
    EXPECT(kid_start(&k), 0);
    EXPECT(kid_wait(&k, KID_TIME), 0);
    EXPECT(kid_end(&k), 0);
    EXPECT(exo_slot_bind(s->sel, first, exo.start.sel_thread, 0), 0);
    EXPECT(exo_slot_bind(s->sel, first + 1, exo.start.sel_thread, 0), 0);
}

const struct test device_tests[] = {
    {"ports", test_ports}, {"slots", test_slots},         {"slot_cpu", test_slot_cpu},
    {"irq", test_irq},     {"irq_storm", test_irq_storm}, {"tables_owned", test_tables_owned},
    {NULL, NULL},
};
