/* SPDX-License-Identifier: MIT
 *
 * The ways into the library and out of it. GS is the thread's upcall page; the library's
 * stack is empty whenever the program runs. Where an upcall for an event can come while we
 * are on the way out (the event mask is set again, the registers are the program's), the
 * labels exit_* tell upcall.c what is still missing, so that it makes the program's own
 * context of it.
 *
 * Ways in: an upcall (upcall_entry), and a rewritten system call (LX_LIB_CALL: RCX holds
 * the return address, everything else is the program's, red zone included). */
#include "../../../abi/exo.h"
#include "exo_calls.h"
#include "../../../lib/exo/save.inc"

#define EVENTS %gs:0
#define EVENT_MASK %gs:8
#define F_RIP %gs:64
#define F_RFLAGS %gs:72
#define F_RSP %gs:80
#define F_RCX %gs:88
#define F_R11 %gs:96
#define F_RAX %gs:104
#define F_VECTOR %gs:112
#define F_ERROR %gs:120
#define F_ADDR %gs:128
#define T_USER_RIP %gs:1544
#define T_USER_RSP %gs:1552
#define T_STACK %gs:1560
#define T_GATE %gs:1584
#define LX_EVENTS 3
#define LX_THREAD_SPAN 0x8000
#define LEAF_CALLS 512
#define LEAF_FULL -4096 /* library.h */

/* In struct sigcontext_64: r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx; then these. */
#define C_REGS 0
#define C_RSP 120
#define C_RIP 128

/* struct regs below its rip; rcx and r11 as given. */
    .macro PUSH_REGS rcx=%rcx, r11=%r11
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq \rcx
    pushq %rax
    pushq %r8
    pushq %r9
    pushq %r10
    pushq \r11
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    .endm

    .section .text.entry, "ax"
/* LX_LIB_START, LX_LIB_UPCALL */
    jmp start
    .balign 16
    jmp upcall_entry
    .balign 32
/* LX_LIB_CALL: a system call that has become a jump. */
    movl %eax, %eax
    movq $0, EVENT_MASK
    movq %rcx, T_USER_RIP
    movq %rsp, T_USER_RSP
    movq T_STACK, %rsp
    cmpq $LEAF_CALLS, %rax
    jae 1f
    leaq leaf_calls(%rip), %r11
    movq (%r11,%rax,8), %r11
    testq %r11, %r11
    jz 1f
    pushq %rax
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %r8
    pushq %r9
    pushq %r10
    movq %r10, %rcx
    cld
    call *%r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdx
    popq %rsi
    popq %rdi
    cmpq $LEAF_FULL, %rax
    je leaf_full
    movq $LX_EVENTS, EVENT_MASK
    .globl exit_leaf
exit_leaf:
    testq $LX_EVENTS, EVENTS
    jnz leaf_event
    movq T_USER_RSP, %rsp
    jmp *T_USER_RIP
    .globl exit_leaf_end
leaf_event:
    movq $0, EVENT_MASK
exit_leaf_end:
    movq T_STACK, %rsp
    pushq $-1
    pushq T_USER_RSP
    pushfq
    pushq T_USER_RIP
    PUSH_REGS
    jmp event_here
leaf_full:
    popq %rax
1:  pushq %rax
    pushq T_USER_RSP
    pushfq
    pushq T_USER_RIP
    PUSH_REGS
    movq %rsp, %rdi
    cld
    call call_dispatch
    jmp leave_here

    .text
/* A thread begins: rdi says why, rsp is the end of its library stack. */
    .globl start
start:
    leaq -LX_THREAD_SPAN(%rsp), %rsi
    wrgsbase %rsi
    call thread_start
    ud2

    .globl upcall_entry
upcall_entry:
    cld
    movq %rax, F_RAX
    cmpq $EXO_UP_SYSCALL, F_VECTOR
    jne 1f
    movq T_STACK, %rsp
    movq $0, EVENT_MASK
    pushq %rax
    pushq F_RSP
    pushq F_RFLAGS
    pushq F_RIP
    PUSH_REGS F_RCX, F_R11
    movl $EXO_CALL_upcall_done, %eax
    syscall
    movq %rsp, %rdi
    call call_reflected
    jmp leave_here

1:  pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %r8
    pushq %r9
    pushq %r10
    call upcall_look
    popq %r10
    popq %r9
    popq %r8
    popq %rdx
    popq %rsi
    popq %rdi
    testl %eax, %eax
    jnz 2f
    movl $EXO_CALL_upcall_return, %eax
    syscall
    ud2

/* An event or exception of the program's: eax is a signal or 0. */
2:  movq T_STACK, %rsp
    movq $0, EVENT_MASK
    pushq $-1
    pushq F_RSP
    pushq F_RFLAGS
    pushq F_RIP
    movl %eax, %ecx
    movq F_RAX, %rax
    PUSH_REGS F_RCX, F_R11
    movl %ecx, %ebx
    movq F_VECTOR, %rbp
    movq F_ERROR, %r12
    movq F_ADDR, %r13
    movl $EXO_CALL_upcall_done, %eax
    syscall
    movq %rsp, %rdi
    movl %ebx, %esi
    movq %rbp, %rdx
    movq %r12, %rcx
    movq %r13, %r8
    call upcall_general
    jmp leave_here

    .globl leave
leave:
    movq %rdi, %rsp
leave_here:
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rax
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
    popq T_USER_RIP
    pushq 8(%rsp)
    popq T_USER_RSP
leave_flags:
    movq $LX_EVENTS, EVENT_MASK
    .globl exit_flags
exit_flags:
    testq $LX_EVENTS, EVENTS
    jnz 1f
    popfq
    .globl exit_last
exit_last:
    movq T_USER_RSP, %rsp
    jmp *T_USER_RIP
    .globl exit_event
exit_event:
1:  movq $0, EVENT_MASK
    .globl exit_end
exit_end:
    pushq T_USER_RIP
    PUSH_REGS
event_here:
    movq %rsp, %rdi
    cld
    call event_look
    jmp leave_here

/* leave_context(context, flags): with the registers of a signal handler's frame. */
    .globl leave_context
leave_context:
    movq T_STACK, %rsp
    pushq $-1
    pushq C_RSP(%rdi)
    pushq %rsi
    movq C_RSP(%rdi), %rax
    movq %rax, T_USER_RSP
    movq C_RIP(%rdi), %rax
    movq %rax, T_USER_RIP
    movq C_REGS(%rdi), %r8
    movq C_REGS+8(%rdi), %r9
    movq C_REGS+16(%rdi), %r10
    movq C_REGS+24(%rdi), %r11
    movq C_REGS+32(%rdi), %r12
    movq C_REGS+40(%rdi), %r13
    movq C_REGS+48(%rdi), %r14
    movq C_REGS+56(%rdi), %r15
    movq C_REGS+72(%rdi), %rsi
    movq C_REGS+80(%rdi), %rbp
    movq C_REGS+88(%rdi), %rbx
    movq C_REGS+96(%rdi), %rdx
    movq C_REGS+104(%rdi), %rax
    movq C_REGS+112(%rdi), %rcx
    movq C_REGS+64(%rdi), %rdi
    jmp leave_flags

/* long server6(op, a0, a1, a2, a3, a4, a5) */
    .globl server6
server6:
    SAVE
    movq 56(%rsp), %rbp
    movq %r9, %rbx
    movq %r8, %r10
    movq %rcx, %r9
    movq %rdx, %r8
    movq %rsi, %rdx
    movq %rdi, %rsi
    movq T_GATE, %rdi
    movl $EXO_CALL_call, %eax
    syscall
    testq %rax, %rax
    cmovnsq %rsi, %rax
    RESTORE
    ret

/* long user_copy(to, from, n): 0, or -EFAULT (14) when a fault was not repaired. The
 * upcall then goes on at user_fault. */
    .globl user_copy
user_copy:
    movq %rdx, %rcx
    shrq $3, %rcx
    rep movsq
    movl %edx, %ecx
    andl $7, %ecx
    rep movsb
    xorl %eax, %eax
    ret
/* long user_write_probe(to, n): 0 when the first and the last of n bytes can be written, which
 * changes nothing; else -EFAULT. */
    .globl user_write_probe
user_write_probe:
    lock orb $0, (%rdi)
    lock orb $0, -1(%rdi,%rsi)
    xorl %eax, %eax
    ret
    .globl user_copy_end
user_copy_end:
/* long user_copy_string(to, from, n): length without the end, -EFAULT, or n: no end. Eight
 * bytes at a time where they lie on one page, which then is there with the first of them. */
    .globl user_copy_string
user_copy_string:
    xorl %eax, %eax
    movabsq $0x0101010101010101, %r8
    movabsq $0x8080808080808080, %r9
1:  leaq 8(%rax), %rcx
    cmpq %rdx, %rcx
    ja 3f
    leal (%rsi,%rax), %ecx
    andl $4095, %ecx
    cmpl $4088, %ecx
    ja 3f
    movq (%rsi,%rax), %rcx
    movq %rcx, (%rdi,%rax)
    movq %rcx, %r10
    notq %r10
    subq %r8, %rcx
    andq %r9, %r10
    andq %r10, %rcx
    jnz 2f
    addq $8, %rax
    jmp 1b
2:  bsfq %rcx, %rcx
    shrl $3, %ecx
    addq %rcx, %rax
    ret
3:  cmpq %rdx, %rax
    je 4f
    movb (%rsi,%rax), %cl
    movb %cl, (%rdi,%rax)
    testb %cl, %cl
    jz 4f
    incq %rax
    jmp 1b
4:  ret
/* long user_same(from, to, n): 1 when the n bytes are the same, else 0; -EFAULT. Eight bytes at a
 * time, the last ones first, where names of one directory differ. Changes rax, rcx, rdx. */
    .globl user_same
user_same:
    xorl %eax, %eax
    subq $8, %rdx
    jb 3f
1:  movq (%rdi,%rdx), %rcx
    cmpq %rcx, (%rsi,%rdx)
    jne 2f
    subq $8, %rdx
    ja 1b
    movq (%rdi), %rcx
    cmpq %rcx, (%rsi)
    jne 2f
    incl %eax
2:  ret
3:  addq $8, %rdx
4:  decq %rdx
    js 5f
    movb (%rdi,%rdx), %cl
    cmpb %cl, (%rsi,%rdx)
    je 4b
    ret
5:  incl %eax
    ret
    .globl user_copy_string_end
user_copy_string_end:
    .globl user_fault
user_fault:
    movq $-14, %rax
    ret
    .section .note.GNU-stack, "", @progbits
