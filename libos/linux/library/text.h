/* SPDX-License-Identifier: MIT
 *
 * Memory and strings for the library: text.c. */
#ifndef LX_TEXT_H
#define LX_TEXT_H
#include <stdarg.h>
#include <stddef.h>

void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
/* lib/exo/print.c's formatting. */
int exo_vformat(char *to, size_t size, const char *format, va_list list);
#endif
