/* SPDX-License-Identifier: MIT
 *
 * linuxd's swap store and its asking for memory, with frames and processes that are only
 * arrays here. */
#include <string.h>
#define main exo_main /* a program's own takes its startup page */
#include "../../lib/exo/exo.h"
#undef main
#include "../../libos/linux/server/process/swap.c"
#include "../../libos/linux/server/window.c"
#include "unit.h"

#define FRAMES 64 /* of process memory: 0..63, two for each process */
#define FILE_FIRST 1000

struct process processes[LX_PROCESSES];
static struct process_memory memories[3];
static struct thread thread[3];
static uint64_t memory[FRAMES][512], files[40][512];
static bool file_used[40];
static uint32_t rich[3], forced, woken;
static uint64_t now = 1;

void *frame_data(uint32_t frame) { return memory[frame]; }
void *page_data(uint32_t frame) { return files[frame - FILE_FIRST]; }
bool process_alive(const struct process *p) { return p->state == PROCESS_RUNNING; }
uint64_t time_boot(void) { return now; }
void thread_wake(struct thread *t) { woken |= 1u << (t - thread); }
uint32_t extent_first(uint16_t number) { return number; }
void log_line(const char *format, ...) { (void)format; }
uint32_t extents_private(const struct process *p) { return rich[p - processes]; }

bool frames_allowed(const struct process *p, uint64_t first, uint64_t last, bool write)
{
    (void)write;
    uint64_t index = (uint64_t)(p - processes);
    return last < FRAMES && first / 2 == index && last / 2 == index;
}

uint32_t page_new(void)
{
    for (uint32_t i = 0; i < EXO_COUNT(files); i++)
        if (!file_used[i]) {
            file_used[i] = true;
            return FILE_FIRST + i;
        }
    return 0;
}

void page_free(uint32_t frame)
{
    EXPECT(file_used[frame - FILE_FIRST]);
    file_used[frame - FILE_FIRST] = false;
}

void page_count(uint64_t *all, uint64_t *unused) { *all = *unused = 40; }

uint32_t extents_take(struct process *p, uint32_t frames)
{
    forced |= 1u << (p - processes);
    rich[p - processes] -= frames;
    return frames;
}

static long out(unsigned who, uint64_t frame)
{
    return op_swap_out(&thread[who], (const uint64_t[6]){frame});
}
static long in(unsigned who, long slot, uint64_t frame)
{
    return op_swap_in(&thread[who], (const uint64_t[6]){(uint64_t)slot, frame});
}
static long drop(unsigned who, long slot)
{
    return op_swap_free(&thread[who], (const uint64_t[6]){(uint64_t)slot});
}
static uint64_t used(void)
{
    uint64_t all, n;
    swap_count(&all, &n);
    EXPECT(all == 10);
    return n;
}

static void test_slots(void)
{
    memory[0][3] = 7;
    EXPECT(out(0, 2) == -EFAULT && out(0, FRAMES) == -EFAULT && out(0, UINT64_MAX) == -EFAULT);
    long a = out(0, 0), zero = out(0, 1);
    EXPECT(a > 0 && zero > 0 && a != zero && used() == 1 && swap_held(&processes[0]) == 2);
    EXPECT(in(1, a, 2) == -EINVAL && drop(1, a) == -EINVAL); /* another's */
    EXPECT(in(0, 0, 0) == -EINVAL && in(0, SLOTS, 0) == -EINVAL && in(0, -1, 0) == -EINVAL);
    EXPECT(in(0, a, 2) == -EFAULT && swap_held(&processes[0]) == 2);
    memory[0][3] = 8;
    memory[1][5] = 9;
    EXPECT(in(0, a, 0) == 0 && memory[0][3] == 7 && used() == 0 && in(0, a, 0) == -EINVAL);
    EXPECT(in(0, zero, 1) == 0 && memory[1][5] == 0 && swap_held(&processes[0]) == 0);
}

static void test_fork(void)
{
    memory[0][0] = 1;
    long a = out(0, 0), b = out(0, 0);
    swap_fork(&processes[0], &processes[1]);
    EXPECT(swap_held(&processes[1]) == 2 && used() == 2);
    EXPECT(drop(0, a) == 0 && used() == 2 && in(1, a, 2) == 0 && memory[2][0] == 1 && used() == 1);
    swap_end(&processes[1]);
    EXPECT(used() == 1 && swap_held(&processes[1]) == 0 && in(0, b, 0) == 0 && used() == 0);
}

static void test_full(void)
{
    long slot[11];
    memory[0][0] = 1;
    for (unsigned i = 0; i < 11; i++)
        slot[i] = out(0, 0);
    EXPECT(slot[9] > 0 && slot[10] == -ENOMEM && used() == 10);
    memset(memory[0], 0, sizeof(memory[0]));
    EXPECT(out(0, 0) > 0); /* zeroes need no page */
    swap_end(&processes[0]);
    EXPECT(used() == 0 && swap_held(&processes[0]) == 0);
}

static const struct lx_window *window(unsigned who) { return process_window(&processes[who]); }

/* The store takes no more than it has room for, whoever is asked. */
static void test_ask(void)
{
    pages_max = 1000;
    rich[0] = 100, rich[1] = 2000, rich[2] = 1900;
    EXPECT(memory_ask(&processes[1], 32) == -ENOMEM); /* it has most itself */
    EXPECT(memory_ask(&processes[0], 32) == -EAGAIN && woken == 2);
    EXPECT(window(1)->start.asked == ASK_LEAST);
    EXPECT(memory_ask(&processes[2], 32) == -EAGAIN && window(2)->start.asked == 0); /* one */
    EXPECT(memory_ask(&processes[1], 32) == -ENOMEM);
    memory_given(&processes[2], 500);
    memory_given(&processes[1], 100);
    EXPECT(asked.process == &processes[1] && asked.frames == ASK_LEAST - 100);
    memory_given(&processes[1], 100);
    EXPECT(!asked.process && forced == 0);
    EXPECT(memory_ask(&processes[0], 32) == -EAGAIN);
    now += LX_ASK_US * 1000ul;
    EXPECT(memory_ask(&processes[0], 32) == 0 && forced == 2 && !asked.process);
    EXPECT(memory_ask(&processes[0], 32) == -EAGAIN && asked.process == &processes[2]);
    swap_end(&processes[2]); /* it ends */
    EXPECT(!asked.process);
    processes[2].state = PROCESS_FREE;
    processes[2].vfork = true;
    processes[2].sibling = NULL;
    processes[1].child = &processes[2]; /* now it lends its memory */
    EXPECT(memory_ask(&processes[0], 32) == -ENOMEM);
    processes[1].child = NULL;
    pages_max = ASK_LEAST - 1;
    EXPECT(memory_ask(&processes[0], 32) == -ENOMEM); /* no room in the store */
}

static long back(uint64_t kind, uint64_t start, uint64_t value)
{
    return op_vfork_back(&thread[1], (const uint64_t[6]){kind, start, value});
}

static void test_back(void)
{
    static struct lx_window parents;
    const struct lx_back *left = (const struct lx_back *)parents.bytes;
    thread[0].window = &parents;
    EXPECT(back(LX_BACK_BREAK, 1, 0) == -EINVAL && swap_back_take(&thread[0]) == 0);
    processes[1].lender = &processes[0];
    memory[2][0] = 5;
    EXPECT(back(LX_BACK_PAGE, 0x5000, 0) == -EFAULT); /* the parent's frame */
    EXPECT(back(LX_BACK_PAGE, 0x6000, 2) == 0 && back(LX_BACK_BREAK, 0x7000, 0) == 0);
    EXPECT(swap_held(&processes[0]) == 1 && swap_held(&processes[1]) == 0);
    EXPECT(swap_back_take(&thread[0]) == 2 && swap_back_take(&thread[0]) == 0);
    EXPECT(left[0].start == 0x6000 && left[1].start == 0x7000);
    EXPECT(in(0, (long)left[0].value, 0) == 0 && memory[0][0] == 5 && used() == 0);
    for (unsigned i = 0; i < LX_BACK_MAX; i++)
        EXPECT(back(LX_BACK_AREA, i, i) == 0);
    EXPECT(back(LX_BACK_AREA, 0, 0) == -ENOMEM && back(LX_BACK_PAGE, 0, 2) == -ENOMEM);
    EXPECT(swap_held(&processes[0]) == 0 && swap_back_take(&thread[0]) == LX_BACK_MAX);
    processes[1].lender = NULL;
}

int main(void)
{
    for (unsigned i = 0; i < 3; i++) {
        processes[i].state = PROCESS_RUNNING;
        processes[i].memory = &memories[i];
        memories[i].place = i;
        processes[i].threads[0] = &thread[i];
        thread[i].process = &processes[i];
        memories[i].data[0] = (uint16_t)(16 + 3 * i); /* window's first frame */
    }
    swap_init();
    static const struct unit_test tests[] = {
        {"slots and who has them", test_slots},
        {"slots after a fork", test_fork},
        {"a full store", test_full},
        {"what a vfork's child leaves", test_back},
        {"asking for memory", test_ask},
    };
    return TESTS_RUN("lx-swap", tests);
}
