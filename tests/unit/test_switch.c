/* SPDX-License-Identifier: MIT
 *
 * The Ethernet switch's decisions on this machine: who gets which frame, and what a
 * hostile port cannot do to the others. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define main exo_main /* a program's own takes its startup page */
#include "../../apps/switch/switch.h"
#undef main

/* What libexo has in the system. */
static unsigned printed;
int exo_printf(const char *format, ...)
{
    printed += format[0] != 0;
    return 0;
}
#include "../../apps/switch/forward.c"
#include "../../apps/switch/groups.c"

#include "unit.h"

static struct ethernet_switch s;
static struct exo_channel_given ports[SWITCH_PORTS];

/* Six channels, a.net0 to f.net0, in the groups that the text says. */
static bool setup(const char *groups)
{
    memset(&s, 0, sizeof(s));
    memset(ports, 0, sizeof(ports));
    s.age = 1000;
    s.hold = 10;
    printed = 0;
    for (int i = 0; i < 6; i++) {
        ports[i].peer[0] = (char)('a' + i);
        strcpy(ports[i].tag, "net0");
    }
    return groups_read(&s, groups, ports);
}

#define ALL 0xffffffffffffull /* broadcast */
static uint64_t now = 1;

static void put_mac(uint8_t *to, uint64_t mac)
{
    for (int i = 0; i < 6; i++)
        to[i] = (uint8_t)(mac >> 8 * (5 - i));
}

/* A frame of the least length; it lies in memory of just that. */
static uint32_t frame(unsigned port, uint64_t from, uint64_t to)
{
    size_t n = sizeof(struct exo_packet) + EXO_FRAME_MIN;
    struct exo_packet *packet = calloc(1, n);
    put_mac(packet->frame, to);
    put_mac(packet->frame + 6, from);
    uint32_t result = switch_forward(&s, port, packet, n, now);
    free(packet);
    return result;
}

static uint64_t address(unsigned port, unsigned i)
{
    return 0x020000000000ull + port * 65536ull + i;
}

static void test_learning(void)
{
    EXPECT(setup(""));
    EXPECT(frame(0, 0xa00, 0xb00) == 0x3e); /* nobody knows where: everybody */
    EXPECT(frame(1, 0xb00, 0xa00) == 0x01);
    EXPECT(frame(0, 0xa00, 0xb00) == 0x02);
    EXPECT(frame(0, 0xa00, ALL) == 0x3e && frame(0, 0xa00, 0x01005e000001) == 0x3e);
    EXPECT(frame(1, 0xb01, 0xb00) == 0); /* to a neighbour on its own port */
    now += s.age + 1;
    EXPECT(frame(0, 0xa00, 0xb00) == 0x3e); /* forgotten */
    EXPECT(frame(1, 0xb00, 0xa00) == 0x01);
    switch_forget(&s, 0);
    EXPECT(frame(1, 0xb00, 0xa00) == 0x3c && frame(0, 0xa00, 0xb00) == 0);
}

static void test_groups(void)
{
    EXPECT(setup("lan=a.net0,b.net0,c.net0 dmz=d.net0,e.net0"));
    EXPECT(frame(0, 0xa00, ALL) == 0x06 && frame(3, 0xd00, ALL) == 0x10);
    EXPECT(frame(5, 0xf00, ALL) == 0); /* in no group */
    EXPECT(frame(3, 0xd00, 0xa00) == 0x10); /* known only over there */
    EXPECT(frame(3, 0xa00, ALL) == 0x10); /* the same address in another group */
    EXPECT(frame(1, 0xb00, 0xa00) == 0x01);
    EXPECT(setup("a.net0,b.net0") && frame(0, 0xa00, ALL) == 0x02); /* a name is not needed */
    EXPECT(printed == 0);
}

static void test_groups_bad(void)
{
    EXPECT(!setup("lan=a.net0,x.net0,b.net0") && printed == 1 && frame(0, 1, ALL) == 0x02);
    EXPECT(!setup("lan=a.net0,b.net0 dmz=b.net0,c.net0") && printed == 1);
    EXPECT(frame(1, 1, ALL) == 0x01 && frame(2, 2, ALL) == 0);
    EXPECT(!setup("lan=") && !setup(",") && !setup("lan=a.net0,") && !setup("a.net1") &&
           !setup("a"));
    char text[512];
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = 0;
    EXPECT(!setup(text));
    static const char meant[] = "abcdef.net0,= lan=";
    for (int i = 0; i < 100000; i++) {
        size_t n = next(80);
        for (size_t k = 0; k < n; k++)
            text[k] = meant[next(sizeof(meant) - 1)];
        text[n] = 0;
        setup(text);
        uint32_t seen = 0;
        for (unsigned g = 1; g <= SWITCH_PORTS; g++) { /* groups have no port in common */
            EXPECT(!(seen & s.members[g]));
            seen |= s.members[g];
        }
    }
}

static void test_lengths(void)
{
    EXPECT(setup(""));
    size_t most = EXO_PACKET_MAX + 1;
    struct exo_packet *packet = calloc(1, most);
    packet->frame[11] = 1;
    for (size_t n = 0; n < sizeof(*packet) + EXO_FRAME_MIN; n++)
        EXPECT(switch_forward(&s, 0, packet, n, now) == 0);
    EXPECT(switch_forward(&s, 0, packet, EXO_PACKET_MAX, now) == 0x3e);
    EXPECT(switch_forward(&s, 0, packet, most, now) == 0);
    free(packet);
    EXPECT(frame(0, 0, ALL) == 0 && frame(0, 0x010000000001, ALL) == 0 && frame(0, ALL, 1) == 0);
}

static void test_flapping(void)
{
    EXPECT(setup(""));
    frame(0, 0xa00, ALL);
    for (int i = 0; i < 1000; i++) { /* a forger, while the owner is heard now and then */
        now += 1;
        frame(1, 0xa00, ALL);
        if (i % 5 == 0) frame(0, 0xa00, ALL);
        EXPECT(frame(2, 0xc00, 0xa00) == 0x01);
    }
    now += s.hold + 1; /* it has moved */
    frame(1, 0xa00, ALL);
    EXPECT(frame(2, 0xc00, 0xa00) == 0x02);
}

/* One port sends from as many addresses as it can: the others' stay known. */
static void test_flooding(void)
{
    EXPECT(setup(""));
    for (unsigned p = 1; p < 6; p++)
        for (unsigned i = 0; i < 8; i++)
            frame(p, address(p, i), ALL);
    for (unsigned i = 0; i < 200000; i++)
        frame(0, 0x060000000000ull + next(1ul << 40), ALL);
    EXPECT(s.learned[0] <= SWITCH_ADDRESSES);
    for (unsigned p = 1; p < 6; p++)
        for (unsigned i = 0; i < 8; i++)
            EXPECT(frame(0, 0xa00, address(p, i)) == 1u << p);
    for (unsigned i = 0; i < 8; i++) /* and new ones are learned */
        frame(1, address(1, 100 + i), ALL);
    EXPECT(s.learned[1] == 16);
}

/* Whatever comes: only to ports of the sender's group, and counts stay right. */
static void test_anything(void)
{
    EXPECT(setup("a.net0,b.net0,c.net0 d.net0,e.net0"));
    for (int i = 0; i < 500000; i++) {
        unsigned port = (unsigned)next(SWITCH_PORTS);
        now += next(4);
        uint32_t to = frame(port, address(port, (unsigned)next(200)),
                            next(2) ? address((unsigned)next(6), (unsigned)next(200)) : next(ALL));
        EXPECT(!(to & ~s.members[s.group[port]]) && !(to >> port & 1) && (s.group[port] || !to));
    }
    uint32_t learned[SWITCH_PORTS] = {0};
    for (int b = 0; b < SWITCH_BUCKETS; b++)
        for (int i = 0; i < SWITCH_WAYS; i++)
            if (s.table[b][i].seen) learned[s.table[b][i].port]++;
    for (int p = 0; p < SWITCH_PORTS; p++)
        EXPECT(learned[p] == s.learned[p] && learned[p] <= SWITCH_ADDRESSES);
}

int main(void)
{
    static const struct unit_test tests[] = {
        {"learning", test_learning},
        {"groups", test_groups},
        {"groups that are wrong", test_groups_bad},
        {"lengths", test_lengths},
        {"flapping", test_flapping},
        {"flooding", test_flooding},
        {"anything", test_anything},
    };
    return TESTS_RUN("switch", tests);
}
