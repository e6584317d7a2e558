/* SPDX-License-Identifier: MIT
 *
 * What virtual CPUs exit for, in words: for reports, and for who shows the counters. */
#include "vcpu.h"

const char *reason_name(uint32_t reason)
{
    static const char *const names[] = {"none",
                                        "CPUID",
                                        "HLT",
                                        "port",
                                        "RDMSR",
                                        "WRMSR",
                                        "control register",
                                        "debug register",
                                        "memory",
                                        "hypercall",
                                        "interrupt window",
                                        "NMI window",
                                        "forced",
                                        "XSETBV",
                                        "exception",
                                        "shutdown",
                                        "instruction",
                                        "task switch",
                                        "invalid state",
                                        "refused",
                                        "more",
                                        "other"};
    return reason < EXO_COUNT(names) ? names[reason] : "unknown";
}
