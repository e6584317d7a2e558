/* SPDX-License-Identifier: MIT
 *
 * The ways into the kernel and out of it. Interrupts are off throughout.
 *
 * Slow entries save all registers in the running thread itself (struct thread begins
 * with them): exceptions and interrupts find RSP there (TSS.rsp0 is the end of its
 * regs), system calls push them there. Then C runs on the CPU's stack, and exit_user
 * leaves for whomever core chose. Fast paths save nothing but RIP, RFLAGS, RSP and do
 * what the C functions named beside them do in the common case; in any other they go,
 * having changed nothing, to the slow entry.
 *
 * A SYSCALL's RIP is canonical, since the last page below 2^47 is never bound; SYSRET
 * loads only such a one, or one that was checked when it was stored. Before SYSRET and
 * IRETQ every register holds a value of the thread's own or a defined one.
 */
#include "../../abi/exo.h"
#include "exo_calls.h"
#include "offsets.h"
#include "macros.h"
#include "percpu.h"

#define INDEX(name) (EXO_CALL_##name - EXO_CALL_BASE)
#define CS_IN_STUB 24 /* after vector and error: the interrupted code's CS */
#define VECTOR_PF 14
#define CR0_TS 8

/* Counting builds: entries into the kernel. */
    .macro COUNT_CROSSING
#ifdef EXO_COUNTING
    mov %rsp, %gs:PC_SCRATCH
    COUNT XC_CROSSINGS, %rsp
    mov %gs:PC_SCRATCH, %rsp
#endif
    .endm

/* From thread \f to \t: thread_switch in syscall.c. RSP is scratch; GS is the user's
 * afterwards. */
    .macro SWITCH f, t
    SPACE_ENTER \t, %rsp
    rdfsbase %rsp
    mov %rsp, T_FS(\f)
    mov T_FS(\t), %rsp
    wrfsbase %rsp
    swapgs
    rdgsbase %rsp
    mov %rsp, T_GS(\f)
    mov T_GS(\t), %rsp
    wrgsbase %rsp
    .endm

/* If the FPU is the running thread's, takes it away; \slow on CPUs where its registers
 * change with the thread. */
    .macro FPU_LEAVE slow
    cmpl $0, %gs:PC_TS_SET
    jne 9f
    cmpb $0, fpu_eager(%rip)
    jne \slow
    mov %cr0, %rsp
    or $CR0_TS, %rsp
    mov %rsp, %cr0
    movl $1, %gs:PC_TS_SET
9:
    .endm

    .macro SCRUB /* what a leaf call may have left of the kernel's */
    .irp reg, edi, esi, edx, r8d, r9d, r10d
    xor %\reg, %\reg
    .endr
    .endm

/* A SYSCALL's registers into the running thread, which is in rdi then. */
    .macro SAVE_SYSCALL
    mov %rsp, %gs:PC_SCRATCH
    mov %gs:PC_CUR, %rsp
    add $T_VECTOR, %rsp
    push %rdi
    push %rsi
    PUSH_REST
    mov %rsp, %rdi
    mov %gs:PC_SCRATCH, %rsi
    mov %rcx, T_RIP(%rdi)
    mov %r11, T_RFLAGS(%rdi)
    mov %rsi, T_RSP(%rdi)
    mov %gs:PC_STACK, %rsp
    .endm

    .text
/* ---- system calls ----------------------------------------------------------------- */
    .global syscall_entry
    .balign 64
syscall_entry:
    swapgs
    COUNT_CROSSING
    sub $EXO_CALL_BASE, %rax
    cmp $INDEX(reply_wait), %rax
    je fast_reply_wait
    jb null_or_call
    cmp $INDEX(yield_to), %rax /* up to there all others are full calls */
    ja 1f
    cmp $INDEX(upcall_return), %rax
    je fast_upcall_return
/* As at the entry, but rax is the index. */
syscall_slow:
    SAVE_SYSCALL
    lea full_table(%rip), %rcx
    call *(%rcx, %rax, 8)

/* Back to user mode, as the thread that core chose; the kernel stack is empty. The common
 * cases of exit_prepare are here. */
    .global exit_user
exit_user:
    mov %gs:PC_CORE, %rdi
    FAST_UNLESS exit_slow
    cmpl $0, CPU_RESCHED(%rdi)
    jne exit_resched
    mov CPU_CUR(%rdi), %eax
exit_chosen:
    shl $12, %rax
    add %gs:PC_THREADS, %rax
    cmpw $0, T_SLOW(%rax)
    jne exit_slow
    mov %gs:PC_CUR, %rcx
    cmp %rax, %rcx
    je exit_same
    FPU_LEAVE exit_slow
    mov %rax, %gs:PC_CUR
    SWITCH %rcx, %rax
    mov %rax, %rsp
exit_restore:
    .irp reg, r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi
    pop %\reg
    .endr
    add $16, %rsp
    iretq

exit_resched: /* sched_settle's short case */
    cmpl $RESCHED_TAKE_ONLY, CPU_RESCHED(%rdi)
    jne exit_slow
    mov CPU_TAKE(%rdi), %eax
    mov %eax, CPU_CUR(%rdi)
    movl $0, CPU_TAKE(%rdi)
    movl $0, CPU_RESCHED(%rdi)
    jmp exit_chosen
/* With more to do, an upcall due, from idle, or into a guest. */
    .global exit_slow
exit_slow:
    mov %gs:PC_STACK, %rsp
    call exit_prepare
exit_same:
    swapgs
    mov %rax, %rsp
    jmp exit_restore

1:  cmp $EXO_CALL_COUNT, %rax
    jae foreign_call
leaf_call:
    mov %rsp, %gs:PC_SCRATCH
    mov %gs:PC_STACK, %rsp
    push %r11
    push %rcx
    lea call_table(%rip), %r11
    mov %r10, %rcx
    call *(%r11, %rax, 8)
    mov %gs:PC_CORE, %rdi
    cmpq $0, CPU_RESCHED(%rdi) /* pend_count too */
    jne leaf_more
leaf_exit:
    pop %rcx
    pop %r11
    SCRUB
    mov %gs:PC_SCRATCH, %rsp
    swapgs
    sysretq

/* Something is left to do: a quiesce round, then perhaps another thread to run. */
leaf_more:
    push %rax
    sub $8, %rsp
    cmpl $0, CPU_PEND_COUNT(%rdi)
    je 1f
    call leaf_commit
1:  add $8, %rsp
    pop %rax
    mov %gs:PC_CORE, %rdi
    cmpl $0, CPU_RESCHED(%rdi)
    je leaf_exit
    pop %rcx
    pop %r11
    SCRUB
    mov %gs:PC_SCRATCH, %rsp
    SAVE_SYSCALL
    jmp exit_user

/* A table entry: takes the leaf path's steps back, then the slow way. */
    .global syscall_full
syscall_full:
    mov 8(%rsp), %rcx
    mov 16(%rsp), %r11
    mov %gs:PC_SCRATCH, %rsp
    jmp syscall_slow

/* ---- call: sys_call in ipc.c ---------------------------------------------------------- */
/* In: rdi gate. The words, all registers but rax, rcx, rdi, rsp, r11, stay where they are. */
null_or_call:
    test %eax, %eax
    jz leaf_call
    mov %gs:PC_CUR, %rax
    mov %rcx, T_RIP(%rax)
    mov %r11, T_RFLAGS(%rax)
    mov %rsp, T_RSP(%rax)
    mov %rdi, T_rdi(%rax)
    FAST_UNLESS call_slow
    GATE_FIND %rax, %rdi, %r11, %rcx, %rax, %esp, %ecx, call_slow
    mov %rax, %rdi
    mov %gs:PC_CUR, %rax
    mov %gs:PC_WAIT_HERE, %rsp
    cmp %rsp, T_STATE(%r11) /* state, cpu, slow */
    jne call_slow
    mov T_DEPTH(%rax), %esp
    cmp $EXO_CHAIN_MAX, %esp
    jae call_slow
    FPU_LEAVE call_slow
    mov T_DEPTH(%rax), %esp
    inc %esp
    mov %esp, T_DEPTH(%r11)
    movl $EXO_T_CALLING, T_STATE(%rax)
    movl $EXO_T_READY, T_STATE(%r11)
    mov T_SELF(%rax), %esp
    mov %esp, T_CALLER(%r11)
    mov T_SELF(%r11), %esp
    mov %esp, T_CALLEE(%rax)
    mov %gs:PC_CORE, %rax
    mov %esp, CPU_CUR(%rax)
    mov %gs:PC_CUR, %rax
    mov %r11, %gs:PC_CUR
    SWITCH %rax, %r11
    xor %eax, %eax
    mov T_RSP(%r11), %rsp
    mov T_RFLAGS(%r11), %r11
    sysretq

call_slow:
    mov %gs:PC_CUR, %rax
    mov T_rdi(%rax), %rdi
    mov T_RIP(%rax), %rcx
    mov T_RFLAGS(%rax), %r11
    mov T_RSP(%rax), %rsp
    mov $INDEX(call), %eax
    jmp syscall_slow

/* ---- reply_wait: sys_reply_wait in ipc.c --------------------------------------------------- */
/* In: rdi mask. To the caller's side: rax = rdi = 0. */
fast_reply_wait:
    mov %gs:PC_CUR, %rax
    mov %rcx, T_RIP(%rax)
    mov %r11, T_RFLAGS(%rax)
    mov %rsp, T_RSP(%rax)
    FAST_UNLESS reply_slow
    cmpq $0, T_IN_HANDLER(%rax) /* queue_head too */
    jne reply_slow
    mov T_CALLER(%rax), %ecx
    test %ecx, %ecx
    jz reply_slow
    shl $12, %rcx
    add %gs:PC_THREADS, %rcx
    mov %gs:PC_CALLING_HERE, %rsp
    cmp %rsp, T_STATE(%rcx) /* state, cpu, slow */
    jne reply_guest /* vmenter.S */
    test %rdi, %rdi
    jnz reply_events
reply_quiet:
    FPU_LEAVE reply_slow
    mov %rdi, T_WAIT_MASK(%rax)
    movl $0, T_CALLER(%rax)
    movl $EXO_T_WAIT, T_STATE(%rax)
    movl $EXO_T_READY, T_STATE(%rcx)
    mov %rcx, %gs:PC_CUR
    mov T_SELF(%rcx), %r11d
    mov %gs:PC_CORE, %rdi
    mov %r11d, CPU_CUR(%rdi)
    SWITCH %rax, %rcx
    xor %eax, %eax
    xor %edi, %edi
    mov T_RFLAGS(%rcx), %r11
    mov T_RSP(%rcx), %rsp
    mov T_RIP(%rcx), %rcx
    sysretq

reply_events:
    mov T_UPCALL(%rax), %r11d
    shl $12, %r11
    add %gs:PC_UPCALLS, %r11
    test %rdi, UP_EVENTS(%r11)
    jz reply_quiet
    .global reply_slow
reply_slow:
    mov T_RIP(%rax), %rcx
    mov T_RFLAGS(%rax), %r11
    mov T_RSP(%rax), %rsp
    mov $INDEX(reply_wait), %eax
    jmp syscall_slow

/* ---- upcalls ---------------------------------------------------------------------------------- */
/* sys_upcall_return in event.c */
fast_upcall_return:
    FAST_UNLESS return_slow
    mov %gs:PC_CUR, %rax
    cmpl $0, T_IN_HANDLER(%rax)
    je return_slow
    cmpw $0, T_SLOW(%rax)
    jne return_slow
    mov %rcx, T_rcx(%rax)
    mov T_UPCALL(%rax), %ecx
    shl $12, %rcx
    add %gs:PC_UPCALLS, %rcx
    mov %r11, T_r11(%rax)
    mov UP_EVENTS(%rcx), %r11
    test %r11, UP_MASK(%rcx)
    jnz return_slow_saved
    mov FR_RIP(%rcx), %r11
    cmp %gs:PC_VA_END, %r11
    jae return_slow_saved
    mov %r11, T_RIP(%rax)
    movl $0, T_IN_HANDLER(%rax)
    mov FR_RFLAGS(%rcx), %r11
    and $FLAGS_USER, %r11d
    or $FLAGS_FIXED, %r11d
    mov %r11, T_RFLAGS(%rax)
    mov FR_RSP(%rcx), %r11
    mov %r11, T_RSP(%rax)
    mov FR_R11(%rcx), %r11
    lea T_RIP(%rax), %rsp
    mov FR_RAX(%rcx), %rax
    mov FR_RCX(%rcx), %rcx
    swapgs
    iretq

return_slow_saved:
    mov T_rcx(%rax), %rcx
    mov T_r11(%rax), %r11
return_slow:
    mov $INDEX(upcall_return), %eax
    jmp syscall_slow

/* A system call that is not ours, its number less our base in rax: syscall_foreign. */
foreign_call:
    add $EXO_CALL_BASE, %rax
    mov %rsp, %gs:PC_SCRATCH
    FAST_UNLESS foreign_slow
    mov %gs:PC_CUR, %rsp
    cmpq $0, T_UPCALL_ENTRY(%rsp)
    je foreign_slow
    cmpl $0, T_IN_HANDLER(%rsp)
    jne foreign_slow
    movl $1, T_IN_HANDLER(%rsp)
    mov %rdi, T_rdi(%rsp)
    mov T_UPCALL(%rsp), %edi
    shl $12, %rdi
    add %gs:PC_UPCALLS, %rdi
    mov %rax, FR_RAX(%rdi)
    mov %rcx, FR_RIP(%rdi)
    mov %rcx, FR_RCX(%rdi)
    mov %r11, FR_RFLAGS(%rdi)
    mov %r11, FR_R11(%rdi)
    movq $EXO_UP_SYSCALL, FR_VECTOR(%rdi)
    xor %ecx, %ecx
    mov %rcx, FR_ERROR(%rdi)
    mov %rcx, FR_ADDR(%rdi)
    mov %gs:PC_SCRATCH, %rcx
    mov %rcx, FR_RSP(%rdi)
    mov T_UPCALL_ENTRY(%rsp), %rcx
    mov $FLAGS_FIXED, %r11d
    mov T_rdi(%rsp), %rdi
    mov T_UPCALL_SP(%rsp), %rsp
    swapgs
    sysretq

foreign_slow:
    mov %gs:PC_SCRATCH, %rsp
    SAVE_SYSCALL
    call syscall_foreign
    jmp exit_user

/* ---- exceptions and interrupts ----------------------------------------------------------------- */
/* 256 stubs of 16 bytes. Vectors with an error code, and those with stacks of their own:
 * Intel SDM vol. 3, 6.15; the stacks are assigned in cpu.c. */
    .macro STUB common
    .balign 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || \
          vector == 29 || vector == 30)
    push $0
    .endif
    push $vector
    jmp \common
    .endm

    .global trap_entry
    .balign 16
trap_entry:
    .set vector, 0
    .rept 256
    .if vector == 2 || vector == 8 || vector == 18
    STUB trap_stop
    .elseif vector == 1
    STUB trap_debug
    .elseif vector == 7 || vector >= 32
    STUB trap_slow
    .else
    STUB trap_fault
    .endif
    .set vector, vector + 1
    .endr

/* An exception of user code. Into its handler at once, all registers but those in the
 * frame as they were: upcall_enter in event.c. */
    .balign 16
trap_fault:
    testb $3, CS_IN_STUB(%rsp)
    jz trap_stop
    push %rdi
    push %rsi
    swapgs
    COUNT_CROSSING
    FAST_UNLESS trap_save
    mov %gs:PC_CUR, %rdi
    cmpq $0, T_UPCALL_ENTRY(%rdi)
    je trap_save
    cmpl $0, T_IN_HANDLER(%rdi)
    jne trap_save
    movl $1, T_IN_HANDLER(%rdi)
    mov T_UPCALL(%rdi), %esi
    shl $12, %rsi
    add %gs:PC_UPCALLS, %rsi
    mov %rax, FR_RAX(%rsi)
    mov %rcx, FR_RCX(%rsi)
    mov %r11, FR_R11(%rsi)
    mov T_RIP(%rdi), %rcx
    mov %rcx, FR_RIP(%rsi)
    mov T_RFLAGS(%rdi), %rcx
    mov %rcx, FR_RFLAGS(%rsi)
    mov T_RSP(%rdi), %rcx
    mov %rcx, FR_RSP(%rsi)
    mov T_ERROR(%rdi), %rcx
    mov %rcx, FR_ERROR(%rsi)
    xor %r11d, %r11d
    mov T_VECTOR(%rdi), %rcx
    mov %rcx, FR_VECTOR(%rsi)
    cmp $VECTOR_PF, %ecx
    jne 1f
    mov %cr2, %r11
1:  mov %r11, FR_ADDR(%rsi)
    mov T_UPCALL_ENTRY(%rdi), %rcx
    mov $FLAGS_FIXED, %r11d
    mov T_rsi(%rdi), %rsi
    mov T_UPCALL_SP(%rdi), %rsp
    mov T_rdi(%rdi), %rdi
    swapgs
    sysretq

trap_slow:
    testb $3, CS_IN_STUB(%rsp)
    jz trap_idle
    push %rdi
    push %rsi
    swapgs
    COUNT_CROSSING
trap_save:
    PUSH_REST
    mov %rsp, %rdi
    mov %gs:PC_STACK, %rsp
    cld
    call trap_user
    jmp exit_user

/* An interrupt in the kernel: interrupts are on only while it idles, and idling has
 * nothing to come back to. An exception in the kernel is the end. */
trap_idle:
    mov (%rsp), %rdi
    cmp $VECTOR_IRQ, %rdi
    jb trap_stop
    mov %gs:PC_STACK, %rsp
    call trap_interrupt
    jmp exit_slow

/* #DB came on a stack of its own: user code's goes where the others are. */
trap_debug:
    testb $3, CS_IN_STUB(%rsp)
    jz trap_stop
    push %rdi
    push %rsi
    swapgs
    COUNT_CROSSING
    PUSH_REST
    cld
    mov %rsp, %rsi
    mov %gs:PC_CUR, %rdi
    mov $T_REGS_END / 8, %ecx
    rep movsq
    mov %gs:PC_CUR, %rdi
    mov %gs:PC_STACK, %rsp
    call trap_user
    jmp exit_user

/* Whatever GS is at this moment, the GDT lies in this CPU's percpu. */
trap_stop:
    push %rdi
    push %rsi
    PUSH_REST
    cld
    mov %rsp, %rdi
    sub $16, %rsp
    sgdt (%rsp)
    mov 2(%rsp), %rax
    sub $PC_GDT, %rax
    wrgsbase %rax
    and $-16, %rsp
    call trap_panic

    .section .note.GNU-stack, "", @progbits
