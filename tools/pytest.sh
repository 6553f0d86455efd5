#!/bin/sh
# One pytest run over the given test directories and files; with --cov first, with a coverage report that has the daemons' part in it.
set -u
cd "$(dirname "$0")/.." || exit 2
. tools/say.sh

heading "tests"
coverage=
if [ "$1" = --cov ]; then
    shift
    rm -rf build/coverage
    mkdir -p build/coverage
    # Daemons of the integration tests write beside this file; pytest-cov combines all of them before it reports.
    COVERAGE_FILE=$PWD/build/coverage/data
    export COVERAGE_FILE
    coverage="--cov --cov-config=pyproject.toml --cov-report=term"
fi
for path; do
    [ -e "$path" ] && set -- "$@" "$path"
    shift
done
# shellcheck disable=SC2086
exec build/venv/bin/python -m pytest -p tests.harness.sections -p tests.harness.deadline --test-limit 240 $coverage "$@"
