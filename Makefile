# make demo        the whole experiment, then the path of its report (needs Python 3.11 or later and make, nothing else)
# make install     the environment alone
# make test        the test suite;  make check-all: the long checks too;  make lint
# make check-notebooks  runs the notebooks of colabs from top to bottom (minutes)
# make check-gemma the comparison with the official gemma package alone (Python 3.12 or later, 4 GB)
# make bench-sampler  the sampler beside the official one, Tunix and transformers (Python 3.12 or later, 9 GB)
# make bench-sft      fine-tuning beside theirs (the same environment)
# Another Python:  make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEMO := runs/arithmetic

.PHONY: demo install test check-all check-notebooks check-gemma bench-sampler bench-sft lint tpu-compile libtpu

demo: install
	$(BIN)/cosample run --config=configs/arithmetic.py:size=demo --workdir=$(DEMO)

install: $(VENV)/.installed

# A process a core, each with whole files of tests: what a file has made once serves all of its tests.
PYTEST := $(BIN)/python -m pytest --numprocesses=auto --dist=loadfile

test: $(VENV)/.installed-dev
	$(PYTEST) -m 'not slow'

# The third line: what needs the TPU compiler, which the other tests run without (see tpu-compile).
check-all: $(VENV)/.installed-parity $(VENV)/libtpu
	$(PYTEST)
	JAX_PLATFORMS=cpu $(BIN)/python -m benchmarks.peers.check transformers
	PYTHONPATH=$(VENV)/libtpu $(BIN)/python -m pytest -m slow tests/test_aot.py tests/test_aot_training.py
	$(MAKE) check-notebooks
	$(MAKE) check-gemma

# From nothing: what an earlier execution has left in colabs/runs would be found done.
check-notebooks: $(VENV)/.installed-notebooks
	rm -rf colabs/runs
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest --nbmake --nbmake-timeout=900 --durations=0 colabs

# The official package has an environment of its own: it brings TensorFlow and much else, and needs a later Python.
GEMMA_PYTHON ?= $(firstword $(foreach p,python3.13 python3.12 $(PYTHON),$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo $(p))))
check-gemma:
ifeq ($(GEMMA_PYTHON),)
	@echo 'SKIPPED check-gemma: the official gemma package needs Python 3.12 or later, and none was found: GEMMA_PYTHON=...'
else
	$(MAKE) $(VENV)-gemma/.installed
	JAX_PLATFORMS=cpu $(VENV)-gemma/bin/python -m pytest -m slow tests/gemma/test_gemma_package_parity.py
	JAX_PLATFORMS=cpu $(VENV)-gemma/bin/python -m benchmarks.peers.check gemma
	JAX_PLATFORMS=cpu $(VENV)-gemma/bin/python -m benchmarks.forward
endif

# The sampler beside its peers (half an hour; leave the machine alone), then its parts.
bench-sampler: $(VENV)-gemma/.installed-peers
	JAX_PLATFORMS=cpu $(VENV)-gemma/bin/python -m benchmarks.peers.check
	for what in peers ablation sweeps profile; do JAX_PLATFORMS=cpu $(VENV)-gemma/bin/python -m benchmarks.sampler $$what || exit 1; done

# A step of fine-tuning beside its peers' (an hour, 21 GB of memory; Tunix needs more and fails in less, see docs/training.md), then without each of its parts.
bench-sft: $(VENV)-gemma/.installed-peers
	JAX_PLATFORMS=cpu $(VENV)-gemma/bin/python -m benchmarks.peers.check
	for what in peers ablation; do JAX_PLATFORMS=cpu $(VENV)-gemma/bin/python -m benchmarks.sft $$what || exit 1; done

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy

# The real TPU compiler, on a machine without a TPU. It stays out of the environment, where JAX would look for a TPU with it.
tpu-compile: libtpu
	PYTHONPATH=$(VENV)/libtpu $(BIN)/python -m cosample_jax.aot

libtpu: $(VENV)/libtpu

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

$(VENV)/.installed-parity: $(VENV)/.installed-dev
	$(PIP) install --constraint constraints.txt --editable '.[dev,parity]'
	@touch $@

$(VENV)/.installed-notebooks: $(VENV)/.installed-dev
	$(PIP) install --constraint constraints.txt --editable '.[dev,notebooks]'
	@touch $@

# uv resolves what pip does not get through: the package asks for hundreds of others, most of them without bounds.
$(VENV)-gemma/.installed: pyproject.toml
	$(GEMMA_PYTHON) -m venv $(VENV)-gemma
	$(VENV)-gemma/bin/python -m pip --disable-pip-version-check --quiet install uv
	$(VENV)-gemma/bin/uv pip install --quiet --python $(VENV)-gemma/bin/python --editable '.[test,gemma]'
	@touch $@

# Tunix alone: all that it asks for would take other packages back to earlier versions.
$(VENV)-gemma/.installed-peers: $(VENV)-gemma/.installed
	$(VENV)-gemma/bin/uv pip install --quiet --python $(VENV)-gemma/bin/python torch transformers perfetto
	$(VENV)-gemma/bin/uv pip install --quiet --python $(VENV)-gemma/bin/python --no-deps google-tunix qwix google-metrax
	@touch $@

$(VENV)/libtpu: $(VENV)/.installed
	$(PIP) install --target $@ --no-deps libtpu
