/* SPDX-License-Identifier: MIT
 *
 * The first process of a Linux guest that does what is to be measured: no C library,
 * system calls alone (numbers: Linux, arch/x86/entry/syscalls/syscall_64.tbl). Before and
 * behind each piece of work it executes a marker, which the emulator's plugin (count.c)
 * writes down with the number of instructions executed so far; then it powers the machine
 * off. The same program runs on the emulator itself, for comparison.
 */
#include <stdint.h>

#define SYS_WRITE 1
#define SYS_IOCTL 16
#define SYS_NANOSLEEP 35
#define SYS_FORK 57
#define SYS_EXECVE 59
#define SYS_EXIT 60
#define SYS_WAIT4 61
#define SYS_GETPPID 110
#define SYS_REBOOT 169
#define TCSBRK 0x5409 /* with 1: until all output is sent */
#define REBOOT_MAGIC1 0xfee1dead
#define REBOOT_MAGIC2 0x28121969
#define REBOOT_POWER_OFF 0x4321fedc
#define CONSOLE 1

static long call(long number, long a, long b, long c, long d)
{
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

/* A NOP that nobody else uses: count.c. */
#define MARK(number) __asm__ volatile(".byte 0x0f, 0x1f, 0x44, 0x00, " #number ::: "memory")

static void write_drained(const char *text, unsigned long n)
{
    call(SYS_WRITE, CONSOLE, (long)text, (long)n, 0);
    call(SYS_IOCTL, CONSOLE, TCSBRK, 1, 0);
}

static void work_cpuid(void)
{
    for (int i = 0; i < 2000; i++) {
        uint32_t a = 0, b, c = 0, d;
        __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    }
}

static void work_getppid(void)
{
    for (int i = 0; i < 100000; i++)
        call(SYS_GETPPID, 0, 0, 0, 0);
}

static void work_console(void)
{
    char text[1024];
    for (unsigned i = 0; i < sizeof(text); i++)
        text[i] = i % 64 == 63 ? '\n' : (char)('a' + i % 26);
    write_drained(text, sizeof(text));
}

static void work_sleep(void)
{
    const int64_t millisecond[2] = {0, 1000000};
    for (int i = 0; i < 100; i++)
        call(SYS_NANOSLEEP, (long)millisecond, 0, 0, 0);
}

static void work_fork_exec(void)
{
    static const char path[] = "/init";
    const char *const arguments[] = {path, "end", 0};
    const char *const environment[] = {0};
    for (int i = 0; i < 200; i++) {
        long child = call(SYS_FORK, 0, 0, 0, 0);
        if (child == 0) {
            call(SYS_EXECVE, (long)path, (long)arguments, (long)environment, 0);
            call(SYS_EXIT, 1, 0, 0, 0);
        }
        call(SYS_WAIT4, child, 0, 0, 0);
    }
}

/* Marks 1 to 6: behind the boot and behind each piece of work; bench/guests.py knows them. */
__attribute__((used)) static void begin(const long *stack)
{
    static const char hello[] = "guest: first line of init\n";
    if (stack[0] == 2) call(SYS_EXIT, 0, 0, 0, 0); /* run by work_fork_exec */
    write_drained(hello, sizeof(hello) - 1);
    MARK(1);
    work_cpuid();
    MARK(2);
    work_getppid();
    MARK(3);
    work_console();
    MARK(4);
    work_sleep();
    MARK(5);
    work_fork_exec();
    MARK(6);
    call(SYS_REBOOT, REBOOT_MAGIC1, REBOOT_MAGIC2, REBOOT_POWER_OFF, 0);
    for (;;)
        call(SYS_EXIT, 0, 0, 0, 0);
}

__asm__(".globl _start\n_start: movq %rsp, %rdi; andq $-16, %rsp; call begin");
