/* SPDX-License-Identifier: MIT
 *
 * Where things lie in a tiny guest's memory, for the guests and for the monitor that runs
 * them (tests/vmboot). Guest-physical; linear addresses are the same. */
#ifndef GUEST_H
#define GUEST_H

#define GUEST_CODE 0x1000 /* the guest's one page */
#define GUEST_ROOT 0x2000 /* 64-bit guests: page tables of the first GiB, 2 MiB pages */
#define GUEST_IDT 0x5000
#define GUEST_DATA 0x6000
#define GUEST_STACK 0x8000 /* top */
#define GUEST_GDT 0x8000
#define GUEST_PAGES 16 /* bound from 0 on */
#define GUEST_FAR 0x100000 /* nothing is bound from here on */

#define GUEST_CS 8
#define GUEST_DS 16
#define GUEST_CS32 24

#define GUEST_TICK 0x40 /* vector of the interrupt that is injected */
#define GUEST_TELL 0x10 /* port: something for the monitor, in rax */

#ifndef __ASSEMBLER__
#include <stdint.h>
/* A guest: [start, end) is copied to GUEST_CODE, the entry. */
struct guest_code {
    const uint8_t *start, *end;
};
#define GUEST(name)                                                                                \
    extern const uint8_t guest_##name[], guest_##name##_end[];                                     \
    static const struct guest_code name = {guest_##name, guest_##name##_end}
#endif
#endif
