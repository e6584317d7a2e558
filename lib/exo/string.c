/* SPDX-License-Identifier: MIT
 *
 * Memory and strings: what gcc expects to find, and little more. */
#include "exo.h"

void *memcpy(void *to, const void *from, size_t n)
{
    void *result = to;
    size_t quads = n / 8;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(quads) : : "memory");
    n &= 7;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    return result;
}

void *memmove(void *to, const void *from, size_t n)
{
    if ((uintptr_t)to - (uintptr_t)from >= n) return memcpy(to, from, n);
    volatile uint8_t *d = to;
    const volatile uint8_t *s = from;
    while (n--)
        d[n] = s[n];
    return to;
}

void *memset(void *to, int value, size_t n)
{
    void *result = to;
    uint64_t fill = 0x0101010101010101 * (uint8_t)value;
    size_t quads = n / 8;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(quads) : "a"(fill) : "memory");
    n &= 7;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(fill) : "memory");
    return result;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *p = a, *q = b;
    for (size_t i = 0; i < n; i++)
        if (p[i] != q[i]) return p[i] - q[i];
    return 0;
}

size_t strlen(const char *s)
{
    const volatile char *end = s;
    while (*end)
        end++;
    return (size_t)(end - s);
}

int strncmp(const char *a, const char *b, size_t n)
{
    for (; n; n--, a++, b++)
        if (*a != *b || !*a) return (uint8_t)*a - (uint8_t)*b;
    return 0;
}

int strcmp(const char *a, const char *b) { return strncmp(a, b, SIZE_MAX); }

char *strchr(const char *s, int c)
{
    for (; *s != (char)c; s++)
        if (!*s) return NULL;
    return (char *)s;
}
