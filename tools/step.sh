#!/bin/sh
# Runs a command under a heading, and says how long it took. Usage: step.sh TITLE COMMAND...
set -u
cd "$(dirname "$0")/.." || exit 2
. tools/say.sh

title=$1
shift
heading "$title"
began=$(now_ms)
"$@"
status=$?
took=$(seconds $(($(now_ms) - began)))
[ $status = 0 ] || {
    printf '   %s failed after %s (exit status %d)\n' "$title" "$took" $status >&2
    exit $status
}
printf '   %s: %s\n' "$title" "$took"
