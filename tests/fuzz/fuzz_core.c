/* SPDX-License-Identifier: MIT
 *
 * Random sequences of system calls from several hostile envs on two CPUs against the
 * core, with the invariants checked after every call. A CPU may stop between the two
 * phases of a call, while the other goes on. In the end the first env takes everything
 * back, which must end in a bounded number of steps and leave nothing behind. Two of the
 * envs are monitors of a virtual machine with a virtual CPU each (fuzz_vm.c).
 *
 * Built with -DFUZZ_LIBFUZZER the choices come from libFuzzer's bytes; otherwise from a
 * seeded generator: fuzz_core SEED RUNS STEPS.
 */
#include "../../kernel/core/thread.h"
#include "call_grammar.h"

#include "exo_calls.h"
#include "fuzz.h"

#define SHARED 1024 /* a block of 512 frames that all hostile envs hold, for large pages */
#define ENVS 3
#define TAB 2 /* table frames of a hostile env */
#define RAM_EACH 96
#define MACHINE_RAM 320 /* 64 frames of a virtual machine */

/* ---- the kernel's table ----------------------------------------------------------------- */

typedef long leaf_fn(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

#define CALL_LEAF(name, nargs) long sys_##name();
#define CALL_FULL(name) void sys_##name(struct thread *t);
#include "call_table.h"
#undef CALL_LEAF
#undef CALL_FULL

struct entry {
    const char *name;
    long (*leaf)();
    void (*full)(struct thread *t);
};
static const struct entry calls[] = {
#define CALL_LEAF(name, nargs) {#name, sys_##name, NULL},
#define CALL_FULL(name) {#name, NULL, sys_##name},
#include "call_table.h"
};
#define CALLS (sizeof calls / sizeof *calls)

/* ---- choices ------------------------------------------------------------------------------- */

static const uint8_t *input;
static size_t input_left;
static uint64_t random_state;
static bool trace;

uint64_t random64(void)
{
    if (input != NULL) {
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

static uint64_t wild(void)
{
    static const uint64_t values[] = {0,          ~0ull,      ~0ull - 1,  1ull << 63,
                                      1ull << 32, 0xffffffff, 0xfffffffe, 1ull << 31,
                                      EXO_VA_END, 4096,       1ull << 52};
    return values[pick(sizeof values / sizeof *values)];
}

static frame_t cur_env(void) { return threads[this_cpu()->cur].env; }
static uint64_t chosen_sel; /* a frames selector that the arguments of one call share */

/* A selector: of that kind if one is met soon (EXO_NONE: any), else whatever. */
static uint64_t choose_kind(unsigned kind)
{
    if (chance(40)) return wild();
    for (int i = 0; i < 12; i++) {
        uint64_t s = pick(28);
        if (caps[env_caps(cur_env()) + s].kind == kind) return s;
    }
    return pick(28);
}

/* The kind of capability that a call's selectors mean, mostly. */
static unsigned kind_wanted(const char *call)
{
    if (strncmp(call, "slot", 4) == 0) return EXO_SLOTS;
    if (strncmp(call, "irq", 3) == 0) return chance(2) ? EXO_IRQS : EXO_EVENT;
    if (strncmp(call, "port", 4) == 0) return EXO_PORTS;
    if (strncmp(call, "event", 5) == 0) return EXO_EVENT;
    if (strncmp(call, "call", 4) == 0) return EXO_GATE;
    if (strncmp(call, "page", 4) == 0 || strncmp(call, "pt", 2) == 0) return EXO_FRAMES;
    if (strcmp(call, "env_make") == 0 || strcmp(call, "thread_make") == 0) return EXO_FRAMES;
    if (strncmp(call, "cap", 3) == 0) return 1 + (unsigned)pick(9);
    return EXO_THREAD;
}

static uint64_t choose_frame(void)
{
    if (chance(60)) return wild();
    if (chosen_sel < envs[cur_env()].nsel && !chance(6)) {
        const struct cap *c = &caps[env_caps(cur_env()) + chosen_sel];
        if (c->kind == EXO_FRAMES && c->count != 0)
            return c->base + (chance(5)   ? 0
                              : chance(8) ? c->count - 1
                                          : pick(c->count + (chance(10) ? 2 : 0)));
    }
    return chance(3) ? SHARED : pick(FRAMES + 8);
}

static uint64_t choose_va(void)
{
    static const uint64_t bases[] = {0x400000,           0x400000,           0x5fe000,
                                     0x7fe00000,         0x8000000000,       EXO_VA_END - 8192,
                                     0xffff880000000000, 0xffff800000000000, 0xffff87fffffff000,
                                     0xfffffffffffff000, 0x0000800000000000, 0x40200000};
    if (chance(60)) return wild();
    return bases[chance(2) ? pick(2) : pick(sizeof bases / sizeof *bases)] +
           (chance(3) ? 0 : pick(6) << 12) + (chance(40) ? 8 : 0);
}

static uint64_t choose_env(void) { return chance(3) ? choose_kind(EXO_ENV) : 0; }

static uint64_t choose(unsigned type)
{
    if (chance(300)) return wild();
    switch (type) {
    case GRAMMAR_SEL:
        return chance(4) ? choose_kind(EXO_THREAD) : chosen_sel;
    case GRAMMAR_ENV:
        return choose_env();
    case GRAMMAR_REF:
        return EXO_REF(choose_env(), (chance(2) ? chosen_sel : choose_kind(EXO_NONE)) & 0xffffffff);
    case GRAMMAR_VA:
        return choose_va();
    case GRAMMAR_PAGES:
        return chance(8) ? pick(600) : 1 + pick(6);
    case GRAMMAR_FRAME:
        return choose_frame();
    case GRAMMAR_RIGHTS:
        return (chance(4) ? pick(16) : 15) | (chance(40) ? EXO_LARGE_1G : 0);
    case GRAMMAR_COUNT:
        return chance(10) ? pick(FRAMES) : pick(5);
    case GRAMMAR_TSC:
        return chance(2) ? 0 : host_now + pick(2000);
    case GRAMMAR_MASK:
        return chance(4) ? ~0ull : 1ull << pick(64);
    case GRAMMAR_LEVEL:
        return chance(10) ? pick(6) : 1 + pick(3);
    case GRAMMAR_CPU:
        return pick(3);
    case GRAMMAR_SLOT:
        return pick(2 * EXO_SLOTS_PER_CPU + 2);
    case GRAMMAR_IRQ:
        return chance(4) ? EXO_IRQ_COUNT - 1 : pick(EXO_IRQ_COUNT + 2);
    case GRAMMAR_PORT:
        return chance(10) ? 65535 : pick(65540);
    case GRAMMAR_SIZE:
        return 1u << pick(4);
    case GRAMMAR_WORD:
        return chance(2) ? choose_frame() : pick(64);
    default:
        return pick(3);
    }
}

/* ---- one call ---------------------------------------------------------------------------------- */

static unsigned stuck[2]; /* rounds a CPU waits for already */

static void check(const char *what)
{
    int line = core_invariants();
    if (line != 0) {
        fprintf(stderr, "invariants.c:%d broken after %s\n", line, what);
        abort();
    }
    for (frame_t f = HOST_FREE; f < FRAMES; f++)
        if (EXO_FW_TYPE(words[f]) == EXO_FT_VCPU && threads[f - 2].gone == 0)
            vcpu_check_allowed(&threads[f - 2]);
}

/* The second phase, when the round is over. */
static void commit(void)
{
    translations_round(host_cpu);
    core_commit();
}

static void choose_next(void)
{
    sched_choose();
    frame_t t = this_cpu()->cur;
    KASSERT(t == 0 || (EXO_FW_TYPE(words[t]) == EXO_FT_THREAD && threads[t].cpu == host_cpu &&
                       threads[t].state == EXO_T_READY));
}

static void fill_list(void)
{
    struct exo_upcall_page *page = &upcalls[threads[this_cpu()->cur].upcall];
    for (int i = 0; i < 8; i++) {
        page->list[i].va = choose_va();
        page->list[i].frame = choose_frame();
        page->events |= chance(8) ? pick(16) : 0;
    }
    page->regs.rip = choose_va();
    page->frame.rip = choose_va();
    page->event_mask = chance(4) ? pick(16) : 0;
}

/* Some calls would hardly ever do anything with arguments of their types alone. */
static void arguments_bend(const char *call, uint64_t *a)
{
    if (strcmp(call, "page_bind") == 0 && !chance(4)) {
        a[5] &= EXO_R | EXO_W | EXO_X;
        if (chance(4)) {
            a[1] &= ~0x1fffffull;
            a[2] = 1;
            a[3] = 9;
            a[4] = SHARED;
            a[5] |= EXO_LARGE_2M;
        } else if (chance(8)) {
            a[3] = 3; /* its thread or one of its page tables */
            a[4] = caps[env_caps(cur_env()) + 3].base + pick(6);
            a[5] = EXO_R;
        } else if (chance(2) && a[3] < envs[cur_env()].nsel)
            a[5] &= caps[env_caps(cur_env()) + a[3]].rights;
    } else if (strncmp(call, "page_protect", 12) == 0 && !chance(8)) {
        a[strcmp(call, "page_protect") == 0 ? 3 : 2] = chance(8) ? 0 : EXO_R | pick(8);
    } else if (strcmp(call, "slot_bind") == 0 && !chance(4)) {
        a[1] = (chance(2) ? 32 : 64) + pick(8); /* all hostile envs may bind these */
        a[2] = chance(2) ? 0 : choose_kind(EXO_THREAD);
    } else if (strcmp(call, "thread_set") == 0 && !chance(4)) {
        a[0] = chance(2) ? 0 : a[0];
        a[1] = pick(9);
        a[2] = a[1] == EXO_SET_UPCALL  ? 0x400000
               : a[1] >= EXO_SET_VMASK ? pick(EXO_VX_COUNT + 2)
                                       : choose_kind(EXO_GATE);
        a[3] = pick(chance(2) ? 8 : EXO_VG_ALL + 8);
    } else if (strcmp(call, "page_unbind_list") == 0 && chance(4)) {
        a[1] = pick(EXO_LIST_MAX + 2);
    } else if (strncmp(call, "port_", 5) == 0 && strstr(call, "pass") != NULL) {
        a[0] = choose_kind(EXO_ENV);
        a[1] = pick(9);
    } else if (strcmp(call, "port_in") == 0 || strcmp(call, "port_out") == 0) {
        a[1] = 0x3f0 + pick(20);
    } else if (strncmp(call, "irq", 3) == 0 && !chance(4)) {
        a[0] = choose_kind(EXO_IRQS);
        a[1] = chance(2) ? EXO_IRQ_COUNT - 1 : pick(4);
        a[2] = choose_kind(EXO_EVENT);
    } else if ((strcmp(call, "gate_make") == 0 || strcmp(call, "event_make") == 0) && chance(2)) {
        a[0] = pick(28);
        a[1] = 0;
        a[2] = 1 + pick(1000);
    }
}

/* The last names of a capability, and more. */
static void arguments_derive(const char *call, uint64_t *a)
{
    if ((strcmp(call, "cap_derive") != 0 && strcmp(call, "cap_copy") != 0) || chance(2)) return;
    if (chosen_sel >= envs[cur_env()].nsel) return;
    const struct cap *c = &caps[env_caps(cur_env()) + chosen_sel];
    a[0] = EXO_REF(EXO_SELF, chosen_sel);
    a[1] = EXO_REF(EXO_SELF, pick(28));
    a[3] = c->base + c->count - 1 - pick(3);
    a[4] = chance(8) ? wild() : 1 + pick(4);
}

/* The last table and the last entry of a GiB. */
static void arguments_last(const char *call, uint64_t *a)
{
    if (strncmp(call, "pt_", 3) != 0 || !chance(4)) return;
    a[0] = EXO_SELF;
    a[1] = 0x7fe00000;
    a[2] = 1 + pick(2);
}

/* Of a call on memory: into the virtual machine, whose env two of the hostile ones have. */
static void arguments_machine(const char *call, uint64_t *a)
{
    bool bind = strcmp(call, "page_bind") == 0;
    if (!chance(4) || (strncmp(call, "page_", 5) != 0 && strcmp(call, "pt_make") != 0)) return;
    a[0] = 10;
    if (strcmp(call, "page_protect") == 0) a[1] = 0x400000 + (pick(3) << 12);
    if (bind) a[1] = 0x400000 + (pick(6) << 12);
    if (!bind && call[1] != 't') return;
    a[3] = 3;
    a[4] = MACHINE_RAM + 12 + pick(8);
}

static bool is_table(frame_t f)
{
    return EXO_FW_TYPE(words[f]) >= EXO_FT_PT1 && EXO_FW_TYPE(words[f]) <= EXO_FT_PT4;
}

/* The processor sets accessed and dirty bits wherever it likes, and caches the translation. */
static void processor_marks(void)
{
    frame_t f = (frame_t)pick(FRAMES);
    unsigned n, i = chance(2) ? 0 : (unsigned)pick(512);
    for (n = 0; n < FRAMES && !is_table(f); n++)
        f = (f + 1) % FRAMES;
    if (n == FRAMES) return;
    for (n = 0; n < 512 && (tables[f].e[i] & 1) == 0; n++)
        i = (i + 1) % 512;
    if (n == 512) return;
    bool ept = (envs[EXO_FW_OWNER(words[f])].flags & ENV_EPT) != 0;
    uint64_t *entry = &tables[f].e[i];
    bool leaf = EXO_FW_TYPE(words[f]) == EXO_FT_PT1 || (*entry & 0x80) != 0;
    *entry |= ept ? 0x100 : 0x20;
    if (leaf) *entry |= ept ? 0x200 : 0x40;
    if (leaf) translation_cache(f, i);
}

/* User code writes whatever it likes into its memory, that of a vector among it. */
static void memory_write(void)
{
    frame_t f = HOST_FREE + (frame_t)pick(FRAMES - HOST_FREE);
    if (EXO_FW_TYPE(words[f]) == EXO_FT_PLAIN) tables[f].e[pick(512)] = random64();
    frame_t e = cur_env();
    if (e != 0 && chance(8)) vectors[e + 2].used = (uint32_t)pick(EXO_RECORDS + 2);
}

/* Another CPU, in the same env, binds a page through the capability that this one deletes. */
static void bind_meanwhile(void)
{
    const struct cap *c = &caps[env_caps(cur_env()) + chosen_sel];
    frame_t cur = this_cpu()->cur;
    host_cpu ^= 1;
    struct cpu *other = this_cpu();
    frame_t was = other->cur;
    other->cur = cur;
    sys_page_bind(EXO_SELF, 0x400000 + (pick(64) << 12), 1, chosen_sel, c->base + pick(c->count),
                  EXO_R);
    other->cur = was;
    host_cpu ^= 1;
}

static void meanwhile_choose(const char *call, uint64_t *a)
{
    host_meanwhile = NULL;
    if (strcmp(call, "cap_delete") != 0 || chosen_sel >= envs[cur_env()].nsel || !chance(2) ||
        caps[env_caps(cur_env()) + chosen_sel].kind != EXO_FRAMES)
        return;
    a[0] = EXO_REF(EXO_SELF, chosen_sel);
    host_meanwhile = bind_meanwhile;
}

static unsigned call_number(const char *name)
{
    unsigned n = 0;
    while (strcmp(calls[n].name, name) != 0)
        n++;
    return n;
}

static void call_once(void)
{
    struct cpu *cpu = this_cpu();
    struct thread *t = &threads[cpu->cur];
    unsigned n = (unsigned)pick(CALLS);
    if (calls[n].full != NULL && !chance(3)) n = (unsigned)pick(CALLS);
    const struct grammar_call *g;
    uint64_t a[6] = {0};
    bool monitor = t->caller != 0 && (threads[t->caller].slow & SLOW_VM) != 0;
    if (monitor && !chance(3)) n = call_number("reply_wait");
    g = &grammar_calls[n];
    chosen_sel = choose_kind(kind_wanted(g->name));
    for (unsigned i = 0; i < g->nargs; i++)
        a[i] = choose(g->arg[i]);
    fill_list();
    arguments_bend(g->name, a);
    arguments_derive(g->name, a);
    arguments_last(g->name, a);
    arguments_machine(g->name, a);
    if (trace)
        fprintf(stderr, "cpu %u thread %u env %u: %s %lx %lx %lx %lx %lx %lx\n", host_cpu, cpu->cur,
                t->env, g->name, a[0], a[1], a[2], a[3], a[4], a[5]);
    meanwhile_choose(g->name, a);
    rules_before(g->name, a);
    long r = 0;
    if (calls[n].leaf != NULL) {
        r = ((leaf_fn *)(void (*)(void))calls[n].leaf)(a[0], a[1], a[2], a[3], a[4], a[5]);
        if (trace) fprintf(stderr, "  = %ld\n", r);
    } else {
        uint64_t *words_of[] = {&t->regs.rdi, &t->regs.rsi, &t->regs.rdx,
                                &t->regs.r10, &t->regs.r8,  &t->regs.r9};
        for (unsigned i = 0; i < 6; i++)
            *words_of[i] = a[i];
        t->regs.r14 = chance(2) ? choose_kind(EXO_FRAMES) : 0;
        t->regs.r15 = choose(GRAMMAR_TSC);
        if (monitor) monitor_write(&threads[t->caller], &t->regs.rsi, &t->regs.rdx);
        calls[n].full(t);
    }
    host_meanwhile = NULL;
    rules_after(g->name, a, r);
    translations_check();
    check(g->name);
}

static void start_thread(frame_t f)
{
    threads[f].state = EXO_T_READY;
    sched_wake(&threads[f]);
}

/* Nobody can run on this CPU: one of its threads is stopped wherever it is, and started. */
static void revive(void)
{
    for (int i = 0; i < 64; i++) {
        frame_t f = (frame_t)pick(FRAMES);
        if (EXO_FW_TYPE(words[f]) != EXO_FT_THREAD || threads[f].cpu != host_cpu ||
            f == host_thread || (caps[threads[f].owner].flags & CAP_DYING) != 0 ||
            caps[threads[f].owner].kind != EXO_THREAD || caps[threads[f].owner].base != f)
            continue;
        thread_halt(&threads[f]);
        start_thread(f);
        return;
    }
}

/* ---- the first env's part -------------------------------------------------------------------------- */

static void settle(void)
{
    for (host_cpu = 0; host_cpu < ncpus; host_cpu++) {
        if (this_cpu()->pend_count != 0) commit();
        requests_serve();
        choose_next();
    }
    host_cpu = 0;
}

/* One leaf call as the first thread, on CPU 0, that nothing waits for. */
static long root_call(const char *name, const uint64_t a[5])
{
    leaf_fn *leaf = (leaf_fn *)(void (*)(void))calls[call_number(name)].leaf;
    this_cpu()->cur = host_thread;
    rules_before(name, a);
    long r = leaf(a[0], a[1], a[2], a[3], a[4], 0);
    rules_after(name, a, r);
    this_cpu()->cur = 0;
    KASSERT(!host_flush_left);
    translations_check();
    return r;
}

/* AGAIN is repeated, while the other CPU goes on. */
static long as_root(const char *name, const uint64_t a[5])
{
    long r = -EXO_E_AGAIN;
    for (unsigned tries = 0; r == -EXO_E_AGAIN; tries++) {
        settle();
        KASSERT(tries < 200000);
        r = root_call(name, a);
        if (tries % 16 == 0) check(name);
    }
    settle();
    return r;
}
#define AS_ROOT(name, ...) as_root(name, (const uint64_t[5]){__VA_ARGS__})

struct gift {
    const char *call;
    uint64_t a[5];
};
#define GIFTS 16
#define GIFTS_OWN 14 /* the others are of its neighbour */
#define SHARES 30 /* the first env's selectors of what it can take back from each */

static frame_t ram_of(unsigned i) { return i == 2 ? 512 : 64 + i * RAM_EACH; }

/* What env i gets: its own memory, its env and thread, some slots, irqs and ports, memory that
 * all share, with fewer rights too, and the env of its neighbour with all rights but one. */
static struct gift gift_of(unsigned i, unsigned g)
{
    uint64_t env = 10 + i, thread = 20 + i, ram = ram_of(i);
    uint64_t base = HOST_FREE + i * (3 + TAB), next = (i + ENVS - 1) % ENVS;
    const struct gift gifts[GIFTS] = {
        {"env_make", {env, HOST_RAM, base, TAB, 0}},
        {"cap_derive", {HOST_RAM, EXO_REF(env, 3), 15, ram, i == 2 ? 512 : RAM_EACH}},
        {"cap_derive", {env, EXO_REF(env, 1), 15, 0, 1}},
        {"thread_make", {thread, env, 3, ram, i & 1}},
        {"cap_derive", {thread, EXO_REF(env, 2), 15, 0, 1}},
        {"cap_derive", {HOST_SLOTS, EXO_REF(env, 4), 15, i * 16, 80}},
        {"cap_derive", {HOST_IRQS, EXO_REF(env, 5), 15, 0, EXO_IRQ_COUNT}},
        {"cap_derive", {HOST_RAM, SHARES + i, 15, SHARED, 512}},
        {"cap_derive", {SHARES + i, EXO_REF(env, 9), 15, SHARED, 512}},
        {"cap_derive", {SHARES + i, EXO_REF(env, 12), EXO_R, SHARED, 512}},
        {"cap_derive", {HOST_PORTS, EXO_REF(env, 6), 15, 0x3f8, 8}},
        {"pt_make", {env, 0x400000, 3, 3, ram + 5}},
        {"pt_make", {env, 0x400000, 2, 3, ram + 4}},
        {"pt_make", {env, 0x400000, 1, 3, ram + 3}},
        {"cap_derive", {10 + next, EXO_REF(env, 7), 7, 0, 1}},
        {"cap_derive", {20 + next, EXO_REF(env, 8), 15, 0, 1}},
    };
    return gifts[g];
}

/* Another CPU has just asked this one to start the stopped thread f, which is destroyed now. */
static void start_late(frame_t f)
{
    struct thread *t = &threads[f];
    if (EXO_FW_TYPE(words[f]) != EXO_FT_THREAD || t->gone != 0 || t->cpu != host_cpu) return;
    thread_halt(t);
    thread_request(f, THREAD_REQ_START);
}

static struct {
    struct gift gift;
    bool unfinished;
} task; /* of the first env */

/* It takes something back, or gives it again, which may be refused. */
static void root_turn(void)
{
    unsigned i = (unsigned)pick(ENVS);
    if (!task.unfinished) {
        task.gift = gift_of(i, (unsigned)pick(GIFTS));
        if (chance(16)) task.gift = (struct gift){"cap_revoke", {SHARES + i}};
        if (chance(60)) task.gift = (struct gift){"cap_delete", {(chance(2) ? 10 : 20) + i}};
    }
    bool destroys = strcmp(task.gift.call, "cap_delete") == 0 && task.gift.a[0] >= 20;
    if (destroys && chance(2)) start_late(ram_of((unsigned)task.gift.a[0] - 20));
    long r = root_call(task.gift.call, task.gift.a);
    task.unfinished = r == -EXO_E_AGAIN;
    if (trace) fprintf(stderr, "root: %s %lx = %ld\n", task.gift.call, task.gift.a[0], r);
    check(task.gift.call);
}

static void gifts_give(unsigned i, unsigned first, unsigned last)
{
    for (unsigned g = first; g < last; g++) {
        struct gift x = gift_of(i, g);
        KASSERT(as_root(x.call, x.a) == 0);
    }
}

static void envs_hostile(void)
{
    for (unsigned i = 0; i < ENVS; i++)
        gifts_give(i, 0, GIFTS_OWN);
    for (unsigned i = 0; i < ENVS; i++) {
        gifts_give(i, GIFTS_OWN, GIFTS);
        host_cpu = i & 1;
        start_thread(ram_of(i));
        host_cpu = 0;
    }
}

/* A virtual machine, of whose virtual CPUs env 0 and env 1 are the monitors: they have its
 * env, its threads, and gates of theirs are in its table, with some ports. */
static void machine_hostile(void)
{
    uint64_t env = 10 + ENVS, base = HOST_FREE + ENVS * (3 + TAB);
    KASSERT(AS_ROOT("env_make", env, HOST_RAM, base, TAB, EXO_ENV_VM) == 0);
    KASSERT(AS_ROOT("cap_derive", HOST_RAM, EXO_REF(env, 3), 15, MACHINE_RAM, 64) == 0);
    KASSERT(AS_ROOT("cap_derive", HOST_PORTS, EXO_REF(env, 6), 15, 0x3f8, 8) == 0);
    KASSERT(AS_ROOT("cap_derive", HOST_PORTS, EXO_REF(env, 7), 15, 0x3b0, 300) == 0);
    for (uint64_t level = 3; level >= 1; level--)
        KASSERT(AS_ROOT("pt_make", env, 0x400000, level, 3, MACHINE_RAM + 8 + level) == 0);
    for (uint64_t i = 0; i < 2; i++) {
        uint64_t thread = 20 + ENVS + i, f = MACHINE_RAM + i * EXO_VCPU_FRAMES;
        KASSERT(AS_ROOT("thread_make", thread, env, 3, f, i) == 0);
        KASSERT(AS_ROOT("cap_derive", env, EXO_REF(10 + i, 10), 15, 0, 1) == 0);
        KASSERT(AS_ROOT("cap_derive", thread, EXO_REF(10 + i, 11), 15, 0, 1) == 0);
        KASSERT(AS_ROOT("gate_make", EXO_REF(env, 4 + i), 20 + i, 0x400000, 1, 0) == 0);
        KASSERT(AS_ROOT("thread_set", thread, EXO_SET_FAULT, 4 + i, 0, 0) == 0);
        KASSERT(AS_ROOT("thread_set", thread, EXO_SET_VHYPER, 4, 4, 0) == 0);
        for (uint64_t reason = 1; reason < EXO_VX_COUNT; reason++)
            KASSERT(AS_ROOT("thread_set", thread, EXO_SET_VMASK, reason, pick(2048), 0) == 0);
        host_cpu = (unsigned)i;
        start_thread((frame_t)f);
        host_cpu = 0;
    }
}

/* ---- a run --------------------------------------------------------------------------------- */

static void step(void)
{
    host_cpu = (unsigned)pick(ncpus);
    struct cpu *cpu = this_cpu();
    host_now += pick(200);
    if (cpu->pend_count != 0 && (stuck[host_cpu]++ > 3 || chance(2))) {
        commit();
        stuck[host_cpu] = 0;
        check("commit");
    }
    if (cpu->pend_count != 0) return;
    if ((host_ipis >> host_cpu & 1) != 0 && !chance(3)) { /* or it is on its way */
        host_ipis &= ~(1ull << host_cpu);
        requests_serve();
    }
    for (int i = 0; i < 4; i++)
        processor_marks();
    memory_write();
    if (chance(4)) timer_interrupt();
    if (chance(100)) revive();
    choose_next();
    if (cpu->cur == 0) {
        revive();
        return;
    }
    struct thread *t = &threads[cpu->cur];
    if (host_cpu == 0 && chance(6))
        root_turn();
    else if ((t->slow & SLOW_VM) != 0) {
        if (vm_enter_check(t)) guest_run(t);
    } else if (chance(30))
        fault_take(&threads[cpu->cur], choose_va());
    else
        call_once();
    KASSERT(!host_flush_left);
    if (cpu->pend_count != 0 && !chance(4)) commit();
    if (cpu->pend_count == 0) choose_next();
    check("step");
}

#define MANY 300 /* more than one step of a revocation takes */

static void everything_back(void)
{
    static const uint32_t sels[] = {HOST_RAM, HOST_SLOTS, HOST_IRQS, HOST_PORTS};
    uint64_t first = pick(4);
    for (unsigned i = 0; i < MANY; i++)
        KASSERT(AS_ROOT("cap_derive", HOST_RAM, 100 + i, 15, SHARED, 1) == 0);
    for (unsigned i = 0; i < 4; i++) {
        long r = AS_ROOT("cap_revoke", sels[(first + i) % 4]);
        KASSERT(r == 0);
    }
    check("revoking everything");
    KASSERT(host_vcpus == 0);
    for (frame_t f = HOST_FREE; f < FRAMES; f++)
        if (words[f] != 0) host_fail("frame", (int)f, "a frame is left behind");
    for (uint32_t s = HOST_RAM; s < envs[host_env].nsel; s++) {
        const struct cap *c = &caps[env_caps(host_env) + s];
        KASSERT(s <= HOST_PORTS ? c->bindings == 0 && c->next == 0 : c->kind != EXO_ENV);
    }
    for (unsigned i = 0; i < ncpus * EXO_SLOTS_PER_CPU; i++)
        KASSERT(slots[i].thread == 0);
    for (unsigned i = 0; i < EXO_IRQ_COUNT; i++)
        KASSERT(irqs[i].thread == 0);
}

static void memory_free(bool aliased)
{
    free(tables);
    if (!aliased) {
        free(envs);
        free(threads);
        free(caps);
        free(upcalls);
        free(vectors);
        free(vcpus);
    }
    free(words);
    free(blocks2m);
    free(lines);
    free(blocks1g);
    free(slots);
    free(irqs);
    free(counters);
    free(cpus);
}

static void run(unsigned steps, bool aliased, bool vmx)
{
    machine_choose(vmx);
    host_cpu = 0;
    host_ipis = 0;
    host_now = 1;
    chosen_sel = 0;
    host_vcpus = 0;
    stuck[0] = stuck[1] = 0;
    host_flushed = translation_drop;
    translations_forget();
    task.unfinished = false;
    host_boot(FRAMES, 2, aliased);
    check("boot");
    envs_hostile();
    machine_hostile();
    for (unsigned i = 0; i < steps && (input == NULL || input_left > 0); i++)
        step();
    everything_back();
    memory_free(aliased);
}

#ifdef FUZZ_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input = data;
    input_left = size;
    run(2000, size % 2 == 0, size % 4 < 2);
    return 0;
}
#else
int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    unsigned runs = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 20;
    unsigned steps = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 0) : 2000;
    trace = getenv("FUZZ_TRACE") != NULL;
    for (unsigned i = 0; i < runs; i++) {
        random_state = (seed + i) * 0x9e3779b97f4a7c15u | 1;
        fprintf(stderr, "fuzz_core: seed %lu, %u steps\n", seed + i, steps);
        run(steps, (seed + i) % 2 == 0, (seed + i) % 4 < 2);
    }
    printf("PASS fuzz_core seeds %lu..%lu, %u steps each\n", seed, seed + runs - 1, steps);
    return 0;
}
#endif
