#!/bin/busybox sh
# First process of the guest: loads the modules, lays a layer that is thrown away over the host's file system, runs
# shared/run.sh in it, and leaves its output and exit code in the shared folder.
busybox=/bin/busybox
shared=$($busybox sed -n 's/.*shared=\([^ ]*\).*/\1/p' /proc/cmdline 2>/dev/null)
$busybox mkdir -p /proc /sys /dev /host
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
shared=$($busybox sed -n 's/.*shared=\([^ ]*\).*/\1/p' /proc/cmdline)
camera=$($busybox sed -n 's/.*camera="\([^"]*\)".*/\1/p' /proc/cmdline)

for module in $($busybox cat /modules/order); do
  case $module in
    v4l2loopback.ko) $busybox insmod /modules/$module $camera ;;
    *) $busybox insmod /modules/$module ;;
  esac
done

nine_p=trans=virtio,version=9p2000.L,msize=1048576
$busybox mount -t 9p -o ro,$nine_p,cache=loose host /host
$busybox mount --bind /dev /host/dev
$busybox mkdir -p /host/dev/shm
$busybox mount -t tmpfs shm /host/dev/shm
$busybox mount -t proc proc /host/proc
$busybox mount -t sysfs sys /host/sys
$busybox mount -t tmpfs run /host/run
$busybox mount -t 9p -o $nine_p shared "/host$shared"
$busybox ip link set lo up

$busybox chroot /host /bin/bash "$shared/run.sh" > "/host$shared/output.txt" 2>&1
echo $? > "/host$shared/exit_code.txt"
$busybox sync
$busybox poweroff -f
