/* SPDX-License-Identifier: MIT
 *
 * futex(2) of words that processes share (MAP_SHARED), named by where they lie: whoever has the
 * frame may wait there and wake. Each thread has at most one place it waits at, which it keeps
 * through other calls, until it is woken (lx_window.result becomes 1), says that it waits no more,
 * or ends. Who waits longest is woken first. */
#include "futex.h"
#include "../process/memory.h"
#include "../process/process.h"

static uint32_t waiters; /* threads that wait */
static uint64_t tickets;

void futex_leave(struct thread *t)
{
    if (t->futex) waiters--;
    t->futex = 0;
}

/* Whether the thread's process may use the word at that physical address. */
static bool word_allowed(const struct thread *t, uint64_t place)
{
    return place && place % 4 == 0 &&
           frames_allowed(t->process, place / EXO_PAGE, place / EXO_PAGE, false);
}

long op_futex_wait(struct thread *t, const uint64_t a[6])
{
    futex_leave(t);
    if (!word_allowed(t, a[0])) return -EFAULT;
    const uint32_t *page = frame_data((uint32_t)(a[0] / EXO_PAGE));
    if (__atomic_load_n(&page[a[0] % EXO_PAGE / 4], __ATOMIC_SEQ_CST) != (uint32_t)a[1])
        return -EAGAIN;
    t->futex = a[0];
    t->futex_bits = (uint32_t)a[2];
    t->futex_ticket = tickets++;
    waiters++;
    return -LX_WAIT;
}

static struct thread *waiter_first(uint64_t place, uint32_t bits)
{
    struct thread *best = NULL;
    for (unsigned i = 0; waiters && i < LX_ALL_THREADS; i++) {
        struct thread *t = &threads[i];
        if (!t->process || t->futex != place || !(t->futex_bits & bits)) continue;
        if (!word_allowed(t, place)) { /* it gave the memory back: the frame is others' now */
            futex_leave(t);
            continue;
        }
        if (!best || t->futex_ticket < best->futex_ticket) best = t;
    }
    return best;
}

uint32_t futex_wake(uint64_t place, uint32_t most, uint32_t bits)
{
    struct thread *t;
    uint32_t done = 0;
    while (done < most && (t = waiter_first(place, bits))) {
        futex_leave(t);
        __atomic_store_n(&t->window->result, 1, __ATOMIC_RELEASE);
        thread_wake(t);
        done++;
    }
    return done;
}

long op_futex_wake(struct thread *thread, const uint64_t a[6])
{
    if (!word_allowed(thread, a[0])) return -EFAULT;
    return futex_wake(a[0], (uint32_t)a[1], (uint32_t)a[2]);
}

long op_futex_end(struct thread *t, const uint64_t a[6])
{
    (void)a;
    bool waited = t->futex != 0;
    futex_leave(t);
    return waited;
}
