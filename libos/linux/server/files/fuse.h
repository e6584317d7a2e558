/* SPDX-License-Identifier: MIT
 *
 * File systems that a process serves, by the protocol of /dev/fuse (linux/fuse.h, version 7).
 *
 * Whoever opens /dev/fuse and names it in mount(2) (type fuse or fuse.*, option fd=) is the
 * server of that mount: it reads requests and writes replies. The tree of such a mount is a
 * cache of what the server has: an inode here has a node there (struct fuse_node). A directory's
 * names are read when the first of them is looked for, all of them (FUSE_READDIRPLUS, which the
 * server must have), and kept: only through this mount do they change. So walks, names,
 * attributes and reading of directories are the tree's own, and what changes something asks
 * first and changes the tree when the reply comes. Contents are asked for with each read, but of
 * a file that is mapped or executed, which is read whole into pages.
 *
 * A thread that asks gets -LX_WAIT_FIRM (after FIRM_TIME -LX_WAIT: a signal then ends it), and
 * finds its reply in thread->request when it comes again. One that does not come again, because a
 * signal or its end came first, leaves the request: the reply still changes the tree.
 *
 * The server is not believed: replies are checked for form, what is named twice, or lies in
 * itself, is refused (-EIO to who asked). When it closes the device, or its requests fill their
 * part of the heap, all who wait for it get -ENOTCONN, -ENOMEM; nobody else sees it.
 * Owner: linuxd; one thread, no locks. */
#ifndef LX_FUSE_H
#define LX_FUSE_H
#include "files.h"
#include "../waiting/timer.h"
#include <linux/fuse.h>

#define FUSE_BUCKETS 256u
#define FUSE_DATA_MAX 61440u /* bytes of one read or write: with all about it less than 64 KiB */
#define FIRM_TIME (2 * NANOSECONDS) /* so long signals wait for the reply */

struct fuse {
    struct filesystem *fs; /* NULL: not mounted yet, or not any more */
    uint32_t references; /* the open device, the mount, each request */
    bool gone; /* nothing is asked any more */
    bool mounted, ready, destroyed; /* it was; FUSE_INIT was answered, FUSE_DESTROY sent */
    uint32_t max_write;
    uint32_t messages; /* bytes of its requests and replies */
    uint64_t unique;
    struct fuse_request *first, *last; /* not answered: what was sent, then what waits for it */
    struct waitq readable;
    struct timer timer; /* wakes who has waited FIRM_TIME */
    struct fuse_node *nodes[FUSE_BUCKETS];
};

/* What the server has for an inode. */
struct fuse_node {
    struct fuse_node *next; /* of the bucket */
    struct inode *inode;
    uint64_t node, lookups; /* its number there, how often it was told to us */
    uint64_t blocks; /* of 512 bytes, as stat shows them */
    uint32_t links; /* names that it has beside those in the tree */
    bool stale; /* its times and blocks have changed there since they were told */
    bool loaded; /* all names of a directory are in the tree, all contents of a file in pages */
    bool loading, opened; /* that is under way; the server has it open (fh) */
    bool written; /* since it is */
    long error; /* the last load's; 0: none */
    uint64_t fh, offset, started; /* of the load */
    struct waitq wait; /* for its end */
};

/* A reply has come, or (error) will not: its result for the thread. The reply's bytes stay. */
typedef long fuse_done(struct fuse_request *request, long error, const void *reply, size_t n);

struct fuse_request {
    struct fuse_request *next;
    struct fuse *fuse;
    struct thread *thread; /* whose it is; NULL: nobody's (any more) */
    fuse_done *done; /* NULL: the error is the result */
    struct inode *inode, *other; /* what it is about: references, or NULL */
    struct file *file; /* the same */
    struct inode *made; /* the file that this thread's open made */
    uint32_t opcode, size, reply_size;
    bool sent, answered, final; /* final: the call that asked ends with the result */
    bool opened; /* the reply's handle is open at the server, and no file has it */
    long result;
    uint64_t started;
    uint64_t before; /* bytes that this thread's read had already */
    struct waitq wait;
    uint8_t *reply;
    struct fuse_in_header header; /* the message: `size` bytes of room from here on */
    uint8_t body[];
};

/* ---- requests (fuse_dev.c) -------------------------------------------------------------- */
/* One about an inode (NULL: none), for `size` bytes behind its header, which are zero: NULL and
 * *error: -ENOTCONN, -ENOMEM. It takes a reference on inode and on other (which may be NULL). */
struct fuse_request *fuse_new(struct fuse *fuse, struct inode *inode, uint32_t opcode, size_t size,
                              fuse_done *done, long *error);
void fuse_refer(struct fuse_request *request, struct inode *other);
/* Sends it for nobody. One without `done` has no references meanwhile: it keeps nothing busy. */
void fuse_tell(struct fuse_request *request);
/* Sends it for the calling thread: what the call is to say now. final: see above. */
long fuse_ask(struct fuse_request *request, bool final);
/* The calling thread's answered request of that kind, when its call is made again; or NULL. */
struct fuse_request *fuse_answer(const struct inode *inode, uint32_t opcode);
/* The thread has no request any more. */
void fuse_drop(struct thread *thread);
/* Its call comes again: true when it ends (or goes on waiting) with *result. */
bool fuse_again(struct thread *thread, long *result);
/* The thread makes another call meanwhile; a system call ends the waiting. */
void fuse_aside(struct thread *thread, bool ends);
/* What a call that waits since then, and is told in `queue`, says. */
long fuse_wait(struct fuse *fuse, struct waitq *queue, uint64_t started);
/* Whether the file this thread's open finds is one that it made itself before it waited. */
bool fuse_made(const struct inode *inode);
/* The connection of an open /dev/fuse of the thread's that is not mounted: NULL and *error. */
struct fuse *fuse_device(struct thread *thread, uint64_t fd, long *error);
void fuse_get(struct fuse *fuse);
void fuse_put(struct fuse *fuse);
/* Nothing is asked any more: who waits gets -ENOTCONN, the server -ENODEV. The caller has a
 * reference. */
void fuse_abort(struct fuse *fuse);
long fuse_dev_start(void); /* makes /dev/fuse: 0 or -ENOMEM */

/* ---- the tree (fuse.c) -------------------------------------------------------------------- */
/* A file system that is about to be mounted is served by who has that descriptor of /dev/fuse
 * open: 0, -EBADF, -EINVAL when it is none, or serves another one. */
long fuse_attach(struct thread *thread, struct filesystem *fs, uint64_t fd);
/* It is mounted. 0 or -ENOMEM: it is to be unmounted. */
long fuse_mounted(struct filesystem *fs);
/* The server has told a name in a directory, and what it leads to (*made; made may be NULL): it is
 * in the tree then. 0; -EIO when that cannot be, -ENOMEM. */
long fuse_learn(struct inode *directory, const struct name *name, const struct fuse_entry_out *out,
                struct inode **made);
long fuse_change(struct inode *inode, const struct fs_change *change, bool final);
/* The attributes become those. */
void fuse_attributes(struct inode *inode, const struct fuse_attr *attr);
static inline struct fuse_node *fuse_node(const struct inode *inode) { return inode->node; }

/* ---- contents (fuse_load.c, fuse_data.c) ---------------------------------------------------- */
/* All names of a directory in the tree, all contents of a file in pages: 0 when they are there;
 * else it waits, or -EIO, -ENOMEM and what the server said. */
long fuse_load(struct inode *inode);
extern const struct file_ops fuse_ops; /* of an open regular file */
void fuse_release(struct inode *inode, uint64_t handle); /* tells the server that it is closed */
long fuse_open(struct inode *inode, uint32_t flags, struct file **file);
long fuse_sync(struct file *file);
#endif
