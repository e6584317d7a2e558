/* SPDX-License-Identifier: MIT
 *
 * Bridges: switches (apps/switch) that we start when a machine first names one. A switch has
 * PORTS channels from its start. Their frames are ours for good; the other end is given to
 * whatever machine has the port now: its monitor gets the frames and an event of the
 * switch, and the switch's own table an event of the monitor, into the selector that is kept
 * empty for it. Then the switch is told, by the port's number in its log channel. */
#include "vmd.h"

#define BRIDGE_VA 0x0000300000000000ul
#define BRIDGE_SPAN 0x40000000ul
#define PORT_SPAN 0x400000ul
#define LOG_AT (BRIDGE_SPAN - PORT_SPAN)
#define RING (256u << 10)
#define LOG_RING 4096u
#define FRAMES 1024 /* of a switch's memory */
#define SELECTORS 128

struct bridge {
    char name[NAME]; /* empty: there is none */
    struct made made;
    struct wire log;
    struct {
        uint64_t frame;
        uint32_t event_sel; /* of the switch's table: tells whoever has the port */
        uint32_t event; /* ours: tells the switch */
        uint32_t peer_event; /* ours: of the machine's monitor; 0: nobody has the port */
    } port[PORTS];
};
static struct bridge bridges[BRIDGES];

static unsigned index_of(const struct bridge *bridge) { return (unsigned)(bridge - bridges); }
static uint64_t va_of(const struct bridge *bridge)
{
    return BRIDGE_VA + index_of(bridge) * BRIDGE_SPAN;
}
static struct exo_channel_head *head_of(const struct bridge *bridge, unsigned port)
{
    return (struct exo_channel_head *)(va_of(bridge) + port * PORT_SPAN);
}
#define PORT_PAGES (1 + 2 * RING / EXO_PAGE)

/* One port of a switch that has not been started; nobody is there yet. */
static long port_make(struct bridge *bridge, unsigned port)
{
    struct exo_child *child = &bridge->made.child;
    long frame = exo_map((uint64_t)head_of(bridge, port), PORT_PAGES, EXO_R | EXO_W);
    if (frame < 0) return frame;
    bridge->port[port].frame = (uint64_t)frame;
    head_of(bridge, port)->closed = 1;
    long event = exo_event_new(child->thread, 1ul << (EXO_EV_CHANNEL + port));
    if (event < 0) return event;
    bridge->port[port].event = (uint32_t)event;
    long sel = exo_child_give(child, exo.pool.sel, EXO_R | EXO_W, (uint64_t)frame, PORT_PAGES);
    if (sel < 0) return sel;
    bridge->port[port].event_sel = child->sel_free++; /* kept empty */
    struct exo_channel_given *given = &child->start.channels[port];
    *given = (struct exo_channel_given){.sel = (uint32_t)sel,
                                        .first = (uint32_t)frame,
                                        .count = PORT_PAGES,
                                        .event = bridge->port[port].event_sel,
                                        .bit = EXO_EV_CHANNEL + port};
    exo_format(given->peer, sizeof(given->peer), "port%u", port);
    return 0;
}

static void bridge_end(struct bridge *bridge)
{
    made_end(&bridge->made);
    wire_end(&bridge->log);
    for (unsigned i = 0; i < PORTS; i++) {
        if (bridge->port[i].event) exo_drop(bridge->port[i].event); /* went with its thread */
        if (bridge->port[i].frame)
            exo_unmap((uint64_t)head_of(bridge, i), PORT_PAGES, bridge->port[i].frame);
    }
    memset(bridge, 0, sizeof(*bridge));
}

/* Its switch died, and nobody has a port of it any more. */
static void bridge_bury(struct bridge *bridge)
{
    if (bridge->made.child.env) return;
    for (unsigned i = 0; i < PORTS; i++)
        if (bridge->port[i].peer_event) return;
    bridge_end(bridge);
}

static struct bridge *bridge_make(const char *name)
{
    struct bridge *bridge = bridges;
    while (bridge < bridges + BRIDGES && bridge->name[0])
        bridge++;
    if (bridge == bridges + BRIDGES) {
        exo_printf("bridge %s: there are %u already\n", name, BRIDGES);
        return NULL;
    }
    struct exo_file file;
    const void *data;
    if (exo_archive_find("switch", &data, &file.size) < 0) {
        exo_printf("bridge %s: the boot archive has no program 'switch'\n", name);
        return NULL;
    }
    file.data = data;
    long r = made_make(&bridge->made, &file, name, FRAMES, SELECTORS, exo.start.cpu,
                       EV_BRIDGE_FAULT(index_of(bridge)));
    if (r < 0) return NULL;
    for (unsigned i = 0; i < PORTS && r >= 0; i++)
        r = port_make(bridge, i);
    if (r >= 0)
        r = wire_make(&bridge->log, &bridge->made.child, "log", va_of(bridge) + LOG_AT, LOG_RING,
                      EV_BRIDGE(index_of(bridge)));
    if (r >= 0) r = slots_give(&bridge->made, exo.start.cpu, 2);
    if (r >= 0) r = made_start(&bridge->made);
    if (r < 0) {
        exo_printf("bridge %s: %s\n", name, exo_strerror(r));
        bridge_end(bridge);
        return NULL;
    }
    exo_strcpy(bridge->name, name, sizeof(bridge->name));
    exo_printf("bridge %s: made\n", name);
    return bridge;
}

/* The child's end of a port: an entry of its startup page, and the way back to it. */
static long port_give(struct bridge *bridge, unsigned port, struct exo_child *child,
                      const char *tag)
{
    long index = exo_channel_next(&child->start);
    if (index < 0) return index;
    long event = exo_event_new(child->thread, 1ul << (EXO_EV_CHANNEL + index));
    if (event < 0) return event;
    bridge->port[port].peer_event = (uint32_t)event;
    long r = exo_cap_derive((uint64_t)event,
                            EXO_REF(bridge->made.child.env, bridge->port[port].event_sel),
                            EXO_EVENT_SIGNAL, UINT64_MAX, 1);
    if (r < 0) return r;
    const struct exo_channel_end end = {
        .peer = bridge->name,
        .tag = tag,
        .sel = exo.pool.sel,
        .event = bridge->port[port].event,
        .first = bridge->port[port].frame,
        .count = PORT_PAGES,
        .side = 1,
    };
    return exo_channel_give(child, &end);
}

long bridge_join(const char *name, struct exo_child *child, const char *tag, struct bridge **joined,
                 unsigned *port)
{
    struct bridge *bridge = bridges;
    while (bridge < bridges + BRIDGES && strcmp(bridge->name, name))
        bridge++;
    if (bridge == bridges + BRIDGES && !(bridge = bridge_make(name))) return -EXO_E_LIMIT;
    for (*port = 0; *port < PORTS && bridge->port[*port].peer_event; ++*port)
        ;
    if (!bridge->made.child.env) {
        exo_printf("bridge %s: its switch died, and others still use it\n", name);
        return -EXO_E_DEAD;
    }
    if (*port == PORTS) {
        exo_printf("bridge %s: all %u ports are taken\n", name, PORTS);
        return -EXO_E_LIMIT;
    }
    memset(head_of(bridge, *port), 0, EXO_PAGE); /* open, and both rings empty */
    long r = port_give(bridge, *port, child, tag);
    *joined = bridge;
    if (r < 0) {
        exo_printf("bridge %s: %s\n", name, exo_strerror(r));
        return r;
    }
    uint8_t number = (uint8_t)*port;
    if (!exo_channel_write(&bridge->log.channel, &number, 1))
        exo_printf("bridge %s: its switch does not listen\n", name);
    return 0;
}

void bridge_leave(struct bridge *bridge, unsigned port)
{
    exo_drop(bridge->port[port].peer_event); /* went with the machine's thread */
    bridge->port[port].peer_event = 0;
    head_of(bridge, port)->closed = 1;
    exo_event_signal(bridge->port[port].event);
    bridge_bury(bridge);
}

const struct made *bridge_made(unsigned i)
{
    for (const struct bridge *bridge = bridges; bridge < bridges + BRIDGES; bridge++)
        if (bridge->made.child.env && !i--) return &bridge->made;
    return NULL;
}

bool bridges_look(uint64_t events)
{
    char text[512];
    bool some = false;
    for (unsigned i = 0; i < BRIDGES; i++) {
        struct bridge *bridge = &bridges[i];
        if (!bridge->name[0] || !bridge->made.child.env) continue;
        size_t n = exo_channel_read(&bridge->log.channel, text, sizeof(text));
        if (n) log_write(text, n);
        some |= n != 0;
        if (!(events & EV_BRIDGE_FAULT(i))) continue;
        /* Its ports stay, and lead to nobody: machines go on without a network. */
        made_fault(&bridge->made);
        made_end(&bridge->made);
        bridge_bury(bridge);
    }
    return some;
}
