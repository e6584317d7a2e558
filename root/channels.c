/* SPDX-License-Identifier: MIT
 *
 * Channels between programs (lib/exo/channel.h). The frames of a channel are ours until
 * both of its programs have ended; each program gets a capability of them, and one to
 * signal an event of the other's first thread. When one ends we say so in the head. */
#include "root.h"

struct channel {
    struct exo_pool *pool; /* its frames' */
    uint64_t frame, count;
    struct {
        uint32_t program; /* index */
        uint32_t event; /* our selector of its event; 0: none, or it has ended */
        bool ended;
    } side[2];
};
static struct channel channels[ROOT_CHANNELS];
static uint32_t channels_count;

static long frames_clear(struct exo_pool *pool, uint64_t frame, uint64_t n)
{
    long r = 0;
    for (uint64_t step; n && r == 0; frame += step, n -= step) {
        step = EXO_MIN(n, EXO_WINDOW_PAGES);
        r = exo_bind(&exo.pool, EXO_WINDOW_VA, step, pool->sel, frame, EXO_R | EXO_W);
        if (r < 0) return r;
        memset((void *)EXO_WINDOW_VA, 0, step * EXO_PAGE);
        r = exo_unbind(&exo.pool, EXO_WINDOW_VA, step);
    }
    return r;
}

static long channel_wire(struct channel *c, const struct root_channel *line)
{
    struct exo_child *child[2];
    for (int i = 0; i < 2; i++) {
        child[i] = program_child(c->side[i].program);
        long index = exo_channel_next(&child[i]->start);
        if (index < 0) return index;
        long event = exo_event_new(child[i]->thread, 1ul << (EXO_EV_CHANNEL + index));
        if (event < 0) return event;
        c->side[i].event = (uint32_t)event;
    }
    for (unsigned i = 0; i < 2; i++) {
        const struct exo_channel_end end = {
            .peer = line->side[!i],
            .tag = line->tag[i],
            .sel = c->pool->sel,
            .event = c->side[!i].event,
            .first = c->frame,
            .count = c->count,
            .side = i,
        };
        long r = exo_channel_give(child[i], &end);
        if (r < 0) return r;
    }
    return 0;
}

static long channel_make(const struct root_channel *line)
{
    struct channel c = {.count = 1 + 2 * line->size / EXO_PAGE};
    for (int i = 0; i < 2; i++)
        if (!program_named(line->side[i], &c.side[i].program)) {
            exo_printf("root: config line %u: channel: there is no program '%s'\n", line->line,
                       line->side[i]);
            return 0;
        }
    c.pool = root_pool_for(c.count);
    if (!c.pool) return -EXO_E_LIMIT;
    c.frame = (uint64_t)exo_frames_alloc(c.pool, c.count, 1);
    long r = frames_clear(c.pool, c.frame, c.count);
    if (r == 0) r = channel_wire(&c, line);
    channels[channels_count++] = c; /* in any case: one side may hold something of it */
    return r;
}

void channels_make(const struct root_config *config)
{
    for (uint32_t i = 0; i < config->nchannels; i++) {
        const struct root_channel *line = &config->channels[i];
        long r = channel_make(line);
        if (r < 0)
            exo_printf("root: config line %u: no channel of %s and %s: %s\n", line->line,
                       line->side[0], line->side[1], exo_strerror(r));
    }
}

static void channel_close(const struct channel *c, uint32_t event)
{
    struct exo_channel_head *head = (struct exo_channel_head *)EXO_WINDOW_VA;
    if (exo_bind(&exo.pool, EXO_WINDOW_VA, 1, c->pool->sel, c->frame, EXO_R | EXO_W) < 0) return;
    __atomic_store_n(&head->closed, 1, __ATOMIC_RELEASE);
    exo_unbind(&exo.pool, EXO_WINDOW_VA, 1);
    exo_event_signal(event);
}

void channels_end(uint32_t index)
{
    for (uint32_t k = 0; k < channels_count; k++) {
        struct channel *c = &channels[k];
        for (int i = 0; i < 2; i++) {
            if (c->side[i].program != index || c->side[i].ended) continue;
            c->side[i].ended = true;
            if (c->side[i].event) exo_drop(c->side[i].event); /* went with its thread */
            if (c->side[!i].ended)
                exo_frames_free(c->pool, c->frame, c->count);
            else if (c->side[!i].event)
                channel_close(c, c->side[!i].event);
        }
    }
}
