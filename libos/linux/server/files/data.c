/* SPDX-License-Identifier: MIT
 *
 * Contents of regular files. Page i of a file is a frame of page_new, named by the inode
 * (the first six), by an index page, or by an index page of index pages; where there is
 * none, it is the archive's, as far as that goes, and then zero. Frames belong to the inode; bytes of its last frame behind its size are zero, unless a
 * process wrote them through a mapping. fs->pages counts frames and index pages. */
#include "data.h"
#include "../process/memory.h"
#include "../process/rewritten.h"
#include "files.h"
#include "../../../../lib/exo/exo.h"
#include <linux/fs.h>

#define PAGE 4096u
#define TOGETHER 16 /* pages of the archive's that get frames at once when they are mapped */

/* ---- which frame ---- */

static uint32_t *index_of(uint32_t frame) { return page_data(frame); }

/* Its contents are the caller's to set. */
static uint32_t frame_take(struct inode *inode)
{
    uint32_t frame = inode->fs->pages < inode->fs->pages_max ? page_take() : 0;
    if (!frame) return 0;
    lx_shared->changes++;
    inode->data.pages++;
    inode->fs->pages++;
    return frame;
}

static void frame_free(struct inode *inode, uint32_t frame)
{
    lx_shared->changes++;
    page_free(frame);
    inode->data.pages--;
    inode->fs->pages--;
}

/* The index page that *slot names, made when it is not there; NULL: it is not. */
static uint32_t *index_get(struct inode *inode, uint32_t *slot, bool make)
{
    if (*slot) return index_of(*slot);
    if (!make || !(*slot = frame_take(inode))) return NULL;
    inode->data.indexes++;
    return memset(index_of(*slot), 0, PAGE);
}

/* Where the frame number of a page is kept, or NULL; make: index pages are made. */
static uint32_t *slot_find(struct inode *inode, uint64_t page, bool make)
{
    uint32_t *index;
    if (page < LX_DIRECT) return &inode->data.direct[page];
    page -= LX_DIRECT;
    if (page < LX_PER_INDEX) {
        index = index_get(inode, &inode->data.indirect, make);
        return index ? &index[page] : NULL;
    }
    page -= LX_PER_INDEX;
    if (page >= LX_PER_INDEX * LX_PER_INDEX)
        return NULL; /* a served file may say that it is larger */
    index = index_get(inode, &inode->data.twice, make);
    if (index) index = index_get(inode, &index[page / LX_PER_INDEX], make);
    return index ? &index[page % LX_PER_INDEX] : NULL;
}

static inline uint32_t frame_find(struct inode *inode, uint64_t page)
{
    if (page < LX_DIRECT) return inode->data.direct[page];
    if (page < LX_DIRECT + LX_PER_INDEX)
        return inode->data.indirect ? index_of(inode->data.indirect)[page - LX_DIRECT] : 0;
    uint32_t *slot = slot_find(inode, page, false);
    return slot ? *slot : 0;
}

/* The frame of a page, made with what the archive has for it, then zeroes; bytes [from, end) are
 * the caller's to write. 0 when none is left. */
static uint32_t frame_write(struct inode *inode, uint64_t page, uint64_t from, uint64_t end)
{
    uint32_t *slot = slot_find(inode, page, true);
    if (!slot) return 0;
    if (*slot) return *slot;
    uint32_t frame = frame_take(inode);
    if (!frame) return 0;
    uint8_t *data = page_data(frame);
    uint64_t at = page * PAGE, archive = inode->data.archive_size;
    uint64_t has = at < archive ? EXO_MIN(PAGE, archive - at) : 0;
    if (has) memcpy(data, inode->data.archive + at, has);
    if (has < from) memset(data + has, 0, from - has);
    if (has > end) end = has;
    memset(data + end, 0, PAGE - end);
    return *slot = frame;
}

static uint32_t frame_make(struct inode *inode, uint64_t page)
{
    return frame_write(inode, page, 0, 0);
}

/* ---- reading and writing ---- */

const void *data_at(struct inode *inode, uint64_t at, size_t *n)
{
    static const uint8_t zeroes[PAGE];
    if (at >= inode->size) {
        *n = 0;
        return NULL;
    }
    uint64_t left = inode->size - at;
    if (!inode->data.pages && at < inode->data.archive_size) {
        *n = EXO_MIN(left, inode->data.archive_size - at);
        return inode->data.archive + at;
    }
    uint64_t in_page = at % PAGE;
    uint32_t frame = frame_find(inode, at / PAGE);
    *n = EXO_MIN(left, PAGE - in_page);
    if (frame) return (const uint8_t *)page_data(frame) + in_page;
    if (at >= inode->data.archive_size) return zeroes + in_page;
    *n = EXO_MIN(*n, inode->data.archive_size - at);
    return inode->data.archive + at;
}

static long data_read(struct file *file, struct iobuf *io, uint64_t *pos)
{
    uint64_t start = pos ? *pos : file->position, at = start;
    while (io->left) {
        size_t n;
        const void *from = data_at(file->inode, at, &n);
        if (!n) break;
        at += iobuf_put(io, from, EXO_MIN(n, io->left));
    }
    if (!pos) file->position = at;
    return (long)(at - start);
}

uint64_t data_put(struct inode *inode, uint64_t at, struct iobuf *io)
{
    uint64_t start = at;
    if (inode->data.rewritten) rewritten_drop(inode);
    while (io->left && at < LX_FILE_MAX) {
        uint64_t in_page = at % PAGE, n = EXO_MIN(io->left, PAGE - in_page);
        uint32_t frame = frame_write(inode, at / PAGE, in_page, in_page + n);
        if (!frame) break;
        at += iobuf_get(io, (uint8_t *)page_data(frame) + in_page, n);
    }
    if (at > start && at > inode->size) inode->size = at;
    return at;
}

static long data_write(struct file *file, struct iobuf *io, uint64_t *pos)
{
    struct inode *inode = file->inode;
    uint64_t start = pos ? *pos : file->position;
    if (file->flags & O_APPEND) start = inode->size;
    if (io->left && start >= LX_FILE_MAX) return -EFBIG;
    uint64_t at = data_put(inode, start, io);
    if (at == start) return io->left ? -ENOSPC : 0;
    inode_modified(inode);
    if (!pos) file->position = at;
    return (long)(at - start);
}

/* ---- size ---- */

/* Frees the pages from `from` on of those that *slot leads to: itself a page (level 0), or
 * an index page of index pages of `level` levels. */
static void tree_cut(struct inode *inode, uint32_t *slot, unsigned level, uint64_t from)
{
    if (!*slot) return;
    uint64_t span = 1;
    for (unsigned i = 1; i < level; i++)
        span *= LX_PER_INDEX;
    uint32_t *index = level ? index_of(*slot) : NULL;
    for (uint64_t i = from / span; level && i < LX_PER_INDEX; i++)
        if (index[i]) tree_cut(inode, &index[i], level - 1, i * span < from ? from - i * span : 0);
    if (from) return;
    if (level) inode->data.indexes--;
    frame_free(inode, *slot);
    *slot = 0;
}

static void pages_cut(struct inode *inode, uint64_t from)
{
    if (!inode->data.pages) return;
    for (uint64_t i = from; i < LX_DIRECT; i++)
        tree_cut(inode, &inode->data.direct[i], 0, 0);
    from = from > LX_DIRECT ? from - LX_DIRECT : 0;
    if (from < LX_PER_INDEX) tree_cut(inode, &inode->data.indirect, 1, from);
    from = from > LX_PER_INDEX ? from - LX_PER_INDEX : 0;
    tree_cut(inode, &inode->data.twice, 2, from);
}

long data_truncate(struct inode *inode, uint64_t size)
{
    if (size > LX_FILE_MAX) return -EFBIG;
    if (inode->data.rewritten) rewritten_drop(inode);
    if (size <= inode->size) { /* there may be pages behind its end: fallocate */
        pages_cut(inode, (size + PAGE - 1) / PAGE);
        uint32_t frame = size % PAGE ? frame_find(inode, size / PAGE) : 0;
        if (frame) memset((uint8_t *)page_data(frame) + size % PAGE, 0, PAGE - size % PAGE);
        if (size < inode->data.archive_size) inode->data.archive_size = size;
    }
    inode->size = size;
    return 0;
}

long data_reserve(struct inode *inode, uint64_t offset, uint64_t n)
{
    uint64_t all, unused, missing = 0;
    if (offset > LX_FILE_MAX || n > LX_FILE_MAX - offset) return -EFBIG;
    uint64_t first = offset / PAGE, end = (offset + n + PAGE - 1) / PAGE;
    page_count(&all, &unused);
    unused = EXO_MIN(unused, inode->fs->pages_max - inode->fs->pages);
    for (uint64_t i = first; i < end && missing <= unused; i++)
        missing += !frame_find(inode, i);
    if (missing && missing + missing / LX_PER_INDEX + 3 > unused) return -ENOSPC;
    for (uint64_t i = first; i < end; i++)
        if (!frame_make(inode, i)) return -ENOSPC;
    return 0;
}

long data_zero(struct inode *inode, uint64_t offset, uint64_t n)
{
    if (offset >= inode->size) return 0;
    uint64_t end = offset + EXO_MIN(n, inode->size - offset);
    if (inode->data.rewritten) rewritten_drop(inode);
    while (offset < end) {
        uint64_t in_page = offset % PAGE, part = EXO_MIN(end - offset, PAGE - in_page);
        if (offset >= inode->data.archive_size && !slot_find(inode, offset / PAGE, false)) {
            uint64_t index = (offset / PAGE - LX_DIRECT) % LX_PER_INDEX; /* of a missing page */
            offset += EXO_MIN(end - offset, (LX_PER_INDEX - index) * PAGE - in_page);
            continue;
        }
        uint32_t frame = frame_find(inode, offset / PAGE);
        if (!frame && offset < inode->data.archive_size &&
            !(frame = frame_make(inode, offset / PAGE)))
            return -ENOSPC;
        if (frame) memset((uint8_t *)page_data(frame) + in_page, 0, part);
        offset += part;
    }
    inode_modified(inode);
    return 0;
}

long data_seek(struct file *file, int64_t offset, int whence)
{
    int64_t size = (int64_t)file->inode->size, at;
    switch (whence) {
    case SEEK_SET:
        at = offset;
        break;
    case SEEK_CUR:
        if (__builtin_add_overflow((int64_t)file->position, offset, &at)) return -EOVERFLOW;
        break;
    case SEEK_END:
        if (__builtin_add_overflow(size, offset, &at)) return -EOVERFLOW;
        break;
    case SEEK_DATA:
    case SEEK_HOLE: /* a file is taken to be all data up to its end */
        if (offset < 0 || offset >= size) return -ENXIO;
        at = whence == SEEK_DATA ? offset : size;
        break;
    default:
        return -EINVAL;
    }
    if (at < 0) return -EINVAL;
    file->position = (uint64_t)at;
    return at;
}

/* ---- mapping ---- */

long file_load(struct file *file)
{
    struct inode *inode = file->inode;
    return inode && inode_is(inode, S_IFREG) && inode->fs->ops ? inode->fs->ops->contents(inode)
                                                               : 0;
}

uint64_t file_size(const struct file *file)
{
    return file->inode && inode_is(file->inode, S_IFREG) ? file->inode->size : 0;
}

const uint32_t *data_frames(struct file *file, uint64_t page, uint64_t *n)
{
    struct inode *inode = file->inode;
    *n = 0;
    if (file->ops != &data_ops || page * PAGE >= inode->size) return NULL;
    const uint32_t *slot = slot_find(inode, page, false);
    uint64_t left = (inode->size + PAGE - 1) / PAGE - page;
    if (!slot) return NULL;
    *n = page < LX_DIRECT ? LX_DIRECT - page : LX_PER_INDEX - (page - LX_DIRECT) % LX_PER_INDEX;
    if (*n > left) *n = left;
    return slot;
}

uint32_t data_frame(struct file *file, uint64_t page)
{
    bool there = file->ops == &data_ops && page * PAGE < file->inode->size;
    return there ? frame_find(file->inode, page) : 0;
}

/* The page and its neighbours that are the archive's still, all at once, so that they lie in a row
 * and can be bound in one call. The page's frame; 0 when none is left. */
static uint32_t frames_make(struct inode *inode, uint64_t page)
{
    uint64_t first = page & -(uint64_t)TOGETHER, end = first + TOGETHER;
    for (uint64_t i = first; i < end && i * PAGE < inode->data.archive_size; i++)
        if (!frame_find(inode, i) && !frame_make(inode, i)) break;
    return frame_make(inode, page);
}

long file_pages(struct file *file, uint64_t first, unsigned n, uint32_t frames[], bool write)
{
    struct inode *inode = file->inode;
    unsigned access = file->flags & O_ACCMODE;
    if (!inode || !inode_is(inode, S_IFREG) || inode->proc.node) return -ENODEV;
    if (write && inode->fs->ops) return -ENODEV; /* who serves it would not see what is written */
    if (access == O_WRONLY || (write && access != O_RDWR)) return -EACCES;
    if (write) {
        if (inode->data.rewritten) rewritten_drop(inode);
        inode->data.stored = true;
    }
    uint64_t end = (inode->size + PAGE - 1) / PAGE;
    memset(frames, 0, n * sizeof(*frames));
    if (first >= end) return (long)n;
    uint64_t there = EXO_MIN(n, end - first);
    const uint32_t *slot = NULL;
    for (uint64_t i = 0; i < there; i++, slot++) {
        uint64_t place = (first + i - LX_DIRECT) % LX_PER_INDEX; /* in an index page */
        if (!slot || first + i <= LX_DIRECT || !place) slot = slot_find(inode, first + i, true);
        frames[i] = slot && *slot ? *slot : frames_make(inode, first + i);
        if (!frames[i]) return -ENOMEM;
    }
    return (long)n;
}

const struct file_ops data_ops = {.read = data_read, .write = data_write, .seek = data_seek};
