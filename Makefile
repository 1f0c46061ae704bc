# Everything a newcomer needs. Each target sets up its environment by itself; only Python and make have to be there.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Which tests: make test TESTS=tests/ops
TESTS  ?=
PYTEST  = python -m pytest $(TESTS)
# A process a core. Each gets whole files, so that what the tests of a file share is made once.
PARALLEL := -n auto --dist worksteal

# The oldest supported Python that runs here, for make test-lowest
OLDEST ?= $(shell for python in python3.10 $$HOME/.pyenv/versions/3.10.*/bin/python python3.11 python3; do \
            "$$python" -c '' 2>/dev/null && echo "$$python" && break; done)

.DEFAULT_GOAL := help
.PHONY: help lab notebooks lint test test-slow test-browser test-lowest test-latest docs bench lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

# $(call new_environment,FOLDER,PYTHON)
define new_environment
	@$(2) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "tsdlab needs Python 3.10 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(2) -m venv $(1)
	@echo "Installing tsdlab and its dependencies into $(1) (PyTorch is large: a few minutes the first time)"
endef
# $(call pip_install,FOLDER) WHAT
pip_install = $(1)/bin/python -m pip install --quiet --progress-bar off --disable-pip-version-check
# The build backend is one of the locked packages; pip would download its newest version instead.
EDITABLE := --no-deps --no-build-isolation --editable .

# Installed anew only when the lock or the package's own metadata changes.
$(READY): requirements.lock pyproject.toml
	$(call new_environment,$(VENV),$(PYTHON))
	$(call pip_install,$(VENV)) -r requirements.lock
	$(call pip_install,$(VENV)) $(EDITABLE)
	@touch $@

# JupyterLab refuses to run as root unless told to; in a container there is often nobody else.
lab: $(READY)  ## open JupyterLab on the first notebook, the explorer (localhost, with its token)
	$(BIN)/jupyter lab --ServerApp.ip=127.0.0.1 --notebook-dir=notebooks --LabApp.default_url=/lab/tree/00_explore.ipynb \
	  $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_ARGS)

notebooks: $(READY)  ## execute every notebook in place
	$(BIN)/python notebooks/execute.py

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint  ## style, types and the fast tests
	$(BIN)/$(PYTEST) $(PARALLEL)

test-slow: $(READY)  ## the tests that take minutes
	$(BIN)/$(PYTEST) -m slow

test-browser: $(READY)  ## the explorer in a real JupyterLab; needs a chromium
	$(BIN)/$(PYTEST) -m browser

.venv-lowest/.ready: requirements-lowest.lock pyproject.toml
	$(call new_environment,$(@D),$(OLDEST))
	$(call pip_install,$(@D)) -r requirements-lowest.lock
	$(call pip_install,$(@D)) $(EDITABLE)
	@touch $@

test-lowest: .venv-lowest/.ready  ## the fast tests with the oldest versions that pyproject.toml allows
	.venv-lowest/bin/$(PYTEST) $(PARALLEL)

test-latest:  ## the fast tests with the newest versions that pip finds, whatever the lock says
	$(call new_environment,.venv-latest,$(PYTHON))
	$(call pip_install,.venv-latest) --upgrade --upgrade-strategy eager --editable '.[lab,test]'
	.venv-latest/bin/$(PYTEST) $(PARALLEL)

docs: $(READY)  ## build the documentation site into site/
	$(BIN)/mkdocs build --strict

bench: $(READY)  ## measure, and write data/results/
	$(BIN)/python benchmarks/roi_ops.py
	$(BIN)/python benchmarks/heads.py

# Only versions that have been out for six weeks: a newer one may be withdrawn, or not fit the others yet.
COMPILE := .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.10 --upgrade --exclude-newer '6 weeks' \
           --annotation-style line --custom-compile-command 'make lock' pyproject.toml --extra lab --extra test

lock:  ## renew the two lock files
	$(PYTHON) -m venv .venv-lock
	$(call pip_install,.venv-lock) --upgrade uv
	$(COMPILE) --extra docs --extra onnx --output-file requirements.lock
	$(COMPILE) --resolution lowest-direct --output-file requirements-lowest.lock

clean:  ## remove the environments and everything generated
	rm -rf .venv .venv-lowest .venv-latest .venv-lock build site *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis runs data/generated
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
