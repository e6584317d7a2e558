/* SPDX-License-Identifier: MIT
 *
 * Into a guest and out of it. The guest's registers are those of its thread; RSP is at
 * the end of its rdi in guest mode, so that the exit can push them.
 *
 * The common exit and the common reply to it go from the guest to its monitor and back
 * here, as entry.S does calls between native threads: in the common case each does what the
 * functions of core named beside it do; in any other nothing, and core does it.
 * Common: only the groups A, B, RIP; no window, shadow, NMI, event, debug register or
 * XCR0 of its own, which svm_enter or vmx_exit has found; the monitor waits and its gate is as it was. A
 * thread with SLOW_QUICK has been left so, and its control block has what the exit stored.
 */
#include "../../abi/vm.h"
#include "../../abi/exo.h"
#include "offsets.h"
#include "macros.h"
#include "percpu.h"

/* From a thread to what lies in the frames behind its own, seen in other windows. */
#define TO_PAGE (WINDOW_UPCALLS - WINDOW_THREADS + 1 * 4096)
#define TO_VCPU (WINDOW_VCPUS - WINDOW_THREADS + 2 * 4096)
#define TO_VMCB (WINDOW_TABLES - WINDOW_THREADS + 3 * 4096)

/* Each register of a group (A's rax is in the VMCB), and what to do with it. */
#define GROUP_A(f) f(rcx) f(rdx) f(rbx)
#define GROUP_B(f) f(r8) f(r9) f(r10) f(r11) f(r12) f(r13) f(r14) f(r15) f(rbp) f(rsi) f(rdi)
#define FROM_THREAD(reg) mov T_##reg(%rsp), %reg;
#define FROM_PAGE(reg) mov VP_##reg(%rdi), %reg;
#define INTO_PAGE(reg) mov T_##reg(%rsp), %rdi; mov %rdi, VP_##reg(%rsi);

/* Exit codes: AMD64 APM vol. 2, appendix C. */
#define X_CPUID 0x72
#define X_VMMCALL 0x81

    .macro SAVE_GUEST
    push %rdi
    push %rsi
    PUSH_REST
    .endm

/* All but rax: rsp the thread, rsi the groups that come from the page in rdx. Then as SAVE_GUEST
 * wants it. */
    .macro LOAD_GUEST
    mov %rdx, %rdi
    test $EXO_VG_A, %esi
    jnz 1f
    GROUP_A(FROM_THREAD)
    jmp 2f
1:  GROUP_A(FROM_PAGE)
2:  test $EXO_VG_B, %esi
    jnz 3f
    GROUP_B(FROM_THREAD)
    jmp 4f
3:  GROUP_B(FROM_PAGE)
4:  add $T_VECTOR, %rsp
    .endm

    .macro COPY to, from, via
    mov \from, \via
    mov \via, \to
    .endm

    .text
/* ---- AMD-V: svm_run(thread, VMCB) --------------------------------------------------------- */
/* Between CLGI and STGI nothing comes in, NMIs included; interrupts are on in guest mode so
 * that the host's end it. The VMCB has rax. */
    .global svm_run
svm_run:
    mov %rdi, %rsp
    mov %rsi, %rax
    xor %esi, %esi
/* rsp, rsi, rdx: LOAD_GUEST; rax: the VMCB. */
svm_go:
    clgi
    sti
    vmload %rax
    LOAD_GUEST
    vmrun %rax
    SAVE_GUEST /* rax: the VMCB, as before */
    vmsave %rax
    mov T_SS(%rsp), %rax
    vmload %rax /* the host's GS and the rest */
    cli
    stgi
    movabs $TO_VMCB, %r8
    add %rsp, %r8
    COPY T_RIP(%rsp), VB_RIP(%r8), %r9
    COPY T_RSP(%rsp), VB_RSP(%r8), %r10
    COPY T_RFLAGS(%rsp), VB_RFLAGS(%r8), %r11
    COPY T_rax(%rsp), VB_RAX(%r8), %rax

/* vm_exit; call_make and call_enter in ipc.c; thread_switch. QEMU 7.2 lets guests execute
 * XSETBV: nobody else changes XCR0, and nobody its upper half. */
    xor %ecx, %ecx
    xgetbv
    cmp xcr0(%rip), %eax
    jne svm_slow
    movabs $TO_VCPU, %rdx
    add %rsp, %rdx
    cmpq $0, V_SPECIAL(%rdx)
    jne svm_slow
    testb $1, VB_SHADOW(%r8)
    jnz svm_slow
    cmpl $0, VB_EXIT_EVENT(%r8)
    jl svm_slow /* valid */
    movabs $TO_PAGE, %rsi
    add %rsp, %rsi
    mov VB_EXIT_CODE(%r8), %ecx
    mov $EXO_VX_CPUID, %eax
    cmp $X_CPUID, %ecx
    je svm_plain
    mov $EXO_VX_HYPERCALL, %eax
    cmp $X_VMMCALL, %ecx
    jne svm_told
    cmpl $0, V_HYPER_COUNT(%rdx)
    jne svm_slow
svm_plain:
    xor %ecx, %ecx
    mov %rcx, VP_DETAIL(%rsi)
    mov %rcx, VP_DETAIL + 8(%rsi)
    mov %rcx, VP_DETAIL + 16(%rsi)
    mov %rcx, VP_INTERRUPTED(%rsi)
    mov VB_NEXT_RIP(%r8), %ecx
    sub %r9d, %ecx
    and length_known(%rip), %ecx
    mov %ecx, VP_LENGTH(%rsi)
    shr $8, %r11d /* IF */
    and $EXO_XF_IF, %r11d
    mov %r11d, VP_FLAGS(%rsi)
/* Both: eax the reason; rsp, rdx, rsi the thread, its vcpu and page, whose exit says the rest. */
exit_told:
    FAST_UNLESS exit_core
    mov V_MASKS(%rdx, %rax, 4), %r9d
    cmp $EXO_VG_A | EXO_VG_B | EXO_VG_RIP, %r9d
    ja exit_core
    cmpl $EXO_CHAIN_MAX, T_DEPTH(%rsp)
    jae exit_core
    mov T_FAULT_SEL(%rsp), %edi
    GATE_FIND %rsp, %rdi, %r8, %r10, %r11, %ecx, %r10d, exit_core
    mov %gs:PC_WAIT_HERE, %rdi
    cmp %rdi, T_STATE(%r8) /* state, cpu, slow */
    jne exit_core
    mov %eax, VP_REASON(%rsi)
    mov %r9d, VP_FILLED(%rsi)
    mov %r10, T_CALL_ENTRY(%rsp)
    mov %r11, T_CALL_BADGE(%rsp)
    test $EXO_VG_B, %r9b
    jz 1f
    GROUP_B(INTO_PAGE)
1:  test $EXO_VG_A, %r9b
    jz 2f
    INTO_PAGE(rax) GROUP_A(INTO_PAGE)
2:  test $EXO_VG_RIP, %r9b
    jz 3f
    COPY VP_RIP(%rsi), T_RIP(%rsp), %rdi
    COPY VP_RIP + 8(%rsi), T_RFLAGS(%rsp), %rdi
    COPY VP_RIP + 16(%rsi), T_RSP(%rsp), %rdi
    movq $0, VP_RIP + 24(%rsi) /* no shadow */
3:  movl $EXO_T_CALLING, T_STATE(%rsp)
    movw $GUEST_LEFT, T_SLOW(%rsp)
    mov T_SELF(%r8), %edi
    mov %edi, T_CALLEE(%rsp)
    mov %gs:PC_CORE, %rcx
    mov %edi, CPU_CUR(%rcx)
    mov T_SELF(%rsp), %edi
    mov %edi, T_CALLER(%r8)
    mov T_DEPTH(%rsp), %edi
    inc %edi
    mov %edi, T_DEPTH(%r8)
    movl $EXO_T_READY, T_STATE(%r8)
    mov %r8, %gs:PC_CUR
    SPACE_ENTER %r8, %rdi
    mov T_FS(%r8), %rdi
    wrfsbase %rdi
    mov T_GS(%r8), %rdi
    swapgs
    wrgsbase %rdi
    mov T_CALL_ENTRY(%rsp), %rcx
    mov %r11, %rdi
    mov T_RFLAGS(%r8), %r11
    mov T_RSP(%r8), %rsp
    mov VP_DETAIL(%rsi), %r8
    mov %r9d, %edx
    mov VP_DETAIL + 8(%rsi), %r9
    mov VP_DETAIL + 16(%rsi), %r10
    mov %eax, %esi
    xor %eax, %eax
    sysretq

/* Not one of those whose code says it all. */
svm_told:
    mov %rsp, %rdi
    mov %gs:PC_STACK, %rsp
    call svm_decode
    test %eax, %eax
    jnz guest_told
    mov %gs:PC_CUR, %rsp
svm_slow:
    mov %rsp, %rdi
    mov %gs:PC_STACK, %rsp
    call svm_exit
guest_left: /* eax: 0 for a host's interrupt, -1 core has decided, or the reason */
    test %eax, %eax
    js exit_user
    jz guest_interrupted
guest_told:
    mov %gs:PC_CUR, %rsp
    movabs $TO_PAGE, %rsi
    movabs $TO_VCPU, %rdx
    add %rsp, %rsi
    add %rsp, %rdx
    jmp exit_told

exit_core:
    mov %rsp, %rdi
    mov %gs:PC_STACK, %rsp
    call vm_exit
    jmp exit_user

/* A host interrupt ended guest mode and is pending: it arrives at trap_idle. */
guest_interrupted:
    sti
    nop
    nop
    cli
    jmp exit_slow

/* reply_send and reply_next in ipc.c; vm_reply, rip_set and vm_enter_check in core/vm.c;
 * vm_enter. In: rax the monitor's thread, rcx the guest's; rdi mask, rsi and rdx groups. */
    .global reply_guest
reply_guest:
    mov %gs:PC_EXITED_HERE, %rsp
    cmp %rsp, T_STATE(%rcx) /* SLOW_QUICK too */
    jne reply_slow
    cmp $EXO_VG_A | EXO_VG_B | EXO_VG_RIP, %rsi
    ja reply_slow
    test %rdx, %rdx
    jnz reply_slow
    mov %gs:PC_CORE, %rsp
    cmpl $0, CPU_RESCHED(%rsp)
    jne reply_slow
    cmp %rcx, %gs:PC_GUEST_IN
    jne reply_slow
    cmpl $0, %gs:PC_NESTED_STALE
    jne reply_slow
    movabs $TO_PAGE, %rdx
    test %rdi, UP_EVENTS(%rax, %rdx)
    jnz reply_back
    add %rcx, %rdx
    cmpq $0, VP_EVENTS(%rdx)
    jne reply_back
    test $EXO_VG_RIP, %sil
    jz 1f
    cmpl $0, VP_RIP + 24(%rdx)
    jne reply_back
    mov VP_RIP(%rdx), %r9
    mov %r9, %r10
    sar $47, %r10
    inc %r10
    cmp $1, %r10
    ja reply_back /* not canonical */
    mov VP_RIP + 8(%rdx), %r10
    and $FLAGS_GUEST, %r10d
    or $FLAGS_ONE, %r10d
1:  cmpl $EXO_VM_VMX, VM_KIND + vm_caps(%rip)
    je reply_vmx
    movabs $TO_VMCB, %r8
    add %rcx, %r8
    test $EXO_VG_RIP, %sil
    jz 2f
    mov %r9, VB_RIP(%r8)
    mov %r10, VB_RFLAGS(%r8)
    COPY VB_RSP(%r8), VP_RIP + 16(%rdx), %r9
2:  test $EXO_VG_A, %sil
    jz 3f
    COPY VB_RAX(%r8), VP_rax(%rdx), %r9
3:  mov VB_CR2(%r8), %r9
    lea svm_again(%rip), %r10
reply_commit: /* r9: the guest's CR2; r10: what comes behind */
    mov %r9, %cr2
    mov %rdi, T_WAIT_MASK(%rax)
    movl $0, T_CALLER(%rax)
    movl $EXO_T_WAIT, T_STATE(%rax)
    movl $EXO_T_READY, T_STATE(%rcx)
    movw $GUEST_RUNS, T_SLOW(%rcx)
    mov T_SELF(%rcx), %r9d
    mov %r9d, CPU_CUR(%rsp)
    mov %rcx, %gs:PC_CUR
    COUNT XC_WORLDS, %r9
    rdfsbase %r9
    mov %r9, T_FS(%rax)
    swapgs
    rdgsbase %r9 /* the kernel's comes back with the exit */
    mov %r9, T_GS(%rax)
    mov %rcx, %rsp
    jmp *%r10

svm_again:
    movabs $-WINDOW_TABLES, %rax
    add %r8, %rax
    jmp svm_go

/* The VMCS is this virtual CPU's (else guest_in is not): its fields are SDM appendix B's. */
reply_vmx:
    movabs $TO_VCPU, %r8
    add %rcx, %r8
    mov V_HOST_CR3(%r8), %r11
    cmp %gs:PC_CR3, %r11
    jne reply_back
    test $EXO_VG_RIP, %sil
    jz 1f
    mov $VMCS_RIP, %r11d
    vmwrite %r9, %r11
    mov $VMCS_RFLAGS, %r11d
    vmwrite %r10, %r11
    mov $VMCS_RSP, %r11d
    vmwrite VP_RIP + 16(%rdx), %r11
1:  test $EXO_VG_A, %sil
    jz 2f
    COPY T_rax(%rcx), VP_rax(%rdx), %r9
2:  mov V_CR2(%r8), %r9
    lea vmx_go(%rip), %r10
    jmp reply_commit

reply_back:
    xor %edx, %edx
    xor %r8d, %r8d
    jmp reply_slow

/* ---- VT-x: vmx_run(thread) ------------------------------------------------------------------ */
/* HOST_RSP is the end of the thread's rdi too, and the CPU has loaded the kernel's GS after
 * an exit. Interrupts stay off: in guest mode the host's end it whatever RFLAGS.IF is. What was
 * not launched yet cannot be resumed. */
    .global vmx_run
vmx_run:
    mov %rdi, %rsp
    xor %esi, %esi
vmx_go:
    mov T_rax(%rsp), %rax
    LOAD_GUEST
    vmresume
    vmlaunch
    SAVE_GUEST
    mov %rsp, %rdi
    mov %gs:PC_STACK, %rsp
    call vmx_failed
    jmp exit_user

    .global vmx_exited
vmx_exited:
    SAVE_GUEST
    mov %rsp, %rdi
    mov %gs:PC_STACK, %rsp
    call vmx_exit
    jmp guest_left

    .section .note.GNU-stack, "", @progbits
