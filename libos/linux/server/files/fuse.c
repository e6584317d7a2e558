/* SPDX-License-Identifier: MIT
 *
 * The tree of a file system that a process serves (fuse.h): what names lead to, and what changes
 * them. What a reply says is done to the tree when it comes, whoever waits for it; the tree may
 * have changed since it was asked, and the server may say what cannot be: then it stays. */
#include "fuse.h"
#include "data.h"
#include "../../../../lib/exo/exo.h"
#include <asm/statfs.h>
#include <linux/fs.h>
#include <linux/magic.h>

#define FORGETS 30 /* names in one message */
#define MINOR_LEAST 23 /* of the server's protocol: since then there is FUSE_RENAME2 */

static struct fuse *fuse_of(const struct inode *inode) { return inode->fs->fuse; }

/* ---- nodes ---- */

static struct fuse_node **node_bucket(struct fuse *fuse, uint64_t node)
{
    return &fuse->nodes[node % FUSE_BUCKETS];
}

static struct fuse_node *node_find(struct fuse *fuse, uint64_t number)
{
    struct fuse_node *node = *node_bucket(fuse, number);
    while (node && node->node != number)
        node = node->next;
    return node;
}

static struct fuse_node *node_new(struct inode *inode, uint64_t number)
{
    struct fuse_node *node = names_take(inode->fs, sizeof(*node));
    if (!node) return NULL;
    struct fuse_node **bucket = node_bucket(fuse_of(inode), number);
    *node = (struct fuse_node){.next = *bucket, .inode = inode, .node = number};
    return inode->node = *bucket = node;
}

/* In the last message, where it is one of this kind: a directory's names are many. */
static void forget_tell(struct fuse *fuse, uint64_t node, uint64_t lookups)
{
    long error;
    struct fuse_request *last = fuse->first ? fuse->last : NULL;
    size_t empty = sizeof(struct fuse_in_header) + sizeof(struct fuse_batch_forget_in);
    if (fuse->gone) return;
    if (!last || last->sent || last->opcode != FUSE_BATCH_FORGET ||
        last->size - last->header.len < sizeof(struct fuse_forget_one)) {
        last =
            fuse_new(fuse, NULL, FUSE_BATCH_FORGET,
                     sizeof(struct fuse_batch_forget_in) + FORGETS * sizeof(struct fuse_forget_one),
                     NULL, &error);
        if (!last) return;
        last->header.len = (uint32_t)empty;
        fuse_tell(last);
    }
    struct fuse_batch_forget_in *in = (struct fuse_batch_forget_in *)last->body;
    ((struct fuse_forget_one *)(in + 1))[in->count++] = (struct fuse_forget_one){node, lookups};
    last->header.len += sizeof(struct fuse_forget_one);
}

static void fuse_forget(struct inode *inode)
{
    struct fuse_node *node = inode->node, **link = node_bucket(fuse_of(inode), node->node);
    if (!inode->fs->detached) forget_tell(fuse_of(inode), node->node, node->lookups);
    while (*link != node)
        link = &(*link)->next;
    *link = node->next;
    wake(&node->wait);
    inode->node = NULL;
    names_give(inode->fs, node, sizeof(*node));
}

static struct lx_timespec time_of(uint64_t seconds, uint32_t nanoseconds)
{
    return (struct lx_timespec){(int64_t)seconds, nanoseconds % NANOSECONDS};
}

/* A file's pages, where it has them, go with its size. */
static void size_set(struct inode *inode, uint64_t size)
{
    size = EXO_MIN(size, (uint64_t)INT64_MAX);
    if (inode_is(inode, S_IFREG) && inode->data.pages && size < inode->size)
        data_truncate(inode, size);
    if (!inode_is(inode, S_IFLNK) || !inode->target) inode->size = size;
}

void fuse_attributes(struct inode *inode, const struct fuse_attr *attr)
{
    struct fuse_node *node = fuse_node(inode);
    inode->mode = (inode->mode & S_IFMT) | (attr->mode & 07777);
    inode->uid = attr->uid;
    inode->gid = attr->gid;
    inode->rdev = attr->rdev;
    inode->atime = time_of(attr->atime, attr->atimensec);
    inode->mtime = time_of(attr->mtime, attr->mtimensec);
    inode->ctime = time_of(attr->ctime, attr->ctimensec);
    size_set(inode, attr->size);
    node->blocks = attr->blocks;
    node->stale = false;
    node->links = attr->nlink > inode->nlink ? attr->nlink - inode->nlink : 0;
}

static bool type_known(uint32_t type)
{
    return type == S_IFREG || type == S_IFDIR || type == S_IFLNK || type == S_IFCHR ||
           type == S_IFBLK || type == S_IFIFO || type == S_IFSOCK;
}

/* An inode for what the server names for the first time, with a reference. */
static struct inode *inode_learn(struct filesystem *fs, const struct fuse_entry_out *out)
{
    struct inode *inode = inode_new(fs, out->attr.mode & (S_IFMT | 07777));
    if (!inode) return NULL;
    inode->number = out->attr.ino;
    if (node_new(inode, out->nodeid)) return inode;
    inode_put(inode);
    return NULL;
}

static long learn(struct inode *directory, const struct name *name,
                  const struct fuse_entry_out *out, struct inode **made)
{
    uint32_t type = out->attr.mode & S_IFMT;
    if (!directory->nlink || out->nodeid == FUSE_ROOT_ID || !type_known(type)) return -EIO;
    struct fuse_node *node = node_find(fuse_of(directory), out->nodeid);
    struct inode *inode = node ? node->inode : NULL;
    struct entry *entry = entry_find(directory, name);
    if (entry ? entry->inode != inode : inode && (type == S_IFDIR || !inode_is(inode, type)))
        return -EIO; /* there is another one; or a directory in two places */
    if (inode)
        inode_get(inode);
    else if (!(inode = inode_learn(directory->fs, out)))
        return -ENOMEM;
    struct lx_timespec modified = directory->mtime, changed = directory->ctime;
    long r = entry ? 0 : entry_add(directory, name, inode);
    directory->mtime = modified;
    directory->ctime = changed;
    if (r == 0) {
        fuse_node(inode)->lookups++;
        fuse_attributes(inode, &out->attr);
        if (made) *made = inode;
    }
    inode_put(inode);
    return r == 0 ? 0 : -ENOMEM;
}

/* Whether nobody would miss the names of a directory. */
static bool directory_idle(const struct inode *directory)
{
    if (!inode_is(directory, S_IFDIR) || fuse_node(directory)->loading || directory->dir.cursors)
        return false;
    for (const struct entry *entry = directory->dir.first; entry; entry = entry->next)
        if (entry->inode->references ||
            (inode_is(entry->inode, S_IFDIR) && (entry->inode->mounted || entry->inode->dir.first)))
            return false;
    return directory->dir.first;
}

/* Its names are forgotten here, and asked for again when one is looked for. What the inodes say
 * stays as it was. */
static void directory_forget(struct inode *directory)
{
    struct lx_timespec modified = directory->mtime, changed = directory->ctime;
    uint32_t links = directory->nlink;
    while (directory->dir.first) {
        struct entry *entry = directory->dir.first;
        if (!inode_is(entry->inode, S_IFDIR)) fuse_node(entry->inode)->links++;
        entry_remove(entry);
    }
    directory->mtime = modified;
    directory->ctime = changed;
    fuse_node(directory)->links += links - directory->nlink;
    fuse_node(directory)->loaded = false;
}

/* Makes room for names, but not out of `wanted`. False: there is no more in that mount. */
static bool mount_shrink(struct fuse *fuse, const struct inode *wanted)
{
    static unsigned turn;
    for (unsigned i = 0; i < FUSE_BUCKETS; i++)
        for (struct fuse_node *node = fuse->nodes[turn++ % FUSE_BUCKETS]; node; node = node->next)
            if (node->inode != wanted && directory_idle(node->inode)) {
                directory_forget(node->inode);
                return true;
            }
    return false;
}

/* The same in any: what others have there is looked at first. */
static bool names_shrink(const struct inode *wanted)
{
    for (struct filesystem *fs = &root_fs; fs; fs = fs->next)
        if (fs->ops && fs != wanted->fs && mount_shrink(fs->fuse, wanted)) return true;
    return mount_shrink(fuse_of(wanted), wanted);
}

long fuse_learn(struct inode *directory, const struct name *name, const struct fuse_entry_out *out,
                struct inode **made)
{
    long r;
    do
        r = learn(directory, name, out, made);
    while (r == -ENOMEM && names_shrink(directory));
    return r;
}

/* ---- names that are made ---- */

/* A name in a request's body. */
static const char *name_of(struct name *name, char room[LX_NAME_ROOM], const char *text)
{
    size_t length = strlen(text);
    name_from(name, room, text, length);
    return text + length + 1;
}

/* The name of a new entry; where it lies in the body depends on what was asked. */
static const char *name_new(const struct fuse_request *request)
{
    const char *body = (const char *)request->body;
    switch (request->opcode) {
    case FUSE_MKNOD:
        return body + sizeof(struct fuse_mknod_in);
    case FUSE_MKDIR:
        return body + sizeof(struct fuse_mkdir_in);
    case FUSE_LINK:
        return body + sizeof(struct fuse_link_in);
    default: /* FUSE_SYMLINK */
        return body;
    }
}

static long make_done(struct fuse_request *request, long error, const void *reply, size_t n)
{
    char room[LX_NAME_ROOM];
    struct name name;
    if (error) return error;
    if (n < sizeof(struct fuse_entry_out)) return -EIO;
    name_of(&name, room, name_new(request));
    fuse_node(request->inode)->stale = true;
    error = fuse_learn(request->inode, &name, reply, &request->made);
    if (error) fuse_node(request->inode)->loaded = false; /* looked for again where it is missed */
    return error;
}

static void name_put(uint8_t *to, const struct name *name)
{
    memcpy(to, name->text, name->length); /* zeroes are behind it */
}

static uint32_t make_opcode(uint32_t mode)
{
    uint32_t type = mode & S_IFMT;
    return type == S_IFDIR ? FUSE_MKDIR : type == S_IFLNK ? FUSE_SYMLINK : FUSE_MKNOD;
}

static long fuse_make(const struct walk *walk, uint32_t mode, uint64_t rdev, const char *target,
                      bool final)
{
    uint32_t opcode = make_opcode(mode);
    size_t length = walk->last.length + 1ul, more = target ? strlen(target) + 1 : 0;
    size_t head = opcode == FUSE_MKNOD   ? sizeof(struct fuse_mknod_in)
                  : opcode == FUSE_MKDIR ? sizeof(struct fuse_mkdir_in)
                                         : 0;
    long error;
    struct fuse_request *request = fuse_answer(walk->directory, opcode);
    if (request && request->result) return request->result;
    request = fuse_new(fuse_of(walk->directory), walk->directory, opcode, head + length + more,
                       make_done, &error);
    if (!request) return error;
    if (opcode == FUSE_MKNOD)
        *(struct fuse_mknod_in *)request->body =
            (struct fuse_mknod_in){.mode = mode, .rdev = (uint32_t)rdev};
    if (opcode == FUSE_MKDIR)
        *(struct fuse_mkdir_in *)request->body = (struct fuse_mkdir_in){.mode = mode & 07777};
    name_put(request->body + head, &walk->last);
    if (target) memcpy(request->body + head + length, target, more);
    return fuse_ask(request, final);
}

static long fuse_link(const struct walk *walk, struct inode *inode)
{
    long error;
    struct fuse_request *request =
        fuse_new(fuse_of(inode), walk->directory, FUSE_LINK,
                 sizeof(struct fuse_link_in) + walk->last.length + 1, make_done, &error);
    if (!request) return error;
    fuse_refer(request, inode);
    *(struct fuse_link_in *)request->body = (struct fuse_link_in){fuse_node(inode)->node};
    name_put(request->body + sizeof(struct fuse_link_in), &walk->last);
    return fuse_ask(request, true);
}

/* ---- names that go ---- */

/* Whether the tree can lose what the entry names, or have it elsewhere. */
static bool entry_loose(const struct entry *entry)
{
    const struct inode *inode = entry->inode;
    return !inode_is(inode, S_IFDIR) || (!inode->mounted && !inode->dir.first);
}

static long remove_done(struct fuse_request *request, long error, const void *reply, size_t n)
{
    char room[LX_NAME_ROOM];
    struct name name;
    (void)reply, (void)n;
    if (error) return error;
    name_of(&name, room, (const char *)request->body);
    struct entry *entry = entry_find(request->inode, &name);
    fuse_node(request->inode)->stale = true;
    if (!entry || !entry_loose(entry)) return 0;
    fuse_node(entry->inode)->stale = true;
    entry_remove(entry);
    return 0;
}

static long fuse_remove(const struct walk *walk)
{
    long error;
    uint32_t opcode = inode_is(walk->inode, S_IFDIR) ? FUSE_RMDIR : FUSE_UNLINK;
    struct fuse_request *request = fuse_new(fuse_of(walk->directory), walk->directory, opcode,
                                            walk->entry->length + 1ul, remove_done, &error);
    if (!request) return error;
    memcpy(request->body, walk->entry->name, walk->entry->length);
    return fuse_ask(request, true);
}

static long rename_done(struct fuse_request *request, long error, const void *reply, size_t n)
{
    const struct fuse_rename2_in *in = (const struct fuse_rename2_in *)request->body;
    char room[2][LX_NAME_ROOM];
    struct name from_name, to_name;
    (void)reply, (void)n;
    if (error) return error;
    struct inode *directory = request->other;
    name_of(&to_name, room[1], name_of(&from_name, room[0], (const char *)(in + 1)));
    struct entry *from = entry_find(request->inode, &from_name),
                 *to = entry_find(directory, &to_name);
    bool exchange = in->flags & RENAME_EXCHANGE;
    fuse_node(request->inode)->stale = fuse_node(directory)->stale = true;
    if (from) fuse_node(from->inode)->stale = true;
    if (to) fuse_node(to->inode)->stale = true;
    if (!from || !directory->nlink || from->inode->mounted || (exchange && !to)) return -EIO;
    if (inode_is(from->inode, S_IFDIR) && directory_within(directory, from->inode)) return -EIO;
    if (to && to->inode == from->inode) return 0;
    if (to && exchange) {
        bool inside = inode_is(to->inode, S_IFDIR) && directory_within(request->inode, to->inode);
        if (inside || to->inode->mounted) return -EIO;
        entry_exchange(from, to);
        return 0;
    }
    if (to && (!entry_loose(to) || inode_is(to->inode, S_IFDIR) != inode_is(from->inode, S_IFDIR)))
        return -EIO;
    if (entry_move(from, directory, &to_name, to) == 0) return 0;
    fuse_node(directory)->loaded = false;
    return -ENOMEM;
}

static long fuse_rename(const struct walk *from, const struct walk *to, uint32_t flags)
{
    long error;
    size_t first = from->entry->length + 1ul,
           second = to->entry ? to->entry->length + 1ul : to->last.length + 1ul;
    struct fuse_request *request =
        fuse_new(fuse_of(from->directory), from->directory, FUSE_RENAME2,
                 sizeof(struct fuse_rename2_in) + first + second, rename_done, &error);
    if (!request) return error;
    fuse_refer(request, to->directory);
    struct fuse_rename2_in *in = (struct fuse_rename2_in *)request->body;
    *in = (struct fuse_rename2_in){.newdir = fuse_node(to->directory)->node, .flags = flags};
    uint8_t *names = (uint8_t *)(in + 1);
    memcpy(names, from->entry->name, first - 1);
    memcpy(names + first, to->entry ? (const char *)to->entry->name : to->last.text, second - 1);
    return fuse_ask(request, true);
}

/* ---- what an inode is ---- */

static long attributes_done(struct fuse_request *request, long error, const void *reply, size_t n)
{
    if (error) return error;
    if (n < sizeof(struct fuse_attr_out)) return -EIO;
    fuse_attributes(request->inode, &((const struct fuse_attr_out *)reply)->attr);
    return 0;
}

long fuse_change(struct inode *inode, const struct fs_change *change, bool final)
{
    long error;
    struct fuse_request *request =
        fuse_new(fuse_of(inode), inode, FUSE_SETATTR, sizeof(struct fuse_setattr_in),
                 attributes_done, &error);
    if (!request) return error;
    *(struct fuse_setattr_in *)request->body =
        (struct fuse_setattr_in){.valid = change->valid,
                                 .size = change->size,
                                 .mode = change->mode,
                                 .uid = change->uid,
                                 .gid = change->gid,
                                 .atime = (uint64_t)change->atime.tv_sec,
                                 .atimensec = (uint32_t)change->atime.tv_nsec,
                                 .mtime = (uint64_t)change->mtime.tv_sec,
                                 .mtimensec = (uint32_t)change->mtime.tv_nsec};
    return fuse_ask(request, final);
}

static long fuse_attributes_get(struct inode *inode)
{
    long error;
    if (!fuse_node(inode)->stale) return 0;
    struct fuse_request *request = fuse_answer(inode, FUSE_GETATTR);
    if (request) return request->result;
    request = fuse_new(fuse_of(inode), inode, FUSE_GETATTR, sizeof(struct fuse_getattr_in),
                       attributes_done, &error);
    return request ? fuse_ask(request, false) : error;
}

static long target_done(struct fuse_request *request, long error, const void *reply, size_t n)
{
    struct inode *inode = request->inode;
    if (error) return error;
    if (!n || n >= LX_PATH_MAX) return -EIO;
    if (inode->target) return 0;
    char *text = names_take(inode->fs, n + LX_TARGET_ROOM);
    if (!text) return -ENOMEM;
    memcpy(text, reply, n);
    text[n] = 0;
    if (strlen(text) != n) {
        names_give(inode->fs, text, n + LX_TARGET_ROOM);
        return -EIO;
    }
    inode->target = text;
    inode->size = n;
    return 0;
}

static long fuse_target(struct inode *inode)
{
    long error;
    if (inode->target) return 0;
    struct fuse_request *request = fuse_answer(inode, FUSE_READLINK);
    if (request) return request->result;
    request = fuse_new(fuse_of(inode), inode, FUSE_READLINK, 0, target_done, &error);
    return request ? fuse_ask(request, false) : error;
}

/* ---- the file system ---- */

static long fuse_usage(struct filesystem *fs, struct statfs *statfs)
{
    long error;
    struct fuse_request *request = fuse_answer(fs->root, FUSE_STATFS);
    if (!request) {
        request = fuse_new(fs->fuse, fs->root, FUSE_STATFS, 0, NULL, &error);
        return request ? fuse_ask(request, false) : error;
    }
    long r = request->result;
    if (r == 0 && request->reply_size < sizeof(struct fuse_statfs_out)) r = -EIO;
    if (r == 0) {
        const struct fuse_kstatfs *st = &((const struct fuse_statfs_out *)request->reply)->st;
        statfs->f_bsize = st->bsize;
        statfs->f_frsize = st->frsize;
        statfs->f_blocks = (long)st->blocks;
        statfs->f_bfree = (long)st->bfree;
        statfs->f_bavail = (long)st->bavail;
        statfs->f_files = (long)st->files;
        statfs->f_ffree = (long)st->ffree;
        statfs->f_namelen = st->namelen;
    }
    fuse_drop(thread_current);
    return r;
}

static long destroy_done(struct fuse_request *request, long error, const void *reply, size_t n)
{
    (void)reply, (void)n;
    if (!request->fuse->gone) fuse_abort(request->fuse);
    return error == -ENOSYS ? 0 : error;
}

static struct fuse_request *destroy_new(struct fuse *fuse)
{
    long error;
    struct fuse_request *request =
        fuse->destroyed ? NULL : fuse_new(fuse, NULL, FUSE_DESTROY, 0, destroy_done, &error);
    fuse->destroyed |= request != NULL;
    return request;
}

/* Who unmounts it waits until the server has written all it had. */
static long fuse_unmount(struct filesystem *fs)
{
    struct fuse_request *request = destroy_new(fs->fuse);
    return request ? fuse_ask(request, true) : 0;
}

static void fuse_end(struct filesystem *fs)
{
    struct fuse *fuse = fs->fuse;
    struct fuse_request *request = destroy_new(fuse);
    fuse->fs = NULL;
    if (request)
        fuse_tell(request);
    else if (!fuse->destroyed)
        fuse_abort(fuse);
    fuse_put(fuse);
}

/* ---- mounting ---- */

static long init_done(struct fuse_request *request, long error, const void *reply, size_t n)
{
    struct fuse *fuse = request->fuse;
    struct fuse_init_out out = {0};
    if (n) memcpy(&out, reply, EXO_MIN(n, sizeof(out)));
    if (error || out.major != FUSE_KERNEL_VERSION || out.minor < MINOR_LEAST ||
        !(out.flags & FUSE_DO_READDIRPLUS) || out.max_write < 4096) {
        if (!fuse->gone) {
            log_line("fuse: error %ld, version %u.%u, flags %x: the server cannot be used", -error,
                     out.major, out.minor, out.flags);
            fuse_abort(fuse);
        }
        return -EIO;
    }
    fuse->max_write = EXO_MIN(out.max_write, FUSE_DATA_MAX);
    fuse->ready = true;
    request = fuse->fs ? fuse_new(fuse, fuse->fs->root, FUSE_GETATTR,
                                  sizeof(struct fuse_getattr_in), attributes_done, &error)
                       : NULL;
    if (request) fuse_tell(request);
    wake(&fuse->readable);
    return 0;
}

long fuse_mounted(struct filesystem *fs)
{
    long error;
    struct fuse *fuse = fs->fuse;
    fuse->fs = fs;
    fuse->mounted = true;
    fuse_get(fuse); /* until fuse_end */
    if (!node_new(fs->root, FUSE_ROOT_ID)) return -ENOMEM;
    struct fuse_request *request =
        fuse_new(fuse, NULL, FUSE_INIT, sizeof(struct fuse_init_in), init_done, &error);
    if (!request) return error;
    *(struct fuse_init_in *)request->body =
        (struct fuse_init_in){.major = FUSE_KERNEL_VERSION,
                              .minor = FUSE_KERNEL_MINOR_VERSION,
                              .flags = FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS | FUSE_MAX_PAGES};
    fuse_tell(request);
    return 0;
}

static const struct fs_ops fuse_fs_ops = {.load = fuse_load,
                                          .target = fuse_target,
                                          .make = fuse_make,
                                          .link = fuse_link,
                                          .remove = fuse_remove,
                                          .rename = fuse_rename,
                                          .attributes = fuse_attributes_get,
                                          .change = fuse_change,
                                          .open = fuse_open,
                                          .contents = fuse_load,
                                          .sync = fuse_sync,
                                          .usage = fuse_usage,
                                          .unmount = fuse_unmount,
                                          .end = fuse_end,
                                          .forget = fuse_forget};

long fuse_attach(struct thread *thread, struct filesystem *fs, uint64_t fd)
{
    long error;
    fs->fuse = fuse_device(thread, fd, &error);
    if (!fs->fuse) return error;
    fs->ops = &fuse_fs_ops;
    fs->magic = FUSE_SUPER_MAGIC;
    return 0;
}
