/* SPDX-License-Identifier: MIT
 *
 * Names: found, listed, made, moved, removed. */
#include "extfs.h"
#include <errno.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/stat.h>

#define LINKS_MAX 65000u /* ext4's */

static int type_of(uint32_t mode)
{
    static const uint8_t types[16] = {
        [S_IFREG >> 12] = EXT2_FT_REG_FILE, [S_IFDIR >> 12] = EXT2_FT_DIR,
        [S_IFCHR >> 12] = EXT2_FT_CHRDEV,   [S_IFBLK >> 12] = EXT2_FT_BLKDEV,
        [S_IFIFO >> 12] = EXT2_FT_FIFO,     [S_IFSOCK >> 12] = EXT2_FT_SOCK,
        [S_IFLNK >> 12] = EXT2_FT_SYMLINK};
    return types[(mode & S_IFMT) >> 12];
}

static int name_find(ext2_ino_t directory, const char *name, ext2_ino_t *ino)
{
    return error_of(ext2fs_lookup(volume.fs, directory, name, (int)strlen(name), NULL, ino));
}

/* Adds a name; the directory grows where it must. */
static int name_add(ext2_ino_t directory, const char *name, ext2_ino_t ino, uint32_t mode)
{
    volume.dirty = true;
    errcode_t error = ext2fs_link(volume.fs, directory, name, ino, type_of(mode));
    if (error == EXT2_ET_DIR_NO_SPACE) {
        error = ext2fs_expand_dir(volume.fs, directory);
        if (!error) error = ext2fs_link(volume.fs, directory, name, ino, type_of(mode));
    }
    return error ? error_of(error) : inode_touched(directory, TIME_MODIFY | TIME_CHANGE);
}

static int name_remove(ext2_ino_t directory, const char *name)
{
    volume.dirty = true;
    int error = error_of(ext2fs_unlink(volume.fs, directory, name, 0, 0));
    return error ? error : inode_touched(directory, TIME_MODIFY | TIME_CHANGE);
}

/* The text at *at of the request, with its end; *at is behind it then. NULL: it has none, or is
 * too long for a name. */
static const char *text_take(const struct request *r, size_t *at, size_t longest)
{
    const char *text = (const char *)r->in + *at;
    if (*at >= r->size) return NULL;
    const char *end = memchr(text, 0, r->size - *at);
    if (!end || end == text || (size_t)(end - text) > longest) return NULL;
    *at += (size_t)(end - text) + 1;
    return text;
}

static int entry_reply(struct request *r, ext2_ino_t ino)
{
    struct ext2_inode_large inode;
    struct fuse_entry_out out;
    int error = inode_get(ino, &inode);
    if (error) return error;
    entry_fill(ino, &inode, &out);
    return reply_add(r, &out, sizeof(out)) ? 0 : -EIO;
}

int serve_lookup(struct request *r)
{
    size_t at = 0;
    ext2_ino_t ino;
    const char *name = text_take(r, &at, EXT2_NAME_LEN);
    if (!name) return -EINVAL;
    int error = name_find(r->ino, name, &ino);
    return error ? error : entry_reply(r, ino);
}

/* ---- listing ---- */

struct listing {
    struct request *r;
    uint64_t skip, at; /* entries before the wanted ones, entries so far */
    size_t room;
    int error;
};

static int list_entry(struct ext2_dir_entry *entry, int offset, int size, char *buffer, void *data)
{
    struct listing *list = data;
    struct ext2_inode_large inode;
    char bytes[sizeof(struct fuse_direntplus) + EXT2_NAME_LEN + 8] = {0};
    struct fuse_direntplus *record = (struct fuse_direntplus *)bytes;
    unsigned length = (unsigned)ext2fs_dirent_name_len(entry);
    (void)offset, (void)size, (void)buffer;
    if (list->at++ < list->skip) return 0;
    bool dots = entry->name[0] == '.' && (length == 1 || (length == 2 && entry->name[1] == '.'));
    list->error = inode_get(entry->inode, &inode);
    if (list->error) return DIRENT_ABORT;
    if (!dots) entry_fill(entry->inode, &inode, &record->entry_out);
    record->dirent = (struct fuse_dirent){
        .ino = entry->inode, .off = list->at, .namelen = length, .type = inode.i_mode >> 12};
    memcpy(record->dirent.name, entry->name, length);
    size_t all = FUSE_DIRENTPLUS_SIZE(record);
    if (list->r->done + all > list->room) return DIRENT_ABORT;
    return reply_add(list->r, bytes, all) ? 0 : DIRENT_ABORT;
}

int serve_readdir(struct request *r)
{
    const struct fuse_read_in *in = r->in;
    if (r->size < sizeof(*in)) return -EINVAL;
    struct listing list = {r, in->offset, 0, in->size, 0};
    int error = error_of(ext2fs_dir_iterate(volume.fs, r->ino, 0, NULL, list_entry, &list));
    return error ? error : list.error;
}

/* ---- making ---- */

/* An inode of that mode, without blocks, in use from now on. */
static int inode_make(ext2_ino_t directory, uint32_t mode, uint32_t rdev, ext2_ino_t *ino)
{
    struct ext2_inode_large inode = {.i_mode = (uint16_t)mode, .i_links_count = 1};
    bool data = LINUX_S_ISREG(mode);
    errcode_t error = ext2fs_new_inode(volume.fs, directory, (int)mode, NULL, ino);
    if (!error && data && ext2fs_has_feature_extents(volume.fs->super)) {
        ext2_extent_handle_t handle;
        error = ext2fs_extent_open2(volume.fs, *ino, EXT2_INODE(&inode), &handle);
        if (!error) ext2fs_extent_free(handle);
    }
    if (LINUX_S_ISCHR(mode) || LINUX_S_ISBLK(mode)) inode.i_block[rdev > UINT16_MAX] = rdev;
    if (!error) error = ext2fs_write_new_inode(volume.fs, *ino, EXT2_INODE(&inode));
    if (error) return error_of(error);
    ext2fs_inode_alloc_stats2(volume.fs, *ino, 1, 0);
    volume.dirty = true;
    return inode_touched(*ino, TIME_ACCESS | TIME_MODIFY | TIME_CHANGE | TIME_BIRTH);
}

int serve_mknod(struct request *r)
{
    const struct fuse_mknod_in *in = r->in;
    size_t at = sizeof(*in);
    ext2_ino_t ino;
    const char *name = text_take(r, &at, EXT2_NAME_LEN);
    if (!name) return -EINVAL;
    if (name_find(r->ino, name, &ino) == 0) return -EEXIST;
    int error = inode_make(r->ino, in->mode, in->rdev, &ino);
    if (error) return error;
    error = name_add(r->ino, name, ino, in->mode);
    if (error && inode_orphan(ino) == 0) inode_forget(ino);
    return error ? error : entry_reply(r, ino);
}

/* What the library made got its own mode and seconds. */
static int made_reply(struct request *r, const char *name, uint32_t mode)
{
    struct ext2_inode_large inode;
    ext2_ino_t ino;
    int error = name_find(r->ino, name, &ino);
    if (!error) error = inode_get(ino, &inode);
    if (error) return error;
    inode.i_mode = (uint16_t)((inode.i_mode & S_IFMT) | (mode & 07777));
    inode_touch(&inode, TIME_ACCESS | TIME_MODIFY | TIME_CHANGE | TIME_BIRTH);
    error = inode_put(ino, &inode);
    if (!error) error = inode_touched(r->ino, TIME_MODIFY | TIME_CHANGE);
    return error ? error : entry_reply(r, ino);
}

int serve_mkdir(struct request *r)
{
    const struct fuse_mkdir_in *in = r->in;
    size_t at = sizeof(*in);
    ext2_ino_t ino;
    const char *name = text_take(r, &at, EXT2_NAME_LEN);
    if (!name) return -EINVAL;
    if (name_find(r->ino, name, &ino) == 0) return -EEXIST;
    volume.dirty = true;
    errcode_t error = ext2fs_mkdir(volume.fs, r->ino, 0, name);
    if (error == EXT2_ET_DIR_NO_SPACE) {
        error = ext2fs_expand_dir(volume.fs, r->ino);
        if (!error) error = ext2fs_mkdir(volume.fs, r->ino, 0, name);
    }
    return error ? error_of(error) : made_reply(r, name, in->mode);
}

int serve_symlink(struct request *r)
{
    size_t at = 0;
    ext2_ino_t ino;
    const char *name = text_take(r, &at, EXT2_NAME_LEN);
    const char *target = name ? text_take(r, &at, volume.fs->blocksize) : NULL;
    if (!target) return name ? -ENAMETOOLONG : -EINVAL;
    if (name_find(r->ino, name, &ino) == 0) return -EEXIST;
    volume.dirty = true;
    errcode_t error = ext2fs_symlink(volume.fs, r->ino, 0, name, target);
    if (error == EXT2_ET_DIR_NO_SPACE) {
        error = ext2fs_expand_dir(volume.fs, r->ino);
        if (!error) error = ext2fs_symlink(volume.fs, r->ino, 0, name, target);
    }
    return error ? error_of(error) : made_reply(r, name, 0777);
}

/* The number of names that an inode has changes by that. */
static int links_add(ext2_ino_t ino, int n)
{
    struct ext2_inode_large inode;
    int error = inode_get(ino, &inode);
    if (error) return error;
    bool many =
        LINUX_S_ISDIR(inode.i_mode) && inode.i_links_count == 1; /* not counted: dir_nlink */
    if (!many) inode.i_links_count = (uint16_t)(inode.i_links_count + n);
    inode_touch(&inode, TIME_CHANGE);
    return inode_put(ino, &inode);
}

int serve_link(struct request *r)
{
    const struct fuse_link_in *in = r->in;
    size_t at = sizeof(*in);
    struct ext2_inode_large inode;
    ext2_ino_t ino = (ext2_ino_t)in->oldnodeid, there;
    const char *name = text_take(r, &at, EXT2_NAME_LEN);
    if (!name) return -EINVAL;
    if (name_find(r->ino, name, &there) == 0) return -EEXIST;
    int error = inode_get(ino, &inode);
    if (error) return error;
    if (inode.i_links_count >= LINKS_MAX) return -EMLINK;
    error = name_add(r->ino, name, ino, inode.i_mode);
    if (!error) error = links_add(ino, 1);
    return error ? error : entry_reply(r, ino);
}

/* ---- removing ---- */

static int find_other(struct ext2_dir_entry *entry, int offset, int size, char *buffer, void *data)
{
    unsigned length = (unsigned)ext2fs_dirent_name_len(entry);
    (void)offset, (void)size, (void)buffer;
    if (entry->name[0] == '.' && (length == 1 || (length == 2 && entry->name[1] == '.'))) return 0;
    *(bool *)data = true;
    return DIRENT_ABORT;
}

/* A name of the inode is gone. Of a directory, which is empty, all are. */
static int inode_unnamed(ext2_ino_t ino, ext2_ino_t parent)
{
    struct ext2_inode_large inode;
    int error = inode_get(ino, &inode);
    if (error) return error;
    bool directory = LINUX_S_ISDIR(inode.i_mode);
    inode.i_links_count = directory ? 0 : (uint16_t)(inode.i_links_count - 1);
    inode_touch(&inode, TIME_CHANGE);
    error = inode_put(ino, &inode);
    if (!error && directory) error = links_add(parent, -1);
    return error || inode.i_links_count ? error : inode_orphan(ino);
}

/* Whether what the name leads to may be removed as a directory, or as none. */
static int removable(ext2_ino_t ino, bool directory)
{
    struct ext2_inode_large inode;
    bool full = false;
    int error = inode_get(ino, &inode);
    if (error) return error;
    if (LINUX_S_ISDIR(inode.i_mode) != directory) return directory ? -ENOTDIR : -EISDIR;
    if (inode.i_flags & (EXT2_IMMUTABLE_FL | EXT2_APPEND_FL)) return -EPERM;
    if (directory) error = error_of(ext2fs_dir_iterate(volume.fs, ino, 0, NULL, find_other, &full));
    return full ? -ENOTEMPTY : error;
}

static int name_end(struct request *r, bool directory)
{
    size_t at = 0;
    ext2_ino_t ino;
    const char *name = text_take(r, &at, EXT2_NAME_LEN);
    if (!name) return -EINVAL;
    int error = name_find(r->ino, name, &ino);
    if (!error) error = removable(ino, directory);
    if (!error) error = name_remove(r->ino, name);
    return error ? error : inode_unnamed(ino, r->ino);
}

int serve_unlink(struct request *r) { return name_end(r, false); }

int serve_rmdir(struct request *r) { return name_end(r, true); }

/* ---- moving ---- */

struct target {
    const char *name;
    ext2_ino_t ino;
    int type;
};

/* The entry of that name leads elsewhere from now on. */
static int entry_turn(struct ext2_dir_entry *entry, int offset, int size, char *buffer, void *data)
{
    const struct target *to = data;
    size_t length = strlen(to->name);
    (void)offset, (void)size, (void)buffer;
    if ((size_t)ext2fs_dirent_name_len(entry) != length || memcmp(entry->name, to->name, length))
        return 0;
    entry->inode = to->ino;
    if (ext2fs_has_feature_filetype(volume.fs->super)) ext2fs_dirent_set_file_type(entry, to->type);
    return DIRENT_CHANGED | DIRENT_ABORT;
}

static int name_turn(ext2_ino_t directory, const char *name, ext2_ino_t ino, uint32_t mode)
{
    struct target to = {name, ino, type_of(mode)};
    volume.dirty = true;
    return error_of(ext2fs_dir_iterate(volume.fs, directory, 0, NULL, entry_turn, &to));
}

/* The inode gets the name, instead of `over` (0: there is none of it). */
static int name_take(ext2_ino_t directory, const char *name, ext2_ino_t ino, ext2_ino_t over,
                     uint32_t mode)
{
    if (!over) return name_add(directory, name, ino, mode);
    int error = removable(over, LINUX_S_ISDIR(mode));
    if (!error) error = name_turn(directory, name, ino, mode);
    if (!error) error = inode_touched(directory, TIME_MODIFY | TIME_CHANGE);
    return error ? error : inode_unnamed(over, directory);
}

int serve_rename(struct request *r)
{
    const struct fuse_rename2_in *in = r->in;
    size_t at = sizeof(*in);
    struct ext2_inode_large inode;
    ext2_ino_t ino, over = 0;
    const char *from = text_take(r, &at, EXT2_NAME_LEN);
    const char *to = from ? text_take(r, &at, EXT2_NAME_LEN) : NULL;
    if (!to || in->flags & ~(uint32_t)RENAME_NOREPLACE) return -EINVAL;
    ext2_ino_t directory = in->newdir == FUSE_ROOT_ID ? EXT2_ROOT_INO : (ext2_ino_t)in->newdir;
    int error = name_find(r->ino, from, &ino);
    if (!error) error = inode_get(ino, &inode);
    if (error) return error;
    error = name_find(directory, to, &over);
    if (error && error != -ENOENT) return error;
    if (!error && in->flags & RENAME_NOREPLACE) return -EEXIST;
    if (over == ino) return 0;
    error = name_take(directory, to, ino, error ? 0 : over, inode.i_mode);
    if (!error) error = name_remove(r->ino, from);
    if (!error && LINUX_S_ISDIR(inode.i_mode) && directory != r->ino) {
        error = name_turn(ino, "..", directory, S_IFDIR);
        if (!error) error = links_add(r->ino, -1);
        if (!error) error = links_add(directory, 1);
    }
    return error ? error : inode_touched(ino, TIME_CHANGE);
}
