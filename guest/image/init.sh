#!/bin/busybox sh
# First process of the guest: loads the drivers, mounts the root image, becomes the agent.
#
# Every program start costs here, most of all under emulation: one modprobe for all modules, no proc, and sysfs only
# if there is more than one disk to choose from.

box=/bin/busybox
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

# With -no-reboot the virtual machine ends at once, and this line is the last one of its console.
fail() {
    echo "kata-initrd: $1"
    $box reboot -f
    exit 1
}

$box mount -t devtmpfs dev /dev || fail "cannot mount devtmpfs on /dev"
read -r modules </etc/modules
modprobe -a $modules

# A console that needs a driver (hvc0) exists only now.
if { : >/dev/console; } 2>/dev/null; then
    exec </dev/console >/dev/console 2>&1
else
    exec </dev/null >/dev/kmsg 2>&1
fi

root=/dev/vda
[ -b $root ] || fail "no virtio-blk disk: the root image is not attached"
if [ -b /dev/vdb ]; then
    root=
    $box mount -t sysfs sysfs /sys || fail "cannot mount sysfs on /sys"
    for disk in /sys/block/vd*; do
        serial=
        read -r serial <"$disk/serial"
        if [ "$serial" = kata-image ]; then
            root="/dev/${disk##*/}"
            break
        fi
    done
    $box umount /sys
    [ -n "$root" ] || fail "several disks, and none has the serial kata-image"
fi

$box mount -t erofs -o ro "$root" /root || fail "$root is not the root image: no erofs on it"
$box mount -o move /dev /root/dev || fail "the root image has no /dev"
[ -x /root/usr/bin/python3 ] || fail "the root image has no /usr/bin/python3"
exec $box switch_root /root /usr/bin/python3 -I -S -B -X utf8 /usr/lib/kata-agent/init.py
