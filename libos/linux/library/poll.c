/* SPDX-License-Identifier: MIT
 *
 * Calls whose arguments travel in ways of their own: poll, select, epoll_wait with their
 * time-outs and masks, ioctl, fcntl, and what is left of a write. They work in the calling
 * thread's window, which keeps what they asked for while they wait. The server answers a
 * last time, without waiting, when the time is over. */
#include "library.h"
#include "../../../lib/exo/text.h"
#include "../ioctl.h"
#include <asm/poll.h>
#include <linux/eventpoll.h>

#define NS 1000000000ul
#define MS 1000000ul
#define SECONDS_MAX 1000000000l /* longer is for ever */
#define POLL_MAX 1024u /* server/poll.h */
#define SET_BYTES 128u
#define SELECT_MAX (SET_BYTES * 8)

/* ---- time-outs and masks ---------------------------------------------------------------- */

struct limit {
    bool wait; /* at all */
    uint64_t deadline; /* time-stamp counter; 0: none */
};

static struct limit limit_in(uint64_t ns)
{
    return (struct limit){ns != 0, ns ? tsc_now() + ticks_of(ns) : 0};
}

static struct limit limit_ms(int ms)
{
    return ms < 0 ? (struct limit){true, 0} : limit_in((uint64_t)ms * MS);
}

/* From a user's timespec or timeval (unit: nanoseconds of its second half); 0: for ever. */
static long limit_from(uint64_t user, uint64_t unit, struct limit *limit)
{
    struct lx_timespec time;
    *limit = (struct limit){true, 0};
    if (!user) return 0;
    if (user_get(&time, user, sizeof(time)) < 0) return -EFAULT;
    if (time.tv_sec < 0 || time.tv_nsec < 0 || (uint64_t)time.tv_nsec >= NS / unit) return -EINVAL;
    if (time.tv_sec < SECONDS_MAX)
        *limit = limit_in((uint64_t)time.tv_sec * NS + (uint64_t)time.tv_nsec * unit);
    return 0;
}

/* Tells the user how much was left. Memory that cannot be written is his own choice. */
static void limit_left(uint64_t user, uint64_t unit, const struct limit *limit)
{
    uint64_t now = tsc_now(), left = 0;
    if (!user || (limit->wait && !limit->deadline)) return;
    if (limit->deadline > now)
        left = (uint64_t)((unsigned __int128)(limit->deadline - now) * shared->ns_mult >> 32);
    struct lx_timespec time = {(int64_t)(left / NS), (int64_t)(left % NS / unit)};
    (void)user_put(user, &time, sizeof(time));
}

/* The mask of ppoll and its like, while it waits. user 0: none. */
static long mask_enter(struct thread_state *t, uint64_t user, uint64_t size)
{
    uint64_t mask;
    if (!user) return 0;
    if (size != sizeof(mask)) return -EINVAL;
    if (user_get(&mask, user, sizeof(mask)) < 0) return -EFAULT;
    t->saved_mask = t->mask;
    signals_mask(t, mask);
    return 0;
}

/* Puts the mask back; after a signal its handler comes first. */
static long mask_leave(struct thread_state *t, uint64_t user, long r)
{
    if (r == -EINTR && user)
        t->restore_mask = true;
    else if (user)
        signals_mask(t, t->saved_mask);
    return r == -EINTR ? -RESTART_NOHAND : r;
}

/* Asks the server, until something is there or the time is over; a[2] is whether to wait. */
static long ask(uint64_t op, uint64_t a0, uint64_t a1, const struct limit *limit)
{
    const uint64_t a[6] = {a0, a1, limit->wait};
    long r = server_wait(op, a, limit->deadline);
    return r == -ETIMEDOUT ? server(op, a0, a1, 0) : r;
}

/* ---- poll ----------------------------------------------------------------------------------- */

static long poll_wait(struct thread_state *t, uint64_t user, uint64_t n, const struct limit *limit)
{
    size_t size = n * sizeof(struct pollfd);
    if (n > POLL_MAX) return -EINVAL;
    if (user_get(t->window->bytes, user, size) < 0) return -EFAULT;
    long r = ask(__NR_poll, 0, n, limit);
    if (r >= 0 && user_put(user, t->window->bytes, size) < 0) return -EFAULT;
    return r;
}

long sys_poll(struct thread_state *t, struct regs *r)
{
    struct limit limit = limit_ms((int)r->rdx);
    return mask_leave(t, 0, poll_wait(t, r->rdi, r->rsi, &limit));
}

long sys_ppoll(struct thread_state *t, struct regs *r)
{
    struct limit limit;
    long error = limit_from(r->rdx, 1, &limit);
    if (error == 0) error = mask_enter(t, r->r10, r->r8);
    if (error < 0) return error;
    long n = poll_wait(t, r->rdi, r->rsi, &limit);
    limit_left(r->rdx, 1, &limit);
    return mask_leave(t, r->r10, n);
}

/* ---- select --------------------------------------------------------------------------------- */

static long select_wait(struct thread_state *t, int fds, const uint64_t user[3],
                        const struct limit *limit)
{
    uint8_t *sets = t->window->bytes;
    if (fds < 0) return -EINVAL;
    uint64_t n = (uint64_t)fds < SELECT_MAX ? (uint64_t)fds : SELECT_MAX;
    size_t size = (n + 63) / 64 * 8;
    memset(sets, 0, 3 * SET_BYTES);
    for (unsigned i = 0; i < 3; i++)
        if (user[i] && user_get(sets + i * SET_BYTES, user[i], size) < 0) return -EFAULT;
    long r = ask(__NR_select, n, 0, limit);
    for (unsigned i = 0; i < 3 && r >= 0; i++)
        if (user[i] && user_put(user[i], sets + i * SET_BYTES, size) < 0) return -EFAULT;
    return r;
}

long sys_select(struct thread_state *t, struct regs *r)
{
    const uint64_t user[3] = {r->rsi, r->rdx, r->r10};
    struct limit limit;
    long error = limit_from(r->r8, 1000, &limit);
    if (error < 0) return error;
    long n = select_wait(t, (int)r->rdi, user, &limit);
    limit_left(r->r8, 1000, &limit);
    return mask_leave(t, 0, n);
}

long sys_pselect6(struct thread_state *t, struct regs *r)
{
    const uint64_t user[3] = {r->rsi, r->rdx, r->r10};
    uint64_t mask[2] = {0}; /* where it is, its size */
    struct limit limit;
    long error = limit_from(r->r8, 1, &limit);
    if (error == 0 && r->r9) error = user_get(mask, r->r9, sizeof(mask));
    if (error == 0) error = mask_enter(t, mask[0], mask[1]);
    if (error < 0) return error;
    long n = select_wait(t, (int)r->rdi, user, &limit);
    limit_left(r->r8, 1, &limit);
    return mask_leave(t, mask[0], n);
}

/* ---- epoll ---------------------------------------------------------------------------------- */

static long events_wait(struct thread_state *t, const struct regs *r, const struct limit *limit)
{
    long n = ask(__NR_epoll_wait, r->rdi, r->rdx, limit);
    if (n > 0 && user_put(r->rsi, t->window->bytes, (size_t)n * sizeof(struct epoll_event)) < 0)
        return -EFAULT;
    return n;
}

long sys_epoll_wait(struct thread_state *t, struct regs *r)
{
    struct limit limit = limit_ms((int)r->r10);
    long n = events_wait(t, r, &limit);
    return n; /* never started again: epoll_wait(2), signal(7) */
}

long sys_epoll_pwait(struct thread_state *t, struct regs *r)
{
    struct limit limit = limit_ms((int)r->r10);
    long error = mask_enter(t, r->r8, r->r9);
    if (error < 0) return error;
    long n = mask_leave(t, r->r8, events_wait(t, r, &limit));
    return n == -RESTART_NOHAND ? -EINTR : n;
}

long sys_epoll_pwait2(struct thread_state *t, struct regs *r)
{
    struct limit limit;
    long error = limit_from(r->r10, 1, &limit);
    if (error == 0) error = mask_enter(t, r->r8, r->r9);
    if (error < 0) return error;
    long n = mask_leave(t, r->r8, events_wait(t, r, &limit));
    return n == -RESTART_NOHAND ? -EINTR : n;
}

/* ---- ioctl, fcntl --------------------------------------------------------------------------- */

/* A call whose third argument points to something of these sizes (both 0: it is a value). */
static long call_sized(struct thread_state *t, const struct regs *r, size_t in, size_t out)
{
    const uint64_t a[6] = {r->rdi, r->rsi, in ? 0 : r->rdx};
    if (in && user_get(t->window->bytes, r->rdx, in) < 0) return -EFAULT;
    long result = server_wait(r->number, a, 0);
    if (result >= 0 && out && user_put(r->rdx, t->window->bytes, out) < 0) return -EFAULT;
    return result == -EINTR ? -RESTART_SYS : result;
}

long sys_ioctl(struct thread_state *t, struct regs *r)
{
    struct ioctl_size size = ioctl_size((uint32_t)r->rsi);
    return call_sized(t, r, size.in, size.out);
}

long sys_fcntl(struct thread_state *t, struct regs *r)
{
    switch ((uint32_t)r->rsi) {
    case F_GETLK:
    case F_OFD_GETLK:
        return call_sized(t, r, sizeof(struct flock), sizeof(struct flock));
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
        return call_sized(t, r, sizeof(struct flock), 0);
    default:
        return call_sized(t, r, 0, 0);
    }
}

/* ---- what is left of a read or write -------------------------------------------------------- */

/* The call for n bytes at va: how many it was. */
static long transfer_more(uint64_t op, uint64_t fd, uint64_t va, uint64_t n, uint64_t offset)
{
    bool in = op == __NR_read || op == __NR_pread64;
    uint64_t done = 0;
    while (done < n) {
        uint64_t length = n - done;
        long runs = user_runs(0, va + done, &length, in);
        if (runs < 0) break;
        const uint64_t a[6] = {fd, user_where((unsigned)runs), length, offset + done};
        long r = server_wait(op, a, 0);
        if (r == -WAIT_MOVED)
            pins_move(this_thread());
        else if (r <= 0)
            break;
        else
            done += (uint64_t)r;
    }
    return (long)done;
}

static long write_rest_iov(const struct regs *r, uint64_t op, long done)
{
    uint64_t before = 0; /* bytes of the buffers before this one */
    for (uint64_t i = 0; i < r->rdx; i++) {
        uint64_t iov[2];
        if (user_get(iov, r->rsi + i * sizeof(iov), sizeof(iov)) < 0) break;
        uint64_t end = before + iov[1];
        if (end > (uint64_t)done) {
            uint64_t skip = (uint64_t)done - before, n = iov[1] - skip;
            long more = transfer_more(op, r->rdi, iov[0] + skip, n, r->r10 + (uint64_t)done);
            done += more;
            if ((uint64_t)more < n) break;
        }
        before = end;
    }
    return done;
}

long transfer_rest(const struct regs *r, long done)
{
    uint64_t n = r->rdx < 0x7ffff000 ? r->rdx : 0x7ffff000; /* read(2), write(2): at most */
    uint64_t va = r->rsi + (uint64_t)done, offset = r->r10 + (uint64_t)done;
    n -= (uint64_t)done;
    switch (r->number) {
    case __NR_read: /* a pipe or terminal is not waited for again */
        if (server(__NR_lseek, r->rdi, 0, 1 /* SEEK_CUR */) < 0) return done;
        return done + transfer_more(__NR_read, r->rdi, va, n, 0);
    case __NR_pread64:
    case __NR_pwrite64:
        return done + transfer_more(r->number, r->rdi, va, n, offset);
    case __NR_write:
    case __NR_sendto:
        return done + transfer_more(__NR_write, r->rdi, va, n, 0);
    case __NR_writev:
        return write_rest_iov(r, __NR_write, done);
    case __NR_pwritev:
        return write_rest_iov(r, __NR_pwrite64, done);
    default:
        return done;
    }
}
