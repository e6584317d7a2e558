/* SPDX-License-Identifier: MIT
 *
 * Memory that root lent us (exo_startup.loan), which it asks back when another program needs it: an
 * EXO_ASKED record in our repossession vector says how much, and until when. Pieces are given up
 * from the last one on: it is closed (nothing new goes there), the libraries of the processes that
 * have extents in it are told to empty them (extent_want), and when nothing is left, its capability
 * is deleted. Pages move to where there is room, else into the swap store. What a process has
 * not emptied in three quarters of the time is taken from it.
 *
 * If there is no room for what lies in those pieces, root is told so (EXO_SERVICE_REFUSE).
 *
 * What root takes by force is gone at that moment, perhaps in the midst of a copy: the fault finds
 * a page there that nobody looks at (scratch), and the processes lose their extents as soon as the
 * vector is read. Nothing of our own lies on loan. */
#include "loan.h"
#include "../waiting/timer.h"
#include "memory.h"
#include "swap.h"
#include "units.h"

#define LOOK_NS 10000000ul /* while somebody waits */
#define DYING (1l << 17) /* of cap_info's result */
#define VECTOR_PF 14 /* Intel SDM vol. 3, 6.15 */

enum piece_state { PIECE_GONE, PIECE_OPEN, PIECE_LEAVING };
static enum piece_state state[EXO_LOAN_PIECES];
static uint64_t scratch; /* frame */

static struct {
    uint64_t frames; /* that are still to be given; 0: nothing is asked for */
    uint64_t deadline, force; /* time-stamp counter: root's, and ours */
} asked;

static uint32_t selector(uint32_t piece) { return exo.start.loan.sel + piece; }
static uint64_t piece_frames(void) { return piece_units() * (uint64_t)LX_UNIT; }
static uint64_t first_frame(uint32_t piece) { return unit_frame(piece_unit(piece)); }
static uint64_t piece_va(uint32_t piece)
{
    return (uint64_t)frame_data((uint32_t)first_frame(piece));
}

static bool is_there(uint32_t piece)
{
    long info = exo_cap_info(selector(piece));
    return info > 0 && !(info & DYING);
}

/* ---- pieces come and go -------------------------------------------------------------------- */

static void piece_come(uint32_t piece)
{
    if (state[piece] != PIECE_GONE || !is_there(piece)) return;
    long r = exo_bind(&exo.pool, piece_va(piece), piece_frames(), selector(piece),
                      first_frame(piece), EXO_R | EXO_W);
    if (r < 0) {
        log_line("memory on loan cannot be mapped: %s", exo_strerror(r));
        return;
    }
    state[piece] = PIECE_OPEN;
    piece_open(piece);
}

static void asked_less(void)
{
    asked.frames = asked.frames > piece_frames() ? asked.frames - piece_frames() : 0;
}

/* Nothing of processes lies in it. */
static void piece_go(uint32_t piece)
{
    long r = exo_unbind(&exo.pool, piece_va(piece), piece_frames());
    if (r == 0) do
            r = exo_cap_delete(selector(piece));
        while (r == -EXO_E_AGAIN);
    if (r < 0 && is_there(piece)) log_line("memory on loan stays: %s", exo_strerror(r));
    state[piece] = PIECE_GONE;
    asked_less();
}

/* All extents in the piece: they are wanted, or (by force) taken. */
static void piece_empty(uint32_t piece, bool force)
{
    uint16_t last = 0;
    for (uint32_t i = piece_unit(piece); i < piece_unit(piece) + piece_units(); i++) {
        uint16_t number = units_extent[i];
        if (!number || number == last) continue;
        if (force)
            extent_seize(number);
        else
            extent_want(number);
        last = number;
    }
}

/* Root took it. Pages of it may have been replaced (scratch). */
static void piece_lost(uint32_t piece)
{
    log_line("%lu KiB of memory on loan were taken by force, %u KiB of them in use",
             piece_frames() * (EXO_PAGE >> 10), piece_used(piece) * (EXO_PAGE >> 10));
    piece_close(piece);
    piece_empty(piece, true);
    for (uint64_t i = 0; i < piece_frames(); i++)
        while (exo_page_unbind(EXO_SELF, piece_va(piece) + i * EXO_PAGE, 1) == -EXO_E_AGAIN)
            ;
    state[piece] = PIECE_GONE;
    asked_less();
}

/* ---- asked ---------------------------------------------------------------------------------- */

static void look(struct timer *timer);
static struct timer timer = {.run = look};

/* Nothing more is asked for: what was to go, and is there still, stays. */
static void asked_end(void)
{
    asked.frames = 0;
    for (uint32_t i = 0; i < EXO_LOAN_PIECES; i++) {
        if (state[i] != PIECE_LEAVING) continue;
        state[i] = PIECE_OPEN;
        piece_open(i);
    }
}

/* Those that root took: what it is still about to take (true) is looked at again. */
static bool lost_look(void)
{
    bool dying = false;
    for (uint32_t i = 0; i < EXO_LOAN_PIECES; i++) {
        long info = state[i] == PIECE_GONE ? 1 : exo_cap_info(selector(i));
        if (info <= 0) piece_lost(i);
        dying |= info > 0 && info & DYING;
    }
    return dying;
}

static void look(struct timer *unused)
{
    (void)unused;
    bool dying = lost_look();
    bool force = exo_tsc() > asked.force;
    for (uint32_t i = EXO_LOAN_PIECES; i-- && asked.frames;) {
        if (state[i] != PIECE_LEAVING) continue;
        uint32_t used = piece_used(i);
        if (used && force)
            log_line("memory on loan is asked for, and was not emptied in time: %u KiB were taken",
                     used * (EXO_PAGE >> 10));
        if (used) piece_empty(i, force);
        if (!piece_used(i)) piece_go(i);
    }
    bool over = !asked.frames || exo_tsc() >= asked.deadline;
    if (over) asked_end();
    if (!over || dying) timer_set(&timer, time_boot() + LOOK_NS);
}

/* Pieces for all that is asked for are closed, the last ones first: frames that lie in them. */
static uint64_t pieces_close(void)
{
    uint64_t closed = 0, used = 0;
    for (uint32_t i = 0; i < EXO_LOAN_PIECES; i++)
        if (state[i] == PIECE_LEAVING) closed += piece_frames();
    for (uint32_t i = EXO_LOAN_PIECES; i-- && closed < asked.frames;) {
        if (state[i] != PIECE_OPEN) continue;
        state[i] = PIECE_LEAVING;
        piece_close(i);
        used += piece_used(i);
        closed += piece_frames();
    }
    return used;
}

static void asked_begin(void)
{
    uint64_t used = pieces_close(), room = lx_shared->memory_free + swap_room();
    if (used > room) {
        uint64_t word[4] = {EXO_SERVICE_REFUSE, 0, 0, 0};
        log_line(
            "asked for %lu KiB of memory on loan: there is no room for %lu KiB of what is in it",
            asked.frames * (EXO_PAGE >> 10), (used - room) * (EXO_PAGE >> 10));
        exo_call(exo.start.sel_service, word);
        asked_end();
        return;
    }
    log_line("asked for %lu KiB of memory on loan, %lu KiB of it in use",
             asked.frames * (EXO_PAGE >> 10), used * (EXO_PAGE >> 10));
    look(NULL);
}

static bool asked_new;

static void record_read(const struct exo_record *record)
{
    uint32_t piece = record->sel - exo.start.loan.sel;
    if (record->what != EXO_ASKED || record->deadline == asked.deadline) return;
    if (piece >= EXO_LOAN_PIECES) {
        log_line("asked for memory that is not on loan: nothing of it can be given");
        return;
    }
    uint64_t now = exo_tsc(), left = record->deadline > now ? record->deadline - now : 0;
    asked.frames = EXO_MIN(record->amount, piece_frames() * EXO_LOAN_PIECES);
    asked.deadline = record->deadline;
    asked.force = now + left / 4 * 3;
    asked_new = true;
}

void loan_events(uint64_t events)
{
    if (!exo.start.loan.count || !piece_units()) return;
    exo_vector_read(record_read);
    if (asked_new) asked_begin();
    asked_new = false;
    if (events & EXO_EVENT_REVOKE) look(NULL);
    for (uint32_t i = 0; i < EXO_LOAN_PIECES && events & EXO_EV_LOAN; i++)
        piece_come(i);
}

/* ---- faults ---------------------------------------------------------------------------------- */

/* Of our own, where a piece was: it is gone. */
static bool exception(struct exo_frame *frame, struct exo_saved *saved)
{
    (void)saved;
    uint64_t va = frame->addr & -(uint64_t)EXO_PAGE;
    uint32_t piece = 0;
    if (frame->vector != VECTOR_PF) return false;
    while (piece < EXO_LOAN_PIECES && va - piece_va(piece) >= piece_frames() * EXO_PAGE)
        piece++;
    if (piece == EXO_LOAN_PIECES || is_there(piece)) return false;
    long r = exo_bind(&exo.pool, va, 1, exo.pool.sel, scratch, EXO_R | EXO_W);
    if (r < 0) return false;
    memset((void *)va, 0, EXO_PAGE);
    return true;
}

void loan_init(void)
{
    if (!exo.start.loan.count) return;
    long frame = exo_frames_alloc(&exo.pool, 1, 1);
    long r = frame < 0 ? frame : exo_env_revoker(EXO_SELF, exo_this()->sel);
    if (r < 0) {
        exo_printf("%s: cannot be asked for memory: %s\n", exo.start.name, exo_strerror(r));
        return;
    }
    scratch = (uint64_t)frame;
    exo_handlers.exception = exception;
    loan_events(EXO_EV_LOAN);
}
