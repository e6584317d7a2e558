/* SPDX-License-Identifier: MIT
 *
 * Frames of signal handlers: what Linux puts on the stack (arch/x86's rt_sigframe: the
 * address of the restorer, struct ucontext, siginfo_t; above it the FPU's state in XSAVE's
 * standard format, Intel SDM vol. 1, 13.4), and rt_sigreturn, which undoes it. The frame
 * is the program's to change; what it makes of it harms only itself. Where it cannot be, on
 * a stack that has come to its end, the fault is the library's, and the process's end. */
#include "library.h"
#include "../signals.h"
#include "sigframe.h"
#define sigset_t lx_sigset_t /* signals.h */
#include <asm/sigcontext.h>
#include <asm/ucontext.h>
#undef sigset_t
#include "../../../lib/exo/text.h"

#define RED_ZONE 128 /* System V ABI, AMD64 supplement, 3.2.2 */
#define XSAVE_ALIGN 64
#define XSAVE_HEADER 512 /* offset in the area: SDM vol. 1, 13.4.2 */
#define XSAVE_HEADER_SIZE 64
#define FLAGS_USER 0xcd5ul /* CF PF AF ZF SF DF OF: what rt_sigreturn may set */
#define FLAGS_BASE 0x202ul /* bit 1, which is always 1, and IF */
#define FLAG_TF 0x100ul
#define FLAG_DF 0x400ul

#define SIGINFO_USED 48 /* bytes of siginfo_t that something is in */

struct sigframe {
    uint64_t restorer;
    struct ucontext uc;
    siginfo_t info;
};

stack_t sigstack_show(const struct thread_state *t)
{
    return (stack_t){.ss_sp = (void *)t->altstack.base,
                     .ss_size = t->altstack.size,
                     .ss_flags = t->altstack.size ? (int)t->altstack.flags : SS_DISABLE};
}

void sigstack_set(struct thread_state *t, const stack_t *stack)
{
    t->altstack = (struct sigstack){0, 0, 0};
    if (stack->ss_flags & SS_DISABLE) return;
    t->altstack.base = (uint64_t)stack->ss_sp;
    t->altstack.size = stack->ss_size;
    t->altstack.flags = (uint32_t)stack->ss_flags & SS_AUTODISARM;
}

void siginfo_fill(siginfo_t *to, int signal, const struct lx_siginfo *info, uint64_t address)
{
    uint64_t *words = (uint64_t *)to;
#pragma GCC unroll 8
    for (unsigned i = 2; i < SIGINFO_USED / 8; i++)
        words[i] = 0;
    to->si_signo = signal;
    to->si_errno = 0;
    to->si_code = info->code;
    if (address || (info->code > 0 && info->code < SI_KERNEL && signal != SIGCHLD)) {
        to->si_addr = (void *)address;
        return;
    }
    to->si_pid = info->pid;
    to->si_uid = (unsigned)info->uid;
    if (signal == SIGCHLD)
        to->si_status = info->status;
    else
        to->si_ptr = (void *)info->value;
}

/* Bytes of the FPU's state, and which parts it has: SDM vol. 2, CPUID leaf 0DH, XGETBV. */
uint32_t xsave_size(void)
{
    uint32_t eax = 13, ebx, ecx = 0, edx;
    if (lx.xsave_size) return lx.xsave_size;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    lx.xsave_size = ebx;
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    lx.xsave_parts = (uint64_t)edx << 32 | eax;
    return lx.xsave_size;
}

static void fpu_save(uint64_t at, uint32_t size)
{
    struct _fpstate_64 *state = (struct _fpstate_64 *)at;
    uint64_t *header = (uint64_t *)(at + XSAVE_HEADER);
#pragma GCC unroll 8
    for (unsigned i = 0; i < XSAVE_HEADER_SIZE / 8; i++)
        header[i] = 0;
    __asm__ volatile(FPU_CLAIM "xsave64 (%0)" : : "r"(at), "a"(~0u), "d"(~0u) : "memory");
    state->sw_reserved.magic1 = FP_XSTATE_MAGIC1;
    state->sw_reserved.extended_size = size + (uint32_t)FP_XSTATE_MAGIC2_SIZE;
    state->sw_reserved.xfeatures = lx.xsave_parts;
    state->sw_reserved.xstate_size = size;
    *(uint32_t *)(at + size) = FP_XSTATE_MAGIC2;
}

static void fpu_load(uint64_t at)
{
    const struct _fpstate_64 *state = (const struct _fpstate_64 *)at;
    if (state->sw_reserved.magic1 == FP_XSTATE_MAGIC1)
        __asm__ volatile(FPU_CLAIM "xrstor64 (%0)" : : "r"(at), "a"(~0u), "d"(~0u) : "memory");
    else
        __asm__ volatile("fxrstor64 (%0)" : : "r"(at) : "memory");
}

static void context_save(struct sigcontext_64 *c, const struct regs *r, uint64_t address)
{
    uint16_t cs, ss;
    __asm__("movw %%cs, %0; movw %%ss, %1" : "=r"(cs), "=r"(ss));
    c->r8 = r->r8;
    c->r9 = r->r9;
    c->r10 = r->r10;
    c->r11 = r->r11;
    c->r12 = r->r12;
    c->r13 = r->r13;
    c->r14 = r->r14;
    c->r15 = r->r15;
    c->di = r->rdi;
    c->si = r->rsi;
    c->bp = r->rbp;
    c->bx = r->rbx;
    c->dx = r->rdx;
    c->ax = r->rax;
    c->cx = r->rcx;
    c->sp = r->rsp;
    c->ip = r->rip;
    c->flags = r->rflags;
    c->cs = cs;
    c->gs = c->fs = 0;
    c->ss = ss;
    c->err = c->trapno = 0;
    c->cr2 = address;
}

/* entry.S: leaves for the program with these registers and flags. */
_Noreturn void leave_context(const struct sigcontext_64 *context, uint64_t flags);
_Static_assert(offsetof(struct sigcontext_64, r8) == 0 &&
                   offsetof(struct sigcontext_64, di) == 64 &&
                   offsetof(struct sigcontext_64, ax) == 104 &&
                   offsetof(struct sigcontext_64, ip) == 128,
               "as leave_context has it");

static void context_load(struct regs *r, const struct sigcontext_64 *c)
{
    r->r8 = c->r8;
    r->r9 = c->r9;
    r->r10 = c->r10;
    r->r11 = c->r11;
    r->r12 = c->r12;
    r->r13 = c->r13;
    r->r14 = c->r14;
    r->r15 = c->r15;
    r->rdi = c->di;
    r->rsi = c->si;
    r->rbp = c->bp;
    r->rbx = c->bx;
    r->rdx = c->dx;
    r->rax = c->ax;
    r->rcx = c->cx;
    r->rsp = c->sp;
    r->rip = c->ip;
    r->rflags = (r->rflags & ~FLAGS_USER) | (c->flags & FLAGS_USER);
}

/* Where the frame begins to grow down from; 0: an alternate stack that is full. */
static uint64_t stack_top(const struct thread_state *t, const struct regs *r, uint64_t flags,
                          bool *alternate)
{
    bool on = r->rsp - t->altstack.base < t->altstack.size;
    *alternate = on;
    if (!(flags & SA_ONSTACK) || !t->altstack.size || on) return r->rsp - RED_ZONE;
    *alternate = true;
    return t->altstack.base + t->altstack.size;
}

long sigframe_push(struct thread_state *t, struct regs *r, int signal,
                   const struct lx_sigaction *action, const struct lx_siginfo *info,
                   uint64_t address)
{
    bool alternate;
    uint32_t size = xsave_size();
    uint64_t top = stack_top(t, r, action->flags, &alternate);
    uint64_t fpu = (top - size - FP_XSTATE_MAGIC2_SIZE) & -(uint64_t)XSAVE_ALIGN;
    uint64_t at = ((fpu - sizeof(struct sigframe)) & ~15ul) - 8;
    if (alternate && at < t->altstack.base) return -EFAULT;
    if (at > top || top > LX_USER_END) return -EFAULT;
    struct sigframe *frame = (struct sigframe *)at;
    frame->restorer = action->restorer;
    frame->uc.uc_flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
    frame->uc.uc_link = NULL;
    frame->uc.uc_stack = sigstack_show(t);
    struct sigcontext_64 *context = (struct sigcontext_64 *)&frame->uc.uc_mcontext;
    context_save(context, r, address);
    context->fpstate = fpu;
    context->oldmask = frame->uc.uc_sigmask = t->restore_mask ? t->saved_mask : t->mask;
    t->restore_mask = false;
    if (action->flags & SA_SIGINFO) siginfo_fill(&frame->info, signal, info, address);
    fpu_save(fpu, size);
    if (t->altstack.flags & SS_AUTODISARM) t->altstack = (struct sigstack){0, 0, 0};
    r->rdi = (uint64_t)signal;
    r->rsi = (uint64_t)&frame->info;
    r->rdx = (uint64_t)&frame->uc;
    r->rax = 0;
    r->rsp = at;
    r->rip = action->handler;
    r->rflags &= ~(FLAG_DF | FLAG_TF);
    r->number = NO_CALL;
    return 0;
}

/* What the handler's frame says but for the registers. A frame that is none ends the process: the
 * fault is the library's (upcall.c). */
static inline __attribute__((always_inline)) const struct sigcontext_64 *
sigframe_pop(struct thread_state *t, uint64_t rsp)
{
    const struct sigframe *frame = (const struct sigframe *)(rsp - sizeof(uint64_t));
    const struct sigcontext_64 *context = (const struct sigcontext_64 *)&frame->uc.uc_mcontext;
    stack_t stack = frame->uc.uc_stack;
    sigstack_set(t, &stack);
    signals_mask(t, frame->uc.uc_sigmask);
    if (context->fpstate) fpu_load(context->fpstate);
    return context;
}

long sys_rt_sigreturn(struct thread_state *t, struct regs *r)
{
    context_load(r, sigframe_pop(t, r->rsp));
    r->number = NO_CALL;
    return (long)r->rax;
}

/* From a rewritten site only: no other register of the program's is needed. */
long leaf_rt_sigreturn(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    struct thread_state *t = this_thread();
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    const struct sigcontext_64 *context = sigframe_pop(t, t->user_rsp);
    if (t->window->signals || process_window()->start.signals) event_keep(t);
    leave_context(context, FLAGS_BASE | (context->flags & FLAGS_USER));
}
