/* SPDX-License-Identifier: MIT
 *
 * What a thread hands over in its window. Its process may write there at any time: every byte is
 * read once, and an offset or a length is its word only. */
#include "../../../lib/exo/exo.h"
#include "server.h"

static bool has_zero(uint64_t word)
{
    return (word - 0x0101010101010101ul) & ~word & 0x8080808080808080ul;
}

long window_path(struct thread *thread, uint64_t offset, char path[LX_PATH_MAX])
{
    const uint8_t *bytes = thread->window->bytes;
    if (offset >= LX_WINDOW_BYTES) return -EFAULT;
    size_t room = EXO_MIN((uint64_t)LX_PATH_MAX, LX_WINDOW_BYTES - offset), i = 0;
    for (; i + 8 <= room; i += 8) {
        uint64_t word = word_fetch(bytes + offset + i);
        *(any_word *)(path + i) = word;
        if (has_zero(word)) return 0;
    }
    for (; i < room; i++)
        if (!(path[i] = (char)__atomic_load_n(&bytes[offset + i], __ATOMIC_RELAXED))) return 0;
    return -ENAMETOOLONG;
}

long window_get(struct thread *thread, uint64_t at, void *to, size_t n)
{
    if (n > LX_WINDOW_BYTES || at > LX_WINDOW_BYTES - n) return -EFAULT;
    memcpy(to, thread->window->bytes + at, n);
    return 0;
}

long window_put(struct thread *thread, uint64_t at, const void *from, size_t n)
{
    if (n > LX_WINDOW_BYTES || at > LX_WINDOW_BYTES - n) return -EFAULT;
    memcpy(thread->window->bytes + at, from, n);
    return 0;
}
