#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures Linux programs, in executed instructions, on exovisor's Linux library OS and on
Debian's kernel on the bare emulator: the same root file system, the same files.

    linux.py [--verdicts] [--debian|--exovisor]

    --verdicts   only a line PASS or FAIL for each bar
    --debian     only that side, without verdicts; --exovisor likewise

The programs are bench/linux/primitives.c, and busybox's applets in bench/linux/workload.
Needs `make` and tests/libos/Makefile's programs. Writes build/bench-linux.tsv; with --verdicts
it fails if a row is not ahead of Linux by its bar, or was not measured."""
import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tools"))
import linux  # noqa: E402

ROOT = "build/linux/bench.cpio"
LINE = re.compile(r"^(\w+) (\d+)$", re.MULTILINE)
RIGHT = re.compile(r"^workload right: .*$", re.MULTILINE)
# Primitives: 5 times ahead of Linux, 3 where pages have to be cleared or copied (a child's stack
# and data, a new program's) or a large program starts.
ROWS = {  # name: (ahead of Linux by so much, aim in instructions)
    "getppid": (5, 50),
    "read_zero_1b": (5, 120),
    "write_null_1b": (5, 120),
    "stat": (5, 700),
    "open_close": (5, 1200),
    "pipe_round_trip": (5, 1500),
    "pipe_64k": (3, 25000),
    "signal_install": (2, None),  # the C library's own 140 instructions are on both sides
    "signal_roundtrip": (5, 500),
    "fork_exit_wait": (3, 35000),
    "fork_exec_wait": (3, 55000),
    "vfork_exec_wait": (3, 28000),
    "fork_exec_sh": (3, 200000),
    "futex_ping_pong": (5, 1500),
    "pthread_create_join": (5, 12000),
    "mmap_touch_unmap": (3, 2500),
    "zero_fault": (3, 900),
    "cow_fault": (3, 1200),
    "cp_r": (2, None),
    "rm_r": (2, None),
    "tar_c": (2, None),
    "tar_x": (2, None),
    "find": (2, None),
    "ls_lR": (2, None),
    "cat_2m": (2, None),
    "true_100": (2, None),
    "wc_2m": (1, None),
    "gzip": (1, None),
    "gunzip": (1, None),
    "sort": (1, None),
    "sha256sum": (1, None),
}


def make_root():
    subprocess.run(["make", "-s", "-C", "tests/libos"], check=True, stdout=sys.stderr)
    subprocess.run(["tools/guest.sh"], check=True, stdout=sys.stderr)
    subprocess.run(["tools/linux-root.sh", ROOT, "bench=build/linux/bench"], check=True)


def measure(side):
    """Name -> instructions; and the line that says that the workloads did their work."""
    try:
        text, status = linux.run(side, ROOT, ["sh", "/bench/all"], timeout=300, icount=True,
                                 release=True)
    except linux.Failure as failure:
        print(f"bench: {side}: {failure.args[0]}:\n{failure.args[1][-2000:]}", file=sys.stderr)
        text, status = failure.args[1].replace("\r", ""), 3
    for line in text.splitlines():
        if line.startswith("# "):
            print(f"bench: {side}: {line[2:]}", file=sys.stderr)
    right = RIGHT.search(text)
    if status != 0 or not right:
        print(f"bench: {side}: the workloads did not end right", file=sys.stderr)
    figures = {name: int(value) for name, value in LINE.findall(text) if name in ROWS}
    return figures, right[0] if right else ""


def one_side(side):
    figures, right = measure(side)
    for name in ROWS:
        print(f"bench linux_{name} {side} {figures.get(name, 'not measured')}")
    return 0 if len(figures) == len(ROWS) and right else 1


def show(ours, theirs, verdicts, file):
    """Prints and writes the rows; how many are behind their bars."""
    behind = 0
    for name, (bar, aim) in ROWS.items():
        mine, other = ours.get(name), theirs.get(name)
        if not mine or not other:
            behind += 1
            print(f"FAIL bench linux_{name} was not measured")
            continue
        good = mine * bar <= other
        behind += not good
        if verdicts:
            print(f"{'PASS' if good else 'FAIL'} bench linux_{name} {mine},"
                  f" to be at most {other // bar}")
        else:
            print(f"bench linux_{name} {mine}  Debian {other}: {other / mine:.1f} times"
                  f"  bar {bar}{'' if good else ' not reached'}"
                  + (f"  aim {aim}{'' if mine <= aim else ' not reached'}" if aim else ""))
        file.write(f"{name}\t{mine}\t{other}\t{other / mine:.2f}\t{bar}\t{aim or ''}\n")
    return behind


def main(argv):
    os.chdir(TOP)
    make_root()
    for side in linux.SIDES:
        if "--" + side in argv:
            return one_side(side)
    theirs, right = measure("debian")
    ours, same = measure("exovisor")
    with open("build/bench-linux.tsv", "w", encoding="ascii") as file:
        file.write("name\texovisor\tdebian\tratio\tbar\taim\n")
        behind = show(ours, theirs, "--verdicts" in argv, file)
    if not right or right != same:
        behind += 1
        print(f"FAIL bench linux_workloads gave '{same}' instead of '{right}'")
    return 1 if behind and "--verdicts" in argv else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
