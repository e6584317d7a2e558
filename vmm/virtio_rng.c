/* SPDX-License-Identifier: MIT
 *
 * Entropy device: "VIRTIO Version 1.2", section 5.4.
 *
 * The source: each 64 bits are a mix of RDRAND where the CPU has it, of the time-stamp
 * counter's low bits read around work of uneven length, and of a state that runs on from
 * request to request (the finalizer of splitmix64 over each input: a bijection, so that
 * no input's entropy is lost). Without RDRAND only the jitter is entropy, and on an
 * emulator that counts instructions there is next to none: docs/caveats.md. */
#include <cpuid.h>
#include "virtio.h"

#define RNG_AT_ONCE 4096u /* bytes of one request that are filled */
#define RNG_JITTER_ROUNDS 8
#define RDRAND_TRIES 10 /* Intel SDM vol. 1, 7.3.17 */

static struct virtio rng;
static struct virtio_chain chain;
static uint64_t rng_state;
static bool rng_rdrand;

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static uint64_t rdrand(void)
{
    uint64_t value = 0;
    bool good = false;
    for (unsigned i = 0; i < RDRAND_TRIES && !good; i++)
        __asm__ volatile("rdrand %0" : "=r"(value), "=@ccc"(good));
    return value;
}

static uint64_t jitter(void)
{
    static volatile uint8_t touched[4096];
    uint64_t sum = 0;
    for (unsigned i = 0; i < RNG_JITTER_ROUNDS; i++) {
        touched[(rng_state ^ sum) % sizeof(touched)]++;
        sum = mix(sum + exo_tsc());
    }
    return sum;
}

static uint64_t rng_word(void)
{
    uint64_t fresh = rng_rdrand ? rdrand() + exo_tsc() : jitter();
    rng_state = mix(rng_state + 0x9e3779b97f4a7c15 + fresh);
    return mix(rng_state ^ fresh);
}

static void rng_work(struct virtio *device, unsigned index)
{
    struct virtio_queue *queue = &device->queue[index];
    while (virtio_next(queue, &chain)) {
        uint32_t written = 0, room = EXO_MIN(chain.in_bytes, RNG_AT_ONCE);
        while (written < room) {
            uint64_t word = rng_word();
            written += virtio_push(&chain, &word, EXO_MIN(room - written, sizeof(word)));
        }
        virtio_put(queue, chain.head, written);
    }
    virtio_publish(queue);
}

static const struct virtio_kind rng_kind = {
    .name = "entropy", .id = 4, .pci_class = 0xff0000, .queues = 1, .work = rng_work};

void virtio_rng_add(void)
{
    unsigned a, b, c = 0, d;
    rng_rdrand = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_RDRND);
    rng_state ^= exo_tsc() + vm_wall_clock();
    virtio_add(&rng, &rng_kind, 0);
}
