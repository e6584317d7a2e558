/* SPDX-License-Identifier: MIT
 *
 * The tests inside the system: which there are, and the functions that children of this
 * program run. arguments: names of tests to run (default: all). */
#include "tests.h"

const struct kid_function kid_functions[] = {
    {"echo", kid_echo},
    {"spin", kid_spin},
    {"exit7", kid_exit7},
    {"ud2", kid_ud2},
    {"fault_in_handler", kid_fault_in_handler},
    {"hostile_pointers", kid_hostile_pointers},
    {"pager_fifo", kid_pager_fifo},
    {"pager_clock", kid_pager_clock},
    {"pager_mru", kid_pager_mru},
    {"gives", kid_gives},
    {"ignores", kid_ignores},
    {"tables", kid_tables},
    {"hold", kid_hold},
    {"call", kid_call},
    {"fuzz", kid_fuzz},
    {"own_frames", kid_own_frames},
    {"faults", kid_faults},
    {"handler_faults", kid_handler_faults},
    {"writes", kid_writes},
    {"sends", kid_sends},
    {"works", kid_works},
    {"owns", kid_owns},
    {"channel", kid_channel},
    {NULL, NULL},
};

static int run_kid(const char *name)
{
    for (const struct kid_function *k = kid_functions; k->name; k++)
        if (!strcmp(k->name, name)) return (int)k->run();
    return -2;
}

int main(struct exo_startup *start)
{
    if (!strncmp(start->args, "kid ", 4)) return run_kid(start->args + 4);
    probe_init();
    for (size_t size = 2048; size <= 1ul << 20; size *= 2)
        free(malloc(size));
    uint64_t spare = frames(1); /* makes the page tables that most tests need */
    exo_bind(&exo.pool, TEST_VA, 1, MEM, spare, EXO_R);
    exo_unbind(&exo.pool, TEST_VA, 1);
    give_back(spare, 1);
    exo_printf("usertests: %u CPUs, %lu frames\n", start->cpus, exo.pool.count);
    run_tests(cap_tests, start->args);
    run_tests(page_tests, start->args);
    run_tests(thread_tests, start->args);
    run_tests(call_tests, start->args);
    run_tests(device_tests, start->args);
    run_tests(more_tests, start->args);
    run_tests(hostile_tests, start->args);
    run_tests(hostile2_tests, start->args);
    run_tests(point_tests, start->args);
    run_tests(fault_tests, start->args);
    run_tests(stale_tests, start->args);
    run_tests(item_tests, start->args);
    run_tests(error_tests, start->args);
    run_tests(channel_tests, start->args);
    return tests_end("usertests");
}
