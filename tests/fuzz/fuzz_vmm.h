/* SPDX-License-Identifier: MIT
 *
 * What the parts of the fuzzer of the monitor's devices share. */
#ifndef FUZZ_VMM_H
#define FUZZ_VMM_H

#include "../unit/vmm_host.h"

/* The next choice; `below` is not 0. */
uint64_t fuzz_pick(uint64_t below);
/* A value that likes bounds: small ones, ones near powers of two, addresses. */
uint64_t fuzz_wild(void);

/* fuzz_vmm_virtio.c: adds the virtio devices; one step of a driver that breaks rules. */
void fuzz_virtio_start(void);
void fuzz_virtio_step(void);
#endif
