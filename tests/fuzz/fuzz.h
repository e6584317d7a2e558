/* SPDX-License-Identifier: MIT
 *
 * What the parts of the core's fuzzer share: its choices.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "../../kernel/core/vm.h"

uint64_t random64(void);
static inline uint64_t pick(uint64_t n) { return random64() % n; }
static inline bool chance(uint64_t n) { return pick(n) == 0; }

/* Virtual machines have tables and control blocks of one vendor's kind from now on. */
void machine_choose(bool vmx);
/* t, which may be entered, runs in guest mode until it exits for whatever reason. */
void guest_run(struct thread *t);
/* The monitor writes something into t's page, that may be allowed or not, and chooses the
 * groups of its reply. */
void monitor_write(const struct thread *t, uint64_t *set, uint64_t *get);
/* Whatever was asked for, what virtual CPU t has is allowed. */
void vcpu_check_allowed(struct thread *t);
#endif
