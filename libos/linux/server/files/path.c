/* SPDX-License-Identifier: MIT
 *
 * The walk along a path, and the way back. Paths are copies in struct walk: nobody changes
 * them meanwhile. Bounded: names of at most LX_PATH_MAX bytes, LX_SYMLINKS links. */
#include "../entry.h"
#include "../process/memory.h"
#include "../proc/proc.h"
#include "../../../../lib/exo/exo.h"

struct walk walk_first, walk_second;

/* Where a path begins: NULL and *error when the descriptor is not good for that. */
static struct inode *walk_start(struct process *process, int dirfd, struct file **magic,
                                long *error)
{
    if (dirfd == AT_FDCWD) return process->cwd;
    struct file *file = dirfd >= 0 && dirfd < LX_FDS ? process->fds[dirfd].file : NULL;
    if (!file) {
        *error = -EBADF;
        return NULL;
    }
    *magic = file;
    *error = -ENOTDIR;
    return file->inode;
}

static struct inode *walk_up(struct inode *inode, const struct inode *root)
{
    while (inode != root && inode == inode->fs->root && inode->fs->covered)
        inode = inode->fs->covered;
    return inode == root ? inode : inode_top(inode->dir.parent);
}

/* Follows a link; `rest` of the path comes after it. 0: *at is its text, walked from *inode
 * on; or it has led to *inode at once. */
static long walk_link(struct walk *walk, struct process *process, struct inode *link,
                      struct inode **inode, const char **at, const char *rest)
{
    struct inode *jump;
    if (link->proc.node) walk->counted = false;
    if (walk->links == LX_SYMLINKS) return -ELOOP;
    if (*rest) walk->rest[walk->depth++] = rest;
    walk->links++;
    if (!link->proc.node) {
        long r = link->fs->ops ? link->fs->ops->target(link) : 0;
        if (r < 0) return r;
        *at = link->target;
    } else if (proc_jump(link, &jump, &walk->magic)) {
        *inode = jump;
        *at = "";
        return 0;
    } else {
        char *text = walk->link + walk->link_used;
        size_t room = sizeof(walk->link) - 8 - walk->link_used;
        if (room < LX_NAME_MAX) return -ENAMETOOLONG;
        long r = proc_link(link, text, room);
        if (r < 0) return r;
        walk->link_used += strlen(text) + 1;
        *at = text;
    }
    if (!**at) return -ENOENT;
    if (**at == '/') *inode = process->root;
    return 0;
}

/* The path ends with what has no name there: `.`, `..`, a slash, a jump. */
static long walk_end(struct walk *walk, struct inode *inode, unsigned dots, bool slash)
{
    walk->special = true;
    walk->dots = dots;
    walk->last.length = 0;
    walk->directory = walk->inode = inode;
    walk->entry = NULL;
    if (slash && (!inode || !inode_is(inode, S_IFDIR)) && !walk->magic) return -ENOTDIR;
    return 0;
}

/* How many dots the name is: 0 unless it is `.` or `..`. */
static inline unsigned name_dots(const struct name *name)
{
    if ((name->tail & 0xff) != '.' || name->length > 2) return 0;
    return name->length == 1 ? 1 : name->tail == ('.' | '.' << 8) ? 2 : 0;
}

/* One name of the walk, not `.` or `..`, in `directory`. */
static inline struct inode *walk_find(struct inode *directory, const struct name *name,
                                      struct entry **entry)
{
    *entry = entry_look(directory, name);
    if (*entry) return inode_top((*entry)->inode);
    return directory->proc.node ? proc_find(directory, name) : NULL;
}

/* The last name, not followed, in `directory`. */
static long walk_last(struct walk *walk, struct inode *directory, struct entry *entry,
                      struct inode *found, uint32_t flags)
{
    walk->magic = NULL;
    walk->directory = directory;
    walk->entry = entry;
    walk->inode = found;
    if (flags & WALK_PARENT) return 0;
    if (!found) return -ENOENT;
    return walk->slash && !inode_is(found, S_IFDIR) ? -ENOTDIR : 0;
}

/* A name that no directory can have: what a walk to it says. */
static long walk_long(struct walk *walk, struct inode *directory, bool end, uint32_t flags)
{
    if (!directory->nlink && !directory->proc.node) return -ENOENT; /* it was removed */
    if (!end || !(flags & WALK_LONG)) return -ENAMETOOLONG;
    return walk_last(walk, directory, NULL, NULL, WALK_PARENT);
}

/* Directories that walks have lately come through: from an inode along a text that ends
 * with a slash, all of it names of directories, which holds until directories_changed. */
#define RECENT 2
#define RECENT_WORDS 6
static struct recent {
    const struct inode *start;
    struct inode *directory;
    uint64_t changed;
    uint32_t length; /* bytes of the text */
    uint64_t text[RECENT_WORDS]; /* zeroes behind them */
} recent[RECENT];

/* The one with whose text the path begins, and then goes on with a name; or NULL. */
static inline const struct recent *recent_find(const struct inode *start, const char *path)
{
    for (const struct recent *r = recent; r < recent + RECENT; r++) {
        if (r->start != start || r->changed != directories_changed) continue;
        uint32_t i = 0, words = r->length / 8;
        while (i < words && r->text[i] == word_at(path + 8ul * i))
            i++;
        uint64_t mask = (1ul << r->length % 8 * 8) - 1;
        if (i == words && r->text[i] == (word_at(path + 8ul * i) & mask) && path[r->length] &&
            path[r->length] != '/')
            return r;
    }
    return NULL;
}

/* A path that a walk has lately gone to its end, by names of directories to what is no link:
 * holds until names_changed. */
static struct whole {
    const struct inode *start;
    uint64_t changed;
    uint64_t mask; /* of the last word, for the text and its end */
    uint32_t last; /* the word with the text's end */
    struct inode *directory;
    struct entry *entry; /* of the last name */
    uint64_t text[RECENT_WORDS];
} wholes[RECENT];

/* Whether the path in the thread's window is a recent one: then the walk is over, and walk->path
 * is not needed. Each word is taken once and compared, the last one first: there names of one
 * directory differ. */
static inline bool whole_find(struct walk *walk, const struct thread *thread, int dirfd,
                              uint64_t offset)
{
    const struct process *process = thread->process;
    const uint8_t *bytes = thread->window->bytes + offset;
    if (offset > LX_WINDOW_BYTES - 8 * RECENT_WORDS) return false;
    uint64_t first = word_fetch(bytes);
    const struct inode *start = (first & 0xff) == '/' ? process->root
                                : dirfd == AT_FDCWD   ? process->cwd
                                                      : NULL;
    for (const struct whole *w = wholes; w < wholes + RECENT; w++) {
        uint32_t i = w->last;
        if (w->start != start || w->changed != names_changed) continue;
        if (w->text[i] != ((i ? word_fetch(bytes + 8ul * i) : first) & w->mask)) continue;
        while (i > 1 && w->text[i - 1] == word_fetch(bytes + 8ul * (i - 1)))
            i--;
        if (i > 1 || (i && w->text[0] != first)) continue;
        walk->entry = w->entry;
        walk->inode = inode_top(w->entry->inode);
        walk->directory = w->directory;
        walk->last.length = w->entry->length;
        walk->magic = NULL;
        walk->special = walk->slash = false;
        walk->counted = true;
        return true;
    }
    return false;
}

/* Remembers where the path, of `length` bytes, has led. */
static inline void whole_add(const struct walk *walk, const struct inode *start, size_t length)
{
    static unsigned turn;
    if (length >= 8 * RECENT_WORDS) return;
    struct whole *w = &wholes[turn++ % RECENT];
    uint32_t last = (uint32_t)(length / 8);
    w->start = start;
    w->changed = names_changed;
    w->mask = ~0ul >> (56 - length % 8 * 8); /* the text and its end */
    w->last = last;
    w->directory = walk->directory;
    w->entry = walk->entry;
    for (uint32_t i = 0; i < last; i++)
        w->text[i] = word_at(walk->path + 8ul * i);
    w->text[last] = word_at(walk->path + 8ul * last) & w->mask;
}

/* Remembers that the path's first bytes lead to the directory. */
static void recent_add(const struct inode *start, struct inode *directory, const char *path,
                       size_t length)
{
    static unsigned turn;
    struct recent *r = &recent[turn++ % RECENT];
    if (length >= sizeof(r->text)) return;
    *r = (struct recent){start, directory, directories_changed, (uint32_t)length, {0}};
    memcpy(r->text, path, length);
}

/* The usual case: one existing name that is no link, in a recent directory. False: it is not
 * that case. */
static bool walk_quick(struct walk *walk, const struct inode *start, const struct recent *r)
{
    struct name name;
    name_take(&name, walk->path + r->length);
    if (walk->path[r->length + name.length] || name_dots(&name)) return false;
    struct entry *entry = entry_look(r->directory, &name);
    if (!entry) return false;
    struct inode *inode = inode_top(entry->inode);
    if (inode_is(inode, S_IFLNK)) return false;
    walk->inode = inode;
    walk->directory = r->directory;
    walk->entry = entry;
    walk->last.length = name.length;
    whole_add(walk, start, r->length + name.length);
    return true;
}

/* The walk from an inode on, or from the recent directory `r` (NULL: none). Further rests, behind links that are
 * being followed, are in walk->rest; slash: one of these names had one behind it. */
static long walk_names(struct walk *walk, struct process *process, struct inode *inode,
                       const struct recent *r, uint32_t flags)
{
    struct entry *entry;
    const struct inode *start = inode;
    const char *path = walk->path, *at = path, *known = path; /* where `r` has led to */
    bool slash = false, plain = true; /* only names of directories so far */
    walk->depth = walk->links = walk->link_used = 0;
    if (r) {
        inode = r->directory;
        known = at += r->length;
    }
    for (;;) {
        struct name name;
        while (*at == '/')
            at++;
        if (!*at) {
            if (!walk->depth) return walk_end(walk, inode, 0, slash);
            at = walk->rest[--walk->depth];
        }
        if (!inode || !inode_is(inode, S_IFDIR)) return -ENOTDIR;
        name_take(&name, at);
        const char *rest = at + name.length;
        while (*rest == '/')
            rest++;
        bool end = !*rest && !walk->depth;
        if (end) {
            walk->slash = slash |= at[name.length] == '/';
            walk->last = name;
        }
        unsigned dots = name_dots(&name);
        if (dots) {
            walk->magic = NULL;
            plain = false;
            if (dots == 2) inode = walk_up(inode, process->root);
            if (end) return walk_end(walk, inode, dots, false);
            at = rest;
            continue;
        }
        if (name.length > LX_NAME_MAX) return walk_long(walk, inode, end, flags);
        struct inode *found = walk_find(inode, &name, &entry);
        walk->absent = !found && plain && inode->fs == &root_fs;
        if (end && plain && !slash && at > known)
            recent_add(start, inode, path, (size_t)(at - path));
        if (!found && inode->fs->ops) {
            long error = inode->fs->ops->load(inode);
            if (error < 0) return error;
        }
        if (!found || (end && flags & WALK_PARENT && (slash || !(flags & WALK_FOLLOW))))
            return end ? walk_last(walk, inode, entry, found, flags) : -ENOENT;
        if (inode_is(found, S_IFLNK) && (!end || slash || flags & WALK_FOLLOW)) {
            long error = walk_link(walk, process, found, &inode, &at, rest);
            if (error < 0) return error;
            plain = false;
            continue;
        }
        plain &= entry != NULL;
        walk->counted &= entry != NULL;
        if (end) return walk_last(walk, inode, entry, found, flags);
        inode = found;
        at = rest;
    }
}

long path_walk(struct walk *walk, struct process *process, int dirfd, uint32_t flags)
{
    long error = -ENOENT;
    struct inode *inode;
    const struct recent *r = NULL;
    if (walk == &walk_first) proc_sweep();
    walk->magic = NULL;
    walk->special = walk->slash = walk->absent = false;
    walk->counted = true;
    inode = walk->path[0] == '/' ? process->root : dirfd == AT_FDCWD ? process->cwd : NULL;
    if (inode) {
        r = recent_find(inode, walk->path);
        if (r && walk_quick(walk, inode, r)) return 0;
    }
    if (walk->path[0] == '/') return walk_names(walk, process, inode, r, flags);
    if (!walk->path[0] && !(flags & WALK_EMPTY)) return -ENOENT;
    inode = walk_start(process, dirfd, &walk->magic, &error);
    if (!walk->path[0]) {
        if (!inode && !walk->magic) return error;
        return walk_end(walk, inode, 0, false);
    }
    if (!inode) return error;
    return walk_names(walk, process, inode, r, flags);
}

long path_from(struct walk *walk, struct thread *thread, uint64_t dirfd, uint64_t offset,
               uint32_t flags)
{
    if (whole_find(walk, thread, (int)dirfd, offset)) return 0;
    long r = window_path(thread, offset, walk->path);
    if (r < 0) return r;
    r = path_walk(walk, thread->process, (int)dirfd, flags);
    if (r == -ENOENT && walk->absent) thread->window->absent = lx_shared->names;
    return r;
}

/* ---- the way back ---- */

/* Puts text before *at: false when there is no room. */
static bool path_prepend(char **at, char *buffer, const char *text, size_t length)
{
    if ((size_t)(*at - buffer) < length) return false;
    *at -= length;
    memcpy(*at, text, length);
    return true;
}

char *path_of(const struct inode *directory, const struct entry *entry, const struct inode *root,
              char *buffer, size_t size)
{
    char *at = buffer + size - 1, proc[16];
    *at = 0;
    if (entry) {
        directory = entry->parent;
        if (!path_prepend(&at, buffer, (const char *)entry->name, entry->length) ||
            !path_prepend(&at, buffer, "/", 1))
            return NULL;
    }
    while (directory != root) {
        if (directory == directory->fs->root && directory->fs->covered) {
            directory = directory->fs->covered;
            continue;
        }
        entry = directory->entry;
        const char *name = entry ? (const char *)entry->name : proc_name(directory, proc);
        if (!name) break;
        if (!path_prepend(&at, buffer, name, strlen(name)) || !path_prepend(&at, buffer, "/", 1))
            return NULL;
        directory = directory->dir.parent;
    }
    if (!*at && !path_prepend(&at, buffer, "/", 1)) return NULL;
    if (directory != root && !path_prepend(&at, buffer, "(unreachable)", 13)) return NULL;
    return at;
}
