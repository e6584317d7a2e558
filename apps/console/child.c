/* SPDX-License-Identifier: MIT
 *
 * A child env that faults on purpose: it dies alone, and all of it comes back. */
#include "console.h"

#define CHILD_FRAMES 512
#define NOWHERE 0x1230ul
#define WAIT_US 2000000

_Noreturn void fault_on_purpose(void)
{
    exo_thread_set(0, EXO_SET_UPCALL, 0, 0); /* nobody in here handles it */
    *(volatile uint64_t *)NOWHERE = 1;
    exo_exit(0);
}

static void tell(long state, const struct exo_regs *regs)
{
    if (state != EXO_T_FAULTED)
        exo_printf("the child did not fault: %s\n", exo_strerror(state));
    else
        exo_printf("the child was stopped by exception %lu, error %lu, address %lx, at rip %lx\n",
                   regs->vector, regs->error, regs->addr, regs->rip);
}

void fault_in_child(void)
{
    static struct exo_child child;
    static uint64_t bits[EXO_POOL_WORDS(CHILD_FRAMES)];
    uint64_t free = exo.pool.free;
    long event = exo_event_new(exo.start.sel_thread, EXO_EV_FAULT);
    long r = event;
    if (r >= 0)
        r = exo_child_make(&child, &exo.pool, CHILD_FRAMES, 1, exo.start.cpu, (uint32_t)event,
                           bits);
    if (r >= 0) r = exo_child_image(&child, CHILD_ARGS);
    if (r >= 0) r = exo_child_start(&child);
    if (r >= 0) {
        exo_event_wait(EXO_EV_FAULT, exo_in_us(WAIT_US));
        r = exo_thread_read(child.thread);
        tell(r, &exo_page()->regs);
    } else {
        exo_printf("no child: %s\n", exo_strerror(r));
    }
    if (child.env) r = exo_child_destroy(&child);
    if (event >= 0) exo_drop((uint32_t)event);
    if (r < 0)
        exo_printf("the child cannot be destroyed: %s\n", exo_strerror(r));
    else
        exo_printf("it is destroyed, %lu of %u frames came back; this console goes on\n",
                   CHILD_FRAMES - (free - exo.pool.free), CHILD_FRAMES);
}
