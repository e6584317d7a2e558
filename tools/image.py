#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes root's image, as the kernel loads it, of a static ELF executable.

    image.py PROGRAM.elf OUTPUT

The kernel knows no ELF: the image is a header (struct image in kernel/x86/load.c) and then
the pages from the lowest address on: executable ones, read-only ones, writable ones."""
import struct
import sys

PAGE = 4096
LOAD = 1
EXECUTE, WRITE = 1, 2


def segments(elf):
    """(address, kind, content, bytes in memory), kind 0 code, 1 constants, 2 data."""
    headers = struct.unpack_from("<Q", elf, 32)[0]
    size, count = struct.unpack_from("<HH", elf, 54)
    found = []
    for i in range(count):
        kind, flags, offset, va, _, in_file, in_memory, _ = struct.unpack_from(
            "<IIQQQQQQ", elf, headers + i * size)
        if kind == LOAD and in_memory:
            role = 0 if flags & EXECUTE else 2 if flags & WRITE else 1
            found.append([va, role, elf[offset:offset + in_file], in_memory])
    found.sort()
    if found and found[0][1] == 1:
        found[0][1] = 0  # the ELF header's own page lies before the code
    return found


def main(argv):
    if len(argv) != 3:
        sys.exit(__doc__)
    with open(argv[1], "rb") as file:
        elf = file.read()
    if elf[:7] != b"\x7fELF\x02\x01\x01" or struct.unpack_from("<HH", elf, 16) != (2, 62):
        sys.exit(f"image.py: {argv[1]} is no static x86-64 ELF executable")
    parts = segments(elf)
    roles = [role for _, role, _, _ in parts]
    if not parts or roles != sorted(roles):
        sys.exit(f"image.py: {argv[1]}: its segments are not code, constants, data in order")
    base = parts[0][0] // PAGE
    end = max(-(-(va + in_memory) // PAGE) for va, _, _, in_memory in parts)
    first = [min([va // PAGE for va, role, _, _ in parts if role >= r], default=end)
             for r in range(3)] + [end]
    content = bytearray()
    for va, _, data, _ in parts:
        content.extend(bytes(va - base * PAGE - len(content)) + data)
    pages = [first[r + 1] - first[r] for r in range(3)]
    with open(argv[2], "wb") as file:
        file.write(b"EXOroot1" + struct.pack("<QQQQQ", base * PAGE,
                                             struct.unpack_from("<Q", elf, 24)[0], *pages))
        file.write(content)


if __name__ == "__main__":
    main(sys.argv)
