# `make demo` needs nothing but Python; `make test` is what CI runs.

PYTHON ?= python3
BIN := .venv/bin
TIERS := unit contract cli local offline slurm
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test lint format $(TIERS) bed clean

demo: .venv/offline
	wandb-submit examples/quickstart/sweep.yaml --offline --executor local --array 4

test: lint bed
	python -m pytest $(TIERS:%=tests/%)

lint: .venv/dev
	ruff format --check .
	ruff check .
	mypy

format: .venv/dev
	ruff format .
	ruff check --fix .

# One tier alone, such as `make local`.
$(TIERS): .venv/dev
	$(if $(filter slurm,$@),tests/testbed/slurm start)
	python -m pytest tests/$@

bed: .venv/dev
	tests/testbed/slurm start

.venv/offline .venv/dev: pyproject.toml scripts/venv
	PYTHON=$(PYTHON) scripts/venv $(notdir $@)
	touch $@

clean:
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache
