# Every target installs its prerequisites: `make demo` and `make test` work on a fresh clone with python3.11, make and git.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MANIFEST := dbt_project/target/manifest.json
WORKERS ?= 2

.DEFAULT_GOAL := help

.PHONY: help
help:  ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(STAMP) $(MANIFEST)  ## Create .venv with pinned packages and prepare the dbt manifest

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "expected $(PYTHON) on PATH, found none; install Python 3.11 or run: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "installing packages into $(VENV); this takes a few minutes without output"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt
	@touch $@

DBT_SOURCES := $(shell find dbt_project -type f -not -path '*/target/*' -not -path '*/logs/*')

$(MANIFEST): $(STAMP) $(DBT_SOURCES)
	$(BIN)/dbt --quiet parse --project-dir dbt_project --profiles-dir dbt_project
	@touch $@

.PHONY: demo
demo: install  ## Run the whole pipeline on embedded services and a synthetic market
	$(BIN)/surveillance demo

.PHONY: dev
dev: install  ## Open the Dagster UI on the embedded services, with the runs of `make demo`
	$(BIN)/surveillance up

.PHONY: test
test: install  ## Run the tests
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

.PHONY: requirements
requirements: install  ## Run the tests and print each requirement id with its tests and status
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow" -q --requirements

.PHONY: check
check: install  ## Check lint, format, types, imports between packages, and Dagster definitions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --warnings
	$(BIN)/lint-imports --no-cache
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/dg check toml
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/dg check defs

.PHONY: format
format: install  ## Format the code and apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: import-table
import-table: install  ## Write the table of allowed imports into CONTRIBUTING.md from the rules in pyproject.toml
	$(BIN)/python -m surveillance_pipelines_tests.import_table

.PHONY: proof
proof: install  ## Run the slow tests and the benchmarks with their baselines, and write docs/proof.md
	$(BIN)/python -m pytest -n $(WORKERS) -m slow
	$(BIN)/python -m surveillance_pipelines_tests.simulation
	$(BIN)/python -m benchmarks.kills
	$(BIN)/python -m benchmarks.outages
	$(BIN)/python -m benchmarks.channels
	$(BIN)/python -m benchmarks.fuzz
	$(BIN)/python -m benchmarks.replay
	$(BIN)/python -m benchmarks.served_days
	$(BIN)/python -m benchmarks.soak
	$(BIN)/python -m benchmarks.activations
	$(BIN)/python -m benchmarks.homes
	$(BIN)/python -m benchmarks.upgrade
	$(BIN)/python -m benchmarks.operator_day
	$(BIN)/python -m benchmarks.detection
	$(BIN)/python -m benchmarks.challengers
	$(BIN)/python -m benchmarks.nab
	$(BIN)/python -m benchmarks.patch_encoder
	$(BIN)/python -m benchmarks.explanations
	$(BIN)/python -m benchmarks.releases
	$(BIN)/python -m benchmarks.queue_depth
	$(BIN)/python -m benchmarks.backlog
	$(BIN)/python -m benchmarks.many_symbols
	$(BIN)/python -m benchmarks.attacks
	$(BIN)/python -m benchmarks.data_faults
	$(BIN)/python -m benchmarks.canaries
	$(BIN)/python -m benchmarks.canaries --faults
	$(BIN)/python -m benchmarks

.PHONY: clean
clean:  ## Remove the files of builds and tests; keep .surveillance/ (see `surveillance reset`)
	rm -rf $(VENV) dbt_project/target dbt_project/logs .pytest_cache .ruff_cache .hypothesis
