#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the benchmarks in QEMU, where the time-stamp counter counts executed
instructions, and puts them beside the best peer: build/bench.tsv.

    run.py [--verdicts]     --verdicts: only a line PASS or FAIL for each bar

The figures come from the release kernel; the numbers of address-space switches, of
kernel entries (crossings) and of TLB flushes from the one that is built to count them.
It fails if a figure is not ahead of its peer by the factor in peers.tsv."""
import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LINE = re.compile(r"bench (\w+) (\d+) (\S+) switches=(\d+) crossings=(\d+) flushes=(\d+)\s*$")


def run(variant):
    """Benchmark name -> (value, unit, switches, crossings, flushes)."""
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
            rows[match[1]] = (int(match[2]), match[3], *map(int, match.groups()[3:]))
    if "BENCH DONE" not in result.stdout or not rows:
        sys.exit(f"bench: the {variant} kernel did not end its benchmarks:\n{result.stdout}")
    return rows


def peers():
    """Benchmark name -> (peer's figure, peer, factor, aim or None)."""
    best = {}
    with open(os.path.join(TOP, "bench/peers.tsv"), encoding="ascii") as file:
        for line in file:
            if not line.startswith("#"):
                name, figure, who, factor, aim = line.rstrip("\n").split("\t")
                best[name] = (int(figure), who, int(factor), int(aim) if aim else None)
    return best


def main(argv):
    figures, counts, best = run("release"), run("counting"), peers()
    verdicts = "--verdicts" in argv
    behind = sorted(set(best) - set(figures))
    for name in behind:
        print(f"FAIL bench {name} was not measured")
    path = os.path.join(TOP, "build/bench.tsv")
    with open(path, "w", encoding="ascii") as file:
        file.write("name\tvalue\tunit\tswitches\tcrossings\tflushes\tpeer\tbest peer\tbar\taim\n")
        for name, (value, unit, *_) in figures.items():
            _, _, *count = counts.get(name, (0, "", 0, 0, 0))
            peer, who, factor, aim = best.get(name, (None, "", 1, None))
            bar = peer / factor if peer else None
            if bar is not None and value >= bar:
                behind.append(name)
            if verdicts and bar is not None:
                print(f"{'PASS' if value < bar else 'FAIL'} bench {name} {value} {unit},"
                      f" to be below {bar:.0f}")
            if not verdicts:
                print(f"bench {name} {value} {unit}  switches={count[0]} crossings={count[1]}"
                      f" flushes={count[2]}"
                      + (f"  {who} {peer}: {peer / value:.1f} times" if peer else "")
                      + (f"  aim {aim}{'' if value <= aim else ' not reached'}" if aim else ""))
            columns = [name, value, unit, *count, peer or "", who,
                       f"{bar:.0f}" if bar else "", aim or ""]
            file.write("\t".join(map(str, columns)) + "\n")
    if not verdicts:
        print(f"written to {os.path.relpath(path)}")
    return 1 if behind else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
