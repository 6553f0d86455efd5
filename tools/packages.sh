#!/bin/sh
# Installs the Debian packages of a group of tools/packages.txt (run includes base), if any are missing.
# Usage: packages.sh base|run; packages.sh --missing base|run prints what it would install.
set -eu
cd "$(dirname "$0")/.."
. tools/say.sh

wanted() {
    awk -v group="$1" '!/^#/ && NF && ($2 == "base" || $2 == group) { print $1 }' tools/packages.txt
}

missing() {
    names=$(wanted "$1")
    # One call for all: a name that dpkg has never heard of goes to stderr and makes it fail, which is expected.
    # shellcheck disable=SC2086
    present=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $names 2>/dev/null | awk '$1 == "installed" { print $2 }' || true)
    for name in $names; do
        printf '%s\n' "$present" | grep -qx "$name" || printf '%s\n' "$name"
    done
}

install() {
    export DEBIAN_FRONTEND=noninteractive
    quietly "apt-get update" apt-get update -q
    # Services must not start: containerd here is private. policy-rc.d is the documented way to say so.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT INT TERM
    fi
    # shellcheck disable=SC2086
    quietly "apt-get install $(printf '%s\n' $1 | wc -l) packages" apt-get install -q -y --no-install-recommends $1
}

if [ "$1" = --missing ]; then
    missing "$2"
    exit 0
fi
names=$(missing "$1")
[ -z "$names" ] && exit 0
[ "$(id -u)" = 0 ] || fail "only root can install the missing Debian packages ($(echo $names)): use sudo"
heading "Debian packages: $(echo $names)"
install "$names"
