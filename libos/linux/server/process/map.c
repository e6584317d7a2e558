/* SPDX-License-Identifier: MIT
 *
 * Files that processes have mapped, by handle; and which pages of a program are touched when it
 * is executed. Of those a bit each is kept, for each file and the name it was executed by (one
 * file can be many programs): then the next process has them bound at once, instead of by a fault
 * each. It is a hint: what it says of a file that has changed, or was told by a process that
 * touched all there is, costs time, nothing else. All RUNS
 * executions it is learned anew, by a run that binds each page where it is touched. Whoever began
 * before that is not listened to any more. */
#include "memory.h"
#include "rewritten.h"
#include "../files/data.h"
#include "../files/files.h"

#define RUNS 100
#define PROGRAMS 128 /* that are remembered: a power of two */
#define MIX 0x9e3779b97f4a7c15ul /* 2^64 / golden ratio */

struct seen {
    const struct filesystem *fs;
    uint64_t number; /* of the inode */
    uint64_t name; /* a hash */
    uint32_t epoch; /* counts how often it was learned anew, or became another program's */
    uint32_t runs; /* executions in this epoch */
    uint64_t pages[LX_SEEN_PAGES / 64];
};
static struct seen programs[PROGRAMS];

/* ---- what programs touch ------------------------------------------------------------------- */

static void seen_begin(struct process *p, const struct file *file, const char *path)
{
    const struct inode *inode = file->inode;
    uint64_t name = 0;
    for (; *path; path++)
        name = *path == '/' && path[1] ? 0 : (name ^ (uint8_t)*path) * MIX;
    struct seen *seen = &programs[((name ^ inode->number) * MIX >> 32) % PROGRAMS];
    bool same = seen->fs == inode->fs && seen->number == inode->number && seen->name == name;
    if (!same || seen->runs == RUNS)
        *seen = (struct seen){inode->fs, inode->number, name, seen->epoch + 1, 0, {0}};
    seen->runs++;
    p->seen = seen;
    p->seen_epoch = seen->epoch;
}

/* Whether it is that file's pages that are remembered. */
static bool seen_of(const struct process *p, const struct file *file)
{
    const struct seen *seen = p->seen;
    return seen && seen->epoch == p->seen_epoch && seen->fs == file->inode->fs &&
           seen->number == file->inode->number;
}

static void seen_add(struct process *p, const struct file *file, uint64_t page)
{
    if (page < LX_SEEN_PAGES && seen_of(p, file)) p->seen->pages[page / 64] |= 1ul << page % 64;
}

long op_seen(struct thread *thread, const uint64_t a[6])
{
    struct process *p = thread->process;
    struct lx_seen *list = (struct lx_seen *)thread->window->bytes; /* only stored to */
    uint32_t n = 0;
    if (a[0] >= LX_HANDLES || !p->memory->handle[a[0]]) return -EBADF;
    struct file *file = p->memory->handle[a[0]];
    if (!seen_of(p, file)) return 0;
    static const uint32_t none;
    const uint32_t *frames = &none; /* of pages [first, end) */
    const uint64_t *copied = rewritten_copied(file);
    uint64_t first = 0, end = 0;
    for (uint32_t w = 0; w < LX_SEEN_PAGES / 64; w++)
        for (uint64_t mask = p->seen->pages[w]; mask; mask &= mask - 1) {
            uint32_t page = w * 64 + (uint32_t)__builtin_ctzl(mask);
            if (page >= end) {
                frames = data_frames(file, first = page, &end);
                end += first;
            }
            uint32_t frame = page < end ? frames[page - first] : 0;
            if (!frame) continue;
            if (copied && copied[w] & mask & -mask) frame = rewritten_frame(file, page, frame);
            list[n++] = (struct lx_seen){page, frame};
        }
    uint32_t stubs = rewritten_stubs(file);
    if (n && stubs) list[n++] = (struct lx_seen){LX_STUBS, stubs};
    return n;
}

/* ---- handles ------------------------------------------------------------------------------- */

/* The handle that the open file has, or a new one, which takes over the caller's reference. */
static long handle_get(struct process_memory *m, struct file *file)
{
    uint32_t i = 0, free = m->handles;
    for (; i < m->handles && m->handle[i] != file; i++)
        if (!m->handle[i] && free == m->handles) free = i;
    if (i < m->handles || free == LX_HANDLES) {
        file_put(file);
        return i < m->handles ? (long)i : -ENOMEM;
    }
    m->handle[free] = file;
    if (free == m->handles) m->handles++;
    return free;
}

long op_map(struct thread *thread, const uint64_t a[6])
{
    struct file *file = NULL;
    if (a[1]) {
        char path[LX_PATH_MAX];
        long r = window_path(thread, a[0], path);
        if (r == 0) r = inode_open_exec(thread, path, &file);
        if (r < 0 || !file) return r;
        r = file_load(file);
        if (r < 0) {
            file_put(file);
            return r;
        }
        seen_begin(thread->process, file, path);
        uint32_t frame = 0;
        if (file_pages(file, 0, 1, &frame, false) == 1 && frame)
            window_put(thread, sizeof(uint64_t), page_data(frame), LX_HEAD);
    } else {
        file = fd_file(thread, a[0]);
        if (!file) return -EBADF;
        uint32_t frame;
        long r = file_load(file);
        if (r < 0) return r;
        r = file_pages(file, 0, 1, &frame, a[2] != 0);
        if (r < 0) return r;
        file_get(file);
    }
    uint64_t size = file_size(file);
    window_put(thread, 0, &size, sizeof(size));
    return handle_get(thread->process->memory, file);
}

static void handle_end(struct process_memory *m, uint64_t i)
{
    file_put(m->handle[i]);
    m->handle[i] = NULL;
    while (m->handles && !m->handle[m->handles - 1])
        m->handles--;
}

long op_unmap(struct thread *thread, const uint64_t a[6])
{
    struct process_memory *m = thread->process->memory;
    if (a[0] >= LX_HANDLES || !m->handle[a[0]]) return -EBADF;
    handle_end(m, a[0]);
    return 0;
}

void handles_exec(struct process *p, uint64_t keep)
{
    struct process_memory *m = p->memory;
    for (uint32_t i = 0; i < m->handles; i++)
        if (i != keep && m->handle[i]) handle_end(m, i);
}

long op_pages(struct thread *thread, const uint64_t a[6])
{
    struct process_memory *m = thread->process->memory;
    uint32_t frames[64];
    uint64_t pages = a[2] & ~LX_PAGES_TEXT;
    if (a[0] >= LX_HANDLES || !m->handle[a[0]]) return -EBADF;
    if (!pages || pages > EXO_COUNT(frames)) return -EINVAL;
    struct file *file = m->handle[a[0]];
    long n = file_pages(file, a[1], (unsigned)pages, frames, false);
    if (n < 0) return n;
    if (a[3]) seen_add(thread->process, file, a[3] - 1);
    for (uint64_t i = 0; a[2] & LX_PAGES_TEXT && i < pages; i++)
        frames[i] = a[1] + i == LX_STUBS ? rewritten_stubs(file)
                                         : rewritten_frame(file, a[1] + i, frames[i]);
    window_put(thread, 0, frames, pages * sizeof(frames[0]));
    return n;
}
