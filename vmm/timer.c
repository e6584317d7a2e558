/* SPDX-License-Identifier: MIT
 *
 * The virtual machine's time and its timers. Time is the host's time-stamp counter since
 * the machine was made; the guest's own counter is the same with another start, an offset
 * a virtual CPU. Timers: a list a virtual CPU, the earliest first; they fire on its
 * thread, which runs due ones at each exit and each wake-up. All under the device lock.
 */
#include "vcpu.h"

#define NS 1000000000ull

static uint64_t base_tsc; /* host's counter at vm_now() == 0 */
static uint64_t tsc_hz;
static uint64_t wall_clock;
static uint64_t ns_per_tick; /* << 32 */
static uint64_t ticks_per_ns; /* << 32 */
static struct vm_timer *armed[VM_CPUS];

static uint64_t scale(uint64_t value, uint64_t factor)
{
    return (uint64_t)((unsigned __int128)value * factor >> 32);
}

void time_init(uint64_t hz, uint64_t wall)
{
    tsc_hz = hz ? hz : NS;
    base_tsc = exo_tsc();
    wall_clock = wall;
    ns_per_tick = (NS << 32) / tsc_hz;
    ticks_per_ns = (tsc_hz / NS << 32) + (tsc_hz % NS << 32) / NS;
    memset(armed, 0, sizeof(armed));
}

void time_wall_set(uint64_t wall) { wall_clock = wall; }

uint64_t vm_now(void) { return scale(exo_tsc() - base_tsc, ns_per_tick); }
uint64_t vm_tsc_hz(void) { return tsc_hz; }
uint64_t vm_tsc(unsigned cpu) { return exo_tsc() + vcpu_tsc_offset(cpu); }
uint64_t vm_wall_clock(void) { return wall_clock; }
uint64_t time_base(void) { return base_tsc; }

uint64_t time_host_tsc(uint64_t at)
{
    /* One tick late rather than early: the timer is due when the counter is there. */
    return base_tsc + scale(at, ticks_per_ns) + 1;
}

/* ---- timers --------------------------------------------------------------------------- */

static bool unlink_timer(struct vm_timer *timer)
{
    struct vm_timer **link = &armed[timer->cpu];
    for (; *link; link = &(*link)->next) {
        if (*link != timer) continue;
        *link = timer->next;
        return true;
    }
    return false;
}

void timer_cancel(struct vm_timer *timer)
{
    if (timer->at) unlink_timer(timer);
    timer->at = 0;
}

void timer_arm(struct vm_timer *timer, uint64_t at)
{
    if (timer->at) unlink_timer(timer);
    timer->at = at ? at : 1;
    struct vm_timer **link = &armed[timer->cpu];
    while (*link && (*link)->at <= timer->at)
        link = &(*link)->next;
    timer->next = *link;
    *link = timer;
    if (armed[timer->cpu] == timer) vcpu_timer_changed(timer->cpu);
}

uint64_t timer_next(unsigned cpu) { return armed[cpu] ? armed[cpu]->at : 0; }

void timers_run(unsigned cpu)
{
    if (!armed[cpu]) return;
    uint64_t now = vm_now();
    struct vm_timer *due;
    while ((due = armed[cpu]) && due->at <= now) {
        armed[cpu] = due->next;
        due->at = 0;
        due->fire(due->argument);
    }
}
