#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Types at Linux guests, and checks what they answer.

    guests.py bare            the guest's files on the emulator itself, without exovisor
    guests.py two [options]   two guests of exovisor, a disk each, on one switch
    guests.py pvh [options]   one with two virtual CPUs, whose kernel is entered by PVH
    guests.py firmware [opt.] SeaBIOS in exovisor, its boot menu, and a boot sector of ours

Prints a line "PASS name: what" or "FAIL name: what" for each check. Options are those of
emu.py. Makes the guest's files; the others need what `make` makes.
"""
import os
import subprocess
import sys
import tempfile

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
FIRMWARE_ARCHIVE = "build/firmware.cpio"
WITH_FIRMWARE = ["--kernel", "build/release/kernel.elf", "--archive", FIRMWARE_ARCHIVE,
                 "--memory", "512M"]
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


def two(machine, check):
    check("both are there", machine.until("Ctrl-] 2  debian2", 0) >= 0)
    machine.send(ESCAPE + "1")
    shell(machine, check, "debian")
    check("the other's prompt", machine.answers(ESCAPE + "2", "debian2:/root#"))
    check("ping", machine.answers("ping -c 3 10.0.0.1\r", "3 packets received"))
    machine.send("nc -l -p 99 | md5sum; echo do''ne\r")
    machine.answers(ESCAPE + "1", "debian:/mnt#")
    check("64 MiB sent", machine.answers("cat data.md5; nc 10.0.0.2 99 <data; echo se''nt\r",
                                         "\nsent"))
    start = len(machine.text)
    check("64 MiB received", machine.answers(ESCAPE + "2", "\ndone"))
    sums = [line.split()[0] for line in machine.text.split("\n") if line.endswith("  data")]
    check("the same 64 MiB", sums and f"{sums[-1]}  -" in machine.text[start:])
    machine.send(ESCAPE + "1")
    check("one powers off", machine.answers("poweroff\r", "[debian has ended]"))
    check("the other goes on", machine.answers(ESCAPE + "2" + "echo $((6 * 7))y\r", "42y"))
    check("it reboots", machine.answers("reboot\r", "debian2:/root#"))
    machine.send(ESCAPE + "q")
    check("the machine powers off", machine.ends())
    check("nothing leaked", "LEAK" not in machine.text and "PANIC" not in machine.text)


def pvh(machine, check):
    check("prompt", machine.until("pvh:/root#", 0) >= 0)
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
        os.environ, GUEST=f"{FILES}vmlinux,{FILES}initrd,console=ttyS0 hostname=pvh",
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


def make_archive():
    subprocess.run(["tools/run.sh", ARCHIVE], check=True,
                   env=dict(os.environ, GUESTS="2", DISK=FILES + "disk-64.img"))


SESSIONS = {"bare": (bare, BARE), "two": (two, TWO), "pvh": (pvh, PVH),
            "firmware": (firmware, WITH_FIRMWARE)}


def run(name, options=()):
    """Returns (lines of verdicts, what was printed)."""
    verdicts = []

    def check(what, good):
        verdicts.append(f"{'PASS' if good else 'FAIL'} {name}: {what}")

    session, defaults = SESSIONS[name]
    for what in ([], ["disk-64"]) if session is not firmware else ():
        subprocess.run(["tools/guest.sh"] + what, check=True)
    if session is two:
        make_archive()
    if session is pvh:
        make_pvh()
    if session is firmware:
        make_firmware()
    with tempfile.TemporaryDirectory(prefix="guests.") as directory:
        machine = console.Console(emu.arguments(defaults + list(options)), directory, WAIT)
        try:
            session(machine, check)
        except OSError as error:
            check(f"the emulator ended: {error}", False)
        finally:
            emu.stop(machine.process)
    return verdicts, machine.text


def main(argv):
    if not argv or argv[0] not in SESSIONS:
        print(__doc__, file=sys.stderr)
        return 2
    verdicts, text = run(argv[0], argv[1:])
    print("\n".join(verdicts))
    failed = any(line.startswith("FAIL") for line in verdicts)
    if failed:
        print(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
