#!/bin/sh
# Prints one line about what this machine lacks and what to do, or nothing if it will do. Always exits 0: make reads the line.
# Usage: preflight.sh base|run. Only what no Debian package can mend is looked at here.
set -u
cd "$(dirname "$0")/.." || exit 0

stop() {
    printf '%s\n' "$*"
    exit 0
}

# packages_missing GROUPS: whether tools/packages.sh would have to install something.
packages_missing() { [ -n "$(sh tools/packages.sh --missing "$1" 2>/dev/null)" ]; }

check_system() {
    [ "$(uname -s)" = Linux ] || stop "this runs on Linux only, not on $(uname -s): use a Debian 12 machine"
    [ "$(uname -m)" = x86_64 ] || stop "this runs on x86_64 only, not on $(uname -m): use an x86_64 machine"
    command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
        stop "apt-get is missing, and the set-up installs Debian packages: use Debian 12 or a system made from it"
    if packages_missing "$1" && [ "$(id -u)" != 0 ]; then
        stop "Debian packages are missing ($(sh tools/packages.sh --missing "$1" | tr '\n' ' ')) and only root can install them: use sudo"
    fi
    [ ! -x /usr/bin/python3 ] || /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        stop "/usr/bin/python3 is older than 3.11: use Debian 12 or newer"
    mkdir -p build 2>/dev/null && [ -w build ] || stop "$(pwd)/build is not writable for $(id -un): make a copy of the project that is"
}

check_cgroups() {
    for file in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory/cgroup.procs; do
        [ -w "$file" ] && return
    done
    stop "no writable cgroup file system at /sys/fs/cgroup: mount one, or use a machine instead of an unprivileged container"
}

# A real overlay in a private mount namespace: the file system below build/ may not take one (another overlay, NFS).
check_overlay() {
    dir=$(mktemp -d build/.overlay.XXXXXX) || stop "build/ is not writable: make it so"
    mkdir "$dir/l" "$dir/u" "$dir/w" "$dir/m"
    unshare --mount mount -t overlay overlay -o "lowerdir=$dir/l,upperdir=$dir/u,workdir=$dir/w" "$dir/m" 2>/dev/null
    status=$?
    rm -rf "$dir"
    [ $status = 0 ] || stop "overlayfs does not work in $(pwd)/build: put the project on ext4, xfs or btrfs, and see that the kernel has overlay"
}

check_run() {
    [ "$(id -u)" = 0 ] || stop "root is needed to run containerd and virtual machines: use sudo"
    check_cgroups
    check_overlay
    [ -c /dev/net/tun ] || stop "/dev/net/tun is missing, which a pod's network needs: run modprobe tun"
    [ -d /dev/shm ] || stop "/dev/shm is missing: mount a tmpfs there"
    free=$(df -Pk build | awk 'NR == 2 { print int($4 / 1024) }')
    [ "$free" -ge 2048 ] || stop "only $free MiB are free for build/: 2048 are needed"
    memory=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
    [ "$memory" -ge 1536 ] || stop "only $memory MiB of memory are free: 1536 are needed"
}

case ${1:-base} in
base) check_system base ;;
run)
    [ "$(id -u)" = 0 ] || stop "root is needed to run containerd and virtual machines: use sudo"
    check_system run
    check_run
    ;;
*) stop "preflight.sh: no such level: $1" ;;
esac
