#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Boots vmd and its test client (tests/manage), and shows what the client says.

    manage.py [liars] [options of emu.py]

With `liars` the monitors are programs that wish vmd ill: tests/manage/liar.
"""
import subprocess
import sys

import emu
import guests

ARCHIVES = {"": "build/manage.cpio", "liars": "build/manage-liars.cpio"}
CONFIG = "build/manage-liars.config"
TIMEOUT = 120


def options(which=""):
    return ["--kernel", "build/debug/kernel.elf", "--archive", ARCHIVES[which],
            "--memory", "256M"]


def pack(which, config, monitor):
    subprocess.run(["tools/archive.sh", ARCHIVES[which], "root=build/user/root.image",
                    f"config={config}", "client=build/user/tests/manage/client.elf",
                    "vmd=build/user/apps/vmd.elf", f"vmm={monitor}",
                    "pager=build/user/apps/pager.elf",
                    "switch=build/user/apps/switch.elf",
                    f"guest.elf={guests.HOSTILE}guest.elf"], check=True)


def make():
    guests.hostile_guest()
    pack("", "tests/manage/config", "build/user/vmm.elf")
    with open("tests/manage/config", encoding="ascii") as file:
        text = file.read().replace("wait=yes", "wait=yes args=liars")
    with open(CONFIG, "w", encoding="ascii") as file:
        file.write(text)
    pack("liars", CONFIG, "build/user/tests/manage/liar.elf")


def main(argv):
    make()
    which = argv.pop(0) if argv and argv[0] in ARCHIVES else ""
    try:
        output = emu.run(emu.arguments(options(which) + ["--until", "TESTS DONE", "--timeout",
                                                         str(TIMEOUT)] + argv))
    except emu.Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    return 1 if "FAIL" in output else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
