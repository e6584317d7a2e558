/* SPDX-License-Identifier: MIT
 *
 * Numbers of signals, SA_* flags, struct sigaction's bits: Linux' own. That header brings
 * struct timespec and sigset_t along, which clash with those of a C library where the
 * server is tested on a host; neither is wanted here. */
#ifndef LX_SIGNALS_H
#define LX_SIGNALS_H
#ifndef _LINUX_TIME_H
#define _LINUX_TIME_H
#endif
#define sigset_t lx_sigset_t
#include <asm/signal.h>
#undef sigset_t

#define LX_SIGNAL_BIT(signal) (1ul << ((signal)-1))
#define LX_SIGNAL_DEFAULT 0ul /* SIG_DFL, SIG_IGN as an action holds them */
#define LX_SIGNAL_IGNORE 1ul
/* Those that do nothing by default. */
#define LX_SIGNALS_NOTHING                                                                         \
    (LX_SIGNAL_BIT(SIGCHLD) | LX_SIGNAL_BIT(SIGURG) | LX_SIGNAL_BIT(SIGWINCH) |                    \
     LX_SIGNAL_BIT(SIGCONT))
#endif
