/* SPDX-License-Identifier: MIT
 *
 * The smallest stubs and handlers: what is measured beside the kernel is these. */
#include "../../abi/exo.h"
#include "exo_calls.h"

#define UPCALL_VA 0x00007f8000000000 /* EXO_UPCALL_VA; main.c compares */
#define FRAME_RIP (UPCALL_VA + 64)
#define FRAME_RAX (UPCALL_VA + 104)
#define UD2_LENGTH 2

    .text
/* A server that gives back the words as they came; mask 0: no events. */
    .globl bench_serve
bench_serve:
    .globl bench_gate
bench_gate:
    xorl %edi, %edi
    movl $EXO_CALL_reply_wait, %eax
    syscall
    ud2

/* Upcall: goes on after the UD2. rcx and r11 are in the frame. */
    .globl bench_skip
bench_skip:
    movabsq %rax, FRAME_RAX
    movabsq $FRAME_RIP, %rcx
    addq $UD2_LENGTH, (%rcx)
    movl $EXO_CALL_upcall_return, %eax
    syscall

/* Upcall: bench_fault in C, then resumes. */
    .globl bench_upcall
bench_upcall:
    movabsq %rax, FRAME_RAX
    pushq %r10
    pushq %r9
    pushq %r8
    pushq %rdx
    pushq %rsi
    pushq %rdi
    movabsq $UPCALL_VA, %rdi
    call bench_fault
    popq %rdi
    popq %rsi
    popq %rdx
    popq %r8
    popq %r9
    popq %r10
    movl $EXO_CALL_upcall_return, %eax
    syscall
    .section .note.GNU-stack, "", @progbits
