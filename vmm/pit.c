/* SPDX-License-Identifier: MIT
 *
 * The 8254 interval timer (Intel 8254 data sheet, 231164): counter 0 makes interrupt 0,
 * counter 2 is gated and read through port 0x61; counter 1 only counts. A counter is not
 * stepped: its value follows from when it was loaded. Under the device lock.
 *
 * A counter that was loaded has `start`; in modes 2 and 3 it goes around each `count`
 * ticks, in the others it counts to 0 once.
 */
#include "vmm.h"

#define HZ 1193182ull
#define NS 1000000000ull
#define PERIOD_LEAST 596 /* ticks: a guest cannot ask for a storm */

/* The control word: data sheet, "Control Word Format". */
#define CONTROL_COUNTER(word) ((word) >> 6)
#define CONTROL_ACCESS(word) ((word) >> 4 & 3)
#define CONTROL_MODE(word) ((word) >> 1 & 7)
#define CONTROL_BCD 1
#define READ_BACK 3
#define READ_BACK_NO_COUNT 0x20
#define READ_BACK_NO_STATUS 0x10
enum { LATCH, LOW, HIGH, BOTH };

/* Port 0x61 of a PC. */
#define GATE_2 0x01
#define SPEAKER 0x02
#define REFRESH 0x10
#define OUT_2 0x20

struct counter {
    uint32_t count; /* 1..0x10000, 0: not loaded */
    uint64_t start; /* nanoseconds */
    uint8_t mode, access, low; /* low: written, the high byte comes next */
    bool bcd, gate, write_high, read_high;
    uint8_t latched; /* bytes of `latch` still to be read */
    uint16_t latch;
    bool status_latched;
    uint8_t status;
    uint64_t stopped; /* ticks counted when the gate went low */
};
static struct counter counters[3];
static struct vm_timer timer;
static uint8_t speaker;

static uint64_t to_ns(uint64_t ticks) { return ticks / HZ * NS + (ticks % HZ * NS + HZ - 1) / HZ; }

/* Ticks since it was loaded. */
static uint64_t elapsed(const struct counter *c)
{
    if (!c->gate) return c->stopped;
    uint64_t ns = vm_now() - c->start;
    return ns / NS * HZ + ns % NS * HZ / NS;
}

static bool is_periodic(const struct counter *c) { return c->mode == 2 || c->mode == 3; }

static uint32_t value(const struct counter *c)
{
    uint64_t ticks = elapsed(c);
    if (!c->count) return 0;
    if (c->mode == 3) return c->count - (uint32_t)(ticks * 2 % c->count & ~1ull);
    if (is_periodic(c)) return c->count - (uint32_t)(ticks % c->count);
    return (uint32_t)(c->count - ticks) & 0xffff; /* beyond 0 it wraps */
}

static bool output(const struct counter *c)
{
    uint64_t ticks = elapsed(c);
    if (!c->count) return c->mode != 0;
    switch (c->mode) {
    case 2:
        return !c->gate || ticks % c->count != c->count - 1;
    case 3:
        return !c->gate || ticks % c->count < (c->count + 1) / 2;
    case 4:
    case 5:
        return ticks != c->count;
    default:
        return ticks >= c->count;
    }
}

static uint16_t to_bcd(uint32_t n)
{
    return (uint16_t)(n / 1000 % 10 << 12 | n / 100 % 10 << 8 | n / 10 % 10 << 4 | n % 10);
}

static uint32_t from_bcd(uint32_t n)
{
    return (n >> 12 & 15) * 1000 + (n >> 8 & 15) * 100 + (n >> 4 & 15) * 10 + (n & 15);
}

/* ---- interrupt 0 ------------------------------------------------------------------------ */

static void timer_set(void)
{
    const struct counter *c = &counters[0];
    timer_cancel(&timer);
    if (!c->count) return;
    uint64_t ticks = elapsed(c), next = c->count;
    uint32_t period = c->count < PERIOD_LEAST ? PERIOD_LEAST : c->count;
    if (is_periodic(c))
        next = (ticks / period + 1) * period;
    else if (ticks >= next)
        return;
    timer_arm(&timer, c->start + to_ns(next));
}

static void timer_fire(void *argument)
{
    (void)argument;
    irq_set(0, true);
    irq_set(0, false);
    if (is_periodic(&counters[0])) timer_set();
}

/* ---- loading and reading ---------------------------------------------------------------------- */

static void load(struct counter *c, uint32_t count)
{
    if (c->bcd) count = from_bcd(count);
    if (!count) count = c->bcd ? 10000 : 0x10000;
    c->count = count;
    c->start = vm_now();
    c->stopped = 0;
    if (c == &counters[0]) timer_set();
}

static void counter_write(struct counter *c, uint8_t byte)
{
    switch (c->access) {
    case LOW:
        load(c, byte);
        break;
    case HIGH:
        load(c, (uint32_t)byte << 8);
        break;
    default:
        if (c->write_high) load(c, (uint32_t)byte << 8 | c->low);
        c->low = byte;
        c->write_high = !c->write_high;
    }
}

static void latch(struct counter *c)
{
    if (c->latched) return;
    c->latch = c->bcd ? to_bcd(value(c)) : (uint16_t)value(c);
    c->latched = c->access == BOTH ? 2 : 1;
}

static uint8_t counter_read(struct counter *c)
{
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    bool high = c->access == HIGH;
    if (c->access == BOTH) {
        if (c->latched)
            high = c->latched == 1;
        else
            high = c->read_high;
        c->read_high = !high;
    }
    uint16_t now = c->bcd ? to_bcd(value(c)) : (uint16_t)value(c);
    if (c->latched) {
        now = c->latch;
        c->latched--;
    }
    return (uint8_t)(high ? now >> 8 : now);
}

static void read_back(uint8_t word)
{
    for (unsigned i = 0; i < 3; i++) {
        struct counter *c = &counters[i];
        if (!(word & 2u << i)) continue;
        if (!(word & READ_BACK_NO_COUNT)) latch(c);
        if (word & READ_BACK_NO_STATUS || c->status_latched) continue;
        c->status = (uint8_t)(output(c) << 7 | (c->count == 0) << 6 | c->access << 4 |
                              c->mode << 1 | c->bcd);
        c->status_latched = true;
    }
}

static void control_write(uint8_t word)
{
    if (CONTROL_COUNTER(word) == READ_BACK) {
        read_back(word);
        return;
    }
    struct counter *c = &counters[CONTROL_COUNTER(word)];
    if (CONTROL_ACCESS(word) == LATCH) {
        latch(c);
        return;
    }
    *c = (struct counter){.gate = c->gate,
                          .access = CONTROL_ACCESS(word),
                          .mode = CONTROL_MODE(word),
                          .bcd = word & CONTROL_BCD};
    if (c->mode > 5) c->mode -= 4; /* 6 and 7 are 2 and 3 */
    if (c == &counters[0]) timer_cancel(&timer);
}

/* ---- ports --------------------------------------------------------------------------------------- */

static uint64_t pit_read(void *device, uint64_t offset, unsigned size)
{
    (void)device, (void)size;
    return offset < 3 ? counter_read(&counters[offset]) : 0xff;
}

static void pit_write(void *device, uint64_t offset, unsigned size, uint64_t byte)
{
    (void)device, (void)size;
    if (offset < 3)
        counter_write(&counters[offset], (uint8_t)byte);
    else
        control_write((uint8_t)byte);
}

static void gate_set(struct counter *c, bool gate)
{
    if (gate == c->gate) return;
    if (!gate) c->stopped = elapsed(c);
    c->gate = gate;
    if (!gate) return;
    /* A rising gate starts modes 1, 2, 3, 5 anew; the others go on where they stood. */
    c->start = vm_now() - (c->mode == 0 || c->mode == 4 ? to_ns(c->stopped) : 0);
}

static uint64_t speaker_read(void *device, uint64_t offset, unsigned size)
{
    (void)device, (void)offset, (void)size;
    uint64_t refresh = vm_now() / 15000 & 1 ? REFRESH : 0;
    return speaker | refresh | (output(&counters[2]) ? OUT_2 : 0);
}

static void speaker_write(void *device, uint64_t offset, unsigned size, uint64_t byte)
{
    (void)device, (void)offset, (void)size;
    speaker = byte & (GATE_2 | SPEAKER);
    gate_set(&counters[2], byte & GATE_2);
}

void pit_init(void)
{
    timer_cancel(&timer);
    timer = (struct vm_timer){.fire = timer_fire};
    for (unsigned i = 0; i < 3; i++)
        counters[i] = (struct counter){.gate = i < 2, .access = BOTH};
    speaker = 0;
    port_bytes_add(0x40, 4, NULL, pit_read, pit_write);
    port_bytes_add(0x61, 1, NULL, speaker_read, speaker_write);
}
