# make demo: see it work.  make test: everything that must hold.  Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ROOMS := api cli dbnode miniworker skep wire worker
CODE := $(ROOMS) tests $(wildcard benchmarks)

# Named by content, not by time: a new checkout of the same files installs nothing again.
STAMP := $(VENV)/.installed-$(shell cat setup.cfg pyproject.toml | sha256sum | cut -c1-16)

.DEFAULT_GOAL := help
.PHONY: help venv demo up test check format lint types contracts tests fmt clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## Set up .venv

$(STAMP): setup.cfg pyproject.toml
	@echo "== setting up $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "skep needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "This Python has no venv; on Debian: sudo apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[check]'
	@rm -f $(VENV)/.installed-*
	@touch $@

demo: $(STAMP) ## Start everything, call a function, stop
	@$(BIN)/skep demo

up: $(STAMP) ## Start everything until Ctrl-C (make up ARGS='--port 4000')
	@$(BIN)/skep up $(ARGS)

test: check tests ## Format, lint, types, import contracts, all tests

check: format lint types contracts ## All of that but the tests

format: $(STAMP)
	@echo "== format"
	@$(BIN)/ruff format --check $(CODE)

lint: $(STAMP)
	@echo "== lint"
	@$(BIN)/ruff check $(CODE) runtimes

types: $(STAMP)
	@echo "== types"
	@$(BIN)/mypy

contracts: $(STAMP)
	@echo "== import contracts"
	@$(BIN)/lint-imports

tests: $(STAMP) ## The tests alone (make tests ARGS='-k dice')
	@echo "== tests"
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --skip-covered

fmt: $(STAMP) ## Format the code, mend what lint can mend
	@$(BIN)/ruff check --fix --quiet $(CODE) runtimes || true
	@$(BIN)/ruff format $(CODE)

clean: ## Remove what make made
	rm -rf $(VENV) build dist *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache \
	  .hypothesis .import_linter_cache
