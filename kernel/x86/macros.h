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

/* Thread \t's address space, and where its registers go. */
    .macro SPACE_ENTER t, via
    lea T_REGS_END(\t), \via
    mov \via, %gs:PC_RSP0
    mov T_CR3(\t), \via
    cmp \via, %gs:PC_CR3
    je 8f
    mov \via, %gs:PC_CR3
    mov \via, %cr3
    COUNT XC_SWITCHES, \via
8:
    .endm

/* The gate that thread \from names by \sel: its thread, entry and badge as they were together; \slow
 * where it is none. \entry is \kind's register. */
    .macro GATE_FIND from, sel, thread, entry, badge, seq, kind, slow
    cmp T_NSEL(\from), \sel
    jae \slow
    add T_CAP_FIRST(\from), \sel
    shl $6, \sel
    add %gs:PC_CAPS, \sel
    mov CAP_SEQ(\sel), \seq
    movzwl CAP_KIND(\sel), \kind
    and $GATE_CALL | 0xff, \kind
    cmp $GATE_CALL, \kind
    jne \slow
    mov CAP_BASE(\sel), \thread
    mov CAP_COUNT(\sel), \entry
    mov CAP_BADGE(\sel), \badge
    cmp \seq, CAP_SEQ(\sel)
    jne \slow
    shl $12, \thread
    add %gs:PC_THREADS, \thread
    .endm
