/* SPDX-License-Identifier: MIT
 *
 * The time-stamp counter: under the emulator's -icount it counts executed instructions,
 * those of the whole machine. */
#ifndef COUNT_H
#define COUNT_H
#include <stdint.h>

static inline uint64_t count_now(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}
#endif
