/* SPDX-License-Identifier: MIT
 *
 * Guests in real mode; segment bases are 0. */
#include "guest.inc"

    .section .rodata
    .code16

    GUEST halt
    hlt
    mov $0x1234, %ax
    hlt
    END halt

/* An interrupt with no place to go: shutdown. */
    GUEST triple
    lidtw GUEST_DATA /* limit 0 there */
    int3
    END triple

    GUEST spin
    cli
1:  incl GUEST_DATA
    jmp 1b
    END spin

/* Interrupts are on behind HLT only; the handler counts. */
    GUEST sleep
    xor %ax, %ax
    mov %ax, %ds
    cli
    sti
    hlt
    cli
    incl GUEST_DATA + 4
    hlt
    END sleep

    GUEST sleep_handler
    incl GUEST_DATA
    iretw
    END sleep_handler

/* Ports: writes the scratch register of a serial port and reads it back, again and again. */
    GUEST port
    mov $0x3ff, %dx
1:  mov $0x5a, %al
    out %al, %dx
    xor %al, %al
    in %dx, %al
    hlt
    jmp 1b
    END port
