#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Unpacks the source of a Debian package, with Debian's patches, in build/source/PACKAGE:
#
#   source.sh PACKAGE...
#
# It is downloaded by apt-get, by lists of source packages of its own in build/source/lists,
# made of the machine's lists of packages; nothing of the machine is changed.
set -eu
cd "$(dirname "$0")/.."
out=$(pwd)/build/source

fail() {
    echo "source.sh: $*" >&2
    exit 1
}

apt() { # apt-get with these lists
    apt-get -qq -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$out/parts" \
        -o Dir::State::Lists="$out/lists" -o Dir::Cache="$out/cache" -o APT::Sandbox::User=root "$@"
}

lists() {
    [ -e "$out/lists/.done" ] && return
    mkdir -p "$out/parts" "$out/lists/partial" "$out/cache/archives/partial"
    for file in /etc/apt/sources.list.d/*.sources; do
        [ ! -e "$file" ] || sed 's/^Types:.*/Types: deb-src/' "$file" >"$out/parts/${file##*/}"
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ ! -e "$file" ] || sed -n 's/^deb /deb-src /p' "$file" >"$out/parts/${file##*/}"
    done
    apt update || fail "apt-get cannot get the lists of source packages"
    touch "$out/lists/.done"
}

for package; do
    [ -e "$out/$package/.done" ] && continue
    command -v dpkg-source >/dev/null || fail "needs dpkg-source (package dpkg-dev)"
    lists
    echo "source: downloading the source of Debian's $package"
    rm -rf "${out:?}/$package" "$out/download"
    mkdir -p "$out/download"
    (cd "$out/download" && apt source --download-only "$package") || fail "cannot download $package"
    dpkg-source --no-check -x "$out/download/"*.dsc "$out/$package" >"$out/log" 2>&1 ||
        fail "cannot unpack $package: $(tail -n 1 "$out/log")"
    rm -rf "$out/download"
    touch "$out/$package/.done"
done
