/* SPDX-License-Identifier: MIT
 *
 * Borrowed envs: see borrow.h. While there is a borrower, its process_memory is the lender's, and
 * so is everything that lies there: extents, handles, the swap store's slots (memory_owner). What
 * the window says of one process is exchanged: pid, pending signals, descriptors, times. Signals to
 * the lender wait in `lent`; one that is killed leaves the env, and his place in the table, to the
 * borrower until that is out of it.
 *
 * All ways back begin with a call of the thread itself, from its library, which then puts back
 * what it knows of the parent (library/borrow.c). Where that cannot be, the env is destroyed, and
 * both end (process_end). */
#include "borrow.h"
#include "../files/files.h"
#include <asm/signal.h>

static void thread_move(struct thread *t, struct process *to)
{
    struct process *from = t->process;
    from->threads[0] = NULL;
    from->thread_count--;
    t->process = to;
    t->tid = to->pid;
    to->threads[0] = t;
    to->thread_count++;
    t->window->start.pid = (uint64_t)to->pid;
    t->window->start.ppid = to->parent ? (uint64_t)to->parent->pid : 0;
}

static uint64_t signals_exchange(struct lx_window *window, uint64_t signals)
{
    uint64_t own = __atomic_exchange_n(&window->signals, 0, __ATOMIC_ACQ_REL);
    return own | __atomic_exchange_n(&window->start.signals, signals, __ATOMIC_ACQ_REL);
}

static void borrow_begin(struct process *child, struct process *lender, uint64_t signals)
{
    struct thread *t = lender->threads[0];
    struct lx_window *window = t->window;
    uint64_t used = thread_used(t), now = exo_tsc();
    child->memory = lender->memory;
    child->borrows = lender;
    child->vfork = true;
    lender->borrower = child;
    lender->lent.started = t->started;
    lender->lent.waited = __atomic_load_n(&window->waited, __ATOMIC_RELAXED);
    lender->lent.robust = __atomic_load_n(&window->robust, __ATOMIC_RELAXED);
    lender->lent.no_zombies = __atomic_load_n(&window->start.no_zombies, __ATOMIC_RELAXED);
    lender->lent.used = used;
    lender->lent.since = now;
    lender->used += used;
    window->started = t->started = now;
    window->waited = window->since = window->robust = 0;
    thread_move(t, child);
    lender->lent.signals = signals_exchange(window, signals);
}

uint64_t borrow_end(struct process *child)
{
    struct process *lender = child->borrows;
    struct thread *t = child->threads[0];
    struct lx_window *window = t->window;
    thread_settle(t);
    t->stopping = false;
    child->used += thread_used(t);
    child->memory = process_memory(child);
    child->borrows = NULL;
    lender->borrower = NULL;
    lender->used -= lender->lent.used;
    window->started = t->started = lender->lent.started;
    window->waited = lender->lent.waited + exo_tsc() - lender->lent.since;
    window->since = 0;
    window->robust = lender->lent.robust;
    window->start.no_zombies = lender->lent.no_zombies;
    thread_move(t, lender);
    fds_show(lender);
    return signals_exchange(window, lender->lent.signals);
}

long borrow_fork(struct thread *thread, int exit_signal)
{
    struct process *lender = thread->process;
    if (thread->index || lender->thread_count != 1 || lender->borrows || lender->vfork)
        return -EINVAL;
    struct process *child = process_new(lender);
    if (!child) return -EAGAIN;
    child->exit_signal = exit_signal;
    fds_fork(lender, child);
    borrow_begin(child, lender, 0);
    return child->pid;
}

/* ---- exec -------------------------------------------------------------------------------------- */

/* The mapping handle becomes the child's. */
static long handle_move(struct process *lender, struct process *child, uint64_t i)
{
    struct process_memory *from = lender->memory, *to = child->memory;
    if (i >= LX_HANDLES || !from->handle[i]) return -EBADF;
    to->handle[0] = from->handle[i];
    to->handles = 1;
    from->handle[i] = NULL;
    while (from->handles && !from->handle[from->handles - 1])
        from->handles--;
    return 0;
}

/* The child's first extent, with the stack in it: the window begins with where it is. */
static long stack_take(struct process *child, struct iobuf *stack)
{
    struct process_memory *m = child->memory;
    uint32_t frames = (uint32_t)((LX_STAGE_SP + stack->left + EXO_PAGE - 1) / EXO_PAGE);
    if (frames < LX_EXTENT_FEW) frames = LX_EXTENT_FEW;
    long number = extent_new(child, frames, LX_FOR_MEMORY, true);
    if (number < 0) return number;
    m->extent[0] = (uint16_t)number;
    m->extents = 1;
    if (extent_derive(child, (uint16_t)number, LX_SEL_EXTENT, EXO_R | EXO_W | EXO_X) < 0)
        return -ENOMEM;
    uint32_t first = extent_first((uint16_t)number);
    *(struct lx_handed *)child->threads[0]->window->bytes =
        (struct lx_handed){first, extent_count((uint16_t)number), (uint64_t)number};
    iobuf_get(stack, (uint8_t *)frame_data(first) + LX_STAGE_SP, stack->left);
    return 0;
}

/* The child has no env any more: one is made, with what the new program begins with. */
static long away_build(struct process *child, struct thread *thread, const uint64_t a[6],
                       struct iobuf *stack)
{
    size_t bytes = a[5] >> 32 & 0xffff;
    long r = spawn_build(child);
    if (r < 0) return r;
    struct lx_window *window = child->threads[0]->window;
    window->refused = thread->window->refused;
    memcpy(window->bytes, thread->window->bytes, bytes);
    r = stack_take(child, stack);
    if (r == 0) r = exec_names(child, thread, a);
    return r < 0 ? r : handle_move(thread->process, child, a[5] >> 48);
}

/* Signals that are pending go along, with what is known of them. */
static void signals_take(struct process *child, const struct process *lender, uint64_t signals)
{
    process_window(child)->start.signals = signals;
    for (; signals; signals &= signals - 1) {
        unsigned i = (unsigned)__builtin_ctzl(signals);
        child->memory->info[i] = lender->memory->info[i];
    }
}

long op_exec_away(struct thread *thread, const uint64_t a[6])
{
    struct process *child = thread->process, *lender = child->borrows;
    struct iobuf stack;
    uint64_t length = (uint32_t)a[5];
    if (!lender || !length || length > LX_STAGE_FAR_PAGES * EXO_PAGE - LX_STAGE_SP ||
        (a[5] >> 32 & 0xffff) < sizeof(struct lx_handed) || (a[5] >> 32 & 0xffff) > LX_WINDOW_BYTES)
        return -EINVAL;
    long r = iobuf_from(&stack, thread, a[4], length, false);
    if (r < 0) return r;
    uint64_t signals = borrow_end(child);
    r = away_build(child, thread, a, &stack);
    if (r < 0) {
        spawn_end(child, false);
        borrow_begin(child, lender, signals);
        fds_show(child);
        return r;
    }
    signals_take(child, lender, signals);
    fds_show(child);
    child->exit_signal = SIGCHLD;
    child->executed = true;
    fds_exec(child);
    process_release(child);
    if (spawn_start(child, LX_START_HANDED) < 0) process_end(child, SIGKILL);
    process_left(lender);
    return 0;
}
