/* SPDX-License-Identifier: MIT
 *
 * The tests of virtual machines, the same for AMD-V and VT-x: the kernel's side of the
 * virtualization fault protocol, seen by a small monitor with tiny guests.
 * arguments: names of tests to run (default: all). */
#include "monitor.h"

int main(struct exo_startup *start)
{
    static const char *const kinds[] = {"no hardware virtualization", "AMD-V", "VT-x"};
    uint32_t kind = exo.info ? exo.info->vm : 0;
    exo_printf("vmtests: %s, %u CPUs\n", kind < 3 ? kinds[kind] : "?", start->cpus);
    if (kind == EXO_VM_NONE) {
        exo_printf("FAIL this CPU has no hardware virtualization that the kernel can use\n");
        return tests_end("vmtests");
    }
    static struct guest warm; /* makes the page tables that the tests need */
    GUEST(halt);
    if (guest_make(&warm, 0, &halt, false) == 0) guest_end(&warm);
    run_tests(run_tests_list, start->args);
    run_tests(state_tests, start->args);
    run_tests(memory_tests, start->args);
    run_tests(event_tests, start->args);
    run_tests(mode_tests, start->args);
    run_tests(wild_tests, start->args);
    return tests_end("vmtests");
}
