# make demo   twelve tasks, six agents, an embedded PostgreSQL: nothing to set up (or the database that is set up)
# make serve  the pages and the API on http://127.0.0.1:8000, with the agents beside them
# make test   the tests that matter, each once, on real databases
# make test-all  every test: also over HTTP, on a second PostgreSQL, in browsers, and with processes killed at random
# make check  lint, types, and a look for riddles in texts that people see
# make chaos  breaks a running system on purpose, at most ten minutes; writes the table of docs/reliability.md
# make screenshots  the pictures of the admin pages for the docs; needs Chromium
# The first call of each installs into .venv, from the pinned versions in constraints.txt.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet install --constraint constraints.txt

.PHONY: demo serve test test-all check screenshots chaos clean

demo: $(VENV)/runtime
	@$(BIN)/zora demo

serve: $(VENV)/runtime
	@$(BIN)/zora serve

test: $(VENV)/development
	$(BIN)/python -m pytest --quick --numprocesses=auto

test-all: $(VENV)/development
	$(BIN)/python -m pytest --numprocesses=auto

check: $(VENV)/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/plain_english

screenshots: $(VENV)/development
	$(BIN)/python -m tests.browser.screenshots docs/screenshots

chaos: $(VENV)/development
	$(BIN)/python bench/chaos --write

clean:
	rm -rf $(VENV)

$(VENV)/runtime: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: install it, or name it with make PYTHON=…"; exit 1; }
	@echo "Installing into $(VENV) with $(PYTHON); this happens once."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --editable .
	@touch $@

$(VENV)/development: $(VENV)/runtime
	@echo "Installing the tools for development."
	@$(PIP) --editable '.[dev]'
	@touch $@
