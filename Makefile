# Every chore of the project. `make help` lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PIN := -c requirements/constraints.txt

# What the demo reads: any folder, by default sources of the Python library. DEMO_DATA keeps the result.
QUERY ?= how do I cancel a task and wait until it has ended
DEMO_DATA ?= .demo
DIR ?= $(shell $(PYTHON) -c "import asyncio, concurrent, os; print(*(os.path.dirname(m.__file__) for m in (asyncio, concurrent)))")

.PHONY: help
help: ## list the chores
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# --- install: each stamp is a set of extras, renewed when what defines it changes ---

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: pyproject.toml requirements/constraints.txt | $(BIN)/python
	$(PIP) install $(PIN) -e .
	@touch $@

$(VENV)/.test: pyproject.toml requirements/constraints.txt | $(BIN)/python
	$(PIP) install $(PIN) torch  # first and pinned: what depends on it would take a larger build
	$(PIP) install $(PIN) -e '.[test]'
	@touch $(VENV)/.base $@

$(VENV)/.bench: $(VENV)/.test
	$(PIP) install $(PIN) -e '.[bench]'
	@touch $@

# Programs whose dependencies contradict ours (huggingface_hub, numpy, python-dateutil) have environments of their own.
.venv-fastembed/.made .venv-infinity/.made .venv-s3/.made: .venv-%/.made: requirements/%.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip --disable-pip-version-check --quiet install -r $<
	@touch $@

.PHONY: install
install: $(VENV)/.base ## install into .venv, for use

.PHONY: install-dev
install-dev: $(VENV)/.test .venv-s3/.made ## install into .venv with everything the tests need

# --- use ---

.PHONY: demo
demo: $(VENV)/.base ## ingest a folder and search it: make demo DIR=~/papers QUERY="…"
	$(BIN)/embedfleet ingest $(DIR) --data-dir $(DEMO_DATA)
	$(BIN)/embedfleet search "$(QUERY)" -k 3 --data-dir $(DEMO_DATA)

# --- check ---

.PHONY: test
test: lint types contracts unit ## everything CI runs

.PHONY: lint
lint: $(VENV)/.test ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: $(VENV)/.test ## mypy, strict, tests included
	$(BIN)/mypy

.PHONY: contracts
contracts: $(VENV)/.test ## the floors: imports point down only
	$(BIN)/lint-imports

.PHONY: unit
unit: $(VENV)/.test .venv-s3/.made ## the tests of every tier
	@# Without groups, loadgroup hands out one test at a time: few take long, and they come first.
	@# Three workers for two cores: a quarter of the time a test waits for processes, leases and signals.
	$(BIN)/pytest -n 3 --dist loadgroup

.PHONY: test-slow
test-slow: $(VENV)/.test .venv-s3/.made ## the tests that take long: faults, compiling models, benchmarks cut short, properties with all examples
	@# Hypothesis marks its own tests, whatever folder they are in.
	THOROUGH=1 $(BIN)/pytest -m 'slow or hypothesis'

.PHONY: fuzz
fuzz: $(VENV)/.test ## 10,000 requests that are made from the OpenAPI document, with a key of each kind; some minutes
	PYTHONPATH=tests $(BIN)/python -m support.fuzzing --cases 10000

.PHONY: format
format: $(VENV)/.test ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# --- measure ---

.PHONY: bench
bench: $(VENV)/.bench .venv-fastembed/.made .venv-infinity/.made ## the benchmarks of docs/performance.md, but for some that it names; JSON goes to benchmarks/results
	for script in chunking startup memory embedding interactive vector_store filters "cascade --rounds 3 --price 0.02" fusion model_switch broker_memory pipeline \
	  peers "peers --model minilm" chart small_documents \
	  autoscaling guard_sensitivity traffic_router fairness scaling_out latency "fairness --broker redis" "scaling_out --broker redis" \
	  scaling_out_processes worker_overhead "latency --system fleet" embeddings_api broker_redis shutdown streams adopting; do set -- $$script; name=$$1; shift; \
	  $(BIN)/python benchmarks/$$name.py "$$@"; done

.PHONY: bench-gpu
bench-gpu: $(VENV)/.test ## on a CUDA device: needs a torch built for it, and nvidia-ml-py
	$(BIN)/python benchmarks/gpu.py

.PHONY: chaos
chaos: $(VENV)/.test ## every fault at full size, about an hour; goes on where it was interrupted
	$(BIN)/python -m chaos --size full

.PHONY: chaos-short
chaos-short: $(VENV)/.test ## every fault in small, some minutes
	$(BIN)/python -m chaos --size short

.PHONY: operators
operators: $(VENV)/.test ## what an operator sees of each fault, with real servers, about ten minutes; renews the table of docs/operations.md
	$(BIN)/python -m chaos.operators

# --- release ---

.PHONY: dist
dist: | $(BIN)/python ## sdist and wheel in dist/, from this checkout; `make test-slow` installs one and uses it
	rm -rf dist
	$(PIP) install build
	$(BIN)/python -m build

# --- keep ---

.PHONY: lock
lock: $(VENV)/.bench ## renew requirements/constraints.txt from what is installed
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements/constraints.txt

.PHONY: clean
clean: ## remove what these chores made
	rm -rf $(VENV) dist .venv-fastembed .venv-infinity .venv-s3 $(DEMO_DATA) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
