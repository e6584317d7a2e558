/* SPDX-License-Identifier: MIT
 *
 * A boot sector for the test of firmware: says on COM1 that it runs, then each key that the
 * firmware's keyboard service gives; 'r' resets the machine, 'p' powers it off. */
    .code16
    .globl _start
_start:
    ljmp $0, $1f
1:  xor %ax, %ax
    mov %ax, %ds
    mov %ax, %ss
    mov $0x7c00, %sp
    mov $message, %si
1:  lodsb
    test %al, %al
    jz keys
    call put
    jmp 1b
keys:
    mov $0, %ah /* INT 16h, function 0: waits for a key */
    int $0x16
    push %ax
    mov $'<', %al
    call put
    pop %ax
    push %ax
    call put
    mov $'>', %al
    call put
    mov $'\n', %al
    call put
    pop %ax
    cmp $'r', %al
    je reset
    cmp $'p', %al
    jne keys
    mov $0x604, %dx /* ACPI's PM1a control: SLP_EN, S5 */
    mov $0x3400, %ax
    out %ax, %dx
reset:
    mov $0xcf9, %dx
    mov $6, %al
    out %al, %dx
1:  hlt
    jmp 1b
put:
    mov $0x3f8, %dx
    out %al, %dx
    ret
message:
    .asciz "boot sector: here\n"
    .org 510
    .word 0xaa55
