/* SPDX-License-Identifier: MIT
 *
 * Channels, the switch and the boot archive: what root gives a program by the configuration
 * (tests/boot/config, where the program at the other end is called echo). */
#include "../../../lib/exo/channel.h"
#include "../../../lib/exo/packet.h"
#include "tests.h"

#define ECHO_BYTES 200000 /* many times round the rings of 16 KiB */
#define END 'Q' /* never sent as data */

/* The other end: sends back what comes, until END does. */
long kid_channel(void)
{
    static struct exo_channel c;
    static uint8_t data[3000];
    long r = exo_channel_find(&c, "usertests", "echo");
    while (r == 0) {
        size_t n = exo_channel_read(&c, data, sizeof(data)), done = 0;
        if (n && data[n - 1] == END) return 5;
        if (!n) exo_event_wait(c.event, 0);
        while (done < n) {
            size_t now = exo_channel_write(&c, data + done, n - done);
            if (!now) exo_event_wait(c.event, 0);
            done += now;
        }
    }
    return r;
}

static uint8_t byte_at(uint64_t i) { return (uint8_t)(i * 7 + (i >> 9)) & 0x3f; }

static void test_channel(void)
{
    static struct exo_channel c, other;
    static uint8_t data[5000];
    uint64_t sent = 0, back = 0;
    EXPECT(exo_channel_find(&c, "nobody", NULL), -EXO_E_NONE);
    EXPECT(exo_channel_find(&c, "echo", "else"), -EXO_E_NONE);
    EXPECT(exo_channel_find(&c, "echo", "echo"), 0);
    EXPECT(exo_channel_find(&other, "echo", NULL), -EXO_E_NONE); /* open already */
    EXPECT(exo_channel_open(&other, 0), -EXO_E_BOUND);
    while (back < ECHO_BYTES) {
        size_t n = EXO_MIN(sizeof(data), ECHO_BYTES - sent);
        for (size_t i = 0; i < n; i++)
            data[i] = byte_at(sent + i);
        sent += exo_channel_write(&c, data, n);
        n = exo_channel_read(&c, data, sizeof(data));
        for (size_t i = 0; i < n; i++, back++)
            CHECK(data[i] == byte_at(back));
        if (!n) CHECK(exo_event_wait(c.event, exo_in_us(KID_TIME)) == (long)c.event);
    }
    CHECK(!exo_channel_closed(&c) && !exo_channel_broken(&c));
    data[0] = END;
    EXPECT(exo_channel_write(&c, data, 1), 1);
    for (uint64_t end = exo_in_us(KID_TIME); !exo_channel_closed(&c);)
        CHECK(exo_event_wait(c.event, end) != 0); /* root tells us that it ended */
    EXPECT(exo_channel_read(&c, data, sizeof(data)), 0);
    /* The capability to signal it went with it: one more, so that as many are held. */
    EXPECT(exo_cap_info(c.signal), 0);
    EXPECT(exo_cap_derive(MEM, c.signal, EXO_R, exo.start.memory_base, 1), 0);
}

/* ---- the switch ---------------------------------------------------------------------- */
static struct exo_channel port[3];
static union {
    struct exo_packet packet;
    uint8_t bytes[EXO_PACKET_MAX];
} sent, got;

/* Sends n bytes of packet from one station to another (255: to all), stations being ports. */
static bool send_frame(unsigned from, unsigned to, size_t n)
{
    memset(sent.packet.frame, to == 255 ? 0xff : 0, 6);
    memset(sent.packet.frame + 6, 0, 6);
    if (to != 255) sent.packet.frame[5] = (uint8_t)(1 + to);
    sent.packet.frame[11] = (uint8_t)(1 + from);
    return exo_channel_send(&port[from], sent.bytes, n);
}

/* What was sent arrives there, within some time. */
static bool arrives(unsigned at, size_t n)
{
    uint64_t end = exo_in_us(KID_TIME);
    for (;;) {
        size_t length = exo_channel_receive(&port[at], got.bytes, sizeof(got));
        if (length) return length == n && !memcmp(got.bytes, sent.bytes, n);
        if (!exo_event_wait(port[at].event, end)) return false;
    }
}

static void test_switch(void)
{
    char tag[] = "net0";
    for (unsigned i = 0; i < 3; i++, tag[3]++)
        EXPECT(exo_channel_find(&port[i], "switch", tag), 0);
    for (size_t i = 0; i < sizeof(sent.bytes); i++)
        sent.bytes[i] = byte_at(i);
    size_t n = sizeof(struct exo_packet) + EXO_FRAME_MIN;
    for (unsigned i = 0; i < 3; i++) { /* says where it is; both others hear it */
        CHECK(send_frame(i, 255, n));
        CHECK(arrives((i + 1) % 3, n) && arrives((i + 2) % 3, n));
    }
    CHECK(send_frame(0, 1, EXO_PACKET_MAX) && arrives(1, EXO_PACKET_MAX));
    CHECK(send_frame(1, 2, 1000) && arrives(2, 1000));
    EXPECT(exo_channel_readable(&port[0]), 0); /* it was not for this one */
    CHECK(send_frame(2, 1, n - 1) && send_frame(2, 1, n) && arrives(1, n)); /* one too short */
    memset(got.bytes, 0xff, 100); /* lengths that cannot be: it is cut off, alone */
    EXPECT(exo_channel_write(&port[0], got.bytes, 100), 100);
    CHECK(send_frame(2, 1, 2000) && arrives(1, 2000));
    exo_event_wait(0, exo_in_us(1000));
    CHECK(send_frame(1, 255, 3000) && arrives(2, 3000));
    EXPECT(exo_channel_readable(&port[0]), 0);
}

static void test_archive(void)
{
    const void *data = NULL;
    size_t size = 0;
    EXPECT(exo_archive_find("no such file", &data, &size), -EXO_E_NONE);
    CHECK(data == NULL);
    EXPECT(exo_archive_find("config", &data, &size), 0);
    CHECK(size > 20 && !memcmp(data, "# SPDX-License-Ident", 20));
    EXPECT(probe_write((uint64_t)data, 0), 1 + 14); /* read-only */
    EXPECT(exo_archive_find("usertests", &data, &size), 0);
    CHECK(size > EXO_PAGE && !memcmp(data, "\177ELF", 4));
}

const struct test channel_tests[] = {
    {"channel", test_channel},
    {"switch", test_switch},
    {"archive", test_archive},
    {NULL, NULL},
};
