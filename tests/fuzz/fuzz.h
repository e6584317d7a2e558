/* SPDX-License-Identifier: MIT
 *
 * What the parts of the core's fuzzer share: its choices.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "../../kernel/core/vm.h"

#define FRAMES 2048 /* of the machine */

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

/* Around each call: whatever it is given, it may not do more than fuzz_rules.c says. `r` is what
 * it returned. */
void rules_before(const char *call, const uint64_t *a);
void rules_after(const char *call, const uint64_t *a, long r);
/* A processor caches the entry at `index` of `table`, a leaf whose accessed bit is set; forgets
 * all; forgets a native entry that went; forgets what waited for that CPU's round. */
void translation_cache(frame_t table, unsigned index);
void translations_forget(void);
void translation_drop(uint64_t entry);
void translations_round(unsigned cpu);
/* After each step of this CPU: what is cached and is no more waits for its round. */
void translations_check(void);
#endif
