#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plants each bug of vm.list in the kernel and shows that tests/vmboot notices it.

    vm.py [--only NAME]

"PASS mutant NAME refused (how)" when a test failed, the kernel panicked or did not come to
the end; else "FAIL mutant NAME survived". Needs build/vmtest.cpio.
"""
import argparse
import os
import shutil
import subprocess
import sys

sys.path.insert(0, "tools")
import emu  # noqa: E402

LIST = "tests/mutants/vm.list"
TREE = "build/mutants/vm"  # a copy of what the kernel is made from
KERNEL = TREE + "/build/debug/kernel.elf"
ISO = TREE + "/vmtest.iso"
ARCHIVE = "build/vmtest.cpio"
INTEL = ["--iso", ISO, "--bochs", "corei7_icelake_u", "--memory", "128M"]
AMD = ["--kernel", KERNEL, "--archive", ARCHIVE, "--memory", "128M"]
MACHINES = {"intel": INTEL, "intel-2": INTEL + ["--cpus", "2"],
            "amd": AMD, "amd-2": AMD + ["--cpus", "2"]}
SECONDS = 150


def mutants():
    """Reads the list: (name, file, machine, old text, new text)."""
    with open(LIST, encoding="ascii") as source:
        parts = source.read().split("\n== ")[1:]
    for part in parts:
        head, *lines = part.rstrip("\n").split("\n")
        name, file, machine = head.split()
        old = "".join(line[1:] + "\n" for line in lines if line.startswith("-"))
        new = "".join(line[1:] + "\n" for line in lines if line.startswith("+"))
        yield name, file, machine, old, new


def build(machine):
    subprocess.run(["make", "-s", "-C", TREE, "build/debug/kernel.elf"], check=True,
                   stdout=subprocess.DEVNULL)
    if machine.startswith("intel"):
        subprocess.run(["tools/iso.sh", ISO, KERNEL, ARCHIVE], check=True)


def run(machine):
    """What was wrong, or None. The first failure ends it."""
    try:
        output = emu.run(emu.arguments(MACHINES[machine] + [
            "--until", "\nFAIL ", "--timeout", str(SECONDS), "--quiet"]))
    except emu.Failure as failure:
        reason, output = failure.args
        return None if "TESTS DONE" in output and "PANIC" not in output else reason
    return output[output.index("\nFAIL ") + 6:].splitlines()[0][:60]


def survives(file, machine, old, new):
    """Builds and runs it with that file changed; how it was refused, or None."""
    path = os.path.join(TREE, file)
    with open(path, encoding="ascii") as source:
        text = source.read()
    if old and text.count(old) != 1:
        sys.exit(f"FAIL mutants: these lines are not once in {file}:\n{old}")
    try:
        with open(path, "w", encoding="ascii") as source:
            source.write(text.replace(old, new, 1) if old else text)
        build(machine)
        return run(machine)
    finally:
        with open(path, "w", encoding="ascii") as source:
            source.write(text)


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only")
    options = parser.parse_args(argv)
    shutil.rmtree(TREE, ignore_errors=True)
    for directory in ("abi", "kernel", "libos", "tools"):
        shutil.copytree(directory, os.path.join(TREE, directory))
    shutil.copy("Makefile", TREE)
    failed = 0
    for name, file, machine, old, new in mutants():
        if options.only not in (None, name):
            continue
        how = survives(file, machine, old, new)
        failed += (how is None) != (name == "none")
        verdict = "PASS" if (how is None) == (name == "none") else "FAIL"
        print(f"{verdict} mutant {name}", f"refused ({how})" if how else "survived", flush=True)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
