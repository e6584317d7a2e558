/* SPDX-License-Identifier: MIT
 *
 * What the kernel's exposed tables say (exo.words, exo.slots), counted. Whoever uses this
 * has them (tables=yes in the configuration). Also the names that root gives: envs have
 * none but the numbers of their frames. */
#ifndef EXO_TABLES_H
#define EXO_TABLES_H
#include "exo.h"

#define EXO_TABLES_ENVS 192 /* told apart at most */
struct exo_env_frames {
    uint32_t env;
    uint32_t tables, threads, caps; /* frames: page tables, threads, capability tables */
};
struct exo_memory {
    uint64_t free, bound, bindings; /* plain frames: bound nowhere, somewhere, how often */
    uint64_t kernel, exposed, device, typed;
    struct exo_env_frames envs[EXO_TABLES_ENVS];
    uint32_t nenvs;
    uint64_t more; /* frames of envs that found no place */
};
void exo_memory_count(struct exo_memory *memory);

/* The last slot (of 0..EXO_SLOTS_PER_CPU - 1) of the run of slots that begins at `first` and
 * has one owner. */
uint32_t exo_slots_run(uint32_t cpu, uint32_t first);

/* Programs that root started: the first page of exo_startup.names, written by root while
 * they come and go. */
#define EXO_NAMES 32
struct exo_names {
    uint32_t count, spare;
    struct {
        uint32_t env; /* 0: it has ended */
        uint32_t first, frames; /* its memory */
        uint32_t block, block_frames; /* a second range, 0: none */
        uint32_t loan, loan_frames; /* on loan, 0: none */
        uint32_t loan_held; /* its pieces that the program has now, a bit each */
        char name[32];
    } program[EXO_NAMES];
};
_Static_assert(sizeof(struct exo_names) <= EXO_PAGE, "one page");
#define EXO_NAMES_VA (EXO_UPCALL_VA + 0x80000)
/* Maps it, the first time. NULL: not given, or no memory. */
const struct exo_names *exo_names_map(void);
#endif
