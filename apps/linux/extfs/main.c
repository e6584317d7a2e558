/* SPDX-License-Identifier: MIT
 *
 * mount.ext4 IMAGE DIRECTORY [-o OPTIONS]: opens the image, mounts, and stays behind as the
 * server of the mount (extfs.h). mount(8) calls it when the kernel has no such file system. */
#include "extfs.h"
#include <errno.h>
#include <et/com_err.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

struct options {
    const char *image, *directory;
    bool readonly, noload;
};

static const char *program;

static void fail(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    va_end(list);
    exit(1);
}

/* Options of all file systems, which mount(8) may pass on, mean nothing here. */
static void options_parse(struct options *options, char *text)
{
    static const char *const ignored[] = {
        "rw",     "loop",     "defaults", "noatime", "nosuid",          "nodev",
        "noexec", "relatime", "sync",     "async",   "nouser",          "noauto",
        "auto",   "suid",     "dev",      "exec",    "errors=continue", "errors=remount-ro"};
    for (char *word = strtok(text, ","); word; word = strtok(NULL, ",")) {
        size_t i = 0, count = sizeof(ignored) / sizeof(ignored[0]);
        while (i < count && strcmp(word, ignored[i]))
            i++;
        if (!strcmp(word, "ro"))
            options->readonly = true;
        else if (!strcmp(word, "noload") || !strcmp(word, "norecovery"))
            options->noload = true;
        else if (i == count)
            fail("option '%s' is not known: ro, noload", word);
    }
}

static void arguments_parse(struct options *options, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-o") && i + 1 < argc)
            options_parse(options, argv[++i]);
        else if (!strcmp(argv[i], "-r"))
            options->readonly = true;
        else if (argv[i][0] == '-' && argv[i][1])
            continue; /* mount(8) passes -n, -s, -v, -w */
        else if (!options->image)
            options->image = argv[i];
        else
            options->directory = argv[i];
    }
    if (!options->directory) {
        fprintf(stderr, "usage: %s IMAGE DIRECTORY [-o ro,noload]\n", program);
        exit(1);
    }
}

/* Whether what the image has can be written without spoiling it. */
static void features_check(const struct options *options)
{
    struct ext2_super_block *super = volume.fs->super;
    if (ext2fs_has_feature_journal_needs_recovery(super) && !(options->readonly && options->noload))
        fail("%s: its journal was not replayed: run e2fsck on it, or mount it with ro,noload",
             options->image);
    if (ext2fs_has_feature_journal_dev(super)) fail("%s: this is a journal", options->image);
    if (!volume.writable) return;
    if (ext2fs_has_feature_quota(super) || ext2fs_has_feature_bigalloc(super))
        fail("%s: quotas and clusters of blocks are not kept: mount it with ro", options->image);
    if (super->s_state & EXT2_ERROR_FS || !(super->s_state & EXT2_VALID_FS))
        fprintf(stderr, "%s: warning: %s was not unmounted, or has errors: e2fsck is advised\n",
                program, options->image);
}

static void volume_open(const struct options *options)
{
    volume.writable = !options->readonly && access(options->image, W_OK) == 0;
    int flags = EXT2_FLAG_64BITS | (volume.writable ? EXT2_FLAG_RW : 0);
    errcode_t error = ext2fs_open2(options->image, NULL, flags, 0, 0, unix_io_manager, &volume.fs);
    if (volume.writable && (error == EROFS || error == EACCES)) {
        volume.writable = false;
        error =
            ext2fs_open2(options->image, NULL, EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &volume.fs);
    }
    if (error == EXT2_ET_RO_UNSUPP_FEATURE)
        fail("%s: it has features that are not written: mount it with ro", options->image);
    if (error) fail("%s: %s", options->image, error_message(error));
    features_check(options);
    error = ext2fs_read_bitmaps(volume.fs);
    if (error) fail("%s: bitmaps: %s", options->image, error_message(error));
}

/* From now on it is not clean, until volume_end. */
static void volume_begin(void)
{
    if (!volume.writable) return;
    struct ext2_super_block *super = volume.fs->super;
    volume.valid = super->s_state & EXT2_VALID_FS;
    super->s_state &= (uint16_t)~EXT2_VALID_FS;
    super->s_mnt_count++;
    super->s_mtime = (uint32_t)time(NULL);
    ext2fs_mark_super_dirty(volume.fs);
    volume.dirty = true;
    volume_flush();
}

/* The server, away from who started it. */
static void background(int device, int ready)
{
    setsid();
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3 && null >= 0; fd++)
        dup2(null, fd);
    if (chdir("/") < 0) exit(1);
    serve(device, ready);
    volume_flush();
    exit(0);
}

int main(int argc, char **argv)
{
    struct options options = {0};
    char text[64], byte;
    int ready[2];
    program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    arguments_parse(&options, argc, argv);
    add_error_table(&et_ext2_error_table);
    volume_open(&options);
    int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (device < 0) fail("/dev/fuse: %s", strerror(errno));
    snprintf(text, sizeof(text), "fd=%d,rootmode=40755,user_id=0,group_id=0", device);
    const char *type = !strncmp(program, "mount.ext", 9) ? program + 6 : "ext4";
    char kind[16];
    snprintf(kind, sizeof(kind), "fuse.%.8s", type);
    if (pipe(ready) < 0) fail("pipe: %s", strerror(errno));
    unsigned long flags = volume.writable ? 0 : MS_RDONLY;
    if (mount(options.image, options.directory, kind, flags, text) < 0)
        fail("%s: %s", options.directory, strerror(errno));
    volume_begin();
    pid_t child = fork();
    if (child < 0) fail("fork: %s", strerror(errno));
    if (child == 0) {
        close(ready[0]);
        background(device, ready[1]);
    }
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1) fail("the server has ended");
    return 0;
}
