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
    took=$(seconds $(($(now_ms) - from)))
    if [ $status = 0 ]; then
        printf '   %-36s %s  %s\n' "$title" "$took" "$(printf '%s\n' "$output" | tail -n 1)"
        return
    fi
    failed="$failed, $title"
    printf '   %-36s %s  FAILED\n%s\n' "$title" "$took" "$output"
}

heading "lint"
began=$(now_ms)
check "ruff check" $bin/ruff check --output-format concise .
check "ruff format --check" $bin/ruff format --check --output-format concise .
check "mypy --strict (product)" $bin/mypy
check "mypy --strict (tools, tests, bench)" $bin/mypy --strict --explicit-package-bases tools tests/harness tests/demo.py bench
check "import-linter" $bin/lint-imports
if [ -n "$failed" ]; then
    printf '   lint FAILED: %s (%s)\n' "${failed#, }" "$(seconds $(($(now_ms) - began)))"
    exit 1
fi
printf '   lint: %s\n' "$(seconds $(($(now_ms) - began)))"
