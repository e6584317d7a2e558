/* SPDX-License-Identifier: MIT
 *
 * The supervisor: makes the hostile envs, looks after those that got stuck, takes from
 * them while they run, destroys and remakes them, and in the end takes everything back
 * and looks for what is left. From the kernel's command line: seed=N, ms=N (how long).
 *
 * Everything of hostile env i is made out of one capability (hostile.sel), and so dies
 * with what is derived from that, whatever the envs did with it meanwhile.
 *
 * A watchdog on the last CPU says FAIL when the supervisor does not get on. */
#include "fuzz.h"
#include "../../../abi/vm.h"
#include "call_grammar.h"

#define WATCH_MS 15000
#define TICK_US 5000
#define STUCK_TICKS 20
#define SLOTS_OWN 6 /* of the first CPU's, that it does not give away */
#define CALLS_LEAST 25 /* that must have succeeded, or the fuzzer does not reach deep */
#define STEPS_LEAST 1000
#define EXITS_LEAST 5

struct hostile {
    struct exo_child child;
    struct exo_pool pool; /* what it is made of: HOSTILE_FRAMES from base on */
    uint64_t pool_bits[EXO_POOL_WORDS(HOSTILE_FRAMES)];
    uint64_t bits[EXO_POOL_WORDS(HOSTILE_FRAMES)];
    uint64_t base;
    uint64_t steps; /* when last looked at */
    uint32_t ticks; /* since then */
    uint32_t pokes;
    uint32_t sel;
    uint32_t gate; /* to its first thread */
    bool alive;
};
static struct hostile hostiles[HOSTILES];
static uint32_t block; /* selectors */
static uint32_t fault_event;
static uint64_t block_base, shared_frame;
static uint64_t random_state;
static volatile uint64_t progress;
static volatile bool stopping;
static bool failed;
static uint64_t made, restarts, replies;

static uint64_t pick(uint64_t n) { return random_next(&random_state) % n; }

static void fail(const char *what, unsigned long got)
{
    if (!failed) exo_printf("FAIL fuzz_boot %s (%lx)\n", what, got);
    failed = true;
}

uint64_t number_read(const char *text)
{
    uint64_t v = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        v = v * 10 + (uint64_t)(*text - '0');
    return v;
}

static uint64_t option(const char *name, uint64_t otherwise)
{
    size_t n = strlen(name);
    for (const char *at = exo.info->command_line; *at; at++)
        if (!strncmp(at, name, n)) return number_read(at + n);
    return otherwise;
}

static void watch(void *unused)
{
    (void)unused;
    uint64_t seen = progress, since = exo_tsc();
    while (!stopping) {
        exo_event_wait(1ul << 50, exo_in_us(200000));
        if (progress != seen) {
            seen = progress;
            since = exo_tsc();
        } else if (exo_tsc() - since > exo_us(WATCH_MS * 1000ul)) {
            exo_printf("FAIL fuzz_boot no progress at step %lu\nTESTS DONE\n", seen);
            return;
        }
    }
}

/* ---- making and ending ------------------------------------------------------------------ */

/* Repeats a call while it says AGAIN. */
static long revoke(uint64_t sel)
{
    long r;
    do
        r = exo_cap_revoke(sel, 0, 0);
    while (r == -EXO_E_AGAIN);
    return r;
}
static long delete (uint64_t sel)
{
    long r;
    do
        r = exo_cap_delete(sel);
    while (r == -EXO_E_AGAIN);
    return r;
}

static long give(struct hostile *h, uint32_t src, unsigned rights, uint64_t base, uint64_t count)
{
    long sel = exo_child_give(&h->child, src, rights, base, count);
    if (sel < 0) fail("cap_derive for a hostile env", (unsigned long)-sel);
    return sel;
}

/* In the order of the enum in fuzz.h; GIVEN_TEXT is there already. */
static void give_all(struct hostile *h)
{
    const struct exo_startup *s = &exo.start;
    const struct hostile *other = &hostiles[pick(HOSTILES)];
    give(h, s->sel_memory, EXO_R | EXO_W, shared_frame, 1);
    give(h, block, EXO_RIGHTS_ALL, block_base, BLOCK_FRAMES);
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        const struct exo_range *r = &s->slots[cpu % s->cpus];
        give(h, r->sel, EXO_USE, r->first, r->count);
    }
    give(h, s->irqs.sel, EXO_USE, s->irqs.first, s->irqs.count);
    give(h, s->sel_ports, EXO_USE, 0x3e8, 8);
    if (other == h || !other->alive) return;
    /* These can be dying: an env may take back its own memory. */
    exo_child_give(&h->child, other->child.env, EXO_ENV_BIND | EXO_ENV_INTO | EXO_ENV_FROM, 0, 1);
    exo_child_give(&h->child, other->child.thread, EXO_RIGHTS_ALL, 0, 1);
    exo_child_give(&h->child, other->gate, EXO_GATE_CALL, 1 + pick(1000), 1);
    exo_event_make(EXO_REF(h->child.env, h->child.sel_free), other->child.thread, 0xff);
}

static void hostile_make(struct hostile *h)
{
    char args[64];
    unsigned i = (unsigned)(h - hostiles);
    long r = exo_cap_derive(exo.start.sel_memory, h->sel, EXO_RIGHTS_ALL, h->base, HOSTILE_FRAMES);
    if (r < 0) return fail("cap_derive", (unsigned long)-r);
    exo_pool_init(&h->pool, EXO_SELF, h->sel, h->base, HOSTILE_FRAMES, 0, h->pool_bits);
    r = exo_child_make(&h->child, &h->pool, HOSTILE_FRAMES - 3 - HOSTILE_TABLES, HOSTILE_TABLES,
                       i % exo.start.cpus, fault_event, h->bits);
    exo_format(args, sizeof(args), "hostile %u %lu", i, pick(1ul << 40));
    if (r >= 0) r = exo_child_image(&h->child, args);
    if (r >= 0) r = exo_gate_make(h->gate, h->child.thread, (uint64_t)hostile_gate, 0);
    if (r < 0) return fail("making a hostile env", (unsigned long)-r);
    give_all(h);
    r = exo_bind(&h->child.pool, SHARED_VA, 1, GIVEN_SHARED, shared_frame, EXO_R | EXO_W);
    if (r >= 0) r = exo_child_start(&h->child);
    if (r < 0) return fail("starting a hostile env", (unsigned long)-r);
    h->alive = true;
    h->ticks = h->pokes = 0;
    made++;
    progress++;
}

/* Frames of [base, base + n) that are not plain or bound somewhere. */
static uint64_t frames_used(uint64_t base, uint64_t n)
{
    uint64_t used = 0;
    for (uint64_t f = base; f < base + n; f++)
        used += EXO_FW_TYPE(exo.words[f]) != EXO_FT_PLAIN || EXO_FW_BINDINGS(exo.words[f]) != 0;
    return used;
}

/* Nobody has these frames any more: what is written there now stays, whatever was in a
 * translation or a CPU's registers. */
static void stays_dead(uint64_t base, uint64_t n)
{
    long r = exo_bind(&exo.pool, PLAY_VA, n, exo.start.sel_memory, base, EXO_R | EXO_W);
    const volatile uint64_t *at = (const volatile uint64_t *)PLAY_VA;
    if (r < 0) return fail("free frames cannot be bound", (unsigned long)-r);
    memset((void *)PLAY_VA, 0xa5, n * EXO_PAGE);
    exo_event_wait(EXO_EV_FAULT, exo_in_us(pick(3000)));
    for (uint64_t i = 0; i < n * EXO_PAGE / sizeof(*at); i++)
        if (at[i] != 0xa5a5a5a5a5a5a5a5ul)
            return fail("a frame that nobody has was written to",
                        base * EXO_PAGE + i * sizeof(*at));
    exo_unbind(&exo.pool, PLAY_VA, n);
}

/* By its env first, or by its memory alone: nothing of it may be left. */
static void hostile_end(struct hostile *h)
{
    long r = 0;
    if (!h->alive) return;
    if (pick(2)) {
        r = revoke(h->child.env);
        if (r == 0) r = delete (h->child.env);
        if (r != 0) return fail("an env cannot be destroyed", (unsigned long)-r);
        progress++;
    }
    r = revoke(h->sel);
    if (r == 0) r = delete (h->sel);
    if (r != 0) return fail("its memory cannot be taken", (unsigned long)-r);
    if (exo_cap_info(h->child.env) != 0 || exo_cap_info(h->child.thread) != 0 ||
        exo_cap_info(h->gate) != 0)
        return fail("an object outlived its memory", h->base);
    uint64_t used = frames_used(h->base, HOSTILE_FRAMES);
    if (used) return fail("frames of a dead env are in use", used);
    exo_sel_free(h->child.env);
    exo_sel_free(h->child.thread);
    h->alive = false;
    if (pick(2)) stays_dead(h->base, HOSTILE_FRAMES);
    progress++;
}

/* ---- while they run ------------------------------------------------------------------------ */

/* An env can take its own memory back, and so lose threads: then it is made anew. */
static void poke(struct hostile *h)
{
    long r;
    do
        r = exo_thread_stop(h->child.thread);
    while (r == -EXO_E_AGAIN);
    if (r >= 0) r = exo_thread_start(h->child.thread, (uint64_t)hostile_entry, HOSTILE_STACK, 0);
    restarts++;
    if (r == -EXO_E_SEL || r == -EXO_E_DYING) {
        hostile_end(h);
        hostile_make(h);
    } else if (r < 0 && r != -EXO_E_STATE) { /* another thread of it was faster */
        fail("a hostile thread cannot be restarted", (unsigned long)-r);
    }
}

static void look_after(struct hostile *h)
{
    uint64_t steps = SHARED->steps[h - hostiles];
    if (steps != h->steps) {
        h->steps = steps;
        h->ticks = h->pokes = 0;
        return;
    }
    if (++h->ticks < STUCK_TICKS) return;
    h->ticks = 0;
    if (h->pokes++ < 2) {
        poke(h);
        return;
    }
    hostile_end(h);
    hostile_make(h);
}

/* Its server may keep the call as long as it likes; the deadline must end it. */
static void call_hostile(const struct hostile *h)
{
    uint64_t word[4] = {pick(100), 0, 0, 0};
    uint64_t deadline = exo_in_us(1 + pick(3000));
    long r = exo_call_x(h->gate, word, 0, deadline);
    if (r >= 0) replies++;
    if (exo_tsc() > deadline + exo_us(5000000))
        fail("a call came back 5 s after its deadline", (unsigned long)r);
}

static void take_something(void)
{
    const struct exo_startup *s = &exo.start;
    const uint32_t sels[] = {s->slots[0].sel, s->irqs.sel, s->sel_ports, block};
    uint32_t sel = pick(2) ? block : sels[pick(EXO_COUNT(sels))];
    uint64_t keep = pick(2) ? 0 : pick(2 * BLOCK_FRAMES),
             deadline = pick(2) ? 0 : exo_in_us(pick(4000));
    long r;
    do
        r = exo_cap_revoke(sel, keep, deadline);
    while (r == -EXO_E_AGAIN);
    if (r < 0 && r != -EXO_E_LIMIT) fail("cap_revoke", (unsigned long)-r);
    if (r == 0 && sel == block && keep == 0) stays_dead(block_base, BLOCK_FRAMES);
}

static void act(struct hostile *h)
{
    switch (pick(60)) {
    case 0:
    case 1:
        hostile_end(h);
        hostile_make(h);
        break;
    case 2:
    case 3:
        take_something();
        break;
    case 4:
        poke(h);
        break;
    case 5:
    case 6:
    case 7:
    case 8:
    case 9:
        call_hostile(h);
        break;
    default:
        exo_event_wait(EXO_EV_FAULT, exo_in_us(pick(2 * TICK_US)));
    }
}

static void run(uint64_t ms)
{
    uint64_t end = exo_in_us(ms * 1000);
    while (!failed && exo_tsc() < end) {
        act(&hostiles[pick(HOSTILES)]);
        for (unsigned i = 0; i < HOSTILES && !failed; i++)
            look_after(&hostiles[i]);
        progress++;
    }
}

/* ---- the end ---------------------------------------------------------------------------------- */

static uint64_t selectors_used(void)
{
    uint64_t used = 0;
    for (uint32_t sel = 1; sel < exo.start.nsel; sel++)
        used += exo_cap_info(sel) != 0;
    return used;
}

static uint64_t slots_used(void)
{
    uint64_t used = 0;
    for (uint32_t i = 0; i < exo.start.cpus * EXO_SLOTS_PER_CPU; i++)
        used += exo.slots[i].thread != 0;
    return used;
}

static uint64_t irqs_used(void)
{
    uint64_t used = 0;
    for (uint32_t i = 0; i < EXO_IRQ_COUNT; i++)
        used += exo.irqs[i].thread != 0;
    return used;
}

/* What was given and lent comes back, in any order; nothing may be left of it. */
static void everything_back(void)
{
    const struct exo_startup *s = &exo.start;
    const uint32_t sels[] = {
        s->slots[0].sel, s->slots[s->cpus > 1].sel, s->irqs.sel, s->sel_ports, block, fault_event};
    uint64_t first = pick(EXO_COUNT(sels));
    for (unsigned i = 0; i < EXO_COUNT(sels) + HOSTILES && !failed; i++) {
        if (i % 2 == 0 && i / 2 < HOSTILES) hostile_end(&hostiles[i / 2]);
        long r = revoke(sels[(first + i) % EXO_COUNT(sels)]);
        if (r != 0) fail("revoking everything", (unsigned long)-r);
    }
    if (!failed && frames_used(block_base, BLOCK_FRAMES))
        fail("frames that were lent are in use", frames_used(block_base, BLOCK_FRAMES));
    if (!failed && irqs_used()) fail("an interrupt is bound", irqs_used());
}

static void report(uint64_t seed)
{
    uint64_t steps = 0, calls = 0;
    for (unsigned i = 0; i < HOSTILES; i++)
        steps += SHARED->steps[i];
    for (unsigned i = 0; i < EXO_CALL_COUNT; i++)
        calls += SHARED->done[i] != 0;
    exo_printf("fuzz: %lu steps, %lu of %u calls succeeded, %lu envs, %lu restarts, %lu replies\n",
               steps, calls, EXO_CALL_COUNT, made, restarts, replies);
    exo_printf("fuzz: %lu exits of guests answered, %lu states were invalid\n", SHARED->exits,
               SHARED->invalid);
    exo_printf("fuzz: never succeeded:");
    for (unsigned i = 0; i < EXO_CALL_COUNT; i++)
        if (!SHARED->done[i]) exo_printf(" %s", grammar_calls[i].name);
    exo_printf("\n");
    if (calls < CALLS_LEAST) fail("hardly any call succeeds", calls);
    if (exo.info->vm != EXO_VM_NONE && SHARED->exits < EXITS_LEAST)
        fail("hardly any guest ran", SHARED->exits);
    if (steps < STEPS_LEAST) fail("hardly anything happened", steps);
    if (!failed) exo_printf("PASS fuzz_boot seed %lu\n", seed);
}

/* Memory and selectors of the whole run; the first slots stay its own. */
static bool prepare(void)
{
    const struct exo_startup *s = &exo.start;
    for (uint32_t i = SLOTS_OWN; i < s->slots[0].count; i++)
        exo_slot_unbind(s->slots[0].sel, s->slots[0].first + i);
    exo_tables(&exo.pool, PLAY_VA, 1);
    exo_tables(&exo.pool, PLAY_VA + (HOSTILE_FRAMES - 1) * EXO_PAGE, 1);
    long frame = exo_frames_alloc(&exo.pool, BLOCK_FRAMES, BLOCK_FRAMES);
    shared_frame = (uint64_t)exo_map(SHARED_VA, 1, EXO_R | EXO_W);
    fault_event = (uint32_t)exo_event_new(s->sel_thread, EXO_EV_FAULT);
    block = (uint32_t)exo_sel_alloc();
    if (frame < 0 ||
        exo_cap_derive(s->sel_memory, block, EXO_RIGHTS_ALL, (uint64_t)frame, BLOCK_FRAMES) < 0)
        return false;
    block_base = (uint64_t)frame;
    for (unsigned i = 0; i < HOSTILES; i++) {
        frame = exo_frames_alloc(&exo.pool, HOSTILE_FRAMES, 1);
        if (frame < 0) return false;
        hostiles[i].base = (uint64_t)frame;
        hostiles[i].sel = (uint32_t)exo_sel_alloc();
        hostiles[i].gate = (uint32_t)exo_sel_alloc();
    }
    return true;
}

static bool watchdog_start(struct exo_task *task)
{
    unsigned cpu = exo.start.cpus - 1;
    const struct exo_range *r = &exo.start.slots[cpu];
    uint32_t slot = r->first + (cpu == 0 ? SLOTS_OWN - 1 : 0);
    if (exo_task_make(task, cpu) < 0) return false;
    if (cpu == 0) exo_slot_unbind(r->sel, slot);
    return exo_slot_bind(r->sel, slot, task->sel, EXO_SLOT_FIRM) == 0 &&
           exo_task_start(task, watch, NULL) == 0;
}

int main(struct exo_startup *start)
{
    static struct exo_task watchdog;
    if (!strncmp(start->args, "hostile ", 8)) return hostile_main(start->args + 8);
    uint64_t seed = option("seed=", exo_tsc() % 1000000), ms = option("ms=", 8000);
    exo_printf("fuzz: seed %lu, %lu ms, %u CPUs\n", seed, ms, start->cpus);
    random_state = seed * 0x9e3779b97f4a7c15ul | 1;
    if (!prepare() || !watchdog_start(&watchdog)) {
        exo_printf("FAIL fuzz_boot: not enough memory, slots or selectors\nTESTS DONE\n");
        return 1;
    }
    uint64_t selectors = selectors_used(), slots = slots_used();
    for (unsigned i = 0; i < HOSTILES && !failed; i++)
        hostile_make(&hostiles[i]);
    if (!failed) run(ms);
    if (!failed) everything_back();
    if (!failed && selectors_used() != selectors) fail("selectors are left", selectors_used());
    if (!failed && slots_used() > slots) fail("time slots are bound", slots_used());
    stopping = true;
    report(seed);
    exo_printf("TESTS DONE\n");
    return failed;
}
