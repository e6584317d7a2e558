/* SPDX-License-Identifier: MIT
 *
 * Exceptions and interrupts above the assembly. An exception of user code is the
 * thread's own matter (core's fault_take); only #NM, the FPU's, is ours. One in the
 * kernel, and NMI, #DF and #MC anywhere, stop the machine.
 *
 * FPU: the registers hold the state of percpu.fpu_owner. On CPUs that are safe CR0.TS
 * is set while another thread runs, and its first use of the FPU (#NM) switches; on the
 * others the state is switched with the thread, and TS is never set, but while a virtual CPU's
 * monitor runs behind a quick exit. A virtual CPU's is in the registers while its guest runs,
 * and TS set on the former (vm.c). Invariant there: TS
 * is clear only while the owner, a native thread, runs. Interrupts are off.
 */
#include "entry.h"
#include "quiesce.h"

/* Exceptions: Intel SDM vol. 3, 6.15. */
#define VECTOR_NM 7
#define VECTOR_PF 14

_Static_assert(USER_CODE == SEL_USER_CODE && USER_DATA == SEL_USER_DATA, "selectors");

/* ---- FPU ---------------------------------------------------------------------------- */

static void fpu_save(struct thread *t)
{
    __asm__ volatile("xsave64 (%0)" : : "r"(t->fpu), "a"(-1), "d"(-1) : "memory");
}

static void ts_set(struct percpu *p)
{
    if (p->ts_set != 0 || fpu_eager) return;
    cr0_write(cr0_read() | CR0_TS);
    p->ts_set = 1;
}

static void fpu_exchange(struct percpu *p, struct thread *t)
{
    __asm__ volatile("clts");
    p->ts_set = 0;
    if (p->fpu_owner == t) return;
    if (p->fpu_owner != NULL) fpu_save(p->fpu_owner);
    __asm__ volatile("xrstor64 (%0)" : : "r"(t->fpu), "a"(-1), "d"(-1) : "memory");
    p->fpu_owner = t;
    p->guest_in = NULL;
}

void fpu_follow(struct percpu *p, struct thread *next)
{
    if (fpu_eager && next != NULL)
        fpu_exchange(p, next);
    else if (p->fpu_owner != next)
        ts_set(p);
}

void fpu_lend(struct percpu *p, struct thread *t)
{
    if (p->fpu_owner != t) fpu_exchange(p, t);
    ts_set(p);
}

void vcpu_fpu_flush(struct thread *t)
{
    struct percpu *p = percpu();
    if (p->fpu_owner != t) return;
    __asm__ volatile("clts");
    fpu_save(t);
    p->fpu_owner = p->guest_in = NULL;
    cr0_write(cr0_read() | CR0_TS);
}

/* The initial state: in the XSAVE header nothing; XRSTOR loads MXCSR even so (Intel SDM
 * vol. 1, 13.8.1). */
void fpu_init(frame_t f) { *(uint32_t *)&threads[f].fpu[24] = 0x1f80; }

void fpu_forget(frame_t f)
{
    struct percpu *p = percpu();
    if (p->fpu_owner == &threads[f]) p->fpu_owner = p->guest_in = NULL;
}

/* ---- interrupts ------------------------------------------------------------------------- */

/* A device's: its event is raised, and the line stays masked until irq_ack. */
static void irq_take(unsigned irq)
{
    struct exo_irq *line = &irqs[irq];
    __atomic_store_n(&line->masked, 1, __ATOMIC_RELAXED);
    irq_mask(irq);
    line->count++;
    frame_t thread = fetch32(&line->thread);
    if (thread != 0) event_raise(thread, fetch(&line->bits));
}

void trap_interrupt(uint64_t vector)
{
    if (vector < VECTOR_IRQ + EXO_IRQ_COUNT) {
        irq_take((unsigned)vector - VECTOR_IRQ);
        lapic_eoi();
        return;
    }
    if (vector == VECTOR_SPURIOUS) return; /* without EOI: Intel SDM vol. 3, 10.9 */
    lapic_eoi();
    if (vector == VECTOR_TIMER) {
        timer_interrupt();
        check_tick();
        this_cpu()->resched |= RESCHED_EXIT;
    } else if (vector == VECTOR_IPI) {
        requests_serve();
        this_cpu()->resched |= RESCHED_CHOOSE;
    } else if (vector == VECTOR_QUIESCE) {
        quiesce_serve();
    }
}

/* ---- from user mode ------------------------------------------------------------------------ */

void trap_user(struct thread *t)
{
    uint64_t vector = t->regs.vector;
    if (vector >= VECTOR_IRQ) {
        trap_interrupt(vector);
        return;
    }
    if (vector == VECTOR_NM) {
        fpu_exchange(percpu(), t);
        return;
    }
    fault_take(t, vector == VECTOR_PF ? cr2_read() : 0);
#ifdef EXO_DEBUG
    if (t->state == EXO_T_FAULTED)
        kprintf("thread %x: stopped by exception %u, error %lx, address %lx, rip %lx\n", t->self,
                (unsigned)vector, t->regs.error, t->fault_addr, t->regs.rip);
#endif
}

void trap_panic(const struct kregs *k)
{
    if (panicking != 0) cpu_halt();
    kprintf("rax %lx rbx %lx rcx %lx rdx %lx\n", k->rax, k->rbx, k->rcx, k->rdx);
    kprintf("rsi %lx rdi %lx rbp %lx rsp %lx\n", k->rsi, k->rdi, k->rbp, k->rsp);
    kprintf("r8 %lx r9 %lx r10 %lx r11 %lx\n", k->r8, k->r9, k->r10, k->r11);
    kprintf("r12 %lx r13 %lx r14 %lx r15 %lx\n", k->r12, k->r13, k->r14, k->r15);
    kprintf("cs %lx ss %lx rflags %lx cr2 %lx cr3 %lx\n", k->cs, k->ss, k->rflags, cr2_read(),
            cr3_read());
    panic("exception %u in the kernel, error %lx, rip %lx", (unsigned)k->vector, k->error, k->rip);
}
