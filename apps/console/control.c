/* SPDX-License-Identifier: MIT
 *
 * Orders to the monitors of virtual machines, each through a channel with the tag control
 * (vmm/control.c says which there are). A monitor that does not answer is waited for a
 * second, no longer. */
#include "console.h"

#define MONITORS 8
#define ANSWER_US 1000000

static struct exo_channel monitors[MONITORS];
static unsigned count;

static struct exo_channel *monitor_find(const char *name)
{
    while (count < MONITORS && exo_channel_find(&monitors[count], NULL, "control") == 0)
        count++;
    for (unsigned i = 0; i < count; i++)
        if (!strcmp(monitors[i].peer, name)) return &monitors[i];
    return NULL;
}

/* Prints what comes until the end of a line. */
static void answer_print(struct exo_channel *channel)
{
    uint64_t end = exo_in_us(ANSWER_US);
    char c = 0;
    while (c != '\n') {
        if (exo_channel_read(channel, &c, 1) == 1) {
            if (c == '\n' || (c >= ' ' && c <= '~')) exo_printf("%c", c);
        } else if (exo_channel_closed(channel) || exo_channel_broken(channel)) {
            exo_printf("its monitor has ended\n");
            return;
        } else if (exo_tsc() >= end) {
            exo_printf("its monitor does not answer\n");
            return;
        } else {
            exo_event_wait(channel->event, end);
        }
    }
}

void vm_order(char *arguments)
{
    char *order = strchr(arguments, ' ');
    if (!order) {
        exo_printf("vm NAME ORDER: info, mem-set MIB, pause, unpause, shutdown, reboot, destroy\n");
        return;
    }
    *order++ = 0;
    struct exo_channel *channel = monitor_find(arguments);
    if (!channel) {
        exo_printf("there is no virtual machine '%s' with a channel to this console\n", arguments);
        return;
    }
    char stale;
    while (exo_channel_read(channel, &stale, 1) == 1) /* an answer that came too late */
        ;
    size_t n = strlen(order);
    order[n] = '\n';
    if (exo_channel_write(channel, order, n + 1) == n + 1)
        answer_print(channel);
    else
        exo_printf("its monitor does not take orders now\n");
}
