/* SPDX-License-Identifier: MIT
 *
 * Into a guest by VT-x and out of it: vmx_run(thread, launched). The guest's registers are
 * those of its thread; HOST_RSP is the end of its rdi, so that the exit can push them, and
 * the CPU has loaded the kernel's GS by then. Interrupts stay off: in guest mode the host's
 * end it whatever RFLAGS.IF is.
 */
#include "offsets.h"

    .macro SAVE_GUEST
    .irp reg, rdi, rsi, rdx, rcx, rax, r8, r9, r10, r11, rbx, rbp, r12, r13, r14, r15
    push %\reg
    .endr
    mov %rsp, %rdi
    mov %gs:PC_STACK, %rsp
    .endm

    .text
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
    call vmx_failed
    jmp exit_user

    .global vmx_exited
    .balign 16
vmx_exited:
    SAVE_GUEST
    cld
    call vmx_exit
    test %al, %al
    jnz exit_user
    jmp exit_interrupted

    .section .note.GNU-stack, "", @progbits
