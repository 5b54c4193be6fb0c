# Every command of a working day. `make` alone lists them. Nothing has to be set up first: a target that needs the
# environment makes it, and does nothing the second time.

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# Processes of one test run; each has a database of its own.
WORKERS ?= 3
# Further arguments of the command behind a target: make test ARGS="-k lease", make serve ARGS="--port 9000".
ARGS ?=

# Where this is set, each of the dozens of processes of a test run compiles everything anew: a tenth of its time.
unexport PYTHONDONTWRITEBYTECODE

READY := .venv/.ready
# An environment that was moved, or whose Python is gone, is made anew.
ifneq ($(shell test -x $(BIN)/python && test "$$(cat .venv/.checkout 2>/dev/null || pwd)" = "$$(pwd)" && echo whole),whole)
.PHONY: $(READY)
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo serve check test ci bench gen lock clean
.PHONY: lint format-check types imports sql generated slow-test two-processes postgresql-majors debian-postgresql debian-redis bench-smoke

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with everything in it (needs only Python 3.11 or newer)

$(READY): pyproject.toml requirements/dev.txt requirements/uv.txt scripts/setup.sh
	@sh scripts/setup.sh
	@touch $@

demo: $(READY) ## start a server, put thousands of real jobs and messages through it, check every result
	@$(BIN)/millstream demo $(ARGS)

serve: $(READY) ## run the server on its own embedded PostgreSQL
	@$(BIN)/millstream serve $(ARGS)

test: $(READY) ## the test suite, in under three minutes
	@$(PYTEST) -n $(WORKERS) -m "not slow" $(ARGS)

check: lint format-check types imports sql generated ## every static check: style, types, layers, SQL, generated code

lint: $(READY)
	$(BIN)/ruff check .

format-check: $(READY)
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/basedpyright

imports: $(READY)
	$(BIN)/lint-imports

sql: $(READY)
	$(BIN)/sqlfluff lint --config .sqlfluff --ignore-local-config --disable-progress-bar src/millstream/store/sql src/millstream/pgwf

generated: $(READY)
	$(BIN)/python scripts/generate_sync_client.py --check
	$(BIN)/python scripts/generate_docs.py --check

gen: $(READY) ## write generated files anew (the synchronous client, the tables of the guide)
	@$(BIN)/python scripts/generate_sync_client.py
	@$(BIN)/python scripts/generate_docs.py

# The parts in sequence, however many jobs make was given: they share two cores and each prints a summary.
ci: $(READY) ## everything: check, test, the slow suites, both ends of the PostgreSQL range, each benchmark once
	@$(MAKE) -j1 check
	@$(MAKE) -j1 debian-postgresql
	@$(MAKE) -j1 bench-smoke
	@$(MAKE) -j1 test
	@$(MAKE) -j1 slow-test
	@$(MAKE) -j1 two-processes
	@$(MAKE) -j1 postgresql-majors

slow-test: $(READY) debian-redis
	@$(PYTEST) -n $(WORKERS) -m slow --timeout 900 $(ARGS)

# The suites that clients are measured by, against a server of two processes on one database.
two-processes: $(READY)
	@MILLSTREAM_TEST_PROCESSES=2 $(PYTEST) -n $(WORKERS) -m "not slow" tests/api/spooled tests/api/goqueue tests/clients tests/client_sdk $(ARGS)

# `make test` has run the store suite on the wheel's PostgreSQL, the newest major; this is the oldest that Debian has.
postgresql-majors: $(READY) debian-postgresql
	@MILLSTREAM_POSTGRES_BIN_DIR="$$(sh scripts/debian_postgresql.sh)" $(PYTEST) -n $(WORKERS) tests/store tests/engine tests/pgwf $(ARGS)

debian-postgresql:
	@sh scripts/debian_postgresql.sh

debian-redis:
	@sh scripts/debian_redis.sh

bench: $(READY) ## measure; make bench ARGS="jobs-create"
	@$(BIN)/millstream bench $(ARGS)

# A second each: proves that the scenarios run, says nothing about speed.
bench-smoke: $(READY)
	@$(BIN)/millstream bench --smoke

lock: $(READY) ## resolve pyproject.toml into requirements/*.txt; make lock ARGS=--upgrade takes the newest versions
	@sh scripts/lock.sh $(ARGS)

clean: ## remove .venv, caches and build output
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
