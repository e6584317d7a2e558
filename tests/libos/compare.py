#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs tests of the Linux interface on Debian's kernel (the bare emulator) and on exovisor,
the same files on both, and puts the verdicts side by side:

    compare.py [--debian | --exovisor | --verdicts] [--timeout S] [SUITE [ARGUMENT...]]...
    compare.py --document

SUITE is `tests` (tests/libos, the default), `busybox`, `ash`, `dash`, `mksh`, `lua`
(tools/linux-suites.sh), or `all`. Written: build/linux/SUITE.tsv, with a line for each test:
its name, Debian's verdict, exovisor's. --verdicts prints lines "PASS NAME" and "FAIL NAME":
FAIL is what passes on Debian and not on exovisor. With --debian or --exovisor only that side
runs, and all that does not pass is listed; the other side's verdicts in the list stay. --document writes docs/linux-suites.md out of the
lists of all suites that ran last. Fails if exovisor fails where Debian passes."""
import glob
import os
import re
import subprocess
import sys
import threading

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tools"))
import linux  # noqa: E402
import check  # noqa: E402

MEMORY = "1G"  # of the machine
TIMEOUT = 600  # seconds
TIMEOUTS = {"busybox": 1200, "ash": 1200, "dash": 3600}
SUITES = ["tests", "busybox", "ash", "dash", "mksh", "lua"]
DOCUMENT = "docs/linux-suites.md"
ABOUT = {
    "busybox": "busybox's testsuite, with Debian's busybox-static",
    "ash": "busybox's shell/ash_test, with Debian's busybox-static",
    "dash": "the same, with dash (musl), which has less of bash, and words errors in its own way",
    "mksh": "mksh's check.t, with mksh (musl)",
    "lua": "tests of Lua of our own, with lua5.4 (musl)",
}
PART = re.compile(r"^== (\S+)(?: status (\d+))?$")
OURS = re.compile(r"^(ok|FAIL) ([\w.]+)(?: (.*))?$")  # tests/libos, lua
BUSYBOX = re.compile(r"^(PASS|FAIL): (.*)$")
ASH = re.compile(r"^(\S+/\S+): (ok|fail)$")
STATUS = {"0": "pass", "124": "too long", "137": "too long", "143": "too long"}


def modules():
    """What Debian's kernel needs for some tests, for a root file system."""
    kernel = "build/guest/linux-image-*/lib/modules/*/kernel/"
    found = glob.glob(kernel + "drivers/block/loop.ko") + glob.glob(kernel + "fs/fuse/fuse.ko")
    return [f"lib/{os.path.basename(path)}={path}" for path in found]


def make(suites):
    """The root file systems: suite -> its path."""
    subprocess.run(["make", "-s", "build/linux/bin/extfs"], check=True, stdout=sys.stderr)
    subprocess.run(["make", "-s", "-C", "tests/libos"], check=True, stdout=sys.stderr)
    subprocess.run(["tools/guest.sh"], check=True, stdout=sys.stderr)
    roots = {"tests": "build/linux/tests.cpio"}
    subprocess.run(["tools/linux-root.sh", roots["tests"], "test=build/linux/test",
                    "lib/ext4.img=build/linux/ext4.img"] + modules(), check=True)
    if any(suite != "tests" for suite in suites):
        subprocess.run(["tools/linux-suites.sh"], check=True, stdout=sys.stderr)
        for suite in suites:
            if suite != "tests":
                roots[suite] = "build/linux/suites.cpio"
        subprocess.run(["tools/linux-root.sh", "build/linux/suites.cpio",
                        "suite=build/linux/suite"], check=True)
    return roots


def command(suite, arguments):
    if suite == "tests":
        return ["/test/run"] + arguments
    return ["/suite/run", suite] + arguments


def read_verdicts(suite, text):
    """Name -> "pass", or what else happened, in the order of the output."""
    results, part = {}, ""
    if suite == "mksh":
        return {name: "pass" if good else "fail" for name, good in
                check.verdicts("build/source/mksh/check.t", text).items()}
    for line in text.splitlines():
        line = line.rstrip()
        if match := PART.match(line):
            part, status = match.groups()
            if status and (suite in ("tests", "lua") or status in ("124", "137", "143")):
                results[part] = STATUS.get(status, f"status {status}")
        elif match := OURS.match(line):
            results[f"{part}: {match[2]}"] = "pass" if match[1] == "ok" else match[3] or "fail"
        elif match := BUSYBOX.match(line):
            results[f"{part}: {match[2]}"] = match[1].lower()
        elif match := ASH.match(line):
            results[match[1]] = "pass" if match[2] == "ok" else "fail"
    return results


def run_side(side, suite, root, arguments, timeout, results):
    try:
        text, _ = linux.run(side, root, command(suite, arguments), memory=MEMORY, timeout=timeout)
    except linux.Failure as failure:
        text = failure.args[1].replace("\r", "")
        print(f"compare.py: {suite} on {side}: {failure.args[0]}", file=sys.stderr)
    with open(f"build/linux/{suite}.{side}.txt", "w", encoding="utf-8") as file:
        file.write(text)
    results[side] = read_verdicts(suite, text)


def run_suite(suite, root, arguments, sides, timeout):
    results = {}
    threads = [threading.Thread(target=run_side, args=(side, suite, root, arguments, timeout,
                                                       results)) for side in sides]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def write_list(suite, theirs, ours):
    """The names, in Debian's order, then those that only exovisor has."""
    names = list(theirs) + [name for name in ours if name not in theirs]
    with open(f"build/linux/{suite}.tsv", "w", encoding="utf-8") as file:
        file.write("test\tDebian\texovisor\n")
        for name in names:
            file.write(f"{name}\t{theirs.get(name, 'missing')}\t{ours.get(name, 'missing')}\n")
    return names


def show_one(suite, side, verdicts):
    """Prints what does not pass: how many; the list gets them beside the other side's last ones."""
    if os.path.exists(f"build/linux/{suite}.tsv"):
        last = read_list(suite)
        debian = side == "debian"
        other = {line[0]: line[2 if debian else 1] for line in last
                 if line[2 if debian else 1] != "missing"}
        write_list(suite, *((verdicts, other) if debian else (other, verdicts)))
    bad = {name: verdict for name, verdict in verdicts.items() if verdict != "pass"}
    for name, verdict in bad.items():
        print(f"{side} {suite} {name}: {verdict}")
    print(f"{suite} on {side}: {len(verdicts) - len(bad)} of {len(verdicts)} pass")
    return len(bad)


def show_both(suite, results, verdicts):
    """Prints, and writes the list; how many pass on Debian and not on exovisor."""
    theirs, ours = results["debian"], results["exovisor"]
    names = write_list(suite, theirs, ours)
    worse = [name for name in names
             if theirs.get(name) == "pass" and ours.get(name) != "pass"]
    for name in names if verdicts else worse:
        good = name not in worse
        if verdicts and theirs.get(name) == "pass" or not good:
            print(f"{'PASS' if good else 'FAIL'} linux {suite} {name}"
                  + ("" if good else f": {ours.get(name, 'missing')}"))
    count = [sum(verdict == "pass" for verdict in side.values()) for side in (theirs, ours)]
    print(f"{suite}: {len(names)} tests, {count[0]} pass on Debian, {count[1]} on exovisor")
    return len(worse) + (not theirs)


def read_list(suite):
    """Lines (name, Debian's verdict, exovisor's) of a suite that ran on both sides."""
    with open(f"build/linux/{suite}.tsv", encoding="utf-8") as file:
        return [tuple(line.rstrip("\n").split("\t")) for line in file][1:]


def section(suite, lines):
    """What the document says of tests that do not pass on both sides."""
    text = [f"## {suite}\n"]
    for title, kept in (
            ("On Debian's kernel only", lambda theirs, ours: theirs == "pass" != ours),
            ("On exovisor only", lambda theirs, ours: ours == "pass" != theirs),
            ("On neither", lambda theirs, ours: theirs != "pass" != ours)):
        names = [name for name, theirs, ours in lines if kept(theirs, ours)]
        if names:
            text.append(f"{title} ({len(names)}):\n")
            text += [f"- `{name}`" for name in names]
            text.append("")
    if len(text) == 1:
        text.append("All pass on both sides.\n")
    return text


def document():
    """Writes DOCUMENT."""
    lists = {suite: read_list(suite) for suite in SUITES if suite in ABOUT}
    text = ["# Test-suites on exovisor and on Debian's kernel\n",
            "Made by `tests/libos/compare.py all` and `tests/libos/compare.py --document`: the same files"
            " on both sides (`tools/linux-suites.sh` builds them from Debian's source packages,"
            " unmodified). A test counts as passed when the suite says so.\n",
            "| suite | what it is | tests | pass on Debian | pass on exovisor |",
            "|---|---|---|---|---|"]
    for suite, lines in lists.items():
        count = [sum(line[side] == "pass" for line in lines) for side in (1, 2)]
        text.append(f"| {suite} | {ABOUT[suite]} | {len(lines)} | {count[0]} | {count[1]} |")
    text.append("")
    for suite, lines in lists.items():
        text += section(suite, lines)
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write("\n".join(text).rstrip("\n") + "\n")


def main(argv):
    os.chdir(TOP)
    if argv == ["--document"]:
        document()
        return 0
    timeout, verdicts, sides, wanted = None, False, list(linux.SIDES), []
    while argv:
        word = argv.pop(0)
        if word == "--timeout":
            timeout = float(argv.pop(0))
        elif word == "--verdicts":
            verdicts = True
        elif word in ("--debian", "--exovisor"):
            sides = [word[2:]]
        elif word == "all":
            wanted += [(suite, []) for suite in SUITES]
        elif word in SUITES:
            wanted.append((word, []))
        elif wanted and not word.startswith("-"):
            wanted[-1][1].append(word)
        else:
            sys.exit(__doc__)
    wanted = wanted or [("tests", [])]
    roots, behind = make([suite for suite, _ in wanted]), 0
    for suite, arguments in wanted:
        results = run_suite(suite, roots[suite], arguments, sides,
                            timeout or TIMEOUTS.get(suite, TIMEOUT))
        if len(sides) == 1:
            behind += show_one(suite, sides[0], results[sides[0]])
        else:
            behind += show_both(suite, results, verdicts)
    return 1 if behind else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
