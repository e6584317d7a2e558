/* SPDX-License-Identifier: MIT
 *
 * The monitor of the tests: makes tiny guests and hands their exits to the test, which
 * answers each as it likes. One guest at a time, or a few: `index` keeps them apart. */
#ifndef MONITOR_H
#define MONITOR_H
#include "../../../lib/exo/vm.h"
#include "../../guests/guest.h"
#include "../../runner/runner.h"

#define GUEST_FRAMES 96
#define GUESTS 2 /* at a time: index is below */
#define RUN_US 3000000 /* nothing should need so long */
#define EV_TIME (1ul << 40)
#define TIMED_OUT (-1000)
#define GROUPS_GENERAL (EXO_VG_A | EXO_VG_B | EXO_VG_RIP)
#define GROUPS_START (GROUPS_GENERAL | EXO_VG_CR | EXO_VG_SEG)

struct guest {
    struct exo_vm vm;
    struct exo_vcpu cpu;
    struct exo_vcpu_page *page;
    uint8_t *memory; /* its first GUEST_PAGES pages, as we see them */
    uint64_t frame; /* of them */
    struct exo_vm_words w; /* the last exit */
    uint64_t bits[EXO_POOL_WORDS(GUEST_FRAMES)];
};

/* Makes it, on the CPU of our thread `monitor`, with the code in place; not started. */
long guest_make_on(struct guest *g, unsigned index, const struct guest_code *code, unsigned cpu,
                   uint32_t monitor);
/* The same for the first thread; starts it and takes its first exit: GROUPS_START in its
 * page are then those of real mode, or 64-bit mode, at GUEST_CODE. */
long guest_make(struct guest *g, unsigned index, const struct guest_code *code, bool wide);
long guest_end(struct guest *g);
/* The same the hard way: the env first, with all that is in it. */
long guest_raze(struct guest *g);
/* Fills GROUPS_START of its page, and page tables, GDT, IDT for 64-bit mode. */
void guest_state(struct guest *g, bool wide);
/* Replies to its exit, and waits for the next: the reason, or TIMED_OUT, or an error. */
long guest_run(struct guest *g, uint64_t set, uint64_t get);
long guest_run_for(struct guest *g, uint64_t set, uint64_t get, uint64_t us);
/* Behind the instruction that it exited for. */
void guest_skip(struct guest *g, unsigned length);
/* Copies more code behind a guest's: its address. */
uint64_t guest_more(struct guest *g, const struct guest_code *code, uint64_t offset);
/* 64-bit: an interrupt gate. */
void guest_gate(struct guest *g, unsigned vector, uint64_t handler);
/* Binds n pages from the guest's frame `first` on at an address. */
long guest_bind(struct guest *g, uint64_t address, uint64_t n, uint64_t frame, unsigned rights);
/* Bochs 2.7 keeps the host's interrupts masked while a guest of AMD-V, entered with its own
 * off, leaves them off. Its TSC is slower than that of any CPU. */
static inline bool interrupts_stuck(void)
{
    return exo.info->vm == EXO_VM_SVM && exo.info->tsc_hz < 100000000;
}
#define NEED_INTERRUPTS()                                                                          \
    if (interrupts_stuck()) {                                                                      \
        test_skip("needs interrupts that end guest mode");                                         \
        return;                                                                                    \
    }
/* The host's, which 64-bit guests begin with: exits and replies take the quick paths then. */
static inline uint64_t xcr0_own(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}
static inline uint64_t *guest_word(struct guest *g, uint64_t address)
{
    return (uint64_t *)(g->memory + address);
}

extern const struct test run_tests_list[], state_tests[], memory_tests[], event_tests[],
    mode_tests[], wild_tests[];
#endif
