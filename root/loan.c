/* SPDX-License-Identifier: MIT
 *
 * Memory on loan. A program with loan=SIZE in its line gets that memory in EXO_LOAN_PIECES pieces,
 * a capability each, all derived from one of ours (source). When a program with borrow=yes needs
 * memory, the one that has most on loan is asked to give as many pieces back as leave the
 * wanted number in a row, if it gives up the last ones first: visible revocation of `source`, with
 * a deadline, after which the kernel takes the youngest ones by force. What was borrowed comes back
 * when its borrower returns it or ends, and then goes to the lender again.
 *
 * There is one request at a time. Nothing here waits: the borrower calls again until its request
 * is met, and each of its calls does what can be done. Who gives a capability back but keeps a copy
 * of it is seen (names are counted) and loses all that it has on loan. */
#include "root.h"

#define LOANS 4 /* programs that have memory on loan */
#define ALIGN 512 /* frames: loans are multiples of it */
#define GRACE_US 2000000 /* a request that is not made again so long behind its deadline is over */

enum piece_state { PIECE_FREE, PIECE_HELD, PIECE_BORROWED };

struct loan {
    struct exo_child *lender; /* NULL: it has ended */
    uint32_t program; /* its index */
    struct exo_pool *pool; /* whose frames they are; NULL: no loan here */
    uint64_t first, piece; /* frames: the first one, and of each piece */
    uint32_t source, event; /* our selectors; event: EXO_EV_LOAN of the lender */
    uint32_t sel; /* of the lender's table: its first piece */
    struct {
        enum piece_state state;
        uint32_t borrower; /* index of a program */
        uint32_t sel; /* of what was borrowed, in its first piece: ours; 0: not the first */
    } at[EXO_LOAN_PIECES];
};
static struct loan loans[LOANS];

static struct {
    struct loan *loan; /* NULL: there is no request */
    uint32_t borrower; /* index */
    bool refused;
    uint64_t deadline; /* time-stamp counter */
} request;

static struct loan *loan_of(uint32_t program)
{
    for (struct loan *l = loans; l < loans + LOANS; l++)
        if (l->pool && l->lender && l->program == program) return l;
    return NULL;
}

static uint64_t piece_frame(const struct loan *l, uint32_t i) { return l->first + i * l->piece; }

static uint32_t pieces_held(const struct loan *l)
{
    uint32_t held = 0;
    for (uint32_t i = 0; i < EXO_LOAN_PIECES; i++)
        held += l->at[i].state == PIECE_HELD;
    return held;
}

/* A free piece goes to the lender, or back to the pool where there is none any more. */
static void piece_give(struct loan *l, uint32_t i)
{
    if (l->at[i].state != PIECE_FREE) return;
    if (!l->lender) {
        exo_frames_free(l->pool, piece_frame(l, i), l->piece);
        l->at[i].state = PIECE_HELD; /* by nobody who could be asked */
        return;
    }
    if (exo_cap_derive(l->source, EXO_REF(l->lender->env, l->sel + i), EXO_R | EXO_W | EXO_X,
                       piece_frame(l, i), l->piece) == 0)
        l->at[i].state = PIECE_HELD;
}

/* All that is free, unless somebody waits for it. */
static void pieces_give(struct loan *l)
{
    if (request.loan == l) return;
    for (uint32_t i = 0; i < EXO_LOAN_PIECES; i++)
        piece_give(l, i);
    if (!l->lender) return;
    loan_changed(l->program);
    if (l->event) exo_event_signal(l->event);
}

static void request_end(void)
{
    struct loan *l = request.loan;
    request.loan = NULL;
    if (l) pieces_give(l);
}

/* ---- a program and its loan ------------------------------------------------------------- */

static long loan_make(struct loan *l, uint32_t index, uint64_t frames)
{
    long frame = -EXO_E_LIMIT;
    for (uint32_t i = 0; i < root_ram_count && frame < 0; i++) {
        frame = exo_frames_alloc(&root_ram[i], frames, frames);
        l->pool = &root_ram[i];
    }
    if (frame < 0) return frame;
    l->first = (uint64_t)frame;
    l->piece = frames / EXO_LOAN_PIECES;
    l->program = index;
    l->lender = program_child(index);
    long source = exo_sel_alloc(), event = exo_event_new(l->lender->thread, EXO_EV_LOAN);
    l->source = source < 0 ? 0 : (uint32_t)source;
    l->event = event < 0 ? 0 : (uint32_t)event;
    long r = source < 0 ? source : event;
    if (r >= 0) r = exo_cap_derive(l->pool->sel, l->source, EXO_RIGHTS_ALL, l->first, frames);
    l->sel = l->lender->sel_free;
    for (uint32_t i = 0; i < EXO_LOAN_PIECES && r >= 0; i++) {
        r = exo_child_give(l->lender, l->source, EXO_R | EXO_W | EXO_X, piece_frame(l, i),
                           l->piece);
        l->at[i].state = r < 0 ? PIECE_FREE : PIECE_HELD;
    }
    return r;
}

void loan_give(uint32_t index, uint64_t frames)
{
    struct loan *l = loans;
    while (l < loans + LOANS && l->pool)
        l++;
    if (!frames) return;
    if (l < loans + LOANS) *l = (struct loan){0};
    long r = l < loans + LOANS ? loan_make(l, index, frames) : -EXO_E_LIMIT;
    if (r < 0) {
        exo_printf("root: there is no loan of %lu KiB: %s\n", frames * (EXO_PAGE >> 10),
                   exo_strerror(r));
        if (l < loans + LOANS && !l->piece) l->pool = NULL;
        return;
    }
    l->lender->start.loan = (struct exo_range){l->sel, (uint32_t)l->first, (uint32_t)frames, 0};
}

void loan_named(uint32_t index, uint32_t *first, uint32_t *frames, uint32_t *held)
{
    const struct loan *l = loan_of(index);
    *first = l ? (uint32_t)l->first : 0;
    *frames = l ? (uint32_t)l->piece * EXO_LOAN_PIECES : 0;
    *held = 0;
    for (uint32_t i = 0; l && i < EXO_LOAN_PIECES; i++)
        *held |= (uint32_t)(l->at[i].state == PIECE_HELD) << i;
}

/* ---- borrowing ----------------------------------------------------------------------------- */

/* So many free pieces in a row: the first, or EXO_LOAN_PIECES. Those held from `held` on count. */
static uint32_t run_find(const struct loan *l, uint32_t n, uint32_t held)
{
    uint32_t run = 0;
    for (uint32_t i = 0; i < EXO_LOAN_PIECES; i++) {
        bool free = l->at[i].state == PIECE_FREE || (l->at[i].state == PIECE_HELD && i >= held);
        run = free ? run + 1 : 0;
        if (run == n) return i + 1 - n;
    }
    return EXO_LOAN_PIECES;
}

/* Which the lender has given back, by `names` that are left. */
static void pieces_look(struct loan *l, uint64_t names)
{
    for (uint32_t i = 0; i < EXO_LOAN_PIECES; i++)
        if (l->at[i].state == PIECE_HELD && exo_cap_info(EXO_REF(l->lender->env, l->sel + i)) <= 0)
            l->at[i].state = PIECE_FREE;
    if (names != pieces_held(l) * l->piece) {
        exo_printf("root: %s: kept copies of what it has on loan: all is taken\n",
                   l->lender->start.name);
        while (exo_cap_revoke(l->source, 0, 0) == -EXO_E_AGAIN)
            ;
        for (uint32_t i = 0; i < EXO_LOAN_PIECES; i++)
            if (l->at[i].state == PIECE_HELD) l->at[i].state = PIECE_FREE;
    }
    loan_changed(l->program);
}

/* Asks for what is missing to n pieces in a row: 0 when something was given; else as borrow. */
static long pieces_ask(struct loan *l, uint32_t n)
{
    uint32_t held = EXO_LOAN_PIECES, keep = 0;
    while (held && run_find(l, n, held) == EXO_LOAN_PIECES)
        held--;
    if (run_find(l, n, held) == EXO_LOAN_PIECES || !l->lender) return -EXO_E_LIMIT;
    for (uint32_t i = 0; i < held; i++)
        keep += l->at[i].state == PIECE_HELD;
    long r;
    do
        r = exo_cap_revoke(l->source, keep * l->piece, request.deadline);
    while (r == -EXO_E_AGAIN && exo_tsc() > request.deadline);
    if (r < 0) return r;
    pieces_look(l, (uint64_t)r);
    request.deadline++; /* who is asked once more is asked for something new */
    return 0;
}

/* Pieces [i, i + n) become the borrower's. */
static long run_lend(struct loan *l, uint32_t i, uint32_t n, uint32_t borrower, uint64_t sel)
{
    long own = exo_sel_alloc();
    if (own < 0) return own;
    uint64_t first = piece_frame(l, i), count = n * l->piece;
    long r = exo_cap_derive(l->pool->sel, (uint64_t)own, EXO_RIGHTS_ALL, first, count);
    if (r == 0)
        r = exo_cap_derive((uint64_t)own, EXO_REF(program_child(borrower)->env, (uint32_t)sel),
                           EXO_RIGHTS_ALL, first, count);
    if (r < 0) {
        exo_drop((uint32_t)own);
        return r;
    }
    for (uint32_t k = i; k < i + n; k++) {
        l->at[k].state = PIECE_BORROWED;
        l->at[k].borrower = borrower;
        l->at[k].sel = 0;
    }
    l->at[i].sel = (uint32_t)own;
    return 0;
}

/* The loan that has most pieces to give, in a row and large enough; NULL: none. */
static struct loan *loan_choose(uint64_t frames)
{
    struct loan *best = NULL;
    for (struct loan *l = loans; l < loans + LOANS; l++) {
        if (!l->pool || !l->lender) continue;
        uint64_t n = (frames + l->piece - 1) / l->piece;
        if (n > EXO_LOAN_PIECES || run_find(l, (uint32_t)n, 0) == EXO_LOAN_PIECES) continue;
        if (!best || pieces_held(l) * l->piece > pieces_held(best) * best->piece) best = l;
    }
    return best;
}

static long request_begin(uint32_t borrower, uint64_t frames, uint64_t us)
{
    bool stale = exo_tsc() > request.deadline + exo_us(GRACE_US);
    if (request.loan && request.borrower == borrower) return 0;
    if (request.loan && !stale) return -EXO_E_AGAIN;
    request_end();
    request.loan = loan_choose(frames);
    request.borrower = borrower;
    request.refused = false;
    request.deadline = exo_in_us(us);
    return request.loan ? 0 : -EXO_E_LIMIT;
}

static long borrow(uint32_t borrower, uint64_t frames, uint64_t us, uint64_t sel, uint64_t got[2])
{
    if (!frames || frames > EXO_VA_END / EXO_PAGE || us > EXO_BORROW_US_MAX || sel >> 32)
        return -EXO_E_ARG;
    long r = request_begin(borrower, frames, us);
    if (r < 0) return r;
    struct loan *l = request.loan;
    uint64_t pieces = (frames + l->piece - 1) / l->piece;
    uint32_t n = pieces > EXO_LOAN_PIECES ? EXO_LOAN_PIECES + 1 : (uint32_t)pieces, at;
    while (r == 0 && (at = run_find(l, n, EXO_LOAN_PIECES)) == EXO_LOAN_PIECES)
        r = request.refused ? -EXO_E_LIMIT : pieces_ask(l, n);
    if (r == -EXO_E_AGAIN) return r;
    if (r == 0) r = run_lend(l, at, n, borrower, sel);
    got[0] = r < 0 ? 0 : piece_frame(l, at);
    got[1] = r < 0 ? 0 : n * l->piece;
    request_end();
    return r;
}

/* What was borrowed and begins with that piece is free. */
static void run_free(struct loan *l, uint32_t i)
{
    uint32_t first = i;
    exo_drop(l->at[i].sel);
    l->at[i].sel = 0;
    do
        l->at[i++].state = PIECE_FREE;
    while (i < EXO_LOAN_PIECES && l->at[i].state == PIECE_BORROWED && !l->at[i].sel);
    uint64_t used = frames_in_use(piece_frame(l, first), (i - first) * l->piece);
    if (used) exo_printf("root: LEAK of what was borrowed: %lu frames still in use\n", used);
}

/* Those of the borrower that begin at `frame`, or all (0). */
static bool runs_free(uint32_t borrower, uint64_t frame)
{
    bool some = false;
    for (struct loan *l = loans; l < loans + LOANS; l++) {
        bool here = false;
        for (uint32_t i = 0; l->pool && i < EXO_LOAN_PIECES; i++) {
            if (l->at[i].state != PIECE_BORROWED || !l->at[i].sel ||
                l->at[i].borrower != borrower || (frame && piece_frame(l, i) != frame))
                continue;
            run_free(l, i);
            here = true;
        }
        if (here) pieces_give(l);
        some |= here;
    }
    return some;
}

void loan_call(uint32_t index, bool may_borrow, uint64_t word[4])
{
    uint64_t operation = word[0], got[2] = {0};
    long r = 0;
    if (operation == EXO_SERVICE_REFUSE) {
        if (request.loan && request.loan == loan_of(index)) request.refused = true;
    } else if (!may_borrow) {
        r = -EXO_E_RIGHTS;
    } else if (operation == EXO_SERVICE_BORROW) {
        r = borrow(index, word[1], word[3], word[2], got);
    } else if (word[1]) {
        r = runs_free(index, word[1]) ? 0 : -EXO_E_ARG;
    } else if (request.loan && request.borrower == index) {
        request_end();
    }
    word[0] = (uint64_t)r;
    word[1] = got[0];
    word[2] = got[1];
    word[3] = 0;
}

/* The lender has ended: what nobody has borrowed is free. */
static void lender_end(struct loan *l)
{
    uint64_t used = 0;
    l->lender = NULL;
    exo_drop(l->source);
    if (l->event) exo_drop(l->event); /* went with its thread */
    for (uint32_t i = 0; i < EXO_LOAN_PIECES; i++) {
        if (l->at[i].state == PIECE_BORROWED) continue;
        used += frames_in_use(piece_frame(l, i), l->piece);
        l->at[i].state = PIECE_FREE;
    }
    if (used) exo_printf("root: LEAK of a loan: %lu frames still in use\n", used);
}

void loan_end(uint32_t index)
{
    struct loan *l = loan_of(index);
    if (l) lender_end(l);
    if (request.loan && (request.borrower == index || request.loan == l)) request_end();
    runs_free(index, 0);
    if (l) pieces_give(l);
}
