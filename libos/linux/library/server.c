/* SPDX-License-Identifier: MIT
 *
 * Calls of the server, waiting, the log, the lock. */
#include "library.h"
#include "../../../lib/exo/text.h"

long wait_over(struct thread_state *t, long error)
{
    server(__NR_getpgrp, 0, 0, 0);
    long r = wait_result(t);
    return r >= 0 ? r : error;
}

long server_wait(uint64_t op, const uint64_t a[6], uint64_t deadline)
{
    struct thread_state *t = this_thread();
    if (t->waited) op |= LX_OP_AGAIN;
    t->waited = false;
    for (;; op |= LX_OP_AGAIN) {
        t->window->result = 0;
        long r = server6(op, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (!wait_wanted(r)) return r;
        bool firm = r == -LX_WAIT_FIRM;
        if (!firm && signals_pending(t)) return wait_over(t, -EINTR);
        if (deadline && tsc_now() >= deadline) return wait_over(t, -ETIMEDOUT);
        event_wait(t, deadline);
        if ((r = wait_result(t)) >= 0) return r;
        if (t->pin_end && process_window()->start.asked && !firm) return wait_over(t, -WAIT_MOVED);
        /* What was waited for may have come with a signal: then the call is done first. */
    }
}

long server_aside(uint64_t op, const uint64_t a[4], void *result, size_t n)
{
    uint8_t *bytes = this_thread()->window->bytes, kept[SERVER_ASIDE_MAX];
    memcpy(kept, bytes, n);
    long r = server6(op, a[0], a[1], a[2], a[3], 0, 0);
    memcpy(result, bytes, n);
    memcpy(bytes, kept, n);
    return r;
}

void log_line(const char *format, ...)
{
    char line[160];
    va_list list;
    va_start(list, format);
    int n = exo_vformat(line, sizeof(line), format, list);
    va_end(list);
    if (n < 0) return;
    if ((size_t)n >= sizeof(line)) n = sizeof(line) - 1;
    memcpy(this_thread()->window->bytes, line, (size_t)n);
    server(LX_OP_LOG, 0, (uint64_t)n, 0);
}

/* A holder that lost the CPU gets the rest of our time. A fault in the library's copies is
 * taken without the lock (library.h), so that nobody waits for himself. */
void lock(void)
{
    if (lx.threads <= 1) return;
    uint32_t free = 0;
    while (!__atomic_compare_exchange_n(&lx.lock, &free, this_thread()->index + 1, false,
                                        __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        free = 0;
        exo_yield();
    }
}

void unlock(void) { __atomic_store_n(&lx.lock, 0, __ATOMIC_RELEASE); }
