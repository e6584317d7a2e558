#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Sees to it that the tools for building and testing are there. On Debian missing
# packages are installed; elsewhere they are listed.
#
#   deps.sh          what all the tests need
#   deps.sh run      what `make run` needs
set -eu
# package:file or command that it brings
needed="gcc:gcc make:make python3:python3 cpio:cpio binutils:ld
qemu-system-x86:qemu-system-x86_64"
[ "${1-}" = run ] || needed="$needed libc6-dev:/usr/include/stdio.h ovmf:/usr/share/OVMF/OVMF_CODE.fd
bochs:bochs bochs-term:/usr/lib/*/bochs/plugins/libbx_term_gui.so
bochsbios:/usr/share/bochs/BIOS-bochs-latest vgabios:/usr/share/vgabios/vgabios.bin
grub-common:grub-mkrescue grub-pc-bin:/usr/lib/grub/i386-pc/multiboot2.mod
grub-efi-amd64-bin:/usr/lib/grub/x86_64-efi/multiboot2.mod
xorriso:xorriso mtools:mformat bsdutils:script cloc:cloc"
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
