/* SPDX-License-Identifier: MIT
 *
 * Channels between us and children of ours, made when the child is. Their frames are ours. */
#include "vmd.h"

static long wire_give(struct wire *wire, struct exo_child *child, const char *tag, uint64_t bit)
{
    long index = exo_channel_next(&child->start);
    if (index < 0) return index;
    long event = exo_event_new(exo.start.sel_thread, bit);
    if (event < 0) return event;
    wire->our_event = (uint32_t)event;
    event = exo_event_new(child->thread, 1ul << (EXO_EV_CHANNEL + index));
    if (event < 0) return event;
    wire->their_event = (uint32_t)event;
    const struct exo_channel_end end = {
        .peer = exo.start.name,
        .tag = tag,
        .sel = exo.pool.sel,
        .event = wire->our_event,
        .first = wire->frame,
        .count = wire->count,
        .side = 1,
    };
    return exo_channel_give(child, &end);
}

long wire_make(struct wire *wire, struct exo_child *child, const char *tag, uint64_t va,
               uint32_t ring, uint64_t bit)
{
    uint64_t count = 1 + 2 * (uint64_t)ring / EXO_PAGE;
    *wire = (struct wire){.va = va};
    long frame = exo_map(va, count, EXO_R | EXO_W);
    if (frame < 0) return frame;
    wire->frame = (uint64_t)frame;
    wire->count = count;
    exo_channel_init(&wire->channel, (void *)va, ring, 0);
    long r = wire_give(wire, child, tag, bit);
    wire->channel.signal = wire->their_event;
    wire->channel.event = bit;
    exo_strcpy(wire->channel.peer, child->start.name, sizeof(wire->channel.peer));
    exo_strcpy(wire->channel.tag, tag, sizeof(wire->channel.tag));
    if (r < 0) wire_end(wire);
    return r;
}

void wire_end(struct wire *wire)
{
    if (wire->our_event) exo_drop(wire->our_event);
    if (wire->their_event) exo_drop(wire->their_event); /* went with its thread */
    if (wire->count) {
        long r = exo_unmap(wire->va, wire->count, wire->frame);
        if (r < 0) exo_printf("vmd: a channel's memory stays in use: %s\n", exo_strerror(r));
    }
    *wire = (struct wire){0};
}
