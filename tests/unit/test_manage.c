/* SPDX-License-Identifier: MIT
 *
 * Streams, what is kept of a console, and vmd's conversations with clients, on this machine:
 * bytes arrive as they were sent and within their windows; a client or a peer that sends
 * anything at all makes vmd read and write nowhere else (which the sanitizers watch), and
 * leaves nothing reserved behind. The machines themselves are stand-ins here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define main exo_main /* a program's own takes its startup page */
#include "../../lib/exo/exo.h"

static long signalled(uint64_t sel)
{
    (void)sel;
    return 0;
}
static long waited(uint64_t mask, uint64_t deadline)
{
    (void)mask, (void)deadline;
    return 0;
}
static long not_bound(void) { return -EXO_E_BOUND; }
struct exo exo;
static uint64_t now; /* the time-stamp counter */
void exo_exit(long status) { exit((int)status); }
#define exo_event_signal(sel) signalled(sel)
#define exo_event_wait(mask, deadline) waited(mask, deadline)
#define exo_bind(pool, va, n, sel, frame, rights) not_bound()
#define exo_tsc() now

/* Each file has names of its own that others have too. */
#include "../../lib/exo/channel.c"
#include "../../lib/exo/kept.c"
#define send stream_send
#define find stream_find
#include "../../lib/exo/stream.c"
#undef HEADER
#include "../../apps/vmd/vmd.h"
#define put print_put
#include "../../lib/exo/print.c"
#undef put
#include "../../lib/exo/archive.c"
#undef HEADER
#include "../../vmm/config.c"
#include "../../apps/vmd/files.c"
#define kept log_kept
#include "../../apps/vmd/log.c"
#undef kept
#include "../../apps/vmd/session.c"
#include "../../apps/vmd/create.c"
#include "../../apps/vmd/main.c"
#undef main

#include "unit.h"

/* ---- what stands in for the machines ------------------------------------------------------- */

struct machine machines[MACHINES];
static uint32_t last_id;
static unsigned started, checked;
static char order_last[64];
static bool orders_answered;

const char *reason_name(uint32_t reason) { return reason ? "reason" : "none"; }
void slots_init(void) {}
bool bridges_look(uint64_t events) { return events == ~0ul; }
const struct made *bridge_made(unsigned i) { return i == ~0u ? &machines[0].made : NULL; }
uint64_t frames_in_use(uint64_t frame, uint64_t n) { return frame ? n : 0; }
void report_stats(struct text *text) { text_add(text, " host\n"); }
void report_reasons(struct text *text) { text_add(text, " none\n"); }
void report_info(struct text *text) { text_add(text, " info\n"); }
void report_envs(struct text *text) { text_add(text, " env\n"); }
bool machine_look(struct machine *m) { return m == NULL; }
void machine_fault(struct machine *m) { machine_end(m); }

bool machine_is_program(const struct machine *m) { return m->config.loader == VM_LOAD_PROGRAM; }

struct machine *machine_named(const char *name)
{
    for (struct machine *m = machines; m < machines + MACHINES; m++)
        if (m->state == MACHINE_RUNS && !strcmp(m->config.name, name)) return m;
    return NULL;
}

struct machine *machine_reserve(void)
{
    for (struct machine *m = machines; m < machines + MACHINES; m++)
        if (m->state == MACHINE_FREE) {
            memset(m, 0, sizeof(*m));
            m->state = MACHINE_MAKING;
            return m;
        }
    return NULL;
}

/* Memory of exactly that size: the sanitizers see whoever writes beyond it. */
long machine_files_make(struct machine *m, uint64_t bytes)
{
    if (bytes > 4 << 20) return -EXO_E_LIMIT;
    m->files = (struct machine_files){.va = (uint64_t)malloc(bytes), .bytes = bytes};
    return 0;
}

/* What the client sent must be in the archive, whole. */
static bool archive_good(const struct machine *m, const char *name)
{
    struct exo_file file;
    if (!exo_archive_parse((char *)m->files.va, m->files.bytes, name, &file)) return false;
    for (uint64_t i = 0; i < file.size; i++)
        if (file.data[i] != (char)(i * 7)) return false;
    checked++;
    return true;
}

static int memory_waits; /* so many times it is to be asked for again */
static bool memory_none;
long machine_memory(struct machine *m)
{
    EXPECT(m->state == MACHINE_MAKING && m->files.used);
    if (memory_none) return -EXO_E_LIMIT;
    return memory_waits && memory_waits-- ? -EXO_E_AGAIN : 0;
}

long machine_start(struct machine *m)
{
    struct exo_file file;
    EXPECT(m->files.used == m->files.bytes);
    EXPECT(exo_archive_parse((char *)m->files.va, m->files.bytes, MACHINE_CONFIG, &file));
    if (m->config.kernel[0] == '/') EXPECT(archive_good(m, m->config.kernel));
    m->id = ++last_id;
    m->state = MACHINE_RUNS;
    exo_kept_make(&m->kept, 1024);
    exo_kept_put(&m->kept, "hello\n", 6);
    m->console.channel = (struct exo_channel){.broken = true};
    static struct exo_channel_head head;
    m->console.channel.out = m->console.channel.in = &head.ring[0];
    started++;
    return m->id;
}

void machine_end(struct machine *m)
{
    struct session *asker = m->asker;
    free((void *)m->files.va);
    m->files = (struct machine_files){0};
    m->state = MACHINE_ENDED;
    m->asker = NULL;
    if (asker) session_machine_ended(asker);
    if (m->viewers) return;
    exo_kept_free(&m->kept);
    memset(m, 0, sizeof(*m));
}

void machine_unview(struct machine *m)
{
    m->viewers--;
    if (m->state == MACHINE_ENDED) machine_end(m);
}

bool machine_order(struct machine *m, struct session *session, const char *order)
{
    if (m->asker) return false;
    exo_strcpy(order_last, order, sizeof(order_last));
    m->asker = session;
    return true;
}

void machine_forget(struct machine *m, struct session *session)
{
    if (m->asker == session) m->asker = NULL;
}

/* ---- a client -------------------------------------------------------------------------------- */

#define RING 16384u
#define HEADER_MAX 4200 /* bytes of the longest packet that is tried */
static uint8_t *memory;
static struct exo_channel ours; /* the client's end; vmd's is clients[0].channel */
static struct exo_streams mine;

static void machines_clear(void)
{
    for (struct machine *m = machines; m < machines + MACHINES; m++)
        if (m->state != MACHINE_FREE) {
            m->viewers = 0;
            machine_end(m);
        }
}

/* A fresh channel: sessions of the old one have gone first. */
static void link_make(void)
{
    struct client *client = &clients[0];
    if (memory) {
        ((struct exo_channel_head *)memory)->closed = 1;
        client_look(client);
        for (unsigned i = 0; i < EXO_STREAMS; i++) {
            EXPECT(!client->session[i].stream);
            if (client->streams.stream[i].of) free(client->streams.stream[i].in);
            if (mine.stream[i].of) free(mine.stream[i].in);
        }
        free(memory);
    }
    memory = calloc(1, EXO_PAGE + 2 * RING);
    exo_channel_init(&ours, memory, RING, 0);
    exo_channel_init(&client->channel, memory, RING, 1);
    exo_streams_init(&mine, &ours, true);
    exo_streams_init(&client->streams, &client->channel, false);
    memset(client->session, 0, sizeof(client->session));
    client_count = 1;
}

static void answers(void)
{
    for (struct machine *m = machines; orders_answered && m < machines + MACHINES; m++) {
        struct session *asker = m->asker;
        m->asker = NULL;
        if (asker) session_answer(asker, "done");
    }
}

static void turn(void)
{
    for (int i = 0; i < 50; i++) {
        bool some = client_look(&clients[0]);
        answers();
        some |= exo_streams_look(&mine);
        if (!some) break;
    }
}

static void tell(struct exo_stream *s, const char *text)
{
    size_t n = strlen(text);
    for (int i = 0; i < 1000 && n; i++) {
        size_t done = exo_stream_write(s, text, n);
        text += done;
        n -= done;
        turn();
    }
    EXPECT(!n);
}

static char heard[TEXT_MAX];
static size_t hear(struct exo_stream *s)
{
    size_t n = 0;
    for (int i = 0; i < 100; i++) {
        n += exo_stream_read(s, heard + n, sizeof(heard) - 1 - n);
        turn();
    }
    heard[n] = 0;
    return n;
}

static bool asks(const char *request, const char *reply)
{
    struct exo_stream *s = exo_stream_open(&mine);
    if (!s) return false;
    tell(s, request);
    hear(s);
    exo_stream_close(s);
    turn();
    if (!strstr(heard, reply)) printf("  '%s' gave '%s'\n", request, heard);
    return strstr(heard, reply) != NULL;
}

/* Sends a configuration, and as many bytes of each file as sizes say. */
static bool makes(const char *config, const char *sizes, size_t bytes, const char *reply)
{
    static char data[3 << 20];
    char line[32];
    struct exo_stream *s = exo_stream_open(&mine);
    if (!s) return false;
    snprintf(line, sizeof(line), "create %zu\n", strlen(config));
    tell(s, line);
    tell(s, config);
    hear(s);
    if (strstr(heard, "?\n")) tell(s, sizes);
    if (*sizes) hear(s);
    for (size_t i = 0; i < bytes; i++)
        data[i] = (char)(i * 7);
    for (size_t done = 0, i = 0; bytes && strstr(heard, "go\n") && done < bytes && i < 10000; i++) {
        done += exo_stream_write(s, data + done, bytes - done);
        turn();
    }
    if (strstr(heard, "go\n") && bytes) hear(s);
    exo_stream_close(s);
    turn();
    if (!strstr(heard, reply)) printf("  gave '%s'\n", heard);
    return strstr(heard, reply) != NULL;
}

/* ---- tests -------------------------------------------------------------------------------------- */

static void test_kept(void)
{
    struct exo_kept kept;
    struct exo_kept_reader reader;
    char text[64];
    EXPECT(exo_kept_make(&kept, 32) == 0);
    exo_kept_begin(&kept, &reader);
    EXPECT(exo_kept_read(&kept, &reader, text, sizeof(text)) == 0);
    exo_kept_put(&kept, "ab\033[6nc\033[6x", 11);
    size_t n = exo_kept_read(&kept, &reader, text, sizeof(text));
    EXPECT(n == 11 && !memcmp(text, "ab\033[6nc\033[6x", n)); /* live: all of it */
    exo_kept_begin(&kept, &reader);
    n = exo_kept_read(&kept, &reader, text, sizeof(text));
    EXPECT(n == 7 && !memcmp(text, "abc\033[6x", n)); /* old: without the question */
    exo_kept_put(&kept, "\033[6", 3);
    exo_kept_begin(&kept, &reader);
    for (n = 0; reader.at < kept.written;)
        n += exo_kept_read(&kept, &reader, text + n, EXO_KEPT_LEAST);
    EXPECT(n == 10 && !memcmp(text + 7, "\033[6", 3)); /* a question that is none */
    for (int i = 0; i < 100; i++)
        exo_kept_put(&kept, "0123456789", 10);
    EXPECT(exo_kept_read(&kept, &reader, text, sizeof(text)) == 32); /* overtaken */
    EXPECT(!memcmp(text, "89", 2) && !memcmp(text + 22, "0123456789", 10));
    exo_kept_free(&kept);
}

static void test_streams(void)
{
    static uint8_t sent[4096], got[4096];
    struct exo_stream *a[EXO_STREAMS] = {0}, *b[EXO_STREAMS] = {0};
    uint64_t in[EXO_STREAMS][2] = {{0}}, out[EXO_STREAMS][2] = {{0}};
    struct exo_streams *theirs = &clients[0].streams;
    link_make();
    for (unsigned i = 0; i < EXO_STREAMS; i++) {
        EXPECT((a[i] = exo_stream_open(&mine)) != NULL);
        exo_streams_look(theirs);
        EXPECT((b[i] = exo_stream_accept(theirs)) != NULL);
    }
    EXPECT(!exo_stream_open(&mine) && !exo_stream_accept(theirs));
    for (int round = 0; round < 60000; round++) {
        unsigned i = (unsigned)next(EXO_STREAMS), way = (unsigned)next(2);
        struct exo_stream *from = way ? b[i] : a[i], *to = way ? a[i] : b[i];
        size_t n = next(sizeof(sent));
        for (size_t k = 0; k < n; k++)
            sent[k] = (uint8_t)((in[i][way] + k) * 31 + i);
        in[i][way] += exo_stream_write(from, sent, n);
        if (next(3) == 0) exo_streams_look(way ? &mine : theirs);
        n = exo_stream_read(to, got, next(sizeof(got)));
        for (size_t k = 0; k < n; k++)
            if (got[k] != (uint8_t)((out[i][way] + k) * 31 + i)) failures++;
        out[i][way] += n;
        if (in[i][way] - out[i][way] > EXO_STREAM_WINDOW) failures++;
    }
    EXPECT(in[0][0] > 100000 && in[EXO_STREAMS - 1][1] > 100000);
    exo_stream_close(a[3]);
    for (int i = 0; i < 20; i++) {
        exo_streams_look(theirs);
        exo_streams_look(&mine);
        while (exo_stream_read(b[3], got, sizeof(got)))
            ;
    }
    EXPECT(exo_stream_ended(b[3]) && !exo_stream_write(b[3], "x", 1) && !exo_stream_ended(b[2]));
    exo_stream_close(b[3]);
    EXPECT((a[3] = exo_stream_open(&mine)) != NULL); /* there is room again */
    exo_streams_look(theirs);
    EXPECT((b[3] = exo_stream_accept(theirs)) != NULL && b[3]->id == a[3]->id);
    for (unsigned i = 0; i < EXO_STREAMS; i++) {
        exo_stream_close(a[i]);
        exo_stream_close(b[i]);
    }
}

/* Packets of any form towards vmd. */
static void test_streams_hostile(void)
{
    unsigned broken_count = 0;
    for (int round = 0; round < 3000; round++) {
        link_make();
        for (int i = 0; i < 40 && !exo_channel_broken(&clients[0].channel); i++) {
            uint8_t packet[HEADER_MAX];
            uint32_t head[3] = {(uint32_t)next(4), (uint32_t)next(6),
                                next(2) ? (uint32_t)next(70000) : 0};
            size_t n = next(4) ? 8 + 4 * next(2) : 1 + next(sizeof(packet) - 1);
            for (size_t k = 0; k < sizeof(packet); k++)
                packet[k] =
                    (uint8_t)(next(8) ? (uint8_t) "create stats console\n1"[next(22)] : next(256));
            memcpy(packet, head, sizeof(head));
            exo_channel_send(&ours, packet, n);
            client_look(&clients[0]);
            while (exo_channel_receive(&ours, packet, sizeof(packet)))
                ;
        }
        broken_count += exo_channel_broken(&clients[0].channel);
    }
    EXPECT(broken_count > 100);
    link_make();
    for (struct machine *m = machines; m < machines + MACHINES; m++)
        EXPECT(m->state != MACHINE_MAKING);
    machines_clear();
}

#define KERNEL "kernel = \"/k\"\n"

static void test_requests(void)
{
    link_make();
    orders_answered = true;
    EXPECT(asks("stats\n", " host\nok\n") && asks("info\n", " info\nok\n"));
    EXPECT(asks("reasons\n", "ok\n") && asks("envs\n", "ok\n") && asks("dmesg\n", "ok\n"));
    EXPECT(asks("\n", "error there is no request ''"));
    EXPECT(asks("stats now\nstats\n", " host\nok\n"));
    EXPECT(asks("pause a\n", "error there is no machine 'a'"));
    EXPECT(asks("create x\n", "error create BYTES"));
    EXPECT(makes("name = \"a\"\n" KERNEL, "100000\n", 100000, "ok\n") && started == 1);
    EXPECT(checked == 1);
    EXPECT(makes("name = \"a\"\n" KERNEL, "", 0, "already"));
    EXPECT(makes("name = \"b c\"\n" KERNEL, "", 0, "a machine's name is"));
    EXPECT(makes("rubbish\n", "", 0, "error the configuration has mistakes"));
    EXPECT(makes("name = \"d\"\n" KERNEL, "-\n", 0, "error there is no file '/k'"));
    EXPECT(makes("name = \"d\"\n" KERNEL, "many\n", 0, "error there is no file '/k'"));
    EXPECT(makes("name = \"d\"\n" KERNEL, "99999999\n", 0, "error no memory for its files"));
    EXPECT(makes("name = \"p\"\nloader = \"program\"\n" KERNEL, "9\n", 9, "ok\n"));
    EXPECT(asks("pause p\n", "error 'p' is a program") && asks("destroy p\n", "ok\n"));
    EXPECT(asks("create 5 noise\n", "error create BYTES [console]"));
    EXPECT(makes("name = \"e\"\n" KERNEL "disk = [ \"/k,raw,vda,rw\" ]\n", "0\n", 0, "go\nok\n"));
    memory_waits = 5;
    EXPECT(makes("name = \"w\"\n" KERNEL, "9\n", 9, "ok\n") && !memory_waits);
    EXPECT(asks("destroy w\n", "ok\n"));
    memory_none = true;
    EXPECT(makes("name = \"w\"\n" KERNEL, "9\n", 9, "error it cannot be made"));
    memory_none = false;
    memory_waits = 1 << 20; /* its client goes away meanwhile */
    EXPECT(!makes("name = \"w\"\n" KERNEL, "9\n", 9, "it is there"));
    memory_waits = 0;
    EXPECT(asks("pause a\n", "ok\n") && !strcmp(order_last, "pause"));
    EXPECT(asks("mem-set a 12\n", "ok\n") && !strcmp(order_last, "mem-set 12"));
    EXPECT(asks("console a\n", "ok\nhello\n"));
    EXPECT(asks("destroy a\n", "ok\n") && !machine_named("a"));
    EXPECT(asks("destroy e\n", "ok\n") && asks("destroy e\n", "no machine 'e'"));
    for (struct machine *m = machines; m < machines + MACHINES; m++)
        EXPECT(m->state == MACHINE_FREE);
}

/* A monitor that does not answer, a client that goes away, a machine that ends meanwhile. */
static void test_waiting(void)
{
    link_make();
    orders_answered = false;
    now = 0;
    EXPECT(makes("name = \"a\"\n" KERNEL, "4\n", 4, "ok\n"));
    struct exo_stream *first = exo_stream_open(&mine), *second = exo_stream_open(&mine),
                      *viewer = exo_stream_open(&mine);
    tell(first, "pause a\n");
    tell(second, "unpause a\n");
    tell(viewer, "console a\n");
    EXPECT(!hear(first) && !hear(second) && hear(viewer));
    EXPECT(!strcmp(order_last, "pause"));
    exo_stream_close(first);
    turn();
    EXPECT(!strcmp(order_last, "unpause")); /* its turn came */
    EXPECT(asks("destroy a\n", "ok\n") && hear(second) && strstr(heard, "the machine has ended"));
    turn();
    EXPECT(exo_stream_ended(viewer) && machines[0].state == MACHINE_FREE);
    EXPECT(makes("name = \"a\"\n" KERNEL, "4\n", 4, "ok\n"));
    tell(second, "reboot a\n");
    EXPECT(!hear(second));
    now = UINT64_MAX;
    EXPECT(hear(second) && strstr(heard, "does not answer"));
    now = 0;
    EXPECT(!machine_named("a")->asker);
    exo_stream_close(second);
    exo_stream_close(viewer);
    machines_clear();
}

/* Clients that send anything, and go away at any moment. */
static void test_requests_hostile(void)
{
    static const char *const words[] = {"create 30\n",
                                        "name = \"x\"\n",
                                        KERNEL,
                                        "\n",
                                        "5\n",
                                        "-\n",
                                        "console x\n",
                                        "destroy x\n",
                                        "pause x\n",
                                        "stats\n",
                                        "memory = 99999999999\n",
                                        "disk = [ \"",
                                        "\"\n",
                                        "go\n"};
    orders_answered = true;
    for (int round = 0; round < 2000; round++) {
        link_make();
        struct exo_stream *s[3] = {0};
        for (int i = 0; i < 60; i++) {
            unsigned k = (unsigned)next(3);
            if (!s[k]) s[k] = exo_stream_open(&mine);
            if (!s[k]) continue;
            const char *word = words[next(EXO_COUNT(words))];
            exo_stream_write(s[k], word, next(8) ? strlen(word) : next(strlen(word) + 1));
            if (next(3)) turn();
            if (next(4) == 0) exo_stream_read(s[k], heard, next(100));
            if (next(20)) continue;
            exo_stream_close(s[k]);
            s[k] = NULL;
        }
    }
    link_make();
    for (struct machine *m = machines; m < machines + MACHINES; m++)
        EXPECT(m->state != MACHINE_MAKING && !m->viewers && !m->asker);
    machines_clear();
}

static const struct unit_test tests[] = {
    {"kept", test_kept},
    {"streams", test_streams},
    {"streams: anything", test_streams_hostile},
    {"requests", test_requests},
    {"waiting", test_waiting},
    {"requests: anything", test_requests_hostile},
};

int main(void)
{
    exo.start.tsc_hz = 1000000000;
    log_open();
    return TESTS_RUN("manage", tests);
}
