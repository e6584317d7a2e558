/* SPDX-License-Identifier: MIT
 *
 * A native program that uses all the time it gets, and says each ten revolutions of the time
 * slots, through its channel to the console, how much that was: what is left when the gaps in
 * which somebody else ran are taken away. */
#include "../../../lib/exo/channel.h"

#define PERIOD_US 640000
#define GAP_US 20 /* between two readings of the clock: longer, and somebody else ran */

int main(struct exo_startup *start)
{
    static struct exo_channel console;
    long r = exo_channel_find(&console, NULL, "console");
    if (r < 0) {
        exo_printf("%s: no channel to the console: %s\n", start->name, exo_strerror(r));
        return 1;
    }
    const uint64_t gap = exo_us(GAP_US), period = exo_us(PERIOD_US);
    for (unsigned number = 1;; number++) {
        uint64_t begun = exo_tsc(), last = begun, away = 0;
        while (last - begun < period) {
            uint64_t now = exo_tsc();
            if (now - last > gap) away += now - last;
            last = now;
        }
        char line[64];
        uint64_t all = last - begun;
        exo_format(line, sizeof(line), "share in period %u: %lu permille\n", number,
                   (all - away) * 1000 / all);
        (void)exo_channel_write(&console, line, strlen(line));
    }
}
