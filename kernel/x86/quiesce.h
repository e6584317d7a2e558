/* SPDX-License-Identifier: MIT
 *
 * Quiesce rounds: see quiesce.c.
 */
#ifndef QUIESCE_H
#define QUIESCE_H

#include <stdbool.h>
#include <stdint.h>

/* Takes part in all rounds so far. */
void quiesce_serve(void);
/* Returns when all CPUs of the mask have taken part in a round that began just now. */
void quiesce(uint64_t mask);
/* The round that this CPU's pending unbindings need. */
void quiesce_pending(void);

/* check.c: invariants in debug builds; nothing in others */
#ifdef EXO_DEBUG
void check_begin(void);
bool check_holding(void);
void check_tick(void);
#else
static inline void check_begin(void) {}
static inline bool check_holding(void) { return false; }
static inline void check_tick(void) {}
#endif
#endif
