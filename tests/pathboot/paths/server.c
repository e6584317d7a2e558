/* SPDX-License-Identifier: MIT
 *
 * What every thread does in its turn, and its upcall handler. */
#include "paths.h"

void path_handle(struct io *io, struct exo_upcall_page *page);

/* CF PF AF ZF SF DF OF NT AC ID; not TF, which would stop at each instruction. */
#define FLAGS_PLAYED 0x244cd5ul
#define FLAG_TF 0x100ul

/* ---- what all share ------------------------------------------------------------------- */

static uint64_t any(void)
{
    uint64_t *state = &SHARED->random;
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * 0x2545f4914f6cdd1dul;
}
static uint64_t pick(uint64_t n) { return (any() >> 16) % n; }

static uint64_t mix(uint64_t digest, uint64_t value)
{
    digest = (digest ^ value) * 0x100000001b3ul;
    return digest << 23 | digest >> 41;
}
void note(uint64_t value) { SHARED->digest = mix(SHARED->digest, value); }
static void must(bool condition)
{
    if (!condition) SHARED->wrong++;
    note(condition);
}

static void note_io(const struct io *io)
{
    const uint64_t *r = &io->rax;
    for (unsigned i = 0; i < IO_REGISTERS; i++)
        note(r[i]);
    note(io->via);
}

static void io_random(struct io *io)
{
    uint64_t *r = &io->rax;
    for (unsigned i = 0; i < IO_REGISTERS; i++)
        r[i] = any();
    io->flags &= FLAGS_PLAYED;
}

static void words_of(const struct io *io, uint64_t word[WORDS])
{
    const uint64_t from[WORDS] = {io->rsi, io->rdx, io->r8,  io->r9,  io->r10, io->rbx,
                                  io->rbp, io->r12, io->r13, io->r14, io->r15};
    memcpy(word, from, sizeof(from));
}
static void words_sent(const struct io *io, bool with_item)
{
    words_of(io, SHARED->sent);
    if (with_item) SHARED->sent[9] = SHARED->sent[10] = 0;
}
static void words_check(const struct io *io)
{
    uint64_t word[WORDS];
    words_of(io, word);
    must(!memcmp(word, SHARED->sent, sizeof(word)));
}

uint64_t badge_of(uint64_t env, uint64_t server)
{
    return 0xa5c3000000000000ul | (env + 1) << 32 | server;
}

/* ---- what each thread has: its upcall page lies at the start of its 64 pages (libexo) --- */

static struct exo_upcall_page *own_page(void)
{
    uint64_t sp;
    __asm__("movq %%rsp, %0" : "=r"(sp));
    return (struct exo_upcall_page *)(sp & -(64ul * EXO_PAGE));
}
struct local *local_of(void) { return (struct local *)own_page()->user; }

static void xmm_load(const uint64_t x[6])
{
    __asm__ volatile("movdqu (%0), %%xmm0\n movdqu 16(%0), %%xmm7\n movdqu 32(%0), %%xmm15"
                     :
                     : "r"(x)
                     : "memory");
}
static void xmm_store(uint64_t x[6])
{
    __asm__ volatile("movdqu %%xmm0, (%0)\n movdqu %%xmm7, 16(%0)\n movdqu %%xmm15, 32(%0)"
                     :
                     : "r"(x)
                     : "memory");
}

/* The segment bases and FPU registers are the thread's own, whoever ran meanwhile. */
static void state_check(const struct local *l)
{
    uint64_t fs, gs, xmm[6];
    __asm__ volatile("rdfsbase %0\n rdgsbase %1" : "=r"(fs), "=r"(gs));
    must(fs == l->fs && gs == l->gs);
    if (pick(2)) return; /* do not always make the FPU its own */
    xmm_store(xmm);
    must(!memcmp(xmm, l->xmm, sizeof(xmm)));
    note(xmm[0] ^ xmm[5]);
}

static void bases_set(struct local *l)
{
    l->fs = any() >> 17;
    l->gs = any() >> 17;
    __asm__ volatile("wrfsbase %0\n wrgsbase %1" : : "r"(l->fs), "r"(l->gs));
}
static void xmm_set(struct local *l)
{
    for (unsigned i = 0; i < EXO_COUNT(l->xmm); i++)
        l->xmm[i] = any();
    xmm_load(l->xmm);
}

void local_init(uint64_t index, uint64_t env, uint64_t thread)
{
    struct exo_upcall_page *page = own_page();
    struct local *l = local_of();
    *l = (struct local){.index = index, .env = env, .fs = 0x1000 + index, .gs = 0x2000 + index};
    l->event = (uint64_t)exo_event_new((uint32_t)thread, UPCALL_BIT);
    l->wait_event = (uint64_t)exo_event_new((uint32_t)thread, WAIT_BIT);
    page->event_mask = UPCALL_BIT;
    xmm_load(l->xmm);
    __asm__ volatile("wrfsbase %0\n wrgsbase %1" : : "r"(l->fs), "r"(l->gs));
}

/* ---- what a turn consists of ----------------------------------------------------------------- */

static uint64_t some_gate(const struct local *l)
{
    const uint32_t *gate = SHARED->gate[l->env];
    const uint64_t odd[] = {0, 1, EXO_CHILD_THREAD, gate[SERVERS], 100000, ~0ul, 1ul << 32};
    if (pick(12) == 0) return odd[pick(EXO_COUNT(odd))];
    return gate[pick(SERVERS)];
}

static void do_call(struct local *l)
{
    struct io io;
    bool with_item = pick(5) == 0;
    io_random(&io);
    io.rax = with_item ? EXO_CALL_call_x : EXO_CALL_call;
    io.rdi = some_gate(l);
    if (with_item) io.r14 = io.r15 = 0;
    words_sent(&io, with_item);
    SHARED->sender = l->env;
    path_call(&io);
    must(io.via == 0);
    note_io(&io);
    SHARED->calls++;
    SHARED->depth_errors += io.rax == (uint64_t)-EXO_E_DEPTH;
    if ((long)io.rax >= 0) {
        SHARED->replies++;
        words_check(&io);
    }
}

static void do_foreign(struct local *l)
{
    struct io io;
    io_random(&io);
    io.rax = pick(2) ? pick(600) : io.rax;
    if (l->in_handler || io.rax - EXO_CALL_BASE < EXO_CALL_COUNT) return;
    uint64_t upcalls = SHARED->upcalls;
    path_call(&io);
    must(SHARED->upcalls > upcalls);
    note_io(&io);
}

static void do_trap(struct local *l)
{
    struct io io;
    uint64_t trap = pick(TRAPS);
    if (l->in_handler) return;
    io_random(&io);
    io.rax = pick(8) ? 0x300000000000ul + pick(1ul << 40) : 0x8000000000000000ul | io.rax;
    io.rcx = 0; /* what is divided by */
    l->resume = path_resume[trap];
    SHARED->traps++;
    path_traps[trap](&io);
    note_io(&io);
}

/* Leaf calls, and errors of the calls with fast paths. */
static void do_small(struct local *l)
{
    const uint64_t leaf[] = {EXO_CALL_null, EXO_CALL_yield, EXO_CALL_irq_ack, EXO_CALL_port_in};
    const uint64_t in_handler[] = {EXO_CALL_reply_wait, EXO_CALL_reply_wait_x, EXO_CALL_event_wait,
                                   EXO_CALL_upcall_return};
    struct exo_frame *frame = &own_page()->frame;
    uint64_t rip = frame->rip;
    struct io io;
    io_random(&io);
    io.rax = leaf[pick(EXO_COUNT(leaf))];
    if (pick(2) && l->in_handler) {
        io.rax = in_handler[pick(EXO_COUNT(in_handler))];
        frame->rip = EXO_VA_END + pick(1ul << 62);
    } else if (pick(2) && !l->in_handler) {
        io.rax = EXO_CALL_upcall_return;
    }
    path_call(&io);
    note_io(&io);
    frame->rip = rip;
}

/* The upcall comes at once, or when the handler is left; then also if the thread itself set
 * the bit in its page. */
static void do_event(struct local *l)
{
    struct io io;
    if (l->in_handler && pick(2)) {
        __atomic_fetch_or(&own_page()->events, UPCALL_BIT, __ATOMIC_SEQ_CST);
        return;
    }
    io_random(&io);
    io.rax = EXO_CALL_event_signal;
    io.rdi = l->event;
    path_call(&io);
    must(io.rax == 0);
    note_io(&io);
}

/* The first thread has no caller: it only waits, for what is there already. */
static void do_wait(struct local *l)
{
    struct io io;
    if (l->index != DRIVER || l->in_handler) return;
    exo_event_signal(l->wait_event);
    io_random(&io);
    io.rax = EXO_CALL_reply_wait;
    io.rdi = WAIT_BIT;
    path_call(&io);
    must(io.rax == 1 && io.rdi == WAIT_BIT && io.via == 0);
    note_io(&io);
}

void turn(struct local *l, uint64_t depth)
{
    if (depth == 0 && pick(40) == 0) SHARED->dive = EXO_CHAIN_MAX * 4;
    for (; SHARED->dive > 0 && !l->in_handler; state_check(l)) {
        SHARED->dive--;
        do_call(l);
    }
    for (uint64_t n = 1 + pick(4); n > 0; n--) {
        switch (pick(14)) {
        case 0:
        case 1:
        case 2:
            do_call(l);
            break;
        case 3:
        case 4:
            do_foreign(l);
            break;
        case 5:
        case 6:
            do_trap(l);
            break;
        case 7:
            do_event(l);
            break;
        case 8:
            do_wait(l);
            break;
        case 9:
            bases_set(l);
            break;
        case 10:
            xmm_set(l);
            break;
        default:
            do_small(l);
        }
        state_check(l);
    }
}

/* ---- handlers and servers ----------------------------------------------------------------------- */

void path_handle(struct io *io, struct exo_upcall_page *page)
{
    struct local *l = (struct local *)page->user;
    struct exo_frame *frame = &page->frame;
    const uint64_t *f = &frame->rip;
    SHARED->upcalls++;
    must(own_page() == page && l->in_handler == 0);
    for (unsigned i = 0; i < sizeof(*frame) / sizeof(*f); i++)
        note(f[i]);
    note_io(io);
    if (frame->vector == EXO_UP_EVENT) return;
    l->in_handler = 1;
    state_check(l);
    if (pick(3) == 0) {
        struct exo_frame saved = *frame;
        turn(l, 1);
        *frame = saved;
    }
    l->in_handler = 0;
    io_random(io);
    frame->rax = any();
    frame->rcx = any();
    frame->r11 = any();
    frame->rflags = any() & ~FLAG_TF; /* the others are forced, or the user's */
    if (frame->vector != EXO_UP_SYSCALL) frame->rip = l->resume;
}

/* Zero words, nothing shared: when this happens is not defined (see paths.h). */
static void server_events(struct local *l, struct io *io)
{
    uint64_t *apart = &SHARED->apart[l->index];
    *apart += mix(mix(io->rax, io->rdi), io->rsi | io->r15);
    *io = (struct io){.rax = EXO_CALL_reply_wait, .rdi = WAIT_BIT};
}

void server_loop(uint64_t index, uint64_t env, uint64_t thread)
{
    struct io io = {.rax = EXO_CALL_reply_wait, .rdi = WAIT_BIT};
    local_init(index, env, thread);
    struct local *l = local_of();
    for (;;) {
        path_call(&io);
        if (!io.via) {
            server_events(l, &io);
            continue;
        }
        note_io(&io);
        must(io.rax == 0 && io.rdi == badge_of(SHARED->sender, index));
        words_check(&io);
        state_check(l);
        turn(l, 1);
        io_random(&io);
        io.rax = EXO_CALL_reply_wait;
        io.rdi = pick(2) ? WAIT_BIT : 0;
        if (io.rdi != 0 && pick(4) == 0) exo_event_signal(l->wait_event);
        words_sent(&io, false);
    }
}
