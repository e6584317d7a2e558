/* SPDX-License-Identifier: MIT
 *
 * Files, as the rest of linuxd sees them: what makes the tree, what a process's end, fork
 * and exec need, pages for mapping, devices and files of /proc that others register, and
 * the functions of the system calls (their rows: ../calls.list). Inodes and the walk along
 * a path: inode.h.
 *
 * One tree of names. /dev, /proc and /tmp are directories of their own file systems in it.
 * All processes are root: permission bits are kept and shown, not enforced, but for what
 * nobody may execute. */
#ifndef LX_FILES_H
#define LX_FILES_H
#include <stdarg.h>
#include "inode.h"
#include "../server.h"

/* ---- the start (files.c) ---------------------------------------------------------------
 * Makes the tree out of a cpio archive (newc) of a root file system, which stays where it
 * is: files are read out of it until they are written. Adds /dev, /proc, /tmp and the
 * devices of dev.c. 0; -EINVAL when the archive is damaged (what came before it is there),
 * -ENOMEM. */
long files_start(const void *archive, size_t size);

/* ---- processes (fd.c) --------------------------------------------------------------------
 * A first process: no descriptors, root and current directory `/`, umask 022. */
void fds_init(struct process *process);
/* The child shares the parent's open files, directories and umask; its own are all zero
 * before. */
/* Shows in the window that the descriptor has a ring (ring.h), or not. */
void fd_ring_show(struct process *process, unsigned fd, bool on);
void fds_fork(struct process *parent, struct process *child);
/* Closes what is marked so. */
/* What the library may do itself with each descriptor, in the window of its only thread. */
void fds_show(struct process *process);
void fds_exec(struct process *process);
/* Closes everything; the process has no directories any more. */
void fds_end(struct process *process);

/* ---- opening inside the server (open.c, data.c) --------------------------------------------
 * Opens like openat(AT_FDCWD): 0 and one reference in *file, or openat's errors. */
long file_open(struct process *process, const char *path, uint32_t flags, uint32_t mode,
               struct file **file);
/* Opens a regular file that may be executed: as file_open, and -EACCES where it may not. */
long inode_open_exec(struct thread *thread, const char *path, struct file **file);
/* The absolute name of an open file, or "" when it has none. */
void file_name(struct file *file, char *name, size_t size);
/* The absolute name of what a path leads to, or the path itself when it leads nowhere. */
void path_real(struct process *process, const char *path, char *name, size_t size);
/* The size of a regular file, else 0. */
uint64_t file_size(const struct file *file);
/* Before frames of the file are wanted: 0, or what the call that wants them is to say, which waits
 * until they are there. */
long file_load(struct file *file);
/* Frames of pages first..first + n - 1 of a regular file: 0 for those beyond its end.
 * They are the file's own pages and stay its while somebody has it open. write: they will
 * be written. n; -ENODEV when it is no regular file, -EACCES when it was not opened for
 * reading (and, to write, writing), -ENOMEM when no page is left: then those before it are
 * in frames and the others 0. */
long file_pages(struct file *file, uint64_t first, unsigned n, uint32_t frames[], bool write);

/* ---- devices (dev.c) --------------------------------------------------------------------------
 * Device files lead here by their number, wherever mknod made them. */
struct dev_ops {
    /* 0 and one reference in *file, whose inode the caller sets; or an error. The thread
     * that opens it is thread_current. data: what was registered. */
    long (*open)(void *data, uint32_t flags, struct file **file);
};
/* Makes /dev/name (a directory in the name is made too): mode with S_IFCHR or S_IFBLK, rdev
 * in the form of st_rdev (DEV). 0, -EEXIST, -ENOMEM. */
long dev_register(const char *name, uint32_t mode, uint64_t rdev, const struct dev_ops *ops,
                  void *data);
/* The device of that type and number is gone, and /dev/name where it is still that one (it may
 * have been removed, or be something else by now); open files stay. 0 or -ENOENT. */
long dev_unregister(const char *name, uint32_t mode, uint64_t rdev);
/* A device number of Linux as stat shows it. */
#define LX_DEV(major, minor)                                                                       \
    (((uint64_t)(major) << 8) | ((minor)&0xff) | ((uint64_t)((minor) & ~0xffu) << 12))
/* n random bytes: RDRAND and the time-stamp counter's jitter, through ChaCha20. */
void random_bytes(void *to, size_t n);

/* ---- /proc (proc.c) --------------------------------------------------------------------------
 * A text that grows. When there is no memory it ends there and `failed` is set. */
struct text {
    char *data;
    size_t length, size;
    unsigned owner; /* process that opens it: its place in the table */
    bool failed;
};
/* Formats as exo_format does. */
void text_add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A file of /proc: the generator makes its whole text when it is opened. path: below /proc,
 * without its leading slash ("exo/slots"); missing directories are made. 0, -EEXIST,
 * -ENOMEM, -ENAMETOOLONG. */
typedef void proc_generator(struct text *text);
long proc_register(const char *path, proc_generator *generator);

/* ---- leak checks ------------------------------------------------------------------------------ */
struct files_counts {
    uint64_t inodes, entries, files, pages;
};
void files_count(struct files_counts *counts);

/* ---- system calls --------------------------------------------------------------------------------
 * Arguments as Linux', pointers as ../calls.list says. Errors as Linux'. */
/* open.c */
call_function call_open, call_openat, call_creat, call_memfd_create;
/* fd.c */
call_function call_close, call_close_range, call_dup, call_dup2, call_dup3, call_fcntl, call_flock;
/* rw.c */
call_function call_read, call_write, call_readv, call_writev, call_preadv, call_pwritev,
    call_pread64, call_pwrite64, call_lseek, call_getdents, call_getdents64, call_sendfile,
    call_copy_file_range, call_fsync, call_fdatasync, call_sync, call_syncfs, call_ftruncate,
    call_truncate, call_fallocate, call_fadvise64;
/* stat.c */
call_function call_stat, call_lstat, call_fstat, call_newfstatat, call_statx, call_statfs,
    call_fstatfs, call_access, call_faccessat, call_faccessat2, call_readlink, call_readlinkat,
    call_chmod, call_fchmod, call_fchmodat, call_chown, call_lchown, call_fchown, call_fchownat,
    call_utime, call_utimes, call_futimesat, call_utimensat, call_umask;
/* system.c: this world's name, as sethostname has set it. */
const char *system_hostname(void);
/* proc_system.c */
call_function call_sysinfo;
/* names.c */
call_function call_mkdir, call_mkdirat, call_rmdir, call_unlink, call_unlinkat, call_link,
    call_linkat, call_symlink, call_symlinkat, call_rename, call_renameat, call_renameat2,
    call_mknod, call_mknodat, call_getcwd, call_chdir, call_fchdir, call_chroot, call_mount,
    call_umount2;
#endif
