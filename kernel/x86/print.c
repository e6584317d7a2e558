/* SPDX-License-Identifier: MIT
 *
 * Messages of the kernel on the serial port, the end of the machine in a panic, and
 * the memory functions that the compiler calls.
 * Locking: one lock keeps the lines of different CPUs apart; a panic ignores it.
 */
#include <stdarg.h>
#include "x86.h"

volatile uint32_t panicking;
static uint32_t print_lock;

static void put_number(uint64_t value, unsigned base)
{
    char digits[24];
    int n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (n)
        serial_put(digits[--n]);
}

static void put_string(const char *s)
{
    for (s = s ? s : "(null)"; *s; s++)
        serial_put(*s);
}

/* %s %d %u %x, with l, of no negative numbers: what the kernel's messages use. */
static void print(const char *f, va_list args)
{
    for (; *f; f++) {
        if (*f != '%') {
            serial_put(*f);
            continue;
        }
        bool wide = *++f == 'l';
        if (wide) f++;
        if (*f == 's') {
            put_string(va_arg(args, const char *));
            continue;
        }
        put_number(wide ? va_arg(args, uint64_t) : va_arg(args, unsigned), *f == 'x' ? 16 : 10);
    }
}

void kprintf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    spin_lock(&print_lock);
    print(format, args);
    spin_unlock(&print_lock);
    va_end(args);
}

void panic(const char *format, ...)
{
    va_list args;
    __asm__ volatile("cli");
    if (__atomic_exchange_n(&panicking, 1, __ATOMIC_SEQ_CST))
        cpu_halt(); /* another CPU was first, or this one panics in its panic */
    if (ncpus > 1) ipi_nmi_others();
    put_string("\nPANIC: ");
    va_start(args, format);
    print(format, args);
    va_end(args);
    put_string("\nThe machine is stopped.\n");
    cpu_halt();
}

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    void *start = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    return start;
}

void *memset(void *to, int byte, size_t n)
{
    void *start = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
    return start;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;
    for (; n; n--, x++, y++)
        if (*x != *y) return *x - *y;
    return 0;
}
