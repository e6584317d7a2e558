/* SPDX-License-Identifier: MIT
 *
 * Memory that root lent us and can ask back: loan.c. */
#ifndef LX_LOAN_H
#define LX_LOAN_H
#include "../../../../lib/exo/exo.h"

#define LOAN_EVENTS (EXO_EVENT_REVOKE | EXO_EV_LOAN)

/* Takes what was lent into use; after memory_init. */
void loan_init(void);
/* Some of LOAN_EVENTS came. */
void loan_events(uint64_t events);
#endif
