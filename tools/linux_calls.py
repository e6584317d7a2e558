#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes lx_calls.h from libos/linux/calls.list: which Linux system call is whose.

    linux_calls.py CALLS.LIST OUTPUT.H

A line of the list is the call's name, whose it is, and how its arguments travel:

    NAME server KIND...   carried to linuxd's call_NAME (server/)
    NAME library          done by the library's sys_NAME
    NAME both             the same, which asks linuxd's call_NAME its own way
    NAME leaf             done by the library's leaf_NAME, which sees no registers and never waits
    NAME quick-OWNER ...  by leaf_NAME; when that returns LEAF_FULL, as OWNER (server, library
                          or both) says

Kinds: int, path, in:BYTES, out:BYTES, inout:BYTES, opt:BYTES (out, or null), and with their length as the next
argument (len): rbuf (the server writes it), wbuf, riov, wiov (iovec and their number).
"""
import re
import subprocess
import sys

OWNERS = ("server", "library", "both", "leaf", "quick-server", "quick-library", "quick-both")
KINDS = {"int": 0, "len": 0, "path": 1, "in": 2, "out": 3, "inout": 4, "opt": 5, "rbuf": 6,
         "wbuf": 7, "riov": 8, "wiov": 9}


def numbers():
    text = subprocess.run(["gcc", "-E", "-dM", "-include", "asm/unistd_64.h", "-xc", "/dev/null"],
                          check=True, capture_output=True, text=True).stdout
    return {m[1]: int(m[2]) for m in re.finditer(r"#define __NR_(\w+) (\d+)", text)}


def read(path):
    known, seen = numbers(), {}
    with open(path, encoding="ascii") as lines:
        for number, line in enumerate(lines, 1):
            words = line.split("#")[0].split()
            if not words:
                continue
            if len(words) < 2 or words[0] not in known or words[1] not in OWNERS:
                sys.exit(f"{path}:{number}: {line.strip()}")
            if words[0] in seen:
                sys.exit(f"{path}:{number}: {words[0]} is there twice")
            args = [(w.split(":") + ["0"])[:2] for w in words[2:]]
            if len(args) > 6 or any(kind not in KINDS for kind, _ in args):
                sys.exit(f"{path}:{number}: {line.strip()}")
            seen[words[0]] = (known[words[0]], words[1], args)
    return seen


def main():
    calls = read(sys.argv[1])
    library, leaves, served, own = [], [], [], []
    for name, (number, owner, args) in calls.items():
        kinds = ", ".join(str(KINDS[kind]) for kind, _ in args) or "0"
        sizes = ", ".join(size for _, size in args) or "0"
        if owner.startswith(("leaf", "quick-")):
            leaves.append((number, name))
        if owner == "leaf":
            continue
        owner = owner.removeprefix("quick-")
        if owner != "server":
            own.append(name)
        function = f"sys_{name}" if owner != "server" else "NULL"
        library.append(f"[{number}] = {{{function}, {{{kinds}}}, {{{sizes}}}}}")
        if owner != "library":
            served.append((number, name))
    lines = ["/* SPDX-License-Identifier: MIT", " *", " * Made by tools/linux_calls.py from "
             "libos/linux/calls.list. */", "#ifndef LX_CALLS_H", "#define LX_CALLS_H",
             "#define LX_CALLS 512"]

    def macro(name, parts, end=""):
        lines.append(f"#define {name} \\")
        lines.extend(f"    {part} \\" for part in parts)
        lines.append(end)

    macro("LX_LIBRARY_DECLARATIONS", [f"sys_function sys_{n};" for n in own] +
          [f"long leaf_{n}(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);" for _, n in leaves])
    macro("LX_LIBRARY_TABLE", [part + "," for part in library])
    macro("LX_LEAF_TABLE", [f"[{n}] = leaf_{name}," for n, name in leaves])
    macro("LX_SERVER_DECLARATIONS", [f"call_function call_{name};" for _, name in served])
    macro("LX_SERVER_TABLE", [f"[{n}] = call_{name}," for n, name in served])
    macro("LX_NAMES", [f'[{number}] = "{name}",' for name, number in numbers().items()
                       if number < 512])
    lines.append("#endif")
    with open(sys.argv[2], "w", encoding="ascii") as out:
        out.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
