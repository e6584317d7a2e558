/* SPDX-License-Identifier: MIT
 *
 * Two CPUs of the hostile guest: starting, interrupting each other, and resetting the
 * second one at any moment. */
#include "guest.h"

#define PING 0x50 /* to the second */
#define PONG 0x51 /* to the first */
#define ROUNDS 2000
#define WAIT_MS 3000

static volatile uint32_t starts; /* of the second CPU */
static volatile uint32_t pings;
static volatile bool answer;
void (*volatile second_hook)(void);
volatile uint32_t second_rounds;

void second_main(void)
{
    idt_load();
    __sync_fetch_and_add(&starts, 1);
    lapic_set(LAPIC_SVR, 0x1ff);
    for (;;) {
        irqs_on();
        void (*hook)(void) = second_hook;
        if (hook) hook();
        second_rounds++;
        if (answer && pings != interrupts[PING]) {
            pings = interrupts[PING];
            lapic_set(LAPIC_ICR_HIGH, 0);
            lapic_set(LAPIC_ICR, 0x4000 | PONG);
        }
    }
}

static void send(uint32_t command)
{
    lapic_set(LAPIC_ICR_HIGH, 1u << 24);
    lapic_set(LAPIC_ICR, command);
}

static bool wait_for(volatile uint32_t *what, uint32_t value)
{
    for (uint32_t then = pm_now(); pm_since(then) < WAIT_MS;)
        if ((int32_t)(*what - value) >= 0) return true;
    return false;
}

static bool start_second(void)
{
    uint32_t before = starts;
    for (const char *from = second_begin; from < second_end; from++)
        *(volatile char *)(TRAMPOLINE + (from - second_begin)) = *from;
    send(0x4500);
    send(0x4600 | TRAMPOLINE >> 12);
    return wait_for(&starts, before + 1);
}

bool test_second(void)
{
    if (!start_second()) return false;
    send(0x4600 | TRAMPOLINE >> 12); /* no INIT before it: nothing */
    answer = true;
    irqs_on();
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint32_t before = interrupts[PONG];
        send(0x4000 | PING);
        if (!wait_for(&interrupts[PONG], before + 1)) return false;
    }
    answer = false;
    irqs_off();
    return starts == 1;
}

/* Both are sent interrupts of every vector without pause; NMIs to the second in between. */
bool test_second_storm(void)
{
    irqs_on();
    for (uint32_t then = pm_now(); pm_since(then) < 300;) {
        uint32_t any = random32() % 8 ? VECTOR_FIRST + random32() % 0xc0 : random32() % 16;
        lapic_set(LAPIC_ICR, 0x84000 | (VECTOR_FIRST + random32() % 0xc0)); /* all, itself too */
        send(0x4000 | (VECTOR_FIRST + random32() % 0xc0));
        if (random32() % 64 == 0) send(0x4400);
        lapic_set(LAPIC_ICR_HIGH, random32()); /* nobody, most of the time */
        lapic_set(LAPIC_ICR, 0x4000 | any);
    }
    irqs_off();
    for (uint32_t then = pm_now(); pm_since(then) < 50;)
        ;
    uint32_t before = interrupts[VECTOR_LAST];
    send(0x4000 | VECTOR_LAST); /* it still listens */
    return wait_for(&interrupts[VECTOR_LAST], before + 1);
}

/* INIT at any moment, also before it is up, and right after one another. */
bool test_second_resets(void)
{
    for (unsigned i = 0; i < 40; i++) {
        send(0x4500);
        if (i % 4 == 1) send(0x4500);
        for (volatile unsigned k = random32() % 20000; k; k--)
            ;
        if (i % 8 == 7 && !start_second()) return false;
        if (i % 8 == 3) send(0x4600 | TRAMPOLINE >> 12);
        if (i % 2) send(0x4000 | PING);
    }
    return start_second();
}
