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

#define FRAMES 2048
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
                                     0x40000000,         0x8000000000,       EXO_VA_END - 8192,
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
        }
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

/* The processor sets accessed and dirty bits wherever it likes. */
static void processor_marks(void)
{
    frame_t f = (frame_t)pick(FRAMES);
    unsigned type = EXO_FW_TYPE(words[f]);
    if (type < EXO_FT_PT1 || type > EXO_FT_PT4) return;
    bool ept = (envs[EXO_FW_OWNER(words[f])].flags & ENV_EPT) != 0;
    uint64_t *entry = &tables[f].e[chance(2) ? pick(16) : pick(512)];
    if ((*entry & 1) == 0) return;
    bool leaf = type == EXO_FT_PT1 || (*entry & 0x80) != 0;
    *entry |= ept ? 0x100 : 0x20;
    if (leaf) *entry |= ept ? 0x200 : 0x40;
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
    arguments_machine(g->name, a);
    if (trace)
        fprintf(stderr, "cpu %u thread %u env %u: %s %lx %lx %lx %lx %lx %lx\n", host_cpu, cpu->cur,
                t->env, g->name, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (calls[n].leaf != NULL) {
        long r = ((leaf_fn *)(void (*)(void))calls[n].leaf)(a[0], a[1], a[2], a[3], a[4], a[5]);
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

static void step(void)
{
    host_cpu = (unsigned)pick(ncpus);
    struct cpu *cpu = this_cpu();
    host_now += pick(200);
    if (cpu->pend_count != 0 && (stuck[host_cpu]++ > 3 || chance(2))) {
        core_commit();
        stuck[host_cpu] = 0;
        check("commit");
    }
    if (cpu->pend_count != 0) return;
    if ((host_ipis >> host_cpu & 1) != 0) {
        host_ipis &= ~(1ull << host_cpu);
        requests_serve();
    }
    for (int i = 0; i < 16; i++)
        processor_marks();
    if (chance(4)) timer_interrupt();
    choose_next();
    if (cpu->cur == 0) {
        revive();
        return;
    }
    struct thread *t = &threads[cpu->cur];
    if ((t->slow & SLOW_VM) != 0) {
        if (vm_enter_check(t)) guest_run(t);
    } else if (chance(30))
        fault_take(&threads[cpu->cur], choose_va());
    else
        call_once();
    KASSERT(!host_flush_left);
    if (cpu->pend_count != 0 && !chance(4)) core_commit();
    if (cpu->pend_count == 0) choose_next();
    check("step");
}

/* ---- the first env's part -------------------------------------------------------------------------- */

static void settle(void)
{
    for (host_cpu = 0; host_cpu < ncpus; host_cpu++) {
        if (this_cpu()->pend_count != 0) core_commit();
        requests_serve();
        choose_next();
    }
    host_cpu = 0;
}

/* One leaf call as the first thread; AGAIN is repeated, while the other CPU goes on. */
static long as_root(const char *name, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
    unsigned n = call_number(name);
    long r = -EXO_E_AGAIN;
    for (unsigned tries = 0; r == -EXO_E_AGAIN; tries++) {
        settle();
        KASSERT(tries < 200000);
        this_cpu()->cur = host_thread;
        r = ((leaf_fn *)(void (*)(void))calls[n].leaf)(a, b, c, d, e, 0);
        this_cpu()->cur = 0;
        KASSERT(!host_flush_left);
        if (this_cpu()->pend_count != 0) core_commit();
        if (tries % 64 == 0) check(name);
    }
    settle();
    return r;
}

/* Env i gets its own memory, its env and thread, some slots, irqs and ports, and the env of
 * its neighbour with all rights but one. */
static void env_hostile(unsigned i)
{
    uint64_t env = 10 + i, thread = 20 + i;
    uint64_t base = HOST_FREE + i * (3 + TAB);
    uint64_t ram = i == 2 ? 512 : 64 + i * RAM_EACH;
    uint64_t count = i == 2 ? 512 : RAM_EACH;
    KASSERT(as_root("env_make", env, HOST_RAM, base, TAB, 0) == 0);
    KASSERT(as_root("cap_derive", HOST_RAM, EXO_REF(env, 3), 15, ram, count) == 0);
    KASSERT(as_root("cap_derive", env, EXO_REF(env, 1), 15, 0, 1) == 0);
    KASSERT(as_root("thread_make", thread, env, 3, ram, i & 1) == 0);
    KASSERT(as_root("cap_derive", thread, EXO_REF(env, 2), 15, 0, 1) == 0);
    KASSERT(as_root("cap_derive", HOST_SLOTS, EXO_REF(env, 4), 15, i * 16, 80) == 0);
    KASSERT(as_root("cap_derive", HOST_IRQS, EXO_REF(env, 5), 15, 0, EXO_IRQ_COUNT) == 0);
    KASSERT(as_root("cap_derive", HOST_RAM, EXO_REF(env, 9), 15, SHARED, 512) == 0);
    KASSERT(as_root("cap_derive", HOST_PORTS, EXO_REF(env, 6), 15, 0x3f8, 8) == 0);
    if (i > 0) {
        KASSERT(as_root("cap_derive", 10 + i - 1, EXO_REF(env, 7), 7, 0, 1) == 0);
        KASSERT(as_root("cap_derive", 20 + i - 1, EXO_REF(env, 8), 15, 0, 1) == 0);
    }
    for (uint64_t level = 3; level >= 1; level--)
        KASSERT(as_root("pt_make", env, 0x400000, level, 3, ram + 2 + level) == 0);
    host_cpu = i & 1;
    start_thread((frame_t)ram);
    host_cpu = 0;
}

/* A virtual machine, of whose virtual CPUs env 0 and env 1 are the monitors: they have its
 * env, its threads, and gates of theirs are in its table, with some ports. */
static void machine_hostile(void)
{
    uint64_t env = 10 + ENVS, base = HOST_FREE + ENVS * (3 + TAB);
    KASSERT(as_root("env_make", env, HOST_RAM, base, TAB, EXO_ENV_VM) == 0);
    KASSERT(as_root("cap_derive", HOST_RAM, EXO_REF(env, 3), 15, MACHINE_RAM, 64) == 0);
    KASSERT(as_root("cap_derive", HOST_PORTS, EXO_REF(env, 6), 15, 0x3f8, 8) == 0);
    KASSERT(as_root("cap_derive", HOST_PORTS, EXO_REF(env, 7), 15, 0x3b0, 300) == 0);
    for (uint64_t level = 3; level >= 1; level--)
        KASSERT(as_root("pt_make", env, 0x400000, level, 3, MACHINE_RAM + 8 + level) == 0);
    for (uint64_t i = 0; i < 2; i++) {
        uint64_t thread = 20 + ENVS + i, f = MACHINE_RAM + i * EXO_VCPU_FRAMES;
        KASSERT(as_root("thread_make", thread, env, 3, f, i) == 0);
        KASSERT(as_root("cap_derive", env, EXO_REF(10 + i, 10), 15, 0, 1) == 0);
        KASSERT(as_root("cap_derive", thread, EXO_REF(10 + i, 11), 15, 0, 1) == 0);
        KASSERT(as_root("gate_make", EXO_REF(env, 4 + i), 20 + i, 0x400000, 1, 0) == 0);
        KASSERT(as_root("thread_set", thread, EXO_SET_FAULT, 4 + i, 0, 0) == 0);
        KASSERT(as_root("thread_set", thread, EXO_SET_VHYPER, 4, 4, 0) == 0);
        for (uint64_t reason = 1; reason < EXO_VX_COUNT; reason++)
            KASSERT(as_root("thread_set", thread, EXO_SET_VMASK, reason, pick(2048), 0) == 0);
        host_cpu = (unsigned)i;
        start_thread((frame_t)f);
        host_cpu = 0;
    }
}

static void everything_back(void)
{
    static const uint32_t sels[] = {HOST_RAM, HOST_SLOTS, HOST_IRQS, HOST_PORTS};
    uint64_t first = pick(4);
    for (unsigned i = 0; i < 4; i++) {
        long r = as_root("cap_revoke", sels[(first + i) % 4], 0, 0, 0, 0);
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
    host_vcpus = 0;
    stuck[0] = stuck[1] = 0;
    host_boot(FRAMES, 2, aliased);
    check("boot");
    for (unsigned i = 0; i < ENVS; i++)
        env_hostile(i);
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
