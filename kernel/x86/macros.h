/* SPDX-License-Identifier: MIT
 *
 * What the assembly of entry.S and vmenter.S has in common.
 */
/* clang-format off */

/* Counting builds: one more of these. */
    .macro COUNT what, via
#ifdef EXO_COUNTING
    mov %gs:PC_SHOWN, \via
    incq \what(\via)
#endif
    .endm

/* Debug builds with slow=1: C does everything, for comparison (tests/paths). */
    .macro FAST_UNLESS slow
#ifdef EXO_DEBUG
    cmpl $0, %gs:PC_SLOW_ONLY
    jne \slow
#endif
    .endm

    .macro PUSH_REST /* after rdi, rsi */
    .irp reg, rdx, rcx, rax, r8, r9, r10, r11, rbx, rbp, r12, r13, r14, r15
    push %\reg
    .endr
    .endm
