/* SPDX-License-Identifier: MIT
 *
 * Makes the servers and gates, is the client of the first call of each chain, and prints
 * the digest. From the kernel's command line: seed=N, turns=N. */
#include "paths.h"

static struct exo_task tasks[TASKS];
static struct exo_child children[SERVERS - TASKS];
static uint64_t bits[SERVERS - TASKS][EXO_POOL_WORDS(SERVER_FRAMES)];

static uint64_t number_read(const char *text)
{
    uint64_t v = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        v = v * 10 + (uint64_t)(*text - '0');
    return v;
}

static uint64_t option(const char *name, uint64_t otherwise)
{
    size_t n = strlen(name);
    for (const char *at = exo.info->command_line; *at; at++)
        if (!strncmp(at, name, n)) return number_read(at + n);
    return otherwise;
}

static void task_main(void *argument)
{
    uint64_t index = (uint64_t)argument;
    server_loop(index, 0, tasks[index].sel);
}

static long task_begin(unsigned i)
{
    long r = exo_task_make(&tasks[i], exo.start.cpu);
    if (r >= 0)
        r = exo_thread_set(tasks[i].sel, EXO_SET_UPCALL, (uint64_t)path_upcall, tasks[i].upcall_sp);
    return r;
}

static long child_begin(unsigned i, uint64_t frame)
{
    struct exo_child *c = &children[i];
    char args[32];
    exo_format(args, sizeof(args), "server %u", TASKS + i);
    long r = exo_child_make(c, &exo.pool, SERVER_FRAMES, 1, exo.start.cpu, 0, bits[i]);
    if (r >= 0) r = exo_child_image(c, args);
    if (r >= 0) r = exo_child_give(c, exo.start.sel_memory, EXO_R | EXO_W, frame, 1);
    if (r >= 0) r = exo_bind(&c->pool, SHARED_VA, 1, (uint32_t)r, frame, EXO_R | EXO_W);
    return r;
}

/* Gates of all servers into all envs, each with its badge; one that may not be called. */
static long gates_make(void)
{
    for (unsigned server = 0; server <= SERVERS; server++) {
        unsigned s = server % SERVERS, rights = server < SERVERS ? EXO_GATE_CALL : 0;
        uint32_t thread = s < TASKS ? tasks[s].sel : children[s - TASKS].thread;
        long plain = exo_sel_alloc(), own = exo_sel_alloc();
        long r = exo_gate_make((uint64_t)plain, thread, (uint64_t)path_gate, 0);
        if (r >= 0) r = exo_cap_derive((uint64_t)plain, (uint64_t)own, rights, badge_of(0, s), 1);
        SHARED->gate[0][server] = (uint32_t)own;
        for (unsigned e = 1; e < ENVS && r >= 0; e++) {
            r = exo_child_give(&children[e - 1], (uint32_t)plain, rights, badge_of(e, s), 1);
            SHARED->gate[e][server] = (uint32_t)r;
        }
        if (r < 0) return r;
    }
    return 0;
}

static long prepare(void)
{
    long frame = exo_map(SHARED_VA, 1, EXO_R | EXO_W), r = frame;
    SHARED->random = option("seed=", 1) * 0x9e3779b97f4a7c15ul | 1;
    for (unsigned i = 0; i < TASKS && r >= 0; i++)
        r = task_begin(i);
    for (unsigned i = 0; i < SERVERS - TASKS && r >= 0; i++)
        r = child_begin(i, (uint64_t)frame);
    if (r >= 0) r = gates_make();
    for (unsigned i = 0; i < TASKS && r >= 0; i++)
        r = exo_task_start(&tasks[i], task_main, (void *)(uint64_t)i);
    for (unsigned i = 0; i < SERVERS - TASKS && r >= 0; i++)
        r = exo_child_start(&children[i]);
    return r;
}

static int child_main(const char *args)
{
    uint64_t index = number_read(args);
    exo_thread_set(0, EXO_SET_UPCALL, (uint64_t)path_upcall,
                   EXO_UPCALL_STACK_VA + EXO_UPCALL_STACK_PAGES * EXO_PAGE - 16);
    server_loop(index, index - TASKS + 1, exo.start.sel_thread);
    return 1;
}

static void verdict(uint64_t turns)
{
    const struct shared *s = SHARED;
    exo_printf("paths: %lu turns, %lu calls, %lu replies, %lu too deep, %lu upcalls, %lu traps\n",
               turns, s->calls, s->replies, s->depth_errors, s->upcalls, s->traps);
    bool reached = s->replies > turns / 4 && s->depth_errors && s->upcalls > turns / 4 && s->traps;
    if (s->wrong || !reached)
        exo_printf("FAIL paths %lu things are wrong%s\n", s->wrong,
                   reached ? "" : ", and too little happened");
    else
        exo_printf("PASS paths\n");
    exo_printf("DIGEST %lx\nTESTS DONE\n", s->digest);
}

int main(struct exo_startup *start)
{
    if (!strncmp(start->args, "server ", 7)) return child_main(start->args + 7);
    long r = prepare();
    if (r < 0) {
        exo_printf("FAIL paths cannot begin: %s\nTESTS DONE\n", exo_strerror(r));
        return 1;
    }
    uint64_t turns = option("turns=", 3000);
    exo_event_wait(1ul << 50, exo_in_us(100000)); /* every server waits now */
    exo_thread_set(0, EXO_SET_UPCALL, (uint64_t)path_upcall,
                   EXO_UPCALL_STACK_VA + EXO_UPCALL_STACK_PAGES * EXO_PAGE - 16);
    local_init(DRIVER, 0, exo.start.sel_thread);
    for (uint64_t i = 0; i < turns; i++)
        turn(local_of(), 0);
    exo_event_wait(1ul << 50, exo_in_us(100000)); /* and again */
    for (unsigned i = 0; i < SERVERS; i++)
        note(SHARED->apart[i]);
    verdict(turns);
    return SHARED->wrong != 0;
}
