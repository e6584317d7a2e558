#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Boots exovisor in an emulator and watches its serial port.

    emu.py --kernel K --archive A [options]      QEMU, started directly (PVH)
    emu.py --iso I [--uefi] [options]            QEMU, through GRUB
    emu.py --iso I --bochs MODEL [options]       Bochs, through GRUB

With --until TEXT it ends well as soon as TEXT has been printed, and badly at the
time-out, at a panic of the kernel, or when the emulator ends by itself; then the
last lines are shown. Hardware virtualization is never used: results do not depend
on the machine that this runs on.
"""
import argparse
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

OVMF = ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd")
TAIL = 25  # lines shown of a run that went wrong
POLL = 0.2
BOCHS_BREAKS = 1000  # a triple fault, a guest's too, is a break point to Bochs's debugger

BOCHS_RC = """\
plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1, parallel=0, serial=1
display_library: term
cpu: model={model}, count={cpus}, ips=50000000, reset_on_triple_fault=0
memory: guest={memory}, host={memory}
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
boot: cdrom
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path="{iso}", status=inserted
com1: enabled=1, mode=file, dev={serial}
clock: sync=none, time0=0
log: {log}
panic: action=fatal, {tolerated}
error: action=ignore
info: action=ignore
debug: action=ignore
"""


class Failure(Exception):
    pass


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", help="kernel.elf, booted directly by QEMU")
    parser.add_argument("--archive", help="boot archive for --kernel")
    parser.add_argument("--append", default="", help="command line for --kernel")
    parser.add_argument("--iso", help="image made by tools/iso.sh")
    parser.add_argument("--uefi", action="store_true", help="boot the ISO by UEFI (OVMF)")
    parser.add_argument("--bochs", metavar="MODEL", help="Bochs with that CPU model")
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--memory", default="512M", help="like 512M or 2G (Bochs: at most 2G)")
    parser.add_argument("--cpu", default="max", help="QEMU's CPU model")
    parser.add_argument("--icount", action="store_true",
                        help="one tick an instruction: exact and repeatable (1 CPU)")
    parser.add_argument("--qemu", action="append", default=[], metavar="ARGUMENT",
                        help="one more argument for QEMU; may be repeated")
    parser.add_argument("--until", metavar="TEXT", help="end well when this is printed")
    parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--output", metavar="FILE", help="write the serial output there too")
    parser.add_argument("--quiet", action="store_true", help="do not show the serial output")
    parser.add_argument("--interactive", action="store_true",
                        help="serial port on this terminal, no time-out (end: Ctrl-A X)")
    options = parser.parse_args(argv)
    if bool(options.kernel) == bool(options.iso):
        parser.error("give either --kernel or --iso")
    if options.bochs and not options.iso:
        parser.error("Bochs boots only an ISO")
    for path in (options.kernel, options.archive, options.iso):
        if path and not os.path.exists(path):
            parser.error(f"{path} does not exist: make it first")
    return options


def qemu_command(options, directory, serial):
    command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", options.cpu,
               "-m", options.memory, "-smp", str(options.cpus), "-nodefaults",
               "-display", "none", "-no-reboot", "-serial", serial]
    if options.icount:
        command += ["-icount", "shift=0,sleep=off", "-seed", "1",
                    "-rtc", "base=2026-01-01,clock=vm"]
    if options.uefi:
        variables = os.path.join(directory, "vars.fd")
        shutil.copy(OVMF[1], variables)
        command += ["-machine", "q35",
                    "-drive", f"if=pflash,format=raw,readonly=on,file={OVMF[0]}",
                    "-drive", f"if=pflash,format=raw,file={variables}"]
    if options.iso:
        command += ["-cdrom", options.iso]
    else:
        command += ["-kernel", options.kernel, "-append", options.append]
        if options.archive:
            command += ["-initrd", options.archive]
    return command + options.qemu


def bochs_memory(text):
    number = int(text.rstrip("MmGg"))
    return number * 1024 if text[-1] in "Gg" else number


def bochs_command(options, directory, serial):
    rc = os.path.join(directory, "rc")
    commands = os.path.join(directory, "commands")
    with open(rc, "w", encoding="ascii") as file:
        file.write(BOCHS_RC.format(model=options.bochs, cpus=options.cpus,
                                   memory=bochs_memory(options.memory),
                                   iso=os.path.abspath(options.iso), serial=serial,
                                   tolerated=", ".join(f"cpu{i}=report"
                                                       for i in range(options.cpus)),
                                   log=os.path.join(directory, "log")))
    with open(commands, "w", encoding="ascii") as file:
        file.write("c\n" * BOCHS_BREAKS)
    return ["script", "-qec", f"bochs -q -f {rc} -rc {commands}", "/dev/null"]


def stop(process):
    """Ends the emulator and whatever it started: it has a process group of its own."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sig)
        except ProcessLookupError:
            break
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def watch(process, serial, options, sink):
    """Follows the growing file `serial`; returns its text."""
    end = time.monotonic() + options.timeout
    text = b""
    with open(serial, "rb") as file:
        while True:
            ended = process.poll() is not None
            more = file.read()
            text += more
            for out in sink:
                out.write(more.replace(b"\r", b""))
                out.flush()
            found = options.until and options.until.encode() in text
            panic = b"PANIC" in text
            if found and not panic:
                return text
            if panic:
                time.sleep(1)
                raise Failure("the kernel panicked", text + file.read())
            if ended:
                raise Failure("the emulator ended by itself", text)
            if time.monotonic() > end:
                if not options.until:
                    return text
                raise Failure(f"no \"{options.until}\" after {options.timeout:.0f} s", text)
            select.select([], [], [], POLL)


def run(options):
    """Runs to the end; returns the serial output, or raises Failure(reason, output)."""
    with tempfile.TemporaryDirectory(prefix="emu.") as directory:
        serial = os.path.join(directory, "serial")
        pathlib.Path(serial).touch()
        if options.bochs:
            command = bochs_command(options, directory, serial)
        else:
            command = qemu_command(options, directory, "file:" + serial)
        sink = [] if options.quiet else [sys.stdout.buffer]
        if options.output:
            sink.append(open(options.output, "wb"))
        log_path = os.path.join(directory, "emulator")
        environment = dict(os.environ, TERM="xterm", LINES="50", COLUMNS="160")
        with open(log_path, "wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=log, start_new_session=True, env=environment)
        try:
            return watch(process, serial, options, sink).decode("utf-8", "replace")
        except Failure as failure:
            reason, text = failure.args
            text = text.decode("utf-8", "replace")
            for name in () if options.bochs else (log_path,):
                text += pathlib.Path(name).read_text("utf-8", "replace")
            if options.bochs and os.path.exists(os.path.join(directory, "log")):
                lines = pathlib.Path(directory, "log").read_text("utf-8", "replace")
                text += "\n".join(lines.splitlines()[-40:])
            raise Failure(reason, text) from None
        finally:
            stop(process)
            for out in sink[0 if options.quiet else 1:]:
                out.close()


def interactive(options):
    print("QEMU: Ctrl-A X ends it at once, Ctrl-A H shows its other keys", flush=True)
    with tempfile.TemporaryDirectory(prefix="emu.") as directory:
        return subprocess.call(qemu_command(options, directory, "mon:stdio"))


def main(argv):
    options = arguments(argv)
    if options.interactive:
        return interactive(options)
    try:
        run(options)
        return 0
    except Failure as failure:
        reason, text = failure.args
        print(f"\nemu.py: {reason}; the last lines:", file=sys.stderr)
        for line in text.replace("\r", "").splitlines()[-TAIL:]:
            print("  | " + line, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
