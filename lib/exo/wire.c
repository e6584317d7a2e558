/* SPDX-License-Identifier: MIT
 *
 * Channels of programs that are about to be started: entries of their startup pages; and
 * the channel that a program's own text goes to. */
#include "channel.h"

long exo_channel_next(const struct exo_startup *start)
{
    for (uint32_t i = 0; i < EXO_CHANNELS; i++)
        if (!start->channels[i].peer[0]) return i;
    return -EXO_E_LIMIT;
}

long exo_channel_give(struct exo_child *child, const struct exo_channel_end *end)
{
    long index = exo_channel_next(&child->start);
    if (index < 0) return index;
    long sel = exo_child_give(child, end->sel, EXO_R | EXO_W, end->first, end->count);
    if (sel < 0) return sel;
    long event = exo_child_give(child, end->event, EXO_EVENT_SIGNAL, UINT64_MAX, 1);
    if (event < 0) return event;
    struct exo_channel_given *given = &child->start.channels[index];
    *given = (struct exo_channel_given){
        .sel = (uint32_t)sel,
        .first = (uint32_t)end->first,
        .count = (uint32_t)end->count,
        .event = (uint32_t)event,
        .bit = EXO_EV_CHANNEL + (uint32_t)index,
        .side = end->side,
    };
    exo_strcpy(given->peer, end->peer, sizeof(given->peer));
    exo_strcpy(given->tag, end->tag, sizeof(given->tag));
    return 0;
}

static struct exo_channel text_channel;

static void text_write(const char *text, size_t n) { exo_channel_write(&text_channel, text, n); }

long exo_channel_printf(const char *tag)
{
    long r = exo_channel_find(&text_channel, NULL, tag);
    if (r == 0) exo_writer = text_write;
    return r;
}
