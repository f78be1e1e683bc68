# Every target bootstraps itself: Python 3.11 or newer with venv, git and make are all it takes.
# `make setup PYTHON=/path/to/python3.12` picks the interpreter.

SHELL := /bin/sh
PYTHON ?=
BIN := .venv/bin
STAMP := .venv/.installed
UV_VERSION := 0.13.9
BUILD_REQUIREMENTS := 'hatchling>=1.27' 'editables>=0.5'
OURS := server tools policy observe store tests bench examples
OUTSIDE_PACKAGES := examples bench tests/conformance tests/support tests/house tests/conftest.py
ARGS ?=
# How many tests run at once: most of them wait for processes, so a few more than there are cores do no harm.
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench conformance crash simulate soak lock clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## install the locked dependencies and holdfast itself into .venv

$(BIN)/python:
	@for candidate in $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3); do \
		if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "setup: $$($$candidate --version) ($$candidate) into .venv"; \
			$$candidate -m venv .venv && exit 0; \
			rm -rf .venv; exit 1; \
		fi; \
	done; \
	echo "setup: no Python 3.11 or newer with the venv module was found$(if $(PYTHON), at $(PYTHON), on PATH)." >&2; \
	echo "Install one (on Debian and Ubuntu also its python3-venv package)$(if $(PYTHON),, or name it: make setup PYTHON=/path/to/python3)." >&2; \
	exit 1

$(STAMP): pyproject.toml requirements.lock | $(BIN)/python
	@echo "setup: installing the locked dependencies (about a minute the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "setup: done; try .venv/bin/holdfast --help"

demo: setup ## the whole story in under a minute, every line checked
	@$(BIN)/python examples/demo.py $(ARGS)

test: setup ## the tests, without those marked as long
	@$(PYTEST) -m "not long" $(ARGS)

check: setup ## what CI runs: format, lint, types, import layers, all tests
	$(BIN)/ruff format --check $(OURS)
	$(BIN)/ruff check $(OURS)
	$(BIN)/mypy
	MYPYPATH=tests:examples $(BIN)/mypy $(OUTSIDE_PACKAGES)
	$(BIN)/lint-imports
	$(PYTEST) $(ARGS)

bench: setup ## measure against a direct client, a thin gateway and FastMCP's proxy (ARGS=--quick)
	@$(BIN)/python -m bench $(ARGS)

conformance: setup ## the official MCP suite, directly and through Holdfast, compared check by check (needs npm)
	@$(BIN)/python tests/conformance/run.py $(ARGS)

crash: setup ## kill -9 a thousand times under load, in half an hour, and judge every call (ARGS="--kills 20 --seed 7")
	@PYTHONPATH=tests $(BIN)/python -m crash.storm $(ARGS)

simulate: setup ## the path of a call under seeded crashes, in virtual time (SEEDS=10000)
	@PYTHONPATH=tests $(BIN)/python -m simulation.run $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

soak: setup ## half an hour of mixed calls at the machine's limit; is the engine flat at the end? (ARGS="--minutes 5")
	@$(BIN)/python -m bench.soak $(ARGS)

lock: $(BIN)/python ## renew requirements.lock for all Pythons and platforms (ARGS=--upgrade takes the newest)
	@$(BIN)/python -m venv build/lock
	@build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@printf '%s\n' $(BUILD_REQUIREMENTS) | build/lock/bin/uv pip compile --no-config --quiet --universal \
		--python-version 3.11 --all-extras --generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command "make lock" --output-file requirements.lock $(ARGS) pyproject.toml -
	@if grep -nE '://|^-| @ ' requirements.lock; then \
		echo "lock: the lines above name an index, a folder or a file; a lock must install anywhere" >&2; exit 1; \
	fi
	@echo "lock: $$(grep -c '^[a-z]' requirements.lock) packages"

clean: ## remove everything that these targets made, .venv included
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
