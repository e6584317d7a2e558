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

/* The state of the path in the window, of n bytes, with or out of those near it. */
static __attribute__((noinline)) long stat_near(uint64_t fd, uint64_t flags, uint64_t n,
                                                uint64_t to)
{
    struct thread_state *t = this_thread();
    uint64_t wanted = 0;
    if (!(flags & ~(uint64_t)AT_SYMLINK_NOFOLLOW) &&
        ((uint32_t)fd == (uint32_t)AT_FDCWD || t->window->bytes[0] == '/')) {
        const struct stat *stat = near_look(t, n);
        if (stat) return user_put(to, stat, sizeof(*stat));
        wanted = near_wanted(t, n);
    }
    return stat_take(server6(__NR_newfstatat, fd, 0, 0, flags, wanted, 0), to);
}

long leaf_stat(uint64_t path, uint64_t to, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)c, (void)d, (void)e, (void)f;
    long n = path_put(path);
    if (n < 0) return n;
    if (this_thread()->near.active) return stat_near((uint64_t)AT_FDCWD, 0, (uint64_t)n, to);
    return stat_take(server(__NR_stat, 0, 0, 0), to);
}

long leaf_lstat(uint64_t path, uint64_t to, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)c, (void)d, (void)e, (void)f;
    long n = path_put(path);
    if (n < 0) return n;
    if (this_thread()->near.active)
        return stat_near((uint64_t)AT_FDCWD, AT_SYMLINK_NOFOLLOW, (uint64_t)n, to);
    return stat_take(server(__NR_lstat, 0, 0, 0), to);
}

long leaf_fstat(uint64_t fd, uint64_t to, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)c, (void)d, (void)e, (void)f;
    return stat_take(server(__NR_fstat, fd, 0, 0), to);
}

long leaf_newfstatat(uint64_t fd, uint64_t path, uint64_t to, uint64_t flags, uint64_t e,
                     uint64_t f)
{
    (void)e, (void)f;
    long n = path_put(path);
    if (n < 0) return n;
    if (this_thread()->near.active) return stat_near(fd, (uint32_t)flags, (uint64_t)n, to);
    return stat_take(server6(__NR_newfstatat, fd, 0, 0, flags, 0, 0), to);
}

long leaf_access(uint64_t path, uint64_t mode, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    (void)c, (void)d, (void)e, (void)f;
    long n = path_put(path);
    return n < 0 ? n : wait_full(server(__NR_access, 0, mode, 0));
}

/* Whether the path in the window, of n bytes, is the one that was not found, and is not there
 * still. A program can look for the same file again and again: /etc/localtime, for each time that
 * it shows. */
static bool absent(const struct thread_state *t, uint64_t n)
{
    uint64_t word;
    if (t->absent.names != shared->names) return false;
    for (uint64_t i = 0; i < n / 8; i++) {
        __builtin_memcpy(&word, t->window->bytes + i * 8, 8);
        if (word != t->absent.text[i]) return false;
    }
    __builtin_memcpy(&word, t->window->bytes + (n & -8ul), 8);
    return (word & ((1ul << n % 8 * 8) - 1)) == t->absent.text[n / 8];
}

static __attribute__((noinline)) void absent_add(struct thread_state *t, uint64_t n)
{
    memset(t->absent.text, 0, sizeof(t->absent.text));
    memcpy(t->absent.text, t->window->bytes, n);
    t->absent.length = n;
    t->absent.names = t->window->absent;
}

/* Opens the path in the window, of n bytes, which is remembered when it is not there. */
static inline long open_path(uint64_t fd, uint64_t flags, uint64_t mode, uint64_t n)
{
    struct thread_state *t = this_thread();
    bool makes = flags & (O_CREAT | O_DIRECTORY); /* O_TMPFILE, too */
    if (n == t->absent.length && !makes && absent(t, n)) return -ENOENT;
    t->window->absent = 0;
    long r = server6(__NR_openat, fd, 0, flags, mode, 0, 0);
    if (r != -ENOENT) return wait_full(r);
    if (!makes && t->window->bytes[0] == '/' && n < sizeof(t->absent.text)) absent_add(t, n);
    return r;
}

long leaf_open(uint64_t path, uint64_t flags, uint64_t mode, uint64_t d, uint64_t e, uint64_t f)
{
    (void)d, (void)e, (void)f;
    long n = path_put(path);
    return n < 0 ? n : open_path((uint64_t)AT_FDCWD, flags, mode, (uint64_t)n);
}

long leaf_openat(uint64_t fd, uint64_t path, uint64_t flags, uint64_t mode, uint64_t e, uint64_t f)
{
    (void)e, (void)f;
    long n = path_put(path);
    return n < 0 ? n : open_path(fd, flags, mode, (uint64_t)n);
}

/* Entries travel in the window; as many as fit there, and the server keeps the rest. */
long leaf_getdents64(uint64_t fd, uint64_t to, uint64_t n, uint64_t d, uint64_t e, uint64_t f)
{
    (void)d, (void)e, (void)f;
    n = (uint32_t)n < ENTRIES ? (uint32_t)n : ENTRIES;
    if (!n || user_probe(to, n) < 0) return LEAF_FULL; /* no entry is to be lost */
    long r = server(__NR_getdents64, fd, LX_INLINE, n);
    if (r > 0) near_listed(this_thread());
    if (r < 0) return wait_full(r);
    return r > 0 && user_put(to, this_thread()->window->bytes, (size_t)r) < 0 ? -EFAULT : r;
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
    return server(__NR_close, fd, 0, 0);
}
