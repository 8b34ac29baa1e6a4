# Every target sets up what it needs first; a second run finds it done.
PYTHON ?= python3.11
BIN := .venv/bin
# Of the order of tests and of what they draw; another one: make test SEED=7
SEED ?= 1

.PHONY: setup assets demo test check bench soak spark clean
.DELETE_ON_ERROR:

setup: assets

# The console's libraries: fetched again when one is missing or not the pinned one.
assets: .venv/.base
	scripts/assets

demo: assets
	$(BIN)/vedette demo

test: .venv/.test assets
	scripts/test-packages
	@# Once for all the processes that tests start.
	$(BIN)/python -m compileall -q src
	scripts/tests $(BIN)/python --randomly-seed=$(SEED) $(ARGS)

check: .venv/.test
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy src

bench: .venv/.test
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

soak: .venv/.test assets
	scripts/test-packages
	$(BIN)/python -m pytest -q -m soak --timeout 0 $(ARGS)

# The rules as SQL text, on a Spark of this machine: 450 MB more, and Java 17 or later.
spark: .venv/.test
	PYTHON=$(PYTHON) scripts/setup spark
	$(BIN)/python -m pytest -q -m soak --timeout 0 tests/expr/test_spark.py $(ARGS)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

.venv/.base: requirements/base.txt requirements/build.txt pyproject.toml package-lock.json scripts/setup scripts/assets
	PYTHON=$(PYTHON) scripts/setup base

.venv/.test: .venv/.base requirements/test.txt
	PYTHON=$(PYTHON) scripts/setup test
