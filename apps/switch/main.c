/* SPDX-License-Identifier: MIT
 *
 * The switch's program: moves packets between the ports, a bounded number of each port in
 * turn. A packet that its receiver has no room for is dropped, as on any wire. */
#include "switch.h"

#define TURN 32 /* packets of one port before the next one's */

static struct ethernet_switch ethernet;
static struct exo_channel channel[SWITCH_PORTS];
static bool open[SWITCH_PORTS];
static uint8_t group[SWITCH_PORTS]; /* as configured: a port that is opened anew joins it */
static struct exo_channel log; /* where the configuration gives one */
static bool has_log;

union packet_memory {
    struct exo_packet packet;
    uint8_t bytes[EXO_PACKET_MAX];
};

static void log_write(const char *text, size_t n)
{
    exo_channel_write(&log, text, n); /* what does not fit is lost */
}

/* The events of all ports. */
static uint64_t ports_open(void)
{
    uint64_t events = 0;
    has_log = exo_channel_find(&log, NULL, "log") == 0;
    if (has_log) {
        exo_writer = log_write;
        events |= log.event;
    }
    for (unsigned i = 0; i < SWITCH_PORTS; i++) {
        long r = exo_channel_open(&channel[i], i);
        open[i] = r == 0 && !exo_channel_closed(&channel[i]);
        if (r == 0) events |= channel[i].event;
        if (r < 0 && r != -EXO_E_NONE && r != -EXO_E_BOUND)
            exo_printf("switch: channel %u cannot be opened: %s\n", i, exo_strerror(r));
    }
    return events;
}

static void port_close(unsigned port, const char *why)
{
    exo_printf("switch: %s.%s %s\n", channel[port].peer, channel[port].tag, why);
    open[port] = false;
    switch_forget(&ethernet, port);
}

/* Who started us has given the port to somebody else: its rings are empty. Never asked for by
 * those who have ports: the number comes through the log's channel. */
static void port_reopen(unsigned port)
{
    if (port >= SWITCH_PORTS || !channel[port].size) return;
    const struct exo_channel_given *given = &exo.start.channels[port];
    switch_forget(&ethernet, port);
    struct exo_channel *c = &channel[port];
    const struct exo_channel old = *c;
    exo_channel_init(c, (void *)(EXO_CHANNEL_VA + port * (uint64_t)EXO_CHANNEL_SPAN), old.size,
                     given->side);
    c->signal = old.signal;
    c->event = old.event;
    memcpy(c->peer, old.peer, sizeof(c->peer));
    memcpy(c->tag, old.tag, sizeof(c->tag));
    switch_join(&ethernet, port, group[port]);
    open[port] = true;
}

static void orders_look(void)
{
    uint8_t port;
    while (has_log && exo_channel_read(&log, &port, 1) == 1)
        port_reopen(port);
}

/* True when it may have more. */
static bool port_serve(unsigned port)
{
    static union packet_memory memory;
    struct exo_channel *c = &channel[port];
    bool closed = exo_channel_closed(c);
    for (int i = 0; i < TURN; i++) {
        size_t n = exo_channel_receive(c, memory.bytes, sizeof(memory));
        if (!n) {
            if (exo_channel_broken(c))
                port_close(port, "breaks the rules of its channel: closed");
            else if (closed)
                port_close(port, "has ended");
            return false;
        }
        uint32_t to = switch_forward(&ethernet, port, &memory.packet, n, exo_tsc());
        for (unsigned k = 0; to >> k; k++)
            if (to >> k & 1 && open[k]) exo_channel_send(&channel[k], memory.bytes, n);
    }
    return true;
}

int main(struct exo_startup *start)
{
    ethernet.age = exo_us(SWITCH_AGE_US);
    ethernet.hold = exo_us(SWITCH_HOLD_US);
    uint64_t events = ports_open();
    if (!events) {
        exo_printf("switch: the configuration gives it no channel\n");
        return 1;
    }
    if (!groups_read(&ethernet, start->args, start->channels))
        exo_printf("switch: the ports named wrongly stay unconnected\n");
    memcpy(group, ethernet.group, sizeof(group));
    for (;;) {
        bool more = false;
        orders_look();
        for (unsigned i = 0; i < SWITCH_PORTS; i++)
            more |= open[i] && port_serve(i);
        if (!more) exo_event_wait(events, 0);
    }
}
