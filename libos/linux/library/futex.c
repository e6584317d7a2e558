/* SPDX-License-Identifier: MIT
 *
 * futex(2). Within one process: each thread notes in its state what address it waits for, and
 * who wakes looks at all threads. No lock: a waiter notes the address before it looks at the
 * word, a waker changes the word before it looks for addresses, and an address leaves a
 * thread's note by one compare-and-exchange, by whoever ends the wait. The words are the
 * program's: they may fault, so the lock could not be held. What processes share is in
 * futex_shared.c. */
#include "futex.h"
#include <linux/futex.h>
#include <linux/time.h>
#include "../../../lib/exo/text.h"

#define ROBUST_MAX 2048 /* entries of a list: Linux' ROBUST_LIST_LIMIT */

static inline __attribute__((always_inline)) struct thread_state *waiter_first(uint64_t address,
                                                                               uint32_t bits)
{
    struct thread_state *best = NULL;
    for (uint32_t map = lx.live; map; map &= map - 1) {
        struct thread_state *t = thread_at((uint32_t)__builtin_ctz(map));
        if (t->futex_key != address || !(t->futex_bits & bits)) continue;
        if (!best || t->futex_ticket < best->futex_ticket) best = t;
    }
    return best;
}

static bool key_change(struct thread_state *t, uint64_t from, uint64_t to)
{
    return __atomic_compare_exchange_n(&t->futex_key, &from, to, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

/* Wakes at most n waiters of an address: how many. */
static long futex_wake(uint64_t address, uint32_t n, uint32_t bits)
{
    uint32_t done = 0;
    while (done < n) {
        struct thread_state *t = waiter_first(address, bits);
        if (!t) break;
        if (!key_change(t, address, 0)) continue;
        if (!__atomic_load_n(&t->futex_ready, __ATOMIC_SEQ_CST)) exo_event_signal(t->event);
        done++;
    }
    if (done) this_thread()->futex_woke = true;
    return done;
}

static bool woken(const struct thread_state *t)
{
    return !__atomic_load_n(&t->futex_key, __ATOMIC_SEQ_CST);
}

/* The wait is over: 0 when somebody woke us meanwhile, else `otherwise`. */
static long wait_end(struct thread_state *t, long otherwise)
{
    for (;;) { /* a requeue may change the address */
        uint64_t key = __atomic_load_n(&t->futex_key, __ATOMIC_SEQ_CST);
        if (key && key_change(t, key, 0)) return otherwise;
        if (!key) return 0;
    }
}

/* The thread is a waiter from here on: 0, or what ended that. */
static inline __attribute__((always_inline)) long
wait_begin(struct thread_state *t, uint64_t address, uint32_t value, uint32_t bits)
{
    uint32_t now;
    t->futex_bits = bits;
    t->futex_ticket = __atomic_fetch_add(&lx.futex_tickets, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&t->futex_key, address, __ATOMIC_SEQ_CST);
    long error = user_get(&now, address, sizeof(now));
    if (error == 0 && now == value) return 0;
    return wait_end(t, error < 0 ? error : -EAGAIN);
}

/* Whom this thread woke may be about to wake it: he gets the CPU, and need not tell the kernel
 * when he does. LEAF_FULL: he did not. */
static long wait_ready(struct thread_state *t, uint64_t address, uint32_t value)
{
    t->futex_woke = false;
    t->futex_ready = true;
    long r = wait_begin(t, address, value, FUTEX_BITSET_MATCH_ANY);
    bool begun = !woken(t);
    if (begun) turn_give(t);
    __atomic_store_n(&t->futex_ready, false, __ATOMIC_SEQ_CST);
    return begun ? wait_end(t, LEAF_FULL) : r;
}

/* deadline: time-stamp counter, 0 none. */
static long futex_wait(struct thread_state *t, uint64_t address, uint32_t value, uint32_t bits,
                       uint64_t deadline)
{
    if (!bits) return -EINVAL;
    long error = wait_begin(t, address, value, bits);
    if (error < 0) return error;
    while (!woken(t)) {
        if (signals_pending(t)) return wait_end(t, deadline ? -EINTR : -RESTART_SYS);
        if (deadline && tsc_now() >= deadline) return wait_end(t, -ETIMEDOUT);
        event_wait(t, deadline);
    }
    return 0;
}

/* The same wherever the word is; command: futex(2)'s. */
static long wake_anywhere(uint64_t address, uint64_t command, uint32_t n, uint32_t bits)
{
    long place = futex_place(address, command);
    if (place < 0) return place;
    return place ? futex_wake_at(place, n, bits) : futex_wake(address, n, bits);
}

/* Wakes n waiters of an address and moves at most `moved` others to another one. */
static long futex_requeue(uint64_t from, uint64_t command, uint32_t n, uint64_t to, uint32_t moved)
{
    long place = futex_place(from, command);
    if (place < 0) return place;
    if (place) /* they are woken instead, which they have to expect */
        return futex_wake_at(place, n > UINT32_MAX - moved ? UINT32_MAX : n + moved,
                             FUTEX_BITSET_MATCH_ANY);
    long done = futex_wake(from, n, FUTEX_BITSET_MATCH_ANY), count = 0;
    while (count < moved) {
        struct thread_state *t = waiter_first(from, FUTEX_BITSET_MATCH_ANY);
        if (!t) break;
        count += key_change(t, from, to);
    }
    return done + count;
}

/* FUTEX_WAKE_OP's operation on the second word: whether its old value compares so; or
 * negative. */
static long word_operate(uint64_t address, uint32_t operation)
{
    uint32_t kind = operation >> 28 & 7, compare = operation >> 24 & 15, old, new;
    int32_t argument = (int32_t)(operation << 8) >> 20, with = (int32_t)(operation << 20) >> 20;
    if (operation >> 28 & FUTEX_OP_OPARG_SHIFT) argument = (int32_t)(1u << (argument & 31));
    if (user_touch(address, sizeof(old), true) < 0) return -EFAULT;
    uint32_t *word = (uint32_t *)address;
    old = __atomic_load_n(word, __ATOMIC_SEQ_CST);
    do {
        switch (kind) {
        case FUTEX_OP_SET:
            new = (uint32_t)argument;
            break;
        case FUTEX_OP_ADD:
            new = old + (uint32_t)argument;
            break;
        case FUTEX_OP_OR:
            new = old | (uint32_t)argument;
            break;
        case FUTEX_OP_ANDN:
            new = old & ~(uint32_t)argument;
            break;
        case FUTEX_OP_XOR:
            new = old ^ (uint32_t)argument;
            break;
        default:
            return -ENOSYS;
        }
    } while (
        !__atomic_compare_exchange_n(word, &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    switch (compare) {
    case FUTEX_OP_CMP_EQ:
        return (int32_t)old == with;
    case FUTEX_OP_CMP_NE:
        return (int32_t)old != with;
    case FUTEX_OP_CMP_LT:
        return (int32_t)old < with;
    case FUTEX_OP_CMP_LE:
        return (int32_t)old <= with;
    case FUTEX_OP_CMP_GT:
        return (int32_t)old > with;
    case FUTEX_OP_CMP_GE:
        return (int32_t)old >= with;
    default:
        return -ENOSYS;
    }
}

/* The deadline that FUTEX_WAIT (relative) and FUTEX_WAIT_BITSET (absolute) give. */
static long deadline_get(const struct regs *r, uint64_t *deadline)
{
    unsigned command = (unsigned)r->rsi & (unsigned)FUTEX_CMD_MASK;
    *deadline = 0;
    if (!r->r10) return 0;
    uint64_t clock = r->rsi & FUTEX_CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    return deadline_of(r->r10, clock, command != FUTEX_WAIT, deadline);
}

/* FUTEX_WAKE, which never waits; FUTEX_WAIT without a time-out, as long as it stays ready. */
long leaf_futex(uint64_t address, uint64_t command, uint64_t value, uint64_t timeout, uint64_t e,
                uint64_t f)
{
    struct thread_state *t = this_thread();
    unsigned what = (unsigned)command & (unsigned)FUTEX_CMD_MASK;
    (void)e, (void)f;
    if (address % 4 || address - 1 >= LX_USER_END) return LEAF_FULL;
    if (!(command & FUTEX_PRIVATE_FLAG) && lx.shares) return LEAF_FULL;
    if (what == FUTEX_WAKE) return futex_wake(address, (uint32_t)value, FUTEX_BITSET_MATCH_ANY);
    if (what != FUTEX_WAIT || timeout || !t->futex_woke) return LEAF_FULL;
    return wait_ready(t, address, (uint32_t)value);
}

static __attribute__((noinline)) long futex_other(struct thread_state *t, struct regs *r)
{
    uint32_t value = (uint32_t)r->rdx, count = (uint32_t)r->r10;
    uint64_t deadline;
    if (r->rdi % 4) return -EINVAL;
    if (r->rdi >= LX_USER_END || r->rdi == 0) return -EFAULT;
    switch ((unsigned)r->rsi & (unsigned)FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET: {
        long error = deadline_get(r, &deadline);
        bool any = ((unsigned)r->rsi & (unsigned)FUTEX_CMD_MASK) == FUTEX_WAIT;
        uint32_t bits = any ? FUTEX_BITSET_MATCH_ANY : (uint32_t)r->r9;
        long place = error < 0 ? error : futex_place(r->rdi, r->rsi);
        if (place < 0) return place;
        return place ? futex_wait_at(t, place, value, bits, deadline)
                     : futex_wait(t, r->rdi, value, bits, deadline);
    }
    case FUTEX_WAKE:
        return wake_anywhere(r->rdi, r->rsi, value, FUTEX_BITSET_MATCH_ANY);
    case FUTEX_WAKE_BITSET:
        return (uint32_t)r->r9 ? wake_anywhere(r->rdi, r->rsi, value, (uint32_t)r->r9) : -EINVAL;
    case FUTEX_CMP_REQUEUE: {
        uint32_t now;
        if (user_get(&now, r->rdi, sizeof(now)) < 0) return -EFAULT;
        if (now != (uint32_t)r->r9) return -EAGAIN;
        return futex_requeue(r->rdi, r->rsi, value, r->r8, count);
    }
    case FUTEX_REQUEUE:
        return futex_requeue(r->rdi, r->rsi, value, r->r8, count);
    case FUTEX_WAKE_OP: {
        long both = word_operate(r->r8, (uint32_t)r->r9);
        if (both < 0) return both;
        long done = wake_anywhere(r->rdi, r->rsi, value, FUTEX_BITSET_MATCH_ANY);
        if (done < 0 || !both) return done;
        both = wake_anywhere(r->r8, r->rsi, count, FUTEX_BITSET_MATCH_ANY);
        return both < 0 ? both : done + both;
    }
    default:
        log_line("futex: operation %d is not supported", (int)r->rsi);
        return -ENOSYS;
    }
}

long sys_futex(struct thread_state *t, struct regs *r)
{
    unsigned known = (unsigned)r->rsi & (unsigned)~FUTEX_CLOCK_REALTIME;
    if (known == FUTEX_WAIT_PRIVATE && !r->r10 && r->rdi % 4 == 0)
        return futex_wait(t, r->rdi, (uint32_t)r->rdx, FUTEX_BITSET_MATCH_ANY, 0);
    return futex_other(t, r);
}

/* ---- robust lists ------------------------------------------------------------------------ */

long sys_set_robust_list(struct thread_state *t, struct regs *r)
{
    if (r->rsi != sizeof(struct robust_list_head)) return -EINVAL;
    t->robust_list = t->window->robust = r->rdi;
    return 0;
}

long sys_get_robust_list(struct thread_state *t, struct regs *r)
{
    const uint64_t size = sizeof(struct robust_list_head);
    if ((int)r->rdi && (int)r->rdi != t->tid) return -EPERM; /* another thread's are its own */
    if (user_put(r->rdx, &size, sizeof(size)) < 0) return -EFAULT;
    return user_put(r->rsi, &t->robust_list, sizeof(t->robust_list));
}

/* A futex whose owner ends: marked so, and one waiter told. */
static void robust_release(struct thread_state *t, uint64_t address)
{
    uint32_t word;
    if (address % 4 || user_get(&word, address, sizeof(word)) < 0) return;
    if ((word & FUTEX_TID_MASK) != (uint32_t)t->tid) return;
    word = (word & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
    if (user_put(address, &word, sizeof(word)) < 0) return;
    if (word & FUTEX_WAITERS) wake_anywhere(address, 0, 1, FUTEX_BITSET_MATCH_ANY);
}

static void robust_end(struct thread_state *t)
{
    struct robust_list_head head;
    if (t->robust_list && user_get(&head, t->robust_list, sizeof(head)) == 0) {
        uint64_t at = (uint64_t)head.list.next;
        uint64_t pending = (uint64_t)head.list_op_pending, offset = (uint64_t)head.futex_offset;
        for (unsigned i = 0; i < ROBUST_MAX && at != t->robust_list; i++) {
            if (at != pending) robust_release(t, (at & ~1ul) + offset);
            if (user_get(&at, at & ~1ul, sizeof(at)) < 0) break;
        }
        if (pending) robust_release(t, (pending & ~1ul) + offset);
    }
    t->robust_list = t->window->robust = 0;
}

void futex_thread_end(struct thread_state *t)
{
    const uint32_t zero = 0;
    robust_end(t);
    if (t->clear_tid && user_put(t->clear_tid, &zero, sizeof(zero)) == 0)
        futex_wake(t->clear_tid, 1, FUTEX_BITSET_MATCH_ANY);
    t->clear_tid = 0;
}

void futex_process_end(void)
{
    for (uint32_t map = lx.live; map; map &= map - 1) {
        struct thread_state *t = thread_at((uint32_t)__builtin_ctz(map));
        if (lx.shares)
            robust_end(t);
        else
            t->window->robust = 0;
    }
}

/* Those that other processes may wait for are told first. */
long sys_exit_group(struct thread_state *t, struct regs *r)
{
    futex_process_end();
    vfork_back(r->rsp, 0);
    pages_leave();
    long over = server(__NR_exit_group, r->rdi, 0, 0);
    if (lx.borrowing) borrow_end(t);
    return over;
}
