# What a new user runs: `make demo`, `make test`. Needs Python 3.11 or newer, git and make; the rest
# is installed into .venv, once, and again when pyproject.toml changes.

PYTHON ?= python3
WORKERS ?= 2
CODE = cachedorm models migrations examples tests benchmarks
# What runs on the older SQLAlchemy too: the parts that touch it.
OLDER = tests/orm tests/contract tests/races tests/testing

.DEFAULT_GOAL := help
.PHONY: help demo serve docs test check mutants differential test-2.0 test-floor clean
.SUFFIXES:

help:  ## This list
	@grep -E '^[a-z0-9.-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## / - /'

demo: .venv/installed  ## The recycling app on real servers: what is read from where, and a race
	.venv/bin/python -m examples.recycling.demo

serve: .venv/installed  ## The recycling app as a service, until Ctrl-C
	.venv/bin/python -m examples.recycling.serve

docs: .venv/installed  ## The documentation as a site, into site/
	.venv/bin/mkdocs build --strict

test: .venv/installed  ## The whole suite on real servers
	.venv/bin/python -m pytest -n $(WORKERS) $(ARGS)

check: .venv/installed  ## Format, lint, types, layers
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m ruff check .
	.venv/bin/python -m mypy $(wildcard $(CODE))
	.venv/bin/python -m pytest -q tests/unit/test_layering.py

mutants: .venv/installed  ## Take each rule out of a copy of the code; its test must fail
	.venv/bin/python -m tests.mutate --jobs $(WORKERS) $(ARGS)

differential: .venv/installed  ## Nearby against PostGIS, 10,000 times, with writes in between
	.venv/bin/python -m tests.differential.nearby --write $(ARGS)

test-2.0: .venv-2.0/installed  ## ORM, contract, race and test kit tests on SQLAlchemy 2.0
	.venv-2.0/bin/python -m pytest -n $(WORKERS) $(wildcard $(OLDER)) $(ARGS)

test-floor: .venv-floor/installed  ## A short selection on the oldest versions we declare
	.venv-floor/bin/python -m pytest -n $(WORKERS) $(wildcard tests/contract tests/orm) $(ARGS)

clean:  ## Remove the environments
	rm -rf .venv .venv-2.0 .venv-floor

.venv/installed: pyproject.toml
	$(call environment,.venv,'.[dev]')

.venv-2.0/installed: pyproject.toml
	$(call environment,.venv-2.0,'.[test]' 'sqlalchemy==2.0.58')

.venv-floor/installed: pyproject.toml
	$(call environment,.venv-floor,'.[test]' $(FLOOR))

# Debian's python3 comes without ensurepip; say which package has it instead of a traceback.
define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'cachedorm needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo 'this Python cannot make environments: on Debian, apt-get install python3-venv'; exit 1; }
	$(PYTHON) -m venv --clear $(1)
	$(1)/bin/python -m pip install -q --disable-pip-version-check --editable $(2)
	@touch $@
endef

# The lowest versions that pyproject.toml names, of what the library itself imports.
FLOOR = 'sqlalchemy==2.0.40' 'redis==5.1.0' 'dogpile.cache==1.3.4' 'msgspec==0.19.0' \
	'hiredis==3.0.0' 'geoalchemy2==0.18.0' 'sqlglot==27.29.0' 'alembic==1.13.0'
