/* SPDX-License-Identifier: MIT
 *
 * What the entries in entry.S lead to, system calls apart: page faults on the upcall stack,
 * events, exceptions. */
#include "library.h"
#include <asm/siginfo.h>
#include <asm/signal.h>
#include "../../../lib/exo/text.h"

#define VECTOR_DE 0 /* Intel SDM vol. 3, 6.15 */
#define VECTOR_DB 1
#define VECTOR_BP 3
#define VECTOR_UD 6
#define VECTOR_SS 12
#define VECTOR_GP 13
#define VECTOR_PF 14
#define VECTOR_MF 16
#define VECTOR_AC 17
#define VECTOR_XM 19

extern const char exit_flags[], exit_last[], exit_event[], exit_end[], exit_leaf[], exit_leaf_end[],
    user_copy_end[], user_copy_string_end[], user_fault[];

static bool within(uint64_t rip, const void *from, const void *to)
{
    return rip >= (uint64_t)from && rip < (uint64_t)to;
}

/* The way out was interrupted: makes the frame the program's own context. */
static void frame_complete(struct exo_frame *frame)
{
    struct thread_state *t = this_thread();
    bool flags =
        within(frame->rip, exit_flags, exit_last) || within(frame->rip, exit_event, exit_end);
    if (flags)
        frame->rflags = *(const uint64_t *)frame->rsp;
    else if (!within(frame->rip, exit_leaf, exit_leaf_end) &&
             !within(frame->rip, exit_last, exit_event))
        return;
    frame->rip = t->user_rip;
    frame->rsp = t->user_rsp;
}

static bool in_copy(uint64_t rip)
{
    return within(rip, (const void *)user_copy, user_copy_end) ||
           within(rip, (const void *)user_copy_string, user_copy_string_end);
}

static int exception_signal(uint64_t vector)
{
    switch (vector) {
    case VECTOR_DE:
    case VECTOR_MF:
    case VECTOR_XM:
        return SIGFPE;
    case VECTOR_DB:
    case VECTOR_BP:
        return SIGTRAP;
    case VECTOR_UD:
        return SIGILL;
    case VECTOR_SS:
    case VECTOR_AC:
        return SIGBUS;
    default:
        return SIGSEGV;
    }
}

/* 0: the context goes on as it was (the frame may say elsewhere). Not 0: it is the program's
 * and leads to upcall_general; the signal, or -1 for an event. */
int upcall_look(void)
{
    struct exo_frame *frame = &upcall_page()->frame;
    if (frame->vector == EXO_UP_EVENT) {
        __atomic_fetch_or(&upcall_page()->events, frame->addr, __ATOMIC_RELAXED);
        frame_complete(frame);
        return -1;
    }
    int signal = frame->vector == VECTOR_PF ? fault_handle(frame->addr, frame->error)
                                            : exception_signal(frame->vector);
    if (!signal) return 0;
    if (in_copy(frame->rip)) {
        frame->rip = (uint64_t)user_fault;
        return 0;
    }
    if (within(frame->rip, (const void *)LX_LIB_VA,
               (const void *)(LX_LIB_VA + LX_LIB_PAGES * PAGE)))
        server(LX_OP_CRASH, (uint64_t)signal, frame->rip, frame->addr);
    return signal;
}

static int fault_code(int signal, uint64_t vector, uint64_t address)
{
    switch (signal) {
    case SIGFPE:
        return vector == VECTOR_DE ? FPE_INTDIV : FPE_FLTINV;
    case SIGTRAP:
        return vector == VECTOR_BP ? SI_KERNEL : TRAP_TRACE;
    case SIGILL:
        return ILL_ILLOPN;
    case SIGBUS:
        return vector == VECTOR_PF ? BUS_ADRERR : SI_KERNEL;
    default:
        if (vector != VECTOR_PF) return SI_KERNEL;
        return vma_find(address) ? SEGV_ACCERR : SEGV_MAPERR;
    }
}

void event_look(struct regs *r)
{
    uint64_t events = __atomic_fetch_and(&upcall_page()->events, ~LX_EVENTS, __ATOMIC_ACQUIRE);
    if (events & LX_TIMER) timer_expired(this_thread());
    if (process_window()->start.asked) replace_look();
    signals_deliver(this_thread(), r);
}

void upcall_general(struct regs *r, int signal, uint64_t vector, uint64_t error, uint64_t address)
{
    (void)error;
    if (signal < 0) {
        event_look(r);
        return;
    }
    signal_force(this_thread(), r, signal, fault_code(signal, vector, address),
                 vector == VECTOR_PF ? address : r->rip);
}
