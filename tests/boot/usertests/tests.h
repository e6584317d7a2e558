/* SPDX-License-Identifier: MIT
 *
 * Tests inside the system: one program, which starts children of its own image.
 * See runner.h. */
#ifndef USERTESTS_H
#define USERTESTS_H
#include "../../runner/runner.h"

#define TEST_VA 0x0000000060000000ul /* 2 MiB aligned; the tests' own addresses */
#define MEM exo.start.sel_memory
#define FAR_VA 0x0000300000000000ul /* nothing is ever bound near it */

/* ---- probing: accesses that may fault --------------------------------------------- */
/* 0, or 1 + the vector of the exception; probe_error has its error code. */
int probe_read(uint64_t va, uint64_t *value);
int probe_write(uint64_t va, uint64_t value);
int probe_run(uint64_t va);
extern uint64_t probe_error, probe_addr;
void probe_init(void);
/* A system call by number with six arguments, whatever it is. */
long raw_call(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
              uint64_t f);

/* ---- children ------------------------------------------------------------------------- */
#define KID_FRAMES 1024
#define KID_TABLES 1
#define KID_CONSOLE 7 /* selectors of a kid, after the text's */
#define KID_GIVEN 8 /* the first that its test gave it */
struct kid {
    struct exo_child child;
    uint64_t bits[EXO_POOL_WORDS(KID_FRAMES)];
};
/* Makes a child that will run the function of that name (kids in main.c), not started. */
long kid_make(struct kid *kid, const char *function, unsigned cpu);
long kid_start(struct kid *kid);
/* Gives it our capability src; must come in the order that its function expects. */
long kid_give(struct kid *kid, uint32_t src, unsigned rights, uint64_t base, uint64_t count);
/* What the function returned; -1000 - vector when it died of a fault; -1 after us. */
long kid_wait(struct kid *kid, uint64_t us);
long kid_end(struct kid *kid);
#define KID_TIME 10000000 /* microseconds that nothing should need */

struct kid_function {
    const char *name;
    long (*run)(void);
};
extern const struct kid_function kid_functions[];

/* Spins until *flag is value, or us have passed: false. */
bool spin_until(volatile uint32_t *flag, uint32_t value, uint64_t us);
void sleep_us(uint64_t us);
/* Base of our capability sel; count to *count. -1 when empty. */
long cap_base(uint64_t sel, uint64_t *count);
/* Fresh frames of our own, or 0. */
uint64_t frames(uint64_t n);
void give_back(uint64_t frame, uint64_t n);

extern const struct test cap_tests[], page_tests[], thread_tests[], call_tests[], device_tests[],
    more_tests[], hostile_tests[], hostile2_tests[], point_tests[], fault_tests[], stale_tests[],
    error_tests[], item_tests[], channel_tests[];
long kid_echo(void), kid_spin(void), kid_exit7(void), kid_ud2(void), kid_fault_in_handler(void);
long kid_hostile_pointers(void), kid_pager_fifo(void), kid_pager_clock(void), kid_pager_mru(void);
long kid_gives(void), kid_ignores(void), kid_tables(void), kid_hold(void), kid_call(void);
long kid_fuzz(void), kid_own_frames(void), kid_faults(void), kid_handler_faults(void);
long kid_writes(void), kid_sends(void), kid_works(void), kid_owns(void);
long kid_channel(void);
#endif
