#!/bin/sh
# ruff, mypy --strict and import-linter, each to its end; fails if any of them does.
set -u
cd "$(dirname "$0")/.." || exit 2
. tools/say.sh

bin=build/venv/bin
failed=

# check TITLE COMMAND...
check() {
    title=$1
    shift
    from=$(now_ms)
    output=$("$@" 2>&1)
    status=$?
    printf '   %-34s %s  %s\n' "$title" "$(seconds $(($(now_ms) - from)))" "$(printf '%s\n' "$output" | tail -n 1)"
    [ $status = 0 ] && return
    failed="$failed $title"
    printf '%s\n' "$output"
}

heading "lint"
began=$(now_ms)
check "ruff check" $bin/ruff check --quiet .
check "ruff format --check" $bin/ruff format --check .
check "mypy --strict (product)" $bin/mypy
check "mypy --strict (tools, tests, bench)" $bin/mypy --strict --explicit-package-bases tools tests/harness tests/demo.py bench
check "import-linter" $bin/lint-imports
if [ -n "$failed" ]; then
    printf '   lint FAILED:%s (%s)\n' "$failed" "$(seconds $(($(now_ms) - began)))"
    exit 1
fi
printf '   lint: %s\n' "$(seconds $(($(now_ms) - began)))"
