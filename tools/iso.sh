#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Makes an ISO that boots by BIOS and UEFI: iso.sh OUTPUT KERNEL ARCHIVE [COMMAND LINE]
set -eu
staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT
mkdir -p "$staging/boot/grub"
strip -o "$staging/boot/kernel.elf" "$2"
cp "$3" "$staging/boot/archive"
cat >"$staging/boot/grub/grub.cfg" <<CONFIG
set timeout=0
menuentry exovisor {
    multiboot2 /boot/kernel.elf ${4:-}
    module2 /boot/archive archive
    boot
}
CONFIG
if ! grub-mkrescue -o "$1" "$staging" >"$staging.log" 2>&1; then
    cat "$staging.log" >&2
    rm -f "$staging.log" "$1"
    exit 1
fi
rm -f "$staging.log"
