#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Prints the size of everything that runs privileged and fails beyond the budget:
# size.sh LINES
set -eu
budget=$1
if ! command -v cloc >/dev/null; then
    echo "size.sh: cloc is missing (apt install cloc): the kernel's size was not checked" >&2
    exit 0
fi
lines=$(cloc --quiet --csv kernel abi/exo.h | awk -F, '$2 == "SUM" { print $5 }')
echo "kernel: $lines lines of code, of at most $budget"
if [ "$lines" -gt "$budget" ]; then
    echo "size.sh: the kernel is $((lines - budget)) lines too large" >&2
    exit 1
fi
