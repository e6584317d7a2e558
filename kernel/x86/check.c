/* SPDX-License-Identifier: MIT
 *
 * Debug builds, with `check=MS` on the command line: the invariants of core are looked at
 * every MS milliseconds on CPU 0, which holds the others meanwhile: each takes part in a
 * quiesce round and stays in it. What a CPU that waits for a round of its own has pending,
 * the invariants know of. A broken one stops the machine and says which.
 *
 * With `slow=1` the assembly's fast paths are not taken: C does everything, which must
 * look the same to user code (tests/paths).
 */
#include "quiesce.h"
#include "x86.h"

#ifdef EXO_DEBUG
static uint64_t period, next_check; /* TSC ticks; 0 off */
static uint32_t holding;
static uint64_t checks;

/* The number after `name` on the command line, 0 if it is not there. */
static uint64_t option(const char *name)
{
    const char *at = info->command_line;
    uint64_t value = 0, n = 0;
    while (name[n] != 0)
        n++;
    while (*at != 0 && memcmp(at, name, n) != 0)
        at++;
    if (*at != 0)
        for (at += n; *at >= '0' && *at <= '9' && value < 1000000; at++)
            value = value * 10 + (uint64_t)(*at - '0');
    return value;
}

void check_begin(void)
{
    period = option("check=") * (slot_ticks * 1000 / EXO_SLOT_US);
    percpu()->slow_only = option("slow=") != 0;
}

/* Does CPU 0 look at everything? Then this CPU, which is in no kernel entry, stays so. */
bool check_holding(void)
{
    return __atomic_load_n(&holding, __ATOMIC_ACQUIRE) != 0 && percpu()->id != 0;
}

void check_tick(void)
{
    if (period == 0 || this_cpu()->id != 0 || now() < next_check) return;
    __atomic_store_n(&holding, 1, __ATOMIC_SEQ_CST);
    quiesce((1ul << ncpus) - 1);
    int line = core_invariants();
    if (line != 0) panic("invariants.c:%d is broken, after %lx checks", line, checks);
    checks++;
    __atomic_store_n(&holding, 0, __ATOMIC_SEQ_CST);
    next_check = now() + period;
}
#endif
