/* SPDX-License-Identifier: MIT
 *
 * Which memory of processes is handed out: units.c. */
#ifndef LX_UNITS_H
#define LX_UNITS_H
#include "../../../../lib/exo/exo.h"
#include "../server.h"

#define UNITS_MAX 131072 /* 4 GiB of process memory */
#define UNITS_NONE UNITS_MAX

/* Our own frames, of the block; and those on loan (count 0: none), all pieces of it closed. */
void units_init(uint64_t first, uint64_t count, const struct exo_range *loan);
struct unit_range {
    uint64_t first; /* frame */
    uint32_t unit, units; /* its first unit, and how many */
    uint32_t hint; /* the first that may be free, from `unit` on */
    uint32_t free; /* units */
};
extern struct unit_range units_own, units_loan;
extern uint16_t units_extent[UNITS_MAX]; /* whose extent it is: a number, 0 none's */

/* The unit that a frame lies in, or UNITS_NONE; and its first frame. */
static inline uint32_t unit_of(uint64_t frame)
{
    uint64_t at = (frame - units_own.first) / LX_UNIT;
    if (frame >= units_own.first && at < units_own.units) return (uint32_t)at;
    at = (frame - units_loan.first) / LX_UNIT;
    return frame >= units_loan.first && at < units_loan.units ? units_loan.unit + (uint32_t)at
                                                              : UNITS_NONE;
}
static inline uint64_t unit_frame(uint32_t unit)
{
    const struct unit_range *r = unit < units_own.units ? &units_own : &units_loan;
    return r->first + (unit - r->unit) * (uint64_t)LX_UNIT;
}

/* Takes n units in a row, all of one capability (unit_selector), for the extent of that number: the
 * first, or UNITS_NONE. movable: they can be given back when somebody else needs them, so they may
 * lie on loan, and leave a part of our own to what cannot. units_put gives them back. */
uint32_t units_take(uint32_t n, uint16_t number, bool movable);
void units_put(uint32_t unit, uint32_t n);
uint32_t unit_selector(uint32_t unit);
/* A piece of the loan is handed out from now on; or is not, and stays so when what lies in it is
 * given back. Its units are [piece_unit, piece_unit + piece_units). */
void piece_open(uint32_t piece);
void piece_close(uint32_t piece);
uint32_t piece_unit(uint32_t piece), piece_units(void);
uint32_t piece_used(uint32_t piece); /* frames of extents in it */
/* The piece that the frame lies in; EXO_LOAN_PIECES: in none. */
uint32_t piece_of(uint64_t frame);
#endif
