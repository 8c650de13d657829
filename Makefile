# What a person types. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed
WORKERS ?= 3
SEEDS ?= 1..2000
# The tests start the command hundreds of times. Each would compile all its modules, a third of its start, where the
# environment forbids Python to keep what it compiled, as containers often do.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup setup-dev docs-media simulate races crashes outage failover reliability durability mutants demo demo-approve demo-fleet demo-compose judge images pin-images test-docker test-kubernetes up down status test test-long test-unit coverage \
  lint lint-types lint-texts format lock sbom audit trial fuzz bench bench-check docs deb release clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(STAMP) ## Make the virtual environment, for running
setup-dev: $(STAMP)-dev ## The same, for testing too

$(STAMP): requirements-demo.lock requirements-build.lock pyproject.toml deploy/setup.sh
	@bash deploy/setup.sh $(VENV) requirements-demo.lock
	@touch $(STAMP)

$(STAMP)-dev: requirements-dev.lock requirements-build.lock pyproject.toml deploy/setup.sh
	@bash deploy/setup.sh $(VENV) requirements-dev.lock
	@touch $(STAMP) $(STAMP)-dev

demo: setup ## Start the real stack, break it for real, watch it heal (FAULT=RedisDown, KEEP=1, CRASH_REMEDIATOR=1)
	@$(PYTHON) -m demo

demo-approve: setup ## A full disk, a question in a chat, a person's yes by its link, healed (BY_HAND=1: you decide)
	@$(PYTHON) -m demo.approval

demo-fleet: setup ## 200 simulated hosts behind sshd, a failed unit on 40 of them, one cut off in mid-step (HOSTS=50, FAILED=8)
	@$(PYTHON) -m demo.fleet

demo-compose: setup ## The same on a real Docker Engine (DOCKER_HOST), with Compose (FAULT=RedisDown, KEEP=1)
	@$(PYTHON) -m demo.compose

judge: setup ## Make each known fault for real, and measure what is named, done and harmed (ROWS=1,4,7 WRITE=1)
	@$(PYTHON) -m demo.judge

up: setup ## Start the local stack and leave it running (STATE=folder, REDIS_PORT=… and the other ports)
	@$(PYTHON) -m demo.stack up

down: setup ## Stop the local stack
	@$(PYTHON) -m demo.stack down

status: setup ## What runs of the local stack
	@$(PYTHON) -m demo.stack status

lint: setup-dev ## Check style, types, layers, spelling and words
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint-types lint-texts

lint-types:
	@$(VENV)/bin/mypy

lint-texts:
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/lint-imports --no-cache | tail -n 5
	@$(VENV)/bin/codespell
	@$(PYTHON) -m tests.test_prose

test: setup-dev lint ## All tests that need neither privilege nor minutes each; with real servers
	@$(PYTHON) -m demo.stack.programs
	@$(PYTHON) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not long"

test-long: setup-dev ## The other tests without privilege: tutorials, demo, crashes, outages, upgrades, packages
	@$(PYTHON) -m demo.stack.programs
	@$(PYTHON) -m pytest -n $(WORKERS) --dist loadfile -m long

test-unit: setup-dev ## Run the tests that need no server, in at most 30 s
	@$(PYTHON) -m pytest -q -n 2 -m unit tests/core tests/audit tests/playbooks tests/pipeline tests/authoring tests/reporting

coverage: setup-dev ## Run the tests of `make test` and `make test-long`, and report line coverage
	@$(PYTHON) -m demo.stack.programs
	@$(PYTHON) -m pytest -q -n $(WORKERS) --dist loadfile --cov=remediator --cov=app --cov-report=term:skip-covered

docs-media: setup-dev ## Make docs/images: pictures with a real browser, and a recorded terminal from a real run
	@$(PYTHON) -m tests.support.docs_media
	@$(PYTHON) -m tests.support.terminal

images: ## Build substitutes for all images where no registry is reached (FOLDER=… keeps the files)
	@bash demo/compose/build_fake_images.sh $(FOLDER)

pin-images: ## Pin the published images by digest, as an engine that reaches the registries pulls them
	@bash deploy/pin_images.sh

test-docker: setup-dev ## The tests on a real Docker Engine: that of DOCKER_HOST, or of the default socket
	@$(PYTHON) -m tests.support.engines docker $(ARGS)

test-kubernetes: setup-dev ## The tests on a real Kubernetes cluster: that of KUBECONFIG (they make and remove namespaces)
	@$(PYTHON) -m tests.support.engines kubernetes $(ARGS)

simulate: setup-dev ## Run the engine on simulated schedules of faults (SEEDS=1..2000)
	@$(PYTHON) -m tests.simulation $(SEEDS) --jobs 2

races: setup-dev ## Three replicas, every alert ten times at once, one replica killed (RACES=10 EPISODES=2000)
	@RACES=$${RACES:-10} EPISODES=$${EPISODES:-2000} $(PYTHON) -m pytest -q -rP -p no:cacheprovider tests/promises/test_races.py

crashes: setup-dev ## kill -9 before and after every commit and call, on both databases; pauses past the lease
	@$(PYTHON) -m pytest -q -p no:cacheprovider tests/promises/test_crashes.py

outage: setup-dev ## PostgreSQL hangs, and is gone, for a minute, with three replicas at work (OUTAGE=60)
	@OUTAGE=$${OUTAGE:-60} $(PYTHON) -m pytest -q -rP -p no:cacheprovider tests/promises/test_outage.py

failover: setup-dev ## Patroni, etcd and two PostgreSQL: the primary killed, frozen and switched over (FAILOVER_TARGETS=20)
	@FAILOVER_TARGETS=$${FAILOVER_TARGETS:-20} $(PYTHON) -m pytest -q -rP -p no:cacheprovider tests/promises/test_failover.py

reliability: setup-dev ## Run the test of each fault in docs/reliability.md, and write its table
	@$(PYTHON) -m tests.promises.reliability

durability: setup-dev ## The kernel's own record: answered after the sync, and never when the sync fails
	@$(PYTHON) -m pytest -q -p no:cacheprovider tests/promises/test_durability.py

mutants: setup-dev ## Break each promise in a copy of the code and see that a test notices
	@$(PYTHON) -m tests.mutants

release: setup-dev ## Make the artefacts of a release in build/release: wheel, source, checksums, provenance; publish nothing
	@bash deploy/release.sh $(CURDIR)/$(PYTHON)

deb: setup-dev ## Make the Debian package build/remediator_VERSION_ARCH.deb, for the Debian release of this machine
	@bash deploy/debian/build.sh $(PYTHON)

docs: setup-dev ## Build the documentation site into build/site, without a network
	@$(PYTHON) -m tests.support.site

format: setup-dev ## Put the code into its format
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

bench: setup-dev ## Measure speed and size side by side, and write bench/RESULTS.md (BENCH="engine ingest")
	@$(PYTHON) -m bench.suite $(BENCH)

bench-check: setup-dev ## Compare speed with another version in one run; fails if it is worse by more than 10 % (BASE=main)
	@$(PYTHON) -m bench.check $${BASE:-main}

COMPILE := $(VENV)/bin/pip-compile -q --generate-hashes --strip-extras --no-header --no-annotate --no-emit-index-url \
  --no-emit-trusted-host --no-emit-find-links --allow-unsafe

lock: setup-dev ## Resolve the dependencies anew
	@$(VENV)/bin/pip install -q pip-tools
	@$(COMPILE) --upgrade --all-extras -o requirements-dev.lock pyproject.toml
	@$(COMPILE) --extra postgres -c requirements-dev.lock -o requirements.lock pyproject.toml
	@$(COMPILE) --extra postgres --extra app --extra stack -c requirements-dev.lock -o requirements-demo.lock pyproject.toml
	@$(COMPILE) -c requirements-dev.lock -o app/requirements.lock app/requirements.txt
	@echo "setuptools>=77" | $(COMPILE) -c requirements-dev.lock -o requirements-build.lock -
	@$(PYTHON) -m tests.support.supply_chain licences

sbom: setup-dev ## Write the bill of materials of the image, in CycloneDX, to build/sbom.cdx.json
	@$(PYTHON) -m tests.support.supply_chain sbom

audit: setup-dev ## Ask for known vulnerabilities of all locked packages, and say if no data is reached
	@$(VENV)/bin/pip install -q pip-audit
	@$(PYTHON) -m tests.support.supply_chain audit

trial: setup-dev ## Repeat the trial of an on-call engineer: all channels on a recorder, a real browser, pictures
	@$(PYTHON) -m pytest -q -p no:cacheprovider tests/web/test_trial.py

fuzz: setup-dev ## Fuzz the parsers for 60 s, and the running service by its OpenAPI document (FUZZ=seconds)
	@FUZZ=$${FUZZ:-60} $(PYTHON) -m pytest -q -p no:cacheprovider -m fuzz tests/security

clean: ## Remove the virtual environment and caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
