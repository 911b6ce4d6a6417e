# `make demo` needs nothing but Python; `make test` is what CI runs.

PYTHON ?= python3
BIN := .venv/bin
# Tiers whose files each have something that takes long to make, and those in which each test by itself takes long.
BY_FILE := unit contract cli offline
BY_TEST := local slurm
SIDE_BY_SIDE := -n 4 --dist loadfile
EACH_APART := -n 2 --dist loadgroup
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test lint format $(BY_FILE) $(BY_TEST) oldest newer-slurm torch gpu bed docs reference clean

demo: .venv/offline
	wandb-submit examples/quickstart/sweep.yaml --offline --executor local --array 4

test: lint bed
	python -m pytest $(SIDE_BY_SIDE) $(BY_FILE:%=tests/%)
	$(MAKE) oldest
	python -m pytest $(EACH_APART) $(BY_TEST:%=tests/%)

lint: .venv/dev
	ruff format --check .
	ruff check .
	mypy

format: .venv/dev
	ruff format .
	ruff check --fix .

# One tier alone, such as `make local`.
$(BY_FILE): .venv/dev
	$(if $(filter offline,$@),tests/testbed/browser)
	python -m pytest $(SIDE_BY_SIDE) tests/$@

$(BY_TEST): .venv/dev
	$(if $(filter slurm,$@),tests/testbed/slurm start)
	python -m pytest $(EACH_APART) tests/$@

# The tests of the offline tier that run the wandb client, with the oldest version that pyproject.toml admits.
oldest: .venv/dev .venv-oldest/made
	WANDB_SUBMIT_CLIENT_PYTHON=.venv-oldest/bin/python python -m pytest $(SIDE_BY_SIDE) -m client tests/offline

# The Slurm tier with the Slurm and the Python of the next Debian, in a chroot.
newer-slurm:
	tests/testbed/newer-slurm

# The examples that need torch, which is too large to install for every `make test`.
torch: .venv/dev .venv-torch/made
	tests/testbed/slurm start
	WANDB_SUBMIT_TORCH=$(CURDIR)/.venv-torch/bin python -m pytest tests/slurm/test_torch.py

# What needs an NVIDIA GPU that nobody computes on.
gpu: .venv/dev .venv-torch/made
	tests/testbed/slurm start
	WANDB_SUBMIT_TORCH=$(CURDIR)/.venv-torch/bin python -m pytest tests/gpu

# The documentation site, with warnings as errors.
docs: .venv/dev reference
	sphinx-build -W --keep-going -q -b html docs docs/_build

# The pages that are made from the code.
reference: .venv/dev
	python scripts/reference

bed: .venv/dev
	tests/testbed/slurm start
	tests/testbed/browser

.venv/offline .venv/dev: pyproject.toml scripts/venv
	PYTHON=$(PYTHON) scripts/venv $(notdir $@)
	touch $@

.venv-oldest/made: pyproject.toml scripts/venv
	PYTHON=$(PYTHON) scripts/venv oldest
	touch $@

.venv-torch/made: scripts/venv
	PYTHON=$(PYTHON) scripts/venv torch
	touch $@

clean:
	rm -rf .venv .venv-oldest .venv-torch dist .mypy_cache .ruff_cache .pytest_cache
