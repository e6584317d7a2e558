#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the benchmarks in QEMU, where the time-stamp counter counts executed
instructions, and puts them beside the best peer: build/bench.tsv.

The figures come from the release kernel; the numbers of address-space switches and
of kernel entries from the one that is built to count them."""
import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LINE = re.compile(r"bench (\w+) (\d+) (\S+) switches=(\d+) crossings=(\d+)\s*$")


def run(variant):
    """Benchmark name -> (value, unit, switches, crossings)."""
    command = [sys.executable, os.path.join(TOP, "tools/emu.py"),
               "--kernel", os.path.join(TOP, f"build/{variant}/kernel.elf"),
               "--archive", os.path.join(TOP, "build/bench.cpio"),
               "--icount", "--cpu", "max,-erms,-fsrm", "--until", "BENCH DONE",
               "--timeout", "240"]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            check=False, text=True)
    rows = {}
    for line in result.stdout.splitlines():
        match = LINE.match(line)
        if match:
            rows[match[1]] = (int(match[2]), match[3], int(match[4]), int(match[5]))
    if "BENCH DONE" not in result.stdout or not rows:
        sys.exit(f"bench: the {variant} kernel did not end its benchmarks:\n{result.stdout}")
    return rows


def peers():
    best = {}
    with open(os.path.join(TOP, "bench/peers.tsv"), encoding="ascii") as file:
        for line in file:
            parts = line.rstrip("\n").split("\t")
            if not line.startswith("#") and len(parts) == 3:
                best[parts[0]] = (int(parts[1]), parts[2])
    return best


def main():
    figures, counts, best = run("release"), run("counting"), peers()
    path = os.path.join(TOP, "build/bench.tsv")
    with open(path, "w", encoding="ascii") as file:
        file.write("name\tvalue\tunit\tswitches\tcrossings\tpeer\tbest peer\tratio\n")
        for name, (value, unit, _, _) in figures.items():
            _, _, switches, crossings = counts.get(name, (0, "", 0, 0))
            peer, who = best.get(name, (0, ""))
            ratio = f"{value / peer:.2f}" if peer else ""
            file.write(f"{name}\t{value}\t{unit}\t{switches}\t{crossings}\t{peer or ''}\t{who}"
                       f"\t{ratio}\n")
            print(f"{name:24} {value:8} {unit:18} {switches:3} {crossings:4}  "
                  f"{peer or '':>6} {who:16} {ratio}")
    print(f"written to {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
