/* SPDX-License-Identifier: MIT
 *
 * Text made from numbers and other text. Calls nothing of the system's: tests use it as it is on
 * any machine. */
#include "exo.h"
#include <cpuid.h>

void exo_strcpy(char *to, const char *from, size_t size)
{
    size_t n = EXO_MIN(strlen(from), size - 1);
    memcpy(to, from, n);
    to[n] = 0;
}

struct sink {
    char *to;
    size_t size, used;
};

static void put(struct sink *sink, char c)
{
    if (sink->used + 1 < sink->size) sink->to[sink->used] = c;
    sink->used++;
}

static void put_padded(struct sink *sink, const char *text, size_t length, int width, bool left,
                       char fill)
{
    int padding = width - (int)length;
    if (!left)
        while (padding-- > 0)
            put(sink, fill);
    for (size_t i = 0; i < length; i++)
        put(sink, text[i]);
    if (left)
        while (padding-- > 0)
            put(sink, ' ');
}

static void put_number(struct sink *sink, uint64_t value, unsigned base, bool negative, int width,
                       bool left, char fill)
{
    char digits[24];
    size_t at = sizeof(digits);
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    if (negative) digits[--at] = '-';
    put_padded(sink, digits + at, sizeof(digits) - at, width, left, fill);
}

struct spec {
    bool left, wide;
    char fill;
    int width;
};

static const char *parse_spec(const char *at, struct spec *spec, va_list *list)
{
    *spec = (struct spec){.fill = ' '};
    for (;; at++) {
        if (*at == '-')
            spec->left = true;
        else if (*at == '0')
            spec->fill = '0';
        else
            break;
    }
    if (*at == '*') {
        spec->width = va_arg(*list, int);
        at++;
    }
    for (; *at >= '0' && *at <= '9'; at++)
        spec->width = spec->width * 10 + (*at - '0');
    for (; *at == 'l' || *at == 'z'; at++)
        spec->wide = true;
    return at;
}

int exo_vformat(char *to, size_t size, const char *format, va_list outer)
{
    struct sink sink = {to, size, 0};
    va_list list;
    va_copy(list, outer);
    for (; *format; format++) {
        if (*format != '%') {
            put(&sink, *format);
            continue;
        }
        struct spec s;
        format = parse_spec(format + 1, &s, &list);
        if (!*format) break;
        if (*format == 'c') {
            put(&sink, (char)va_arg(list, int));
        } else if (*format == 's') {
            const char *text = va_arg(list, const char *);
            text = text ? text : "(null)";
            put_padded(&sink, text, strlen(text), s.width, s.left, ' ');
        } else if (*format == 'd') {
            int64_t v = s.wide ? va_arg(list, long) : va_arg(list, int);
            put_number(&sink, v < 0 ? -(uint64_t)v : (uint64_t)v, 10, v < 0, s.width, s.left,
                       s.fill);
        } else if (*format == 'u' || *format == 'x' || *format == 'p') {
            bool wide = s.wide || *format == 'p';
            uint64_t v = wide ? va_arg(list, unsigned long) : va_arg(list, unsigned);
            put_number(&sink, v, *format == 'u' ? 10 : 16, false, s.width, s.left, s.fill);
        } else {
            put(&sink, *format);
        }
    }
    va_end(list);
    if (size) to[EXO_MIN(sink.used, size - 1)] = 0;
    return (int)sink.used;
}

int exo_format(char *to, size_t size, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int n = exo_vformat(to, size, format, list);
    va_end(list);
    return n;
}

const char *exo_strerror(long error)
{
    switch (error < 0 ? -error : error) {
    case 0:
        return "no error";
#define EXO_ERROR(name, number, text)                                                              \
    case number:                                                                                   \
        return #name ": " text;
#include "exo_errors.h"
    default:
        return "unknown error";
    }
}

/* CPUID leaves 0x80000002 to 4: Intel SDM vol. 2A, AMD APM vol. 3. */
const char *exo_cpu_name(char name[EXO_CPU_NAME])
{
    uint32_t r[12];
    memcpy(name, "unknown", sizeof("unknown"));
    if ((uint32_t)__get_cpuid_max(0x80000000, NULL) < 0x80000004) return name;
    for (uint32_t i = 0; i < 3; i++)
        __cpuid(0x80000002 + i, r[4 * i], r[4 * i + 1], r[4 * i + 2], r[4 * i + 3]);
    memcpy(name, r, sizeof(r));
    name[sizeof(r)] = 0;
    return name;
}
