/* SPDX-License-Identifier: MIT
 *
 * The platform that core is built on for the host: arrays in ordinary memory, locks that
 * check their own use, time that the test sets. See kernel/core/core.h for the contract.
 */
#ifndef PLATFORM_H
#define PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct table;
struct env;
struct thread;
struct cap;
struct cpu;
struct exo_upcall_page;
struct exo_vector;
struct vcpu;
struct exo_vm_exit;

extern struct table *tables;
extern struct env *envs;
extern struct thread *threads;
extern struct cap *caps;
extern struct exo_upcall_page *upcalls;
extern struct exo_vector *vectors;
extern struct vcpu *vcpus;
extern uint64_t *words, *blocks2m, *blocks1g, *lines;
extern struct exo_slot *slots;
extern struct exo_irq *irqs;
extern struct exo_cpu *counters;
extern struct cpu *cpus;
extern uint32_t nframes, ncpus;
extern bool huge_pages;
extern uint64_t slot_ticks;

void host_fail(const char *file, int line, const char *what);
#define HOT static inline
#define FLATTEN
#define NOINLINE

#define KASSERT(cond) ((cond) ? (void)0 : host_fail(__FILE__, __LINE__, #cond))

static inline bool word_cas(uint64_t *w, uint64_t expected, uint64_t desired)
{
    if (*w != expected) return false;
    *w = desired;
    return true;
}
static inline void word_add(uint64_t *w, uint64_t delta) { *w += delta; }
static inline void entry_flip(uint64_t *p, uint64_t bits) { *p ^= bits; }
static inline uint64_t entry_swap(uint64_t *p, uint64_t v)
{
    uint64_t old = *p;
    *p = v;
    return old;
}
static inline uint64_t or_shared(uint64_t *p, uint64_t bits)
{
    uint64_t old = *p;
    *p |= bits;
    return old;
}
static inline uint64_t clear_shared(uint64_t *p, uint64_t bits)
{
    uint64_t old = *p;
    *p &= ~bits;
    return old;
}
static inline uint64_t fetch(const uint64_t *p) { return *(const volatile uint64_t *)p; }
static inline uint32_t fetch32(const uint32_t *p) { return *(const volatile uint32_t *)p; }
static inline void barrier(void) {}

void lock_tree(void);
void unlock_tree(void);
void lock_env(uint32_t env);
void unlock_env(uint32_t env);
struct cpu *this_cpu(void);
struct thread *this_thread(void);
uint64_t now(void);
void ipi_cpu(unsigned cpu);
void table_clear(uint32_t frame);
void page_clear(uint32_t frame);
void root_init(uint32_t frame);
void irq_mask(unsigned irq);
void irq_unmask(unsigned irq);
bool flush_alone(uint64_t va, uint64_t entry, bool now);
void flush_all(void);
void fpu_forget(uint32_t thread);
void fpu_init(uint32_t thread);
void thread_leave(uint32_t thread);
uint32_t port_read(unsigned port, unsigned size);
void port_write(unsigned port, unsigned size, uint32_t value);

/* ---- for the tests themselves ------------------------------------------------------------- */
extern unsigned host_cpu; /* the CPU that core now runs on */
extern uint64_t host_now; /* the time-stamp counter */
extern uint64_t host_ipis; /* mask of CPUs an IPI was sent to */
extern bool host_flush_left; /* counts were given back, a flush is to follow */
extern void (*host_flushed)(uint64_t entry); /* told when no CPU has its translation any more */
extern struct exo_vm_exit host_exit; /* what the next VM exit is */
extern unsigned host_vcpus; /* control blocks made, and not forgotten */
extern uint32_t host_passed; /* the MSRs passed last, EXO_VP_* */
extern void (*host_meanwhile)(void); /* another CPU does it before the next env lock is got */

/* A machine with `frames` of RAM and `n` CPUs; aliased: all arrays are the same memory, as
 * in the kernel. Makes env `host_env` (8 table frames) with thread `host_thread` on CPU 0,
 * all other frames in its selector HOST_RAM, slots in HOST_SLOTS, irqs in HOST_IRQS, ports
 * in HOST_PORTS, its own env in HOST_ENV, its thread in HOST_THREAD. */
enum { HOST_ENV = 1, HOST_THREAD, HOST_RAM, HOST_SLOTS, HOST_IRQS, HOST_PORTS };
#define HOST_FREE 16 /* the first frame that HOST_RAM covers */
extern uint32_t host_env, host_thread;
void host_boot(uint32_t frames, unsigned n, bool aliased);
#endif
