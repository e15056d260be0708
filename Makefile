# make demo   a virtual environment, tlhub in it, and the main job on real weights and real data
# make test   the whole test suite;  make check  the linters;  make nightly  the slow matrices too
# make faults what becomes of downloads when everything goes wrong, into docs/reference/faults.md
# make architectures  which architectures convert, into docs/reference/architectures.md

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ROUNDS ?= 500
SEED   ?= 1

.PHONY: demo test check nightly benchmark faults architectures clean

demo: $(VENV)/.demo
	$(BIN)/python -m demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow"

check: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

nightly: $(VENV)/.dev
	$(BIN)/python -m pytest

benchmark: $(VENV)/.dev
	$(BIN)/python benchmarks/startup.py

faults: $(VENV)/.dev
	$(BIN)/python -m benchmarks.faults --rounds $(ROUNDS) --seed $(SEED)

architectures: $(VENV)/.dev
	$(BIN)/python -m benchmarks.architectures

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "tlhub needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist data runs
