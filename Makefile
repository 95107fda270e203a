# `make demo` and `make test` need only Python 3.11 or newer and make; everything else is installed into .venv.
# `make help` lists the targets.

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
UV := VIRTUAL_ENV= UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv
# The build backend comes from uv.lock, too: without isolation, uv does not download another one for the build.
SYNC := $(UV) sync --quiet --frozen --inexact --no-progress --no-build-isolation-package lobby-gateway
SYNC_BACKEND := $(UV) sync --quiet --frozen --inexact --no-progress --only-group build
# Isolate the environment from the shell's. Without bytecode files every process that a test starts compiles all its imports.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE
export PYTHONUNBUFFERED := 1

# The first Python that is new enough and can create environments; otherwise an error message after an exclamation mark.
PYTHON ?=
FIND_PYTHON = old=; for p in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3); do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	if "$$p" -c 'import ensurepip, venv' 2>/dev/null; then echo "$$p"; exit; fi; \
	old="!$$p cannot create virtual environments (Debian, Ubuntu: apt install python3-venv)"; \
	done; echo "$${old:-!$(or $(PYTHON),python3) is not Python 3.11 or newer; try: make $(MAKECMDGOALS) PYTHON=/path/to/python}"
FOUND_PYTHON = $(shell $(FIND_PYTHON))
CHECKED_PYTHON = $(if $(filter !%,$(FOUND_PYTHON)),$(error $(patsubst !%,%,$(FOUND_PYTHON))),$(FOUND_PYTHON))

DEMO_FLAGS ?=
PYTEST_FLAGS ?=
# Number of test processes. 0: run all tests in pytest's own process.
WORKERS ?= 2
# Files run in the order of testpaths, slow ones first: by default xdist starts files with few tests, often the slowest, last.
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

BENCH_FLAGS ?=
FAR_FLAGS ?=

# Images: `make images BUILDER="docker build" TAG=1.2.3`; the builder takes --tag, --file, --target and a directory. PYTHON_IMAGE replaces
# the base image that the Dockerfiles pin.
ENGINE ?= $(if $(shell command -v docker),docker,$(if $(shell command -v podman),podman))
BUILDER ?= $(if $(ENGINE),$(ENGINE) build)
PYTHON_IMAGE ?=
BUILD_ARGS := $(if $(PYTHON_IMAGE),--build-arg PYTHON_IMAGE=$(PYTHON_IMAGE))
TAG ?= dev
REGISTRY ?=
IMAGES := lobby-gateway-operator lobby-gateway-greeter lobby-gateway-lobby
KIND_CLUSTER := lobby-gateway
KIND_FLAGS ?=

# The tools that can be built on this machine.
AVAILABLE_TOOLS = $(if $(shell command -v npm),.cache/npm/.installed) $(if $(shell command -v go),.cache/go/listen)

.PHONY: help bench bench-far demo docs test test-cluster test-cluster-all check soak chaos continuity origins lint format images release kind tools clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.runtime  ## install, then share a demo origin with `lobby up --demo`
	@exec $(BIN)/lobby up --demo $(DEMO_FLAGS)

test: lint  ## lint and every test this machine can run (15 to 30 minutes); lists skipped tests and why
	@$(if $(AVAILABLE_TOOLS),$(MAKE) --keep-going $(AVAILABLE_TOOLS),:) || echo "make test: continuing without the tools that failed to install" >&2
	@$(PYTEST) $(PYTEST_FLAGS)

check: lint  ## lint, unit, property and fuzz tests (1 to 2 minutes)
	@$(PYTEST) tests/property tests/fuzz tests/unit $(PYTEST_FLAGS)

test-cluster: $(VENV)/.dev  ## tests in a real cluster (LOBBY_TEST_KUBECONFIG=..., see tests/cluster/support/environment.py)
	@$(BIN)/pytest tests/cluster -m 'not slow' $(PYTEST_FLAGS)

test-cluster-all: $(VENV)/.dev  ## the same plus the slow ones: thousands of pods on simulated nodes, outages of minutes, upgrades
	@LOBBY_TEST_LONG=1 $(BIN)/pytest tests/cluster $(PYTEST_FLAGS)

soak: $(VENV)/.dev  ## 10 minutes of churn and failures: memory and descriptors must stay flat (SOAK_SECONDS=600)
	@SOAK_SECONDS=$${SOAK_SECONDS:-600} $(BIN)/pytest tests/integration/test_soak.py $(PYTEST_FLAGS)

chaos: $(VENV)/.dev  ## 10 minutes in which something is killed or stopped every 2 s (CHAOS_SECONDS=600, CHAOS_SEED=1)
	@CHAOS_SECONDS=$${CHAOS_SECONDS:-600} $(BIN)/pytest tests/integration/test_chaos.py $(PYTEST_FLAGS)

continuity: $(VENV)/.dev  ## what 2,000 clients notice of 500 sequences of faults (CONTINUITY_CLIENTS=2000, CONTINUITY_SEQUENCES=500)
	@CONTINUITY_CLIENTS=$${CONTINUITY_CLIENTS:-2000} CONTINUITY_SEQUENCES=$${CONTINUITY_SEQUENCES:-500} \
		$(BIN)/pytest -s tests/integration/continuity $(PYTEST_FLAGS)

origins: $(VENV)/.dev $(AVAILABLE_TOOLS)  ## 200 clients for each strict feed in four lobbies, and for each real server for two minutes (20 minutes)
	@SERVERS_SECONDS=$${SERVERS_SECONDS:-120} ORIGINS_CLIENTS=$${ORIGINS_CLIENTS:-200} ORIGINS_LOBBIES=$${ORIGINS_LOBBIES:-4} \
		$(BIN)/pytest -s tests/integration/origins $(PYTEST_FLAGS)

lint: $(VENV)/.dev  ## ruff, mypy --strict and import-linter; helm lint if helm is installed
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "make lint: 'make format' fixes the files above" >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log >&2; exit 1; }
	@! command -v helm > /dev/null || helm lint --strict --quiet charts/lobby-gateway
	@echo "lint: ruff, mypy$$(! command -v helm > /dev/null || echo ', helm') and import-linter found no problems"

docs: $(VENV)/.dev  ## regenerate reference pages, dashboard and the chart's copy of the CRD from code
	@$(BIN)/python -m tools

format: $(VENV)/.dev  ## format the code and apply ruff's fixes
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format --quiet

bench: $(VENV)/.bench $(AVAILABLE_TOOLS)  ## compare with a C loop and other servers; writes docs/performance.md (75 minutes, needs gcc)
	@PYTHONPATH=. $(BIN)/python -m tests.benchmarks.run $(BENCH_FLAGS)
	@test -n "$(BENCH_FLAGS)" || $(MAKE) bench-far

bench-far: $(VENV)/.bench $(AVAILABLE_TOOLS)  ## only its far clients (an hour, needs root and gcc); FAR_FLAGS='--help' lists selections
	@PYTHONPATH=. $(BIN)/python -m tests.benchmarks.far $(FAR_FLAGS)

images: $(VENV)/.dev  ## build images and SBOMs of operator, greeter and lobby with docker or podman (BUILDER, TAG, PYTHON_IMAGE)
	@test -n "$(BUILDER)" || { echo "make images: found neither docker nor podman; try: make images BUILDER='... build'" >&2; exit 1; }
	@$(BUILDER) $(BUILD_ARGS) --tag lobby-gateway-operator:$(TAG) --file operator/Dockerfile .
	@$(BUILDER) $(BUILD_ARGS) --tag lobby-gateway-greeter:$(TAG) --file gateway/Dockerfile --target greeter .
	@$(BUILDER) $(BUILD_ARGS) --tag lobby-gateway-lobby:$(TAG) --file gateway/Dockerfile --target lobby .
	@$(BIN)/python -m tools.sbom dist --tag $(TAG) --base "$(PYTHON_IMAGE)"

release:  ## build the images, push them to REGISTRY and write dist/values-TAG.yaml, which pins them by digest
	@test -n "$(REGISTRY)" || { echo "make release: REGISTRY is missing; try: make release TAG=1.2.3 REGISTRY=registry.example.com/team" >&2; exit 1; }
	@$(MAKE) images
	@$(BIN)/python -m tools.release dist/values-$(TAG).yaml --engine $(ENGINE) --registry $(REGISTRY) --tag $(TAG)

kind:  ## create a kind cluster with the chart and its demo at ws://127.0.0.1:8000/demo (KIND_FLAGS go to helm)
	@for each in docker kind helm kubectl; do command -v $$each > /dev/null || { echo "make kind: $$each is not installed" >&2; exit 1; }; done
	@kind get clusters 2>/dev/null | grep -qx $(KIND_CLUSTER) || kind create cluster --config kind-config.yaml
	@$(MAKE) images BUILDER='docker build'
	@for each in $(IMAGES); do kind load docker-image --name $(KIND_CLUSTER) $$each:$(TAG); done
	@kubectl config use-context kind-$(KIND_CLUSTER)
	@helm upgrade --install lobby-gateway charts/lobby-gateway --kube-context kind-$(KIND_CLUSTER) --namespace lobby-gateway --create-namespace \
		--set operator.image.tag=$(TAG),greeter.image.tag=$(TAG),lobby.image.tag=$(TAG) --set demo.enabled=true \
		--set greeter.service.type=NodePort,greeter.service.nodePort=30080 --wait --timeout 5m $(KIND_FLAGS)
	@echo "connect: $(BIN)/python -m websockets ws://127.0.0.1:8000/demo; remove: kind delete cluster --name $(KIND_CLUSTER)"

tools: .cache/npm/.installed .cache/go/listen  ## install programs that some tests run: WebSocket servers and clients, an Ethereum node
	@:

clean:  ## delete the environment and all caches
	@rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	@find gateway operator tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment is created by the first Python that is new enough and filled from uv.lock by uv. In a copied checkout it
# would still run the code of the original, so it is recreated.
ifneq ($(shell cat $(VENV)/.place 2>/dev/null || echo $(CURDIR)),$(CURDIR))
$(BIN)/uv: FORCE
.PHONY: FORCE
FORCE:
	@rm -rf $(VENV)
endif

$(BIN)/uv: Makefile requirements-uv.txt
	$(if $(shell test -x $(BIN)/python && echo there),,@echo "installing into $(VENV) (once) ..."; $(CHECKED_PYTHON) -m venv --clear $(VENV))
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(BIN)/python -m ensurepip > /dev/null
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-uv.txt
	@echo "$(CURDIR)" > $(VENV)/.place
	@touch $@

# These are compiled if there is a C compiler.
COMPILED := gateway/build_hook.py gateway/lobby_gateway/clients/_send_all.c gateway/lobby_gateway/origin/_literals.c

$(VENV)/.runtime: $(BIN)/uv pyproject.toml uv.lock $(COMPILED)
	@$(SYNC_BACKEND)
	@$(SYNC) --no-dev
	@touch $@

$(VENV)/.dev: $(BIN)/uv pyproject.toml uv.lock $(COMPILED)
	@$(SYNC_BACKEND)
	@$(SYNC) --all-extras --group dev
	@touch $@ $(VENV)/.runtime

$(VENV)/.bench: $(VENV)/.dev
	@$(SYNC) --all-extras --group dev --group bench
	@touch $@

.cache/npm/.installed: tests/support/npm/package.json tests/support/npm/package-lock.json
	@command -v npm > /dev/null || { echo "make tools: npm is not installed; needs Node.js 18 or newer with npm" >&2; exit 1; }
	@mkdir -p .cache/npm
	@cp tests/support/npm/package.json tests/support/npm/package-lock.json .cache/npm/
	@cd .cache/npm && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

.cache/go/listen: tests/support/go/main.go tests/support/go/go.mod tests/support/go/go.sum
	@command -v go > /dev/null || { echo "make tools: go is not installed; needs Go 1.19 or newer" >&2; exit 1; }
	@mkdir -p .cache/go
	@cd tests/support/go && go build -o ../../../$@ .
