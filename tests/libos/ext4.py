#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes an ext4 image on exovisor (tests/libos/ext4), has it checked by e2fsck, and read by
Debian's kernel, which finds the same names, attributes and contents. Prints lines "PASS NAME" and
"FAIL NAME"."""
import base64
import binascii
import gzip
import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tools"))
import linux  # noqa: E402
import compare  # noqa: E402

IMAGE = "build/linux/ext4.written.img"


def part(text, name):
    match = re.search(rf"^-- {name}\n(.*?)^-- end$", text, re.MULTILINE | re.DOTALL)
    return match[1] if match else ""


def listing(side, root, command):
    return linux.run(side, root, ["/test/ext4"] + command, timeout=200)[0]


def verdict(name, good, why=""):
    print(f"{'PASS' if good else 'FAIL'} {name}" + ("" if good else f": {why}"))
    return good


def main():
    os.chdir(TOP)
    root = compare.make(["tests"])["tests"]
    text = listing("exovisor", root, ["image"])
    bad = re.findall(r"^FAIL .*$", text, re.MULTILINE)
    good = verdict("written", "end ext4" in text and not bad, "; ".join(bad))
    try:
        data = gzip.decompress(base64.b64decode(part(text, "image")))
    except (binascii.Error, EOFError, OSError) as error:
        return verdict("image", False, str(error))
    with open(IMAGE, "wb") as file:
        file.write(data)
    result = subprocess.run(["e2fsck", "-fn", IMAGE], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, check=False,
                            env=dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin"))
    good &= verdict("e2fsck", result.returncode == 0, result.stdout)
    read = "build/linux/ext4.cpio"
    subprocess.run(["tools/linux-root.sh", read, "test=build/linux/test", f"lib/ext4.img={IMAGE}"]
                   + compare.modules(), check=True)
    theirs, ours = listing("debian", read, ["list"]), part(text, "list")
    good &= verdict("debian", ours and theirs.strip().endswith(ours.strip()),
                    "\n".join(sorted(set(theirs.splitlines()) ^ set(ours.splitlines()))))
    return good


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
