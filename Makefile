# Each target does its own set-up; nothing needs to be installed first but Python 3.11, 3.12 or 3.13.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.stamp
export PATH := $(CURDIR)/$(BIN):$(PATH)
export KEEP QUICK TRAINER

# TRAINER=0 leaves out what trains models: torch, transformers, peft. Its tests and its chapter are then absent.
TRAINER ?= 1
TRAINER_STAMP := $(VENV)/.trainer-stamp
WITH_TRAINER := $(STAMP) $(if $(filter 0,$(TRAINER)),,$(TRAINER_STAMP))

# How many processes share the tests; a number or "auto".
TEST_PROCESSES ?= auto
PYTEST := $(BIN)/python -m pytest

.PHONY: help setup trainer up demo test soak lint bench gen lock

help: ## Print what each target does.
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-7s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## Make the environment in .venv from the pinned and hashed requirements.

$(STAMP): deploy/lock/dev.txt pyproject.toml
	@set -e; found=; \
	for candidate in "$${PYTHON:-}" python3.13 python3.12 python3.11 python3 python; do \
	  [ -n "$$candidate" ] || continue; \
	  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	  then found=$$candidate; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "perron needs Python 3.11, 3.12 or 3.13 with its venv module: install one, or name it with PYTHON=/path/to/python." >&2; \
	  exit 2; \
	fi; \
	echo "Setting up $(VENV) with $$("$$found" --version): about half a minute, once." >&2; \
	[ -x $(BIN)/python ] && $(BIN)/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	  || "$$found" -m venv --clear $(VENV); \
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r deploy/lock/dev.txt; \
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	touch $@

# Without hashes, and torch by its exact number: a build for processors alone, where pip is offered one, is taken
# before the gigabytes of the one for GPUs.
$(TRAINER_STAMP): deploy/lock/trainer-constraints.txt $(STAMP)
	@echo "Adding the trainer (torch, transformers, peft) to $(VENV): a minute or more, once; TRAINER=0 leaves it out." >&2
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -c deploy/lock/trainer-constraints.txt \
	  torch==2.13.0 transformers peft safetensors
	@touch $@

trainer: $(TRAINER_STAMP) ## Add what trains models to .venv; `make demo` and `make test` do it too, unless TRAINER=0.

up: $(STAMP) ## Start every service on this machine, with its data in var/, until Ctrl-C.
	@$(BIN)/perron up

demo: $(WITH_TRAINER) ## Walk through the platform from end to end; KEEP=1 leaves its data behind.
	@$(BIN)/perron demo

test: $(WITH_TRAINER) ## Run the tests (benches and soaks apart).
	@$(PYTEST) -n $(TEST_PROCESSES) --ignore=tests/bench --ignore=tests/soak tests

soak: $(WITH_TRAINER) ## Run the tests at full scale and the soaks, and write tests/SOAK.md.
	@PERRON_TEST_SCALE=soak $(PYTEST) -n $(TEST_PROCESSES) --ignore=tests/bench tests
	@PERRON_TEST_SCALE=soak $(BIN)/python -m tests.soak

lint: $(STAMP) ## Check style, types, the law of imports and the contract.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format --diff --exit-code --path perron

bench: $(STAMP) ## Measure the budgets and write var/bench.json; QUICK=1 takes fewer rounds.
	@$(BIN)/python -m tests.bench

gen: $(STAMP) ## Generate gen/ anew from protos/.
	@$(BIN)/python protos/plugins/generate.py

lock: $(STAMP) ## Resolve the pinned requirements anew (needs uv on the path).
	@uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q -o deploy/lock/dev.txt
	@uv pip compile pyproject.toml -c deploy/lock/dev.txt --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q -o deploy/lock/runtime.txt
	@uv pip compile pyproject.toml --extra trainer -c deploy/lock/dev.txt --universal --python-version 3.11 --no-header --no-annotate -q -o deploy/lock/trainer-constraints.txt
