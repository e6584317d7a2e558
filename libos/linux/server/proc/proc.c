/* SPDX-License-Identifier: MIT
 *
 * /proc: its directories, links and texts. What belongs to a process is an inode made by
 * proc_find, which has no entry; until the next walk it is in a list that holds it. A text
 * is made when it is opened and belongs to the open file. */
#include "proc.h"
#include "../budget.h"
#include "../files/dir.h"
#include "../waiting/pipe.h"
#include "../../../../lib/exo/exo.h"
#include <linux/fs.h>

#define TEXT_FIRST (1024 - 16) /* with malloc's bytes a power of two, as all further sizes are */
#define TEXT_MAX (1u << 18)
#define NUMBERS (1ul << 32) /* inode numbers of processes' files begin here */

static struct budget texts = {.most = 3u << 19, .each = 1u << 19};
static struct filesystem *proc_fs;
struct inode *proc_made; /* by walks; each has one reference for this list */

static const struct proc_node node_processes = {.kind = PROC_PROCESSES};
static const struct proc_node node_self = {.kind = PROC_SELF};
static const struct proc_node node_process = {.kind = PROC_DIRECTORY, .mode = S_IFDIR | 0555};
static const struct proc_node node_fd = {.kind = PROC_FD, .mode = S_IFLNK | 0700};

/* ---- inodes of processes ---- */

void proc_free_made(void)
{
    while (proc_made) {
        struct inode *inode = proc_made;
        proc_made = inode->proc.next;
        inode_put(inode);
    }
}

static uint64_t proc_number(int pid, int fd, const struct proc_node *node)
{
    uint64_t which = node >= proc_entries && node < proc_entries + PROC_ENTRIES
                         ? (uint64_t)(node - proc_entries) + 1
                         : 0;
    return NUMBERS + ((uint64_t)(uint32_t)pid << 16 | which << 10 | ((uint64_t)fd & 0x3ff));
}

static struct inode *proc_make(struct inode *directory, const struct proc_node *node, int pid,
                               int fd)
{
    struct inode *inode = inode_new(proc_fs, node->mode);
    if (!inode) return NULL;
    inode->proc.node = node;
    inode->proc.pid = pid;
    inode->proc.fd = fd;
    inode->number = proc_number(pid, fd, node);
    inode->proc.next = proc_made;
    proc_made = inode;
    if (inode_is(inode, S_IFDIR)) {
        inode->dir.parent = directory;
        inode_get(directory);
    }
    return inode;
}

/* A decimal number without needless zeroes, below 2^22 (Linux' limit of pids), or -1. */
static int name_number(const struct name *name)
{
    int value = 0;
    if (!name->length || name->length > 7 || (name->text[0] == '0' && name->length > 1)) return -1;
    for (unsigned i = 0; i < name->length; i++) {
        if (name->text[i] < '0' || name->text[i] > '9') return -1;
        value = value * 10 + (name->text[i] - '0');
    }
    return value < 1 << 22 ? value : -1;
}

struct inode *proc_find(struct inode *directory, const struct name *name)
{
    enum proc_kind kind = directory->proc.node->kind;
    int number = name_number(name), pid = directory->proc.pid;
    struct process *process = process_by_pid(kind == PROC_PROCESSES ? number : pid);
    if (!process) return NULL;
    if (kind == PROC_PROCESSES) return proc_make(directory, &node_process, number, 0);
    if (kind == PROC_FDS)
        return number >= 0 && number < LX_FDS && process->fds[number].file
                   ? proc_make(directory, &node_fd, pid, number)
                   : NULL;
    for (unsigned i = 0; i < PROC_ENTRIES; i++)
        if (strlen(proc_entries[i].name) == name->length &&
            !memcmp(proc_entries[i].name, name->text, name->length))
            return proc_make(directory, &proc_entries[i], pid, 0);
    return NULL;
}

/* The process of the lowest pid from *pid on. */
static const struct process *process_from(uint64_t pid)
{
    const struct process *best = NULL;
    for (unsigned i = 0; i < LX_PROCESSES; i++) {
        const struct process *process = &processes[i];
        if (process->state != PROCESS_FREE && (uint64_t)process->pid >= pid &&
            (!best || process->pid < best->pid))
            best = process;
    }
    return best;
}

bool proc_next(struct inode *directory, uint64_t *position, char name[16], uint64_t *number,
               uint32_t *mode)
{
    const struct proc_node *node = directory->proc.node;
    const struct process *process;
    uint64_t at = *position;
    if (node->kind == PROC_PROCESSES) {
        if (!(process = process_from(at))) return false;
        at = (uint64_t)process->pid;
        node = &node_process;
        *number = proc_number(process->pid, 0, node);
        exo_format(name, 16, "%d", process->pid);
    } else {
        if (!(process = process_by_pid(directory->proc.pid))) return false;
        if (node->kind == PROC_FDS) {
            while (at < LX_FDS && !process->fds[at].file)
                at++;
            if (at >= LX_FDS) return false;
            node = &node_fd;
            exo_format(name, 16, "%u", (unsigned)at);
        } else {
            if (at >= PROC_ENTRIES) return false;
            node = &proc_entries[at];
            exo_strcpy(name, node->name, 16);
        }
        *number = proc_number(process->pid, node == &node_fd ? (int)at : 0, node);
    }
    *mode = node->mode;
    *position = at + 1;
    return true;
}

const char *proc_name(const struct inode *inode, char buffer[16])
{
    if (!inode->proc.node || inode->proc.node == &node_processes) return NULL;
    if (inode->proc.node->name) return inode->proc.node->name;
    exo_format(buffer, 16, "%d", inode->proc.node == &node_fd ? inode->proc.fd : inode->proc.pid);
    return buffer;
}

/* ---- links ---- */

/* The absolute name of an inode, from that root on. */
static void inode_name(const struct inode *inode, const struct inode *root, char *name, size_t size)
{
    static char buffer[LX_PATH_MAX];
    bool directory = inode_is(inode, S_IFDIR);
    const char *path = directory || inode->entry ? path_of(inode, directory ? NULL : inode->entry,
                                                           root, buffer, sizeof(buffer))
                                                 : "/";
    exo_format(name, size, "%s%s", path ? path : "?",
               inode->nlink || inode->proc.node ? "" : " (deleted)");
}

/* What the current process sees as its root. */
static const struct inode *root_now(void)
{
    return thread_current ? thread_current->process->root : root_fs.root;
}

void file_name(struct file *file, char *name, size_t size)
{
    unsigned number = (unsigned)((uintptr_t)file >> 4);
    if (file->inode)
        inode_name(file->inode, root_now(), name, size);
    else if (file_is_pipe(file) || file_is_socket(file))
        exo_format(name, size, "%s:[%u]", file_is_pipe(file) ? "pipe" : "socket", number);
    else
        exo_format(name, size, "anon_inode:[%u]", number);
}

void path_real(struct process *process, const char *path, char *name, size_t size)
{
    exo_strcpy(walk_first.path, path, LX_PATH_MAX);
    if (path_walk(&walk_first, process, AT_FDCWD, WALK_FOLLOW) == 0 && walk_first.inode)
        inode_name(walk_first.inode, process->root, name, size);
    else
        exo_strcpy(name, path, size);
}

long proc_link(struct inode *link, char *text, size_t size)
{
    struct inode *inode;
    struct file *file = NULL;
    if (link->proc.node->kind == PROC_SELF) {
        exo_format(text, size, "%d", thread_current->process->pid);
        return 0;
    }
    const struct process *process = process_by_pid(link->proc.pid);
    if (!process) return -ENOENT;
    if (link->proc.node->kind == PROC_EXE) {
        exo_strcpy(text, process->path, size);
        return process->path[0] ? 0 : -ENOENT;
    }
    if (!proc_jump(link, &inode, &file)) return -ENOENT;
    if (file)
        file_name(file, text, size);
    else
        inode_name(inode, root_now(), text, size);
    return 0;
}

bool proc_jump(struct inode *link, struct inode **inode, struct file **file)
{
    struct process *process = process_by_pid(link->proc.pid);
    *inode = NULL;
    *file = NULL;
    if (!process) return false;
    switch (link->proc.node->kind) {
    case PROC_CWD:
        *inode = process->cwd;
        return *inode;
    case PROC_ROOT:
        *inode = process->root;
        return *inode;
    case PROC_FD:
        *file = process->fds[link->proc.fd].file;
        if (*file) *inode = (*file)->inode;
        return *file;
    default:
        return false;
    }
}

/* ---- texts ---- */

static void text_free(struct text *text)
{
    budget_give(&texts, text->owner, text->data, text->size);
}

void text_add(struct text *text, const char *format, ...)
{
    va_list list;
    for (;;) {
        size_t room = text->size - text->length;
        va_start(list, format);
        int n = room ? exo_vformat(text->data + text->length, room, format, list) : -1;
        va_end(list);
        if (n >= 0 && (size_t)n + 1 < room) {
            text->length += (size_t)n;
            return;
        }
        size_t size = text->size ? 2 * text->size + 16 : TEXT_FIRST;
        char *data = NULL;
        if (!text->failed && size <= TEXT_MAX) data = budget_take(&texts, text->owner, size);
        if (!data) {
            text->failed = true;
            return;
        }
        if (text->data) memcpy(data, text->data, text->length);
        text_free(text);
        text->data = data;
        text->size = size;
    }
}

static long text_read(struct file *file, struct iobuf *io, uint64_t *pos)
{
    struct text *text = file->data;
    uint64_t at = pos ? *pos : file->position;
    if (at >= text->length) return 0;
    size_t n = iobuf_put(io, text->data + at, EXO_MIN(text->length - at, io->left));
    if (!pos) file->position = at + n;
    return (long)n;
}

static void text_close(struct file *file)
{
    struct text *text = file->data;
    text_free(text);
    free(text);
}

static const struct file_ops text_ops = {
    .read = text_read, .seek = position_seek, .close = text_close};

long proc_open(struct inode *inode, uint32_t flags, struct file **file)
{
    const struct proc_node *node = inode->proc.node;
    const struct process *process = node->process ? process_by_pid(inode->proc.pid) : NULL;
    if ((flags & O_ACCMODE) != O_RDONLY) return -EACCES;
    if (node->process && !process) return -ENOENT;
    struct text *text = malloc(sizeof(*text));
    if (!text) return -ENOMEM;
    *text = (struct text){.owner = (unsigned)(thread_current->process - processes)};
    if (process)
        node->process(text, process);
    else
        node->system(text);
    *file = text->failed ? NULL : file_new(&text_ops, flags);
    if (!*file) {
        long r = text->failed ? -ENOMEM : -ENFILE;
        text_free(text);
        free(text);
        return r;
    }
    (*file)->data = text;
    (*file)->inode = inode;
    inode_get(inode);
    return 0;
}

/* ---- the tree ---- */

long proc_register(const char *path, proc_generator *generator)
{
    char room[LX_NAME_ROOM];
    struct name name;
    struct inode *directory = tree_directory(proc_fs->root, &path, &name, room);
    if (!directory) return -ENAMETOOLONG;
    if (entry_find(directory, &name)) return -EEXIST;
    struct proc_node *node = malloc(sizeof(*node));
    struct inode *inode = node ? inode_make(directory, &name, S_IFREG | 0444) : NULL;
    if (!inode) {
        free(node);
        return -ENOMEM;
    }
    *node = (struct proc_node){.kind = PROC_TEXT, .system = generator};
    inode->proc.node = node;
    return 0;
}

/* A link in /proc's root. */
static long link_make(const char *text, const char *target, const struct proc_node *node)
{
    char room[LX_NAME_ROOM];
    struct name name;
    name_from(&name, room, text, strlen(text));
    if (target) return symlink_make(proc_fs->root, &name, target);
    struct inode *inode = inode_make(proc_fs->root, &name, S_IFLNK | 0777);
    if (!inode) return -ENOMEM;
    inode->proc.node = node;
    return 0;
}

long proc_start(struct filesystem *fs)
{
    proc_fs = fs;
    fs->root->proc.node = &node_processes;
    for (unsigned i = 0; i < proc_file_count; i++) {
        long r = proc_register(proc_files[i].path, proc_files[i].generator);
        if (r < 0) return r;
    }
    if (link_make("self", NULL, &node_self) < 0 || link_make("mounts", "self/mounts", NULL) < 0)
        return -ENOMEM;
    return 0;
}
