#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Sees to it that the tools for building and testing are there. On Debian missing
# packages are installed; elsewhere they are listed.
#
#   deps.sh          what all the tests need
#   deps.sh build    what `make` needs; run, demo, bench, iso, fuzz, proof, check: what those need
set -eu
PATH=$PATH:/usr/sbin:/sbin # where mke2fs is, for whom it is not in PATH
# package:file or command that it brings
build="gcc:gcc make:make python3:python3 cpio:cpio binutils:ld"
qemu="qemu-system-x86:qemu-system-x86_64"
guest="e2fsprogs:mke2fs"
programs="musl-tools:musl-gcc libext2fs-dev:/usr/include/ext2fs/ext2fs.h libc6-dev:/usr/include/stdio.h"
host="libc6-dev:/usr/include/stdio.h"
oracles="libcapstone-dev:/usr/include/capstone/capstone.h
libunicorn-dev:/usr/include/unicorn/unicorn.h"
iso="grub-common:grub-mkrescue grub-pc-bin:/usr/lib/grub/i386-pc/multiboot2.mod
grub-efi-amd64-bin:/usr/lib/grub/x86_64-efi/multiboot2.mod xorriso:xorriso mtools:mformat"
bochs="bochs:bochs bochs-term:/usr/lib/*/bochs/plugins/libbx_term_gui.so
bochsbios:/usr/share/bochs/BIOS-bochs-latest vgabios:/usr/share/vgabios/vgabios.bin
bsdutils:script"
case ${1-test} in
build) needed=$build ;;
run) needed="$build $qemu $guest $programs" ;;
demo) needed="$build $qemu" ;;
bench) needed="$build $qemu $guest $host $programs" ;;
iso) needed="$build $iso $guest $programs" ;;
fuzz) needed="$build $host" ;;
proof) needed="$build $host frama-c-base:frama-c why3:why3 z3:z3 cvc4:cvc4" ;;
check) needed="$build cloc:cloc clang-format:clang-format clang-tidy:clang-tidy" ;;
test) needed="$build $programs $qemu $guest $host $oracles $iso $bochs ovmf:/usr/share/OVMF/OVMF_CODE.fd cloc:cloc" ;;
*) echo "deps.sh: what is '$1'? build, run, demo, bench, iso, fuzz, proof, check, test" >&2; exit 2 ;;
esac
missing=
for pair in $needed; do
    package=${pair%%:*}
    brings=${pair#*:}
    case $brings in
    /*) ls $brings >/dev/null 2>&1 && continue ;;
    *) command -v "$brings" >/dev/null && continue ;;
    esac
    missing="$missing $package"
done
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "Needed, named as in Debian:$missing" >&2
    exit 1
fi
sudo=
if [ "$(id -u)" != 0 ]; then
    sudo=sudo
    echo "Installing needs root: sudo apt-get install$missing"
else
    echo "Installing:$missing"
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
$sudo apt-get install -y --no-install-recommends $missing ||
    { $sudo apt-get update && $sudo apt-get install -y --no-install-recommends $missing; }
