/* SPDX-License-Identifier: MIT
 *
 * Threads: a context of registers in an env, on one CPU for ever. Two frames: the
 * thread itself, and its upcall page, which it shares with the kernel.
 *
 * Owner: the CPU. Only it changes a thread's run state, queues, timers and calls,
 * with interrupts off; others leave requests, which a thread carries as bits while it
 * stands once in its CPU's list. What may be written from elsewhere: the registers of
 * a stopped thread (tree lock: one writer; each value is checked before it is stored,
 * so that a mixture is harmless), and `gone`, which is written once by its CPU.
 *
 * Invariants: a READY thread's base is in its CPU's ring. WAIT: no caller, no queue,
 * not in its handler. x.caller == y exactly if y is CALLING and y.callee == x.
 */
#include "vm.h"

#include "thread.h"

#define REQUESTS_MAX 32

void thread_init(frame_t f, frame_t env, unsigned cpu, cref_t owner)
{
    struct thread *t = &threads[f];
    page_clear(f);
    t->self = f;
    t->env = env;
    t->cap_first = env_caps(env);
    t->nsel = envs[env].nsel;
    t->cpu = (uint16_t)cpu;
    t->upcall = f + 1;
    t->cr3 = (uint64_t)envs[env].root * EXO_PAGE;
    t->owner = owner;
    t->regs.cs = USER_CODE;
    t->regs.ss = USER_DATA;
    t->regs.rflags = RFLAGS_FIXED;
    t->state = EXO_T_STOPPED;
    fpu_init(f);
    if ((envs[env].flags & ENV_VM) != 0) vm_init(t);
}

/* ---- requests of other CPUs --------------------------------------------------------- */

/* Many push, one pops: a thread at the head can only be taken away by the popper. */
/*@ requires (c == &the_cpu || \exists integer k; 0 <= k < EXO_MAX_CPUS && c == &cpus[k]) && a_thread(t); KEEPS */
static void request_push(struct cpu *c, struct thread *t)
{
    frame_t head = __atomic_load_n(&c->requests, __ATOMIC_RELAXED);
    /*@ loop invariant head < OBJECT_END;
        loop invariant ok: sched_ok;
        loop assigns head, STATE; */
    do
        t->request_next = head;
    while (!__atomic_compare_exchange_n(&c->requests, &head, t->self, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED));
}

/*@ requires c == &the_cpu; KEEPS
    ensures \result == \null || a_thread(\result); */
static struct thread *request_pop(struct cpu *c)
{
    frame_t head = __atomic_load_n(&c->requests, __ATOMIC_ACQUIRE);
    /*@ loop invariant head < OBJECT_END;
        loop invariant ok: sched_ok;
        loop assigns head, STATE; */
    do
        if (head == 0) return NULL;
    while (!__atomic_compare_exchange_n(&c->requests, &head, threads[head].request_next, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE));
    return &threads[head];
}

void thread_request(frame_t f, uint32_t request)
{
    struct thread *t = &threads[f];
    uint32_t old = __atomic_fetch_or(&t->requests, request | THREAD_REQ_QUEUED, __ATOMIC_SEQ_CST);
    if ((old & THREAD_REQ_QUEUED) != 0) return;
    request_push(&cpus[t->cpu], t);
    ipi_cpu(t->cpu);
}

void requests_cancel(void)
{
    struct cpu *c = this_cpu();
    frame_t kept = 0;
    /*@ loop invariant (t == \null || a_thread(t)) && kept < OBJECT_END;
        loop invariant ok: sched_ok;
        loop assigns t, kept, STATE; */
    for (struct thread *t = request_pop(c); t != NULL; t = request_pop(c)) {
        if (t->gone != 0) {
            __atomic_store_n(&t->requests, 0, __ATOMIC_RELEASE);
            continue;
        }
        t->request_next = kept;
        kept = t->self;
    }
    /*@ loop invariant kept < OBJECT_END;
        loop invariant ok: sched_ok;
        loop assigns kept, STATE; */
    while (kept != 0) {
        struct thread *t = &threads[kept];
        kept = t->request_next;
        request_push(c, t);
    }
}

/* A step of making t unknown to this CPU. False: it has more callers than one step takes. */
/*@ requires a_thread(t); KEEPS */
static bool thread_forget(struct thread *t)
{
    thread_halt(t);
    if (!callers_fail(t, -EXO_E_DEAD)) return false;
    timers_forget(t);
    sched_forget(t->self);
    fpu_forget(t->self);
    if ((t->slow & SLOW_VM) != 0) vm_forget(t);
    __atomic_store_n(&t->gone, 1, __ATOMIC_RELEASE);
    return true;
}

/*@ requires a_thread(t); KEEPS */
static void thread_resume(struct thread *t)
{
    if (t->state != EXO_T_STOPPED && t->state != EXO_T_FAULTED) return;
    t->state = EXO_T_READY;
    sched_wake(t);
    if (t->slow != 0) event_check(t);
}

/* START is seen until the state tells what it did: thread_is_still. */
/*@ requires a_thread(t); KEEPS */
static void request_serve(struct thread *t)
{
    uint32_t requests = __atomic_fetch_and(&t->requests, THREAD_REQ_START, __ATOMIC_SEQ_CST);
    if ((requests & THREAD_REQ_WAKE) != 0) event_check(t);
    if ((requests & THREAD_REQ_START) != 0) {
        thread_resume(t);
        __atomic_fetch_and(&t->requests, ~THREAD_REQ_START, __ATOMIC_SEQ_CST);
    }
    if ((requests & THREAD_REQ_STOP) != 0) thread_halt(t);
    if ((requests & THREAD_REQ_DETACH) != 0) thread_forget(t);
}

/* Who has destroyed a thread may wait for no more than its requests to be 0, and its
 * frame is another's then: they are the last of it that is touched. */
void requests_serve(void)
{
    struct cpu *c = this_cpu();
    /*@ loop invariant 0 <= i <= REQUESTS_MAX;
        loop invariant ok: sched_ok;
        loop assigns i, STATE;
        loop variant REQUESTS_MAX - i; */
    for (unsigned i = 0; i < REQUESTS_MAX; i++) {
        struct thread *t = request_pop(c);
        if (t == NULL) return;
        if (t->gone == 0)
            request_serve(t);
        else
            __atomic_store_n(&t->requests, 0, __ATOMIC_RELEASE);
    }
    if (__atomic_load_n(&c->requests, __ATOMIC_RELAXED) != 0) ipi_cpu(c->id);
}

/* ---- stopping and ending --------------------------------------------------------------- */

void thread_stopped(struct thread *t, uint32_t state)
{
    if (this_cpu()->cur == t->self && t->state == EXO_T_READY) thread_leave(t->self);
    __atomic_store_n(&t->state, state, __ATOMIC_RELEASE);
    sched_block(t);
}

void thread_halt(struct thread *t)
{
    switch (t->state) {
    case EXO_T_STOPPED:
        return;
    case EXO_T_EVENT:
        thread_result(t, 0);
        break;
    case EXO_T_WAIT:
        wait_leave(t, 0);
        break;
    case EXO_T_CALLING:
    case EXO_T_QUEUED:
        call_withdraw(t);
        call_fail(t, -EXO_E_DEAD);
        break;
    default:
        break;
    }
    timeout_set(t, 0);
    thread_stopped(t, EXO_T_STOPPED);
}

long thread_detach(frame_t f)
{
    struct thread *t = &threads[f];
    if (f == this_cpu()->cur) return -EXO_E_STATE;
    if (__atomic_load_n(&t->gone, __ATOMIC_ACQUIRE) == 0) {
        if (t->cpu != this_cpu()->id) {
            thread_request(f, THREAD_REQ_DETACH);
            return -EXO_E_AGAIN;
        }
        if (!thread_forget(t)) return -EXO_E_AGAIN;
    }
    if (envs[t->env].revoker == f) envs[t->env].revoker = 0;
    if (t->slots != 0) slots_forget(f);
    if (t->irqs != 0) irqs_forget(f);
    return 0;
}

/* ---- system calls --------------------------------------------------------------------------- */

/*@ requires a_thread(t); READS */
static bool thread_is_local(const struct thread *t) { return t->cpu == this_cpu()->id; }

/* Stopped, and nothing on its way that would change that. */
/*@ requires a_thread(t); READS */
static bool thread_is_still(const struct thread *t)
{
    uint32_t requests = __atomic_load_n(&t->requests, __ATOMIC_ACQUIRE);
    uint32_t state = __atomic_load_n(&t->state, __ATOMIC_ACQUIRE);
    return (state == EXO_T_STOPPED || state == EXO_T_FAULTED) && (requests & THREAD_REQ_START) == 0;
}

long revoker_set(frame_t e, frame_t t)
{
    lock_tree();
    bool alive = t == 0 || threads[t].gone == 0;
    if (alive) envs[e].revoker = t;
    unlock_tree();
    return alive ? 0 : -EXO_E_DYING;
}

/*@ requires a_thread(t); KEEPS_ENVS */
static long thread_set(struct thread *t, uint64_t what, uint64_t a, uint64_t b)
{
    bool vm = (t->slow & SLOW_VM) != 0;
    if (what == EXO_SET_UPCALL ? vm : what >= EXO_SET_VMASK && what <= EXO_SET_VHYPER && !vm)
        return -EXO_E_TYPE;
    switch (what) {
    case EXO_SET_UPCALL:
        if (!user_address(a) || !user_address(b)) return -EXO_E_ARG;
        t->upcall_entry = a;
        t->upcall_sp = b;
        return 0;
    case EXO_SET_FAULT:
    case EXO_SET_RECEIVE:
        if (a >= t->nsel) return -EXO_E_ARG;
        if (what == EXO_SET_FAULT)
            t->fault_sel = (uint32_t)a;
        else
            t->receive_sel = (uint32_t)a;
        return 0;
    case EXO_SET_REVOKE:
        return revoker_set(t->env, t->self);
    case EXO_SET_SLICE:
        if (a > EXO_SLOT_US / 2) return -EXO_E_ARG;
        t->slice_warning = (uint32_t)(a * slot_ticks / EXO_SLOT_US);
        return 0;
    default:
        return vm ? vm_set(t, what, a, b) : -EXO_E_ARG;
    }
}

/*@ KEEPS_ENVS */
long sys_thread_set(uint64_t sel, uint64_t what, uint64_t a, uint64_t b)
{
    frame_t f;
    long r = thread_find(sel, EXO_THREAD_CONTROL, &f);
    if (r != 0) return r;
    struct thread *t = &threads[f];
    if (!thread_is_local(t) && !thread_is_still(t)) return -EXO_E_STATE;
    return thread_set(t, what, a, b);
}

/* Registers of a thread that starts anew: nothing of its past but fs, gs and a caller. */
/*@ requires a_thread(t); KEEPS */
static void regs_begin(struct thread *t, uint64_t rip, uint64_t rsp, uint64_t word)
{
    t->regs = (struct kregs){.rip = rip,
                             .rsp = rsp,
                             .rdi = word,
                             .cs = USER_CODE,
                             .ss = USER_DATA,
                             .rflags = RFLAGS_FIXED};
    t->fs_base = t->gs_base = 0;
    t->in_handler = 0;
}

/*@ KEEPS */
static long thread_start(uint64_t sel, uint64_t rip, uint64_t rsp, uint64_t word)
{
    frame_t f;
    long r = thread_find(sel, EXO_THREAD_CONTROL, &f);
    if (r != 0) return r;
    struct thread *t = &threads[f];
    if (!user_address(rip) || !user_address(rsp)) return -EXO_E_VA;
    if (rip != 0 && (t->slow & SLOW_VM) != 0) return -EXO_E_TYPE;
    lock_tree();
    if (!thread_is_still(t) || t->gone != 0) {
        unlock_tree();
        return -EXO_E_STATE;
    }
    if (rip != 0) regs_begin(t, rip, rsp, word);
    if (thread_is_local(t))
        thread_resume(t);
    else
        thread_request(f, THREAD_REQ_START);
    unlock_tree();
    return 0;
}

/*@ requires a_thread(t); KEEPS */
void sys_thread_start(struct thread *t)
{
    thread_result(t, thread_start(t->regs.rdi, t->regs.rsi, t->regs.rdx, t->regs.r10));
}

/*@ requires a_thread(t); KEEPS */
void sys_thread_stop(struct thread *t)
{
    frame_t f;
    long r = thread_find(t->regs.rdi, EXO_THREAD_CONTROL, &f);
    thread_result(t, r);
    if (r != 0) return;
    if (thread_is_local(&threads[f])) {
        thread_halt(&threads[f]);
    } else if (!thread_is_still(&threads[f])) {
        thread_request(f, THREAD_REQ_STOP);
        thread_result(t, -EXO_E_AGAIN);
    }
}

/* The general registers, in the order of both structures: r15 to rdi. */
#define GENERAL 15
_Static_assert(offsetof(struct exo_regs, rdi) == (GENERAL - 1) * sizeof(uint64_t), "order");
_Static_assert(offsetof(struct kregs, rdi) == (GENERAL - 1) * sizeof(uint64_t), "order");

/* The target fetches each register once, so that what is checked is what is stored. */
/*@ requires \valid(to + (0 .. n - 1)) && \valid_read(from + (0 .. n - 1)) && n <= 64;
    assigns to[0 .. n - 1]; */
static void regs_copy(uint64_t *to, const uint64_t *from, unsigned n)
{
    /*@ loop invariant 0 <= i <= n;
        loop assigns i, to[0 .. n - 1];
        loop variant n - i; */
    for (unsigned i = 0; i < n; i++)
        to[i] = fetch(&from[i]);
}

/*@ KEEPS */
long sys_thread_read(uint64_t sel)
{
    frame_t f;
    long r = thread_find(sel, EXO_THREAD_CONTROL, &f);
    if (r != 0) return r;
    struct thread *t = &threads[f];
    struct exo_regs *u = &upcalls[this_thread()->upcall].regs;
    if ((t->slow & SLOW_VM) != 0) return -EXO_E_TYPE;
    if (!thread_is_still(t)) return -EXO_E_STATE;
    lock_tree();
    regs_copy(&u->r15, &t->regs.r15, GENERAL);
    u->rip = t->regs.rip;
    u->rflags = t->regs.rflags;
    u->rsp = t->regs.rsp;
    u->fs_base = t->fs_base;
    u->gs_base = t->gs_base;
    u->vector = t->regs.vector;
    u->error = t->regs.error;
    u->addr = t->fault_addr;
    unlock_tree();
    return t->state;
}

/*@ KEEPS */
long sys_thread_write(uint64_t sel)
{
    frame_t f;
    struct exo_regs u;
    long r = thread_find(sel, EXO_THREAD_CONTROL, &f);
    if (r != 0) return r;
    struct thread *t = &threads[f];
    if ((t->slow & SLOW_VM) != 0) return -EXO_E_TYPE;
    regs_copy(&u.r15, &upcalls[this_thread()->upcall].regs.r15, sizeof u / sizeof u.r15);
    if (!user_address(u.rip) || !user_address(u.fs_base) || !user_address(u.gs_base))
        return -EXO_E_VA;
    lock_tree();
    bool still = thread_is_still(t);
    if (still) {
        regs_copy(&t->regs.r15, &u.r15, GENERAL);
        t->regs.rip = u.rip;
        t->regs.rflags = user_flags(u.rflags);
        t->regs.rsp = u.rsp;
        t->fs_base = u.fs_base;
        t->gs_base = u.gs_base;
    }
    unlock_tree();
    return still ? 0 : -EXO_E_STATE;
}

/*@ KEEPS */
long sys_thread_info(uint64_t sel)
{
    frame_t f;
    long r = thread_find(sel, 0, &f);
    if (r != 0) return r;
    const struct thread *t = &threads[f];
    struct exo_batch *list = upcalls[this_thread()->upcall].list;
    list[0].va = f;
    list[0].frame = t->env;
    list[1].va = t->cpu;
    return __atomic_load_n(&t->state, __ATOMIC_RELAXED);
}
