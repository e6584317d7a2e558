/* SPDX-License-Identifier: MIT
 *
 * The protection core: who may do what. Pure C over tables indexed by number;
 * no assembler, no pointer made from an integer, no recursion, every loop bounded.
 * The same files are built into the kernel (platform.h from kernel/x86), for the
 * host (unit tests, fuzzers) and for Frama-C (platform.h from tests/host).
 *
 * Memory, as core sees it: one array an object type, indexed by frame number. In
 * the kernel each is a virtual window onto all of RAM; a frame's word says through
 * which of them it may be looked at.
 *
 *   words[f]      frame word: bindings, type, owner (abi/exo.h)
 *   blocks2m[f >> 9], blocks1g[f >> 18]
 *                 large bindings of a block, typed frames in it: one excludes the other
 *   tables[f]     page table (EXO_FT_PT1..4)
 *   lines[f]      its lines of 8 entries that may have a present one: a bit each
 *   envs[f]       env        (EXO_FT_ENV)
 *   threads[f]    thread     (EXO_FT_THREAD)
 *   caps[r]       capability r = frame * 64 + i of a table frame (EXO_FT_CAPS)
 *   upcalls[f]    upcall page of a thread   (plain, registered: one binding)
 *   vectors[f]    repossession vector of an env (plain, registered: one binding)
 *   vcpus[f]      what core keeps of a virtual CPU (EXO_FT_VCPU; vm.h)
 *
 * An env is 3 + n consecutive frames: env, top page table, vector, n table frames;
 * so selector s of env e is capability (e + 3) * 64 + s. In a virtual machine's env
 * the bitmaps follow: 3 frames of I/O ports, 2 of MSRs (EXO_FT_VM; set: exits).
 *
 * Locks (order: tree, then env; at most two envs, lower frame number first):
 *   tree     derivation links, depth, flags of capabilities; making and destroying
 *            objects; reaping
 *   env      the env's capability contents and binding counts; its page tables;
 *            slots and irqs bound through it need the tree lock too
 *   words    change by compare-and-swap only
 *   threads  a thread's run state belongs to its CPU alone, which works with
 *            interrupts off; other CPUs leave it requests (thread.h)
 * No lock is held while a CPU waits for a quiesce round. What a call holds across
 * a round is protected by counts that it gives back only afterwards (cpu.pend).
 */
#ifndef CORE_H
#define CORE_H

#include "../../abi/exo.h"
#include "../../abi/vm.h"
#include "platform.h"

typedef uint32_t frame_t; /* physical page number; 0 is never a valid object */
typedef uint32_t cref_t; /* capability: table frame * 64 + index; 0 none */

/* ---- capability ------------------------------------------------------------- */
#define CAP_DYING 1 /* marked by a revocation: no derive, bind or delete through it */
#define CAP_OWNER 2 /* the capability that an object was made with */

struct cap {
    uint8_t kind;
    uint8_t rights;
    uint8_t flags;
    uint8_t spare;
    uint16_t depth; /* of derivation; the list below is in depth-first order */
    uint16_t spare2;
    uint32_t bindings; /* counted through it (env lock) */
    uint32_t seq; /* changes whenever the contents do: the fast path's check */
    cref_t prev, next; /* derivation list (tree lock) */
    cref_t hint; /* revoke: how far the marking came */
    cref_t mark_root; /* revoke: which revocation marked this one */
    uint64_t base; /* first name; object: its frame; gate, event: thread's frame */
    uint64_t count; /* names; gate: entry; event: bits */
    uint64_t badge; /* gate: badge; frames: cache type */
    frame_t env; /* holder */
    uint32_t asked; /* low half of the deadline that its holder was asked with */
};
_Static_assert(sizeof(struct cap) == 64, "capability");

/* ---- page table ---------------------------------------------------------------- */
#define TABLE_LINE 8u /* a bit of lines[] stands for so many entries: a cache line */
struct table {
    uint64_t e[512];
};

/* ---- env ------------------------------------------------------------------------- */
#define ENV_VM 1
#define ENV_DYING 2
#define ENV_EPT 4 /* its page tables have the format of EPT */

struct env {
    _Alignas(4096) uint32_t lock; /* an env has its frame to itself */
    uint32_t flags;
    frame_t root; /* top page table: frame + 1 */
    uint32_t tables;
    uint32_t nsel; /* tables * 64 */
    cref_t owner; /* the capability it was made with */
    frame_t revoker; /* thread told of records, 0 none */
    uint32_t threads; /* thread objects of this env (tree lock) */
    /* sweeping: where the next step of a sweep starts; a detached subtree being drained */
    uint64_t sweep_va;
    frame_t doomed; /* table detached from the tree, 0 none */
    uint32_t doomed_level;
    uint32_t doomed_sel;
    /* reaping (tree lock): envs being destroyed form a queue */
    uint32_t reap_state; /* REAP_* in revoke.c, 0 alive */
    uint32_t reap_sel;
    frame_t reap_next;
};
_Static_assert(sizeof(struct env) == 4096, "a frame");

/* ---- thread: fields below `regs` belong to the thread's CPU unless marked ------------- */
struct kregs { /* pushed by entry.S, top first; the CPU itself pushes the last five */
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};
_Static_assert(sizeof(struct kregs) == 176, "ends 16-byte aligned: the CPU's stack");

#define THREAD_REQ_WAKE 1 /* requests of other CPUs */
#define THREAD_REQ_START 2
#define THREAD_REQ_STOP 4
#define THREAD_REQ_QUEUED 8 /* on its CPU's request list */
#define THREAD_REQ_DETACH 16 /* make it unknown: sets `gone` when done */

/* thread.slow: why the assembly paths may not resume it */
#define SLOW_EVENT 1 /* an event upcall is due */
#define SLOW_CALL 2 /* its call has a deadline or takes an item */
#define SLOW_FAULT 4 /* its call was made for it by the kernel: a fault, a VM exit */
#define SLOW_VM 8 /* a virtual CPU: always */

struct thread {
    struct kregs regs; /* offset 0 */
    /* what the fast paths read together */
    frame_t self;
    frame_t env; /* constant */
    uint64_t cap_first; /* (env + 3) * 64 */
    uint64_t nsel;
    uint32_t state; /* EXO_T_*; state, cpu, slow are one word to the assembly */
    uint16_t cpu; /* constant */
    uint16_t slow; /* SLOW_* */
    frame_t caller; /* whose reply it owes, 0 none (void or none) */
    frame_t callee; /* CALLING, QUEUED: by whom it is or will be served */
    uint32_t depth; /* calls above it in its chain */
    uint32_t in_handler;
    frame_t queue_head; /* callers waiting for it, in order */
    frame_t upcall; /* frame of its upcall page: self + 1 */
    uint32_t on_ring; /* it is a base: in its CPU's ring of threads with idle time */
    uint32_t gone; /* detached: its CPU knows nothing of it any more */
    uint64_t upcall_entry, upcall_sp;
    uint64_t cr3; /* physical address of its env's top table */
    uint64_t fs_base, gs_base;
    uint64_t wait_mask; /* EVENT, WAIT: events that end the wait */
    /* slow paths */
    frame_t queue_tail, queue_next, queue_prev;
    frame_t ring_next, ring_prev;
    uint32_t requests; /* THREAD_REQ_*, atomic, any CPU */
    frame_t request_next; /* list of threads with requests */
    uint32_t item; /* selector that its call or reply hands over, 0 none */
    uint32_t fault_sel, receive_sel;
    uint32_t slots; /* time slots bound to it (tree lock) */
    uint32_t credit_slot; /* 1 + slot that it owes, 0 none */
    uint32_t slice_warning; /* TSC ticks */
    uint64_t timer; /* deadline of timer_set, 0 off */
    uint64_t timer_bits;
    uint64_t timeout; /* deadline of what it waits for, 0 none */
    uint64_t heap_key; /* min(timer, timeout) */
    frame_t heap_up, heap_left, heap_right; /* its CPU's timer heap */
    uint32_t heap_in;
    uint64_t call_entry, call_badge; /* QUEUED: the gate's, as at the call */
    uint64_t fault_addr; /* of its last exception; vector and error are in regs */
    cref_t owner; /* the capability it was made with (tree lock) */
    uint32_t irqs; /* interrupts bound to it (tree lock) */
    _Alignas(1024) uint8_t fpu[3072]; /* XSAVE area, standard format */
};
_Static_assert(offsetof(struct thread, slow) == offsetof(struct thread, state) + 6, "one word");
_Static_assert(offsetof(struct thread, fpu) == 1024 && sizeof(struct thread) == 4096, "a frame");

/* ---- per CPU ------------------------------------------------------------------------------ */
#define RESCHED_CHOOSE 1 /* decide anew who runs */
#define RESCHED_TAKE 4 /* run cpu.take, decided already; the slot is its base's */
#define RESCHED_EXIT 2 /* leave the kernel by the slow path: an upcall, a new deadline */
#define PEND_MAX EXO_RANGE_MAX
struct pend { /* a binding taken out of its table, its counts not yet given back */
    uint64_t va; /* where it was bound */
    uint64_t entry; /* the page-table entry; 0: only rights were taken, nothing to give back */
    frame_t env;
    uint32_t level; /* 1..3: leaf of that level; | PEND_TABLE: a page table of that level */
};
#define PEND_ANYWHERE 1ull /* a va that is not known: all translations have to go */
#define PEND_TABLE 8
#define PEND_THREAD 16 /* a thread, an env: entry holds its frame */
#define PEND_ENV 32
#define PEND_PORTS 64 /* passed ports: entry holds their capability's selector */

struct cpu {
    frame_t cur; /* running thread, 0 idle */
    frame_t base; /* whose time it uses: the slot's owner or a member of the ring */
    uint32_t id;
    uint32_t pos; /* position in the slot vector */
    uint64_t slot_end; /* TSC */
    uint64_t next_event; /* TSC the hardware timer is set to */
    frame_t ring; /* a member of the ring of runnable bases, 0 empty */
    frame_t heap; /* root of the timer heap */
    uint32_t heap_count;
    frame_t requests; /* threads with requests, atomic LIFO list, any CPU */
    uint32_t pend_all; /* the round must reach every CPU, not only the env's */
    uint32_t resched; /* RESCHED_*; with pend_count one word: work when a leaf call ends */
    uint32_t pend_count;
    uint64_t armed; /* what the hardware timer was last set to */
    /* time (see sched.c) */
    frame_t urgent; /* has the rest of this slot: by credit, or given by a yield */
    frame_t credit_to; /* the owner whose slot urgent uses on credit, 0 none */
    uint32_t credit_pos; /* the slot that will pay for it */
    uint32_t warned; /* EXO_EVENT_SLICE was raised in this slot */
    uint64_t credit_from; /* TSC */
    uint64_t part_end; /* TSC until which this slot pays a debt */
    frame_t part_to; /* ... to this thread, 0 none */
    frame_t take; /* RESCHED_TAKE */
    /* credit: the slot that was displaced and by how much (see sched.c) */
    uint64_t debt[EXO_SLOTS_PER_CPU]; /* TSC ticks owed in this slot ... */
    frame_t debt_to[EXO_SLOTS_PER_CPU]; /* ... to this thread */
    frame_t debt_by[EXO_SLOTS_PER_CPU]; /* ... by this one */
    struct pend pend[PEND_MAX];
};

/* ---- the tables (platform.h places them) ----------------------------------------------------
 * words, blocks2m, blocks1g, lines, tables, envs, threads, caps, upcalls, vectors, vcpus,
 * slots[EXO_MAX_CPUS * EXO_SLOTS_PER_CPU], irqs[EXO_IRQ_COUNT], cpus[EXO_MAX_CPUS],
 * and the sizes nframes (frame words), ncpus.
 *
 * platform.h also gives:
 *   bool word_cas(uint64_t *w, uint64_t expected, uint64_t desired)
 *   void word_add(uint64_t *w, uint64_t delta)       atomic, wraps
 *   HOT                             static, always inlined
 *   FLATTEN                         what the function calls in its file is inlined
 *   void entry_flip(uint64_t *p, uint64_t bits)      atomic exclusive-or
 *   uint64_t entry_swap(uint64_t *p, uint64_t v)     atomic exchange, returns the old value
 *   void barrier(void)              the compiler moves no access across it
 *   uint32_t fetch32(const uint32_t *p)              one volatile load
 *   void lock_tree(void), unlock_tree(void), lock_env(frame_t), unlock_env(frame_t)
 *   struct cpu *this_cpu(void)      uint64_t now(void)  the time-stamp counter
 *   struct thread *this_thread(void) the running thread, in a leaf call
 *   uint64_t or_shared(uint64_t *p, uint64_t bits)   atomic, returns the old value
 *   uint64_t clear_shared(uint64_t *p, uint64_t bits) atomic and-not, returns the old value
 *   uint64_t fetch(const uint64_t *p)    one volatile load (shared pages)
 *   void ipi_cpu(unsigned cpu)      makes that CPU look at its requests and resched
 *   void table_clear(frame_t), page_clear(frame_t)
 *   void root_init(frame_t table)   puts the kernel's own entries into a new top table
 *   void irq_mask(unsigned irq), irq_unmask(unsigned irq)
 *   bool flush_alone(uint64_t va, uint64_t entry, bool now)
 *                                   native entry, out of its table: true when no CPU has
 *                                   its translation (any more; !now: any more once this CPU
 *                                   did flush_all, before it leaves the kernel); false: a
 *                                   round is needed
 *   void flush_all(void)            forgets this CPU's translations of the loaded env
 *   void fpu_forget(frame_t thread) drops the FPU registers if they are this thread's
 *   void fpu_init(frame_t thread)
 *   void thread_leave(frame_t thread) saves what the CPU still holds of the running thread
 *   uint32_t port_read(port, size), void port_write(port, size, value)
 *   bool huge_pages                 the CPU has 1 GiB pages
 *   uint64_t slot_ticks             length of a time slot in TSC ticks
 *   KASSERT(cond)                   debug builds only
 */

#ifdef PLATFORM_TABLES /* declarations of a platform that need the types above */
PLATFORM_TABLES
#endif

/* The first capability of an env's table, and a selector's capability. */
/*@ requires env < PROOF_FRAMES - 3;
    assigns \nothing;
    ensures \result == (env + 3) * 64; */
static inline cref_t env_caps(frame_t env) { return (env + 3) * EXO_TAB_CAPS; }

/* words.c ------------------------------------------------------------------------------------
 * All return 0 or a negative error and change nothing on error. */

/* One more binding of frame f; writable demands EXO_FT_PLAIN, else page tables and
 * exposed tables do too. Frames at or above nframes and EXO_FT_DEVICE are not counted.
 * Errors: -EXO_E_TYPE, -EXO_E_LIMIT, -EXO_E_AGAIN (another CPU won the race). */
long word_bind(frame_t f, bool writable);
/* One binding less. */
void word_unbind(frame_t f);
/* A plain, unbound frame in no large binding becomes `type`, owned by env.
 * Errors: -EXO_E_TYPE, -EXO_E_BUSY, -EXO_E_AGAIN. */
long word_type(frame_t f, unsigned type, frame_t owner);
/* A typed frame becomes plain again; it may still be bound read-only. */
void word_untype(frame_t f);
/* Large binding (level 2 or 3) at aligned frame f. Errors as word_bind, -EXO_E_BUSY. */
long word_bind_large(frame_t f, unsigned level);
void word_unbind_large(frame_t f, unsigned level);

/* cap.c --------------------------------------------------------------------------------------- */

/* Finds selector sel of env e, kind `kind` with all of `rights`: 0 or a negative error.
 * Tree lock or e's lock held. */
long cap_find(frame_t e, uint64_t sel, unsigned kind, unsigned rights, cref_t *out);
/* The same without a lock: a copy of the contents. -EXO_E_AGAIN if they changed meanwhile. */
long cap_read(frame_t e, uint64_t sel, unsigned kind, unsigned rights, struct cap *out);
/* Resolves an env argument of the current thread: EXO_SELF or a selector of an env
 * capability with `rights`. */
long env_find_cap(uint64_t sel, unsigned rights, frame_t *out);
static inline long env_find(uint64_t sel, unsigned rights, frame_t *out)
{
    if (sel != EXO_SELF) return env_find_cap(sel, rights, out);
    *out = this_thread()->env;
    return 0;
}
/* Resolves a thread argument (0: the caller). */
long thread_find(uint64_t sel, unsigned rights, frame_t *out);
/* Resolves a ref to (env, selector), the selector within the table. */
long ref_find(uint64_t ref, unsigned rights, frame_t *env, uint32_t *sel);
/* Tree and holder's env locks held: makes `dst`, which must be empty, a child of
 * `src` (or a sibling), contents given; -EXO_E_FULL, -EXO_E_DYING, -EXO_E_DEPTH. */
long cap_insert(cref_t src, cref_t dst, frame_t holder, bool sibling, const struct cap *contents);
bool cap_has_children(cref_t c);
/* Tree and holder's env locks held: empties a selector without children or bindings. */
void cap_remove(cref_t c);
/* The derivation that an item in a call makes: `src` of env `from` as a child at
 * selector `dst` of env `to`. Takes the locks. */
long cap_hand_over(frame_t from, uint64_t src, frame_t to, uint64_t dst);

/* page.c: page-table entries, in one of two formats, envs[e].flags & ENV_EPT ------------------------
 * Native, which is that of AMD's nested tables too (Intel SDM vol. 3, 4.5; AMD64 APM vol. 2,
 * 5.4, 15.25): nested walks are user accesses. EPT: Intel SDM vol. 3, 29.3.2. A present entry
 * remembers the selector it was bound through in the bits that the hardware ignores: native
 * 9..11 (low 3 bits of the selector) and 52..62 (the other 11); EPT 10, 11 and 52..63. */
#define PTE_P 0x001ull
#define PTE_W 0x002ull
#define PTE_U 0x004ull
#define PTE_A 0x020ull
#define PTE_D 0x040ull
#define PTE_PS 0x080ull
#define PTE_NX (1ull << 63)
#define PTE_EPT_RIGHTS 0x007ull /* R, W, X: the bits of EXO_R.. */
#define PTE_EPT_A 0x100ull
#define PTE_EPT_D 0x200ull
#define CACHE_WB 0ull /* capability's cache type: the entry's PWT and PCD bits */
#define CACHE_UC 0x018ull
/* format: 0 native, else EPT. rights 0 (native only): present, but not the user's.
 * level 1..3 (2, 3: large). */
uint64_t pte_leaf(uint32_t format, frame_t f, unsigned rights, uint32_t sel, unsigned level,
                  uint64_t cache);
uint64_t pte_table(uint32_t format, frame_t f, uint32_t sel);
frame_t pte_frame(uint64_t e);
uint32_t pte_sel(uint32_t format, uint64_t e);
unsigned pte_rights(uint32_t format, uint64_t e);
/*@ requires e < PROOF_FRAMES;
    assigns \nothing;
    ensures \result == p_format(envs[e].flags); */
static inline uint32_t pte_format(frame_t e) { return envs[e].flags & ENV_EPT; }
/*@ requires 1 <= level <= 4;
    assigns \nothing;
    ensures \result == v_index(va, level) && 0 <= \result <= 511; */
static inline unsigned va_index(uint64_t va, unsigned level)
{
    return (unsigned)(va >> (12 + 9 * (level - 1))) & 511u;
}
/* Is [va, va + bytes) the user's in env e? bytes > 0. Guest-physical addresses end at
 * EXO_VA_END. */
bool va_user(frame_t e, uint64_t va, uint64_t bytes);
/* Env lock held: the first present entry of table t from i on, below `end`, or `end`, which
 * is the end of a line. */
unsigned table_next(frame_t t, unsigned i, unsigned end);
/* Env lock held: the table that holds va's leaf, and its level; of a 4 KiB page. */
long leaf_any(frame_t env, uint64_t va, frame_t *out, unsigned *level);
long leaf_find(frame_t env, uint64_t va, frame_t *out);
/* Records that only rights were taken, and translations have to go. */
void pend_flush(frame_t env, unsigned level);
/* Env lock held: gives back the counts of a binding that nobody can use any more. */
void commit_entry(const struct pend *p);
/* Records one binding taken out. */
void pend_add(frame_t env, uint64_t va, uint64_t entry, unsigned level);

/* sweep.c: tree and env lock held; each needs this_cpu()->pend empty ------------------------ */
/* One bounded step (at most one leaf table) of taking away what is bound in env e through
 * dying capabilities. Going round and round: all of it is gone after two turns at most. */
void sweep_step(frame_t e);
/* One bounded step of taking away everything in a dying env: true when nothing is left. */
bool sweep_all_step(frame_t e);

/* revoke.c, env.c, bind.c ------------------------------------------------------------------------ */
/* Tree lock held: appends a record to e's repossession vector and raises its event. */
void vector_record(frame_t e, unsigned what, const struct cap *c, uint32_t sel, uint64_t amount,
                   uint64_t deadline);
/* Tree lock held: forget every time slot or interrupt of a thread, or of a capability. */
void slots_forget(frame_t thread);
void irqs_forget(frame_t thread);
void slots_forget_cap(cref_t c);
void irqs_forget_cap(cref_t c);
/* A ports capability's bindings: its ports are passed; taken back, but the round is not over. */
#define PORTS_PASSED 1
#define PORTS_TAKEN 2
/* Takes the ports of a dying capability back from the guests of its env; true when it is done. */
bool ports_forget_cap(cref_t c);
/* Tree lock held: initialises envs[f] (its frames typed and cleared); flags: ENV_VM, ENV_EPT. */
void env_init(frame_t f, uint32_t tables, uint32_t flags, cref_t owner);
/* The frames of an env after its table: 0, or those of a virtual machine. */
/*@ assigns \nothing;
    ensures \result == ((flags & ENV_VM) != 0 ? EXO_VM_ENV_FRAMES : 0); */
static inline uint32_t env_extra(uint32_t flags)
{
    return (flags & ENV_VM) != 0 ? EXO_VM_ENV_FRAMES : 0;
}
#define ENV_VECTOR 2 /* which of an env's frames is registered, and stays plain */
#define THREAD_PAGE 1 /* ... and of a thread's */
/* Types and clears the `frames` frames of an env with n table frames, or of a thread (n 0):
 * all of them, or an error of word_type, word_bind. */
long object_type(frame_t f, uint32_t frames, frame_t owner, uint32_t n);
/* Takes back the typing of the first n frames of an object. */
void object_untype(frame_t f, uint32_t n, uint32_t registered);
/* Gives a detached thread's or a reaped env's frames back, after the round (pend). */
void thread_free(frame_t t);
void env_free(frame_t e);

/* thread.c ---------------------------------------------------------------------------------------
 * Called with the tree lock held. */

/* Initialises threads[f] as a stopped thread. */
void thread_init(frame_t f, frame_t env, unsigned cpu, cref_t owner);
/* Takes a thread out of everything that its CPU knows of it: ring, timers, calls,
 * queues (callers get -EXO_E_DEAD, at most EXO_LIST_MAX a step), FPU, slots, irqs.
 * 0 when it is stopped and unknown; -EXO_E_AGAIN after a step, or when it is another
 * CPU's, which was asked to stop it; -EXO_E_STATE if it is the caller itself. */
long thread_detach(frame_t t);
/* Thread t (0: none) is told of e's records from now on. Takes the tree lock: under it a
 * thread that another CPU destroys is `gone` before it is forgotten. */
long revoker_set(frame_t e, frame_t t);
/* event.c: ORs bits into the thread's events and wakes it. Any CPU, any lock state. */
void event_raise(frame_t t, uint64_t bits);

/* Two-phase calls: every function that took bindings away has recorded them in
 * this_cpu()->pend. x86 then makes a quiesce round and calls core_commit, which
 * gives the counts back. */
void core_commit(void);

/* invariants.c: 0 if all tables are consistent, else the line of the first one broken. */
int core_invariants(void);

#endif
