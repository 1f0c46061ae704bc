# Everything a newcomer needs. Each target sets up .venv by itself; nothing else has to be installed first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help lab notebooks test test-slow test-browser lint bench clean

help:  ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

# Re-installed only when the one list of dependencies changes.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "tsdlab needs Python 3.10 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "Installing tsdlab and its dependencies into $(VENV) (PyTorch is large: a few minutes the first time)"
	$(BIN)/python -m pip install --quiet --progress-bar off -e '.[lab,test]'
	@touch $@

# JupyterLab refuses to run as root unless told to; in a container there is often nobody else.
lab: $(READY)  ## open JupyterLab on the notebooks (localhost, with its token)
	$(BIN)/jupyter lab --ServerApp.ip=127.0.0.1 --notebook-dir=notebooks $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_ARGS)

notebooks: $(READY)  ## execute every notebook in place
	$(BIN)/python notebooks/execute.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint  ## lint, types and the fast tests
	$(BIN)/python -m pytest -n auto

test-slow: $(READY)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

test-browser: $(READY)  ## the explorer in a real JupyterLab; needs a chromium
	$(BIN)/python -m pytest -m browser

bench: $(READY)  ## measure, and write data/results/
	$(BIN)/python benchmarks/roi_ops.py
	$(BIN)/python benchmarks/heads.py

clean:  ## remove the environment and everything generated
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis runs data/generated
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
