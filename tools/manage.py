#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Boots vmd and its test client (tests/manage), and shows what the client says.

    manage.py [options of emu.py]
"""
import subprocess
import sys

import emu
import guests

ARCHIVE = "build/manage.cpio"
OPTIONS = ["--kernel", "build/debug/kernel.elf", "--archive", ARCHIVE, "--memory", "256M"]
TIMEOUT = 120


def make():
    guests.hostile_guest()
    subprocess.run(["tools/archive.sh", ARCHIVE, "root=build/user/root.image",
                    "config=tests/manage/config", "client=build/user/tests/manage/client.elf",
                    "vmd=build/user/apps/vmd.elf", "vmm=build/user/vmm.elf",
                    "switch=build/user/apps/switch.elf",
                    f"guest.elf={guests.HOSTILE}guest.elf"], check=True)


def main(argv):
    make()
    try:
        output = emu.run(emu.arguments(OPTIONS + ["--until", "TESTS DONE", "--timeout",
                                                  str(TIMEOUT)] + argv))
    except emu.Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    return 1 if "FAIL" in output else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
