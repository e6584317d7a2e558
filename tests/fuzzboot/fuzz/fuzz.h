/* SPDX-License-Identifier: MIT
 *
 * The fuzzer inside the system. One program: the supervisor (main.c), which makes hostile
 * envs of its own image (hostile.c), destroys and remakes them while they run, and at the
 * end takes everything back.
 *
 * What a hostile env does depends on the seed and on the time at which it is interrupted:
 * a run is not repeatable instruction by instruction, its choices are.
 */
#ifndef FUZZ_H
#define FUZZ_H
/* Handlers interrupt anything: no code of this program may use vector registers. */
#pragma GCC target("general-regs-only")
#include "../../../lib/exo/exo.h"

#define HOSTILES 3
#define HOSTILE_FRAMES 640 /* each is made of */
#define HOSTILE_TABLES 1
#define BLOCK_FRAMES 512 /* that all of them hold, for large pages */
#define PLAY_VA 0x0000000060000000ul /* where they bind and unbind; 2 MiB aligned */
#define SHARED_VA 0x0000000070000000ul

/* What the supervisor gives, by the selector it has in a hostile env. */
enum {
    GIVEN_TEXT = EXO_CHILD_FREE,
    GIVEN_SHARED,
    GIVEN_BLOCK,
    GIVEN_SLOTS,
    GIVEN_IRQS = GIVEN_SLOTS + 2, /* slots of two CPUs */
    GIVEN_PORTS,
    GIVEN_ENV, /* of another hostile env, all rights but to destroy; */
    GIVEN_THREAD, /* its first thread, */
    GIVEN_GATE, /* a gate and */
    GIVEN_EVENT, /* an event of that; empty for the first one */
    GIVEN_END
};

/* Written by the hostile envs, at SHARED_VA in all: nothing depends on its truth but
 * the supervisor's opinion of who is stuck, and the report. */
struct shared {
    volatile uint64_t steps[HOSTILES];
    volatile uint32_t done[64]; /* calls that succeeded, by index */
    volatile uint64_t exits; /* of guests, answered */
    volatile uint64_t invalid; /* states of guests that the kernel let pass, but not the CPU */
};
#define SHARED ((struct shared *)SHARED_VA)
_Static_assert(EXO_CALL_COUNT <= 64, "shared.done");

static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 3;
}

/* Where any thread of a hostile env starts and starts again: needs only a stack. */
void hostile_entry(void);
/* Where its gates lead. */
void hostile_gate(void);
/* The stack of its first thread. */
#define HOSTILE_STACK (EXO_STACK_VA + 8 * EXO_PAGE - 16)
/* The first thread's main; args: number and seed. */
int hostile_main(const char *args);
/* guest.c: makes the env's virtual machine, on that CPU; whatever fails, it goes without. */
void guest_make(uint64_t seed, uint32_t monitor, unsigned cpu);
/* Writes the virtual CPU's page; what to set and get by a reply to it. */
void guest_answer(uint64_t *set, uint64_t *get);
/* Does something to the virtual machine from outside. */
void guest_poke(void);
uint64_t number_read(const char *text);
#endif
