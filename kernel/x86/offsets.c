/* SPDX-License-Identifier: MIT
 *
 * Constants of the C structures for the assembler: compiled to assembly, from which the
 * lines "->NAME value" become gen/offsets.h. Not linked.
 */
#include "entry.h"
#include "svm.h"
#include "vmx.h"

#define DEFINE(name, value) __asm__ volatile("\n->" #name " %c0" : : "i"(value))
#define FIELD(name, type, field) DEFINE(name, offsetof(struct type, field))
#define REG(name, reg) DEFINE(name, offsetof(struct thread, regs.reg))

_Static_assert(offsetof(struct thread, queue_head) == offsetof(struct thread, in_handler) + 4,
               "compared as one");
_Static_assert(offsetof(struct cpu, pend_count) == offsetof(struct cpu, resched) + 4,
               "compared as one");
_Static_assert(offsetof(struct cap, rights) == offsetof(struct cap, kind) + 1, "compared as one");
_Static_assert(offsetof(struct thread, regs) == 0, "a thread is where its registers are");

#define GENERAL_OFFSET(group, name)                                                                \
    DEFINE(T_##name, offsetof(struct thread, regs.name));                                          \
    DEFINE(VP_##name, offsetof(struct exo_vcpu_page, group.name));
#define FOR_GENERALS(f)                                                                            \
    f(a, rax) f(a, rcx) f(a, rdx) f(a, rbx) f(b, rsi) f(b, rdi) f(b, rbp) f(b, r8) f(b, r9)        \
        f(b, r10) f(b, r11) f(b, r12) f(b, r13) f(b, r14) f(b, r15)

void offsets(void);
void offsets(void)
{
    FIELD(PC_SCRATCH, percpu, scratch);
    FIELD(PC_CUR, percpu, cur);
    FIELD(PC_STACK, percpu, stack_top);
    FIELD(PC_CR3, percpu, cr3);
    FIELD(PC_CORE, percpu, core);
    FIELD(PC_TS_SET, percpu, ts_set);
    FIELD(PC_SHOWN, percpu, shown);
    FIELD(PC_SLOW_ONLY, percpu, slow_only);
    FIELD(PC_WAIT_HERE, percpu, wait_here);
    FIELD(PC_CALLING_HERE, percpu, calling_here);
    FIELD(PC_EXITED_HERE, percpu, exited_here);
    FIELD(PC_GUEST_IN, percpu, guest_in);
    FIELD(PC_NESTED_STALE, percpu, nested_stale);
    FIELD(PC_THREADS, percpu, window_threads);
    FIELD(PC_CAPS, percpu, window_caps);
    FIELD(PC_UPCALLS, percpu, window_upcalls);
    FIELD(PC_VA_END, percpu, va_end);
    FIELD(PC_RSP0, percpu, tss.rsp);
    FIELD(PC_GDT, percpu, gdt);
    FIELD(CPU_CUR, cpu, cur);
    FIELD(CPU_TAKE, cpu, take);
    FIELD(CPU_RESCHED, cpu, resched);
    FIELD(CPU_PEND_COUNT, cpu, pend_count);
    FIELD(XC_SWITCHES, exo_cpu, switches);
    FIELD(XC_WORLDS, exo_cpu, worlds);
    FIELD(XC_CROSSINGS, exo_cpu, crossings);
    FIELD(CAP_KIND, cap, kind);
    FIELD(CAP_SEQ, cap, seq);
    FIELD(CAP_BASE, cap, base);
    FIELD(CAP_COUNT, cap, count);
    FIELD(CAP_BADGE, cap, badge);
    FOR_GENERALS(GENERAL_OFFSET)
    REG(T_VECTOR, vector);
    REG(T_ERROR, error);
    REG(T_RIP, rip);
    REG(T_RFLAGS, rflags);
    REG(T_RSP, rsp);
    REG(T_SS, ss);
    DEFINE(T_REGS_END, sizeof(struct kregs));
    FIELD(T_SELF, thread, self);
    FIELD(T_CAP_FIRST, thread, cap_first);
    FIELD(T_NSEL, thread, nsel);
    FIELD(T_STATE, thread, state);
    FIELD(T_SLOW, thread, slow);
    FIELD(T_CALLER, thread, caller);
    FIELD(T_CALLEE, thread, callee);
    FIELD(T_DEPTH, thread, depth);
    FIELD(T_IN_HANDLER, thread, in_handler);
    FIELD(T_UPCALL, thread, upcall);
    FIELD(T_UPCALL_ENTRY, thread, upcall_entry);
    FIELD(T_UPCALL_SP, thread, upcall_sp);
    FIELD(T_FAULT_SEL, thread, fault_sel);
    FIELD(T_CALL_ENTRY, thread, call_entry);
    FIELD(T_CALL_BADGE, thread, call_badge);
    FIELD(T_CR3, thread, cr3);
    FIELD(T_FS, thread, fs_base);
    FIELD(T_GS, thread, gs_base);
    FIELD(T_WAIT_MASK, thread, wait_mask);
    FIELD(VP_REASON, exo_vcpu_page, exit.reason);
    FIELD(VP_FILLED, exo_vcpu_page, exit.filled);
    FIELD(VP_DETAIL, exo_vcpu_page, exit.detail);
    FIELD(VP_LENGTH, exo_vcpu_page, exit.length);
    FIELD(VP_FLAGS, exo_vcpu_page, exit.flags);
    FIELD(VP_INTERRUPTED, exo_vcpu_page, exit.interrupted);
    FIELD(VP_EVENTS, exo_vcpu_page, events);
    FIELD(VP_RIP, exo_vcpu_page, rip);
    FIELD(V_MASKS, vcpu, masks);
    FIELD(V_SPECIAL, vcpu, machine);
    FIELD(V_HYPER_COUNT, vcpu, hyper_count);
    DEFINE(V_HOST_CR3, offsetof(struct vcpu, machine) + offsetof(struct vmx, host_cr3));
    DEFINE(V_CR2, offsetof(struct vcpu, machine) + offsetof(struct vmx, cr2));
    FIELD(VM_KIND, vm_caps, kind);
    DEFINE(VMCS_RIP, GUEST_RIP);
    DEFINE(VMCS_RFLAGS, GUEST_RFLAGS);
    DEFINE(VMCS_RSP, GUEST_RSP);
    FIELD(VB_SHADOW, vmcb, shadow);
    FIELD(VB_EXIT_CODE, vmcb, exit_code);
    FIELD(VB_EXIT_EVENT, vmcb, exit_event);
    FIELD(VB_NEXT_RIP, vmcb, next_rip);
    FIELD(VB_RFLAGS, vmcb, rflags);
    FIELD(VB_RIP, vmcb, rip);
    FIELD(VB_RSP, vmcb, rsp);
    FIELD(VB_RAX, vmcb, rax);
    FIELD(VB_CR2, vmcb, cr2);
    FIELD(UP_EVENTS, exo_upcall_page, events);
    FIELD(UP_MASK, exo_upcall_page, event_mask);
    FIELD(FR_RIP, exo_upcall_page, frame.rip);
    FIELD(FR_RFLAGS, exo_upcall_page, frame.rflags);
    FIELD(FR_RSP, exo_upcall_page, frame.rsp);
    FIELD(FR_RCX, exo_upcall_page, frame.rcx);
    FIELD(FR_R11, exo_upcall_page, frame.r11);
    FIELD(FR_RAX, exo_upcall_page, frame.rax);
    FIELD(FR_VECTOR, exo_upcall_page, frame.vector);
    FIELD(FR_ERROR, exo_upcall_page, frame.error);
    FIELD(FR_ADDR, exo_upcall_page, frame.addr);
    DEFINE(GATE_CALL, EXO_GATE | EXO_GATE_CALL << 8); /* cap.kind, cap.rights */
    DEFINE(GUEST_RUNS, SLOW_VM);
    DEFINE(GUEST_LEFT, SLOW_VM | SLOW_FAULT | SLOW_QUICK);
    DEFINE(RESCHED_TAKE_ONLY, RESCHED_TAKE);
    DEFINE(FLAGS_USER, RFLAGS_USER);
    DEFINE(FLAGS_FIXED, RFLAGS_FIXED);
    DEFINE(FLAGS_GUEST, RFLAGS_GUEST);
    DEFINE(FLAGS_ONE, RFLAGS_ONE);
}
