/* SPDX-License-Identifier: MIT
 *
 * Where the first thread of a program begins: rdi is the startup page's address,
 * rsp the end of its stack. */
    .section .text.start, "ax"
    .globl _start
_start:
    andq $-16, %rsp
    xorl %ebp, %ebp
    call exo_start
    ud2
    .section .note.GNU-stack, "", @progbits
