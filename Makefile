# Every goal sets itself up from a bare checkout, with nothing but Python 3.11 or newer and pip.

PYTHON ?= python3
SHELL := bash
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INFINITY := infinity-emb==0.0.78 uvicorn httptools uvloop fastapi typer click prometheus-fastapi-instrumentator prometheus-client hf-transfer posthog distro backoff
TRITON := nvidia-pytriton==0.7.0 numpy==1.26.4

.PHONY: help demo up down test test-jobs test-parts test-worker test-breaks test-hosts bench check chaos cluster served clean

help:
	@echo "make demo    embed the documentation of Python's standard library and search it"
	@echo "make up      a Prefect server, the deployments and a worker on this machine; make down ends them"
	@echo "make test    run every test; they start the servers that they need"
	@echo "make chaos   break the real job in every way that is known, and audit what is left (CHAOS='--trials 12 --seed 1')"
	@echo "make cluster break a job on Ray and Dask clusters of namespaces, as root (CLUSTER='--trials 60 --seed 1')"
	@echo "make served  install infinity and Triton, servers of embeddings, in folders of their own and run the tests of served encoders against them"
	@echo "make bench   the measured comparisons of tests/benchmarks; hours, on a quiet machine (BENCH='encode --quick')"
	@echo "make check   format, lint, types, which way imports point, and one meaning for each name"
	@echo "make clean   remove what the other goals made"

demo: $(INSTALLED)
	@$(BIN)/kitestring demo

# Five processes, since flows, clients of servers and Ray's driver leave hundreds of threads behind, which tests that load models have no
# use for; two at a time, since much of a test is waiting for a server or for a model that is loaded. Each prints whole lines under its name.
BREAK := tests/chaos tests/flows/damage tests/flows/imports tests/flows/killed
HOSTS := tests/adapters/engines tests/cluster
LABEL = 2>&1 | sed -u 's/^/$(1) /'

test: $(INSTALLED)
	@$(MAKE) --no-print-directory --keep-going --jobs=2 test-jobs test-parts test-breaks test-worker test-hosts

test-parts: $(INSTALLED)
	@set -o pipefail; $(BIN)/python -u -m pytest $(addprefix --ignore=,tests/flows tests/chaos tests/worker $(HOSTS)) $(call LABEL,parts:)

test-jobs: $(INSTALLED)
	@set -o pipefail; $(BIN)/python -u -m pytest tests/flows $(addprefix --ignore=,$(BREAK)) $(call LABEL,jobs:)

test-worker: $(INSTALLED)
	@set -o pipefail; $(BIN)/python -u -m pytest tests/worker $(call LABEL,worker:)

test-breaks: $(INSTALLED)
	@set -o pipefail; $(BIN)/python -u -m pytest $(BREAK) $(call LABEL,breaks:)

test-hosts: $(INSTALLED)
	@set -o pipefail; $(BIN)/python -u -m pytest $(HOSTS) $(call LABEL,hosts:)

bench: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m tests.benchmarks $(BENCH)

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.names

chaos: $(INSTALLED)
	$(BIN)/python -m tests.chaos $(CHAOS)

# infinity's own pins are those of an older transformers: it gets its packages in a folder, and torch and the rest from here. Of
# nvidia-pytriton (55 MB to fetch) only the server is wanted that its wheel brings; its Python backend reads arrays as numpy 1 has them.
served: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/infinity $(INFINITY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/triton $(TRITON)
	KITESTRING_INFINITY=$(abspath $(VENV)/infinity) KITESTRING_TRITON=$(abspath $(VENV)/triton) \
		$(BIN)/python -u -m pytest tests/adapters/served/test_infinity.py tests/flows/served/test_triton.py

cluster: $(INSTALLED)
	$(BIN)/python -m tests.cluster $(CLUSTER)

# The stamp stands for an install of exactly these two files; a change in either installs again.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Kitestring needs Python 3.11 or newer, this is {v[0]}.{v[1]}: make PYTHON=/path/to/python3.11")'
	@echo "Installing into $(VENV). It takes 8.5 GB, most of it PyTorch and CUDA; the first time some minutes ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,demo]'
	@touch $@

up: $(INSTALLED)
	@$(BIN)/python infra/local.py up

down: $(INSTALLED)
	@$(BIN)/python infra/local.py down

clean:
	rm -rf $(VENV) build demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find flows tasks tests -name __pycache__ -type d -prune -exec rm -rf {} +
