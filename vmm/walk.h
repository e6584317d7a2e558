/* SPDX-License-Identifier: MIT
 *
 * The guest's own page tables: from its linear to its physical addresses. AMD APM vol. 2,
 * 5.2 to 5.4; Intel SDM vol. 3, 4.3 to 4.7. No five levels, no protection keys (the CPUID
 * policy hides both).
 */
#ifndef VMM_WALK_H
#define VMM_WALK_H

#include <stdbool.h>
#include <stdint.h>

struct walk {
    uint64_t cr0, cr3, cr4, efer, rflags;
    bool user; /* CPL 3 */
};

/* The error code of a page fault: Intel SDM vol. 3, 4.7. As arguments: what is wanted. */
#define WALK_PRESENT 1u
#define WALK_WRITE 2u
#define WALK_USER 4u
#define WALK_FETCH 16u

/* Where linear leads for an access (0, WALK_WRITE or WALK_FETCH), accessed and dirty bits
 * set as the processor would. False: *error is the page fault's error code. Reads each
 * entry once; tables outside guest memory are as not present. */
bool walk_translate(const struct walk *walk, uint64_t linear, unsigned access, uint64_t *physical,
                    uint32_t *error);
#endif
