/* SPDX-License-Identifier: MIT
 *
 * What stands in for the rest of the monitor when its devices are tested on this machine:
 * guest memory is an array, time is set by hand, and what devices ask for is written down.
 * Tests include vmm_host.c once and the parts of vmm/ they are about; io.c is always
 * there. With HOST_IRQ_REAL defined irq.c is there too (then include lapic.c, ioapic.c and
 * pic.c), otherwise lines and messages are recorded.
 */
#ifndef VMM_HOST_H
#define VMM_HOST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define main exo_main /* a program's own takes its startup page */
#include "../../vmm/vmm.h"
#undef main

#define HOST_RAM 0x1000000u /* guest memory from 0 on */
#define HOST_TSC_HZ 2500000000ull

struct vm_host {
    uint64_t now; /* nanoseconds: host_advance */
    unsigned cpus;
    struct vm_timer *timers;
    /* recorded */
    bool line[24];
    unsigned rises[24]; /* of each line, from low to high */
    unsigned messages;
    unsigned sent[256]; /* messages with that vector */
    uint64_t message_address;
    uint32_t message_data;
    unsigned kicks[VM_CPUS], nmis[VM_CPUS], inits[VM_CPUS], sipis[VM_CPUS];
    unsigned sipi_vector;
    unsigned power_offs, resets, fails, notes;
    bool window; /* what vcpu_window_wanted says */
    uint64_t given; /* pages, by the balloon */
    void (*race)(void); /* another virtual CPU's work, at each guest_ptr; NULL: none */
    char console[65536];
    size_t console_bytes;
};
extern struct vm_host host;
extern uint8_t host_ram[HOST_RAM];

/* Everything as at the start: memory zero, one CPU, nobody at any port, time 1 s. */
void host_reset(void);
/* Lets time pass; timers fire at their moments. */
void host_advance(uint64_t nanoseconds);
/* A repeatable random number below `below`. */
uint64_t host_random(uint64_t below);

/* EXPECT notes what does not hold; host_test runs a test and prints its verdict. */
extern unsigned host_failures;
#define EXPECT(what)                                                                               \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            printf("  %s:%d: %s\n", __FILE__, __LINE__, #what);                                    \
            host_failures++;                                                                       \
        }                                                                                          \
    } while (0)
void host_test(const char *name, void (*run)(void));
/* The program's exit status: 1 if any test failed. */
int host_status(void);
#endif
