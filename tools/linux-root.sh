#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Makes the root file system of the Linux library OS, a cpio archive, which Debian's kernel
# boots as well (for comparison: /etc/init.debian):
#
#   linux-root.sh OUTPUT [PLACE=FILE-OR-DIRECTORY ...]
#
# In it: Debian's busybox-static, unmodified, with a link for each of its applets; the
# files of /etc; what build/linux/bin holds, in /bin; and what is named, at its place, such
# as test=build/linux/test.
set -eu
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { echo "linux-root.sh OUTPUT [PLACE=FILE-OR-DIRECTORY ...]" >&2; exit 2; }
output=$(realpath -m "$1")
shift
umask 022
export LC_ALL=C
tools/guest.sh busybox
busybox=build/guest/busybox-static/bin/busybox
mkdir -p "$(dirname "$output")"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
mkdir -p "$root"/bin "$root"/sbin "$root"/usr/bin "$root"/usr/sbin "$root"/etc "$root"/root \
    "$root"/proc "$root"/sys "$root"/dev "$root"/mnt "$root"/var/log "$root"/var/run "$root"/home
mkdir -m 1777 "$root"/tmp
cp $busybox "$root/bin/busybox"
$busybox --list-full | while read -r applet; do
    mkdir -p "$root/$(dirname "$applet")"
    [ -e "$root/$applet" ] || ln -s /bin/busybox "$root/$applet"
done

file() { # NAME: its contents from standard input
    cat >"$root/$1"
}
file etc/passwd <<'EOF'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
EOF
file etc/group <<'EOF'
root:x:0:
daemon:x:1:
tty:x:5:
nogroup:x:65534:
EOF
echo exovisor >"$root/etc/hostname"
file etc/hosts <<'EOF'
127.0.0.1 localhost
127.0.1.1 exovisor
EOF
file etc/shells <<'EOF'
/bin/sh
/bin/ash
EOF
file etc/fstab <<'EOF'
proc /proc proc defaults 0 0
tmpfs /tmp tmpfs defaults 0 0
EOF
file etc/profile <<'EOF'
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=${TERM:-vt100} PAGER=less
PS1='\u@\h:\w\$ '
cd
cat /etc/motd
EOF
file etc/motd <<'EOF'
This shell is an unmodified busybox of Debian's, a process of the Linux library OS on
exovisor. 'vm list' and 'exo ps', where they are, show what else runs on this machine.
EOF
# The first process on Debian's kernel: what exovisor's server has from the start, then the
# command that it was given, then the end of the machine.
file etc/init.debian <<'EOF'
#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=vt100
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmpfs /tmp
hostname exovisor
exec <>/dev/ttyS0 >&0 2>&1
setsid cttyhack sh /etc/run "$@"
poweroff -f
EOF
# Runs a command and says that it ended, in a line that nobody else prints.
file etc/run <<'EOF'
#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root
cd /root
"$@"
echo "LINUX ENDED $?"
EOF
chmod 755 "$root/etc/init.debian" "$root/etc/run"
if [ -d build/linux/bin ]; then cp build/linux/bin/* "$root/bin/"; fi
if [ -x build/linux/bin/extfs ]; then
    for type in ext2 ext3 ext4; do ln -s /bin/extfs "$root/sbin/mount.$type"; done
fi
for pair; do
    place=$root/${pair%%=*}
    mkdir -p "$(dirname "$place")"
    [ -e "${pair#*=}" ] || { echo "linux-root.sh: there is no ${pair#*=}" >&2; exit 1; }
    cp -a "${pair#*=}" "$place"
done
find "$root" -exec touch -h -d @0 {} +
(cd "$root" && find . -mindepth 1 | sort | cpio --quiet --reproducible -o -H newc -R 0:0) >"$output.$$"
mv "$output.$$" "$output"
