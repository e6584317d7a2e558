/* SPDX-License-Identifier: MIT
 *
 * See near.h. What is known is in the thread's window, for names behind one directory's text. */
#include "near.h"
#include "../../../lib/exo/text.h"

const struct stat *near_look(struct thread_state *t, uint64_t fd, uint64_t path, uint64_t flags)
{
    const struct lx_near *near = t->near.next;
    if (near == t->near.end || t->window->near_changes != shared->changes ||
        !near_decides(fd, flags, t->near.text[0]) || !user_is(path, t->near.text, t->near.length))
        return NULL;
    while (++near < t->near.end)
        if (near_leads(t, path, near)) return near_found(t, near);
    return NULL;
}

void near_take(struct thread_state *t)
{
    uint64_t n = t->window->nears;
    t->near.next = t->window->near;
    t->near.end = t->near.next + (n < LX_NEAR ? n : LX_NEAR);
}

/* Nothing is. */
static void near_none(struct thread_state *t)
{
    const struct lx_near *first = t->window->near;
    if (t->near.next > first + 1) t->near.wasted = 0;
    t->near.next = t->near.end = first;
}

/* The directory's text is what the window's first n bytes say: false when that is too long. */
static bool text_set(struct thread_state *t, uint64_t n)
{
    const uint8_t *bytes = t->window->bytes;
    if (n >= PATH_WORDS * 8) return false;
    if (n == t->near.length && user_same(bytes, t->near.text, n) == 1) return true;
    memcpy(t->near.text, bytes, n);
    t->near.text[n] = 0;
    t->near.length = n;
    t->near.descriptor = 0;
    return true;
}

uint64_t near_wanted(struct thread_state *t, uint64_t fd, uint64_t n, uint64_t flags)
{
    const uint8_t *bytes = t->window->bytes;
    t->near.want |= t->near.next == t->window->near + LX_NEAR;
    t->near.active = t->near.want;
    if (!t->near.want || !near_decides(fd, flags, bytes[0])) return 0;
    t->near.want = false;
    while (n && bytes[n - 1] != '/')
        n--;
    near_none(t);
    if (!text_set(t, n)) return 0;
    t->near.self = false;
    t->near.wasted++;
    t->window->nears = 0;
    return LX_NEAR;
}

void near_forget(struct thread_state *t)
{
    t->near.descriptor = 0;
    t->window->nears = 0;
    near_none(t);
}

void near_opened(struct thread_state *t, uint64_t fd, uint64_t directory, uint64_t n)
{
    uint8_t *bytes = t->window->bytes;
    if (!t->window->nears || lx.threads != 1 || !near_decides(fd, 0, bytes[0])) return;
    if (bytes[n - 1] != '/') bytes[n++] = '/';
    if (!text_set(t, n)) return;
    t->near.changes = t->window->near_changes;
    t->near.self = true;
    t->near.ended = false;
    t->near.descriptor = (uint32_t)directory + 1;
}

uint64_t near_list(struct thread_state *t, uint64_t fd)
{
    if (!near_is(t, fd)) return 0;
    t->near.self = false;
    t->window->nears = t->window->near_ended = 0;
    near_none(t);
    return 1 + (t->near.wasted < NEAR_WASTED ? LX_NEAR : 0);
}

void near_listed(struct thread_state *t, bool known)
{
    if (known && t->window->near_changes != t->near.changes) near_forget(t);
    if (known) t->near.ended = t->window->near_ended;
    if (t->near.wasted >= NEAR_WASTED) return;
    if (known) near_take(t);
    if (known && t->window->nears) t->near.wasted++;
    t->near.active = t->near.want = true;
}
