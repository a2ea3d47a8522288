# make demo: see it work.  make test: everything that must hold.  Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ROOMS := api cli dbnode miniworker skep wire worker
CODE := $(ROOMS) tests $(wildcard benchmarks deploy)

# Named by content, not by time: a new checkout of the same files installs nothing again.
STAMP := $(VENV)/.installed-$(shell cat setup.cfg pyproject.toml | sha256sum | cut -c1-16)

# All that is measured runs on one Python: the system's, if there is one.
BENCH_PYTHON ?= $(shell test -x /usr/bin/python3 && echo /usr/bin/python3 || echo $(PYTHON))
BENCH := .venv-bench/bin/python
BENCH_STAMP := .venv-bench/.installed-$(shell cat setup.cfg pyproject.toml | sha256sum | cut -c1-16)
PEERS_STAMP := .venv-peers/.installed-$(shell sha256sum <benchmarks/peers/requirements.txt | cut -c1-16)

# Files of tests that run at the same time.
JOBS ?= $(shell nproc)

.DEFAULT_GOAL := help
.PHONY: help venv demo cluster-demo up image test check format lint types contracts tests torture coverage bench bench-quick bench-growth \
  bench-stores bench-report peers simulate fmt clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

cluster-demo: ## Two nodes in containers: 200 calls, one node dies, one is restarted
	@$(PYTHON) -m deploy.demo

up: $(STAMP) ## Start everything until Ctrl-C (make up ARGS='--port 4000')
	@$(BIN)/skep up $(ARGS)

image: ## The images of docker-compose.yml, and .env with their names
	@sh deploy/images.sh >.env.new && mv .env.new .env

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

tests: $(STAMP) ## The tests alone (make tests ARGS='-k dice'; JOBS=0: one process, for --pdb)
	@echo "== tests"
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

torture: $(STAMP) ## Random faults under load (make torture MINUTES=10 SEED=n DRIVER=docker UNFINISHED=fail)
	@$(BIN)/python -m tests.faults.torture --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED)) $(if $(DRIVER),--driver $(DRIVER)) $(if $(UNFINISHED),--unfinished $(UNFINISHED))

coverage: $(STAMP) ## The tests once more, and which lines no test ran (half as slow again)
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --skip-covered

bench-quick: $(BENCH_STAMP) ## The product beside its controls, two minutes; then its targets
	@$(BENCH) -m benchmarks.bench --rounds 1 --calls 400 --parts warm,fresh
	@$(BENCH) benchmarks/gate.py

bench: $(BENCH_STAMP) peers ## The same with peers and rounds enough to trust (on an idle machine)
	@$(BENCH) -m benchmarks.bench
	@$(BENCH) -m benchmarks.report
	@$(BENCH) benchmarks/gate.py

bench-growth: $(BENCH_STAMP) ## What a call costs when there is more of everything; fifteen minutes
	@$(BENCH) -m benchmarks.growth
	@$(BENCH) -m benchmarks.report

bench-stores: $(BENCH_STAMP) ## What each store costs; three minutes
	@$(BENCH) -m benchmarks.stores
	@$(BENCH) -m benchmarks.report

bench-report: $(BENCH_STAMP) ## docs/performance.md anew, from the newest results
	@$(BENCH) -m benchmarks.report

# Who is offline has no peers: the benchmark says so of each.
peers: ## The other systems of make bench, in an environment of their own
	@test -e $(PEERS_STAMP) || { \
	  echo "== setting up .venv-peers with $$($(BENCH_PYTHON) --version)"; \
	  $(BENCH_PYTHON) -m venv --clear .venv-peers && \
	  .venv-peers/bin/python -m pip install --quiet --disable-pip-version-check \
	    --requirement benchmarks/peers/requirements.txt && touch $(PEERS_STAMP); \
	} || echo "the peers cannot be had: their rows are left out" >&2

$(BENCH_STAMP): setup.cfg pyproject.toml
	@echo "== setting up .venv-bench with $$($(BENCH_PYTHON) --version)"
	@$(BENCH_PYTHON) -m venv --clear .venv-bench
	@$(BENCH) -m pip install --quiet --disable-pip-version-check --editable '.[bench,postgresql]'
	@touch $@

simulate: $(STAMP) ## What placement and keep-alive do to 1,000 workers, in virtual time (ARGS='--quick')
	@$(BIN)/python -m benchmarks.simulate $(ARGS)

fmt: $(STAMP) ## Format the code, mend what lint can mend
	@$(BIN)/ruff check --fix --quiet $(CODE) runtimes || true
	@$(BIN)/ruff format $(CODE)

clean: ## Remove what make made
	rm -rf $(VENV) .venv-bench .venv-peers build dist *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache \
	  .hypothesis .import_linter_cache
