# The whole project in a few words; `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Small matrices: one thread per process is fastest, and keeps parallel tests from fighting over cores. Whole files stay
# in one process where they can, so that what their tests share is made once.
TEST := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

BENCHMARKS := accuracy.moments speed.moments_update speed.metrics speed.wide_layers speed.vocabulary \
	races.right_or_wrong races.measuring_tools speed.ufm_certificates races.ufm_solvers \
	speed.rate_reduction speed.sop_step speed.tuning \
	speed.transfer_scores speed.deep_linear speed.completion_scaling speed.tangent_kernel_scale \
	races.dictionaries races.deconvolution races.convolutional races.denoising races.spikes races.completion \
	races.adapters races.tangent_kernels robustness \
	scale.streamed scale.growth scale.processes scale.clusters scale.on_paper

.PHONY: help setup demo test test-slow bench races docs claims clean

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*##/\t/' | expand -t 12

setup: $(VENV)/.installed  ## Install the package, with the pinned versions, into .venv.

demo: setup  ## Train small networks on real digits, measure them, write runs/demo/report.html.
	OMP_NUM_THREADS=1 $(BIN)/tightframe run optimizers weight-decay depthwise ufm-collapse ufm-bias --preset smoke --out runs/demo --resume

test: $(VENV)/.installed-dev  ## Run the checks and the default tests.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(TEST)

test-slow: $(VENV)/.installed-dev  ## Run the tests that take minutes.
	$(TEST) -m slow

bench: $(VENV)/.installed-dev  ## Measure speed and accuracy; writes benchmarks/results.
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || exit 1; done
	$(BIN)/python -m benchmarks.races --gather

races: $(VENV)/.installed-dev  ## Race other packages (hours); writes runs/races/report.html, bars.md and ratios.md.
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.races --out runs/races

claims: setup  ## Check every claim of the ledger at preset quick (hours); writes runs/claims and docs/claims.md.
	OMP_NUM_THREADS=1 $(BIN)/tightframe claims --preset quick --workers 2 --out runs/claims --resume
	cp runs/claims/claims.md docs/claims.md

docs: $(VENV)/.installed-dev  ## Build the documentation, warnings as errors, into build/docs.
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs

clean:  ## Remove the environment, caches and the demo.
	rm -rf $(VENV) runs/demo build/docs .pytest_cache .ruff_cache .hypothesis

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[dev,docs]'
	@touch $@
