#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Boots vmd and its test client (tests/manage), and shows what the client says.

    manage.py [liars|loan] [options of emu.py]

With `liars` the monitors are programs that wish vmd ill: tests/manage/liar. With `loan` there is
no vmd: the Linux server loses by force what it has on loan (tests/manage/taker).
"""
import subprocess
import sys

import emu
import guests

DIRECTORY = "build/user/tests/manage"
CONFIG = "build/manage-liars.config"
LINUX = "build/manage-linux.cpio"
SESSIONS = {  # archive, and what the last one prints
    "": ("build/manage.cpio", "TESTS DONE"),
    "liars": ("build/manage-liars.cpio", "TESTS DONE"),
    "loan": ("build/manage-loan.cpio", "root: all programs ended"),
}
TIMEOUT = 120


def options(which=""):
    return ["--kernel", "build/debug/kernel.elf", "--archive", SESSIONS[which][0],
            "--memory", "256M"]


def pack(which, config, *files):
    subprocess.run(["tools/archive.sh", SESSIONS[which][0], "root=build/user/root.image",
                    f"config={config}", *files], check=True)


def pack_machines(which, config, monitor):
    pack(which, config, f"client={DIRECTORY}/client.elf", "vmd=build/user/apps/vmd.elf",
         f"vmm={monitor}", "pager=build/user/apps/pager.elf", "switch=build/user/apps/switch.elf",
         f"guest.elf={guests.HOSTILE}guest.elf")


def pack_loan():
    subprocess.run(["make", "-s", "-C", "tests/libos", "../../build/linux/test/replace"],
                   check=True)
    subprocess.run(["tools/linux-root.sh", LINUX, "test/replace=build/linux/test/replace",
                    "test/loan.sh=tests/manage/loan.sh"], check=True)
    pack("loan", "tests/manage/loan.config", f"taker={DIRECTORY}/taker.elf",
         "linuxd=build/user/libos/linux/server.elf", "linux-library=build/user/linux-library",
         f"linux.cpio={LINUX}")


def make():
    guests.hostile_guest()
    pack_machines("", "tests/manage/config", "build/user/vmm.elf")
    with open("tests/manage/config", encoding="ascii") as file:
        text = file.read().replace("wait=yes", "wait=yes args=liars")
    with open(CONFIG, "w", encoding="ascii") as file:
        file.write(text)
    pack_machines("liars", CONFIG, f"{DIRECTORY}/liar.elf")
    pack_loan()


def main(argv):
    make()
    which = argv.pop(0) if argv and argv[0] in SESSIONS else ""
    try:
        output = emu.run(emu.arguments(options(which) + ["--until", SESSIONS[which][1],
                                                         "--timeout", str(TIMEOUT)] + argv))
    except emu.Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    return 1 if "FAIL" in output else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
