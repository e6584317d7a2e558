/* SPDX-License-Identifier: MIT
 *
 * Processes that copy the capabilities of memory which they then give back, with calls of the
 * exokernel and of the server below their library (libos/linux/proto.h): its own, and what it
 * inherited or was lent by its parent. The copies must be gone with the memory, or others' could
 * be read and written through them. On Linux these calls do not exist, and nothing can be kept. */
#include "hostile.h"
#include "../../../abi/exo.h"
#include "../../../build/gen/exo_stubs.h"

#define GATE 32 /* LX_SEL_THREAD: of the first thread */
#define EXTENT 128 /* LX_SEL_EXTENT */
#define OP_EXTENT 0x1000
#define OP_GIVE 0x1001
#define FOR_OBJECTS 1 /* LX_FOR_OBJECTS */
#define OP_EXEC 0x1003
#define INDEX 100 /* of an extent that the library has no use for */
#define COPY (EXTENT + 110)
#define FRAMES 16
#define VA 0x200000000000ul /* page tables are missing here: binding says so if it comes that far */
#define RIGHTS (EXO_R | EXO_W | EXO_X)
#define COPIES (EXTENT + 112) /* of what a child inherited: 16 at most */
#define UPCALL ((const volatile struct exo_upcall_page *)0x7ffff80c0000ul) /* of the first thread */
#define KEPT 3 /* exit statuses of a child and of what it executes */
#define NOTHING_COPIED 4

static long server(long op, long a0, long a1, long a2)
{
    register long rdi __asm__("rdi") = GATE;
    register long rsi __asm__("rsi") = op;
    register long rdx __asm__("rdx") = a0;
    register long r8 __asm__("r8") = a1;
    register long r9 __asm__("r9") = a2;
    register long r10 __asm__("r10") = 0;
    long rax = EXO_CALL_call;
    __asm__ volatile(
        "push %%rbx; push %%rbp; xor %%ebx, %%ebx; xor %%ebp, %%ebp; syscall; pop %%rbp;"
        "pop %%rbx"
        : "+a"(rax), "+r"(rdi), "+r"(rsi), "+r"(rdx), "+r"(r8), "+r"(r9), "+r"(r10)
        :
        : "rcx", "r11", "r12", "r13", "r14", "r15", "memory");
    return rax < 0 ? rax : rsi;
}

static bool is_frames(unsigned sel) { return (exo_cap_info(sel) & 0xff) == EXO_FRAMES; }

static uint64_t parents[INDEX]; /* first frames of the extents that the parent has */

/* Copies what the calling process has of its parent's memory: how much it was. */
static unsigned copies_make(void)
{
    unsigned made = 0;
    for (unsigned i = 0; i < INDEX && made < 16; i++) {
        if (!is_frames(EXTENT + i)) continue;
        uint64_t base = UPCALL->list[0].va, count = UPCALL->list[0].frame;
        if (base != parents[i]) continue; /* its own */
        made += exo_cap_copy(EXTENT + i, COPIES + made, RIGHTS, base, count) == 0;
    }
    return made;
}

/* In what a child has executed. */
static int copies_left(void)
{
    for (unsigned i = 0; i < 16; i++)
        if (is_frames(COPIES + i)) return KEPT;
    return 0;
}

/* The exit status of a child that copies what it has of ours, and executes `program`. */
static int child_keeps(pid_t (*make)(void), const char *program, bool other)
{
    int status = -1;
    for (unsigned i = 0; i < INDEX; i++)
        parents[i] = is_frames(EXTENT + i) ? UPCALL->list[0].va : 0;
    pid_t pid = make();
    if (pid == 0) {
        if (!other && !copies_make()) _exit(NOTHING_COPIED);
        execl(program, program, "left", NULL);
        _exit(127);
    }
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static volatile int touched;

/* A child of vfork that says it executes, and goes on in our memory: 0 it could not, and ended;
 * NOTHING_COPIED: it was refused. */
static int child_stays(bool other)
{
    int status = -1;
    pid_t pid = vfork();
    if (pid == 0) {
        access("/", F_OK); /* its path lies in the window then, for the next call, too */
        if (!other && server(OP_EXEC, 0, 0, 0) < 0) _exit(NOTHING_COPIED);
        if (!other) touched = 1;
        _exit(0);
    }
    bool ended = waitpid(pid, &status, 0) == pid;
    return !ended || touched ? KEPT : WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

/* Takes all frames for page tables that it gets. */
static void objects_take(void)
{
    for (long i = 20; i < EXTENT - 1; i++)
        for (long n = 512; n && server(OP_EXTENT, n, i, FOR_OBJECTS) <= 0; n /= 2)
            ;
}

static void test_hoard(bool other)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (!other) objects_take();
        pause();
    }
    test_sleep_ms(500);
    CHECK("hoard", hostile_all_well());
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
    if (argc > 1) return exo_null() == -ENOSYS ? 0 : copies_left();
    test_begin("keep");
    bool other = exo_null() == -ENOSYS; /* no exokernel below: nothing to be kept */
    long frame = other ? 0 : server(OP_EXTENT, FRAMES, INDEX, 0);
    uint64_t f = (uint64_t)frame;
    CHECK("extent", other || frame > 0);
    CHECK("copied", other || exo_cap_copy(EXTENT + INDEX, COPY, RIGHTS, f, FRAMES) == 0);
    CHECK("copy_holds", other || exo_page_bind(0, VA, 1, COPY, f, RIGHTS) == -EXO_E_NOPT);
    CHECK("given_back", other || server(OP_GIVE, INDEX, 0, 0) == 0);
    CHECK("copy_is_gone", other || exo_page_bind(0, VA, 1, COPY, f, RIGHTS) == -EXO_E_SEL);
    CHECK("not_twice", other || server(OP_GIVE, INDEX, 0, 0) < 0);
    char *memory = malloc(1 << 20);
    memset(memory, 1, 1 << 20);
    CHECK("inherited", child_keeps(fork, argv[0], other) == 0);
    CHECK("borrowed", child_keeps(vfork, argv[0], other) == 0);
    CHECK("stays_borrowed", child_stays(other) == (other ? 0 : NOTHING_COPIED));
    timer_t timer; /* with one, a child of vfork has an env of its own */
    CHECK("timer", timer_create(CLOCK_MONOTONIC, NULL, &timer) == 0);
    CHECK("lent", child_keeps(vfork, argv[0], other) == 0);
    CHECK("stays", child_stays(other) == 0);
    bool same = true;
    for (size_t i = 0; i < 1 << 20; i += 4096)
        same &= memory[i] == 1;
    CHECK("memory_is_same", same);
    free(memory);
    test_hoard(other);
    CHECK("all_well", hostile_all_well());
    return test_end();
}
