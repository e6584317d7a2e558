/* SPDX-License-Identifier: MIT
 *
 * Clocks, sleeping and timers. The time is the time-stamp counter and struct lx_shared: no
 * call of anybody. Timers are the process's (struct timers, under the lock); the nearest one
 * is set as the timer of the thread that looked last, and every thread that is told of an
 * expired one looks at all. The CPU time of a process is what passed since it began less
 * what its threads waited in here: time that others had meanwhile is in it (docs/linux.md). */
#include "library.h"
#include <asm/siginfo.h>
#include <linux/resource.h>
#include <linux/time.h>
#include <linux/times.h>
#include "../signals.h"
#include "../../../lib/exo/text.h"

#define NS 1000000000ul
#define CLOCK_TICKS 100 /* a second: of times(2), AT_CLKTCK */
#define TIMERS 17 /* the first one is ITIMER_REAL's */
#define NS_MAX (1ul << 62) /* what is later never comes */

struct timer {
    uint64_t next; /* time-stamp counter, 0: not set */
    uint64_t interval; /* ticks */
    uint64_t value; /* that the signal carries */
    int signal; /* 0: none is sent */
    int clock;
    int tid; /* the thread it goes to, 0: any */
    uint32_t overrun;
    bool used;
};
struct timers {
    struct timer timer[TIMERS];
    uint32_t owner; /* index of the thread whose timer is set */
    bool orphan; /* it ended: somebody else is to set his */
};

/* ---- clocks ---------------------------------------------------------------------------- */

static uint64_t elapsed(void)
{
    return (uint64_t)((unsigned __int128)(tsc_now() - shared->tsc_base) * shared->ns_mult >> 32);
}

uint64_t ticks_of(uint64_t ns)
{
    if (ns > NS_MAX) ns = NS_MAX;
    return ns / NS * shared->tsc_hz + ns % NS * shared->tsc_hz / NS;
}

static uint64_t ns_of(uint64_t ticks)
{
    return (uint64_t)((unsigned __int128)ticks * shared->ns_mult >> 32);
}

static uint64_t time_since_boot(void) { return shared->boot_base + elapsed(); }

uint64_t thread_used(const struct thread_state *t)
{
    return tsc_now() - t->window->started - t->window->waited;
}

/* Ticks that the process used, and its children that were waited for: the server knows other
 * threads', those that ended, too. */
static void process_used(uint64_t used[2])
{
    const uint64_t a[4] = {0};
    if (server_aside(LX_OP_TIMES, a, used, 2 * sizeof(*used)) < 0) used[0] = used[1] = 0;
}

static uint64_t thread_time(void)
{
    return ns_of(thread_used(this_thread()) - this_thread()->used_before);
}

static uint64_t process_time(void)
{
    uint64_t used[2];
    if (!lx.first) return ns_of(thread_used(this_thread())); /* it never had another thread */
    process_used(used);
    return ns_of(used[0]);
}

static long clock_read(uint64_t clock, uint64_t *ns)
{
    switch ((int)clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_TAI:
        *ns = shared->real_base + elapsed();
        return 0;
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
        *ns = time_since_boot();
        return 0;
    case CLOCK_PROCESS_CPUTIME_ID:
        *ns = process_time();
        return 0;
    case CLOCK_THREAD_CPUTIME_ID:
        *ns = thread_time();
        return 0;
    default:
        return -EINVAL;
    }
}

static struct lx_timespec timespec_of(uint64_t ns)
{
    return (struct lx_timespec){(int64_t)(ns / NS), (int64_t)(ns % NS)};
}

static struct __kernel_old_timeval timeval_of(uint64_t ns)
{
    return (struct __kernel_old_timeval){(long)(ns / NS), (long)(ns % NS / 1000)};
}

long leaf_clock_gettime(uint64_t clock, uint64_t to, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)c, (void)d, (void)e, (void)f;
    uint64_t ns;
    long r = clock_read(clock, &ns);
    if (r < 0) return r;
    struct lx_timespec time = timespec_of(ns);
    return user_put(to, &time, sizeof(time));
}

long leaf_clock_getres(uint64_t clock, uint64_t to, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)c, (void)d, (void)e, (void)f;
    uint64_t ns;
    long r = clock_read(clock, &ns);
    if (r < 0 || !to) return r;
    struct lx_timespec one = {0, 1};
    return user_put(to, &one, sizeof(one));
}

long leaf_gettimeofday(uint64_t to, uint64_t zone, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)c, (void)d, (void)e, (void)f;
    const struct timezone utc = {0, 0};
    struct __kernel_old_timeval time = timeval_of(shared->real_base + elapsed());
    if (to && user_put(to, &time, sizeof(time)) < 0) return -EFAULT;
    return zone ? user_put(zone, &utc, sizeof(utc)) : 0;
}

long leaf_time(uint64_t to, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)b, (void)c, (void)d, (void)e, (void)f;
    int64_t now = (int64_t)((shared->real_base + elapsed()) / NS);
    if (to && user_put(to, &now, sizeof(now)) < 0) return -EFAULT;
    return now;
}

/* Nobody sets the clock: its owner is outside. */
long sys_clock_settime(struct thread_state *t, struct regs *r)
{
    (void)t, (void)r;
    return -EPERM;
}

long sys_settimeofday(struct thread_state *t, struct regs *r)
{
    (void)t;
    return r->rdi ? -EPERM : 0;
}

/* ---- sleeping ------------------------------------------------------------------------------ */

long event_sleep(uint64_t events, uint64_t deadline)
{
    struct lx_window *window = this_thread()->window;
    uint64_t from = tsc_now();
    window->since = from;
    long r = exo_event_wait(events, deadline);
    window->since = 0;
    window->waited += tsc_now() - from;
    return r;
}

void event_wait(struct thread_state *t, uint64_t deadline)
{
    long events = event_sleep(LX_EVENTS, deadline);
    if (events > 0 && events & LX_TIMER) timer_expired(t);
    if (process_window()->start.asked) replace_look();
}

void turn_give(struct thread_state *t)
{
    uint64_t from = tsc_now();
    exo_yield();
    t->window->waited += tsc_now() - from;
}

static long time_get(uint64_t from, uint64_t *ns)
{
    struct lx_timespec time;
    if (user_get(&time, from, sizeof(time)) < 0) return -EFAULT;
    if (time.tv_sec < 0 || (uint64_t)time.tv_nsec >= NS) return -EINVAL;
    *ns = (uint64_t)time.tv_sec >= NS_MAX / NS
              ? NS_MAX
              : (uint64_t)time.tv_sec * NS + (uint64_t)time.tv_nsec;
    return 0;
}

/* 0 when the time has come. */
static long sleep_until(struct thread_state *t, uint64_t deadline, uint64_t remaining)
{
    while (tsc_now() < deadline) {
        if (signals_pending(t)) {
            uint64_t now = tsc_now();
            struct lx_timespec left = timespec_of(ns_of(deadline > now ? deadline - now : 0));
            t->sleep_deadline = deadline;
            if (remaining && user_put(remaining, &left, sizeof(left)) < 0) return -EFAULT;
            return -RESTART_BLOCK;
        }
        event_wait(t, deadline);
    }
    return 0;
}

long deadline_of(uint64_t from, uint64_t clock, bool absolute, uint64_t *deadline)
{
    uint64_t ns, now = 0;
    long error = time_get(from, &ns);
    if (error == 0 && absolute) error = clock_read(clock, &now);
    if (error == 0) *deadline = tsc_now() + (ns > now ? ticks_of(ns - now) : 0);
    return error;
}

long sys_nanosleep(struct thread_state *t, struct regs *r)
{
    uint64_t ns;
    long error = time_get(r->rdi, &ns);
    return error < 0 ? error : sleep_until(t, tsc_now() + ticks_of(ns), r->rsi);
}

long sys_clock_nanosleep(struct thread_state *t, struct regs *r)
{
    uint64_t ns, now;
    long error = time_get(r->rdx, &ns);
    if (error == 0) error = clock_read(r->rdi, &now);
    if (error < 0 || (int)r->rdi == CLOCK_THREAD_CPUTIME_ID) return error < 0 ? error : -EINVAL;
    if (!(r->rsi & TIMER_ABSTIME)) return sleep_until(t, tsc_now() + ticks_of(ns), r->r10);
    uint64_t deadline = tsc_now() + (ns > now ? ticks_of(ns - now) : 0);
    error = sleep_until(t, deadline, 0);
    return error == -RESTART_BLOCK ? -RESTART_NOHAND : error;
}

/* Goes on with an interrupted sleep. */
long sys_restart_syscall(struct thread_state *t, struct regs *r)
{
    (void)r;
    return sleep_until(t, t->sleep_deadline, 0);
}

/* ---- timers ---------------------------------------------------------------------------------- */

/* Under the lock: the nearest timer is this thread's. */
static void timers_arm(struct thread_state *t)
{
    uint64_t next = 0;
    for (unsigned i = 0; i < TIMERS; i++) {
        uint64_t at = lx.timers->timer[i].next;
        if (at && (!next || at < next)) next = at;
    }
    lx.timers->owner = t->index;
    lx.timers->orphan = false;
    exo_timer_set(next, LX_TIMER);
}

static bool timers_make(void)
{
    if (lx.timers) return true;
    struct timers *timers = data_alloc(sizeof(*timers));
    if (!timers) return false;
    memset(timers, 0, sizeof(*timers));
    timers->timer[0] = (struct timer){.signal = SIGALRM, .used = true};
    lx.timers = timers;
    return true;
}

static void timer_send(struct timer *timer, bool alarm)
{
    struct thread_state *to = NULL;
    for (uint32_t i = 0; i < LX_THREADS && timer->tid; i++)
        if (lx.live >> i & 1 && thread_at(i)->tid == timer->tid) to = thread_at(i);
    if (timer->signal) signal_send(to, timer->signal, alarm ? SI_KERNEL : SI_TIMER, timer->value);
}

void timer_expired(struct thread_state *t)
{
    if (!lx.timers) return;
    lock();
    uint64_t now = tsc_now();
    for (unsigned i = 0; i < TIMERS; i++) {
        struct timer *timer = &lx.timers->timer[i];
        if (!timer->next || timer->next > now) continue;
        timer->overrun = 0;
        if (timer->interval) {
            uint64_t missed = (now - timer->next) / timer->interval;
            timer->overrun = missed > INT32_MAX ? INT32_MAX : (uint32_t)missed;
            timer->next += (missed + 1) * timer->interval;
        } else {
            timer->next = 0;
        }
        timer_send(timer, i == 0);
    }
    timers_arm(t);
    unlock();
}

void timers_clear(bool alarm)
{
    if (!lx.timers) return;
    memset(&lx.timers->timer[1], 0, (TIMERS - 1) * sizeof(struct timer));
    if (alarm) lx.timers->timer[0].next = lx.timers->timer[0].interval = 0;
}

bool timers_none(void)
{
    if (!lx.timers) return true;
    bool any = lx.timers->timer[0].next;
    for (unsigned i = 1; i < TIMERS; i++)
        any |= lx.timers->timer[i].used;
    return !any;
}

void timers_alarm(uint64_t alarm[2])
{
    alarm[0] = lx.timers ? lx.timers->timer[0].next : 0;
    alarm[1] = lx.timers ? lx.timers->timer[0].interval : 0;
}

void timers_alarm_set(struct thread_state *t, const uint64_t alarm[2])
{
    if (!alarm[0] || !timers_make()) return;
    lx.timers->timer[0].next = alarm[0];
    lx.timers->timer[0].interval = alarm[1];
    timers_arm(t);
}

void timers_orphan(struct thread_state *t)
{
    if (lx.timers && lx.timers->owner == t->index) lx.timers->orphan = true;
}

void timers_adopt(struct thread_state *t)
{
    if (lx.timers && lx.timers->orphan) timer_expired(t);
}

/* Sets a timer to so many nanoseconds from now (0: off); what it was goes to old[0] (until
 * it expires) and old[1] (interval). */
static void timer_set(struct thread_state *t, struct timer *timer, uint64_t value,
                      uint64_t interval, uint64_t old[2])
{
    lock();
    uint64_t now = tsc_now();
    old[0] = !timer->next ? 0 : timer->next > now ? ns_of(timer->next - now) : 1000;
    old[1] = ns_of(timer->interval);
    timer->next = value ? now + ticks_of(value) : 0;
    timer->interval = ticks_of(interval);
    timer->overrun = 0;
    timers_arm(t);
    unlock();
}

static void timer_get(const struct timer *timer, uint64_t now[2])
{
    uint64_t tsc = tsc_now();
    now[0] = !timer->next ? 0 : timer->next > tsc ? ns_of(timer->next - tsc) : 1000;
    now[1] = ns_of(timer->interval);
}

long sys_alarm(struct thread_state *t, struct regs *r)
{
    uint64_t old[2];
    if (!timers_make()) return 0;
    timer_set(t, &lx.timers->timer[0], (uint32_t)r->rdi * NS, 0, old);
    return (long)((old[0] + NS - 1) / NS);
}

static long itimer_put(uint64_t to, const uint64_t ns[2])
{
    struct __kernel_old_timeval old[2] = {timeval_of(ns[1]), timeval_of(ns[0])};
    return to ? user_put(to, old, sizeof(old)) : 0;
}

long sys_setitimer(struct thread_state *t, struct regs *r)
{
    struct __kernel_old_timeval new[2] = {{0, 0}, {0, 0}};
    uint64_t ns[2], old[2];
    if (r->rdi != ITIMER_REAL) {
        log_line("setitimer: only ITIMER_REAL is supported");
        return -EINVAL;
    }
    if (r->rsi && user_get(new, r->rsi, sizeof(new)) < 0) return -EFAULT;
    for (unsigned i = 0; i < 2; i++) {
        if (new[i].tv_sec < 0 || (uint64_t) new[i].tv_usec >= NS / 1000) return -EINVAL;
        uint64_t seconds = (uint64_t) new[i].tv_sec;
        ns[i] = seconds > NS_MAX / NS ? NS_MAX : seconds * NS + (uint64_t) new[i].tv_usec * 1000;
    }
    if (!timers_make()) return -ENOMEM;
    timer_set(t, &lx.timers->timer[0], ns[1], ns[0], old);
    return itimer_put(r->rdx, old);
}

long sys_getitimer(struct thread_state *t, struct regs *r)
{
    (void)t;
    uint64_t now[2] = {0, 0};
    if (r->rdi > ITIMER_PROF) return -EINVAL;
    if (lx.timers && r->rdi == ITIMER_REAL) timer_get(&lx.timers->timer[0], now);
    return itimer_put(r->rsi, now);
}

static struct timer *timer_of(uint64_t id)
{
    if (!lx.timers || id == 0 || id >= TIMERS || !lx.timers->timer[id].used) return NULL;
    return &lx.timers->timer[id];
}

long sys_timer_create(struct thread_state *t, struct regs *r)
{
    (void)t;
    struct sigevent event = {.sigev_signo = SIGALRM, .sigev_notify = SIGEV_SIGNAL};
    uint64_t now;
    int id = 1;
    if (r->rsi && user_get(&event, r->rsi, sizeof(event)) < 0) return -EFAULT;
    int notify = event.sigev_notify;
    if (clock_read(r->rdi, &now) < 0 || notify == SIGEV_THREAD) return -EINVAL;
    if (notify != SIGEV_NONE && (event.sigev_signo < 1 || event.sigev_signo > SIGNALS))
        return -EINVAL;
    if (!timers_make()) return -EAGAIN;
    while (id < TIMERS && lx.timers->timer[id].used)
        id++;
    if (id == TIMERS) return -EAGAIN;
    lx.timers->timer[id] =
        (struct timer){.used = true,
                       .clock = (int)r->rdi,
                       .signal = notify == SIGEV_NONE ? 0 : event.sigev_signo,
                       .tid = notify & SIGEV_THREAD_ID ? event._sigev_un._tid : 0,
                       .value = r->rsi ? (uint64_t)event.sigev_value.sival_ptr : (uint64_t)id};
    return user_put(r->rdx, &id, sizeof(id));
}

static long itimerspec_put(uint64_t to, const uint64_t ns[2])
{
    struct lx_timespec spec[2] = {timespec_of(ns[1]), timespec_of(ns[0])};
    return to ? user_put(to, spec, sizeof(spec)) : 0;
}

long sys_timer_settime(struct thread_state *t, struct regs *r)
{
    struct timer *timer = timer_of(r->rdi);
    uint64_t interval, value, now, old[2];
    if (!timer) return -EINVAL;
    long error = time_get(r->rdx, &interval);
    if (error == 0) error = time_get(r->rdx + sizeof(struct lx_timespec), &value);
    if (error < 0) return error;
    error = clock_read((uint64_t)timer->clock, &now);
    if (error < 0) return error;
    if (r->rsi & TIMER_ABSTIME && value) value = value > now ? value - now : 1;
    timer_set(t, timer, value, interval, old);
    return itimerspec_put(r->r10, old);
}

long sys_timer_gettime(struct thread_state *t, struct regs *r)
{
    (void)t;
    uint64_t now[2];
    struct timer *timer = timer_of(r->rdi);
    if (!timer) return -EINVAL;
    timer_get(timer, now);
    return itimerspec_put(r->rsi, now);
}

long sys_timer_getoverrun(struct thread_state *t, struct regs *r)
{
    (void)t;
    struct timer *timer = timer_of(r->rdi);
    return timer ? (long)timer->overrun : -EINVAL;
}

long sys_timer_delete(struct thread_state *t, struct regs *r)
{
    struct timer *timer = timer_of(r->rdi);
    uint64_t old[2];
    if (!timer) return -EINVAL;
    timer_set(t, timer, 0, 0, old);
    timer->used = false;
    return 0;
}

/* ---- time used ---------------------------------------------------------------------------------- */

long sys_times(struct thread_state *t, struct regs *r)
{
    (void)t;
    uint64_t used[2];
    process_used(used);
    struct tms times = {.tms_utime = (long)(ns_of(used[0]) / (NS / CLOCK_TICKS)),
                        .tms_cutime = (long)(ns_of(used[1]) / (NS / CLOCK_TICKS))};
    if (r->rdi && user_put(r->rdi, &times, sizeof(times)) < 0) return -EFAULT;
    return (long)(time_since_boot() / (NS / CLOCK_TICKS));
}

long sys_getrusage(struct thread_state *t, struct regs *r)
{
    (void)t;
    struct rusage usage;
    int who = (int)r->rdi;
    if (who != RUSAGE_SELF && who != RUSAGE_CHILDREN && who != RUSAGE_THREAD) return -EINVAL;
    memset(&usage, 0, sizeof(usage));
    uint64_t used[2];
    process_used(used);
    struct __kernel_old_timeval time =
        timeval_of(who == RUSAGE_THREAD ? thread_time() : ns_of(used[who == RUSAGE_CHILDREN]));
    memcpy(&usage.ru_utime, &time, sizeof(time));
    usage.ru_majflt = who == RUSAGE_CHILDREN ? 0 : (long)lx.replace.majors;
    usage.ru_maxrss = who == RUSAGE_CHILDREN ? 0 : (long)(lx.owned * PAGE / 1024);
    return user_put(r->rsi, &usage, sizeof(usage));
}
