/* SPDX-License-Identifier: MIT
 *
 * See near.h. What is known is in the thread's window, for names behind one directory's text. */
#include "near.h"
#include "../../../lib/exo/text.h"

static inline uint64_t word_of(const uint8_t *at)
{
    uint64_t word;
    __builtin_memcpy(&word, at, 8); /* may be more than the text, but it is in the window */
    return word;
}

/* Whether the bytes are those words; of the last one as many as `mask` says, zeroes behind them. */
static inline bool text_is(const uint8_t *at, uint64_t last, uint64_t mask, const uint64_t *words)
{
    if ((word_of(at + last * 8) & mask) != words[last]) return false; /* where names differ */
    for (uint64_t i = 0; i < last; i++)
        if (word_of(at + i * 8) != words[i]) return false;
    return true;
}

static inline uint64_t tail_mask(uint64_t n) { return (1ul << n % 8 * 8) - 1; }

const struct stat *near_look(struct thread_state *t, uint64_t n)
{
    const struct lx_window *window = t->window;
    uint64_t length = t->near.length, count = window->nears;
    const uint8_t *name = window->bytes + length;
    if (window->near_changes != shared->changes || count > LX_NEAR || n <= length) return NULL;
    if (!text_is(window->bytes, length / 8, tail_mask(length), t->near.text)) return NULL;
    n -= length;
    if (n >= LX_NEAR_NAME) return NULL;
    for (uint32_t i = t->near.next; i < count; i++) {
        if (!text_is(name, n / 8, tail_mask(n), window->near[i].name)) continue;
        t->near.next = i + 1;
        t->near.wasted = 0;
        t->near.want = i + 1 == count && count == LX_NEAR;
        return &window->near[i].stat;
    }
    return NULL;
}

uint64_t near_wanted(struct thread_state *t, uint64_t n)
{
    const uint8_t *bytes = t->window->bytes;
    t->near.active = t->near.want;
    if (!t->near.want) return 0;
    t->near.want = false;
    while (n && bytes[n - 1] != '/')
        n--;
    if (n >= sizeof(t->near.text)) return 0;
    memset(t->near.text, 0, sizeof(t->near.text));
    memcpy(t->near.text, bytes, n);
    t->near.length = n;
    t->near.next = 0;
    t->near.wasted++;
    t->window->nears = 0;
    return LX_NEAR;
}
