/* SPDX-License-Identifier: MIT
 *
 * Hostile drivers of the virtio devices. */
#include "fuzz_vmm.h"

void fuzz_virtio_start(void) {}
void fuzz_virtio_step(void) {}
