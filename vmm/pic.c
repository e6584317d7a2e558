/* SPDX-License-Identifier: MIT
 *
 * Two 8259A interrupt controllers (Intel 8259A data sheet, 231468), the second on line 2
 * of the first, and the edge/level registers of a PIIX. Each acknowledges through
 * pic_take, called when a CPU that listens to it takes the interrupt. Under the device lock.
 */
#include "vmm.h"

#define CASCADE 2
#define SPURIOUS 7

/* Initialization and operation command words: data sheet, figures 7 and 8. */
#define ICW1 0x10
#define ICW1_ICW4 0x01
#define ICW1_SINGLE 0x02
#define ICW4_AUTO_EOI 0x02
#define ICW4_SPECIAL 0x10 /* special fully nested mode */
#define OCW3 0x08
#define OCW3_POLL 0x04
#define OCW3_READ 0x02
#define OCW3_ISR 0x01
#define OCW3_MASK_SET 0x40
#define OCW3_MASK 0x20

struct pic {
    uint8_t irr, imr, isr, lines;
    uint8_t level; /* ELCR: a bit set, level-triggered */
    uint8_t level_bits; /* which of them can be set */
    uint8_t base; /* vector of line 0 */
    uint8_t lowest; /* line with the lowest priority, 7 at first */
    uint8_t step; /* ICW that comes next, 0: none */
    bool icw4, auto_eoi, rotate_auto, special_nested, special_mask, read_isr, poll;
};
static struct pic pics[2];

/* Of the lines in a mask the one with the highest priority, 8: none. Its rank in *rank. */
static unsigned first_line(const struct pic *p, uint8_t mask, unsigned *rank)
{
    for (*rank = 0; *rank < 8; ++*rank) {
        unsigned line = (p->lowest + 1 + *rank) & 7;
        if (mask & 1u << line) return line;
    }
    return 8;
}

/* The line that this controller asks for, 8: none. */
static unsigned asks(const struct pic *p)
{
    uint8_t waiting = p->irr & (uint8_t)~p->imr;
    if (!waiting) return 8;
    unsigned rank, serving;
    unsigned line = first_line(p, waiting, &rank);
    uint8_t isr = p->special_mask ? p->isr & (uint8_t)~p->imr : p->isr;
    if (p->special_nested && p == &pics[0]) isr &= (uint8_t) ~(1u << CASCADE);
    first_line(p, isr, &serving);
    return rank < serving ? line : 8;
}

/* The second's output is a line of the first. Tells the CPU when there is something. */
static void line_set(struct pic *p, unsigned line, bool level)
{
    uint8_t bit = (uint8_t)(1u << line);
    bool rises = level && !(p->lines & bit);
    p->lines = level ? p->lines | bit : p->lines & (uint8_t)~bit;
    if (p->level & bit)
        p->irr = level ? p->irr | bit : p->irr & (uint8_t)~bit;
    else if (rises)
        p->irr |= bit;
}

static void update(void)
{
    bool second = asks(&pics[1]) < 8;
    line_set(&pics[0], CASCADE, second);
    if (!second) pics[0].irr &= (uint8_t) ~(1u << CASCADE);
    for (unsigned i = 0; asks(&pics[0]) < 8 && i < vm_cpus(); i++)
        if (lapic_takes_pic(i)) vcpu_kick(i);
}

void pic_set(unsigned line, bool level)
{
    struct pic *p = &pics[line / 8];
    if (line >= 16 || (line == CASCADE)) return;
    uint8_t before = p->irr;
    line_set(p, line % 8, level);
    if (p->irr != before) update();
}

/* ---- acknowledge -------------------------------------------------------------------------- */

static void take_line(struct pic *p, unsigned line)
{
    uint8_t bit = (uint8_t)(1u << line);
    if (!(p->level & bit)) p->irr &= (uint8_t)~bit;
    if (!p->auto_eoi)
        p->isr |= bit;
    else if (p->rotate_auto)
        p->lowest = (uint8_t)line;
}

/* The vector of the line that asks, of the spurious one where none does. take: into
 * service. */
static unsigned acknowledge(bool take)
{
    unsigned line = asks(&pics[0]);
    if (line > 7) return pics[0].base + SPURIOUS;
    if (take) take_line(&pics[0], line);
    if (line != CASCADE) return pics[0].base + line;
    unsigned second = asks(&pics[1]);
    if (second > 7) return pics[1].base + SPURIOUS;
    if (take) take_line(&pics[1], second);
    return pics[1].base + second;
}

int pic_pending(void) { return asks(&pics[0]) < 8 ? (int)acknowledge(false) : -1; }

unsigned pic_take(void)
{
    unsigned vector = acknowledge(true);
    update();
    return vector;
}

/* ---- ports ------------------------------------------------------------------------------------ */

static void icw1_write(struct pic *p, uint8_t value)
{
    p->irr = p->isr = p->imr = 0;
    p->lowest = 7;
    p->auto_eoi = p->rotate_auto = p->special_nested = p->special_mask = false;
    p->read_isr = p->poll = false;
    p->icw4 = value & ICW1_ICW4;
    p->irr = p->lines & p->level;
    p->step = 2;
    if (value & ICW1_SINGLE) vm_note("8259: single mode is not known");
}

/* OCW2: rotate 80h, specific 40h, end of interrupt 20h, and a line. */
static void ocw2_write(struct pic *p, uint8_t value)
{
    unsigned rank, line = value & 7;
    bool rotate = value & 0x80, specific = value & 0x40, end = value & 0x20;
    if (!specific) line = first_line(p, p->isr, &rank);
    if (end && line < 8) p->isr &= (uint8_t) ~(1u << line);
    if (rotate && (end || specific) && line < 8) p->lowest = (uint8_t)line;
    if (!end && !specific) p->rotate_auto = rotate;
}

static void ocw3_write(struct pic *p, uint8_t value)
{
    p->poll = value & OCW3_POLL;
    if (value & OCW3_READ) p->read_isr = value & OCW3_ISR;
    if (value & OCW3_MASK_SET) p->special_mask = value & OCW3_MASK;
}

static void data_write(struct pic *p, uint8_t value)
{
    switch (p->step) {
    case 2:
        p->base = value & 0xf8;
        p->step = 3;
        break;
    case 3: /* which line the second is on: as wired */
        p->step = p->icw4 ? 4 : 0;
        break;
    case 4:
        p->auto_eoi = value & ICW4_AUTO_EOI;
        p->special_nested = value & ICW4_SPECIAL;
        p->step = 0;
        break;
    default:
        p->imr = value;
    }
}

static void pic_write(void *device, uint64_t offset, unsigned size, uint64_t wide)
{
    struct pic *p = device;
    uint8_t value = (uint8_t)wide;
    (void)size;
    if (offset == 1)
        data_write(p, value);
    else if (value & ICW1)
        icw1_write(p, value);
    else if (value & OCW3)
        ocw3_write(p, value);
    else
        ocw2_write(p, value);
    update();
}

static uint64_t pic_read(void *device, uint64_t offset, unsigned size)
{
    struct pic *p = device;
    (void)size;
    if (p->poll) { /* the next read acknowledges */
        p->poll = false;
        unsigned line = asks(p);
        if (line > 7) return 0;
        take_line(p, line);
        update();
        return 0x80 | line;
    }
    if (offset == 1) return p->imr;
    return p->read_isr ? p->isr : p->irr;
}

static uint64_t level_read(void *device, uint64_t offset, unsigned size)
{
    (void)device, (void)size;
    return pics[offset].level;
}

static void level_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    (void)device, (void)size;
    pics[offset].level = (uint8_t)value & pics[offset].level_bits;
}

void pic_init(void)
{
    for (unsigned i = 0; i < 2; i++)
        pics[i] = (struct pic){.imr = 0xff, .lowest = 7, .base = (uint8_t)(i ? 0x70 : 8)};
    /* As firmware leaves it: PCI's lines (10, 11) and ACPI's (9) are level-triggered. */
    pics[0].level_bits = 0xf8;
    pics[1].level_bits = 0xde;
    pics[1].level = 0x0e;
    port_bytes_add(0x20, 2, &pics[0], pic_read, pic_write);
    port_bytes_add(0xa0, 2, &pics[1], pic_read, pic_write);
    port_bytes_add(0x4d0, 2, NULL, level_read, level_write);
}
