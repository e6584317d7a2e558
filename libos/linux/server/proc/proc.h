/* SPDX-License-Identifier: MIT
 *
 * /proc, as the walk sees it. Its fixed part is directories and inodes like others; what
 * belongs to a process is made when a walk comes by, and freed at the next walk unless
 * somebody holds a reference. An inode of a process is a directory, a link or a text of
 * it (proc.node, proc.pid, proc.fd of struct inode). */
#ifndef LX_PROC_H
#define LX_PROC_H
#include "../files/files.h"

#define TICKS 100 /* a second: USER_HZ */
#define KIB_PER_PAGE 4
#define NS_PER_TICK (1000000000ul / TICKS)

/* A kind of inode in /proc. */
enum proc_kind {
    PROC_TEXT,
    PROC_DIRECTORY,
    PROC_PROCESSES,
    PROC_FDS,
    PROC_SELF,
    PROC_CWD,
    PROC_ROOT,
    PROC_EXE,
    PROC_FD
};
struct proc_node {
    const char *name;
    enum proc_kind kind;
    uint32_t mode;
    proc_generator *system; /* PROC_TEXT: of the system ... */
    void (*process)(struct text *text, const struct process *process); /* ... or a process */
};
/* proc_process.c: what each process's directory has. */
#define PROC_ENTRIES 16
extern const struct proc_node proc_entries[PROC_ENTRIES];
/* proc_system.c: the texts of the system. */
struct proc_file {
    const char *path;
    proc_generator *generator;
};
extern const struct proc_file proc_files[];
extern const unsigned proc_file_count;
void proc_mounts(struct text *text);

/* What the directory, one of /proc, has under that name besides its entries; NULL: nothing. */
struct inode *proc_find(struct inode *directory, const struct name *name);
/* Frees what walks have made and nobody holds. */
extern struct inode *proc_made;
void proc_free_made(void);
static inline void proc_sweep(void)
{
    if (proc_made) proc_free_made();
}
/* The next name of the directory besides its entries, at *position or behind it (0 at
 * first): false at the end, else *position moves behind it. */
bool proc_next(struct inode *directory, uint64_t *position, char name[16], uint64_t *number,
               uint32_t *mode);
/* Where a link leads: 0 and its text (zero-terminated, at most size - 1 bytes). -ENOENT:
 * what it led to is gone. */
long proc_link(struct inode *link, char *text, size_t size);
/* A link that leads to an inode whatever its name: *inode (and *file when it is an open
 * file; then *inode may be NULL). False: it is a link by name. */
bool proc_jump(struct inode *link, struct inode **inode, struct file **file);
/* The name of an inode in its directory, when it is one of a process's; else NULL. */
const char *proc_name(const struct inode *inode, char buffer[16]);
/* Opens a text: one reference in *file; -ENOENT, -ENOMEM, -ENFILE. */
long proc_open(struct inode *inode, uint32_t flags, struct file **file);
/* Makes /proc's own files. 0 or -ENOMEM. */
long proc_start(struct filesystem *fs);
#endif
