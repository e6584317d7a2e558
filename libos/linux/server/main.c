/* SPDX-License-Identifier: MIT
 *
 * linuxd: the start, the table of calls, the loop. Arguments: the root file system (a cpio
 * archive in the boot archive), then the first program and what it is given. */
#include "../../../lib/exo/channel.h"
#include "files/fuse.h"
#include "waiting/futex.h"
#include "lx_calls.h"
#include "manage.h"
#include "waiting/ring.h"
#include "waiting/poll.h"
#include "process/borrow.h"
#include "process/loan.h"
#include "process/rewritten.h"
#include "process/process.h"
#include "process/swap.h"
#include "waiting/timer.h"
#include "devices/tty.h"

#define LIBRARY "linux-library"
#define FAULT_PAUSE 1000000 /* nanoseconds */
#define TEXT_SIZE (2 * sizeof(((struct exo_startup *)0)->args) + 8)

long lx_serve(uint64_t mask);

LX_SERVER_DECLARATIONS
static call_function *const calls[LX_CALLS] = {LX_SERVER_TABLE};
static const char *const names[LX_CALLS] = {LX_NAMES};
static call_function *const operations[] = {
    [LX_OP_EXTENT - LX_OP_BASE] = op_extent,
    [LX_OP_GIVE - LX_OP_BASE] = op_give,
    [LX_OP_GIVE_ALL - LX_OP_BASE] = op_give_all,
    [LX_OP_FORK - LX_OP_BASE] = op_fork,
    [LX_OP_EXEC - LX_OP_BASE] = op_exec,
    [LX_OP_EXEC_AWAY - LX_OP_BASE] = op_exec_away,
    [LX_OP_MAP - LX_OP_BASE] = op_map,
    [LX_OP_UNMAP - LX_OP_BASE] = op_unmap,
    [LX_OP_PAGES - LX_OP_BASE] = op_pages,
    [LX_OP_SEEN - LX_OP_BASE] = op_seen,
    [LX_OP_NAME - LX_OP_BASE] = op_name,
    [LX_OP_SITE - LX_OP_BASE] = op_site,
    [LX_OP_SHARE - LX_OP_BASE] = op_share,
    [LX_OP_RING - LX_OP_BASE] = op_ring,
    [LX_OP_COPY - LX_OP_BASE] = op_copy,
    [LX_OP_LOG - LX_OP_BASE] = op_log,
    [LX_OP_CRASH - LX_OP_BASE] = op_crash,
    [LX_OP_DATA - LX_OP_BASE] = op_data,
    [LX_OP_THREAD - LX_OP_BASE] = op_thread,
    [LX_OP_THREAD_END - LX_OP_BASE] = op_thread_end,
    [LX_OP_VFORK_WAIT - LX_OP_BASE] = op_vfork_wait,
    [LX_OP_VFORK_BACK - LX_OP_BASE] = op_vfork_back,
    [LX_OP_SIGINFO - LX_OP_BASE] = op_siginfo,
    [LX_OP_STOPPED - LX_OP_BASE] = op_stopped,
    [LX_OP_TIMES - LX_OP_BASE] = op_times,
    [LX_OP_FUTEX_WAIT - LX_OP_BASE] = op_futex_wait,
    [LX_OP_FUTEX_WAKE - LX_OP_BASE] = op_futex_wake,
    [LX_OP_FUTEX_END - LX_OP_BASE] = op_futex_end,
    [LX_OP_SWAP_OUT - LX_OP_BASE] = op_swap_out,
    [LX_OP_SWAP_IN - LX_OP_BASE] = op_swap_in,
    [LX_OP_SWAP_FREE - LX_OP_BASE] = op_swap_free,
};
struct thread *thread_current;

/* ---- time --------------------------------------------------------------------------------------- */

uint64_t time_boot(void)
{
    return (uint64_t)((__uint128_t)(exo_tsc() - lx_shared->tsc_base) * lx_shared->ns_mult >> 32) +
           lx_shared->boot_base;
}

uint64_t time_real(void) { return time_boot() - lx_shared->boot_base + lx_shared->real_base; }

static void time_init(void)
{
    lx_shared->tsc_hz = exo.start.tsc_hz;
    lx_shared->ns_mult = (1000000000ul << 32) / exo.start.tsc_hz;
    lx_shared->tsc_base = exo_tsc();
    lx_shared->boot_base =
        (uint64_t)((__uint128_t)(lx_shared->tsc_base - (exo.info ? exo.info->boot_tsc : 0)) *
                       lx_shared->ns_mult >>
                   32);
    uint64_t wall = exo_wall(lx_shared->tsc_base);
    lx_shared->real_base = wall ? wall : lx_shared->boot_base;
}

void server_timer(uint64_t deadline)
{
    uint64_t now = time_boot();
    uint64_t wait = deadline > now ? deadline - now : 1;
    uint64_t khz = exo.start.tsc_hz / 1000;
    uint64_t ticks = wait / 1000000 * khz + wait % 1000000 * khz / 1000000 + 1;
    exo_timer_set(deadline ? exo_tsc() + ticks : 0, LX_SERVER_TIMER);
}

/* ---- calls ---------------------------------------------------------------------------------------- */

static __attribute__((noinline)) long unknown(struct thread *thread, uint64_t op)
{
    static uint64_t told[LX_CALLS / 64];
    if (op < LX_CALLS && !(told[op / 64] >> op % 64 & 1)) {
        told[op / 64] |= 1ul << op % 64;
        log_line("%s: system call %lu (%s) is not there", thread->process->name, op,
                 names[op] ? names[op] : "?");
    }
    return -ENOSYS;
}

/* A call that waited. */
static __attribute__((noinline)) long call_again(struct thread *thread, uint64_t op,
                                                 const uint64_t a[6])
{
    long r = -ENOSYS;
    if (thread->request && fuse_again(thread, &r)) return r;
    thread->again = true;
    if (op < LX_CALLS && calls[op])
        r = calls[op](thread, a);
    else if (op - LX_OP_BASE < EXO_COUNT(operations) && operations[op - LX_OP_BASE])
        r = operations[op - LX_OP_BASE](thread, a);
    thread->again = false;
    if (thread->request && r != -LX_WAIT && r != -LX_WAIT_FIRM) fuse_drop(thread);
    return r;
}

long lx_call(uint64_t badge, uint64_t op, const uint64_t a[6])
{
    uint64_t i = (badge & 0xffff) - 1;
    if (i >= LX_ALL_THREADS) return -ESRCH;
    struct thread *thread = &threads[i];
    if (!thread->process || thread->generation != badge >> 16) return -ESRCH;
    thread_current = thread;
    if (thread->waiting || fifo_openers) {
        wait_end(thread);
        if (thread->request && !(op & LX_OP_AGAIN)) fuse_aside(thread, op < LX_CALLS);
    }
    if (op < LX_CALLS) return calls[op] ? calls[op](thread, a) : unknown(thread, op);
    if (op & LX_OP_AGAIN) return call_again(thread, op & ~LX_OP_AGAIN, a);
    op -= LX_OP_BASE;
    if (op < EXO_COUNT(operations) && operations[op]) return operations[op](thread, a);
    return -ENOSYS;
}

/* Threads that were stopped by a fault that their library could not take. */
static void faults_look(void)
{
    for (unsigned i = 0; i < LX_ALL_THREADS; i++) {
        struct thread *t = &threads[i];
        if (!t->process || exo_thread_info(t->sel) != EXO_T_FAULTED) continue;
        exo_thread_read(t->sel);
        const struct exo_regs *regs = &exo_page()->regs;
        log_line("%s[%d]: exception %lu error %lx address %lx at %lx in its library",
                 t->process->name, t->process->pid, regs->vector, regs->error, regs->addr,
                 regs->rip);
        process_end(t->process, 11);
    }
}

/* ---- the start ---------------------------------------------------------------------------------------- */

/* "ROOT.cpio COMMAND ARGUMENT...": the archive's name, and the rest as text with ends. */
static long arguments(struct exo_startup *start, char name[64], char text[TEXT_SIZE])
{
    const char *at = start->args;
    size_t n = 0;
    while (*at && *at != ' ' && n < 63)
        name[n++] = *at++;
    name[n] = 0;
    size_t out = 0;
    unsigned words = 0;
    while (*at) {
        while (*at == ' ')
            at++;
        const char *word = at;
        while (*at && *at != ' ')
            at++;
        if (at == word) break;
        for (int again = words ? 1 : 2; again; again--) { /* the first is path and argument 0 */
            memcpy(text + out, word, (size_t)(at - word));
            out += (size_t)(at - word);
            text[out++] = 0;
        }
        words++;
    }
    text[out++] = 0;
    return words ? (long)out : -1;
}

static long world_make(struct exo_startup *start)
{
    char name[64], text[TEXT_SIZE];
    const void *data;
    size_t size;
    long n = arguments(start, name, text);
    if (n < 0) {
        exo_printf("%s: args=ROOT.cpio COMMAND [ARGUMENT ...]\n", start->name);
        return -1;
    }
    if (memory_init() < 0) return -1;
    swap_init();
    loan_init();
    time_init();
    if (exo_archive_find(LIBRARY, &data, &size) < 0) {
        exo_printf("%s: the boot archive has no '%s' (archive=yes?)\n", start->name, LIBRARY);
        return -1;
    }
    if (spawn_init(data, size) < 0) return -1;
    if (exo_archive_find(name, &data, &size) < 0) {
        exo_printf("%s: the boot archive has no '%s'\n", start->name, name);
        return -1;
    }
    long r = files_start(data, size);
    if (r < 0) exo_printf("%s: %s: damaged archive: error %ld\n", start->name, name, -r);
    tty_start_all();
    vm_dev_init();
    proc_exo_init();
    r = spawn_first(text, (size_t)n);
    if (r < 0) exo_printf("%s: the first process cannot be made: error %ld\n", start->name, -r);
    return r < 0 ? -1 : 0;
}

/* After a look at the faults the event is not looked at for a while: whoever signals it without
 * end must not keep others from being served. */
static uint64_t fault_mask = LX_SERVER_FAULT;

static void fault_again(struct timer *timer)
{
    (void)timer;
    fault_mask = LX_SERVER_FAULT;
}
static struct timer fault_timer = {.run = fault_again};

int main(struct exo_startup *start)
{
    if (world_make(start) < 0) return 1;
    console_poll(); /* from now on its event comes */
    while (process_alive(&processes[0])) {
        long events = lx_serve(fault_mask | LX_SERVER_TIMER | LX_SERVER_END | LOAN_EVENTS |
                               console_events() | vm_dev_events());
        if (events <= 0) continue;
        if ((uint64_t)events & LOAN_EVENTS) loan_events((uint64_t)events);
        if ((uint64_t)events & console_events()) console_poll();
        if ((uint64_t)events & vm_dev_events()) vm_dev_poll();
        if (events & LX_SERVER_TIMER) timers_run();
        if (events & LX_SERVER_FAULT) {
            faults_look();
            fault_mask = 0;
            timer_set(&fault_timer, time_boot() + FAULT_PAUSE);
        }
    }
    console_poll();
    return processes[0].status >> 8;
}
