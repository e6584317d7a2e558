/* SPDX-License-Identifier: MIT
 *
 * Children of vfork in their parent's env (docs/linux.md) that tell the server lies: with calls below
 * their library (libos/linux/proto.h) as one who borrows an env and one who does not, with programs
 * handed over that are none, with a library, a gate, an upcall handler that they spoil. Nobody else
 * may notice, all ends when it is killed, and nothing is lost. On Linux these calls do not exist. */
#include "hostile.h"
#include "../../../abi/exo.h"
#include "../../../build/gen/exo_stubs.h"

#define GATE 32 /* LX_SEL_THREAD */
#define EXTENT 128 /* LX_SEL_EXTENT */
#define OP_EXTENT 0x1000
#define OP_FORK 0x1002
#define OP_EXEC 0x1003
#define OP_CRASH 0x1009
#define OP_THREAD 0x100b
#define OP_VFORK_WAIT 0x100d
#define OP_VFORK_BACK 0x1013
#define OP_EXEC_AWAY 0x1021
#define BORROW 2 /* LX_FORK_BORROW */
#define INLINE (1ul << 62) /* LX_INLINE */
#define RUNS (1ul << 63) /* LX_RUNS */
#define DATA ((volatile uint64_t *)0x7ffff8180000ul) /* LX_DATA_VA, the library's */
#define DATA_WORDS 4096
#define WINDOW ((volatile uint64_t *)0x7ffff80c1000ul) /* of the first thread */
#define WINDOW_WORDS 1536
#define UPCALL ((const volatile struct exo_upcall_page *)0x7ffff80c0000ul)
#define ROUNDS 300

static bool other; /* no exokernel below */
static uint64_t seed = 77;
static int *refused; /* shared: how many lies were, of all */

static long server(long op, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                   uint64_t a5)
{
    if (other) return -ENOSYS;
    register long rdi __asm__("rdi") = GATE;
    register long rsi __asm__("rsi") = op;
    register uint64_t rdx __asm__("rdx") = a0;
    register uint64_t r8 __asm__("r8") = a1;
    register uint64_t r9 __asm__("r9") = a2;
    register uint64_t r10 __asm__("r10") = a3;
    uint64_t last[2] = {a4, a5};
    register uint64_t *r12 __asm__("r12") = last;
    long rax = EXO_CALL_call;
    __asm__ volatile("push %%rbx; push %%rbp; mov (%%r12), %%rbx; mov 8(%%r12), %%rbp; syscall;"
                     "pop %%rbp; pop %%rbx"
                     : "+a"(rax), "+r"(rdi), "+r"(rsi), "+r"(rdx), "+r"(r8), "+r"(r9), "+r"(r10),
                       "+r"(r12)
                     :
                     : "rcx", "r11", "r13", "r14", "r15", "memory");
    return rax < 0 ? rax : rsi;
}

static void must_fail(long result) { refused[result < 0]++; }

/* The physical address of memory that is this env's. */
static uint64_t own_frame(void)
{
    for (unsigned i = EXTENT; i < 2 * EXTENT && !other; i++)
        if ((exo_cap_info(i) & 0xff) == EXO_FRAMES) return UPCALL->list[0].va * EXO_PAGE;
    return EXO_PAGE;
}

/* ---- lies ------------------------------------------------------------------------------------ */

static void lies(void)
{
    uint64_t frame = own_frame(), bytes = 64ul << 32, handle = 0;
    must_fail(server(OP_EXEC_AWAY, 0, 0, 0, 0, frame, bytes));
    must_fail(server(OP_EXEC_AWAY, 0, 0, 0, 0, frame, bytes | 513ul * EXO_PAGE));
    must_fail(server(OP_EXEC_AWAY, 0, 0, 0, 0, frame, bytes | 0xfffff000));
    must_fail(server(OP_EXEC_AWAY, 0, 0, 0, 0, 0, bytes | EXO_PAGE));
    must_fail(server(OP_EXEC_AWAY, 0, 0, 0, 0, -EXO_PAGE, bytes | EXO_PAGE));
    must_fail(server(OP_EXEC_AWAY, 0, 0, 0, 0, RUNS | 65, bytes | EXO_PAGE));
    must_fail(server(OP_EXEC_AWAY, 0, 0, 0, 0, INLINE | 9000, bytes | EXO_PAGE));
    must_fail(server(OP_EXEC_AWAY, 0, 0, 0, 0, frame, 0xfffful << 32 | EXO_PAGE));
    must_fail(server(OP_EXEC_AWAY, 0, 0, 0, 0, frame, 8ul << 32 | EXO_PAGE));
    must_fail(server(OP_EXEC_AWAY, -1ul, 0, 0, 0, frame, bytes | EXO_PAGE));
    must_fail(server(OP_EXEC_AWAY, 0, 0, 0, 1ul << 40, frame, bytes | EXO_PAGE));
    must_fail(server(OP_EXEC_AWAY, 0, -1ul, 100, 0, frame, bytes | EXO_PAGE));
    for (handle = 40; handle < 70; handle++)
        must_fail(server(OP_EXEC_AWAY, 0, 0, 0, 0, frame, handle << 48 | bytes | EXO_PAGE));
    must_fail(server(OP_EXEC, 0, 0, 0, 0, 0, 0));
    must_fail(server(OP_FORK, BORROW, 0, SIGCHLD, 0, 0, 0));
    must_fail(server(OP_FORK, 4, 0, SIGCHLD, 0, 0, 0));
    must_fail(server(OP_THREAD, 1, 0, 0, 0, 0, 0));
    must_fail(server(OP_VFORK_BACK, 0, 0, 0, 0, 0, 0));
}

static void lies_alone(void)
{
    must_fail(server(OP_EXEC_AWAY, 0, 0, 0, 0, own_frame(), 64ul << 32 | EXO_PAGE));
    must_fail(server(OP_EXEC_AWAY, 0, 0, 0, 0, INLINE, 64ul << 32 | EXO_PAGE));
}

/* ---- worse ------------------------------------------------------------------------------------ */

static void spoil(volatile uint64_t *at, unsigned words)
{
    for (unsigned i = 0; i < words && !other; i++)
        at[i] = random_next(&seed);
}

/* What the new env begins with is anything. */
static void hand_anything(void)
{
    spoil(WINDOW + WINDOW_WORDS / 2, WINDOW_WORDS / 2);
    uint64_t n = random_next(&seed) % 8000, handle = random_next(&seed) % 2;
    server(OP_EXEC_AWAY, random_next(&seed) % 64, random_next(&seed) % 64, 9,
           random_next(&seed) % 64, own_frame(), handle << 48 | n << 32 | EXO_PAGE);
}

static void hand_random(void)
{
    for (int i = 0; i < 100; i++)
        server(OP_EXEC_AWAY, random_next(&seed) % 9000, random_next(&seed) % 9000,
               random_next(&seed) % 9000, random_next(&seed) % 9000,
               random_next(&seed) % 2 ? own_frame() : random_next(&seed),
               random_next(&seed) % 4 << 48 | random_next(&seed) % 9000 << 32 |
                   random_next(&seed) % 32 * EXO_PAGE);
}

static void spoil_library(void) { spoil(DATA, DATA_WORDS); }
static void spoil_window(void) { spoil(WINDOW, WINDOW_WORDS); }

static void spoil_forever(void)
{
    spoil_library();
    for (;;)
        ;
}

static void no_upcalls(void)
{
    if (!other) exo_thread_set(0, EXO_SET_UPCALL, 0x1000, 0x1000);
    for (;;)
        ;
}

static void no_gate(void)
{
    if (!other) exo_cap_delete(GATE);
    _exit(1);
}

static void crash(void) { server(OP_CRASH, SIGSEGV, 1, 2, 0, 0, 0); }
static void wait_for_nobody(void) { server(OP_VFORK_WAIT, 1, 0, 0, 0, 0, 0); }
static void no_end(void)
{
    for (;;)
        ;
}

/* The server takes this thread for another process's, and its library does not know it. */
static void unknown(void)
{
    server(OP_FORK, BORROW, 0, SIGCHLD, 0, 0, 0);
    if (random_next(&seed) % 2) (void)!fork();
    if (random_next(&seed) % 2) execl("/bin/true", "true", (char *)NULL);
    if (random_next(&seed) % 2) kill(getpid(), SIGKILL);
}

static void (*worst)(void);

static void in_borrowed(void)
{
    int status;
    setpgid(0, 0);
    pid_t pid = vfork();
    if (pid == 0) {
        worst();
        _exit(0);
    }
    waitpid(pid, &status, 0);
}

/* Whether it ends when it is killed, child and parent. */
static bool run(void (*what)(void), void (*child)(void), int ms)
{
    worst = child;
    random_next(&seed);
    pid_t pid = fork();
    if (pid == 0) {
        what();
        _exit(0);
    }
    bool gone = false;
    for (int64_t end = test_now_ms() + ms; test_now_ms() < end && !gone; test_sleep_ms(1))
        gone = waitpid(pid, NULL, WNOHANG) == pid;
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
    for (int64_t end = test_now_ms() + 5000; test_now_ms() < end && !gone; test_sleep_ms(1))
        gone = waitpid(pid, NULL, WNOHANG) == pid;
    for (int64_t end = test_now_ms() + 5000; test_now_ms() < end && gone; test_sleep_ms(1))
        if (kill(-pid, 0) < 0) return true;
    return false;
}

static void test_worst(void)
{
    static const struct {
        const char *name;
        void (*child)(void);
    } all[] = {{"hand_random", hand_random},
               {"spoil_library", spoil_library},
               {"spoil_window", spoil_window},
               {"spoil_forever", spoil_forever},
               {"no_upcalls", no_upcalls},
               {"no_gate", no_gate},
               {"crash", crash},
               {"no_end", no_end},
               {"wait_for_nobody", wait_for_nobody}};
    for (unsigned i = 0; i < COUNT(all); i++) {
        bool good = true;
        for (int time = 0; time < 5; time++)
            good = good && run(in_borrowed, all[i].child, 40);
        test_verdict(good && hostile_all_well(), all[i].name, "it ends, and others go on",
                     __LINE__);
    }
    bool good = true;
    for (int time = 0; time < ROUNDS / 10; time++)
        good = good && run(in_borrowed, hand_anything, 40);
    CHECK("hand_anything", good && hostile_all_well());
    for (int time = 0; time < ROUNDS / 10; time++)
        good = good && run(unknown, NULL, 40);
    CHECK("unknown", good && hostile_all_well());
}

/* A parent, or a child, or both, killed at any moment. */
static bool killed_anytime(void)
{
    bool good = true;
    for (int i = 0; i < ROUNDS && good; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            setpgid(0, 0);
            for (;;) {
                pid_t child = vfork();
                if (child == 0) {
                    execl("/bin/true", "true", (char *)NULL);
                    _exit(1);
                }
                waitpid(child, NULL, 0);
            }
        }
        for (uint64_t n = random_next(&seed) % 40000; n--;)
            __asm__ volatile("pause");
        if (i % 3) test_sleep_ms(i % 4);
        kill(i % 2 ? pid : -pid, SIGKILL);
        kill(pid, SIGKILL);
        int status;
        good = waitpid(pid, &status, 0) == pid && WIFSIGNALED(status);
    }
    return good;
}

int main(void)
{
    test_begin("borrow");
    test_directory();
    other = exo_null() == -ENOSYS;
    refused = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    hostile_all_well();
    long before = hostile_free_kib();
    worst = lies;
    test_child(in_borrowed);
    CHECK("lies", refused[0] == 0 && refused[1] == 47 && hostile_all_well());
    lies_alone();
    CHECK("lies_alone", refused[0] == 0 && refused[1] == 49 && hostile_all_well());
    test_worst();
    CHECK("killed_anytime", killed_anytime() && hostile_all_well());
    CHECK("given_back", hostile_given_back(before, 1024));
    CHECK("all_well", hostile_all_well());
    return test_end();
}
