/* SPDX-License-Identifier: MIT
 *
 * What the files of the benchmarks share. */
#ifndef BENCH_H
#define BENCH_H
#include "../../lib/exo/exo.h"

#define RUNS 201

extern uint64_t sample[RUNS];
/* The median of sample[], which it sorts, less what measuring nothing gives. */
uint64_t median_over(uint64_t nothing);
/* Switches, crossings and flushes from begin() to end(), in n operations, belong to what
 * report() says next. */
void begin(void);
void end(uint64_t n);
void report(const char *name, uint64_t value, const char *unit);

/* An answer that must be this: a wrong figure is worse than none. */
void must(long got, long wanted, const char *what);
#define MUST(call, value) must((long)(call), (long)(value), #call)

void bench_vms(void); /* vm.c */
#endif
