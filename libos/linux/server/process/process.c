/* SPDX-License-Identifier: MIT
 *
 * The table of processes: who is whose child, how they end, who waits for them. A process
 * that ended is a zombie until its parent has asked; those whose parent ends become
 * children of the first one. */
#include "../waiting/poll.h"
#include "borrow.h"
#include "process.h"
#include "swap.h"
#include <asm/siginfo.h>
#include <linux/resource.h>
#include <linux/wait.h>
#include "../../signals.h"
#include "../files/files.h"
#include "../devices/tty.h"

struct process processes[LX_PROCESSES];
static struct process_memory memories[LX_PROCESSES];
static uint32_t hint; /* no free process below */
static int last_pid;
#define LX_PIDS 32768 /* below it */

#define STATUS_EXIT(code) (((code)&0xff) << 8)
#define STATUS_STOPPED(signal) ((signal) << 8 | 0x7f)
#define STATUS_CONTINUED 0xffff

static void child_tell(struct process *child, int signal, int code, int status);

bool process_alive(const struct process *p)
{
    return p->state == PROCESS_RUNNING || p->state == PROCESS_STOPPED;
}

uint64_t process_signals(const struct process *p)
{
    if (p->borrower) return p->lent.signals;
    return process_alive(p) ? process_window(p)->start.signals : 0;
}

/* Its children are nobody's news: it ignores SIGCHLD, or has said so. */
static bool wants_no_zombies(const struct process *p)
{
    if (p->borrower) return p->lent.no_zombies;
    return process_alive(p) && process_window(p)->start.no_zombies;
}

void process_actions(const struct process *p, uint64_t *ignored, uint64_t *handled,
                     uint64_t *blocked)
{
    *ignored = *handled = *blocked = 0;
    if (!process_alive(p)) return;
    uint32_t frame = extent_first(p->memory->data[0]) + LX_PRIVATE_DATA;
    const volatile struct lx_public *library = frame_data(frame);
    for (unsigned i = 0; i < 64; i++) {
        uint64_t handler = library->action[i].handler;
        *ignored |= (uint64_t)(handler == LX_SIGNAL_IGNORE) << i;
        *handled |= (uint64_t)(handler > LX_SIGNAL_IGNORE) << i;
    }
    *blocked = __atomic_load_n(&process_window(p)->refused, __ATOMIC_RELAXED) & ~*ignored &
               (*handled | ~LX_SIGNALS_NOTHING);
}

uint64_t process_used(const struct process *p)
{
    uint64_t used = p->used;
    for (uint32_t i = 0, left = p->thread_count; left; i++) {
        if (!p->threads[i]) continue;
        if (p->threads[i]->window) used += thread_used(p->threads[i]);
        left--;
    }
    return used;
}

struct process *process_by_pid(int pid)
{
    for (unsigned i = 0; i < LX_PROCESSES; i++)
        if (processes[i].state != PROCESS_FREE && processes[i].pid == pid) return &processes[i];
    return NULL;
}

static void pid_used(uint64_t used[LX_PIDS / 64], int pid) { used[pid / 64] |= 1ul << pid % 64; }

/* Numbers in use, of processes (zombies too), their groups and sessions, those that terminals
 * know, and threads. */
static void pids_used(uint64_t used[LX_PIDS / 64])
{
    memset(used, 0, LX_PIDS / 8);
    for (unsigned i = 0; i < LX_PROCESSES; i++) {
        const struct process *p = &processes[i];
        if (p->state == PROCESS_FREE) continue;
        pid_used(used, p->pid);
        pid_used(used, p->pgid);
        pid_used(used, p->sid);
    }
    for (unsigned i = 0; i <= LX_PTYS; i++) {
        const struct tty *tty = i < LX_PTYS ? pty_slave(i) : &console;
        if (!tty) continue;
        pid_used(used, tty->session);
        pid_used(used, tty->foreground);
    }
    for (unsigned i = 0; i < LX_ALL_THREADS; i++)
        if (threads[i].process) pid_used(used, threads[i].tid);
}

/* The next one; when all were used once, those that are free again, looked for once. */
int pid_new(void)
{
    static uint64_t used[LX_PIDS / 64];
    static bool again;
    for (;;) {
        if (++last_pid == LX_PIDS) {
            pids_used(used);
            again = true;
            last_pid = 2;
        }
        if (!again || !(used[last_pid / 64] >> last_pid % 64 & 1)) return last_pid;
    }
}

struct process *process_new(struct process *parent)
{
    for (unsigned i = hint; i < LX_PROCESSES; i++) {
        struct process *p = &processes[i];
        if (p->state != PROCESS_FREE || p->borrower) continue;
        hint = i + 1;
        memset(p, 0, offsetof(struct process, fds));
        p->memory = &memories[i];
        p->memory->place = i;
        p->state = PROCESS_RUNNING;
        p->pid = pid_new();
        p->parent = parent;
        p->started = time_boot();
        if (parent) {
            p->sibling = parent->child;
            parent->child = p;
            p->pgid = parent->pgid;
            p->sid = parent->sid;
            p->tty = parent->tty;
            memcpy(p->name, parent->name, sizeof(p->name));
            memcpy(p->path, parent->path, sizeof(p->path));
            memcpy(p->cmdline, parent->cmdline, parent->cmdline_length);
            p->cmdline_length = parent->cmdline_length;
        } else {
            p->pgid = p->sid = p->pid;
        }
        lx_shared->processes++;
        return p;
    }
    return NULL;
}

struct process_memory *process_memory(const struct process *p) { return &memories[p - processes]; }

void process_free(struct process *p)
{
    if (p->parent) {
        struct process **link = &p->parent->child;
        while (*link != p)
            link = &(*link)->sibling;
        *link = p->sibling;
    }
    p->state = PROCESS_FREE;
    hint = EXO_MIN(hint, (uint32_t)(p - processes));
    lx_shared->processes--;
}

void process_release(struct process *p)
{
    p->vfork = false;
    p->lender = NULL;
    wake(&p->released);
}

static void orphans(struct process *p)
{
    struct process *first = &processes[0];
    while (p->child) {
        struct process *c = p->child;
        p->child = c->sibling;
        c->parent = first;
        c->exit_signal = SIGCHLD;
        c->lender = NULL;
        c->sibling = first->child;
        first->child = c;
        if (process_alive(c) && !c->borrower) process_window(c)->start.ppid = (uint64_t)first->pid;
        if (c->state != PROCESS_ZOMBIE) continue;
        child_tell(c, SIGCHLD, CLD_EXITED, c->status >> 8);
        if (wants_no_zombies(first)) process_free(c);
    }
}

/* What becomes of the env of a process that ends. */
enum env_fate {
    ENV_CLEAN, /* it has left it, as far as it knows: a husk, or the lender's again */
    ENV_GOES, /* and the other process that is in it ends too */
    ENV_LENT /* it is its borrower's until that is out of it */
};

static void end(struct process *p, int status, enum env_fate fate)
{
    struct process *lender = p->borrows;
    if (p->borrower && fate != ENV_LENT) end(p->borrower, SIGKILL, ENV_CLEAN);
    if (!process_alive(p)) return;
    p->state = PROCESS_ZOMBIE;
    p->status = status;
    tty_process_end(p);
    fds_end(p);
    if (lender)
        borrow_end(p);
    else if (fate != ENV_LENT)
        spawn_end(p, fate == ENV_CLEAN);
    process_release(p);
    if (p->parent) orphans(p);
    if (!p->parent) __atomic_fetch_or(&exo_page()->events, LX_SERVER_END, __ATOMIC_RELAXED);
    bool killed = status & 0x7f;
    child_tell(p, p->exit_signal, killed ? CLD_KILLED : CLD_EXITED,
               killed ? status & 0x7f : status >> 8 & 0xff);
    if (p->state == PROCESS_ZOMBIE && p->parent && wants_no_zombies(p->parent))
        process_free(p); /* else it is gone already: what was told has ended its parent */
    if (lender && fate == ENV_GOES) end(lender, status, ENV_GOES);
    if (lender) process_left(lender);
}

void process_left(struct process *p)
{
    if (process_alive(p) || !p->memory->env || p->memory->husk) return;
    spawn_end(p, false);
    if (p->state == PROCESS_FREE) hint = EXO_MIN(hint, (uint32_t)(p - processes));
}

void process_end(struct process *p, int status) { end(p, status, ENV_GOES); }

long call_exit_group(struct thread *thread, const uint64_t a[6])
{
    end(thread->process, STATUS_EXIT((int)a[0]), ENV_CLEAN);
    return 0;
}

long op_name(struct thread *thread, const uint64_t a[6])
{
    char name[LX_NAME];
    if (a[0]) return window_put(thread, 0, thread->process->name, sizeof(name));
    long r = window_get(thread, 0, name, sizeof(name));
    if (r < 0) return r;
    name[LX_NAME - 1] = 0;
    exo_strcpy(thread->process->name, name, sizeof(thread->process->name));
    return 0;
}

long op_crash(struct thread *thread, const uint64_t a[6])
{
    struct process *p = thread->process;
    if (!a[0] || a[0] > 64) return -EINVAL;
    if (a[1])
        log_line("%s[%d]: its library died of signal %lu at %lx, address %lx", p->name, p->pid,
                 a[0], a[1], a[2]);
    end(p, (int)a[0], p->borrows && a[1] ? ENV_GOES : ENV_CLEAN);
    return 0;
}

/* ---- waiting for children ------------------------------------------------------------------- */

/* A child whose end another signal than SIGCHLD tells is waited for with __WCLONE or __WALL. */
static bool wanted(const struct process *p, const struct process *child, int pid, int options)
{
    bool other = child->exit_signal != SIGCHLD;
    if (!(options & (int)__WALL) && other != !!(options & (int)__WCLONE)) return false;
    if (pid > 0) return child->pid == pid;
    if (pid == 0) return child->pgid == p->pgid;
    return pid == -1 || child->pgid == -pid;
}

/* What there is to say of a child, and that it has been said: a wait status, or -1. */
static int news(struct process *child, int options, bool *gone)
{
    *gone = child->state == PROCESS_ZOMBIE && options & WEXITED;
    if (*gone) return child->status;
    if (child->state == PROCESS_STOPPED && options & WUNTRACED && !child->stop_reported) {
        if (!(options & WNOWAIT)) child->stop_reported = true;
        return STATUS_STOPPED(child->status);
    }
    if (process_alive(child) && options & WCONTINUED && child->continued) {
        if (!(options & WNOWAIT)) child->continued = false;
        return STATUS_CONTINUED;
    }
    return -1;
}

static void usage_put(struct rusage *usage, uint64_t ticks)
{
    uint64_t ns = (uint64_t)((__uint128_t)ticks * lx_shared->ns_mult >> 32);
    usage->ru_utime.tv_sec = (long)(ns / 1000000000);
    usage->ru_utime.tv_usec = (long)(ns % 1000000000 / 1000);
}

/* A zombie was waited for. */
static void child_free(struct process *parent, struct process *child)
{
    parent->used_children += child->used + child->used_children;
    process_free(child);
}

long op_times(struct thread *thread, const uint64_t a[6])
{
    const struct process *p = thread->process;
    const uint64_t used[2] = {process_used(p), p->used_children};
    (void)a;
    return window_put(thread, 0, used, sizeof(used));
}

/* The pid of a child with news, 0 with WNOHANG, or an error. */
static long wait_child(struct thread *thread, int pid, int options, int *status,
                       struct rusage *usage)
{
    bool gone;
    memset(usage, 0, sizeof(*usage));
    struct process *p = thread->process;
    bool any = false;
    for (struct process *c = p->child; c; c = c->sibling) {
        if (!wanted(p, c, pid, options)) continue;
        any = true;
        *status = news(c, options, &gone);
        if (*status < 0) continue;
        long found = c->pid;
        usage_put(usage, process_used(c) + c->used_children);
        if (gone && !(options & WNOWAIT)) child_free(p, c);
        return found;
    }
    if (!any) return -ECHILD;
    return options & WNOHANG ? 0 : wait_on(&p->children, thread);
}

long call_wait4(struct thread *thread, const uint64_t a[6])
{
    struct rusage usage;
    int status = 0;
    if ((int)a[2] & ~(WNOHANG | WUNTRACED | WCONTINUED | __WALL | __WCLONE | __WNOTHREAD))
        return -EINVAL;
    long r = wait_child(thread, (int)a[0], (int)a[2] | WEXITED, &status, &usage);
    if (r < 0) return r;
    if (r == 0) status = 0;
    window_put(thread, 0, &status, sizeof(status));
    window_put(thread, 8, &usage, sizeof(usage));
    return r;
}

/* As siginfo has it for SIGCHLD (asm-generic/siginfo.h). */
static void child_info(int pid, int status, uint8_t info[128])
{
    int code = CLD_EXITED, value = status >> 8 & 0xff;
    if (status == STATUS_CONTINUED) {
        code = CLD_CONTINUED;
        value = SIGCONT;
    } else if ((status & 0xff) == 0x7f) {
        code = CLD_STOPPED;
    } else if (status & 0x7f) {
        code = CLD_KILLED;
        value = status & 0x7f;
    }
    int words[7] = {SIGCHLD, 0, code, 0, pid, 0, value};
    memset(info, 0, 128);
    if (pid) memcpy(info, words, sizeof(words));
}

long call_waitid(struct thread *thread, const uint64_t a[6])
{
    uint8_t info[128];
    struct rusage usage;
    int status = 0, options = (int)a[3], pid = -1;
    if (options & ~(WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | __WALL | __WCLONE |
                    __WNOTHREAD) ||
        !(options & (WEXITED | WSTOPPED | WCONTINUED)))
        return -EINVAL;
    if (a[0] == P_PID)
        pid = (int)a[1];
    else if (a[0] == P_PGID)
        pid = a[1] ? -(int)a[1] : 0;
    else if (a[0] != P_ALL)
        return -EINVAL;
    long r = wait_child(thread, pid, options, &status, &usage);
    if (r < 0) return r;
    child_info((int)r, status, info);
    window_put(thread, 0, info, sizeof(info));
    window_put(thread, sizeof(info), &usage, sizeof(usage));
    return 0;
}

long op_vfork_wait(struct thread *thread, const uint64_t a[6])
{
    for (struct process *c = thread->process->child; c; c = c->sibling)
        if (c->pid == (int)a[0] && c->vfork) return wait_on(&c->released, thread);
    return swap_back_take(thread);
}

/* ---- groups and sessions ----------------------------------------------------------------------- */

long call_getpgid(struct thread *thread, const uint64_t a[6])
{
    struct process *p = a[0] ? process_by_pid((int)a[0]) : thread->process;
    return p ? p->pgid : -ESRCH;
}

long call_getpgrp(struct thread *thread, const uint64_t a[6])
{
    (void)a;
    return thread->process->pgid;
}

long call_getsid(struct thread *thread, const uint64_t a[6])
{
    struct process *p = a[0] ? process_by_pid((int)a[0]) : thread->process;
    return p ? p->sid : -ESRCH;
}

long call_setpgid(struct thread *thread, const uint64_t a[6])
{
    struct process *self = thread->process;
    struct process *p = a[0] ? process_by_pid((int)a[0]) : self;
    int pgid = (int)a[1];
    if (pgid < 0) return -EINVAL;
    if (!p || (p != self && p->parent != self)) return -ESRCH;
    if (p->sid != self->sid || p->pid == p->sid) return -EPERM;
    if (p != self && p->executed) return -EACCES;
    if (!pgid) pgid = p->pid;
    if (pgid != p->pid) {
        bool known = false;
        for (unsigned i = 0; i < LX_PROCESSES; i++)
            known |= processes[i].state != PROCESS_FREE && processes[i].pgid == pgid &&
                     processes[i].sid == self->sid;
        if (!known) return -EPERM;
    }
    p->pgid = pgid;
    return 0;
}

long call_setsid(struct thread *thread, const uint64_t a[6])
{
    (void)a;
    struct process *p = thread->process;
    for (unsigned i = 0; i < LX_PROCESSES; i++)
        if (processes[i].state != PROCESS_FREE && processes[i].pgid == p->pid) return -EPERM;
    tty_detach(p);
    p->sid = p->pgid = p->pid;
    p->tty = NULL;
    return p->sid;
}

/* ---- signals -------------------------------------------------------------------------------------- */

static void stop_end(struct process *p);

/* SIGKILL. A lender's env stays with its borrower, unless that is to be killed too. */
static void process_kill(struct process *p)
{
    bool lent = p->borrower && !(process_signals(p->borrower) & LX_SIGNAL_BIT(SIGKILL));
    if (p != processes) end(p, SIGKILL, lent ? ENV_LENT : ENV_GOES); /* the first one stays */
}

/* Pending for the process: told to the first thread that takes it; where all block it, to the
 * first one. The library knows what to do with it. SIGKILL needs nobody's help, but where the env
 * is needed still, a lender's: then it is a borrower's library that sees to it. */
long signal_process(struct process *p, int signal)
{
    if (p->state == PROCESS_FREE) return -ESRCH;
    if (!signal || !process_alive(p)) return 0;
    if (signal == SIGKILL && !(p->borrows && process_alive(p->borrows))) {
        process_kill(p);
        return 0;
    }
    if (signal == SIGCONT) stop_end(p);
    if (signal == SIGKILL && p->state == PROCESS_STOPPED) {
        p->state = PROCESS_RUNNING;
        wake(&p->released);
    }
    uint64_t bit = LX_SIGNAL_BIT(signal);
    if (p->borrower) {
        p->lent.signals |= bit;
        return 0;
    }
    struct thread *to = NULL;
    for (uint32_t i = 0, left = p->thread_count; left; i++) {
        struct thread *t = p->threads[i];
        if (!t) continue;
        left--;
        if (to && t->window->refused & bit) continue;
        bool takes = !(t->window->refused & bit);
        if (!to || takes) to = t;
        if (takes) break;
    }
    if (!to) return 0;
    __atomic_fetch_or(&process_window(p)->start.signals, bit, __ATOMIC_RELEASE);
    thread_wake(to);
    wake(&signalfd_queue);
    return 0;
}

uint64_t signals_pending(struct thread *t)
{
    return __atomic_load_n(&t->window->signals, __ATOMIC_RELAXED) |
           __atomic_load_n(&process_window(t->process)->start.signals, __ATOMIC_RELAXED);
}

bool signal_take(struct thread *t, int signal, struct lx_siginfo *info)
{
    uint64_t bit = LX_SIGNAL_BIT(signal), *all = &process_window(t->process)->start.signals;
    *info = t->process->memory->info[signal - 1];
    if (__atomic_fetch_and(all, ~bit, __ATOMIC_ACQUIRE) & bit) return true;
    __atomic_fetch_and(&t->window->signals, ~bit, __ATOMIC_ACQUIRE);
    return false;
}

/* What siginfo says of the signal; the last one of each number is known. */
static void signal_info(struct process *p, int signal, int code, int pid, int status)
{
    if (signal < 1 || signal > 64) return;
    p->memory->info[signal - 1] = (struct lx_siginfo){.code = code, .pid = pid, .status = status};
}

static long signal_from(struct process *from, struct process *to, int signal)
{
    signal_info(to, signal, SI_USER, from->pid, 0);
    return signal_process(to, signal);
}

/* The parent is told that a child's state changed. */
static void child_tell(struct process *child, int signal, int code, int status)
{
    struct process *p = child->parent;
    if (!p || !process_alive(p)) return;
    if (signal) {
        signal_info(p, signal, code, child->pid, status);
        signal_process(p, signal);
    }
    wake(&p->children);
}

static void stop_end(struct process *p)
{
    if (p->state != PROCESS_STOPPED) return;
    p->state = PROCESS_RUNNING;
    p->continued = true;
    wake(&p->released);
    child_tell(p, SIGCHLD, CLD_CONTINUED, SIGCONT);
}

long signal_group(int pgid, int signal)
{
    long r = -ESRCH;
    for (unsigned i = 0; i < LX_PROCESSES; i++)
        if (processes[i].state != PROCESS_FREE && processes[i].pgid == pgid) {
            signal_process(&processes[i], signal);
            r = 0;
        }
    return r;
}

long call_kill(struct thread *thread, const uint64_t a[6])
{
    int pid = (int)a[0], signal = (int)a[1];
    struct process *self = thread->process;
    if (signal < 0 || signal > 64) return -EINVAL;
    if (pid > 0) {
        struct process *p = process_by_pid(pid);
        return p ? signal_from(self, p, signal) : -ESRCH;
    }
    if (pid == 0) return signal_group(self->pgid, signal);
    if (pid != -1) return signal_group(-pid, signal);
    long r = -ESRCH;
    for (unsigned i = 1; i < LX_PROCESSES; i++)
        if (process_alive(&processes[i]) && &processes[i] != self) {
            signal_from(self, &processes[i], signal);
            r = 0;
        }
    return r;
}

static long thread_signal(int tgid, int tid, int signal)
{
    if (tid <= 0 || signal < 0 || signal > 64) return -EINVAL;
    struct process *p = process_by_pid(tid);
    if (p && p->borrower && (!tgid || tgid == tid)) return signal_process(p, signal);
    for (unsigned i = 0; i < LX_ALL_THREADS; i++) {
        struct thread *t = &threads[i];
        if (!t->process || t->tid != tid || (tgid && t->process->pid != tgid)) continue;
        if (signal == SIGKILL) return signal_process(t->process, signal);
        if (!signal) return 0;
        signal_info(t->process, signal, SI_TKILL, thread_current->process->pid, 0);
        __atomic_fetch_or(&t->window->signals, LX_SIGNAL_BIT(signal), __ATOMIC_RELEASE);
        thread_wake(t);
        return 0;
    }
    return -ESRCH;
}

long call_tkill(struct thread *thread, const uint64_t a[6])
{
    (void)thread;
    return thread_signal(0, (int)a[0], (int)a[1]);
}

long call_tgkill(struct thread *thread, const uint64_t a[6])
{
    (void)thread;
    if ((int)a[0] <= 0 || (int)a[1] <= 0) return -EINVAL;
    return thread_signal((int)a[0], (int)a[1], (int)a[2]);
}

/* The calling thread's process stops, until SIGCONT. */
long op_stopped(struct thread *thread, const uint64_t a[6])
{
    struct process *p = thread->process;
    if (thread->stopping && p->state == PROCESS_RUNNING) {
        thread->stopping = false;
        return 0;
    }
    thread->stopping = true;
    if (p->state == PROCESS_RUNNING) {
        p->state = PROCESS_STOPPED;
        p->status = (int)a[0] & 0x7f;
        p->stop_reported = p->continued = false;
        child_tell(p, SIGCHLD, CLD_STOPPED, p->status);
    }
    return wait_on(&p->released, thread);
}

long op_siginfo(struct thread *thread, const uint64_t a[6])
{
    if (!a[0] || a[0] > 64) return -EINVAL;
    const struct lx_siginfo *info = &thread->process->memory->info[a[0] - 1];
    return window_put(thread, 0, info, sizeof(*info));
}
