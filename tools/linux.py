#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs a command of a Linux root file system (tools/linux-root.sh), on Debian's kernel on the
bare emulator or on exovisor:

    linux.py debian|exovisor [options] ROOT.cpio COMMAND [ARGUMENT...]

    --icount          one tick an instruction: exact and repeatable (1 CPU)
    --memory 512M     of the machine
    --timeout 300     seconds
    --release         exovisor's release kernel (else the one with checks)

Prints what it prints, and ends with the command's exit status (3: it did not end). Needs
`make` for exovisor and tools/guest.sh for Debian's kernel.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tools"))
import emu  # noqa: E402

ENDED = re.compile(r"^LINUX ENDED (\d+)\s*$", re.MULTILINE)
SIDES = ("debian", "exovisor")
SHARE = 0.4  # of the machine's memory, a power of two: linuxd's
CONFIG = """\
program linuxd {memory} selectors=1024 console=yes tables=yes irqs=yes archive=yes wait=yes \
args={archive} /bin/sh /etc/run {command}
shutdown 604 2000 2
"""


class Failure(Exception):
    pass


def mebibytes(text):
    return int(text[:-1]) * (1024 if text[-1] in "Gg" else 1)


def debian(directory, root, command, memory):
    append = "console=ttyS0 quiet panic=-1 rdinit=/etc/init.debian -- " + " ".join(command)
    return ["--kernel", "build/guest/vmlinuz", "--archive", root, "--append", append]


def exovisor(directory, root, command, memory, kernel):
    config = os.path.join(directory, "config")
    share = 1
    while share * 2 <= mebibytes(memory) * SHARE:
        share *= 2
    with open(config, "w", encoding="ascii") as file:
        file.write(CONFIG.format(memory=f"memory=64M block={share}M", archive="linux.cpio",
                                 command=" ".join(command)))
    archive = os.path.join(directory, "boot.cpio")
    subprocess.run(["tools/archive.sh", archive, "root=build/user/root.image", f"config={config}",
                    "linuxd=build/user/libos/linux/server.elf",
                    "linux-library=build/user/linux-library", f"linux.cpio={root}"],
                   check=True)
    return ["--kernel", f"build/{kernel}/kernel.elf", "--archive", archive]


def run(side, root, command, memory="512M", timeout=300, icount=False, release=False, quiet=True):
    """What the command printed, and its exit status; Failure(reason, output)."""
    with tempfile.TemporaryDirectory(prefix="linux.") as directory:
        if side == "debian":
            options = debian(directory, root, command, memory)
        else:
            options = exovisor(directory, root, command, memory,
                               "release" if release else "debug")
        options += ["--memory", memory, "--timeout", str(timeout), "--until", "LINUX ENDED"]
        options += ["--icount", "--cpu", "max,-erms,-fsrm"] if icount else []
        options += ["--quiet"] if quiet else []
        try:
            text = emu.run(emu.arguments(options))
        except emu.Failure as failure:
            raise Failure(*failure.args) from None
    text = text.replace("\r", "")
    ended = ENDED.search(text)
    return text[:ended.start()] if ended else text, int(ended[1]) if ended else 3


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("--icount", action="store_true")
    parser.add_argument("--memory", default="512M")
    parser.add_argument("--timeout", type=float, default=300)
    parser.add_argument("--release", action="store_true")
    parser.add_argument("root")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(argv)
    root = os.path.abspath(options.root)
    os.chdir(TOP)
    try:
        return run(options.side, root, options.command or ["/bin/sh"], options.memory,
                   options.timeout, options.icount, options.release, quiet=False)[1]
    except Failure as failure:
        print(f"\nlinux.py: {failure.args[0]}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
