/* SPDX-License-Identifier: MIT
 *
 * What is proved: the tables as arrays of their greatest size, what is assumed of them,
 * and the contracts of core's functions that other files call. Contracts of static
 * functions stand with them. bits.h (made by bits.py) defines frame words (w_...) and
 * page-table entries (p_...).
 */
#ifndef CONTRACTS_H
#define CONTRACTS_H
#include "../../kernel/core/core.h"
#include "fields.h"

/* A frame word's fields: core's macros as functions (proved in fields.c), so that the
 * provers need not see the bits. */
#undef EXO_FW_TYPE
#undef EXO_FW_BINDINGS
#define EXO_FW_TYPE(w) word_type_of(w)
#define EXO_FW_BINDINGS(w) word_bindings_of(w)
/* Negation modulo 2^64, which WP does not know. */
/*@ axiomatic negate {
      axiom negate: \forall integer x; 0 < x < 0x10000000000000000 ==>
        (uint64_t)(-x) == 0x10000000000000000 - x;
    } */

#define NF PROOF_FRAMES
extern struct table tables[NF];
extern struct env envs[NF];
extern struct thread threads[NF];
extern struct cap caps[NF * 64ul];
extern struct exo_upcall_page upcalls[NF];
extern struct exo_vector vectors[NF];
extern uint64_t words[NF], blocks2m[NF >> 9], blocks1g[NF >> 18];
extern struct exo_slot slots[EXO_MAX_CPUS * EXO_SLOTS_PER_CPU];
extern struct exo_irq irqs[EXO_IRQ_COUNT];
extern struct cpu the_cpu; /* the one that core runs on */

/*@ assigns \nothing;
    ensures \result == &the_cpu; */
struct cpu *this_cpu(void);

/*@ predicate machine = 0 < nframes <= NF;
    predicate counted(integer f) = 0 <= f < nframes && w_type(words[f]) != EXO_FT_DEVICE;
    predicate bindable(integer w, integer writable) =
      w_type(w) == EXO_FT_PLAIN || (writable == 0 && (w_type(w) == EXO_FT_TABLE ||
      EXO_FT_PT1 <= w_type(w) <= EXO_FT_PT4)); */

/* ---- words.c ---- */

/*@ requires machine;
    assigns words[f];
    ensures \result == 0 || \result == -EXO_E_TYPE || \result == -EXO_E_LIMIT ||
            \result == -EXO_E_AGAIN;
    ensures refused: \result != 0 || !\old(counted(f)) ==> f < nframes ==>
            words[f] == \old(words[f]);
    ensures safe: \result == 0 && \old(counted(f)) ==> bindable(words[f], writable);
    ensures exact: \result == 0 && \old(counted(f)) ==> words[f] == \old(words[f]) + 1 &&
            w_bindings(words[f]) == w_bindings(\old(words[f])) + 1;
    ensures type: f < nframes ==> w_type(words[f]) == w_type(\old(words[f])); */
long word_bind(frame_t f, bool writable);

/*@ requires machine;
    requires counted(f) ==> w_bindings(words[f]) != 0;
    assigns words[f];
    ensures exact: \old(counted(f)) ==> words[f] == \old(words[f]) - 1 &&
            w_bindings(words[f]) == w_bindings(\old(words[f])) - 1;
    ensures uncounted: f < nframes && !\old(counted(f)) ==> words[f] == \old(words[f]);
    ensures type: f < nframes ==> w_type(words[f]) == w_type(\old(words[f])); */
void word_unbind(frame_t f);

/*@ requires machine && type <= 15 && owner < NF;
    requires f < nframes ==> blocks2m[f >> 9] < 0xffffffff00000000 &&
             blocks1g[f >> 18] < 0xffffffff00000000;
    assigns words[f], blocks2m[f >> 9], blocks1g[f >> 18];
    ensures -EXO_E_TODO <= \result <= 0;
    ensures was: \result == 0 ==> 0 < f < nframes && w_type(\old(words[f])) == EXO_FT_PLAIN &&
            w_bindings(\old(words[f])) == 0;
    ensures exclusion: \result == 0 ==> w_bindings(\old(blocks2m[f >> 9])) == 0 &&
            w_bindings(\old(blocks1g[f >> 18])) == 0;
    ensures is: \result == 0 ==> w_type(words[f]) == type && w_bindings(words[f]) == 0;
    ensures counts: \result == 0 ==>
            blocks2m[f >> 9] == \old(blocks2m[f >> 9]) + 0x100000000 &&
            blocks1g[f >> 18] == \old(blocks1g[f >> 18]) + 0x100000000;
    ensures refused: \result != 0 && f < nframes ==> words[f] == \old(words[f]) &&
            blocks2m[f >> 9] == \old(blocks2m[f >> 9]) &&
            blocks1g[f >> 18] == \old(blocks1g[f >> 18]); */
long word_type(frame_t f, unsigned type, frame_t owner);

/*@ requires machine && f < nframes && w_type(words[f]) >= EXO_FT_PT1;
    requires blocks2m[f >> 9] >= 0x100000000 && blocks1g[f >> 18] >= 0x100000000;
    assigns words[f], blocks2m[f >> 9], blocks1g[f >> 18];
    ensures w_type(words[f]) == EXO_FT_PLAIN;
    ensures w_bindings(words[f]) == w_bindings(\old(words[f]));
    ensures blocks2m[f >> 9] == \old(blocks2m[f >> 9]) - 0x100000000;
    ensures blocks1g[f >> 18] == \old(blocks1g[f >> 18]) - 0x100000000; */
void word_untype(frame_t f);

/*@ requires machine && (level == 2 || level == 3);
    assigns blocks2m[f >> 9], blocks1g[f >> 18];
    ensures -EXO_E_TODO <= \result <= 0;
    ensures inside: \result == 0 && f < nframes && level == 2 ==> f + 511 < nframes;
    ensures inside1g: \result == 0 && f < nframes && level == 3 ==> f + 262143 < nframes;
    ensures two: \result == 0 && f < nframes && level == 2 ==>
            \old(blocks2m[f >> 9]) >> 32 == 0 &&
            blocks2m[f >> 9] == \old(blocks2m[f >> 9]) + 1;
    ensures three: \result == 0 && f < nframes && level == 3 ==>
            \old(blocks1g[f >> 18]) >> 32 == 0 &&
            blocks1g[f >> 18] == \old(blocks1g[f >> 18]) + 1;
    ensures only2: level == 3 || \result != 0 ==> f < nframes ==>
            blocks2m[f >> 9] == \old(blocks2m[f >> 9]);
    ensures only3: level == 2 || \result != 0 ==> f < nframes ==>
            blocks1g[f >> 18] == \old(blocks1g[f >> 18]); */
long word_bind_large(frame_t f, unsigned level);

/*@ requires machine && (level == 2 || level == 3);
    requires f < nframes && level == 2 ==> w_bindings(blocks2m[f >> 9]) != 0;
    requires f < nframes && level == 3 ==> w_bindings(blocks1g[f >> 18]) != 0;
    assigns blocks2m[f >> 9], blocks1g[f >> 18];
    ensures two: f < nframes && level == 2 ==>
            blocks2m[f >> 9] == \old(blocks2m[f >> 9]) - 1;
    ensures three: f < nframes && level == 3 ==>
            blocks1g[f >> 18] == \old(blocks1g[f >> 18]) - 1;
    ensures only2: level == 3 && f < nframes ==> blocks2m[f >> 9] == \old(blocks2m[f >> 9]);
    ensures only3: level == 2 && f < nframes ==> blocks1g[f >> 18] == \old(blocks1g[f >> 18]); */
void word_unbind_large(frame_t f, unsigned level);
#endif
