# profile-actors: every entry point of a developer. `make setup` needs any Python 3.11 or later.
#   make demo   the main job on real data            make test   what CI runs
#   make check  lint, types, tidy, quick suites      make all    everything, slow suites included
# Options: PYTHON=/path/to/python3  ARGS="extra pytest or bench arguments"  SEED=n (sim, differential)  N=n

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python
PYTEST := $(PY) -m pytest $(ARGS)
# The suites of `make test` run in this many processes: the cores, 2 at least. Tests that share a
# store over Ray stay together by file; the others go to whoever is free.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 2 ? 2 : n)))
SIDE_BY_SIDE := -n $(WORKERS) --dist
# Images for containers forbid Python to keep bytecode: each actor's process would compile all again.
export PYTHONDONTWRITEBYTECODE :=
STAMP := $(VENV)/.setup-stamp
# Without what `lint` has: the house rules are half of all tests by number.
QUICK := tests --ignore=tests/crash --ignore=tests/cluster --ignore=tests/test_tidy.py

.PHONY: help setup demo test check lint format quick ray sim crash cluster differential enumeration
.PHONY: bench all fuzz map grammar clean

help:
	@sed -n '1,4p' Makefile

setup: $(STAMP)

# The stamp is older than pyproject.toml exactly when the environment may be out of date. An existing
# environment whose interpreter still runs is kept; a broken one (moved, other Python) is made anew.
$(STAMP): pyproject.toml
	@found=""; \
	for candidate in "$${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python; do \
	  [[ -n "$$candidate" ]] && command -v "$$candidate" >/dev/null 2>&1 || continue; \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found="$$candidate"; break; fi; \
	done; \
	if ! $(PY) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  [[ -n "$$found" ]] || { echo "expected Python 3.11 or later on PATH, found none; install it or run make setup PYTHON=/path/to/python3" >&2; exit 1; }; \
	  echo "making $(VENV) with $$("$$found" --version)"; \
	  "$$found" -m venv --clear $(VENV) || { echo "$$found cannot make a virtual environment; on Debian or Ubuntu install its python3-venv package" >&2; exit 1; }; \
	fi; \
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]' && touch $(STAMP)

demo: setup
	$(VENV)/bin/profile-actors demo

# Cheap and telling first: a typo should cost seconds, not a Ray start. Some 15 min on 2 cores.
test: check ray

check: lint quick

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PYTEST) -q $(SIDE_BY_SIDE) worksteal tests/test_tidy.py

quick: setup
	$(PYTEST) -q $(SIDE_BY_SIDE) worksteal -m "not ray and not slow" $(QUICK)

# Files begin in the order of ``tests/conftest.py``, the longest first.
ray: setup
	$(PYTEST) -q $(SIDE_BY_SIDE) loadfile --no-loadscope-reorder -m "not slow" \
	  tests/crash tests/cluster tests/docs/test_readme.py

# Worlds of partitions and ledger in one thread: N seeds from SEED, three orders each, and planted bugs.
sim: setup
	SIM_SEED=$(or $(SEED),0) SIM_N=$(or $(N),200) $(PYTEST) -q $(SIDE_BY_SIDE) worksteal tests/sim

crash: setup
	$(PYTEST) tests/crash

cluster: setup
	$(PYTEST) tests/cluster

# Random worlds against the reference evaluator: N seeds from SEED (100,000 checks: N=250 or more).
differential: setup
	$(PY) -m tests.differential --seed $(or $(SEED),0) --count $(or $(N),300) $(ARGS)

# What nobody writes on purpose: definitions, rows, selectors, cursors, words of the command line,
# damaged files, broken rules. make fuzz FUZZ_SECONDS=600 (of each kind), or SEED=n N=1 to repeat a case.
fuzz: setup
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) FUZZ_SEED=$(SEED) FUZZ_N=$(N) $(PYTEST) -q --timeout 0 tests/fuzz tests/property/test_file_fuzz.py tests/property/test_rule_fuzz.py

# Every function x kind of operand x position of a rule, some 5,000 rules; the quick suite has 150.
enumeration: setup
	$(PYTEST) tests/enumeration

# One JSON line per question; each checks its answer before it states a speed.
bench: setup
	$(PY) bench/w1.py $(ARGS)
	$(PY) bench/latency.py
	$(PY) bench/stream.py
	$(PY) bench/lookup.py
	$(PY) bench/edge.py
	$(PY) bench/hot.py
	$(PY) bench/tiny_entries.py --events 10_000
	$(PY) bench/compaction.py --events 20_000
	$(PY) bench/recovery.py
	$(PY) bench/replicas.py
	$(PY) bench/backup.py
	$(PY) bench/records.py
	$(PY) bench/identity.py
	$(PY) bench/rules.py

all: lint
	$(PYTEST) tests

# Rewrites the map of rooms in docs/ARCHITECTURE.md from the modules' first docstring lines.
map: setup
	$(PY) docs/map.py --write

# The parser's tables, kept beside the grammar: written anew after a change of either.
grammar: setup
	PYTHONHASHSEED=0 $(PY) -c "import sys; from profile_actors.rules.language.grammar import tables; \
	  sys.stdout.buffer.write(tables())" > grammar.json.new
	mv grammar.json.new src/profile_actors/rules/language/grammar.json

format: setup
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) data .pytest_cache .mypy_cache .ruff_cache .hypothesis
