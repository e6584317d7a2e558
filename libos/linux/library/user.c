/* SPDX-License-Identifier: MIT
 *
 * The program's memory, copied. The copies themselves are in entry.S: a fault in them that
 * cannot be repaired ends them with -EFAULT (upcall.c). Addresses of the library are refused:
 * a program that has its own memory spoiled by a pointer into the library is not helped. */
#include "library.h"

#define PAGES_BYTES (1ul << 21) /* that one struct pages says something of */

long user_write_probe(void *to, uint64_t n);

static bool user_range(uint64_t va, uint64_t n)
{
    return n <= LX_USER_END && va <= LX_USER_END - n;
}

long user_get(void *to, uint64_t from, size_t n)
{
    return user_range(from, n) ? user_copy(to, (const void *)from, n) : -EFAULT;
}

long user_put(uint64_t to, const void *from, size_t n)
{
    return user_range(to, n) ? user_copy((void *)to, from, n) : -EFAULT;
}

long user_probe(uint64_t to, uint64_t n)
{
    return user_range(to, n) ? user_write_probe((void *)to, n) : -EFAULT;
}

long user_string(char *to, uint64_t from, size_t size)
{
    if (!user_range(from, 1)) return -EFAULT;
    long n = user_copy_string(to, (const char *)from, size);
    return n == (long)size ? -ENAMETOOLONG : n;
}

/* Whether something lies there; and may be written. */
static bool entry_there(uint32_t entry, bool write)
{
    return write ? entry & PG_W : entry && !(entry & PG_SWAP);
}

long user_touch(uint64_t va, uint64_t n, bool write)
{
    if (!n) return 0;
    if (!user_range(va, n)) return -EFAULT;
    for (uint64_t at = va & -PAGE; at < va + n; at += PAGE) {
        uint32_t *entry = page_entry(at, false);
        if (entry && entry_there(*entry, write)) {
            struct vma *vma = write ? NULL : vma_find(at);
            if (write || (vma && vma->prot)) continue;
        }
        if (fault_handle(at, write ? 2 : 0)) return -EFAULT;
    }
    return 0;
}

/* Along the pages of a buffer. */
struct pages_walk {
    uint32_t *entry; /* of the last page, NULL: none */
    uint64_t block; /* which 2 MiB it is in */
    struct vma *vma; /* it is in; NULL: not known */
};

/* What lies on the next page, made usable; NULL: nothing can. */
static uint32_t *pages_next(struct pages_walk *walk, uint64_t at, bool write)
{
    if (walk->entry && at / PAGES_BYTES == walk->block)
        walk->entry++;
    else
        walk->entry = page_entry(at, false);
    walk->block = at / PAGES_BYTES;
    if (walk->entry && entry_there(*walk->entry, write)) {
        if (write) return walk->entry;
        if (!walk->vma || at >= walk->vma->end) walk->vma = vma_find(at);
        if (walk->vma && walk->vma->prot) return walk->entry;
    }
    walk->vma = NULL; /* a fault may change them */
    if (user_touch(at & -PAGE, 1, write) < 0) return NULL;
    return walk->entry = page_entry(at, false);
}

/* The pages of all buffers of a call stay until it is over (replace.c). */
static void pin(unsigned runs, uint64_t va, uint64_t n)
{
    struct thread_state *t = this_thread();
    if (!runs || va < t->pin_start) t->pin_start = va;
    if (!runs || va + n > t->pin_end) t->pin_end = va + n;
}

/* A page can be copied on write by another thread between this and the server's copy: then
 * the server reads what was there before, or writes where nobody looks any more, as if the
 * two had raced on the data itself. */
long user_runs(unsigned runs, uint64_t va, uint64_t *length, bool write)
{
    struct lx_run *run = this_thread()->window->run;
    struct pages_walk walk = {NULL, 0, NULL};
    uint64_t done = 0, n = *length;
    if (n && !user_range(va, n)) return -EFAULT;
    pin(runs, va, n);
    while (done < n) {
        uint64_t at = va + done;
        uint64_t step = PAGE - at % PAGE;
        if (step > n - done) step = n - done;
        uint32_t *entry = pages_next(&walk, at, write);
        if (!entry) break;
        uint64_t physical = (*entry & PG_FRAME) * PAGE + at % PAGE;
        if (runs && run[runs - 1].address + run[runs - 1].length == physical) {
            run[runs - 1].length += step;
        } else {
            if (runs == LX_RUN_MAX) break;
            run[runs++] = (struct lx_run){physical, step};
        }
        done += step;
    }
    if (n && !done && runs < LX_RUN_MAX) return -EFAULT;
    *length = done;
    return runs;
}

uint64_t user_where(unsigned runs)
{
    return runs == 1 ? this_thread()->window->run[0].address : LX_RUNS | runs;
}
