/* SPDX-License-Identifier: MIT
 *
 * Locks on files: a list at each inode, which lives as long as the open file through which
 * they were made. A lock belongs to a process (its address) or an open file (its address);
 * flock's are a class of their own. Those who wait for any lock are in one queue and look
 * again when one ends. Deadlocks are not looked for. */
#include "lock.h"
#include "files.h"
#include "../../../../lib/exo/exo.h"
#include <linux/fs.h>

#define LOCKS_MAX 2048
#define LOCKS_SURE 4 /* of a process, which others cannot take from it */
#define LOCKS_SHARED (LOCKS_MAX - LOCKS_SURE * LX_PROCESSES) /* for those that have more */
#define FOREVER INT64_MAX
#define LOCK_SH 1 /* flock(2); not in Linux' exported headers */
#define LOCK_EX 2
#define LOCK_NB 4
#define LOCK_UN 8

struct lock {
    struct lock *next;
    const void *owner;
    bool whole; /* of flock */
    bool write;
    int pid; /* for F_GETLK; -1: an open file's */
    unsigned place; /* in the process table, of who made it */
    int64_t start, last; /* both inclusive */
};

static struct waitq waiting;
uint64_t lock_count;

/* Made by the processes of each place, and still there: nobody gets more than is left to all, and
 * all can have a few. What an open file keeps beyond its maker's end is counted on. */
static uint32_t made[LX_PROCESSES];

static bool lock_fair(unsigned place)
{
    return made[place] < LOCKS_SURE ||
           (lock_count < LOCKS_SHARED && made[place] < LOCKS_SHARED - lock_count);
}

static struct lock *lock_new(unsigned place)
{
    struct lock *lock = lock_count < LOCKS_MAX ? malloc(sizeof(*lock)) : NULL;
    if (!lock) return NULL;
    lock_count++;
    made[place]++;
    lock->place = place;
    return lock;
}

static void lock_free(struct lock *lock)
{
    if (!lock) return;
    lock_count--;
    made[lock->place]--;
    free(lock);
}

static bool lock_overlaps(const struct lock *a, const struct lock *b)
{
    return a->whole == b->whole && a->start <= b->last && b->start <= a->last;
}

/* Somebody else's lock that is in the way, or NULL. */
static const struct lock *lock_conflict(const struct inode *inode, const struct lock *wanted)
{
    for (const struct lock *lock = inode->locks; lock; lock = lock->next)
        if (lock->owner != wanted->owner && (lock->write || wanted->write) &&
            lock_overlaps(lock, wanted))
            return lock;
    return NULL;
}

/* Takes wanted's range out of what its owner has. *spare: used up when one is split. */
static void lock_carve(struct inode *inode, const struct lock *wanted, struct lock **spare)
{
    struct lock *lock, **link = &inode->locks;
    while ((lock = *link)) {
        if (lock->owner != wanted->owner || !lock_overlaps(lock, wanted)) {
            link = &lock->next;
            continue;
        }
        bool before = lock->start<wanted->start, after = lock->last> wanted->last;
        if (before && after) {
            struct lock *rest = *spare;
            *spare = NULL;
            unsigned place = rest->place;
            *rest = *lock;
            rest->place = place;
            rest->start = wanted->last + 1;
            lock->next = rest;
            lock->last = wanted->start - 1;
            return;
        }
        if (before)
            lock->last = wanted->start - 1;
        else if (after)
            lock->start = wanted->last + 1;
        if (before || after) {
            link = &lock->next;
        } else {
            *link = lock->next;
            lock_free(lock);
        }
    }
}

/* Sets wanted (or only frees its range): 0, -EAGAIN, -ENOLCK. */
static long lock_set(struct inode *inode, const struct lock *wanted, bool unlock)
{
    if (!unlock && lock_conflict(inode, wanted)) return -EAGAIN;
    if (unlock && !inode->locks) return 0;
    if (!unlock && !lock_fair(wanted->place)) return -ENOLCK;
    struct lock *lock = unlock ? NULL : lock_new(wanted->place), *spare = lock_new(wanted->place);
    if (!spare || (!lock && !unlock)) {
        lock_free(lock);
        lock_free(spare);
        return -ENOLCK;
    }
    lock_carve(inode, wanted, &spare);
    lock_free(spare);
    if (lock) {
        *lock = *wanted;
        lock->next = inode->locks;
        inode->locks = lock;
    }
    wake(&waiting);
    return 0;
}

/* The range of a struct flock, checked. */
static long lock_range(const struct file *file, const struct flock *flock, struct lock *lock)
{
    int64_t base = 0, end;
    if (flock->l_whence == SEEK_CUR)
        base = (int64_t)file->position;
    else if (flock->l_whence == SEEK_END)
        base = (int64_t)file->inode->size;
    else if (flock->l_whence != SEEK_SET)
        return -EINVAL;
    if (__builtin_add_overflow(base, flock->l_start, &lock->start)) return -EOVERFLOW;
    if (flock->l_len < 0) {
        if (__builtin_add_overflow(lock->start, flock->l_len, &end)) return -EINVAL;
        lock->last = lock->start - 1;
        lock->start = end;
    } else if (!flock->l_len) {
        lock->last = FOREVER;
    } else if (__builtin_add_overflow(lock->start, flock->l_len - 1, &lock->last)) {
        return -EOVERFLOW;
    }
    return lock->start < 0 ? -EINVAL : 0;
}

static long lock_get(struct thread *thread, const struct inode *inode, struct flock *flock,
                     const struct lock *wanted)
{
    const struct lock *lock = lock_conflict(inode, wanted);
    flock->l_type = F_UNLCK;
    if (lock) {
        flock->l_type = lock->write ? F_WRLCK : F_RDLCK;
        flock->l_whence = SEEK_SET;
        flock->l_start = lock->start;
        flock->l_len = lock->last == FOREVER ? 0 : lock->last - lock->start + 1;
        flock->l_pid = lock->pid;
    }
    return window_put(thread, 0, flock, sizeof(*flock));
}

long lock_fcntl(struct thread *thread, struct file *file, unsigned command, uint64_t at)
{
    struct flock flock;
    struct lock wanted;
    bool own = command == F_OFD_GETLK || command == F_OFD_SETLK || command == F_OFD_SETLKW;
    unsigned access = file->flags & O_ACCMODE;
    if (window_get(thread, at, &flock, sizeof(flock)) < 0) return -EFAULT;
    if (!file->inode) return -EBADF;
    if (own && flock.l_pid) return -EINVAL;
    if (flock.l_type != F_RDLCK && flock.l_type != F_WRLCK && flock.l_type != F_UNLCK)
        return -EINVAL;
    wanted = (struct lock){.owner = own ? (void *)file : (void *)thread->process,
                           .write = flock.l_type == F_WRLCK,
                           .pid = own ? -1 : thread->process->pid,
                           .place = (unsigned)(thread->process - processes)};
    long r = lock_range(file, &flock, &wanted);
    if (r < 0) return r;
    if (command == F_GETLK || command == F_OFD_GETLK)
        return flock.l_type == F_UNLCK ? -EINVAL : lock_get(thread, file->inode, &flock, &wanted);
    if ((flock.l_type == F_RDLCK && access == O_WRONLY) ||
        (flock.l_type == F_WRLCK && access == O_RDONLY))
        return -EBADF;
    r = lock_set(file->inode, &wanted, flock.l_type == F_UNLCK);
    if (r == -EAGAIN && (command == F_SETLKW || command == F_OFD_SETLKW))
        return wait_on(&waiting, thread);
    return r;
}

long lock_flock(struct thread *thread, struct file *file, unsigned operation)
{
    unsigned kind = operation & ~(unsigned)LOCK_NB;
    if (kind != LOCK_SH && kind != LOCK_EX && kind != LOCK_UN) return -EINVAL;
    if (!file->inode) return -EBADF;
    struct lock wanted = {.owner = file,
                          .whole = true,
                          .write = kind == LOCK_EX,
                          .place = (unsigned)(thread->process - processes),
                          .last = FOREVER};
    long r = lock_set(file->inode, &wanted, kind == LOCK_UN);
    return r == -EAGAIN && !(operation & LOCK_NB) ? wait_on(&waiting, thread) : r;
}

/* All locks of an owner on the inode end. */
static void lock_drop(struct inode *inode, const void *owner)
{
    struct lock *lock, **link = &inode->locks;
    while ((lock = *link)) {
        if (lock->owner == owner) {
            *link = lock->next;
            lock_free(lock);
        } else {
            link = &lock->next;
        }
    }
    wake(&waiting);
}

void lock_close(struct process *process, struct inode *inode)
{
    if (inode->locks) lock_drop(inode, process);
}

void lock_end(struct file *file) { lock_drop(file->inode, file); }
