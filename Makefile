# Two commands matter: `make reproduce` and `make test`. Everything is installed into $(VENV), nothing outside it
# (but the embedded model, which goes to the user's cache).
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV ?= .venv
PROFILE ?= smoke
RUN_OPTIONS ?=
# GPU=1 takes the lock with torch's and vLLM's CUDA builds instead of the two for a CPU.
GPU ?=
LOCKS := $(if $(GPU),locks/gpu.txt,locks/torch.txt locks/cpu.txt)
LAB_OPTIONS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --log $(VENV)/pip.log install --progress-bar off
# A stamp is touched last, so that a failed install leaves none and the next call starts over.
RUNTIME := $(VENV)/.runtime-installed
PACKAGE := $(VENV)/.package-installed
TESTING := $(VENV)/.test-installed

.PHONY: help env model reproduce test test-slow test-cluster lab lint bench bench-name clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

$(RUNTIME): $(LOCKS)
	@if [ -e $(VENV) ] && [ ! -e $(VENV)/.dartlib ]; then echo "$(VENV) was not made by this Makefile: move it away or set VENV" >&2; exit 2; fi
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 or set PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "$(PYTHON) is not Python 3.11, which the locks are made for: set PYTHON" >&2; exit 2; }
	@start=$$(date +%s); \
	rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) && touch $(VENV)/.dartlib && \
	echo "environment: from $(LOCKS) (about 5 minutes, log in $(VENV)/pip.log)" && \
	$(if $(GPU),,$(PIP) -q -r locks/torch.txt && )\
	$(PIP) -q --no-deps -r $(lastword $(LOCKS)) && \
	touch $@ && \
	echo "environment: $$(( $$(date +%s) - start )) s, $$(du -sh $(VENV) | cut -f1) on disk, $$(.ci/downloaded.awk $(VENV)/pip.log) of packages"

$(PACKAGE): $(RUNTIME) pyproject.toml
	@$(PIP) -q --no-deps --no-build-isolation -e .
	@$(BIN)/python -m dartlib.training.workers >>$(VENV)/pip.log 2>&1 || { tail -5 $(VENV)/pip.log >&2; exit 2; }
	@touch $@

$(TESTING): $(PACKAGE) locks/test.txt
	@$(PIP) -q --no-deps -r locks/test.txt
	@touch $@

env: $(PACKAGE)  ## the environment in .venv, from the locks (GPU=1: with CUDA builds, not tried here)

model: env  ## the embedded model, in the cache (98 MB once)
	@$(BIN)/python -m dartlib.engines

reproduce: model  ## the whole study (PROFILE=smoke), figures included
	@$(BIN)/dartlib run $(PROFILE) $(RUN_OPTIONS)

# Two passes: what is light runs on two workers, what needs the model or the whole chain has the machine to itself.
# Either failing fails the whole; pytest's 5 says that PYTEST_OPTIONS left a pass without a test, an error only in both.
LATER := not endurance and not cluster and not gpu and not network
PYTEST := $(BIN)/python -m pytest -rsfE --tb=short --durations=15 $(PYTEST_OPTIONS)

test: $(TESTING) model  ## all tests but test-slow and those that need a GPU or the network
	@if [ -z "$${DARTLIB_TEST_DATA:-}" ] && [ -d ../shared/data ]; then export DARTLIB_TEST_DATA="$$(cd ../shared/data && pwd)"; fi; \
	light=0; heavy=0; \
	OMP_WAIT_POLICY=passive $(PYTEST) -n 2 --dist loadfile -m "not model and not chain and $(LATER)" || light=$$?; \
	$(PYTEST) -m "(model or chain) and $(LATER)" || heavy=$$?; \
	if [ $$light = 5 ] && [ $$heavy = 5 ]; then exit 5; fi; \
	if [ $$light = 5 ]; then light=0; fi; if [ $$heavy = 5 ]; then heavy=0; fi; \
	exit $$(( light > heavy ? light : heavy ))

test-slow: $(TESTING) model  ## kill -9 of real vLLM runs, many minutes
	@$(BIN)/python -m pytest -m endurance -rs -s $(PYTEST_OPTIONS)

test-cluster: $(TESTING)  ## a toy run through the Slurm of this machine, killed, cancelled, out of time
	@$(BIN)/python -m pytest -m cluster -rs $(PYTEST_OPTIONS) tests/test_cluster.py

lab: env  ## JupyterLab on the notebooks (LAB_OPTIONS="--port 9999 --no-browser")
	@JUPYTER_PREFER_ENV_PATH=1 $(BIN)/jupyter lab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $$([ "$$(id -u)" != 0 ] || echo --allow-root) $(LAB_OPTIONS)

lint: $(TESTING)  ## ruff, mypy, import rules, stripped notebooks
	@PATH="$(abspath $(BIN)):$$PATH"; ruff check . && ruff format --check . && mypy && lint-imports && python tests/notebook_rules.py

bench: bench-name $(TESTING)  ## one benchmark: NAME=pool [JSON=file]
	@$(BIN)/python tests/benchmarks/$(NAME).py $(if $(JSON),--json $(JSON))

bench-name:
	@test -f "tests/benchmarks/$(NAME).py" || { echo "say which: make bench NAME=<one of: $$(cd tests/benchmarks && ls [a-z]*.py | sed -n 's/\.py$$//p' | tr '\n' ' ')>" >&2; exit 2; }

clean:  ## remove the environment and caches; runs stay
	@rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
