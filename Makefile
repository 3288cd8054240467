# The two commands that matter: `make run` and `make test`. `make help` lists the rest.
.DEFAULT_GOAL := help
.PHONY: help install run test bench chaos proof soak docs lint fmt check-lint check-format check-types check-imports check-migrations check-deployment check-tests

# The first Python that is new enough; PYTHON=/path/to/python overrules it.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
SOURCES := polm_core webapp workers tests manage.py

# An installation is named after what it was made from, so that one that is up to date costs nothing.
hash = $(firstword $(shell cat $(1) | cksum))
RUN_REQUIREMENTS := requirements.txt webapp/requirements.txt $(addprefix workers/,requirements.txt requirements-no-deps.txt requirements-gguf.txt)
TEST_REQUIREMENTS := $(RUN_REQUIREMENTS) tests/requirements.txt
INSTALLED := $(VENV)/.installed-$(call hash,$(RUN_REQUIREMENTS))
INSTALLED_FOR_TESTS := $(VENV)/.installed-for-tests-$(call hash,$(TEST_REQUIREMENTS))
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-input

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Install what is missing into .venv

run: $(INSTALLED) ## Install what is missing and start everything (PORT=8000 HOST=127.0.0.1)
	@exec $(BIN)/python manage.py studio

test: $(INSTALLED_FOR_TESTS) ## Install what is missing and run every check and test
	@started=$$(date +%s); failed=; \
	for check in lint format types imports migrations deployment tests; do \
		printf '\n=== %s ===\n' $$check; \
		$(MAKE) --no-print-directory check-$$check || failed="$$failed $$check"; \
	done; \
	printf '\n%s s in all. %s\n' $$(($$(date +%s) - started)) "$${failed:+Failed:$$failed}"; \
	test -z "$$failed"

bench: $(INSTALLED_FOR_TESTS) ## Measure against peers and limits; half an hour (ONLY=ingest SHORT=1)
	ONLY="$(ONLY)" SHORT="$(SHORT)" $(BIN)/python -m tests.bench

chaos: $(INSTALLED_FOR_TESTS) ## Try real faults on a real studio; writes docs/chaos.md (ONLY=name SHORT=1)
	$(BIN)/python -m tests.chaos

proof: $(INSTALLED) ## Train every method for real and write docs/proof.md (METHOD=dpo,kto: these anew)
	METHOD=$(METHOD) $(BIN)/python -m tests.proof

soak: $(INSTALLED_FOR_TESTS) ## An hour of steady work, then what grew; adds to docs/benchmarks.md (MINUTES=60)
	$(BIN)/python -m tests.soak

docs: $(INSTALLED) ## Write docs/methods from the catalogue
	$(BIN)/python -m polm_core docs

lint: check-lint check-format check-types check-imports ## Check style, types and import rules

fmt: $(INSTALLED_FOR_TESTS) ## Put the code into shape
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

check-lint: $(INSTALLED_FOR_TESTS)
	$(BIN)/ruff check $(SOURCES)

check-format: $(INSTALLED_FOR_TESTS)
	$(BIN)/ruff format --check $(SOURCES)

check-types: $(INSTALLED_FOR_TESTS)
	$(BIN)/mypy polm_core webapp workers manage.py

check-imports: $(INSTALLED_FOR_TESTS)
	$(BIN)/lint-imports

# No database runs at this point, and none is needed.
check-migrations: $(INSTALLED_FOR_TESTS)
	POLM_VAR=var/test $(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run

check-deployment: $(INSTALLED_FOR_TESTS)
	SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(50))') POLM_VAR=var/test POLM_HTTPS=1 \
		ALLOWED_HOSTS=studio.example.org $(BIN)/python manage.py check --deploy --fail-level WARNING

# Files are dealt out to one process a core, each with servers, studio and browser of its own. Then what measures times
# gets the machine to itself, whatever became of the others.
check-tests: $(INSTALLED_FOR_TESTS)
	@failed=; \
	$(BIN)/python -m pytest -m 'not alone' -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder || failed=1; \
	$(BIN)/python -m pytest -m alone || failed=1; \
	test -z "$$failed"

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer is needed. If it is not on the PATH: make PYTHON=/path/to/python'; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(INSTALLED): $(BIN)/python
	@echo 'Installing; the first time this takes some minutes.'
	$(PIP_INSTALL) -r requirements.txt
	$(PIP_INSTALL) --no-deps -r workers/requirements-no-deps.txt
	$(PIP_INSTALL) --no-deps --upgrade --target $(VENV)/gguf-converter -r workers/requirements-gguf.txt
	@rm -f $(VENV)/.installed-[0-9]*
	@touch $@

$(INSTALLED_FOR_TESTS): $(INSTALLED)
	$(PIP_INSTALL) -r tests/requirements.txt
	@rm -f $(VENV)/.installed-for-tests-*
	@touch $@
