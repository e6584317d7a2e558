/* SPDX-License-Identifier: MIT
 *
 * The machine's clock. */
#ifndef LX_CLOCK_H
#define LX_CLOCK_H
#include <stdint.h>

/* Seconds since 1970 of the battery-backed clock (MC146818A: registers behind ports 0x70 and
 * 0x71, which the configuration gives: ports=70-71), taken to show UTC. 0: the ports were not
 * given, or it shows no time. */
uint64_t clock_read(void);
#endif
