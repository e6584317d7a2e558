#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Types at Linux guests, and checks what they answer.

    guests.py bare            the guest's files on the emulator itself, without exovisor
    guests.py two [options]   two guests of exovisor, a disk each, on one switch
    guests.py hundred         the same, with 100 MiB between them
    guests.py three           three guests and a native program; orders to their monitors
    guests.py pvh [options]   one with two virtual CPUs, whose kernel is entered by PVH
    guests.py firmware [opt.] SeaBIOS in exovisor, its boot menu, and a boot sector of ours
    guests.py hostile [opt.]  guests that wish their monitors ill: tests/hostile

Prints a line "PASS name: what" or "FAIL name: what" for each check. Options are those of
emu.py. Makes the guest's files; the others need what `make` makes.
"""
import glob
import hashlib
import os
import re
import subprocess
import sys
import time

import console
import emu

FILES = "build/guest/"
WAIT = 120  # seconds for any answer: an emulated machine in an emulated machine
ESCAPE = "\x1d"
ARCHIVE = "build/guest-two.cpio"
PVH_ARCHIVE = "build/guest-pvh.cpio"
PVH = ["--kernel", "build/release/kernel.elf", "--archive", PVH_ARCHIVE, "--memory", "1G",
       "--cpus", "2"]
TWO = ["--kernel", "build/release/kernel.elf", "--archive", ARCHIVE, "--memory", "2G"]
THREE_ARCHIVE = "build/guest-three.cpio"
THREE = ["--kernel", "build/release/kernel.elf", "--archive", THREE_ARCHIVE, "--memory", "2G",
         "--icount"]  # time is counted in instructions: shares do not depend on the host's load
FIRMWARE_ARCHIVE = "build/firmware.cpio"
WITH_FIRMWARE = ["--kernel", "build/release/kernel.elf", "--archive", FIRMWARE_ARCHIVE,
                 "--memory", "512M"]
HOSTILE_ARCHIVE = "build/hostile.cpio"
WITH_HOSTILE = ["--kernel", "build/debug/kernel.elf", "--archive", HOSTILE_ARCHIVE,
                "--memory", "1G", "--cpus", "2"]
BARE = ["--kernel", FILES + "vmlinuz", "--archive", FILES + "initrd", "--memory", "256M",
        "--append", "console=ttyS0 quiet hostname=bare"]
for argument in ("-drive", f"if=none,id=disk,file={FILES}disk-64.img,format=raw,snapshot=on",
                 "-device", "virtio-blk-pci,drive=disk"):
    BARE.append("--qemu=" + argument)


def shell(machine, check, name):
    """What every guest with the 64 MiB disk must do; it is at its first prompt, or soon."""
    check("prompt", machine.until(f"{name}:/root#", 0) >= 0)
    check("arithmetic", machine.answers("echo $((6 * 7))x\r", "42x"))
    check("64 MiB of disk", machine.answers("cd /mnt; md5sum -c data.md5\r", "data: OK"))
    check("disk written", machine.answers(
        "cp data copy; rm copy; sync; cp README back; cmp README back && echo sa''me\r", "same"))


def bare(machine, check):
    shell(machine, check, "bare")
    machine.send("poweroff\r")
    check("poweroff", machine.ends())


def two_begin(machine, check):
    check("both are there", machine.until("Ctrl-] 2  debian2", 0) >= 0)
    machine.send(ESCAPE + "1")


def two_end(machine, check):
    machine.send(ESCAPE + "q")
    check("the machine powers off", machine.ends())
    check("nothing leaked", "LEAK" not in machine.text and "PANIC" not in machine.text)


def sums(text):
    return set(re.findall(r"^([0-9a-f]{32})  -$", text, re.MULTILINE))


def two(machine, check, mib=8):
    two_begin(machine, check)
    shell(machine, check, "debian")
    check("the year", machine.answers("date -u +%Y\r", time.strftime("%Y", time.gmtime())))
    check("the other's prompt", machine.answers(ESCAPE + "2", "debian2:/root#"))
    check("ping", machine.answers("ping -c 3 10.0.0.1\r", "3 packets received"))
    machine.send("nc -l -p 99 | md5sum; echo do''ne\r")
    machine.answers(ESCAPE + "1", "debian:/mnt#")
    content = f"cat data data | head -c {mib << 20}"
    check(f"{mib} MiB sent", machine.answers(
        f"{content} | md5sum; {content} | nc 10.0.0.2 99; echo se''nt\r", "\nsent"))
    start = len(machine.text)
    check(f"{mib} MiB received", machine.answers(ESCAPE + "2", "\ndone"))
    sent, received = sums(machine.text[:start]), sums(machine.text[start:])
    check(f"the same {mib} MiB", len(sent) == 1 and sent == received)
    machine.send(ESCAPE + "1")
    check("one powers off", machine.answers("poweroff\r", "[debian has ended]"))
    check("the other goes on", machine.answers(ESCAPE + "2" + "echo $((6 * 7))y\r", "42y"))
    check("it reboots", machine.answers("reboot\r", "Linux version"))
    check("the prompt again", machine.until("debian2:/root#", machine.text.rfind("Linux version"))
          >= 0)
    start = len(machine.text)
    machine.send(ESCAPE + "0vm debian2 shutdown\r")
    check("the power button", machine.until("[debian2 has ended]", start) >= 0)
    two_end(machine, check)


def hundred(machine, check):
    """100 MiB of the disk's data, written 64 KiB at a time."""
    two_begin(machine, check)
    check("prompt", machine.until("debian:/root#", 0) >= 0)
    check("the other's prompt", machine.answers(ESCAPE + "2", "debian2:/root#"))
    machine.send("nc -l -p 99 -e sh -c 'md5sum >/tmp/sum'; cat /tmp/sum; echo do''ne\r")
    machine.answers(ESCAPE + "1", "debian:/root#")
    part = "dd if=/mnt/data bs=64k 2>/dev/null"
    check("100 MiB sent", machine.answers(
        f"nc 10.0.0.2 99 -e sh -c '{part}; {part} count=576'; echo se''nt\r", "\nsent"))
    start = len(machine.text)
    check("100 MiB received", machine.answers(ESCAPE + "2", "\ndone"))
    data = hashlib.shake_128(b"exovisor disk-64").digest(64 << 20)  # as tools/guest.sh makes it
    check("the same 100 MiB", sums(machine.text[start:])
          == {hashlib.md5(data + data[:36 << 20]).hexdigest()})
    two_end(machine, check)


def three(machine, check):
    """All of them busy, and a native program with a quarter of the time slots."""
    check("they are there", machine.until("Ctrl-] 4  share", 0) >= 0)
    for i, name in enumerate(("debian", "debian2", "debian3"), 1):
        check(f"prompt of {name}", machine.answers(f"{ESCAPE}{i}\r", f"{name}:/root#"))
        check(f"{name} is busy", machine.answers(
            "while :; do :; done & echo b''usy\r", "\nbusy"))
    measured = shares(machine, 6)
    check(f"a quarter is guaranteed: {measured} permille",
          len(measured) == 6 and all(245 <= share <= 400 for share in measured))
    check("orders: memory", machine.answers(ESCAPE + "0vm debian2 mem-set 192\r", "asked to keep 192"))
    check("the balloon inflates", balloon(machine, 65536))
    check("orders: memory back", machine.answers("vm debian2 mem-set 256\r", "asked to keep 256"))
    check("the balloon deflates", balloon(machine, 0))
    check("orders: nonsense", machine.answers("vm debian2 mem-set much\r", "mem-set takes MiB"))
    check("orders: the end", machine.answers("vm debian3 destroy\r", "[debian3 has ended]"))
    check("the others go on", machine.answers(ESCAPE + "1echo $((6 * 7))z\r", "42z"))
    machine.send(ESCAPE + "q")
    check("the machine powers off", machine.ends())
    check("nothing leaked", "LEAK" not in machine.text and "PANIC" not in machine.text)


def shares(machine, count):
    """What the program measures in so many periods from now on."""
    machine.answers(ESCAPE + "4", "share in period")
    said = [0]
    for _ in range(3):  # what it said before now is repeated first
        time.sleep(1)
        machine.answers("", " permille\n")
        said = [int(n) for n in re.findall(r"share in period (\d+): \d+ permille", machine.text)]
    last = max(said, default=0)
    machine.until(f"share in period {last + count + 1}: ", 0)
    found = dict(re.findall(r"share in period (\d+): (\d+) permille", machine.text))
    return [int(found.get(str(last + i), 0)) for i in range(1, count + 1)]


def balloon(machine, kib):
    """Does it come to have so much?"""
    for _ in range(60):
        machine.answers("vm debian2 info\r", "virtual CPU")
        if f"the balloon has {kib} KiB" in machine.text[-400:]:
            return True
        time.sleep(1)
    return False


def make_three():
    subprocess.run(["tools/run.sh", THREE_ARCHIVE], check=True,
                   env=dict(os.environ, GUESTS="3", GUEST_MEMORY="256",
                            PROGRAM="build/user/tests/consoleboot/share.elf"))


def pvh(machine, check):
    check("prompt", machine.until("pvh:/root#", 0) >= 0)
    check("on the virtio console", machine.answers("tty\r", "/dev/hvc0"))
    check("two CPUs", machine.answers("nproc; echo n''p\r", "2\nnp"))
    check("work on both", machine.answers(
        "for i in 0 1; do taskset $((i + 1)) md5sum /bin/busybox & done; wait; echo do''ne\r",
        "\ndone"))
    check("they call each other", machine.answers(
        "grep -E 'RES|CAL' /proc/interrupts; echo i''pi\r", "\nipi"))
    check("reboot", machine.answers("reboot\r", "This is a shell of busybox"))
    check("both again", machine.answers("\r", "pvh:/root#")
          and machine.answers("nproc; echo n''p\r", "2\nnp"))
    check("poweroff", machine.answers("poweroff\r", "[guest has ended]"))
    machine.send(ESCAPE + "q")
    check("the machine powers off", machine.ends())
    check("nothing leaked", "LEAK" not in machine.text and "PANIC" not in machine.text)


def make_pvh():
    subprocess.run(["tools/guest.sh", "vmlinux"], check=True)
    subprocess.run(["tools/run.sh", PVH_ARCHIVE], check=True, env=dict(
        os.environ, GUEST=f"{FILES}vmlinux,{FILES}initrd,console=ttyS0 console=hvc0 hostname=pvh",
        GUEST_CPUS="2"))


BIOS = "/usr/share/seabios/bios-256k.bin"  # Debian's package, which QEMU depends on
FIRMWARE = "build/firmware/"
FIRMWARE_CONFIG = '''name = "guest"
firmware = "kernel"
memory = 32
vcpus = 2
disk = [ "disk.img,raw,vda,rw" ]
'''


def firmware(machine, check):
    check("it is there", machine.until("Ctrl-] 1  guest", 0) >= 0)
    check("its message", machine.answers(ESCAPE + "1", "Press ESC for boot menu"))
    check("boot menu", machine.answers("\x1b", "Select boot device"))
    check("boots a virtio disk", machine.answers("1", "boot sector: here"))
    check("its keyboard", machine.answers("x", "<x>") and machine.answers("E", "<E>"))
    check("reset", machine.answers("r", "Press ESC for boot menu"))
    check("boots without the menu", machine.until("boot sector: here", machine.text.rfind("ESC")) > 0)
    check("power off", machine.answers("p", "[guest has ended]"))
    machine.send(ESCAPE + "q")
    check("the machine powers off", machine.ends())


def make_firmware():
    os.makedirs(FIRMWARE, exist_ok=True)
    elf = FIRMWARE + "boot.elf"
    subprocess.run(["gcc", "-m32", "-nostdlib", "-static", "-Wl,-Ttext=0x7c00,--build-id=none",
                    "-o", elf, "tests/firmware/boot.S"], check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", elf, FIRMWARE + "disk.img"],
                   check=True)
    os.truncate(FIRMWARE + "disk.img", 1 << 20)
    with open(FIRMWARE + "guest.cfg", "w", encoding="ascii") as file:
        file.write(FIRMWARE_CONFIG)
    subprocess.run(["tools/run.sh", FIRMWARE_ARCHIVE], check=True,
                   env=dict(os.environ, GUEST=BIOS, GUEST_CONFIG=FIRMWARE + "guest.cfg",
                            DISK=FIRMWARE + "disk.img", GUEST_MEMORY="32"))


HOSTILE = "build/hostile/"
DEADLY = [  # what tests/hostile/die.c knows, and what the monitor must say of it
    ("triple", "virtual CPU 0: triple fault"),
    ("run", "instructions at e8000000, where there is no memory"),
    ("walk", "page tables at e8000000, where there is no memory"),
    ("stack", "the guest is ended"),
    ("access", "an instruction that is not emulated"),
]


def hostile(machine, check):
    check("they are there", machine.until("Ctrl-] 8  halts", 0) >= 0)
    for number, (name, words) in enumerate(DEADLY, 2):
        ended = f"[{name} has ended]" in machine.text or machine.until(f"[{name} has ended]", 0) >= 0
        start = len(machine.text)
        said = machine.answers(f"{ESCAPE}{number}", words)
        said = said and machine.until("  code ", start) >= 0  # its registers, too
        check(f"ends, with a report: {name}", ended and said)
    for number, name in ((7, "loops"), (8, "halts")):
        check(f"goes on: {name}", machine.answers(f"{ESCAPE}{number}", "hostile: begins"))
    start = len(machine.text)
    check("tests end", machine.answers(ESCAPE + "1", "[all has ended]"))
    verdicts = re.findall(r"^(PASS|FAIL) hostile: (.*)$", machine.text[start:], re.MULTILINE)
    for verdict, what in verdicts:
        check(what, verdict == "PASS")
    check("no test is missing", len(verdicts) >= 20 and "hostile: 0 failed" in machine.text)
    check("the console goes on", machine.answers(ESCAPE + "0help\r", "exo> "))
    machine.send(ESCAPE + "q")
    check("the machine powers off", machine.ends())
    check("nothing leaked", "LEAK" not in machine.text and "PANIC" not in machine.text)


def hostile_guest():
    os.makedirs(HOSTILE, exist_ok=True)
    elf = HOSTILE + "guest.elf"
    subprocess.run(["gcc", "-m32", "-std=gnu11", "-O2", "-ffreestanding", "-nostdlib", "-static",
                    "-fno-pie", "-no-pie", "-fno-stack-protector", "-fcf-protection=none",
                    "-fno-asynchronous-unwind-tables", "-fno-strict-aliasing",
                    "-mgeneral-regs-only", "-Wall", "-Wextra", "-Werror",
                    "-Wl,-Ttext=0x100000,--build-id=none,-z,noexecstack", "-o", elf,
                    "tests/hostile/start.S"]
                   + sorted(glob.glob("tests/hostile/*.c")), check=True)
    return elf


def make_hostile():
    elf = hostile_guest()
    config = ["program console memory=8M slots=4 console=yes tables=yes irqs=yes wait=yes"]
    pack = ["guest.elf=" + elf]
    for name in ["all"] + [name for name, _ in DEADLY] + ["loops", "halts"]:
        text = [f'name = "{name}"', 'kernel = "guest.elf"', "memory = 16", 'on_reboot = "destroy"',
                'disk = [ "ram:1M,raw,vda,rw" ]']
        text.append("vcpus = 2" if name == "all" else f'extra = "die={name}"')
        with open(f"{HOSTILE}{name}.cfg", "w", encoding="ascii") as file:
            file.write("\n".join(text) + "\n")
        pack.append(f"{name}.cfg={HOSTILE}{name}.cfg")
        slots = 16 if name == "all" else 4
        config += [f"program {name} file=vmm memory=64M slots={slots} slots-other={slots} "
                   f"selectors=512 archive=yes args={name}.cfg",
                   f"channel console {name} tag=console"]
    with open(HOSTILE + "config", "w", encoding="ascii") as file:
        file.write("\n".join(config + ["shutdown 604 2000 2"]) + "\n")
    subprocess.run(["tools/archive.sh", HOSTILE_ARCHIVE, "root=build/user/root.image",
                    f"config={HOSTILE}config", "console=build/user/apps/console.elf",
                    "vmm=build/user/vmm.elf"] + pack, check=True)


def make_archive():
    subprocess.run(["tools/run.sh", ARCHIVE], check=True,
                   env=dict(os.environ, GUESTS="2", DISK=FILES + "disk-64.img"))


SESSIONS = {"bare": (bare, BARE), "two": (two, TWO), "hundred": (hundred, TWO), "three": (three, THREE),
            "pvh": (pvh, PVH),
            "firmware": (firmware, WITH_FIRMWARE),
            "hostile": (hostile, WITH_HOSTILE)}


def run(name, options=(), show=False):
    """Returns (lines of verdicts, what was printed)."""
    session, defaults = SESSIONS[name]
    for what in ([], ["disk-64"]) if session in (bare, two, hundred) else ():
        subprocess.run(["tools/guest.sh"] + what, check=True)
    if session in (two, hundred):
        make_archive()
    if session is three:
        subprocess.run(["tools/guest.sh"], check=True)
        make_three()
    if session is pvh:
        make_pvh()
    if session is firmware:
        make_firmware()
    if session is hostile:
        make_hostile()
    options = emu.arguments(defaults + list(options))
    return console.talk(name, lambda directory: console.Console(options, directory, WAIT), session,
                        show)


def main(argv):
    if not argv or argv[0] not in SESSIONS:
        print(__doc__, file=sys.stderr)
        return 2
    return console.status(*run(argv[0], argv[1:], True))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
