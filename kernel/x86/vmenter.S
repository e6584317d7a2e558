/* SPDX-License-Identifier: MIT
 *
 * Into a guest and out of it. The guest's registers are those of its thread; RSP is at
 * the end of its rdi in guest mode, so that the exit can push them.
 */
#include "offsets.h"

    .macro LOAD_GUEST /* all but rax and rsp, from the thread in rdi */
    mov T_R15(%rdi), %r15
    mov T_R14(%rdi), %r14
    mov T_R13(%rdi), %r13
    mov T_R12(%rdi), %r12
    mov T_RBP(%rdi), %rbp
    mov T_RBX(%rdi), %rbx
    mov T_R11(%rdi), %r11
    mov T_R10(%rdi), %r10
    mov T_R9(%rdi), %r9
    mov T_R8(%rdi), %r8
    mov T_RCX(%rdi), %rcx
    mov T_RDX(%rdi), %rdx
    mov T_RSI(%rdi), %rsi
    mov T_RDI(%rdi), %rdi
    .endm

    .macro SAVE_GUEST
    .irp reg, rdi, rsi, rdx, rcx, rax, r8, r9, r10, r11, rbx, rbp, r12, r13, r14, r15
    push %\reg
    .endr
    .endm

    .text
/* ---- AMD-V: svm_run(thread, VMCB) --------------------------------------------------------- */
/* Between CLGI and STGI nothing comes in, NMIs included; interrupts are on in guest mode so
 * that the host's end it. */
    .global svm_run
svm_run:
    lea T_VECTOR(%rdi), %rsp
    mov %rsi, %rax
    clgi
    sti
    vmload %rax
    LOAD_GUEST
    vmrun %rax
    SAVE_GUEST /* rax: the VMCB, as before; the guest's is in it */
    vmsave %rax
    mov T_SS(%rsp), %rax
    vmload %rax /* the host's GS and the rest */
    cli
    stgi
    mov %rsp, %rdi
    mov %gs:PC_STACK, %rsp
    call svm_exit
    jmp guest_left

/* rax: an exit's end, EXIT_* in quick.h, or the monitor's thread, whose
 * GS is loaded; rdx: the page. */
    .global guest_left
guest_left:
    cmp $EXIT_CORE, %rax
    je exit_user
    jb exit_interrupted
    mov T_RIP(%rax), %rcx
    mov T_RFLAGS(%rax), %r11
    mov T_RDI(%rax), %rdi
    mov T_RSP(%rax), %rsp
    mov VP_REASON(%rdx), %esi
    mov VP_DETAIL(%rdx), %r8
    mov VP_DETAIL + 8(%rdx), %r9
    mov VP_DETAIL + 16(%rdx), %r10
    mov VP_FILLED(%rdx), %edx
    xor %eax, %eax
    sysretq

/* A host interrupt ended guest mode and is pending: it arrives at trap_idle. */
    .global exit_interrupted
exit_interrupted:
    sti
    nop
    nop
    cli
    jmp exit_slow

/* ---- VT-x: vmx_run(thread, launched) ---------------------------------------------------- */
/* HOST_RSP is the end of the thread's rdi too, and the CPU has loaded the kernel's GS after
 * an exit. Interrupts stay off: in guest mode the host's end it whatever RFLAGS.IF is. */
    .global vmx_run
vmx_run:
    test %esi, %esi
    mov %rdi, %rsp
    .irp reg, r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi
    pop %\reg
    .endr
    jz 1f
    vmresume
    jmp 2f
1:  vmlaunch
2:  SAVE_GUEST
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
    test %al, %al
    jnz exit_user
    jmp exit_interrupted

    .section .note.GNU-stack, "", @progbits
