# Every task of the project by name; `make` alone lists them. What takes more than a line or two is a script beside
# the thing it works on (containers/, requirements/, .ci/).
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PATIENTS ?= 5
SUITE ?= elgamal-p256-mlkem768
WEATHER ?= fair
PYTHON ?= python3
ROW ?= all
REQUESTS ?= 500
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
FAST := -m "not slow" --ignore=tests/integration --ignore=tests/e2e --ignore=tests/conformance

# Tests wait a third of their time, for timers, for processes of their own and for each other: one worker more fills it.
WORKERS = $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))

# Unit tests wait for SQLite's fsync more than for anything else: their folders are in memory where there is room. The campaign
# and the integration tests commit to the disk. An environment that forbids bytecode would have each worker, and each doctor that
# a test starts, compile everything anew.
IN_MEMORY = PYTEST_DEBUG_TEMPROOT=$(shell df --output=avail /dev/shm 2>/dev/null | awk '$$1 + 0 > 1000000 { print "/dev/shm" }')
unexport PYTHONDONTWRITEBYTECODE

SCRIPTS = $(shell git ls-files --cached --others --exclude-standard | xargs awk 'FNR == 1 && /^\#!.*sh$$/ { print FILENAME }')
export PATIENTS

##@ Run it
.PHONY: demo
demo: $(VENV)/.run-ready ## a doctor and PATIENTS=5 patients as local processes, step by step; SUITE=… WEATHER=rural; KEEP=1 leaves it running, with the console
	@$(BIN)/telemed-lab demo --patients $(PATIENTS) --suite $(SUITE) --weather $(WEATHER) $(if $(KEEP),--keep)

.PHONY: up
up: images ## the same in containers: PATIENTS=5 of them, started and waited for; WEATHER=rural; MONITORING=1 with Prometheus and a dashboard
	@WEATHER=$(WEATHER) containers/compose up --detach --remove-orphans
	@containers/await $(PATIENTS)

.PHONY: logs
logs: ## follow the logs of the containers
	@containers/compose logs --follow --tail=100

.PHONY: down
down: ## stop and remove the containers; keys, database and identities stay in their volumes
	@containers/compose down --remove-orphans

.PHONY: clean
clean: ## down, and remove the volumes: every identity and message is gone
	@containers/compose down --remove-orphans --volumes

.PHONY: images
images: ## build the images, also where no registry can be reached
	@containers/build

##@ Test it
.PHONY: test
test: check cover api guard faults e2e integration ## everything that can run here: check, unit tests with coverage, the API, guard, the fault campaign, a browser, integration

.PHONY: check
check: $(VENV)/.dev-ready ## format, lint, types, layering, shell scripts, Dockerfiles
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --output-format=concise .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/shellcheck $(SCRIPTS)
	$(BIN)/hadolint doctor/Dockerfile patient/Dockerfile

.PHONY: unit
unit: $(VENV)/.dev-ready ## all tests that need no container engine, in random order
	$(IN_MEMORY) $(BIN)/pytest $(FAST) --numprocesses=$(WORKERS)

.PHONY: integration
integration: $(VENV)/.dev-ready ## the shipped images, driven by Compose; skipped without an engine, but not with CI=true
	@! docker info >/dev/null 2>&1 || $(MAKE) images
	$(BIN)/pytest -m integration

.PHONY: e2e
e2e: $(VENV)/.dev-ready ## the tutorial, as it stands there; the console in a real browser, with pictures in build/screenshots; that is skipped without Chromium, but not with CI=true
	$(BIN)/pytest -m e2e

.PHONY: api
api: $(VENV)/.dev-ready ## the HTTP API against its own description, by schemathesis: REQUESTS=500
	API_REQUESTS=$(REQUESTS) $(BIN)/pytest -m conformance

.PHONY: faults
faults: $(VENV)/.dev-ready ## the fault campaign at the size of continuous integration; ROW=all, or the names of some
	$(BIN)/telemed-lab faults $(foreach row,$(ROW),--run $(row))

.PHONY: campaign
campaign: $(VENV)/.dev-ready ## the fault campaign at release size, hours of it; what comes of it is kept in docs/campaign
	$(BIN)/telemed-lab faults $(foreach row,$(ROW),--run $(row)) --size release --keep docs/campaign

.PHONY: bench
bench: $(VENV)/.dev-ready ## ours beside the peers, into build/bench; PARTS="crypto fanout" for some, KEEP=1 for docs/bench and README
	$(BIN)/telemed-lab bench $(PARTS) $(if $(KEEP),--report docs/bench --readme README.md,--report build/bench)

.PHONY: guard
guard: $(VENV)/.dev-ready ## the benchmark small: fail if a ratio fell below its bound in lab/bench/bounds.yaml; with CI=true every peer must be there
	$(BIN)/telemed-lab bench --quick --guard $(if $(filter true,$(CI)),--every-peer)

.PHONY: slow
slow: $(VENV)/.dev-ready ## the exhaustive forms of the sampled tests
	$(BIN)/pytest -m slow --ignore=tests/integration --ignore=tests/e2e --ignore=tests/conformance --timeout=3600

.PHONY: cover
cover: $(VENV)/.dev-ready ## branch coverage; shared/ must reach 98 %
	$(IN_MEMORY) $(BIN)/pytest $(FAST) --numprocesses=$(WORKERS) --cov --cov-report=
	$(BIN)/coverage report --include='doctor/*,patient/*,lab/*'
	$(BIN)/coverage report --include='shared/*' --fail-under=98

##@ Keep it
.PHONY: spec
spec: $(VENV)/.dev-ready ## write the tables and diagrams of shared/SPEC.md anew from the code
	$(BIN)/python -m shared.spec_tables --write

.PHONY: picture
picture: $(VENV)/.dev-ready ## draw the terminal picture of README anew, from a run of the demo
	$(BIN)/telemed-lab demo --patients 2 --picture docs

.PHONY: lock
lock: $(VENV)/.dev-ready ## lock the dependencies of pyproject.toml anew, with hashes
	requirements/compile

.PHONY: distclean
distclean: ## remove the virtual environment and the caches of the tools
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage

.PHONY: help
help: ## this list
	@if [ -t 1 ] && [ -z "$${NO_COLOR:-}" ]; then bold=$$'\e[1m' blue=$$'\e[36m' plain=$$'\e[0m'; else bold= blue= plain=; fi; \
	awk -v bold="$$bold" -v blue="$$blue" -v plain="$$plain" 'BEGIN { FS = ":.*## " } \
	    /^##@ / { printf "\n%s%s%s\n", bold, substr($$0, 5), plain } \
	    /^[a-z]+:.*## / { printf "  %s%-12s%s %s\n", blue, $$1, plain, $$2 }' Makefile

# The virtual environment. What is there is only added to, never thrown away.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("make: needs Python 3.11 or later: PYTHON=…" if sys.version_info < (3, 11) else 0)'
	@echo "making the virtual environment $(VENV), once"
	@$(PYTHON) -m venv $(VENV)

# The demo is the first thing that people run, and it needs half of what development needs: the doctor's requirements
# (the patient's are among them), and setuptools, in its locked version, to put the programs into bin/.
$(VENV)/.run-ready: requirements/doctor.txt requirements/dev.txt pyproject.toml | $(BIN)/python
	@$(PIP) install --require-hashes --requirement requirements/doctor.txt
	@$(PIP) install --require-hashes --no-deps --requirement <(sed -n '/^setuptools==/,/[^\\]$$/p' requirements/dev.txt)
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.dev-ready: requirements/dev.txt pyproject.toml | $(BIN)/python
	@$(PIP) install --require-hashes --requirement requirements/dev.txt
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@ $(VENV)/.run-ready
