/* SPDX-License-Identifier: MIT
 *
 * Entries and calls that C cannot write: upcalls, gates, tasks, and the calls whose
 * words are registers. Words are rsi, rdx, r8, r9; the other registers that travel
 * (r10, rbx, rbp, r12..r15) are cleared before, so nothing of ours leaks, and are
 * whatever the other side made of them afterwards. */
#include "../../abi/exo.h"
#include "exo_calls.h"
#include "save.inc"

#define PAGE_RAX 104 /* exo_upcall_page.frame.rax */

    .macro SCRUB
    xorl %r10d, %r10d
    xorl %ebx, %ebx
    xorl %ebp, %ebp
    xorl %r12d, %r12d
    xorl %r13d, %r13d
    .endm
    .macro LOAD_WORDS from
    movq 0(\from), %rsi
    movq 8(\from), %rdx
    movq 16(\from), %r8
    movq 24(\from), %r9
    .endm
    .macro STORE_WORDS to
    movq %rsi, 0(\to)
    movq %rdx, 8(\to)
    movq %r8, 16(\to)
    movq %r9, 24(\to)
    .endm

    .text
/* long exo_call_x(gate, word[4], item, deadline) */
    .globl exo_call_x
exo_call_x:
    SAVE
    pushq %rsi
    movq %rdx, %r14
    movq %rcx, %r15
    movl $EXO_CALL_call_x, %eax
    jmp call_words

/* long exo_call(gate, word[4]) */
    .globl exo_call
exo_call:
    SAVE
    pushq %rsi
    xorl %r14d, %r14d
    xorl %r15d, %r15d
    movl $EXO_CALL_call, %eax
call_words:
    movq %rsi, %rcx
    LOAD_WORDS %rcx
    SCRUB
    syscall
    popq %rcx
    testq %rax, %rax
    js 1f
    STORE_WORDS %rcx
1:  RESTORE
    ret

/* long exo_serve(server, mask): [rsp] server, [rsp + 8] mask, both below the saved
 * registers; a gate's entry finds the stack pointer of the reply_wait. */
    .globl exo_serve
exo_serve:
    SAVE
    pushq %rsi
    pushq %rdi
    xorl %esi, %esi
    xorl %edx, %edx
    xorl %r8d, %r8d
    xorl %r9d, %r9d
serve_wait:
    SCRUB
    xorl %r14d, %r14d
    xorl %r15d, %r15d
    movq 8(%rsp), %rdi
    movl $EXO_CALL_reply_wait, %eax
    syscall
    testq %rax, %rax
    js 1f
    movq %rdi, %rax
1:  addq $16, %rsp
    RESTORE
    ret

    .globl exo_gate_entry
exo_gate_entry:
    movq (%rsp), %rcx
    subq $40, %rsp
    STORE_WORDS %rsp
    movq %rsp, %rsi
    movq %rax, %rdx
    cld
    call *%rcx
    LOAD_WORDS %rsp
    addq $40, %rsp
    jmp serve_wait

/* long exo_reply_wait(mask) */
    .globl exo_reply_wait
exo_reply_wait:
    SAVE
    SCRUB
    xorl %esi, %esi
    xorl %edx, %edx
    xorl %r8d, %r8d
    xorl %r9d, %r9d
    xorl %r14d, %r14d
    xorl %r15d, %r15d
    movl $EXO_CALL_reply_wait, %eax
wait_out:
    syscall
wait_done:
    testq %rax, %rax
    js 1f
    movq %rdi, %rax
1:  RESTORE
    ret

/* long exo_reply_wait_x(mask, item): no words */
    .globl exo_reply_wait_x
exo_reply_wait_x:
    SAVE
    SCRUB
    movq %rsi, %r14
    xorl %esi, %esi
    xorl %edx, %edx
    xorl %r8d, %r8d
    xorl %r9d, %r9d
    xorl %r15d, %r15d
    movl $EXO_CALL_reply_wait_x, %eax
    jmp wait_out

/* The gates of virtual CPUs: the stack pointer of the reply_wait points to what goes on. */
    .globl exo_vm_entry
exo_vm_entry:
    jmp *(%rsp)

/* long exo_vm_wait(mask, set, get, words). Words: badge, reason, filled, three details. */
    .globl exo_vm_wait
exo_vm_wait:
    SAVE
    pushq %rcx
    pushq $vm_waited
    movl $EXO_CALL_reply_wait, %eax
    syscall
    addq $16, %rsp
    jmp wait_done

vm_waited:
    popq %rcx
    popq %rcx
    movq %rdi, 0(%rcx)
    movq %rsi, 8(%rcx)
    movq %rdx, 16(%rcx)
    movq %r8, 24(%rcx)
    movq %r9, 32(%rcx)
    movq %r10, 40(%rcx)
    xorl %eax, %eax
    RESTORE
    ret

/* long exo_vm_serve(mask, server): [rsp + 8] server, [rsp + 16] mask. The words are where a
 * C function wants them, but for one. */
    .globl exo_vm_serve
exo_vm_serve:
    SAVE
    pushq %rdi
    pushq %rsi
    pushq $vm_served
    xorl %esi, %esi
    xorl %edx, %edx
    jmp vm_serve_wait

vm_served:
    movq %r10, %rcx
    call *8(%rsp)
    movq %rax, %rsi
    movq 16(%rsp), %rdi
vm_serve_wait:
    movl $EXO_CALL_reply_wait, %eax
    syscall
    addq $24, %rsp
    jmp wait_done

/* The general upcall entry: rsp is the upcall stack's top, where the address of the
 * upcall page lies; rcx and r11 are in the frame, rax is ours to put there. */
    .globl exo_upcall_entry
exo_upcall_entry:
    movq (%rsp), %rcx
    movq %rax, PAGE_RAX(%rcx)
    pushq %r10
    pushq %r9
    pushq %r8
    pushq %rdx
    pushq %rsi
    pushq %rdi
    movq %rcx, %rdi
    movq %rsp, %rsi
    cld
    call exo_upcall
    popq %rdi
    popq %rsi
    popq %rdx
    popq %r8
    popq %r9
    popq %r10
    movl $EXO_CALL_upcall_return, %eax
    syscall
    ud2

/* Where a task's thread begins: rdi is its struct exo_task. */
    .globl exo_task_entry
exo_task_entry:
    xorl %ebp, %ebp
    wrfsbase %rdi
    call exo_task_run
    ud2
    .section .note.GNU-stack, "", @progbits
