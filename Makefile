# `make search` and `make test` need Python 3.11, make and the package registries; everything else is installed into .venv.
# Python 3.11 exactly: tflite-runtime has no wheel past it. Choose one with `make PYTHON=/path/to/python3.11 ...`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROFILE ?= cortex-m4-192k
ARGS ?=

.PHONY: help search test test-all lint format check wheel clean
.DEFAULT_GOAL := help

help:
	@echo "make search    search on the built-in signals; ARGS='--trials 30 --out runs/x' passes options through"
	@echo "make test      the default tests          make test-all  the long ones too"
	@echo "make lint      ruff and mypy              make check     lint, then test"
	@echo "make bench-X   benchmarks/X.py            make wheel     dist/*.whl"

search: $(STAMP)
	$(BIN)/hwnas search --profile $(PROFILE) $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist loadscope $(ARGS)

test-all: $(STAMP)
	$(BIN)/python -m pytest -m "" --timeout 3600 $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint test

# One thread a process: the benchmarks that need more start processes.
bench-%: $(STAMP)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/$(subst -,_,$*).py $(ARGS)

wheel: $(STAMP)
	$(BIN)/python -m build --wheel --no-isolation

clean:
	rm -rf dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(STAMP): requirements.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "hwnas needs Python 3.11; '$(PYTHON)' is another one. Try: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
