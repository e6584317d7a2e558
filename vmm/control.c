/* SPDX-License-Identifier: MIT
 *
 * Orders to the monitor from whoever has a channel to it with the tag control (the console,
 * by default): a line each, answered by one line. The words are those of xl(1).
 *
 *   info           memory, what the balloon took, virtual CPUs
 *   mem-set MIB    the guest is asked, through its balloon, to keep that much
 *   pause          the virtual CPUs stand still
 *   unpause        and go on
 *   shutdown       the power button
 *   reboot         a reset, as by its button
 *   destroy        ends it at once
 */
#include "../lib/exo/channel.h"
#include "vmm.h"

#define LINE 64

static struct exo_channel channel;
static bool open;
static char line[LINE];
static size_t length; /* LINE: too long, the rest is passed over */

uint64_t control_open(void)
{
    long r = exo_channel_find(&channel, NULL, "control");
    open = r == 0;
    if (r < 0 && r != -EXO_E_NONE)
        exo_printf("%s: the control channel: %s\n", exo.start.name, exo_strerror(r));
    return open ? channel.event : 0;
}

static void answer(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void answer(const char *format, ...)
{
    char text[128];
    va_list list;
    va_start(list, format);
    exo_vformat(text, sizeof(text), format, list);
    va_end(list);
    (void)exo_channel_write(&channel, text, strlen(text)); /* who does not read loses it */
}

static uint64_t memory_mib(void) { return (guest_ram_low() + guest_ram_high()) >> 20; }

static void info(void)
{
    answer("%s: %lu MiB of memory, of which the balloon has %lu KiB; %u virtual CPU%s\n",
           exo.start.name, memory_mib(), balloon_pages() * (EXO_PAGE >> 10), vm_cpus(),
           vm_cpus() == 1 ? "" : "s");
}

static void memory_set(const char *text)
{
    uint64_t mib = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9' && mib <= memory_mib(); at++)
        mib = mib * 10 + (uint64_t)(*at - '0');
    if (at == text || *at || mib == 0 || mib > memory_mib()) {
        answer("mem-set takes MiB, from 1 to %lu\n", memory_mib());
        return;
    }
    balloon_target((memory_mib() - mib) << 8);
    answer("asked to keep %lu MiB\n", mib);
}

static void pause(void) { vm_pause(true); }
static void unpause(void) { vm_pause(false); }

static void obey(void)
{
    if (!strcmp(line, "info")) return info();
    if (!strncmp(line, "mem-set ", 8)) return memory_set(line + 8);
    void (*order)(void) = !strcmp(line, "shutdown")  ? acpi_power_button
                          : !strcmp(line, "pause")   ? pause
                          : !strcmp(line, "unpause") ? unpause
                          : !strcmp(line, "reboot")  ? vm_reset
                          : !strcmp(line, "destroy") ? vm_power_off
                                                     : NULL;
    if (order) {
        order();
        answer("done\n");
    } else {
        answer("there is no order '%s': info, mem-set MIB, pause, unpause, shutdown, reboot, "
               "destroy\n",
               line);
    }
}

void control_look(void)
{
    char c;
    while (open && exo_channel_read(&channel, &c, 1) == 1) {
        if (c != '\n') {
            if (length < LINE) line[length++] = c;
            continue;
        }
        if (length < LINE) {
            line[length] = 0;
            obey();
        } else {
            answer("that is no order: too long\n");
        }
        length = 0;
    }
}
