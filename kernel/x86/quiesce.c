/* SPDX-License-Identifier: MIT
 *
 * Quiesce rounds: stale until quiet. A frame that lost its last binding may still be
 * in the translations of a CPU; a page table, thread or FPU owner may be in use by one.
 * Before its counts are given back, every CPU concerned takes part in a round: it flushes
 * its translations at a moment when it is in no kernel entry, or at the end of one that
 * only waits for a round of its own and holds nothing but its own unbindings.
 *
 * A round is a number. round_last is the youngest begun; each CPU's round_seen the
 * youngest that it took part in. A CPU reads round_last, then flushes, then stores
 * round_seen: the flush comes after whatever the round's beginner had unbound. Who waits
 * holds no lock and serves the rounds of others meanwhile, so that all rounds end.
 *
 * Which CPUs: those whose percpu.cr3 is the root of an affected env. A CPU stores its
 * percpu.cr3 before it loads CR3 and users do not run in between: if we see another
 * root, then either its load of ours comes after our unbinding, or its load of the
 * other has flushed, or will before user code runs.
 *
 * Nested translations are used in guest mode only. Each CPU keeps the nested root of the
 * virtual CPU last entered in percpu.guest_root. Who unbinds sets nested_stale of all CPUs,
 * then reads their guest_root; who enters stores guest_root, then tests nested_stale and
 * flushes. So either we see its root, and the round ends its guest mode, or it sees that it
 * has to flush before it enters. A virtual CPU has the address space of the thread before
 * it in CR3; serving a round ends that.
 */
#include "quiesce.h"

#include "entry.h"

#define FLUSH_FEW 16 /* up to here page by page */

static uint64_t round_last;

static bool round_is_new(void)
{
    return __atomic_load_n(&round_last, __ATOMIC_SEQ_CST) != percpu()->round_seen;
}

static void round_serve(void)
{
    struct percpu *p = percpu();
    uint64_t round = __atomic_load_n(&round_last, __ATOMIC_SEQ_CST);
    if (p->cur != NULL && (p->cur->slow & SLOW_VM) != 0) cr3_follow(p, kernel_cr3);
    cr3_write(cr3_read());
    __atomic_store_n(&p->round_seen, round, __ATOMIC_RELEASE);
}

/* A CPU that is held goes on to serve: the round of CPU 0's check may not have begun yet. */
void quiesce_serve(void)
{
    round_serve();
    for (; check_holding(); __builtin_ia32_pause())
        if (round_is_new()) round_serve();
}

/* One turn of a wait: serves the rounds of others. */
static void wait_serving(void)
{
    if (round_is_new()) quiesce_serve();
    __builtin_ia32_pause();
}

void quiesce(uint64_t mask)
{
    uint64_t round = __atomic_add_fetch(&round_last, 1, __ATOMIC_SEQ_CST);
    uint64_t others = mask & ~(1ul << percpu()->id);
    for (unsigned i = 0; i < ncpus; i++)
        if ((others >> i & 1) != 0) ipi_send(i, VECTOR_QUIESCE);
    quiesce_serve();
    for (unsigned i = 0; i < ncpus; i++)
        while ((others >> i & 1) != 0 &&
               __atomic_load_n(&percpus[i].round_seen, __ATOMIC_ACQUIRE) < round)
            wait_serving();
}

/* Whose guests have to flush before they are entered: all CPUs', if it concerns any. */
static void nested_mark(const struct cpu *c)
{
    bool any = c->pend_all != 0;
    if (vm_caps.kind == EXO_VM_NONE) return;
    for (uint32_t i = 0; i < c->pend_count && !any; i++)
        any = (envs[c->pend[i].env].flags & ENV_VM) != 0;
    for (unsigned i = 0; i < ncpus && any; i++)
        __atomic_store_n(&percpus[i].nested_stale, 1, __ATOMIC_SEQ_CST);
}

/* The other CPUs that have an affected env loaded. */
static uint64_t others_affected(const struct cpu *c)
{
    uint64_t mask = 0;
    frame_t last = 0;
    if (ncpus == 1) return 0;
    for (uint32_t i = 0; i < c->pend_count; i++) {
        if (c->pend[i].env == last) continue;
        last = c->pend[i].env;
        uint64_t root = (uint64_t)envs[last].root * EXO_PAGE;
        bool vm = (envs[last].flags & ENV_VM) != 0;
        for (unsigned j = 0; j < ncpus; j++) {
            const uint64_t *loaded = vm ? &percpus[j].guest_root : &percpus[j].cr3;
            if (j != c->id && __atomic_load_n(loaded, __ATOMIC_SEQ_CST) == root) mask |= 1ul << j;
        }
    }
    return mask;
}

static void flush_page(uint64_t va)
{
    invlpg(va);
    COUNTED(percpu()->shown->flushes, 1);
}

/* A translation that no CPU cached, or only this one can have: page.c's head comment. */
bool flush_alone(uint64_t va, uint64_t entry, bool now)
{
    if ((entry & PTE_A) == 0) return true;
    if (ncpus != 1) return false;
    if (now) flush_page(va);
    return true;
}

void flush_all(void)
{
    cr3_write(cr3_read());
    COUNTED(percpu()->shown->flushes, 1);
}

/* What this CPU itself has of what is pending: a few one by one, else everything. INVLPG
 * drops all of the paging-structure caches too (Intel SDM vol. 3, 4.10.4.1), but a page
 * table may have gone with addresses that nobody wrote down. */
static void flush_own(const struct cpu *c)
{
    bool all = c->pend_count > FLUSH_FEW;
    for (uint32_t i = 0; i < c->pend_count && !all; i++) {
        const struct pend *p = &c->pend[i];
        if ((envs[p->env].flags & ENV_VM) != 0) continue; /* marked: before its next entry */
        all = (p->va & PEND_ANYWHERE) != 0 || (p->level & PEND_TABLE) != 0;
        if (!all && (p->entry == 0 || (p->entry & PTE_A) != 0)) flush_page(p->va);
    }
    if (all) flush_all();
}

/* After the round nobody can leave a dead thread a request any more; one left before is
 * in its CPU's list still. That CPU takes it out as soon as it can be interrupted, or, if
 * it waits here itself, at once. */
static void requests_settle(const struct cpu *c)
{
    for (uint32_t i = 0; i < c->pend_count; i++) {
        if (c->pend[i].level != PEND_THREAD) continue;
        const struct thread *t = &threads[c->pend[i].entry];
        while (__atomic_load_n(&t->requests, __ATOMIC_ACQUIRE) != 0) {
            requests_cancel();
            wait_serving();
        }
    }
}

void quiesce_pending(void)
{
    const struct cpu *c = this_cpu();
    nested_mark(c);
    if (c->pend_all != 0) {
        quiesce((1ul << ncpus) - 1);
        requests_settle(c);
        return;
    }
    uint64_t others = others_affected(c);
    if (others == 0)
        flush_own(c);
    else
        quiesce(others);
}
