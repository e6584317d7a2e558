/* SPDX-License-Identifier: MIT
 *
 * A native program that uses all the time it gets, and says each ten revolutions of the time
 * slots, through its channel to the console, how much of its CPU's time that was. Away it was
 * in a gap between two readings of the clock in which the exposed counters of its CPU (a kernel
 * that counts) say that another address space or a guest ran; in any other gap nobody ran here
 * but the emulator's own host. */
#include "../../../lib/exo/channel.h"

#define PERIOD_US 640000
#define GAP_US 20 /* between two readings of the clock */

static uint64_t others_ran(const volatile struct exo_cpu *cpu)
{
    return cpu->switches + cpu->worlds;
}

/* The program's permille of one period. */
static uint64_t share_measure(const volatile struct exo_cpu *cpu)
{
    const uint64_t gap = exo_us(GAP_US), period = exo_us(PERIOD_US);
    uint64_t begun = exo_tsc(), last = begun, away = 0, ran = others_ran(cpu);
    while (last - begun < period) {
        uint64_t now = exo_tsc();
        if (now - last > gap) {
            uint64_t ran_now = others_ran(cpu);
            if (ran_now != ran) away += now - last;
            ran = ran_now;
        }
        last = now;
    }
    uint64_t all = last - begun;
    return (all - away) * 1000 / all;
}

int main(struct exo_startup *start)
{
    static struct exo_channel console;
    long r = exo_channel_find(&console, NULL, "console");
    if (r < 0) {
        exo_printf("%s: no channel to the console: %s\n", start->name, exo_strerror(r));
        return 1;
    }
    if (!exo.info || !exo.info->counting) {
        exo_printf("%s: needs tables=yes and a kernel that counts\n", start->name);
        return 1;
    }
    for (;;) {
        char line[64];
        exo_format(line, sizeof(line), "share: %lu permille\n",
                   share_measure(&exo.cpus[exo.start.cpu]));
        (void)exo_channel_write(&console, line, strlen(line));
    }
}
