/* SPDX-License-Identifier: MIT
 *
 * Inodes and the entries of directories: made, found, counted, freed. inode.h says who
 * holds what. Every structure is the server's own heap; the server is one thread. */
#include "../process/memory.h"
#include "../process/rewritten.h"
#include "inode.h"
#include "../budget.h"
#include "data.h"
#include "../entry.h"
#include "files.h"
#include "mount.h"
#include "../waiting/pipe.h"
#include "../../../../lib/exo/exo.h"

struct entry *entry_buckets[LX_BUCKETS];
uint64_t names_key[2];
static uint64_t next_inode = 1;
uint64_t inode_count, entry_count, names_changed, directories_changed;

static struct budget names = {.most = 8u << 20, .each = 8u << 20};
static struct budget fixed_names = {.most = 1u << 20, .each = 1u << 20};

static struct budget served_names = {.most = 2u << 20,
                                     .each = 2u << 20}; /* of what processes serve */

static struct budget *names_of(const struct filesystem *fs)
{
    return fs->fixed ? &fixed_names : fs->ops ? &served_names : &names;
}

void *names_take(const struct filesystem *fs, size_t n) { return budget_take(names_of(fs), 0, n); }

void names_give(const struct filesystem *fs, void *memory, size_t n)
{
    budget_give(names_of(fs), 0, memory, n);
}

/* ---- names ---- */

void name_from(struct name *name, char room[LX_NAME_ROOM], const char *text, size_t length)
{
    memcpy(room, text, length);
    memset(room + length, 0, 8);
    name_take(name, room);
}

struct entry *entry_find(const struct inode *directory, const struct name *name)
{
    return entry_look(directory, name);
}

/* ---- inodes ---- */

struct lx_timespec time_now(void)
{
    uint64_t now = time_real();
    return (struct lx_timespec){(int64_t)(now / NANOSECONDS), (int64_t)(now % NANOSECONDS)};
}

struct inode *inode_new(struct filesystem *fs, uint32_t mode)
{
    struct inode *inode = names_take(fs, sizeof(*inode));
    if (!inode) return NULL;
    struct lx_timespec now = time_now();
    *inode = (struct inode){
        .mode = mode,
        .references = 1,
        .number = next_inode++,
        .atime = now,
        .mtime = now,
        .ctime = now,
        .fs = fs,
    };
    if (inode_is(inode, S_IFDIR)) {
        inode->dir.next_number = 2;
        inode->dir.parent = inode;
    }
    fs->held++;
    inode_count++;
    return inode;
}

void inode_get(struct inode *inode)
{
    if (!inode->references++) inode->fs->held++;
}

/* Frees it: the directory that it held a reference of, or NULL. */
static struct inode *inode_free(struct inode *inode)
{
    struct inode *parent = NULL;
    if (inode_is(inode, S_IFDIR)) directories_changed++; /* it may be remembered (path.c) */
    if (inode->node) inode->fs->ops->forget(inode);
    if (inode_is(inode, S_IFREG)) {
        if (inode->data.executed) rewritten_end(inode);
        data_truncate(inode, 0);
    } else if (inode_is(inode, S_IFLNK))
        names_give(inode->fs, inode->target, inode->size + LX_TARGET_ROOM);
    else if (inode_is(inode, S_IFIFO) && inode->pipe)
        inode->pipe->home = NULL; /* somebody still waits to open it */
    else if (inode_is(inode, S_IFDIR) && inode->dir.parent != inode)
        parent = inode->dir.parent;
    inode_count--;
    names_give(inode->fs, inode, sizeof(*inode));
    return parent;
}

void inode_put(struct inode *inode)
{
    while (inode && !--inode->references) {
        struct filesystem *fs = inode->fs;
        bool last = !--fs->held && fs->detached && fs->root;
        inode = inode->nlink ? NULL : inode_free(inode);
        if (last) fs_end(fs);
    }
}

void inode_changed(struct inode *inode)
{
    lx_shared->changes++;
    inode->ctime = time_now();
}

void inode_modified(struct inode *inode)
{
    lx_shared->changes++;
    inode->ctime = inode->mtime = time_now();
}

/* ---- entries ---- */

/* The entry is not its name any more. A directory without it loses `.` too, and keeps its
 * parent. */
static void inode_unlink(struct inode *inode, const struct entry *entry)
{
    inode_get(inode);
    inode->nlink--;
    if (inode->entry == entry) inode->entry = NULL;
    if (inode_is(inode, S_IFDIR)) {
        inode->nlink--;
        inode->dir.parent->nlink--;
        inode_get(inode->dir.parent);
    }
    inode_changed(inode);
    inode_put(inode);
}

/* The directory is where that entry says. */
static void directory_moved(struct inode *inode, struct entry *entry)
{
    inode->dir.parent = entry->parent;
    entry->parent->nlink++;
}

static void inode_link(struct inode *inode, struct entry *entry)
{
    entry->inode = inode;
    inode->entry = entry;
    inode->nlink++;
    if (inode_is(inode, S_IFDIR)) {
        inode->nlink++;
        directory_moved(inode, entry);
    }
    inode_changed(inode);
}

/* An entry without an inode, in its place; NULL when there is no memory. */
static struct entry *entry_new(struct inode *directory, const struct name *name)
{
    uint32_t words = name->length / 8 + 1;
    struct entry *entry = names_take(directory->fs, sizeof(*entry) + words * 8ul);
    if (!entry) return NULL;
    entry->name[words - 1] = 0;
    memcpy(entry->name, name->text, name->length);
    entry->hash = name->hash;
    entry->length = name->length;
    entry->parent = directory;
    entry->number = directory->dir.next_number++;
    struct entry **bucket = entry_bucket(directory, name->hash);
    entry->hash_next = *bucket;
    *bucket = entry;
    entry->next = NULL;
    entry->previous = directory->dir.last;
    *(entry->previous ? &entry->previous->next : &directory->dir.first) = entry;
    directory->dir.last = entry;
    entry_count++;
    lx_shared->names++;
    inode_modified(directory);
    return entry;
}

/* Takes an entry out of its directory; nothing is said of its inode. */
static void entry_free(struct entry *entry)
{
    struct inode *directory = entry->parent;
    struct entry **link = entry_bucket(directory, entry->hash);
    while (*link != entry)
        link = &(*link)->hash_next;
    *link = entry->hash_next;
    for (struct cursor *cursor = directory->dir.cursors; cursor; cursor = cursor->next)
        if (cursor->at == entry) cursor->at = entry->previous;
    *(entry->previous ? &entry->previous->next : &directory->dir.first) = entry->next;
    *(entry->next ? &entry->next->previous : &directory->dir.last) = entry->previous;
    inode_modified(directory);
    names_changed++;
    entry_count--;
    names_give(directory->fs, entry, sizeof(*entry) + (entry->length / 8 + 1) * 8ul);
}

long entry_add(struct inode *directory, const struct name *name, struct inode *inode)
{
    struct entry *entry = entry_new(directory, name);
    if (!entry) return -ENOSPC;
    inode_link(inode, entry);
    return 0;
}

void entry_remove(struct entry *entry)
{
    if (inode_is(entry->inode, S_IFDIR)) directories_changed++;
    inode_unlink(entry->inode, entry);
    entry_free(entry);
}

long entry_move(struct entry *entry, struct inode *directory, const struct name *name,
                struct entry *over)
{
    struct inode *inode = entry->inode;
    if (inode_is(inode, S_IFDIR)) directories_changed++;
    if (over) {
        names_changed++;
        lx_shared->names++;
        inode_unlink(over->inode, over);
        inode_modified(directory);
    } else if (!(over = entry_new(directory, name))) {
        return -ENOSPC;
    }
    over->inode = inode;
    inode->entry = over;
    if (inode_is(inode, S_IFDIR)) {
        entry->parent->nlink--;
        directory_moved(inode, over);
    }
    entry_free(entry);
    inode_changed(inode);
    return 0;
}

void entry_exchange(struct entry *a, struct entry *b)
{
    struct inode *inode = a->inode;
    names_changed++;
    directories_changed++;
    lx_shared->names++;
    a->inode = b->inode;
    b->inode = inode;
    inode->entry = b;
    a->inode->entry = a;
    if (inode_is(inode, S_IFDIR)) a->parent->nlink--;
    if (inode_is(a->inode, S_IFDIR)) b->parent->nlink--;
    if (inode_is(inode, S_IFDIR)) directory_moved(inode, b);
    if (inode_is(a->inode, S_IFDIR)) directory_moved(a->inode, a);
    inode_modified(a->parent);
    inode_modified(b->parent);
    inode_changed(a->inode);
    inode_changed(b->inode);
}

struct inode *inode_make(struct inode *directory, const struct name *name, uint32_t mode)
{
    struct inode *inode = inode_new(directory->fs, mode);
    if (!inode) return NULL;
    if (entry_add(directory, name, inode) < 0) {
        inode_put(inode);
        return NULL;
    }
    inode_put(inode);
    return inode;
}

long symlink_make(struct inode *directory, const struct name *name, const char *target)
{
    size_t length = strlen(target);
    char *text = names_take(directory->fs, length + LX_TARGET_ROOM);
    struct inode *inode = text ? inode_make(directory, name, S_IFLNK | 0777) : NULL;
    if (!inode) {
        names_give(directory->fs, text, length + LX_TARGET_ROOM);
        return -ENOSPC;
    }
    memcpy(text, target, length + 1);
    inode->target = text;
    inode->size = length;
    return 0;
}
