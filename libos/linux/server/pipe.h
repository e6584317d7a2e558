/* SPDX-License-Identifier: MIT
 *
 * Pipes, fifos and pairs of stream sockets. */
#ifndef LX_PIPE_H
#define LX_PIPE_H
#include "server.h"

#define LX_PIPE_BYTES 65536u /* of one, at most; a new one has as many */
#define LX_PIPE_ATOMIC 4096u /* PIPE_BUF: writes up to here are not mixed with others */

/* What a fifo's inode keeps: NULL while nobody has it open. */
struct pipe;

/* Opens a fifo: *pipe is the inode's pointer, made here and set to NULL again when the last
 * file on it closes. flags: O_RDONLY, O_WRONLY or O_RDWR, and O_NONBLOCK. 0 with *file (one
 * reference; the caller sets file->inode); -LX_WAIT until the other side is there (the
 * thread has joined the queue; the same call comes again); -ENXIO, -ENOMEM, -ENFILE. */
long fifo_open(struct pipe **pipe, uint32_t flags, struct file **file);

/* pipe, pipe2: two descriptors (uint32_t, reader first) at the window's start. Here and
 * below: -EMFILE, -ENFILE, -ENOMEM, -EINVAL. Arguments: pipe2 (-, flags). */
call_function call_pipe, call_pipe2;
/* socketpair(AF_UNIX, SOCK_STREAM, 0, -): two descriptors at the window's start. Other
 * kinds: -EAFNOSUPPORT, -EPROTONOSUPPORT. */
call_function call_socketpair;
/* shutdown(fd, how) of such a pair; -ENOTSOCK, -EINVAL. */
call_function call_shutdown;
/* F_GETPIPE_SZ and F_SETPIPE_SZ of fcntl: the size; -EBADF when it is no pipe; -EBUSY when
 * more lies in it, -EPERM above LX_PIPE_BYTES. */
long pipe_size(struct file *file);
long pipe_resize(struct file *file, uint64_t size);
/* True when the file is an end of a pipe or fifo: for stat of one without a name. */
bool file_is_pipe(const struct file *file);
bool file_is_socket(const struct file *file);
/* Bytes that pipes hold; pipes there are: for leak checks. */
unsigned pipe_count(void);
#endif
