# `make demo` needs nothing but Python; `make test` is what CI runs.

PYTHON ?= python3
BIN := .venv/bin
# Tiers whose tests mostly wait and do not disturb one another, and those that look at this machine's devices.
TOGETHER := unit contract cli offline
ALONE := local slurm
SIDE_BY_SIDE := -n 4 --dist loadfile
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test lint format $(TOGETHER) $(ALONE) oldest newer-slurm torch gpu bed clean

demo: .venv/offline
	wandb-submit examples/quickstart/sweep.yaml --offline --executor local --array 4

test: lint bed
	python -m pytest $(SIDE_BY_SIDE) $(TOGETHER:%=tests/%)
	$(MAKE) oldest
	python -m pytest $(ALONE:%=tests/%)

lint: .venv/dev
	ruff format --check .
	ruff check .
	mypy

format: .venv/dev
	ruff format .
	ruff check --fix .

# One tier alone, such as `make local`.
$(TOGETHER): .venv/dev
	$(if $(filter offline,$@),tests/testbed/browser)
	python -m pytest $(SIDE_BY_SIDE) tests/$@

$(ALONE): .venv/dev
	$(if $(filter slurm,$@),tests/testbed/slurm start)
	python -m pytest tests/$@

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
