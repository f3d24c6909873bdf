# `make serve` and `make test` need Python 3.11+, make and a package index; everything else is installed into .venv.
#
#   TORCH_INDEX=<address>  take torch from another index, for example PyTorch's ROCm, XPU or CPU builds
#   PYTHON=python3.12      build .venv with another interpreter

PYTHON ?= python3
TORCH_INDEX ?=
HOST ?= 127.0.0.1
PORT ?= 8000
WORKERS ?= 2

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
RUNTIME := .venv/runtime.stamp
DEVELOPMENT := .venv/development.stamp
# Without TORCH_INDEX this is constraints.txt; with it, the same file without torch, whose version is that index's.
CONSTRAINTS := .venv/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install serve test test-fast lint format bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

serve: $(RUNTIME) ## start trainfit on http://127.0.0.1:8000 (HOST=, PORT=)
	@exec $(BIN)/trainfit serve --host $(HOST) --port $(PORT)

test: lint ## everything: lint, types, borders, all tests
	$(BIN)/pytest -n $(WORKERS)

test-fast: $(DEVELOPMENT) ## the tests that need neither torch nor a browser
	$(BIN)/pytest -n $(WORKERS) -m "not slow and not browser"

lint: $(DEVELOPMENT) ## style, format, types and borders, without changing a file
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(DEVELOPMENT) ## put the code into the agreed format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(DEVELOPMENT) ## speed and memory of the server, as ratios to a bare FastAPI app
	$(BIN)/python -m benchmarks

install: $(RUNTIME) ## only create .venv and install trainfit into it

clean: ## remove .venv and every cache
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "trainfit needs Python 3.11 or newer; try: make serve PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing trainfit into .venv: once, a few minutes, most of it for torch."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv \
		|| { rm -rf .venv; echo "python3 -m venv failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@cp constraints.txt $(CONSTRAINTS)
ifneq ($(TORCH_INDEX),)
	@grep -v '^torch==' constraints.txt > $(CONSTRAINTS)
	$(PIP) --index-url $(TORCH_INDEX) torch
endif
	$(PIP) --constraint $(CONSTRAINTS) --upgrade pip hatchling
	$(PIP) --constraint $(CONSTRAINTS) --no-build-isolation --editable .
	@touch $@

$(DEVELOPMENT): $(RUNTIME)
	$(PIP) --constraint $(CONSTRAINTS) --group dev
	@touch $@
