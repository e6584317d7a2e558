/* SPDX-License-Identifier: MIT
 *
 * Reading a directory's names, or a file's contents, as a whole (fuse.h): opened, read piece by
 * piece, closed. Each reply sends the next request; whoever wants it waits in node->wait, and
 * finds node->loaded, or node->error for the first that comes again. */
#include "fuse.h"
#include "data.h"
#include "../../../../lib/exo/exo.h"

static void load_next(struct inode *inode);

static bool is_directory(const struct inode *inode) { return inode_is(inode, S_IFDIR); }

static void load_close(struct inode *inode)
{
    long error;
    struct fuse_node *node = fuse_node(inode);
    struct fuse_request *request =
        fuse_new(inode->fs->fuse, inode, is_directory(inode) ? FUSE_RELEASEDIR : FUSE_RELEASE,
                 sizeof(struct fuse_release_in), NULL, &error);
    node->opened = false;
    if (!request) return;
    *(struct fuse_release_in *)request->body = (struct fuse_release_in){.fh = node->fh};
    fuse_tell(request);
}

static void load_end(struct inode *inode, long error)
{
    struct fuse_node *node = fuse_node(inode);
    if (node->opened) load_close(inode);
    node->loading = false;
    node->loaded = !error && !node->written; /* else once more: what came may be older */
    node->written = false;
    node->error = error;
    if (!error && is_directory(inode)) node->links = 0;
    wake(&node->wait);
}

static long load_opened(struct fuse_request *request, long error, const void *reply, size_t n)
{
    struct fuse_node *node = fuse_node(request->inode);
    if (!error && n < sizeof(struct fuse_open_out)) error = -EIO;
    if (error && error != -ENOSYS) { /* which says that it need not be */
        load_end(request->inode, error);
        return error;
    }
    node->fh = error ? 0 : ((const struct fuse_open_out *)reply)->fh;
    node->opened = !error;
    load_next(request->inode);
    return 0;
}

static bool name_good(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!text[i] || text[i] == '/') return false;
    return n && n <= LX_NAME_MAX;
}

/* One record of a directory, of n bytes that there are: how many it takes, 0: it is not good, or
 * *error. */
static size_t record_learn(struct inode *directory, const uint8_t *at, size_t n, long *error)
{
    const struct fuse_direntplus *record = (const struct fuse_direntplus *)at;
    char room[LX_NAME_ROOM];
    struct name name;
    if (n < FUSE_NAME_OFFSET_DIRENTPLUS) return 0;
    const char *text = record->dirent.name;
    uint32_t length = record->dirent.namelen;
    if (length > n - FUSE_NAME_OFFSET_DIRENTPLUS || !name_good(text, length)) return 0;
    bool dots = text[0] == '.' && (length == 1 || (length == 2 && text[1] == '.'));
    if (!dots && record->entry_out.nodeid) {
        name_from(&name, room, text, length);
        *error = fuse_learn(directory, &name, &record->entry_out, NULL);
    }
    fuse_node(directory)->offset = record->dirent.off;
    return EXO_MIN(n, FUSE_DIRENTPLUS_SIZE(record));
}

static long names_come(struct inode *directory, const uint8_t *at, size_t n)
{
    while (n) {
        long error = 0;
        size_t size = record_learn(directory, at, n, &error);
        if (!size || error) return error ? error : -EIO;
        at += size;
        n -= size;
    }
    return 0;
}

static long contents_come(struct inode *inode, const void *data, size_t n)
{
    struct fuse_node *node = fuse_node(inode);
    struct iobuf io;
    uint64_t size = inode->size;
    if (n > FUSE_DATA_MAX) return -EIO;
    n = node->offset < size ? EXO_MIN(n, size - node->offset) : 0;
    iobuf_own(&io, (void *)(uintptr_t)data, n);
    node->offset = data_put(inode, node->offset, &io);
    return io.left ? -ENOMEM : 0;
}

static long load_come(struct fuse_request *request, long error, const void *reply, size_t n)
{
    struct inode *inode = request->inode;
    const struct fuse_node *node = fuse_node(inode);
    if (!error && n)
        error = is_directory(inode) ? names_come(inode, reply, n) : contents_come(inode, reply, n);
    if (error || !n || (!is_directory(inode) && node->offset >= inode->size))
        load_end(inode, error);
    else
        load_next(inode);
    return error;
}

static void load_next(struct inode *inode)
{
    long error;
    const struct fuse_node *node = fuse_node(inode);
    struct fuse_request *request =
        fuse_new(inode->fs->fuse, inode, is_directory(inode) ? FUSE_READDIRPLUS : FUSE_READ,
                 sizeof(struct fuse_read_in), load_come, &error);
    if (!request) {
        load_end(inode, error);
        return;
    }
    *(struct fuse_read_in *)request->body =
        (struct fuse_read_in){.fh = node->fh, .offset = node->offset, .size = FUSE_DATA_MAX};
    fuse_tell(request);
}

/* Contents that nobody has open go when there is no room for others. */
static void room_make(struct fuse *fuse, uint64_t bytes)
{
    uint64_t all, unused;
    for (unsigned i = 0; i < FUSE_BUCKETS; i++)
        for (struct fuse_node *node = fuse->nodes[i]; node; node = node->next) {
            page_count(&all, &unused);
            if (unused > bytes / EXO_PAGE + bytes / EXO_PAGE / LX_PER_INDEX + 4) return;
            struct inode *inode = node->inode;
            uint64_t size = inode->size;
            if (inode->references || !inode_is(inode, S_IFREG) || !node->loaded) continue;
            data_truncate(inode, 0);
            inode->size = size;
            node->loaded = false;
        }
}

static long load_start(struct inode *inode)
{
    long error;
    struct fuse *fuse = inode->fs->fuse;
    struct fuse_node *node = fuse_node(inode);
    if (!is_directory(inode)) room_make(fuse, inode->size);
    struct fuse_request *request =
        fuse_new(fuse, inode, is_directory(inode) ? FUSE_OPENDIR : FUSE_OPEN,
                 sizeof(struct fuse_open_in), load_opened, &error);
    if (!request) return error;
    node->loading = true;
    node->offset = node->error = 0;
    node->started = time_boot();
    fuse_tell(request);
    return 0;
}

long fuse_load(struct inode *inode)
{
    struct fuse_node *node = fuse_node(inode);
    if (node->loaded) return 0;
    if (!node->loading) {
        long error = thread_current->again ? node->error : 0;
        node->error = 0;
        if (!error) error = load_start(inode);
        if (error) return error;
    }
    return fuse_wait(inode->fs->fuse, &node->wait, node->started);
}
