#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plants each bug of paths.list in kernel/x86/entry.S and shows that tests/pathboot
notices it.

    paths.py [--quick] [--only NAME]

The digest of the slow paths (slow=1) of the kernel as it is stands for what is right.
A mutant kernel whose fast paths give another digest, or that fails, panics or does not
end, is refused: "PASS mutant NAME refused (how)", else "FAIL mutant NAME survived".
--quick: the first few only. Needs build/debug/kernel.elf and build/paths.cpio.
"""
import argparse
import glob
import os
import re
import subprocess
import sys

sys.path.insert(0, "tools")
import emu  # noqa: E402

LIST = "tests/mutants/paths.list"
SOURCE = "kernel/x86/entry.S"
MACROS = "kernel/x86/macros.h"
BUILD = "build/mutants/paths"
KERNEL = "build/debug/kernel.elf"
KERNEL_C = "build/debug/kernel.o"  # all C of it
OBJECTS = "build/debug/kernel"
FLAGS = ["-DEXO_DEBUG", "-Ibuild/debug/gen", "-Ikernel/x86", "-Ikernel/core", "-Ibuild/gen",
         "-ffreestanding", "-mno-red-zone", "-fpie"]
LINK = ["ld", "-static", "-nostdlib", "-no-pie", "-z", "max-page-size=4096", "-z",
        "noexecstack", "--no-warn-rwx-segments", "--build-id=none", "-T", "kernel/x86/kernel.ld"]
QUICK = 6
SECONDS = 8
DIGEST = re.compile(r"^DIGEST ([0-9a-f]+)", re.MULTILINE)


def mutants():
    """Reads the list: (name, old text, new text)."""
    with open(LIST, encoding="ascii") as source:
        parts = source.read().split("\n== ")[1:]
    for part in parts:
        name, *lines = part.rstrip("\n").split("\n")
        old = "".join(line[1:] + "\n" for line in lines if line.startswith("-"))
        new = "".join(line[1:] + "\n" for line in lines if line.startswith("+"))
        yield name, old, new


def source_text():
    """entry.S with its macros in it."""
    with open(SOURCE, encoding="ascii") as file, open(MACROS, encoding="ascii") as macros:
        return file.read().replace('#include "macros.h"\n', macros.read())


def build(name, text):
    """The kernel with this entry.S."""
    source = os.path.join("kernel/x86", f".mutant-{os.getpid()}.S")  # beside what it includes
    objects = [KERNEL_C] + [o.replace("kernel/x86", OBJECTS + "/x86").replace(".S", ".o")
                            for o in glob.glob("kernel/x86/*.S") if not o.endswith("/entry.S")]
    mutant = os.path.join(BUILD, name + ".o")
    kernel = os.path.join(BUILD, name + ".elf")
    try:
        with open(source, "w", encoding="ascii") as file:
            file.write(text)
        subprocess.run(["gcc", *FLAGS, "-c", "-o", mutant, source], check=True)
    finally:
        os.remove(source)
    subprocess.run([*LINK, "-o", kernel, mutant, *objects], check=True)
    return kernel


def run(kernel, append):
    """(digest or None, what was wrong or None)"""
    options = ["--kernel", kernel, "--archive", "build/paths.cpio", "--memory", "64M",
               "--append", append, "--until", "TESTS DONE", "--timeout", str(SECONDS), "--quiet"]
    try:
        output = emu.run(emu.arguments(options))
    except emu.Failure as failure:
        return None, failure.args[0]
    digest = DIGEST.search(output)
    if "FAIL" in output or digest is None:
        return None, "the program saw it"
    return digest.group(1), None


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only")
    options = parser.parse_args(argv)
    os.makedirs(BUILD, exist_ok=True)
    text = source_text()
    right, wrong = run(KERNEL, "turns=1500 slow=1")
    if wrong:
        sys.exit(f"FAIL mutants of paths: {KERNEL} itself: {wrong}")
    chosen = [m for m in mutants() if options.only in (None, m[0])]
    failed = 0
    for name, old, new in [("none", "", "")] + chosen[:QUICK if options.quick else None]:
        if old and text.count(old) == 0:
            print(f"FAIL mutant {name}: its lines are not in {SOURCE}")
            failed += 1
            continue
        digest, how = run(build(name, text.replace(old, new, 1)), "turns=1500")
        if how is None and digest != right:
            how = "another digest"
        good = (how is None) == (name == "none")
        failed += not good
        verdict = "PASS" if good else "FAIL"
        print(f"{verdict} mutant {name}", f"refused ({how})" if how else "survived", flush=True)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
