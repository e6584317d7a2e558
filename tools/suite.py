#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs all tests and says, last of all, "N passed, N failed".

    suite.py [--long]

The unit tests run on this machine; the boot tests (build/test.cpio) run on each of
MACHINES; the console of `make run` is typed at. Every line "PASS name" or "FAIL name"
counts as one test, and each run as one more: that it came to its end ("TESTS DONE").
"""
import os
import re
import subprocess
import sys
import time

import console
import emu
import guests
import manage
import shell

DIRECT = ["--kernel", "build/debug/kernel.elf", "--archive", "build/test.cpio"]
RELEASE = ["--kernel", "build/release/kernel.elf", "--archive", "build/test.cpio"]
ISO = ["--iso", "build/test.iso"]
MACHINES = [  # name, options of emu.py, time-out in seconds
    ("qemu-1", DIRECT + ["--cpus", "1"], 120),
    ("qemu-2", DIRECT + ["--cpus", "2", "--memory", "2560M"], 120),
    ("qemu-uefi", ISO + ["--uefi", "--cpus", "2"], 180),
    ("bochs-intel", ISO + ["--bochs", "corei7_icelake_u", "--memory", "512M"], 300),
    ("bochs-amd", ISO + ["--bochs", "ryzen", "--memory", "512M", "--cpus", "2"], 300),
]
VM_DIRECT = ["--kernel", "build/debug/kernel.elf", "--archive", "build/vmtest.cpio",
             "--memory", "256M"]
VM_ISO = ["--iso", "build/vmtest.iso", "--memory", "128M"]
VM_MACHINES = [  # the tests of virtual machines
    ("vm-qemu-1", VM_DIRECT + ["--cpus", "1"], 120),
    ("vm-qemu-2", VM_DIRECT + ["--cpus", "2"], 120),
    ("vm-qemu-slow", VM_DIRECT + ["--append", "slow=1"], 120),
    ("vm-bochs-intel", VM_ISO + ["--bochs", "corei7_icelake_u"], 200),
    ("vm-bochs-intel-2", VM_ISO + ["--bochs", "corei7_icelake_u", "--cpus", "2"], 300),
    ("vm-bochs-amd", VM_ISO + ["--bochs", "ryzen"], 100),
    ("vm-bochs-amd-2", VM_ISO + ["--bochs", "ryzen", "--cpus", "2"], 150),
]
MORE_MACHINES = [
    ("qemu-release", RELEASE + ["--cpus", "2"], 120),
    ("qemu-icount", DIRECT + ["--icount"], 180),
    ("qemu-4", DIRECT + ["--cpus", "4"], 180),
    ("qemu-small", DIRECT + ["--memory", "64M"], 120),
    ("qemu-large", DIRECT + ["--memory", "5G"], 180),
    ("qemu-epyc", DIRECT + ["--cpu", "EPYC"], 120),
    ("qemu-skylake", DIRECT + ["--cpu", "Skylake-Client-v4"], 120),
    ("qemu-bios", ISO + ["--cpus", "2"], 120),
    ("bochs-intel-2", ISO + ["--bochs", "corei7_icelake_u", "--memory", "512M", "--cpus", "2"], 400),
]
FUZZ = ["--kernel", "build/debug/kernel.elf", "--archive", "build/fuzz.cpio", "--memory", "64M"]
FUZZERS = [
    ("fuzz-1", FUZZ + ["--cpus", "1", "--append", "check=10 ms=8000 seed=1"], 60),
    ("fuzz-2", FUZZ + ["--cpus", "2", "--append", "check=10 ms=8000 seed=2"], 60),
]
MORE_FUZZERS = [
    ("fuzz-1-long", FUZZ + ["--cpus", "1", "--append", "check=5 ms=60000 seed=11"], 200),
    ("fuzz-2-long", FUZZ + ["--cpus", "2", "--append", "check=20 ms=60000 seed=12"], 200),
    ("fuzz-2-free", FUZZ + ["--cpus", "2", "--append", "ms=60000 seed=13"], 200),
    ("fuzz-4-long", FUZZ + ["--cpus", "4", "--append", "check=20 ms=60000 seed=14"], 200),
    ("fuzz-bochs", ["--iso", "build/fuzz.iso", "--bochs", "ryzen", "--memory", "128M",
                    "--cpus", "2"], 400),
    ("fuzz-bochs-intel", ["--iso", "build/fuzz.iso", "--bochs", "corei7_icelake_u",
                          "--memory", "128M", "--cpus", "2"], 400),
]
PATHS = ["--kernel", "build/debug/kernel.elf", "--archive", "build/paths.cpio", "--memory", "64M"]
DONE = "TESTS DONE"
KERNEL = ["--kernel", "build/debug/kernel.elf"]
NO_CPIO = "build/test-not-a-cpio"
REFUSALS = [  # what the kernel must say when it cannot run: options, words
    (DIRECT + ["--cpu", "qemu64"], "this CPU lacks FSGSBASE"),
    (DIRECT + ["--cpu", "Haswell,-xsave"], "this CPU lacks XSAVE"),
    (KERNEL, "no boot archive"),
    (KERNEL + ["--archive", NO_CPIO], "is no cpio archive"),
    (DIRECT + ["--memory", "8M"], "usertests: not started"),
]
VERDICT = re.compile(r"^(PASS|FAIL)\b[ :]*(.*)$", re.MULTILINE)
SUMMARY = re.compile(r"usertests: \d+ passed, (\d+) failed")
LEAK = re.compile(r"^root: (LEAK .*)$", re.MULTILINE)  # a program ended and left something


class Count:
    def __init__(self):
        self.passed = self.failed = 0

    def run(self, name, output, reason, seconds):
        """Adds one run; reason tells why it did not finish, if it did not."""
        text = output.replace("\r", "")
        verdicts = VERDICT.findall(text) + [("FAIL", leak) for leak in LEAK.findall(text)]
        for told in SUMMARY.findall(text):  # a line may be torn by another program's
            seen = sum(verdict == "FAIL" for verdict, _ in verdicts)
            verdicts += [("FAIL", "a test whose line is damaged")] * (int(told) - seen)
        passed = sum(verdict == "PASS" for verdict, _ in verdicts)
        for verdict, what in verdicts:
            if verdict == "FAIL":
                print(f"FAIL {name}: {what}")
        if reason:
            print(f"FAIL {name}: {reason}; the last lines:")
            for line in output.replace("\r", "").splitlines()[-emu.TAIL:]:
                print("  | " + line)
        failed = len(verdicts) - passed + bool(reason)
        passed += not reason
        print(f"{name}: {passed} passed, {failed} failed ({seconds:.1f} s)", flush=True)
        self.passed += passed
        self.failed += failed


def host_tests(count, directory, *settings):
    if not os.path.exists(os.path.join(directory, "Makefile")):
        return
    start = time.monotonic()
    result = subprocess.run(["make", "--no-print-directory", "-C", directory, "run", *settings],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            errors="replace", check=False)
    reason = f"make ended with {result.returncode}" if result.returncode else None
    count.run(directory, result.stdout, reason, time.monotonic() - start)


def boot_tests(count, name, options, timeout, until=DONE):
    start = time.monotonic()
    arguments = emu.arguments(options + ["--until", until, "--timeout", str(timeout), "--quiet",
                                         "--output", f"build/test-{name}.txt"])
    reason = None
    try:
        output = emu.run(arguments)
    except emu.Failure as failure:
        reason, output = failure.args
    count.run(name, output, reason, time.monotonic() - start)


def refusals(count):
    """Boots that cannot succeed must end in the kernel's own words."""
    start = time.monotonic()
    with open(NO_CPIO, "w", encoding="ascii") as file:
        file.write("nothing of the kind\n" * 100)
    output = ""
    for options, words in REFUSALS:
        try:
            printed = emu.run(emu.arguments(options + ["--timeout", "5", "--quiet",
                                                       "--until", DONE]))
        except emu.Failure as failure:
            printed = failure.args[1]
        output += f"{'PASS' if words in printed else 'FAIL'} refusal: {words}\n"
    count.run("refusals", output, None, time.monotonic() - start)


def paths_compared(count, seed, turns):
    """The assembly's fast paths and core's C must look the same to user code."""
    start = time.monotonic()
    verdicts, digests = "", []
    reason = None
    for slow in ("", " slow=1"):
        try:
            output = emu.run(emu.arguments(PATHS + ["--append", f"seed={seed} turns={turns}{slow}",
                                                    "--until", DONE, "--timeout", "60", "--quiet"]))
        except emu.Failure as failure:
            reason, output = failure.args
        verdicts += output
        digests += re.findall(r"^DIGEST ([0-9a-f]+)", output, re.MULTILINE)
    same = len(digests) == 2 and digests[0] == digests[1]
    verdicts += f"\n{'PASS' if same else 'FAIL'} fast and slow paths: digests {digests}\n"
    count.run(f"paths-{seed}", verdicts, reason, time.monotonic() - start)


def mutants(count, name, *settings):
    """Planted bugs that tests must notice: tests/mutants."""
    start = time.monotonic()
    result = subprocess.run([sys.executable, f"tests/mutants/{name}.py", *settings], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    reason = f"it ended with {result.returncode}" if result.returncode else None
    count.run(f"{name}-mutants", result.stdout, reason, time.monotonic() - start)


def bars(count, name):
    """Every benchmark must be ahead of the best peer or its aim: bench/peers.tsv, BARS of
    bench/guests.py."""
    start = time.monotonic()
    result = subprocess.run([sys.executable, f"bench/{name}.py", "--verdicts"], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    reason = None if result.returncode == 0 else "the benchmarks failed"
    count.run(f"bench-{name}", result.stdout, reason, time.monotonic() - start)


def console_test(count):
    start = time.monotonic()
    verdicts, text = console.run(console.DEFAULT)
    with open("build/test-console.txt", "w", encoding="utf-8") as file:
        file.write(text)
    count.run("console", "\n".join(verdicts), None, time.monotonic() - start)


def guest_tests(count, name):
    """Linux guests, typed at: tools/guests.py."""
    start = time.monotonic()
    verdicts, text, reason = [], "", None
    try:
        verdicts, text = guests.run(name)
    except (subprocess.CalledProcessError, SystemExit) as error:
        reason = f"the guest's files are not there: {error}"
    with open(f"build/test-guests-{name}.txt", "w", encoding="utf-8") as file:
        file.write(text)
    count.run(f"guests-{name}", "\n".join(verdicts), reason, time.monotonic() - start)


def manage_tests(count):
    """Machines made at run time, and memory that their manager would borrow: tests/manage."""
    manage.make()
    for cpus in ("1", "2"):
        for which, (_, until) in manage.SESSIONS.items():
            boot_tests(count, f"manage-{which}{cpus}", manage.options(which) + ["--cpus", cpus],
                       manage.TIMEOUT, until)


def shell_test(count):
    """The shell of `make run`, typed at."""
    start = time.monotonic()
    verdicts, text, reason = [], "", None
    try:
        verdicts, text = shell.run()
    except (subprocess.CalledProcessError, SystemExit) as error:
        reason = f"its files are not there: {error}"
    with open("build/test-shell.txt", "w", encoding="utf-8") as file:
        file.write(text)
    count.run("shell", "\n".join(verdicts), reason, time.monotonic() - start)


def linux_tests(count):
    """Programs of the Linux interface: what passes on Debian's kernel passes on exovisor."""
    start = time.monotonic()
    result = subprocess.run([sys.executable, "tests/libos/compare.py", "--verdicts"], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    told = VERDICT.search(result.stdout)
    count.run("linux", result.stdout, None if told else "no verdicts", time.monotonic() - start)


def ext4_tests(count):
    """An image that was written on exovisor is what e2fsck and Debian's kernel take it for."""
    start = time.monotonic()
    result = subprocess.run([sys.executable, "tests/libos/ext4.py"], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    told = VERDICT.search(result.stdout)
    count.run("ext4", result.stdout, None if told else "no verdicts", time.monotonic() - start)


def bochs_guests(count):
    """Debian's kernel comes to its shell and to its disk, by both vendors' hardware."""
    archive, iso = "build/guest-bochs.cpio", "build/guest-bochs.iso"
    for command in (["tools/run.sh", archive],
                    ["tools/iso.sh", iso, "build/release/kernel.elf", archive]):
        subprocess.run(command, check=True, env=dict(os.environ, GUEST_MEMORY="128"))
    for name, model in (("guest-bochs-intel", "corei7_icelake_u"), ("guest-bochs-amd", "ryzen")):
        boot_tests(count, name, ["--iso", iso, "--memory", "512M", "--bochs", model], 500, "root#")


def main(argv):
    count = Count()
    host_tests(count, "tests/unit")
    host_tests(count, "tests/fuzz", *([] if "--long" in argv else ["RUNS=12"]))
    host_tests(count, "tests/decoder", *([] if "--long" in argv else ["COUNT=60000"]))
    long = "--long" in argv
    machines = MACHINES + VM_MACHINES + FUZZERS + (MORE_MACHINES + MORE_FUZZERS if long else [])
    if os.path.exists("build/test.cpio"):
        refusals(count)
        bars(count, "run")
        for machine in machines:
            boot_tests(count, *machine)
        for seed in range(1, 9 if long else 2):
            paths_compared(count, seed, 10000 if long else 5000)
        mutants(count, "paths", *([] if long else ["--quick"]))
        if long:
            mutants(count, "vm")
    else:
        print("FAIL boot tests: there is no build/test.cpio")
        count.failed += 1
    console_test(count)
    manage_tests(count)
    shell_test(count)
    linux_tests(count)
    ext4_tests(count)
    bars(count, "guests")
    guest_tests(count, "bare")
    for session in ("firmware", "hostile", "pvh", "two", "hundred", "three"):
        guest_tests(count, session)
    if long:
        bochs_guests(count)
        host_tests(count, "tests/proof", "LONG=--long")
    print(f"{count.passed} passed, {count.failed} failed")
    return 1 if count.failed or not count.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
