/* SPDX-License-Identifier: MIT
 *
 * The beginning of the hostile guest: a Multiboot header (0.6.96, 3.1), the stack, and what
 * the second CPU runs from a SIPI on. Flat 32-bit mode, no paging. */
#define MAGIC 0x1badb002
#define FLAGS 3
#define TRAMPOLINE 0x7000
#define STACK 0x4000

    .section .text.start, "ax"
    .globl _start
_start:
    jmp 1f
    .balign 4
    .long MAGIC, FLAGS, -(MAGIC + FLAGS)
1:  mov $stack + STACK, %esp
    push %ebx
    call guest_main
2:  cli
    hlt
    jmp 2b

/* Copied to TRAMPOLINE: real mode, CS there. */
    .globl second_begin, second_end
    .code16
second_begin:
    cli
    mov %cs, %ax
    mov %ax, %ds
    lgdtl second_gdt - second_begin
    mov $1, %eax
    mov %eax, %cr0
    ljmpl $8, $second_flat
    .balign 8
second_table:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
second_gdt:
    .word second_gdt - second_table - 1
    .long TRAMPOLINE + second_table - second_begin
second_end:
    .code32
second_flat:
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $stack + 2 * STACK, %esp
    call second_main
1:  hlt
    jmp 1b

    .bss
    .balign 16
stack:
    .space 2 * STACK
