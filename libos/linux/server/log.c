/* SPDX-License-Identifier: MIT
 *
 * The log that /dev/kmsg and dmesg show: the last LOG_SIZE bytes, each line with the time
 * since boot. */
#include "log.h"
#include "process/process.h"

#define LOG_SIZE 32768u /* a power of two */
#define LOG_LINE 200

static char ring[LOG_SIZE];
static uint64_t head; /* bytes ever written */

void log_line(const char *format, ...)
{
    char line[LOG_LINE];
    uint64_t us = time_boot() / 1000;
    int n = exo_format(line, sizeof(line), "[%5lu.%06lu] ", us / 1000000, us % 1000000);
    va_list list;
    va_start(list, format);
    int more = exo_vformat(line + n, sizeof(line) - (size_t)n - 1, format, list);
    va_end(list);
    size_t length =
        (size_t)n + EXO_MIN((size_t)(more < 0 ? 0 : more), sizeof(line) - (size_t)n - 2);
    line[length++] = '\n';
    for (size_t i = 0; i < length; i++)
        ring[head++ % LOG_SIZE] = line[i];
}

size_t log_read(uint64_t *position, void *to, size_t n)
{
    if (*position + LOG_SIZE < head) { /* on at the next whole line */
        *position = head - LOG_SIZE;
        while (*position < head && ring[(*position)++ % LOG_SIZE] != '\n')
            ;
    }
    size_t done = 0;
    for (char *out = to; done < n && *position < head; done++)
        out[done] = ring[(*position)++ % LOG_SIZE];
    return done;
}

uint64_t log_end(void) { return head; }

/* Text of a process's own: printable characters only. */
long op_log(struct thread *thread, const uint64_t a[6])
{
    char text[LOG_LINE / 2];
    size_t n = EXO_MIN(a[1], sizeof(text) - 1);
    long r = window_get(thread, a[0], text, n);
    if (r < 0) return r;
    text[n] = 0;
    for (size_t i = 0; i < n; i++)
        if (text[i] < ' ' || text[i] > '~') text[i] = '?';
    log_line("%s[%d]: %s", thread->process->name, thread->process->pid, text);
    return 0;
}
