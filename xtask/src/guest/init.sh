#!/bin/busybox sh
# The guest's first process. It mounts what a program expects, runs the command of /skep/command, and hands
# output and exit code to the host over three virtio serial ports:
#
#   skep.out, skep.err   what the command writes, then a mark known to both sides
#   skep.ctl             "start" before the command, "exit N" after it; the host's answer (or its end) powers off
#
# Left unmounted on purpose: tracefs, debugfs and bpffs. skep has to manage without, or mount them itself.
export PATH=/bin

fail() {
    echo "skep-init: $*" >/dev/console
    poweroff -f
}

mount -t devtmpfs dev /dev || fail "mount /dev"
mount -t proc proc /proc && mount -t sysfs sysfs /sys || fail "mount /proc and /sys"
mount -t tmpfs tmp /tmp && mount -t tmpfs run /run || fail "mount /tmp and /run"
mount -t cgroup2 cgroup2 /sys/fs/cgroup || fail "mount /sys/fs/cgroup"
mkdir /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
chmod 755 / /run
chmod 1777 /tmp /dev/shm
hostname guest
ip link set lo up

# Built in from 6.12 on, modules before.
[ -e /sys/class/virtio-ports ] || modprobe -a virtio_pci virtio_console || fail "load the virtio drivers"

tries=0
while [ -z "$out" ] || [ -z "$err" ] || [ -z "$ctl" ]; do
    for port in /sys/class/virtio-ports/*; do
        [ -e "$port/name" ] && read -r name <"$port/name" || continue
        case $name in
            skep.out) out=/dev/${port##*/} ;;
            skep.err) err=/dev/${port##*/} ;;
            skep.ctl) ctl=/dev/${port##*/} ;;
        esac
    done
    tries=$((tries + 1))
    [ $tries -lt 500 ] || fail "no virtio ports skep.out, skep.err, skep.ctl"
    [ -n "$ctl" ] || usleep 10000
done

. /skep/settings

# The command writes into pipes, as it would under any other runner: a virtio port takes one opener only and
# splits large writes. The mark goes through the same pipes, so it stands behind all that the command wrote.
mkfifo /run/.skep-out /run/.skep-err
exec 3<>/run/.skep-out 4<>/run/.skep-err 5<>"$ctl" || fail "open $ctl"
cat <&3 >"$out" 3<&- 4<&- 5<&- &
cat <&4 >"$err" 3<&- 4<&- 5<&- &
{ read -r answer <&5; poweroff -f; } 3<&- 4<&- &

echo start >&5
(. /skep/command) </dev/null >/run/.skep-out 2>/run/.skep-err 3<&- 4<&- 5<&-
status=$?
printf %s "$MARK" >&3
printf %s "$MARK" >&4
echo "exit $status" >&5
wait
