/* SPDX-License-Identifier: MIT
 *
 * The console's beginning: what machine this is, and which programs can be looked at. */
#include "console.h"

#define OTHERS_US 300000 /* until other programs have said what they have to say */

static void banner(void)
{
    static const char *const vm[] = {"none", "AMD-V", "VT-x"};
    uint64_t frames = 0;
    char name[EXO_CPU_NAME];
    for (uint32_t i = 0; i < exo.info->ram_count && i < EXO_RAM_MAX; i++)
        frames += exo.info->ram[i].count;
    exo_printf("\nexovisor %u: %u CPU%s, %lu MiB, %s\nvirtualization: %s\n", exo.info->abi,
               exo.start.cpus, exo.start.cpus == 1 ? "" : "s", frames >> 8, exo_cpu_name(name),
               exo.info->vm < EXO_COUNT(vm) ? vm[exo.info->vm] : "unknown");
}

int main(struct exo_startup *start)
{
    if (!strcmp(start->args, CHILD_ARGS)) fault_on_purpose();
    long r = exo.info ? serial_open() : -EXO_E_SEL;
    if (r < 0) {
        exo_printf("console: needs console=yes tables=yes irqs=yes: %s\n", exo_strerror(r));
        return 1;
    }
    guests_open();
    exo_event_wait(0, exo_in_us(OTHERS_US));
    banner();
    guests_start(start->args);
    commands_run();
    return 0;
}
