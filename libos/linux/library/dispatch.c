/* SPDX-License-Identifier: MIT
 *
 * System calls: done here, or carried to the server as libos/linux/calls.list says. */
#include "library.h"
#include "lx_calls.h"
#include "../../../lib/exo/text.h"

/* From calls.list (tools/linux_calls.py): what is done with each call. */
struct call_spec {
    sys_function *function; /* of the library, or NULL */
    uint8_t kind[6]; /* of each argument, ARG_* */
    uint16_t size[6];
};
#define ARG_INT 0
#define ARG_PATH 1
#define ARG_IN 2
#define ARG_OUT 3
#define ARG_INOUT 4
#define ARG_OPT 5 /* as ARG_OUT, but may be a null pointer */
#define ARG_RBUF 6 /* and its length: two arguments */
#define ARG_WBUF 7
#define ARG_RIOV 8 /* and their number */
#define ARG_WIOV 9
#define IOV_MAX 1024

LX_LIBRARY_DECLARATIONS
static const struct call_spec specs[LX_CALLS] = {LX_LIBRARY_TABLE};
/* Those that entry.S calls as they are: fixed arguments, no errors that restart. */
typedef long leaf_function(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
leaf_function *const leaf_calls[LX_CALLS] = {LX_LEAF_TABLE};

struct iovec {
    uint64_t base, length;
};

static long runs_of_iov(uint64_t user, uint64_t count, bool write, uint64_t *total)
{
    unsigned runs = 0;
    *total = 0;
    if (count > IOV_MAX) return -EINVAL;
    for (uint64_t i = 0; i < count; i++) {
        struct iovec iov;
        if (user_get(&iov, user + i * sizeof(iov), sizeof(iov)) < 0) return -EFAULT;
        uint64_t length = iov.length;
        if ((int64_t)length < 0) return -EINVAL;
        long r = user_runs(runs, iov.base, &length, write);
        if (r < 0) return *total ? (long)runs : r;
        runs = (unsigned)r;
        *total += length;
        if (length < iov.length) break;
    }
    return runs;
}

/* One buffer argument and its length: what the server is to get. */
static long marshal_buffer(unsigned kind, uint64_t a[2])
{
    bool write = kind == ARG_RBUF || kind == ARG_RIOV;
    uint64_t length = a[1];
    long runs;
    if (kind == ARG_RIOV || kind == ARG_WIOV) {
        runs = runs_of_iov(a[0], a[1], write, &length);
    } else {
        if (length > 0x7ffff000) length = 0x7ffff000;
        runs = user_runs(0, a[0], &length, write);
    }
    if (runs < 0) return runs;
    a[0] = user_where((unsigned)runs);
    a[1] = length;
    return 0;
}

static long marshal_in(struct thread_state *t, unsigned kind, size_t size, uint64_t *a, size_t *at)
{
    uint8_t *to = t->window->bytes + *at;
    if (!*a) {
        *a = LX_NULL;
        return 0;
    }
    if (kind == ARG_PATH) {
        size_t room = LX_WINDOW_BYTES - *at;
        long n = user_string((char *)to, *a, room < LX_PATH_MAX ? room : LX_PATH_MAX);
        if (n < 0) return n;
        size = (size_t)n + 1;
    } else {
        if (size > LX_WINDOW_BYTES - *at) return -EINVAL;
        if (user_get(to, *a, size) < 0) return -EFAULT;
    }
    *a = *at;
    *at = (*at + size + 7) & ~7ul;
    return 0;
}

static long marshal(struct thread_state *t, const struct call_spec *spec, uint64_t a[6])
{
    size_t at = 0;
    for (unsigned i = 0; i < 6; i++) {
        long r = 0;
        if (spec->kind[i] >= ARG_RBUF)
            r = marshal_buffer(spec->kind[i], &a[i]);
        else if (spec->kind[i] == ARG_PATH || spec->kind[i] == ARG_IN || spec->kind[i] == ARG_INOUT)
            r = marshal_in(t, spec->kind[i], spec->size[i], &a[i], &at);
        if (r < 0) return r;
        if (spec->kind[i] >= ARG_RBUF) i++;
    }
    return 0;
}

/* What the server left in the window goes to where the program wanted it. */
static long unmarshal(struct thread_state *t, const struct call_spec *spec, const uint64_t u[6])
{
    size_t at = 0;
    for (unsigned i = 0; i < 6; i++) {
        if (spec->kind[i] < ARG_OUT || spec->kind[i] > ARG_OPT) continue;
        if (!u[i] && spec->kind[i] == ARG_INOUT) continue; /* it took no room */
        if ((u[i] || spec->kind[i] == ARG_OUT) &&
            user_put(u[i], t->window->bytes + at, spec->size[i]) < 0)
            return -EFAULT;
        at = (at + spec->size[i] + 7) & ~7ul;
    }
    return 0;
}

long call_server(struct thread_state *t, struct regs *r)
{
    const uint64_t u[6] = {r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9};
    static const struct call_spec none;
    const struct call_spec *spec = r->number < LX_CALLS ? &specs[r->number] : &none;
    uint64_t a[6];
    long result;
    memcpy(a, u, sizeof(a));
    for (;;) {
        result = marshal(t, spec, a);
        if (result < 0) return result;
        result = server_wait(r->number, a, 0);
        if (result != -WAIT_MOVED) break;
        pins_move(t);
        memcpy(a, u, sizeof(a));
        t->waited = true;
    }
    if (result < 0) return result == -EINTR ? -RESTART_SYS : result;
    if (spec->kind[1] == ARG_WIOV || (spec->kind[1] == ARG_WBUF && (uint64_t)result < u[2]))
        return result ? transfer_rest(r, result) : 0;
    if (spec->kind[1] == ARG_RBUF && (uint64_t)result == a[2] && a[2] < u[2])
        return transfer_rest(r, result); /* the buffer was in too many pieces */
    long error = unmarshal(t, spec, u);
    return error < 0 ? error : result;
}

long leaf_getpid(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    return lx.pid;
}

long leaf_getppid(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    return (long)((const struct lx_window *)(LX_THREAD_VA + LX_THREAD_WINDOW))->start.ppid;
}

/* A call that is no leaf, or whose leaf wanted this (entry.S tried it). */
void call_dispatch(struct regs *r)
{
    struct thread_state *t = this_thread();
    uint64_t number = r->number = (uint32_t)r->number; /* as Linux does */
    t->near.descriptor = 0; /* near.h */
    if (number < LX_CALLS && specs[number].function)
        r->rax = (uint64_t)specs[number].function(t, r);
    else if (number < LX_OP_BASE)
        r->rax = (uint64_t)call_server(t, r);
    else
        r->rax = (uint64_t)-ENOSYS;
    t->pin_start = t->pin_end = 0;
    if (t->window->signals || process_window()->start.signals || call_restarts(r->rax))
        signals_deliver(t, r);
}

void call_reflected(struct regs *r)
{
    uint64_t rip = r->rip, number = (uint32_t)r->number;
    long done = LEAF_FULL;
    if (number < LX_CALLS && leaf_calls[number] && number != __NR_rt_sigreturn)
        done = leaf_calls[number](r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9);
    if (done == LEAF_FULL)
        call_dispatch(r);
    else
        r->rax = (uint64_t)done;
    rewrite_site(number, rip);
}
