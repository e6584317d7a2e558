/* SPDX-License-Identifier: MIT
 *
 * The port that firmware for virtual machines says its messages to: a byte written there
 * is a character, and reading it tells that somebody listens (SeaBIOS, docs/Debugging).
 */
#include "vmm.h"

#define DEBUG_PORT 0x402
#define LISTENING 0xe9

static uint64_t debug_read(void *device, uint64_t offset, unsigned size)
{
    (void)device, (void)offset, (void)size;
    return LISTENING;
}

static void debug_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    (void)device, (void)offset, (void)size;
    char c = (char)value;
    console_write(&c, 1);
}

void debug_port_init(void) { port_bytes_add(DEBUG_PORT, 1, NULL, debug_read, debug_write); }
