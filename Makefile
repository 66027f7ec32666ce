# Every command sets the environment up first (tools/bootstrap.py; nothing to do when it is as locked).
PYTHON ?= python3
BIN := .venv/bin
# Where it is set, every process would compile all of its packages again: seconds each.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run test mutants lint ui serve docs replay bench reference lock

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## */\1\t/' | awk -F'\t' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: ## make .venv hold what requirements.lock names
	@$(PYTHON) tools/bootstrap.py

run: setup ## the main job: raw flights to a served, logged and monitored prediction; another by PROBLEM=name
	@$(BIN)/hindcast run $(or $(PROBLEM),flight_delay)

test: setup ## unit, graph, end-to-end and (where Chromium is installed) browser tests
	@$(BIN)/python -m pytest
	@if command -v chromium >/dev/null; then $(BIN)/python -m pytest tests/browser -n 0; \
	else echo "No Chromium here: tests/browser (the service's page) was not run; .ci/run installs it."; fi

mutants: setup ## which small faults in the code the tests find; one module by ONLY=name, more faults by SAMPLE=n
	@$(BIN)/python tools/mutants.py $(ONLY) $(if $(SAMPLE),--sample $(SAMPLE))

lint: setup ## formatting, rules, types, SQL
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy hindcast bench
	@$(BIN)/sqlfluff lint dbt_project/models

ui: setup ## the Dagster UI over the same state, on http://127.0.0.1:3000
	@$(BIN)/hindcast ui

serve: setup ## serve the champion over HTTP, on http://127.0.0.1:3001
	@$(BIN)/hindcast serve $(PROBLEM)

docs: setup ## the dbt documentation and lineage as one static page
	@$(BIN)/hindcast docs

replay: setup ## let one more simulated week go by: data, requests, labels, reports
	@$(BIN)/hindcast replay $(PROBLEM)

bench: setup ## side by side with peers and limits; one of them by ONLY=name
	@$(BIN)/python -m bench $(ONLY)

reference: setup ## write docs/reference.md again, from the forms of the YAML files
	@$(BIN)/python tools/reference.py

lock: setup ## write requirements.lock again from pyproject.toml, and the service's part of it
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes \
		--no-emit-index-url --no-header --upgrade pyproject.toml --output-file requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--no-annotate --constraint requirements.lock bentos/requirements.in --output-file bentos/requirements.lock
