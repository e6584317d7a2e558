/* SPDX-License-Identifier: MIT
 *
 * Signals, but for their frames (sigframe.c). A pending one is a bit: of a thread in its
 * window, of the process in thread 0's window; the server sets it, or the process itself, and
 * whoever takes it clears it by one atomic operation. So a signal is pending once at most,
 * but for real-time ones that a process sends itself by sigqueue(3). Actions are the
 * process's and change, like the queue, under the lock. */
#include "library.h"
#include <asm/siginfo.h>
#include "../signals.h"
#include "sigframe.h"
#include "../../../lib/exo/text.h"

#define NEVER (LX_SIGNAL_BIT(SIGKILL) | LX_SIGNAL_BIT(SIGSTOP)) /* blocked or handled */
#define STOPS                                                                                      \
    (LX_SIGNAL_BIT(SIGSTOP) | LX_SIGNAL_BIT(SIGTSTP) | LX_SIGNAL_BIT(SIGTTIN) |                    \
     LX_SIGNAL_BIT(SIGTTOU))
#define SET_SIZE 8 /* bytes of a set of signals */
#define REALTIME 32 /* the first real-time signal */
#define FIRST 1 /* the first process: what it has no handler for is kept from it */

static bool signal_good(uint64_t signal) { return signal >= 1 && signal <= SIGNALS; }

static uint64_t pending(const struct thread_state *t)
{
    return __atomic_load_n(&t->window->signals, __ATOMIC_ACQUIRE) |
           __atomic_load_n(&process_window()->start.signals, __ATOMIC_ACQUIRE);
}

bool signals_pending(struct thread_state *t)
{
    return (pending(t) & ~t->mask & ~lx.ignored) || (lx.ending && lx.ending != t->index + 1);
}

void event_keep(struct thread_state *t)
{
    if (signals_pending(t)) __atomic_fetch_or(&upcall_page()->events, LX_EVENT, __ATOMIC_RELEASE);
}

void signals_mask(struct thread_state *t, uint64_t mask)
{
    t->mask = mask & ~NEVER;
    t->window->refused = t->mask | lx.ignored;
}

/* ---- taking ------------------------------------------------------------------------------ */

#define QUEUE_MAX 32 /* real-time signals that wait behind one of the same number */
struct sigqueue {
    unsigned count;
    struct {
        int signal;
        struct lx_siginfo info;
    } entry[QUEUE_MAX];
};

/* A signal that was taken: the process's or the thread's; sent by this process itself; then
 * its information, where the next one's is in its place already. */
struct taken {
    bool process, own, kept;
    struct lx_siginfo info;
};

/* The next one of that number, if there is one, becomes pending. */
static void queue_next(int signal, struct taken *taken)
{
    struct sigqueue *queue = lx.sigqueue;
    lock();
    for (unsigned i = 0; i < queue->count; i++) {
        if (queue->entry[i].signal != signal) continue;
        taken->kept = true;
        taken->info = lx.info[signal - 1];
        lx.info[signal - 1] = queue->entry[i].info;
        memmove(&queue->entry[i], &queue->entry[i + 1],
                (--queue->count - i) * sizeof(queue->entry[0]));
        __atomic_fetch_or(&lx.info_known, LX_SIGNAL_BIT(signal), __ATOMIC_RELEASE);
        __atomic_fetch_or(&process_window()->start.signals, LX_SIGNAL_BIT(signal),
                          __ATOMIC_ACQ_REL);
        break;
    }
    unlock();
}

/* Clears the bit; false: somebody else was first. */
static inline __attribute__((always_inline)) bool signal_take(struct thread_state *t, int signal,
                                                              struct taken *taken)
{
    uint64_t bit = LX_SIGNAL_BIT(signal);
    taken->process = taken->kept = false;
    taken->own = lx.info_known & bit;
    if (taken->own) __atomic_fetch_and(&lx.info_known, ~bit, __ATOMIC_ACQ_REL);
    if (__atomic_fetch_and(&t->window->signals, ~bit, __ATOMIC_ACQ_REL) & bit) return true;
    taken->process = true;
    if (!(__atomic_fetch_and(&process_window()->start.signals, ~bit, __ATOMIC_ACQ_REL) & bit))
        return false;
    if (lx.sigqueue && lx.sigqueue->count) queue_next(signal, taken);
    return true;
}

/* What is known of a signal that was taken. */
static struct lx_siginfo info_get(struct thread_state *t, int signal, const struct taken *taken)
{
    struct lx_siginfo info = {.code = SI_USER};
    if (taken->kept) return taken->info;
    if (taken->own) return lx.info[signal - 1];
    if (server(LX_OP_SIGINFO, (uint64_t)signal, taken->process, 0) >= 0)
        memcpy(&info, t->window->bytes, sizeof(info));
    return info;
}

/* ---- sending ------------------------------------------------------------------------------- */

/* The signal's information, for a handler that asks. */
static void info_keep(int signal, int code, uint64_t value)
{
    if (!lx.info) {
        lx.info = data_alloc(SIGNALS * sizeof(*lx.info));
        if (!lx.info) return;
        memset(lx.info, 0, SIGNALS * sizeof(*lx.info));
    }
    struct lx_siginfo *info = &lx.info[signal - 1];
    info->code = code;
    info->pid = lx.pid;
    info->value = value;
    __atomic_fetch_or(&lx.info_known, LX_SIGNAL_BIT(signal), __ATOMIC_RELEASE);
}

/* A thread that takes a signal of the process's now; NULL: all block it. */
static struct thread_state *taker(uint64_t bit)
{
    struct thread_state *own = this_thread();
    if (!(own->mask & bit)) return own;
    for (uint32_t map = lx.live; map; map &= map - 1) {
        struct thread_state *other = thread_at((uint32_t)__builtin_ctz(map));
        if (!(other->mask & bit)) return other;
    }
    return NULL;
}

void signal_send(struct thread_state *to, int signal, int code, uint64_t value)
{
    uint64_t bit = LX_SIGNAL_BIT(signal);
    struct thread_state *tell = to ? to : taker(bit);
    if (lx.ignored & bit && tell && !(tell->mask & bit)) return;
    info_keep(signal, code, value);
    __atomic_fetch_or(to ? &to->window->signals : &process_window()->start.signals, bit,
                      __ATOMIC_ACQ_REL);
    if (tell && tell != this_thread()) exo_event_signal(tell->event);
}

static bool local(uint64_t signal) { return signal != SIGKILL && signal != SIGSTOP; }

/* A signal that may be taken now is taken on the way out of a leaf. */
static void event_self(struct thread_state *t)
{
    if (pending(t) & ~t->mask)
        __atomic_fetch_or(&upcall_page()->events, LX_EVENT, __ATOMIC_RELAXED);
}

static struct thread_state *thread_of(int tid)
{
    for (uint32_t map = lx.live; map; map &= map - 1) {
        struct thread_state *t = thread_at((uint32_t)__builtin_ctz(map));
        if (t->tid == tid) return t;
    }
    return NULL;
}

static long thread_kill(struct regs *r, uint64_t tid, uint64_t signal)
{
    struct thread_state *to = thread_of((int)tid);
    if (!to || !local(signal)) return server(r->number, r->rdi, r->rsi, r->rdx);
    if (signal && !signal_good(signal)) return -EINVAL;
    if (signal) signal_send(to, (int)signal, SI_TKILL, 0);
    return 0;
}

long sys_tkill(struct thread_state *t, struct regs *r)
{
    (void)t;
    return (int)r->rdi <= 0 ? -EINVAL : thread_kill(r, r->rdi, r->rsi);
}

long leaf_tgkill(uint64_t pid, uint64_t tid, uint64_t signal, uint64_t d, uint64_t e, uint64_t f)
{
    struct thread_state *own = this_thread();
    (void)d, (void)e, (void)f;
    if ((int)pid != lx.pid || (int)tid != own->tid || !signal_good(signal) || !local(signal))
        return LEAF_FULL;
    signal_send(own, (int)signal, SI_TKILL, 0);
    event_self(own);
    return 0;
}

long sys_tgkill(struct thread_state *t, struct regs *r)
{
    (void)t;
    if ((int)r->rdi <= 0 || (int)r->rsi <= 0) return -EINVAL;
    if ((int)r->rdi != lx.pid) return server(r->number, r->rdi, r->rsi, r->rdx);
    return thread_kill(r, r->rsi, r->rdx);
}

/* A real-time signal that is pending already waits behind itself: 1; 0: it is not pending. */
static long queue_add(int signal, int code, uint64_t value)
{
    uint64_t bit = LX_SIGNAL_BIT(signal);
    long added = 0;
    lock();
    if (process_window()->start.signals & bit && lx.info) {
        if (!lx.sigqueue && (lx.sigqueue = data_alloc(sizeof(*lx.sigqueue))) != NULL)
            lx.sigqueue->count = 0;
        added = -EAGAIN;
        if (lx.sigqueue && lx.sigqueue->count < QUEUE_MAX) {
            unsigned i = lx.sigqueue->count++;
            lx.sigqueue->entry[i].signal = signal;
            lx.sigqueue->entry[i].info =
                (struct lx_siginfo){.code = code, .pid = lx.pid, .value = value};
            added = 1;
        }
    }
    unlock();
    return added;
}

/* sigqueue(3): to another process it goes as kill's, without the value. */
long sys_rt_sigqueueinfo(struct thread_state *t, struct regs *r)
{
    siginfo_t info;
    (void)t;
    if (!signal_good(r->rsi)) return -EINVAL;
    if (user_get(&info, r->rdx, sizeof(info)) < 0) return -EFAULT;
    if ((int)r->rdi != lx.pid || !local(r->rsi)) return server(__NR_kill, r->rdi, r->rsi, 0);
    long added =
        r->rsi < REALTIME ? 0 : queue_add((int)r->rsi, info.si_code, (uint64_t)info.si_ptr);
    if (added == 0) signal_send(NULL, (int)r->rsi, info.si_code, (uint64_t)info.si_ptr);
    return added < 0 ? added : 0;
}

/* ---- delivering ------------------------------------------------------------------------------ */

/* An interrupted call is done again, or returns EINTR. */
static void call_end(struct regs *r, bool again)
{
    long error = -(long)r->rax;
    if (r->number == NO_CALL || !call_restarts(r->rax)) return;
    if (again) {
        r->rip -= 2; /* SYSCALL, or what stands for it */
        r->rax = error == RESTART_BLOCK ? __NR_restart_syscall : r->number;
    } else {
        r->rax = (uint64_t)-EINTR;
    }
    r->number = NO_CALL;
}

_Noreturn static void process_end(int signal)
{
    pages_leave();
    for (;;) {
        server(LX_OP_CRASH, (uint64_t)signal, 0, 0);
        if (lx.borrowing) borrow_end(this_thread());
    }
}

static void process_stop(struct thread_state *t, int signal)
{
    (void)t;
    while (server(LX_OP_STOPPED, (uint64_t)signal, 0, 0) == -LX_WAIT) {
        event_sleep(LX_EVENT, 0);
        if (process_window()->start.asked) replace_look();
    }
}

static void default_action(struct thread_state *t, int signal)
{
    uint64_t bit = LX_SIGNAL_BIT(signal);
    if (bit & LX_SIGNALS_NOTHING || lx.pid == FIRST) return;
    if (!(bit & STOPS)) process_end(signal);
    process_stop(t, signal);
}

/* Changes r so that the handler runs; the process ends where its frame cannot be. */
static inline __attribute__((always_inline)) void handler_enter(struct thread_state *t,
                                                                struct regs *r, int signal,
                                                                const struct lx_siginfo *info,
                                                                uint64_t address)
{
    struct lx_sigaction *action = &lx.action[signal - 1];
    uint64_t bit = LX_SIGNAL_BIT(signal);
    if (sigframe_push(t, r, signal, action, info, address) < 0) process_end(SIGSEGV);
    if (action->flags & SA_RESETHAND && borrow_keep()) action->handler = LX_SIGNAL_DEFAULT;
    signals_mask(t, t->mask | action->mask | (action->flags & SA_NODEFER ? 0 : bit));
}

/* A signal from this thread to its own process or itself, whose handler runs at once if it
 * may. */
static long signal_self(struct thread_state *t, struct regs *r, int signal, int code)
{
    const struct lx_siginfo info = {.code = code, .pid = lx.pid};
    bool process = code == SI_USER;
    if (t->mask & LX_SIGNAL_BIT(signal) || lx.action[signal - 1].handler <= LX_SIGNAL_IGNORE) {
        signal_send(process ? NULL : t, signal, code, 0);
    } else {
        r->rax = 0;
        handler_enter(t, r, signal, &info, 0);
    }
    return 0;
}

long sys_kill(struct thread_state *t, struct regs *r)
{
    if ((int)r->rdi != lx.pid || !signal_good(r->rsi) || !local(r->rsi))
        return server(r->number, r->rdi, r->rsi, 0);
    return signal_self(t, r, (int)r->rsi, SI_USER);
}

static bool deliver_one(struct thread_state *t, struct regs *r, int signal)
{
    struct taken taken;
    if (!signal_take(t, signal, &taken)) return false;
    const struct lx_sigaction *action = &lx.action[signal - 1];
    if (action->handler == LX_SIGNAL_IGNORE) return false;
    if (action->handler == LX_SIGNAL_DEFAULT) {
        default_action(t, signal);
        return false;
    }
    struct lx_siginfo info = {.code = SI_USER};
    if (action->flags & SA_SIGINFO) info = info_get(t, signal, &taken);
    bool always = r->rax + RESTART_SYS == 0;
    call_end(r, always && action->flags & SA_RESTART);
    handler_enter(t, r, signal, &info, 0);
    return true;
}

void signals_deliver(struct thread_state *t, struct regs *r)
{
    bool handled = false;
    uint64_t ready;
    if (lx.ending) thread_check(t);
    if (lx.timers) timers_adopt(t);
    while ((ready = pending(t) & ~t->mask) != 0)
        handled |= deliver_one(t, r, __builtin_ctzl(ready) + 1);
    if (handled) return;
    if (t->restore_mask) {
        t->restore_mask = false;
        signals_mask(t, t->saved_mask);
    }
    call_end(r, true);
}

void signal_force(struct thread_state *t, struct regs *r, int signal, int code, uint64_t address)
{
    const struct lx_sigaction *action = &lx.action[signal - 1];
    const struct lx_siginfo info = {.code = code};
    if (t->mask & LX_SIGNAL_BIT(signal) || action->handler == LX_SIGNAL_DEFAULT ||
        action->handler == LX_SIGNAL_IGNORE) {
        log_line("signal %d at rip %lx rsp %lx address %lx", signal, r->rip, r->rsp, address);
        process_end(signal);
    }
    handler_enter(t, r, signal, &info, address);
}

/* ---- actions, masks ---------------------------------------------------------------------------- */

/* The action has changed: is the signal thrown away now? */
static void ignored_update(int signal)
{
    uint64_t bit = LX_SIGNAL_BIT(signal), handler = lx.action[signal - 1].handler;
    bool ignored =
        handler == LX_SIGNAL_IGNORE || (handler == LX_SIGNAL_DEFAULT && bit & LX_SIGNALS_NOTHING);
    lx.ignored = ignored ? lx.ignored | bit : lx.ignored & ~bit;
    for (uint32_t map = lx.live; map; map &= map - 1) {
        struct thread_state *t = thread_at((uint32_t)__builtin_ctz(map));
        t->window->refused = t->mask | lx.ignored;
        if (ignored) __atomic_fetch_and(&t->window->signals, ~bit, __ATOMIC_ACQ_REL);
    }
    if (ignored) __atomic_fetch_and(&process_window()->start.signals, ~bit, __ATOMIC_ACQ_REL);
}

static void zombies_update(void)
{
    const struct lx_sigaction *action = &lx.action[SIGCHLD - 1];
    process_window()->start.no_zombies =
        action->handler == LX_SIGNAL_IGNORE || action->flags & SA_NOCLDWAIT;
}

void signals_forked(void)
{
    lx.info_known = 0;
    if (lx.sigqueue) lx.sigqueue->count = 0;
    zombies_update();
}

bool signals_quiet(void) { return !lx.info_known && (!lx.sigqueue || !lx.sigqueue->count); }

void signals_reset(struct thread_state *t)
{
    uint64_t set = lx.actions_set;
    lx.ignored = LX_SIGNALS_NOTHING;
    for (lx.actions_set = 0; set; set &= set - 1) {
        uint64_t bit = set & -set;
        struct lx_sigaction *action = &lx.action[__builtin_ctzl(set)];
        bool keep = action->handler == LX_SIGNAL_IGNORE;
        *action = (struct lx_sigaction){.handler = keep ? LX_SIGNAL_IGNORE : LX_SIGNAL_DEFAULT};
        if (keep) lx.ignored |= bit, lx.actions_set |= bit;
    }
    t->altstack = (struct sigstack){0, 0, 0};
    t->robust_list = t->clear_tid = 0;
    t->restore_mask = false;
    signals_forked();
    signals_mask(t, t->mask);
    timers_clear(false);
}

long leaf_rt_sigaction(uint64_t number, uint64_t from, uint64_t to, uint64_t size, uint64_t e,
                       uint64_t f)
{
    struct lx_sigaction new, *action = &lx.action[(number - 1) % SIGNALS];
    (void)e, (void)f;
    if (size != SET_SIZE || !signal_good(number)) return -EINVAL;
    if (from && LX_SIGNAL_BIT(number) & NEVER) return -EINVAL;
    if (from && user_get(&new, from, sizeof(new)) < 0) return -EFAULT;
    if (to && user_put(to, action, sizeof(*action)) < 0) return -EFAULT;
    if (!from) return 0;
    if (!borrow_keep()) return -ENOMEM;
    lock();
    uint64_t before = action->handler;
    *action = new;
    action->mask &= ~NEVER;
    lx.actions_set |= LX_SIGNAL_BIT(number);
    if (before <= LX_SIGNAL_IGNORE || new.handler <= LX_SIGNAL_IGNORE) ignored_update((int)number);
    if (number == SIGCHLD) zombies_update();
    unlock();
    return 0;
}

long leaf_rt_sigprocmask(uint64_t how, uint64_t from, uint64_t to, uint64_t size, uint64_t e,
                         uint64_t f)
{
    struct thread_state *t = this_thread();
    uint64_t set, old = t->mask;
    (void)e, (void)f;
    if (size != SET_SIZE) return -EINVAL;
    if (from) {
        if (user_get(&set, from, sizeof(set)) < 0) return -EFAULT;
        if (how > SIG_SETMASK) return -EINVAL;
        signals_mask(t, how == SIG_BLOCK ? old | set : how == SIG_UNBLOCK ? old & ~set : set);
        event_self(t);
    }
    return to ? user_put(to, &old, sizeof(old)) : 0;
}

long sys_rt_sigpending(struct thread_state *t, struct regs *r)
{
    uint64_t set = pending(t) & t->mask;
    if (r->rsi > SET_SIZE) return -EINVAL;
    return user_put(r->rdi, &set, r->rsi);
}

long sys_sigaltstack(struct thread_state *t, struct regs *r)
{
    bool on = r->rsp - t->altstack.base < t->altstack.size;
    stack_t old = sigstack_show(t), new;
    if (on) old.ss_flags |= SS_ONSTACK;
    if (r->rdi) {
        if (user_get(&new, r->rdi, sizeof(new)) < 0) return -EFAULT;
        uint32_t mode = (uint32_t) new.ss_flags & ~SS_AUTODISARM;
        if (on) return -EPERM;
        if (mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0) return -EINVAL;
        if (mode != SS_DISABLE && new.ss_size < MINSIGSTKSZ) return -ENOMEM;
        sigstack_set(t, &new);
    }
    return r->rsi ? user_put(r->rsi, &old, sizeof(old)) : 0;
}

/* ---- waiting ------------------------------------------------------------------------------------- */

long sys_pause(struct thread_state *t, struct regs *r)
{
    (void)r;
    while (!signals_pending(t))
        event_wait(t, 0);
    return -RESTART_NOHAND;
}

long sys_rt_sigsuspend(struct thread_state *t, struct regs *r)
{
    uint64_t set;
    if (r->rsi != SET_SIZE) return -EINVAL;
    if (user_get(&set, r->rdi, sizeof(set)) < 0) return -EFAULT;
    t->saved_mask = t->mask;
    t->restore_mask = true;
    signals_mask(t, set);
    return sys_pause(t, r);
}

/* One of `set`, taken; 0: the deadline passed; or negative. */
static long signal_wait(struct thread_state *t, uint64_t set, bool forever, uint64_t deadline,
                        struct lx_siginfo *info)
{
    for (;;) {
        uint64_t ready = pending(t) & set;
        struct taken taken;
        int signal = ready ? __builtin_ctzl(ready) + 1 : 0;
        if (signal && signal_take(t, signal, &taken)) {
            *info = info_get(t, signal, &taken);
            return signal;
        }
        if (ready) continue;
        if (signals_pending(t)) return -EINTR;
        if (!forever && tsc_now() >= deadline) return -EAGAIN;
        event_wait(t, forever ? 0 : deadline);
    }
}

long sys_rt_sigtimedwait(struct thread_state *t, struct regs *r)
{
    uint64_t set, deadline = 0;
    struct lx_siginfo known;
    if (r->r10 != SET_SIZE) return -EINVAL;
    if (user_get(&set, r->rdi, sizeof(set)) < 0) return -EFAULT;
    long error = r->rdx ? deadline_of(r->rdx, 0, false, &deadline) : 0;
    if (error < 0) return error;
    set &= ~NEVER;
    t->window->refused = (t->mask | lx.ignored) & ~set;
    long signal = signal_wait(t, set, !r->rdx, deadline, &known);
    signals_mask(t, t->mask);
    if (signal < 0 || !r->rsi) return signal;
    siginfo_t info;
    siginfo_fill(&info, (int)signal, &known, 0);
    return user_put(r->rsi, &info, sizeof(info)) < 0 ? -EFAULT : signal;
}
