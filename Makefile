# The commands of Freehold. A bare machine needs python3 (3.11 to 3.13, with venv) and make: the rest is
# fetched into .venv and .freehold, by exact version and checksum.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Compiled modules are kept: without them every engine process compiles vLLM anew, 25 s each.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
STACK ?= local
UV := .freehold/tools/uv/bin/uv
INSTALL = VIRTUAL_ENV=$(CURDIR)/.venv $(UV) pip install --no-deps --require-hashes

.PHONY: help up down status smoke load demo picker docs test test-long test-e2e test-long-e2e test-cluster lint format lock env env-cpu env-dev clean

help: ## Say what there is
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

up: env-cpu ## Bring the whole stack up on this machine (STACK=local)
	@.venv/bin/freehold up $(STACK)

down: env ## Stop it and leave nothing behind
	@.venv/bin/freehold down $(STACK)

status: env ## What runs, and how it is
	@.venv/bin/freehold status $(STACK)

smoke: env ## Try every endpoint through the gateway
	@.venv/bin/freehold smoke $(STACK)

load: env ## The stack's load test against what runs here, ending in a report
	@.venv/bin/freehold load $(STACK) --duration 60 --out .freehold/load

demo: env ## Two minutes: a plan, a refusal, a rehearsal in which a worker dies, its report
	@.venv/bin/python loadtests/demo.py

picker: env ## Compile the picker, which then serves in place of the one in Python (needs Go)
	@.venv/bin/python -m freehold.gateway.compiled

docs: env-dev ## The documentation as a site, in .freehold/site; every link checked
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

test: env-dev lint ## Lint, types, unit tests, the gateway before stub engines (no vLLM)
	.venv/bin/pytest -q -n 2 --dist worksteal -m "not long and not vllm and not e2e and not cluster"

test-long: env-dev ## Recorded programs, rules, load tests, simulated engines, docs (no vLLM)
	.venv/bin/pytest -q -n 2 --dist loadscope -m "long and not vllm and not e2e and not cluster"

test-e2e: env-cpu env-dev ## The real stack: vLLM, LMCache, Redis, Envoy, Prometheus
	.venv/bin/pytest -v -m "(vllm or e2e) and not long" --timeout 900

test-long-e2e: env-cpu env-dev ## Faults under rehearsal, a fork's own tests, our load test beside vLLM's (quiet machine)
	.venv/bin/pytest -v -m "(vllm or e2e) and long" --timeout 900

test-cluster: env-dev ## Every stack on a real Kubernetes control plane (Go builds it once, ten minutes)
	FREEHOLD_TEST_CLUSTER=1 .venv/bin/pytest -v tests/kubernetes

lint: env-dev ## Format, lint, types
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/pyright

format: env-dev ## Put the code in form
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

# --- The environment: one venv, one lock, three sets of packages -------------------------------------

env: .venv/.base ## The command line's packages (no vLLM, no torch)
env-cpu: .venv/.cpu ## ... and the real engine on CPU
env-dev: .venv/.dev ## ... and what the checks need

$(UV): requirements/uv.txt
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); sys.exit(0 if ok else f"freehold needs Python 3.11 to 3.13; {sys.executable} is {sys.version.split()[0]}: make PYTHON=/path/to/python3.12")'
	@echo "fetching uv"
	@rm -rf .freehold/tools/uv && $(PYTHON) -m venv .freehold/tools/uv
	@.freehold/tools/uv/bin/pip install -q --disable-pip-version-check --require-hashes -r $<
	@touch $@

# pip stays in the venv: Pulumi's language host asks it for the list of plugins.
.venv/pyvenv.cfg:
	@$(PYTHON) -m venv .venv

.venv/.base: requirements/base.txt pyproject.toml $(UV) | .venv/pyvenv.cfg
	@echo "installing the command line's packages"
	@$(INSTALL) -q -r $<
	@VIRTUAL_ENV=$(CURDIR)/.venv $(UV) pip install -q --no-deps -e .
	@touch $@

.venv/.cpu: requirements/cpu.txt .venv/.base
	@echo "installing the engine for CPU: vLLM, LMCache, PyTorch (about 3.4 GB to download the first time)"
	@$(INSTALL) -r $< 2>&1 | tail -n 3
	@echo "compiling its modules"
	@.venv/bin/python -c 'import vllm.entrypoints.openai.api_server, vllm.v1.worker.cpu_worker, lmcache.v1.multiprocess.server' >/dev/null 2>&1
	@touch $@

.venv/.dev: requirements/dev.txt .venv/.base
	@echo "installing what the checks need"
	@$(INSTALL) -q -r $<
	@touch $@

# The committed lock is hashed requirements: uv.lock itself names download addresses.
lock: $(UV) ## Resolve pyproject.toml anew and export the hashed requirements
	$(UV) lock --python $(PYTHON) --no-python-downloads
	$(UV) export $(EXPORT) --no-dev -o requirements/base.txt
	for group in cpu gpu dev; do $(UV) export $(EXPORT) --only-group $$group -o requirements/$$group.txt; done
EXPORT := -q --frozen --format requirements-txt --no-emit-project --no-header --no-annotate

clean: ## Remove the environment and everything made (stop the stack first)
	@if [ -x .venv/bin/freehold ]; then .venv/bin/freehold down $(STACK); fi
	rm -rf .venv .freehold
