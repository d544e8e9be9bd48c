# `make demo` and `make test` need Python 3.11 or newer and make, nothing else.
# Variables: PYTHON (interpreter the environment is made with), VENV (its folder), WORKERS (test processes), ARGS (for pytest).

SHELL := /bin/sh
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
ARGS ?=
DEMO_OUT ?= demo-out
PIP_FLAGS := --disable-pip-version-check --quiet

.PHONY: help demo test test-slow lint coverage bench clean

help:
	@echo "make demo       install into $(VENV), invert the sample images, write $(DEMO_OUT)/report.html"
	@echo "make test       the test suite"
	@echo "make test-slow  the tests that are too long for every run"
	@echo "make lint       ruff and mypy"
	@echo "make coverage   the test suite with line coverage"
	@echo "make bench      the benchmarks (PyTorch beside it where it is installed)"
	@echo "make clean      remove environment, caches and builds"

demo: $(VENV)/.installed
	$(BIN)/lsap-jax demo --out $(DEMO_OUT)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow -n $(WORKERS) --dist worksteal $(ARGS) || [ $$? -eq 5 ]  # 5: no test is that long

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term-missing:skip-covered $(ARGS)

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/compile.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/refill.py
	$(BIN)/python benchmarks/edits.py
	$(BIN)/python benchmarks/convolutions.py
	$(BIN)/python benchmarks/gradients.py
	$(BIN)/python benchmarks/convert.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/independence.py
	$(BIN)/python benchmarks/resume.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "lsap_jax needs Python 3.11 or newer; none found. Name one: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Made again only when the dependencies may have changed.
$(VENV)/.installed: setup.py pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install $(PIP_FLAGS) -e .
	@touch $@

$(VENV)/.installed-dev: setup.py pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[dev]'
	@touch $@ $(VENV)/.installed
