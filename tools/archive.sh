#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Makes a boot archive (cpio newc): archive.sh OUTPUT name=file ...
# `root` must come first: the kernel starts it, root reads `config`. Programs of ours are
# stripped; everything else is packed as it is.
set -eu
output=$(realpath -m "$1")
shift
staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT
mkdir -p "$(dirname "$output")"
names=
for pair in "$@"; do
    name=${pair%%=*}
    cp "${pair#*=}" "$staging/$name"
    case ${pair#*=} in
    build/user/*.elf) strip "$staging/$name" ;;
    esac
    touch -d @0 "$staging/$name"
    names="$names $name"
done
cd "$staging"
# Names hold no spaces: they are directories of the source tree.
printf '%s\n' $names | cpio --quiet --reproducible -o -H newc -R 0:0 >"$output"
