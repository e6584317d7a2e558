/* SPDX-License-Identifier: MIT
 *
 * The run loop of a virtual CPU. Its thread here is the server of its exits: it answers
 * one and replies, and the reply lets the guest go on. While it keeps the reply (HLT, wait
 * for a SIPI, parked) the guest stands still and it waits for events instead.
 *
 * Signals from others (vcpu_kick and the like, under the device lock) leave what they want
 * in the structure, set `attention`, and look at `state`:
 *   MONITOR  nothing more: attention is looked at before the reply
 *   GUEST    an event of the virtual CPU makes it exit, at once or at its window
 *   others   EV_WAKE ends the wait
 * state = GUEST is stored before attention is read, attention is stored before state is
 * read, both with a fence: one side sees the other. Answers that touch no device need not
 * take the lock: attention false says that nothing came.
 *
 * The thread's own timer is set for its earliest vm_timer. It fires while the guest runs,
 * ends the wait for exits with EV_TIMER, and what the timer does leads to a kick.
 */
#include "vcpu.h"

#define PAGE_VA 0x0000120000000000ul /* pages of the virtual CPUs */
#define EVENTS (EV_WAKE | EV_TIMER)

struct vcpu vcpus[VM_CPUS];
static unsigned cpu_count;
static volatile uint32_t device_lock;
static volatile bool stopping, paused;
static volatile enum vm_end end;
static struct vm_start first_start;
static uint32_t main_event;

unsigned vm_cpus(void) { return cpu_count; }
uint64_t vcpu_tsc_offset(unsigned cpu) { return vcpus[cpu].tsc_offset; }

void vm_lock(void)
{
    while (__atomic_exchange_n(&device_lock, 1, __ATOMIC_ACQUIRE))
        exo_yield(); /* its holder may be a thread of this CPU that was preempted */
}

void vm_unlock(void) { __atomic_store_n(&device_lock, 0, __ATOMIC_RELEASE); }

struct vcpu *vcpu_current(void)
{
    uintptr_t at = (uintptr_t)exo_this() - (uintptr_t)vcpus;
    return at < sizeof(vcpus) ? &vcpus[at / sizeof(struct vcpu)] : NULL;
}

/* ---- signals from others ------------------------------------------------------------------- */

static void wake(struct vcpu *v, bool force)
{
    __atomic_store_n(&v->attention, true, __ATOMIC_SEQ_CST);
    if (v->state == VCPU_GUEST)
        exo_event_signal(force ? v->force_event : v->window_event);
    else if (v->state != VCPU_MONITOR)
        exo_event_signal(v->wake_event);
}

void vcpu_kick(unsigned cpu)
{
    if (!vcpus[cpu].attention) wake(&vcpus[cpu], false);
}

void vcpu_nmi(unsigned cpu)
{
    vcpus[cpu].nmi = true;
    wake(&vcpus[cpu], true);
}

void vcpu_init_signal(unsigned cpu)
{
    vcpus[cpu].init = true;
    vcpus[cpu].sipi = false;
    wake(&vcpus[cpu], true);
}

void vcpu_sipi(unsigned cpu, unsigned vector)
{
    struct vcpu *v = &vcpus[cpu];
    if (v->sipi || (v->activity != VCPU_SIPI && !v->init)) return;
    v->sipi_vector = (uint8_t)vector;
    v->sipi = true;
    wake(v, true);
}

unsigned vcpu_here(void)
{
    const struct vcpu *v = vcpu_current();
    return v ? v->index : 0;
}

bool vcpu_window_wanted(void)
{
    const struct vcpu *v = vcpu_current();
    return v && v->window & EXO_WINDOW_INTERRUPT;
}

void vcpu_timer_changed(unsigned cpu)
{
    struct vcpu *v = &vcpus[cpu];
    __atomic_store_n(&v->attention, true, __ATOMIC_SEQ_CST);
    if (v != vcpu_current() && v->state != VCPU_MONITOR) exo_event_signal(v->wake_event);
}

void vm_ended(enum vm_end how)
{
    if (end == VM_RUNS) end = how;
    stopping = true;
    for (unsigned i = 0; i < cpu_count; i++)
        wake(&vcpus[i], true);
    exo_event_signal(main_event);
}

void vm_pause(bool pause)
{
    paused = pause;
    vm_shared->paused = pause;
    for (unsigned i = 0; i < cpu_count; i++)
        wake(&vcpus[i], true);
}

void vm_power_off(void) { vm_ended(VM_OFF); }
void vm_reset(void) { vm_ended(VM_RESET); }
enum vm_end vm_end(void) { return end; }

/* ---- the page ---------------------------------------------------------------------------------- */

static void wait_failed(long error)
{
    if (error >= 0) return;
    vm_note("waiting for an exit: %s", exo_strerror(error)); /* a report would wait as well */
    vm_ended(VM_FAILED);
}

void vcpu_need(struct vcpu *v, uint32_t groups)
{
    struct exo_vm_words w;
    groups &= ~v->exit.filled;
    if (!groups) return;
    wait_failed(exo_vm_wait(0, 0, groups, &w));
    v->exit.filled |= groups;
}

bool vcpu_try(struct vcpu *v, uint32_t groups)
{
    struct exo_vm_words w;
    long r = exo_vm_wait(0, groups, EXO_VG_INJECT, &w);
    wait_failed(r);
    if (r != 0 || w.reason != EXO_VX_MORE) return false;
    v->set &= ~groups;
    return true;
}

void vcpu_fault(struct vcpu *v, unsigned vector, uint32_t error)
{
    v->event = EXO_VE_VALID | EXO_VE_EXCEPTION | EXO_VE_ERROR | vector;
    v->event_error = error;
    v->attention = true;
}

void vcpu_fault_plain(struct vcpu *v, unsigned vector)
{
    v->event = EXO_VE_VALID | EXO_VE_EXCEPTION | vector;
    v->event_error = 0;
    v->attention = true;
}

/* ---- interrupts ---------------------------------------------------------------------------------- */

/* The interrupt that waits for the CPU, -1 none; or the 8259s'. */
static int interrupt_pending(const struct vcpu *v, bool *from_pic)
{
    int vector = lapic_pending(v->index);
    *from_pic = vector < 0 && lapic_takes_pic(v->index) && (vector = pic_pending()) >= 0;
    return vector;
}

/* Decides what is injected at the next entry, and which windows are wanted. */
static void inject(struct vcpu *v)
{
    bool pic, ready = (v->flags & EXO_XF_IF) && !(v->flags & EXO_XF_SHADOW);
    uint32_t window = 0;
    if (v->nmi && !v->event && !(v->flags & EXO_XF_NMI)) {
        v->event = EXO_VE_VALID | EXO_VE_NMI | 2;
        v->nmi = false;
    } else if (v->nmi) {
        window |= EXO_WINDOW_NMI;
    }
    int vector = interrupt_pending(v, &pic);
    if (vector >= 0 && !v->event && ready) {
        if (pic)
            vector = (int)pic_take();
        else
            lapic_take(v->index, (unsigned)vector);
        v->event = EXO_VE_VALID | EXO_VE_INTERRUPT | (unsigned)vector;
        /* What waits behind it in the APIC is looked at when this one is acknowledged, which
         * then exits; the 8259s may acknowledge by themselves. */
        vector = pic ? interrupt_pending(v, &pic) : -1;
    }
    if (vector >= 0) window |= EXO_WINDOW_INTERRUPT;
    v->wanted = window;
}

/* Puts the decision into the page. */
static void inject_place(struct vcpu *v)
{
    if (!v->event && v->wanted == v->window) return;
    v->page->inject = (struct exo_vm_inject){v->event, v->event & EXO_VE_ERROR ? v->event_error : 0,
                                             v->event_length, v->wanted};
    v->window = v->wanted;
    v->set |= EXO_VG_INJECT;
}

/* The timer of this thread: for its earliest vm_timer, if that comes before what is set. */
static void timer_program(struct vcpu *v)
{
    uint64_t next = timer_next(v->index);
    if (!next || (v->armed && v->armed <= next)) return;
    v->armed = next;
    exo_timer_set(time_host_tsc(next), EV_TIMER);
}

/* ---- the loop --------------------------------------------------------------------------------------- */

static void account(struct vcpu *v, bool runs)
{
    struct vm_shared_cpu *shown = &vm_shared->cpu[v->index];
    uint64_t now = exo_tsc();
    if (shown->since) shown->ticks += now - shown->since;
    shown->since = runs ? now : 0;
}

/* Keeps the reply until an event comes. With the lock, which is not held meanwhile. Timers
 * that are due while the machine is paused fire when it goes on. */
static void stand_still(struct vcpu *v)
{
    uint64_t next = paused ? 0 : timer_next(v->index);
    v->state = v->activity == VCPU_HLT && !paused ? VCPU_HALTED : VCPU_WAIT;
    account(v, false);
    vm_unlock();
    long events = exo_event_wait(EVENTS, next ? time_host_tsc(next) : 0);
    vm_lock();
    account(v, true);
    v->state = VCPU_MONITOR;
    if (events & EV_TIMER) v->armed = 0;
    if (!paused) timers_run(v->index);
}

/* INIT and SIPI. */
static void signals(struct vcpu *v)
{
    if (v->init) {
        v->init = false;
        if (v->index == 0) return vm_reset();
        lapic_init(v->index);
        state_reset(v, false);
        v->activity = VCPU_SIPI;
    }
    if (v->sipi && v->activity == VCPU_SIPI) {
        v->sipi = false;
        state_sipi(v, v->sipi_vector);
        v->activity = VCPU_RUNS;
    }
}

/* As after power-on. */
static void begin(struct vcpu *v)
{
    v->nmi = v->init = v->sipi = false;
    v->set = 0;
    v->armed = 0;
    v->window = ~0u; /* none of ours: written at the first entry */
    v->wanted = 0;
    v->event_length = 0;
    state_reset(v, true);
    v->activity = v->index ? VCPU_SIPI : VCPU_RUNS;
    if (!v->index) state_start(v, &first_start);
    account(v, true);
}

/* The guest goes on, unless something came. */
static inline bool enter(struct vcpu *v)
{
    __atomic_store_n(&v->state, VCPU_GUEST, __ATOMIC_SEQ_CST);
    if (!v->attention) return true;
    v->state = VCPU_MONITOR;
    return false;
}

/* Until the guest can go on; false: it has to park. With the lock. */
static bool settle(struct vcpu *v)
{
    for (;;) {
        v->attention = false;
        if (stopping) return false;
        if (paused) {
            stand_still(v);
            continue;
        }
        if (v->activity == VCPU_NEW) begin(v);
        signals(v);
        if (v->activity != VCPU_SIPI) inject(v);
        if (v->activity == VCPU_HLT && v->event) v->activity = VCPU_RUNS;
        if (v->activity == VCPU_RUNS && !stopping) break;
        if (!stopping) stand_still(v);
    }
    inject_place(v);
    timer_program(v);
    return true;
}

/* With the lock, which is not held meanwhile: until all others have stopped too, and start. */
static void park(struct vcpu *v)
{
    account(v, false);
    while (stopping) {
        v->state = VCPU_PARKED;
        vm_unlock();
        exo_event_signal(main_event);
        exo_event_wait(EVENTS, 0);
        vm_lock();
    }
    v->state = VCPU_MONITOR;
    v->activity = VCPU_NEW;
}

static __attribute__((noinline)) void prepare(struct vcpu *v)
{
    do {
        vm_lock();
        while (!settle(v))
            park(v);
        vm_unlock();
    } while (!enter(v));
}

/* Something came for this thread while its guest runs. Timers that were armed have left
 * attention set, for which no kick was given: looked at anew. */
static void outside(struct vcpu *v, long events)
{
    bool pic;
    vm_lock();
    if (events & EV_TIMER) v->armed = 0;
    timers_run(v->index);
    timer_program(v);
    v->attention = false;
    if (v->nmi || v->init || stopping)
        wake(v, true);
    else if (interrupt_pending(v, &pic) >= 0)
        wake(v, false);
    vm_unlock();
}

/* The exit cut the delivery of an event off. */
static __attribute__((noinline)) void interrupted(struct vcpu *v, const struct exo_vm_exit *exit)
{
    v->event = exit->interrupted;
    v->event_error = exit->interrupted_error;
    v->event_length = exit->length;
    v->attention = true;
}

/* An exit: answers it. */
static struct exo_vm_reply serve(uint64_t badge, uint64_t reason, uint64_t filled, uint64_t detail2,
                                 uint64_t detail0, uint64_t detail1)
{
    struct vcpu *v = (struct vcpu *)badge; /* our own gate's */
    const struct exo_vm_exit *exit = &v->page->exit;
    v->state = VCPU_MONITOR;
    v->exit.reason = reason;
    v->exit.filled = filled;
    v->exit.detail[0] = detail0;
    v->exit.detail[1] = detail1;
    v->exit.detail[2] = detail2;
    v->length = exit->length;
    v->flags = exit->flags;
    vm_shared->cpu[v->index].exits[reason % EXO_VX_COUNT]++;
    v->set = 0;
    v->event = 0;
    if (exit->interrupted & EXO_VE_VALID) interrupted(v, exit);
    if (exit_handle(v)) v->activity = VCPU_HLT;
    if (v->attention || v->activity != VCPU_RUNS || !enter(v)) prepare(v);
    return (struct exo_vm_reply){v->set, 0};
}

static void vcpu_thread(void *argument)
{
    struct vcpu *v = argument;
    for (;;) {
        long r = exo_vm_serve(EVENTS, serve);
        if (r >= 0) {
            outside(v, r);
            continue;
        }
        wait_failed(r);
        vm_lock();
        park(v);
        vm_unlock();
    }
}

/* ---- making and starting -------------------------------------------------------------------------------- */

static long masks_set(struct vcpu *v)
{
    static const uint16_t masks[EXO_VX_COUNT] = {
        [EXO_VX_CPUID] = EXO_VG_A | EXO_VG_RIP,
        [EXO_VX_HLT] = EXO_VG_RIP,
        [EXO_VX_PIO] = EXO_VG_A | EXO_VG_RIP,
        [EXO_VX_MSR_READ] = EXO_VG_A | EXO_VG_RIP,
        [EXO_VX_MSR_WRITE] = EXO_VG_A | EXO_VG_RIP,
        [EXO_VX_CR] = EXO_VG_A | EXO_VG_B | EXO_VG_RIP | EXO_VG_CR | EXO_VG_SEG,
        [EXO_VX_DR] = EXO_VG_A | EXO_VG_B | EXO_VG_RIP | EXO_VG_CR | EXO_VG_SEG | EXO_VG_DR,
        [EXO_VX_NESTED] = EXO_VG_A | EXO_VG_B | EXO_VG_RIP | EXO_VG_CR | EXO_VG_SEG,
        [EXO_VX_HYPERCALL] = EXO_VG_A | EXO_VG_RIP,
        [EXO_VX_XSETBV] = EXO_VG_A | EXO_VG_RIP | EXO_VG_CR | EXO_VG_SEG,
        [EXO_VX_INSTR] = EXO_VG_RIP,
    };
    long r = 0;
    for (uint32_t reason = 1; reason < EXO_VX_COUNT && r >= 0; reason++)
        if (masks[reason]) r = exo_vcpu_mask(&v->cpu, reason, masks[reason]);
    if (r >= 0) r = exo_thread_set(v->cpu.thread, EXO_SET_VPASS, EXO_VP_ALL, 0);
    return r;
}

long vcpu_make(unsigned index, unsigned cpu)
{
    struct vcpu *v = &vcpus[index];
    *v = (struct vcpu){.index = index, .state = VCPU_PARKED, .tsc_offset = -time_base()};
    if (!main_event) {
        long event = exo_event_new(exo.start.sel_thread, EV_MAIN);
        if (event < 0) return event;
        main_event = (uint32_t)event;
    }
    long r = exo_task_make(&v->task, cpu);
    if (r < 0) return r;
    r = exo_vcpu_make(&v->cpu, &memory_vm, PAGE_VA + index * EXO_PAGE, cpu, v->task.sel,
                      (uint64_t)v);
    if (r < 0) return r;
    v->page = v->cpu.page;
    r = masks_set(v);
    if (r < 0) return r;
    if ((r = exo_event_new(v->cpu.thread, EXO_EVENT_WINDOW)) < 0) return r;
    v->window_event = (uint32_t)r;
    if ((r = exo_event_new(v->cpu.thread, EXO_VCPU_FIRST)) < 0) return r;
    v->force_event = (uint32_t)r;
    if ((r = exo_event_new(v->task.sel, EV_WAKE)) < 0) return r;
    v->wake_event = (uint32_t)r;
    cpu_count = index + 1;
    return 0;
}

bool vcpus_parked(void)
{
    for (unsigned i = 0; i < cpu_count; i++)
        if (vcpus[i].state != VCPU_PARKED) return false;
    return true;
}

long vcpus_start(const struct vm_start *start)
{
    bool first = end == VM_RUNS;
    first_start = *start;
    end = VM_RUNS;
    stopping = paused = false;
    vm_shared->paused = false;
    long r = 0;
    for (unsigned i = 0; i < cpu_count && r >= 0; i++) {
        struct vcpu *v = &vcpus[i];
        if (!first) {
            exo_event_signal(v->wake_event);
            continue;
        }
        v->state = VCPU_MONITOR;
        r = exo_task_start(&v->task, vcpu_thread, v);
        if (r >= 0) r = exo_vcpu_start(&v->cpu);
    }
    return r;
}
