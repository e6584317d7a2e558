/* SPDX-License-Identifier: MIT
 *
 * See vmm_host.h. */
#include "vmm_host.h"

#include "../../vmm/io.c"
#ifdef HOST_IRQ_REAL
#include "../../vmm/irq.c"
#endif

struct vm_host host;
uint8_t host_ram[HOST_RAM];
unsigned host_failures;
static unsigned host_failed;

/* ---- memory ------------------------------------------------------------------------------ */

void *guest_ptr(uint64_t address, uint64_t bytes)
{
    if (host.race) host.race();
    return address < HOST_RAM && bytes <= HOST_RAM - address ? host_ram + address : NULL;
}

bool guest_read(uint64_t address, void *to, uint64_t bytes)
{
    const void *from = guest_ptr(address, bytes);
    if (from) memcpy(to, from, bytes);
    return from != NULL;
}

bool guest_write(uint64_t address, const void *from, uint64_t bytes)
{
    void *to = guest_ptr(address, bytes);
    if (to) memcpy(to, from, bytes);
    return to != NULL;
}

uint64_t guest_ram_low(void) { return HOST_RAM; }
uint64_t guest_ram_high(void) { return 0; }

void guest_page_give(uint64_t page)
{
    (void)page;
    host.given++;
}

/* ---- time --------------------------------------------------------------------------------- */

uint64_t vm_now(void) { return host.now; }
uint64_t vm_tsc_hz(void) { return HOST_TSC_HZ; }
uint64_t vm_tsc(unsigned cpu)
{
    (void)cpu;
    return host.now / 2 * (HOST_TSC_HZ / 500000000) + host.now % 2 * (HOST_TSC_HZ / 1000000000);
}
uint64_t vm_wall_clock(void) { return 1700000000000000000ull; } /* 14 November 2023 22:13:20 */

void timer_cancel(struct vm_timer *timer)
{
    for (struct vm_timer **link = &host.timers; *link; link = &(*link)->next) {
        if (*link != timer) continue;
        *link = timer->next;
        break;
    }
    timer->at = 0;
}

void timer_arm(struct vm_timer *timer, uint64_t at)
{
    timer_cancel(timer);
    timer->at = at ? at : 1;
    struct vm_timer **link = &host.timers;
    while (*link && (*link)->at <= timer->at)
        link = &(*link)->next;
    timer->next = *link;
    *link = timer;
}

void host_advance(uint64_t nanoseconds)
{
    uint64_t until = host.now + nanoseconds;
    while (host.timers && host.timers->at <= until) {
        struct vm_timer *due = host.timers;
        host.timers = due->next;
        if (due->at > host.now) host.now = due->at;
        due->at = 0;
        due->fire(due->argument);
    }
    host.now = until;
}

/* ---- interrupts and CPUs ---------------------------------------------------------------------- */

#ifndef HOST_IRQ_REAL
void irq_set(unsigned gsi, bool level)
{
    if (gsi >= 24) abort();
    host.rises[gsi] += level && !host.line[gsi];
    host.line[gsi] = level;
}

void msi_send(uint64_t address, uint32_t data)
{
    host.messages++;
    host.sent[data & 0xff]++;
    host.message_address = address;
    host.message_data = data;
}
#endif

void vm_lock(void) {}
void vm_unlock(void) {}
unsigned vm_cpus(void) { return host.cpus; }
void vcpu_kick(unsigned cpu) { host.kicks[cpu]++; }
bool vcpu_window_wanted(void) { return host.window; }
unsigned vcpu_here(void) { return 0; }
void vcpu_nmi(unsigned cpu) { host.nmis[cpu]++; }
void vcpu_init_signal(unsigned cpu) { host.inits[cpu]++; }
void vcpu_sipi(unsigned cpu, unsigned vector)
{
    host.sipis[cpu]++;
    host.sipi_vector = vector;
}
void vm_power_off(void) { host.power_offs++; }
void vm_reset(void) { host.resets++; }
void vm_fail(const char *format, ...)
{
    (void)format;
    host.fails++;
}
void vm_note(const char *format, ...)
{
    (void)format;
    host.notes++;
}

void console_write(const void *data, size_t n)
{
    n = EXO_MIN(n, sizeof(host.console));
    if (n > sizeof(host.console) - host.console_bytes) host.console_bytes = 0;
    memcpy(host.console + host.console_bytes, data, n);
    host.console_bytes += n;
}

/* ---- the tests ------------------------------------------------------------------------------------ */

void host_reset(void)
{
    memset(host_ram, 0, sizeof(host_ram));
    host = (struct vm_host){.now = 1000000000, .cpus = 1};
    io_reset();
}

uint64_t host_random(uint64_t below)
{
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 8) % below;
}

void host_test(const char *name, void (*run)(void))
{
    host_failures = 0;
    host_reset();
    run();
    printf("%s %s\n", host_failures ? "FAIL" : "PASS", name);
    host_failed += host_failures != 0;
}

int host_status(void) { return host_failed != 0; }
