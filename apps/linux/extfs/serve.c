/* SPDX-License-Identifier: MIT
 *
 * Requests of /dev/fuse and their replies (linux/fuse.h, version 7). */
#include "extfs.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define IDLE_MS 1000 /* after so long without a request, the image is written */
#define MINOR 31 /* of the protocol: what is used here is in it */

static int serve_init(struct request *r)
{
    const struct fuse_init_in *in = r->in;
    struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION,
                                .minor = MINOR,
                                .flags = FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS,
                                .max_write = EXTFS_DATA_MAX,
                                .time_gran = 1};
    if (r->size < offsetof(struct fuse_init_in, max_readahead)) return -EINVAL;
    if (in->major != FUSE_KERNEL_VERSION) return -EPROTO;
    return reply_add(r, &out, sizeof(out)) ? 0 : -EIO;
}

/* Opening needs nothing of us. */
static int serve_open(struct request *r)
{
    struct fuse_open_out out = {0};
    return reply_add(r, &out, sizeof(out)) ? 0 : -EIO;
}

static int serve_nothing(struct request *r)
{
    (void)r;
    return 0;
}

static int serve_fsync(struct request *r)
{
    (void)r;
    return volume_flush();
}

static int serve_destroy(struct request *r)
{
    (void)r;
    return volume_end();
}

static const struct {
    handler *serve;
    size_t least; /* bytes behind the header */
    bool writes;
} handlers[] = {
    [FUSE_LOOKUP] = {serve_lookup, 2, false},
    [FUSE_GETATTR] = {serve_getattr, 0, false},
    [FUSE_SETATTR] = {serve_setattr, sizeof(struct fuse_setattr_in), true},
    [FUSE_READLINK] = {serve_readlink, 0, false},
    [FUSE_SYMLINK] = {serve_symlink, 4, true},
    [FUSE_MKNOD] = {serve_mknod, sizeof(struct fuse_mknod_in) + 2, true},
    [FUSE_MKDIR] = {serve_mkdir, sizeof(struct fuse_mkdir_in) + 2, true},
    [FUSE_UNLINK] = {serve_unlink, 2, true},
    [FUSE_RMDIR] = {serve_rmdir, 2, true},
    [FUSE_LINK] = {serve_link, sizeof(struct fuse_link_in) + 2, true},
    [FUSE_OPEN] = {serve_open, 0, false},
    [FUSE_READ] = {serve_read, sizeof(struct fuse_read_in), false},
    [FUSE_WRITE] = {serve_write, sizeof(struct fuse_write_in), true},
    [FUSE_STATFS] = {serve_statfs, 0, false},
    [FUSE_RELEASE] = {serve_nothing, 0, false},
    [FUSE_FSYNC] = {serve_fsync, 0, false},
    [FUSE_FLUSH] = {serve_nothing, 0, false},
    [FUSE_INIT] = {serve_init, 0, false},
    [FUSE_OPENDIR] = {serve_open, 0, false},
    [FUSE_RELEASEDIR] = {serve_nothing, 0, false},
    [FUSE_FSYNCDIR] = {serve_fsync, 0, false},
    [FUSE_DESTROY] = {serve_destroy, 0, false},
    [FUSE_READDIRPLUS] = {serve_readdir, sizeof(struct fuse_read_in), false},
    [FUSE_RENAME2] = {serve_rename, sizeof(struct fuse_rename2_in) + 4, true},
};

static int request_serve(const struct fuse_in_header *header, struct request *r)
{
    if (header->opcode >= sizeof(handlers) / sizeof(handlers[0]) || !handlers[header->opcode].serve)
        return -ENOSYS;
    if (r->size < handlers[header->opcode].least) return -EINVAL;
    if (handlers[header->opcode].writes && !volume.writable) return -EROFS;
    return handlers[header->opcode].serve(r);
}

static void reply(int device, uint64_t unique, int error, const struct request *r)
{
    size_t n = error ? 0 : r->done;
    struct fuse_out_header header = {
        .len = (uint32_t)(sizeof(header) + n), .error = error, .unique = unique};
    struct iovec parts[2] = {{&header, sizeof(header)}, {r->out, n}};
    ssize_t written = writev(device, parts, n ? 2 : 1);
    (void)written; /* nobody waits for it any more */
}

/* The next request: its bytes; 0 when there is none for a while, -1 at the end. */
static ssize_t request_read(int device, char *buffer, size_t size)
{
    struct pollfd wait = {.fd = device, .events = POLLIN};
    if (poll(&wait, 1, volume.dirty ? IDLE_MS : -1) == 0) return 0;
    ssize_t n = read(device, buffer, size);
    return n < 0 && (errno == EINTR || errno == EAGAIN) ? 0 : n <= 0 ? -1 : n;
}

static ext2_ino_t node_inode(uint64_t node)
{
    return node == FUSE_ROOT_ID ? EXT2_ROOT_INO : (ext2_ino_t)node;
}

static void forget_all(const void *in, size_t n)
{
    const struct fuse_batch_forget_in *all = in;
    const struct fuse_forget_one *one = (const struct fuse_forget_one *)(all + 1);
    if (n < sizeof(*all)) return;
    for (size_t i = 0; i < all->count && i < (n - sizeof(*all)) / sizeof(*one); i++)
        inode_forget(node_inode(one[i].nodeid));
}

void serve(int device, int ready)
{
    static _Alignas(16) char in[sizeof(struct fuse_in_header) + EXTFS_DATA_MAX + 4096 + 1],
        out[EXTFS_DATA_MAX];
    for (;;) {
        const struct fuse_in_header *header = (const struct fuse_in_header *)in;
        ssize_t n = request_read(device, in, sizeof(in) - 1);
        if (n < 0) return;
        if (n == 0) volume_flush();
        if ((size_t)n < sizeof(*header)) continue;
        in[n] = 0;
        ext2_ino_t ino = node_inode(header->nodeid);
        struct request r = {ino, header + 1, (size_t)n - sizeof(*header), out, 0, sizeof(out)};
        if (header->opcode == FUSE_FORGET) inode_forget(ino);
        if (header->opcode == FUSE_BATCH_FORGET) forget_all(r.in, r.size);
        if (header->opcode == FUSE_FORGET || header->opcode == FUSE_BATCH_FORGET)
            continue; /* they have no reply */
        int error = request_serve(header, &r);
        reply(device, header->unique, error, &r);
        if (ready >= 0 && header->opcode != FUSE_INIT) {
            ssize_t told = write(ready, "", 1);
            (void)told; /* who started us may have gone */
            close(ready);
            ready = -1;
        }
    }
}
