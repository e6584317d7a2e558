#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Types at the console over the serial port, and checks the answers.

    console.py [options of emu.py]     default: the debug kernel, build/console.cpio

Prints a line "PASS console: what" or "FAIL console: what" for each check.
"""
import os
import re
import select
import subprocess
import sys
import tempfile
import time

import emu

PROMPT = "exo> "
DEFAULT = ["--kernel", "build/debug/kernel.elf", "--archive", "build/console.cpio",
           "--memory", "128M"]
WAIT = 60  # seconds for any answer: the machine may be busy


class Console:
    """The emulator with its serial port on pipes."""

    def __init__(self, options, directory, wait=WAIT):
        self.wait = wait
        self.process = subprocess.Popen(emu.qemu_command(options, directory, "stdio"),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, start_new_session=True)
        self.text = ""

    def until(self, wanted, start):
        """Waits until `wanted` appears behind position start; where, or -1."""
        end = time.monotonic() + self.wait
        while self.text.find(wanted, start) < 0:
            ready, _, _ = select.select([self.process.stdout], [], [], 1)
            more = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            self.text += more.decode("utf-8", "replace").replace("\r", "")
            if time.monotonic() > end or "PANIC" in self.text or (ready and not more):
                return -1
        return self.text.find(wanted, start)

    def send(self, keys):
        self.process.stdin.write(keys.encode())
        self.process.stdin.flush()

    def answers(self, keys, wanted):
        """Types; True when `wanted` is printed afterwards."""
        start = len(self.text)
        self.send(keys)
        return self.until(wanted, start) >= 0

    def ends(self):
        """Waits for the emulator's end; True when it was a good one."""
        try:
            return self.process.wait(self.wait) == 0
        except subprocess.TimeoutExpired:
            return False

    def type(self, keys):
        """Types; returns what is printed up to the next prompt, without the echo."""
        start = len(self.text)
        self.send(keys)
        at = self.until("\n" + PROMPT, start)
        answer = self.text[start:at if at >= 0 else None]
        return answer.split("\n", 1)[1] if "\n" in answer else ""


def number(text, pattern):
    found = re.search(pattern, text)
    return int(found.group(1)) if found else -1


def memory_adds_up(answer):
    rows = r"plain and bound nowhere|plain and bound,|page tables and obj|the kernel's|exposed|device"
    parts = [int(n) for n in re.findall(rf"^ *(\d+) (?:{rows})", answer, re.MULTILINE)]
    return len(parts) == 6 and sum(parts) == number(answer, r"(\d+) frames of 4 KiB")


def slots_cover(answer):
    position = 0  # of 64 on each CPU
    for first, last in re.findall(r"^ +(\d+)- *(\d+) ", answer, re.MULTILINE):
        if int(first) != position % 64:
            return False
        position += int(last) - int(first) + 1
    return position == 64 * answer.count("CPU ") and len(set(re.findall(r"of env (\w+)", answer))) == 4


def typed(answer):
    return number(answer, r"(\d+) page tables and objects of")


ESCAPE = "\x1d"


def guests(console, check):
    """The programs behind Ctrl-]: tests/consoleboot/talker, twice."""
    def keys(what, text, wanted):
        start = len(console.text)
        console.send(text)
        check(what, console.until(wanted, start) >= 0)
        return console.text[start:]

    check("guests are listed", re.search(r"^Ctrl-\] 1  talker$", console.text, re.MULTILINE)
          and re.search(r"^Ctrl-\] 2  other$", console.text, re.MULTILINE))
    check("logs come last", re.search(r"^Ctrl-\] 3  logger$", console.text, re.MULTILINE))
    check("what guests write is not shown unasked", "talker one" not in console.text)
    keys("select by number, replayed", ESCAPE + "1", "[talker]\ntalker one is here")
    keys("keys go to the guest", "ab", "one: 61\none: 62")
    keys("the escape key itself", ESCAPE + ESCAPE, "one: 1d")
    keys("a Ctrl-] that nothing follows is the program's", ESCAPE, "one: 1d")
    keys("a log", ESCAPE + "l", "talker log is here")
    keys("select by letter", ESCAPE + "o", "[other]\ntalker two is here")
    keys("keys go to the other", "cz", "two: 63\ntwo: 7a")
    keys("replayed again", ESCAPE + "t", "talker one is here\none: 61\none: 62\none: 1d")
    keys("shows what comes", "t", "<\033[6n>")
    keys("help", ESCAPE + "?", "Ctrl-] q powers the machine off")
    keys("an unknown key helps", ESCAPE + "9", "Ctrl-] ? shows this")
    text = keys("no questions to the terminal in what is replayed", ESCAPE + "1", "one: 74\n<>")
    check("questions are left out", "\033" not in text)
    keys("a flood", "f", "019999\n")
    text = keys("the end of a flood is kept", ESCAPE + "1", "019999\n")
    lines = re.findall(r"^(\d{6})$", text, re.MULTILINE)
    check("64 KiB are kept", len(lines) == 8192 and int(lines[0]) == 20000 - 8192)
    keys("a guest that is not shown does not wait", "f" + ESCAPE + "2", "[other]")
    keys("alive meanwhile", "q", "two: 71")
    keys("its flood was kept", ESCAPE + "1", "019999\n")
    keys("a guest ends", "x", "[talker has ended]")
    keys("the commands are back", "mem\r", "frames of 4 KiB")
    keys("what it wrote is still there", ESCAPE + "t", "[talker, which has ended]")
    keys("no keys to it", "z", "\a")
    keys("a guest dies", ESCAPE + "2" + "d", "[other has ended]")
    console.type("\r")


def session(console, check):
    """check(what, whether) counts a check."""
    check("prompt", console.until(PROMPT, 0) >= 0)
    check("banner says what it is and how to end it",
          "exovisor, an exokernel" in console.text and "'quit' to end" in console.text)
    check("pagers differ", number(console.text, r"mru: .* (\d+) faults, 0 pages lost")
          < number(console.text, r"lru: .* (\d+) faults, 0 pages lost"))
    answer = console.type("help\r")
    names = re.findall(r"^  (\S+)  ", answer, re.MULTILINE)
    check("help", names == "help mem slots irqs cpus caps bench-null vm fault quit".split())
    check("orders without a machine", "there is no virtual machine" in console.type("vm none info\r")
          and "vm NAME ORDER" in console.type("vm\r"))
    before = console.type("mem\r")
    check("mem adds up", memory_adds_up(before))
    check("mem names seven envs", "objects of 7 envs" in before and "this console" in before)
    check("slots", slots_cover(console.type("slots\r")))
    check("irqs", re.search(r"^line +4 +[1-9]\d* times", console.type("irqs\r"), re.MULTILINE))
    check("cpus", 0 < number(console.type("cpus\r"), r"(\d+) % of them idle") < 100)
    check("caps", re.search(r"^ +\d+ +ports +1 +3f8 +8 ", console.type("caps\r"), re.MULTILINE))
    check("bench-null", number(console.type("bench-null\r"), r"(\d+) ns each") > 0)
    for _ in range(3):
        answer = console.type("fault\r")
        check("fault", "exception 14, error 6, address 1230" in answer
              and "512 of 512 frames came back" in answer)
    after = console.type("mem\r")
    check("fault leaves nothing", typed(after) == typed(before) > 0)
    check("unknown command", "no command 'nonsense'" in console.type("nonsense\r"))
    check("empty line", console.type("\r") == "")
    check("backspace", "capability tables" in console.type("mexx\b\x7fm\r"))
    check("ctrl-U", "lists" not in console.type("rubbish\x15irqs\r"))
    check("overlong line", "no command" in console.type("x" * 300 + "\r"))
    guests(console, check)
    console.send("quit\r")
    check("quit", console.until("root: all programs ended", 0) >= 0)
    check("quit ends the emulator", console.ends())
    check("no leak", "LEAK" not in console.text)


def talk(name, make, session, show=False):
    """Runs session(machine, check) with the machine that make(directory) starts. Returns (lines of
    verdicts, the machine's text); show prints each verdict at once."""
    verdicts = []

    def check(what, good):
        verdicts.append(f"{'PASS' if good else 'FAIL'} {name}: {what}")
        if show:
            print(verdicts[-1], flush=True)

    with tempfile.TemporaryDirectory(prefix=f"{name}.") as directory:
        machine = make(directory)
        try:
            session(machine, check)
        except OSError as error:
            check(f"the emulator ended: {error}", False)
        finally:
            emu.stop(machine.process)
    return verdicts, machine.text


def status(verdicts, text):
    """The exit status of a session; shows what was printed if it failed."""
    failed = any(line.startswith("FAIL") for line in verdicts)
    if failed:
        print(text)
    return 1 if failed else 0


def run(arguments, show=False):
    """Returns (lines of verdicts, the console's text)."""
    options = emu.arguments(arguments)
    return talk("console", lambda directory: Console(options, directory), session, show)


def main(argv):
    return status(*run(argv or DEFAULT, True))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
