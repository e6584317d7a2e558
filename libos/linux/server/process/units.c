/* SPDX-License-Identifier: MIT
 *
 * Memory of processes in units of LX_UNIT frames: our own ones, numbered from 0 on, and behind
 * them those on loan, in pieces that come and go (loan.c). What cannot be moved (windows, stacks,
 * libraries' data, what processes share) is our own; extents that libraries can empty lie on loan
 * where there is little left of our own. lx_shared->memory_free counts what is free and open. */
#include "units.h"
#include "memory.h"

#define KEPT 4 /* one part of so many of our own memory is for what cannot be moved ... */

struct unit_range units_own, units_loan;
uint16_t units_extent[UNITS_MAX];
static uint32_t loan_sel, per_piece; /* selector of the first piece; units of each */
static bool open[EXO_LOAN_PIECES];

void units_init(uint64_t first, uint64_t count, const struct exo_range *range)
{
    units_own = (struct unit_range){.first = first, .units = (uint32_t)(count / LX_UNIT)};
    units_own.units = EXO_MIN(units_own.units, UNITS_MAX);
    units_own.free = units_own.units;
    uint64_t units = range->count / LX_UNIT;
    if (units > UNITS_MAX - units_own.units) units = 0;
    per_piece = (uint32_t)units / EXO_LOAN_PIECES;
    units_loan = (struct unit_range){
        .first = range->first, .unit = units_own.units, .hint = units_own.units};
    units_loan.units = per_piece * EXO_LOAN_PIECES;
    loan_sel = range->sel;
    lx_shared->memory_frames = lx_shared->memory_free = units_own.units * LX_UNIT;
}

static uint32_t unit_piece(uint32_t unit) { return (unit - units_loan.unit) / per_piece; }

uint32_t unit_selector(uint32_t unit)
{
    return unit < units_own.units ? exo.start.block.sel : loan_sel + unit_piece(unit);
}

/* n consecutive free units of the range, in one piece: the first, or UNITS_NONE. */
static uint32_t units_find(const struct unit_range *r, uint32_t n)
{
    uint32_t run = 0, end = r->unit + r->units;
    for (uint32_t i = r->hint; n <= r->free && i < end; i++) {
        bool closed = r == &units_loan && !open[unit_piece(i)];
        if (r == &units_loan && !((i - r->unit) % per_piece)) run = 0;
        run = units_extent[i] || closed ? 0 : run + 1;
        if (run == n) return i + 1 - n;
    }
    return UNITS_NONE;
}

uint32_t units_take(uint32_t n, uint16_t number, bool movable)
{
    uint32_t first = UNITS_NONE, kept = movable && units_loan.units ? units_own.units / KEPT : 0;
    struct unit_range *r = &units_own;
    if (units_own.free >= n + kept) first = units_find(&units_own, n);
    if (first == UNITS_NONE && movable) first = units_find(r = &units_loan, n);
    if (first == UNITS_NONE && movable) first = units_find(r = &units_own, n);
    if (first == UNITS_NONE) return UNITS_NONE;
    for (uint32_t i = first; i < first + n; i++)
        units_extent[i] = number;
    if (n == 1 || first == r->hint) r->hint = first + n;
    r->free -= n;
    lx_shared->memory_free -= n * LX_UNIT;
    return first;
}

void units_put(uint32_t unit, uint32_t n)
{
    struct unit_range *r = unit < units_own.units ? &units_own : &units_loan;
    for (uint32_t i = unit; i < unit + n; i++)
        units_extent[i] = 0;
    if (r == &units_loan && !open[unit_piece(unit)]) return;
    r->hint = EXO_MIN(r->hint, unit);
    r->free += n;
    lx_shared->memory_free += n * LX_UNIT;
}

/* ---- pieces of the loan ------------------------------------------------------------------- */

uint32_t piece_unit(uint32_t piece) { return units_loan.unit + piece * per_piece; }
uint32_t piece_units(void) { return per_piece; }

uint32_t piece_of(uint64_t frame)
{
    uint32_t unit = unit_of(frame);
    return unit < units_loan.unit || unit == UNITS_NONE ? EXO_LOAN_PIECES : unit_piece(unit);
}

uint32_t piece_used(uint32_t piece)
{
    uint32_t used = 0;
    for (uint32_t i = piece_unit(piece); i < piece_unit(piece) + per_piece; i++)
        used += units_extent[i] != 0;
    return used * LX_UNIT;
}

/* What is free in it is counted, or is not any more. */
static void piece_count(uint32_t piece, bool on)
{
    uint32_t units = per_piece - piece_used(piece) / LX_UNIT;
    open[piece] = on;
    units_loan.free = on ? units_loan.free + units : units_loan.free - units;
    units_loan.hint = units_loan.unit;
    lx_shared->memory_free += on ? units * LX_UNIT : -units * LX_UNIT;
    lx_shared->memory_frames += on ? per_piece * LX_UNIT : -per_piece * LX_UNIT;
}

void piece_open(uint32_t piece)
{
    if (!open[piece]) piece_count(piece, true);
}

void piece_close(uint32_t piece)
{
    if (open[piece]) piece_count(piece, false);
}
