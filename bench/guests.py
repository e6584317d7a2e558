#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures an unmodified Linux guest, in executed instructions of the whole machine, and
puts it beside the same kernel, command line and initramfs on the emulator itself.

    guests.py [--verdicts]     --verdicts: only a line PASS or FAIL for each bar

The guest's first process is tests/linux/work.c; the emulator counts by tests/linux/count.c.
Counted from power-on: ours with exovisor's own boot, the emulator's with its firmware.
Needs the release kernel, the monitor and root (`make`), and Debian's kernel (tools/guest.sh)."""
import os
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tools"))
import emu  # noqa: E402

KERNEL = "build/guest/vmlinuz"
COMMAND = "console=ttyS0 quiet panic=-1"
MEMORY = 256  # MiB of the guest
MONITOR = 960  # KiB of the monitor: all that it is made of but the guest's memory
SELECTORS = 128
WORK = ["boot", "cpuid_2000", "getppid_100k", "console_1k", "sleep_100", "fork_exec_200"]
# name: (the best peer's figure, peer, ours must be below: a number, or a factor of bare)
BARS = {
    "boot": (1542e6, "KVM microvm", 1.03),
    "cpuid_2000": (6217077, "KVM", 800000),
    "getppid_100k": (32.6e6, "KVM", 1.01),
    "console_1k": (593514, "Xen PV console", 1000000),
    "sleep_100": (3543939, "KVM", 1500000),
    "fork_exec_200": (None, "", 1.01),
}
CONFIG = f"""\
program work file=vmm memory={MONITOR}K block={MEMORY}M selectors={SELECTORS} console=yes \
slots=30 archive=yes wait=yes args=work.cfg
shutdown 604 2000 2
"""
GUEST = f"""\
name = "work"
kernel = "vmlinuz"
ramdisk = "initrd"
extra = "{COMMAND}"
memory = {MEMORY}
vcpus = 1
"""


def compile_work(directory):
    """Makes the plugin, and an initramfs of one file, our first process."""
    flags = ["gcc", "-O2", "-Wall", "-Wextra"]
    plugin = os.path.join(directory, "count.so")
    subprocess.run(flags + ["-std=c11", "-shared", "-fPIC", "-fvisibility=hidden", "-o", plugin,
                            "tests/linux/count.c"], check=True)
    subprocess.run(flags + ["-std=gnu11", "-ffreestanding", "-fno-stack-protector", "-fno-pie",
                            "-static", "-nostdlib", "-no-pie", "-s",
                            "-o", os.path.join(directory, "init"), "tests/linux/work.c"], check=True)
    with open(os.path.join(directory, "initrd"), "wb") as file:
        subprocess.run(["cpio", "--quiet", "--reproducible", "-o", "-H", "newc", "-R", "0:0"],
                       input=b"init\n", stdout=file, cwd=directory, check=True)
    return plugin


def make_archive(directory):
    for name, text in (("config", CONFIG), ("work.cfg", GUEST)):
        with open(os.path.join(directory, name), "w", encoding="ascii") as file:
            file.write(text)
    archive = os.path.join(directory, "work.cpio")
    subprocess.run(["tools/archive.sh", archive, "root=build/user/root.image",
                    f"config={directory}/config", f"work.cfg={directory}/work.cfg",
                    f"vmlinuz={KERNEL}", f"initrd={directory}/initrd", "vmm=build/user/vmm.elf"],
                   check=True)
    return archive


def counts(options, plugin, out):
    """Name of each piece of work -> instructions."""
    emu_options = options + ["--icount", "--quiet", "--until", "Power down", "--timeout", "300",
                             "--qemu=-plugin", f"--qemu={plugin},out={out}"]
    try:
        emu.run(emu.arguments(emu_options))
    except emu.Failure as failure:
        sys.exit(f"guests.py: {failure.args[0]}:\n{failure.args[1][-3000:]}")
    with open(out, encoding="ascii") as file:
        marks = [int(line.split()[2]) for line in file if line.startswith("mark")]
    if len(marks) != len(WORK):
        sys.exit(f"guests.py: {len(marks)} marks instead of {len(WORK)}")
    return {name: count - (marks[i - 1] if i else 0)
            for i, (name, count) in enumerate(zip(WORK, marks))}


def main(argv):
    os.chdir(TOP)
    subprocess.run(["tools/guest.sh"], check=True, stdout=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="bench.") as directory:
        plugin = compile_work(directory)
        out = os.path.join(directory, "counts")
        ours = counts(["--kernel", "build/release/kernel.elf", "--archive",
                       make_archive(directory), "--memory", "768M"], plugin, out)
        bare = counts(["--kernel", KERNEL, "--archive", os.path.join(directory, "initrd"),
                       "--memory", f"{MEMORY}M", "--append", COMMAND], plugin, out)
    failed = False
    rows = [(name, ours[name], bare[name], *BARS[name]) for name in WORK]
    kib = MONITOR + 4 * (3 + SELECTORS // 64)
    rows.append(("monitor_memory_kib", kib, None, 3 << 10, "Xen without dom0", 1024))
    for name, value, alone, peer, who, bar in rows:
        limit = bar * alone if isinstance(bar, float) else bar
        failed |= value >= limit
        label = name if name.startswith("monitor") else "guest_" + name
        if "--verdicts" in argv:
            print(f"{'PASS' if value < limit else 'FAIL'} bench {label} {value},"
                  f" to be below {limit:.0f}")
        else:
            print(f"bench {label} {value}" + (f"  bare emulator {alone}" if alone else "")
                  + (f"  {who} {peer:.0f}" if peer else "") + f"  aim {limit:.0f}{'' if value < limit else ' not reached'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
