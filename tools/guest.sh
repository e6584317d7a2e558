#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Makes the files of a Linux guest, out of Debian's own packages and tools/guest/init:
#
#   guest.sh          build/guest/vmlinuz   the kernel, unmodified
#                     build/guest/initrd    busybox, virtio's drivers, our init
#                     build/guest/disk.img  a small ext4 disk
#   guest.sh disk-64  build/guest/disk-64.img  64 MiB of data, with their checksums
#   guest.sh vmlinux  build/guest/vmlinux  the kernel unpacked, for its PVH entry
#   guest.sh busybox  build/guest/busybox-static/bin/busybox alone
#
# The packages are downloaded by apt-get and unpacked in build/guest; nothing is
# installed. What is there already is kept; the same packages give the same files.
set -eu
PATH=$PATH:/usr/sbin:/sbin # where mke2fs is, for whom it is not in PATH
cd "$(dirname "$0")/.."
out=build/guest
mkdir -p $out
export LC_ALL=C
umask 022

fail() {
    echo "guest.sh: $*" >&2
    exit 1
}

# package NAME: downloads and unpacks it into $out/NAME.
package() {
    [ -e "$out/$1/.done" ] && return
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
        fail "needs apt-get and dpkg-deb of Debian, or $out/vmlinuz and $out/initrd made elsewhere"
    echo "guest: downloading Debian's package $1"
    rm -rf "${out:?}/$1"
    mkdir -p "$out/$1"
    (cd "$out/$1" && apt-get download -qq -o APT::Sandbox::User=root "$1" 2>error) ||
        fail "cannot download $1, and there is no copy of it: $(tail -n 1 "$out/$1/error")"
    dpkg-deb -x "$out/$1"/*.deb "$out/$1"
    rm -f "$out/$1"/*.deb "$out/$1/error"
    touch "$out/$1/.done"
}

# The newest cloud kernel that apt knows, or the one that is here.
kernel_package() {
    name=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1)
    for here in "$out"/linux-image-*/.done; do
        [ -e "$here" ] && name=$(basename "$(dirname "$here")")
    done
    [ -n "$name" ] ||
        fail "apt knows no linux-image-cloud-amd64: 'apt-get update' (as root) fetches its lists"
    echo "$name"
}

# In the order in which they need each other.
modules="virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk
failover net_failover virtio_net rng-core virtio-rng virtio_balloon virtio_console button evdev"

# A cpio archive, not packed: unpacking costs the guest more than reading.
make_initrd() {
    echo "guest: packing $out/initrd"
    root=$out/initrd.d
    rm -rf $root
    mkdir -p $root/bin $root/dev $root/proc $root/sys $root/mnt $root/root $root/tmp \
        $root/lib/modules $root/etc/acpi/PWRF
    cp $out/busybox-static/bin/busybox $root/bin/
    for applet in sh acpid cttyhack insmod mount ip setsid; do
        ln -s busybox $root/bin/$applet
    done
    for module in $modules; do
        file=$(find "$1/lib/modules" -name "$module.ko")
        if [ -z "$file" ]; then # built in, where the kernel says so
            grep -q "/$module.ko$" "$1"/lib/modules/*/modules.builtin ||
                fail "this kernel has no driver $module"
            continue
        fi
        cp "$file" $root/lib/modules/
        echo "$module" >>$root/lib/modules/order
    done
    cp tools/guest/init $root/init
    # What acpid runs when the power button is pressed.
    printf '#!/bin/sh\nkill -USR2 1\n' >$root/etc/acpi/PWRF/00000080
    chmod 755 $root/etc/acpi/PWRF/00000080
    find $root -exec touch -h -d @0 {} +
    (cd $root && find . -mindepth 1 | sort | cpio --quiet --reproducible -o -H newc -R 0:0) \
        >$out/initrd.new
    rm -rf $root
    mv $out/initrd.new $out/initrd
}

# disk NAME MEGABYTES-OF-DATA MEGABYTES: bytes that look random, and their checksums.
make_disk() {
    command -v mke2fs >/dev/null || fail "needs mke2fs (package e2fsprogs)"
    echo "guest: making $out/$1.img, $2 MiB of data"
    root=$out/$1.d
    rm -rf "$root"
    mkdir -p "$root"
    python3 -c "import hashlib, sys
sys.stdout.buffer.write(hashlib.shake_128(b'exovisor $1').digest($2 << 20))" >"$root/data"
    (cd "$root" && sha256sum data >data.sha256 && md5sum data >data.md5)
    echo "A disk of exovisor's Linux guest: 'md5sum -c data.md5' reads all of it." >"$root/README"
    find "$root" -exec touch -d @0 {} +
    rm -f "$out/$1.new"
    E2FSPROGS_FAKE_TIME=1 mke2fs -q -t ext4 -F -b 4096 -d "$root" -L exovisor \
        -U 45584f00-0000-4000-8000-000000000001 \
        -E hash_seed=45584f00-0000-4000-8000-000000000002,root_owner=0:0 "$out/$1.new" "${3}M" >/dev/null
    for file in data data.sha256 data.md5 README; do # the one time that nobody can set
        echo "set_inode_field $file ctime @1"
    done | debugfs -w -f - "$out/$1.new" >/dev/null 2>&1
    rm -rf "$root"
    mv "$out/$1.new" "$out/$1.img"
}

case ${1-} in
'')
    kernel=$(kernel_package)
    package "$kernel"
    package busybox-static
    vmlinuz=$(echo "$out/$kernel"/boot/vmlinuz-*)
    [ -e $out/vmlinuz ] && cmp -s "$vmlinuz" $out/vmlinuz || cp "$vmlinuz" $out/vmlinuz
    if [ ! -e $out/initrd ] || [ tools/guest/init -nt $out/initrd ] ||
        [ tools/guest.sh -nt $out/initrd ] || [ "$out/$kernel/.done" -nt $out/initrd ]; then
        make_initrd "$out/$kernel"
    fi
    [ -e $out/disk.img ] || make_disk disk 4 16
    ;;
disk-64)
    [ -e $out/disk-64.img ] || make_disk disk-64 64 80
    ;;
vmlinux)
    [ $out/vmlinux -nt $out/vmlinuz ] || tools/vmlinux.py $out/vmlinuz $out/vmlinux
    ;;
busybox)
    package busybox-static
    ;;
*)
    fail "what is '$1'? nothing, disk-64, vmlinux, or busybox"
    ;;
esac
