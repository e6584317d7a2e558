/* SPDX-License-Identifier: MIT
 *
 * ioctl: what the descriptor itself is asked, and the way to what its file is asked. */
#include "tty.h"
#include "../files/files.h"
#include "../waiting/pipe.h"
#include "../../ioctl.h"
#include "../../../../lib/exo/exo.h"

static long ioctl_nonblock(struct file *file, struct iobuf *io)
{
    int on = 0;
    iobuf_get(io, &on, sizeof(on));
    pipe_settle(file);
    file->flags = on ? file->flags | O_NONBLOCK : file->flags & ~(uint32_t)O_NONBLOCK;
    return 0;
}

long call_ioctl(struct thread *thread, const uint64_t a[6])
{
    struct file *file = fd_file(thread, a[0]);
    uint32_t command = (uint32_t)a[1];
    struct ioctl_size size = ioctl_size(command);
    uint8_t data[LX_IOCTL_MAX] = {0};
    struct iobuf io;
    if (!file) return -EBADF;
    if (command == FIOCLEX || command == FIONCLEX)
        return call_fcntl(thread, (uint64_t[6]){a[0], F_SETFD, command == FIOCLEX});
    if (size.in && window_get(thread, a[2], data, size.in) < 0) return -EFAULT;
    iobuf_own(&io, data, size.in > size.out ? size.in : size.out);
    if (command == FIONBIO) return ioctl_nonblock(file, &io);
    if (!file->ops->ioctl) return -ENOTTY;
    long r = file->ops->ioctl(file, thread, command, a[2], &io);
    if (r < 0 || !size.out) return r;
    long error = window_put(thread, 0, data, size.out);
    return error < 0 ? error : r;
}
