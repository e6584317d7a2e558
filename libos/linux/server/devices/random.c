/* SPDX-License-Identifier: MIT
 *
 * Random bytes: ChaCha20 (RFC 8439) with a key of its own, which each request replaces by
 * the first half of its output, so that what was given out cannot be computed later. The
 * key is stirred with RDRAND where the CPU has it, and with the time-stamp counter. */
#include "../files/files.h"
#include "../../../../lib/exo/exo.h"

#define ROUNDS 10 /* double rounds */
#define KEY_WORDS 8
#define CPUID_RDRAND (1u << 30) /* Intel SDM Vol. 2A, CPUID.01H:ECX */

static uint32_t key[KEY_WORDS];

static inline uint32_t rotate(uint32_t value, unsigned n) { return value << n | value >> (32 - n); }

static inline void quarter(uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
    *a += *b, *d = rotate(*d ^ *a, 16);
    *c += *d, *b = rotate(*b ^ *c, 12);
    *a += *b, *d = rotate(*d ^ *a, 8);
    *c += *d, *b = rotate(*b ^ *c, 7);
}

/* RFC 8439, 2.3: the block of that number under the key. */
static void chacha_block(uint32_t out[16], uint64_t number)
{
    uint32_t start[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
    memcpy(start + 4, key, sizeof(key));
    start[12] = (uint32_t)number;
    start[13] = (uint32_t)(number >> 32);
    memcpy(out, start, sizeof(start));
    for (unsigned round = 0; round < ROUNDS; round++) {
        quarter(&out[0], &out[4], &out[8], &out[12]);
        quarter(&out[1], &out[5], &out[9], &out[13]);
        quarter(&out[2], &out[6], &out[10], &out[14]);
        quarter(&out[3], &out[7], &out[11], &out[15]);
        quarter(&out[0], &out[5], &out[10], &out[15]);
        quarter(&out[1], &out[6], &out[11], &out[12]);
        quarter(&out[2], &out[7], &out[8], &out[13]);
        quarter(&out[3], &out[4], &out[9], &out[14]);
    }
    for (unsigned i = 0; i < 16; i++)
        out[i] += start[i];
}

/* RDRAND, or 0 where there is none or it gives none. */
static uint64_t random_hardware(void)
{
    uint32_t eax = 1, ebx, ecx = 0, edx;
    uint64_t value = 0;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    if (ecx & CPUID_RDRAND) __asm__ volatile("rdrand %0" : "=r"(value) : : "cc");
    return value;
}

void random_bytes(void *to, size_t n)
{
    uint32_t block[16];
    uint8_t *at = to;
    uint64_t number = 0;
    for (unsigned i = 0; i < KEY_WORDS; i += 2) {
        uint64_t noise = random_hardware() ^ exo_tsc();
        key[i] ^= (uint32_t)noise;
        key[i + 1] ^= (uint32_t)(noise >> 32);
    }
    while (n) {
        size_t part = EXO_MIN(n, sizeof(block));
        chacha_block(block, ++number);
        memcpy(at, block, part);
        at += part;
        n -= part;
    }
    chacha_block(block, 0);
    memcpy(key, block, sizeof(key));
}
