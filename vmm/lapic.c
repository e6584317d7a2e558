/* SPDX-License-Identifier: MIT
 *
 * Local APICs, one a virtual CPU: xAPIC through its page and x2APIC through MSRs (Intel
 * SDM vol. 3, chapter 11), the timer in all three modes, and EOI without an exit
 * (KVM_PV_EOI: Linux Documentation/virt/kvm/x86/msr.rst).
 *
 * All under the device lock. A vector's way: deliver() sets it in IRR and kicks the CPU,
 * whose thread asks lapic_pending() before it resumes the guest and calls lapic_take(),
 * which moves it into ISR; EOI takes it out. With PV EOI pending (`pv_set`) bit 0 of the
 * guest's word is set and stands for the EOI of the highest ISR bit: the guest clears it
 * instead of writing EOI. pv_sync(), called only by the thread of the virtual CPU, finds
 * that out; it comes before any use of ISR. The guest may run whenever that thread is
 * preempted, so the bit is looked at and cleared by one instruction.
 */
#include "vmm.h"

#define MSR_BASE 0x1b
#define MSR_DEADLINE 0x6e0
#define MSR_X2APIC 0x800

/* IA32_APIC_BASE: 11.4.4, 11.12.1 */
#define BASE_BSP 0x100ull
#define BASE_X2APIC 0x400ull
#define BASE_ENABLE 0x800ull
#define BASE_ADDRESS 0xfffffff000ull /* 40 bits of guest-physical address */

/* Registers: MSR - 0x800, and offset in the page / 16. Table 11-6. */
enum {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_APR = 0x09,
    REG_PPR = 0x0a,
    REG_EOI = 0x0b,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR = 0x30,
    REG_ICR_HIGH = 0x31,
    REG_LVT = 0x32,
    REG_INITIAL = 0x38,
    REG_CURRENT = 0x39,
    REG_DIVIDE = 0x3e,
    REG_SELF = 0x3f,
    REG_END = 0x40
};
enum { LVT_TIMER, LVT_THERMAL, LVT_COUNTERS, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVTS };

#define VERSION (0x14 | (LVTS - 1) << 16)
#define SVR_ENABLE 0x100u
#define SVR_BITS 0x1ffu
#define LVT_MASKED 0x10000u
#define LVT_MODE(lvt) ((lvt) >> 8 & 7)
#define TIMER_MODE(lvt) ((lvt) >> 17 & 3)
enum { TIMER_ONCE, TIMER_PERIODIC, TIMER_DEADLINE };
#define ESR_SEND_VECTOR 0x20u /* send illegal vector */
#define ESR_RECEIVE_VECTOR 0x40u
#define ESR_REGISTER 0x80u
#define ICR_LOGICAL 0x800u
#define ICR_ASSERT 0x4000u
#define ICR_LEVEL 0x8000u
#define ICR_SHORTHAND(icr) ((icr) >> 18 & 3)
#define ICR_BITS 0xccfffu
enum { TO_NAMED, TO_SELF, TO_ALL, TO_OTHERS };

/* Delivery modes: 11.6.1. */
enum { MODE_FIXED, MODE_LOWEST, MODE_SMI, MODE_NMI = 4, MODE_INIT, MODE_SIPI, MODE_EXTINT };

#define BROADCAST 0xffffffffu
#define XAPIC_BROADCAST 0xffu
#define PERIOD_LEAST 500000 /* nanoseconds: a guest cannot ask for a storm */
#define FAR (1ull << 62)

struct lapic {
    uint64_t irr[4], isr[4], tmr[4]; /* a bit a vector */
    uint64_t base; /* IA32_APIC_BASE */
    uint32_t id, tpr, ldr, dfr, svr, esr, esr_new, divide;
    uint64_t icr;
    uint32_t lvt[LVTS];
    uint32_t initial; /* timer: count */
    uint64_t started, period; /* nanoseconds */
    uint64_t deadline; /* of the guest's counter, 0: none */
    struct vm_timer timer;
    uint64_t pv_word; /* guest-physical, 0: not used */
    bool pv_set;
};
static struct lapic lapics[VM_CPUS];

/* Which bits of each LVT can be written: figure 11-8. */
static const uint32_t lvt_bits[LVTS] = {0x700ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff};

static bool is_enabled(const struct lapic *l) { return l->base & BASE_ENABLE; }
static bool is_x2apic(const struct lapic *l) { return l->base & BASE_X2APIC; }
static bool is_on(const struct lapic *l) { return is_enabled(l) && l->svr & SVR_ENABLE; }
static unsigned cpu_of(const struct lapic *l) { return (unsigned)(l - lapics); }

/* ---- vectors --------------------------------------------------------------------------- */

static void bit_set(uint64_t *map, unsigned vector) { map[vector / 64] |= 1ull << vector % 64; }
static void bit_clear(uint64_t *map, unsigned vector)
{
    map[vector / 64] &= ~(1ull << vector % 64);
}
static bool bit_get(const uint64_t *map, unsigned vector)
{
    return map[vector / 64] >> vector % 64 & 1;
}
static int bit_highest(const uint64_t *map)
{
    for (int i = 3; i >= 0; i--)
        if (map[i]) return i * 64 + 63 - __builtin_clzll(map[i]);
    return -1;
}

/* Processor priority: 11.8.3.1. */
static uint32_t priority(const struct lapic *l)
{
    int serving = bit_highest(l->isr);
    uint32_t class = serving < 0 ? 0 : (uint32_t)serving & 0xf0;
    return (l->tpr & 0xf0) >= class ? l->tpr : class;
}

static void deliver(struct lapic *l, unsigned vector, bool level);

static void error(struct lapic *l, uint32_t bit)
{
    l->esr_new |= bit;
    uint32_t lvt = l->lvt[LVT_ERROR];
    if (!(lvt & LVT_MASKED) && (lvt & 0xff) >= 16) deliver(l, lvt & 0xff, false);
}

static void deliver(struct lapic *l, unsigned vector, bool level)
{
    if (!is_on(l)) return;
    if (vector < 16) {
        error(l, ESR_RECEIVE_VECTOR);
        return;
    }
    if (level)
        bit_set(l->tmr, vector);
    else
        bit_clear(l->tmr, vector);
    if (bit_get(l->irr, vector)) return;
    bit_set(l->irr, vector);
    vcpu_kick(cpu_of(l));
}

/* The priority fell: what waits may be taken now. */
static void priority_fell(const struct lapic *l)
{
    if (bit_highest(l->irr) >= 0) vcpu_kick(cpu_of(l));
}

/* The APIC was turned on or off, or the way of the 8259s through it. */
static void way_changed(const struct lapic *l)
{
    if (lapic_takes_pic(cpu_of(l)) && pic_pending() >= 0) vcpu_kick(cpu_of(l));
    priority_fell(l);
}

/* ---- end of interrupt -------------------------------------------------------------------- */

/* The highest vector in service is done. */
static void eoi(struct lapic *l)
{
    int vector = bit_highest(l->isr);
    if (vector < 0) return;
    bit_clear(l->isr, (unsigned)vector);
    if (bit_get(l->tmr, (unsigned)vector)) ioapic_eoi((unsigned)vector);
    priority_fell(l);
}

static volatile uint8_t *pv_byte(const struct lapic *l)
{
    return l->pv_word ? guest_ptr(l->pv_word, 4) : NULL;
}

/* Takes note of an EOI that the guest made without an exit. keep: if it did not, its word
 * may stay set. */
static void pv_sync(struct lapic *l, bool keep)
{
    if (!l->pv_set) return;
    volatile uint8_t *byte = pv_byte(l);
    if (byte && keep && *byte & 1) return;
    bool done = !byte || !(__atomic_fetch_and(byte, 0xfe, __ATOMIC_SEQ_CST) & 1);
    l->pv_set = false;
    if (done) eoi(l);
}

void lapic_pv_eoi_set(unsigned cpu, uint64_t msr_value)
{
    struct lapic *l = &lapics[cpu];
    pv_sync(l, false);
    l->pv_word = msr_value & 1 ? msr_value & ~3ull : 0;
}

int lapic_pending(unsigned cpu)
{
    struct lapic *l = &lapics[cpu];
    int vector = bit_highest(l->irr);
    if (vector < 0) {
        pv_sync(l, true);
        return -1;
    }
    pv_sync(l, false); /* another one waits: the guest has to write EOI */
    if (!is_on(l)) return -1;
    return ((uint32_t)vector & 0xf0) > (priority(l) & 0xf0) ? vector : -1;
}

void lapic_take(unsigned cpu, unsigned vector)
{
    struct lapic *l = &lapics[cpu];
    pv_sync(l, false);
    bit_clear(l->irr, vector);
    bit_set(l->isr, vector);
    if (!l->pv_word || bit_get(l->tmr, vector) || bit_highest(l->irr) >= 0) return;
    volatile uint8_t *byte = pv_byte(l);
    if (!byte) return;
    *byte |= 1;
    l->pv_set = true;
}

bool lapic_takes_pic(unsigned cpu)
{
    const struct lapic *l = &lapics[cpu];
    if (!is_enabled(l)) return cpu == 0;
    uint32_t lvt = l->lvt[LVT_LINT0];
    return !(lvt & LVT_MASKED) && LVT_MODE(lvt) == MODE_EXTINT;
}

uint64_t lapic_tpr(unsigned cpu) { return lapics[cpu].tpr >> 4; }
void lapic_tpr_set(unsigned cpu, uint64_t cr8)
{
    lapics[cpu].tpr = (uint32_t)(cr8 & 15) << 4;
    priority_fell(&lapics[cpu]);
}

/* ---- messages ---------------------------------------------------------------------------------- */

static bool is_addressed(const struct lapic *l, uint32_t destination, bool logical)
{
    if (!is_enabled(l)) return false;
    if (destination == BROADCAST) return true;
    if (!logical) return destination == l->id;
    if (is_x2apic(l))
        return destination >> 16 == l->ldr >> 16 && (destination & l->ldr & 0xffff) != 0;
    uint32_t mine = l->ldr >> 24;
    if (l->dfr == 0xffffffff) return (mine & destination) != 0;
    return (mine & destination & 0x0f) && (mine >> 4) == (destination >> 4 & 15);
}

/* One message to one CPU. */
static void signal_cpu(struct lapic *l, unsigned mode, unsigned vector, bool level)
{
    switch (mode) {
    case MODE_FIXED:
    case MODE_LOWEST:
        deliver(l, vector, level);
        break;
    case MODE_NMI:
        vcpu_nmi(cpu_of(l));
        break;
    case MODE_INIT:
        vcpu_init_signal(cpu_of(l));
        break;
    case MODE_SIPI:
        vcpu_sipi(cpu_of(l), vector);
        break;
    default:
        vm_note("local APIC: delivery mode %u", mode);
    }
}

static void signal_lowest(uint32_t destination, bool logical, unsigned vector, bool level)
{
    struct lapic *best = NULL;
    for (unsigned i = 0; i < vm_cpus(); i++) {
        struct lapic *l = &lapics[i];
        if (!is_addressed(l, destination, logical) || !is_on(l)) continue;
        if (!best || priority(l) < priority(best)) best = l;
    }
    if (best) deliver(best, vector, level);
}

/* destination: as wide as an x2APIC's. */
static void message(uint32_t destination, bool logical, unsigned mode, unsigned vector, bool level)
{
    if (mode == MODE_LOWEST) {
        signal_lowest(destination, logical, vector, level);
        return;
    }
    for (unsigned i = 0; i < vm_cpus(); i++)
        if (is_addressed(&lapics[i], destination, logical))
            signal_cpu(&lapics[i], mode, vector, level);
}

void lapic_message(uint32_t destination, bool logical, unsigned mode, unsigned vector, bool level)
{
    message(destination == XAPIC_BROADCAST ? BROADCAST : destination, logical, mode, vector, level);
}

/* Interrupt command: 11.6.1. */
static void icr_send(struct lapic *l, uint64_t icr)
{
    l->icr = icr;
    uint32_t command = (uint32_t)icr, vector = command & 0xff;
    unsigned mode = command >> 8 & 7;
    if (mode == MODE_INIT && command & ICR_LEVEL && !(command & ICR_ASSERT))
        return; /* INIT level de-assert: nothing, on any CPU with this kind of APIC */
    if ((mode == MODE_FIXED || mode == MODE_LOWEST) && vector < 16) {
        error(l, ESR_SEND_VECTOR);
        return;
    }
    unsigned shorthand = ICR_SHORTHAND(command);
    if (shorthand == TO_NAMED) {
        uint32_t destination = (uint32_t)(icr >> 32);
        if (!is_x2apic(l)) {
            destination >>= 24;
            if (destination == XAPIC_BROADCAST) destination = BROADCAST;
        }
        message(destination, command & ICR_LOGICAL, mode, vector, false);
        return;
    }
    for (unsigned i = 0; i < vm_cpus(); i++) {
        bool self = &lapics[i] == l;
        if (self ? shorthand == TO_OTHERS : shorthand == TO_SELF) continue;
        if (is_enabled(&lapics[i])) signal_cpu(&lapics[i], mode, vector, false);
    }
}

/* ---- timer -------------------------------------------------------------------------------------- */

/* One tick of the APIC's bus is a nanosecond; the divider: 11.5.4. */
static uint64_t tick(const struct lapic *l)
{
    uint32_t code = (l->divide & 3) | (l->divide >> 1 & 4);
    return code == 7 ? 1 : 2ull << code;
}

static void timer_fire(void *argument)
{
    struct lapic *l = argument;
    uint32_t lvt = l->lvt[LVT_TIMER];
    l->deadline = 0;
    if (TIMER_MODE(lvt) == TIMER_PERIODIC && l->period) {
        uint64_t now = vm_now();
        l->started += l->period;
        if (l->started + l->period <= now) l->started = now; /* late: ticks are lost */
        timer_arm(&l->timer, l->started + l->period);
    }
    if (!(lvt & LVT_MASKED)) deliver(l, lvt & 0xff, false);
}

static void timer_start(struct lapic *l)
{
    timer_cancel(&l->timer);
    l->deadline = 0;
    if (!l->initial || TIMER_MODE(l->lvt[LVT_TIMER]) == TIMER_DEADLINE) return;
    l->started = vm_now();
    l->period = l->initial * tick(l);
    if (TIMER_MODE(l->lvt[LVT_TIMER]) == TIMER_PERIODIC && l->period < PERIOD_LEAST)
        l->period = PERIOD_LEAST;
    timer_arm(&l->timer, l->started + l->period);
}

static uint32_t timer_count(const struct lapic *l)
{
    if (!l->timer.at || TIMER_MODE(l->lvt[LVT_TIMER]) == TIMER_DEADLINE) return 0;
    uint64_t now = vm_now();
    uint64_t left = l->timer.at > now ? l->timer.at - now : 0;
    return (uint32_t)EXO_MIN(left / tick(l), (uint64_t)l->initial);
}

static void deadline_set(struct lapic *l, uint64_t deadline)
{
    if (TIMER_MODE(l->lvt[LVT_TIMER]) != TIMER_DEADLINE) return; /* 11.5.4.1 */
    l->deadline = deadline;
    if (!deadline) {
        timer_cancel(&l->timer);
        return;
    }
    uint64_t tsc = vm_tsc(cpu_of(l)), hz = vm_tsc_hz();
    uint64_t ticks = deadline > tsc ? deadline - tsc : 0;
    uint64_t wait =
        ticks >> 32 >= hz ? FAR : ticks / hz * 1000000000 + (ticks % hz * 1000000000 + hz - 1) / hz;
    timer_arm(&l->timer, vm_now() + wait);
}

static void lvt_timer_write(struct lapic *l, uint32_t value)
{
    uint32_t before = l->lvt[LVT_TIMER];
    l->lvt[LVT_TIMER] = value;
    if (TIMER_MODE(before) == TIMER_MODE(value)) return;
    timer_cancel(&l->timer);
    l->deadline = 0;
    l->initial = 0;
}

/* ---- registers -------------------------------------------------------------------------------------- */

static uint32_t vector_word(const uint64_t *map, unsigned word)
{
    return (uint32_t)(map[word / 2] >> 32 * (word % 2));
}

/* Registers of several words: the vectors' bits and the local vector table. */
static bool table_read(const struct lapic *l, unsigned reg, uint32_t *value)
{
    if (reg >= REG_ISR && reg < REG_TMR)
        *value = vector_word(l->isr, reg - REG_ISR);
    else if (reg >= REG_TMR && reg < REG_IRR)
        *value = vector_word(l->tmr, reg - REG_TMR);
    else if (reg >= REG_IRR && reg < REG_ESR)
        *value = vector_word(l->irr, reg - REG_IRR);
    else if (reg >= REG_LVT && reg < REG_LVT + LVTS)
        *value = l->lvt[reg - REG_LVT];
    else
        return false;
    return true;
}

/* False: no such register, or not one to be read. */
static bool register_read(struct lapic *l, unsigned reg, uint32_t *value)
{
    *value = 0;
    switch (reg) {
    case REG_ID:
        *value = is_x2apic(l) ? l->id : l->id << 24;
        break;
    case REG_VERSION:
        *value = VERSION;
        break;
    case REG_TPR:
        *value = l->tpr;
        break;
    case REG_PPR:
        *value = priority(l);
        break;
    case REG_APR:
    case REG_EOI:
        return !is_x2apic(l);
    case REG_DFR:
        *value = l->dfr;
        return !is_x2apic(l);
    case REG_LDR:
        *value = l->ldr;
        break;
    case REG_SVR:
        *value = l->svr;
        break;
    case REG_ESR:
        *value = l->esr;
        break;
    case REG_ICR:
        *value = (uint32_t)l->icr;
        break;
    case REG_ICR_HIGH:
        *value = (uint32_t)(l->icr >> 32);
        return !is_x2apic(l);
    case REG_INITIAL:
        *value = l->initial;
        break;
    case REG_CURRENT:
        *value = timer_count(l);
        break;
    case REG_DIVIDE:
        *value = l->divide;
        break;
    default:
        return table_read(l, reg, value);
    }
    return true;
}

static void svr_write(struct lapic *l, uint32_t value)
{
    l->svr = value & SVR_BITS;
    for (unsigned i = 0; i < LVTS && !(value & SVR_ENABLE); i++) /* 11.4.7.2 */
        l->lvt[i] |= LVT_MASKED;
    way_changed(l);
}

static void lvt_write(struct lapic *l, unsigned i, uint32_t value)
{
    value &= lvt_bits[i];
    if (!(l->svr & SVR_ENABLE)) value |= LVT_MASKED;
    if (i == LVT_TIMER)
        lvt_timer_write(l, value);
    else
        l->lvt[i] = value;
    if (i == LVT_LINT0) way_changed(l);
}

/* False: no such register, or not one to be written. The interrupt command is not here:
 * it is 64 bits in one mode and two registers in the other. */
static bool register_write(struct lapic *l, unsigned reg, uint32_t value)
{
    switch (reg) {
    case REG_TPR:
        l->tpr = value & 0xff;
        priority_fell(l);
        return true;
    case REG_EOI:
        eoi(l);
        return true;
    case REG_LDR:
        if (!is_x2apic(l)) l->ldr = value & 0xff000000;
        return !is_x2apic(l);
    case REG_DFR:
        if (!is_x2apic(l)) l->dfr = value | 0x0fffffff;
        return !is_x2apic(l);
    case REG_SVR:
        svr_write(l, value);
        return true;
    case REG_ESR: /* what happened since the last write shows now: 11.5.3 */
        l->esr = l->esr_new;
        l->esr_new = 0;
        return true;
    case REG_LVT ... REG_LVT + LVTS - 1:
        lvt_write(l, reg - REG_LVT, value);
        return true;
    case REG_INITIAL:
        if (TIMER_MODE(l->lvt[LVT_TIMER]) == TIMER_DEADLINE) return true;
        l->initial = value;
        timer_start(l);
        return true;
    case REG_DIVIDE:
        l->divide = value & 11;
        return true;
    default:
        return false;
    }
}

/* ---- xAPIC: the page ------------------------------------------------------------------------------------ */

uint64_t lapic_base(unsigned cpu)
{
    const struct lapic *l = &lapics[cpu];
    return is_enabled(l) && !is_x2apic(l) ? l->base & BASE_ADDRESS : 0;
}

uint64_t lapic_mmio_read(unsigned cpu, uint64_t offset, unsigned size)
{
    struct lapic *l = &lapics[cpu];
    uint32_t value = 0;
    pv_sync(l, false);
    if (offset % 16 + size > 4 || offset >= 16 * REG_END) return 0;
    if (!register_read(l, (unsigned)(offset / 16), &value)) error(l, ESR_REGISTER);
    return value >> 8 * (offset % 4);
}

void lapic_mmio_write(unsigned cpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct lapic *l = &lapics[cpu];
    pv_sync(l, false);
    if (offset % 16 || size < 4 || offset >= 16 * REG_END) return;
    unsigned reg = (unsigned)(offset / 16);
    if (reg == REG_ICR)
        icr_send(l, (l->icr & ~0xffffffffull) | (value & ICR_BITS & ~0x1000u));
    else if (reg == REG_ICR_HIGH)
        l->icr = (l->icr & 0xffffffff) | (value & 0xff000000) << 32;
    else if (!register_write(l, reg, (uint32_t)value))
        error(l, ESR_REGISTER);
}

/* ---- MSRs ------------------------------------------------------------------------------------------------- */

static void registers_reset(struct lapic *l)
{
    unsigned cpu = cpu_of(l);
    timer_cancel(&l->timer);
    *l = (struct lapic){.base = l->base, .id = cpu, .dfr = 0xffffffff, .svr = 0xff};
    l->timer = (struct vm_timer){.cpu = cpu, .fire = timer_fire, .argument = l};
    for (unsigned i = 0; i < LVTS; i++)
        l->lvt[i] = LVT_MASKED;
    /* As firmware leaves it for the first CPU: the 8259s come through LINT0. */
    if (cpu == 0) l->lvt[LVT_LINT0] = MODE_EXTINT << 8;
    if (is_x2apic(l)) l->ldr = l->id >> 4 << 16 | 1u << (l->id & 15);
}

void lapic_init(unsigned cpu) { registers_reset(&lapics[cpu]); }

void lapic_reset(unsigned cpu)
{
    lapics[cpu].base = VM_LAPIC | BASE_ENABLE | (cpu == 0 ? BASE_BSP : 0);
    registers_reset(&lapics[cpu]);
}

/* The allowed changes of mode: figure 11-21. */
static bool base_write(struct lapic *l, uint64_t value)
{
    uint64_t mode = value & (BASE_ENABLE | BASE_X2APIC), before = l->base;
    if (value & ~(BASE_ADDRESS | BASE_ENABLE | BASE_X2APIC | BASE_BSP)) return false;
    if (mode == BASE_X2APIC) return false;
    if (mode == (BASE_ENABLE | BASE_X2APIC) && !(before & BASE_ENABLE)) return false;
    if (mode == BASE_ENABLE && before & BASE_X2APIC) return false;
    l->base = (value & ~BASE_BSP) | (before & BASE_BSP);
    if (!mode && before & BASE_ENABLE) registers_reset(l);
    if (is_x2apic(l)) l->ldr = l->id >> 4 << 16 | 1u << (l->id & 15);
    way_changed(l);
    return true;
}

bool lapic_msr_read(unsigned cpu, uint32_t msr, uint64_t *value)
{
    struct lapic *l = &lapics[cpu];
    uint32_t low;
    if (msr == MSR_BASE)
        *value = l->base;
    else if (msr == MSR_DEADLINE)
        *value = l->deadline;
    if (msr == MSR_BASE || msr == MSR_DEADLINE) return true;
    pv_sync(l, false);
    if (!is_x2apic(l) || msr < MSR_X2APIC || msr - MSR_X2APIC >= REG_END) return false;
    if (!register_read(l, msr - MSR_X2APIC, &low)) return false;
    *value = msr - MSR_X2APIC == REG_ICR ? l->icr : low;
    return true;
}

bool lapic_msr_write(unsigned cpu, uint32_t msr, uint64_t value)
{
    struct lapic *l = &lapics[cpu];
    if (msr == MSR_DEADLINE) {
        deadline_set(l, value);
        return true;
    }
    pv_sync(l, false);
    if (msr == MSR_BASE) return base_write(l, value);
    if (!is_x2apic(l) || msr < MSR_X2APIC || msr - MSR_X2APIC >= REG_END) return false;
    unsigned reg = msr - MSR_X2APIC;
    if (reg == REG_ICR) {
        if (value & 0xffffffff & ~(uint64_t)ICR_BITS) return false;
        icr_send(l, value & ~0x1000ull);
        return true;
    }
    if (value >> 32) return false;
    if ((reg == REG_EOI || reg == REG_ESR) && value) return false;
    if (reg == REG_TPR && value > 0xff) return false;
    if (reg != REG_SELF) return register_write(l, reg, (uint32_t)value);
    if (value > 0xff) return false;
    if (value < 16)
        error(l, ESR_SEND_VECTOR);
    else
        deliver(l, (unsigned)value, false);
    return true;
}
