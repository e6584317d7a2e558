/* SPDX-License-Identifier: MIT
 *
 * Guests that change the mode of their CPU, and those of 32-bit mode with PAE. */
#include "guest.inc"

    .section .rodata

/* From real mode to 64-bit mode by its own means; the GDT's pointer is at GUEST_DATA. */
    GUEST ascend
    .code16
    lgdtl GUEST_DATA
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $GUEST_CS32, $1f - guest_ascend + GUEST_CODE
    .code32
1:  mov $GUEST_DS, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $0x620, %eax /* PAE, OSFXSR, OSXMMEXCPT */
    mov %eax, %cr4
    mov $GUEST_ROOT, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx /* EFER */
    rdmsr
    or $0x100, %eax /* LME */
    wrmsr
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    ljmp $GUEST_CS, $2f - guest_ascend + GUEST_CODE
    .code64
2:  movabs $0x123456789abcdef0, %rax
    hlt
    END ascend

/* PAE paging outside long mode: reads through tables that others, then it itself, loaded. */
    GUEST pae
    .code32
    mov GUEST_DATA, %ebx
    mov %cr3, %eax
    mov %eax, %cr3
    mov GUEST_DATA + 4, %ecx
    hlt
    END pae
