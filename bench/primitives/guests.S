/* SPDX-License-Identifier: MIT
 *
 * Guests that measure: each does its operation rcx times between two RDTSCs, whose own
 * cost is left in, and stores the ticks from GUEST_DATA on; then it halts. r12..r14 and
 * rdi are its own. */
#include "../../tests/guests/guest.inc"

#define BENCH_SWITCHED 50 /* ticks that a turn of a guest that nobody interrupts does not take */

    .macro MEASURED name
    GUEST \name
    mov %rcx, %r13
    mov $GUEST_DATA, %r14d
1:  rdtsc
    mov %eax, %r12d
    .endm
    .macro TAKEN name
    rdtsc
    sub %r12d, %eax
    mov %rax, (%r14)
    add $8, %r14
    dec %r13
    jnz 1b
    hlt
    END \name
    .endm

    .section .rodata
    MEASURED bench_empty
    TAKEN bench_empty

    MEASURED bench_cpuid
    cpuid
    TAKEN bench_cpuid

    MEASURED bench_hypercall
    vmmcall
    TAKEN bench_hypercall

    MEASURED bench_pio
    in $0x60, %al
    TAKEN bench_pio

    MEASURED bench_mmio
    mov GUEST_FAR, %eax
    TAKEN bench_mmio

/* A page that is not there yet: rdi, then the next. */
    MEASURED bench_touch
    mov (%rdi), %eax
    add $4096, %rdi
    TAKEN bench_touch

/* The monitor stores its time at rdi and injects; the handler compares. */
    MEASURED bench_inject
    vmmcall
    TAKEN bench_inject

    GUEST bench_handler
    rdtsc
    sub (%rdi), %eax
    mov %rax, 4096(%r14)
    iretq
    END bench_handler

/* Stores the time at rdi again and again. If somebody else did so meanwhile, a while ago, that
 * is how long it took from it to us. */
    GUEST bench_switch
    mov %rcx, %r13
    mov $GUEST_DATA, %r14d
1:  mov (%rdi), %r8d
    rdtsc
    mov %eax, %r9d
    mov %r8d, %eax
    cmpxchg %r9d, (%rdi)
    jne 1b
    sub %r8d, %r9d
    cmp $BENCH_SWITCHED, %r9d
    jl 1b
    mov %r9, (%r14)
    add $8, %r14
    dec %r13
    jnz 1b
    hlt
    END bench_switch

    GUEST bench_first
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
    hlt
    END bench_first
