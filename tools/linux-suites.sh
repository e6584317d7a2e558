#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Makes build/linux/suite: programs that others wrote, built by musl's compiler out of the
# unmodified sources of Debian's packages, and test-suites out of the same packages:
#
#   busybox/  busybox's testsuite (run with Debian's own static busybox, its configuration)
#   ash/      busybox's shell/ash_test, for any shell
#   bin/      dash, mksh, lua5.4
#   mksh/     mksh's check.t, made by tests/libos/check.py into files of one test each
#   lua/      our own tests of lua (the package has none)
#
# What runs them inside is tests/libos/suite-run.
set -eu
cd "$(dirname "$0")/.."
out=$(pwd)/build/linux/suite
source=$(pwd)/build/source
include=$(pwd)/build/linux/include
compiler="musl-gcc -isystem $include"

fail() {
    echo "linux-suites.sh: $1: see $source/$1.log" >&2
    exit 1
}

build_dash() { # priv.c came by Debian's patch and is not in the makefile that the package has
    cd "$source/dash"
    [ -e Makefile ] || CC="$compiler -static" CFLAGS=-O2 ./configure || return 1
    made="ACLOCAL=: AUTOMAKE=: AUTOCONF=: AUTOHEADER=:"
    # shellcheck disable=SC2086
    make -C src $made priv.o && make $made LIBS=priv.o
    cp src/dash "$out/bin/dash"
}

build_mksh() {
    mkdir -p "$source/mksh/obj"
    cd "$source/mksh/obj"
    CC=$compiler CFLAGS=-O2 CPPFLAGS=-DMKSH_BUILDMEAT LDFLAGS=-static sh ../Build.sh -r || return 1
    cp mksh "$out/bin/mksh"
}

build_lua() {
    cd "$source/lua5.4/src"
    echo '#define DEB_HOST_MULTIARCH "x86_64-linux-musl"' >lua5.4-deb-multiarch.h
    # shellcheck disable=SC2046
    $compiler -static -O2 -std=gnu99 -DLUA_USE_POSIX -o "$out/bin/lua5.4" \
        $(find . -name '*.c' ! -name luac.c) -lm
}

build_busybox() {
    mkdir -p "$out/busybox" "$out/ash"
    cp -r "$source/busybox/testsuite" "$out/busybox/testsuite"
    rm -f "$out/busybox/testsuite/all_sourcecode.tests" # of sources, not of programs
    sed -n '/^CONFIG_/p; /^# CONFIG_/p' "$source/busybox/debian/config/os/linux" \
        "$source/busybox/debian/config/pkg/static" >"$out/busybox/.config"
    ln -s /bin/busybox "$out/busybox/busybox"
    cp -r "$source"/busybox/shell/ash_test/* "$out/ash"
    cp "$out/busybox/.config" "$out/ash/.config"
    for helper in recho zecho printenv; do
        $compiler -static -O2 -w -o "$out/ash/$helper" "$out/ash/$helper.c"
    done
}

[ ! -e "$out/.done" ] || exit 0
make -s -C tests/libos
tools/source.sh busybox dash mksh lua5.4
rm -rf "$out"
mkdir -p "$out/bin" "$out/lua"
for package in dash mksh lua busybox; do
    echo "suites: building $package"
    (build_$package) >"$source/$package.log" 2>&1 || fail $package
done
strip "$out"/bin/*
python3 tests/libos/check.py write "$source/mksh/check.t" "$out/mksh"
cp tests/libos/*.lua "$out/lua/"
cp tests/libos/suite-run "$out/run"
touch "$out/.done"
