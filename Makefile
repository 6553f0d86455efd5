# Everything a person or CI runs. Each target sets up what it needs; what is up to date is not done again.

PREFIX ?= /usr/local
DESTDIR ?=

# Debian's interpreter, never a version manager's shim that may come first on the PATH.
SYSTEM_PYTHON := /usr/bin/python3
PYTHON := build/venv/bin/python

# What is measured and installed must be compiled, whatever the caller's environment says.
unexport PYTHONDONTWRITEBYTECODE PYTHONHOME
export PYTHONPATH := .

.DEFAULT_GOAL := help
.PHONY: help setup setup-base guest prefix demo test lint unit integration protos bench install uninstall clean
.SILENT:
.NOTPARALLEL:

# One line and exit status 2 where this machine will not do; only what packages can't mend is asked here.
needs_run := $(filter demo test integration bench guest setup prefix install,$(MAKECMDGOALS))
needs_base := $(filter lint unit protos,$(MAKECMDGOALS))
ifneq ($(needs_run)$(needs_base),)
    unfit := $(shell sh tools/preflight.sh $(if $(needs_run),run,base))
    ifneq ($(unfit),)
        $(error $(firstword $(MAKECMDGOALS)): $(unfit))
    endif
endif

help:
	echo "make demo         a container and a pod, each in a virtual machine of its own, under a private containerd"
	echo "make test         lint, unit tests and integration tests, with a coverage report (what .ci/run runs)"
	echo "make lint         ruff, mypy --strict and import-linter"
	echo "make unit         unit tests: no root, no virtual machine"
	echo "make integration  tests with the real QEMU, virtiofsd, containerd and guest"
	echo "make bench        benchmarks beside their peers; results in bench/results"
	echo "make guest        the guest's kernel, initrd and image, in build/guest"
	echo "make protos       generate the protocol modules from protos/src"
	echo "make install      the shim below PREFIX=$(PREFIX) (DESTDIR is honoured); make uninstall removes it"
	echo "make clean        remove what was made here, except the environment and downloaded packages"

setup-base:
	sh tools/packages.sh base
	sh tools/venv.sh

setup:
	sh tools/packages.sh run
	sh tools/venv.sh

guest: setup
	sh tools/step.sh "guest" $(PYTHON) -m guest.image --out build/guest

# A private installation that leads to this source tree: what demo, tests and benchmarks run.
prefix: guest
	$(PYTHON) tools/install.py link --prefix build/prefix

demo: prefix
	$(PYTHON) -m tests.demo

lint: setup-base
	sh tools/lint.sh

unit: setup-base
	sh tools/pytest.sh tests/unit

integration: prefix
	sh tools/pytest.sh tests/integration

# Lint does not keep the tests from running: both results are wanted. pytest's closing line is the last one.
test: prefix
	lint=0; sh tools/lint.sh || lint=$$?; sh tools/pytest.sh --cov tests/unit tests/integration && exit $$lint

protos: setup-base
	$(PYTHON) -m protos.generate

# Without the plots' library, of which nothing else has need, there are tables all the same.
bench: prefix
	sh tools/venv.sh plots || echo "   no new plots"
	$(PYTHON) -m bench

install: guest
	sh tools/step.sh "install to $(DESTDIR)$(PREFIX)" \
		$(PYTHON) tools/install.py install --prefix "$(PREFIX)" $(if $(DESTDIR),--destdir "$(DESTDIR)")

# No set-up: what is removed is known from the installation's own manifest.
uninstall:
	$(SYSTEM_PYTHON) tools/install.py uninstall --prefix "$(PREFIX)" $(if $(DESTDIR),--destdir "$(DESTDIR)")

clean:
	rm -rf build/bed build/guest build/prefix build/images build/log build/coverage .coverage .coverage.*
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path ./build -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
