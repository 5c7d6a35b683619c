VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PEERS := .venv-peers

.PHONY: help setup demo test test-integration lint security audit types format results leaderboard bench clean

help:  ## What there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 18

$(VENV)/.setup: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.setup-dev: $(VENV)/.setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(VENV)/.setup  ## Make the virtual environment and install the package

demo: setup  ## Learn to learn letters, and show it (a few minutes)
	$(BIN)/quickstudy demo

test: $(VENV)/.setup-dev lint types  ## Lint, types and tests
	$(BIN)/python -m pytest -m "not integration" --numprocesses auto --dist loadfile

test-integration: $(VENV)/.setup-dev  ## Tests with a Ray cluster, which they start themselves
	$(BIN)/python -m pytest -m integration

lint: $(VENV)/.setup-dev security audit  ## Check style and security
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

security: $(VENV)/.setup-dev  ## Look for insecure code
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive src

audit: $(VENV)/.setup-dev  ## Look for known vulnerabilities of what is installed
	$(BIN)/python tools/audit.py constraints.txt

types: $(VENV)/.setup-dev  ## Check types
	$(BIN)/mypy

format: $(VENV)/.setup-dev  ## Mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

results: setup  ## Train what configs/omniglot describes (hours, resumable), write docs/results.md
	$(BIN)/python -m benchmarks accuracy/results

leaderboard: setup  ## Train every strategy for the same time (hours), write docs/leaderboard.md
	$(BIN)/python -m benchmarks accuracy/leaderboard

$(PEERS)/.setup: benchmarks/speed/peers-requirements.txt constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r benchmarks/speed/peers-requirements.txt
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps easyfsl==1.5.0
	@touch $@

bench: setup $(PEERS)/.setup  ## Compare speed with other packages (20 minutes), write docs/performance.md
	$(BIN)/python -m benchmarks speed/performance $(BENCH)

clean:  ## Remove the environment and caches
	rm -rf $(VENV) $(PEERS) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
