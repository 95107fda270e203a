# `make demo` and `make test` need Python 3.11 or newer and make, nothing else: the rest is installed into .venv.
# What each target does: `make help`.

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
UV := VIRTUAL_ENV= UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv
SYNC := $(UV) sync --quiet --frozen --inexact --no-progress
# An environment of its own: what a person's shell has set must not reach into it.
unexport PYTHONPATH PYTHONHOME
export PYTHONUNBUFFERED := 1

# The first Python that is new enough and can make environments; otherwise a sentence, behind an exclamation mark.
PYTHON ?=
FIND_PYTHON = old=; for p in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3); do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	if "$$p" -c 'import ensurepip, venv' 2>/dev/null; then echo "$$p"; exit; fi; \
	old="!$$p makes no virtual environments (Debian, Ubuntu: apt install python3-venv)"; \
	done; echo "$${old:-!$(or $(PYTHON),python3) is no Python 3.11 or newer; accepted: make $(MAKECMDGOALS) PYTHON=/path/to/one}"
FOUND_PYTHON = $(shell $(FIND_PYTHON))
CHECKED_PYTHON = $(if $(filter !%,$(FOUND_PYTHON)),$(error $(patsubst !%,%,$(FOUND_PYTHON))),$(FOUND_PYTHON))

DEMO_FLAGS ?=
PYTEST_FLAGS ?=
# Tests wait more than they compute: so many files of them at a time. 0: one after the other, in one process.
WORKERS ?= 2
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist loadfile

BENCH_FLAGS ?=

# Images: `make images BUILDER="docker build" TAG=1.2.3`; the builder takes --tag, --file, --target and a folder.
BUILDER ?= $(if $(shell command -v docker),docker build,$(if $(shell command -v podman),podman build))
PYTHON_IMAGE ?= python:3.13-slim
TAG ?= dev
IMAGES := lobby-gateway-operator lobby-gateway-greeter lobby-gateway-lobby
KIND_CLUSTER := lobby-gateway
KIND_FLAGS ?=

# Those of the tools that can be made here.
THERE = $(if $(shell command -v npm),.cache/npm/.installed) $(if $(shell command -v go),.cache/go/listen)

.PHONY: help bench demo docs test test-cluster test-cluster-all check soak lint format images kind tools clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.runtime  ## a demo origin shared among clients: install, then `lobby up --demo`
	@exec $(BIN)/lobby up --demo $(DEMO_FLAGS)

test: lint  ## lint, and every test that this machine can run; ends with what was left out and why
	@$(if $(THERE),$(MAKE) --keep-going $(THERE),:) || echo "make test: goes on without what could not be installed" >&2
	@$(PYTEST) $(PYTEST_FLAGS)

check: lint  ## lint, and the tests that start no process (seconds)
	@$(PYTEST) tests/unit tests/property tests/fuzz $(PYTEST_FLAGS)

test-cluster: $(VENV)/.dev  ## the tests in a real cluster (LOBBY_TEST_KUBECONFIG=..., see tests/cluster/support/environment.py)
	@$(BIN)/pytest tests/cluster -m 'not slow' $(PYTEST_FLAGS)

test-cluster-all: $(VENV)/.dev  ## those, and the slow ones: thousands of pods on nodes that only seem to be
	@$(BIN)/pytest tests/cluster $(PYTEST_FLAGS)

soak: $(VENV)/.dev  ## ten minutes of everything at once: memory and descriptors must stay flat (SOAK_SECONDS=600)
	@SOAK_SECONDS=$${SOAK_SECONDS:-600} $(BIN)/pytest tests/integration/test_soak.py $(PYTEST_FLAGS)

lint: $(VENV)/.dev  ## ruff, mypy --strict, import-linter; helm lint where it is there
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "make lint: 'make format' mends the files above" >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log >&2; exit 1; }
	@! command -v helm > /dev/null || helm lint --strict --quiet charts/lobby-gateway
	@echo "lint: ruff, mypy and import-linter$$(! command -v helm > /dev/null || echo ' (and helm)') have nothing to say"

docs: $(VENV)/.dev  ## regenerate reference pages, dashboard and the chart's copy of the CRD from code
	@$(BIN)/python -m tools

format: $(VENV)/.dev  ## lay the code out as the lint wants it
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format --quiet

bench: $(VENV)/.bench $(THERE)  ## speed beside a C loop and other servers; writes docs/performance.md (13 minutes, needs gcc)
	@PYTHONPATH=. $(BIN)/python -m tests.benchmarks.run $(BENCH_FLAGS)

images:  ## images of operator, greeter and lobby, by docker or podman (BUILDER, TAG, PYTHON_IMAGE)
	@test -n "$(BUILDER)" || { echo "make images: there is no docker and no podman; accepted: make images BUILDER='... build'" >&2; exit 1; }
	@$(BUILDER) --build-arg PYTHON_IMAGE=$(PYTHON_IMAGE) --tag lobby-gateway-operator:$(TAG) --file operator/Dockerfile .
	@$(BUILDER) --build-arg PYTHON_IMAGE=$(PYTHON_IMAGE) --tag lobby-gateway-greeter:$(TAG) --file gateway/Dockerfile --target greeter .
	@$(BUILDER) --build-arg PYTHON_IMAGE=$(PYTHON_IMAGE) --tag lobby-gateway-lobby:$(TAG) --file gateway/Dockerfile --target lobby .

kind:  ## a kind cluster with the chart and its demo: ws://127.0.0.1:8000/demo (KIND_FLAGS are helm's)
	@for each in docker kind helm kubectl; do command -v $$each > /dev/null || { echo "make kind: $$each is not installed" >&2; exit 1; }; done
	@kind get clusters 2>/dev/null | grep -qx $(KIND_CLUSTER) || kind create cluster --config kind-config.yaml
	@$(MAKE) images BUILDER='docker build'
	@for each in $(IMAGES); do kind load docker-image --name $(KIND_CLUSTER) $$each:$(TAG); done
	@kubectl config use-context kind-$(KIND_CLUSTER)
	@helm upgrade --install lobby-gateway charts/lobby-gateway --kube-context kind-$(KIND_CLUSTER) --namespace lobby-gateway --create-namespace \
		--set operator.image.tag=$(TAG),greeter.image.tag=$(TAG),lobby.image.tag=$(TAG) --set demo.enabled=true \
		--set greeter.service.type=NodePort,greeter.service.nodePort=30080 --wait --timeout 5m $(KIND_FLAGS)
	@echo "connect: $(BIN)/python -m websockets ws://127.0.0.1:8000/demo; take it down: kind delete cluster --name $(KIND_CLUSTER)"

tools: .cache/npm/.installed .cache/go/listen  ## programs that some tests run: an Ethereum node, WebSocket clients
	@:

clean:  ## take away what the targets above made: environment, caches
	@rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	@find gateway operator tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment: made by the first Python that is new enough, filled from uv.lock by uv. One that was made at another
# place (a copied checkout) would run the code over there: it is made anew.
ifneq ($(shell cat $(VENV)/.place 2>/dev/null || echo $(CURDIR)),$(CURDIR))
$(BIN)/uv: FORCE
.PHONY: FORCE
FORCE:
	@rm -rf $(VENV)
endif

$(BIN)/uv: Makefile
	$(if $(shell test -x $(BIN)/python && echo there),,@echo "installing into $(VENV) (once) ..."; $(CHECKED_PYTHON) -m venv --clear $(VENV))
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(BIN)/python -m ensurepip > /dev/null
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "$(CURDIR)" > $(VENV)/.place
	@touch $@

# With the compiled send loop, where there is a C compiler.
SEND_LOOP := gateway/build_hook.py gateway/lobby_gateway/clients/_send_all.c

$(VENV)/.runtime: $(BIN)/uv pyproject.toml uv.lock $(SEND_LOOP)
	@$(SYNC) --no-dev
	@touch $@

$(VENV)/.dev: $(BIN)/uv pyproject.toml uv.lock $(SEND_LOOP)
	@$(SYNC) --all-extras --group dev
	@touch $@ $(VENV)/.runtime

$(VENV)/.bench: $(VENV)/.dev
	@$(SYNC) --all-extras --group dev --group bench
	@touch $@

.cache/npm/.installed: tests/support/npm/package.json tests/support/npm/package-lock.json
	@command -v npm > /dev/null || { echo "make tools: npm is not installed; accepted: Node.js 18 or newer with npm" >&2; exit 1; }
	@mkdir -p .cache/npm
	@cp tests/support/npm/package.json tests/support/npm/package-lock.json .cache/npm/
	@cd .cache/npm && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

.cache/go/listen: tests/support/go/main.go tests/support/go/go.mod tests/support/go/go.sum
	@command -v go > /dev/null || { echo "make tools: go is not installed; accepted: Go 1.19 or newer" >&2; exit 1; }
	@mkdir -p .cache/go
	@cd tests/support/go && go build -o ../../../$@ .
