/* SPDX-License-Identifier: MIT
 *
 * Rings of pipes (libos/linux/server/waiting/ring.c): when two processes get one, that nothing is lost
 * when it closes, and that nothing in the page that they share harms the server. What the
 * libraries do in the page the tests do themselves. */
#define LX_HOST_RINGS
#include "lx_host.h"
#include "../../libos/linux/server/waiting/wait.c"
#include "../../libos/linux/server/waiting/pipe.c"
#include "../../libos/linux/server/waiting/ring.c"

#define EXTENTS 100
static union {
    struct lx_ring ring;
    uint8_t bytes[EXO_PAGE];
} pages[EXTENTS]; /* by extent */
static unsigned holders[EXTENTS], bound[LX_PROCESSES][LX_RINGS];
static int binds_left = -1; /* so many ring_bind go well; -1: all */

void epoll_forget(struct file *file) { (void)file; }
long extent_new(struct process *process, uint32_t frames, unsigned purpose, bool movable)
{
    (void)process, (void)frames, (void)purpose;
    EXPECT(!movable); /* who has a ring cannot empty it */
    for (long i = 1; i < EXTENTS; i++)
        if (!holders[i]) return holders[i] = 1, i;
    return -ENOMEM;
}
uint32_t extent_first(uint16_t number) { return number; }
void *frame_data(uint32_t frame) { return &pages[frame]; }
void extent_put(struct process *process, uint16_t number)
{
    (void)process;
    EXPECT(holders[number] > 0);
    holders[number]--;
}
/* Who makes an extent holds it already. */
long ring_bind(struct process *process, uint32_t slot, uint16_t number)
{
    if (binds_left == 0) return -EXO_E_FULL;
    if (binds_left > 0) binds_left--;
    bool second = pages[number].ring.spare[0]++;
    EXPECT(!bound[process - processes][slot]);
    bound[process - processes][slot] = number;
    holders[number] += second;
    return 0;
}
void ring_unbind(struct process *process, uint32_t slot, uint16_t number)
{
    EXPECT(bound[process - processes][slot] == number);
    bound[process - processes][slot] = 0;
    extent_put(process, number);
}
void fd_ring_show(struct process *process, unsigned fd, bool on)
{
    uint8_t *byte = &process->threads[0]->window->direct[fd];
    EXPECT(!*byte == on);
    *byte = on;
}

static uint32_t random_word(void)
{
    static uint64_t state = 88172645463325252ul;
    state ^= state << 13; /* Marsaglia's xorshift */
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

static unsigned extents_held(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < EXTENTS; i++)
        n += holders[i];
    return n;
}

static void process_make(unsigned i)
{
    host_process(i);
    processes[i].thread_count = 1;
    processes[i].threads[0] = &host_threads[i];
    processes[i].fds_top = LX_FDS;
}

static void process_share(unsigned from, unsigned to)
{
    rings_close(&processes[from]);
    for (unsigned i = 0; i < LX_FDS; i++) {
        processes[to].fds[i] = processes[from].fds[i];
        if (processes[to].fds[i].file) file_get(processes[to].fds[i].file);
    }
}

static void fd_end(unsigned i, uint32_t fd)
{
    rings_close_fd(&processes[i], fd);
    HOST_CALL(i, call_close, fd);
}

static void process_gone(unsigned i)
{
    for (uint32_t fd = 0; fd < LX_FDS; fd++)
        if (processes[i].fds[fd].file) fd_end(i, fd);
    rings_end(&processes[i]);
    EXPECT(processes[i].rings_open == 0);
}

static uint32_t fd[2];

/* Processes 0 and 1 with a pipe that 0 writes and 1 reads. */
static void two_make(void)
{
    process_make(0);
    process_make(1);
    EXPECT(HOST_CALL(0, call_pipe) == 0);
    memcpy(fd, host_bytes(0), sizeof(fd));
    process_share(0, 1);
}

static void two_end(void)
{
    process_gone(0);
    process_gone(1);
    EXPECT(pipe_count() == 0 && pages_used == 0 && files_open == 0 && extents_held() == 0);
}

/* One small write that the reader waits for, in the window. */
static void hand(void)
{
    struct thread *t = host_thread(1);
    struct file *file = fd_file(t, fd[0]);
    EXPECT(wait_on(file->ops->queue(file), t) == -LX_WAIT);
    t->reading = file->ops->queue(file);
    t->reading_where = LX_INLINE;
    t->reading_length = 8;
    EXPECT(host_write(0, fd[1], "hand", 4) == 4 && host_windows[1].result == 5);
}

static struct ring *ring_of(unsigned process) { return processes[process].ring[0]; }

static bool opened(unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        hand();
    return ring_of(0) && ring_of(0)->open;
}

/* As the writer's library does. */
static void library_put(const char *text)
{
    struct lx_ring *ring = ring_of(0)->shared;
    for (; *text; text++)
        ring->bytes[ring->head++ % LX_RING_BYTES] = (uint8_t)*text;
}

static void test_opening(void)
{
    char text[16] = "";
    two_make();
    EXPECT(!opened(RING_AFTER - 1) && opened(1));
    EXPECT(host_windows[0].ring[0].number == fd[1] + 1 && host_windows[0].direct[fd[1]]);
    EXPECT(host_windows[1].ring[0].number == fd[0] + 1 && host_windows[1].direct[fd[0]]);
    EXPECT(!host_windows[0].direct[fd[0]] && !host_windows[1].direct[fd[1]]);
    library_put("abcdef");
    ring_of(0)->shared->tail = 2; /* the reader had two of them */
    EXPECT(host_read(1, fd[0], text, 16) == 4 && !memcmp(text, "cdef", 4));
    EXPECT(!ring_of(0)->open && !host_windows[0].direct[fd[1]] && !host_windows[1].direct[fd[0]]);
    EXPECT(host_windows[0].ring[0].end == 6 && host_windows[1].ring[0].end == 2);
    /* It opens again, later than the first time, and begins anew. */
    EXPECT(!opened(2 * RING_AFTER - 1) && opened(1) && ring_of(0)->shared->head == 0);
    EXPECT(HOST_CALL(1, op_ring, 0) == -EINVAL && HOST_CALL(0, op_ring, 1) == -EINVAL);
    EXPECT(HOST_CALL(0, op_ring, ~0ul) == -EINVAL);
    woken[1] = 0;
    EXPECT(HOST_CALL(0, op_ring, 0) == 0 && woken[1] == 1);
    two_end();
}

/* Each other use closes it, with what is there. */
static void test_closing(void)
{
    for (unsigned way = 0; way < 9; way++) {
        char text[16] = "";
        int value = 0;
        struct iobuf io;
        two_make();
        struct file *in = fd_file(&host_threads[1], fd[0]), *out = fd_file(&host_threads[0], fd[1]);
        EXPECT(opened(RING_AFTER));
        library_put("xy");
        iobuf_own(&io, &value, sizeof(value));
        woken[1] = 0;
        thread_current = &host_threads[0];
        if (way == 0) EXPECT(in->ops->poll(in) & POLLIN);
        if (way == 1) EXPECT(out->ops->poll(out) & POLLOUT);
        if (way == 2) EXPECT(!in->ops->ioctl(in, thread_current, FIONREAD, 0, &io) && value == 2);
        if (way == 3) EXPECT(pipe_resize(out, 4096) == 4096);
        if (way == 4) pipe_settle(in);
        if (way == 5) rings_close(&processes[0]);
        if (way == 6) rings_close_fd(&processes[1], fd[0]);
        if (way == 7) EXPECT(host_write(0, fd[1], "z", 1) == 1);
        if (way == 8) process_gone(0);
        EXPECT(woken[1] >= 1 && (way == 8 || !ring_of(0)->open));
        EXPECT(host_read(1, fd[0], text, 16) == (way == 7 ? 3 : 2) && !memcmp(text, "xy", 2));
        two_end();
    }
}

static void test_refusals(void)
{
    for (unsigned way = 0; way < 8; way++) {
        two_make();
        if (way == 0) processes[1].thread_count = 2;
        if (way == 1) processes[0].vfork = true;
        if (way == 2) fd_file(&host_threads[0], fd[1])->flags |= O_NONBLOCK;
        if (way == 3) process_make(2), process_share(0, 2);
        if (way == 4) file_get(fd_file(&host_threads[1], fd[0]));
        if (way == 5) binds_left = 0;
        if (way == 6) binds_left = 1;
        if (way == 7) pipe_resize(fd_file(&host_threads[0], fd[1]), 4096);
        EXPECT(!opened(RING_AFTER) && processes[0].rings_open == 0 && extents_held() == 0);
        binds_left = -1;
        if (way == 3) process_gone(2);
        if (way == 4) file_put(fd_file(&host_threads[1], fd[0]));
        two_end();
    }
}

/* The page says anything: no more than a ring full comes out of it. */
static void test_hostile(void)
{
    static char data[LX_PIPE_BYTES];
    for (unsigned i = 0; i < 3000; i++) {
        two_make();
        EXPECT(opened(RING_AFTER));
        struct lx_ring *ring = ring_of(0)->shared;
        ring->head = random_word();
        ring->tail = i % 3 ? ring->head - random_word() % (2 * LX_RING_BYTES) : random_word();
        ring->waits = random_word();
        uint32_t fill = ring->head - ring->tail;
        long r = host_read(1, fd[0], data, sizeof(data));
        EXPECT(r == (fill - 1 < LX_RING_BYTES ? (long)fill : -LX_WAIT));
        EXPECT(host_write(0, fd[1], "good", 4) == 4 && host_read(1, fd[0], data, 9) == 4);
        EXPECT(!memcmp(data, "good", 4));
        two_end();
    }
}

/* Slots and rings run out, are used again, and come back. */
static void test_many(void)
{
    enum { PIPES = 12 };
    process_make(0);
    process_make(1);
    for (unsigned round = 0; round < 3; round++) {
        uint32_t all[PIPES][2];
        for (unsigned i = 0; i < PIPES; i++) {
            EXPECT(HOST_CALL(0, call_pipe) == 0);
            memcpy(all[i], host_bytes(0), 8);
            for (unsigned k = 0; k < 2; k++) {
                processes[1].fds[all[i][k]] = processes[0].fds[all[i][k]];
                file_get(processes[0].fds[all[i][k]].file);
            }
        }
        for (unsigned i = 0; i < PIPES; i++) {
            memcpy(fd, all[i], sizeof(fd));
            for (unsigned k = 0; k < RING_AFTER; k++)
                hand();
            EXPECT(processes[0].rings_open == EXO_MIN(i + 1, (unsigned)LX_RINGS));
            EXPECT(processes[1].rings_open == processes[0].rings_open);
        }
        for (unsigned i = 0; i < PIPES; i++)
            for (unsigned k = 0; k < 2; k++) {
                fd_end(0, all[i][k]);
                fd_end(1, all[i][k]);
            }
        EXPECT(processes[0].rings_open == 0 && pipe_count() == 0 && pages_used == 0);
    }
    two_end();
}

int main(void)
{
    static const struct unit_test tests[] = {
        {"two processes get one", test_opening}, {"other uses close it", test_closing},
        {"who gets none", test_refusals},        {"hostile pages", test_hostile},
        {"slots and rings", test_many},
    };
    return TESTS_RUN("lx-ring", tests);
}
