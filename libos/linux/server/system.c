/* SPDX-License-Identifier: MIT
 *
 * What the world that linuxd makes says of itself: uname(2), its name, its log by syslog(2). */
#include <linux/utsname.h>
#include "log.h"
#include "server.h"
#include "../../../lib/exo/exo.h"

/* syslog(2)'s types. */
#define SYSLOG_READ 2
#define SYSLOG_READ_ALL 3
#define SYSLOG_READ_CLEAR 4
#define SYSLOG_CLEAR 5
#define SYSLOG_CONSOLE_LEVEL 8 /* and others below it: there is nothing to switch */
#define SYSLOG_UNREAD 9
#define SYSLOG_SIZE 10
#define LOG_ASKED 16384 /* what SYSLOG_SIZE says: enough for all that is read at once */

static struct new_utsname names = {.sysname = "Linux",
                                   .nodename = LX_HOSTNAME,
                                   .release = LX_RELEASE,
                                   .version = "#1 exovisor",
                                   .machine = "x86_64",
                                   .domainname = "(none)"};
const char *system_hostname(void) { return names.nodename; }

static uint64_t read_up_to, cleared; /* positions in the log */

long call_uname(struct thread *thread, const uint64_t a[6])
{
    (void)a;
    return window_put(thread, 0, &names, sizeof(names));
}

static long name_set(struct thread *thread, const uint64_t a[6], char name[__NEW_UTS_LEN + 1])
{
    struct iobuf io;
    char text[__NEW_UTS_LEN + 1] = {0};
    if (a[1] > __NEW_UTS_LEN) return -EINVAL;
    long r = iobuf_from(&io, thread, a[0], a[1], false);
    if (r < 0) return r;
    iobuf_get(&io, text, a[1]);
    memcpy(name, text, sizeof(text));
    return 0;
}

long call_sethostname(struct thread *thread, const uint64_t a[6])
{
    return name_set(thread, a, names.nodename);
}

long call_setdomainname(struct thread *thread, const uint64_t a[6])
{
    return name_set(thread, a, names.domainname);
}

/* The log from *position on, as much as the user's buffer holds. */
static long log_give(struct thread *thread, const uint64_t a[6], uint64_t *position)
{
    struct iobuf io;
    char part[256];
    long done = 0;
    long r = iobuf_from(&io, thread, a[1], a[2], true);
    while (r == 0 && io.left) {
        size_t n = log_read(position, part, EXO_MIN(io.left, sizeof(part)));
        if (n == 0) break;
        done += (long)iobuf_put(&io, part, n);
    }
    return r < 0 ? r : done;
}

long call_syslog(struct thread *thread, const uint64_t a[6])
{
    uint64_t end = log_end(), from = cleared;
    switch (a[0]) {
    case SYSLOG_READ:
        return log_give(thread, a, &read_up_to);
    case SYSLOG_READ_ALL:
    case SYSLOG_READ_CLEAR:
        if (end - from > a[2]) from = end - a[2]; /* the last lines */
        if (a[0] == SYSLOG_READ_CLEAR) cleared = end;
        return log_give(thread, a, &from);
    case SYSLOG_CLEAR:
        cleared = end;
        return 0;
    case SYSLOG_UNREAD:
        return (long)EXO_MIN(end - read_up_to, (uint64_t)LOG_ASKED);
    case SYSLOG_SIZE:
        return LOG_ASKED;
    default:
        return a[0] <= SYSLOG_CONSOLE_LEVEL ? 0 : -EINVAL;
    }
}
