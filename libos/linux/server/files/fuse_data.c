/* SPDX-License-Identifier: MIT
 *
 * Open files of a file system that a process serves (fuse.h). file->data is the server's own
 * number for it. A read longer than a piece is a request for each, and its thread comes again for
 * the next one; the library writes what a short write leaves. A file whose contents are pages
 * (fuse_load.c) is read there, and written in both places. */
#include "fuse.h"
#include "data.h"
#include "../../../../lib/exo/exo.h"

static uint64_t handle_of(const struct file *file) { return (uint64_t)(uintptr_t)file->data; }

/* ---- reading ---- */

static void iobuf_skip(struct iobuf *io, size_t n)
{
    while (n) {
        size_t part = EXO_MIN(n, io->run[io->at].length - io->offset);
        io->offset += part;
        io->left -= part;
        n -= part;
        if (io->offset == io->run[io->at].length) {
            io->at++;
            io->offset = 0;
        }
    }
}

static long read_ask(struct file *file, uint64_t at, size_t n, uint64_t before)
{
    long error;
    struct fuse_request *request = fuse_new(file->inode->fs->fuse, file->inode, FUSE_READ,
                                            sizeof(struct fuse_read_in), NULL, &error);
    if (!request) return error;
    *(struct fuse_read_in *)request->body = (struct fuse_read_in){
        .fh = handle_of(file), .offset = at, .size = (uint32_t)EXO_MIN(n, (size_t)FUSE_DATA_MAX)};
    request->before = before;
    return fuse_ask(request, false);
}

/* The contents lie in pages. */
static long read_pages(struct file *file, struct iobuf *io, uint64_t *pos)
{
    struct file plain = {.inode = file->inode, .position = file->position};
    long r = data_ops.read(&plain, io, pos);
    file->position = plain.position;
    return r;
}

/* What the request brought goes behind what those before it did. More is asked for while there
 * may be more. */
static long fuse_read(struct file *file, struct iobuf *io, uint64_t *pos)
{
    struct inode *inode = file->inode;
    uint64_t start = pos ? *pos : file->position, done = 0;
    if (fuse_node(inode)->loaded) return read_pages(file, io, pos);
    struct fuse_request *request = fuse_answer(inode, FUSE_READ);
    if (request) {
        const struct fuse_read_in *in = (const struct fuse_read_in *)request->body;
        long error = request->result;
        size_t n = EXO_MIN(request->reply_size, in->size);
        bool more = n == in->size;
        done = EXO_MIN(request->before, io->left);
        iobuf_skip(io, done);
        if (n) done += iobuf_put(io, request->reply, EXO_MIN(n, io->left));
        fuse_drop(thread_current);
        if (error && !done) return error;
        if (!more || error) goto end;
    }
    uint64_t at = start + done, left = at < inode->size ? inode->size - at : 0;
    if (left && io->left) {
        long r = read_ask(file, at, EXO_MIN(left, io->left), done);
        if (r == -LX_WAIT || r == -LX_WAIT_FIRM || !done) return r;
    }
end:
    if (!pos) file->position = start + done;
    return (long)done;
}

/* ---- writing ---- */

/* `size` bytes of the message are in the file now. */
static long write_done(struct fuse_request *request, long error, const void *reply, size_t n)
{
    const struct fuse_write_in *in = (const struct fuse_write_in *)request->body;
    struct inode *inode = request->inode;
    struct fuse_node *node = fuse_node(inode);
    struct iobuf io;
    if (error) return error;
    if (n < sizeof(struct fuse_write_out)) return -EIO;
    uint32_t size = ((const struct fuse_write_out *)reply)->size;
    if (!size || size > in->size) return -EIO;
    uint64_t end = in->offset + size;
    node->written = node->loading;
    if (node->loaded) {
        iobuf_own(&io, (void *)(uintptr_t)(in + 1), size);
        data_put(inode, in->offset, &io);
    }
    if (end > inode->size) inode->size = end;
    node->stale = true;
    if (request->file) request->file->position = end;
    return size;
}

static long fuse_write(struct file *file, struct iobuf *io, uint64_t *pos)
{
    long error;
    struct inode *inode = file->inode;
    struct fuse *fuse = inode->fs->fuse;
    uint64_t at = file->flags & O_APPEND ? inode->size : pos ? *pos : file->position;
    uint32_t n = (uint32_t)EXO_MIN(io->left, (size_t)fuse->max_write);
    if (!io->left) return 0;
    if (at >= INT64_MAX - FUSE_DATA_MAX) return -EFBIG;
    struct fuse_request *request =
        fuse_new(fuse, inode, FUSE_WRITE, sizeof(struct fuse_write_in) + n, write_done, &error);
    if (!request) return error;
    struct fuse_write_in *in = (struct fuse_write_in *)request->body;
    *in = (struct fuse_write_in){.fh = handle_of(file), .offset = at, .size = n};
    iobuf_get(io, in + 1, n);
    if (!pos) {
        request->file = file;
        file_get(file);
    }
    return fuse_ask(request, true);
}

/* ---- opening ---- */

void fuse_release(struct inode *inode, uint64_t handle)
{
    long error;
    struct fuse_request *request = fuse_new(inode->fs->fuse, inode, FUSE_RELEASE,
                                            sizeof(struct fuse_release_in), NULL, &error);
    if (!request) return;
    *(struct fuse_release_in *)request->body = (struct fuse_release_in){.fh = handle};
    fuse_tell(request);
}

static void fuse_close(struct file *file) { fuse_release(file->inode, handle_of(file)); }

const struct file_ops fuse_ops = {
    .read = fuse_read, .write = fuse_write, .seek = data_seek, .close = fuse_close};

/* It is closed with the request, if nobody comes for it (any more). */
static long open_done(struct fuse_request *request, long error, const void *reply, size_t n)
{
    if (error) return error == -ENOSYS ? 0 : error; /* it need not be opened */
    if (n < sizeof(struct fuse_open_out)) return -EIO;
    (void)reply;
    request->opened = true;
    return 0;
}

static long open_ask(struct inode *inode, uint32_t flags)
{
    long error;
    struct fuse_request *request =
        fuse_new(inode->fs->fuse, inode, FUSE_OPEN, sizeof(struct fuse_open_in), open_done, &error);
    if (!request) return error;
    *(struct fuse_open_in *)request->body = (struct fuse_open_in){.flags = flags};
    return fuse_ask(request, false);
}

long fuse_open(struct inode *inode, uint32_t flags, struct file **file)
{
    static const struct fs_change cut = {.valid = FATTR_SIZE};
    struct fuse_request *request = fuse_answer(inode, FUSE_OPEN);
    if (!request) {
        request = fuse_answer(inode, FUSE_SETATTR);
        if (request && request->result) return request->result;
        if (!request && flags & O_TRUNC && inode->size) return fuse_change(inode, &cut, false);
        return open_ask(inode, flags & ~(uint32_t)(O_TRUNC | O_CREAT | O_EXCL));
    }
    long r = request->result;
    uint64_t handle = request->opened ? ((struct fuse_open_out *)request->reply)->fh : 0;
    *file = r < 0 ? NULL : file_new(&fuse_ops, flags & ~(uint32_t)O_TRUNC);
    if (*file) request->opened = false;
    fuse_drop(thread_current);
    if (!*file) return r < 0 ? r : -ENFILE;
    (*file)->data = (void *)(uintptr_t)handle;
    (*file)->inode = inode;
    inode_get(inode);
    return 0;
}

long fuse_sync(struct file *file)
{
    long error;
    bool directory = inode_is(file->inode, S_IFDIR);
    struct fuse_request *request =
        fuse_new(file->inode->fs->fuse, file->inode, directory ? FUSE_FSYNCDIR : FUSE_FSYNC,
                 sizeof(struct fuse_fsync_in), NULL, &error);
    if (!request) return error;
    *(struct fuse_fsync_in *)request->body =
        (struct fuse_fsync_in){.fh = directory ? 0 : handle_of(file)};
    return fuse_ask(request, true);
}
