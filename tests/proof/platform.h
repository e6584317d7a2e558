/* SPDX-License-Identifier: MIT
 *
 * The platform that core is proved on: see kernel/core/core.h for the contract, and
 * tests/proof/contracts.h for the tables, which need core.h's types.
 *
 * Sequential: a compare-and-swap fails at will, as if another CPU had been faster, but
 * nothing else changes between two accesses. Locks do nothing.
 */
#ifndef PLATFORM_H
#define PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fields.h"

#define HOT static
#define FLATTEN
#define NOINLINE
#define FLATTEN
#define NOINLINE
#define KASSERT(cond) ((void)(cond))
#define PROOF_FRAMES (1u << 26) /* what a frame word and a cref_t can name */

/*@ requires \valid(w);
    assigns *w;
    ensures \result == 0 || \result == 1;
    ensures \result == 1 ==> \old(*w) == expected && *w == desired;
    ensures \result == 0 ==> *w == \old(*w); */
bool word_cas(uint64_t *w, uint64_t expected, uint64_t desired);

/*@ requires \valid(w);
    assigns *w;
    ensures \old(*w) + delta < 0x10000000000000000 ==> *w == \old(*w) + delta;
    ensures \old(*w) + delta >= 0x10000000000000000 ==>
            *w == \old(*w) + delta - 0x10000000000000000; */
void word_add(uint64_t *w, uint64_t delta);

/*@ requires \valid(p);
    assigns *p;
    ensures *p == p_xor(\old(*p), bits); */
void entry_flip(uint64_t *p, uint64_t bits);
/*@ requires \valid(p);
    assigns *p;
    ensures \result == \old(*p) && *p == v; */
uint64_t entry_swap(uint64_t *p, uint64_t v);

/*@ requires \valid(p);
    assigns *p; */
uint64_t or_shared(uint64_t *p, uint64_t bits);
/*@ requires \valid(p);
    assigns *p; */
uint64_t clear_shared(uint64_t *p, uint64_t bits);

/* What user code shares may have any value at any time. */
/*@ requires \valid_read(p);
    assigns \result \from \nothing; */
uint64_t fetch(const uint64_t *p);
/*@ requires \valid_read(p);
    assigns \result \from \nothing; */
uint32_t fetch32(const uint32_t *p);

/*@ assigns \nothing; */
void barrier(void);
/*@ assigns \nothing; */
bool flush_alone(uint64_t va, uint64_t entry, bool now);
/*@ assigns \nothing; */
void flush_all(void);
/*@ assigns \nothing; */
void lock_tree(void);
/*@ assigns \nothing; */
void unlock_tree(void);
/*@ requires env < PROOF_FRAMES;
    assigns \nothing; */
void lock_env(uint32_t env);
/*@ requires env < PROOF_FRAMES;
    assigns \nothing; */
void unlock_env(uint32_t env);
/*@ assigns \nothing; */
uint64_t now(void);
/*@ assigns \nothing; */
void ipi_cpu(unsigned cpu);
/*@ requires irq < EXO_IRQ_COUNT;
    assigns \nothing; */
void irq_mask(unsigned irq);
/*@ requires irq < EXO_IRQ_COUNT;
    assigns \nothing; */
void irq_unmask(unsigned irq);
/*@ requires thread < PROOF_FRAMES;
    assigns \nothing; */
void fpu_forget(uint32_t thread);
/*@ requires port < 65536;
    assigns \nothing; */
uint32_t port_read(unsigned port, unsigned size);
/*@ requires port < 65536;
    assigns \nothing; */
void port_write(unsigned port, unsigned size, uint32_t value);
/*@ requires thread < PROOF_FRAMES;
    assigns \nothing; */
void fpu_init(uint32_t thread);

/* Atomic accesses, of 32 bits all. Nothing changes between two of them; a
 * compare-and-swap may fail at will. */
#define __atomic_load_n(p, order) (*(p))
#define __atomic_store_n(p, v, order) (*(p) = (v))
#define __atomic_fetch_or(p, v, order) atomic_or(p, v)
#define __atomic_fetch_and(p, v, order) atomic_and(p, v)
#define __atomic_compare_exchange_n(p, e, d, weak, done, failed) atomic_cas(p, e, d)
/*@ requires \valid(p);
    assigns *p;
    ensures \result == \old(*p) && *p == (\result | v); */
uint32_t atomic_or(uint32_t *p, uint32_t v);
/*@ requires \valid(p);
    assigns *p;
    ensures \result == \old(*p) && *p == (\result & v); */
uint32_t atomic_and(uint32_t *p, uint32_t v);
/*@ requires \valid(p) && \valid(expected) && \separated(p, expected);
    assigns *p, *expected;
    ensures \result != 0 ==> *p == desired && *expected == \old(*expected);
    ensures \result == 0 ==> *p == \old(*p) && *expected == *p; */
bool atomic_cas(uint32_t *p, uint32_t *expected, uint32_t desired);
/*@ requires x != 0;
    assigns \nothing;
    ensures 0 <= \result <= 31 && (x > 1 ==> \result <= 30); */
int leading_zeros(uint32_t x);
#define __builtin_clz(x) leading_zeros(x)
/*@ requires x != 0;
    assigns \nothing;
    ensures 0 <= \result <= 31; */
int trailing_zeros(uint32_t x);
/*@ requires x != 0;
    assigns \nothing;
    ensures 0 <= \result <= 63; */
int trailing_zeros_long(uint64_t x);
#define __builtin_ctz(x) trailing_zeros(x)
#define __builtin_ctzl(x) trailing_zeros_long(x)

struct thread *this_thread(void);
struct cpu *this_cpu(void);

/* What inline functions of core.h look at. */
#define PLATFORM_TABLES extern struct env envs[PROOF_FRAMES];

extern uint32_t nframes, ncpus;
extern uint64_t slot_ticks;
extern bool huge_pages;
#endif
