#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Types at the shell of `make run`, and checks what it answers: machines are made, looked at
and ended beside it, memory goes to one of them and comes back, and a program of another library
OS runs.

    shell.py [options of emu.py]

Prints a line "PASS shell: what" or "FAIL shell: what" for each check. Needs what `make`
makes.
"""
import os
import re
import subprocess
import sys
import time

import console
import emu
import guests

ARCHIVE = "build/shell.cpio"
DEFAULT = ["--kernel", "build/release/kernel.elf", "--archive", ARCHIVE, "--memory", "2G"]
WAIT = 150  # seconds for any answer: an emulated machine in an emulated machine
LEAVE = "\x1d"  # Ctrl-]
PROMPT = "root@exovisor:~#"


class Shell(console.Console):
    def run(self, command):
        """Types a command line; what it prints up to the next prompt."""
        start = len(self.text)
        self.send(command + "\r")
        at = self.until(PROMPT, start)
        answer = self.text[start:at if at >= 0 else None]
        return answer.split("\n", 1)[1] if "\n" in answer else ""

    def settle(self):
        """Waits until the shell obeys again, whatever was on the screen."""
        self.marks = getattr(self, "marks", 0) + 1
        start = len(self.text)
        self.send(f"echo '<'{self.marks}'>'\r")
        at = self.until(f"<{self.marks}>", start)
        return at >= 0 and self.until(PROMPT, at) >= 0

    def typed(self, keys, words):
        """Types keys; whether words are seen, and the shell obeys afterwards."""
        return self.answers(keys, words) and self.settle()

    def leave(self):
        """From a machine's console back to the shell."""
        start = len(self.text)
        time.sleep(0.2)
        self.send(LEAVE)
        return self.until(PROMPT, start) >= 0


def free_kib(shell):
    return console.number(shell.run("vm top -b -n 1"), r"(\d+)k free")


def comes_back(shell):
    """Making and ending a machine takes nothing, when the manager's own heap is large enough:
    that grows once, where two conversations overlap."""
    before = free_kib(shell)
    for _ in range(4):
        shell.run("vm create /etc/vm/debian2.cfg")
        shell.run("vm destroy debian2")
        after = free_kib(shell)
        if after == before > 0:
            return True
        before = after
    return False


def busybox(shell, check):
    """What people do at a shell: Debian's busybox, unmodified, on the terminal."""
    lines = (
        ("pipelines", "seq 1 100 | grep 7 | sort -rn | head -3 | xargs", "97 87 79"),
        ("redirections", "echo one > f; echo two >> f; cat < f | wc -l; cat none 2>&1 >/dev/null",
         "2\ncat: can't open 'none'"),
        ("awk and sed", "printf 'a 1\\nb 2\\n' | awk '{ s += $2 } END { print s }' | sed s/3/three/",
         "three"),
        ("tar, gzip, find", "mkdir -p t/u; echo x > t/u/v; tar czf t.tgz t && rm -r t && tar xzf t.tgz"
         " && find t -type f", "t/u/v"),
        ("ps", "ps -o pid,args", "1 /bin/sh -l"),
        ("top", "top -b -n 1 | head -4", "PID  PPID USER"),
        ("free and df", "free | grep -c Mem; df /tmp | wc -l", "1\n2"),
        ("a date of today", "date +%Y", time.strftime("%Y", time.gmtime())),
    )
    for what, command, words in lines:
        check(what, words in shell.run(command))
    check("a here-document", shell.typed("cat <<END | tr a-z A-Z\rhere $((2 + 3))\rEND\r", "HERE 5"))
    shell.send("sleep 1000\r")
    time.sleep(1)
    check("Ctrl-C", shell.typed("\x03", "^C"))
    shell.run("sleep 1000 &")
    check("jobs", "Running" in shell.run("jobs"))
    shell.send("fg\r")
    time.sleep(1)
    check("Ctrl-Z", shell.typed("\x1a", "Stopped"))
    check("bg", "sleep 1000" in shell.run("bg") and "Running" in shell.run("jobs"))
    check("kill", "Terminated" in shell.run("kill %1; sleep 1; jobs"))
    shell.send("vi v.txt\r")
    for text in ("i", "hello from vi", "\x1b", ":wq"):
        time.sleep(0.7)
        shell.send(text)
    check("vi", shell.typed("\r", PROMPT) and shell.run("cat v.txt") == "hello from vi\n")
    check("line editing", shell.run("echo editxd\x1b[D\x7fe").endswith("edited\n"))


def row(answer, name):
    """The words of that machine's line of `vm list`."""
    found = re.search(rf"^{name} +(\d+) +(\d+) +(\d+) +([-rbpscd]{{6}}) +([\d.]+)$", answer,
                      re.MULTILINE)
    return found.groups() if found else None


def machine(shell, check):
    """The one that runs from the start."""
    answer = shell.run("vm list")
    check("the columns are xl's", answer.startswith("Name ") and "\tState\tTime(s)" in answer)
    check("a machine runs beside the shell", row(answer, "debian"))
    check("its console", shell.answers("vm console debian\r", "debian:/root#"))
    check("from the beginning", "Linux version" in shell.text or "busybox" in shell.text)
    check("it obeys", shell.answers("echo $((6 * 7))x\r", "42x"))
    check("Ctrl-] leaves", shell.leave())
    check("what was seen is replayed", shell.answers("vm console debian\r", "42x")
          and shell.leave())
    check("pause", shell.run("vm pause debian") == "")
    check("it is paused", (row(shell.run("vm list"), "debian") or "-----")[3] == "--p---")
    check("unpause", shell.run("vm unpause debian") == "")
    check("it goes on", shell.answers("vm console debian\r", "42x")
          and shell.answers("echo $((6 * 8))y\r", "48y") and shell.leave())


def second(shell, check):
    """Another one, made now; both on one network."""
    check("create", shell.run("vm create /etc/vm/debian2.cfg").startswith("Parsing config from"))
    check("it boots", shell.answers("vm console debian2\r", "debian2:/root#"))
    check("its network", shell.answers("ping -c 3 10.0.0.1\r", "3 packets received")
          and shell.leave())
    answer = shell.run("vm list")
    check("both are listed", row(answer, "debian") and row(answer, "debian2"))
    check("reboot", shell.run("vm reboot debian2") == ""
          and shell.answers("vm console debian2\r", "Linux version")
          and shell.answers("\r", "debian2:/root#") and shell.leave())
    answer = shell.run("vm top -b -n 2 -d 2")
    check("top", answer.count("VCPUS") == 2 and re.search(r"debian2 +\d+ exits/s:", answer))
    check("destroy", shell.run("vm destroy debian2") == ""
          and not row(shell.run("vm list"), "debian2"))


def sent(shell, check):
    """A kernel out of the shell's file system, and what cannot be."""
    check("a kernel of the file system", "error" not in shell.run(
        "vm create /etc/vm/tiny.cfg 2>&1"))
    check("it runs", shell.answers("vm console tiny\r", "hostile: begins") and shell.leave())
    check("destroyed by its number", shell.run(
        "vm destroy $(vm list | awk '/^tiny/ { print $2 }'); echo $?") == "0\n")
    for command, words in (("vm console nobody", "there is no machine 'nobody'"),
                           ("vm create /nowhere", "/nowhere: No such file"),
                           ("vm create /etc/passwd", "the configuration has mistakes"),
                           ("vm create /etc/vm/tiny.cfg kernel=/nowhere", "no file '/nowhere'"),
                           ("vm create /etc/vm/tiny.cfg memory=60000", "cannot be made"),
                           ("vm nonsense", "virtual machines, in the words of xl")):
        check(f"refused: {command}", words in shell.run(command))


def frames(shell, name):
    """Frames in the ranges of that name, as `exo mem` has them."""
    return sum(map(int, re.findall(rf"^ *\w+ +(\d+) +\d+  {name}$", shell.run("exo mem"),
                                   re.MULTILINE)))


def begin(shell, program, word):
    """Starts a program of tests/libos/replace.c and waits until it has filled its memory."""
    shell.run(f"({program}; echo ended $?) > {word}.out 2>&1 &")
    shell.run(f"until grep -q {word} {word}.out; do sleep 1; done")


def short(shell, check):
    """Memory is short: a machine gets what the Linux system has on loan, and gives it back."""
    loan = frames(shell, "linux-loan")
    check("memory is on loan", loan == 65536)
    begin(shell, "./replace hold 180", "holds")
    begin(shell, "./replace refuse 6", "refuses")
    tiny = "vm create /etc/vm/tiny.cfg"
    shell.run(f"{tiny} name=big memory={free_kib(shell) // 1024 - 64}")
    answer = shell.run(f"{tiny} name=lent memory=192")
    check("a machine's memory is borrowed", "its memory is on loan, 192 MiB" in answer)
    check("it is there", row(shell.run("vm list"), "lent")
          and frames(shell, "lent-guest") == 49152
          and frames(shell, "linux-loan") == loan - 49152)
    check("and runs", shell.answers("vm console lent\r", "hostile: begins") and shell.leave())
    check("who did not give was taken from", "ended 135" in shell.run("sleep 2; cat refuses.out")
          and "was not emptied in time" in shell.run("dmesg"))
    shell.run("killall -USR1 replace")
    check("who gave has its data", "whole" in shell.run("sleep 3; cat holds.out"))
    check("not more than there is", "none on loan" in shell.run(f"{tiny} memory=100 2>&1"))
    check("it comes back", shell.run("vm destroy lent") == ""
          and frames(shell, "linux-loan") == loan)
    begin(shell, "./replace hold 230", "holds")
    check("not what has no room elsewhere", "none on loan" in shell.run(f"{tiny} memory=240 2>&1")
          and "there is no room" in shell.run("dmesg") and frames(shell, "linux-loan") == loan)
    shell.run("killall -USR1 replace")
    check("nothing was lost", "whole" in shell.run("sleep 3; cat holds.out"))
    shell.run("vm destroy big")


def tables(shell, check):
    answer = shell.run("exo ps")
    check("exo ps names programs, processes, machines",
          all(re.search(rf" {name}$", answer, re.MULTILINE)
              for name in ("console", "linux", r"sh\[1\]", "debian", r"\(of debian\)")))
    answer = shell.run("exo mem")
    check("exo mem", "debian-guest" in answer and "plain and bound nowhere" in answer)
    answer = shell.run("exo slots")
    check("exo slots", re.search(r"^  0 +\d+- *\d+ +\w+ +\w+  console$", answer, re.MULTILINE)
          and "nobody: whoever can run" in answer and re.search(r"^  4 .*console", answer,
                                                                re.MULTILINE))
    check("exo trace", "SLICES/S" in shell.run("exo trace -n 1"))
    check("vm info", "virt_caps              : svm" in shell.run("vm info"))
    check("vm dmesg", "debian: started as 1" in shell.run("vm dmesg"))


def session(shell, check):
    there = shell.until(PROMPT, 0) >= 0
    check("the shell is there", there)
    if not there:
        return
    busybox(shell, check)
    machine(shell, check)
    second(shell, check)
    sent(shell, check)
    tables(shell, check)
    short(shell, check)
    check("all memory is back", comes_back(shell))
    check("another library OS beside them", shell.answers(LEAVE + "s", "permille")
          and shell.answers(LEAVE + "l\r", PROMPT))
    check("two programs of libexo, two policies", all(
        shell.answers(f"vm run -n {name} pager {name}\r", f"{name}: 6 passes") and shell.leave()
        for name in ("lru", "mru")))
    answer = shell.run("vm list")
    check("they run on", all(row(answer, name) for name in ("lru", "mru", "debian")))
    check("and end", shell.run("vm destroy lru; vm destroy mru") == "")
    check("nothing leaked", "LEAK" not in shell.run("vm dmesg"))
    shell.send(LEAVE + "q")
    check("the machine powers off", shell.ends())
    check("root saw no leak", "LEAK" not in shell.text and "PANIC" not in shell.text)


def make():
    guests.hostile_guest()
    subprocess.run(["make", "-s", "-C", "tests/libos"], check=True, stdout=sys.stderr)
    os.makedirs("build/shell", exist_ok=True)
    with open("build/shell/tiny.cfg", "w", encoding="ascii") as file:
        file.write('name = "tiny"\nkernel = "/root/tiny.elf"\nextra = "die=halts"\nmemory = 16\n')
    subprocess.run(["tools/run.sh", "--shell", ARCHIVE, "etc/vm/tiny.cfg=build/shell/tiny.cfg",
                    f"root/tiny.elf={guests.HOSTILE}guest.elf",
                    "root/replace=build/linux/test/replace"], check=True,
                   env=dict(os.environ, MEMORY="2G",
                            PROGRAM="build/user/tests/consoleboot/share.elf"))


def run(arguments=(), show=False):
    """Returns (lines of verdicts, what was printed)."""
    make()
    options = emu.arguments(DEFAULT + list(arguments))
    return console.talk("shell", lambda directory: Shell(options, directory, WAIT), session, show)


if __name__ == "__main__":
    sys.exit(console.status(*run(sys.argv[1:], True)))
