/* SPDX-License-Identifier: MIT
 *
 * vmd's beginning and its loop. Arguments: configurations of the boot archive that are
 * started at once. */
#include "vmd.h"

static struct client {
    struct exo_channel channel;
    struct exo_streams streams;
    struct session session[EXO_STREAMS];
} clients[CLIENTS];
static unsigned client_count;
static uint64_t client_events;

static void clients_open(void)
{
    while (client_count < CLIENTS) {
        struct client *client = &clients[client_count];
        if (exo_channel_find(&client->channel, NULL, "vm") < 0) return;
        exo_streams_init(&client->streams, &client->channel, false);
        client_events |= client->channel.event;
        client_count++;
    }
}

static bool client_look(struct client *client)
{
    bool some = exo_streams_look(&client->streams);
    for (unsigned i = 0; i < EXO_STREAMS; i++) {
        struct session *session = &client->session[i];
        if (!session->stream) {
            struct exo_stream *stream = exo_stream_accept(&client->streams);
            if (!stream) continue;
            session_begin(session, stream);
        }
        some |= session_look(session);
    }
    return some;
}

/* When the first session gives up waiting; 0: nobody waits. */
static uint64_t deadline(void)
{
    uint64_t first = 0;
    for (unsigned i = 0; i < client_count; i++)
        for (unsigned k = 0; k < EXO_STREAMS; k++) {
            const struct session *s = &clients[i].session[k];
            if (!s->stream || !s->deadline ||
                (s->state != SESSION_ORDER && s->state != SESSION_ANSWER &&
                 s->state != SESSION_CREATE))
                continue;
            if (!first || s->deadline < first) first = s->deadline;
        }
    return first;
}

/* The configurations that the arguments name. */
static void start_all(const char *args)
{
    char name[64];
    while (*args) {
        size_t n = 0;
        for (; *args && *args != ' '; args++)
            if (n + 1 < sizeof(name)) name[n++] = *args;
        name[n] = 0;
        if (n) create_file(name);
        while (*args == ' ')
            args++;
    }
}

static bool look(uint64_t events)
{
    bool some = bridges_look(events);
    for (unsigned i = 0; i < MACHINES; i++) {
        some |= machine_look(&machines[i]);
        if (events & EV_FAULT(i)) machine_fault(&machines[i]);
    }
    for (unsigned i = 0; i < client_count; i++)
        some |= client_look(&clients[i]);
    return some;
}

int main(struct exo_startup *start)
{
    uint64_t all = 0;
    log_open();
    slots_init();
    clients_open();
    for (unsigned i = 0; i < MACHINES; i++)
        all |= EV_MACHINE(i) | EV_FAULT(i);
    for (unsigned i = 0; i < BRIDGES; i++)
        all |= EV_BRIDGE(i) | EV_BRIDGE_FAULT(i);
    all |= client_events;
    start_all(start->args);
    for (long events = 0;;) {
        bool some = look(events > 0 ? (uint64_t)events : 0);
        events = exo_event_wait(all, some ? exo_tsc() : deadline());
    }
}
