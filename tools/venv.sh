#!/bin/sh
# Brings build/venv up to date (tools/make_venv.py), and says so only if there is something to do.
set -eu
cd "$(dirname "$0")/.."
. tools/say.sh

unset PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME
if ! /usr/bin/python3 -I tools/make_venv.py --check; then
    heading "Python environment"
    quietly "build/venv from pyproject.toml" /usr/bin/python3 -I tools/make_venv.py
fi
