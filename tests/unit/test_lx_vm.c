/* SPDX-License-Identifier: MIT
 *
 * /dev/vm of linuxd: each open a conversation, whose bytes arrive once and in order, whose
 * readers are woken, whose end is seen; a manager that breaks the rules or ends, and opens
 * without end, harm no conversation but their own. */
#include "lx_host.h"

static long signalled_channel(uint64_t sel)
{
    (void)sel;
    return 0;
}
static long not_bound(void) { return -EXO_E_BOUND; }
struct exo exo;
#define exo_event_signal(sel) signalled_channel(sel)
#define exo_bind(pool, va, n, sel, frame, rights) not_bound()
#define wake channel_wake
#include "../../lib/exo/channel.c"
#undef wake
#define find stream_find
#define send stream_send
#include "../../lib/exo/stream.c"
#include "../../libos/linux/server/waiting/timer.c"
#include "../../libos/linux/server/waiting/wait.c"
#define exo_channel_find(c, peer, tag) channel_found(c)
static long channel_found(struct exo_channel *c);
#include "../../libos/linux/server/devices/vm_dev.c"

#define RING 16384u
static uint8_t *memory;
static struct exo_channel theirs;
static struct exo_streams manager;
static const struct dev_ops *ops;

static long channel_found(struct exo_channel *c)
{
    if (!memory) return -EXO_E_NONE;
    exo_channel_init(c, memory, RING, 0);
    c->event = 1;
    return 0;
}

void epoll_forget(struct file *file) { (void)file; }
struct opener *fifo_openers; /* no fifos here */
void fifo_back(struct thread *thread) { (void)thread; }
long dev_register(const char *name, uint32_t mode, uint64_t rdev, const struct dev_ops *given,
                  void *data)
{
    EXPECT(!strcmp(name, "vm") && S_ISCHR(mode) && rdev && !data);
    ops = given;
    return 0;
}

/* A new channel; what was open on the old one is closed. */
static void begin(void)
{
    for (unsigned i = 0; i < 2; i++)
        host_process(i);
    free(memory);
    memory = calloc(1, EXO_PAGE + 2 * RING);
    memset(&streams, 0, sizeof(streams));
    exo_channel_init(&theirs, memory, RING, 1);
    exo_streams_init(&manager, &theirs, false);
    vm_dev_init();
}

static void end(void)
{
    host_close_all(0);
    host_close_all(1);
    ((struct exo_channel_head *)memory)->closed = 1;
    vm_dev_poll();
    while (exo_streams_look(&manager))
        ;
    for (unsigned i = 0; i < EXO_STREAMS; i++)
        if (manager.stream[i].of) exo_stream_close(&manager.stream[i]);
    EXPECT(files_open == 0);
    for (unsigned i = 0; i < EXO_STREAMS; i++)
        EXPECT(!conversations[i].stream && !streams.stream[i].of);
}

static long device_open(unsigned i, uint32_t flags)
{
    struct file *file;
    host_thread(i);
    long r = ops->open(NULL, flags, &file);
    return r < 0 ? r : fd_install(&processes[i], file, false, 0);
}

static struct exo_stream *accept_one(void)
{
    exo_streams_look(&manager);
    return exo_stream_accept(&manager);
}

static void test_none(void)
{
    free(memory);
    memory = NULL;
    vm_dev_init();
    EXPECT(vm_dev_events() == 0 && !ops);
    vm_dev_poll();
}

static void test_talk(void)
{
    static uint8_t data[100000], back[100000];
    char text[8] = "";
    begin();
    EXPECT(vm_dev_events() == 1);
    long fd = device_open(0, O_RDWR);
    struct exo_stream *s = accept_one();
    struct file *file = fd_file(&host_threads[0], (uint64_t)fd);
    EXPECT(fd == 0 && s);
    EXPECT(host_read(0, 0, text, 8) == -LX_WAIT && !woken[0]);
    EXPECT(!(vm_poll(file) & POLLIN) && vm_poll(file) & POLLOUT);
    EXPECT(exo_stream_write(s, "hello", 5) == 5);
    vm_dev_poll();
    EXPECT(woken[0] == 1 && vm_poll(file) & POLLIN);
    EXPECT(host_read(0, 0, text, 8) == 5 && !memcmp(text, "hello", 5));
    EXPECT(host_read(0, 0, text, 0) == 0);
    size_t in = 0, out = 0;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)next(256);
    while (out < sizeof(data)) { /* more than the window */
        long r =
            in < sizeof(data) ? host_write(0, 0, data + in, EXO_MIN(sizeof(data) - in, 9999)) : 0;
        EXPECT(r > 0 || r == -LX_WAIT || in == sizeof(data));
        in += r > 0 ? (size_t)r : 0;
        exo_streams_look(&manager);
        out += exo_stream_read(s, back + out, next(5000));
        vm_dev_poll();
        EXPECT(in - out <= EXO_STREAM_WINDOW);
    }
    EXPECT(!memcmp(data, back, sizeof(data)));
    struct iobuf io;
    iobuf_own(&io, text, 1);
    EXPECT(!file->ops->seek);
    end();
}

static void test_ends(void)
{
    char text[8];
    begin();
    EXPECT(device_open(0, O_RDWR) == 0 && device_open(0, O_RDWR | O_NONBLOCK) == 1);
    struct exo_stream *first = accept_one(), *second = accept_one();
    EXPECT(first && second && host_read(0, 1, text, 8) == -EAGAIN);
    exo_stream_write(first, "end", 3);
    exo_stream_close(first);
    vm_dev_poll();
    EXPECT(host_write(0, 0, "x", 1) == -EPIPE && host_write(0, 1, "x", 1) == 1);
    EXPECT(host_read(0, 0, text, 8) == 3 && host_read(0, 0, text, 8) == 0);
    EXPECT(vm_poll(fd_file(&host_threads[0], 0)) & POLLHUP);
    HOST_CALL(0, call_close, 1);
    exo_streams_look(&manager);
    EXPECT(second->ended);
    EXPECT(device_open(1, O_RDWR) == 0); /* its place is free */
    EXPECT(host_read(1, 0, text, 8) == -LX_WAIT);
    ((struct exo_channel_head *)memory)->closed = 1; /* the manager dies */
    vm_dev_poll();
    EXPECT(woken[1] == 1 && host_read(1, 0, text, 8) == 0 && host_write(1, 0, "x", 1) == -EPIPE);
    EXPECT(device_open(1, O_RDWR) == -ENXIO);
    end();
}

static void test_many(void)
{
    begin();
    for (long i = 0; i < EXO_STREAMS; i++) {
        EXPECT(device_open(0, O_RDWR) == i);
        EXPECT(accept_one() != NULL);
    }
    EXPECT(device_open(1, O_RDWR) == -EBUSY);
    HOST_CALL(0, call_close, 5);
    exo_streams_look(&manager);
    for (unsigned i = 0; i < EXO_STREAMS; i++)
        if (manager.stream[i].ended) exo_stream_close(&manager.stream[i]);
    EXPECT(device_open(1, O_RDWR) == 0 && accept_one());
    file_limit = files_open;
    HOST_CALL(0, call_close, 6);
    file_limit = files_open;
    EXPECT(device_open(1, O_RDWR) == -ENFILE);
    file_limit = HOST_FILES;
    end();
}

/* A manager that sends anything. */
static void test_hostile(void)
{
    unsigned over_count = 0;
    for (int round = 0; round < 1000; round++) {
        begin();
        EXPECT(device_open(0, O_RDWR | O_NONBLOCK) == 0);
        for (int i = 0; i < 30; i++) {
            uint32_t packet[64];
            char text[100];
            for (unsigned k = 0; k < EXO_COUNT(packet); k++)
                packet[k] = next(2) ? (uint32_t)next(6) : (uint32_t)next(1ull << 32);
            exo_channel_send(&theirs, packet, next(3) ? 12 : 1 + next(sizeof(packet)));
            vm_dev_poll();
            long r = host_read(0, 0, text, sizeof(text));
            EXPECT(r >= 0 || r == -EAGAIN);
            r = host_write(0, 0, text, next(sizeof(text)));
            EXPECT(r >= 0 || r == -EAGAIN || r == -EPIPE);
        }
        over_count += exo_channel_broken(&channel);
        end();
    }
    EXPECT(over_count > 100);
}

static const struct unit_test tests[] = {{"no manager", test_none},
                                         {"talk", test_talk},
                                         {"ends", test_ends},
                                         {"many", test_many},
                                         {"a manager that sends anything", test_hostile}};

int main(void) { return TESTS_RUN("lx vm", tests); }
