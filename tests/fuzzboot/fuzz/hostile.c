/* SPDX-License-Identifier: MIT
 *
 * A hostile env: four threads that make random calls with arguments that are often right,
 * fault on purpose, and go on after whatever happens to them. What a thread knows of
 * itself lies in its upcall page, which it finds from its stack pointer: the other
 * threads, and other envs, stop it, start it with registers of their choice, and take
 * its pages. */
#include "fuzz.h"
#include "call_grammar.h"

#define PAGES_EACH 64 /* a thread's pages (libexo), aligned: upcall page, stacks */
#define WORKERS 4
#define SELECTORS (HOSTILE_TABLES * EXO_TAB_CAPS)

struct worker { /* in its upcall page's `user` */
    uint64_t random;
    uint64_t chosen; /* a selector that the arguments of one call share */
};
static struct {
    uint32_t sel;
    uint64_t stack;
} workers[WORKERS];
static uint64_t number, seed;

long hostile_call(uint64_t call, const uint64_t a[8]);
_Noreturn void hostile_restart(uint64_t stack);
_Noreturn void hostile_loop(uint64_t sp, bool called);

/* a: the six arguments, r14, r15. */
__asm__(".pushsection .text\n"
        ".globl hostile_entry\n"
        ".globl hostile_gate\n"
        "hostile_gate: movl $1, %esi\n jmp 1f\n"
        "hostile_restart: movq %rdi, %rsp\n"
        "hostile_entry: xorl %esi, %esi\n"
        "1: cld\n movq %rsp, %rdi\n andq $-16, %rsp\n call hostile_loop\n"
        "hostile_call:\n"
        "pushq %rbx\n pushq %rbp\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
        "movq %rdi, %rax\n movq 48(%rsi), %r14\n movq 56(%rsi), %r15\n"
        "movq 0(%rsi), %rdi\n movq 16(%rsi), %rdx\n movq 24(%rsi), %r10\n"
        "movq 32(%rsi), %r8\n movq 40(%rsi), %r9\n movq 8(%rsi), %rsi\n"
        "syscall\n"
        "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbp\n popq %rbx\n ret\n"
        ".popsection\n");

static struct worker *worker_of(struct exo_upcall_page *page)
{
    return (struct worker *)page->user;
}
static uint64_t stack_of(const struct exo_upcall_page *page)
{
    uint64_t va = (uint64_t)page;
    return va == EXO_UPCALL_VA ? HOSTILE_STACK : va + 12 * EXO_PAGE - 16;
}

/* ---- choices ------------------------------------------------------------------------ */

static uint64_t pick(struct exo_upcall_page *page, uint64_t n)
{
    struct worker *w = worker_of(page);
    if (w->random == 0)
        w->random =
            (seed * 64 + number * 16 + (uint64_t)page / EXO_PAGE) * 0x9e3779b97f4a7c15ul | 1;
    return random_next(&w->random) % n;
}
static bool chance(struct exo_upcall_page *page, uint64_t n) { return pick(page, n) == 0; }

static uint64_t wild(struct exo_upcall_page *page)
{
    static const uint64_t values[] = {0,          ~0ul,         ~0ul - 1,   1ul << 63,
                                      1ul << 32,  0xfffffffful, 0xfffffffe, 1ul << 31,
                                      EXO_VA_END, 4096,         1ul << 52};
    return values[pick(page, EXO_COUNT(values))];
}

/* A selector: of that kind if one is met soon (EXO_NONE: any), else whatever. */
static uint64_t choose_kind(struct exo_upcall_page *page, unsigned kind)
{
    if (chance(page, 40)) return wild(page);
    for (int i = 0; i < 12; i++) {
        uint64_t sel = pick(page, SELECTORS);
        long info = exo_cap_info(sel);
        if ((kind != EXO_NONE || info != 0) && (info & 0xff) == kind) return sel;
    }
    return pick(page, SELECTORS + 2);
}

/* The kind of capability that a call's selectors mean, mostly. */
static unsigned kind_wanted(struct exo_upcall_page *page, const char *call)
{
    if (!strncmp(call, "slot", 4)) return EXO_SLOTS;
    if (!strncmp(call, "irq", 3)) return chance(page, 2) ? EXO_IRQS : EXO_EVENT;
    if (!strncmp(call, "port", 4)) return EXO_PORTS;
    if (!strncmp(call, "event", 5)) return EXO_EVENT;
    if (!strncmp(call, "call", 4)) return EXO_GATE;
    if (!strncmp(call, "page", 4) || !strncmp(call, "pt", 2) || !strcmp(call, "env_make") ||
        !strcmp(call, "thread_make"))
        return EXO_FRAMES;
    if (!strncmp(call, "cap", 3)) return 1 + (unsigned)pick(page, 9);
    return EXO_THREAD;
}

static uint64_t choose_frame(struct exo_upcall_page *page)
{
    if (chance(page, 60)) return wild(page);
    if (!chance(page, 6) && exo_cap_info(worker_of(page)->chosen) > 0) {
        uint64_t base = page->list[0].va, count = page->list[0].frame;
        if (count) return base + pick(page, count + (chance(page, 10) ? 2 : 0));
    }
    return exo.start.memory_base + pick(page, exo.start.memory_count);
}

static uint64_t choose_va(struct exo_upcall_page *page)
{
    static const uint64_t bases[] = {PLAY_VA + 0x200000,  PLAY_VA + 0x400000, PLAY_VA + 0x40000000,
                                     EXO_VA_END - 0x2000, 0xffff880000000000, 0xffff800000000000,
                                     0xffff87fffffff000,  0xfffffffffffff000, 0x0000800000000000,
                                     EXO_UPCALL_VA,       SHARED_VA,          0x400000};
    if (chance(page, 60)) return wild(page);
    uint64_t base =
        chance(page, 4) ? bases[pick(page, chance(page, 6) ? EXO_COUNT(bases) : 9)] : PLAY_VA;
    return base + (chance(page, 3) ? 0 : pick(page, 8) * EXO_PAGE) + (chance(page, 40) ? 8 : 0);
}

static uint64_t choose_env(struct exo_upcall_page *page)
{
    return chance(page, 4) ? choose_kind(page, EXO_ENV) : EXO_SELF;
}

static uint64_t choose_tsc(struct exo_upcall_page *page)
{
    return chance(page, 8) ? 0 : exo_in_us(pick(page, 1500));
}

/* Those types that are a small number. */
static uint64_t choose_small(struct exo_upcall_page *page, unsigned type)
{
    switch (type) {
    case GRAMMAR_PAGES:
        return chance(page, 8) ? pick(page, 600) : 1 + pick(page, 6);
    case GRAMMAR_RIGHTS:
        return (chance(page, 4) ? pick(page, 16) : 15) | (chance(page, 40) ? EXO_LARGE_1G : 0);
    case GRAMMAR_COUNT:
        return chance(page, 10) ? pick(page, 2048) : pick(page, 5);
    case GRAMMAR_MASK:
        return chance(page, 4) ? ~0ul : 1ul << pick(page, 64);
    case GRAMMAR_LEVEL:
        return chance(page, 10) ? pick(page, 6) : 1 + pick(page, 3);
    case GRAMMAR_CPU:
        return pick(page, 3);
    case GRAMMAR_SLOT:
        return pick(page, 2 * EXO_SLOTS_PER_CPU + 2);
    case GRAMMAR_IRQ:
        return pick(page, EXO_IRQ_COUNT + 2);
    case GRAMMAR_PORT:
        return 0x3e6 + pick(page, 12);
    case GRAMMAR_SIZE:
        return 1ul << pick(page, 4);
    default:
        return pick(page, 3);
    }
}

static uint64_t choose(struct exo_upcall_page *page, unsigned type)
{
    if (chance(page, 300)) return wild(page);
    switch (type) {
    case GRAMMAR_SEL:
        return chance(page, 4) ? choose_kind(page, EXO_THREAD) : worker_of(page)->chosen;
    case GRAMMAR_ENV:
        return choose_env(page);
    case GRAMMAR_REF:
        return EXO_REF(choose_env(page),
                       (chance(page, 2) ? worker_of(page)->chosen : choose_kind(page, EXO_NONE)) &
                           0xffffffff);
    case GRAMMAR_VA:
        return choose_va(page);
    case GRAMMAR_FRAME:
        return choose_frame(page);
    case GRAMMAR_TSC:
        return choose_tsc(page);
    case GRAMMAR_WORD:
        return chance(page, 2) ? choose_frame(page) : pick(page, 64);
    default:
        return choose_small(page, type);
    }
}

/* ---- one call ---------------------------------------------------------------------------- */

static bool is(const char *call, const char *name) { return !strcmp(call, name); }

static bool is_list(const char *call)
{
    size_t n = strlen(call);
    return n > 5 && is(call + n - 5, "_list");
}

static void bend_bind(struct exo_upcall_page *page, uint64_t *a)
{
    a[5] &= EXO_R | EXO_W | EXO_X;
    if (!chance(page, 4) || exo_cap_info(GIVEN_BLOCK) <= 0) return;
    a[1] &= ~0x1ffffful;
    a[2] = 1;
    a[3] = GIVEN_BLOCK;
    a[4] = page->list[0].va;
    a[5] |= EXO_LARGE_2M;
}

/* Some calls would hardly ever do anything with arguments of their types alone. */
static void arguments_bend(struct exo_upcall_page *page, const char *call, uint64_t *a)
{
    uint64_t i = pick(page, WORKERS);
    if (is(call, "page_bind") && !chance(page, 4)) {
        bend_bind(page, a);
    } else if (is(call, "thread_set") && !chance(page, 4)) {
        a[0] = chance(page, 2) ? 0 : a[0];
        a[1] = 1 + pick(page, 4);
        a[2] = choose_kind(page, chance(page, 2) ? EXO_GATE : EXO_EVENT);
    } else if (is(call, "thread_start") && !chance(page, 8)) {
        a[0] = workers[i].sel;
        a[1] = chance(page, 4) ? 0 : (uint64_t)hostile_entry;
        a[2] = workers[i].stack;
    } else if (is(call, "thread_stop") && chance(page, 2)) {
        a[0] = workers[i].sel;
    } else if (!strncmp(call, "irq", 3) && !chance(page, 4)) {
        a[0] = GIVEN_IRQS;
        a[1] = pick(page, 4);
        a[2] = choose_kind(page, EXO_EVENT);
    } else if (is(call, "slot_bind") && !chance(page, 4)) {
        a[0] = GIVEN_SLOTS + pick(page, 2);
        a[2] = workers[i].sel;
    } else if ((is(call, "gate_make") || is(call, "event_make")) && !chance(page, 4)) {
        a[0] = pick(page, SELECTORS);
        a[1] = workers[i].sel;
        a[2] = is(call, "gate_make") ? (uint64_t)hostile_gate : 1 + pick(page, 1000);
    } else if (is(call, "cap_delete") && chance(page, 2)) {
        a[0] = GIVEN_END + pick(page, SELECTORS - GIVEN_END);
    }
}

static void fill_page(struct exo_upcall_page *page)
{
    struct exo_batch list[8];
    for (unsigned i = 0; i < EXO_COUNT(list); i++)
        list[i] = (struct exo_batch){choose_va(page), choose_frame(page)};
    memcpy(page->list, list, sizeof(list)); /* to choose used the page's own */
    page->regs.rip = chance(page, 2) ? (uint64_t)hostile_entry : choose_va(page);
    page->regs.rsp = stack_of(page);
    page->regs.fs_base = page->regs.gs_base = 0;
    page->event_mask = chance(page, 4) ? pick(page, 16) : 0;
}

/* Mostly something ends the wait: or four threads would soon do nothing any more. */
static uint64_t call_bend(struct exo_upcall_page *page, uint64_t n, uint64_t *a)
{
    switch (EXO_CALL_BASE + n) {
    case EXO_CALL_reply_wait:
    case EXO_CALL_reply_wait_x:
        guest_answer(&a[1], &a[2]);
        /* fall through */
    case EXO_CALL_event_wait:
        if (chance(page, 8)) return n;
        exo_timer_set(exo_in_us(pick(page, 800)), 1ul << 20);
        a[0] |= 1ul << 20;
        return n;
    case EXO_CALL_call:
        return chance(page, 3) ? n : EXO_CALL_call_x - EXO_CALL_BASE;
    case EXO_CALL_thread_stop:
        return chance(page, 3) ? n : EXO_CALL_thread_start - EXO_CALL_BASE;
    default:
        return n;
    }
}

/* A list of pages that can be bound, unless it is by chance none. */
static void bend_list(struct exo_upcall_page *page, uint64_t *a, unsigned nargs)
{
    a[0] = EXO_SELF;
    a[1] = 1 + pick(page, 6);
    a[nargs - 1] = nargs > 2 ? EXO_R : a[1]; /* bind and protect end with rights */
    for (int i = 0; i < 8; i++)
        page->list[i].va = PLAY_VA + pick(page, 12) * EXO_PAGE;
}

static void call_once(struct exo_upcall_page *page)
{
    uint64_t a[8] = {0}, n = pick(page, EXO_CALL_COUNT);
    if (grammar_calls[n].class != GRAMMAR_LEAF && !chance(page, 3)) n = pick(page, EXO_CALL_COUNT);
    const struct grammar_call *g = &grammar_calls[n];
    if (is(g->name, "upcall_return") && !chance(page, 20)) return;
    worker_of(page)->chosen = choose_kind(page, kind_wanted(page, g->name));
    for (unsigned i = 0; i < g->nargs; i++)
        a[i] = choose(page, g->arg[i]);
    a[6] = chance(page, 2) ? choose_kind(page, EXO_FRAMES) : 0;
    a[7] = choose_tsc(page);
    n = call_bend(page, n, a);
    arguments_bend(page, grammar_calls[n].name, a);
    if (!strncmp(g->name, "page", 4) || is(g->name, "thread_write")) fill_page(page);
    if (is_list(g->name) && !chance(page, 4)) bend_list(page, a, g->nargs);
    if (hostile_call(EXO_CALL_BASE + n, a) >= 0)
        __atomic_add_fetch(&SHARED->done[n], 1, __ATOMIC_RELAXED);
}

/* ---- what is no call of the kernel's --------------------------------------------------------- */

static void touch(struct exo_upcall_page *page)
{
    volatile uint64_t *at = (volatile uint64_t *)choose_va(page);
    switch (pick(page, 4)) {
    case 0:
        *at = pick(page, 1000);
        break;
    case 1:
        ((void (*)(void))(uint64_t)at)();
        break;
    default:
        (void)*at;
    }
}

static void odd(struct exo_upcall_page *page)
{
    switch (pick(page, 8)) {
    case 0:
        __asm__ volatile("ud2");
        break;
    case 1:
        __asm__ volatile("int3");
        break;
    case 2: /* single step, until the handler replaces the flags */
        __asm__ volatile("pushfq\n orq $0x100, (%%rsp)\n popfq\n nop\n nop" : : : "memory", "cc");
        break;
    case 3:
        __asm__ volatile("wrfsbase %0\n wrgsbase %1"
                         :
                         : "r"(pick(page, 1ul << 47)), "r"(choose_va(page)));
        break;
    case 4: {
        uint64_t a[8] = {pick(page, 9), wild(page)};
        hostile_call(pick(page, 2) ? pick(page, 400) : wild(page), a);
        break;
    }
    case 5:
        __asm__ volatile("hlt");
        break;
    default:
        touch(page);
    }
}

static void step(struct exo_upcall_page *page)
{
    switch (pick(page, 16)) {
    case 0:
        odd(page);
        break;
    case 1:
        __asm__ volatile("cvtsi2sdq %0, %%xmm3\n sqrtsd %%xmm3, %%xmm4" : : "r"(pick(page, 99)));
        break;
    case 2: /* writes to what it has, or had, a few times */
        for (uint64_t va = PLAY_VA + pick(page, 8) * EXO_PAGE, n = pick(page, 4000); n > 0; n--)
            *(volatile uint64_t *)va = n;
        break;
    case 3:
        guest_poke();
        break;
    default:
        call_once(page);
    }
    __atomic_add_fetch(&SHARED->steps[number % HOSTILES], 1, __ATOMIC_RELAXED);
}

/* Who is called replies soon, mostly, and is called again. */
void hostile_loop(uint64_t sp, bool called)
{
    struct exo_upcall_page *page =
        (struct exo_upcall_page *)(sp & -(uint64_t)(PAGES_EACH * EXO_PAGE));
    if (called) {
        uint64_t a[8] = {1ul << 20};
        for (uint64_t n = pick(page, 4); n > 0; n--)
            step(page);
        exo_timer_set(exo_in_us(pick(page, 1500)), 1ul << 20);
        guest_answer(&a[1], &a[2]);
        hostile_call(EXO_CALL_reply_wait, a);
    }
    for (;;)
        step(page);
}

/* ---- handlers ------------------------------------------------------------------------------------ */

/* The thread begins anew, by a return or as ordinary code; some handlers do more. */
static bool survive(struct exo_frame *frame, struct exo_saved *saved)
{
    (void)saved;
    struct exo_upcall_page *page =
        (struct exo_upcall_page *)((uint64_t)frame & -(uint64_t)EXO_PAGE);
    for (uint64_t n = chance(page, 6) ? pick(page, 5) : 0; n > 0; n--)
        call_once(page);
    if (chance(page, 200)) __asm__ volatile("ud2");
    if (chance(page, 6)) {
        exo_upcall_done();
        hostile_restart(stack_of(page));
    }
    frame->rip = (uint64_t)hostile_entry;
    frame->rsp = stack_of(page);
    frame->rflags = 0;
    return true;
}

static void answer(struct exo_frame *frame, struct exo_saved *saved) { frame->rax = saved->rdi; }

static void give_up(const struct exo_record *record)
{
    if (record->what == EXO_ASKED && record->sel != GIVEN_TEXT) exo_cap_delete(record->sel);
}

/* "NUMBER SEED" */
int hostile_main(const char *args)
{
    static struct exo_task tasks[WORKERS];
    number = number_read(args);
    seed = number_read(strchr(args, ' ') + 1);
    exo_handlers.exception = survive;
    exo_handlers.syscall = answer;
    exo_revocations(give_up);
    workers[0].sel = EXO_CHILD_THREAD;
    workers[0].stack = HOSTILE_STACK;
    for (unsigned i = 1; i < WORKERS; i++) {
        if (exo_task_make(&tasks[i], (exo.start.cpu + i) % exo.start.cpus) < 0) return 1;
        workers[i].sel = tasks[i].sel;
        workers[i].stack = stack_of(tasks[i].page);
    }
    exo_tables(&exo.pool, PLAY_VA, 1);
    guest_make(seed + number, workers[1].sel, (exo.start.cpu + 1) % exo.start.cpus);
    for (unsigned i = 1; i < WORKERS; i++)
        exo_thread_start(workers[i].sel, (uint64_t)hostile_entry, workers[i].stack, 0);
    hostile_restart(HOSTILE_STACK);
}
