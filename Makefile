# Every target sets up what it needs. Python 3.11 or later, make and a package index are enough.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   ?= demo

.PHONY: demo test test-real bench bench-accuracy bench-study kills zoo fuzz rehearsal docs lock clean

$(VENV)/.installed: pyproject.toml requirements.txt requirements-dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "census needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: $(VENV)/.installed  ## a census of a simulated internet, and the co-deployment report
	$(BIN)/census simulate --output $(DEMO) --connect-timeout 1 --read-timeout 2 --target-timeout 4
	$(BIN)/census report codeployment --output $(DEMO) --limit 12

test: $(VENV)/.installed  ## lint, types, unit, simulated internet
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/census check --quiet
	$(BIN)/python -m pytest -n auto

HEAVY ?=
test-real: $(VENV)/.installed  ## servers nobody here wrote, on loopback; HEAVY=1 for those of gigabytes as well
	HEAVY=$(HEAVY) $(BIN)/python -m pytest tests/real

bench: $(VENV)/.installed  ## ratios against a baseline in the same run
	$(BIN)/python -m tests.benchmarks --write docs/performance.md

bench-accuracy: $(VENV)/.installed  ## families of models, on labelled names
	$(BIN)/python tests/benchmarks/accuracy.py

bench-study: $(VENV)/.installed  ## the study on a synthetic population of full size; writes docs/study.md
	$(BIN)/python -m tests.benchmarks.study

kills: $(VENV)/.installed  ## one census killed 200 times: a few minutes
	$(BIN)/python -m tests.benchmarks.kills

zoo: $(VENV)/.installed  ## every hostile server alone: what it costs in time, bytes and memory
	$(BIN)/python -m tests.benchmarks.zoo

SECONDS ?= 60
fuzz: $(VENV)/.installed  ## a coverage-guided fuzzer on every parser, SECONDS=60 each
	test -d .cache/fuzz || $(BIN)/python -m pip install --quiet --target .cache/fuzz --only-binary :all: atheris || true
	PYTHONPATH=.cache/fuzz $(BIN)/python -m tests.fuzz --seconds $(SECONDS)

rehearsal: $(VENV)/.installed  ## one census of 175,108 simulated hosts: some ten minutes
	$(BIN)/python -m tests.benchmarks.rehearsal

docs: $(VENV)/.installed  ## write the generated pages again
	$(BIN)/python -m tests.pages

lock:  ## resolve the versions again (needs uv)
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header pyproject.toml -o requirements.txt
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header pyproject.toml --group dev --group build -o requirements-dev.txt

clean:
	rm -rf $(VENV) $(DEMO) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
