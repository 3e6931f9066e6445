# A fresh clone needs Python 3.11 to 3.13 and make: each target first makes its own part of .venv.

PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input -c constraints.txt
OUT ?= runs/cartpole

.PHONY: help train test lint format bench curves docs clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

train: .venv/.train  ## Train PPO on CartPole-v1 to a return of 475, watching it learn
	@$(BIN)/unison train ppo --env CartPole-v1 --stop-return 475 --stop-steps 200000 --seed 0 --out $(OUT)

test: lint  ## Check the code and run all tests
	@$(BIN)/python -m pytest -n auto --dist worksteal

lint: .venv/.dev  ## Check formatting, lint and types
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

format: .venv/.dev  ## Format the code and mend what can be mended
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

bench: .venv/.bench  ## Run every benchmark and print its table; PEERS=DIR adds the peers (benchmarks/setup_peers.sh DIR)
	@set -e; for name in ppo_update sizes learner_group cartpole imports sac_update replay; do \
		echo "== $$name"; $(BIN)/python benchmarks/$$name.py $(if $(PEERS),--peers $(PEERS)); done
	@set -e; for name in products profile_step sampling many_modules checkpoint; do echo "== $$name"; $(BIN)/python benchmarks/$$name.py; done

curves: .venv/.bench  ## Train PPO on every task of the learning curves, over five seeds
	@$(BIN)/python benchmarks/curves.py

docs: .venv/.docs  ## Build the documentation into site/
	@$(BIN)/mkdocs build --quiet --strict

clean:  ## Remove the virtual environment and what was built
	@rm -rf .venv site dist build .pytest_cache .ruff_cache .hypothesis

# A stamp for each set of packages; it is out of date when what should be installed has changed.
.venv/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "Unison needs Python 3.11 to 3.13; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up .venv (once; a minute or two)"
	@$(PYTHON) -m venv .venv
	@$(PIP_INSTALL) hatchling editables setuptools
	@touch $@

.venv/.train: EXTRAS := plots
.venv/.dev: EXTRAS := dev
.venv/.bench: EXTRAS := plots,xla
.venv/.docs: EXTRAS := docs
.venv/.train .venv/.dev .venv/.bench .venv/.docs: .venv/.base
	@$(PIP_INSTALL) --no-build-isolation -e '.[$(EXTRAS)]'
	@touch $@
