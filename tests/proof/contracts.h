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
extern struct table tables[PROOF_FRAMES];
extern struct env envs[PROOF_FRAMES];
extern struct thread threads[PROOF_FRAMES];
extern struct cap caps[PROOF_FRAMES * 64ul];
extern struct exo_upcall_page upcalls[PROOF_FRAMES];
extern struct exo_vector vectors[PROOF_FRAMES];
extern uint64_t words[PROOF_FRAMES], blocks2m[PROOF_FRAMES >> 9], blocks1g[PROOF_FRAMES >> 18];
extern uint64_t lines[PROOF_FRAMES];
extern struct exo_slot slots[EXO_MAX_CPUS * EXO_SLOTS_PER_CPU];
extern struct exo_irq irqs[EXO_IRQ_COUNT];
extern struct cpu the_cpu; /* the one that core runs on */

/*@ assigns \nothing;
    ensures \result == &the_cpu; */
struct cpu *this_cpu(void);
/*@ assigns \nothing;
    ensures \result == &threads[the_cpu.cur]; */
struct thread *this_thread(void);

/* What core may take from any memory: everything that it counts. */
/* To clang-format two dots are no operator. */
/* clang-format off */
#define BINDS                                                                                      \
    tables[0 .. PROOF_FRAMES - 1].e[0 .. 511], words[0 .. 0xffffffff], blocks2m[0 .. 0xffffffff],            \
        blocks1g[0 .. 0xffffffff], lines[0 .. PROOF_FRAMES - 1]
/* clang-format on */
#define SUBSET(a, b) (((uint32_t)(a) & (uint32_t)(~(uint32_t)(b))) == 0)

/*@ predicate machine = 0 < nframes <= PROOF_FRAMES;
    predicate counted(integer f) = 0 <= f < nframes && w_type(words[f]) != EXO_FT_DEVICE;
    predicate bindable(integer w, integer writable) =
      w_type(w) == EXO_FT_PLAIN || (writable == 0 && (w_type(w) == EXO_FT_TABLE ||
      EXO_FT_PT1 <= w_type(w) <= EXO_FT_PT4)); */

/* Tables lead to tables of the next level: what every walk relies on. */
/*@ predicate is_table(integer f, integer level, integer e) =
      0 < f < nframes && w_type(words[f]) == EXO_FT_PT1 + level - 1 && w_owner(words[f]) == e;
    predicate user_slot(integer i) = i < 256 || i >= 272;
    predicate tree = \forall integer t, i; 0 <= t < nframes && 0 <= i < 512 &&
      EXO_FT_PT2 <= w_type(words[t]) <= EXO_FT_PT4 &&
      (w_type(words[t]) == EXO_FT_PT4 ==> user_slot(i)) && p_present(tables[t].e[i]) &&
      (w_type(words[t]) == EXO_FT_PT4 || !p_large(tables[t].e[i])) ==>
      0 < p_frame(tables[t].e[i]) < nframes &&
      w_type(words[p_frame(tables[t].e[i])]) == w_type(words[t]) - 1 &&
      w_owner(words[p_frame(tables[t].e[i])]) == w_owner(words[t]); */

#define OBJECT_END (PROOF_FRAMES - 3) /* an object's frame is below; others of it follow */
/*@ predicate caps_in = \forall integer c; 0 <= c < 0x100000000 && (caps[c].kind == EXO_THREAD ||
      caps[c].kind == EXO_GATE || caps[c].kind == EXO_EVENT) ==> caps[c].base < OBJECT_END; */
/*@ logic integer cap_at(integer e, integer sel) = (e + 3) * 64 + sel;
    predicate covers(integer base, integer count, integer first, integer n) =
      base <= first < base + count && first + n <= base + count;
    predicate env_ok(integer e) = 0 < e && e + 3 + envs[e].tables <= nframes &&
      1 <= envs[e].tables <= EXO_TAB_MAX && envs[e].nsel == envs[e].tables * 64 &&
      envs[e].root == e + 1 && is_table(e + 1, 4, e);
    predicate thread_ok(integer t) = 0 < t < nframes && threads[t].env < PROOF_FRAMES && threads[t].upcall < nframes &&
      env_ok(threads[t].env);
    predicate cap_ok(integer c) = caps[c].env < PROOF_FRAMES - 3 &&
      (caps[c].kind == EXO_SLOTS ==>
       caps[c].base + caps[c].count <= EXO_MAX_CPUS * EXO_SLOTS_PER_CPU) &&
      (caps[c].kind == EXO_IRQS ==> caps[c].base + caps[c].count <= EXO_IRQ_COUNT) &&
      (caps[c].kind == EXO_PORTS ==> caps[c].base + caps[c].count <= 65536) &&
      (caps[c].kind == EXO_GATE || caps[c].kind == EXO_EVENT ==> thread_ok(caps[c].base)) &&
      (caps[c].kind == EXO_FRAMES ==> (caps[c].badge == 0 || caps[c].badge == CACHE_UC) &&
       caps[c].base + caps[c].count <= 0x100000000) &&
      (caps[c].kind == EXO_ENV ==> env_ok(caps[c].base)) &&
      (caps[c].kind == EXO_THREAD ==> thread_ok(caps[c].base));
    predicate objects = \forall integer c; 0 <= c < 0x100000000 ==> cap_ok(c);
    predicate invariants = machine && tree && objects && thread_ok(the_cpu.cur); */

/* clang-format off */
#define apart(p)                                                                                   \
    \separated(p, &caps[0 .. 0xffffffff], &words[0 .. 0x3ffffff], &blocks2m[0 .. 0x1ffff],        \
               &blocks1g[0 .. 0xff], &tables[0 .. 0x3ffffff], &envs[0 .. 0x3ffffff],               \
               &threads[0 .. 0x3ffffff], &slots[0 .. 2047], &irqs[0 .. EXO_IRQ_COUNT - 1],         \
               &upcalls[0 .. 0x3ffffff], &lines[0 .. 0x3ffffff], &nframes, &the_cpu)
/* clang-format on */
/* Results that a caller keeps on its stack. */
/*@ predicate local(uint32_t *p) = \separated(p, &words[0 .. PROOF_FRAMES - 1], &tables[0 .. PROOF_FRAMES - 1],
      &caps[0 .. 0xffffffff], &envs[0 .. PROOF_FRAMES - 1], &threads[0 .. PROOF_FRAMES - 1], &the_cpu, &nframes, &lines[0 .. PROOF_FRAMES - 1]); */

/*@ predicate va_ok(integer va) = 0 <= va < EXO_VA_END ||
      0xffff880000000000 <= va < 0x10000000000000000;
    predicate va_range(integer va, integer bytes) =
      (0 <= va && va + bytes <= EXO_VA_END) ||
      (0xffff880000000000 <= va && va + bytes <= 0x10000000000000000);
    logic integer level_bytes(integer l) = v_pages(l) * 4096;
    predicate pend_room = the_cpu.pend_count < PEND_MAX; */

/* What an entry of env e's tables remembers; is that capability marked by a revocation? */
/*@ logic integer e_format(integer e) = p_format(envs[e].flags);
    logic integer e_sel(integer e, integer x) = p_sel(e_format(e), x);
    predicate dying(integer e, integer sel) =
      (caps[(uint32_t)((e + 3) * 64 + sel)].flags & CAP_DYING) != 0;
    predicate table_empty(integer t, integer level) = \forall integer i; 0 <= i < 512 &&
      (level == 4 ==> user_slot(i)) ==> !p_present(tables[t].e[i]);
    predicate sweep_ok(integer e) = v_swept(envs[e].sweep_va) &&
      (envs[e].doomed != 0 ==> 1 <= envs[e].doomed_level <= 3 && envs[e].doomed_sel < 16384 &&
       is_table(envs[e].doomed, envs[e].doomed_level, e)); */

/* Only a virtual machine's env has tables in EPT's format (env_make). */
/*@ predicate formats = \forall integer e; 0 <= e < PROOF_FRAMES && e_format(e) != 0 ==>
      (envs[e].flags & ENV_VM) != 0; */

/* The walk of va from e's top table came to table t of level l, through nothing dying. */
/*@ predicate step(integer e, integer x) = p_present(x) && !dying(e, e_sel(e, x));
    logic integer entry4(integer e, integer va) = tables[e + 1].e[v_index(va, 4)];
    logic integer entry3(integer e, integer va) =
      tables[p_frame(entry4(e, va))].e[v_index(va, 3)];
    logic integer entry2(integer e, integer va) =
      tables[p_frame(entry3(e, va))].e[v_index(va, 2)];
    logic integer entry1(integer e, integer va) =
      tables[p_frame(entry2(e, va))].e[v_index(va, 1)];
    predicate path(integer e, integer va, integer l, integer t) =
      (l == 4 ==> t == e + 1) &&
      (l <= 3 ==> step(e, entry4(e, va)) && is_table(p_frame(entry4(e, va)), 3, e)) &&
      (l == 3 ==> t == p_frame(entry4(e, va))) &&
      (l <= 2 ==> step(e, entry3(e, va)) && !p_large(entry3(e, va)) &&
                  is_table(p_frame(entry3(e, va)), 2, e)) &&
      (l == 2 ==> t == p_frame(entry3(e, va))) &&
      (l == 1 ==> step(e, entry2(e, va)) && !p_large(entry2(e, va)) &&
                  is_table(p_frame(entry2(e, va)), 1, e) && t == p_frame(entry2(e, va))); */
/*@ predicate stops(integer e, integer x, integer l) = !p_present(x) ||
      (l < 4 && p_large(x)) || dying(e, e_sel(e, x)); */
/* Nothing is bound at va through a dying capability, nor a table on its way. */
/*@ predicate clean(integer e, integer x) = !p_present(x) || !dying(e, e_sel(e, x));
    predicate walk_clean(integer e, integer va) = clean(e, entry4(e, va)) &&
      (p_present(entry4(e, va)) ==> clean(e, entry3(e, va)) &&
       (p_present(entry3(e, va)) && !p_large(entry3(e, va)) ==> clean(e, entry2(e, va)) &&
        (p_present(entry2(e, va)) && !p_large(entry2(e, va)) ==> clean(e, entry1(e, va)))));
    predicate part_clean(integer e, integer va, integer l) = \forall integer x;
      0 <= x < 0x10000000000000000 && v_index(x, 4) == v_index(va, 4) &&
      (l <= 3 ==> v_index(x, 3) == v_index(va, 3)) &&
      (l <= 2 ==> v_index(x, 2) == v_index(va, 2)) ==> walk_clean(e, x); */
/* What the second phase gives back, as pend_add recorded it: counts that are there. */
/*@ logic integer entry_cap(integer e, integer x) = (uint32_t)((e + 3) * 64 + e_sel(e, x));
    predicate pend_ok(integer x, integer level) =
      (level > PEND_TABLE ==> p_frame(x) < nframes && w_type(words[p_frame(x)]) >= EXO_FT_PT1 &&
        blocks2m[p_frame(x) >> 9] >= 0x100000000 && blocks1g[p_frame(x) >> 18] >= 0x100000000) &&
      (level == 1 && counted(p_frame(x)) ==> w_bindings(words[p_frame(x)]) != 0) &&
      (level == 2 && p_frame(x) < nframes ==> w_bindings(blocks2m[p_frame(x) >> 9]) != 0) &&
      (level == 3 && p_frame(x) < nframes ==> w_bindings(blocks1g[p_frame(x) >> 18]) != 0); */

/* The entries of e's tables name frames capabilities of e. That they go on doing so is
 * exactness of counts over whole histories: shown by the fuzzers (kernel/core/invariants.c,
 * 2 and 3), assumed here where an entry's capability is looked at again. */
/*@ predicate bound_ok(integer e) = \forall integer t, i; 0 <= t < nframes && 0 <= i < 512 &&
      EXO_FT_PT1 <= w_type(words[t]) <= EXO_FT_PT4 && w_owner(words[t]) == e &&
      p_present(tables[t].e[i]) ==> e_sel(e, tables[t].e[i]) < envs[e].nsel &&
      caps[cap_at(e, e_sel(e, tables[t].e[i]))].kind == EXO_FRAMES; */

/* ---- what the machine layer does ---- */

/*@ requires x != 0;
    assigns \nothing;
    ensures 0 <= \result < 64 && (x & ((1 << \result) - 1)) == 0 && ((x >> \result) & 1) != 0;
    ensures (x & 1) == 0 ==> \result > 0; */
int __builtin_ctzll(unsigned long long x);

/*@ requires frame < nframes;
    assigns tables[frame].e[0 .. 511];
    ensures \forall integer i; 0 <= i < 512 ==> tables[frame].e[i] == 0; */
void table_clear(uint32_t frame);

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
    ensures type: f < nframes ==> w_type(words[f]) == w_type(\old(words[f])) &&
            w_owner(words[f]) == w_owner(\old(words[f])); */
long word_bind(frame_t f, bool writable);

/*@ requires machine;
    requires ready: counted(f) ==> w_bindings(words[f]) != 0;
    assigns words[f];
    ensures exact: \old(counted(f)) ==> words[f] == \old(words[f]) - 1 &&
            w_bindings(words[f]) == w_bindings(\old(words[f])) - 1;
    ensures uncounted: f < nframes && !\old(counted(f)) ==> words[f] == \old(words[f]);
    ensures type: f < nframes ==> w_type(words[f]) == w_type(\old(words[f])) &&
            w_owner(words[f]) == w_owner(\old(words[f])); */
void word_unbind(frame_t f);

/*@ requires machine && type <= 15 && (f < nframes ==> owner < PROOF_FRAMES);
    requires ready: f < nframes ==> blocks2m[f >> 9] < 0xffffffff00000000 &&
             blocks1g[f >> 18] < 0xffffffff00000000;
    assigns words[f], blocks2m[f >> 9], blocks1g[f >> 18];
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures was: \result == 0 ==> 0 < f < nframes && w_type(\old(words[f])) == EXO_FT_PLAIN &&
            w_bindings(\old(words[f])) == 0;
    ensures exclusion: \result == 0 ==> w_bindings(\old(blocks2m[f >> 9])) == 0 &&
            w_bindings(\old(blocks1g[f >> 18])) == 0;
    ensures is: \result == 0 ==> w_type(words[f]) == type && w_bindings(words[f]) == 0 &&
            w_owner(words[f]) == owner;
    ensures counts: \result == 0 ==>
            blocks2m[f >> 9] == \old(blocks2m[f >> 9]) + 0x100000000 &&
            blocks1g[f >> 18] == \old(blocks1g[f >> 18]) + 0x100000000;
    ensures refused: \result != 0 && f < nframes ==> words[f] == \old(words[f]) &&
            blocks2m[f >> 9] == \old(blocks2m[f >> 9]) &&
            blocks1g[f >> 18] == \old(blocks1g[f >> 18]); */
long word_type(frame_t f, unsigned type, frame_t owner);

/*@ requires machine && f < nframes;
    requires ready: w_type(words[f]) >= EXO_FT_PT1 &&
             blocks2m[f >> 9] >= 0x100000000 && blocks1g[f >> 18] >= 0x100000000;
    assigns words[f], blocks2m[f >> 9], blocks1g[f >> 18];
    ensures w_type(words[f]) == EXO_FT_PLAIN;
    ensures w_bindings(words[f]) == w_bindings(\old(words[f]));
    ensures blocks2m[f >> 9] == \old(blocks2m[f >> 9]) - 0x100000000;
    ensures blocks1g[f >> 18] == \old(blocks1g[f >> 18]) - 0x100000000; */
void word_untype(frame_t f);

/*@ requires machine && (level == 2 || level == 3);
    assigns blocks2m[f >> 9], blocks1g[f >> 18];
    ensures -EXO_E_NOVM <= \result <= 0;
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

/* ---- cap.c ---- */

/*@ predicate has_children(integer c) =
      caps[c].next != 0 && caps[caps[c].next].depth > caps[c].depth; */

/*@ requires invariants && env_ok(e) && \valid(out) && local(out) && kind != EXO_NONE;
    assigns *out;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures \result == 0 ==> *out == cap_at(e, sel) && sel < envs[e].nsel &&
            caps[*out].kind == kind && kind != EXO_NONE && SUBSET(rights, caps[*out].rights); */
long cap_find(frame_t e, uint64_t sel, unsigned kind, unsigned rights, cref_t *out);

/*@ requires invariants && \valid(out) && local(out);
    assigns *out;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures \result == 0 ==> env_ok(*out); */
long env_find_cap(uint64_t sel, unsigned rights, frame_t *out);
/*@ requires invariants && \valid(out) && local(out);
    assigns *out;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures \result == 0 ==> env_ok(*out); */
static inline long env_find(uint64_t sel, unsigned rights, frame_t *out);

/*@ requires the_cpu.cur < PROOF_FRAMES && threads[the_cpu.cur].env < PROOF_FRAMES - 3;
    requires \valid(out) && local(out);
    assigns *out;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures invariants && \result == 0 ==> thread_ok(*out);
    ensures in: caps_in && the_cpu.cur < OBJECT_END && \result == 0 ==> *out < OBJECT_END; */
long thread_find(uint64_t sel, unsigned rights, frame_t *out);

/*@ requires invariants && \valid(env) && \valid(sel) && local(env) && local(sel);
    requires \separated(env, sel);
    assigns *env, *sel;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures \result == 0 ==> env_ok(*env) && 0 < *sel < envs[*env].nsel; */
long ref_find(uint64_t ref, unsigned rights, frame_t *env, uint32_t *sel);

/* Whoever reads a capability without a lock gets something, which is then checked. */
/*@ requires e < PROOF_FRAMES - 3 && \valid(out) && apart(out) && kind != EXO_NONE;
    assigns *out;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures \result == 0 ==> sel < envs[e].nsel && out->kind == kind && kind != EXO_NONE &&
            SUBSET(rights, out->rights);
    ensures in: caps_in && \result == 0 && EXO_THREAD <= kind <= EXO_EVENT ==>
            out->base < OBJECT_END;
    ensures copied: machine && env_ok(e) && \result == 0 ==> out->base == caps[cap_at(e, sel)].base &&
            out->count == caps[cap_at(e, sel)].count && kind == caps[cap_at(e, sel)].kind; */
long cap_read(frame_t e, uint64_t sel, unsigned kind, unsigned rights, struct cap *out);

/*@ assigns \nothing;
    ensures \result != 0 <==> has_children(c); */
bool cap_has_children(cref_t c);

/* `listed`: what the list's order gives, core_invariants 5. Here and in cap_remove. */
/*@ requires holder < PROOF_FRAMES;
    requires listed: src != dst && src != 0 && dst != 0 &&
             caps[src].next != dst && caps[src].prev != dst &&
             caps[src].next != src && caps[src].prev != src;
    requires \valid_read(contents) && \separated(contents, &caps[0 .. 0xffffffff]);
    assigns caps[dst], caps[src].next, caps[src].prev, caps[caps[src].next].prev,
            caps[caps[src].prev].next;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures empty: \result == 0 ==> \old(caps[dst].kind) == EXO_NONE;
    ensures alive: \result == 0 ==> (caps[src].flags & CAP_DYING) == 0 &&
            (envs[holder].flags & ENV_DYING) == 0;
    ensures is: \result == 0 ==> caps[dst].kind == contents->kind &&
            caps[dst].rights == contents->rights && caps[dst].base == contents->base &&
            caps[dst].count == contents->count && caps[dst].badge == contents->badge &&
            caps[dst].flags == contents->flags && caps[dst].env == holder &&
            caps[dst].bindings == 0;
    ensures child: \result == 0 && sibling == 0 ==> caps[dst].prev == src &&
            caps[src].next == dst && caps[dst].next == \old(caps[src].next) &&
            caps[dst].depth == caps[src].depth + 1;
    ensures sibling: \result == 0 && sibling != 0 ==> caps[dst].next == src &&
            caps[src].prev == dst && caps[dst].prev == \old(caps[src].prev) &&
            caps[dst].depth == caps[src].depth;
    ensures refused: \result != 0 ==> caps[dst] == \old(caps[dst]) &&
            caps[src].next == \old(caps[src].next) && caps[src].prev == \old(caps[src].prev); */
long cap_insert(cref_t src, cref_t dst, frame_t holder, bool sibling, const struct cap *contents);

/*@ requires listed: caps[c].kind != EXO_NONE && caps[c].prev != c && caps[c].next != c &&
             (caps[c].prev == 0 || caps[c].prev != caps[c].next);
    requires caps[c].bindings == 0;
    assigns caps[c], caps[caps[c].prev].next, caps[caps[c].next].prev;
    ensures caps[c].kind == EXO_NONE && caps[c].prev == 0 && caps[c].next == 0;
    ensures before: \old(caps[c].prev) != 0 ==>
            caps[\old(caps[c].prev)].next == \old(caps[c].next);
    ensures behind: \old(caps[c].next) != 0 ==>
            caps[\old(caps[c].next)].prev == \old(caps[c].prev); */
void cap_remove(cref_t c);

/* ---- page.c ---- */

/*@ assigns \nothing;
    ensures \result == p_leaf(format, f, rights, sel, level, cache); */
uint64_t pte_leaf(uint32_t format, frame_t f, unsigned rights, uint32_t sel, unsigned level,
                  uint64_t cache);
/*@ assigns \nothing;
    ensures \result == p_table(format, f, sel); */
uint64_t pte_table(uint32_t format, frame_t f, uint32_t sel);
/*@ assigns \nothing;
    ensures \result == p_frame(e); */
frame_t pte_frame(uint64_t e);
/*@ assigns \nothing;
    ensures \result == p_sel(format, e); */
uint32_t pte_sel(uint32_t format, uint64_t e);
/*@ assigns \nothing;
    ensures \result == p_rights(format, e); */
unsigned pte_rights(uint32_t format, uint64_t e);

/*@ requires bytes > 0 && e < PROOF_FRAMES;
    assigns \nothing;
    ensures \result != 0 <==> va_range(va, bytes) &&
            ((envs[e].flags & ENV_VM) == 0 || va < EXO_VA_END); */
bool va_user(frame_t e, uint64_t va, uint64_t bytes);

/*@ requires pend_room;
    assigns the_cpu.pend_count, the_cpu.pend[the_cpu.pend_count];
    ensures the_cpu.pend_count == \old(the_cpu.pend_count) + 1;
    ensures the_cpu.pend[\old(the_cpu.pend_count)].env == env &&
            the_cpu.pend[\old(the_cpu.pend_count)].va == va &&
            the_cpu.pend[\old(the_cpu.pend_count)].entry == entry &&
            the_cpu.pend[\old(the_cpu.pend_count)].level == level; */
void pend_add(frame_t env, uint64_t va, uint64_t entry, unsigned level);

/*@ assigns the_cpu.pend_count, the_cpu.pend[0];
    ensures the_cpu.pend_count == (\old(the_cpu.pend_count) == 0 ? 1 : \old(the_cpu.pend_count)); */
void pend_flush(frame_t env, unsigned level);

/*@ requires invariants && env_ok(env) && \valid(out) && local(out);
    assigns *out;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures \result == 0 ==> is_table(*out, 1, env) && va_ok(va); */
long leaf_find(frame_t env, uint64_t va, frame_t *out);

/*@ requires invariants && env_ok(env) && va_ok(va) && \valid(out) && \valid(level);
    requires local(out) && local(level) && \separated(out, level);
    assigns *out, *level;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures \result == 0 ==> 1 <= *level <= 3 && is_table(*out, *level, env) &&
            (*level > 1 ==> p_present(tables[*out].e[v_index(va, *level)]) &&
                            p_large(tables[*out].e[v_index(va, *level)])); */
long leaf_any(frame_t env, uint64_t va, frame_t *out, unsigned *level);

/* Where lines[] has no bit, no entry of a table is present. That it stays so is shown by the
 * fuzzers (kernel/core/invariants.c, 12), and assumed where a walk skips lines. */
/*@ predicate lined(integer t) = \forall integer j; 0 <= j < 512 && l_at(lines[t], j) == 0 &&
      (w_type(words[t]) == EXO_FT_PT4 ==> user_slot(j)) ==> !p_present(tables[t].e[j]); */
/*@ requires t < nframes && machine && i <= end <= 512 && end % 8 == 0;
    requires w_type(words[t]) == EXO_FT_PT4 ==> end <= 256 || i >= 272;
    requires lined: lined(t);
    assigns lines[t];
    ensures lined: lined(t);
    ensures i <= \result <= end;
    ensures \forall integer j; i <= j < \result ==> !p_present(tables[t].e[j]);
    ensures \result < end ==> p_present(tables[t].e[\result]); */
unsigned table_next(frame_t t, unsigned i, unsigned end);

/* ---- bind.c ---- */

/*@ logic integer slot_cap(integer i) = (uint32_t)((slots[i].env + 3) * 64 + slots[i].sel);
    logic integer irq_cap(integer i) = (uint32_t)((irqs[i].env + 3) * 64 + irqs[i].sel);
    predicate slots_ok = ncpus <= EXO_MAX_CPUS &&
      (\forall integer i; 0 <= i < EXO_MAX_CPUS * EXO_SLOTS_PER_CPU ==>
       slots[i].env < PROOF_FRAMES - 3 && slots[i].thread < PROOF_FRAMES) &&
      (\forall integer i; 0 <= i < EXO_IRQ_COUNT ==>
       irqs[i].env < PROOF_FRAMES - 3 && irqs[i].thread < PROOF_FRAMES) &&
      (\forall integer t; 0 <= t < PROOF_FRAMES ==> threads[t].cpu < EXO_MAX_CPUS) &&
      (\forall integer c; 0 <= c < 0x100000000 ==> caps[c].env < PROOF_FRAMES - 3); */

/*@ requires slots_ok && thread < PROOF_FRAMES;
    assigns slots[0 .. 2047], threads[0 .. PROOF_FRAMES - 1], caps[0 .. 0xffffffff];
    ensures slots_ok;
    ensures gone: thread != 0 ==> \forall integer i;
            \old(threads[thread].cpu) * EXO_SLOTS_PER_CPU <= i <
            (\old(threads[thread].cpu) + 1) * EXO_SLOTS_PER_CPU ==> slots[i].thread != thread; */
void slots_forget(frame_t thread);

/*@ requires slots_ok;
    assigns slots[0 .. 2047], threads[0 .. PROOF_FRAMES - 1], caps[0 .. 0xffffffff];
    ensures slots_ok;
    ensures gone: \forall integer i; 0 <= i < ncpus * EXO_SLOTS_PER_CPU ==>
            !(slots[i].thread != 0 && slots[i].env == \old(caps[c].env) &&
              slots[i].sel == (uint32_t)(c - (\old(caps[c].env) + 3) * 64)); */
void slots_forget_cap(cref_t c);

/*@ requires slots_ok && thread < PROOF_FRAMES;
    assigns irqs[0 .. EXO_IRQ_COUNT - 1], threads[0 .. PROOF_FRAMES - 1], caps[0 .. 0xffffffff];
    ensures slots_ok;
    ensures gone: thread != 0 ==> \forall integer i; 0 <= i < EXO_IRQ_COUNT ==>
            irqs[i].thread != thread; */
void irqs_forget(frame_t thread);

/*@ requires slots_ok;
    assigns irqs[0 .. EXO_IRQ_COUNT - 1], threads[0 .. PROOF_FRAMES - 1], caps[0 .. 0xffffffff];
    ensures slots_ok;
    ensures gone: \forall integer i; 0 <= i < EXO_IRQ_COUNT ==>
            !(irqs[i].thread != 0 && irqs[i].env == \old(caps[c].env) &&
              irqs[i].sel == (uint32_t)(c - (\old(caps[c].env) + 3) * 64)); */
void irqs_forget_cap(cref_t c);

/* ---- env.c ---- */
/*@ requires machine && (n != 0 ==> f + n <= nframes);
    assigns words[0 .. 0xffffffff], blocks2m[0 .. 0xffffffff], blocks1g[0 .. 0xffffffff]; */
void object_untype(frame_t f, uint32_t n, uint32_t registered);

/* ---- sweep.c ---- */
/*@ requires invariants && \valid_read(p);
    requires \separated(p, &caps[0 .. 0xffffffff], &words[0 .. 0x3ffffff],
             &blocks2m[0 .. 0x1ffff], &blocks1g[0 .. 0xff]);
    requires p->env < PROOF_FRAMES - 3;
    requires 1 <= p->level <= 3 || PEND_TABLE + 1 <= p->level <= PEND_TABLE + 3;
    requires ready: pend_ok(p->entry, p->level);
    assigns words[p_frame(p->entry)], blocks2m[p_frame(p->entry) >> 9],
            blocks1g[p_frame(p->entry) >> 18], caps[entry_cap(p->env, p->entry)].bindings;
    ensures counted_back: \old(caps[entry_cap(p->env, p->entry)].bindings) != 0 ==>
            caps[\old(entry_cap(p->env, p->entry))].bindings ==
            \old(caps[entry_cap(p->env, p->entry)].bindings) - 1;
    ensures page: p->level == 1 && \old(counted(p_frame(p->entry))) ==>
            words[p_frame(p->entry)] == \old(words[p_frame(p->entry)]) - 1;
    ensures table: p->level > PEND_TABLE ==> w_type(words[p_frame(p->entry)]) == EXO_FT_PLAIN &&
            w_bindings(words[p_frame(p->entry)]) == w_bindings(\old(words[p_frame(p->entry)]));
    ensures type: p->level < PEND_TABLE && p_frame(p->entry) < nframes ==>
            w_type(words[p_frame(p->entry)]) == w_type(\old(words[p_frame(p->entry)])) &&
            w_owner(words[p_frame(p->entry)]) == w_owner(\old(words[p_frame(p->entry)])); */
void commit_entry(const struct pend *p);

/* What is recorded names envs and frames; `ready`: and counts that are there. */
/*@ predicate pend_in = the_cpu.pend_count <= PEND_MAX && \forall integer k;
      0 <= k < the_cpu.pend_count ==> the_cpu.pend[k].env < PROOF_FRAMES - 3 &&
      (1 <= the_cpu.pend[k].level <= 3 ||
       PEND_TABLE + 1 <= the_cpu.pend[k].level <= PEND_TABLE + 3 ||
       (the_cpu.pend[k].level == PEND_PORTS &&
        cap_at(the_cpu.pend[k].env, the_cpu.pend[k].entry) < 0x100000000) ||
       (the_cpu.pend[k].level == PEND_THREAD &&
        the_cpu.pend[k].entry + EXO_VCPU_FRAMES <= nframes) ||
       (the_cpu.pend[k].level == PEND_ENV && the_cpu.pend[k].entry < PROOF_FRAMES &&
        the_cpu.pend[k].entry + 3 + envs[(frame_t)the_cpu.pend[k].entry].tables +
        EXO_VM_ENV_FRAMES <= nframes)); */

/*@ requires ok: invariants && pend_in;
    assigns words[0 .. 0xffffffff], blocks2m[0 .. 0xffffffff], blocks1g[0 .. 0xffffffff],
            caps[0 .. 0xffffffff].bindings, the_cpu.pend_count, the_cpu.pend_all;
    ensures the_cpu.pend_count == 0 && the_cpu.pend_all == 0; */
void core_commit(void);

/*@ requires invariants && env_ok(e) && sweep_ok(e);
    assigns envs[e].sweep_va, envs[e].doomed, envs[e].doomed_sel, envs[e].doomed_level,
            tables[0 .. PROOF_FRAMES - 1], lines[0 .. PROOF_FRAMES - 1], the_cpu.pend_count, the_cpu.pend[0 .. PEND_MAX - 1];
    ensures invariants;
    ensures env: env_ok(e);
    ensures walk: sweep_ok(e);
    ensures only_cleared: \forall integer t, i; 0 <= t < nframes && 0 <= i < 512 ==>
            tables[t].e[i] == 0 || tables[t].e[i] == \old(tables[t].e[i]); */
void sweep_step(frame_t e);

/*@ requires invariants && env_ok(e) && sweep_ok(e) && the_cpu.pend_count == 0;
    assigns envs[e].doomed, tables[0 .. PROOF_FRAMES - 1], lines[0 .. PROOF_FRAMES - 1], the_cpu.pend_count,
            the_cpu.pend[0 .. PEND_MAX - 1];
    ensures invariants;
    ensures env: env_ok(e);
    ensures walk: sweep_ok(e);
    ensures nothing_left: \result != 0 ==> table_empty(e + 1, 4) && envs[e].doomed == 0 &&
            the_cpu.pend_count == 0;
    ensures progress: \result == 0 ==> the_cpu.pend_count > 0; */
bool sweep_all_step(frame_t e);
#endif
