/* SPDX-License-Identifier: MIT
 *
 * How the site of a `syscall` is turned into a jump to a stub: what would have to be written
 * where. Decides only, from a copy of the bytes around; rewritten.c does it. */
#ifndef LX_SITE_H
#define LX_SITE_H
#include <stdbool.h>
#include <stdint.h>

#define STUB_SIZE 32 /* bytes of a stub */
#define SITE_REACH 192 /* bytes before and behind a site that are looked at */

/* Bytes to write into the program's text. */
struct site_write {
    uint64_t va;
    uint8_t length;
    uint8_t bytes[16];
};
struct site_plan {
    uint8_t stub[STUB_SIZE]; /* to be there before anything is written */
    unsigned writes; /* to be done in this order, each by itself */
    struct site_write write[2];
};

/* The text around a site: `bytes` has those from va on. */
struct site_text {
    const uint8_t *bytes;
    uint64_t va;
    unsigned length;
};
/* Plans for the `syscall` at `site` a stub at stub_va, which jumps through the pointer at
 * pointer_va. False: the site is to stay as it is. */
bool site_plan(struct site_plan *plan, const struct site_text *text, uint64_t site,
               uint64_t stub_va, uint64_t pointer_va);
#endif
