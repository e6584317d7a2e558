/* SPDX-License-Identifier: MIT
 *
 * Calls about files that are made most: a path goes to the window, a structure comes from
 * there. All else about them is the server's. One that would wait is made again by the usual
 * way (call_server). */
#include "library.h"
#include "near.h"
#include "../../../lib/exo/text.h"

#define ENTRIES 2048u /* bytes of a directory's entries at once */

/* The program's path at the start of the window's bytes: its length, -EFAULT, -ENAMETOOLONG. */
static inline long path_put(uint64_t path)
{
    return user_string((char *)this_thread()->window->bytes, path, LX_PATH_MAX);
}

static inline long wait_full(long result)
{
    if (!wait_wanted(result)) return result;
    this_thread()->waited = true;
    return LEAF_FULL;
}

/* The server's result, and where that is good, what it left in the window. */
static inline long stat_take(long result, uint64_t to)
{
    if (result < 0) return wait_full(result);
    return user_put(to, this_thread()->window->bytes, sizeof(struct stat));
}

/* The state of the program's path, and of those near it. */
static __attribute__((noinline)) long stat_ask(uint64_t fd, uint64_t path, uint64_t to,
                                               uint64_t flags)
{
    struct thread_state *t = this_thread();
    long n = path_put(path);
    if (n < 0) return n;
    uint64_t wanted = near_wanted(t, fd, (uint64_t)n, flags);
    long r = server6(__NR_newfstatat, fd, 0, 0, flags, wanted, 0);
    if (wanted) near_take(t);
    return stat_take(r, to);
}

static __attribute__((noinline)) long stat_far(uint64_t fd, uint64_t path, uint64_t to,
                                               uint64_t flags)
{
    const struct stat *stat = near_look(this_thread(), fd, path, flags);
    return stat ? user_put(to, stat, sizeof(*stat)) : stat_ask(fd, path, to, flags);
}

static inline long stat_near(uint64_t fd, uint64_t path, uint64_t to, uint64_t flags)
{
    const struct stat *stat = near_next(this_thread(), fd, path, flags);
    return stat ? user_put(to, stat, sizeof(*stat)) : stat_far(fd, path, to, flags);
}

long leaf_stat(uint64_t path, uint64_t to, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)c, (void)d, (void)e, (void)f;
    if (this_thread()->near.active) return stat_near((uint64_t)AT_FDCWD, path, to, 0);
    long n = path_put(path);
    return n < 0 ? n : stat_take(server(__NR_stat, 0, 0, 0), to);
}

long leaf_lstat(uint64_t path, uint64_t to, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)c, (void)d, (void)e, (void)f;
    if (this_thread()->near.active)
        return stat_near((uint64_t)AT_FDCWD, path, to, AT_SYMLINK_NOFOLLOW);
    long n = path_put(path);
    return n < 0 ? n : stat_take(server(__NR_lstat, 0, 0, 0), to);
}

long leaf_fstat(uint64_t fd, uint64_t to, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)c, (void)d, (void)e, (void)f;
    const struct stat *self = near_self(this_thread(), fd);
    if (self) return user_put(to, self, sizeof(*self));
    return stat_take(server(__NR_fstat, fd, 0, 0), to);
}

/* Of the directory that was opened last, without a path. */
static __attribute__((noinline)) long stat_self(uint64_t fd, uint64_t path, uint64_t to)
{
    const struct stat *self = near_self(this_thread(), fd);
    long n = self && user_is(path, "", 1) ? 0 : path_put(path);
    if (n < 0) return n;
    if (self && n == 0) return user_put(to, self, sizeof(*self));
    return stat_take(server6(__NR_newfstatat, fd, 0, 0, AT_EMPTY_PATH, 0, 0), to);
}

static __attribute__((noinline)) long stat_plain(uint64_t fd, uint64_t path, uint64_t to,
                                                 uint64_t flags)
{
    if (flags == AT_EMPTY_PATH) return stat_self(fd, path, to);
    if (this_thread()->near.active) return stat_far(fd, path, to, flags);
    long n = path_put(path);
    return n < 0 ? n : stat_take(server6(__NR_newfstatat, fd, 0, 0, flags, 0, 0), to);
}

long leaf_newfstatat(uint64_t fd, uint64_t path, uint64_t to, uint64_t flags, uint64_t e,
                     uint64_t f)
{
    (void)e, (void)f;
    struct thread_state *t = this_thread();
    flags = (uint32_t)flags;
    const struct stat *stat = t->near.active ? near_next(t, fd, path, flags) : NULL;
    return stat ? user_put(to, stat, sizeof(*stat)) : stat_plain(fd, path, to, flags);
}

long leaf_access(uint64_t path, uint64_t mode, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)c, (void)d, (void)e, (void)f;
    long n = path_put(path);
    return n < 0 ? n : wait_full(server(__NR_access, 0, mode, 0));
}

/* Whether the program's path is the one that was not found, and is not there still. A program can
 * look for the same file again and again: /etc/localtime, for each time that it shows. */
static inline bool absent(const struct thread_state *t, uint64_t path)
{
    return t->absent.names == shared->names && user_is(path, t->absent.text, t->absent.size);
}

static __attribute__((noinline)) void absent_add(struct thread_state *t, uint64_t n)
{
    t->absent.size = n + 1;
    memcpy(t->absent.text, t->window->bytes, n + 1);
    t->absent.names = t->window->absent;
}

#define MAKES (O_CREAT | O_DIRECTORY) /* it may be made: O_TMPFILE, too */

static __attribute__((noinline)) long open_path(uint64_t fd, uint64_t path, uint64_t flags,
                                                uint64_t mode)
{
    struct thread_state *t = this_thread();
    long n = path_put(path);
    if (n < 0) return n;
    t->window->absent = 0;
    if (flags & O_DIRECTORY) near_forget(t);
    long r = server6(__NR_openat, fd, 0, flags, mode, 0, 0);
    if (r >= 0) {
        if (flags & O_DIRECTORY) near_opened(t, fd, (uint64_t)r, (uint64_t)n);
        return r;
    }
    if (r != -ENOENT) return wait_full(r);
    if (!(flags & MAKES) && t->window->bytes[0] == '/' && n < (long)sizeof(t->absent.text))
        absent_add(t, (uint64_t)n);
    return r;
}

long leaf_open(uint64_t path, uint64_t flags, uint64_t mode, uint64_t d, uint64_t e, uint64_t f)
{
    (void)d, (void)e, (void)f;
    if (!(flags & MAKES) && absent(this_thread(), path)) return -ENOENT;
    return open_path((uint64_t)AT_FDCWD, path, flags, mode);
}

long leaf_openat(uint64_t fd, uint64_t path, uint64_t flags, uint64_t mode, uint64_t e, uint64_t f)
{
    (void)e, (void)f;
    if (!(flags & MAKES) && absent(this_thread(), path)) return -ENOENT;
    return open_path(fd, path, flags, mode);
}

/* Entries travel in the window; as many as fit there, and the server keeps the rest. */
long leaf_getdents64(uint64_t fd, uint64_t to, uint64_t n, uint64_t d, uint64_t e, uint64_t f)
{
    (void)d, (void)e, (void)f;
    struct thread_state *t = this_thread();
    if (t->near.ended && near_is(t, fd)) return 0;
    n = (uint32_t)n < ENTRIES ? (uint32_t)n : ENTRIES;
    if (!n || user_probe(to, n) < 0) return LEAF_FULL; /* no entry is to be lost */
    uint64_t near = near_list(t, fd);
    long r = server6(__NR_getdents64, fd, LX_INLINE, n, near, 0, 0);
    if (r > 0) near_listed(t, near);
    if (r < 0) return wait_full(r);
    return r > 0 && user_put(to, t->window->bytes, (size_t)r) < 0 ? -EFAULT : r;
}

/* At the file's own position. */
long leaf_sendfile(uint64_t to, uint64_t from, uint64_t offset, uint64_t n, uint64_t e, uint64_t f)
{
    (void)e, (void)f;
    return offset ? LEAF_FULL : wait_full(server6(__NR_sendfile, to, from, LX_NULL, n, 0, 0));
}

long leaf_close(uint64_t fd, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)b, (void)c, (void)d, (void)e, (void)f;
    struct thread_state *t = this_thread();
    if (t->near.descriptor == (uint32_t)fd + 1) t->near.descriptor = 0;
    return server(__NR_close, fd, 0, 0);
}
