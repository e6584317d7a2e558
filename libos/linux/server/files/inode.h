/* SPDX-License-Identifier: MIT
 *
 * Inodes, directories, mounts, and the walk along a path.
 *
 * A directory's entries are a list in the order they were made, each with a number that
 * only grows (getdents' position, which goes from the last one to the first); all entries of all directories are in one hash table by
 * (directory, name). An inode lives while an entry (nlink) or somebody inside the server
 * (references: an open file, a process's directory, a mount) has it. A walk gives an inode
 * without a reference: it is good until the next walk or the end of the call. */
#ifndef LX_INODE_H
#define LX_INODE_H
#include "../../linux.h"

struct file;
struct filesystem;
struct fuse;
struct fuse_node;
struct inode;
struct name;
struct pipe;
struct process;
struct proc_node;
struct statfs;
struct rewritten;
struct walk;
struct lock;

#define LX_DIRECT 6 /* pages that the inode itself names */
#define LX_PER_INDEX 1024u /* frame numbers in an index page */
#define LX_FILE_PAGES (LX_DIRECT + LX_PER_INDEX + LX_PER_INDEX * LX_PER_INDEX)
#define LX_FILE_MAX ((uint64_t)LX_FILE_PAGES * 4096)
#define LX_TARGET_ROOM 9 /* its end, and that walks read words */
#define LX_SYMLINKS 40 /* followed in one walk */

/* What is to change of an inode, by FATTR_* (linux/fuse.h). */
struct fs_change {
    uint32_t valid, mode, uid, gid;
    uint64_t size;
    struct lx_timespec atime, mtime;
};

/* What a file system does that is not all in the tree: all of these. 0, an error, or what a
 * call that waits says: it is made again then. Checks that the tree allows are made before. */
struct fs_ops {
    long (*load)(struct inode *directory); /* 0: all its names are in the tree */
    long (*target)(struct inode *link); /* 0: it has its target */
    /* A new name of what mode says (a link: to target). final: the call ends with that; else
     * it goes on, with the name there. */
    long (*make)(const struct walk *walk, uint32_t mode, uint64_t rdev, const char *target,
                 bool final);
    long (*link)(const struct walk *walk, struct inode *inode);
    long (*remove)(const struct walk *walk);
    long (*rename)(const struct walk *from, const struct walk *to, uint32_t flags);
    long (*attributes)(struct inode *inode); /* 0: they are what they are */
    long (*change)(struct inode *inode, const struct fs_change *change, bool final);
    long (*open)(struct inode *inode, uint32_t flags, struct file **file); /* a regular file */
    long (*contents)(struct inode *inode); /* 0: all of them are pages (data.c) */
    long (*sync)(struct file *file);
    long (*usage)(struct filesystem *fs, struct statfs *statfs);
    long (*unmount)(struct filesystem *fs); /* it is going to: what umount says */
    void (*end)(struct filesystem *fs); /* it is gone; its tree was before */
    void (*forget)(struct inode *inode); /* it is about to be freed */
};

struct filesystem {
    char type[16]; /* "tmpfs" */
    const struct fs_ops *ops; /* NULL: the tree is all there is */
    struct fuse *fuse; /* fuse.h; else NULL */
    uint32_t device; /* st_dev */
    uint32_t magic; /* as statfs has it */
    bool fixed; /* names cannot be made, changed or removed: /proc, /dev/pts */
    bool read_only; /* shown; who serves it refuses what writes */
    bool permanent; /* is never unmounted */
    bool detached; /* unmounted; ends when nothing of it has a reference */
    struct inode *root, *covered; /* covered: the directory it is mounted on; NULL for / */
    struct filesystem *next; /* in the order they were mounted */
    uint64_t pages, pages_max; /* of file contents */
    uint64_t held; /* inodes with references */
    char source[32], path[128]; /* for /proc/mounts */
};
extern struct filesystem root_fs; /* mounted on / */

struct entry {
    struct entry *hash_next;
    struct inode *parent, *inode;
    struct entry *next, *previous; /* in the directory */
    uint64_t number;
    uint32_t hash, length; /* of the name */
    uint64_t name[]; /* its bytes, zeroes to a multiple of 8 and at least one */
};

struct inode {
    uint32_t mode; /* S_IFMT and permissions */
    uint32_t nlink;
    uint32_t references;
    uint32_t uid, gid;
    uint64_t number, size, rdev;
    struct lx_timespec atime, mtime, ctime;
    struct filesystem *fs;
    struct inode *mounted; /* a directory: the root that covers it */
    struct entry *entry; /* one of its names (a directory's only one); NULL: none known */
    struct lock *locks; /* lock.c */
    struct fuse_node *node; /* fuse.h; else NULL */
    union {
        struct { /* directory */
            struct entry *first, *last;
            struct inode *parent; /* itself when it is the root of a file system */
            struct cursor *cursors; /* open files that are somewhere in it */
            uint64_t next_number;
        } dir;
        struct { /* regular file: page i is frame i, or else lies in the archive, or is zero */
            const uint8_t *archive;
            uint64_t archive_size;
            uint32_t direct[LX_DIRECT], indirect, twice, indexes; /* how many index pages */
            uint64_t pages; /* frames it has, index pages too */
            struct rewritten *rewritten; /* rewritten.h; NULL: not */
            bool executed; /* it has or had one */
            bool stored; /* it is to have none: it was changed, or can be through a mapping */
        } data;
        char *target; /* symbolic link; size is its length, LX_TARGET_ROOM bytes more are there */
        struct pipe *pipe; /* fifo: pipe.h */
    };
    struct { /* of /proc: proc.h */
        const struct proc_node *node; /* else NULL */
        struct inode *next; /* proc.c */
        int pid, fd;
    } proc;
};

/* The one that lies over a directory, through all its mounts. */
static inline struct inode *inode_top(struct inode *inode)
{
    while (inode->mounted)
        inode = inode->mounted;
    return inode;
}
/* Where an open directory is: before `at`, or behind all entries when NULL. */
struct cursor {
    struct cursor *next, **link;
    struct entry *at;
};

/* Inodes, names and texts of links of a file system, out of their part of the heap, of all
 * processes together: NULL when it is full. What the server names itself has a part of its own. */
void *names_take(const struct filesystem *fs, size_t n);
void names_give(const struct filesystem *fs, void *memory, size_t n);
/* A new inode without entries and with one reference; NULL when there is no memory. */
struct inode *inode_new(struct filesystem *fs, uint32_t mode);
void inode_get(struct inode *inode);
/* Gives a reference back: what has neither these nor entries is freed with its pages. */
void inode_put(struct inode *inode);
extern uint64_t inode_count, entry_count; /* there are */
static inline bool inode_is(const struct inode *inode, uint32_t type)
{
    return (inode->mode & S_IFMT) == type;
}
#define NANOSECONDS 1000000000ul
struct lx_timespec time_now(void); /* time_real, as inodes keep it */
void inode_changed(struct inode *inode); /* ctime */
void inode_modified(struct inode *inode); /* mtime and ctime */

/* A name in a path or directory: not terminated. */
struct name {
    const char *text;
    uint64_t tail; /* what is behind its last whole eight bytes, and zeroes */
    uint32_t length, hash;
};
#define LX_NAME_ROOM (LX_NAME_MAX + 9)
/* A name from elsewhere, copied to room. length: at most LX_NAME_MAX. */
void name_from(struct name *name, char room[LX_NAME_ROOM], const char *text, size_t length);
/* The directory's entry of that name, or NULL. */
struct entry *entry_find(const struct inode *directory, const struct name *name);
/* Adds an entry (nlink of the inode, times, and where `..` leads): 0 or -ENOSPC. */
long entry_add(struct inode *directory, const struct name *name, struct inode *inode);
/* Removes it; the inode may be gone after that. */
void entry_remove(struct entry *entry);
/* Moves it to that name of the directory, over the entry `over` (NULL: none there), whose
 * inode loses a name: 0 or -ENOSPC. */
long entry_move(struct entry *entry, struct inode *directory, const struct name *name,
                struct entry *over);
/* The two entries exchange their inodes. */
void entry_exchange(struct entry *a, struct entry *b);
/* Makes an inode and its entry; NULL when there is no memory. No reference. */
struct inode *inode_make(struct inode *directory, const struct name *name, uint32_t mode);

/* Makes a symbolic link: 0 or -ENOSPC. */
long symlink_make(struct inode *directory, const struct name *name, const char *target);
/* Whether `inner` lies in `outer` or is it. */
bool directory_within(const struct inode *inner, const struct inode *outer);
/* The directory that a path below `directory` leads to, and in *name (kept in room) the
 * path's last name; *path moves there too. Directories are made. NULL: something else is in
 * the way, a name is empty or too long, or there is no memory. Links are not followed. */
struct inode *tree_directory(struct inode *directory, const char **path, struct name *name,
                             char room[LX_NAME_ROOM]);

/* ---- the walk (path.c) ----------------------------------------------------------------- */
#define WALK_FOLLOW 1u /* a symbolic link at the end is followed */
#define WALK_PARENT 2u /* the last name need not exist: its directory is wanted */
#define WALK_EMPTY 4u /* an empty path is dirfd itself (AT_EMPTY_PATH) */
#define WALK_LONG 8u /* a last name that is too long is the caller's affair */
#define LX_PATH_ROOM (LX_PATH_MAX + 8) /* of a path's buffer: words are read */

struct walk {
    struct inode *inode; /* what the path leads to; NULL: not there (WALK_PARENT), or `magic`
                            has none */
    struct inode *directory; /* where the last name is, or would be */
    struct entry *entry; /* the last name's; NULL: none, or `special` */
    struct name last; /* the last name; of one that is there its length only is sure */
    bool special; /* the last name is `.` or `..`, or there is none, or it jumped */
    unsigned dots; /* special: of how many dots its last name is, 0 to 2 */
    bool slash; /* the path ends with one: it must be a directory */
    bool absent; /* -ENOENT: and so it stays until a name is made (lx_shared.names) */
    bool counted; /* it leads where it does until lx_shared.changes: not by what /proc makes up */
    struct file *magic; /* it led (WALK_EMPTY, /proc) to this open file: its inode if it has one */
    /* The walk's own. Texts lie where 8 bytes behind their end can be read. */
    unsigned links, depth, link_used;
    const char *rest[LX_SYMLINKS]; /* of paths, behind links */
    char path[LX_PATH_ROOM]; /* `last` points in here, or into a link's text */
    char link[LX_PATH_ROOM]; /* texts of links in /proc, one behind the other */
};
extern struct walk walk_first, walk_second; /* there is one call at a time, with two paths */

/* Walks walk->path from dirfd (AT_FDCWD: the current directory). 0; -ENOENT, -ENOTDIR,
 * -ELOOP, -ENAMETOOLONG, -EBADF, -ENOMEM. */
long path_walk(struct walk *walk, struct process *process, int dirfd, uint32_t flags);
/* The same with the path at an offset of the thread's window. */
struct thread;
long path_from(struct walk *walk, struct thread *thread, uint64_t dirfd, uint64_t offset,
               uint32_t flags);
/* The path from root to the directory, or to the entry, zero-terminated at the end of the buffer: its
 * start, or NULL (too long). unreachable: begins with "(unreachable)", as Linux has it. */
char *path_of(const struct inode *directory, const struct entry *entry, const struct inode *root,
              char *buffer, size_t size);
#endif
