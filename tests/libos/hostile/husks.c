/* SPDX-License-Identifier: MIT
 *
 * Processes that end by themselves and leave a trap behind in their env, with calls of the
 * exokernel below their library (abi/calls.list, libos/linux/proto.h): the env may be the next
 * process's (docs/linux.md, husks). That one must find itself as any other does, and nothing may
 * be lost. On Linux these calls do not exist, and no trap can be set. */
#include "hostile.h"
#include "../../../abi/exo.h"
#include "../../../build/gen/exo_stubs.h"

#define FILES 1 /* LX_SEL_* */
#define FAULT 4
#define OBJECTS 5
#define RING 6 /* 6..9 */
#define DATA 16
#define GATE 32
#define EXTENT 128
#define FREE 120 /* selectors that nobody uses: from here on, and ... */
#define HIGH 240 /* ... from here on */
#define UPCALL ((volatile struct exo_upcall_page *)0x7ffff80c0000ul)
#define LIB_UPCALL 0x7ffff8200010ul /* LX_LIB_UPCALL; its stack ends at: */
#define LIB_STACK 0x7ffff80c5000ul
#define SHARED 0x7ffff80bf000ul
#define LAST_DATA 0x7ffff818f000ul /* the last page of the library's data at first */
#define HOLE 0x7ffff81a0000ul /* a place in the library's own area where nothing lies */
#define FAR 0x200000000000ul
#define SPARE 20 /* of the frames for objects: one that the library has not come to */

struct seen { /* what a process finds in its env */
    long info[256];
    uint64_t bindings[2]; /* FAULT, DATA */
    long hole, far;
};
static struct seen *seen; /* shared: by the last one that looked */
static long *unset; /* shared: an error, where a trap could not be set */
static bool other; /* no exokernel below */

static uint64_t first_of(unsigned sel)
{
    if (other) return 0;
    exo_cap_info(sel);
    return UPCALL->list[0].va;
}

static uint64_t bindings_of(unsigned sel)
{
    exo_cap_info(sel);
    return UPCALL->list[1].va;
}

static void look(void)
{
    memset(seen, 0, sizeof *seen);
    if (other) return;
    for (unsigned sel = 1; sel < 256; sel++)
        if (sel < EXTENT || sel >= HIGH) seen->info[sel] = exo_cap_info(sel);
    seen->bindings[0] = bindings_of(FAULT);
    seen->bindings[1] = bindings_of(DATA);
    seen->hole = exo_page_unbind(0, HOLE, 1);
    seen->far = exo_page_unbind(0, FAR, 1) > 0;
}

/* ---- traps: each the last but one thing that a process does --------------------------------- */

static void must(long result)
{
    if (result < 0 && !other) *unset = result;
}

static void nothing(void) {}
static void copy_files(void) { must(exo_cap_copy(FILES, FREE, EXO_R | EXO_X, first_of(FILES), 1)); }
static void derive_data(void)
{
    must(exo_cap_derive(DATA, HIGH, EXO_R | EXO_W, first_of(DATA), 1));
}
static void copy_gate(void) { must(exo_cap_copy(GATE, FREE, EXO_GATE_CALL, 0, 1)); }
static void copy_fault(void) { must(exo_cap_copy(FAULT, HIGH, EXO_EVENT_SIGNAL, ~0ul, 1)); }
static void delete_fault(void) { must(exo_cap_delete(FAULT)); }
static void own_gate(void) { must(exo_gate_make(FREE, 0, 0x400000, 7)); }
static void own_event(void) { must(exo_event_make(HIGH, 0, 0xff)); }

static void copy_extent(void)
{
    unsigned i = EXTENT;
    while (i < HIGH && (exo_cap_info(i) & 0xff) != EXO_FRAMES)
        i++;
    must(exo_cap_copy(i, HIGH, EXO_R | EXO_W, first_of(i), 1));
}

static void bind_twice(void)
{
    must(exo_page_bind(0, HOLE, 1, DATA, first_of(DATA), EXO_R | EXO_W));
}

static void bind_by_copy(void)
{
    must(exo_cap_copy(DATA, FREE, EXO_R | EXO_W, first_of(DATA), 1));
    must(exo_page_bind(0, HOLE, 1, FREE, first_of(DATA), EXO_R | EXO_W));
}

static void bind_file(void) { must(exo_page_bind(0, HOLE, 1, FILES, first_of(FILES), EXO_R)); }

/* Counts are right, the place is not. */
static void bind_elsewhere(void)
{
    must(exo_page_unbind(0, LAST_DATA, 1));
    must(exo_page_bind(0, HOLE, 1, DATA, first_of(DATA), EXO_R | EXO_W));
}

static void bind_other(void)
{
    must(exo_page_unbind(0, SHARED, 1));
    must(exo_page_bind(0, SHARED, 1, FILES, first_of(FILES), EXO_R));
}

static void protect(void) { must(exo_page_protect(0, LAST_DATA, 1, EXO_R)); }
static void unbind(void) { must(exo_page_unbind(0, LAST_DATA, 1)); }

static void tables(void)
{
    for (unsigned level = 3; level; level--)
        must(exo_pt_make(0, FAR, level, OBJECTS, first_of(OBJECTS) + SPARE - level));
}

static void tables_used(void)
{
    tables();
    must(exo_page_bind(0, FAR, 1, FILES, first_of(FILES), EXO_R));
}

static void table_shown(void)
{
    must(exo_page_bind(0, HOLE, 1, OBJECTS, first_of(OBJECTS) + 4, EXO_R));
}

static void object_bound(void)
{
    must(exo_page_bind(0, HOLE, 1, OBJECTS, first_of(OBJECTS) + SPARE, EXO_R | EXO_W));
}

static void env(void) { must(exo_env_make(FREE, OBJECTS, first_of(OBJECTS) + SPARE - 1, 1, 0)); }

static void env_with_gate(void)
{
    env();
    must(exo_cap_copy(GATE, EXO_REF(FREE, 9), EXO_GATE_CALL, 0, 1));
    must(exo_cap_copy(DATA, EXO_REF(FREE, 10), EXO_R | EXO_W, first_of(DATA), 1));
}

static void thread(void) { must(exo_thread_make(FREE, 0, OBJECTS, first_of(OBJECTS) + SPARE, 0)); }

static void thread_runs(void)
{
    thread();
    must(exo_thread_start(FREE, LIB_UPCALL, LIB_STACK, 0));
}

static void upcall(void) { must(exo_thread_set(0, EXO_SET_UPCALL, LIB_UPCALL, LIB_STACK - 64)); }
static void fault(void) { must(exo_thread_set(0, EXO_SET_FAULT, 0, 0)); }
static void receive(void) { must(exo_thread_set(0, EXO_SET_RECEIVE, FREE, 0)); }
static void revoker(void) { must(exo_thread_set(0, EXO_SET_REVOKE, 0, 0)); }
static void slice(void) { must(exo_thread_set(0, EXO_SET_SLICE, EXO_SLOT_US / 2, 0)); }
static void timer(void)
{
    must(exo_timer_set(__builtin_ia32_rdtsc() + 3000000, ~EXO_EVENT_KERNEL));
}

static void events(void)
{
    if (!other) UPCALL->events |= ~0ul;
}

/* The other side of a ring (docs/linux.md) goes on. */
static void copy_ring(void)
{
    int ends[2];
    char byte = 0;
    if (pipe(ends) < 0) return;
    pid_t pid = fork();
    close(ends[pid == 0]);
    if (pid == 0) {
        while (read(ends[0], &byte, 1) == 1)
            ;
        test_sleep_ms(50);
        _exit(0);
    }
    for (unsigned i = 0; i < 64; i++, test_sleep_ms(1))
        if (write(ends[1], &byte, 1) != 1) return;
    unsigned sel = RING;
    while (sel < RING + 3 && (exo_cap_info(sel) & 0xff) != EXO_FRAMES)
        sel++;
    must(exo_cap_copy(sel, FREE, EXO_R | EXO_W, first_of(sel), 1));
    must(exo_page_bind(0, HOLE, 1, FREE, first_of(FREE), EXO_R | EXO_W));
}

static void signal_dies(void)
{
    copy_files();
    signal(SIGTERM, SIG_DFL);
    raise(SIGTERM);
}

static void crash(void)
{
    bind_twice();
    *(volatile int *)FAR = 1;
}

static void killed(void)
{
    derive_data();
    kill(getpid(), SIGKILL);
}

#define TRAP(name)                                                                                 \
    {                                                                                              \
#name, name                                                                                \
    }
static const struct {
    const char *name;
    void (*set)(void);
} traps[] = {TRAP(nothing),        TRAP(copy_files),   TRAP(derive_data),
             TRAP(copy_gate),      TRAP(copy_fault),   TRAP(delete_fault),
             TRAP(own_gate),       TRAP(own_event),    TRAP(copy_extent),
             TRAP(bind_twice),     TRAP(bind_by_copy), TRAP(bind_file),
             TRAP(bind_elsewhere), TRAP(bind_other),   TRAP(protect),
             TRAP(unbind),         TRAP(tables),       TRAP(tables_used),
             TRAP(table_shown),    TRAP(object_bound), TRAP(env),
             TRAP(env_with_gate),  TRAP(thread),       TRAP(thread_runs),
             TRAP(upcall),         TRAP(fault),        TRAP(receive),
             TRAP(revoker),        TRAP(slice),        TRAP(timer),
             TRAP(events),         TRAP(copy_ring),    TRAP(signal_dies),
             TRAP(crash),          TRAP(killed)};

static void (*trap)(void);

/* By a child of vfork, in its parent's env. */
static void trap_borrowed(void)
{
    int status;
    pid_t pid = vfork();
    if (pid == 0) {
        trap();
        _exit(0);
    }
    waitpid(pid, &status, 0);
}

/* What the next process sees, and whether it works. */
static bool looks_like(const struct seen *usual)
{
    return test_child(look) == 0 && memcmp(seen, usual, sizeof *seen) == 0;
}

static void sleeps(void) { test_sleep_ms(5); }

int main(void)
{
    test_begin("husks");
    other = exo_null() == -ENOSYS;
    seen = mmap(NULL, sizeof *seen + sizeof *unset, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unset = (long *)(seen + 1);
    test_child(look);
    test_child(look);
    struct seen usual = *seen;
    CHECK("usual", looks_like(&usual));
    long before = hostile_free_kib();
    for (unsigned i = 0; i < 2 * COUNT(traps); i++) {
        char name[32];
        bool borrowed = i >= COUNT(traps);
        trap = traps[i % COUNT(traps)].set;
        snprintf(name, sizeof name, "%s%s", borrowed ? "borrowed_" : "",
                 traps[i % COUNT(traps)].name);
        if (borrowed && trap == copy_ring) continue; /* a child of vfork has none */
        hostile_run(borrowed ? trap_borrowed : trap, 2000);
        bool same = looks_like(&usual);
        bool works = test_child(sleeps) == 0 && test_child(look) == 0;
        test_verdict(same && works && !*unset, name, "it is set, and the next one is as any",
                     __LINE__);
        *unset = 0;
    }
    CHECK("given_back", hostile_given_back(before, 1024));
    CHECK("all_well", hostile_all_well());
    return test_end();
}
