# make demo        the whole experiment, then the path of its report (needs Python 3.11 or later and make, nothing else)
# make install     the environment alone
# make test        the test suite;  make check-all: the long checks too;  make lint
# Another Python:  make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEMO := runs/arithmetic

.PHONY: demo install test check-all lint tpu-compile

demo: install
	$(BIN)/cosample run --config=configs/arithmetic.py:size=demo --workdir=$(DEMO)

install: $(VENV)/.installed

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m 'not slow'

# The last line: what needs the TPU compiler, which the other tests run without (see tpu-compile).
check-all: $(VENV)/.installed-dev $(VENV)/libtpu
	$(BIN)/python -m pytest -rs
	PYTHONPATH=$(VENV)/libtpu $(BIN)/python -m pytest -rs -m slow tests/test_aot.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .

# The real TPU compiler, on a machine without a TPU. It stays out of the environment, where JAX would look for a TPU with it.
tpu-compile: $(VENV)/libtpu
	PYTHONPATH=$(VENV)/libtpu $(BIN)/python -m cosample_jax.aot

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cosample_jax needs Python 3.11 or later, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1): make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A stamp each, so that an installation is not done again until what it depends on changes.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(VENV)/libtpu: $(VENV)/.installed
	$(PIP) install --target $@ --no-deps libtpu
