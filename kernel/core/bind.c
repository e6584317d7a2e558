/* SPDX-License-Identifier: MIT
 *
 * Bindings other than pages: time slots to threads, interrupts to events; and I/O
 * ports, which are checked at each access instead: a native thread's port access is a
 * call, because the processor's permission bitmap would have to be exchanged at each
 * switch of address spaces (8 KiB), which costs everybody for what few use.
 *
 * A virtual machine's env has a bitmap of its own, and a guest can be passed ports: all
 * those of one capability of its env, which then has one binding. A bit is clear exactly if
 * one such capability covers the port; so no table says through which. They are taken
 * back in two phases, as pages are (page.c).
 *
 * Each entry of slots[] and irqs[] remembers the (env, selector) it was bound through
 * and is counted there.
 * Locking: the tree lock and the env's lock for entries and counts; the scheduler and the
 * interrupt path read single fields without a lock (thread last set, first cleared).
 */
#include "core.h"

/*@ requires the_cpu.cur < PROOF_FRAMES;
    assigns \nothing;
    ensures \result == threads[the_cpu.cur].env; */
static frame_t cur_env(void) { return threads[this_cpu()->cur].env; }

/* Tree lock held: the caller's capability of a kind that covers one name, not dying. */
/*@ requires invariants && \valid(out) && local(out) && kind != EXO_NONE;
    assigns *out;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures found: \result == 0 ==> *out == cap_at(threads[the_cpu.cur].env, sel) &&
            sel < envs[threads[the_cpu.cur].env].nsel && caps[*out].kind == kind &&
            covers(caps[*out].base, caps[*out].count, name, n);
    ensures alive: \result == 0 ==> (caps[*out].flags & CAP_DYING) == 0; */
static long name_find(unsigned kind, uint64_t sel, uint64_t name, uint64_t n, cref_t *out)
{
    long r = cap_find(cur_env(), sel, kind, EXO_USE, out);
    if (r != 0) return r;
    const struct cap *c = &caps[*out];
    if (name < c->base || name - c->base >= c->count || n > c->count - (name - c->base))
        return -EXO_E_RANGE;
    if ((c->flags & CAP_DYING) != 0 || (envs[cur_env()].flags & ENV_DYING) != 0)
        return -EXO_E_DYING;
    return 0;
}

/*@ requires caps[c].env < PROOF_FRAMES;
    assigns caps[c].bindings;
    ensures caps[c].bindings == (uint32_t)(\old(caps[c].bindings) + delta); */
static void count_add(cref_t c, uint32_t delta)
{
    frame_t e = caps[c].env;
    lock_env(e);
    caps[c].bindings += delta;
    unlock_env(e);
}

/* ---- time slots ------------------------------------------------------------------------- */

/*@ requires slots_ok && i < EXO_MAX_CPUS * EXO_SLOTS_PER_CPU;
    assigns slots[i], threads[slots[i].thread].slots, caps[slot_cap(i)].bindings;
    ensures slots_ok;
    ensures gone: slots[i].thread == 0;
    ensures exact: caps[\old(slot_cap(i))].bindings ==
            (uint32_t)(\old(caps[slot_cap(i)].bindings) + UINT32_MAX); */
static void slot_clear(unsigned i)
{
    struct exo_slot *s = &slots[i];
    frame_t t = s->thread;
    cref_t c = env_caps(s->env) + s->sel;
    s->thread = 0;
    s->env = s->sel = s->flags = 0;
    threads[t].slots--;
    count_add(c, UINT32_MAX);
}

/*@ requires invariants && slots_ok;
    assigns slots[0 .. 2047], threads[0 .. PROOF_FRAMES - 1],
            caps[cap_at(threads[the_cpu.cur].env, sel)].bindings;
    ensures empty: \result == 0 ==> \old(slots[slot].thread) == 0;
    ensures inside: \result == 0 ==> covers(caps[cap_at(threads[the_cpu.cur].env, sel)].base,
            caps[cap_at(threads[the_cpu.cur].env, sel)].count, slot, 1);
    ensures bound: \result == 0 ==> slots[slot].env == threads[the_cpu.cur].env &&
            slots[slot].sel == sel && threads[slots[slot].thread].cpu == slot / EXO_SLOTS_PER_CPU;
    ensures exact: \result == 0 ==> caps[cap_at(threads[the_cpu.cur].env, sel)].bindings ==
            (uint32_t)(\old(caps[cap_at(threads[the_cpu.cur].env, sel)].bindings) + 1);
    ensures refused: \result != 0 ==> caps[cap_at(threads[the_cpu.cur].env, sel)].bindings ==
            \old(caps[cap_at(threads[the_cpu.cur].env, sel)].bindings); */
static long slot_bind(uint64_t sel, uint64_t slot, uint64_t thread, uint32_t flags)
{
    cref_t c, tc;
    frame_t t = this_cpu()->cur;
    long r = name_find(EXO_SLOTS, sel, slot, 1, &c);
    if (r == 0 && thread != 0) {
        r = cap_find(cur_env(), thread, EXO_THREAD, EXO_THREAD_SLOT, &tc);
        if (r == 0 && (caps[tc].flags & CAP_DYING) != 0) r = -EXO_E_DYING;
        if (r == 0) t = (frame_t)caps[tc].base;
    }
    if (r != 0) return r;
    if (threads[t].cpu != slot / EXO_SLOTS_PER_CPU) return -EXO_E_CPU;
    struct exo_slot *s = &slots[slot];
    if (s->thread != 0) return -EXO_E_BOUND;
    s->env = cur_env();
    s->sel = (uint32_t)sel;
    s->flags = flags;
    barrier();
    s->thread = t;
    threads[t].slots++;
    count_add(c, 1);
    return 0;
}

/*@ requires invariants && slots_ok;
    assigns slots[0 .. 2047], threads[0 .. PROOF_FRAMES - 1], irqs[0 .. EXO_IRQ_COUNT - 1],
            caps[0 .. 0xffffffff]; */
long sys_slot_bind(uint64_t sel, uint64_t slot, uint64_t thread, uint64_t flags)
{
    if ((flags & ~(uint64_t)EXO_SLOT_FIRM) != 0) return -EXO_E_ARG;
    lock_tree();
    long r = slot_bind(sel, slot, thread, (uint32_t)flags);
    unlock_tree();
    return r;
}

/*@ requires invariants && slots_ok;
    assigns slots[0 .. 2047], threads[0 .. PROOF_FRAMES - 1], irqs[0 .. EXO_IRQ_COUNT - 1],
            caps[0 .. 0xffffffff]; */
long sys_slot_unbind(uint64_t sel, uint64_t slot)
{
    cref_t c;
    lock_tree();
    long r = name_find(EXO_SLOTS, sel, slot, 1, &c);
    if (r == 0) {
        const struct exo_slot *s = &slots[slot];
        if (s->thread == 0 || s->env != cur_env() || s->sel != sel)
            r = -EXO_E_NONE;
        else
            slot_clear((unsigned)slot);
    }
    unlock_tree();
    return r;
}

void slots_forget(frame_t thread)
{
    const unsigned first = threads[thread].cpu * EXO_SLOTS_PER_CPU;
    /*@ loop invariant first <= i <= first + EXO_SLOTS_PER_CPU && slots_ok;
        loop invariant thread != 0 ==> \forall integer j; first <= j < i ==>
            slots[j].thread != thread;
        loop assigns i, slots[0 .. 2047], threads[0 .. PROOF_FRAMES - 1], caps[0 .. 0xffffffff];
        loop variant first + EXO_SLOTS_PER_CPU - i; */
    for (unsigned i = first; i < first + EXO_SLOTS_PER_CPU; i++)
        if (slots[i].thread == thread) slot_clear(i);
}

void slots_forget_cap(cref_t c)
{
    frame_t e = caps[c].env;
    uint32_t sel = c - env_caps(e);
    /*@ loop invariant 0 <= i <= ncpus * EXO_SLOTS_PER_CPU && slots_ok;
        loop invariant \forall integer j; 0 <= j < i ==>
            !(slots[j].thread != 0 && slots[j].env == e && slots[j].sel == sel);
        loop assigns i, slots[0 .. 2047], threads[0 .. PROOF_FRAMES - 1],
            caps[0 .. 0xffffffff];
        loop variant ncpus * EXO_SLOTS_PER_CPU - i; */
    for (unsigned i = 0; i < ncpus * EXO_SLOTS_PER_CPU; i++)
        if (slots[i].thread != 0 && slots[i].env == e && slots[i].sel == sel) slot_clear(i);
}

/* ---- interrupts --------------------------------------------------------------------------- */

/*@ requires slots_ok && irq < EXO_IRQ_COUNT;
    assigns irqs[irq], threads[irqs[irq].thread].irqs, caps[irq_cap(irq)].bindings;
    ensures slots_ok;
    ensures gone: irqs[irq].thread == 0;
    ensures exact: caps[\old(irq_cap(irq))].bindings ==
            (uint32_t)(\old(caps[irq_cap(irq)].bindings) + UINT32_MAX); */
static void irq_clear(unsigned irq)
{
    struct exo_irq *i = &irqs[irq];
    cref_t c = env_caps(i->env) + i->sel;
    irq_mask(irq);
    threads[i->thread].irqs--;
    i->thread = 0;
    i->env = i->sel = i->masked = 0;
    i->bits = 0;
    count_add(c, UINT32_MAX);
}

/*@ requires invariants && slots_ok;
    assigns irqs[0 .. EXO_IRQ_COUNT - 1], threads[0 .. PROOF_FRAMES - 1],
            caps[cap_at(threads[the_cpu.cur].env, sel)].bindings;
    ensures empty: \result == 0 ==> \old(irqs[irq].thread) == 0;
    ensures inside: \result == 0 ==> covers(caps[cap_at(threads[the_cpu.cur].env, sel)].base,
            caps[cap_at(threads[the_cpu.cur].env, sel)].count, irq, 1);
    ensures own: \result == 0 ==> threads[irqs[irq].thread].env == threads[the_cpu.cur].env;
    ensures exact: \result == 0 ==> caps[cap_at(threads[the_cpu.cur].env, sel)].bindings ==
            (uint32_t)(\old(caps[cap_at(threads[the_cpu.cur].env, sel)].bindings) + 1);
    ensures refused: \result != 0 ==> caps[cap_at(threads[the_cpu.cur].env, sel)].bindings ==
            \old(caps[cap_at(threads[the_cpu.cur].env, sel)].bindings); */
static long irq_bind(uint64_t sel, uint64_t irq, uint64_t event)
{
    cref_t c, ev;
    long r = name_find(EXO_IRQS, sel, irq, 1, &c);
    if (r != 0) return r;
    r = cap_find(cur_env(), event, EXO_EVENT, EXO_EVENT_SIGNAL, &ev);
    if (r != 0) return r;
    if ((caps[ev].flags & CAP_DYING) != 0) return -EXO_E_DYING;
    if (threads[caps[ev].base].env != cur_env()) return -EXO_E_ARG;
    struct exo_irq *i = &irqs[irq];
    if (i->thread != 0) return -EXO_E_BOUND;
    i->env = cur_env();
    i->sel = (uint32_t)sel;
    i->bits = caps[ev].count;
    i->masked = 0;
    barrier();
    i->thread = (frame_t)caps[ev].base;
    threads[i->thread].irqs++;
    count_add(c, 1);
    irq_unmask((unsigned)irq);
    return 0;
}

/*@ requires invariants && slots_ok;
    assigns slots[0 .. 2047], threads[0 .. PROOF_FRAMES - 1], irqs[0 .. EXO_IRQ_COUNT - 1],
            caps[0 .. 0xffffffff]; */
long sys_irq_bind(uint64_t sel, uint64_t irq, uint64_t event)
{
    lock_tree();
    long r = irq_bind(sel, irq, event);
    unlock_tree();
    return r;
}

/* Is the line bound, by the caller's env through sel? */
/*@ requires invariants && slots_ok;
    assigns \nothing;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures \result == 0 ==> irq < EXO_IRQ_COUNT && irqs[irq].thread != 0 &&
            irqs[irq].env == threads[the_cpu.cur].env && irqs[irq].sel == sel; */
static long irq_find(uint64_t sel, uint64_t irq)
{
    struct cap c;
    long r = cap_read(cur_env(), sel, EXO_IRQS, EXO_USE, &c);
    if (r != 0) return r;
    if (irq < c.base || irq - c.base >= c.count) return -EXO_E_RANGE;
    const struct exo_irq *i = &irqs[irq];
    return i->thread != 0 && i->env == cur_env() && i->sel == sel ? 0 : -EXO_E_NONE;
}

/*@ requires invariants && slots_ok;
    assigns slots[0 .. 2047], threads[0 .. PROOF_FRAMES - 1], irqs[0 .. EXO_IRQ_COUNT - 1],
            caps[0 .. 0xffffffff]; */
long sys_irq_unbind(uint64_t sel, uint64_t irq)
{
    lock_tree();
    long r = irq_find(sel, irq);
    if (r == 0) irq_clear((unsigned)irq);
    unlock_tree();
    return r;
}

/* Without a lock: if the line is unbound at the same moment it stays unmasked with
 * nobody to tell, and the interrupt path masks it then. */
/*@ requires invariants && slots_ok;
    assigns slots[0 .. 2047], threads[0 .. PROOF_FRAMES - 1], irqs[0 .. EXO_IRQ_COUNT - 1],
            caps[0 .. 0xffffffff]; */
long sys_irq_ack(uint64_t sel, uint64_t irq)
{
    long r = irq_find(sel, irq);
    if (r == 0 && irqs[irq].masked != 0) {
        irqs[irq].masked = 0;
        irq_unmask((unsigned)irq);
    }
    return r;
}

void irqs_forget(frame_t thread)
{
    /*@ loop invariant 0 <= i <= EXO_IRQ_COUNT && slots_ok;
        loop invariant thread != 0 ==> \forall integer j; 0 <= j < i ==> irqs[j].thread != thread;
        loop assigns i, irqs[0 .. EXO_IRQ_COUNT - 1], threads[0 .. PROOF_FRAMES - 1],
            caps[0 .. 0xffffffff];
        loop variant EXO_IRQ_COUNT - i; */
    for (unsigned i = 0; i < EXO_IRQ_COUNT; i++)
        if (irqs[i].thread == thread) irq_clear(i);
}

void irqs_forget_cap(cref_t c)
{
    frame_t e = caps[c].env;
    uint32_t sel = c - env_caps(e);
    /*@ loop invariant 0 <= i <= EXO_IRQ_COUNT && slots_ok;
        loop invariant \forall integer j; 0 <= j < i ==>
            !(irqs[j].thread != 0 && irqs[j].env == e && irqs[j].sel == sel);
        loop assigns i, irqs[0 .. EXO_IRQ_COUNT - 1], threads[0 .. PROOF_FRAMES - 1],
            caps[0 .. 0xffffffff];
        loop variant EXO_IRQ_COUNT - i; */
    for (unsigned i = 0; i < EXO_IRQ_COUNT; i++)
        if (irqs[i].thread != 0 && irqs[i].env == e && irqs[i].sel == sel) irq_clear(i);
}

/* ---- ports ------------------------------------------------------------------------------------- */

/*@ requires invariants;
    assigns \nothing;
    ensures -EXO_E_NOVM <= \result <= 0;
    ensures inside: \result == 0 ==> (size == 1 || size == 2 || size == 4) && port + size <= 65536 &&
            sel < envs[threads[the_cpu.cur].env].nsel &&
            covers(caps[cap_at(threads[the_cpu.cur].env, sel)].base,
                   caps[cap_at(threads[the_cpu.cur].env, sel)].count, port, size) &&
            caps[cap_at(threads[the_cpu.cur].env, sel)].kind == EXO_PORTS; */
static long port_check(uint64_t sel, uint64_t port, uint64_t size)
{
    struct cap c;
    if (size != 1 && size != 2 && size != 4) return -EXO_E_ARG;
    long r = cap_read(cur_env(), sel, EXO_PORTS, EXO_USE, &c);
    if (r != 0) return r;
    if (port < c.base || port - c.base >= c.count || size > c.count - (port - c.base))
        return -EXO_E_RANGE;
    return 0;
}

/*@ requires invariants;
    assigns \nothing; */
long sys_port_in(uint64_t sel, uint64_t port, uint64_t size)
{
    long r = port_check(sel, port, size);
    return r != 0 ? r : (long)port_read((unsigned)port, (unsigned)size);
}

/*@ requires invariants;
    assigns \nothing; */
long sys_port_out(uint64_t sel, uint64_t port, uint64_t size, uint64_t value)
{
    long r = port_check(sel, port, size);
    if (r == 0) port_write((unsigned)port, (unsigned)size, (uint32_t)value);
    return r;
}

/* Env lock held. Were all of c's ports kept from the guests of its env? flip: changes that. */
/*@ predicate ports_of(struct cap *c) = env_ok(c->env) && c->base + c->count <= 65536 &&
      c->env + 3 + envs[c->env].tables + EXO_VM_ENV_FRAMES <= nframes; */
/*@ requires \valid_read(c);
    requires ok: machine && ports_of(c);
    requires \separated(c, &tables[0 .. PROOF_FRAMES - 1]);
    assigns tables[0 .. PROOF_FRAMES - 1]; */
static bool ports_kept(const struct cap *c, bool flip)
{
    uint64_t end = c->base + c->count, next;
    bool kept = true;
    /*@ loop invariant end <= 65536 && ports_of(c);
        loop assigns port, next, kept, tables[0 .. PROOF_FRAMES - 1];
        loop variant 65536 - port; */
    for (uint64_t port = c->base; port < end; port = next) {
        next = (port | 63) + 1 < end ? (port | 63) + 1 : end;
        /*@ assert step: port < next <= port + 64 && (port & 63) <= 63; */
        /*@ assert word: (port >> 15) <= 1 && ((port >> 6) & 511) <= 511; */
        uint64_t bits = UINT64_MAX >> (64 - (next - port)) << (port & 63);
        uint64_t *word =
            &tables[c->env + 3 + envs[c->env].tables + (port >> 15)].e[port >> 6 & 511];
        kept &= (~*word & bits) == 0;
        if (flip) *word ^= bits;
    }
    return kept;
}

/* Env lock held: a passed capability's ports are kept from now on; its binding ends after
 * the round. False when it is not passed, or taken already. */
/*@ requires ok: invariants && ports_of(&caps[c]);
    requires e < PROOF_FRAMES - 3 && pend_room;
    assigns tables[0 .. PROOF_FRAMES - 1], caps[c].bindings, the_cpu.pend_count,
            the_cpu.pend[the_cpu.pend_count];
    ensures still: invariants;
    ensures kept: \result == 0 ==> the_cpu.pend_count == \old(the_cpu.pend_count);
    ensures recorded: \result != 0 ==> the_cpu.pend_count == \old(the_cpu.pend_count) + 1 &&
            \old(caps[c].bindings) == PORTS_PASSED; */
static bool ports_take(frame_t e, cref_t c)
{
    if (caps[c].bindings != PORTS_PASSED) return false;
    caps[c].bindings = PORTS_TAKEN;
    ports_kept(&caps[c], true);
    pend_add(e, PEND_ANYWHERE, c - env_caps(e), PEND_PORTS);
    return true;
}

/*@ requires ok: invariants && ports_of(&caps[c]);
    requires caps[c].env < PROOF_FRAMES - 3 && pend_room;
    assigns tables[0 .. PROOF_FRAMES - 1], caps[c].bindings, the_cpu.pend_count,
            the_cpu.pend[the_cpu.pend_count];
    ensures still: invariants;
    ensures done: \result != 0 ==> caps[c].bindings == 0 &&
            the_cpu.pend_count == \old(the_cpu.pend_count); */
bool ports_forget_cap(cref_t c)
{
    frame_t e = caps[c].env;
    lock_env(e);
    bool done = !ports_take(e, c) && caps[c].bindings == 0;
    unlock_env(e);
    return done;
}

/* Env lock held. */
/*@ requires ok: invariants; requires env_ok(e) && pend_room;
    assigns tables[0 .. PROOF_FRAMES - 1], caps[0 .. 0xffffffff].bindings, the_cpu.pend_count,
            the_cpu.pend[the_cpu.pend_count];
    ensures still: invariants;
    ensures -EXO_E_NOVM <= \result <= 0; */
static long ports_pass(frame_t e, uint64_t sel, bool pass)
{
    cref_t c;
    if ((envs[e].flags & ENV_VM) == 0) return -EXO_E_TYPE;
    if ((envs[e].flags & ENV_DYING) != 0) return -EXO_E_DYING;
    long r = cap_find(e, sel, EXO_PORTS, EXO_USE, &c);
    if (r != 0) return r;
    if ((caps[c].flags & CAP_DYING) != 0) return -EXO_E_DYING;
    if (!pass) return ports_take(e, c) ? 0 : -EXO_E_NONE;
    if (caps[c].bindings != 0 || !ports_kept(&caps[c], false)) return -EXO_E_BOUND;
    ports_kept(&caps[c], true);
    caps[c].bindings = PORTS_PASSED;
    return 0;
}

/*@ requires ok: invariants; requires pend_room;
    assigns tables[0 .. PROOF_FRAMES - 1], caps[0 .. 0xffffffff].bindings, the_cpu.pend_count,
            the_cpu.pend[the_cpu.pend_count];
    ensures still: invariants;
    ensures -EXO_E_NOVM <= \result <= 0; */
static long ports_call(uint64_t env, uint64_t sel, bool pass)
{
    frame_t e;
    long r = env_find(env, EXO_ENV_BIND, &e);
    if (r != 0) return r;
    lock_env(e);
    r = ports_pass(e, sel, pass);
    unlock_env(e);
    return r;
}

/*@ requires ok: invariants; requires pend_room;
    assigns tables[0 .. PROOF_FRAMES - 1], caps[0 .. 0xffffffff].bindings, the_cpu.pend_count,
            the_cpu.pend[the_cpu.pend_count];
    ensures still: invariants;
    ensures -EXO_E_NOVM <= \result <= 0; */
long sys_port_pass(uint64_t env, uint64_t sel) { return ports_call(env, sel, true); }

/*@ requires ok: invariants; requires pend_room;
    assigns tables[0 .. PROOF_FRAMES - 1], caps[0 .. 0xffffffff].bindings, the_cpu.pend_count,
            the_cpu.pend[the_cpu.pend_count];
    ensures still: invariants;
    ensures -EXO_E_NOVM <= \result <= 0; */
long sys_port_unpass(uint64_t env, uint64_t sel) { return ports_call(env, sel, false); }

long sys_null(void) { return 0; }
