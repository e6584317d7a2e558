/* SPDX-License-Identifier: MIT
 *
 * Memory and text (string.c, format.c), which call nothing of the system's. */
#ifndef EXO_TEXT_H
#define EXO_TEXT_H
#include <stdarg.h>
#include <stddef.h>

void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strchr(const char *s, int c);
/* Copies at most size - 1 characters, always ends the string. */
void exo_strcpy(char *to, const char *from, size_t size);

/* Up to size - 1 characters and an end. %d %u %x %c %s %p %%, with l, 0, - and a width. How many there
 * would be with more room. */
int exo_format(char *to, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int exo_vformat(char *to, size_t size, const char *format, va_list list);
/* "RANGE: names outside ..." for -EXO_E_RANGE or EXO_E_RANGE. */
const char *exo_strerror(long error);
/* Writes the processor's name, as CPUID tells it, or "unknown"; returns it. */
#define EXO_CPU_NAME 49
const char *exo_cpu_name(char name[EXO_CPU_NAME]);
#endif
