# The K2 lifecycle. `make help` lists what there is; every target does its own set-up.

PYTHON ?= $(or $(shell command -v python3.11 || command -v python3),python3.11)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PEERS  := .venv-peers
TOOLS  := .venv-tools
RECIPE ?= $(or $(K2_RECIPE),laptop)
OVERRIDES ?= $(K2_OVERRIDES)
PORT   ?= 5000
JOBS   ?= 2
TRACKING = $(or $(MLFLOW_TRACKING_URI),sqlite:///$(K2_HOME)/mlflow.db)
# With STACK=1 a command runs on the servers of `make stack-up`. It gets their secrets in its environment, from a file.
ON_STACK = $(if $(filter-out 0,$(STACK)),$(BIN)/python -m infra.stack run)

export K2_HOME ?= $(CURDIR)/outputs
export K2_RECIPE := $(RECIPE)
export K2_OVERRIDES := $(OVERRIDES)
export PYTHONHASHSEED ?= 0
export FLYTE_SDK_LOGGING_LEVEL ?= 50

.DEFAULT_GOAL := help
.PHONY: help setup lifecycle continual continual-demo ui stack-up stack-status stack-down test chaos bench bench-gpu check golden package register images clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */\1\t/' | expand -t 16

setup: $(READY) ## create .venv and install (done by the others when needed)

# torch stands apart: its version is pinned, while the build (CPU or CUDA) is the machine's choice (TORCH_ARGS). The lock
# is complete and installed without dependencies, since reasoning-gym's would bring pycosat, which needs a C compiler:
# `pip check` misses it, the project does not. --use-pep517: old and new pip build the sources of some packages alike.
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 with venv is needed, which '$(PYTHON)' is not. Debian 12: apt install python3.11-venv;" \
	    "with another Python 3.11: make PYTHON=/path/to/python3.11 $(or $(MAKECMDGOALS),setup)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(TORCH_ARGS) "torch==2.13.0"
	$(BIN)/pip install --quiet --no-deps --use-pep517 -r requirements.lock
	$(BIN)/pip install --quiet --no-deps -e .
	@touch $@

lifecycle: $(READY) ## train, evaluate and release a small K2 through all its phases (STACK=1: on the stack)
	@mkdir -p "$(K2_HOME)/tmp"
	TMPDIR="$(K2_HOME)/tmp" $(ON_STACK) $(BIN)/pyflyte run workflows/lifecycle.py full_lifecycle

# A turn is a kickoff's, which is handled once: UTC, as 2026-11-03T02:00:00. A second run of one that was killed goes on.
continual: KICKOFF ?= $(shell date -u +%Y-%m-%dT%H:%M:%S)
continual: PLACE = $(if $(findstring ://,$(INBOX)),$(INBOX),$(abspath $(INBOX)))
continual: $(READY) ## judge what is in the inbox, then one turn of RECIPE's line (INBOX=, KICKOFF=, STACK=1)
	@mkdir -p "$(K2_HOME)/tmp"
	@for step in continual_arrivals continual_turn; do \
	  TMPDIR="$(K2_HOME)/tmp" $(ON_STACK) $(BIN)/pyflyte run workflows/continual.py $$step --kickoff "$(KICKOFF)" \
	    --overrides '$(if $(INBOX),{"continual.inbox": "$(PLACE)"},{})' || exit 1; \
	done

continual-demo: $(READY) ## a month of days in minutes: what arrives, what is trained on, who is champion; a report (SCRATCH=1)
	@mkdir -p "$(K2_HOME)/tmp"
	TMPDIR="$(K2_HOME)/tmp" $(BIN)/python -m workflows.month $(if $(filter-out 0,$(SCRATCH)),--scratch)

# The address may hold a password, so it travels in the environment: not shown by make, nor by ps.
ui: export MLFLOW_BACKEND_STORE_URI = $(TRACKING)
ui: $(READY) ## MLflow UI on 127.0.0.1:5000 (STACK=1: where the stack's is)
ifneq ($(filter-out 0,$(STACK)),)
	@$(BIN)/python -m infra.stack ui
else
	@$(BIN)/python -m k2model.registry.tracking
	MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui \
	  --host 127.0.0.1 --port $(PORT) --workers 1
endif

stack-up: $(READY) ## S3, PostgreSQL and an MLflow server with a login on this machine (NEW_PORTS=1)
	@$(BIN)/python -m infra.stack up $(if $(NEW_PORTS),--new-ports)

stack-status: $(READY) ## what of the stack runs, where, and whether it answers
	@$(BIN)/python -m infra.stack status

stack-down: $(READY) ## end the stack; its data stay (PURGE=1: they go)
	@$(BIN)/python -m infra.stack down $(if $(PURGE),--purge)

# checkov has dependencies of its own that the project has in other versions.
$(TOOLS)/.ready: infra/tools.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet -r $<
	@touch $@

# Rooms of tests are given out to two processes (JOBS=1: to one, in 3 GB less memory and twice the time).
test: $(READY) $(TOOLS)/.ready ## the whole test suite
	$(BIN)/python -m pytest $(if $(filter-out 1,$(JOBS)),-n $(JOBS) --no-loadscope-reorder)

chaos: $(READY) ## break what can break while real parts are at work; a table of how each ended (FAST=1, SEED=, ONLY=)
	$(BIN)/python -m tests.chaos $(if $(filter-out 0,$(FAST)),--fast) --seed $(or $(SEED),0) $(if $(ONLY),--only '$(ONLY)')

# datatrove and datasets cap versions that the project has higher, so they stand apart.
$(PEERS)/.ready: benchmarks/peers/tokenise.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet -r $<
	@touch $@

bench: $(READY) $(PEERS)/.ready ## measure every speed claim (benchmarks/), ours against the others
	@for script in $(filter-out benchmarks/gpu.py,$(wildcard benchmarks/[!_]*.py)); do \
	  echo "== $$script"; $(BIN)/python -m "benchmarks.$$(basename $$script .py)" || exit 1; \
	done

bench-gpu: $(READY) ## one GPU: what it computes, how fast, and what it takes of its memory (docs/gpu.md)
	$(BIN)/python -m benchmarks.gpu

check: $(READY) ## lint, format, types, which way imports point, and files of an odd size
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/test_house.py

golden: $(READY) ## write tests/golden.json anew, after a change of what a step makes that is meant
	$(BIN)/python -m tests.golden

# Images come from the recipe (cluster.data_image, ...), or e.g. IMAGES="--image data=registry/k2-data@sha256:...".
package: $(READY) ## what Flyte is given: workflows, code and RECIPE (a file of your own as well), in one file
	$(BIN)/python -m tasks.package $(IMAGES)

register: $(READY) ## the same, registered with the Flyte that FLYTECTL_CONFIG names (PROJECT=, DOMAIN=, VERSION=)
	$(BIN)/python -m tasks.package --register --project $(or $(PROJECT),k2) --domain $(or $(DOMAIN),development) \
	  $(if $(VERSION),--version $(VERSION)) $(IMAGES)

# BASE=python:3.11-slim-bookworm@sha256:... with docker, podman or buildah; without it, buildah and Debian's packages.
images: ## build the container images and let each check itself
	$(PYTHON) images/build.py $(if $(BASE),--base $(BASE),--debootstrap) $(IMAGES_ARGS)

clean: ## remove what runs have left (outputs/), not .venv; ends the stack
	@if [ -e "$(K2_HOME)/stack" ]; then $(BIN)/python -m infra.stack down; fi
	rm -rf "$(K2_HOME)"
