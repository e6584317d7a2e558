/* SPDX-License-Identifier: MIT
 *
 * What the general upcall entry (entry.S) leads to: page faults to the regions,
 * exceptions, foreign system calls and events to the program's handlers. Runs on the
 * thread's upcall stack, in-handler: a fault in here goes to the thread's fault gate. */
#include "exo.h"

struct exo_handlers exo_handlers;

#define VECTOR_PF 14 /* Intel SDM vol. 3, 6.15 */

static void unhandled(const struct exo_frame *frame)
{
    exo_printf("%s: exception %lu error %lx address %lx at rip %lx\n", exo.start.name,
               frame->vector, frame->error, frame->addr, frame->rip);
    exo_exit(-(long)(1000 + frame->vector));
}

static void handle_events(uint64_t events)
{
    if (events & EXO_EVENT_REVOKE) exo_vector_read(exo_handlers.revoke);
    events &= ~EXO_EVENT_REVOKE;
    if (events && exo_handlers.events) exo_handlers.events(events);
}

void exo_upcall(struct exo_upcall_page *page, struct exo_saved *saved)
{
    struct exo_frame *frame = &page->frame;
    switch (frame->vector) {
    case EXO_UP_EVENT:
        handle_events(frame->addr);
        return;
    case EXO_UP_SYSCALL:
        if (exo_handlers.syscall)
            exo_handlers.syscall(frame, saved);
        else
            frame->rax = (uint64_t)-EXO_E_CALL;
        return;
    case VECTOR_PF:
        if (exo_region_fault(frame->addr)) return;
        break;
    }
    if (!exo_handlers.exception || !exo_handlers.exception(frame, saved)) unhandled(frame);
}

long exo_vector_read(void (*policy)(const struct exo_record *))
{
    struct exo_vector *vector = (struct exo_vector *)EXO_VECTOR_VA;
    uint32_t done = 0;
    for (;;) {
        uint32_t used = __atomic_load_n(&vector->used, __ATOMIC_ACQUIRE);
        for (; done < used && done < EXO_RECORDS; done++) {
            struct exo_record record = vector->rec[done];
            if (policy) policy(&record);
        }
        if (__atomic_compare_exchange_n(&vector->used, &used, 0, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
            break;
    }
    return __atomic_exchange_n(&vector->overflow, 0, __ATOMIC_ACQ_REL) ? -EXO_E_LIMIT : (long)done;
}

long exo_revocations(void (*policy)(const struct exo_record *))
{
    exo_handlers.revoke = policy;
    long r = exo_env_revoker(EXO_SELF, exo_this()->sel);
    if (r < 0) return r;
    struct exo_upcall_page *page = exo_page();
    page->event_mask =
        policy ? page->event_mask | EXO_EVENT_REVOKE : page->event_mask & ~EXO_EVENT_REVOKE;
    return 0;
}
