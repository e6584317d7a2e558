/* SPDX-License-Identifier: MIT
 *
 * What the proof of page.c says of two states, and lemmas of it: those who have no need of them
 * would only be slowed down.
 */
#ifndef PAGES_H
#define PAGES_H
#include "contracts.h"

/* To clang-format two dots are no operator, and clauses no statements. */
/* clang-format off */
#define BINDS_EXACTLY                                                                              \
    requires invariants && held; assigns BINDS, caps[0 .. 0xffffffff].bindings;                    \
    ensures invariants; ensures owed: owed_kept{Pre,Here};                                         \
    ensures -EXO_E_NOVM <= \result <= n;
#define UNBINDS                                                                                    \
    requires invariants && the_cpu.pend_count == 0;                                                \
    assigns BINDS, caps[0 .. 0xffffffff].bindings, the_cpu.pend_count,                             \
      the_cpu.pend[0 .. PEND_MAX - 1];                                                             \
    ensures invariants; ensures -EXO_E_NOVM <= \result <= n;
/* clang-format on */

/* What the capabilities name depends on the frames' types and owners, not on their counts. */
/*@ predicate types_kept{A,B} = \at(nframes, A) == \at(nframes, B) &&
      \forall integer x; 0 <= x < \at(nframes, B) ==>
      w_type(\at(words[x], A)) == w_type(\at(words[x], B)) &&
      w_owner(\at(words[x], A)) == w_owner(\at(words[x], B));
    predicate names_kept{A,B} = \at(the_cpu.cur, A) == \at(the_cpu.cur, B) &&
      (\forall integer c; 0 <= c < 0x100000000 ==>
       \at(caps[c].kind, A) == \at(caps[c].kind, B) && \at(caps[c].env, A) == \at(caps[c].env, B) &&
       \at(caps[c].base, A) == \at(caps[c].base, B) && \at(caps[c].count, A) == \at(caps[c].count, B) &&
       \at(caps[c].badge, A) == \at(caps[c].badge, B)) &&
      (\forall integer e; 0 <= e < PROOF_FRAMES ==>
       \at(envs[e].root, A) == \at(envs[e].root, B) && \at(envs[e].nsel, A) == \at(envs[e].nsel, B) &&
       \at(envs[e].tables, A) == \at(envs[e].tables, B)) &&
      (\forall integer t; 0 <= t < PROOF_FRAMES ==>
       \at(threads[t].env, A) == \at(threads[t].env, B) &&
       \at(threads[t].upcall, A) == \at(threads[t].upcall, B));
    lemma envs_kept{A,B}: types_kept{A,B} && names_kept{A,B} && 0 < \at(nframes, A) <= PROOF_FRAMES ==>
      \forall integer e; 0 <= e && \at(env_ok(e), A) ==> \at(env_ok(e), B);
    lemma threads_kept{A,B}: types_kept{A,B} && names_kept{A,B} && 0 < \at(nframes, A) <= PROOF_FRAMES ==>
      \forall integer t; \at(thread_ok(t), A) ==> \at(thread_ok(t), B);
    predicate hung{A,B}(integer f) = \at(nframes, A) == \at(nframes, B) &&
      w_type(\at(words[f], A)) == EXO_FT_PLAIN &&
      (\forall integer k; 0 <= k < 512 ==> !p_present(\at(tables[f].e[k], B))) &&
      (\forall integer x; 0 <= x < \at(nframes, B) && x != f ==> \at(words[x], A) == \at(words[x], B)) &&
      (\forall integer x, k; 0 <= x < \at(nframes, B) && 0 <= k < 512 && x != f ==>
       \at(tables[x].e[k], A) == \at(tables[x].e[k], B));
    lemma tree_hung{A,B}: \forall integer f; hung{A,B}(f) && \at(tree, A) ==> \at(tree, B);
    predicate leads{L}(integer t, integer i) =
      EXO_FT_PT2 <= w_type(words[t]) <= EXO_FT_PT4 && p_present(tables[t].e[i]) &&
      (w_type(words[t]) == EXO_FT_PT4 || !p_large(tables[t].e[i])) ==>
      0 < p_frame(tables[t].e[i]) < nframes &&
      w_type(words[p_frame(tables[t].e[i])]) == w_type(words[t]) - 1 &&
      w_owner(words[p_frame(tables[t].e[i])]) == w_owner(words[t]);
    predicate wrote{A,B}(integer t, integer i) = types_kept{A,B} && leads{B}(t, i) &&
      (\forall integer x, k; 0 <= x < \at(nframes, B) && 0 <= k < 512 && (x != t || k != i) ==>
       \at(tables[x].e[k], A) == \at(tables[x].e[k], B));
    lemma tree_wrote{A,B}: \forall integer t, i; wrote{A,B}(t, i) && \at(tree, A) ==> \at(tree, B);
    predicate formats_kept{A,B} = \forall integer e; 0 <= e < PROOF_FRAMES ==>
      p_format(\at(envs[e].flags, A)) == p_format(\at(envs[e].flags, B));
    predicate wrote_one{A,B}(integer t, integer i) = types_kept{A,B} && formats_kept{A,B} &&
      (\forall integer x, k; 0 <= x < \at(nframes, B) && 0 <= k < 512 && (x != t || k != i) ==>
       \at(tables[x].e[k], A) == \at(tables[x].e[k], B));
    lemma envs_hung{A,B}: \forall integer f; hung{A,B}(f) && names_kept{A,B} &&
      0 < \at(nframes, A) <= PROOF_FRAMES ==>
      \forall integer e; 0 <= e && \at(env_ok(e), A) ==> \at(env_ok(e), B);
    lemma objects_hung{A,B}: \forall integer f; hung{A,B}(f) && names_kept{A,B} &&
      0 < \at(nframes, A) <= PROOF_FRAMES && \at(objects, A) ==> \at(objects, B);
    lemma objects_kept{A,B}: types_kept{A,B} && names_kept{A,B} && 0 < \at(nframes, A) <= PROOF_FRAMES &&
      \at(objects, A) ==> \at(objects, B); */

/* How many entries of e's tables, of all levels, are bound through selector sel: `through`.
 * It is a number of elements; the axioms say no more than what holds of any such number:
 * it is that of before where no other element came or went, but for the one at (t, i).
 * `owed`: how many more bindings capability c counts. `held`: a capability's holder is the
 * env whose table it is in. */
/*@ predicate names{L}(integer t, integer i, integer e, integer sel) = 0 <= e < PROOF_FRAMES && 0 <= t < nframes &&
      0 <= i < 512 && EXO_FT_PT1 <= w_type(words[t]) <= EXO_FT_PT4 && w_owner(words[t]) == e &&
      (w_type(words[t]) == EXO_FT_PT4 ==> user_slot(i)) && p_present(tables[t].e[i]) &&
      e_sel(e, tables[t].e[i]) == sel;
    predicate renamed{A,B}(integer t, integer i) = \forall integer x, k, e, sel; x != t || k != i ==>
      (names{A}(x, k, e, sel) <==> names{B}(x, k, e, sel));
    predicate unmoved{A,B} = \forall integer x, k, e, sel;
      names{A}(x, k, e, sel) <==> names{B}(x, k, e, sel);
    axiomatic numbers {
      logic integer through{L}(integer e, integer sel)
        reads nframes, words[0 .. 0xffffffff], tables[0 .. PROOF_FRAMES - 1],
              envs[0 .. PROOF_FRAMES - 1].flags;
      predicate through_kept{A,B} = \forall integer e, sel; through{A}(e, sel) == through{B}(e, sel);
      axiom through_none{L}: \forall integer e, sel; through(e, sel) >= 0 &&
        (through(e, sel) == 0 <==> \forall integer t, i; !names(t, i, e, sel));
      axiom through_same{A,B}: unmoved{A,B} ==> through_kept{A,B};
      axiom through_step{A,B}: \forall integer t, i; renamed{A,B}(t, i) ==>
        \forall integer e, sel;
        ((names{A}(t, i, e, sel) <==> names{B}(t, i, e, sel)) ==>
         through{B}(e, sel) == through{A}(e, sel)) &&
        (!names{A}(t, i, e, sel) && names{B}(t, i, e, sel) ==>
         through{B}(e, sel) == through{A}(e, sel) + 1) &&
        (names{A}(t, i, e, sel) && !names{B}(t, i, e, sel) ==>
         through{B}(e, sel) == through{A}(e, sel) - 1);
    }
    logic integer sel_at{L}(integer c) = c - (caps[c].env + 3) * 64;
    logic integer owed{L}(integer c) = caps[c].bindings - through(caps[c].env, sel_at(c));
    predicate held = \forall integer e, sel; env_ok(e) && 0 <= sel < envs[e].nsel &&
      caps[cap_at(e, sel)].kind != EXO_NONE ==> caps[cap_at(e, sel)].env == e;
    predicate owed_kept{A,B} = \forall integer c; 0 <= c < 0x100000000 ==> owed{A}(c) == owed{B}(c); */

/* From A to B nothing but entries of e's tables of level l were made, each through selector
 * sel, of capability c, with rights r, for frames within it that may be bound so. */
/*@ predicate may_bind(integer f, integer r) =
      counted(f) ==> bindable(words[f], r == 3 || r == 7 ? 1 : 0);
    predicate made{A,B}(integer e, integer l, integer c, integer sel, integer r) =
      \forall integer t, i; 0 <= t < \at(nframes, B) && 0 <= i < 512 &&
      \at(tables[t].e[i], A) != \at(tables[t].e[i], B) ==>
      !p_present(\at(tables[t].e[i], A)) && is_table{B}(t, l, e) && p_present(\at(tables[t].e[i], B)) &&
      p_sel(p_format(\at(envs[e].flags, B)), \at(tables[t].e[i], B)) == sel &&
      p_rights(p_format(\at(envs[e].flags, B)), \at(tables[t].e[i], B)) == r &&
      covers(\at(caps[c].base, B), \at(caps[c].count, B), p_frame(\at(tables[t].e[i], B)), v_pages(l)) &&
      (l == 1 ==> may_bind{B}(p_frame(\at(tables[t].e[i], B)), r)); */
#endif
