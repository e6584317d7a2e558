/* SPDX-License-Identifier: MIT
 *
 * What travels with an ioctl, by its command. The old ones of terminals do not say it
 * themselves (asm-generic/ioctls.h). */
#ifndef LX_IOCTL_H
#define LX_IOCTL_H
#include "linux.h"
#include <asm/ioctls.h>
#include <asm/termios.h>
#include <linux/fs.h>
#include <linux/loop.h>

#define LX_IOCTL_MAX 256 /* bytes at most, each way */
struct ioctl_size {
    uint16_t in, out; /* bytes to the server, and back after success */
};
/* 0, 0: the argument is a plain value, or the command is unknown (the server says so). */
static inline struct ioctl_size ioctl_size(uint32_t command)
{
    switch (command) {
    case TCGETS:
        return (struct ioctl_size){0, sizeof(struct termios)};
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
        return (struct ioctl_size){sizeof(struct termios), 0};
    case TIOCGWINSZ:
        return (struct ioctl_size){0, sizeof(struct winsize)};
    case TIOCSWINSZ:
        return (struct ioctl_size){sizeof(struct winsize), 0};
    case TIOCGPGRP:
    case TIOCGSID:
    case TIOCGETD:
    case TIOCOUTQ:
    case FIONREAD:
        return (struct ioctl_size){0, sizeof(int)};
    case TIOCSPGRP:
    case TIOCSETD:
    case FIONBIO:
        return (struct ioctl_size){sizeof(int), 0};
    case TIOCSTI:
        return (struct ioctl_size){1, 0};
    case LOOP_SET_STATUS64:
        return (struct ioctl_size){sizeof(struct loop_info64), 0};
    case LOOP_GET_STATUS64:
        return (struct ioctl_size){0, sizeof(struct loop_info64)};
    case BLKGETSIZE:
        return (struct ioctl_size){0, sizeof(uint64_t)};
    case BLKROGET:
    case BLKSSZGET:
        return (struct ioctl_size){0, sizeof(int)};
    case TIOCGPTPEER: /* _IO, but its argument is a value */
        return (struct ioctl_size){0, 0};
    default:
        break;
    }
    /* The newer ones carry direction and size (asm-generic/ioctl.h). */
    uint32_t size = _IOC_SIZE(command), way = _IOC_DIR(command);
    if (_IOC_TYPE(command) == 'T' && way == 0) return (struct ioctl_size){0, 0};
    if (size > LX_IOCTL_MAX) return (struct ioctl_size){0, 0};
    return (struct ioctl_size){way & _IOC_WRITE ? (uint16_t)size : 0,
                               way & _IOC_READ ? (uint16_t)size : 0};
}
#endif
