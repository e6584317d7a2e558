/* SPDX-License-Identifier: MIT
 *
 * Calls of processes: words in registers as proto.h says, to lx_call in C, and back. */
#include "../../../abi/exo.h"
#include "exo_calls.h"
#include "../../../lib/exo/save.inc"

    .text
/* long lx_serve(mask): serves calls until an event in mask is there; the events. */
    .globl lx_serve
lx_serve:
    SAVE
    pushq %rdi
    xorl %esi, %esi
wait:
    movq (%rsp), %rdi
    xorl %edx, %edx
    xorl %r8d, %r8d
    xorl %r9d, %r9d
    xorl %r10d, %r10d
    movl $EXO_CALL_reply_wait, %eax
    syscall
    testq %rax, %rax
    cmovnsq %rdi, %rax
    addq $8, %rsp
    RESTORE
    ret

    .globl lx_gate_entry
lx_gate_entry:
    pushq %rbp
    pushq %rbx
    pushq %r10
    pushq %r9
    pushq %r8
    pushq %rdx
    movq %rsp, %rdx
    cld
    call lx_call
    addq $48, %rsp
    movq %rax, %rsi
    jmp wait
    .section .note.GNU-stack, "", @progbits
