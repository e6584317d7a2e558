/* SPDX-License-Identifier: MIT
 *
 * Which ports belong together, as the program's arguments say. */
#include "switch.h"

#define PORT_NAME 50 /* PEER.TAG */

/* Cuts what is before any of the characters of `ends` off *text, into word; false: it is
 * empty or does not fit. */
static bool cut(const char **text, const char *ends, char word[PORT_NAME])
{
    size_t n = 0;
    for (; **text && !strchr(ends, **text); ++*text, n++)
        if (n + 1 < PORT_NAME) word[n] = **text;
    word[n + 1 < PORT_NAME ? n : PORT_NAME - 1] = 0;
    return n && n < PORT_NAME;
}

static int port_named(const struct exo_channel_given *ports, const char *name)
{
    char full[PORT_NAME];
    for (int i = 0; i < SWITCH_PORTS && ports[i].peer[0]; i++) {
        exo_format(full, sizeof(full), "%s.%s", ports[i].peer, ports[i].tag);
        if (!strcmp(full, name)) return i;
    }
    return -1;
}

/* The ports of one group, up to a blank. */
static bool read_ports(struct ethernet_switch *s, const char **text, unsigned group,
                       const struct exo_channel_given *ports)
{
    bool good = true;
    for (;; ++*text) {
        char name[PORT_NAME];
        bool fits = cut(text, ", ", name);
        int port = fits ? port_named(ports, name) : -1;
        if (port < 0) {
            exo_printf("switch: there is no channel '%s'\n", name);
            good = false;
        } else if (s->group[port]) {
            exo_printf("switch: '%s' is in two groups\n", name);
            good = false;
        } else {
            switch_join(s, (unsigned)port, group);
        }
        if (**text != ',') return good;
    }
}

bool groups_read(struct ethernet_switch *s, const char *text,
                 const struct exo_channel_given ports[SWITCH_PORTS])
{
    bool good = true;
    unsigned group = 0;
    while (*text == ' ')
        text++;
    if (!*text)
        for (int i = 0; i < SWITCH_PORTS && ports[i].peer[0]; i++)
            switch_join(s, (unsigned)i, 1);
    while (*text) {
        const char *end = text;
        while (*end && *end != ' ' && *end != '=')
            end++;
        if (*end == '=') text = end + 1; /* the group's name is for the reader */
        if (++group > SWITCH_PORTS) {
            exo_printf("switch: more than %u groups\n", SWITCH_PORTS);
            return false;
        }
        good &= read_ports(s, &text, group, ports);
        while (*text == ' ')
            text++;
    }
    return good;
}
