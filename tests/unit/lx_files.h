/* SPDX-License-Identifier: MIT
 *
 * linuxd's files on this machine: all of its modules for them, one process, and system
 * calls by name. A user's buffer is a plain pointer. Included once. */
#ifndef LX_FILES_TEST_H
#define LX_FILES_TEST_H
#define LX_HOST_OWN_FILES
#include "lx_host.h"
#include "../../lib/exo/archive.c"
#include "../../libos/linux/server/waiting/wait.c"
#include "../../libos/linux/server/waiting/timer.c"
#include "../../libos/linux/server/waiting/pipe.c"
#include "../../libos/linux/server/waiting/socket.c"
#include "../../libos/linux/server/waiting/poll.c"
#include "../../libos/linux/server/waiting/epoll.c"
#include "../../libos/linux/server/files/data.c"
#include "../../libos/linux/server/devices/dev.c"
#include "../../libos/linux/server/devices/loop.c"
#include "../../libos/linux/server/files/dir.c"
#include "../../libos/linux/server/files/fd.c"
#include "../../libos/linux/server/files/files.c"
#include "../../libos/linux/server/files/fuse.c"
#include "../../libos/linux/server/files/fuse_data.c"
#include "../../libos/linux/server/files/fuse_dev.c"
#include "../../libos/linux/server/files/fuse_load.c"
#include "../../libos/linux/server/files/inode.c"
#include "../../libos/linux/server/files/lock.c"
#include "../../libos/linux/server/files/mount.c"
#include "../../libos/linux/server/files/names.c"
#include "../../libos/linux/server/files/near.c"
#include "../../libos/linux/server/files/open.c"
#include "../../libos/linux/server/files/path.c"
#include "../../libos/linux/server/process/length.c"
#include "../../libos/linux/server/process/rewritten.c"
#include "../../libos/linux/server/process/site.c"
#include "../../libos/linux/server/proc/proc.c"
#include "../../libos/linux/server/proc/proc_process.c"
#include "../../libos/linux/server/proc/proc_system.c"
#include "../../libos/linux/server/devices/random.c"
#include "../../libos/linux/server/files/rw.c"
#include "../../libos/linux/server/files/stat.c"

struct exo exo;
static struct lx_shared shared;
struct lx_shared *lx_shared = &shared;

long exo_bind(struct exo_pool *pool, uint64_t va, uint64_t n, uint32_t sel, uint64_t frame,
              unsigned rights)
{
    (void)pool, (void)va, (void)n, (void)sel, (void)frame, (void)rights;
    return -EXO_E_SEL;
}
static const char log_text[] = "[    0.000001] first\n[    0.000002] second\n";
size_t log_read(uint64_t *position, void *to, size_t n)
{
    if (*position >= sizeof(log_text) - 1) return 0;
    n = EXO_MIN(n, sizeof(log_text) - 1 - *position);
    memcpy(to, log_text + *position, n);
    *position += n;
    return n;
}
const char *system_hostname(void) { return LX_HOSTNAME; }
uint32_t extent_count(uint16_t number) { return number; }
void swap_count(uint64_t *all, uint64_t *used) { *all = *used = 0; }
uint32_t swap_held(const struct process *process)
{
    (void)process;
    return 0;
}
void page_count(uint64_t *all, uint64_t *unused)
{
    *all = page_limit;
    *unused = page_limit - pages_used;
}
#define BAD_ADDRESS 8ul /* lx_host.h: what is that low */
size_t iobuf_zero(struct iobuf *io, size_t n)
{
    memset(io->run[0].base + io->offset, 0, n);
    io->offset += n;
    io->left -= n;
    return n;
}

/* ---- calls ---- */
#define SECOND 4200ul /* where a call's second text or structure lies in the window */

/* Puts a text there: its offset. */
static inline uint64_t at(uint64_t offset, const char *text)
{
    memcpy(host_bytes(0) + offset, text, strlen(text) + 1);
    return offset;
}
#define CALL(name, ...) HOST_CALL(0, call_##name, __VA_ARGS__)
#define PATH(text) at(0, text)
#define PATH2(text) at(SECOND, text)
#define POINTER(p) ((uint64_t)(uintptr_t)(p))

static inline long open_path(const char *path, unsigned flags, unsigned mode)
{
    return CALL(open, PATH(path), flags, mode);
}
static inline long read_all(const char *path, char *to, size_t size)
{
    long fd = open_path(path, O_RDONLY, 0);
    if (fd < 0) return fd;
    long n = CALL(read, (uint64_t)fd, POINTER(to), size - 1);
    to[n < 0 ? 0 : n] = 0;
    CALL(close, (uint64_t)fd);
    return n;
}
static inline long write_all(const char *path, const char *text)
{
    long fd = open_path(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) return fd;
    long n = CALL(write, (uint64_t)fd, POINTER(text), strlen(text));
    CALL(close, (uint64_t)fd);
    return n;
}
static inline struct stat stat_of(const char *path)
{
    struct stat stat = {0};
    if (CALL(lstat, PATH(path)) == 0) memcpy(&stat, host_bytes(0), sizeof(stat));
    return stat;
}
#endif
