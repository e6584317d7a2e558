/* SPDX-License-Identifier: MIT
 *
 * Open directories: reading their entries. The position is 0 before `.`, 1 before `..`,
 * and then an entry's number, which only grow along the list: what is removed or added
 * meanwhile spoils nothing. A cursor (file->data, made when it is first read) saves looking
 * for the place. Behind its entries a directory of /proc has those that proc_next tells,
 * at positions from PROC_POSITION on. */
#include "dir.h"
#include "files.h"
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
    char name[LX_NAME_MAX + 9];
};
struct dirent_old {
    uint64_t inode, next;
    uint16_t length;
    char name[LX_NAME_MAX + 10]; /* the type is the record's last byte */
};

struct listing {
    struct file *file;
    struct iobuf *io;
    bool old;
    size_t done;
};

/* Stores one entry: false when it does not fit. */
static bool list_put(struct listing *list, const char *name, size_t length, uint64_t number,
                     uint32_t mode, uint64_t next)
{
    union {
        struct dirent64 entry;
        struct dirent_old old;
        char bytes[sizeof(struct dirent64)];
    } record;
    size_t head = list->old ? offsetof(struct dirent_old, name) : offsetof(struct dirent64, name);
    size_t size = (head + length + (list->old ? 2 : 1) + 7) & ~7ul;
    uint8_t type = (uint8_t)(mode >> 12);
    if (size > list->io->left) return false;
    __builtin_memset(record.bytes + size - 8, 0, 8);
    record.entry.inode = number;
    record.entry.next = (int64_t)next;
    record.entry.length = (uint16_t)size;
    memcpy(record.bytes + head, name, length);
    if (list->old) {
        record.bytes[head + length] = 0;
        record.bytes[size - 1] = (char)type;
    } else {
        record.entry.type = type;
    }
    iobuf_put(list->io, &record, size);
    list->done += size;
    list->file->position = next;
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
        cursor->at = directory->dir.first;
        while (cursor->at && cursor->at->number < file->position)
            cursor->at = cursor->at->next;
    } else if (!cursor->at) { /* entries that came since we were at the end */
        struct entry *entry = directory->dir.last;
        for (; entry && entry->number >= file->position; entry = entry->previous)
            cursor->at = entry;
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
static bool list_dots(struct listing *list)
{
    struct file *file = list->file;
    struct inode *directory = file->inode, *parent = directory;
    if (file->position == 0 && !list_put(list, ".", 1, directory->number, S_IFDIR, 1)) return false;
    if (file->position != 1) return true;
    while (parent == parent->fs->root && parent->fs->covered)
        parent = parent->fs->covered;
    return list_put(list, "..", 2, parent->dir.parent->number, S_IFDIR, 2);
}

static bool list_proc(struct listing *list)
{
    struct inode *directory = list->file->inode;
    uint64_t position = list->file->position, number;
    uint32_t mode;
    char name[16];
    position = position < PROC_POSITION ? 0 : position - PROC_POSITION;
    while (proc_next(directory, &position, name, &number, &mode))
        if (!list_put(list, name, strlen(name), number, mode, position + PROC_POSITION))
            return false;
    return true;
}

static bool list_all(struct listing *list, struct cursor *cursor)
{
    struct inode *directory = list->file->inode;
    if (list->file->position < 2 && !list_dots(list)) return false;
    for (; cursor->at; cursor->at = cursor->at->next) {
        struct entry *entry = cursor->at;
        struct inode *inode = entry->inode;
        if (!list_put(list, (const char *)entry->name, entry->length, inode->number, inode->mode,
                      entry->number + 1))
            return false;
    }
    return !directory->proc.node || list_proc(list);
}

static long directory_list(struct file *file, struct iobuf *io, bool old)
{
    struct listing list = {file, io, old, 0};
    const struct fs_ops *ops = file->inode->fs->ops;
    if (!file->inode->nlink && !file->inode->proc.node) return -ENOENT;
    long r = ops ? ops->load(file->inode) : 0;
    if (r < 0) return r;
    struct cursor *cursor = cursor_get(file);
    if (!cursor) return -ENOMEM;
    return !list_all(&list, cursor) && !list.done ? -EINVAL : (long)list.done;
}

static long directory_getdents(struct file *file, struct iobuf *io)
{
    return directory_list(file, io, false);
}

long directory_getdents_old(struct file *file, struct iobuf *io)
{
    return directory_list(file, io, true);
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
