/* SPDX-License-Identifier: MIT
 *
 * What core asks of the machine: where its tables lie, locks, atomic operations,
 * time and ports. Everything here is an inline function or a constant but the few
 * functions that need the devices. core/core.h includes this and lists it; on the
 * host, tests/host has a file of the same name.
 *
 * Locking: spin locks, interrupts being off in the kernel. Nobody holds one while
 * waiting for a quiesce round, so that plain spinning always ends.
 */
#ifndef PLATFORM_H
#define PLATFORM_H

/* Windows: each is one top-level slot and shows all of RAM from physical 0 on, so
 * that core can index one array an object type by frame number. */
#define WINDOW_TABLES 0xffff800000000000 /* slot 256; also the plain direct map */
#define WINDOW_ENVS 0xffff808000000000 /* 257 */
#define WINDOW_THREADS 0xffff810000000000
#define WINDOW_CAPS 0xffff818000000000
#define WINDOW_UPCALLS 0xffff820000000000
#define WINDOW_VECTORS 0xffff828000000000
#define WINDOW_VCPUS 0xffff830000000000 /* 262 */
#define KERNEL_MMIO 0xffff870000000000 /* slot 270: local APIC, I/O APICs */
#define KERNEL_IMAGE 0xffff878000000000 /* slot 271: kernel, physical 0 on; stacks */

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The kernel is one image: nothing is reached through a global offset table. */
#pragma GCC visibility push(hidden)

static struct table *const tables = (struct table *)WINDOW_TABLES;
static struct env *const envs = (struct env *)WINDOW_ENVS;
static struct thread *const threads = (struct thread *)WINDOW_THREADS;
static struct cap *const caps = (struct cap *)WINDOW_CAPS;
static struct exo_upcall_page *const upcalls = (struct exo_upcall_page *)WINDOW_UPCALLS;
static struct exo_vector *const vectors = (struct exo_vector *)WINDOW_VECTORS;
static struct vcpu *const vcpus = (struct vcpu *)WINDOW_VCPUS;

/* memory.c places these in RAM at boot. */
extern uint64_t *words, *blocks2m, *blocks1g, *lines;
extern struct exo_slot *slots;
extern struct exo_irq *irqs;
extern struct exo_cpu *counters;
extern struct exo_info *info;
extern struct cpu *cpus;
extern uint32_t nframes, ncpus;
extern bool huge_pages; /* cpu.c: the CPU has 1 GiB pages */
extern uint64_t slot_ticks; /* apic.c: a time slot in TSC ticks */

void panic(const char *format, ...) __attribute__((noreturn, cold, format(printf, 1, 2)));

#ifdef EXO_DEBUG
#define KASSERT(cond)                                                                              \
    ((cond) ? (void)0 : panic("%s:%d: assertion failed: %s", __FILE__, __LINE__, #cond))
#else
#define KASSERT(cond) ((void)sizeof(cond))
#endif

#define HOT static inline __attribute__((always_inline))
#define FLATTEN __attribute__((flatten)) /* all that it calls in its file is inlined */
#define NOINLINE __attribute__((noinline))

/* ---- atomic operations -------------------------------------------------- */
static inline bool word_cas(uint64_t *w, uint64_t expected, uint64_t desired)
{
    return __atomic_compare_exchange_n(w, &expected, desired, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_RELAXED);
}

static inline void word_add(uint64_t *w, uint64_t delta)
{
    __atomic_fetch_add(w, delta, __ATOMIC_SEQ_CST);
}

static inline void entry_flip(uint64_t *p, uint64_t bits)
{
    (void)__atomic_fetch_xor(p, bits, __ATOMIC_SEQ_CST);
}

static inline uint64_t entry_swap(uint64_t *p, uint64_t v)
{
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);
}

static inline void barrier(void) { __asm__ volatile("" : : : "memory"); }

static inline uint32_t fetch32(const uint32_t *p) { return *(const volatile uint32_t *)p; }

static inline uint64_t or_shared(uint64_t *p, uint64_t bits)
{
    return __atomic_fetch_or(p, bits, __ATOMIC_SEQ_CST);
}

static inline uint64_t clear_shared(uint64_t *p, uint64_t bits)
{
    return __atomic_fetch_and(p, ~bits, __ATOMIC_SEQ_CST);
}

static inline uint64_t fetch(const uint64_t *p) { return *(const volatile uint64_t *)p; }

/* ---- locks ------------------------------------------------------------------ */
extern uint32_t tree_lock;

static inline void spin_lock(uint32_t *lock)
{
    while (__builtin_expect(__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) != 0, 0))
        while (*(volatile uint32_t *)lock)
            __builtin_ia32_pause();
}

static inline void spin_unlock(uint32_t *lock) { __atomic_store_n(lock, 0, __ATOMIC_RELEASE); }

static inline void lock_tree(void) { spin_lock(&tree_lock); }

static inline void unlock_tree(void) { spin_unlock(&tree_lock); }

/* An env's lock is its first field (asserted in percpu.h). */
static inline void lock_env(uint32_t env)
{
    spin_lock((uint32_t *)((uint8_t *)envs + (uint64_t)env * 4096));
}

static inline void unlock_env(uint32_t env)
{
    spin_unlock((uint32_t *)((uint8_t *)envs + (uint64_t)env * 4096));
}

/* ---- this CPU --------------------------------------------------------------- */
#define PERCPU_CORE 48 /* offset of percpu.core (asserted in percpu.h) */

static inline struct cpu *this_cpu(void)
{
    struct cpu *c;
    __asm__("movq %%gs:%c1, %0" : "=r"(c) : "i"(PERCPU_CORE));
    return c;
}

/* threads[this_cpu()->cur], while core decides nothing about it. */
#define PERCPU_CUR 16 /* offset of percpu.cur (asserted in percpu.h) */
static inline struct thread *this_thread(void)
{
    struct thread *t;
    __asm__("movq %%gs:%c1, %0" : "=r"(t) : "i"(PERCPU_CUR));
    return t;
}

static inline uint64_t now(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

/* ---- ports -------------------------------------------------------------------- */
static inline uint32_t port_read(unsigned port, unsigned size)
{
    uint32_t value = 0;
    if (size == 1)
        __asm__ volatile("inb %w1, %b0" : "+a"(value) : "d"(port));
    else if (size == 2)
        __asm__ volatile("inw %w1, %w0" : "+a"(value) : "d"(port));
    else
        __asm__ volatile("inl %w1, %0" : "+a"(value) : "d"(port));
    return value;
}

static inline void port_write(unsigned port, unsigned size, uint32_t value)
{
    if (size == 1)
        __asm__ volatile("outb %b0, %w1" : : "a"(value), "d"(port));
    else if (size == 2)
        __asm__ volatile("outw %w0, %w1" : : "a"(value), "d"(port));
    else
        __asm__ volatile("outl %0, %w1" : : "a"(value), "d"(port));
}

/* ---- memory --------------------------------------------------------------------- */
static inline void page_clear(uint32_t frame)
{
    void *to = (void *)(WINDOW_TABLES + ((uint64_t)frame << 12));
    uint64_t n = 512;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(0ul) : "memory");
}

static inline void table_clear(uint32_t frame) { page_clear(frame); }

void root_init(uint32_t frame);

/* ---- devices ---------------------------------------------------------------------- */
void ipi_cpu(unsigned cpu);
void irq_mask(unsigned irq);
void irq_unmask(unsigned irq);
bool flush_alone(uint64_t va, uint64_t entry, bool now);
void flush_all(void);
void fpu_forget(uint32_t thread);
void fpu_init(uint32_t thread);
void thread_leave(uint32_t thread);
#endif
#endif
