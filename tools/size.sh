#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Prints the size of everything that runs privileged in a release, and fails beyond the
# budget: size.sh LINES. Counted apart: the checks that only debug builds run, and the
# file that only tells the assembler the offsets of structures. Told besides: how much of it
# is in files that only virtual machines need.
set -eu
budget=$1
checks="kernel/core/invariants.c kernel/x86/check.c"
constants="kernel/x86/offsets.c"
machines="kernel/core/vm.c kernel/core/vm.h kernel/core/vm_check.c kernel/x86/backend.h kernel/x86/vm.c
  kernel/x86/vmenter.S kernel/x86/svm.c kernel/x86/svm.h kernel/x86/vmx.c kernel/x86/vmx.h"
if ! command -v cloc >/dev/null; then
    echo "size.sh: cloc is missing (apt install cloc): the kernel's size was not checked" >&2
    exit 0
fi
count() {
    cloc --quiet --csv "$@" | awk -F, '$2 == "SUM" || !sum { sum = $5 } END { print sum }'
}
all=$(count kernel abi/exo.h)
debug=$(count $checks)
made=$(count $constants)
lines=$((all - debug - made))
vm=$(count $machines)
echo "kernel: $lines lines of code, of at most $budget ($vm for virtual machines alone; $debug more of debug checks, $made of offsets)"
if [ "$lines" -gt "$budget" ]; then
    echo "size.sh: the kernel is $((lines - budget)) lines too large" >&2
    exit 1
fi
