/* SPDX-License-Identifier: MIT
 *
 * futex(2) of a word that lies in a shared mapping, without FUTEX_PRIVATE_FLAG: other processes
 * may have it at other addresses, so the server keeps who waits for it, by the physical address.
 * A thread says once that it waits; the server's mark that it was woken (lx_window.result) stays,
 * whatever other calls it makes meanwhile. */
#include "futex.h"
#include <linux/futex.h>
#include <linux/mman.h>
#include "../../../lib/exo/text.h"

static long place_find(uint64_t address)
{
    const struct vma *vma = vma_find(address);
    if (!vma || !(vma->flags & MAP_SHARED)) return 0;
    if (user_touch(address, 4, false) < 0) return -EFAULT;
    const uint32_t *entry = page_entry(address, false);
    if (!entry || !(*entry & (PG_SHARED | PG_FILE))) return -EFAULT;
    return (long)((*entry & PG_FRAME) * PAGE + address % PAGE);
}

long futex_place(uint64_t address, uint64_t command)
{
    if (command & FUTEX_PRIVATE_FLAG || !lx.shares) return 0;
    lock();
    long place = place_find(address);
    unlock();
    return place;
}

/* The wait is over: 0 when somebody woke us meanwhile, else `otherwise`. */
static long wait_end(long otherwise)
{
    return server(LX_OP_FUTEX_END, 0, 0, 0) == 0 ? 0 : otherwise;
}

long futex_wait_at(struct thread_state *t, long place, uint32_t value, uint32_t bits,
                   uint64_t deadline)
{
    if (!bits) return -EINVAL;
    t->window->result = 0;
    long r = server(LX_OP_FUTEX_WAIT, (uint64_t)place, value, bits);
    if (r != -LX_WAIT) return r;
    while (wait_result(t) < 0) {
        if (signals_pending(t)) return wait_end(deadline ? -EINTR : -RESTART_SYS);
        if (deadline && tsc_now() >= deadline) return wait_end(-ETIMEDOUT);
        event_wait(t, deadline);
    }
    return 0;
}

long futex_wake_at(long place, uint32_t n, uint32_t bits)
{
    return server(LX_OP_FUTEX_WAKE, (uint64_t)place, n, bits);
}
