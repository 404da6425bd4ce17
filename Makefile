PRESET ?= demo
EDITION ?= full
PYTHON ?= python3
BIN := .venv/bin

help:  ## List the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

install: .venv/installed  ## Make .venv with everything in it (LOCKED=1: exactly what CI checks, every file by its hash)

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(f"Python {sys.version.split()[0]} found; rfkit needs 3.11 or newer: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $(if $(LOCKED),--require-hashes -r .ci/requirements.lock,-r requirements.txt)
	$(if $(LOCKED),$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .)
	@touch $@

book: install  ## Train what is missing and build the book: make book PRESET=demo EDITION=full
	$(BIN)/rfkit book $(PRESET) --edition $(EDITION)

test: install lint  ## Everything that must pass
	$(BIN)/pytest -q -n auto --dist loadfile --no-loadscope-reorder

exhaustive: install  ## The same with many more random cases, and with a compiler: an hour
	RFKIT_EXHAUSTIVE=1 $(BIN)/pytest -q -n auto --dist loadfile --no-loadscope-reorder

lint: install  ## Style and docstrings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

pdf: book  ## The whole book as _build/book.pdf, printed by Chromium
	$(BIN)/rfkit pdf

cluster: install .venv-cluster/installed  ## The smoke preset on a real Slurm on this computer (root, Debian)
	tests/cluster/run .venv-cluster/bin/snakemake

soak: install  ## A hundred kills at random moments of a study, half an hour (Linux)
	$(BIN)/python tests/soak.py

fuzz: install  ## Random damage to data, runs and parameters, ten minutes (Linux)
	$(BIN)/python tests/fuzz.py

.venv-cluster/installed: requirements-cluster.txt
	$(PYTHON) -m venv .venv-cluster
	.venv-cluster/bin/pip install --quiet $(if $(LOCKED),--require-hashes -r .ci/requirements-cluster.lock,-r requirements-cluster.txt)
	@touch $@

lab: install  ## The notebooks in JupyterLab, to run and change
	@$(BIN)/python -c 'import jupyterlab' 2>/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check jupyterlab==4.6.6
	$(BIN)/jupyter lab notebooks

serve:  ## Show the built book on http://localhost:8000
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory _build/html

bench: install  ## Compare speed with peers (requirements-bench.txt); results in benchmarks/results
	for file in benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

clean:  ## Remove what was built; trained runs stay
	rm -rf _build .pytest_cache .ruff_cache .hypothesis

.PHONY: help install lab book pdf cluster soak fuzz test exhaustive lint serve bench clean
