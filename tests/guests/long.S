/* SPDX-License-Identifier: MIT
 *
 * Guests in 64-bit mode. */
#include "guest.inc"

    .section .rodata
    .code64

/* Every general register comes back inverted. */
    GUEST registers
    .irp reg, rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15
    not %\reg
    .endr
    hlt
    END registers

/* Touches rcx pages from rsi on: reads each, then writes its number. */
    GUEST touch
    xor %ebx, %ebx
1:  mov (%rsi), %rax
    mov %rbx, (%rsi)
    inc %rbx
    add $4096, %rsi
    cmp %rcx, %rbx
    jb 1b
    hlt
    END touch

/* Those that run for ever have interrupts on: see interrupts_stuck in the monitor. */

/* Reads rsi for ever and tells of what it should not see any more, rdi. */
    GUEST watch
    sti
1:  incq GUEST_DATA
    cmp %rdi, (%rsi)
    jne 1b
    mov %rdi, %rax
    out %eax, $GUEST_TELL
    jmp 1b
    END watch

    GUEST count
    sti
1:  incq GUEST_DATA
    jmp 1b
    END count

/* Interrupts on and off until GUEST_TICK was taken rcx times. */
    GUEST toggle
1:  cli
    incq GUEST_DATA + 8
    sti
    nop
    cmp %rcx, GUEST_DATA
    jb 1b
    cli
    hlt
    END toggle

/* Handlers, copied behind the guests that need them. */
    GUEST tick_handler
    incq GUEST_DATA
    iretq
    END tick_handler

    GUEST error_handler
    pop %rax
    mov %rax, GUEST_DATA
    mov %cr2, %rax
    mov %rax, GUEST_DATA + 8
    hlt
    END error_handler

    GUEST nmi_handler
    incq GUEST_DATA
    out %eax, $GUEST_TELL
    iretq
    END nmi_handler

/* xmm1 has to stay what it is, whoever runs between; counts the rounds. */
    GUEST vector
    sti
    movq %rdi, %xmm1
    pinsrq $1, %rdi, %xmm1
1:  movq %xmm1, %rax
    cmp %rax, %rdi
    jne 2f
    pextrq $1, %xmm1, %rax
    cmp %rax, %rdi
    jne 2f
    incq GUEST_DATA
    jmp 1b
2:  out %eax, $GUEST_TELL
    hlt
    END vector

    GUEST msrs
    mov $0xc0000082, %ecx /* LSTAR */
    mov $0x12345678, %eax
    mov $0xffff8000, %edx
    wrmsr
    xor %eax, %eax
    xor %edx, %edx
    rdmsr
    hlt
    END msrs

    GUEST clock
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
    hlt
    jmp guest_clock
    END clock

/* Changes its own page table behind INVLPG: the other half of what lies at 2 MiB. */
    GUEST remap
    mov $0x200000, %rsi
    mov (%rsi), %rax
    mov %rdi, GUEST_ROOT + 0x2000 + 8
    invlpg (%rsi)
    mov (%rsi), %rbx
    hlt
    mov (%rsi), %rcx
    hlt
    END remap

/* Instructions that exit, one after the other: the monitor knows their lengths. */
    GUEST exits
    cpuid
    hlt
    in $0x20, %eax
    out %al, %dx
    rep outsb
    rdmsr
    wrmsr
    mov %rax, %cr4
    mov %cr8, %rax
    mov %rax, %cr8
    mov %rbx, %cr0
    mov %dr0, %rax
    mov %rax, %dr7
    invd
    wbinvd
    rdpmc
    monitor
    mwait
    mov GUEST_FAR, %rax
    mov %rax, GUEST_FAR
    ud2
    END exits

    GUEST xget
    xor %ecx, %ecx
    xgetbv
    hlt
    END xget

    GUEST xcr
    xor %ecx, %ecx
    xor %edx, %edx
    mov $1, %eax
    xsetbv
    nop
    hlt
    END xcr

/* rdi, rax are the call; the instruction is the vendor's (patched). */
    GUEST hyper
    vmmcall
    hlt
    END hyper
