/* SPDX-License-Identifier: MIT
 *
 * The first instructions, from both boot protocols and of the other CPUs, up to
 * 64-bit C code. Nothing here runs a second time and nothing is shared.
 *
 * Boot tables: the first 4 GiB of physical memory, at 0 and in all windows, in
 * pages of 2 MiB; the first GiB at KERNEL_IMAGE too. memory.c replaces them.
 */
#include "percpu.h"

#define MULTIBOOT2_HEADER 0xe85250d6 /* Multiboot2 specification 2.0, 3.1.2 */
#define XEN_ELFNOTE_PHYS32_ENTRY 18  /* Xen: xen/include/public/elfnote.h */
#define SLOT(va) ((((va) >> 39) & 511) * 8)

    .section .multiboot, "a"
    .balign 8
multiboot_header:
    .long MULTIBOOT2_HEADER, 0, multiboot_end - multiboot_header
    .long -(MULTIBOOT2_HEADER + multiboot_end - multiboot_header)
    .short 1, 0 /* we want: command line, module, memory map */
    .long 20, 1, 3, 6
    .balign 8
    .short 3, 0 /* entry */
    .long 12, start_multiboot
    .balign 8
    .short 6, 0 /* modules on page boundaries */
    .long 8
    .short 0, 0 /* end */
    .long 8
multiboot_end:

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad start_pvh

/* ---- the boot CPU: 32-bit, flat segments, no paging ------------------------------ */
    .section .boot, "ax"
    .code32
    .global start_multiboot, start_pvh
start_pvh: /* EBX: hvm_start_info; EAX is undefined */
    xor %eax, %eax
start_multiboot: /* EAX: magic; EBX: information */
    cli; cld
    mov %eax, %ebp
    mov %ebx, %esi
    mov $boot_stack_end, %esp
    pushl $0 /* flags to known values */
    popfl

    mov $0x80000000, %eax
    cpuid
    cmp $0x80000001, %eax
    jb no_long_mode
    mov $0x80000001, %eax
    cpuid
    bt $29, %edx
    jnc no_long_mode
    bt $20, %edx
    jnc no_long_mode

    mov $boot_directories, %edi /* 4 GiB in entries of 2 MiB: present, writable, large */
    mov $0x83, %eax
    xor %edx, %edx
1:  mov %eax, (%edi)
    mov %edx, 4(%edi)
    add $8, %edi
    add $0x200000, %eax
    jnc 1b

    mov $boot_directories + 3, %eax
    mov %eax, image_pdpt
    .irp entry, 0, 8, 16, 24
    mov %eax, window_pdpt + \entry
    add $0x1000, %eax
    .endr

    mov $window_pdpt + 3, %eax
    mov %eax, kernel_root
    .irp slot, SLOT(WINDOW_TABLES), SLOT(WINDOW_ENVS), SLOT(WINDOW_THREADS), SLOT(WINDOW_CAPS), \
               SLOT(WINDOW_UPCALLS), SLOT(WINDOW_VECTORS), SLOT(WINDOW_VCPUS)
    mov %eax, kernel_root + \slot
    .endr
    movl $image_pdpt + 3, kernel_root + SLOT(KERNEL_IMAGE)
    movl $mmio_pdpt + 3, kernel_root + SLOT(KERNEL_MMIO)

    call long_mode
    ljmp $SEL_KERNEL_CODE, $start64

/* Turns on long mode with kernel_root; used by each CPU. Changes eax, ecx, edx. */
long_mode:
    mov %cr4, %eax
    or $0x20, %eax /* PAE */
    mov %eax, %cr4
    mov $kernel_root, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx /* EFER: LME, NXE */
    rdmsr
    or $0x900, %eax
    wrmsr
    mov %cr0, %eax
    and $0x9fffffff, %eax /* caches on */
    or $0x80010001, %eax  /* PG, WP, PE */
    mov %eax, %cr0
    lgdt boot_gdt_pointer
    ret

no_long_mode:
    mov $text_no_long_mode, %esi
complain: /* on the serial port, as the loader left it or at its reset value */
    mov $0x3fd, %dx
1:  in %dx, %al
    test $0x20, %al
    jz 1b
    mov $0x3f8, %dx
    lodsb
    test %al, %al
    jz 2f
    out %al, %dx
    jmp complain
2:  hlt
    jmp 2b

text_no_long_mode:
    .asciz "exovisor: this CPU lacks 64-bit mode (long mode) or no-execute pages (NX)\r\n"

    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff /* 64-bit code */
    .quad 0x00cf93000000ffff /* data */
    .quad 0x00cf9b000000ffff /* 32-bit code, for the trampoline */
boot_gdt_pointer:
    .short . - boot_gdt - 1
    .long boot_gdt

    .code64
start64:
    mov $SEL_KERNEL_DATA, %eax
    mov %eax, %ds; mov %eax, %es; mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs; mov %eax, %gs
    mov %ebp, %edi
    mov %esi, %esi
    movabs $first_stack_end, %rsp
    movabs $boot_main, %rax
    xor %ebp, %ebp
    call *%rax

/* ---- the other CPUs ------------------------------------------------------------------- */
/* Copied below 1 MiB (smp.c); a SIPI enters it in real mode with CS = its page. */
    .code16
trampoline:
    cli; cld
    mov %cs, %ax
    mov %ax, %ds
    lgdtl trampoline_gdt_pointer - trampoline
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $0x18, $start_other
trampoline_gdt_pointer:
    .short 31
    .long boot_gdt
trampoline_end:

    .code32
start_other:
    mov $SEL_KERNEL_DATA, %eax
    mov %eax, %ds; mov %eax, %es; mov %eax, %ss
    mov $boot_stack_end, %esp /* one CPU starts at a time */
    call long_mode
    ljmp $SEL_KERNEL_CODE, $start_other64
    .code64
start_other64:
    xor %eax, %eax
    mov %eax, %fs; mov %eax, %gs
    movabs $smp_stack, %rax
    mov (%rax), %rsp
    movabs $smp_main, %rax
    xor %ebp, %ebp
    call *%rax

    .section .boot_bss, "aw", @nobits
    .balign 4096
kernel_root: .skip 4096
window_pdpt: .skip 4096
image_pdpt: .skip 4096
mmio_pdpt: .skip 4096
boot_directories: .skip 4 * 4096
boot_stack: .skip 256
boot_stack_end:

/* Physical addresses of all this, for C code, which lies too far away to name it. */
    .section .rodata
    .global boot_tables
    .balign 8
boot_tables:
    .quad kernel_root, window_pdpt, image_pdpt, mmio_pdpt, trampoline
    .quad trampoline_end - trampoline

    .section .bss
    .balign 16
    .skip 8192
first_stack_end:

    .section .note.GNU-stack, "", @progbits
