/* SPDX-License-Identifier: MIT
 *
 * Channels and the boot archive: what root gives a program by the configuration
 * (tests/boot/config, where the program at the other end is called echo). */
#include "../../../lib/exo/channel.h"
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
    {"archive", test_archive},
    {NULL, NULL},
};
