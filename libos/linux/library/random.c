/* SPDX-License-Identifier: MIT
 *
 * Random words: RDRAND (Intel SDM vol. 1, 7.3.17); where the CPU has none, or it fails, the
 * jitter of the time-stamp counter, mixed. */
#include "library.h"

#define ECX_RDRAND (1u << 30)

static bool rdrand(uint64_t *word)
{
    bool good = false;
    for (int i = 0; i < 10 && !good; i++)
        __asm__ volatile("rdrand %0; setc %1" : "=r"(*word), "=qm"(good));
    return good;
}

static uint64_t jitter(void)
{
    uint64_t word = 0;
    for (int i = 0; i < 16; i++) {
        uint32_t low, high;
        __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
        word = (word ^ low ^ (uint64_t)high << 32) * 0x9e3779b97f4a7c15ul;
        word ^= word >> 29;
    }
    return word;
}

uint64_t random_word(void)
{
    uint32_t eax = 1, ebx, ecx = 0, edx;
    uint64_t word;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return ecx & ECX_RDRAND && rdrand(&word) ? word : jitter();
}
