/* SPDX-License-Identifier: MIT
 *
 * Open directories: reading their entries, those that came last first (as Linux' tmpfs has it).
 * The position is 0 before `.`, 1 before `..`, 2 before the first entry, and then that entry's
 * number, plus 1, behind which it is: numbers only grow along the list, so what is removed or
 * added meanwhile spoils nothing, and what is added is not seen. A cursor (file->data, made when
 * it is first read) saves looking for the place. Behind its entries a directory of /proc has
 * those that proc_next tells, at positions from PROC_POSITION on. */
#include "dir.h"
#include "files.h"
#include "near.h"
#include "../proc/proc.h"
#include "../../../../lib/exo/exo.h"
#include <linux/fs.h>

#define PROC_POSITION (1ul << 40)

/* As getdents64(2) and getdents(2) lay them out. */
struct dirent64 {
    uint64_t inode;
    int64_t next; /* position behind it */
    uint16_t length; /* of all, with the name and what follows */
    uint8_t type;
    char name[];
};
struct dirent_old {
    uint64_t inode, next;
    uint16_t length;
    char name[]; /* the type is the record's last byte */
};

/* Entries lie here before they go, all at once, to who reads them. */
#define LISTED 4096u
static uint8_t listed[LISTED + 8] __attribute__((aligned(8))); /* names are stored in words */

struct listing {
    bool old;
    size_t head; /* bytes before the name */
    uint8_t *at, *end;
    uint64_t position; /* behind what is listed */
};

/* Stores one entry, whose name has zeroes to the next multiple of 8 behind it: false when it does
 * not fit. */
static inline __attribute__((always_inline)) bool list_put(struct listing *list,
                                                           const uint64_t *name, uint32_t length,
                                                           uint64_t number, uint32_t mode,
                                                           uint64_t next)
{
    size_t size =
        (offsetof(struct dirent64, name) + length + 1 + 7) & ~7ul; /* as in the old form */
    any_word *words = (any_word *)list->at, *text = (any_word *)(list->at + list->head);
    uint8_t type = (uint8_t)(mode >> 12);
    if (size > (size_t)(list->end - list->at)) return false;
    words[size / 8 - 1] = 0;
    words[0] = number;
    words[1] = next;
    words[2] = size | (uint64_t)type << 16;
    text[0] = name[0];
    for (uint32_t i = 1; i <= length / 8; i++)
        text[i] = name[i];
    if (list->old) list->at[size - 1] = type;
    list->at += size;
    list->position = next;
    return true;
}

/* The cursor of the open directory, in its place; NULL when there is no memory. */
static struct cursor *cursor_get(struct file *file)
{
    struct inode *directory = file->inode;
    struct cursor *cursor = file->data;
    if (!cursor) {
        if (!(cursor = malloc(sizeof(*cursor)))) return NULL;
        file->data = cursor;
        cursor->next = directory->dir.cursors;
        cursor->link = &directory->dir.cursors;
        if (cursor->next) cursor->next->link = &cursor->next;
        directory->dir.cursors = cursor;
        cursor->at = file->position < PROC_POSITION ? directory->dir.last : NULL;
        while (cursor->at && file->position > 2 && cursor->at->number + 1 >= file->position)
            cursor->at = cursor->at->previous;
    }
    return cursor;
}

static void cursor_drop(struct file *file)
{
    struct cursor *cursor = file->data;
    if (!cursor) return;
    *cursor->link = cursor->next;
    if (cursor->next) cursor->next->link = cursor->link;
    free(cursor);
    file->data = NULL;
}

/* `.` and `..`: false when they do not fit. */
static bool list_dots(struct listing *list, struct inode *directory)
{
    static const uint64_t one = '.', two = '.' | '.' << 8;
    struct inode *parent = directory;
    if (list->position == 0 && !list_put(list, &one, 1, directory->number, S_IFDIR, 1))
        return false;
    if (list->position != 1) return true;
    while (parent == parent->fs->root && parent->fs->covered)
        parent = parent->fs->covered;
    return list_put(list, &two, 2, parent->dir.parent->number, S_IFDIR, 2);
}

static bool list_proc(struct listing *list, struct inode *directory)
{
    uint64_t position = list->position, number, name[2] = {0};
    uint32_t mode;
    position = position < PROC_POSITION ? 0 : position - PROC_POSITION;
    while (proc_next(directory, &position, (char *)name, &number, &mode))
        if (!list_put(list, name, (uint32_t)strlen((char *)name), number, mode,
                      position + PROC_POSITION))
            return false;
    return true;
}

static bool list_all(struct listing *list, struct inode *directory, struct cursor *cursor)
{
    if (list->position < 2 && !list_dots(list, directory)) return false;
    struct entry *entry = cursor->at;
    while (entry && list_put(list, entry->name, entry->length, entry->inode->number,
                             entry->inode->mode, entry->number + 1))
        entry = entry->previous;
    cursor->at = entry;
    if (entry) return false;
    return !directory->proc.node || list_proc(list, directory);
}

static long directory_list(struct file *file, struct iobuf *io, bool old, uint64_t near)
{
    bool window = io->run[0].base == thread_current->window->bytes; /* with room behind */
    uint8_t *to = window ? io->run[0].base : listed;
    struct listing list = {.old = old,
                           .head = old ? offsetof(struct dirent_old, name)
                                       : offsetof(struct dirent64, name),
                           .at = to,
                           .end = to + EXO_MIN(io->left, LISTED),
                           .position = file->position};
    struct inode *directory = file->inode;
    const struct fs_ops *ops = directory->fs->ops;
    if (!directory->nlink && !directory->proc.node) return -ENOENT;
    long r = ops ? ops->load(directory) : 0;
    if (r < 0) return r;
    struct cursor *cursor = cursor_get(file);
    if (!cursor) return -ENOMEM;
    const struct entry *first = cursor->at;
    bool all = list_all(&list, directory, cursor);
    file->position = list.position;
    if (!all && list.at == to) return -EINVAL;
    if (near && directory->fs == &root_fs) near_list(thread_current, first, near - 1, all);
    size_t n = (size_t)(list.at - to);
    return window ? (long)n : (long)iobuf_put(io, listed, n);
}

static long directory_getdents(struct file *file, struct iobuf *io, uint64_t near)
{
    return directory_list(file, io, false, near);
}

long directory_getdents_old(struct file *file, struct iobuf *io)
{
    return directory_list(file, io, true, 0);
}

long position_seek(struct file *file, int64_t offset, int whence)
{
    int64_t at = offset;
    if (whence == SEEK_CUR) {
        if (__builtin_add_overflow((int64_t)file->position, offset, &at)) return -EINVAL;
    } else if (whence != SEEK_SET) {
        return -EINVAL;
    }
    if (at < 0) return -EINVAL;
    file->position = (uint64_t)at;
    return at;
}

static long directory_seek(struct file *file, int64_t offset, int whence)
{
    uint64_t before = file->position;
    long at = position_seek(file, offset, whence);
    if (file->position != before) cursor_drop(file);
    return at;
}

const struct file_ops directory_ops = {
    .seek = directory_seek, .close = cursor_drop, .getdents = directory_getdents};
