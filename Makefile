# `make` lists the commands. Each makes what it needs; nothing has to be prepared.

.DEFAULT_GOAL := help

PYTHON ?= python3
RUN := .venv/bin/python
LOCK := $(RUN) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
PYTEST := $(RUN) -m pytest
COVER := --cov --cov-report= --cov-fail-under=0 --durations=15
OTHER_REPORT := .other-tests.txt
# Tests that start whole programs and groups.
PROGRAMS := tests/bench tests/browser tests/chaos tests/security/test_fuzz.py
SERVICES := $(RUN) -m tests.services run --
SBOM ?= sbom.cdx.json
HOST ?= http://127.0.0.1:10010

.PHONY: help
help: ## List these commands
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## /|/' \
		| while IFS='|' read -r name purpose; do printf '  make %-20s %s\n' "$$name" "$$purpose"; done

.PHONY: run
run: ## Start everything on http://127.0.0.1:10010 (Ctrl-C stops it)
	@$(PYTHON) bin/environment.py requirements.txt
	@exec $(RUN) manage.py up --stop-with-parent

.PHONY: test
test: lint format-check types layers migrations-check deploy-check secret-scan advisories unit ## All checks and all tests

.PHONY: environment
environment:
	@$(PYTHON) bin/environment.py requirements.txt requirements/dev.txt

.PHONY: lint
lint: environment ## Find mistakes (ruff)
	$(RUN) -m ruff check .

.PHONY: format
format: environment ## Format the code and mend what can be mended
	$(RUN) -m ruff check --fix-only --quiet .
	$(RUN) -m ruff format .

.PHONY: format-check
format-check: environment ## Check that the code is formatted
	$(RUN) -m ruff format --check .

.PHONY: types
types: environment ## Check the types (mypy)
	$(RUN) -m mypy

.PHONY: layers
layers: environment ## Check who imports whom (import-linter)
	$(RUN) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"

.PHONY: migrations-check
migrations-check: environment ## Check that the migrations match the models
	$(RUN) bin/in_clean_settings.py local manage.py makemigrations --check --dry-run

.PHONY: deploy-check
deploy-check: environment ## Check the settings of a production server
	$(RUN) bin/in_clean_settings.py production manage.py check --deploy --fail-level WARNING

.PHONY: secret-scan
secret-scan: environment ## Look for secrets in the files that git tracks
	$(RUN) bin/secret_scan.py

.PHONY: advisories
advisories: environment ## Look up known vulnerabilities of the requirements
	$(RUN) bin/advisories.py requirements.txt requirements/tracing.txt

# Two lanes at a time, each with servers of its own, to keep two cores busy.
.PHONY: unit
unit: environment ## Run the tests on SQLite, PostgreSQL, Redis, RabbitMQ and Chromium
	@rm -f .coverage .coverage.*
	@$(RUN) -m tests.services install
	@echo "Those on PostgreSQL, and those of whole programs, run beside the others and report after them."
	@$(SERVICES) $(MAKE) --no-print-directory -k tests-on-postgresql tests-of-programs >$(OTHER_REPORT) 2>&1 & other=$$!; \
		$(SERVICES) $(MAKE) --no-print-directory tests-on-sqlite; here=$$?; \
		wait $$other; there=$$?; \
		printf '\nBeside them:\n'; cat $(OTHER_REPORT); rm -f $(OTHER_REPORT); \
		exit $$((here + there))
	@$(RUN) -m coverage combine --quiet
	@$(RUN) -m coverage report

.PHONY: tests-on-sqlite tests-on-postgresql tests-of-programs
tests-on-sqlite:
	@COVERAGE_FILE=.coverage.sqlite $(PYTEST) $(COVER) $(addprefix --ignore=,$(PROGRAMS))
tests-on-postgresql:
	@COVERAGE_FILE=.coverage.postgresql DATABASE_URL="$$SUTAZAI_TEST_POSTGRES_URL" $(PYTEST) $(COVER) -m both_databases
tests-of-programs:
	@COVERAGE_FILE=.coverage.programs $(PYTEST) $(COVER) $(PROGRAMS)

.PHONY: coverage
coverage: ## Show which lines the last test run missed
	$(RUN) -m coverage report --show-missing --skip-covered

.PHONY: lock
lock: environment ## Lock the requirements again, with hashes
	$(LOCK) requirements/base.in --output-file requirements.txt
	$(LOCK) requirements/tracing.in --output-file requirements/tracing.txt
	$(LOCK) requirements/dev.in --output-file requirements/dev.txt
	$(LOCK) requirements/bench.in --output-file requirements/bench.txt

.PHONY: sbom
sbom: environment ## Write the bill of materials of the requirements (CycloneDX)
	$(RUN) -m cyclonedx_py requirements requirements.txt --pyproject pyproject.toml --output-reproducible --output-file $(SBOM)

.PHONY: ollama-test-server
ollama-test-server: environment ## Start a scripted Ollama server on port 11500, for experiments
	@exec $(RUN) -m tests.ollama_server

.PHONY: bench
bench: environment ## Measure speed and memory, and the gateway
	@$(RUN) -m bench
	@$(RUN) -m bench.gateway

.PHONY: bench-gateway
bench-gateway: environment ## Measure the gateway, beside LiteLLM Proxy
	@$(RUN) -m bench.gateway

.PHONY: bench-load
bench-load: environment ## Measure what the API holds under load, and what capacity predicts
	@$(RUN) -m bench.load
	@$(RUN) -m bench.load.metrics_cost
	@$(RUN) -m bench.load.waits

.PHONY: locust
locust: ## Let users loose on a server by hand (Locust); see bench/locust/locustfile.py
	@$(PYTHON) bin/environment.py requirements.txt requirements/dev.txt requirements/bench.txt
	@$(RUN) -m locust --locustfile bench/locust/locustfile.py --host $(HOST)

.PHONY: chaos
chaos: environment ## Kill everything in turn and count what was lost
	@$(RUN) -m bench.chaos

.PHONY: soak
soak: environment ## An hour of load and faults, probed from outside
	@$(RUN) -m bench.soak

.PHONY: screenshots
screenshots: environment ## Take the pictures of docs/images again
	@$(RUN) -m tests.browser.screenshots

.PHONY: clean
clean: ## Remove .venv and what checks and tests left; never the data
	rm -rf .venv .coverage .coverage.* $(OTHER_REPORT) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis $(SBOM)
	find . -name __pycache__ -prune -exec rm -rf {} +
