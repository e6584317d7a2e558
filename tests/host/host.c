/* SPDX-License-Identifier: MIT
 *
 * The host's side of tests/host/platform.h: memory, locks, a machine to begin with.
 */
#include "../../kernel/core/vm.h"

struct table *tables;
struct env *envs;
struct thread *threads;
struct cap *caps;
struct exo_upcall_page *upcalls;
struct exo_vector *vectors;
struct vcpu *vcpus;
uint64_t *words, *blocks2m, *blocks1g, *lines;
struct exo_slot *slots;
struct exo_irq *irqs;
struct exo_cpu *counters;
struct cpu *cpus;
uint32_t nframes, ncpus;
uint64_t slot_ticks = 1000;
bool huge_pages = true;

unsigned host_cpu;
uint64_t host_now = 1;
uint64_t host_ipis;
bool host_flush_left;
uint32_t host_env, host_thread;

static bool tree_locked;

void host_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, what);
    abort();
}

void lock_tree(void)
{
    KASSERT(!tree_locked);
    tree_locked = true;
}

void unlock_tree(void)
{
    KASSERT(tree_locked);
    tree_locked = false;
}

void (*host_meanwhile)(void);

void lock_env(uint32_t env)
{
    void (*meanwhile)(void) = host_meanwhile;
    host_meanwhile = NULL;
    if (meanwhile != NULL) meanwhile();
    KASSERT(EXO_FW_TYPE(words[env]) == EXO_FT_ENV && envs[env].lock == 0);
    envs[env].lock = 1;
}

void unlock_env(uint32_t env)
{
    KASSERT(envs[env].lock == 1);
    envs[env].lock = 0;
}

struct cpu *this_cpu(void) { return &cpus[host_cpu]; }
struct thread *this_thread(void) { return &threads[this_cpu()->cur]; }
uint64_t now(void) { return host_now; }
void ipi_cpu(unsigned cpu) { host_ipis |= 1ull << cpu; }
void table_clear(uint32_t frame) { memset(&tables[frame], 0, 4096); }
void page_clear(uint32_t frame)
{
    table_clear(frame);
    memset(&envs[frame], 0, sizeof *envs);
    memset(&threads[frame], 0, sizeof *threads);
    memset(&caps[frame * EXO_TAB_CAPS], 0, 4096);
    memset(&upcalls[frame], 0, 4096);
    memset(&vectors[frame], 0, 4096);
    memset(&vcpus[frame], 0, sizeof *vcpus);
}
void root_init(uint32_t frame) { page_clear(frame); }
void irq_mask(unsigned irq) { KASSERT(irq < EXO_IRQ_COUNT); }
void irq_unmask(unsigned irq) { KASSERT(irq < EXO_IRQ_COUNT); }
void fpu_forget(uint32_t thread) { KASSERT(thread < nframes); }
void (*host_flushed)(uint64_t entry);

static unsigned flushes_asked;

/* Every other time, so that both ways are gone. */
bool flush_alone(uint64_t va, uint64_t entry, bool now)
{
    KASSERT((va & 4095) == 0 && entry != 0);
    bool alone = (++flushes_asked & 1) != 0;
    if (alone && !now) host_flush_left = true;
    if (alone && host_flushed != NULL) host_flushed(entry);
    return alone;
}
void flush_all(void) { host_flush_left = false; }
void thread_leave(uint32_t thread) { KASSERT(threads[thread].state == EXO_T_READY); }
void fpu_init(uint32_t thread) { memset(threads[thread].fpu, 0, sizeof threads[thread].fpu); }

uint32_t port_read(unsigned port, unsigned size)
{
    KASSERT(port < 65536 && size <= 4);
    return port;
}

void port_write(unsigned port, unsigned size, uint32_t value)
{
    (void)value;
    KASSERT(port < 65536 && size <= 4);
}

static void *pages(size_t bytes)
{
    void *p = aligned_alloc(4096, (bytes + 4095) & ~4095ul);
    if (p == NULL) host_fail(__FILE__, __LINE__, "out of memory");
    memset(p, 0, bytes);
    return p;
}

static void memory_place(uint32_t frames, bool aliased)
{
    size_t bytes = (size_t)frames * 4096;
    tables = pages(bytes);
    envs = aliased ? (struct env *)tables : pages(bytes);
    threads = aliased ? (struct thread *)tables : pages(bytes);
    caps = aliased ? (struct cap *)tables : pages(bytes);
    upcalls = aliased ? (struct exo_upcall_page *)tables : pages(bytes);
    vectors = aliased ? (struct exo_vector *)tables : pages(bytes);
    vcpus = aliased ? (struct vcpu *)tables : pages(bytes);
    words = pages(frames * 8);
    lines = pages(frames * 8);
    blocks2m = pages(((frames >> 9) + 1) * 8);
    blocks1g = pages(((frames >> 18) + 1) * 8);
    slots = pages(EXO_MAX_CPUS * EXO_SLOTS_PER_CPU * sizeof *slots);
    irqs = pages(EXO_IRQ_COUNT * sizeof *irqs);
    counters = pages(EXO_MAX_CPUS * sizeof *counters);
    cpus = pages(EXO_MAX_CPUS * sizeof *cpus);
}

static void root_cap(uint32_t sel, unsigned kind, uint64_t base, uint64_t count, unsigned flags)
{
    struct cap *c = &caps[env_caps(host_env) + sel];
    *c = (struct cap){.kind = (uint8_t)kind,
                      .rights = EXO_RIGHTS_ALL,
                      .flags = (uint8_t)flags,
                      .base = base,
                      .count = count,
                      .env = host_env};
}

void host_boot(uint32_t frames, unsigned n, bool aliased)
{
    nframes = frames;
    ncpus = n;
    flushes_asked = 0;
    memory_place(frames, aliased);
    for (unsigned i = 0; i < n; i++)
        cpus[i].id = i;
    host_env = 1;
    host_thread = 13;
    for (uint32_t f = 0; f < 13; f++) {
        if (f == 3) continue;
        unsigned type = f == 0   ? EXO_FT_KERNEL
                        : f == 1 ? EXO_FT_ENV
                        : f == 2 ? EXO_FT_PT4
                                 : EXO_FT_CAPS;
        words[f] = (uint64_t)type << 32 | (f != 0 ? (uint64_t)host_env << 38 : 0);
        blocks2m[0] += 1ull << 32;
        blocks1g[0] += 1ull << 32;
    }
    KASSERT(word_bind(3, true) == 0);
    env_init(host_env, 8, 0, env_caps(host_env) + HOST_ENV);
    KASSERT(word_type(host_thread, EXO_FT_THREAD, host_env) == 0);
    KASSERT(word_bind(host_thread + 1, true) == 0);
    root_cap(HOST_ENV, EXO_ENV, host_env, 1, CAP_OWNER);
    root_cap(HOST_THREAD, EXO_THREAD, host_thread, 1, CAP_OWNER);
    root_cap(HOST_RAM, EXO_FRAMES, HOST_FREE, frames - HOST_FREE, 0);
    root_cap(HOST_SLOTS, EXO_SLOTS, 0, n * EXO_SLOTS_PER_CPU, 0);
    root_cap(HOST_IRQS, EXO_IRQS, 0, EXO_IRQ_COUNT, 0);
    root_cap(HOST_PORTS, EXO_PORTS, 0, 65536, 0);
    thread_init(host_thread, host_env, 0, env_caps(host_env) + HOST_THREAD);
    envs[host_env].threads = 1;
}
