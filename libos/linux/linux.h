/* SPDX-License-Identifier: MIT
 *
 * The Linux interface as Linux' own exported headers give it (package linux-libc-dev):
 * numbers, errors and structures. Nothing here is ours but the choice. */
#ifndef LX_LINUX_H
#define LX_LINUX_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <asm/errno.h>
#include <asm/unistd_64.h>
#include <linux/fcntl.h>
/* It leaves the modes out where a C library is there (the server's tests on a host). */
#pragma push_macro("__GLIBC__")
#undef __GLIBC__
#include <linux/stat.h>
#pragma pop_macro("__GLIBC__")
#include <asm/stat.h>

#ifndef O_CLOEXEC
#define O_CLOEXEC 02000000
#endif
#define LX_RELEASE "6.1.0" /* what uname and /proc say: whose interface this is */
#define LX_HOSTNAME "exovisor" /* at the start */
#define LX_PATH_MAX 4096 /* bytes of a path, with its end */
#define LX_NAME_MAX 255 /* bytes of a name in a directory */

struct lx_timespec {
    int64_t tv_sec;
    int64_t tv_nsec;
};
#endif
