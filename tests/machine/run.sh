#!/bin/sh
# lmxd under a real systemd as pid 1: a Debian of our own making, in a virtual machine, without KVM if need be.
# As root: tests/machine/run.sh DIRECTORY MODEL.gguf; needs debootstrap, qemu-system-x86 and e2fsprogs, and some 20 minutes.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
work=$1 model=$2
root=$work/root
mkdir -p "$work"
if [ ! -e "$root/sbin/init" ]; then
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,udev,python3,python3-venv,libgomp1,procps,kmod,linux-image-cloud-amd64 \
        bookworm "$root"
fi
(cd "$here" && VERSION=0.1.0 contrib/deb/build.sh && VERSION=0.1.1 contrib/deb/build.sh) >"$work/build.log" 2>&1
rm -rf "$root/try"
install -d "$root/try"
cp "$here"/build/lmxd_0.1.[01]_amd64.deb "$here/tests/machine/inside.sh" "$here/tests/fake_llama_server.py" "$here/tests/fake_slots.py" "$root/try/"
cp "$model" "$root/try/model.gguf"
cat >"$root/etc/systemd/system/try.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash /try/inside.sh
ExecStopPost=/bin/systemctl poweroff --no-block
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
TimeoutStartSec=3600
[Install]
WantedBy=multi-user.target
UNIT
chroot "$root" systemctl mask serial-getty@ttyS0.service getty@tty1.service >/dev/null 2>&1
chroot "$root" systemctl enable try.service >/dev/null 2>&1
echo '/dev/vda / ext4 defaults 0 1' >"$root/etc/fstab"
rm -f "$work/disk.img"
truncate -s 3G "$work/disk.img"
mke2fs -q -t ext4 -d "$root" "$work/disk.img"
accel=tcg
[ ! -w /dev/kvm ] || ! grep -qE 'vmx|svm' /proc/cpuinfo || accel=kvm
qemu-system-x86_64 -M q35 -accel "$accel" -cpu max -smp 2 -m 3072 -nographic -no-reboot \
    -kernel "$root"/boot/vmlinuz-* -initrd "$root"/boot/initrd.img-* -append 'root=/dev/vda rw console=ttyS0 quiet' \
    -drive "file=$work/disk.img,format=raw,if=virtio" -nic none </dev/null | stdbuf -o0 tr -d '\r' | tee "$work/console.log" | grep --line-buffered -aE '^(ok|not ok|#|---)'
grep -qa '^--- all done' "$work/console.log" && ! grep -qa '^not ok' "$work/console.log"
