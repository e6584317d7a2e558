/* SPDX-License-Identifier: MIT
 *
 * Replies of a server of /dev/fuse that are of the right form and mean anything, or are of no
 * form. Whoever includes it has dice(n) before: a random number below n. */
#ifndef FUSE_LIES_H
#define FUSE_LIES_H
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>

#define NAMES 6 /* of files */
#define DATA_MAX 70000 /* bytes of a reply, at most */

/* Attributes that may be anything, and often could be. */
static void attributes_lie(struct fuse_attr *attr)
{
    static const uint32_t types[] = {S_IFREG, S_IFDIR, S_IFDIR, S_IFLNK, S_IFIFO, S_IFBLK, 0, 077};
    static const uint64_t sizes[] = {0, 1, 4096, 100000, 1ul << 40, ~0ul};
    for (size_t i = 0; i < sizeof *attr / 4; i++)
        ((uint32_t *)attr)[i] = dice(3) ? dice(8) : dice(~0u);
    attr->mode = types[dice(8)] | 0755;
    attr->size = sizes[dice(sizeof sizes / sizeof *sizes)];
}

static void entry_lie(struct fuse_entry_out *entry)
{
    memset(entry, 0, sizeof *entry);
    entry->nodeid = dice(10) ? 2 + dice(NAMES) : dice(3);
    entry->attr_valid = entry->entry_valid = dice(2);
    attributes_lie(&entry->attr);
}

/* Records of a directory, some of them broken. */
static size_t names_lie(uint8_t *to)
{
    size_t n = 0;
    for (unsigned left = dice(12); left; left--) {
        struct fuse_direntplus *record = (struct fuse_direntplus *)(to + n);
        entry_lie(&record->entry_out);
        record->dirent = (struct fuse_dirent){.ino = dice(9),
                                              .off = dice(100),
                                              .namelen = dice(20) ? 1 : dice(300),
                                              .type = dice(16)};
        record->dirent.name[0] = dice(30) ? (char)('a' + dice(NAMES)) : "./\0"[dice(3)];
        n += FUSE_DIRENTPLUS_SIZE(record);
    }
    return n - (n && dice(20) == 0);
}

/* Writes an answer to the request; its length. */
static size_t reply_lie(const struct fuse_in_header *request, uint8_t *to)
{
    static const size_t sizes[] = {0, 1, 4096, 60000, 61440, 61441, DATA_MAX};
    switch (request->opcode) {
    case FUSE_INIT: /* the truth */
        *(struct fuse_init_out *)to = (struct fuse_init_out){
            .major = 7, .minor = 31, .flags = FUSE_DO_READDIRPLUS, .max_write = 4096u << dice(6)};
        return sizeof(struct fuse_init_out);
    case FUSE_LOOKUP:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_SYMLINK:
    case FUSE_LINK:
        entry_lie((struct fuse_entry_out *)to);
        return sizeof(struct fuse_entry_out);
    case FUSE_GETATTR:
    case FUSE_SETATTR:
        attributes_lie(&((struct fuse_attr_out *)to)->attr);
        if (request->nodeid == FUSE_ROOT_ID && dice(20)) /* else nothing below is looked at */
            ((struct fuse_attr_out *)to)->attr.mode = S_IFDIR | 0755;
        return sizeof(struct fuse_attr_out);
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
        return dice(3) ? names_lie(to) : 0;
    case FUSE_READLINK: /* whatever its length becomes, it does not lead out of the mount */
        return (size_t)snprintf((char *)to, 64, "%s", dice(2) ? "a/b/../c" : "c/./b");
    case FUSE_READ:
        return sizes[dice(sizeof sizes / sizeof *sizes)];
    case FUSE_WRITE:
        ((struct fuse_write_out *)to)->size = dice(2) ? dice(5000) : dice(~0u);
        return sizeof(struct fuse_write_out);
    case FUSE_OPEN:
    case FUSE_OPENDIR:
        return sizeof(struct fuse_open_out);
    default:
        return dice(2) ? 0 : dice(300);
    }
}
#endif
