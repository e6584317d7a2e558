/* SPDX-License-Identifier: MIT
 *
 * Loads all registers but RSP, does one thing that goes through the kernel, and stores
 * all of them again. A gate's entry finds the stack of the reply_wait, and so its io. */
#include "paths.h"
#include "exo_calls.h"
#include "../../../abi/exo.h"

    .macro BEGIN
    .irp reg, rbx, rbp, r12, r13, r14, r15
    pushq %\reg
    .endr
    pushq %rdi
    pushq IO_FLAGS(%rdi)
    popfq
    .set at, 0
    .irp reg, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
    .if at != IO_RDI
    movq at(%rdi), %\reg
    .endif
    .set at, at + 8
    .endr
    movq IO_RDI(%rdi), %rdi
    .endm

    .text
    .globl path_call
path_call:
    BEGIN
    syscall
path_done:
    xchgq %rdi, (%rsp)
    movq $0, IO_VIA(%rdi)
path_store:
    .set at, 0
    .irp reg, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
    .if at != IO_RDI
    movq %\reg, at(%rdi)
    .endif
    .set at, at + 8
    .endr
    pushfq
    popq IO_FLAGS(%rdi)
    cld
    popq %rax
    movq %rax, IO_RDI(%rdi)
    .irp reg, r15, r14, r13, r12, rbp, rbx
    popq %\reg
    .endr
    ret

    .globl path_gate
path_gate:
    xchgq %rdi, (%rsp)
    movq $1, IO_VIA(%rdi)
    jmp path_store

/* Exceptions: rax is an address at which nothing is bound, or one that is not canonical. */
    .macro TRAP name, instruction:vararg
\name:
    BEGIN
    \instruction
\name\()_resume:
    jmp path_done
    .endm
    TRAP trap_ud2, ud2
    TRAP trap_int3, int3
    TRAP trap_divide, divq %rcx
    TRAP trap_read, movq (%rax), %rbx
    TRAP trap_write, movq %rbx, (%rax)
    TRAP trap_jump, jmpq *%rax
    TRAP trap_hlt, hlt

    .section .rodata
    .globl path_traps
    .balign 8
path_traps:
    .quad trap_ud2, trap_int3, trap_divide, trap_read, trap_write, trap_jump, trap_hlt
    .globl path_resume
path_resume:
    .quad trap_ud2_resume, trap_int3_resume, trap_divide_resume, trap_read_resume
    .quad trap_write_resume, trap_jump_resume, trap_hlt_resume

/* The upcall entry: (rsp) is the upcall page. All registers into a struct io and back;
 * rax, rcx, r11 and the flags come from the frame then. */
    .text
    .globl path_upcall
path_upcall:
    pushq $0
    pushfq
    .irp reg, r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax
    pushq %\reg
    .endr
    movq %rsp, %rdi
    movq 17 * 8(%rsp), %rsi
    movq %rsp, %rbp
    andq $-16, %rsp
    cld
    call path_handle
    movq %rbp, %rsp
    .irp reg, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
    popq %\reg
    .endr
    movl $EXO_CALL_upcall_return, %eax
    syscall
    ud2
    .section .note.GNU-stack, "", @progbits
