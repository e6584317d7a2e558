/* SPDX-License-Identifier: MIT
 *
 * A guest that wishes its monitor ill. Its command line is empty (all tests, then power
 * off) or `die=HOW`: then it does what must end it, and the monitor is to say why. */
#include "guest.h"

struct multiboot {
    uint32_t flags, memory_low, memory_high, device;
    const char *command;
};

void guest_main(const struct multiboot *info);
void guest_main(const struct multiboot *info)
{
    unsigned failed = 0;
    idt_make();
    out8(0x21, 0xff), out8(0xa1, 0xff);
    lapic_set(LAPIC_SVR, 0x1ff);
    lapic_set(LAPIC_LINT0, 0x10000);
    put("hostile: begins\n");
    for (const char *c = info->command; *c; c++)
        if (c[0] == 'd' && c[1] == 'i' && c[2] == 'e' && c[3] == '=') die(c + 4);
    for (unsigned i = 0; i < test_count; i++) {
        bool good = tests[i].run();
        irqs_off();
        failed += !good;
        put(good ? "PASS hostile: " : "FAIL hostile: ");
        put(tests[i].name);
        put("\n");
    }
    put("hostile: ");
    put_number(failed);
    put(" failed\n");
    for (volatile unsigned i = 0; i < 1000000; i++) /* the last words reach the console */
        ;
    out16(0x604, 0x3400);
    for (;;)
        __asm__ volatile("cli; hlt");
}
