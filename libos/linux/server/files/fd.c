/* SPDX-License-Identifier: MIT
 *
 * Open files and descriptors. An open file (struct file) has one reference for each
 * descriptor, and those that the server's parts hold; the last one closes it. Descriptors
 * are a process's own array. */
#include "files.h"
#include "lock.h"
#include "../process/memory.h"
#include "../waiting/ring.h"
#include "../waiting/poll.h"
#include "../../../../lib/exo/exo.h"
#include <linux/close_range.h>

#define FILES_MAX 8192
#define FILES_SURE 16 /* of a process, which others cannot take from it */
#define FILES_SHARED (FILES_MAX - FILES_SURE * LX_PROCESSES) /* for those that have more */

static struct file *free_files;
static uint64_t file_count;

/* ---- open files ---- */

/* Open files that the process has: descriptors, and mapped files. */
static unsigned files_held(const struct process *p)
{
    unsigned held = 0;
    for (unsigned i = 0; i < p->fds_top; i++)
        held += p->fds[i].file != NULL;
    for (unsigned i = 0; p->memory && i < LX_HANDLES; i++)
        held += p->memory->handle[i] != NULL;
    return held;
}

/* Whether the one who calls may have one more. When half of all are open, nobody gets more than a
 * part of what is left, and all can have a few. */
static bool file_fair(void)
{
    if (file_count < FILES_MAX / 2 || !thread_current) return true;
    unsigned held = files_held(thread_current->process);
    return held < FILES_SURE ||
           (file_count < FILES_SHARED && held < (FILES_SHARED - file_count) / 4);
}

struct file *file_new(const struct file_ops *ops, uint32_t flags)
{
    struct file *file = free_files;
    if (!file_fair()) return NULL;
    if (file)
        free_files = file->data;
    else if (file_count >= FILES_MAX || !(file = malloc(sizeof(*file))))
        return NULL;
    file_count++;
    *file = (struct file){.ops = ops, .references = 1, .flags = flags};
    return file;
}

void file_get(struct file *file) { file->references++; }

void file_put(struct file *file)
{
    if (--file->references) return;
    if (file->watchers) epoll_forget(file);
    if (file->inode && file->inode->locks) lock_end(file);
    if (file->ops->close) file->ops->close(file);
    if (file->inode) inode_put(file->inode);
    file_count--;
    file->data = free_files;
    free_files = file;
}

/* ---- descriptors ---- */

struct file *fd_file(struct thread *thread, uint64_t fd)
{
    fd = (uint32_t)fd;
    return fd < LX_FDS ? thread->process->fds[fd].file : NULL;
}

/* What the library may do itself with the descriptor is shown in the process's window. */
static void direct_show(struct process *process, unsigned fd)
{
    const struct thread *thread = process->threads[0];
    const struct file *file = process->fds[fd].file;
    unsigned mode = file ? file->flags & O_ACCMODE : O_RDONLY,
             direct = file ? file->ops->direct : 0;
    if (mode == O_WRONLY) direct &= LX_DIRECT_SINK;
    if (mode == O_RDONLY) direct &= ~(unsigned)LX_DIRECT_SINK;
    if (thread && thread->window && fd < LX_DIRECT_FDS)
        thread->window->direct[fd] = (uint8_t)direct;
}

void fds_show(struct process *process)
{
    memset(process->threads[0]->window->direct, 0, LX_DIRECT_FDS);
    for (unsigned fd = 0; fd < process->fds_top; fd++)
        if (process->fds[fd].file && process->fds[fd].file->ops->direct) direct_show(process, fd);
}

void fd_ring_show(struct process *process, unsigned fd, bool on)
{
    process->threads[0]->window->direct[fd] = on ? LX_DIRECT_RING : 0;
}

static void fd_put(struct process *process, unsigned fd, struct file *file, bool cloexec)
{
    process->fds[fd] = (struct descriptor){file, cloexec};
    if (file->ops->direct) direct_show(process, fd); /* else nothing is, since it was closed */
    if (fd >= process->fds_top) process->fds_top = fd + 1;
}

long fd_install(struct process *process, struct file *file, bool cloexec, unsigned from)
{
    bool lowest = from <= process->fds_low;
    for (unsigned fd = lowest ? process->fds_low : from; fd < LX_FDS - process->fds_forbidden; fd++)
        if (!process->fds[fd].file) {
            fd_put(process, fd, file, cloexec);
            if (lowest) process->fds_low = fd + 1;
            return (long)fd;
        }
    file_put(file);
    return -EMFILE;
}

static void fd_close(struct process *process, unsigned fd)
{
    struct file *file = process->fds[fd].file;
    if (process->rings_open) rings_close_fd(process, fd);
    process->fds[fd].file = NULL;
    if (fd < process->fds_low) process->fds_low = fd;
    if (file->ops->direct) direct_show(process, fd);
    if (file->inode && file->inode->locks) lock_close(process, file->inode);
    file_put(file);
}

void fds_init(struct process *process)
{
    process->fds_top = process->fds_low = 0;
    process->cwd = process->root = root_fs.root;
    process->umask = 022;
    inode_get(process->cwd);
    inode_get(process->root);
}

void fds_fork(struct process *parent, struct process *child)
{
    if (parent->rings_open) rings_close(parent);
    for (unsigned fd = 0; fd < parent->fds_top; fd++) {
        child->fds[fd] = parent->fds[fd];
        if (!child->fds[fd].file) continue;
        child->fds[fd].file->references++;
        if (child->fds[fd].file->ops->direct) direct_show(child, fd);
    }
    child->fds_top = parent->fds_top;
    child->fds_low = parent->fds_low;
    child->cwd = parent->cwd;
    child->root = parent->root;
    child->umask = parent->umask;
    child->fds_forbidden = parent->fds_forbidden;
    inode_get(child->cwd);
    inode_get(child->root);
}

void fds_exec(struct process *process)
{
    for (unsigned fd = 0; fd < process->fds_top; fd++)
        if (process->fds[fd].file && process->fds[fd].cloexec) fd_close(process, fd);
}

void fds_end(struct process *process)
{
    for (unsigned fd = 0; fd < process->fds_top; fd++)
        if (process->fds[fd].file) fd_close(process, fd);
    process->fds_top = 0;
    if (process->cwd) inode_put(process->cwd);
    if (process->root) inode_put(process->root);
    process->cwd = process->root = NULL;
}

void files_count(struct files_counts *counts)
{
    uint64_t all, unused;
    page_count(&all, &unused);
    *counts = (struct files_counts){inode_count, entry_count, file_count, all - unused};
}

/* ---- calls ---- */

long call_close(struct thread *thread, const uint64_t a[6])
{
    if (!fd_file(thread, a[0])) return -EBADF;
    fd_close(thread->process, (unsigned)a[0]);
    return 0;
}

long call_close_range(struct thread *thread, const uint64_t a[6])
{
    struct process *process = thread->process;
    uint32_t first = (uint32_t)a[0], last = (uint32_t)a[1], flags = (uint32_t)a[2];
    if (first > last || flags & ~(uint32_t)(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC))
        return -EINVAL;
    for (unsigned fd = first; fd <= last && fd < process->fds_top; fd++) {
        if (!process->fds[fd].file) continue;
        if (flags & CLOSE_RANGE_CLOEXEC)
            process->fds[fd].cloexec = true;
        else
            fd_close(process, fd);
    }
    return 0;
}

/* A second descriptor for the file, from `from` on. */
static long fd_duplicate(struct thread *thread, struct file *file, uint64_t from, bool cloexec)
{
    file_get(file);
    return fd_install(thread->process, file, cloexec, (unsigned)from);
}

/* The descriptor becomes one of file. */
static long fd_replace(struct thread *thread, struct file *file, uint64_t fd, bool cloexec)
{
    if (fd >= LX_FDS - thread->process->fds_forbidden) return -EBADF;
    file_get(file);
    if (thread->process->fds[fd].file) fd_close(thread->process, (unsigned)fd);
    fd_put(thread->process, (unsigned)fd, file, cloexec);
    return (long)fd;
}

/* RLIMIT_NOFILE has become a[0]. */
long call_prlimit64(struct thread *thread, const uint64_t a[6])
{
    thread->process->fds_forbidden = LX_FDS - (uint32_t)EXO_MIN(a[0], (uint64_t)LX_FDS);
    return 0;
}

long call_dup(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]);
    return file ? fd_duplicate(thread, file, 0, false) : -EBADF;
}

long call_dup2(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]);
    uint64_t to = (uint32_t)a[1];
    if (!file) return -EBADF;
    return to == (uint32_t)a[0] ? (long)to : fd_replace(thread, file, to, false);
}

long call_dup3(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]);
    uint64_t to = (uint32_t)a[1];
    if ((uint32_t)a[2] & ~(uint32_t)O_CLOEXEC || to == (uint32_t)a[0]) return -EINVAL;
    return file ? fd_replace(thread, file, to, a[2] & O_CLOEXEC) : -EBADF;
}

#define FLAGS_SET (O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | FASYNC) /* by F_SETFL */

long call_fcntl(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]);
    uint32_t command = (uint32_t)a[1];
    if (!file) return -EBADF;
    struct descriptor *descriptor = &thread->process->fds[(uint32_t)a[0]];
    bool path = file->flags & O_PATH;
    switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        if ((uint32_t)a[2] >= LX_FDS) return -EINVAL;
        return fd_duplicate(thread, file, (uint32_t)a[2], command == F_DUPFD_CLOEXEC);
    case F_GETFD:
        return descriptor->cloexec ? FD_CLOEXEC : 0;
    case F_SETFD:
        descriptor->cloexec = a[2] & FD_CLOEXEC;
        return 0;
    case F_GETFL:
        return (long)file->flags;
    case F_SETFL:
        if (path) return -EBADF;
        pipe_settle(file);
        file->flags = (file->flags & ~(uint32_t)FLAGS_SET) | ((uint32_t)a[2] & FLAGS_SET);
        return 0;
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
        return path ? -EBADF : lock_fcntl(thread, file, command, a[2]);
    case F_GETPIPE_SZ:
        return pipe_size(file);
    case F_SETPIPE_SZ:
        return pipe_resize(file, (uint32_t)a[2]);
    default:
        log_line("fcntl: command %u is not supported", command);
        return -EINVAL;
    }
}

long call_flock(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]);
    if (!file || file->flags & O_PATH) return -EBADF;
    return lock_flock(thread, file, (uint32_t)a[1]);
}
