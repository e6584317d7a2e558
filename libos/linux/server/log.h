/* SPDX-License-Identifier: MIT
 *
 * Reading the log (log_line: server.h). */
#ifndef LX_LOG_H
#define LX_LOG_H
#include "server.h"

/* Bytes from *position on (which counts since the beginning; what is lost is skipped, to the
 * next whole line): how many; 0 at the end. *position moves on. */
size_t log_read(uint64_t *position, void *to, size_t n);
uint64_t log_end(void); /* the position behind the last line */
#endif
