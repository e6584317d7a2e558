#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Makes a boot archive with guests:
#
#   run.sh OUTPUT          monitors that root starts, behind the console's keys
#   run.sh --shell OUTPUT [PLACE=FILE ...]
#                          that of `make run`: the Linux shell, beside it the manager of
#                          virtual machines, which starts the guests (docs/manage.md);
#                          the files go to the places in the shell's file system
#
# From the environment:
#
#   GUEST=KERNEL[,RAMDISK[,COMMAND LINE]]  boots these files instead of Debian's kernel
#   GUEST_CONFIG=FILE  the guest's own configuration (docs/guide.md), with the files that
#                      GUEST names; the other settings here are then the program's only
#   GUEST_MEMORY=MIB   memory of each guest (256)
#   GUEST_CPUS=N       its virtual CPUs (1)
#   GUESTS=N           so many of them (1 to 3), on one switch
#   DISK=FILE          its disk instead of build/guest/disk.img
#   PROGRAM=FILE       a program of ours (ELF) beside them, with 16 of a CPU's 64 time slots
#                      and a channel to the console
#   MEMORY=SIZE        of the whole machine (--shell only: 1G, like 768M or 2G)
#
# The programs must be in build/user.
set -eu
cd "$(dirname "$0")/.."
shell=
if [ "$1" = --shell ]; then
    shell=yes
    shift
fi
output=$1
shift
memory=${GUEST_MEMORY:-256}
cpus=${GUEST_CPUS:-1}
guests=${GUESTS:-1}
slots=12 # of a CPU's 64: of each guest
[ -z "${PROGRAM-}" ] || slots=11
files=build/run

fail() {
    echo "run.sh: $*" >&2
    exit 1
}

number() { # NAME VALUE LEAST MOST
    case $2 in
    '' | *[!0-9]*) fail "$1 is to be a number, not '$2'" ;;
    esac
    if [ "$2" -lt "$3" ] || [ "$2" -gt "$4" ]; then fail "$1 is to be from $3 to $4"; fi
}
number GUEST_MEMORY "$memory" 16 65536
number GUEST_CPUS "$cpus" 1 8
number GUESTS "$guests" 1 3
block=16 # of the guest's memory: a power of two, as root wants it
while [ $block -lt "$memory" ]; do
    block=$((block * 2))
done

rm -rf $files
mkdir -p $files
name=debian
command="console=ttyS0"
if [ -n "${GUEST-}" ]; then
    name=guest
    kernel=${GUEST%%,*}
    rest=${GUEST#"$kernel"}
    rest=${rest#,}
    ramdisk=${rest%%,*}
    rest=${rest#"$ramdisk"}
    command=${rest#,}
    disk=${DISK-}
else
    tools/guest.sh
    kernel=build/guest/vmlinuz
    ramdisk=build/guest/initrd
    disk=${DISK-build/guest/disk.img}
fi
pack="kernel=$kernel"
[ -z "$ramdisk" ] || pack="$pack ramdisk=$ramdisk"
[ -z "$disk" ] || pack="$pack disk.img=$disk"
extra=0 # MiB of the disk: the monitor keeps it in its memory
for file in "$kernel" $ramdisk $disk ${GUEST_CONFIG-}; do
    [ -f "$file" ] || fail "there is no file '$file'"
done
[ -z "$disk" ] || extra=$(($(wc -c <"$disk") / 1048576 + 1))

# guest NUMBER NAME: its configuration, and what root is to know of it.
guest() {
    if [ -n "${GUEST_CONFIG-}" ]; then
        cp "$GUEST_CONFIG" "$files/$2.cfg"
    else
        {
            echo "# Made by tools/run.sh; the form is that of xl.cfg(5)."
            echo "name = \"$2\""
            echo "kernel = \"kernel\""
            [ -z "$ramdisk" ] || echo "ramdisk = \"ramdisk\""
            [ -n "${GUEST-}" ] || command="console=ttyS0 hostname=$2 net=10.0.0.$1/24"
            echo "extra = \"$command\""
            echo "memory = $memory"
            echo "vcpus = $cpus"
            echo "on_reboot = \"restart\""
            [ -z "$disk" ] || echo "disk = [ \"disk.img,raw,vda,rw\" ]"
            echo "vif = [ \"mac=52:54:00:00:00:0$1,bridge=net0\" ]"
        } >"$files/$2.cfg"
    fi
    pack="$pack $2.cfg=$files/$2.cfg"
    if [ -n "$shell" ]; then
        started="$started $2.cfg"
        return
    fi
    {
        echo "program $2 file=vmm memory=$((extra + 32))M block=${block}M slots=$slots slots-other=$slots" \
            "selectors=512 archive=yes args=$2.cfg"
        echo "channel console $2 tag=console"
        echo "channel console $2 tag=control size=4K"
        echo "channel $2 switch tag=net0 size=1M"
    } >>$files/config
}

started= # by the manager
{
    echo "# Made by tools/run.sh: see root/config.c for the form of these lines."
    echo "program console memory=8M slots=4 console=yes tables=yes irqs=yes wait=yes${shell:+ args=linux}"
    echo "shutdown 604 2000 2"
    [ -n "$shell" ] || echo "program switch memory=4M slots=4"
    [ -n "$shell" ] || echo "channel switch console tag=log"
} >$files/config
guest 1 $name
for i in 2 3; do
    [ "$i" -gt "$guests" ] || guest "$i" "$name$i"
done
# The shell's own: its root file system, with the guests' configurations as examples.
shell_files() {
    whole=${MEMORY:-1G}
    case $whole in
    *G) whole=$((${whole%G} * 1024)) ;;
    *M) whole=${whole%M} ;;
    *) fail "MEMORY is to be like 768M or 2G, not '$whole'" ;;
    esac
    [ "$whole" -ge 1024 ] || fail "the shell and a guest want a machine of at least 1G"
    loan= # MiB of the shell's that machines can get when they need it
    [ "$whole" -lt 1536 ] || loan=128
    [ "$whole" -lt 2048 ] || loan=256
    manager=$((whole - 640 - ${loan:-0})) # MiB in one piece: there is a hole below 4G
    [ "$manager" -le 2304 ] || manager=2304
    for i in 2 3; do
        sed "s/^name = .*/name = \"$name$i\"/; s/hostname=[^ ]*/hostname=$name$i/
            s/10.0.0.1/10.0.0.$i/; s/52:54:00:00:00:01/52:54:00:00:00:0$i/" \
            "$files/$name.cfg" >"$files/$name$i.example"
    done
    tools/linux-root.sh build/linux-run.cpio "etc/vm/${name}2.cfg=$files/${name}2.example" \
        "etc/vm/${name}3.cfg=$files/${name}3.example" "$@"
    pack="$pack linuxd=$linuxd linux-library=build/user/linux-library"
    pack="$pack linux.cpio=build/linux-run.cpio vmd=build/user/apps/vmd.elf"
    pack="$pack pager=build/user/apps/pager.elf"
    {
        echo "program vmd memory=${manager}M slots=28 slots-other=28 selectors=1024" \
            "tables=yes archive=yes borrow=yes args=${started# }"
        echo "program linux file=linuxd memory=24M block=256M ${loan:+loan=${loan}M }slots=12 selectors=1024" \
            "tables=yes archive=yes args=linux.cpio /bin/sh -l"
        echo "channel console linux tag=console"
        echo "channel linux vmd tag=vm size=256K"
        echo "channel vmd console tag=log"
    } >>$files/config
}
linuxd=build/user/libos/linux/server.elf
[ -z "$shell" ] || shell_files "$@"
if [ -n "${PROGRAM-}" ]; then
    program=$(basename "$PROGRAM" .elf)
    pack="$pack $program=$PROGRAM"
    echo "program $program memory=2M slots=16" >>$files/config
    echo "channel console $program tag=console" >>$files/config
fi
# shellcheck disable=SC2086
tools/archive.sh "$output" root=build/user/root.image config=$files/config \
    console=build/user/apps/console.elf switch=build/user/apps/switch.elf vmm=build/user/vmm.elf \
    $pack
