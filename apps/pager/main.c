/* SPDX-License-Identifier: MIT
 *
 * Two library OSes that differ in one line: which page goes when memory is short. Each
 * scans more pages than it has frames, again and again. What is left out first decides:
 * the least recently used page is always the one that is needed next.
 * arguments: lru or mru. */
#include "../../lib/exo/channel.h"

#define PAGES 64
#define FRAMES 48
#define PASSES 6
#define SCAN_VA 0x0000000060000000ul
#define PAUSE_US 50000

/* One pass over all pages; how many had lost their contents. */
static uint64_t scan(uint64_t pass)
{
    uint64_t lost = 0;
    for (uint64_t i = 0; i < PAGES; i++) {
        volatile uint64_t *at = (volatile uint64_t *)(SCAN_VA + i * EXO_PAGE);
        lost += *at != (pass ? pass * PAGES + i : 0);
        *at = (pass + 1) * PAGES + i;
    }
    return lost;
}

int main(struct exo_startup *start)
{
    static struct exo_region region;
    bool mru = !strcmp(start->args, "mru");
    if (!start->sel_console) exo_channel_printf("console");
    long r = exo_region_make(&region, SCAN_VA, PAGES, FRAMES,
                             mru ? exo_policy_mru : exo_policy_clock, true);
    if (r < 0) {
        exo_printf("%s: no memory to page: %s\n", start->name, exo_strerror(r));
        return 1;
    }
    uint64_t lost = 0;
    for (uint64_t pass = 0;; pass++) {
        lost += scan(pass);
        if (pass + 1 == PASSES)
            exo_printf("%s: %u passes over %u pages with %u frames: %lu faults, %lu pages lost\n",
                       start->name, PASSES, PAGES, FRAMES, region.faults, lost);
        if (pass + 1 >= PASSES) exo_event_wait(0, exo_in_us(PAUSE_US));
    }
}
