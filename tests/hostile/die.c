/* SPDX-License-Identifier: MIT
 *
 * What must end a guest, each at a word of its command line. */
#include "guest.h"

#define NOWHERE 0xe8000000u

static void triple_fault(void)
{
    static const struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) none = {0, 0};
    __asm__ volatile("lidt %0; ud2" ::"m"(none));
}

static void run_nowhere(void) { ((void (*)(void))NOWHERE)(); }

static void tables_nowhere(void)
{
    __asm__ volatile(
        "mov %0, %%cr3; mov %%cr0, %%eax; or $0x80000000, %%eax; mov %%eax, %%cr0" ::"r"(NOWHERE)
        : "eax");
}

static void stack_nowhere(void) { __asm__ volatile("mov %0, %%esp; int $0x40" ::"r"(NOWHERE)); }

/* An instruction on device memory that no driver uses: cmpxchg8b. */
static void strange_access(void)
{
    __asm__ volatile("lock cmpxchg8b (%0)" ::"r"(LAPIC + LAPIC_TPR) : "eax", "edx", "cc", "memory");
}

static void loop(void) { __asm__ volatile("cli; 1: jmp 1b"); }

/* Interrupts disabled and halted: for ever. */
static void sleep_for_ever(void) { __asm__ volatile("cli; 1: hlt; jmp 1b"); }

void die(const char *how)
{
    static const struct {
        char letter;
        void (*run)(void);
    } ways[] = {{'t', triple_fault},  {'r', run_nowhere},    {'w', tables_nowhere},
                {'s', stack_nowhere}, {'a', strange_access}, {'l', loop},
                {'h', sleep_for_ever}};
    for (unsigned i = 0; i < sizeof(ways) / sizeof(*ways); i++)
        if (ways[i].letter == how[0]) ways[i].run();
    put("hostile: still there\n");
}
