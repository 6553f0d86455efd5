#!/bin/sh
# Brings build/venv up to date (tools/make_venv.py), and says so only if there is something to do.
# Usage: venv.sh [EXTRA]: with the name of a further extra of pyproject.toml it is installed, too.
set -eu
cd "$(dirname "$0")/.."
. tools/say.sh

unset PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME

# bring TITLE ARGUMENT...
bring() {
    title=$1
    shift
    if ! /usr/bin/python3 -I tools/make_venv.py --check "$@"; then
        heading "Python environment"
        quietly "$title" /usr/bin/python3 -I tools/make_venv.py "$@"
    fi
}

bring "build/venv from pyproject.toml"
[ $# = 0 ] || bring "build/venv: $1" --extra "$1"
