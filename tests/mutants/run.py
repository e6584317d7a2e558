#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plants each bug of mutants.list in a copy of kernel/core and shows that it is noticed.

    run.py [--quick] [--only NAME]

First the core's fuzzer is built with the mutant and run for some seeds: an invariant that
breaks, a failed assertion, a crash or no end is a refusal. A mutant that the fuzzer does
not notice goes to the proof. "PASS mutant NAME refused by fuzz|proof (how)" or
"FAIL mutant NAME survived". --quick: the first QUICK mutants marked `quick`, fuzzer only.
"""
import argparse
import concurrent.futures
import glob
import os
import re
import shutil
import signal
import subprocess
import sys

LIST = "tests/mutants/mutants.list"
BUILD = "build/mutants"
BOUNDS = "-fsanitize=bounds-strict"
CFLAGS = ["-std=gnu11", "-g", "-O1", "-DEXO_DEBUG", "-Wno-strict-prototypes", "-fno-strict-aliasing",
          BOUNDS, "-fno-sanitize-recover=all",
          "-Itests/host", "-Ibuild/gen", "-Ikernel/core"]
CORE = "kernel/core"
FUZZER = [f"tests/fuzz/fuzz_{part}.c" for part in ("core", "rules", "vm")]
RUNS = [(1, 12, 1000), (100, 80, 8000)]  # first seed, seeds, steps
SECONDS = 150  # of processor time; longer means that it does not end


def mutants():
    """Reads the list: (name, quick, file, old text, new text)."""
    with open(LIST, encoding="ascii") as source:
        parts = source.read().split("\n== ")[1:]
    for part in parts:
        head, *lines = part.rstrip("\n").split("\n")
        name, path, *flags = head.split()
        old = [line[1:] for line in lines if line.startswith("-")]
        new = [line[1:] for line in lines if line.startswith("+")]
        yield name, "quick" in flags, path, "\n".join(old), "\n".join(new)


def compile_file(path, output):
    return subprocess.run(["gcc", *CFLAGS, "-I" + os.path.dirname(path), "-c", "-o", output, path],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)


def build_common():
    """Objects of all files as they are."""
    os.makedirs(BUILD, exist_ok=True)
    objects = {}
    for path in glob.glob(CORE + "/*.c") + glob.glob("tests/host/*.c") + FUZZER:
        objects[path] = os.path.join(BUILD, os.path.basename(path) + ".o")
        result = compile_file(path, objects[path])
        if result.returncode:
            sys.exit("FAIL mutants: " + result.stdout)
    return objects


def fuzz(program):
    """How the fuzzer refuses the program, or None. One core is enough for each."""
    for seed, seeds, steps in RUNS:
        result = subprocess.run(["prlimit", f"--cpu={SECONDS}", program, str(seed), str(seeds),
                                 str(steps)], check=False,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if result.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
            return "it does not end"
        if result.returncode:
            lines = result.stderr.decode(errors="replace").strip().splitlines()
            return lines[-1] if lines else f"it ended with {result.returncode}"
    return None


def proof(directory, path):
    result = subprocess.run([sys.executable, "tests/proof/run.py", "--source", directory,
                             "--file", os.path.basename(path)[:-2], "--first", "--jobs", "1"],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            check=False)
    lines = [line.strip() for line in result.stdout.splitlines() if "  not proved: " in line]
    return lines[0] if result.returncode and lines else None


def plant(name, path, old, new):
    """A copy of the core with the mutant in it, however the text is broken into lines; the
    directory, or None."""
    directory = os.path.join(BUILD, name)
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory + "/kernel")
    shutil.copytree("kernel/core", directory + "/kernel/core")
    os.symlink(os.path.abspath("abi"), directory + "/abi")
    with open(os.path.join(directory, path), encoding="ascii") as source:
        text = source.read()
    found = list(re.finditer(r"\s+".join(map(re.escape, old.split())), text))
    if len(found) != 1:
        return None
    start, end = found[0].span()
    with open(os.path.join(directory, path), "w", encoding="ascii") as output:
        output.write(text[:start] + new.strip() + text[end:])
    return directory


def judge(mutant, objects, quick):
    """One line of verdict."""
    name, _, file, old, new = mutant
    path = f"{CORE}/{file}"
    directory = plant(name, path, old, new)
    if directory is None:
        return f"FAIL mutant {name}: its text is not (once) in {path}"
    changed = directory + "/mutant.o"
    result = compile_file(os.path.join(directory, path), changed)
    program = directory + "/fuzz_core"
    if result.returncode == 0:
        linked = [changed if p == path else o for p, o in objects.items()]
        result = subprocess.run(["gcc", BOUNDS, "-o", program, *linked], stderr=subprocess.STDOUT,
                                stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        return f"FAIL mutant {name} does not compile: {result.stdout}"
    how, by = fuzz(program), "fuzz"
    if how is None and not quick:
        how, by = proof(directory, path), "proof"
    if how is None:
        return f"FAIL mutant {name} survived"
    shutil.rmtree(directory)
    return f"PASS mutant {name} refused by {by} ({how})"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only")
    arguments = parser.parse_args()
    chosen = [m for m in mutants()
              if arguments.only in (None, m[0]) and (m[1] or not arguments.quick)]
    objects = build_common()
    unchanged = os.path.join(BUILD, "unchanged")
    subprocess.run(["gcc", BOUNDS, "-o", unchanged, *objects.values()], check=True)
    how = fuzz(unchanged)
    if how is not None:
        print(f"FAIL mutants: the unchanged core is refused ({how})")
        return 1
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for line in pool.map(lambda m: judge(m, objects, arguments.quick), chosen):
            print(line, flush=True)
            failed += line.startswith("FAIL")
    print(f"{'FAIL' if failed else 'PASS'} mutants: {len(chosen) - failed} of {len(chosen)} refused")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
