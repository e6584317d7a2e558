/* SPDX-License-Identifier: MIT
 *
 * What needs nobody else: limits, identities, scheduling, names, random bytes. All processes
 * are root; there is one CPU; nobody has a priority. Limits are kept and inherited as
 * Linux does; those that mean anything are enforced by whoever has the resource. */
#include "library.h"
#include <asm/prctl.h>
#include <linux/membarrier.h>
#include <linux/prctl.h>
#include <linux/random.h>
#include <linux/resource.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include "../../../lib/exo/text.h"

#define NICE_ZERO 20 /* getpriority(2): 20 - nice */
#define CPU_SET_SIZE 8
#define CPU_ONLY 1ul /* the set of CPUs there are */
#define RANDOM_MAX 0x1ffffff /* bytes of one getrandom(2) */
#define GROUPS_MAX 65536 /* NGROUPS_MAX */

/* ---- resource limits --------------------------------------------------------------------- */

static void limit_get(unsigned which, uint64_t limit[2])
{
    limit[0] = limit[1] = RLIM_INFINITY;
    if (lx.limits_set >> which & 1) {
        limit[0] = lx.limit[which][0];
        limit[1] = lx.limit[which][1];
    } else if (which == RLIMIT_STACK) {
        limit[0] = limit[1] = LX_STACK_MAX;
    } else if (which == RLIMIT_NOFILE) {
        limit[0] = limit[1] = LX_FDS;
    } else if (which == RLIMIT_CORE || which == RLIMIT_RTPRIO || which == RLIMIT_NICE) {
        limit[0] = limit[1] = 0;
    }
}

static long limit_set(unsigned which, const uint64_t limit[2])
{
    uint64_t old[2];
    limit_get(which, old);
    if (limit[0] > limit[1]) return -EINVAL;
    if (limit[1] > old[1] && (which == RLIMIT_STACK || which == RLIMIT_NOFILE)) return -EPERM;
    if (!borrow_keep()) return -ENOMEM;
    if (which == RLIMIT_NOFILE) server(__NR_prlimit64, limit[0], 0, 0);
    memcpy(lx.limit[which], limit, sizeof(old));
    lx.limits_set |= 1u << which;
    if (which == RLIMIT_RSS) replace_allot(limit[0]);
    return 0;
}

static long limit(uint64_t which, uint64_t new, uint64_t old)
{
    uint64_t now[2], wanted[2];
    if (which >= RLIM_NLIMITS) return -EINVAL;
    limit_get((unsigned)which, now);
    if (new &&user_get(wanted, new, sizeof(wanted)) < 0) return -EFAULT;
    long r = new ? limit_set((unsigned)which, wanted) : 0;
    if (r < 0) return r;
    return old ? user_put(old, now, sizeof(now)) : 0;
}

long sys_prlimit64(struct thread_state *t, struct regs *r)
{
    (void)t;
    int pid = (int)r->rdi;
    if (pid && pid != lx.pid) return -EPERM; /* another process's are its own */
    return limit(r->rsi, r->rdx, r->r10);
}

long sys_getrlimit(struct thread_state *t, struct regs *r)
{
    (void)t;
    return r->rsi ? limit(r->rdi, 0, r->rsi) : -EFAULT;
}

long sys_setrlimit(struct thread_state *t, struct regs *r)
{
    (void)t;
    return r->rsi ? limit(r->rdi, r->rsi, 0) : -EFAULT;
}

/* ---- identities --------------------------------------------------------------------------- */

long leaf_getuid(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    return 0;
}
long leaf_geteuid(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t)
    __attribute__((alias("leaf_getuid")));
long leaf_getgid(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t)
    __attribute__((alias("leaf_getuid")));
long leaf_getegid(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t)
    __attribute__((alias("leaf_getuid")));
/* getgroups(2): root is in no others. */
long leaf_getgroups(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t)
    __attribute__((alias("leaf_getuid")));

static bool root_or_same(uint64_t id) { return (uint32_t)id == 0 || (uint32_t)id == UINT32_MAX; }

/* setuid(2), setgid(2) and those with more arguments: there is nobody else to become. */
long sys_setuid(struct thread_state *t, struct regs *r)
{
    (void)t;
    return (uint32_t)r->rdi == 0 ? 0 : -EPERM;
}
long sys_setgid(struct thread_state *, struct regs *) __attribute__((alias("sys_setuid")));
/* setfsuid(2) gives the old one, whatever is asked for. */
long leaf_setfsuid(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t)
    __attribute__((alias("leaf_getuid")));
long leaf_setfsgid(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t)
    __attribute__((alias("leaf_getuid")));

long sys_setreuid(struct thread_state *t, struct regs *r)
{
    (void)t;
    return root_or_same(r->rdi) && root_or_same(r->rsi) ? 0 : -EPERM;
}
long sys_setregid(struct thread_state *, struct regs *) __attribute__((alias("sys_setreuid")));

long sys_setresuid(struct thread_state *t, struct regs *r)
{
    return root_or_same(r->rdx) ? sys_setreuid(t, r) : -EPERM;
}
long sys_setresgid(struct thread_state *, struct regs *) __attribute__((alias("sys_setresuid")));

long sys_getresuid(struct thread_state *t, struct regs *r)
{
    const uint32_t root = 0;
    (void)t;
    if (user_put(r->rdi, &root, 4) < 0 || user_put(r->rsi, &root, 4) < 0) return -EFAULT;
    return user_put(r->rdx, &root, 4);
}
long sys_getresgid(struct thread_state *, struct regs *) __attribute__((alias("sys_getresuid")));

long sys_setgroups(struct thread_state *t, struct regs *r)
{
    uint32_t group;
    (void)t;
    for (uint64_t i = 0; i < r->rdi; i++) {
        if (i > GROUPS_MAX) return -EINVAL;
        if (user_get(&group, r->rsi + 4 * i, 4) < 0) return -EFAULT;
        if (group != 0) return -EPERM;
    }
    return 0;
}

/* ---- scheduling ------------------------------------------------------------------------------ */

long sys_sched_yield(struct thread_state *t, struct regs *r)
{
    (void)t, (void)r;
    exo_yield();
    return 0;
}

long sys_sched_getaffinity(struct thread_state *t, struct regs *r)
{
    const uint64_t set = CPU_ONLY;
    (void)t;
    if (r->rsi < CPU_SET_SIZE || r->rsi % CPU_SET_SIZE) return -EINVAL;
    return user_put(r->rdx, &set, sizeof(set)) < 0 ? -EFAULT : CPU_SET_SIZE;
}

long sys_sched_setaffinity(struct thread_state *t, struct regs *r)
{
    uint8_t set = 0;
    (void)t;
    if (r->rsi && user_get(&set, r->rdx, sizeof(set)) < 0) return -EFAULT;
    return set & CPU_ONLY ? 0 : -EINVAL;
}

long sys_sched_setscheduler(struct thread_state *t, struct regs *r)
{
    (void)t;
    uint64_t policy = r->rsi & ~(uint64_t)SCHED_RESET_ON_FORK;
    return policy == SCHED_NORMAL || policy == SCHED_BATCH || policy == SCHED_IDLE ? 0 : -EPERM;
}

long leaf_sched_getscheduler(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    return SCHED_NORMAL;
}

long sys_sched_getparam(struct thread_state *t, struct regs *r)
{
    const int priority = 0;
    (void)t;
    return user_put(r->rsi, &priority, sizeof(priority));
}

long sys_sched_setparam(struct thread_state *t, struct regs *r)
{
    int priority;
    (void)t;
    if (user_get(&priority, r->rsi, sizeof(priority)) < 0) return -EFAULT;
    return priority == 0 ? 0 : -EINVAL;
}

long leaf_sched_get_priority_max(uint64_t policy, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                                 uint64_t f)
{
    (void)b, (void)c, (void)d, (void)e, (void)f;
    if (policy == SCHED_FIFO || policy == SCHED_RR) return 99;
    return policy <= SCHED_IDLE ? 0 : -EINVAL;
}

long leaf_sched_get_priority_min(uint64_t policy, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                                 uint64_t f)
{
    return leaf_sched_get_priority_max(policy, b, c, d, e, f) / 99;
}

long sys_sched_rr_get_interval(struct thread_state *t, struct regs *r)
{
    const struct lx_timespec slice = {0, EXO_SLOT_US * 1000};
    (void)t;
    return user_put(r->rsi, &slice, sizeof(slice));
}

long sys_getpriority(struct thread_state *t, struct regs *r)
{
    (void)t;
    return r->rdi > PRIO_USER ? -EINVAL : NICE_ZERO - lx.priority;
}

/* A nice value is kept and shown; who has the CPU decides the exokernel's slots. */
long sys_setpriority(struct thread_state *t, struct regs *r)
{
    int nice = (int)r->rdx;
    (void)t;
    if (r->rdi > PRIO_USER) return -EINVAL;
    if (!borrow_keep()) return -ENOMEM;
    lx.priority = nice < -20 ? -20 : nice > 19 ? 19 : nice;
    return 0;
}

long sys_getcpu(struct thread_state *t, struct regs *r)
{
    const uint32_t zero = 0;
    (void)t;
    if (r->rdi && user_put(r->rdi, &zero, sizeof(zero)) < 0) return -EFAULT;
    return r->rsi ? user_put(r->rsi, &zero, sizeof(zero)) : 0;
}

/* One CPU has seen what it wrote itself. */
long sys_membarrier(struct thread_state *t, struct regs *r)
{
    const uint64_t known = MEMBARRIER_CMD_GLOBAL | MEMBARRIER_CMD_PRIVATE_EXPEDITED |
                           MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED;
    (void)t;
    if (r->rdi == MEMBARRIER_CMD_QUERY) return (long)known;
    return r->rdi & known && !(r->rdi & (r->rdi - 1)) ? 0 : -EINVAL;
}

/* ---- the rest ----------------------------------------------------------------------------------- */

long sys_arch_prctl(struct thread_state *t, struct regs *r)
{
    uint64_t fs;
    (void)t;
    switch (r->rdi) {
    case ARCH_SET_FS:
        if (r->rsi >= LX_USER_END) return -EPERM;
        __asm__ volatile("wrfsbase %0" : : "r"(r->rsi));
        return 0;
    case ARCH_GET_FS:
        __asm__ volatile("rdfsbase %0" : "=r"(fs));
        return user_put(r->rsi, &fs, sizeof(fs));
    case ARCH_SET_GS:
    case ARCH_GET_GS:
        log_line("arch_prctl: GS is the library's");
        return -EPERM;
    default:
        return -EINVAL;
    }
}

long sys_prctl(struct thread_state *t, struct regs *r)
{
    switch (r->rdi) {
    case PR_SET_NAME: {
        char name[LX_NAME] = {0};
        long n = user_string(name, r->rsi, sizeof(name));
        if (n < 0 && n != -ENAMETOOLONG) return n;
        name[sizeof(name) - 1] = 0;
        char *to =
            t->index ? t->name : (char *)t->window->bytes; /* the first one's: the process's */
        memcpy(to, name, sizeof(name));
        return t->index ? 0 : server(LX_OP_NAME, 0, 0, 0);
    }
    case PR_GET_NAME:
        if (t->name[0]) return user_put(r->rsi, t->name, sizeof(t->name));
        server(LX_OP_NAME, 1, 0, 0);
        return user_put(r->rsi, t->window->bytes, LX_NAME);
    case PR_EXO_REPLACE: {
        long before = (long)lx.replace.policy;
        if (r->rsi >= REPLACE_POLICIES) return -EINVAL;
        if (!borrow_keep()) return -ENOMEM;
        lx.replace.policy = (uint32_t)r->rsi;
        return before;
    }
    case PR_GET_DUMPABLE:
    case PR_CAPBSET_READ:
        return 1;
    case PR_SET_DUMPABLE:
    case PR_SET_NO_NEW_PRIVS:
    case PR_SET_KEEPCAPS:
    case PR_GET_KEEPCAPS:
    case PR_SET_TIMERSLACK:
        return 0;
    default:
        log_line("prctl: option %d is not supported", (int)r->rdi);
        return -EINVAL;
    }
}

long sys_personality(struct thread_state *t, struct regs *r)
{
    (void)t;
    return (uint32_t)r->rdi == 0 || (uint32_t)r->rdi == UINT32_MAX ? 0 : -EINVAL;
}

long sys_getrandom(struct thread_state *t, struct regs *r)
{
    uint64_t n = r->rsi < RANDOM_MAX ? r->rsi : RANDOM_MAX;
    (void)t;
    if (r->rdx & ~(uint64_t)(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE)) return -EINVAL;
    for (uint64_t done = 0; done < n; done += 8) {
        uint64_t word = random_word();
        if (user_put(r->rdi + done, &word, n - done < 8 ? n - done : 8) < 0)
            return done ? (long)done : -EFAULT;
    }
    return (long)n;
}

/* What C libraries try at their start, and do without: not worth a line in the log. */
long leaf_rseq(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    return -ENOSYS;
}
