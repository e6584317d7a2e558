#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Takes the ELF file out of a Linux bzImage: vmlinux.py BZIMAGE OUTPUT.

Knows kernels packed by gzip, xz, lzma, bzip2 and lz4 (its "legacy" frames), which the
standard library or this file unpacks. Linux: Documentation/x86/boot.rst, payload_offset;
lz4: doc/lz4_Block_format.md, doc/lz4_Frame_format.md.
"""
import bz2
import lzma
import struct
import sys
import zlib

LZ4_LEGACY = b"\x02\x21\x4c\x18"


def lz4_length(data, at, length):
    """A length that goes on in further bytes while they are 255."""
    if length == 15:
        while True:
            more = data[at]
            at += 1
            length += more
            if more != 255:
                break
    return length, at


def lz4_block(data, at, end, out):
    """Appends the unpacked block data[at:end] to out."""
    start = len(out)
    while at < end:
        token = data[at]
        literals, at = lz4_length(data, at + 1, token >> 4)
        out += data[at:at + literals]
        at += literals
        if at >= end:
            break
        offset = data[at] | data[at + 1] << 8
        length, at = lz4_length(data, at + 2, token & 15)
        length += 4
        source = len(out) - offset
        if offset == 0 or source < start:
            raise ValueError("a match before the block")
        if offset >= length:
            out += out[source:source + length]
        else:
            piece = bytes(out[source:])
            out += (piece * (length // offset + 1))[:length]


def lz4_legacy(data):
    out, at = bytearray(), len(LZ4_LEGACY)
    while at + 4 <= len(data):
        size, = struct.unpack_from("<I", data, at)
        if size == 0 or at + 4 + size > len(data):
            break  # the unpacked size, which the kernel's build appends
        lz4_block(data, at + 4, at + 4 + size, out)
        at += 4 + size
    return bytes(out)


def unpack(payload):
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(wbits=31).decompress(payload)
    if payload.startswith(b"\xfd7zXZ") or payload.startswith(b"\x5d\0\0"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"BZh"):
        return bz2.BZ2Decompressor().decompress(payload)
    if payload.startswith(LZ4_LEGACY):
        return lz4_legacy(payload)
    if payload.startswith(b"\x7fELF"):
        return payload
    raise ValueError("packed in a way that is not known here")


def extract(image):
    if image[0x202:0x206] != b"HdrS" or struct.unpack_from("<H", image, 0x206)[0] < 0x208:
        raise ValueError("no bzImage of boot protocol 2.08 or later")
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = ((image[0x1F1] or 4) + 1) * 512 + offset
    if start + length > len(image):
        raise ValueError("its payload is cut off")
    elf = unpack(image[start:start + length])
    if not elf.startswith(b"\x7fELF"):
        raise ValueError("its payload is no ELF file")
    return elf


def main(argv):
    if len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        with open(argv[0], "rb") as file:
            elf = extract(file.read())
        with open(argv[1], "wb") as file:
            file.write(elf)
    except (OSError, ValueError, IndexError, zlib.error, lzma.LZMAError) as error:
        print(f"vmlinux.py: {argv[0]}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
